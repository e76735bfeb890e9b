"""The database of scores, cut or overwritten at a random byte: found, moved aside, rebuilt, and said."""

import functools
import sqlite3

from kills import differences
from kills import table_of as report
from ledger import Case, Outcome, last_line, run
from world import SCORE


def cases(kind, count):
    for number in range(count):
        how = "overwritten" if number % 5 == 4 else "cut"
        yield Case(kind, number, how, functools.partial(damaged, how))


def sound(path):
    """Whether SQLite finds nothing wrong with a database."""
    try:
        database = sqlite3.connect(path)
        try:
            return database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        finally:
            database.close()
    except sqlite3.Error:
        return False


def damaged(how, place):
    """Damage the database, score again, and compare the table with the one from before."""
    outcome, data = Outcome(), place.copy("data")
    path = next(data.rglob("scores.sqlite"))
    whole = path.read_bytes()
    at = place.draw.randrange(1, len(whole))
    path.write_bytes(whole[:at] if how == "cut" else whole[:at] + place.draw.randbytes(min(512, len(whole) - at)) + whole[at + 512:])
    was_sound = sound(path)
    what = f"{how} at byte {at} of {len(whole)}"
    done = run("test.py", ["--data", data, "--out", place.folder / "out", *SCORE], place.folder)
    outcome.read(done.said)
    if done.code != 0:
        outcome.fails(f"{what}: exit code {done.code}: {last_line(done.err)}")
        return outcome
    if wrong := differences(report(place.world / "report"), report(place.folder / "out")):
        outcome.misleads(f"{what}: {len(wrong)} rows of the table differ: {', '.join(wrong[:3])}")
    aside = [each.name for each in path.parent.iterdir() if each.name.startswith("scores.sqlite") and each != path]
    if not was_sound:
        if "scores.sqlite" not in done.said:
            outcome.fails(f"{what}: the damage is not said")
        if not any("-wal" not in name and "-shm" not in name for name in aside):
            outcome.fails(f"{what}: the damaged file is not kept aside")
    if not sound(path):
        outcome.fails(f"{what}: the database is still damaged afterwards")
    return outcome
