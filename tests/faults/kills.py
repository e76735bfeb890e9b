"""SIGKILL at random moments of every command; then the same command again, which must end as if nothing had happened."""

import fcntl
import functools
import json
import re
import shutil
import sqlite3
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import h5py
import numpy as np
import pandas as pd
import requests
from ledger import Case, Command, Outcome, Place, last_line, leftovers, run
from scripted import Listener, Running, make
from world import ENHANCER, FINETUNE, PREPARE, QUALITY_NET, SCORE

from se_keras.listening.store import Store

OUT = ["--data", "{folder}/data", "--out", "{folder}/out", "--deterministic"]
RUN = [*OUT, "--checkpoint-every", "0"]  # after every update: a kill may then lose one at most
TUNE = ["--enhancer", "{world}/mse", "--quality-net", "{world}/quality-net", *FINETUNE, "--iterations", "4", "--validate-every", "2", *OUT,
        "--turns", '{"checkpoint_every": 0}']
IN_STARTUP = 0.1  # share of the kills that fall before a command has written anything: there is little to lose
TRIES = 4  # to meet a command at work, where it is faster than it was


@dataclass(frozen=True)
class Work:
    """A command that is killed.

    Attributes:
        share: how many of a hundred kills it gets; commands that start fast get more.
        script, arguments: of the command; {world} and {folder} stand for the folders of a `Place`.
        copies: what it changes of the world.
        results: `Place` -> {name: value}, what must be the same as of an undisturbed run.
        finished: `Place` -> {name: value}, what is finished at a moment, and must be there, the same, ever after.
    """

    share: int
    script: str
    arguments: tuple
    copies: tuple
    results: Callable
    finished: Callable

    def command(self, place):
        return self.script, [text.replace("{world}", str(place.world)).replace("{folder}", str(place.folder)) for text in self.arguments]


# --- What is compared ------------------------------------------------------------------------------------------------------------


def history(place):
    """Rows of a run's history by their update, without the time that they took."""
    path = place.folder / "out" / "history.csv"
    if not path.is_file():
        return {}
    table = pd.read_csv(path).drop(columns="seconds")
    if table["update"].duplicated().any():
        return {"doubled updates in the history": table["update"][table["update"].duplicated()].tolist()}
    rows = [{name: value for name, value in row.items() if value == value} for row in table.to_dict("records")]  # later rows add columns
    return {f"update {row['update']} of the history": row for row in rows}


def weights(place):
    """Arrays of a run's weights; best and last, as far as they are there."""
    found = {}
    for path in (place.folder / "out").glob("[!.]*.weights.h5"):
        with h5py.File(path, "r") as file:
            file.visititems(lambda name, node, path=path: found.update({f"{path.name}: {name}": node[...]})
                            if isinstance(node, h5py.Dataset) else None)
    return found


def trained(place):
    return history(place) | weights(place)


def resumable(place):
    """What a run has finished: its history; and its checkpoint can be read."""
    path = place.folder / "out" / "checkpoint.npz"
    if path.is_file():
        with np.load(path) as stored:
            for name in stored.files:
                stored[name]
    weights(place)
    return history(place) | scores(place)


def scores(place):
    """Scores kept in the copied data folder."""
    path = next((place.folder / "data").rglob("scores.sqlite"), None)
    if path is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:  # a copy: to open it would mend what the kill has left
        for each in path.parent.glob("scores.sqlite*"):
            shutil.copy(each, folder)
        return _scores_in(Path(folder) / path.name)


def _scores_in(path):
    database = sqlite3.connect(path)
    try:
        tables = database.execute("SELECT name FROM sqlite_master WHERE name = 'scores'").fetchall()
        rows = database.execute("SELECT key, stamp, value, reason FROM scores").fetchall() if tables else []
    finally:
        database.close()
    return {f"score {key[:8]} {stamp}": (value, reason) for key, stamp, value, reason in rows}


def report(place):
    return table_of(place.folder / "out")


def table_of(folder):
    """Rows of a report's table of scores."""
    rows = pd.read_csv(folder / "scores.csv").to_dict("records")
    return {f"{row['id']} by {row['system']}": row for row in rows} | {"rows": len(rows)}


def manifests(place):
    """Manifests, whole, and the fingerprint."""
    folder = place.folder / "out"
    found = {path.name: path.read_text().replace(str(place.folder), "") for path in sorted(folder.glob("*.jsonl"))}
    if (folder / "corpus.json").is_file():
        found["fingerprint"] = json.loads((folder / "corpus.json").read_text())["fingerprint"]
    return found


