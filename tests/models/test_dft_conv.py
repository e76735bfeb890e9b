"""The convolution by tiles is the convolution: same outputs, same gradients, any size."""

import keras
import numpy as np
import pytest
from conftest import tensorflow
from keras import ops

from se_keras.backend import on_cpu
from se_keras.models import dft_conv


def stock(layer, x):
    """keras.layers.Conv2D with the weights of `layer`."""
    twin = keras.layers.Conv2D(layer.filters, layer.kernel_size, padding=layer.padding)
    twin.build(x.shape)
    twin.set_weights(layer.get_weights())
    return twin


@pytest.mark.parametrize("size", [9, 11])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("rows, columns", [(47, 61), (22, 33), (11, 11)])  # several tiles and a rest; just over one; one output
def test_equals_the_direct_convolution(size, padding, rows, columns):
    x = np.random.default_rng(0).standard_normal((2, rows, columns, 3)).astype(np.float32)
    layer = dft_conv.LargeKernelConv2D(4, size, padding=padding, bias_initializer="random_normal")
    y = np.asarray(layer(x))
    assert layer._dft_is_faster() == on_cpu()  # or this would compare Conv2D with itself
    expected = np.asarray(stock(layer, x)(x))
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, atol=2e-6 * np.abs(expected).max() + 1e-6)


def test_gradients_equal_those_of_the_direct_convolution():
    tf = tensorflow()
    rng = np.random.default_rng(1)
    x = tf.constant(rng.standard_normal((1, 40, 30, 3)), tf.float32)
    kernel = tf.constant(rng.standard_normal((9, 9, 3, 4)), tf.float32)
    towards = tf.constant(rng.standard_normal((1, 32, 22, 4)), tf.float32)
    found = []
    for convolve in (dft_conv.dft_convolution, lambda x, k: tf.nn.conv2d(x, k, 1, "VALID")):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            value = tf.reduce_sum(convolve(x, kernel) * towards)
        found.append(tape.gradient(value, [x, kernel]))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


def test_batch_and_rows_may_be_unknown_when_the_model_is_built():
    inputs = keras.Input((None, 40, 2))
    model = keras.Model(inputs, dft_conv.LargeKernelConv2D(3, 11)(inputs))
    for batch, rows in ((1, 11), (3, 50)):
        assert model(ops.ones((batch, rows, 40, 2))).shape == (batch, rows - 10, 30, 3)


def test_small_kernels_strides_and_bfloat16_take_the_stock_path():
    x = np.ones((1, 20, 20, 2), np.float32)
    for arguments in ({"kernel_size": 7}, {"kernel_size": 9, "strides": 2}, {"kernel_size": 9, "dtype": "mixed_bfloat16"}):
        layer = dft_conv.LargeKernelConv2D(2, **arguments)
        layer(x)
        assert not layer._dft_is_faster()


def test_a_tile_too_small_for_the_kernel_is_refused():
    with pytest.raises(ValueError, match="tile of 16 is too small for a kernel of 11; it takes at least 20"):
        dft_conv.dft_convolution(ops.ones((1, 20, 20, 1)), ops.ones((11, 11, 1, 1)), n=16)


def test_config_round_trip():
    layer = dft_conv.LargeKernelConv2D(3, 11, padding="same")
    again = dft_conv.LargeKernelConv2D.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize("padding, size, shape", [("valid", 9, (30, 33)), ("same", 11, (25, 9)), ("valid", 11, (11, 40)),
                                                  ("same", 5, (7, 7))])
def test_large_kernels_are_the_convolution_of_keras(padding, size, shape):
    tf = tensorflow()
    x = np.random.default_rng(0).standard_normal((2, *shape, 3)).astype(np.float32)
    plain, large = (kind(4, size, padding=padding) for kind in (keras.layers.Conv2D, dft_conv.LargeKernelConv2D))
    results = []
    for layer in (plain, large):
        layer.build(x.shape)
        layer.set_weights([np.random.default_rng(1).standard_normal((size, size, 3, 4)), np.arange(4)])
        with tf.GradientTape() as tape:
            image = tf.Variable(x)
            y = layer(image)
            loss = tf.reduce_sum(tf.sin(y))
        results.append([y, *tape.gradient(loss, [image, *(weight.value for weight in layer.trainable_weights)])])
    for expected, got in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, atol=3e-5 * np.abs(expected).max())
