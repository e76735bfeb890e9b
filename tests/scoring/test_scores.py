"""Many pairs: order, refusals, dying workers, the cache across runs, processes and SIGKILL, and what a worker imports."""

import dataclasses
import functools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, speech_like

from se_keras import metrics
from se_keras.errors import UserError
from se_keras.mixtures.manifest import Utterance
from se_keras.scoring import pool, scores
from se_keras.scoring.cache import Cache
from se_keras.scoring.scores import Job, Scorer
from se_keras.signals import audio, mixing

NAMES = ("pesq_raw", "pesq_nb", "stoi", "si_sdr")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A dozen mixtures of six utterances of 2 s and one noise, at 0 to 11 dB."""
    folder = tmp_path_factory.mktemp("rows")
    noise = 0.2 * np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    audio.write(folder / "noise.wav", noise)
    made = []
    for number in range(12):
        clean = folder / f"{number // 2}.wav"
        if number % 2 == 0:
            audio.write(clean, speech_like(2.0, seed=number))
        segment = mixing.noise_segment(audio.read(folder / "noise.wav"), 100 * number, 32_000)
        gain = mixing.gain_for_snr(audio.read(clean), segment, number)
        made.append(Utterance(id=f"u{number}", clean=str(clean), speaker="s", noise_type="white", samples=32_000,
                              noise=str(folder / "noise.wav"), offset=100 * number, gain=gain, snr_db=number))
    return made


def _same(found, expected):
    """Equal rows of scores; values to 1e-9, since a worker sums with one thread and this process with several."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for name, value in other.items():
            assert one[name] == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value)


@pytest.fixture(scope="module")
def direct(rows):
    """The scores of `rows`, measured here, one after the other."""
    return [metrics.evaluate(NAMES, *reversed(mixing.pair(row))) for row in rows]


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    """A scorer whose two workers are up, with a cache; shared by the tests that need nothing else."""
    with Scorer(NAMES, cache=tmp_path_factory.mktemp("scores"), workers=2) as scorer:
        scorer.score([Job("warm", functools.partial(_waves, 99)) for _ in range(2)], progress=False)
        yield scorer


