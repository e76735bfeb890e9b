"""What the scripts at the top level share: arguments with presets, quiet start, errors without stack traces."""

import argparse
import json
import logging
import math
import os
import sys
import tomllib
from pathlib import Path

from se_keras.errors import UserError

if not sys.stderr.isatty():  # in a log file, a progress bar every ten seconds, not ten a second; tqdm reads this when imported
    os.environ.setdefault("TQDM_MININTERVAL", "10")

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
        UserError: an unknown preset, one without such a table, or a key in it that is no flag of the command.
    """
    path = CONFIGS / f"{name}.toml"
    if not path.is_file():
        raise UserError(f"unknown preset {name!r}; known: {', '.join(presets())}")
    try:
        tables = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not TOML ({error})") from None
    if section not in tables:
        raise UserError(f"{path}: says nothing about {section}; it has the tables {', '.join(tables) or 'none'}")
    values = {key.replace("-", "_"): value for key, value in tables[section].items()}
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
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


def add_training_arguments(parser, out, batch, learning_rate, schedule="cosine"):
    """The flags that every training command has."""
    parser.add_argument("--data", default="data/demo", metavar="DIR", help="folder with train.jsonl and valid.jsonl (data/prepare.py)")
    parser.add_argument("--out", default=out, metavar="RUN", help="run folder: config, weights, history, log, checkpoint")
    parser.add_argument("--preset", metavar="NAME", help=f"defaults from configs/NAME.toml: {', '.join(presets())}")
    parser.add_argument("--batch", type=positive_int, default=batch, help="utterances in an update")
    parser.add_argument("--learning-rate", type=positive_float, default=learning_rate)
    parser.add_argument("--schedule", default=schedule, choices=["constant", "cosine"],
                        help="of the learning rate; cosine falls to zero at the end")
    parser.add_argument("--patience", type=positive_int, default=None, metavar="N", help="stop after N validations without a better one")
    parser.add_argument("--seed", type=from_zero_int, default=0)
    parser.add_argument("--deterministic", action="store_true", help="the same bits on every run, slower")
    parser.add_argument("--checkpoint-every", type=from_zero, default=120.0, metavar="SECONDS")


def positive_int(text):
    """An argparse type: an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def positive_float(text):
    """An argparse type: a finite number above 0."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{value:g} is not a number above 0")
    return value


def share(text):
    """An argparse type: a number above 0 and up to 1."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{value:g} is not a number above 0 and up to 1")
    return value


def fraction(text):
    """An argparse type: a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{value:g} is not a number from 0 to 1")
    return value


def from_zero(text):
    """An argparse type: a finite number of at least 0."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{value:g} is not a number from 0")
    return value


def from_zero_int(text):
    """An argparse type: an integer of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is not at least 0")
    return value


def json_object(text):
    """An argparse type: a JSON object."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON ({error})") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"expected a JSON object such as '{{}}', found {text}")
    return value


class MergeJson(argparse.Action):
    """An argparse action of a JSON flag: its keys are set over those that a preset, or the flag before it, gave."""

    def __call__(self, parser, namespace, values, option_string=None):
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, {**(before if isinstance(before, dict) else {}), **values})


def parse(parser, subparsers, argv):
    """Parse twice where a preset is named: its values become the defaults of the command that was given.

    Args:
        parser: the script's parser.
        subparsers: {command: its parser}; of a script without commands, {its name in presets: parser}.
        argv: arguments.
    """
    args = parser.parse_args(argv)
    if args.preset:
        command = getattr(args, "command", None) or next(iter(subparsers))
        apply_preset(subparsers[command], args.preset, command)
        args = parser.parse_args(argv)
    return args


def typed(parser, argv):
    """Destinations of the flags that stand in `argv` themselves, whatever a preset or a default says; of a parser without commands."""
    absent = object()
    args = parser.parse_args(argv, argparse.Namespace(**{action.dest: absent for action in parser._actions}))
    return {name for name, value in vars(args).items() if value is not absent}
