"""A Dask cluster: the pool's numbers, workers that die, hang, join or are others, files that they lack, what users mistake."""

import argparse
import hashlib
import dataclasses
import functools
import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import measured
import numpy as np
import pytest
from conftest import ROOT, load_script, refused, speech_like
from threadpoolctl import threadpool_limits

from se_keras import cli, metrics
from se_keras.errors import UserError
from se_keras.mixtures.manifest import Utterance
from se_keras.scoring import cluster, cluster_worker, scores
from se_keras.scoring.cache import Cache
from se_keras.scoring.scores import Job, Scorer
from se_keras.signals import audio, mixing

distributed = pytest.importorskip("distributed", reason="needs distributed: pip install -r requirements-extras.txt")
NAMES = ("pesq_raw", "stoi", "si_sdr")


class Dask:
    """A scheduler and workers of one thread each, as processes on 127.0.0.1; the workers stand in another folder."""

    def __init__(self, folder):
        self.folder, self.processes, self.file = folder, [], folder / "scheduler.json"
        (folder / "elsewhere").mkdir()
        self.start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", self.file)

    def start(self, *arguments, path=()):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT, Path(__file__).parent]))}
        log = open(self.folder / f"{len(self.processes)}.log", "w")
        command = [sys.executable, "-m", "dask", *map(str, arguments), "--no-dashboard"]
        self.processes.append(subprocess.Popen(command, stderr=log, stdout=log, env=environment, cwd=self.folder / "elsewhere",
                                               start_new_session=True))

    def add(self, *arguments, **more):
        self.start("worker", "--scheduler-file", self.file, "--host", "127.0.0.1", "--nthreads", "1", "--local-directory",
                   self.folder / "elsewhere", *arguments, **more)

    @functools.cached_property
    def address(self):
        deadline = time.monotonic() + 60
        while not self.file.is_file() and time.monotonic() < deadline:
            time.sleep(0.05)
        return json.loads(self.file.read_text())["address"].replace("tcp://", "dask://")

    def end(self):
        """At once, nannies and what they started too; a nanny that is asked takes its time."""
        for process in self.processes[::-1]:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def dask(tmp_path_factory):
    """A scheduler with two workers, whose nannies start them again when they die."""
    running = Dask(tmp_path_factory.mktemp("dask"))
    try:
        running.address  # noqa: B018  the workers look for the scheduler's file
        running.add("--nworkers", "2")
        yield running
    finally:
        running.end()


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Six mixtures of three utterances of a second and one noise."""
    folder = tmp_path_factory.mktemp("rows")
    audio.write(folder / "noise.wav", 0.2 * np.random.default_rng(0).standard_normal(20_000).astype(np.float32))
    for number in range(3):
        audio.write(folder / f"{number}.wav", speech_like(1.0, seed=number))
    return [Utterance(f"u{number}", str(folder / f"{number // 2}.wav"), "s", "white", 16_000, noise=str(folder / "noise.wav"),
                      offset=100 * number, gain=0.3) for number in range(6)]


def job(seed, *arguments, **more):
    return Job(f"job {seed}", functools.partial(measured.waves, seed, *arguments, **more), f"recipe {seed} {arguments} {more}")


def direct(name, seed):
    """A row of scores measured here, to the last bit: on one thread, as a worker sums."""
    with threadpool_limits(1):
        return metrics.evaluate([name], *measured.waves(seed))


# --- Numbers and their cache -----------------------------------------------------------------------------------------------------


def test_numbers_are_the_pools_and_are_kept_by_the_client(dask, rows, tmp_path):
    jobs = [*(scores.mixture_job(row) for row in rows), scores.wave_job(rows[0], np.zeros(16_000)), job(1), job(2, spoil="silent")]
    with Scorer(NAMES, cache=tmp_path, workers=dask.address) as scorer:
        found = scorer.score(jobs, progress=False)
    with Scorer(NAMES, workers=1) as pool:
        assert found == pool.score(jobs, progress=False)
    assert found[6]["error"].endswith("the degraded signal is digital silence") and found[5]["error"] is None
    with Scorer(NAMES, cache=tmp_path, workers=1) as again:  # the pool finds what the cluster has measured
        assert again.score(jobs[:6], progress=False) == found[:6] and not again._executor._pools
        reference, degraded = measured.waves(1)
        assert len(Cache(tmp_path).get([scores.content(reference, degraded)], again._stamps)) == 1


def test_audio_that_cannot_be_read_stops_the_run(dask, rows):
    with Scorer(["si_sdr"], workers=dask.address) as scorer, pytest.raises(UserError, match="0.wav: holds 16000 samples, the manifest"):
        scorer.score([scores.mixture_job(dataclasses.replace(rows[0], samples=15_000))], progress=False)


# --- Workers that are lost -------------------------------------------------------------------------------------------------------


def test_kill_9_of_a_worker_in_the_middle_changes_no_number(dask, tmp_path):
    note = tmp_path / "note"
    with Scorer(["si_sdr"], workers=dask.address) as scorer:
        pending = [scorer.submit(job(seed, 0.05, note=str(note))) for seed in range(24)]
        pending[3].result()
        os.kill(int(note.read_text().split()[-1]), signal.SIGKILL)
        assert [each.result() for each in pending] == [direct("si_sdr", seed) for seed in range(24)]
    assert len(set(note.read_text().split())) > 1


def test_a_job_that_kills_its_workers_is_a_row_and_the_rest_go_on(dask, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "RETRIES", 0)
    with Scorer(["si_sdr"], cache=tmp_path, workers=dask.address) as scorer:
        got = scorer.score([job(0), job(1, 0.1, "kill"), *(job(seed, 0.05) for seed in range(2, 8))], progress=False)
        assert [row["error"] for row in got] == [None, "si_sdr: lost on every worker that had it: died", *6 * [None]]
        assert scorer.lookup([job(1, 0.1, "kill").recipe]) == [None]  # another run tries again


def test_a_job_that_hangs_is_a_row_and_its_worker_is_started_anew(dask, monkeypatch, capsys):
    monkeypatch.setattr(cluster, "HANG_S", 3.0)
    monkeypatch.setattr(cluster, "RETRIES", 0)
    monkeypatch.syspath_prepend(Path(__file__).parent)
    with Scorer(["measured:level"], workers=dask.address) as scorer:
        loud = Job("loud", functools.partial(measured.waves, 1, spoil="loud"))
        hung, *rest = scorer.score([loud, *(job(seed, 0.05) for seed in range(8))], progress=False)
        assert hung["error"] == "measured:level: lost on every worker that had it: hung"
        assert rest == [direct("measured:level", seed) for seed in range(8)]
        deadline = time.monotonic() + 30
        while scorer.workers < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert scorer.workers == 2
    assert ": hangs, and is left" in capsys.readouterr().err


def test_somebody_elses_task_is_no_hang(dask, tmp_path, monkeypatch, capsys):
    """A worker that another client keeps busy is not left, and what waits for it is done elsewhere."""
    monkeypatch.setattr(cluster, "HANG_S", 1.0)
    with Scorer(["si_sdr"], workers=dask.address) as scorer, distributed.Client(dask.address.replace("dask", "tcp")) as other:
        address = next(iter(scorer._executor._workers))
        busy = other.submit(measured.until, str(tmp_path / "end"), workers=[address])
        assert scorer.score([job(seed) for seed in range(6)], progress=False) == [direct("si_sdr", seed) for seed in range(6)]
        assert not busy.done() and address in scorer._executor._workers
        (tmp_path / "end").touch()
        assert busy.result() is None
    assert "hangs" not in capsys.readouterr().err


def test_a_worker_of_another_version_is_refused(dask, tmp_path, capsys):
    folder = tmp_path / "pesq-0.0.1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: pesq\nVersion: 0.0.1\n")
    with Scorer(["pesq_nb"], workers=dask.address) as scorer:
        dask.add("--no-nanny", "--name", "old", path=[tmp_path])
        said, deadline = "", time.monotonic() + 30
        while "refused" not in said and time.monotonic() < deadline:
            time.sleep(0.05)
            said += capsys.readouterr().err
        wanted = rf"^note: (tcp://127.0.0.1:\d+) is refused: it has pesq 0.0.1, expected {importlib.metadata.version('pesq')}$"
        address, = re.findall(wanted, said, re.MULTILINE)
        assert address not in scorer._executor._workers
    os.killpg(dask.processes.pop().pid, signal.SIGKILL)


def test_no_worker_has_the_users_metric(dask, tmp_path, monkeypatch, capsys):
    (tmp_path / "only_here.py").write_text("def f(reference, degraded):\n    return 0\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="none of its workers can be used; tcp://.* is refused: it cannot say its versions .*only_here"):
        Scorer(["only_here:f[0,1]"], workers=dask.address)


# --- Files -----------------------------------------------------------------------------------------------------------------------


def test_files_that_a_worker_lacks_are_sent(dask, rows, monkeypatch):
    """Paths relative to this folder, of which one is another file where the workers stand."""
    folder = Path(rows[0].clean).parent
    monkeypatch.chdir(folder)
    audio.write(dask.folder / "elsewhere" / "0.wav", speech_like(1.0, seed=77))
    near = [dataclasses.replace(row, clean=Path(row.clean).name, noise="noise.wav") for row in rows]
    with Scorer(["si_sdr"], workers=dask.address) as scorer:
        found = scorer.score([*map(scores.mixture_job, near), scores.clean_job(near[0])], progress=False)
    with threadpool_limits(1):
        assert found == [*(metrics.evaluate(["si_sdr"], *reversed(mixing.pair(row))) for row in rows),
                         metrics.evaluate(["si_sdr"], *2 * [mixing.pair(rows[0])[1]])]
    sent = {path.name for path in (dask.folder / "elsewhere").rglob("se_keras/*")}
    assert sent == {f"{audio.file_hash(path)}.wav" for path in folder.glob("*.wav")}


def test_what_was_sent_is_kept_within_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_worker, "_folder", lambda: tmp_path / "kept")
    monkeypatch.setattr(cluster_worker, "_kept", cluster_worker.collections.OrderedDict())
    monkeypatch.setattr(cluster_worker, "FOLDER_MB", 0.0025)
    contents = {name: 1000 * name.encode() for name in "abc"}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    for name, content in contents.items():
        assert cluster_worker._locate({f"{name}.wav": hashes[name]}, {}) == ({}, [hashes[name]])
        at, lacking = cluster_worker._locate({f"{name}.wav": hashes[name]}, {hashes[name]: content})
        assert Path(at[f"{name}.wav"]).read_bytes() == content and not lacking
        cluster_worker._locate({"a.wav": hashes["a"]}, {})
    kept = {path.stem for path in (tmp_path / "kept").iterdir()}
    assert kept == {hashes["a"], hashes["c"]}  # b was used longest ago


def test_a_file_that_changed_on_its_way_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_worker, "_folder", lambda: tmp_path / "kept")
    wanted = hashlib.sha256(b"before").hexdigest()
    with pytest.raises(UserError, match="x.wav: was changed while it was being scored"):
        cluster_worker._locate({"x.wav": wanted}, {wanted: b"after"})
    assert not (tmp_path / "kept").exists()


def test_a_file_that_changed_is_read_again(tmp_path):
    path = tmp_path / "x.wav"
    for seed in (1, 2):
        audio.write(path, speech_like(1.0 + seed, seed))
        assert cluster_worker._locate({str(path): audio.file_hash(path)}, {}) == ({}, [])
        assert len(audio.read_cached(str(path))) == 16_000 * (1 + seed)


# --- What users mistake ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "said"), [
    ("0", "0 is not at least 1"), ("-2", "-2 is not at least 1"), ("dask", "'dask' is neither a number of processes nor dask://HOST:PORT"),
    ("1.5", "'1.5' is neither a number"), ("dask://", "'dask://' is no address of a Dask scheduler; expected dask://HOST:PORT, such as"),
    *((text, f"'{text}' is no address") for text in ("dask://host", "dask://host:0", "dask://host:70000", "dask://a:b@h:1", "dask://h:1/x"))])
def test_what_workers_may_not_be(given, said):
    with pytest.raises(argparse.ArgumentTypeError, match=f"^{re.escape(said)}"):
        cli.workers(given)


@pytest.mark.parametrize("command", [["train.py", "enhancer"], ["train.py", "quality-net"], ["finetune.py"],
                                     ["test.py", "--data", "d", "--out", "r"]], ids=" ".join)
def test_every_script_refuses_it(command, capsys):
    for given, said in (("0", "0 is not at least 1"), ("dask", "'dask' is neither a number"), ("dask://h", "'dask://h' is no address")):
        with pytest.raises(SystemExit) as end:
            load_script(command[0]).arguments([*command[1:], "--workers", given])
        assert end.value.code == 2 and f"argument --workers: {said}" in capsys.readouterr().err


def test_addresses():
    assert cluster.parse("dask://10.0.0.1:8786") == ("10.0.0.1", 8786) and cluster.parse("dask://[::1]:1/") == ("[::1]", 1)
    assert cli.workers("dask://head:8786") == "dask://head:8786" and cli.workers("3") == 3


def test_distributed_is_an_extra(monkeypatch):
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="dask://h:1 needs distributed, which is not installed; pip install -r requirements-extras.txt"):
        Scorer(["si_sdr"], workers="dask://h:1")


def test_nobody_answers(rows, tmp_path, capsys):
    """By test.py, before anything is scored."""
    from se_keras.mixtures import manifest

    manifest.write(tmp_path / "data" / "test.jsonl", rows)
    said = refused(capsys, load_script("test.py"), "--data", tmp_path / "data", "--out", tmp_path / "report", "--workers", "dask://127.0.0.1:9")
    assert said == ("error: dask://127.0.0.1:9: nobody answers (Connection refused); is the scheduler up? start one there with: dask "
                    "scheduler --port 9")
    with pytest.raises(UserError, match="dask://no.such.host.invalid:8786: nobody answers"):
        Scorer(["si_sdr"], workers="dask://no.such.host.invalid:8786")


def test_somebody_else_answers(server, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_S", 1.0)
    with pytest.raises(UserError, match="what answers there is no Dask scheduler"):
        Scorer(["si_sdr"], workers=server.url.replace("http", "dask"))


def test_a_scheduler_without_workers_and_one_that_ends(monkeypatch, capsys):
    monkeypatch.setattr(cluster, "WAIT_S", 0.5)
    with distributed.LocalCluster(n_workers=0, processes=False, protocol="tcp://", dashboard_address=":0", host="127.0.0.1",
                                  silence_logs=50) as local:
        address = local.scheduler_address.replace("tcp", "dask")
        with pytest.raises(UserError, match="has no workers, waited 0 s; start some: dask worker tcp://127.0.0.1:.* --nworkers N"):
            Scorer(["si_sdr"], workers=address)
        monkeypatch.setattr(cluster, "WAIT_S", 10)
        local.scale(1)
        with Scorer(["si_sdr"], workers=address) as scorer:
            assert scorer.submit(job(1)).result() == direct("si_sdr", 1)
            waiting = scorer.submit(job(2, 2.0))
            threading.Timer(0.3, local.close).start()
            with pytest.raises(UserError, match=f"{address}: the scheduler is gone; what was scored is kept"):
                waiting.result()
