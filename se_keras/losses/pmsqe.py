"""PMSQE, a perceptual distance for training (Martin-Donas, Gomez, Gonzalez and Peinado, IEEE SPL 25, 2018)."""

from keras import ops

from se_keras.hearing import bark
from se_keras.hearing.model import WINDOW_POWER, asymmetry, audible_power, bark_power, disturbance, loudness, response_of

_EPSILON = 1e-8  # under the square root, and for the dead zone's zero: as in the public ports


def pmsqe(clean, enhanced, frame_mask, window_power=WINDOW_POWER):
    """PMSQE as published: no handset, the degraded side equalised in frequency, no smoothing of the gain, the plain mean over frames.

    Args:
        clean, enhanced: magnitudes of the 512/256 STFT at 16 kHz, float32 `(batch, frames, 257)`, >= 0.
        frame_mask: bool `(batch, frames)`.
        window_power: 1 / mean(window^2) of the STFT's window.

    Returns:
        float32 `(batch,)`, >= 0: 0.1 (d_s + 0.309 d_a), meant over an utterance's own frames.
    """
    reference, degraded = (bark_power(magnitude, frame_mask, response_of(None), window_power, constant=True)
                           for magnitude in (clean, enhanced))
    cells = ops.logical_and(audible_power(reference, 100.0) >= 1e7, reference >= 100 * bark.THRESHOLD)  # of the reference, for both
    of_reference, of_degraded = (ops.sum(ops.where(cells, power, 0.0), axis=1, keepdims=True) for power in (reference, degraded))
    degraded = degraded * ops.clip((of_reference + 1000) / (of_degraded + 1000), 0.01, 100.0)
    audible = audible_power(reference)
    degraded = degraded * ops.clip((audible + 5000) / (audible_power(degraded) + 5000), 3e-4, 5.0)
    symmetric = disturbance(loudness(reference), loudness(degraded))
    asymmetric = symmetric * asymmetry(reference, degraded)
    weight = ops.power((audible[..., 0] + 1e5) / 1e7, 0.04)
    width = bark.WIDTH
    d_s = ops.sqrt(ops.sum(ops.square(symmetric * width) + _EPSILON, axis=-1)) * float(width.sum()) ** 0.5
    d_a = ops.sum(asymmetric * width, axis=-1)
    frames = 0.1 * (ops.minimum(d_s / weight, 45.0) + 0.309 * ops.minimum(d_a / weight, 45.0))
    valid = ops.cast(frame_mask, "float32")
    return ops.sum(frames * valid, axis=1) / ops.maximum(ops.sum(valid, axis=1), 1.0)
