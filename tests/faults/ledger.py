"""What the kinds of a campaign share: a case, what came of it, and commands in processes of their own."""

import contextlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from world import ROOT

from se_keras import cli

cli.quiet()
TIMEOUT_S = 600  # of a command; what takes longer hangs
CRASHES = ("Traceback (most recent call last)", "This should not happen")


@dataclass(frozen=True)
class Case:
    """One fault to try.

    Attributes:
        kind: "kills", "disks" ...
        number: within the kind; with the campaign's seed it decides every draw.
        label: what is done to what, in a few words.
        attempt: function of a `Place`, to an `Outcome`.
    """

    kind: str
    number: int
    label: str
    attempt: Callable

    def draw(self, seed):
        """The random numbers of this case alone, whichever others run."""
        return random.Random(f"{seed}/{self.kind}/{self.number}")


@dataclass(frozen=True)
class Place:
    """Where a case happens: the `world`, which it leaves as it is, an empty `folder` of its own, and its `draw`."""

    world: Path
    folder: Path
    draw: random.Random

    def copy(self, name):
        """A copy of a file or folder of the world in this place; its path."""
        source, target = self.world / name, self.folder / name
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
        return target


@dataclass
class Outcome:
    """What came of a case: the columns of the table, and why.

    Attributes:
        survived: the project went on, or said in words why not.
        lost: pieces of finished work that are gone.
        traces: stack traces that a user would see.
        wrong: results that are wrong though nothing was said.
        notes: what went amiss, a sentence each.
        skipped: why it could not be tried here, "" where it was.
    """

    survived: bool = True
    lost: int = 0
    traces: int = 0
    wrong: int = 0
    notes: list = field(default_factory=list)
    skipped: str = ""

    @property
    def passed(self):
        return self.survived and not (self.lost or self.traces or self.wrong)

    def fails(self, note):
        self.survived = False
        self.notes.append(note)

    def loses(self, count, note):
        if count:
            self.lost += count
            self.notes.append(note)

    def misleads(self, note):
        self.wrong += 1
        self.notes.append(note)

    def read(self, said):
        """Count the stack traces in what a command printed."""
        if any(crash in said for crash in CRASHES):
            self.traces += 1
            self.notes.append(f"a stack trace: {last_line(said)}")


def last_line(said):
    """The last line that says something, for a note."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["nothing was said"])[-1][:240]


# --- Commands --------------------------------------------------------------------------------------------------------------------


@dataclass
class Done:
    """A command that has ended: its exit code, what it printed, and the seconds that it took."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def said(self):
        return self.out + self.err


class Command:
    """A script of the project at work in a process group of its own.

    Args:
        script: "train.py", "data/prepare.py" ...
        arguments: of it.
        folder: where its temporary files and what it prints go.
        environment: what is set beside this process's.
    """

    def __init__(self, script, arguments, folder, environment=None):
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / "tmp"
        temporary.mkdir(exist_ok=True)
        self._out, self._err = open(folder / "out.txt", "w+"), open(folder / "err.txt", "w+")
        self.began = time.monotonic()
        variables = {**os.environ, "TMPDIR": str(temporary), "TF_CPP_MIN_LOG_LEVEL": "3", **(environment or {})}
        self.process = subprocess.Popen([sys.executable, str(ROOT / script), *map(str, arguments)], stdin=subprocess.DEVNULL,
                                        stdout=self._out, stderr=self._err, cwd=ROOT, env=variables, start_new_session=True)

    def kill(self):
        """SIGKILL to all of its processes; whether it was still at work."""
        alive = self.process.poll() is None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return alive

    def wait(self, timeout_s=TIMEOUT_S):
        """Its end, as `Done`; one that does not end is killed, and its code is None."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            code = None
        except BaseException:  # Ctrl-C, which these commands, in sessions of their own, do not get
            self.kill()
            raise
        texts = []
        for file in (self._out, self._err):
            file.seek(0)
            texts.append(file.read())
            file.close()
        return Done(code, *texts, time.monotonic() - self.began)


def run(script, arguments, folder, environment=None):
    """A command from start to end."""
    return Command(script, arguments, folder, environment).wait()


def called(function):
    """A script's `main` in this process, as `cli.run` calls it: `Done`."""
    out, err, began = io.StringIO(), io.StringIO(), time.monotonic()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.run(function)
            code = 0
        except SystemExit as end:
            code = 0 if end.code is None else end.code
    return Done(code, out.getvalue(), err.getvalue(), time.monotonic() - began)


def refused_well(done):
    """Whether a command refused as it should: exit code 2, one error of one or two lines, no trace."""
    lines = [line for line in done.err.splitlines() if "error:" in line]
    return done.code == 2 and len(lines) == 1 and not any(crash in done.err for crash in CRASHES) and (
        len(done.err[done.err.index("error:"):].strip().splitlines()) <= 2)


def leftovers(folder):
    """Temporary files below a folder: hidden ones, halves of downloads and of manifests."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")
                  if path.name.startswith((".", "new-")) or path.suffix in (".part", ".partial"))
