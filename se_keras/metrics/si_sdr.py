"""Scale-invariant signal-to-distortion ratio."""

import numpy as np

from se_keras.metrics.base import validate


def si_sdr(reference, degraded):
    """SI-SDR in dB of signals `(samples,)`, without removing means: with s the reference and x the degraded signal,

    alpha = <s, x> / <s, s>,  SI-SDR = 10 log10(|alpha s|^2 / |x - alpha s|^2).

    Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019. Infinite where x is s up to a gain.

    Raises:
        MetricError: what `validate` refuses.
    """
    validate(reference, degraded)
    s, x = np.asarray(reference, np.float64), np.asarray(degraded, np.float64)
    target = np.dot(s, x) / np.dot(s, s) * s
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(np.sum(target**2) / np.sum((x - target) ** 2)))
