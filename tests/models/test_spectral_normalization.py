"""Spectral norms in float32, of reshaped kernels and of convolutions as operators; frozen to the last bit."""

import keras
import numpy as np
import pytest
from conftest import value_and_gradient

from se_keras import models
from se_keras.models import layers, training_layers

RNG = np.random.default_rng(0)


def normalised(layer, kernel, u):
    """A SpectralNormalization of `layer` with this kernel and power-iteration vector."""
    wrapper = layers.SpectralNormalization(layer)
    wrapper.build((None, *((8, 8) if kernel.ndim == 4 else ()), kernel.shape[-2]))
    wrapper.layer.kernel.assign(kernel)
    wrapper.vector_u.assign(u)
    return wrapper


@pytest.mark.parametrize("which", ["conv", "dense"])
def test_power_iteration_matches_the_golden_values(golden, which):
    """After k training calls the kernel is W / sigma_k: dividing by one estimate leaves the next one's ratio to it."""
    golden = np.load(golden / "spectral_norm.npz")
    kernel = golden[f"{which}_W"]
    inner = keras.layers.Conv2D(15, 5) if which == "conv" else keras.layers.Dense(10)
    layer = normalised(inner, kernel, golden[f"{which}_u0"])
    x = np.ones((1, 8, 8, 2) if which == "conv" else (1, 50), np.float32)
    layer(x, training=False)
    np.testing.assert_array_equal(layer.layer.kernel, kernel.astype(np.float32))  # inference changes nothing
    for k in (1, 2, 3):
        layer(x, training=True)
        np.testing.assert_allclose(layer.vector_u, golden[f"{which}_u{k}"], atol=2e-6)
        np.testing.assert_allclose(layer.layer.kernel, kernel / golden[f"{which}_sigma{k}"], atol=2e-6)
    for _ in range(60):
        layer(x, training=True)
    np.testing.assert_allclose(layer.layer.kernel, kernel / golden[f"{which}_true_sigma"], atol=1e-5)
    assert np.linalg.norm(np.reshape(layer.layer.kernel, (-1, kernel.shape[-1])), 2) == pytest.approx(1, abs=1e-5)


def test_bfloat16_stores_the_kernel_of_float32():
    """Keras's own layer rounds the stored kernel to 8 bits here (that is checked too, or this test would test nothing)."""
    kernel = 0.1 * RNG.standard_normal((3, 3, 2, 4)).astype(np.float32)
    u = RNG.standard_normal((1, 4)).astype(np.float32)
    x = RNG.random((1, 8, 8, 2)).astype(np.float32)
    kernels, outputs = {}, {}
    for dtype in ("float32", "mixed_bfloat16"):
        layer = normalised(keras.layers.Conv2D(4, 3, dtype=dtype), kernel, u)
        outputs[dtype] = layer(x, training=True)
        kernels[dtype] = np.asarray(layer.layer.kernel)
    np.testing.assert_allclose(kernels["mixed_bfloat16"], kernels["float32"], atol=1e-7)
    assert outputs["float32"].dtype == "float32" and outputs["mixed_bfloat16"].dtype == "bfloat16"
    np.testing.assert_allclose(keras.ops.cast(outputs["mixed_bfloat16"], "float32"), outputs["float32"], atol=0.02)

    theirs = keras.layers.SpectralNormalization(keras.layers.Conv2D(4, 3, dtype="mixed_bfloat16"), dtype="mixed_bfloat16")
    theirs.build((None, 8, 8, 2))
    theirs.layer.kernel.assign(kernel)
    theirs.vector_u.assign(u)
    theirs(x, training=True)
    assert np.abs(np.asarray(theirs.layer.kernel) - kernels["float32"]).max() > 1e-4


def test_small_updates_do_not_vanish_under_bfloat16():
    """Adding 1e-5 a hundred times moves a weight of 0.5 by 1e-3; in bfloat16 the number after 0.5 is 0.504."""
    kernel = np.zeros((1, 1, 2, 2), np.float32)
    kernel[0, 0] = [[1, 0], [0, 0.5]]  # singular values 1 and 0.5: sigma stays 1 while the other grows
    layer = normalised(keras.layers.Conv2D(2, 1, dtype="mixed_bfloat16"), kernel, np.array([[1.0, 0.0]], np.float32))
    for _ in range(100):
        step = np.zeros_like(kernel)
        step[0, 0, 1, 1] = 1e-5
        layer.layer.kernel.assign_add(step)
        layer(np.ones((1, 8, 8, 2), np.float32), training=True)
    np.testing.assert_allclose(np.asarray(layer.layer.kernel)[0, 0], [[1, 0], [0, 0.501]], atol=5e-6)


