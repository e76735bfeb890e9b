"""Scores of many pairs: measured in processes, or on a Dask cluster, each once, and kept on disk.

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
import importlib.metadata
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from se_keras import metrics
from se_keras.errors import UserError
from se_keras.mixtures.rows import PATHS
from se_keras.scoring import cluster
from se_keras.scoring.cache import Cache
from se_keras.scoring.pool import Lost, Pool
from se_keras.signals import audio, mixing

NOISY = "noisy"  # the fingerprint of the system that changes nothing: its output is the mixture
CLEAN = "clean"  # of the one that knows the answer
RECIPE_VERSION = 1  # to be raised when `mixing.pair` makes other samples of the same row


# --- Jobs ------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """One pair to be scored.

    Attributes:
        id: the utterance's, for messages.
        load: picklable function without arguments, called in the worker, to (reference, degraded), float32 `(samples,)`; the reference
            is None where there is none.
        recipe: `recipe(...)` of the pair; None where it has none, and only the content can find it.
        files: paths that `load` reads. On a worker that has them elsewhere it is called with `at`, {path: where it lies there}.
    """

    id: str
    load: Callable
    recipe: str | None = None
    files: tuple = ()


def mixture_job(row):
    """The mixture of a manifest row, against its clean signal; the worker makes both."""
    return Job(row.id, functools.partial(_mixture, row), recipe(row, NOISY), _files(row))


def clean_job(row):
    """The clean signal of a manifest row, against itself."""
    return Job(row.id, functools.partial(_clean, row), recipe(row, CLEAN), _files(row))


def wave_job(row, degraded, recipe=None):
    """`degraded`, float32 `(row.used_samples,)`, against the clean signal of a row; the worker makes the clean one."""
    return Job(row.id, functools.partial(_against_clean, row, np.asarray(degraded, np.float32)), recipe, _files(row))


def _files(row):
    return tuple(path for path in (getattr(row, name) for name in PATHS) if path is not None)


def _pair(row, at):
    """`mixing.pair` of a row, of whose files some may lie elsewhere, {path: where}."""
    return mixing.pair(replace(row, **{name: at.get(getattr(row, name), getattr(row, name)) for name in PATHS}) if at else row)


def _mixture(row, at=None):
    noisy, clean = _pair(row, at)
    return clean, noisy


def _clean(row, at=None):
    clean = _pair(row, at)[1]
    return clean, clean


def _against_clean(row, degraded, at=None):
    return _pair(row, at)[1], degraded


def recipe(row, system):
    """sha256 (hex) of all that decides the output of a system for a row; equal wherever the corpus lies.

    Args:
        row: `manifest.Utterance`.
        system: the system's fingerprint (hash of weights and configuration); `NOISY` for the mixture itself.

    Raises:
        UserError: a source file is missing.
    """
    try:
        files = [path and audio.file_hash(path) for path in (getattr(row, name) for name in PATHS)]
    except OSError as error:
        raise UserError(f"{row.id}: {error.filename} cannot be read ({error.strerror}); was the corpus moved?") from None
    what = [RECIPE_VERSION, *files, row.samples, row.offset, row.gain, row.start, row.used_samples, system]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def content(reference, degraded):
    """sha256 (hex) of the float32 bytes of both signals; the reference may be None."""
    digests = [b"" if wave is None else hashlib.sha256(np.ascontiguousarray(wave, np.float32)).digest() for wave in (reference, degraded)]
    return hashlib.sha256(b"".join(digests)).hexdigest()


# --- In the worker ---------------------------------------------------------------------------------------------------------------

_cache = None  # the worker's own connection; on a cluster there is none, and the client keeps what comes back


def _start_worker(cache_folder):
    global _cache
    import pesq  # noqa: F401  imported before the first job, so that no job waits for it
    import pystoi  # noqa: F401

    _cache = Cache(cache_folder) if cache_folder is not None else None


def _score(load, recipe, stamps):
    """Outcomes {stamp: (value, reason)} of a job, measured and kept, as far as the cache does not know them; see `_measure`."""
    keys, outcomes = _measure(load, recipe, stamps)
    if _cache is not None:
        _cache.put(keys, outcomes)
    return outcomes


def _measure(load, recipe, stamps, at=None):
    """Outcomes {stamp: (value, reason)} of the measured metrics {stamp: name} for one job, from the cache as far as it knows them.

    Args:
        load, recipe: of the job.
        stamps: {`Metric.version`: metric}.
        at: {path: where it lies here}, of the job's files that lie elsewhere.

    Returns:
        (keys to keep them by, outcomes).

    Raises:
        UserError: a metric is another one here than where the stamps were made.
    """
    if edited := [name for stamp, name in stamps.items() if metrics.get(name).version != stamp]:
        raise UserError(f"{', '.join(edited)}: the source was edited after the run had begun; start it again")
    reference, degraded = load(at=at) if at else load()
    key = content(reference, degraded)
    outcomes = {} if _cache is None else _cache.get([key], stamps)[key]
    missing = {stamp: name for stamp, name in stamps.items() if stamp not in outcomes}
    measured = metrics.measure(missing.values(), reference, degraded)
    outcomes |= {stamp: measured[name] for stamp, name in missing.items()}
    return [key] + [recipe] * (recipe is not None), outcomes


@functools.lru_cache
def versions(names):
    """{package or metric: its version}: all that scores depend on, to be compared between machines. Imports what measures them.

    Found once a process: a worker that outlives a change of its package goes on with what it had imported.

    Args:
        names: of metrics, a tuple.

    Raises:
        UserError: a metric that cannot be had here.
    """
    import pesq  # noqa: F401
    import pystoi  # noqa: F401

    import se_keras

    modules = (path for part in ("metrics", "signals") for path in sorted((Path(se_keras.__file__).parent / part).glob("*.py")))
    source = hashlib.sha256(b"".join(path.read_bytes() for path in modules))
    return {**{name: importlib.metadata.version(name) for name in ("pesq", "pystoi", "numpy", "scipy")},
            "se_keras": f"{se_keras.__version__} (source {source.hexdigest()[:12]})",
            **{name: metrics.get(name).version for name in metrics.measured(names)}}


# --- In the parent ---------------------------------------------------------------------------------------------------------------


class Scorer:
    """Scores pairs by some metrics, in parallel, through the cache. A context manager; `close` ends its workers.

    Args:
        names: metric names: of `metrics.NAMES`, or functions of the user's (`metrics.own`).
        cache: folder of the score cache; None keeps nothing.
        workers: processes; None for one a core. They start with the first pair that the cache does not know. Or the address of a Dask
            scheduler, "dask://HOST:PORT", whose workers are used (`cluster.Cluster`).
        on_error: "row": a pair that a metric refuses is a row with its reason. "fail": it raises, naming the pair.

    Raises:
        UserError: a metric that cannot be had (`metrics.get`), an unknown `on_error`; a cache folder that cannot be used; a cluster
            that does not answer, or has no worker with the same versions.
    """

    def __init__(self, names=metrics.DEFAULT, cache=None, workers=None, on_error="row"):
        if on_error not in ("row", "fail"):
            raise UserError(f"on_error is {on_error!r}; expected \"row\" or \"fail\"")
        self.names = tuple(names)
        self.on_error = on_error
        self._stamps = {metrics.get(name).version: name for name in metrics.measured(self.names)}
        self._folder = cache
        self._cache = None if cache is None else Cache(cache)
        if isinstance(workers, str):
            self._executor = cluster.Cluster(workers, _measure, functools.partial(versions, self.names), arrived=self._arrived)
        else:
            self._executor = Pool(_score, workers, _start_worker, (cache,))

    @property
    def workers(self):
        """How many pairs are measured at a time."""
        return self._executor.workers

    def __enter__(self):
        return self

    def __exit__(self, kind, *exception):
        if kind is not None and not issubclass(kind, Exception):  # Ctrl-C
            self._executor.kill()
        self.close()

    def close(self):
        """End the workers; jobs that have not begun are dropped. Ctrl-C ends those that are under way too."""
        self._executor.close()
        if self._cache is not None:
            self._cache.close()

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

    def _begin(self, job):
        """The future of the outcomes of a job."""
        return self._executor.submit(job.load, job.recipe, self._stamps, files=job.files)

    def _arrived(self, measured):
        """Outcomes that a worker without the cache has measured, kept here as soon as they come."""
        keys, outcomes = measured
        if self._cache is not None:
            self._cache.put(keys, outcomes)
        return outcomes

    def _lost(self, job, lost):
        """Outcomes of a job that no worker finished: failures, kept as others are where they would come again."""
        outcomes = {stamp: (None, str(lost)) for stamp in self._stamps}
        if self._cache is not None and job.recipe is not None:
            outcomes |= self._cache.get([job.recipe], self._stamps)[job.recipe]
            if lost.lasting:
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
            except Lost as lost:
                outcomes = self._scorer._lost(self._job, lost)
            self._row = self._scorer._row(outcomes, self._job.id)
            self._job = self._future = None
        return self._row


def summarise_errors(rows):
    """{reason: how many rows have it}, most frequent first: what a report says was left out."""
    return dict(collections.Counter(row["error"] for row in rows if row["error"]).most_common())
