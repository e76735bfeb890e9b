"""What the scripts at the top level share: arguments with presets, quiet start, errors without stack traces."""

import argparse
import logging
import os
import sys
import tomllib
from pathlib import Path

from se_keras.errors import UserError

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the examples in a description as they are, and shows every default."""

    def _get_help_string(self, action):
        text = action.help or ""
        return text if action.default is None or "%(default)" in text else super()._get_help_string(action)


def parser(description, **arguments):
    """An ArgumentParser whose --help keeps line breaks and shows defaults."""
    return argparse.ArgumentParser(description=description, formatter_class=_Formatter, **arguments)


def presets():
    """Names of the presets in configs/."""
    return sorted(path.stem for path in CONFIGS.glob("*.toml"))


def apply_preset(subparser, name, section):
    """Make the values of configs/NAME.toml, table [section], the defaults of `subparser`: flags given still win.

    Raises:
        UserError: an unknown preset, or a key in it that is no flag of the command.
    """
    path = CONFIGS / f"{name}.toml"
    if not path.is_file():
        raise UserError(f"unknown preset {name!r}; known: {', '.join(presets())}")
    values = {key.replace("-", "_"): value for key, value in tomllib.loads(path.read_text()).get(section, {}).items()}
    known = {action.dest for action in subparser._actions}
    if unknown := sorted(set(values) - known):
        raise UserError(f"{path}: [{section}] sets {', '.join(unknown)}, which is no flag of this command")
    subparser.set_defaults(**values)


def run(main):
    """Call `main()` as a script does: a user's mistake ends in its message and exit code 2, Ctrl-C in 130, neither in a trace."""
    quiet()
    try:
        code = main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    sys.exit(code)


def quiet():
    """Keep TensorFlow's start-up notices off the terminal; before its import. Set TF_CPP_MIN_LOG_LEVEL yourself to see them."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


def check_writable(folder, need_mb=50):
    """Create `folder` and see that it can hold `need_mb` megabytes, before any long work.

    Raises:
        UserError: it cannot be created or written, or too little space is left.
    """
    import shutil
    import tempfile

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
