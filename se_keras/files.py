"""Files that are whole or not there."""

import contextlib
import json
import os
from pathlib import Path


@contextlib.contextmanager
def replacing(path):
    """A temporary path beside `path`, of the same suffix; it takes its place when the block ends, and goes when the block fails.

    A reader never sees half a file, and what a killed process left is overwritten by the next. For one writer at a time. The
    folder is created where absent.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())  # or a power cut may leave the new name with nothing in it
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path, text):
    """Write a UTF-8 text file by `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value):
    """Write JSON by `replacing`. Numbers that JSON cannot say (infinity, not a number) raise ValueError."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")
