"""The hearing model: magnitudes in; loudness, disturbance and a score out. Follows ITU-T P.862 and P.862.2, without time alignment.

Step numbers are those of docs/hearing.md. All functions are `keras.ops`, masked and free of the signals' levels. R is the reference
(clean), D the degraded signal; powers and loudnesses are float32 `(batch, frames, 49)`.
"""

from typing import NamedTuple

import numpy as np
from keras import ops

from se_keras.errors import check_choice
from se_keras.hearing import bark
from se_keras.signals.stft import Stft

CONFIG = Stft()  # the STFT that it hears: 512/256 at 16 kHz
BANDS = ("nb", "wb")  # narrow band (P.862, through a telephone handset), wide band (P.862.2)

WINDOW_POWER = 2.51635879  # 1 / mean(window^2) of the periodic Hamming window

_LEVEL = 1e7  # standard listening level of 350 to 3250 Hz
_LEVEL_BINS = np.zeros(bark.BINS, np.float32)
_LEVEL_BINS[11:105] = [0.4, *[1.0] * 92, 0.5]
_TINY = 1e-10  # of a level: digital silence stays silence

# Intermediate reference system, receiving side: (Hz, dB). Its 12 dB at 1 kHz are no change of level and are taken off.
_HANDSET = ((0, -200), (50, -40), (100, -20), (125, -12), (160, -6), (200, 0), (250, 4), (300, 6), (350, 8), (400, 10), (500, 11),
            (600, 12), (3250, 12), (3500, 4), (4000, -200), (8000, -200))
_HANDSET_GAIN_DB = 12


def _tensor(table):
    """A table as the backend's: PyTorch takes no NumPy array beside a tensor of its own."""
    return ops.convert_to_tensor(table, "float32")


def response_of(band):
    """Power response that a signal goes through before the ear, float32 `(257,)` (step 2).

    Args:
        band: "nb": a telephone handset; "wb": P.862.2's high-pass; None: nothing.
    """
    hz = np.linspace(0, 8000, bark.BINS)
    if band is None:
        return np.ones(bark.BINS, np.float32)
    check_choice("band", band, BANDS)
    if band == "nb":
        return (10 ** ((np.interp(hz, *zip(*_HANDSET, strict=True)) - _HANDSET_GAIN_DB) / 10)).astype(np.float32)
    z = np.exp(-2j * np.pi * hz / 16_000)
    high_pass = 2.740826 * (1 - 2 * z + z ** 2) / (1 - 1.9444777 * z + 0.94597794 * z ** 2)
    return (np.abs(high_pass) ** 2).astype(np.float32)


class Heard(NamedTuple):
    """What the front end makes of a pair, each float32 `(batch, frames, 49)` but the last."""

    reference: object  # loudness in sone
    degraded: object
    symmetric: object  # disturbance: what differs
    asymmetric: object  # what was added, weighted up; what was left out counts nothing
    audible: object  # audible power of the reference, `(batch, frames)`


def bark_power(magnitude, frame_mask, response, window_power=WINDOW_POWER, constant=False):
    """Bark power at the standard listening level (steps 1 to 3), float32 `(batch, frames, 49)`.

    Args:
        magnitude: float32 `(batch, frames, 257)`, any scale.
        frame_mask: bool `(batch, frames)`.
        response: power response in front of the ear, float32 `(257,)` (`response_of`).
        window_power: of the STFT's window, 1 / mean(window^2).
        constant: whether the constant part is heard (`bark.matrix`).
    """
    valid = ops.expand_dims(ops.cast(frame_mask, "float32"), -1)
    power = ops.square(magnitude) * valid
    frames = ops.maximum(ops.sum(valid, axis=(1, 2), keepdims=True), 1.0)
    size = CONFIG.n_fft
    level = ops.sum(power * _tensor(_LEVEL_BINS), axis=(1, 2), keepdims=True) / (frames * bark.BINS)
    level = level * (window_power * (size + 2) / size ** 2)
    return ops.matmul(power / ops.maximum(level, _TINY) * _tensor(_LEVEL * response), bark.matrix(constant))


def audible_power(power, factor=1.0):
    """Sum of the bands that lie above `factor` times the threshold of hearing, `(batch, frames, 1)`."""
    return ops.sum(ops.where(power > _tensor(factor * bark.THRESHOLD), power, 0.0), axis=-1, keepdims=True)


def equalisation(reference, degraded):
    """Gain of each band, `(batch, 1, 49)`, that gives the reference the degraded signal's long-term spectrum, within 20 dB (step 4)."""
    active = audible_power(reference, 100.0) >= _LEVEL
    of_reference, of_degraded = (
        ops.sum(ops.where(ops.logical_and(active, power > _tensor(100 * bark.THRESHOLD)), power, 0.0), axis=1, keepdims=True)
        for power in (reference, degraded))
    return ops.clip((of_degraded + 1000) / (of_reference + 1000), 0.01, 100.0)


