"""Systems: waves in, waves of the same length out, each as if it were alone; a fingerprint for equal outputs."""

import keras
import numpy as np
import pytest
from conftest import speech_like

from se_keras import models
from se_keras.enhancers import base
from se_keras.enhancers.base import pad_frames
from se_keras.enhancers.magnitude_mask import MaskEnhancer
from se_keras.errors import UserError
from se_keras.pretrained import load_system
from se_keras.signals.stft import Stft, istft, magnitude, stft

CONFIG = Stft(64, 32)
WAVES = [speech_like(seconds, seed) for seed, seconds in enumerate((0.3, 0.1, 0.2))] + [np.zeros(1000, np.float32), speech_like(0.1, 9)[:7]]


@pytest.fixture(scope="module")
def system():
    keras.utils.set_random_seed(0)
    return MaskEnhancer(models.build("blstm", bins=33, units=4, dense_units=5), CONFIG, "small")


def test_noisy_is_the_identity():
    system = load_system("noisy")
    assert (system.name, system.fingerprint) == ("noisy", "noisy")
    for wave, out in zip(WAVES, system.enhance(WAVES), strict=True):
        assert out is wave


def test_waves_together_are_enhanced_as_alone(system, monkeypatch):
    together = system.enhance(WAVES)
    monkeypatch.setattr(base, "MAX_BATCH_FRAMES", 200)  # a batch of one, of two, ...
    for wave, out, split in zip(WAVES, together, system.enhance(WAVES), strict=True):
        alone, = system.enhance([wave])
        assert out.shape == wave.shape and out.dtype == np.float32
        np.testing.assert_allclose(out, alone, atol=1e-5)
        np.testing.assert_allclose(split, alone, atol=1e-5)
    assert (together[3] == 0).all() and system.enhance([]) == []


def test_memory_is_bounded_by_the_frames_of_a_batch(system, monkeypatch):
    monkeypatch.setattr(base, "MAX_BATCH_FRAMES", 100)
    shapes, predict = [], system.network.predict_on_batch
    monkeypatch.setattr(system.network, "predict_on_batch", lambda x: shapes.append(x[0].shape) or predict(x))
    system.masks([np.ones((n, 33), np.float32) for n in (150, 10, 48, 16, 30, 20)])
    assert sorted(shape[:2] for shape in shapes) == [(1, 160), (2, 48), (3, 32)]  # by length; the one of 150 stands alone


def test_the_mask_scales_the_noisy_spectrum(system):
    """|N| (x) G(N) with the noisy phase."""
    wave = WAVES[0]
    spectrum = stft(wave, CONFIG)
    mask, = system.masks([magnitude(spectrum)])
    np.testing.assert_allclose(system.enhance([wave])[0], istft(spectrum * mask[..., None], len(wave), CONFIG), atol=1e-6)


def test_the_spectral_model_gives_mask_and_masked_magnitude(system):
    spectra, frame_mask = pad_frames([stft(wave, CONFIG) for wave in WAVES[:3]])
    outputs = system.model([spectra, frame_mask])
    np.testing.assert_allclose(outputs["noisy_magnitude"], magnitude(spectra), rtol=1e-6)
    np.testing.assert_array_equal(outputs["magnitude"], np.asarray(outputs["mask"]) * np.asarray(outputs["noisy_magnitude"]))
    for i, mask in enumerate(system.masks([magnitude(stft(wave, CONFIG)) for wave in WAVES[:3]])):
        np.testing.assert_allclose(outputs["mask"][i, :len(mask)], mask, atol=1e-5)


def test_padded_frames():
    batch, frame_mask = pad_frames([np.ones((3, 2)), np.ones((17, 2))])
    assert batch.shape == (2, 32, 2) and batch.sum() == 40 and frame_mask.sum(axis=1).tolist() == [3, 17]


def test_a_fingerprint_is_that_of_weights_network_and_stft(system):
    """Not of the order in which networks were built: a score found by it must be found in another process too."""
    arguments = {"bins": 33, "units": 4, "dense_units": 5}

    def fingerprint(config=CONFIG, weights=None, **changed):
        network = models.build("blstm", **{**arguments, **changed})
        network.set_weights(system.network.get_weights() if weights is None else weights)
        return MaskEnhancer(network, config, "another name").fingerprint

    assert fingerprint() == system.fingerprint
    weights = [weight.copy() for weight in system.network.get_weights()]
    weights[-1][0] += 1e-6
    others = [fingerprint(weights=weights), fingerprint(Stft(64, 16)), fingerprint(mask_floor=0.1), fingerprint(compression="log1p")]
    assert len({system.fingerprint, *others}) == 5


def test_an_unknown_system():
    with pytest.raises(UserError, match="spectral: no such model; shipped: "):
        load_system("spectral")