def files(place):
    """Bytes of the files under their final names."""
    return {path.name: path.read_bytes() for path in sorted((place.folder / "out").glob("*")) if not path.name.startswith(".")}


def exported(place):
    """Members of Keras files, which have to be whole, and what their cards say, times aside."""
    found = {}
    for path in sorted((place.folder / "out").glob("[!.]*")):
        if path.suffix == ".json":
            card = json.loads(path.read_text())
            found[path.name] = {key: card[key] for key in ("name", "form", "format", "inputs", "outputs")}
        else:
            with zipfile.ZipFile(path) as file:
                found[path.name] = {"damaged": file.testzip(), "members": sorted(file.namelist())}
    return found


def printed(place):
    """The table that score.py prints as JSON."""
    said = (place.folder / "out.txt").read_text()
    return {row["degraded"]: row for row in json.loads(said)["pairs"]} if said.strip() else {}


def nothing(place):
    return {}


def same(one, other):
    """Whether two values are the same: texts and bytes exactly, numbers to 1e-6."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, (float, np.ndarray)) and isinstance(other, (float, np.ndarray)):
        return np.shape(one) == np.shape(other) and np.allclose(one, other, rtol=1e-6, atol=1e-6, equal_nan=True)
    return one == other


def differences(expected, found):
    """Names of what is missing in `found`, or differs there."""
    return [name for name, value in expected.items() if name not in found or not same(value, found[name])]


# --- The commands ----------------------------------------------------------------------------------------------------------------

WORKS = {
    "prepare": Work(14, "data/prepare.py", ("folders", "--speech", "{world}/S", "--noise", "{world}/N", "--out", "{folder}/out", *PREPARE),
                    (), manifests, nothing),
    "enhance": Work(16, "enhance.py", ("{world}/in", "--out", "{folder}/out", "--enhancer", "{world}/mse"), (), files, files),
    "listen": Work(16, "listen.py", (), (), nothing, nothing),
    "train": Work(12, "train.py", ("enhancer", *ENHANCER, "--epochs", "4", *RUN), ("data",), trained, resumable),
    "score": Work(8, "score.py", ("--degraded", "{world}/degraded", "--reference", "{world}/clean", "--quality-net", "none", "--json"),
                  (), printed, nothing),
    "test": Work(8, "test.py", ("--data", "{folder}/data", "--out", "{folder}/out", *SCORE[:1], "noisy", "{world}/mse", *SCORE[2:]),
                 ("data",), report, scores),
    "frozen": Work(7, "finetune.py", tuple(TUNE), ("data",), trained, resumable),
    "replay": Work(7, "finetune.py", (*TUNE, "--update", "replay", "--turns", '{"round": 2, "sample": 2, "lag": 1}'), ("data",),
                   trained, resumable),
    "quality-net": Work(7, "train.py", ("quality-net", "--enhancer", "{world}/mse", *QUALITY_NET, *RUN), ("data",), trained, resumable),
    "export": Work(5, "export.py", ("{world}/mse", "--format", "keras", "--out", "{folder}/out"), (), exported, nothing),
}


def cases(kind, count):
    """Kills spread over the commands by their shares, in an order in which few, too, meet many commands."""
    given = dict.fromkeys(WORKS, 0)
    for number in range(count):
        name = max(WORKS, key=lambda name, number=number: WORKS[name].share * (number + 1) - 100 * given[name])
        given[name] += 1
        yield Case(kind, number, name, listening if name == "listen" else functools.partial(killed, name))


def undisturbed(name, world):
    """The reference of a command, made when it is first needed: its `Place`, and {"began": seconds until it wrote, "seconds": all}."""
    place = Place(world, world / "reference" / name, Random(0))
    timing = place.folder / "timing.json"
    (world / "reference").mkdir(exist_ok=True)
    with open(world / "reference" / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another case may need it just now
        _make_undisturbed(name, place, timing)
    return place, json.loads(timing.read_text())


def _make_undisturbed(name, place, timing):
    if not timing.is_file():
        shutil.rmtree(place.folder, ignore_errors=True)
        place.folder.mkdir(parents=True)
        for each in WORKS[name].copies:
            place.copy(each)
        command = Command(*WORKS[name].command(place), place.folder)
        until_it_writes(command, place)
        began = time.monotonic() - command.began
        done = command.wait()
        if done.code != 0:
            raise RuntimeError(f"{name} fails undisturbed: {done.said[-2000:]}")
        timing.write_text(json.dumps({"began": began, "seconds": done.seconds}))


def until_it_writes(command, place):
    """Wait until a command's output is there, or it has ended."""
    while not (place.folder / "out").exists() and command.process.poll() is None:
        time.sleep(0.01)


