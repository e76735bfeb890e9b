"""The noises of the demo corpus: functions (rng, samples) -> wave at 16 kHz, of any level."""

import numpy as np
from scipy import signal

from se_keras.signals.audio import SAMPLE_RATE as RATE
from se_keras.signals.mixing import noise_segment


def coloured(rng, samples, exponent):
    """Gaussian noise with the power spectrum 1 / f^exponent, flat below 20 Hz."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency_hz = np.maximum(np.fft.rfftfreq(samples, 1 / RATE), 20)
    return np.fft.irfft(spectrum * frequency_hz ** (-exponent / 2), samples)


def band(wave, low_hz, high_hz):
    """`wave` through a second-order Butterworth band pass."""
    return signal.sosfilt(signal.butter(2, (low_hz, high_hz), "bandpass", fs=RATE, output="sos"), wave)


def slow(rng, samples, rate_hz):
    """A random curve in [0, 1] that changes at about `rate_hz`."""
    knots = rng.random(int(samples / RATE * rate_hz) + 3)
    return np.interp(np.arange(samples) / RATE * rate_hz, np.arange(len(knots)), knots)


def tone(frequency_hz):
    """The phase in radians of a tone whose frequency in Hz is given sample by sample."""
    return 2 * np.pi * np.cumsum(frequency_hz) / RATE


def struck(times_s, samples, partials):
    """A sum of decaying sines, `partials` = [(Hz, amplitude, decay in s)], started anew at each of `times_s`."""
    t = np.arange(samples) / RATE
    ring = sum(amplitude * np.exp(-t / decay_s) * np.sin(2 * np.pi * hz * t) for hz, amplitude, decay_s in partials)
    hits = np.zeros(samples)
    hits[[int(time * RATE) for time in times_s if time * RATE < samples]] = 1
    return signal.fftconvolve(hits, ring)[:samples]


def white(rng, samples):
    """Flat Gaussian noise."""
    return rng.standard_normal(samples)


def pink(rng, samples):
    """1/f noise."""
    return coloured(rng, samples, 1)


def siren(rng, samples):
    """A wailing tone between about 500 and 1,400 Hz, with odd harmonics, over street rumble."""
    sweep = 0.5 - 0.5 * np.cos(tone(np.full(samples, rng.uniform(0.2, 0.5))) + rng.uniform(0, 6))
    phase = tone(rng.uniform(450, 600) + rng.uniform(700, 900) * sweep)
    rumble = coloured(rng, samples, 1.5)
    return sum(np.sin(k * phase) / k for k in (1, 3, 5)) + 0.1 * rumble / rumble.std()


def engine(rng, samples):
    """Harmonics of a firing rate that wanders, rough from cycle to cycle, and exhaust noise."""
    phase = tone(rng.uniform(35, 60) * (1 + 0.3 * slow(rng, samples, 0.7)))
    harmonics = sum(rng.uniform(0.3, 1) / k ** 0.8 * np.sin(k * phase + rng.uniform(0, 6)) for k in range(1, 40))
    exhaust = band(rng.standard_normal(samples), 150, 2500) * (1 + np.sin(phase))
    return harmonics * (0.7 + 0.3 * slow(rng, samples, 20)) + 1.0 * exhaust


def wind(rng, samples):
    """Gusts: low-passed noise whose level and whistle move slowly."""
    gust = slow(rng, samples, 0.8) ** 2 + 0.1
    rumble, whistle = coloured(rng, samples, 2), band(rng.standard_normal(samples), 400, 1200)
    return gust * rumble / rumble.std() + 0.3 * gust ** 2 * whistle / whistle.std()


def water(rng, samples):
    """A running tap: hissing noise and a few hundred bubbles, short rising tones."""
    wave = 0.3 * band(rng.standard_normal(samples), 900, 6500) * (0.6 + 0.4 * slow(rng, samples, 12))
    t = np.arange(int(0.06 * RATE)) / RATE
    for _ in range(int(60 * samples / RATE)):
        start, hz = int(rng.integers(samples - len(t))), rng.uniform(400, 2500)
        wave[start:start + len(t)] += rng.uniform(0.05, 0.4) * np.exp(-t / 0.012) * np.sin(2 * np.pi * hz * (t + 4 * t ** 2))
    return wave


def bell(rng, samples):
    """A church bell, struck about every second, over faint room noise."""
    strike_hz = rng.uniform(350, 600)
    ratios = (0.5, 1, 1.19, 1.56, 2, 2.51, 2.66, 3.01, 4.1, 5.2)  # partials of a minor-third bell
    partials = [(strike_hz * ratio, rng.uniform(0.4, 1) / (1 + 0.3 * i), 1.5 / ratio) for i, ratio in enumerate(ratios)]
    times_s = np.cumsum(rng.uniform(0.5, 1.0, size=int(2 * samples / RATE)))
    return struck(np.concatenate(([0.0], times_s)), samples, partials) + 0.02 * rng.standard_normal(samples)


def machine(rng, samples):
    """A press: steady clanks of metal, mains hum and a whine."""
    t, rate_hz = np.arange(samples) / RATE, rng.uniform(4, 8)
    times_s = np.arange(0, samples / RATE, 1 / rate_hz)
    partials = [(hz, rng.uniform(0.4, 1), rng.uniform(0.01, 0.05)) for hz in rng.uniform(500, 5000, size=12)]
    clanks = struck(times_s, samples, partials)
    hum = sum(np.sin(2 * np.pi * 100 * k * t + rng.uniform(0, 6)) / k for k in range(1, 8))
    return clanks + 0.4 * hum + 0.2 * np.sin(tone(1500 + 50 * slow(rng, samples, 2))) + 0.15 * rng.standard_normal(samples)


def fan(rng, samples):
    """Air conditioning: low-passed noise and the hum of its blades."""
    air, phase = coloured(rng, samples, 1.2), tone(np.full(samples, rng.uniform(80, 140)))
    return air / air.std() + 0.3 * sum(np.sin(k * phase) / k for k in range(1, 5))


def rain(rng, samples):
    """Thousands of drops on a hard floor."""
    drops = rng.standard_normal(samples) * (rng.random(samples) < 0.02) * rng.exponential(size=samples)
    return band(drops, 700, 7000) + 0.05 * rng.standard_normal(samples)


def traffic(rng, samples):
    """Passing cars: tyre noise that swells and fades, engines below it, a horn now and then."""
    wave = 0.3 * coloured(rng, samples, 1.5) / coloured(rng, samples, 1.5).std()
    t = np.arange(samples) / RATE
    for _ in range(5):
        swell = np.exp(-0.5 * ((t - rng.uniform(0, t[-1])) / rng.uniform(0.4, 1.0)) ** 2)
        wave += swell * (band(rng.standard_normal(samples), 300, 3000) + 0.3 * engine(rng, samples))
    start, horn_hz = int(rng.integers(samples - RATE)), rng.uniform(350, 450)
    horn = sum(np.sin(2 * np.pi * horn_hz * ratio * k * t[:RATE // 2]) / k for ratio in (1, 1.26) for k in range(1, 8))
    wave[start:start + RATE // 2] += 0.3 * np.hanning(RATE // 2) * horn
    return wave


def babble(rng, samples, talkers):
    """A few people talking at once: `talkers` = [utterances of one voice], in random order, at random levels."""
    wave = np.zeros(samples)
    for utterances in talkers:
        line = np.concatenate([utterances[i] for i in rng.permutation(len(utterances))])
        wave += rng.uniform(0.6, 1) * noise_segment(line, int(rng.integers(len(line))), samples)
    return wave


def crowd(rng, samples, talkers):
    """A hall full of people: every utterance of `talkers` at once, at all distances, with an echo."""
    wave = np.zeros(samples)
    for line in (line for utterances in talkers for line in utterances):
        wave += rng.uniform(0.2, 1) * noise_segment(line, int(rng.integers(len(line))), samples)
    t = np.arange(int(0.6 * RATE)) / RATE
    echo = rng.standard_normal(len(t)) * np.exp(-t / 0.12)
    return wave + 0.7 * signal.fftconvolve(wave, echo / np.sqrt(np.sum(echo ** 2)))[:samples]


TYPES = {
    "train": {"white": white, "babble": babble, "siren": siren, "engine": engine, "wind": wind, "water": water, "bell": bell,
              "machine": machine},
    "valid": {"fan": fan, "rain": rain},
    "test": {"pink": pink, "crowd": crowd, "traffic": traffic},
}


def make(kind, rng, samples, talkers):
    """A wave of a type named in `TYPES`; `talkers` are the voices behind babble and crowd, empty for the others."""
    function = next(kinds[kind] for kinds in TYPES.values() if kind in kinds)
    return function(rng, samples, talkers) if talkers else function(rng, samples)
