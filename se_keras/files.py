"""Files that are whole or not there."""

import contextlib
import errno
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

    Raises:
        UserError: the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())  # or a power cut may leave the new name with nothing in it
        os.replace(temporary, path)
    except OSError as error:
        if not is_full(error):
            raise
        temporary.unlink(missing_ok=True)  # or it would count
        needed = f", where it took {path.stat().st_size / 1e6:.1f} MB before" if path.is_file() else ""
        free_mb = shutil.disk_usage(path.parent).free / 1e6
        raise UserError(f"{path}: cannot be written{needed}: the disk is full, {free_mb:.1f} MB are free. Free some: what was whole before "
                        "is whole, and the same command goes on from there") from None
    finally:
        temporary.unlink(missing_ok=True)


def is_full(error):
    """Whether an error says that a disk is full or a quota used up: by its number, or in its text, as HDF5's do."""
    full = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in full or any(os.strerror(number) in str(error) for number in full)


def checked_name(path):
    """The path as text, which libsndfile, TensorFlow, manifests and tables can hold.

    Raises:
        UserError: a name that is not UTF-8, as on disks of older systems.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(f"{path}: the name of the file, or of a folder above it, is not UTF-8; rename it") from None
    return str(path)


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
        UserError: it cannot be created or written, its name is not UTF-8, or too little space is left.
    """
    folder = Path(checked_name(folder))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); name another folder") from None
    free_mb = shutil.disk_usage(folder).free / 1e6
    if free_mb < need_mb:
        raise UserError(f"{folder}: {free_mb:.0f} MB are free, {need_mb} MB are needed; free some or name another folder")