def killed(name, place, again=None):
    """Kill a command, run it again (with `again` set in its environment), and compare."""
    work, outcome = WORKS[name], Outcome()
    reference, timing = undisturbed(name, place.world)
    expected = work.results(reference)
    writes = (reference.folder / "out").exists()
    share, early = place.draw.random(), place.draw.random() < IN_STARTUP
    for attempt in range(TRIES):
        for each in work.copies:
            shutil.rmtree(place.folder / each, ignore_errors=True)
            place.copy(each)
        shutil.rmtree(place.folder / "out", ignore_errors=True)
        command = Command(*work.command(place), place.folder)
        if early:
            time.sleep(share * timing["began"])
        elif writes:  # counted from its first output: how long it takes until then depends on what else the machine does
            until_it_writes(command, place)
            time.sleep(share * 0.8 ** attempt * (timing["seconds"] - timing["began"]))
        else:
            time.sleep((0.3 + 0.7 * share) * 0.8 ** attempt * timing["seconds"])
        if command.kill():
            break
    else:
        outcome.skipped = "it ended before each kill"
        return outcome
    command.wait()
    try:
        finished = work.finished(place)
    except Exception as error:  # of whichever library meets half a file
        outcome.loses(1, f"{name}: what the kill left cannot be read ({type(error).__name__}: {error})")
        finished = {}
    if name == "enhance" and (halves := differences(finished, expected)):
        outcome.loses(len(halves), f"half a file under its final name: {', '.join(halves)}")
    done = run(*work.command(place), place.folder, again)
    outcome.read(done.said)
    if done.code != 0:
        outcome.fails(f"{name} does not go on: exit code {done.code}: {last_line(done.err)}")
        return outcome
    gone = differences(finished, work.finished(place))
    outcome.loses(len(gone), f"{name}: {len(gone)} of {len(finished)} finished pieces are gone or changed: {', '.join(gone[:3])}")
    if wrong := differences(expected, work.results(place)):
        outcome.misleads(f"{name}: {len(wrong)} of {len(expected)} results differ from an undisturbed run's: {', '.join(wrong[:3])}")
    if left := [path for path in leftovers(place.folder) if not re.match(r"tmp/", path)]:
        outcome.fails(f"{name}: temporary files stay: {', '.join(left[:3])}")
    return outcome


def listening(place):
    """Kill the server of a listening test under a listener: every answer that it acknowledged is on disk, and the listener goes on."""
    outcome, path = Outcome(), make(place.folder / "test.db", items=402, trials=400, seconds=0.001)
    server, acknowledged, ready = Running(path), {}, threading.Event()
    who = Listener(server.url)

    def listen():
        turn = who.next()
        try:
            while turn["phase"] != "end":
                got = who.answer(turn, "A")
                if got.status_code not in (200, 201):
                    break
                acknowledged[turn["trial"]] = "A"
                ready.set()
                turn = got.json()["next"]
        except requests.RequestException:
            pass

    thread = threading.Thread(target=listen)
    thread.start()
    if not ready.wait(60):
        server.kill()
        outcome.fails("listen: no answer was acknowledged in a minute")
        return outcome
    time.sleep(place.draw.uniform(0, 1.5))
    _, errors = server.kill()
    thread.join(60)
    outcome.read(errors)
    again = Running(path)
    turn = Listener(again.url, secret=who.secret).next()
    if acknowledged and turn.get("trial") == 0:
        outcome.fails("listen: the listener begins anew")
    _, errors = again.kill()
    outcome.read(errors)
    store = Store(path)
    stored = {row["trial"]: row["answer"] for row in store.answers()}
    store.close()
    gone = differences(acknowledged, stored)
    outcome.loses(len(gone), f"listen: {len(gone)} of {len(acknowledged)} acknowledged answers are gone")
    if len(stored) > len(acknowledged) + 1:  # one may be stored whose acknowledgement was lost
        outcome.misleads(f"listen: {len(stored)} answers are stored, {len(acknowledged)} were acknowledged")
    return outcome
