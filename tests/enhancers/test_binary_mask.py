"""The binary-mask family: soft and cut at use, through files and cards; train.py and test.py on a tiny U-Net and autoencoder."""

import json

import keras
import numpy as np
import pytest
from conftest import PREPARE, load_script, noisy_speech, prepare, refused

from se_keras import enhancers, files, losses, models, pretrained
from se_keras.enhancers.binary_mask import BinaryMaskEnhancer
from se_keras.enhancers.magnitude_mask import MaskEstimate
from se_keras.signals.stft import Stft, magnitude, stft

CONFIG = Stft(32, 8, "hann")
UNET = {"frames": 8, "filters": [2, 3], "bottom": 4, "up_filters": [3, 2], "head": [2]}
BODY = {"frames": 16, "filters": [2, 3], "dense_units": [4], "compression": "log"}


@pytest.fixture(scope="module")
def system():
    keras.utils.set_random_seed(0)
    return BinaryMaskEnhancer(models.build("unet_ibm", bins=17, **UNET), CONFIG)


def cut(system):
    """The same network, its mask cut at use."""
    network = models.build("unet_ibm", bins=17, **UNET, at_use="binary")
    network.set_weights(system.network.get_weights())
    return BinaryMaskEnhancer(network, CONFIG)


def test_the_family_has_a_name():
    assert enhancers.family("binary_mask") is BinaryMaskEnhancer
    assert {models.ENHANCERS[name] for name in ("autoencoder_ibm", "unet_ibm")} == {"binary_mask"}


def test_a_soft_mask_is_used_as_it_is(system):
    spectrum = stft(noisy_speech(0.1, 1), CONFIG)
    outputs = system.model([spectrum[None], np.ones((1, len(spectrum)), bool)])
    estimate, = system.estimates([spectrum])
    assert isinstance(estimate, MaskEstimate) and system.at_use == "soft" and ((0 < estimate.values) & (estimate.values < 1)).any()
    np.testing.assert_allclose(outputs["mask"][0], estimate.values, atol=1e-6)
    np.testing.assert_allclose(outputs["magnitude"][0], magnitude(spectrum) * estimate.values, atol=1e-5)
    np.testing.assert_allclose(outputs["spectrum"][0], estimate.spectrum(spectrum), atol=1e-5)
    np.testing.assert_allclose(outputs["noisy_magnitude"][0], magnitude(spectrum), rtol=1e-5, atol=1e-6)


def test_a_binary_mask_is_cut_at_use_and_soft_in_training(system):
    spectra = [stft(noisy_speech(seconds, 1), CONFIG) for seconds in (0.05, 0.1)]
    soft, binary = system.estimates(spectra), cut(system).estimates(spectra)
    for one, other in zip(soft, binary, strict=True):
        np.testing.assert_array_equal(other.values, one.values >= 0.5)
        assert other.values.dtype == np.float32
    own = [spectra[1][None], np.ones((1, len(spectra[1])), bool)]
    np.testing.assert_array_equal(cut(system).model(own)["mask"], system.model(own)["mask"])
    assert cut(system).fingerprint != system.fingerprint
    perturbed = binary[0].perturbed(spectra[0], spectra[0], np.random.default_rng(0)).values
    assert np.isfinite(perturbed).all() and (0 <= perturbed).all() and (perturbed <= 1).all()


def test_waves_keep_their_lengths_and_silence_stays(system):
    waves = [noisy_speech(0.1, 1), noisy_speech(0.07, 2)[:1000], np.zeros(500, np.float32)]
    for each in (system, cut(system)):
        together = each.enhance(waves)
        assert [len(wave) for wave in together] == [len(wave) for wave in waves] and not together[2].any()
        np.testing.assert_allclose(together[1], each.enhance(waves[1:2])[0], atol=1e-5)


def test_the_gradient_is_finite_at_silence(system):
    """Magnitudes are N (x) M as they are: a square root at zero has no gradient."""
    own, learner = np.stack([stft(noisy_speech(0.05, 1), CONFIG), 0 * stft(noisy_speech(0.05, 1), CONFIG)]), cut(system)
    model = keras.Model(learner.model.inputs, learner.model.output["magnitude"])
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    model.train_on_batch([own, np.ones(own.shape[:2], bool)], np.zeros(own.shape[:3], np.float32))
    assert all(np.isfinite(weight).all() for weight in learner.network.get_weights())


