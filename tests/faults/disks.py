"""A disk that is full at a random byte, one that cannot be read at a random moment, a clock that was set back: by a library loaded first.

`shim.c` is compiled here and stands between a command and the C library, so that neither a mount nor root is needed. It does not see
what is read through mmap, or written by the C library for itself.
"""

import functools
import os
import platform
import shutil
import struct
import subprocess
from pathlib import Path

from kills import WORKS, differences, killed, undisturbed
from ledger import Case, Outcome, last_line, leftovers, run

WRITERS = ("prepare", "enhance", "train", "test", "export", "frozen", "quality-net", "replay")
READERS = ("enhance", "score", "prepare", "train", "test")
CLOCKS = ("train", "test", "enhance", "replay")
BEHIND_S = 86_400
TRIES = 4  # to meet a write or a read that the command makes


def cases(kind, count):
    names = {"disks": WRITERS, "reads": READERS, "clocks": CLOCKS}[kind]
    attempt = {"disks": full, "reads": unreadable, "clocks": set_back}[kind]
    for number in range(count):
        name = names[number % len(names)]
        yield Case(kind, number, name, functools.partial(attempt, name))


def shim(world):
    """The compiled library; None where it cannot be made here."""
    library = world / "shim.so"
    if not library.is_file():
        if platform.system() != "Linux" or shutil.which("gcc") is None:
            return None
        made = world / f"shim-{os.getpid()}.so"  # another case may make it just now
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", made, Path(__file__).with_name("shim.c"), "-ldl"], check=True)
        made.replace(library)
    return library


def environment(place, folders, **settings):
    """What a command is started with; and a function that tells how many bytes were written and how many reads were made."""
    counter = place.folder / "counter"
    counter.write_bytes(bytes(16))
    return ({"LD_PRELOAD": str(shim(place.world)), "FAULT_COUNTER": str(counter), "FAULT_FOLDERS": ":".join(map(str, folders)),
             **{name: str(value) for name, value in settings.items()}}, lambda: struct.unpack("2q", counter.read_bytes()))


def fresh(work, place):
    """The place as it is before the command."""
    for name in (*work.copies, "out"):
        shutil.rmtree(place.folder / name, ignore_errors=True)
    for name in work.copies:
        place.copy(name)


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def full(name, place):
    """The disk is full after a random number of bytes: said in words, nothing half-written, and the same command goes on afterwards."""
    work = WORKS[name]
    if shim(place.world) is None:
        return Outcome(skipped="needs Linux and gcc")
    reference, _ = undisturbed(name, place.world)
    most = size(reference.folder / "out") + sum(max(0, size(reference.folder / each) - size(place.world / each)) for each in work.copies)
    limit, folders = int(most * place.draw.random()), [place.folder / each for each in ("out", *work.copies)]
    for _ in range(TRIES):
        fresh(work, place)
        variables, counts = environment(place, folders, FAULT_BYTES=limit)
        done = run(*work.command(place), place.folder, variables)
        if counts()[0] > limit:
            return struck(name, place, reference, done, f"full after {limit} of some {most} bytes")
        limit //= 2
    return Outcome(skipped="it wrote less than was allowed")


def unreadable(name, place):
    """From a random read on nothing can be read any more: said in words, and the same command goes on when it can."""
    work = WORKS[name]
    if shim(place.world) is None:
        return Outcome(skipped="needs Linux and gcc")
    reference, _ = undisturbed(name, place.world)
    folders = [place.world, *(place.folder / each for each in ("out", *work.copies))]
    limit = int(10 ** place.draw.uniform(0, 2.3))
    for _ in range(TRIES):
        fresh(work, place)
        variables, counts = environment(place, folders, FAULT_READS=limit)
        done = run(*work.command(place), place.folder, variables)
        if counts()[1] > limit:
            return struck(name, place, reference, done, f"unreadable after {limit} reads")
        limit //= 4
    return Outcome(skipped="it read less than was allowed")


def struck(name, place, reference, done, what):
    """What came of a command that met a fault: what it said, what it left, and whether the same command then ends right."""
    work, outcome = WORKS[name], Outcome()
    expected = work.results(reference)
    outcome.read(done.said)
    if done.code == 0:
        if wrong := differences(expected, work.results(place)):
            outcome.misleads(f"{name}, {what}: exit code 0, and {len(wrong)} results differ: {', '.join(wrong[:3])}")
    elif done.code != 2 or "error:" not in done.err:
        outcome.fails(f"{name}, {what}: exit code {done.code}: {last_line(done.err)}")
    try:
        finished = work.finished(place) if (place.folder / "out").exists() else {}
    except Exception as error:  # of whichever library meets half a file
        outcome.loses(1, f"{name}, {what}: what is left cannot be read ({type(error).__name__}: {error})")
        finished = {}
    if name == "enhance" and (halves := [path for path in differences(finished, expected)]):
        outcome.loses(len(halves), f"{name}, {what}: half a file under its final name: {', '.join(halves)}")
    again = run(*work.command(place), place.folder)
    outcome.read(again.said)
    if again.code != 0:
        outcome.fails(f"{name}, {what}: the same command does not go on: {last_line(again.err)}")
        return outcome
    gone = differences(finished, work.finished(place))
    outcome.loses(len(gone), f"{name}, {what}: {len(gone)} finished pieces are gone or changed: {', '.join(gone[:3])}")
    if wrong := differences(expected, work.results(place)):
        outcome.misleads(f"{name}, {what}: {len(wrong)} results of the second run differ: {', '.join(wrong[:3])}")
    if left := [path for path in leftovers(place.folder) if not path.startswith(f"tmp{os.sep}")]:
        outcome.fails(f"{name}, {what}: temporary files stay: {', '.join(left[:3])}")
    return outcome


def set_back(name, place):
    """Killed, and gone on with a day earlier."""
    if shim(place.world) is None:
        return Outcome(skipped="needs Linux and gcc")
    return killed(name, place, again={"LD_PRELOAD": str(shim(place.world)), "FAULT_CLOCK": str(BEHIND_S)})
