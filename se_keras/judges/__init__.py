"""Quality-Net at work: what it is asked for, what it learns from, what it predicts, and its turns with the enhancer."""
