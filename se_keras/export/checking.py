"""Whether an exported file says what Keras says: the file itself is run, since a converter can go wrong without a word."""

import time

import numpy as np

from se_keras.errors import UserError
from se_keras.export import formats, forms, running
from se_keras.signals.audio import SAMPLE_RATE

TOLERANCES = {"float32": 1e-4, "float16": 1e-2, "int8": 0.1}  # of a sample of full scale 1, or of a score in its unit, by weights
LENGTHS_S = (0.1, 1.0, 3.0042)  # the last is no whole number of hops


def measure(path, card, form, holder):
    """Run a file beside Keras on noise that comes and goes, of several lengths.

    Args:
        path: of the file.
        card: of the file (`running.read_card`).
        form: the `forms.Form` in it.
        holder: the enhancer or the predictor that the form was made of; its own way of working is what the file has to agree with.

    Returns:
        `(difference, rtf)`: the largest absolute difference; seconds of computing a second of audio on one thread, of the longest.

    Raises:
        UserError: it gives numbers that are not finite.
    """
    differences, took = [], 0.0
    for seconds in LENGTHS_S:
        degraded, clean = _pair(seconds)
        ours, run = _beside(path, card, form, holder, degraded, clean)
        run()  # to warm up
        start = time.perf_counter()
        theirs = run()
        took = time.perf_counter() - start
        if not all(np.isfinite(each).all() for each in theirs):
            raise UserError(f"{path.name}: the converted file gives numbers that are not finite; it is not kept. Take another format, and "
                            "report the network")
        differences.append(max(np.abs(one - other).max() for one, other in zip(ours, theirs, strict=True)))
    return float(max(differences)), took / LENGTHS_S[-1]


def _pair(seconds):
    """Degraded and clean, float32 `(samples,)`: loud noise, near full scale, whose loudness comes and goes four times a second."""
    rng, samples = np.random.default_rng(0), int(seconds * SAMPLE_RATE)
    envelope = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * np.arange(samples) / SAMPLE_RATE)
    clean = 0.25 * envelope * rng.standard_normal(samples)
    return (clean + 0.07 * rng.standard_normal(samples)).astype(np.float32), clean.astype(np.float32)


def _beside(path, card, form, holder, degraded, clean):
    """What Keras makes of a pair, a list of arrays, and a function that asks the file."""
    if form.kind == "network":
        frames = holder.config.frames(len(degraded))
        given = {tensor.name: _given(tensor, frames) for tensor in form.model.inputs}
        ours = forms.named(form.model, form.model([given[tensor.name] for tensor in form.model.inputs], training=False))
        run = formats.run(path, card["format"])
        return [np.asarray(value) for value in ours.values()], lambda: [run(given)[name] for name in ours]
    if form.kind == "step":
        stream = running.ExportedStream(path, card)
        return holder.enhance([degraded]), lambda: [np.concatenate([stream.process(degraded), stream.flush()])]
    run = formats.run(path, card["format"])
    if "score" in card["outputs"]:
        given = {name: {"degraded": degraded, "clean": clean}[name][None] for name in card["inputs"]}
        return [np.array([holder.predict_waves([(degraded, clean)])])], lambda: [run(given)["score"]]
    return holder.enhance([degraded]), lambda: [run({"noisy": degraded[None]})["enhanced"][0]]


def _given(tensor, frames):
    """An input of a network: positive numbers for a magnitude or a spectrum, and every frame is speech."""
    shape = [1, *(frames if size is None else size for size in tensor.shape[1:])]
    if tensor.dtype == "bool":
        return np.ones(shape, bool)
    return np.abs(np.random.default_rng(1).standard_normal(shape)).astype(np.float32)
