"""Log-likelihood ratio as a loss: how far the spectral envelope, by linear prediction, has moved. What CSIG and COVL hear beside PESQ.

The measure is `metrics.composite.llr` (Hu and Loizou 2008): frames of 30 ms every 7.5 ms, order 16, the best 95% of the frames. It is
computed in float32 here, so autocorrelations get a little white noise, without which the recursion of a very tonal frame ends.
"""

import numpy as np
from keras import ops

from se_keras.signals.stft import Stft, stft_ops

CONFIG = Stft(512, 120, "hann", 480, center=False)  # 512 points hold lags up to 32 of a frame of 480 without wrapping
ORDER = 16
KEPT = 0.95
_WHITE = 3e-6  # of a frame's energy, added to lag 0: -55 dB
_LEAST = 1e-6  # of a frame's energy, what is left of it at least after prediction: less is a rounding error
_SILENCE = 1e-9  # added too: a silent frame is white


def lags():
    """From the power spectrum of a frame to its autocorrelation at lags 0 to 16, float32 `(257, 17)`."""
    bins = np.arange(CONFIG.bins)
    twice = np.where((bins == 0) | (bins == CONFIG.bins - 1), 1, 2)
    angles = 2 * np.pi * np.outer(bins, np.arange(ORDER + 1)) / CONFIG.n_fft
    return (twice[:, None] * np.cos(angles) / CONFIG.n_fft).astype(np.float32)


def llr(clean, enhanced, own):
    """Mean over the best 95% of an utterance's frames of ln(a_e' R_c a_e / a_c' R_c a_c), one value an utterance.

    a are the prediction-error filters of both, R_c the autocorrelation matrix of the clean frame.

    Args:
        clean, enhanced: float32 `(batch, samples)` at 16 kHz, zero beyond an utterance's own samples.
        own: mask of an utterance's own samples, bool `(batch, samples)`.

    Returns:
        float32 `(batch,)`, from 0; 0 for equal signals, and where there is not one whole frame.
    """
    clean, enhanced = (_autocorrelation(wave) for wave in (clean, enhanced))
    energies = [_prediction_error(predictor(of), clean) for of in (enhanced, clean)]
    ratio = ops.log(energies[0] / energies[1])
    positions = ops.arange(ops.shape(ratio)[1]) * CONFIG.hop_length - CONFIG.padding
    samples = ops.sum(ops.cast(own, "int32"), axis=1, keepdims=True)
    whole = ops.logical_and(positions >= 0, positions + CONFIG.win_length <= samples)
    return _mean_of_best(ratio, whole)


def predictor(correlation):
    """Prediction-error filters, the first coefficient 1, of autocorrelations `(..., 17)`: Levinson and Durbin's recursion."""
    ones = ops.ones_like(correlation[..., :1])
    a, error = ones, correlation[..., :1]
    for order in range(1, ORDER + 1):
        behind = ops.flip(correlation[..., 1:order + 1], axis=-1)
        reflection = -ops.sum(a * behind, axis=-1, keepdims=True) / error
        reflection = ops.clip(reflection, -0.99999, 0.99999)  # beyond are rounding errors alone
        zero = ops.zeros_like(ones)
        a = ops.concatenate([a, zero], axis=-1) + reflection * ops.concatenate([zero, ops.flip(a, axis=-1)], axis=-1)
        error = ops.maximum(error * (1 - ops.square(reflection)), _LEAST * correlation[..., :1])
    return a


def _autocorrelation(wave):
    correlation = ops.matmul(ops.sum(ops.square(stft_ops(wave, CONFIG)), axis=-1), lags())
    white = np.zeros(ORDER + 1, np.float32)
    white[0] = 1.0
    return correlation + (_WHITE * correlation[..., :1] + _SILENCE) * white


def _prediction_error(a, correlation):
    """a' R a with the Toeplitz matrix R of autocorrelations: the sum over lags of R times the autocorrelation of a."""
    total = correlation[..., 0] * ops.sum(ops.square(a), axis=-1)
    for lag in range(1, ORDER + 1):
        total = total + 2 * correlation[..., lag] * ops.sum(a[..., lag:] * a[..., :-lag], axis=-1)
    return ops.maximum(total, 1e-12)


def _mean_of_best(values, valid):
    """Mean of the smallest 95% of the valid values of each row, and 0 of none."""
    count = ops.sum(ops.cast(valid, "float32"), axis=1, keepdims=True)
    ordered = ops.sort(ops.where(valid, values, 1e6), axis=1)
    kept = ops.cast(ops.arange(ops.shape(values)[1]), "float32") < ops.round(KEPT * count)
    total = ops.sum(ops.where(kept, ordered, 0.0), axis=1)
    return total / ops.maximum(ops.sum(ops.cast(kept, "float32"), axis=1), 1.0)