def test_a_card_and_an_argument_say_how_it_is_used(system, tmp_path):
    arguments = models.resolve("unet_ibm", {"bins": 17, **UNET})
    system.network.save_weights(tmp_path / "x.weights.h5")
    card = {"network": "unet_ibm", "arguments": arguments, "stft": CONFIG.to_config(), "family": "binary_mask"}
    files.write_json(tmp_path / "x.json", card)
    loaded, _ = pretrained.load_enhancer(tmp_path / "x.json")
    assert arguments["at_use"] == loaded.at_use == "soft" and loaded.fingerprint == system.fingerprint
    assert pretrained.load_enhancer(tmp_path / "x.json", at_use="binary")[0].fingerprint == cut(system).fingerprint
    files.write_json(tmp_path / "x.json", {**card, "arguments": {**arguments, "at_use": "binary"}})
    assert pretrained.load_system(tmp_path / "x.json").at_use == "binary"


# --- The scripts -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("binary")
    prepare.main(["folders", "--speech", str(tree / "S"), "--noise", str(tree / "N"), "--out", str(folder / "data"), *PREPARE])
    return folder


@pytest.mark.parametrize(("name", "arguments", "loss"), [
    ("unet_ibm", {**UNET, "frames": 16}, "ibm_bce_dice[-5dB]:1"), ("autoencoder", BODY, "mse:1")])
def test_the_scripts_take_it(root, name, arguments, loss, monkeypatch, capsys):
    import train

    monkeypatch.chdir(root)
    common = ["--data", "data", "--workers", "1"]
    train.main(["enhancer", *common, "--model", name, "--model-args", json.dumps(arguments), "--loss", loss, "--epochs", "1",
                "--batch", "4", "--crop", "1", "--validation-rows", "2", "--out", name])
    card = json.loads((root / name / "config.json").read_text())
    assert card["family"] == models.ENHANCERS[name] and card["stft"] == {"n_fft": 512, "hop_length": 128, "window": "hann"}
    system = pretrained.load_system(name)
    wave = noisy_speech(0.7, 3)
    enhanced, = system.enhance([wave])
    assert enhanced.shape == wave.shape and np.isfinite(enhanced).all() and 0 < np.abs(enhanced - wave).max()
    load_script("test.py").main([*common, "--systems", "noisy", name, "--limit", "2", "--out", f"{name}-report"])
    assert name in capsys.readouterr().out


@pytest.mark.parametrize(("preset", "parameters"), [
    ("autoencoder", None), ("autoencoder-ibm", None), ("unet-ibm", None), ("autoencoder-small", 5_269_125),
    ("autoencoder-ibm-small", 5_269_121), ("unet-ibm-small", 322_753), ("lstm", 1_183_489)])
def test_the_presets_are_what_the_networks_take(preset, parameters):
    """Those of the originals' sizes, which take seconds to build, are tested beside their networks."""
    import train

    args = train.arguments(["enhancer", "--preset", preset])
    config = Stft.checked({**models.STFTS.get(args.model, {}), **args.stft})
    objective = losses.parse(args.loss)
    assert config.bins == 257 and (models.ENHANCERS[args.model] != "complex_mapping" or objective.terms[0].hears == "magnitude")
    if parameters is None:
        assert {*args.model_args} <= {*models.resolve(args.model, {})}
        assert config.frames(round(16_000 * args.crop)) == 256 and config.hop_length == 128
    else:
        assert models.build(args.model, bins=config.bins, **args.model_args).count_params() == parameters


def test_a_loss_of_masks_needs_a_mask_before_any_work(root, monkeypatch, capsys):
    import train

    monkeypatch.chdir(root)
    message = refused(capsys, train, "enhancer", "--data", "data", "--model", "autoencoder", "--model-args", json.dumps(BODY),
                      "--loss", "ibm_bce", "--out", "none")
    assert "--loss 'ibm_bce:1': ibm_bce compares a mask, and autoencoder (complex_mapping) has none" in message
    assert not (root / "none").exists()
