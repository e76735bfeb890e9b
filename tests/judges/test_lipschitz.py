"""Norms of convolutions against dense matrices and frequency responses; bounds that measured changes keep to."""

import json

import keras
import numpy as np
import pytest

from se_keras import models
from se_keras.errors import UserError
from se_keras.judges.lipschitz import lipschitz_bounds, operator_norm, reshaped_norm
from se_keras.models.quality_net import PYTORCH_QNET
from se_keras.models.quality_net_2018 import as_quality_net

TINY = {"bins": 12, "filters": [[3, 3], [4, 5]]}
KERNEL = np.random.default_rng(0).standard_normal((3, 4, 2, 3)).astype(np.float32)


def matrix(kernel, shape, padding):
    """The convolution as a matrix: its response to each image with a single one in it."""
    count = shape[0] * shape[1] * kernel.shape[2]
    images = np.eye(count, dtype=np.float32).reshape(count, *shape, kernel.shape[2])
    return np.asarray(keras.ops.conv(images, kernel, padding=padding)).reshape(count, -1)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("shape", [(6, 7), (3, 9)])
def test_operator_norm_is_the_largest_singular_value(shape, padding):
    expected = np.linalg.norm(matrix(KERNEL, shape, padding), 2)
    assert operator_norm(KERNEL, shape, padding, iterations=300) == pytest.approx(expected, rel=1e-3)
    assert 0.7 * expected < operator_norm(KERNEL, shape, padding, iterations=3) <= 1.00001 * expected  # it comes from below


def test_operator_norm_is_below_that_of_the_circular_convolution():
    """A 'valid' convolution is the circular one with wrapped outputs left out; a larger image leaves out a smaller part."""
    for side, part in ((8, 0.7), (40, 0.97)):
        circular = np.linalg.norm(np.fft.fft2(KERNEL, s=(side, side), axes=(0, 1)), 2, axis=(-2, -1)).max()
        assert part * circular < operator_norm(KERNEL, (side, side), iterations=100) <= 1.00001 * circular


def test_a_box_has_the_reshaped_norm_3_and_the_operator_norm_9():
    box = np.ones((3, 3, 1, 1), np.float32)
    assert reshaped_norm(box) == pytest.approx(3)
    assert operator_norm(box, (60, 60), iterations=200) == pytest.approx(9, rel=0.01)
    assert reshaped_norm(KERNEL) < operator_norm(KERNEL, (20, 20)) <= np.sqrt(12) * reshaped_norm(KERNEL)


def test_one_patch_has_the_reshaped_norm():
    assert operator_norm(KERNEL, KERNEL.shape[:2], iterations=200) == pytest.approx(reshaped_norm(KERNEL), rel=1e-4)


def test_an_image_smaller_than_the_kernel():
    with pytest.raises(UserError, match="an image of 2 x 9 is smaller than the kernel of 3 x 4; give a larger one, or padding='same'"):
        operator_norm(KERNEL, (2, 9))


@pytest.mark.parametrize("arguments", [{}, {"padding": "same", "batch_normalization": "input", "input_gain": 3.0, "spectral_norm": "none"},
                                       {**PYTORCH_QNET, "input_gain": 5.0}, {"spectral_norm": "operator"},
                                       {"batch_normalization": "utterance"}])
def test_scores_move_by_no_more_than_the_bound(arguments):
    """Along random directions and along the gradient, where they move most."""
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    network = models.build("quality_net", **{**arguments, **TINY})
    rng = np.random.default_rng(0)
    network.set_weights([weight + 0.05 * rng.random(weight.shape) for weight in network.get_weights()])  # as if trained, and all used
    bounds, before = lipschitz_bounds(network, frames=20, iterations=200), network.get_weights()
    core = keras.Model([*network.get_layer("pair").input, network.inputs[2]], network.output)
    pair, everything = tf.Variable(rng.standard_normal((2, 1, 20, 12)).astype(np.float32)), tf.ones((1, 20), "bool")
    with tf.GradientTape() as tape:
        score = core([pair[0], pair[1], everything])
    gradient = tape.gradient(score, pair).numpy()
    steepest = np.linalg.norm(gradient)
    assert 0 < steepest <= bounds["product"]
    for direction in (gradient, rng.standard_normal(pair.shape).astype(np.float32)):
        step = direction / np.linalg.norm(direction)
        moved = core([pair[0] + step[0], pair[1] + step[1], everything]) - score
        assert abs(float(moved[0, 0])) <= bounds["product"]
    assert json.loads(json.dumps(bounds)) == bounds and bounds["input"] == [20, 12]
    for a, b in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_table_names_every_layer_that_counts():
    network = models.build("quality_net", **{**PYTORCH_QNET, **TINY, "input_gain": 2.0, "dense_slope": 1.5})
    bounds = lipschitz_bounds(network, frames=20, iterations=3)
    rows = {row["layer"]: row for row in bounds["layers"]}
    assert list(rows) == ["pair", "conv_1", "batch_normalization_1", "leaky_relu_1", "conv_2", "batch_normalization_2", "leaky_relu_2",
                          "pool", "sn_dense_1", "leaky_relu_dense_1", "sn_dense_2", "leaky_relu_dense_2", "sn_score", "sigmoid"]
    assert [name for name, row in rows.items() if "reshaped_norm" in row] == ["conv_1", "conv_2", "sn_dense_1", "sn_dense_2", "sn_score"]
    assert {name: rows[name]["operator_norm"] for name in ("pair", "leaky_relu_1", "leaky_relu_dense_1", "sigmoid")} == {
        "pair": 2.0, "leaky_relu_1": 1.0, "leaky_relu_dense_1": 1.5, "sigmoid": 0.25}
    assert rows["pool"]["operator_norm"] == pytest.approx((20 * 12) ** -0.5)
    assert rows["batch_normalization_1"]["operator_norm"] == pytest.approx(1, abs=1e-4)
    assert bounds["product"] == pytest.approx(np.prod([row["operator_norm"] for row in rows.values()]))
    valid = lipschitz_bounds(models.build("quality_net", **TINY), frames=3, iterations=3)  # padded to the field of 7: one row is left
    assert valid["input"] == [7, 12]
    assert next(row for row in valid["layers"] if row["layer"] == "pool")["operator_norm"] == pytest.approx(6 ** -0.5)


def test_a_network_whose_norms_are_not_known():
    """No number is better than one that leaves the BLSTM out."""
    network = models.build("quality_net_2018", units=3)
    for judge in (network, as_quality_net(network)):
        with pytest.raises(UserError, match="how far its layer .* can move the score is not known"):
            lipschitz_bounds(judge)
