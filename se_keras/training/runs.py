"""A run folder: what was asked for, with what software and data, and how it went."""

import csv
import importlib.metadata
import json
import logging
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pandas

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from se_keras import files, models
from se_keras.errors import UserError

BEST, LAST = "best.weights.h5", "last.weights.h5"  # weights of a run: those that validation chose, and those of its last validation
PACKAGES = ("tensorflow", "keras", "numpy", "librosa", "pesq", "pystoi", "soundfile", "h5py")


GROWS = ("epochs", "updates", "iterations", "patience", "validate_every", "stop_fooled")  # flags that may differ when a run goes on
YOUNGER = {"anchor": False, "lag": 0, "quality_net": None, "augment": None, "jit": "off"}  # flags that older runs lack, and what those did


def check_same(folder, config, unknown=()):
    """See that a run can go on: that its folder, if there is one, holds a run of this config.

    Args:
        folder: the run folder.
        config: as `open_run`.
        unknown: names of arguments of the network that are not decided yet.

    Raises:
        UserError: the folder holds a run of another config; the keys that differ are named.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        return
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        sound = isinstance(stored, dict) and all(isinstance(stored.get(name, {}), dict) for name in ("arguments", "training"))
        damaged = "" if sound else "no description of a run"
    except (ValueError, RecursionError) as error:
        damaged = error
    if damaged:
        raise UserError(f"{path}: not JSON ({damaged}); name another --out, or delete the folder")
    stored.setdefault("arguments", {})
    if stored.get("network") == config.get("network") and (younger := set(config["arguments"]) - set(stored["arguments"])):
        defaults = models.resolve(config["network"], {})  # a run older than an argument had what is now its default
        stored["arguments"].update({name: defaults[name] for name in younger if name in defaults})
    _loss_as_now(stored.get("training", {}))
    for flag, then in YOUNGER.items() if "training" in stored else ():
        if flag in config["training"]:
            without = stored["training"].get("update", "frozen") == "frozen"  # takes no turns
            stored["training"].setdefault(flag, config["training"][flag] if without else then)
    if differences := _differences(stored, json.loads(json.dumps(config)), unknown):
        raise UserError(f"{folder} holds a run of another config ({'; '.join(differences)}); name another --out, or delete it")


def _loss_as_now(training):
    """Of a run from before losses were expressions: its loss and compression as one."""
    if "compression" in training:
        compression = training.pop("compression")
        text = training.get("loss") if training.get("loss") != "mse" or compression == "log1p" else f"mse[{compression}]"
        training["loss"] = f"{text}:1"


def open_run(folder, config):
    """Create a run folder, or open one again to go on.

    Args:
        folder: the run folder.
        config: {network, arguments, stft, training, data ...}, all plain JSON. `training` holds the flags.

    Returns:
        A logger that writes to run.log.

    Raises:
        UserError: the folder holds a run of another config (the keys that differ are named), or cannot be written.
    """
    folder = Path(folder)
    files.check_writable(folder)
    _lock(folder)
    path = folder / "config.json"
    check_same(folder, config)
    described = {**config, "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]), "versions": versions(), "git": git_revision(),
                 "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
                 "started": time.strftime("%Y-%m-%d %H:%M:%S")}
    files.write_json(path, described)
    logger = logging.getLogger(f"se_keras.run.{folder}")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if not logger.handlers:
        handler = _LogFile(folder / "run.log")
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger.addHandler(handler)
    logger.info("command: %s", described["command"])
    return logger


class _LogFile(logging.FileHandler):
    """A log that cannot be written is an error like any other; logging itself would print a stack trace, and go on."""

    def handleError(self, record):
        raise  # noqa: PLE0704  called where the error is caught


_locks = {}  # {folder: its open lock file}; the operating system lets go of it with the process, however that ends


def _lock(folder):
    """Keep other processes out of a run folder for as long as this one lives.

    Raises:
        UserError: another process trains into it.
    """
    if fcntl is None or folder.resolve() in _locks:
        return
    file = open(folder / "lock", "w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UserError(f"{folder}: another process is training into it; wait for its end, or name another --out") from None
    except OSError:  # a file system without locks
        pass
    _locks[folder.resolve()] = file


def _differences(old, new, unknown):
    found, ignored = [], {"training": GROWS, "arguments": unknown}
    for key in ("network", "arguments", "stft", "data", "training", "weights"):
        before, now = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            found += [f"{name} was {before.get(name)!r}, is {now.get(name)!r}" for name in sorted(set(before) | set(now))
                      if before.get(name) != now.get(name) and name not in ignored.get(key, ())]
        elif before != now:
            found.append(f"{key} was {before!r}, is {now!r}")
    return found


def write_history(path, rows):
    """Write the history, a list of dicts, as CSV."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with files.replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def versions():
    """{package: installed version} of what results depend on, and Python's."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def git_revision():
    """The commit of this source tree, with "-dirty" after local changes; None outside git."""
    try:
        done = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=Path(__file__).parent,
                              capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() or None


# Flags that do not decide the result, or stand in the config by themselves
UNRECORDED = ("data", "out", "compare", "preset", "command", "checkpoint_every", "workers", "stft", "trust_card", "devices",
              "hosts", "host_id", "coordinator")


def describe(args, network, arguments, config, **more):
    """The config of a run (`open_run`) from a script's arguments.

    Args:
        args: argparse namespace with `data`.
        network: name of the network that is trained.
        arguments: of its builder.
        config: STFT parameters.
        more: further entries; `weights` {name: sha256} of the models, and of functions of the user's own, that this training goes out
            from: when one of them was trained again or edited, the run is another one.
    """
    training = {name: value for name, value in vars(args).items() if name not in UNRECORDED}
    return {"name": Path(args.out).name, "network": network, "arguments": arguments, "stft": config.to_config(),
            "training": training, "data": data_fingerprint(args.data), **more}


def data_fingerprint(folder):
    """What corpus.json says the data are: {name, seed, fingerprint}; None where there is no such file."""
    path = Path(folder) / "corpus.json"
    if not path.is_file():
        return None
    try:
        corpus = json.loads(path.read_text(encoding="utf-8"))
        return {name: corpus.get(name) for name in ("name", "seed", "fingerprint")}
    except (ValueError, RecursionError, AttributeError) as error:
        raise UserError(f"{path}: not a description written by prepare.py ({error}); run data/prepare.py again") from None


def finish(folder, history, monitor, among=""):
    """Draw the learning curve and say where the result lies and which validation was best; `among` which, in words."""
    from se_keras.report import curves

    best = [row for row in history if row["best"]]
    if best:
        print(f"best {monitor} {best[-1][monitor]:.5g}{among} at update {best[-1]['update']}; "
              f"weights in {Path(folder) / 'best.weights.h5'}, history in {Path(folder) / 'history.csv'}")
        if best[-1]["update"] == 0:
            print("nothing gained: these are the weights it began from")
    if any(name.startswith("valid_") for name in history[-1]):
        draw = curves.quality_net_learning_curve if "valid_lcc" in history[-1] else curves.learning_curve
        print(draw(pandas.DataFrame(history), Path(folder) / "learning_curve.png"))


def read_config(folder):
    """config.json of a run.

    Raises:
        UserError: there is none, or it is damaged.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise UserError(f"{folder}: holds no run (config.json is missing)")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    training = config.get("training", {}) if isinstance(config, dict) else None
    if not (isinstance(training, dict) and isinstance(training.get("loss", ""), str)):
        raise UserError(f"{path}: no description of a run")
    return config


def read_history(folder):
    """history.csv of a run as a DataFrame.

    Raises:
        UserError: there is none, or it is damaged.
    """
    path = Path(folder) / "history.csv"
    if not path.is_file():
        raise UserError(f"{folder}: holds no history of a training (history.csv is missing)")
    try:
        return pandas.read_csv(path)
    except (ValueError, pandas.errors.ParserError) as error:  # ValueError: empty, or no text
        raise UserError(f"{path}: no table ({error})") from None
