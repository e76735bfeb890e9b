"""The doors of other families: a tiny network of each is trained, fine-tuned, enhances, is scored and goes on, by the scripts."""

import json

import keras
import numpy as np
import pytest
from conftest import FINETUNE, PREPARE, QUALITY_NET, load_script, prepare, save_with_card, speech_like

from se_keras import enhancers, models, pretrained
from se_keras.enhancers.base import SpectrumEstimate
from se_keras.enhancers.magnitude_mask import MaskEstimate
from se_keras.errors import UserError
from se_keras.judges.diet import Pair, pair_estimates
from se_keras.signals.stft import Stft, magnitude, stft

FAMILIES = ("complex_mapping", "complex_mask")
OTHER = '{"n_fft": 320, "hop_length": 160, "window": "sqrt_hann"}'  # not Quality-Net's


def tiny(bins=257, units=6, identity=1.0, name="tiny"):
    """A network from spectrum to spectrum (or complex mask): a dense layer on both parts, beside what leaves speech as it is."""
    spectrum = keras.Input((None, bins, 2), name="spectrum")
    frame_mask = keras.Input((None,), dtype="bool", name="frame_mask")
    x = keras.layers.Dense(units, activation="tanh", name="hidden")(keras.layers.Reshape((-1, 2 * bins), name="flat")(spectrum))
    x = keras.layers.Reshape((-1, bins, 2), name="parts")(keras.layers.Dense(2 * bins, name="out", kernel_initializer="zeros")(x))
    return keras.Model([spectrum, frame_mask], x, name=name)


def mapping(bins=257, units=6, name="tiny_mapping"):
    network = tiny(bins, units, name="core")
    spectrum, frame_mask = network.inputs
    return keras.Model(network.inputs, spectrum + network.outputs[0], name=name)


def mask(bins=257, units=6, name="tiny_mask"):
    network = tiny(bins, units, name="core")
    one = np.array([1.0, 0.0], np.float32)
    return keras.Model(network.inputs, network.outputs[0] + one, name=name)


BUILDERS = {"complex_mapping": ("tiny_mapping", mapping), "complex_mask": ("tiny_mask", mask)}


@pytest.fixture(scope="module", autouse=True)
def registered():
    """The tiny networks, known by name while these tests run."""
    for family, (name, build) in BUILDERS.items():
        models.register(name, build, family)
    yield
    for name, _ in BUILDERS.values():
        del models.ENHANCERS[name], models._registered[name]


