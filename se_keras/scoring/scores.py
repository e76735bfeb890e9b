"""Scores of many pairs: measured in a pool of processes, each once, and kept on disk.

A kept score is found by two keys. The recipe (hashes of the source files, offset, gain, the system) finds it before any audio
is made; the content (hash of both signals) finds it where two recipes lead to the same samples. Each score carries the stamp
`Metric.version`; one with another stamp counts as absent.

    with Scorer(["pesq_raw", "stoi"], cache="data/demo/scores") as scorer:
        rows = scorer.score([mixture_job(row) for row in manifest.read("data/demo/valid.jsonl")])

The workers import neither TensorFlow nor the calling script.
"""

import collections
import functools
import hashlib
import json
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np

from se_keras import metrics
from se_keras.backend import available_cores
from se_keras.errors import UserError
from se_keras.processes import WorkerContext, end
from se_keras.scoring.cache import Cache
from se_keras.signals import audio, mixing

NOISY = "noisy"  # the fingerprint of the system that changes nothing: its output is the mixture
CLEAN = "clean"  # of the one that knows the answer
RECIPE_VERSION = 1  # to be raised when `mixing.pair` makes other samples of the same row
DIED = "the process that measured it died, twice"
_NO_START = "the scoring processes cannot be started; what they say stands above"


