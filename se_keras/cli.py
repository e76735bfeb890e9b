"""What the scripts at the top level share: arguments with presets, quiet start, errors without stack traces."""

import argparse
import difflib
import errno
import itertools
import json
import logging
import math
import os
import re
import sys
import tempfile
import tomllib
import traceback
import types
from pathlib import Path

from se_keras import files
from se_keras.errors import UserError
from se_keras.scoring import cluster

if not sys.stderr.isatty():  # in a log file, a progress bar every ten seconds, not ten a second; tqdm reads this when imported
    os.environ.setdefault("TQDM_MININTERVAL", "10")

CONFIGS = files.shipped("configs")


_UPDATES = ("iterations", "updates", "epochs")  # how long a training is, by whichever of these a script has
MEANT = {  # what other projects call a flag: those that may be meant, the first that there is
    **dict.fromkeys(("lr", "rate", "learn-rate"), ("learning-rate",)),
    **dict.fromkeys(("b", "bs", "batchsize", "batch-size", "train-batch-size"), ("batch",)),
    **dict.fromkeys(("steps", "n-steps", "num-steps", "max-steps", "train-steps", "iters", "n-iters", "max-iters", "num-iterations",
                     "iterations", "updates"), _UPDATES),
    **dict.fromkeys(("e", "epoch", "epochs", "n-epochs", "num-epochs", "max-epochs"), ("epochs", *_UPDATES)),
    **dict.fromkeys(("o", "output", "output-dir", "out-dir", "save-dir", "report", "run"), ("out",)),
    **dict.fromkeys(("d", "dir", "data-dir", "dataset", "input"), ("data", "degraded")),
    **dict.fromkeys(("m", "name", "model", "model-name", "checkpoint", "weights"), ("model", "enhancer", "systems")),
    **dict.fromkeys(("j", "jobs", "num-workers", "n-workers", "processes"), ("workers",)),
    "random-seed": ("seed",), "config": ("preset",), "opt": ("optimizer",), "ref": ("reference",), "clean": ("reference", "speech"),
    "noisy": ("degraded",), "enhanced": ("degraded",), "criterion": ("loss",), "license": ("licence",),
}