@pytest.fixture(scope="module")
def root(tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("families")
    prepare.main(["folders", "--speech", str(tree / "S"), "--noise", str(tree / "N"), "--out", str(folder / "data"), *PREPARE])
    return folder


@pytest.mark.parametrize(("family", "stft"), [("complex_mapping", "{}"), ("complex_mask", OTHER)])
def test_every_script_takes_a_family(root, family, stft, monkeypatch, capsys):
    """One with Quality-Net's STFT, one with another: then Quality-Net hears the wave."""
    import enhance
    import finetune
    import train

    monkeypatch.chdir(root)
    name = BUILDERS[family][0]
    common = ["--data", "data", "--workers", "1"]
    train.main(["enhancer", *common, "--model", name, "--stft", stft, "--loss", "mse:1,si_snr:0.01", "--epochs", "1", "--batch", "4",
                "--crop", "1", "--out", name])
    card = json.loads((root / name / "config.json").read_text())
    assert card["family"] == family and card["network"] == name and card["training"]["loss"] == "mse:1,si_snr:0.01"
    header = (root / name / "history.csv").read_text().splitlines()[0].split(",")
    assert {"loss", "loss_mse", "loss_si_snr", "valid_mse", "valid_si_snr", "pesq_raw"} <= set(header)

    quality_net = f"{name}-quality"
    train.main(["quality-net", "--data", "data", "--enhancer", name, "--out", quality_net, *QUALITY_NET])
    tune = ["--data", "data", "--enhancer", name, "--quality-net", quality_net, *FINETUNE]
    finetune.main([*tune, "--out", f"{name}-frozen", "--loss", "quality_linear:1,mse:0.5"])
    system = pretrained.load_system(f"{name}-frozen")
    assert isinstance(system, enhancers.family(family)) and system.config == Stft(**json.loads(stft))
    noisy = speech_like(1.0, 3)
    enhanced, = system.enhance([noisy])
    assert enhanced.shape == noisy.shape and np.isfinite(enhanced).all() and 0 < np.abs(enhanced - noisy).max()
    from conftest import write_recordings

    write_recordings(root)
    assert enhance.main(["noisy.wav", "--enhancer", f"{name}-frozen", "--out", f"{name}.wav"]) == 0
    load_script("test.py").main(["--data", "data", "--systems", "noisy", name, f"{name}-frozen", "--quality-net", quality_net,
                                 "--limit", "4", "--workers", "1", "--out", f"{name}-report"])
    assert name in capsys.readouterr().out


@pytest.mark.parametrize(("family", "stft"), [("complex_mapping", "{}"), ("complex_mask", OTHER)])
def test_turns_with_a_family_go_on_to_the_same_bits(trained, family, stft, tmp_path, monkeypatch):
    """Replay, anchored: stopped and gone on with, it ends as if it had not been."""
    import finetune

    monkeypatch.chdir(tmp_path)
    (name, build), config = BUILDERS[family], Stft(**json.loads(stft))
    keras.utils.set_random_seed(0)
    start = save_with_card("start", build(config.bins), name, {"bins": config.bins}, config, family=family)
    replay = ["--data", str(trained / "data"), "--enhancer", str(start), "--quality-net", str(trained / "quality-net"), *FINETUNE,
              "--update", "replay", "--anchor", "--turns", '{"round": 1, "sample": 2}', "--validate-every", "1"]
    for run, iterations in (("whole", "4"), ("halves", "2"), ("halves", "4")):
        finetune.main([*replay, "--out", run, "--iterations", iterations])
    one, other = (pretrained.load(f"{run}/last.weights.h5")[0].get_weights() for run in ("whole", "halves"))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module", params=FAMILIES)
def system(request):
    keras.utils.set_random_seed(1)
    name, build = BUILDERS[request.param]
    network = build()
    network.set_weights([weight + 0.02 * np.random.default_rng(0).standard_normal(weight.shape) for weight in network.get_weights()])
    return enhancers.family(request.param)(network, Stft(), name)


def test_the_functional_model_is_what_enhances(system):
    wave = speech_like(0.3, 2)
    spectrum = stft(wave)
    outputs = system.model([spectrum[None], np.ones((1, len(spectrum)), bool)])
    estimate, = system.estimates([spectrum])
    np.testing.assert_allclose(outputs["spectrum"][0], estimate.spectrum(spectrum), atol=1e-4)
    np.testing.assert_allclose(outputs["magnitude"][0], estimate.magnitude(spectrum), atol=1e-4)
    np.testing.assert_allclose(outputs["noisy_magnitude"][0], magnitude(spectrum), rtol=1e-5, atol=1e-6)
    together = system.enhance([wave, speech_like(0.5, 4)])[0]
    np.testing.assert_allclose(together, system.enhance([wave])[0], atol=1e-5)


def test_families_of_equal_weights_are_told_apart(system):
    other = enhancers.family("complex_mask" if system.family == "complex_mapping" else "complex_mapping")
    assert other(system.network, system.config).fingerprint != system.fingerprint


def test_an_estimate_is_perturbed_on_its_magnitude_and_keeps_its_phase(system):
    noisy, clean = stft(speech_like(0.3, 2) + 0.05), stft(speech_like(0.3, 2))
    estimate, = system.estimates([noisy])
    changed = estimate.perturbed(noisy, clean, np.random.default_rng(0))
    assert isinstance(changed, SpectrumEstimate) and np.isfinite(changed.values).all()
    loud = magnitude(estimate.values) > 1e-3
    ratio = changed.values[loud] / magnitude(changed.values)[loud][:, None]
    np.testing.assert_allclose(ratio, estimate.values[loud] / magnitude(estimate.values)[loud][:, None], atol=1e-3)
    assert np.abs(magnitude(changed.values) - magnitude(estimate.values)).max() > 0.1
    silent = np.zeros_like(noisy)
    assert np.isfinite(SpectrumEstimate(silent).perturbed(silent, silent, np.random.default_rng(0)).values).all()


def test_another_stft_is_heard_as_a_wave(enhancer, rows):
    """A mask enhancer's estimate for a judge with another STFT is the spectrum of its wave, for feed and label alike."""
    judge = Stft(512, 128, "hann")
    assert enhancer.estimate_type(judge) is SpectrumEstimate and enhancer.estimate_type(enhancer.config) is MaskEstimate
    from se_keras.signals import mixing

    noisy, clean = mixing.pair(rows[0])
    spectra = [(stft(noisy, judge), stft(clean, judge))]
    estimate, = pair_estimates([Pair(rows[0], "enhanced")], spectra, [enhancer], judge)
    expected = stft(enhancer.enhance([noisy])[0], judge)
    np.testing.assert_allclose(estimate.spectrum(None)[:-4], expected[:-4], atol=1e-3)  # the last part of a hop aside


def test_an_unknown_family_is_named_with_the_known_ones():
    with pytest.raises(UserError, match="unknown family 'binary'; known: magnitude_mask, binary_mask, complex_mask, complex_mapping"):
        enhancers.family("binary")
    assert enhancers.family(None).family == "magnitude_mask"  # a card from before there were families
