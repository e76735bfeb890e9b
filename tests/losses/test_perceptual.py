"""Perceptual terms against independent implementations, alone and in padded batches, at silence, in a training model."""

import json

import keras
import numpy as np
import pytest
import scipy.linalg
from conftest import noise, speech_like, value_and_gradient
from pystoi import stoi as pystoi

from se_keras import losses, models
from se_keras.enhancers.magnitude_mask import MaskEnhancer
from se_keras.errors import UserError
from se_keras.losses.hearing import hearing_nb, hearing_wb
from se_keras.losses.llr import llr, predictor
from se_keras.losses.lms import SCALES, lms, mel_bands
from se_keras.losses.mrstft import RESOLUTIONS, mrstft
from se_keras.losses.pmsqe import pmsqe
from se_keras.losses.stoi import estoi, stoi
from se_keras.metrics.composite import llr as true_llr
from se_keras.mixtures.feed import spectrogram_batch
from se_keras.signals.stft import Stft, magnitude, stft
from se_keras.training.objective import objective_batch, objective_model

SQRT_HANN = 2.0  # window power


def asteroid_magnitude(wave):
    """asteroid's front end: sqrt-Hann 512/256 without padding, DFT / 16, constant part and top bin / sqrt(2), 1e-8 under the root."""
    window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512))
    frames = np.lib.stride_tricks.sliding_window_view(wave, 512)[::256] * window
    power = np.abs(np.fft.rfft(frames)) ** 2 / 256
    power[:, [0, -1]] /= 2
    return np.sqrt(power + 1e-8).astype(np.float32)[None]


@pytest.fixture(scope="module")
def references(golden_signals):
    """(clean, {kind: wave}, {kind: values of the reference code})."""
    folder, signals, name = golden_signals
    values = json.loads((folder / "dccrn_pmsqe_losses.json").read_text())
    return signals["clean"], {kind: (signals[kind], values[f"{name}_{kind}"]) for kind in ("noisy", "enh")}


def test_pmsqe_is_that_of_asteroid(references):
    clean, degraded = references
    for wave, expected in degraded.values():
        pair = [asteroid_magnitude(signal) for signal in (clean, wave)]
        every = np.ones(pair[0].shape[:2], bool)
        assert float(pmsqe(*pair, every, SQRT_HANN)[0]) == pytest.approx(expected["pmsqe16_sqrt_hann_pow"], abs=2e-5)
        assert float(pmsqe(*pair[::-1], every, SQRT_HANN)[0]) == pytest.approx(expected["pmsqe16_sqrt_hann_pow_swapped_args"], abs=2e-5)


DCCRN = Stft(512, 100, "hann", 400, center=False)


def test_lms_is_that_of_the_reference_code_in_both_orders(references):
    clean, degraded = references
    for wave, expected in degraded.values():
        pair = [np.sqrt(np.sum(np.square(stft(signal, DCCRN)), axis=-1) + 1e-7)[None].astype(np.float32) for signal in (clean, wave)]
        every = np.ones(pair[0].shape[:2], bool)
        assert float(lms(*pair, every)[0]) == pytest.approx(expected["lms_intended_frame_major"], abs=2e-5)
        assert float(lms(*pair, every, "memory")[0]) == pytest.approx(expected["lms_repo_memory_order"], abs=2e-5)


def test_mel_bands_are_those_of_the_reference_code(golden):
    with np.load(golden / "lms_melbanks.npz") as stored:
        for bands in SCALES:
            np.testing.assert_allclose(mel_bands(bands).T, stored[f"mel{bands}"], atol=1e-6)


def test_an_unknown_order():
    with pytest.raises(UserError, match="unknown order of lms 'bins'; known: frames, memory"):
        lms(*2 * [np.ones((1, 3, 257), np.float32)], np.ones((1, 3), bool), "bins")
    with pytest.raises(UserError, match="unknown order of lms 'bins'"):
        losses.parse("lms[bins]")


@pytest.mark.parametrize(("term", "extended"), [(stoi, False), (estoi, True)])
def test_stoi_is_that_of_pystoi(term, extended):
    """To 0.02 an utterance, with pauses, at SNRs from -5 to 20 dB: pystoi resamples to 10 kHz, here the frames are those of 10 kHz."""
    for seed in range(4):
        clean = speech_like(2.0, seed)
        clean[8000:14_000] *= 1e-4  # a pause, which STOI leaves out
        for gain in (0.05, 0.3, 1.0):
            degraded = clean + gain * noise(2.0, seed)
            ours = 1 - float(term(clean[None], degraded[None], np.ones((1, len(clean)), bool))[0])
            assert ours == pytest.approx(pystoi(clean, degraded, 16_000, extended), abs=0.02)


def test_llr_is_the_measure_of_the_composite_scores():
    """To 0.1 of values from 0.3 to 1.5, and in the order of the measure; equal signals and another level cost nothing."""
    ours, theirs = [], []
    for seed in range(3):
        clean = speech_like(1.5, seed) + 0.02 * noise(1.5, seed + 9)  # a recording has noise of its own
        for gain in (0.02, 0.1, 0.5):
            degraded = clean + gain * noise(1.5, seed)
            ours.append(float(llr(clean[None], degraded[None], np.ones((1, len(clean)), bool))[0]))
            theirs.append(true_llr(clean, degraded))
    assert min(theirs) < 0.4 and max(theirs) > 1.2
    np.testing.assert_allclose(ours, theirs, atol=0.1)
    assert np.corrcoef(ours, theirs)[0, 1] > 0.99
    every = np.ones((1, len(clean)), bool)
    assert float(llr(clean[None], clean[None], every)[0]) == 0
    assert float(llr(clean[None], 0.1 * degraded[None], every)[0]) == pytest.approx(ours[-1], abs=0.01)


