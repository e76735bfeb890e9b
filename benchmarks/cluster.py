"""Scores on a Dask cluster: two workers against the pool of two processes, and simulated workers, up to 1,000, until something saturates.

A simulated worker's job is to wait for 40 ms, about a PESQ of 4 s. All of them are one process, so that they cost little. The client does
all that it does for a true one: looks the job up, sends it, keeps what comes back. Beside the rate stands the processor time that a job
takes of the client, the scheduler and the workers, which share the machine: at 1 / that of its own the client would saturate alone.
"""

import asyncio
import contextlib
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import measuring, scores
from se_keras.scoring import cluster, cluster_worker
from se_keras.scoring.scores import Job, Scorer, mixture_job

JOB_S = 0.04
COUNTS = (1, 10, 30, 100, 300, 1000)
QUIET = {"distributed.admin.system-monitor.interval": "1h", "distributed.admin.tick.interval": "1h",
         "distributed.worker.profile.enabled": False}  # of which each of a thousand workers in a process would do its own


def run(quick, _):
    """Rows of the table."""
    return [_against_the_pool(quick), *_simulated(COUNTS[:2] if quick else COUNTS, 2.0 if quick else 8.0)]


@contextlib.contextmanager
def _processes(folder):
    """A function that starts a process whose end comes with the block."""
    started = []

    def start(*command):
        with open(Path(folder) / f"{len(started)}.log", "w") as log:
            started.append(subprocess.Popen([sys.executable, *map(str, command)], cwd=measuring.ROOT, stdout=log, stderr=log,
                                            env={**os.environ, "PYTHONPATH": str(measuring.ROOT)}))
        return started[-1]

    try:
        yield start
    finally:
        for process in started[::-1]:
            process.terminate()
        for process in started:
            process.wait(timeout=60)


def _scheduler(start, folder):
    """The process of a scheduler, and its address."""
    file = Path(folder) / "scheduler.json"
    process = start("-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", file)
    while not file.is_file():
        time.sleep(0.05)
    return process, json.loads(file.read_text())["address"].replace("tcp://", cluster.PREFIX)


def _wait_for(scorer, count):
    while scorer.workers < count:
        time.sleep(0.1)


def _against_the_pool(quick):
    """Labelling by two workers, and by the pool with two processes, in turns; no cache, so that every turn measures."""
    utterances, turns = (20, 1) if quick else (100, 3)
    with tempfile.TemporaryDirectory() as folder, _processes(folder) as start:
        _, address = _scheduler(start, folder)
        start("-m", "dask", "worker", address.replace(cluster.PREFIX, "tcp://"), "--nworkers", "2", "--nthreads", "1", "--no-dashboard",
              "--host", "127.0.0.1", "--local-directory", folder)
        jobs = [mixture_job(row) for row in scores._rows(Path(folder), utterances)]
        with Scorer(["pesq_nb"], workers=address) as ours, Scorer(["pesq_nb"], workers=2) as pool:
            _wait_for(ours, 2)
            for scorer in (ours, pool):
                scorer.score(jobs[:8], progress=False)  # start-up is not what is measured

            def turn(scorer):
                began = time.perf_counter()
                scorer.score(jobs, progress=False)
                return utterances, time.perf_counter() - began

            measuring.progress("cluster: labelling")
            rates = measuring.rates(measuring.alternate({"cluster": lambda: turn(ours), "pool": lambda: turn(pool)}, turns))
    return measuring.row("labelling with pesq_nb, 2 workers of a Dask cluster", "utt/s", rates["cluster"][0], rates["pool"][0],
                         aim="ratio >= 0.9", remark="peer: the pool with 2 processes; client and scheduler share the workers' cores")


def _simulated(counts, seconds):
    """Rows: jobs a second of so many workers."""
    import psutil

    table = []
    for count in counts:
        measuring.progress(f"cluster: {count} simulated workers")
        with tempfile.TemporaryDirectory() as folder, _processes(folder) as start:
            scheduler, address = _scheduler(start, folder)
            up = Path(folder) / "up"
            workers = start("-m", "benchmarks.cluster", address, count, up)
            while not up.exists():
                time.sleep(0.1)
                if workers.poll() is not None:
                    raise RuntimeError(f"the simulated workers ended: {(Path(folder) / '1.log').read_text()[-500:]}")
            others = [psutil.Process(process.pid) for process in (scheduler, workers)]
            with Scorer(["benchmarks.cluster:waits[0,1]"], cache=folder, workers=address) as scorer:
                _wait_for(scorer, count)
                scorer.score(_jobs("warm", 1.0), progress=False)
                before = [time.process_time(), *map(_cpu_s, others)]
                began = time.perf_counter()
                done = len(scorer.score(_jobs("job", seconds), progress=False))
                rate = done / (time.perf_counter() - began)
                after = [time.process_time(), *map(_cpu_s, others)]
        spent = [f"{1000 * (end - begin) / done:.2f}" for begin, end in zip(before, after, strict=True)]
        remark = "peer: none of them ever waits; processor ms a job: client {}, scheduler {}, workers {}".format(*spent)
        table.append(measuring.row(f"jobs of 40 ms, {count:,} simulated workers", "jobs/s", rate, count / JOB_S, remark=remark))
    return table


def _cpu_s(process):
    times = process.cpu_times()
    return times.user + times.system


def _jobs(name, seconds):
    """Jobs for so long."""
    end, number = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        yield Job(f"{name} {number}", functools.partial(pair, number), f"{name} {number}")
        number += 1


def pair(number):
    """What a job loads: short, of its own content."""
    wave = np.full(16, 1 + number, np.float32)
    return wave, wave


def waits(reference, degraded):
    """The metric that takes 40 ms and no processor."""
    time.sleep(JOB_S)
    return 0.5


async def host(address, count, up):
    """So many workers in this process, until the scheduler ends them; `up`: path of a file that says when all are there."""
    import dask
    from distributed import Worker

    dask.config.set(QUIET)
    cluster_worker._turn = contextlib.nullcontext()  # the workers of one process would wait for each other
    workers = [Worker(address.replace(cluster.PREFIX, "tcp://"), nthreads=1, memory_limit=0, dashboard=False, name=str(number),
                      local_directory=f"{up}-{number}")  # each its own: in a shared one it looks through those of all others
               for number in range(count)]
    for first in range(0, count, 20):
        await asyncio.gather(*workers[first:first + 20])
    Path(up).touch()
    await asyncio.gather(*(worker.finished() for worker in workers))


if __name__ == "__main__":
    asyncio.run(host(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
