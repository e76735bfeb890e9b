"""Noisy speech from a row: the same samples on every machine."""

import numpy as np

from se_keras.errors import UserError
from se_keras.signals import audio


def noise_segment(noise, offset, samples):
    """`samples` samples of `noise` from `offset` on, looped where it is shorter. float32 `(samples,)`."""
    offset %= len(noise)  # past the end it starts again
    if offset + samples <= len(noise):
        return noise[offset:offset + samples]
    return noise[np.arange(offset, offset + samples) % len(noise)]  # np.take's "wrap" subtracts the length as often as it must


def gain_for_snr(clean, noise, snr_db):
    """Factor on `noise` so that clean + gain * noise has `snr_db` over its whole length.

    10 log10(sum clean^2 / sum (gain noise)^2) = snr_db, energies in float64.

    Raises:
        UserError: either signal is digital silence, of which no gain makes an SNR.
    """
    clean_energy = np.sum(np.square(clean, dtype=np.float64))
    noise_energy = np.sum(np.square(noise, dtype=np.float64))
    if clean_energy == 0 or noise_energy == 0:
        raise UserError(f"cannot mix at {snr_db} dB: the {'speech' if clean_energy == 0 else 'noise segment'} is digital silence")
    return float(np.sqrt(clean_energy / noise_energy) * 10 ** (-snr_db / 20))


def at_level(wave, level_db):
    """`wave` times the gain that brings its RMS to `level_db`, in dB of full scale; float32 `(samples,)`, never clipped.

    Raises:
        UserError: digital silence, which has no level.
    """
    rms = np.sqrt(np.mean(np.square(wave, dtype=np.float64)))
    if rms == 0:
        raise UserError(f"cannot be brought to {level_db:g} dB: digital silence")
    return np.float32(10 ** (level_db / 20) / rms) * wave


def mix(clean, noise, snr_db):
    """clean + gain * noise at `snr_db`; float32 `(samples,)` each, never clipped and never scaled."""
    return clean + np.float32(gain_for_snr(clean, noise, snr_db)) * noise


def check_gain(row):
    """See that the gain of a mixture makes the SNR that its row names, both over the whole utterance. For tests, before they begin.

    Raises:
        UserError: it makes another, by more than half a dB.
    """
    if row.noisy is not None:
        return
    clean = audio.read_cached(row.clean)
    noise = noise_segment(audio.read_cached(row.noise), row.offset, row.samples)
    energies = [float(np.vdot(wave, wave)) for wave in (clean, noise)]
    if row.snr_db is None or not all(energies) or not row.gain:
        return
    measured_db = 10 * np.log10(energies[0] / energies[1]) - 20 * np.log10(row.gain)
    if abs(measured_db - row.snr_db) > 0.5:
        raise UserError(f"{row.id}: the gain {row.gain:g} makes an SNR of {measured_db:.1f} dB, the manifest says {row.snr_db:g}; run "
                        "data/prepare.py again")


def pair(row):
    """The `(noisy, clean)` waves of a manifest row, float32 `(row.used_samples,)` each; clean is None where the row has no reference.

    A mixture is one float32 multiplication and addition a sample with the row's stored gain, so it is bit for bit the same
    everywhere. Mixtures may exceed 1.0: scaling them against clipping would tell a network the SNR.

    Raises:
        UserError: a file that cannot be read, or is shorter than the manifest says.
    """
    piece = slice(row.start, row.start + row.used_samples)
    if row.noisy is not None:
        found = {name: audio.read_cached(path) for name, path in (("clean", row.clean), ("noisy", row.noisy)) if path is not None}
        if min(map(len, found.values())) < row.samples:
            lengths = ", ".join(f"{name} {len(wave)}" for name, wave in found.items())
            raise UserError(f"{row.id}: too few samples ({lengths}), the manifest says {row.samples}; run data/prepare.py again")
        noisy, clean = (found[name][:row.samples][piece] if name in found else None for name in ("noisy", "clean"))
    else:
        clean = audio.read_cached(row.clean)
        if len(clean) != row.samples:
            raise UserError(f"{row.clean}: holds {len(clean)} samples, the manifest says {row.samples}; run data/prepare.py again")
        noise = noise_segment(audio.read_cached(row.noise), row.offset, row.samples)
        noisy, clean = (clean + np.float32(row.gain) * noise)[piece], clean[piece]
    return noisy, clean
