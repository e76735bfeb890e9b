"""Distances of power-compressed spectra: of magnitudes, and of real and imaginary parts."""

from keras import ops

EXPONENTS = {"paper": 0.3, "repository": 0.7}  # of the magnitude term
_PARTS = 0.3  # of real and imaginary parts: x |x|^-0.7
_SMALLEST_POWER = 1e-16  # of a bin, as there: a finite value and gradient at digital silence


def compressed(clean, enhanced, frame_mask, exponent="paper"):
    """70 times the mean squared error of compressed magnitudes, and 30 times that of real and of imaginary parts, compressed likewise.

    Both become |.|^0.3 ("paper"). TF-GridNet's repository compresses its magnitudes to |.|^0.7 instead ("repository"; docs/errata.md).
    Means are over an utterance's own frames and all bins. `compressed:1,si_sdr:0.1` is the published sum.

    Args:
        clean, enhanced: float32 `(batch, frames, bins, 2)`, as they are: the value depends on their level.
        frame_mask: bool `(batch, frames)`.
        exponent: one of `EXPONENTS`.

    Returns:
        float32 `(batch,)`, >= 0.
    """
    clean_size, size = (ops.sqrt(ops.sum(ops.square(spectrum), axis=-1, keepdims=True) + _SMALLEST_POWER) for spectrum in (clean, enhanced))
    power = EXPONENTS[exponent]
    of_magnitudes = ops.square(ops.power(size, power) - ops.power(clean_size, power))
    of_parts = ops.square(enhanced * ops.power(size, _PARTS - 1) - clean * ops.power(clean_size, _PARTS - 1))
    error = ops.mean(70 * of_magnitudes[..., 0] + 30 * ops.sum(of_parts, axis=-1), axis=-1)
    valid = ops.cast(frame_mask, error.dtype)
    return ops.sum(error * valid, axis=1) / ops.maximum(ops.sum(valid, axis=1), 1.0)