# --- Jobs ------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """One pair to be scored.

    Attributes:
        id: the utterance's, for messages.
        load: picklable function without arguments, called in the worker, to (reference, degraded), float32 `(samples,)`; the reference
            is None where there is none.
        recipe: `recipe(...)` of the pair; None where it has none, and only the content can find it.
    """

    id: str
    load: Callable
    recipe: str | None = None


def mixture_job(row):
    """The mixture of a manifest row, against its clean signal; the worker makes both."""
    return Job(row.id, functools.partial(_mixture, row), recipe(row, NOISY))


def clean_job(row):
    """The clean signal of a manifest row, against itself."""
    return Job(row.id, functools.partial(_clean, row), recipe(row, CLEAN))


def wave_job(row, degraded, recipe=None):
    """`degraded`, float32 `(row.used_samples,)`, against the clean signal of a row; the worker makes the clean one."""
    return Job(row.id, functools.partial(_against_clean, row, np.asarray(degraded, np.float32)), recipe)


def _mixture(row):
    noisy, clean = mixing.pair(row)
    return clean, noisy


def _clean(row):
    clean = mixing.pair(row)[1]
    return clean, clean


def _against_clean(row, degraded):
    return mixing.pair(row)[1], degraded


def recipe(row, system):
    """sha256 (hex) of all that decides the output of a system for a row; equal wherever the corpus lies.

    Args:
        row: `manifest.Utterance`.
        system: the system's fingerprint (hash of weights and configuration); `NOISY` for the mixture itself.

    Raises:
        UserError: a source file is missing.
    """
    try:
        files = [path and audio.file_hash(path) for path in (row.clean, row.noise, row.noisy)]
    except OSError as error:
        raise UserError(f"{row.id}: {error.filename} cannot be read ({error.strerror}); was the corpus moved?") from None
    what = [RECIPE_VERSION, *files, row.samples, row.offset, row.gain, row.start, row.used_samples, system]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def content(reference, degraded):
    """sha256 (hex) of the float32 bytes of both signals; the reference may be None."""
    digests = [b"" if wave is None else hashlib.sha256(np.ascontiguousarray(wave, np.float32)).digest() for wave in (reference, degraded)]
    return hashlib.sha256(b"".join(digests)).hexdigest()


# --- In the worker ---------------------------------------------------------------------------------------------------------------

_cache = None  # the worker's own connection


def _start_worker(cache_folder):
    global _cache
    import pesq  # noqa: F401  imported before the first job, so that no job waits for it
    import pystoi  # noqa: F401
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)  # one thread a process: the pool itself fills the cores
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _cache = Cache(cache_folder) if cache_folder is not None else None


def _die_with_parent():
    """A worker whose parent was killed would wait for its next job for ever."""
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _score(load, recipe, stamps):
    """Outcomes {stamp: (value, reason)} of the measured metrics {stamp: name} for one job, from the cache as far as it knows them.

    Raises:
        UserError: a metric is another one here than where the stamps were made.
    """
    if edited := [name for stamp, name in stamps.items() if metrics.get(name).version != stamp]:
        raise UserError(f"{', '.join(edited)}: the source was edited after the run had begun; start it again")
    reference, degraded = load()
    outcomes = {}
    if _cache is not None:
        key = content(reference, degraded)
        outcomes = _cache.get([key], stamps)[key]
    missing = {stamp: name for stamp, name in stamps.items() if stamp not in outcomes}
    measured = metrics.measure(missing.values(), reference, degraded)
    outcomes |= {stamp: measured[name] for stamp, name in missing.items()}
    if _cache is not None:
        _cache.put([key] + [recipe] * (recipe is not None), outcomes)
    return outcomes


# --- In the parent ---------------------------------------------------------------------------------------------------------------


class Scorer:
    """Scores pairs by some metrics, in parallel, through the cache. A context manager; `close` ends its workers.

    Args:
        names: metric names: of `metrics.NAMES`, or functions of the user's (`metrics.own`).
        cache: folder of the score cache; None keeps nothing.
        workers: processes; None for one a core. They start with the first pair that the cache does not know.
        on_error: "row": a pair that a metric refuses is a row with its reason. "fail": it raises, naming the pair.

    Raises:
        UserError: a metric that cannot be had (`metrics.get`), an unknown `on_error`; a cache folder that cannot be used.
    """

    def __init__(self, names=metrics.DEFAULT, cache=None, workers=None, on_error="row"):
        if on_error not in ("row", "fail"):
            raise UserError(f"on_error is {on_error!r}; expected \"row\" or \"fail\"")
        self.names = tuple(names)
        self.workers = workers or available_cores()
        self.on_error = on_error
        self._stamps = {metrics.get(name).version: name for name in metrics.measured(self.names)}
        self._folder = cache
        self._cache = None if cache is None else Cache(cache)
        self._pools = {}  # "all" and, once a process has died, "alone"

    def __enter__(self):
        return self

    def __exit__(self, kind, *exception):
        if kind is not None and not issubclass(kind, Exception):  # Ctrl-C
            self._kill()
        self.close()

    def close(self):
        """End the workers; jobs that have not begun are dropped. Ctrl-C ends those that are under way too."""
        try:
            for pool in self._pools.values():
                pool.shutdown(cancel_futures=True)
        except BaseException:
            self._kill()
            raise
        self._pools.clear()
        if self._cache is not None:
            self._cache.close()

    def _kill(self):
        """End the workers at once: what one of them is at may never end."""
        for pool in self._pools.values():
            end(pool)

    def lookup(self, recipes, ids=None):
        """For each recipe the row of scores that the cache holds for all metrics, or None. No audio is touched.

        Args:
            recipes: list of `recipe(...)`; an entry may be None.
            ids: the utterances' ids, for messages.

        Raises:
            UserError: a kept failure, with `on_error="fail"`.
        """
        if self._cache is None:
            return [None] * len(recipes)
        found = self._cache.get({recipe for recipe in recipes if recipe}, self._stamps)
        return [self._row(found[recipe], name) if len(found.get(recipe, ())) == len(self._stamps) else None
                for recipe, name in zip(recipes, ids or recipes, strict=True)]

    def submit(self, job):
        """Begin to score a job, unless the cache knows it. Returns a `Pending`: `.result()` waits for the row of scores."""
        return Pending(self, job)

    def score(self, jobs, desc="scores", progress=True, total=None):
        """Rows of scores of many jobs, in their order.

        Args:
            jobs: list or generator of `Job`. A list is looked up as a whole first; a generator is drawn from only as fast as the
                workers finish, so the waves it makes never pile up.
            desc: the progress bar's title.
            progress: whether to show one.
            total: number of jobs, for the bar of a generator.

        Returns:
            list of {metric name: float or None, "error": None or the reasons} (`metrics.result`).

        Raises:
            UserError: audio that cannot be read; a pair without a score, with `on_error="fail"`.
        """
        from tqdm import tqdm

        known = {}
        if isinstance(jobs, list | tuple):
            total = len(jobs)
            known = dict(enumerate(self.lookup([job.recipe for job in jobs], [job.id for job in jobs])))
        rows, pending = [], collections.deque()
        with tqdm(total=total, desc=desc, unit="utt", disable=not progress, dynamic_ncols=True) as bar:
            def finish(count):
                while len(pending) > count:
                    waiting = pending.popleft()
                    rows.append(waiting.result() if isinstance(waiting, Pending) else waiting)
                    bar.update()

            for number, job in enumerate(jobs):
                pending.append(known.get(number) or self.submit(job))
                finish(4 * self.workers)
            finish(0)
        return rows

    def _row(self, outcomes, name):
        row = metrics.result(self.names, {self._stamps[stamp]: outcome for stamp, outcome in outcomes.items()})
        if row["error"] and self.on_error == "fail":
            raise UserError(f"{name}: has no score ({row['error']}); leave the utterance out, or go on with --on-error row")
        return row

    def _submit(self, pool, function, *arguments):
        """The future of a call in a pool, "all" or "alone", which is started where there is none, or only a broken one."""
        for _ in range(2):
            if pool not in self._pools:
                workers = self.workers if pool == "all" else 1
                self._pools[pool] = ProcessPoolExecutor(workers, WorkerContext(), _start_worker, (self._folder,))
            try:
                return self._pools[pool].submit(function, *arguments)
            except BrokenProcessPool:
                self._pools.pop(pool).shutdown(wait=False)
        raise RuntimeError(_NO_START)

    def _begin(self, job, pool="all"):
        return self._submit(pool, _score, job.load, job.recipe, self._stamps)

    def _begin_again(self, job):
        """Outcomes of a job that was lost as a worker died, measured with no other beside it: if that dies too, this job kills it.

        A process killed by hand costs no score, and a job that kills its worker becomes a failure, kept as others are.
        """
        try:
            self._submit("alone", os.getpid).result()
        except BrokenProcessPool:
            raise RuntimeError(_NO_START) from None
        try:
            return self._begin(job, "alone").result()
        except BrokenProcessPool:
            outcomes = {stamp: (None, DIED) for stamp in self._stamps}
            if self._cache is not None and job.recipe is not None:
                outcomes |= self._cache.get([job.recipe], self._stamps)[job.recipe]
                self._cache.put([job.recipe], outcomes)
            return outcomes


class Pending:
    """A job on its way; from `Scorer.submit`."""

    def __init__(self, scorer, job):
        self._scorer, self._job = scorer, job
        self._row = scorer.lookup([job.recipe], [job.id])[0]
        self._future = None if self._row else scorer._begin(job)
        if self._row:
            self._job = None  # it holds the audio

    def done(self):
        """Whether `result` would not wait."""
        return self._row is not None or self._future.done()

    def result(self):
        """The row of scores (`metrics.result`); waits for it.

        Raises:
            UserError: audio that cannot be read; no score, with `on_error="fail"`.
        """
        if self._row is None:
            try:
                outcomes = self._future.result()
            except BrokenProcessPool:
                outcomes = self._scorer._begin_again(self._job)
            self._row = self._scorer._row(outcomes, self._job.id)
            self._job = self._future = None
        return self._row


def summarise_errors(rows):
    """{reason: how many rows have it}, most frequent first: what a report says was left out."""
    return dict(collections.Counter(row["error"] for row in rows if row["error"]).most_common())
