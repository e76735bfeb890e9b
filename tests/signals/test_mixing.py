"""Mixtures: the requested SNR is what is measured, and the same row gives the same samples."""

import dataclasses
import hashlib

import numpy as np
import pytest
from conftest import speech_like

from se_keras.errors import UserError
from se_keras.mixtures import manifest
from se_keras.signals import audio, mixing


def measured_snr_db(noisy, clean):
    """10 log10 of the clean over the added energy, in float64."""
    clean, added = clean.astype(np.float64), noisy.astype(np.float64) - clean
    return 10 * np.log10(np.sum(clean ** 2) / np.sum(added ** 2))


@pytest.fixture
def noise():
    return (0.1 * np.random.default_rng(1).standard_normal(16_000)).astype(np.float32)


@pytest.fixture
def row(tmp_path, noise):
    """A row over files on disk: 1.2 s of speech, 1 s of noise looped from sample 5,000, 3 dB."""
    clean = speech_like(1.2)
    audio.write(tmp_path / "clean.wav", clean, subtype="FLOAT")
    audio.write(tmp_path / "noise.wav", noise, subtype="FLOAT")
    gain = mixing.gain_for_snr(clean, mixing.noise_segment(noise, 5000, len(clean)), 3.0)
    files = {"clean": str(tmp_path / "clean.wav"), "noise": str(tmp_path / "noise.wav")}
    return manifest.Utterance(id="u", speaker="s", noise_type="white", samples=len(clean), snr_db=3.0, offset=5000, gain=gain,
                              **files)


@pytest.mark.parametrize("snr_db", [-10, -3.5, 0, 5, 18])
@pytest.mark.parametrize("level", [1e-4, 1, 30])
def test_measured_snr_is_the_requested_one(noise, snr_db, level):
    clean = speech_like(1.0)
    assert measured_snr_db(mixing.mix(clean, level * noise, snr_db), clean) == pytest.approx(snr_db, abs=0.01)


def test_equal_energy_is_zero_db():
    """sqrt(E_clean / E_noise) = 1 / 2 at 0 dB where the noise has twice the amplitude; 20 dB less is a tenth of it."""
    clean = np.ones(100, np.float32)
    assert mixing.gain_for_snr(clean, 2 * clean, 0) == pytest.approx(0.5)
    assert mixing.gain_for_snr(clean, 2 * clean, 20) == pytest.approx(0.05)


def test_a_level_is_the_rms_in_db_of_full_scale():
    """A constant of 0.5 at -20 dB is 0.1; at +6.02 dB it is 2, past full scale."""
    wave = np.full(100, 0.5, np.float32)
    np.testing.assert_allclose(mixing.at_level(wave, -20), 0.1, rtol=1e-6)
    np.testing.assert_allclose(mixing.at_level(wave, 20 * np.log10(2)), 2, rtol=1e-6)
    assert mixing.at_level(wave, -25).dtype == np.float32
    with pytest.raises(UserError, match="cannot be brought to -25 dB: digital silence"):
        mixing.at_level(np.zeros(10, np.float32), -25)


def test_a_recording_without_reference_has_no_clean_wave(row):
    recording = dataclasses.replace(row, clean=None, noise=None, offset=0, gain=1.0, snr_db=None, noisy=row.noise, samples=16_000)
    noisy, clean = mixing.pair(dataclasses.replace(recording, start=100, length=50))
    assert clean is None
    np.testing.assert_array_equal(noisy, audio.read(row.noise)[100:150])
    with pytest.raises(UserError, match=r"u: too few samples \(noisy 16000\), the manifest says 16001"):
        mixing.pair(dataclasses.replace(recording, samples=16_001))


def test_mixture_is_not_scaled_against_clipping():
    clean = np.full(100, 0.9, np.float32)
    assert np.abs(mixing.mix(clean, clean, -10)).max() > 3


