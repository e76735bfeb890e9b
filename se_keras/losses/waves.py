"""Distances of waves as they are: neither forgives a gain."""

import math

from keras import ops

from se_keras.losses.si_snr import FLOOR


def mse_wave(clean, enhanced, own):
    """Mean squared error of waves, over an utterance's own samples.

    Args:
        clean, enhanced: float32 `(batch, samples)`, zero beyond an utterance's own samples.
        own: mask of an utterance's own samples, bool `(batch, samples)`.

    Returns:
        float32 `(batch,)`, >= 0.
    """
    valid = ops.cast(own, clean.dtype)
    return ops.sum(ops.square(clean - enhanced) * valid, axis=1) / ops.maximum(ops.sum(valid, axis=1), 1.0)


def sdr(clean, enhanced, own):
    """-SDR in dB: 10 log10(|clean|^2 / |enhanced - clean|^2), its negative.

    The DCCRN study's code squares both energies and gets twice this (docs/errata.md).

    Args, and what is returned where one is silent: as `si_snr.si_sdr`.
    """
    valid = ops.cast(own, clean.dtype)
    signal, rest = (ops.sum(ops.square(part * valid), axis=1) + FLOOR for part in (clean, enhanced - clean))
    return -10 / math.log(10) * (ops.log(signal) - ops.log(rest))
