"""What train.py and finetune.py do, step by step: parts of the library put together by a script's arguments."""
