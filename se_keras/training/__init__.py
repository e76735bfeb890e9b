"""The training loop with its checkpoints, and run folders."""
