"""Distances of a mask from the ideal binary mask (Wang 2005): one value an utterance, padding left out.

The mask is 1 where speech prevails. By a local criterion, in dB, where |S|^2 / |N|^2 of a bin is above it, with N = Y - S; by a ratio,
where |Re S| / |Re Y| is at least that, as in Doyosae/Speech_Enhancement (docs/errata.md).

Keras is imported when a term is evaluated, not before: an option can be checked without it.
"""

import re

import numpy as np

from se_keras.errors import UserError

_NUMBER = r"(?:\d+\.?\d*|\.\d+)"
_SMALLEST_REAL_PART = 1e-8  # eps of the ratio: digital silence is no speech
_SMOOTH = 1.0  # of the Dice coefficient
_NEAREST = 1e-7  # a mask's distance from 0 and 1 in the logarithms


def check(criterion):
    """(kind, value) of a criterion: ("db", -5.0) of "-5dB", ("ratio", 0.8) of "ratio0.8"; the option of the terms here.

    Raises:
        UserError: anything else.
    """
    if (found := re.fullmatch(rf"([+-]?{_NUMBER})dB", criterion)) and abs(float(found[1])) <= 100:
        return "db", float(found[1])
    if (found := re.fullmatch(rf"ratio({_NUMBER})", criterion)) and float(found[1]) > 0:
        return "ratio", float(found[1])
    raise UserError(f"criterion {criterion!r} of an ideal binary mask: expected a local SNR within 100 dB, such as 0dB or -5dB, or a ratio "
                    "above 0, such as ratio0.5")


def ideal_binary_mask(clean, noisy, criterion="0dB"):
    """The ideal binary mask.

    Args:
        clean, noisy: spectra, float32 `(..., 2)`, NumPy arrays or tensors of the backend.
        criterion: "0dB", "-5dB", ...: 1 where the local SNR is above that; or "ratio0.5", ...: 1 where |Re S| / (1e-8 + |Re Y|) is at
            least that.

    Returns:
        float32 `(...)`, 0 or 1, of the kind of `clean`; 0 at digital silence.

    Raises:
        UserError: another criterion.
    """
    kind, value = check(criterion)
    if kind == "db":
        noise = noisy - clean
        speech_power, noise_power = (x[..., 0] * x[..., 0] + x[..., 1] * x[..., 1] for x in (clean, noise))
        ideal = speech_power > 10 ** (value / 10) * noise_power
    else:
        ideal = abs(clean[..., 0]) >= value * (_SMALLEST_REAL_PART + abs(noisy[..., 0]))
    if isinstance(ideal, np.ndarray):
        return ideal.astype(np.float32)
    from keras import ops

    return ops.cast(ideal, "float32")


def ibm_bce(clean, mask, frame_mask, noisy, criterion="0dB"):
    """Binary cross-entropy of a mask and the ideal binary mask, in nats, averaged over bins and an utterance's own frames.

    Args:
        clean, noisy: spectra, float32 `(batch, frames, bins, 2)`.
        mask: float32 `(batch, frames, bins)`; what lies outside [0, 1] counts as 0 or 1.
        frame_mask: bool `(batch, frames)`.
        criterion: as `ideal_binary_mask`.

    Returns:
        float32 `(batch,)`, >= 0.
    """
    from keras import ops

    ideal, given = ideal_binary_mask(clean, noisy, criterion), ops.clip(mask, _NEAREST, 1 - _NEAREST)
    return _mean(-(ideal * ops.log(given) + (1 - ideal) * ops.log(1 - given)), frame_mask)


def ibm_mse(clean, mask, frame_mask, noisy, criterion="0dB"):
    """Mean squared error of a mask from the ideal binary mask; arguments and value as `ibm_bce`."""
    difference = mask - ideal_binary_mask(clean, noisy, criterion)
    return _mean(difference * difference, frame_mask)


def ibm_bce_dice(clean, mask, frame_mask, noisy, criterion="0dB"):
    """`ibm_bce` plus 1 - Dice; arguments as `ibm_bce`. Dice = (2 sum(I M) + 1) / (sum(I) + sum(M) + 1) over an utterance's own frames."""
    from keras import ops

    ideal = ideal_binary_mask(clean, noisy, criterion)
    common, ideal_size, size = (_sum(x, frame_mask) for x in (ideal * mask, ideal, ops.convert_to_tensor(mask)))
    dice = (2 * common + _SMOOTH) / (ideal_size + size + _SMOOTH)
    return ibm_bce(clean, mask, frame_mask, noisy, criterion) + 1 - dice


def _sum(x, frame_mask):
    """Sum over bins and an utterance's own frames, float32 `(batch,)`."""
    from keras import ops

    return ops.sum(ops.where(frame_mask[..., None], x, 0.0), axis=(1, 2))


def _mean(x, frame_mask):
    """`_sum` over as many values."""
    from keras import ops

    return _sum(x, frame_mask) / ops.maximum(ops.sum(ops.cast(frame_mask, "float32"), axis=1) * x.shape[-1], 1.0)
