"""Spectral distances: one value an utterance, padding left out."""

from keras import ops

from se_keras.signals.magnitudes import compress, rms_level


def mse(clean, enhanced, frame_mask, noisy, compression="log1p"):
    """Mean squared error of compressed magnitudes over an utterance's own frames.

    All three are divided by the level of the noisy speech (all that the enhancer knows), so a loud recording weighs no more than a
    quiet one.

    Args:
        clean, enhanced: magnitudes, float32 `(batch, frames, bins)`, >= 0.
        frame_mask: bool `(batch, frames)`.
        noisy: magnitude, likewise.
        compression: the scale on which errors are squared, one of `signals.magnitudes.COMPRESSIONS`; "magnitude" is the letter's MSE.

    Returns:
        float32 `(batch,)`, >= 0.
    """
    level = rms_level(noisy, frame_mask)
    error = ops.square(compress(enhanced / level, compression) - compress(clean / level, compression))
    valid = ops.cast(frame_mask, error.dtype)
    return ops.sum(ops.mean(error, axis=-1) * valid, axis=-1) / ops.maximum(ops.sum(valid, axis=-1), 1.0)
