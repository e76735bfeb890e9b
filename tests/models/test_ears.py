"""Quality-Net with ears: it begins at the hearing model's value, level and padding mean nothing, it saves, loads and learns."""

import keras
import numpy as np
import pytest
from conftest import noise, speech_like, value_and_gradient

from se_keras import models
from se_keras.errors import UserError
from se_keras.hearing import model as hearing
from se_keras.models.hearing import HearingFrontEnd, unit_score
from se_keras.signals.stft import magnitude, stft

SMALL = {"front_end": "hearing", "filters": [[3, 5], [3, 7]]}


def pair(seconds=1.2, level=0.1, seed=1):
    clean = speech_like(seconds, seed)
    return [magnitude(stft(wave))[None] for wave in (clean + level * noise(seconds, seed), clean)]


def padded(pairs):
    """Pairs of several lengths as one batch: degraded, clean, frame mask."""
    lengths = [each[0].shape[1] for each in pairs]
    stacked = [np.concatenate([np.pad(each[which], [(0, 0), (0, max(lengths) - each[which].shape[1]), (0, 0)], constant_values=0.3)
                               for each in pairs]) for which in (0, 1)]  # what stands on padding must not be heard
    return [*stacked, np.arange(max(lengths)) < np.array(lengths)[:, None]]


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return models.build("quality_net", **SMALL)


def formula(x, band="nb"):
    return np.asarray(unit_score(hearing.score(hearing.hear(x[1], x[0], x[2], band), x[2]), band))


def test_it_begins_at_the_formula(network):
    x = padded([pair(level=0.02), pair(level=0.2, seed=2), pair(0.8, 1.0, 3)])
    value = formula(x)
    np.testing.assert_allclose(np.asarray(network(x))[:, 0], value, atol=0.05)
    assert (np.diff(value) < -0.05).all()
    alone = models.build("quality_net", **{**SMALL, "residual": False}, mean_score=0.4)
    assert np.ptp(np.asarray(alone(x))) < np.ptp(value)  # the value is a feature among others, and nothing is learned yet


def test_the_input_gain_scales_what_is_heard_and_not_the_value():
    x = padded([pair(), pair(level=0.4, seed=2)])
    (maps, value), (louder, same) = (HearingFrontEnd("nb", gain)(*x) for gain in (1.0, 5.0))
    np.testing.assert_allclose(np.asarray(louder), 5 * np.asarray(maps), rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(value), np.asarray(same))


@pytest.mark.parametrize("residual", [True, False])
def test_padding_level_and_company_change_nothing(residual):
    keras.utils.set_random_seed(1)
    network = models.build("quality_net", **{**SMALL, "residual": residual})
    pairs = [pair(), pair(0.7, 0.4, 2), pair(0.2, 0.1, 3)]  # the last is shorter than the receptive field
    together = np.asarray(network(padded(pairs)))
    for number, each in enumerate(pairs):
        np.testing.assert_allclose(np.asarray(network(padded([each])))[0], together[number], atol=2e-5)
        louder = [each[0] * 7, each[1] * 0.2]
        np.testing.assert_allclose(np.asarray(network(padded([louder])))[0], together[number], atol=2e-4)


def test_save_and_load(network, tmp_path):
    x = padded([pair()])
    network.save(tmp_path / "ears.keras")
    again = keras.models.load_model(tmp_path / "ears.keras")
    np.testing.assert_array_equal(again(x), network(x))
    network.save_weights(tmp_path / "ears.weights.h5")
    fresh = models.build("quality_net", **SMALL)
    fresh.load_weights(tmp_path / "ears.weights.h5")
    np.testing.assert_array_equal(fresh(x), network(x))


@pytest.mark.parametrize("degraded", ["silence", "one frame", "equal"])
def test_gradients_are_finite(network, degraded):
    x = padded([pair()])
    x = [part[:, :1] for part in x] if degraded == "one frame" else [{"silence": 0 * x[0], "equal": x[1]}[degraded], *x[1:]]
    others = [keras.ops.convert_to_tensor(part) for part in x[1:]]
    score, gradient = value_and_gradient(lambda degraded: network([degraded, *others]), x[0])
    assert np.isfinite(gradient).all() and np.isfinite(score).all()


def test_it_learns_what_the_formula_lacks():
    """Scores that are the formula's, less a constant, are learned within a few updates; spectral normalisation holds it back no more."""
    keras.utils.set_random_seed(2)
    network = models.build("quality_net", **SMALL)
    x = padded([pair(level=level, seed=seed) for seed, level in enumerate((0.02, 0.1, 0.3, 1.0))])
    wanted = formula(x)[:, None] - 0.1
    network.compile(keras.optimizers.Adam(0.01), "mse")
    inputs = dict(zip(("degraded", "clean", "frame_mask"), x, strict=True))
    before = np.mean((np.asarray(network(x)) - wanted) ** 2)
    for _ in range(60):
        network.train_on_batch(inputs, wanted)
    assert np.mean((np.asarray(network(x)) - wanted) ** 2) < before / 20


def test_all_kernels_are_normalised(network):
    wrapped = [layer.name for layer in network.layers if "SpectralNormalization" in type(layer).__name__]
    assert wrapped == ["sn_conv_1", "sn_conv_2", "sn_dense_1", "sn_dense_2", "sn_score"]


@pytest.mark.parametrize(("arguments", "message"), [
    ({"front_end": "ear"}, "unknown front_end 'ear'; known: spectrogram, hearing"), ({"band": "mb"}, "unknown band 'mb'; known: nb, wb")])
def test_what_cannot_be_built(arguments, message):
    with pytest.raises(UserError, match=message):
        models.build("quality_net", **{**SMALL, **arguments})
