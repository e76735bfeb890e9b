"""Files that are whole or not there."""

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from se_keras.errors import UserError


def shipped(name):
    """Folder of what the project ships beside its package, "weights" or "configs": of a clone, else inside an installed package."""
    package = Path(__file__).resolve().parent
    beside = package.parent / name
    return beside if (package.parent / "pyproject.toml").is_file() and beside.is_dir() else package / f"_{name}"


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


def check_writable(folder, need_mb=50):
    """Create `folder` and see that it can hold `need_mb` megabytes, before any long work.

    Raises:
        UserError: it cannot be created or written, or too little space is left.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); name another folder") from None
    free_mb = shutil.disk_usage(folder).free / 1e6
    if free_mb < need_mb:
        raise UserError(f"{folder}: {free_mb:.0f} MB are free, {need_mb} MB are needed; free some or name another folder")
