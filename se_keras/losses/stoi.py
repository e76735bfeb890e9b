"""Short-time objective intelligibility with a gradient (Taal et al. 2011; ESTOI: Jensen and Taal 2016), as a loss: 1 - STOI.

Computed at 16 kHz on the frames that STOI has at 10 kHz: 25.6 ms every 12.8 ms, bins of 19.5 Hz, third-octave bands up to 4.3 kHz.
"""

import numpy as np
from keras import ops

from se_keras.signals.stft import Stft, stft_ops

CONFIG = Stft(820, 205, "hann", 410, center=False)
FRAMES = 30  # of a segment: 384 ms
RANGE_DB = 40  # a frame that lies further below the loudest is silent, and taken out
CLIP_DB = -15  # lower bound of the signal-to-distortion ratio of a cell
_EPSILON = 1e-8


def third_octaves():
    """Sums of bins of STOI's 15 bands from 150 Hz on, float32 `(bins, 15)`."""
    hz = np.arange(CONFIG.bins) * 16_000 / CONFIG.n_fft
    bands = np.arange(15)
    low, high = (150 * 2 ** ((2 * bands + side) / 6) for side in (-1, 1))
    first, last = (np.argmin(np.abs(hz[:, None] - edge), axis=0) for edge in (low, high))
    return ((np.arange(len(hz))[:, None] >= first) & (np.arange(len(hz))[:, None] < last)).astype(np.float32)


def stoi(clean, enhanced, own):
    """1 - STOI, one value an utterance.

    Args:
        clean, enhanced: float32 `(batch, samples)` at 16 kHz, zero beyond an utterance's own samples.
        own: mask of an utterance's own samples, bool `(batch, samples)`.

    Returns:
        float32 `(batch,)`, 0 for equal signals; 1 where fewer than 30 frames are not silent.
    """
    x, y, held = _segments(clean, enhanced, own)
    scale = _norm(x) / _norm(y)
    y = ops.minimum(y * scale, x * (1 + 10 ** (-CLIP_DB / 20)))
    x, y = (_unit(segment - ops.mean(segment, axis=2, keepdims=True), axis=2) for segment in (x, y))
    return _one_minus_mean(ops.mean(ops.sum(x * y, axis=2), axis=-1), held)


def estoi(clean, enhanced, own):
    """1 - ESTOI, as `stoi`."""
    x, y, held = _segments(clean, enhanced, own)
    for axis in (2, 3):  # over time in each band, then over the bands of each frame
        x, y = (_unit(segment - ops.mean(segment, axis=axis, keepdims=True), axis=axis) for segment in (x, y))
    return _one_minus_mean(ops.sum(x * y, axis=(2, 3)) / FRAMES, held)


def _norm(x, axis=2):
    return ops.sqrt(ops.sum(ops.square(x), axis=axis, keepdims=True) + _EPSILON ** 2)


def _unit(x, axis):
    return x / _norm(x, axis)


def _one_minus_mean(values, held):
    held = ops.cast(held, "float32")
    return 1 - ops.sum(values * held, axis=1) / ops.maximum(ops.sum(held, axis=1), 1.0)


def _segments(clean, enhanced, own):
    """Third-octave envelopes of both in segments `(batch, segments, 30, 15)` without silent frames, and which segments there are."""
    spectra = [stft_ops(wave, CONFIG) for wave in (clean, enhanced)]
    energy = ops.sum(ops.square(spectra[0]), axis=(2, 3))
    samples = ops.sum(ops.cast(own, "int32"), axis=1, keepdims=True)
    positions = ops.arange(ops.shape(energy)[1])
    whole = (positions - CONFIG.padding // CONFIG.hop_length >= 0)
    inside = ops.logical_and(whole, positions * CONFIG.hop_length - CONFIG.padding + 410 <= samples)
    loudest = ops.max(ops.where(inside, energy, 0.0), axis=1, keepdims=True)
    kept = ops.logical_and(inside, energy > loudest * 10 ** (-RANGE_DB / 10))
    order = ops.argsort(ops.where(kept, positions, positions + ops.shape(energy)[1]), axis=1)  # heard frames first, in their order
    count = ops.sum(ops.cast(kept, "int32"), axis=1, keepdims=True)
    bands = [ops.sqrt(ops.matmul(ops.sum(ops.square(spectrum), axis=-1), third_octaves()) + _EPSILON) for spectrum in spectra]
    bands = [ops.take_along_axis(ops.pad(band, [(0, 0), (0, 0), (0, 0)]), ops.expand_dims(order, -1), axis=1) for band in bands]
    bands = [ops.pad(band, [(0, 0), (0, FRAMES - 1), (0, 0)]) for band in bands]
    frames = ops.shape(energy)[1]
    x, y = (ops.stack([band[:, lag:lag + frames] for lag in range(FRAMES)], axis=2) for band in bands)
    return x, y, positions + FRAMES <= count
