"""CSIG, CBAK and COVL: what listeners would say of signal, background and whole, from PESQ and three measures of frames.

Hu and Loizou, "Evaluation of Objective Quality Measures for Speech Enhancement", IEEE TASLP 16(1), 2008. As in every table of
today, PESQ is wide-band MOS-LQO, not the raw score of 2008, and LLR is not cut at 2. LLR, WSS and segmental SNR are those of
the authors' MATLAB code, which reads samples as integers to 32,768: a floor in WSS knows the difference, so a port that is
handed floats up to 1 gives other numbers.

Digital silence in a part of a signal needs no special case: as in MATLAB, 2.2e-16 (of 32,768) is added to every sample. A silent
frame is then a constant under the window, which linear prediction can take: LLR is 0 between two silent frames, and about 20
where only the reference is silent.
"""

import functools

import numpy as np

from se_keras.metrics.base import MetricError, validate
from se_keras.metrics.pesq import pesq_wb

SAMPLE_RATE = 16_000  # Hz
FULL_SCALE = 32_768  # of a 16-bit sample
EPS = np.finfo(np.float64).eps
FRAME, HOP = 480, 120  # 30 ms, a quarter of it
WINDOW = 0.5 * (1 - np.cos(2 * np.pi * np.arange(1, FRAME + 1) / (FRAME + 1)))  # Hann, its ends not zero
KEPT = 0.95  # share of the frames, the best ones, that LLR and WSS average

LPC_ORDER = 16
SEG_SNR_RANGE = (-10.0, 35.0)  # dB

# WSS, Klatt, ICASSP 1982: centres and bandwidths of 25 critical bands, in Hz.
CENTRES = np.array([50, 120, 190, 260, 330, 400, 470, 540, 617.372, 703.378, 798.717, 904.128, 1020.38, 1148.30, 1288.72, 1442.54,
                    1610.70, 1794.16, 1993.93, 2211.08, 2446.71, 2701.97, 2978.04, 3276.17, 3597.63])
BANDWIDTHS = np.array([70, 70, 70, 70, 70, 70, 70, 77.3724, 86.0056, 95.3398, 105.411, 116.256, 127.914, 140.423, 153.823, 168.154,
                       183.457, 199.776, 217.153, 235.631, 255.255, 276.072, 298.126, 321.465, 346.136])
FFT = 1024
K_MAX, K_LOCAL = 20.0, 1.0  # weights of a band by its distance from the loudest band and from the nearest peak


def csig(reference, degraded):
    """CSIG, 1 to 5: how distorted the speech itself is, of 16 kHz signals `(samples,)`, full scale at 1.0.

    Raises:
        MetricError: what `pesq_wb` refuses.
    """
    return csig_of(pesq_wb(reference, degraded), llr(reference, degraded), wss(reference, degraded))


def cbak(reference, degraded):
    """CBAK, 1 to 5: how intrusive the background is; otherwise as `csig`."""
    return cbak_of(pesq_wb(reference, degraded), wss(reference, degraded), seg_snr(reference, degraded))


def covl(reference, degraded):
    """COVL, 1 to 5: overall quality; otherwise as `csig`."""
    return covl_of(pesq_wb(reference, degraded), llr(reference, degraded), wss(reference, degraded))


def csig_of(pesq, llr, wss):
    """CSIG of its three measures."""
    return _opinion(3.093 - 1.029 * llr + 0.603 * pesq - 0.009 * wss)


def cbak_of(pesq, wss, seg_snr):
    """CBAK of its three measures."""
    return _opinion(1.634 + 0.478 * pesq - 0.007 * wss + 0.063 * seg_snr)


def covl_of(pesq, llr, wss):
    """COVL of its three measures."""
    return _opinion(1.594 + 0.805 * pesq - 0.512 * llr - 0.007 * wss)


def _opinion(value):
    return min(max(value, 1.0), 5.0)


# --- Log-likelihood ratio --------------------------------------------------------------------------------------------------------


def llr(reference, degraded):
    """Log-likelihood ratio, from 0, lower is better; level does not matter. With a the prediction errors' filters, order 16,
    and R the reference's autocorrelation matrix, the mean over the best 95% of the frames of

    ln(a_degraded' R a_degraded / a_reference' R a_reference).

    Raises:
        MetricError: what `validate` refuses, or under 600 samples.
    """
    reference, degraded = _frames(reference, degraded)
    correlation = _autocorrelation(reference)
    lags = np.abs(np.subtract.outer(np.arange(LPC_ORDER + 1), np.arange(LPC_ORDER + 1)))
    matrix = correlation[:, lags]  # (frames, 17, 17)
    energies = [np.einsum("fi,fij,fj->f", a, matrix, a)
                for a in (_levinson_durbin(_autocorrelation(degraded)), _levinson_durbin(correlation))]
    return _mean_of_best(np.log(energies[0] / energies[1]))