def test_the_predictor_solves_the_normal_equations():
    correlation = np.array([1.0, *0.9 ** np.arange(1, 17) * np.cos(np.arange(1, 17))])
    a = np.asarray(predictor(correlation[None].astype(np.float32)))[0]
    expected = np.linalg.solve(scipy.linalg.toeplitz(correlation[:-1]), -correlation[1:])
    np.testing.assert_allclose(a, [1, *expected], atol=1e-3)


def test_mrstft_by_hand():
    """Half the level: spectral convergence 1/2, log distance ln 2, where no bin is near the floor."""
    wave = noise(0.5)[None]
    every = np.ones(wave.shape, bool)
    assert float(mrstft(wave, wave / 2, every)[0]) == pytest.approx(0.5 + np.log(2), abs=2e-3)
    assert float(mrstft(wave, wave, every)[0]) == pytest.approx(0, abs=1e-3)
    assert len(RESOLUTIONS) == 3


WAVE_TERMS = {"stoi": stoi, "estoi": estoi, "mrstft": mrstft, "llr": llr}
MAGNITUDE_TERMS = {"hearing_nb": hearing_nb, "hearing_wb": hearing_wb, "pmsqe": pmsqe, "lms": lms}


@pytest.mark.parametrize("name", WAVE_TERMS)
def test_a_wave_alone_and_in_a_padded_batch(name):
    term, lengths = WAVE_TERMS[name], (12_800, 19_200)
    tolerance = {"mrstft": 0.01, "llr": 1e-4 if keras.backend.backend() == "tensorflow" else 3e-3}  # XLA orders the sums otherwise
    clean, enhanced, own = np.zeros((2, 20_000), np.float32), np.zeros((2, 20_000), np.float32), np.zeros((2, 20_000), bool)
    for i, length in enumerate(lengths):
        clean[i, :length] = speech_like(length / 16_000, i)
        enhanced[i, :length], own[i, :length] = clean[i, :length] + 0.3 * noise(length / 16_000), True
    together = np.asarray(term(clean, enhanced, own))
    for i, length in enumerate(lengths):
        alone = term(*(x[i:i + 1, :length] for x in (clean, enhanced, own)))
        np.testing.assert_allclose(together[i:i + 1], alone, atol=tolerance.get(name, 1e-4))


@pytest.mark.parametrize("name", MAGNITUDE_TERMS)
def test_a_magnitude_alone_and_in_a_padded_batch(name):
    term = MAGNITUDE_TERMS[name]
    clean = [speech_like(seconds, 4) for seconds in (0.8, 1.2)]
    batch = spectrogram_batch([(wave + 0.2 * noise(len(wave) / 16_000), wave) for wave in clean], padded=lambda frames: frames + 7)
    pair = [magnitude(batch["clean"]), magnitude(batch["noisy"])]
    together = np.asarray(term(*pair, batch["frame_mask"]))
    assert (together > 0).all()
    for i, frames in enumerate(batch["frame_mask"].sum(axis=1)):
        alone = term(*(x[i:i + 1, :frames] for x in (*pair, batch["frame_mask"])))
        np.testing.assert_allclose(together[i:i + 1], alone, rtol=1e-3)


@pytest.mark.parametrize("name", [*WAVE_TERMS, *MAGNITUDE_TERMS])
@pytest.mark.parametrize("silent", ["both", "clean", "enhanced"])
def test_silence_has_finite_values_and_gradients(name, silent):
    wave = speech_like(0.8, 1)
    clean, enhanced = (np.zeros_like(wave) if silent in ("both", which) else wave for which in ("clean", "enhanced"))
    if name in WAVE_TERMS:
        given, term = [clean[None], enhanced[None], np.ones((1, len(wave)), bool)], WAVE_TERMS[name]
    else:
        given, term = [magnitude(stft(clean))[None], magnitude(stft(enhanced))[None]], MAGNITUDE_TERMS[name]
        given.append(np.ones(given[0].shape[:2], bool))
    value, gradient = value_and_gradient(lambda enhanced: term(given[0], enhanced, given[2]), given[1])
    assert np.isfinite(value).all() and np.isfinite(gradient).all()


@pytest.mark.parametrize("config", [Stft(), Stft(320, 160, "sqrt_hann")], ids=repr)
def test_all_terms_in_one_training_model(config):
    """An enhancer with another STFT is heard by the wave: its values are near those of the same speech at 512/256."""
    keras.utils.set_random_seed(0)
    system = MaskEnhancer(models.build("dnn", bins=config.bins, units=4, context=1), config)
    clean = [speech_like(0.8, 1), speech_like(0.6, 2)]
    batch = spectrogram_batch([(wave + 0.05 * noise(len(wave) / 16_000), wave) for wave in clean], config)
    text = "hearing_nb:1,hearing_wb:0.5,pmsqe:1,stoi:10,estoi:1,lms:1,lms[memory]:0.1,mrstft:1,mse:3,si_snr:0.1"
    values = np.asarray(objective_model(system, losses.parse(text))(objective_batch(batch)[0]))
    assert values.shape == (2, 10) and np.isfinite(values).all()
    for i, wave in enumerate(clean):
        enhanced, = system.enhance([wave + 0.05 * noise(len(wave) / 16_000)])
        pair = [magnitude(stft(signal))[None] for signal in (wave, enhanced)]
        assert values[i, 0] == pytest.approx(float(hearing_nb(*pair, np.ones(pair[0].shape[:2], bool))[0]), abs=0.15)
        assert values[i, 3] == pytest.approx(float(stoi(wave[None], enhanced[None], np.ones((1, len(wave)), bool))[0]), abs=0.02)
