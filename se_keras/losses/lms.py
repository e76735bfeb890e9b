"""Log-mel spectral distance (LMS) on three scales, from "DCCRN with various loss functions"; docs/errata.md names what its code does."""

import numpy as np
from keras import ops

from se_keras.errors import UserError

SCALES = (16, 32, 64)  # mel bands
_FLOOR = 1e-7


def mel_bands(bands, bins=257):
    """Triangles of equal spacing on the mel scale from 0 to 8 kHz, not normalised: float32 `(bins, bands)`.

    mel = 1127.01048 ln(1 + f / 700). Corners fall on bin floor(bins f / 8000), f held in float32 as in the reference code: in float64
    some lie one bin off.
    """
    top = 1127.01048 * np.log(1 + 8000 / 700)
    mel = np.linspace(0, top, bands + 2).astype(np.float32)
    hz = (700 * (np.exp(mel / np.float32(1127.01048)) - 1)).astype(np.float32)
    corners = np.floor(np.float32(bins) * hz / np.float32(8000)).astype(int)
    number = np.arange(bins)[:, None]
    start, middle, end = corners[:-2], corners[1:-1], corners[2:]
    rising = (number - start) / np.maximum(middle - start, 1)
    falling = 1 - (number - middle) / np.maximum(end - middle, 1)
    falling = np.where((number >= middle) & (number < end), falling, 0)
    return np.where((number >= start) & (number < middle), rising, falling).astype(np.float32)


def lms(clean, enhanced, frame_mask, order="frames"):
    """Root mean squared difference of log mel spectra, averaged over frames and over `SCALES`.

    Args:
        clean, enhanced: magnitudes, float32 `(batch, frames, bins)`, >= 0.
        frame_mask: bool `(batch, frames)`.
        order: "frames": mel spectra are those of frames. "memory": as in the reference code, which reads the (bins, frames) array row by
            row in memory: a "spectrum" there is 257 values that follow each other in time. It knows no padding: whole batches alone.

    Returns:
        float32 `(batch,)`, >= 0.

    Raises:
        UserError: another order.
    """
    bins = clean.shape[-1]
    valid = ops.cast(frame_mask, "float32")
    if order == "memory":
        clean, enhanced = (ops.reshape(ops.transpose(x, (0, 2, 1)), ops.shape(x)) for x in (clean, enhanced))
    elif order != "frames":
        raise UserError(f"unknown order of lms {order!r}; known: frames, memory")
    total = 0.0
    for bands in SCALES:
        matrix = mel_bands(bands, bins) / (2 * (bins - 1))
        c, e = (ops.log(ops.matmul(x, matrix) + _FLOOR) for x in (clean, enhanced))
        distance = ops.sqrt(ops.mean(ops.square(c - e), axis=-1) + _FLOOR)
        total = total + ops.sum(distance * valid, axis=1) / ops.maximum(ops.sum(valid, axis=1), 1.0)
    return total / len(SCALES)
