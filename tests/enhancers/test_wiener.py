"""The classical baseline against what it must do whatever its constants: remove noise, keep speech, mind no level."""

import numpy as np
import pytest
from conftest import speech_like

from se_keras import metrics
from se_keras.enhancers.wiener import GAIN_FLOOR, Wiener, wiener_gain
from se_keras.signals import mixing
from se_keras.signals.stft import stft


def noisy_pair(snr_db, seconds=4.0, seed=0):
    clean = speech_like(seconds, seed)
    clean[:4000] = 0  # the talker begins after a quarter second
    noise = np.random.default_rng(seed).standard_normal(len(clean)).astype(np.float32)
    return mixing.mix(clean, noise, snr_db), clean


def power_of(wave):
    return np.sum(np.square(stft(wave), dtype=np.float64), axis=-1)


@pytest.mark.parametrize("seed", range(3))
def test_stationary_noise_falls(seed):
    # white noise spreads over all bins, speech over few: a filter that knows the noise gains several dB at 0 dB
    noisy, clean = noisy_pair(0.0, seed=seed)
    enhanced, = Wiener().enhance([noisy])
    si_sdr = metrics.get("si_sdr").function
    assert si_sdr(clean, enhanced) > si_sdr(clean, noisy) + 6


def test_noise_alone_falls_to_the_floor():
    noise = np.random.default_rng(0).standard_normal(64_000).astype(np.float32)
    gain = wiener_gain(power_of(noise))
    assert np.median(gain[20:]) == np.float32(GAIN_FLOOR)
    assert np.mean(gain[20:] < 2 * GAIN_FLOOR) > 0.95


def test_nearly_clean_speech_stays():
    noisy, clean = noisy_pair(40.0)
    enhanced, = Wiener().enhance([noisy])
    assert metrics.get("si_sdr").function(clean, enhanced) > 15


def test_the_noise_estimate_follows_a_rise():
    # noise that grows by 20 dB looks like speech at first; the safety net against stagnation must let it go within two seconds
    noise = np.random.default_rng(0).standard_normal(96_000).astype(np.float32)
    noise[32_000:] *= 10
    gain = wiener_gain(power_of(noise))
    assert np.median(gain[130:150]) > 0.5
    assert np.median(gain[32_000 // 256 + 125:]) < 0.25


@pytest.mark.parametrize("level_db", (-20, 20))
def test_level_does_not_matter(level_db):
    noisy, _ = noisy_pair(5.0)
    scaled = noisy * np.float32(10 ** (level_db / 20))
    assert np.abs(wiener_gain(power_of(noisy)) - wiener_gain(power_of(scaled))).max() < 1e-3


def test_silence_stays_silence():
    enhanced, = Wiener().enhance([np.zeros(5000, np.float32)])
    assert enhanced.shape == (5000,) and not enhanced.any()


def test_digital_silence_around_speech():
    noisy, _ = noisy_pair(5.0)
    enhanced, alone = Wiener().enhance([np.concatenate([np.zeros(8192, np.float32), noisy, np.zeros(8192, np.float32)]), noisy])
    assert np.isfinite(enhanced).all()
    assert not enhanced[:7500].any() and not enhanced[-7500:].any()
    # a second of silence in front tells nothing of the noise: what follows is filtered as it is alone
    np.testing.assert_allclose(enhanced[8192:-8192], alone, atol=2e-2)


@pytest.mark.parametrize("samples", (1, 100, 256, 257, 5000))
def test_any_length(samples):
    wave = np.random.default_rng(0).standard_normal(samples).astype(np.float32)
    enhanced, = Wiener().enhance([wave])
    assert enhanced.shape == wave.shape and enhanced.dtype == np.float32 and np.isfinite(enhanced).all()


def test_each_wave_alone():
    noisy, _ = noisy_pair(0.0, seconds=1)
    together = Wiener().enhance([noisy, noisy[:9000]])
    np.testing.assert_array_equal(together[1], Wiener().enhance([noisy[:9000]])[0])


def test_gain_is_bounded():
    noisy, _ = noisy_pair(-5.0)
    gain = wiener_gain(power_of(noisy))
    assert gain.shape == power_of(noisy).shape and gain.dtype == np.float32
    assert gain.min() >= np.float32(GAIN_FLOOR) and gain.max() <= 1


def test_fingerprint_is_stable():
    assert Wiener().fingerprint == Wiener().fingerprint and len(Wiener().fingerprint) == 64
