"""The compressed spectral loss: known values, TF-GridNet's code, padding, silence."""

import json

import keras
import numpy as np
import pytest
from conftest import speech_like

from se_keras import losses, models
from se_keras.errors import UserError
from se_keras.losses.compressed import compressed
from se_keras.losses.si_snr import si_sdr
from se_keras.signals.stft import Stft, stft

CONFIG = Stft(**models.STFTS["tfgridnet"])


def published(clean, estimate):
    """TF-GridNet's two terms of a pair of waves, from terms of ours."""
    spectra = [stft(wave, CONFIG)[None] for wave in (clean, estimate)]
    own = np.ones((1, len(clean)), bool)
    return (float(compressed(*spectra, np.ones(spectra[0].shape[:2], bool), "repository")[0]),
            0.1 * float(si_sdr(clean[None], estimate[None], own)[0]))


def test_known_values():
    """A bin of 2 beside one of 1: |2^0.3 - 1|^2 in the magnitude and, of one phase, in the real part; turned by 90 degrees, 1 + 1."""
    clean = np.tile(np.float32([1, 0]), (1, 2, 3, 1))
    every = np.ones((1, 2), bool)
    assert float(compressed(clean, 2 * clean, every)[0]) == pytest.approx(100 * (2 ** 0.3 - 1) ** 2, rel=1e-5)
    assert float(compressed(clean, 2 * clean, every, "repository")[0]) == pytest.approx(
        70 * (2 ** 0.7 - 1) ** 2 + 30 * (2 ** 0.3 - 1) ** 2, rel=1e-5)
    assert float(compressed(clean, clean[..., ::-1], every)[0]) == pytest.approx(30 * 2, rel=1e-5)
    assert float(compressed(clean, clean, every)[0]) == 0


def test_the_reference_code(golden_signals):
    """Its SI-SNR is a tenth of the dB, of the waves with their means: a tenth of si_sdr."""
    folder, signals, name = golden_signals
    values = json.loads((folder / "tfgridnet_losses.json").read_text())
    for kind in ("noisy", "enh"):
        expected, (spectral, sisnr) = values[f"{name}_{kind}"], published(signals["clean"], signals[kind])
        assert spectral == pytest.approx(expected["stft"], rel=1e-5)
        assert sisnr == pytest.approx(expected["sisnr"], rel=1e-5, abs=2e-6)
        assert spectral + sisnr == pytest.approx(expected["hybrid"], rel=1e-5)


def test_the_reference_code_in_stages(golden_signals):
    """Noisy speech against targets of 0, 5, 10 and 15 dB, by variances, and clean speech: 0.6 dB of its own."""
    folder, signals, name = golden_signals
    values = json.loads((folder / "tfgridnet_losses.json").read_text())
    if f"progressive_{name}" not in values:
        pytest.skip("the reference code was run in stages on real speech alone, so there are no golden values for the synthetic signals")
    clean, noise = signals["clean"], signals["noisy"] - signals["clean"]
    targets = [clean + np.sqrt(clean.var() * 10 ** (-snr_db / 10) / noise.var()) * noise for snr_db in (0, 5, 10, 15)]
    stages = [sum(published(target, signals["noisy"])) for target in (*targets, clean)]
    np.testing.assert_allclose(stages, values[f"progressive_{name}"]["per_stage"], rtol=1e-5)
    assert sum(stages) == pytest.approx(values[f"progressive_{name}"]["total"], rel=1e-5)


def test_an_utterance_alone_and_in_a_padded_batch():
    rng = np.random.default_rng(0)
    clean, enhanced = rng.standard_normal((2, 2, 6, 9, 2)).astype(np.float32)
    frame_mask = np.arange(6) < np.array([[6], [4]])
    together = keras.ops.convert_to_numpy(compressed(clean, enhanced, frame_mask))
    assert together.shape == (2,) and together.dtype == np.float32
    alone = compressed(clean[1:, :4], enhanced[1:, :4], frame_mask[1:, :4])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(alone), together[1:], rtol=1e-5)


def test_silence_has_a_finite_gradient():
    """Of an estimate that is silent where speech is, and where it is not."""
    inputs = keras.Input((4, 9, 2))
    gain = keras.layers.Dense(2, use_bias=False, kernel_initializer="zeros")
    model = keras.Model(inputs, gain(inputs))
    every = np.ones((1, 4), bool)
    model.compile(keras.optimizers.SGD(1e-6), lambda clean, made: compressed(clean, made, every), jit_compile=False)
    clean = np.zeros((1, 4, 9, 2), np.float32)
    clean[:, 2:] = 1
    assert np.isfinite(model.train_on_batch(clean, clean)) and np.isfinite(gain.get_weights()[0]).all()


def test_it_is_a_term_with_an_option():
    term, = losses.parse("compressed[repository]:2").terms
    assert (term.hears, term.weight) == ("spectrum", 2)
    spectrum = stft(speech_like(0.2), CONFIG)[None]
    every = np.ones(spectrum.shape[:2], bool)
    assert float(term.function(spectrum, spectrum / 2, every)[0]) == float(compressed(spectrum, spectrum / 2, every, "repository")[0])
    with pytest.raises(UserError, match="unknown exponent of compressed 'both'; known: paper, repository"):
        losses.parse("compressed[both]:1")