def operator_normalised(size=24, filters=6, seed=0, dtype="float32"):
    keras.utils.set_random_seed(seed)
    layer = layers.OperatorNormalization(keras.layers.Conv2D(filters, 5, dtype=dtype), size=size)
    layer.build((None, 20, 30, 3))
    return layer


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_no_image_comes_out_longer_than_it_went_in(dtype):
    """The norm of the effective kernel, of images of any size: the largest singular value of its frequency response, which the reshaped
    kernel's is well below."""
    layer = operator_normalised(dtype=dtype)
    x = np.ones((1, 20, 30, 3), np.float32)
    before = layer.layer.kernel.numpy()
    layer(x, training=False)
    np.testing.assert_array_equal(layer.layer.kernel, before)  # inference changes nothing
    for _ in range(100):
        layer(x, training=True)
    response = np.fft.fft2(layer.layer.kernel.numpy(), s=(128, 128), axes=(0, 1))
    assert 1 <= np.linalg.norm(response, 2, axis=(-2, -1)).max() <= 1.05
    assert np.linalg.norm(layer.layer.kernel.numpy().reshape(-1, 6), 2) < 0.7
    scale = layer.layer.kernel.numpy() / before
    np.testing.assert_allclose(scale, scale.flat[0], rtol=1e-4)  # the kernel keeps its direction, also in bfloat16


def test_one_power_step_by_hand():
    """A kernel of one value is a gain: u is the image's direction, and the norm is found at once."""
    image = RNG.standard_normal((1, 4, 5, 1)).astype(np.float32)
    for padding in ("valid", "same"):
        following, norm = layers.convolution_power_step(np.full((1, 1, 1, 1), -3, np.float32), image, padding)
        assert float(norm) == pytest.approx(3, rel=1e-6)
        np.testing.assert_allclose(following, image / np.linalg.norm(image), rtol=1e-5)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("size", [3, 4])
def test_the_power_step_goes_back_by_the_adjoint(padding, size):
    """<A'u, x> = <u, Ax> = |Ax|, with kernels of odd and of even size."""
    kernel = RNG.standard_normal((size, size, 2, 3)).astype(np.float32)
    x = RNG.standard_normal((1, 7, 9, 2)).astype(np.float32)
    following, norm = layers.convolution_power_step(kernel, x, padding)
    length = np.linalg.norm(keras.ops.conv(x, kernel, padding=padding))
    assert float(np.sum(following * x) * norm) == pytest.approx(length, rel=1e-5)


def test_a_kernel_of_zeros_stays_and_can_grow_again():
    layer = operator_normalised()
    layer.layer.kernel.assign(np.zeros((5, 5, 3, 6)))
    x = np.ones((1, 20, 30, 3), np.float32)
    assert (np.asarray(layer(x, training=True)) == 0).all()
    layer.layer.kernel.assign(RNG.standard_normal((5, 5, 3, 6)))
    assert 0 < np.abs(layer(x, training=True)).max() < 100


def test_gradients_pass_operator_normalisation():
    layer = operator_normalised()
    value, gradient = value_and_gradient(lambda image: layer(image, training=True) ** 2, RNG.standard_normal((1, 20, 30, 3)).astype("f"))
    assert np.isfinite(value).all() and np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    assert [weight.name for weight in layer.non_trainable_weights] == ["image"]


@pytest.mark.parametrize("layer", [keras.layers.Dense(3), keras.layers.Conv2D(3, 3, strides=2), keras.layers.Conv2D(2, 3, groups=2),
                                   keras.layers.Conv2D(3, 3, dilation_rate=2)])
def test_operator_normalisation_refuses_what_it_does_not_measure(layer):
    with pytest.raises(ValueError, match="not a Conv2D of stride 1, without dilation and groups"):
        layers.OperatorNormalization(layer)


def inner():
    inputs = keras.Input((3,))
    x = keras.layers.BatchNormalization()(inputs)
    return keras.Model(inputs, layers.SpectralNormalization(keras.layers.Dense(1))(x))


