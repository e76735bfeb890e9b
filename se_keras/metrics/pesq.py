"""PESQ (ITU-T P.862) on its three scales, measured by the `pesq` package.

The package returns the MOS-LQO of P.862.1 (narrow band) or P.862.2 (wide band); the raw P.862 score, the letter's scale, is
recovered by the inverse mapping of P.862.1.
"""

import numpy as np

from se_keras.metrics.base import MetricError, validate

RAW_RANGE = (-0.5, 4.5)  # of 4.5 - 0.1 d_sym - 0.0309 d_asym, P.862; 4.5 for identical signals

# MOS-LQO = LOW + (HIGH - LOW) / (1 + exp(slope * raw + offset)). LOW, HIGH and NB: ITU-T P.862.1 (11/2003), equation 1;
# WB: ITU-T P.862.2 (11/2007), equation 1.
LOW, HIGH = 0.999, 4.999
NB = (-1.4945, 4.6607)
WB = (-1.3669, 3.8224)

# The package writes past its tables after 50 utterances (MAXNUTTERANCES in its pesq.h): it crashes or, worse, returns a wrong
# number. An utterance is a stretch of speech between pauses above 0.2 s; 50 in a minute is more than anyone speaks.
MAX_DURATION_S = 60
SAMPLE_RATE = 16_000  # Hz


def raw_to_nb(raw):
    """MOS-LQO of P.862.1 of a raw P.862 score; number or array. 4.5 gives 4.5486, -0.5 gives 1.0168."""
    return _to_lqo(raw, NB)


def raw_to_wb(raw):
    """MOS-LQO of P.862.2 of a raw wide-band score; number or array. 4.5 gives 4.6439, -0.5 gives 1.0427."""
    return _to_lqo(raw, WB)


def nb_to_raw(lqo):
    """Raw P.862 score of a narrow-band MOS-LQO: the inverse of P.862.1. Number or array.

    Raises:
        ValueError: a value outside the mapping's open range (0.999, 4.999).
    """
    lqo = np.asarray(lqo, np.float64)
    if not np.all((lqo > LOW) & (lqo < HIGH)):
        raise ValueError(f"MOS-LQO of P.862.1 lies between {LOW} and {HIGH}, found {lqo}")
    slope, offset = NB
    raw = (np.log((HIGH - lqo) / (lqo - LOW)) - offset) / slope
    return float(raw) if raw.ndim == 0 else raw


def _to_lqo(raw, mapping):
    slope, offset = mapping
    lqo = LOW + (HIGH - LOW) / (1 + np.exp(slope * np.asarray(raw, np.float64) + offset))
    return float(lqo) if lqo.ndim == 0 else lqo


def pesq_nb(reference, degraded):
    """Narrow-band PESQ, MOS-LQO of P.862.1, of 16 kHz signals `(samples,)`; level and delay do not matter.

    Raises:
        MetricError: what `validate` refuses, under a quarter second, over a minute, or no speech to be found.
    """
    return _pesq(reference, degraded, "nb")


def pesq_wb(reference, degraded):
    """Wide-band PESQ, MOS-LQO of P.862.2; otherwise as `pesq_nb`."""
    return _pesq(reference, degraded, "wb")


def pesq_raw(reference, degraded):
    """Narrow-band PESQ on the raw scale of P.862, about -0.5 to 4.5; otherwise as `pesq_nb`."""
    return nb_to_raw(pesq_nb(reference, degraded))


def _pesq(reference, degraded, band):
    from pesq import BufferTooShortError, NoUtterancesError, PesqError, pesq

    validate(reference, degraded)
    if len(reference) > MAX_DURATION_S * SAMPLE_RATE:
        raise MetricError(f"longer than {MAX_DURATION_S} s, which PESQ does not measure: cut it into pieces")
    try:
        return float(pesq(SAMPLE_RATE, np.asarray(reference), np.asarray(degraded), band))
    except NoUtterancesError:
        raise MetricError("PESQ finds no speech (NoUtterancesError)") from None
    except BufferTooShortError:
        raise MetricError("shorter than 1/4 s (BufferTooShortError)") from None
    except (PesqError, ValueError) as error:  # ValueError: a signal so faint that the package's level alignment gives NaN
        raise MetricError(f"PESQ refuses the pair ({type(error).__name__})") from None
