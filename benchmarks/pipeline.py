"""The input pipeline against the training step: can it feed the network, on the same cores?

On ../shared/data where it is there, else on the demo corpus: read, mix, cut, transform, pad and, for Quality-Net, enhance. The
files of a corpus of this size stay in memory after the first pass, as they do in training.
"""

import dataclasses
import functools
import itertools
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import measuring
from se_keras.errors import UserError
from se_keras.signals import audio

CROP_S = 3.0


@dataclass(frozen=True)
class Case:
    """A row: network, batch as train.py has it, threads that make batches, and whether mixtures are drawn anew, half of them in a room."""

    title: str
    network: str
    batch: int
    workers: int = 2
    augmented: bool = False


CASES = (Case("BLSTM", "blstm", 32), Case("BLSTM, --augment with rooms, 1 worker", "blstm", 32, 1, True),
         Case("BLSTM, --augment with rooms, 2 workers", "blstm", 32, 2, True),
         Case("Quality-Net, noisy, enhanced and perturbed", "quality_net", 4))


def run(quick, cores):
    """Rows of the table, one a case."""
    with tempfile.TemporaryDirectory() as folder:
        measuring.progress("input pipeline: preparing the data")
        prepare(folder)
        rows = []
        for case in CASES:
            measuring.progress(f"input pipeline: {case.title}")
            records, failure = measuring.spawn(__name__, cores, data=folder, case=dataclasses.asdict(case), groups=1 if quick else 3,
                                               rounds=1 if quick else 3)
            rows.append(_row(case, records, failure))
    return rows


def prepare(folder):
    """Write manifests into `folder`, one SNR only: what the rows name does not change the time that they take; and `folder`/rooms."""
    for number in range(4):  # as long as those of data/rooms.py, which needs an extra
        rng, samples = np.random.default_rng(number), 16_000 * (number + 1) // 4
        decay = rng.standard_normal(samples) * 10 ** (-3 * np.arange(samples) / samples)
        audio.write(Path(folder) / "rooms" / f"{number}.wav", np.concatenate([[1], 0.1 * decay]), subtype="FLOAT")
    shared = measuring.ROOT.parent / "shared/data"
    corpus = ["folders", "--speech", shared / "speech", "--noise", shared / "noise"] if shared.is_dir() else ["demo"]
    command = [sys.executable, measuring.ROOT / "data/prepare.py", *corpus, "--out", folder, "--snr-train", "0", "--snr-test", "0"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"data/prepare.py {corpus[0]} failed: {done.stderr.strip()}")


def _row(case, records, failure):
    rates = {name: rate for name, (rate, _) in measuring.rates(records).items()}
    remark = "peer: the training step on ready batches"
    if "both" in rates:
        remark += f"; training from the pipeline runs at {rates['both']:.3g} utt/s, {100 * rates['both'] / rates['step']:.0f}% of it"
    return measuring.row(f"input pipeline, {case.title}, {case.batch} x {CROP_S:g} s", "utt/s", rates.get("pipeline"), rates.get("step"),
                         None, "ratio > 1", failure or remark)


def child(data, case, groups, rounds):
    """In a process of its own: the pipeline alone, the step alone, and both, by turns."""
    from se_keras.mixtures import manifest

    case = Case(**case)
    made = {"blstm": _blstm, "quality_net": _quality_net}[case.network]
    feed, group, step = made(case, manifest.read(Path(data) / "train.jsonl"), {"rooms": str(Path(data) / "rooms")})
    ready = itertools.cycle(list(feed.batches(0, 4)))
    starts = itertools.count(step=group * (2 + groups))

    def stream(consume):
        """A turn, timed from the second group of batches on; buffers are as full at its end as at its beginning."""
        start, done = next(starts), 0
        for number, example in enumerate(feed.batches(start, start + group * (2 + groups)), start=1):
            consume(example)
            if number == group:
                began = time.perf_counter()
            elif number > group:
                done += len(example["frame_mask"])
            if number == group * (1 + groups):
                return done, time.perf_counter() - began

    measuring.repeat(lambda: step(next(ready)), case.batch, 0.5)
    yield from measuring.alternate({
        "pipeline": functools.partial(stream, lambda _: None),
        "step": functools.partial(measuring.repeat, lambda: step(next(ready)), case.batch, 5.0),
        "both": functools.partial(stream, step)}, rounds)


def _blstm(case, rows, rooms):
    """(feed, batches that are made together or wait in buffers, step) of train.py enhancer."""
    import keras

    from se_keras import losses, models
    from se_keras.enhancers.magnitude_mask import MaskEnhancer
    from se_keras.mixtures.augment import Augmentation
    from se_keras.mixtures.feed import Feed
    from se_keras.training import loop
    from se_keras.training.objective import objective_batch, objective_model, weighted_mean

    objective = losses.parse("mse")
    model = objective_model(MaskEnhancer(models.build("blstm")), objective)
    loop.compile_model(model, keras.optimizers.Adam(1e-4), weighted_mean(objective))
    feed = Feed(rows, case.batch, crop_s=CROP_S, augment=Augmentation.checked(rooms if case.augmented else None), workers=case.workers)
    return feed, 8, lambda example: float(model.train_on_batch(*objective_batch(example)))


def _quality_net(case, rows, _):
    """The same of train.py quality-net, with one enhancer; its labels are scored before, so any will do."""
    import keras
    import numpy as np

    from se_keras import models
    from se_keras.enhancers.magnitude_mask import MaskEnhancer
    from se_keras.judges import diet, surrogate
    from se_keras.training import loop

    pairs = diet.diet(rows, 1, perturbed=2, crop_s=CROP_S)
    feed = surrogate.QualityFeed(pairs, np.full(len(pairs), 0.5, np.float32), [MaskEnhancer(models.build("blstm"))], case.batch, siblings=2)
    network = models.build("quality_net")
    loop.compile_model(network, keras.optimizers.Adam(1e-4), "mse")
    group = max(1, surrogate.CHUNK // feed.feed.batch_size)
    return feed, group, lambda example: float(network.train_on_batch(*surrogate.quality_batch(example)))