def inner_of_images():
    inputs = keras.Input((3,))
    x, frame_mask = keras.layers.Reshape((3, 1, 1))(inputs), keras.ops.isfinite(inputs)
    x = layers.MaskedBatchNormalization()(x, frame_mask)
    x = layers.OperatorNormalization(keras.layers.Conv2D(2, 3, padding="same"), size=6)(x)
    return keras.Model(inputs, layers.MaskedGlobalAveragePooling2D()(x, frame_mask))


@pytest.mark.parametrize("inner", [inner, inner_of_images])
def test_frozen_stays_frozen_through_fit(inner):
    """Called with training=False directly, `fit` would have its way with the kernel and the averages (that is checked too)."""

    def changes(wrap):
        network = inner()
        network.trainable = False
        inputs = keras.Input((3,))
        first = keras.layers.Dense(3)
        model = keras.Model(inputs, wrap(network)(first(inputs)))
        before, first_before = network.get_weights(), first.get_weights()
        model.compile("sgd", "mse")
        model.fit(RNG.random((8, 3)), RNG.random((8, 1)), batch_size=4, verbose=0)
        assert any((a != b).any() for a, b in zip(first_before, first.get_weights(), strict=True))  # a gradient came through
        return any((a != b).any() for a, b in zip(before, network.get_weights(), strict=True))

    assert changes(lambda network: lambda x: network(x, training=False))
    assert not changes(training_layers.Frozen)


def power_iteration(kernel, u):
    """A kernel divided by its norm, and the next vector, in NumPy."""
    matrix = kernel.reshape(-1, kernel.shape[-1])
    v = u @ matrix.T
    v /= np.linalg.norm(v)
    u = v @ matrix
    u /= np.linalg.norm(u)
    return kernel / (v @ matrix @ u.T), u


def test_ten_updates_are_those_of_a_plain_network_normalised_by_hand():
    """Before each update the kernels are normalised, gradients are of the normalised ones: on JAX as on TensorFlow."""
    filters = {"filters": [[2, 3], [3, 3]], "bins": 17}
    keras.utils.set_random_seed(3)
    network, plain = models.build("quality_net", **filters), models.build("quality_net", **filters, spectral_norm="none")
    by_hand = []
    for wrapper in (layer for layer in network.layers if isinstance(layer, layers.SpectralNormalization)):
        twin = plain.get_layer(wrapper.layer.name)
        twin.set_weights(wrapper.layer.get_weights())
        by_hand.append((twin.kernel, np.asarray(wrapper.vector_u)))
    model = layers.normalise_before_updates(keras.Model(network.inputs, network(network.inputs) * 1.0))  # within another that is trained
    for each in (model, plain):
        each.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=keras.backend.backend() == "jax")
    x = {name: RNG.random((4, 12, 17)).astype(np.float32) for name in ("degraded", "clean")} | {"frame_mask": np.ones((4, 12), bool)}
    y = RNG.random((4, 1)).astype(np.float32)
    for _ in range(10):
        for place, (kernel, u) in enumerate(by_hand):
            normalised, u = power_iteration(np.asarray(kernel), u)
            kernel.assign(normalised)
            by_hand[place] = kernel, u
        losses = [float(each.train_on_batch(x, y)) for each in (model, plain)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    moved = network.get_layer("sn_score")
    np.testing.assert_allclose(moved.layer.kernel, by_hand[-1][0], atol=1e-4)
    np.testing.assert_allclose(moved.vector_u, by_hand[-1][1], atol=1e-5)


def test_on_jax_a_model_that_would_lose_its_kernels_says_so():
    if keras.backend.backend() != "jax":
        pytest.skip("needs KERAS_BACKEND=jax: elsewhere a call may assign to trainable variables")
    model = keras.Sequential([keras.Input((3,)), layers.SpectralNormalization(keras.layers.Dense(1))])
    model.compile("sgd", "mse")
    with pytest.raises(RuntimeError, match=r"call se_keras.models.layers.normalise_before_updates\(model\) before the first update"):
        model.train_on_batch(np.ones((2, 3)), np.ones((2, 1)))
    layers.normalise_before_updates(model).train_on_batch(np.ones((2, 3)), np.ones((2, 1)))