def _waves(seed, spoil=None, note=None):
    """What a job's `load` does in the worker; `note`: a file that gets a line for each call."""
    if note is not None:
        with open(note, "a") as file:
            file.write(f"{os.getpid()}\n")
    clean = speech_like(1.0, seed)
    noisy = clean + 0.05 * np.random.default_rng(seed).standard_normal(len(clean)).astype(np.float32)
    if spoil == "silent":
        noisy = 0 * noisy
    elif spoil == "short":
        clean, noisy = clean[:3000], noisy[:3000]
    elif spoil == "nan":
        noisy[7] = np.nan
    elif spoil == "lengths":
        noisy = noisy[:-1]
    elif spoil == "kill":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif spoil == "kill once":
        if not Path(note + ".killed").exists():
            Path(note + ".killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    elif spoil == "missing":
        raise UserError("x.wav: no such file")
    return clean, noisy


def _job(seed, spoil=None, note=None, recipe=True):
    return Job(f"job {seed}", functools.partial(_waves, seed, spoil, note), f"recipe {seed} {spoil}" if recipe else None)


# --- Scores and their order ------------------------------------------------------------------------------------------------------


def test_second_labelling_is_fifty_times_faster_and_touches_neither_audio_nor_metric(scorer, rows, direct, monkeypatch):
    began = time.perf_counter()
    first = scorer.score([scores.mixture_job(row) for row in rows], progress=False)
    first_s = time.perf_counter() - began
    _same(first, direct)  # in the jobs' order, what a plain call gives

    for module, name in ((mixing, "pair"), (audio, "read"), (audio, "read_any_rate"), (metrics, "measure")):
        monkeypatch.setattr(module, name, lambda *arguments: pytest.fail("audio or metric called again"))
    with Scorer(NAMES, cache=scorer._folder, workers=2) as again:
        began = time.perf_counter()
        second = again.score([scores.mixture_job(row) for row in rows], progress=False)
        second_s = time.perf_counter() - began
        assert not again._executor._pools  # no worker was even started
    assert second == first
    assert first_s / second_s > 50, f"{first_s:.3f} s, then {second_s:.4f} s"


def test_generator_is_drawn_from_only_as_workers_finish(scorer, monkeypatch):
    drawn, finished, ahead = 0, 0, []

    def jobs():
        nonlocal drawn
        for number in range(30):
            drawn += 1
            ahead.append(drawn - finished)
            yield _job(number % 3, recipe=False)

    def row(*arguments):
        nonlocal finished
        finished += 1
        return Scorer._row(scorer, *arguments)

    monkeypatch.setattr(scorer, "_row", row)
    got = scorer.score(jobs(), progress=False)
    assert got == 10 * got[:3] and got[0] != got[1]
    assert max(ahead) == 4 * scorer.workers + 1


def test_enhanced_waves_are_scored_against_the_clean_signal(scorer, rows):
    row = rows[3]
    noisy, clean = mixing.pair(row)
    enhanced = (0.5 * noisy + 0.5 * clean).astype(np.float32)
    recipe = scores.recipe(row, "some system")
    assert scorer.lookup([recipe]) == [None]
    pending = scorer.submit(scores.wave_job(row, enhanced, recipe))
    _same([pending.result()], [metrics.evaluate(NAMES, clean, enhanced)])
    assert pending.done()
    assert scorer.lookup([None, recipe, "unknown"]) == [None, pending.result(), None]
    assert scorer.submit(scores.wave_job(row, enhanced[:-3])).result()["error"].endswith("differ in length")


def test_a_cropped_row_is_scored_over_its_piece(scorer, rows):
    piece = dataclasses.replace(rows[0], start=4000, length=20_000)
    assert scorer.score([scores.mixture_job(piece)], progress=False) == [metrics.evaluate(NAMES, *reversed(mixing.pair(piece)))]


def test_recipe_is_of_all_that_decides_the_samples(rows, tmp_path):
    row = rows[0]
    base = scores.recipe(row, "a")
    changes = [{"offset": 1}, {"gain": 0.5}, {"start": 10}, {"length": 30_000}, {"clean": rows[2].clean}, {"noise": rows[2].clean}]
    others = [scores.recipe(dataclasses.replace(row, **change), "a") for change in changes] + [scores.recipe(row, "b")]
    assert len({base, *others}) == len(changes) + 2

    moved = tmp_path / "elsewhere.wav"
    moved.write_bytes(Path(row.clean).read_bytes())
    assert scores.recipe(dataclasses.replace(row, clean=str(moved), id="other", speaker="x", length=32_000), "a") == base
    with pytest.raises(UserError, match="u0: .*gone.wav cannot be read"):
        scores.recipe(dataclasses.replace(row, clean=str(tmp_path / "gone.wav")), "a")


def test_content_is_found_under_another_recipe(tmp_path, monkeypatch):
    """The worker's function, called here: the second time no metric runs, and the new recipe is kept too."""
    monkeypatch.setattr(scores, "_cache", Cache(tmp_path))
    job = _job(1)
    stamps = {metrics.get(name).version: name for name in ("pesq_nb", "stoi")}
    outcomes = scores._score(job.load, "first", stamps)
    monkeypatch.setattr(metrics, "measure", lambda names, *waves: {} if not list(names) else pytest.fail("measured again"))
    assert scores._score(job.load, "second", stamps) == outcomes
    assert Cache(tmp_path).get(["first", "second"], outcomes) == {"first": outcomes, "second": outcomes}


def test_raw_and_narrow_band_are_one_measurement(tmp_path):
    """What was kept for the one scale serves the other; a metric that is new is measured, and only that one."""
    with Scorer(["pesq_raw"], cache=tmp_path, workers=1) as scorer:
        raw = scorer.score([_job(1)], progress=False)[0]["pesq_raw"]
    with Scorer(["pesq_nb"], cache=tmp_path) as scorer:
        lqo = scorer.lookup(["recipe 1 None"])[0]["pesq_nb"]
    assert metrics.pesq.nb_to_raw(lqo) == raw
    with Scorer(["pesq_nb", "stoi"], cache=tmp_path) as scorer:
        assert scorer.lookup(["recipe 1 None"]) == [None]


def test_another_version_does_not_count(tmp_path, monkeypatch):
    with Scorer(["si_sdr"], cache=tmp_path) as scorer:
        scorer._cache.put(["r"], {metrics.get("si_sdr").version: (1.5, None)})
        assert scorer.lookup(["r"]) == [{"si_sdr": 1.5, "error": None}]
    monkeypatch.setitem(metrics._METRICS, "si_sdr", dataclasses.replace(metrics.get("si_sdr"), definition=2))
    with Scorer(["si_sdr"], cache=tmp_path) as scorer:
        assert scorer.lookup(["r"]) == [None]


# --- What has no score -----------------------------------------------------------------------------------------------------------


def test_refused_pairs_are_rows_with_reasons_kept_like_scores(scorer, tmp_path):
    note = str(tmp_path / "calls")
    jobs = [_job(number, spoil, note) for number, spoil in enumerate(["silent", None, "short", "nan", "lengths", "silent"])]
    first = scorer.score(jobs, progress=False)
    assert [row["error"] is None for row in first] == [False, True, False, False, False, False]
    assert first[2]["si_sdr"] is not None and first[2]["pesq_raw"] is None
    assert scores.summarise_errors(first) == {
        "pesq_raw, pesq_nb, stoi, si_sdr: the degraded signal is digital silence": 2,
        "pesq_raw, pesq_nb: shorter than 1/4 s (BufferTooShortError); stoi: fewer than 30 frames of speech for STOI": 1,
        "pesq_raw, pesq_nb, stoi, si_sdr: NaN or infinite samples in the degraded signal": 1,
        "pesq_raw, pesq_nb, stoi, si_sdr: reference and degraded signal differ in length": 1}
    calls = len(Path(note).read_text().splitlines())
    assert scorer.score(jobs, progress=False) == first
    assert len(Path(note).read_text().splitlines()) == calls == 6  # none was tried again


def test_on_error_fail_names_the_pair_whether_measured_or_kept(tmp_path):
    for _ in range(2):
        with Scorer(NAMES, cache=tmp_path, workers=1, on_error="fail") as scorer:
            with pytest.raises(UserError, match="job 3: has no score .*digital silence"):
                scorer.score([_job(1), _job(3, "silent"), _job(4)], progress=False)


def test_audio_that_cannot_be_read_stops_the_run_and_is_not_kept(scorer):
    with pytest.raises(UserError, match="x.wav: no such file"):
        scorer.score([_job(50, "missing")], progress=False)
    assert scorer.lookup(["recipe 50 missing"]) == [None]


def test_a_job_that_kills_its_worker_is_one_row_and_the_rest_go_on(tmp_path):
    with Scorer(NAMES, cache=tmp_path, workers=2) as scorer:
        got = scorer.score([_job(1), _job(2, "kill"), *(_job(number) for number in range(3, 13))], progress=False)
        assert [row["error"] for row in got] == [None, "pesq_raw, pesq_nb, stoi, si_sdr: " + pool.DIED] + 10 * [None]
        assert got[1]["pesq_raw"] is None
    with Scorer(NAMES, cache=tmp_path) as scorer:
        assert scorer.score([_job(2, "kill")], progress=False) == [got[1]]  # kept: not tried a third time
        assert not scorer._executor._pools


def test_a_worker_killed_from_outside_costs_no_score(tmp_path):
    note = str(tmp_path / "note")
    with Scorer(["si_sdr"], workers=1) as scorer:
        got = scorer.score([_job(1), _job(2, "kill once", note), _job(3)], progress=False)
    assert [row["error"] for row in got] == [None, None, None]


@pytest.mark.parametrize(("arguments", "message"), [
    ({"names": ["pesq"]}, "unknown metric 'pesq'; known: pesq_raw"),
    ({"on_error": "ignore"}, "on_error is 'ignore'; expected"),
])
def test_wrong_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        Scorer(**arguments)


# --- Lookup ---------------------------------------------------------------------------------------------------------------------


def test_fifteen_thousand_recipes_are_looked_up_at_once(tmp_path):
    stamps = {metrics.get(name).version: (1.5, None) for name in ("pesq_nb", "stoi", "si_sdr")}
    recipes = [f"{number:064x}" for number in range(15_000)]
    with Scorer(NAMES, cache=tmp_path) as scorer:
        scorer._cache.put(recipes[:-1], stamps)
        began = time.perf_counter()
        found = scorer.lookup(recipes)
        assert time.perf_counter() - began < 3  # a third of a second on an idle core
        assert found[-1] is None and found.count(found[0]) == 14_999


# --- Workers, seen from a script -------------------------------------------------------------------------------------------------

# As careless as a script can be: TensorFlow (a stand-in) at the top, no `if __name__ == "__main__"`.
SCRIPT = """
import json, sys
sys.path[:0] = [{root!r}, {tests!r}, {here!r}, {folder!r}]
import tensorflow
from test_scores import _report
from se_keras.scoring.scores import Job, Scorer
import functools
scorer = Scorer(["si_sdr"], cache={folder!r}, workers=2)
pending = [scorer.submit(Job(str(n), functools.partial(_report, {folder!r}, n), f"recipe {{n}}")) for n in range({jobs})]
for number, each in enumerate(pending):
    each.result()
    print("finished", number, flush=True)
scorer.close()
print("closed", "tensorflow" in sys.modules)
"""


def _report(folder, number):
    """Says what its worker is like, then gives a pair, after a while."""
    from threadpoolctl import threadpool_info

    state = {"pid": os.getpid(), "tensorflow": "tensorflow" in sys.modules,
             "main": getattr(sys.modules["__main__"], "__file__", None),
             "threads": [library["num_threads"] for library in threadpool_info()]}
    (Path(folder) / f"{number}.json").write_text(json.dumps(state))
    time.sleep(0.05)
    return _waves(number)


def _start_script(folder, jobs):
    (folder / "tensorflow.py").write_text("")
    script = folder / "script.py"
    here = {"root": str(ROOT), "tests": str(ROOT / "tests"), "here": str(Path(__file__).parent), "folder": str(folder)}
    script.write_text(SCRIPT.format(jobs=jobs, **here))
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    return subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment)


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_workers_run_neither_tensorflow_nor_the_script_on_one_thread(tmp_path):
    script = _start_script(tmp_path, jobs=6)
    output, _ = script.communicate(timeout=120)
    assert output.splitlines()[-1] == "closed True" and script.returncode == 0
    states = [json.loads((tmp_path / f"{number}.json").read_text()) for number in range(6)]
    assert not any(state["tensorflow"] for state in states)
    assert not any(state["main"] and "script.py" in state["main"] for state in states)
    assert all(threads == 1 for state in states for threads in state["threads"]) and states[0]["threads"]
    assert script.pid not in {state["pid"] for state in states}


