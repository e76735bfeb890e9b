"""Scale-invariant signal-to-noise ratio as a loss: in dB, negative, one value an utterance (Luo and Mesgarani 2018)."""

import math

from keras import ops

FLOOR = 1e-8  # added to energies: finite values and gradients at digital silence


def si_sdr(clean, enhanced, own):
    """-SI-SDR in dB: of the signals as they are, without taking their means away.

    With a = <enhanced, clean> / <clean, clean>: 10 log10(|a clean|^2 / |enhanced - a clean|^2) (Le Roux et al. 2019, equation 5), its
    negative. A gain of `enhanced` changes nothing.

    Args:
        clean, enhanced: float32 `(batch, samples)`, zero beyond an utterance's own samples.
        own: mask of an utterance's own samples, bool `(batch, samples)`.

    Returns:
        float32 `(batch,)`, in dB; about +80 - 10 log10 of the energy where one of them is silent.
    """
    valid = ops.cast(own, clean.dtype)
    clean, enhanced = clean * valid, enhanced * valid
    scale = (ops.sum(enhanced * clean, axis=1, keepdims=True) + FLOOR) / (ops.sum(ops.square(clean), axis=1, keepdims=True) + FLOOR)
    target = scale * clean
    signal, rest = (ops.sum(ops.square(part), axis=1) + FLOOR for part in (target, enhanced - target))
    return -10 / math.log(10) * (ops.log(signal) - ops.log(rest))


def si_snr(clean, enhanced, own):
    """-SI-SNR in dB: as `si_sdr`, of the signals without their means, each taken over an utterance's own samples."""
    valid = ops.cast(own, clean.dtype)
    count = ops.maximum(ops.sum(valid, axis=1, keepdims=True), 1.0)
    clean, enhanced = ((wave - ops.sum(wave * valid, axis=1, keepdims=True) / count) * valid for wave in (clean, enhanced))
    return si_sdr(clean, enhanced, own)
