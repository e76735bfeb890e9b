"""Level and compression of magnitude spectrograms, in `keras.ops`: what features and losses have in common."""

from keras import ops

from se_keras.errors import check_choice

COMPRESSIONS = ("magnitude", "log1p", "log", "root")
LOG_FLOOR = 1e-2  # of the "log" compression, relative to the RMS magnitude: 40 dB below it


def compress(magnitude, how):
    """A level-normalised magnitude (RMS 1) on a scale nearer to loudness.

    Args:
        magnitude: float, any shape, >= 0.
        how: "magnitude" (as it is), "log1p" ln(1 + x), "log" ln(x + 0.01), or "root" (x + 1e-4)^0.3.
    """
    check_choice("compression", how, COMPRESSIONS)
    if how == "magnitude":
        return magnitude
    if how == "log1p":
        return ops.log1p(magnitude)
    if how == "log":
        return ops.log(magnitude + LOG_FLOOR)
    return ops.power(magnitude + 1e-4, 0.3)


def rms_level(magnitude, frame_mask):
    """RMS of a magnitude spectrogram over an utterance's own frames.

    Args:
        magnitude: float32 `(batch, frames, bins)`.
        frame_mask: bool `(batch, frames)`.

    Returns:
        float32 `(batch, 1, 1)`; 1 for digital silence, so that dividing by it is always safe.
    """
    valid = ops.expand_dims(ops.cast(frame_mask, magnitude.dtype), -1)
    count = ops.maximum(ops.sum(valid, axis=(1, 2), keepdims=True), 1.0) * magnitude.shape[-1]
    level = ops.sqrt(ops.sum(ops.square(magnitude) * valid, axis=(1, 2), keepdims=True) / count)
    return ops.where(level > 0, level, ops.ones_like(level))
