"""Short-time objective intelligibility (STOI, ESTOI), measured by the `pystoi` package."""

import warnings

import numpy as np

from se_keras.metrics.base import MetricError, validate

SAMPLE_RATE = 16_000  # Hz
# STOI compares segments of 30 frames (256 samples, hop 128, at 10 kHz): what is shorter than one segment has no score.
MIN_SAMPLES = int((29 * 128 + 256) * SAMPLE_RATE / 10_000)
TOO_SHORT = "fewer than 30 frames of speech for STOI"


def stoi(reference, degraded):
    """STOI of 16 kHz signals `(samples,)`: a mean correlation, 0 to 1. Taal et al., IEEE TASLP 19(7), 2011.

    Raises:
        MetricError: what `validate` refuses, or fewer than 30 frames of speech (where the package would return 1e-5).
    """
    return _stoi(reference, degraded, extended=False)


def estoi(reference, degraded):
    """Extended STOI, for modulated noise. Jensen and Taal, IEEE/ACM TASLP 24(11), 2016; otherwise as `stoi`."""
    return _stoi(reference, degraded, extended=True)


def _stoi(reference, degraded, extended):
    from pystoi import stoi as measure

    validate(reference, degraded)
    if len(reference) < MIN_SAMPLES:
        raise MetricError(TOO_SHORT)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Not enough STFT frames", category=RuntimeWarning)
        try:
            return float(measure(np.asarray(reference), np.asarray(degraded), SAMPLE_RATE, extended=extended))
        except RuntimeWarning:
            raise MetricError(TOO_SHORT) from None