def test_a_kill_in_the_middle_loses_nothing_that_was_finished(tmp_path):
    script = _start_script(tmp_path, jobs=400)
    finished = [script.stdout.readline() for _ in range(12)]
    script.kill()
    script.wait()

    pids = {json.loads(path.read_text())["pid"] for path in tmp_path.glob("*.json") if path.stat().st_size}
    deadline = time.monotonic() + 20
    while any(map(_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_alive, pids))  # a worker does not outlive its parent
    finished += script.stdout.readlines()
    assert 12 <= len(finished) < 400

    with Scorer(["si_sdr"], cache=tmp_path, workers=2) as scorer:
        found = scorer.lookup([f"recipe {number}" for number in range(400)])
        assert all(found[number] is not None for number in range(len(finished)))
        assert found[400 - 1] is None
        known = sum(row is not None for row in found)
        note = tmp_path / "note"
        jobs = [Job(str(number), functools.partial(_waves, number, None, str(note)), f"recipe {number}")
                for number in range(known + 5)]
        got = scorer.score(jobs, progress=False)
    assert [row for row in got if row["error"]] == []
    assert len(note.read_text().splitlines()) == sum(row is None for row in found[:known + 5])  # only what was missing was made
    _same(got[:1], [metrics.evaluate(["si_sdr"], *_waves(0))])
    assert sqlite3.connect(tmp_path / "scores.sqlite").execute("PRAGMA integrity_check").fetchone() == ("ok",)
