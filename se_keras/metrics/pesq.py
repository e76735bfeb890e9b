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

# Raw wide-band score that goes with a raw narrow-band one: medians over 2,500 rows (500 validation mixtures of LibriSpeech with pink noise
# and a chainsaw, -10 to 10 dB, as they are and enhanced four ways), and the perfect score. Between the points it is a line.
USUAL_NB = (-0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.5)
USUAL_WB = (-0.95, -0.93, -0.91, -0.72, -0.17, 0.63, 1.42, 2.09, 2.63, 4.5)
# 2,497 of these rows lie within 1.36 of that line (standard deviation 0.29), the other three, all at -10 dB, 1.98 to 4.68 beside it. Of 300
# training mixtures with ten other noises, and 120 mixtures at 15 to 40 dB, none lies further than 1.58 from it.
CONTRADICTION = 1.7

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


def wb_to_raw(lqo):
    """Raw wide-band score of a MOS-LQO of P.862.2: the inverse of `raw_to_wb`. Number or array, in the open range (0.999, 4.999)."""
    slope, offset = WB
    lqo = np.asarray(lqo, np.float64)
    raw = (np.log((HIGH - lqo) / (lqo - LOW)) - offset) / slope
    return float(raw) if raw.ndim == 0 else raw


def contradict(raw, wb):
    """Whether narrow-band and wide-band PESQ of one pair cannot both be right: bool, number or array; False where either is missing.

    PESQ aligns the two signals in time, piece by piece, before it compares them, and in much noise may align them wrongly: then one of the
    two scores is of another sentence than the other. Both rise and fall together, so a score that lies far from where the other one puts
    it (`CONTRADICTION` on the raw scale of -0.5 to 4.5) has gone wrong. Which of them has, this does not tell.

    Args:
        raw: raw P.862 score.
        wb: MOS-LQO of P.862.2.
    """
    raw, wb = (np.asarray(values, np.float64) for values in (raw, wb))
    with np.errstate(invalid="ignore", divide="ignore"):
        away = np.abs(np.asarray(wb_to_raw(wb)) - np.interp(raw, USUAL_NB, USUAL_WB))
        found = np.isfinite(raw) & np.isfinite(wb) & (away > CONTRADICTION)
    return bool(found) if found.ndim == 0 else found


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