def _autocorrelation(frames):
    """Lags 0 to 16 of frames `(frames, 480)`: `(frames, 17)`."""
    return np.stack([np.vecdot(frames[:, :FRAME - lag], frames[:, lag:]) for lag in range(LPC_ORDER + 1)], axis=1)


def _levinson_durbin(correlation):
    """Prediction-error filters `(frames, 17)`, the first coefficient 1, of autocorrelations `(frames, 17)`."""
    a = np.zeros_like(correlation)
    a[:, 0] = 1
    error = correlation[:, 0].copy()
    for order in range(1, LPC_ORDER + 1):
        reflection = -np.vecdot(a[:, :order], correlation[:, order:0:-1]) / error
        a[:, 1:order + 1] += reflection[:, None] * a[:, order - 1::-1]
        error *= 1 - reflection**2
    return a


# --- Weighted spectral slope -----------------------------------------------------------------------------------------------------


def wss(reference, degraded):
    """Weighted spectral slope distance (Klatt), from 0, lower is better: the mean over the best 95% of the frames of

    sum_b w_b (reference slope_b - degraded slope_b)^2 / sum_b w_b

    over the 24 slopes, in dB, between neighbouring critical bands; w: mean of the two signals' weights, see `_slopes`.

    Raises:
        MetricError: what `validate` refuses, or under 600 samples.
    """
    (slopes, weights), (other_slopes, other_weights) = map(_slopes, _frames(reference, degraded))
    weights = (weights + other_weights) / 2
    return _mean_of_best(np.sum(weights * (slopes - other_slopes) ** 2, axis=1) / np.sum(weights, axis=1))


def _slopes(frames):
    """Slopes in dB and weights, `(frames, 24)` each, of frames `(frames, 480)`.

    A weight is large in a band near the frame's loudest band, and near the peak of its own hill, in level:
    20 / (20 + loudest - level) * 1 / (1 + peak - level).
    """
    power = np.abs(np.fft.rfft(frames / FULL_SCALE, FFT)[:, :FFT // 2]) ** 2
    level_db = 10 * np.log10(np.maximum(power @ _critical_bands(), 1e-10))  # (frames, 25)
    slopes = np.diff(level_db)
    # The peak: from a rising slope to the right as long as slopes rise, from a falling one to the left as long as they fall.
    # MATLAB's walk to the right stops one band short of the summit, and so does every published number.
    band = np.arange(slopes.shape[1])
    rising = slopes > 0
    falls_at = np.minimum.accumulate(np.where(rising, len(band), band)[:, ::-1], axis=1)[:, ::-1]
    rose_at = np.maximum.accumulate(np.where(rising, band, -1), axis=1)
    peaks = np.take_along_axis(level_db, np.where(rising, falls_at - 1, rose_at + 1), axis=1)
    level, loudest = level_db[:, :-1], level_db.max(axis=1, keepdims=True)
    return slopes, K_MAX / (K_MAX + loudest - level) * K_LOCAL / (K_LOCAL + peaks - level)


@functools.cache
def _critical_bands():
    """Filters of the 25 bands over the bins below half the sampling rate, `(512, 25)`; zero below -28 dB of power."""
    bins = FFT // 2 / (SAMPLE_RATE / 2) * np.stack([CENTRES, BANDWIDTHS])  # in bins
    distance = (np.arange(FFT // 2)[:, None] - np.floor(bins[0])) / bins[1]
    filters = np.exp(-11 * distance**2) * BANDWIDTHS.min() / BANDWIDTHS
    return np.where(filters > np.exp(-30 / (2 * 2.303)), filters, 0)


# --- Segmental SNR, and what the three share -------------------------------------------------------------------------------------


def seg_snr(reference, degraded):
    """Segmental SNR in dB: the mean over the frames of 10 log10(|s|^2 / |s - x|^2), each cut to -10 to 35 dB. Level matters.

    Raises:
        MetricError: what `validate` refuses, or under 600 samples.
    """
    reference, degraded = _frames(reference, degraded)
    signal, noise = (np.vecdot(frames, frames) for frames in (reference, reference - degraded))
    return float(np.mean(np.clip(10 * np.log10(signal / (noise + EPS) + EPS), *SEG_SNR_RANGE)))


def _frames(reference, degraded):
    """Windowed frames of both signals, float64 `(frames, 480)`, full scale at 32,768.

    Their number is (samples - 480) // 120, as in MATLAB: where the last one would end with the signal, it is left out.
    """
    validate(reference, degraded)
    number = (len(reference) - FRAME) // HOP
    if number < 1:
        raise MetricError("shorter than 600 samples, two frames of LLR, WSS and segmental SNR")
    views = (np.lib.stride_tricks.sliding_window_view(FULL_SCALE * np.asarray(wave, np.float64) + EPS, FRAME)
             for wave in (reference, degraded))
    return [view[:number * HOP:HOP] * WINDOW for view in views]


def _mean_of_best(distances):
    return float(np.mean(np.sort(distances)[:max(int(KEPT * len(distances) + 0.5), 1)]))