def gain(reference, degraded):
    """Gain of each frame, `(batch, frames, 1)`, that gives the degraded signal the reference's audible power, smoothed (step 5)."""
    raw = (audible_power(reference) + 5000) / (audible_power(degraded) + 5000)
    memory = 8  # s_t = 0.8 g_t + 0.2 s_(t-1), s_(-1) = 1, cut where 0.2^n is below float32's resolution of 1
    padded = ops.concatenate([ops.ones_like(raw[:, :1])] * memory + [raw], axis=1)
    count = ops.shape(raw)[1]
    smooth = sum(0.8 * 0.2 ** back * padded[:, memory - back:memory - back + count] for back in range(memory))
    return ops.clip(smooth + 0.2 ** memory, 3e-4, 5.0)


def loudness(power):
    """Zwicker's loudness in sone, 0 below the threshold of hearing (step 6)."""
    above = ops.maximum(power / _tensor(bark.THRESHOLD), 1.0)
    scale = bark.LOUDNESS_SCALE * np.power(2 * bark.THRESHOLD, bark.EXPONENT)
    return _tensor(scale) * (ops.power(0.5 + 0.5 * above, _tensor(bark.EXPONENT)) - 1)


def hear(reference, degraded, frame_mask, band="nb", through_equalisation=True):
    """The front end: loudness of both, disturbance per band (steps 1 to 6).

    Args:
        reference, degraded: magnitudes, float32 `(batch, frames, 257)`, >= 0, of the STFT `CONFIG`. What stands on padding is not heard.
        frame_mask: bool `(batch, frames)`.
        band: "nb" or "wb"; None hears all without a filter.
        through_equalisation: whether gradients go through both equalisations. Without, an enhancer is not paid for a change of level or
            colour that the equalisations take back.

    Returns:
        `Heard`. Padding frames are silent.
    """
    reference, degraded = (bark_power(magnitude, frame_mask, response_of(band)) for magnitude in (reference, degraded))
    kept = (lambda x: x) if through_equalisation else ops.stop_gradient
    reference = reference * kept(equalisation(reference, degraded))
    degraded = degraded * kept(gain(reference, degraded))
    heard, of_degraded = loudness(reference), loudness(degraded)
    symmetric = disturbance(heard, of_degraded)
    return Heard(heard, of_degraded, symmetric, symmetric * asymmetry(reference, degraded), audible_power(reference)[..., 0])


def disturbance(reference, degraded):
    """How far two loudnesses lie apart, beyond a dead zone of a quarter of the lesser (step 6)."""
    return ops.maximum(ops.abs(degraded - reference) - 0.25 * ops.minimum(degraded, reference), 0.0)


def asymmetry(reference, degraded):
    """Weight of what was added: ((D + 50) / (R + 50))^1.2 of powers, 0 below 3, 12 at most (step 6)."""
    ratio = ops.power((degraded + 50) / (reference + 50), 1.2)
    return ops.where(ratio < 3, 0.0, ops.minimum(ratio, 12.0))


def of_frames(heard):
    """Symmetric and asymmetric disturbance of frames, float32 `(batch, frames)` each, 45 at most (step 6)."""
    symmetric = ops.sqrt(ops.sum(ops.square(heard.symmetric * _tensor(bark.WIDTH)), axis=-1) * float(bark.WIDTH.sum()) + 1e-8)
    asymmetric = ops.sum(heard.asymmetric * _tensor(bark.WIDTH), axis=-1)
    weight = ops.power((heard.audible + 1e5) / _LEVEL, 0.04)
    return tuple(ops.minimum(value / weight, 45.0) for value in (symmetric, asymmetric))


def over_time(disturbance, frame_mask):
    """Disturbance of an utterance, float32 `(batch,)`: L6 over groups of 20 frames, every 10, L2 over groups (step 7)."""
    count = ops.shape(disturbance)[1]
    sixth = ops.power(disturbance, 6) * ops.cast(frame_mask, "float32")
    blocks = (count + 9) // 10
    padded = ops.pad(ops.stack([sixth, ops.cast(frame_mask, "float32")], axis=-1), [(0, 0), (0, blocks * 10 - count + 10), (0, 0)])
    of_blocks = ops.sum(ops.reshape(padded, (-1, blocks + 1, 10, 2)), axis=2)
    groups = of_blocks[:, :-1] + of_blocks[:, 1:]  # 20 frames each; the last ones of an utterance hold fewer
    held = ops.cast(of_blocks[:, :-1, 1] > 0, "float32")
    mean = ops.power(groups[..., 0] / 20 + 1e-6, 1 / 6)
    return ops.sqrt(ops.sum(ops.square(mean) * held, axis=1) / ops.maximum(ops.sum(held, axis=1), 1.0) + 1e-12)


def score(heard, frame_mask):
    """The model's estimate of a raw P.862 score, float32 `(batch,)`, 4.5 for equal signals (step 8)."""
    symmetric, asymmetric = (over_time(value, frame_mask) for value in of_frames(heard))
    return 4.5 - 0.1 * symmetric - 0.0309 * asymmetric


def mos_lqo_wb(raw):
    """P.862.2's mapping of a raw score to MOS-LQO: 0.999 + 4 / (1 + exp(-1.3669 raw + 3.8224))."""
    return 0.999 + 4 / (1 + ops.exp(3.8224 - 1.3669 * raw))
