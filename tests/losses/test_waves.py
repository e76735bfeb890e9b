"""Terms of waves: known values, the DCCRN study's code, its couplings."""

import json

import numpy as np
import pytest
from conftest import noise, speech_like

from se_keras import losses
from se_keras.losses.lms import lms
from se_keras.losses.waves import mse_wave, sdr
from se_keras.signals.stft import Stft, stft

TERMS = {"mse_wave": mse_wave, "sdr": sdr}


def every(wave):
    return np.ones(wave.shape, bool)


def test_known_values():
    """An error of 0.1 everywhere has the square 0.01; a tenth of the power is 10 dB; unlike SI-SDR, half the level is 6 dB."""
    clean = speech_like(0.5)[None]
    assert float(mse_wave(clean, clean + np.float32(0.1), every(clean))[0]) == pytest.approx(0.01, rel=1e-4)
    error = noise(0.5)[None]
    error *= np.float32(np.sqrt(0.1 * np.mean(clean ** 2) / np.mean(error ** 2)))
    assert float(sdr(clean, clean + error, every(clean))[0]) == pytest.approx(-10, abs=1e-3)
    assert float(sdr(clean, clean / 2, every(clean))[0]) == pytest.approx(-20 * np.log10(2), abs=1e-3)


def test_the_reference_code(golden_signals):
    """MSE is its own. Its SDR squares both energies: it is twice the dB."""
    folder, signals, name = golden_signals
    values = json.loads((folder / "dccrn_pmsqe_losses.json").read_text())
    clean = signals["clean"][None]
    for kind in ("noisy", "enh"):
        expected, wave = values[f"{name}_{kind}"], signals[kind][None]
        assert float(mse_wave(clean, wave, every(wave))[0]) == pytest.approx(expected["mse"], rel=1e-5)
        assert -2 * float(sdr(clean, wave, every(wave))[0]) == pytest.approx(expected["sdr_repo"], abs=2e-5)


def test_couplings_have_the_constants_of_the_reference_code(golden_signals):
    """(1000 MSE + LMS) / 1001 and (SDR + 2 LMS) / 3, its SDR doubled and its LMS in its memory order, from terms of ours."""
    folder, signals, name = golden_signals
    values = json.loads((folder / "dccrn_pmsqe_losses.json").read_text())
    config = Stft(512, 100, "hann", 400, center=False)
    magnitudes = {kind: np.sqrt(np.sum(np.square(stft(wave, config)), axis=-1) + 1e-7)[None].astype(np.float32)
                  for kind, wave in signals.items()}
    clean, frames = signals["clean"][None], np.ones(magnitudes["clean"].shape[:2], bool)
    for kind in ("noisy", "enh"):
        wave, expected = signals[kind][None], values[f"{name}_{kind}"]
        term = {"mse_wave": mse_wave(clean, wave, every(wave)), "sdr": 2 * sdr(clean, wave, every(wave)),
                "lms": lms(magnitudes["clean"], magnitudes[kind], frames, "memory")}
        for ours, theirs in (("mse+lms", "MSE+LMS"), ("sdr+lms", "SDR+LMS")):
            total = sum(weight * float(term[part][0]) for part, weight in losses.parse(ours).weights.items())
            assert total == pytest.approx(expected[f"loss[{theirs}]"], abs=5e-5)


@pytest.mark.parametrize("name", losses.COUPLINGS)
def test_every_coupling_is_an_expression_whose_weights_sum_to_one(name):
    objective = losses.parse(name)
    assert sum(objective.weights.values()) == pytest.approx(1, abs=1e-5)
    assert losses.parse(objective.text) == objective


@pytest.mark.parametrize("name", TERMS)
def test_a_wave_alone_and_in_a_padded_batch(name):
    lengths = (3000, 5000)
    clean, enhanced, own = np.zeros((2, 6000), np.float32), np.zeros((2, 6000), np.float32), np.zeros((2, 6000), bool)
    for i, length in enumerate(lengths):
        clean[i, :length], own[i, :length] = speech_like(1.0, i)[:length], True
        enhanced[i] = clean[i] + 0.1 * noise(1.0, i)[:6000]  # garbage on the padding
    together = np.asarray(TERMS[name](clean, enhanced, own))
    assert together.shape == (2,) and together.dtype == np.float32
    for i, length in enumerate(lengths):
        np.testing.assert_allclose(TERMS[name](*(x[i:i + 1, :length] for x in (clean, enhanced, own))), together[i:i + 1], rtol=1e-5)


@pytest.mark.parametrize("name", TERMS)
def test_silence_is_finite(name):
    import keras

    silent = np.zeros((1, 100), np.float32)
    assert np.isfinite(np.asarray(TERMS[name](silent, silent, every(silent)))).all()
    assert np.isfinite(keras.ops.convert_to_numpy(TERMS[name](silent, silent + 1, every(silent)))).all()
