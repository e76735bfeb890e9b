"""Manifests of 1,500 to 10 million rows, and audio in tar shards: seconds, memory, and the input pipeline against the training step.

Rows name 4,096 utterances of 4 s in 64 noises, more than the 1,024 files that are kept in memory: audio is read from disk (the page cache,
here), as it is where a corpus is large.
"""

import dataclasses
import functools
import resource
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import measuring, pipeline
from se_keras.mixtures import manifest
from se_keras.signals import audio

ROWS = {"1,500": 1500, "100,000": 100_000, "10 million": 10_000_000}
CLEAN, NOISES, SAMPLES = 4096, 64, 64_000
BATCH = 32


def run(quick, cores):
    """Rows of the table."""
    sizes = {"1,500": 1500, "20,000": 20_000} if quick else ROWS
    most = list(sizes)[-1]
    with tempfile.TemporaryDirectory() as folder:
        measuring.progress("big data: making the audio")
        make_audio(Path(folder), 64 if quick else CLEAN)
        spawn = functools.partial(measuring.spawn, __name__, cores, folder=folder)
        made = []
        for title, rows in sizes.items():
            form = "jsonl" if rows == min(sizes.values()) else "parquet"
            measuring.progress(f"big data: {title} rows")
            prepared = spawn(what="prepare", rows=rows, form=form)
            made += _rows(f"{title} rows, {form}", prepared, {"prepare": ("s", ""), "prepare, peak memory": ("MB", "flat")})
            aims = {"open": ("s", "< 2" if title == most else ""), "open, peak memory": ("MB", "< 500" if title == most else ""),
                    "see that splits are apart": ("s", ""), "resume at the last row": ("s", "< 2" if title == most else ""),
                    "resume, peak memory": ("MB", "flat"), "a batch anywhere": ("s", "")}
            for what in ("open", "resume"):
                made += _rows(f"{title} rows, {form}", spawn(what=what, rows=rows, form=form), aims)
            made += _rows(f"{title} rows, {form}", spawn(what="train", rows=rows, form=form), {"train, peak memory": ("MB", "flat")})
        fewer = list(sizes)[-2]
        sources = [(f"{fewer} rows, jsonl", sizes[fewer], "jsonl", False), (f"{most} rows, parquet", sizes[most], "parquet", False),
                   (f"{fewer} rows, parquet, tar shards", sizes[fewer], "parquet", True)]
        for title, rows, form, packed in sources:
            if packed or form == "jsonl":
                spawn(what="prepare", rows=rows, form=form, packed=packed)
            for workers in (1, 2):
                measuring.progress(f"big data: input pipeline, {title}, {workers} workers")
                case = pipeline.Case(f"BLSTM, {title}, {workers} worker{'s' * (workers > 1)}", "blstm", BATCH, workers)
                records, failure = measuring.spawn("benchmarks.pipeline", cores, data=str(place(folder, rows, form, packed)),
                                                   case=dataclasses.asdict(case), groups=1 if quick else 3, rounds=1 if quick else 3)
                made.append(pipeline._row(case, records, failure))
    return made


def _rows(title, found, aims):
    """Rows of what a child measured."""
    records, failure = found
    if failure:
        return [measuring.row(f"manifest of {title}", "", remark=failure)]
    measured = {record["name"]: record for record in records}
    return [measuring.row(f"manifest of {title}: {name}", unit, measured[name]["value"], aim=aim, remark=measured[name].get("remark", ""))
            for name, (unit, aim) in aims.items() if name in measured]


def place(folder, rows, form, packed=False):
    """The data folder of a manifest."""
    return Path(folder) / f"{rows}-{form}{'-shards' * packed}"


def make_audio(folder, clean):
    """`folder`/speech and `folder`/noise, and the same in `folder`/shards/*.tar, 512 files each."""
    for kind, count in (("speech", clean), ("noise", NOISES)):
        names = []
        for number in range(count):
            wave = 0.1 * np.random.default_rng(number).standard_normal(SAMPLES).astype(np.float32)
            names.append(f"{number:06d}.wav")
            audio.write(folder / kind / names[-1], wave)
        for start in range(0, count, 512):
            (folder / "shards").mkdir(exist_ok=True)
            with tarfile.open(folder / "shards" / f"{kind}-{start // 512:03d}.tar", "w") as tar:
                for name in names[start:start + 512]:
                    tar.add(folder / kind / name, name)


