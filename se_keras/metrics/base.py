"""What every metric shares: the checks before it, and the error of a pair that has no score."""

import numpy as np


class MetricError(ValueError):
    """A pair of signals that has no score; the message is the reason, the same text for every pair with the same fault."""


def validate(reference, degraded):
    """Check what every metric asks of its two signals.

    Args:
        reference, degraded: float `(samples,)` at 16 kHz, full scale at 1.0.

    Raises:
        MetricError: not two one-dimensional signals of one length above 0, NaN or infinite samples, or digital silence in
            either: against silence PESQ, STOI and SI-SDR are all undefined.
    """
    if np.ndim(reference) != 1 or np.ndim(degraded) != 1:
        raise MetricError("reference and degraded signal must be mono, of shape (samples,)")
    if len(reference) != len(degraded):
        raise MetricError("reference and degraded signal differ in length")
    for name, wave in (("reference", reference), ("degraded", degraded)):
        if not np.isfinite(wave).all():
            raise MetricError(f"NaN or infinite samples in the {name} signal")
        if not np.any(wave):
            raise MetricError(f"the {name} signal is digital silence" if len(wave) else f"the {name} signal is empty")
