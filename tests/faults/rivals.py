"""Two processes at once: on one run folder the second is refused, on one cache of scores both are right."""

import functools
import os
import signal
import time
from dataclasses import replace

from kills import WORKS, differences, undisturbed
from ledger import Case, Command, Outcome, last_line, refused_well, run

FOLDERS = ("train", "frozen", "quality-net")


def cases(kind, count):
    for number in range(count):
        name = FOLDERS[number // 2 % len(FOLDERS)]
        yield (Case(kind, number, "one cache", one_cache) if number % 2 else
               Case(kind, number, f"one run folder: {name}", functools.partial(one_folder, name)))


def one_folder(name, place):
    """The second comes while the first, held in the middle of its work, has the folder; then the first ends as if nothing had been."""
    work, outcome = WORKS[name], Outcome()
    reference, _ = undisturbed(name, place.world)
    for each in work.copies:
        place.copy(each)
    first = Command(*work.command(place), place.folder)
    while not (place.folder / "out" / "lock").exists() and first.process.poll() is None:
        time.sleep(0.01)
    time.sleep(place.draw.uniform(0, 0.5))
    if first.process.poll() is None:
        os.killpg(first.process.pid, signal.SIGSTOP)
        second = run(*work.command(place), place.folder / "second")
        os.killpg(first.process.pid, signal.SIGCONT)
        outcome.read(second.said)
        if not refused_well(second) or "another process" not in second.err:
            outcome.fails(f"{name}: the second process is not refused: exit code {second.code}, {last_line(second.said)}")
    else:
        outcome.skipped = "the first had ended"
    done = first.wait()
    outcome.read(done.said)
    if done.code != 0:
        outcome.fails(f"{name}: the first process ends in {done.code}: {last_line(done.err)}")
    elif wrong := differences(work.results(reference), work.results(place)):
        outcome.misleads(f"{name}: results differ beside a second process: {', '.join(wrong[:3])}")
    return outcome


def one_cache(place):
    """Two reports of the same data at once: both are right, and the database is whole."""
    work, outcome = WORKS["test"], Outcome()
    reference, _ = undisturbed("test", place.world)
    place.copy("data")
    for path in (place.folder / "data").rglob("scores.sqlite*"):
        path.unlink()  # so that both measure
    places = [replace(place, folder=place.folder / name) for name in ("one", "other")]
    for each in places:
        each.folder.mkdir()
        (each.folder / "data").symlink_to(place.folder / "data")
    commands = []
    for each in places:
        commands.append(Command(*work.command(each), each.folder))
        time.sleep(place.draw.uniform(0, 1))
    expected = work.results(reference)
    for each, command in zip(places, commands, strict=True):
        done = command.wait()
        outcome.read(done.said)
        if done.code != 0:
            outcome.fails(f"one cache: exit code {done.code}: {last_line(done.err)}")
        elif wrong := differences(expected, work.results(each)):
            outcome.misleads(f"one cache: {len(wrong)} rows differ: {', '.join(wrong[:3])}")
    return outcome