@pytest.mark.parametrize("which", ["speech", "noise segment"])
def test_silence_is_never_divided_by(noise, which):
    pair = {"speech": speech_like(1.0), "noise segment": noise}
    pair[which] = np.zeros(16_000, np.float32)
    with pytest.raises(UserError, match=f"the {which} is digital silence"):
        mixing.gain_for_snr(*pair.values(), 0)


def test_short_noise_is_looped():
    noise = np.arange(5, dtype=np.float32)
    np.testing.assert_array_equal(mixing.noise_segment(noise, 3, 9), [3, 4, 0, 1, 2, 3, 4, 0, 1])
    np.testing.assert_array_equal(mixing.noise_segment(noise, 1, 4), [1, 2, 3, 4])


def test_a_row_gives_the_mixture_it_stands_for(row, noise):
    noisy, clean = mixing.pair(row)
    assert noisy.dtype == clean.dtype == np.float32
    np.testing.assert_array_equal(clean, speech_like(1.2))
    np.testing.assert_array_equal(noisy, mixing.mix(clean, mixing.noise_segment(noise, 5000, len(clean)), 3.0))
    assert measured_snr_db(noisy, clean) == pytest.approx(3.0, abs=0.01)


def test_mixtures_are_golden(tmp_path):
    """One IEEE multiplication and addition a sample: the hash of a mixture is the same on every machine."""
    audio.write(tmp_path / "clean.wav", (np.arange(3000) % 97 / 97 - 0.5).astype(np.float32), subtype="FLOAT")
    audio.write(tmp_path / "noise.wav", (np.arange(700) % 41 / 41 - 0.5).astype(np.float32), subtype="FLOAT")
    files = {"clean": str(tmp_path / "clean.wav"), "noise": str(tmp_path / "noise.wav")}
    row = manifest.Utterance(id="u", speaker="s", noise_type="saw", samples=3000, offset=650, gain=1.6171570777893066, **files)
    noisy, _ = mixing.pair(row)
    assert hashlib.sha256(noisy.tobytes()).hexdigest() == "b02dae1e58af58305d8ef490f007118bfd894db5af44cb02dda377926cb207b9"


def test_a_cropped_row_is_a_piece_of_the_mixture(row):
    noisy, clean = mixing.pair(row)
    piece = manifest.crop(row, 4000, np.random.default_rng(0))
    cut_noisy, cut_clean = mixing.pair(piece)
    assert len(cut_noisy) == piece.used_samples == 4000
    np.testing.assert_array_equal(cut_noisy, noisy[piece.start:piece.start + 4000])
    np.testing.assert_array_equal(cut_clean, clean[piece.start:piece.start + 4000])
    assert manifest.crop(row, 10 ** 6, np.random.default_rng(0)) is row
    assert manifest.crop(row, None, np.random.default_rng(0)) is row


def test_a_file_that_changed_is_told(row, tmp_path):
    with pytest.raises(UserError, match="holds 19200 samples, the manifest says 19000"):
        mixing.pair(dataclasses.replace(row, samples=19_000))


def test_a_ready_made_pair_is_cut_to_the_rows_length(tmp_path):
    clean, noisy = speech_like(1.0), speech_like(1.0, seed=3)[:15_900]
    for name, wave in (("c.wav", clean), ("n.wav", noisy)):
        audio.write(tmp_path / name, wave, subtype="FLOAT")
    pair = manifest.Utterance("u", str(tmp_path / "c.wav"), "s", "cafe", 15_900, noisy=str(tmp_path / "n.wav"))
    np.testing.assert_array_equal(mixing.pair(pair)[0], noisy)
    np.testing.assert_array_equal(mixing.pair(pair)[1], clean[:15_900])
    with pytest.raises(UserError, match=r"too few samples \(clean 16000, noisy 15900\), the manifest says 16000"):
        mixing.pair(dataclasses.replace(pair, samples=16_000))