class _Parser(argparse.ArgumentParser):
    """Answers a wrong flag with the one that is meant, and refuses empty values, which would be the current folder.

    Attributes:
        inside: {a JSON flag: names of its settings}, which somebody may type as flags.
    """

    inside = types.MappingProxyType({})

    def parse_known_args(self, args=None, namespace=None):
        given = sys.argv[1:] if args is None else list(map(str, args))
        commands = [command for action in self._actions if isinstance(action, argparse._SubParsersAction) for command in action.choices]
        if not set(commands) & set(given):  # a command's own parser knows its flags
            self._check_flags(given)
        return super().parse_known_args(args, namespace)

    def _check_flags(self, given):
        """Unknown flags of which the meant one is known; argparse tells the others."""
        known = self._flags()
        for text in itertools.takewhile(lambda text: text != "--", given):
            flag = text.partition("=")[0]
            if not re.fullmatch(r"--?[a-zA-Z][\w-]*", flag) or flag == "-h" or any(f"--{name}".startswith(flag) for name in known):
                continue
            word = flag.lstrip("-").replace("_", "-").lower()
            if found := [(holder, name) for holder, names in self.inside.items() for name in names if name.replace("_", "-") == word]:
                self._refuse(f"{flag}: there is no such flag; did you mean {found[0][0]} '{{\"{found[0][1]}\": ...}}'?")
            usual = [name for name in (word, *MEANT.get(word, ())) if name in known]
            if meant := usual or difflib.get_close_matches(word, known, 1, 0.7):
                self._refuse(f"{flag}: there is no such flag; did you mean --{meant[0]}?")

    def _flags(self):
        """Names of the flags of the parser and of its commands."""
        own = [option.removeprefix("--") for action in self._actions for option in action.option_strings if option.startswith("--")]
        commands = [action.choices.values() for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        return own + [name for several in commands for command in several for name in command._flags()]

    def _refuse(self, message):
        """As `error`, without the usage, in which so short an answer would drown."""
        self.exit(2, f"{self.prog}: error: {message}\n")

    def _get_values(self, action, texts):
        name = "/".join(action.option_strings) or action.metavar or action.dest
        for text in texts if action.nargs != argparse.PARSER else ():  # a command's arguments are its own parser's to check
            if text == "":
                self.error(f"{name} is empty; give it a value, or leave it out")
            if "\0" in text:
                self.error(f"{name}: {text!r} holds a NUL character")
        return super()._get_values(action, texts)


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the examples in a description as they are, and shows every default."""

    def _get_help_string(self, action):
        text = action.help or ""
        return text if action.default is None or "%(default)" in text else super()._get_help_string(action)


def parser(description, **arguments):
    """An ArgumentParser whose --help keeps line breaks and shows defaults."""
    return _Parser(description=description, formatter_class=_Formatter, **arguments)


def presets():
    """Names of the presets in configs/."""
    return sorted(path.stem for path in CONFIGS.glob("*.toml"))


def apply_preset(subparser, name, section):
    """Make the values of a preset's table [section] the defaults of `subparser`: flags given still win.

    Args:
        subparser: of the command.
        name: of a preset in configs/, or a .toml file of one's own.
        section: the command.

    Raises:
        UserError: an unknown preset, one without such a table, or a key in it that is no flag of the command.
    """
    path = Path(name) if name.endswith(".toml") else CONFIGS / f"{name}.toml"
    if not path.is_file() if name.endswith(".toml") else name not in presets():
        raise UserError(f"unknown preset {name!r}; known: {', '.join(presets())}; or a .toml file of your own")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no TOML, or no UTF-8
        raise UserError(f"{path}: not TOML ({error})") from None
    if section not in tables:
        raise UserError(f"{path}: says nothing about {section}; it has the tables {', '.join(tables) or 'none'}")
    if not isinstance(tables[section], dict):
        raise UserError(f"{path}: {section} is {tables[section]!r}; expected a table [{section}] of flags")
    values = {key.replace("-", "_"): value for key, value in tables[section].items()}
    known = {action.dest: action for action in subparser._actions if action.dest not in ("help", "preset")}
    if unknown := sorted(set(values) - set(known)):
        raise UserError(f"{path}: [{section}] sets {', '.join(unknown)}, which is no flag of this command")
    for key, value in values.items():
        try:
            values[key] = _as_typed(known[key], value)
        except (argparse.ArgumentTypeError, ValueError, TypeError) as error:
            raise UserError(f"{path}: [{section}] {key.replace('_', '-')} is {value!r}: {error}") from None
    subparser.set_defaults(**values)


def _as_typed(action, value):
    """A preset's value through the checks of its flag.

    Raises:
        ArgumentTypeError, ValueError, TypeError: as the flag's own type; a list for one value, one value for a list, not among the choices.
    """
    if isinstance(action, argparse._StoreTrueAction):
        if not isinstance(value, bool):
            raise argparse.ArgumentTypeError("expected true or false")
        return value
    if action.nargs in ("+", "*"):
        if not isinstance(value, list) or not value:
            raise argparse.ArgumentTypeError("expected a list")
        return [_one_as_typed(action, each) for each in value]
    return _one_as_typed(action, value)


def _one_as_typed(action, value):
    if action.type is json_object:
        if not isinstance(value, dict):
            raise argparse.ArgumentTypeError("expected a table")
        return value
    if isinstance(value, (bool, list, dict)) or (action.type is None and not isinstance(value, str)):
        raise argparse.ArgumentTypeError("expected a text" if action.type is None else "expected one value")
    value = value if action.type is None else action.type(value if isinstance(value, str) else repr(value))
    if value == "":
        raise argparse.ArgumentTypeError("it is empty")
    if action.choices is not None and value not in action.choices:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(map(str, action.choices))}")
    return value


def run(main):
    """Call `main()` as a script does: a user's mistake ends in its message and exit code 2, Ctrl-C in 130, neither in a trace."""
    quiet()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name need not be text
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
    except Exception as error:
        code = _unforeseen(error)
    sys.exit(code)


def _unforeseen(error):
    """Say what nobody thought of, in two lines, its trace in a file; the exit code."""
    if files.is_full(error):
        place = getattr(error, "filename", None)
        print(f"error: the disk is full{f', writing {place}' if place else ''}; free some space. What was whole before is whole, and the "
              "same command goes on from the last checkpoint", file=sys.stderr)
        return 2
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        print(f"error: too little memory ({(str(error).strip().splitlines() or ['it is used up'])[0][:200]}); a smaller --batch, a shorter "
              "--crop or a smaller model or STFT takes less", file=sys.stderr)
        return 2
    if isinstance(error, OSError) and error.errno == errno.EIO:
        print(f"error: {f'{error.filename}: ' if error.filename else ''}a disk, or the way to it, fails ({error.strerror}); what was whole "
              "before is whole, and the same command goes on once it can be read", file=sys.stderr)
        return 2
    if isinstance(error, OSError) and error.filename is not None:  # a path that cannot be: too long, a file where a folder should be
        print(f"error: {error.filename}: {error.strerror or error}; name another path", file=sys.stderr)
        return 2
    with tempfile.NamedTemporaryFile("w", prefix="se_keras-", suffix=".log", delete=False, encoding="utf-8", errors="replace") as file:
        file.write(f"{' '.join(sys.argv)}\n\n{''.join(traceback.format_exception(error))}")
    said = (str(error).strip().splitlines() or ["no message"])[0][:200]
    print(f"error: {type(error).__name__}: {said}\nThis should not happen; please report it with its trace, {file.name}", file=sys.stderr)
    return 1


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
    parser.add_argument("--preset", metavar="NAME|FILE",
                        help=f"defaults from configs/NAME.toml ({', '.join(presets())}), or from a .toml file of your own")
    parser.add_argument("--batch", type=positive_int, default=batch, help="utterances in an update")
    parser.add_argument("--learning-rate", type=positive_float, default=learning_rate)
    parser.add_argument("--schedule", default=schedule, choices=["constant", "cosine"],
                        help="of the learning rate; cosine falls to zero at the end")
    parser.add_argument("--patience", type=positive_int, default=None, metavar="N", help="stop after N validations without a better one")
    parser.add_argument("--seed", type=from_zero_int, default=0)
    parser.add_argument("--deterministic", action="store_true", help="the same bits on every run, slower")
    parser.add_argument("--checkpoint-every", type=from_zero, default=120.0, metavar="SECONDS")


def _whole(text):
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no whole number") from None


def _number(text):
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no number") from None


def positive_int(text):
    """An argparse type: an integer of at least 1, and of 31 bits."""
    value = _whole(text)
    if not 1 <= value < 1 << 31:
        raise argparse.ArgumentTypeError(f"{value} is not {'at least 1' if value < 1 else f'below {1 << 31}'}")
    return value


def positive_float(text):
    """An argparse type: a finite number above 0."""
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{value:g} is not a number above 0")
    return value


def share(text):
    """An argparse type: a number above 0 and up to 1."""
    value = _number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{value:g} is not a number above 0 and up to 1")
    return value


def fraction(text):
    """An argparse type: a number from 0 to 1."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{value:g} is not a number from 0 to 1")
    return value


def from_zero(text):
    """An argparse type: a finite number of at least 0."""
    value = _number(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{value:g} is not a number from 0")
    return value


def from_zero_int(text):
    """An argparse type: an integer of at least 0, and of 32 bits, as seeds are."""
    value = _whole(text)
    if not 0 <= value < 1 << 32:
        raise argparse.ArgumentTypeError(f"{value} is not from 0 to {(1 << 32) - 1}")
    return value


def add_trust_argument(parser):
    """--trust-card, which `trust_cards` heeds."""
    parser.add_argument("--trust-card", action="store_true",
                        help="let a function of its author's, which a Quality-Net's card names as its target, be imported and run; beside "
                             "it, a function of your own, typed as a metric or a target, is the only code that a flag can name")


def workers(text):
    """An argparse type: a number of processes from 1, or "dask://HOST:PORT", the scheduler of a cluster (`se_keras.scoring.cluster`)."""
    if text.startswith(cluster.PREFIX):
        try:
            cluster.check(text)
        except UserError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return text
    if not re.fullmatch(r"\s*[-+]?\d+\s*", text):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is neither a number of processes nor {cluster.PREFIX}HOST:PORT")
    return positive_int(text)


def add_workers_argument(parser, more=""):
    """--workers, as `workers` reads it.

    Args:
        parser: of the script or command.
        more: what else a number of them does.
    """
    parser.add_argument("--workers", type=workers, metavar=f"N|{cluster.PREFIX}HOST:PORT",
                        help=f"processes that score{more}, one a core where not given; or the scheduler of a Dask cluster, whose workers "
                             "score")


def json_object(text):
    """An argparse type: a JSON object."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
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
    if args.preset is not None:
        command = getattr(args, "command", None) or next(iter(subparsers))
        apply_preset(subparsers[command], args.preset, command)
        args = parser.parse_args(argv)
    return args


def typed(parser, argv):
    """Destinations of the flags that stand in `argv` themselves, whatever a preset or a default says; of a parser without commands."""
    absent = object()
    args = parser.parse_args(argv, argparse.Namespace(**{action.dest: absent for action in parser._actions}))
    return {name for name, value in vars(args).items() if value is not absent}
