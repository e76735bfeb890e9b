"""The classical baseline: a Wiener filter with a decision-directed a priori SNR over a tracked noise spectrum; no training.

References:
    [EM84] Y. Ephraim, D. Malah, "Speech enhancement using a minimum mean-square error short-time spectral amplitude estimator",
        IEEE Trans. ASSP 32(6), 1984.
    [GH12] T. Gerkmann, R. C. Hendriks, "Unbiased MMSE-based noise power estimation with low complexity and low tracking delay",
        IEEE Trans. ASLP 20(4), 2012.

The noise tracker and the constants were chosen on validation mixtures (chainsaw and pink noise, -10 to 10 dB): [GH12] gave a
higher PESQ than minimum statistics, MCRA and IMCRA under the same gain.
"""

import hashlib

import numpy as np

from se_keras.signals.stft import Stft, istft, stft

DECISION_DIRECTED = 0.96  # [EM84] takes 0.98 at a hop of 8 ms: the same memory in seconds at this project's 16 ms; better in PESQ
GAIN_FLOOR = 10 ** (-15 / 20)  # amplitude; masks musical noise and keeps STOI, for 0.01 PESQ less than -20 dB
NOISE_SMOOTHING = 0.8  # [GH12] beside (8), for frames of 32 ms that overlap by half, as here
XI_H1 = 10 ** (15 / 10)  # a priori SNR where speech is present: 15 dB, [GH12] beside (18)
PRIOR_ODDS = 1.0  # P(H0) / P(H1): absence and presence equally likely beforehand, [GH12] beside (18)
STAGNATION_SMOOTHING, STAGNATION_LIMIT = 0.9, 0.99  # [GH12] (23), (24)
START_FRAMES = 5  # the noise is first taken from these: recordings begin before the talker does
SMALLEST_NOISE = 1e-10  # of the mean power (-100 dB): an empty band is never divided by
REVISION = 1  # raise it when the algorithm changes: kept scores of the older one no longer count


def wiener_gain(power):
    """The filter's gain for every frame and bin.

    Args:
        power: `(frames, bins)`, |Y|^2 of the noisy signal.

    Returns:
        float32 `(frames, bins)` in [GAIN_FLOOR, 1]. The level of the signal does not matter; frames of digital silence get 1
        and leave the noise estimate as it is.
    """
    power = np.asarray(power, np.float64)
    gain = np.ones(power.shape, np.float32)
    heard = np.flatnonzero(power.any(axis=-1))
    if not len(heard):
        return gain
    smallest = SMALLEST_NOISE * power[heard].mean()
    noise = np.maximum(power[heard[:START_FRAMES]].mean(axis=0), smallest)
    presence_mean = np.full(power.shape[-1], 0.5)
    speech = None  # |A|^2, the last frame's estimate
    for t in heard:
        noise, presence_mean = _track(power[t], noise, presence_mean)
        noise = np.maximum(noise, smallest)
        xi = np.maximum(power[t] / noise - 1, 0)  # P[gamma - 1], [EM84] (52)
        if speech is not None:
            xi = DECISION_DIRECTED * speech / noise + (1 - DECISION_DIRECTED) * xi  # [EM84] (51)
        wiener = xi / (1 + xi)
        speech = wiener ** 2 * power[t]
        gain[t] = np.maximum(wiener, GAIN_FLOOR)
    return gain


def _track(power, noise, presence_mean):
    """One frame of [GH12]: `(bins,)` power, noise estimate and mean presence -> the new noise estimate and mean presence."""
    presence = 1 / (1 + PRIOR_ODDS * (1 + XI_H1) * np.exp(-power / noise * XI_H1 / (1 + XI_H1)))  # (18)
    presence_mean = STAGNATION_SMOOTHING * presence_mean + (1 - STAGNATION_SMOOTHING) * presence  # (23)
    presence = np.where(presence_mean > STAGNATION_LIMIT, np.minimum(presence, STAGNATION_LIMIT), presence)  # (24)
    expected = (1 - presence) * power + presence * noise  # (22)
    return NOISE_SMOOTHING * noise + (1 - NOISE_SMOOTHING) * expected, presence_mean  # (8)


class Wiener:
    """The filter as a system: `enhance(waves)`, with a `name` and a `fingerprint` for the score cache."""

    name = "wiener"
    config = Stft()

    def __init__(self):
        constants = (REVISION, DECISION_DIRECTED, GAIN_FLOOR, NOISE_SMOOTHING, XI_H1, PRIOR_ODDS, STAGNATION_SMOOTHING,
                     STAGNATION_LIMIT, START_FRAMES, SMALLEST_NOISE, self.config)
        self.fingerprint = hashlib.sha256(repr(constants).encode()).hexdigest()

    def enhance(self, waves):
        """List of float32 `(samples,)` at 16 kHz -> the same list enhanced, each of its own length."""
        return [self._enhance(wave) for wave in waves]

    def _enhance(self, wave):
        spectrum = stft(wave, self.config)
        gain = wiener_gain(np.sum(np.square(spectrum, dtype=np.float64), axis=-1))
        return istft(spectrum * gain[..., None], len(wave), self.config)