def rows_of(folder, count, packed):
    """A stream of rows: utterances in ten noise types at five SNRs each, as the letter has it, over again from other offsets."""
    clean = len(list((folder / "speech").iterdir()))

    def path(kind, number):
        return str(folder / "shards" / f"{kind}-{number // 512:03d}.tar" if packed else folder / kind) + f"/{number:06d}.wav"

    paths, noises = [path("speech", number) for number in range(clean)], [path("noise", number) for number in range(NOISES)]
    for start in range(0, count, 1 << 16):
        rng, size = np.random.default_rng(start), min(1 << 16, count - start)
        noise, offset = (rng.integers(most, size=size).tolist() for most in (NOISES, SAMPLES))
        gain = rng.uniform(size=size).tolist()
        for place, number in enumerate(range(start, start + size)):
            utterance, kind, snr_db = number // 50, number // 5 % 10, -8.0 + 4 * (number % 5)
            yield manifest.Utterance(f"u{utterance:07d}_noise{kind}_{snr_db:g}dB", paths[utterance % clean], f"s{utterance // 100}",
                                     f"noise{kind}", SAMPLES, snr_db, noises[noise[place]], offset[place], gain[place])


def child(what, folder, rows, form, packed=False):
    """In a process of its own: what takes how long, and how much memory it has taken by then."""
    path = place(folder, rows, form, packed) / "train.jsonl"
    yield from {"prepare": _prepare, "open": _open, "resume": _resume, "train": _train}[what](Path(folder), path, rows, form, packed)


def _peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _timed(name, work):
    """(what `work` returns, its record)."""
    began, used = time.perf_counter(), time.process_time()
    done = work()
    seconds = time.perf_counter() - began
    return done, {"name": name, "value": seconds, "remark": f"{time.process_time() - used:.2g} s of processor time"}


def _fill_cache(folder):
    """Read as many files as are kept in memory, so that a manifest which names fewer does not look as if it took less."""
    for path in sorted((folder / "speech").iterdir())[:audio.read_cached.cache_info().maxsize]:
        audio.read_cached(str(path))


def _prepare(folder, path, rows, form, packed):
    """As data/prepare.py does it, without the mixing."""
    from se_keras.corpora import contents

    def work():
        passing = contents.Fingerprint()
        manifest.write(path.with_suffix(f".{form}"), passing.over("train", rows_of(folder, rows, packed)))
        contents.counts(manifest.read(path))
        return passing.hex()

    before = _peak_mb()
    _, record = _timed("prepare", work)
    yield record
    size = path.with_suffix(f".{form}").stat().st_size / 1e6
    yield {"name": "prepare, peak memory", "value": _peak_mb(), "remark": f"{before:.0f} MB before; the file: {size:.3g} MB"}


def _open(folder, path, rows, form, packed):
    before = _peak_mb()
    read, record = _timed("open", lambda: manifest.read(path))
    yield record
    yield {"name": "open, peak memory", "value": _peak_mb(), "remark": f"{before:.0f} MB before"}
    yield _timed("see that splits are apart", lambda: manifest.check_splits({"train": read, "valid": []}))[1]


def _resume(folder, path, rows, form, packed):
    from se_keras.mixtures.feed import Feed

    _fill_cache(folder)
    before = _peak_mb()

    def work():
        feed = Feed(manifest.read(path), BATCH, crop_s=pipeline.CROP_S)
        feed.batch(feed.batches_per_epoch - 1)
        return feed

    feed, record = _timed("resume at the last row", work)
    yield record
    places = np.random.default_rng(0).integers(feed.batches_per_epoch, size=10).tolist()
    _, record = _timed("a batch anywhere", lambda: [feed.batch(k) for k in places])
    yield {**record, "value": record["value"] / len(places), "remark": f"{BATCH} rows; mean of {len(places)}, their files read"}
    yield {"name": "resume, peak memory", "value": _peak_mb(), "remark": f"{before:.0f} MB before, 1,024 files of audio kept in memory"}


def _train(folder, path, rows, form, packed):
    """Eight updates of the BLSTM, two threads making batches."""
    _fill_cache(folder)
    feed, _, step = pipeline._blstm(pipeline.Case("", "blstm", BATCH), manifest.read(path), None)
    for example in feed.batches(0, 8):
        step(example)
    yield {"name": "train, peak memory", "value": _peak_mb(), "remark": "eight updates of the BLSTM"}
