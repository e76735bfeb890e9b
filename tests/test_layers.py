"""Layers: known values, padding left out, gain left out, spectral norm in float32, frozen to the last bit, save and load."""

import keras
import numpy as np
import pytest

from se_keras.errors import UserError
from se_keras.models import layers
from se_keras.models.blstm import LearnableSigmoid, MaskFloor
from se_keras.models.dft_conv import LargeKernelConv2D
from se_keras.models.quality_net import PadToField, ShortenMask, StackPair
from se_keras.stft import Stft, istft, magnitude, stft
from tests.conftest import speech_like

RNG = np.random.default_rng(0)
MASK = np.arange(6) < np.array([[4], [6]])  # two utterances of 4 and 6 frames
MAGNITUDE = RNG.random((2, 6, 5)).astype(np.float32)


def with_garbage(x, value=1e3):
    """x with other values on padding frames."""
    return np.where(MASK.reshape(MASK.shape + (1,) * (x.ndim - 2)), x, value).astype(np.float32)


@pytest.mark.parametrize("how, at_zero, at_one", [("magnitude", 0, 1), ("log1p", 0, np.log(2)), ("log", np.log(0.01), np.log(1.01)),
                                                  ("root", 1e-4 ** 0.3, 1.0001 ** 0.3)])
def test_compressions_at_zero_and_one(how, at_zero, at_one):
    for function in (lambda x: layers.compress(x, how), layers.Compression(how)):
        np.testing.assert_allclose(function(np.array([[[0.0, 1.0]]], np.float32))[0, 0], [at_zero, at_one], rtol=1e-6)


def test_an_unknown_compression_is_named_with_the_known_ones():
    for function in (lambda: layers.compress(MAGNITUDE, "cube"), lambda: layers.Compression("cube")):
        with pytest.raises(UserError, match="unknown compression 'cube'; known: magnitude, log1p, log, root"):
            function()


def test_level_is_the_rms_of_own_frames():
    level = np.asarray(layers.rms_level(with_garbage(MAGNITUDE), MASK))
    expected = [np.sqrt(np.mean(MAGNITUDE[i, :n] ** 2)) for i, n in enumerate((4, 6))]
    np.testing.assert_allclose(level[:, 0, 0], expected, rtol=1e-6)
    assert np.asarray(layers.rms_level(0 * MAGNITUDE, MASK)).tolist() == [[[1.0]], [[1.0]]]  # silence is never divided by


def test_one_gain_normalises_a_pair():
    level = layers.LevelNormalization()
    np.testing.assert_allclose(level(100 * MAGNITUDE, MASK), level(MAGNITUDE, MASK), rtol=1e-5)
    assert np.sqrt(np.mean(np.square(level(MAGNITUDE, MASK)[1]))) == pytest.approx(1, rel=1e-6)
    np.testing.assert_allclose(level(3 * MAGNITUDE, MASK, reference=MAGNITUDE), 3 * level(MAGNITUDE, MASK), rtol=1e-6)


def test_utterances_are_standardised_on_their_own_frames():
    out = np.asarray(layers.UtteranceNormalization()(with_garbage(MAGNITUDE), MASK))
    for i, n in enumerate((4, 6)):
        np.testing.assert_allclose(out[i, :n].mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(out[i, :n].std(axis=0), 1, atol=1e-4)
    assert (out[0, 4:] == 0).all()


def test_standardised_feature_is_metricgans(shared):
    """The golden feature adds 1e-12 to the deviation, this layer 1e-6 to the variance: the same once a scale makes that little."""
    golden = np.load(shared / "golden" / "metricgan_features.npz")
    everything = np.ones((1, golden["noisy_mag"].shape[1]), bool)
    for feature, expected in ((golden["noisy_mag"], "norm_feature"), (np.log1p(golden["noisy_mag"]), "norm_feature_log1p")):
        np.testing.assert_allclose(layers.UtteranceNormalization()(1000 * feature, everything), golden[expected], atol=1e-3)


@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 5), (2, 6, 5, 3)])
def test_zero_padding(shape):
    x = RNG.random(shape).astype(np.float32)
    np.testing.assert_array_equal(layers.ZeroPadding()(with_garbage(x), MASK), with_garbage(x, 0))


def test_pooling_leaves_padding_out_and_sums_in_float32():
    x = RNG.random((2, 6, 5, 3)).astype(np.float32)
    pool = layers.MaskedGlobalAveragePooling2D()
    expected = [x[0, :4].mean(axis=(0, 1)), x[1].mean(axis=(0, 1))]
    np.testing.assert_allclose(pool(with_garbage(x), MASK), expected, rtol=1e-6)
    everything = np.ones((2, 6), bool)
    np.testing.assert_allclose(pool(x, everything), keras.layers.GlobalAveragePooling2D()(x), rtol=1e-6)
    ones = keras.ops.ones((1, 200, 257, 1), "bfloat16")  # 51,400 ones: a bfloat16 sum would stand still at 256
    assert float(pool(ones, np.ones((1, 200), bool))[0, 0]) == 1 and pool(ones, np.ones((1, 200), bool)).dtype == "float32"


def test_padding_to_the_receptive_field_and_its_mask():
    image = RNG.random((2, 6, 5, 2)).astype(np.float32)
    padded = np.asarray(PadToField(9)(image))
    np.testing.assert_array_equal(padded[:, :6], image)
    assert padded.shape == (2, 9, 5, 2) and (padded[:, 6:] == 0).all()
    assert np.asarray(PadToField(8)(MASK)).tolist() == np.pad(MASK, [(0, 0), (0, 2)]).tolist()
    assert PadToField(6)(image).shape == PadToField(2)(image).shape == image.shape
    # 6 frames less 3 leave 3 windows; the one of 4 frames has 1 that sees no padding
    assert np.asarray(ShortenMask(3)(MASK)).tolist() == [[True, False, False], [True, True, True]]
    # shorter than the field: the first window, padded, is what there is
    assert np.asarray(ShortenMask(5)(MASK)).tolist() == [[True], [True]]
    assert np.asarray(ShortenMask(8)(MASK)).tolist() == [[True], [True]]


def test_pair_and_floor():
    np.testing.assert_array_equal(StackPair(2.0)(MAGNITUDE, 1 - MAGNITUDE), 2 * np.stack([MAGNITUDE, 1 - MAGNITUDE], -1))
    np.testing.assert_allclose(MaskFloor(0.1)(np.array([0.0, 0.05, 0.5], np.float32)), [0.1, 0.1, 0.5])


def test_learnable_sigmoid_starts_as_a_plain_one_and_stays_below_its_steepest():
    layer, z = LearnableSigmoid(), np.float32([[-2, 0, 3]])
    np.testing.assert_allclose(layer(z), 1.2 / (1 + np.exp(-z)), rtol=1e-6)
    layer.slope.assign([0.5, 2.0, 3.0])
    np.testing.assert_allclose(layer(z), 1.2 / (1 + np.exp(-z * [0.5, 2, 3])), rtol=1e-6)
    keras.optimizers.SGD(1.0).apply([-keras.ops.ones(3)], [layer.slope])
    np.testing.assert_allclose(layer.slope, [1.5, 3.0, 3.5])  # 4 is cut, as in SpeechBrain's recipe


def test_magnitude_of_a_spectrum():
    spectrum = RNG.standard_normal((2, 3, 4, 2)).astype(np.float32)
    np.testing.assert_allclose(layers.SpectrumMagnitude()(spectrum), magnitude(spectrum), rtol=1e-6)


def test_resynthesis_is_what_is_left_of_a_masked_spectrum_in_its_wave():
    spectrum = stft(np.stack([speech_like(0.5, 1)[:7680], speech_like(0.5, 2)[:7680]]))
    mask = RNG.random(spectrum.shape[:-1]).astype(np.float32)
    expected = magnitude(stft(istft(spectrum * mask[..., None], 7680)))
    every = np.ones(mask.shape[:2], bool)
    np.testing.assert_allclose(layers.Resynthesis()(spectrum, mask, every), expected, atol=1e-4)
    np.testing.assert_allclose(layers.Resynthesis()(spectrum, np.ones_like(mask), every), magnitude(spectrum), atol=1e-4)


def test_resynthesis_alone_and_in_a_padded_batch():
    spectrum = stft(speech_like(0.5, 1)[None, :7680])
    mask = RNG.random(spectrum.shape[:-1]).astype(np.float32)
    padded, padded_mask = (np.pad(values, [(0, 0), (0, 5)] + [(0, 0)] * (values.ndim - 2)) for values in (spectrum, mask))
    frames = spectrum.shape[1]
    alone = layers.Resynthesis()(spectrum, mask, np.ones((1, frames), bool))
    together = layers.Resynthesis()(padded, padded_mask, np.arange(frames + 5)[None] < frames)
    np.testing.assert_allclose(together[:, :frames], alone, atol=1e-5)


def test_resynthesis_with_a_peak_of_one():
    """The gain of the spectrum does not matter, padding neither."""
    spectrum = stft(np.stack([speech_like(0.5, 1)[:7680], speech_like(0.5, 2)[:7680]]))
    mask = RNG.random(spectrum.shape[:-1]).astype(np.float32)
    waves = istft(spectrum * mask[..., None], 7680)
    expected = magnitude(stft(waves / np.abs(waves).max(axis=1, keepdims=True)))
    every = np.ones(mask.shape[:2], bool)
    for gain in (0.1, 5):
        np.testing.assert_allclose(layers.Resynthesis(unit_peak=True)(np.float32(gain) * spectrum, mask, every), expected, atol=1e-4)
    padded = [np.pad(values, [(0, 0), (0, 5)] + [(0, 0)] * (values.ndim - 2)) for values in (spectrum, mask, every)]
    np.testing.assert_allclose(layers.Resynthesis(unit_peak=True)(*padded)[:, :spectrum.shape[1]], expected, atol=1e-4)


def test_resynthesis_has_a_gradient_at_silence():
    import tensorflow as tf

    mask = tf.Variable(np.ones((1, 4, 257), np.float32))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layers.Resynthesis()(np.zeros((1, 4, 257, 2), np.float32), mask, np.ones((1, 4), bool)))
    assert np.isfinite(tape.gradient(total, mask).numpy()).all()


# --- Convolution by DFT ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding, size, shape", [("valid", 9, (30, 33)), ("same", 11, (25, 9)), ("valid", 11, (11, 40)),
                                                  ("same", 5, (7, 7))])
def test_large_kernels_are_the_convolution_of_keras(padding, size, shape):
    import tensorflow as tf

    x = RNG.standard_normal((2, *shape, 3)).astype(np.float32)
    plain, large = (kind(4, size, padding=padding) for kind in (keras.layers.Conv2D, LargeKernelConv2D))
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


# --- Spectral normalisation ------------------------------------------------------------------------------------------------------


def normalised(layer, kernel, u):
    """A SpectralNormalization of `layer` with this kernel and power-iteration vector."""
    wrapper = layers.SpectralNormalization(layer)
    wrapper.build((None, *((8, 8) if kernel.ndim == 4 else ()), kernel.shape[-2]))
    wrapper.layer.kernel.assign(kernel)
    wrapper.vector_u.assign(u)
    return wrapper


@pytest.mark.parametrize("which", ["conv", "dense"])
def test_power_iteration_matches_the_golden_values(shared, which):
    """After k training calls the kernel is W / sigma_k: dividing by one estimate leaves the next one's ratio to it."""
    golden = np.load(shared / "golden" / "spectral_norm.npz")
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
    import tensorflow as tf

    layer = operator_normalised()
    image = tf.Variable(RNG.standard_normal((1, 20, 30, 3)).astype(np.float32))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(image, training=True) ** 2)
    for gradient in tape.gradient(loss, [image, *(weight.value for weight in layer.trainable_weights)]):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    assert [weight.name for weight in layer.non_trainable_weights] == ["image"]


@pytest.mark.parametrize("layer", [keras.layers.Dense(3), keras.layers.Conv2D(3, 3, strides=2), keras.layers.Conv2D(2, 3, groups=2),
                                   keras.layers.Conv2D(3, 3, dilation_rate=2)])
def test_operator_normalisation_refuses_what_it_does_not_measure(layer):
    with pytest.raises(ValueError, match="not a Conv2D of stride 1, without dilation and groups"):
        layers.OperatorNormalization(layer)


def test_batch_statistics_are_those_of_valid_frames():
    x = RNG.standard_normal((2, 6, 5, 3)).astype(np.float32)
    layer = layers.MaskedBatchNormalization(momentum=0.0, epsilon=1e-6)
    out = np.asarray(layer(with_garbage(x), MASK, training=True))
    own = np.concatenate([x[0, :4], x[1]])
    np.testing.assert_allclose(layer.moving_mean, own.mean(axis=(0, 1)), atol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, own.var(axis=(0, 1)), rtol=1e-5)
    np.testing.assert_allclose(out[MASK].mean(axis=(0, 1)), 0, atol=1e-6)
    np.testing.assert_allclose(out[MASK].std(axis=(0, 1)), 1, atol=1e-5)
    np.testing.assert_allclose(layer(x, MASK)[MASK], out[MASK], atol=1e-5)  # inference by the averages, which are this batch's


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
    assert not changes(layers.Frozen)


# --- Config, save, load ----------------------------------------------------------------------------------------------------------


def every_layer():
    """A model that holds every layer of the project."""
    spectrum = keras.Input((None, 33, 2), name="spectrum")
    frame_mask = keras.Input((None,), dtype="bool", name="frame_mask")
    config = Stft(64, 32, "hann")
    x = layers.Resynthesis(config, name="resynthesis")(spectrum, layers.SpectrumMagnitude(name="magnitude")(spectrum), frame_mask)
    x = layers.Compression("root", name="compression")(layers.LevelNormalization(name="level")(x, frame_mask))
    x = MaskFloor(0.2, name="floor")(layers.UtteranceNormalization(name="standardise")(x, frame_mask))
    x = PadToField(12, name="field")(StackPair(0.5, name="pair")(x, x))
    x = layers.MaskedBatchNormalization(momentum=0.5, name="batch")(x, frame_mask)
    x = layers.OperatorNormalization(keras.layers.Conv2D(3, 3, padding="same"), size=8, name="operator")(x)
    x = layers.SpectralNormalization(LargeKernelConv2D(4, 9, dtype="mixed_bfloat16"), power_iterations=2, name="sn")(x)
    valid = ShortenMask(8, name="shorten")(frame_mask)
    x = layers.MaskedGlobalAveragePooling2D(name="pool")(layers.ZeroPadding(name="zero")(x, valid), valid)
    small = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    return keras.Model([spectrum, frame_mask], layers.Frozen(small, name="frozen")(x))


def test_config_round_trip_and_whole_model_file(tmp_path):
    model = every_layer()
    x = [RNG.standard_normal((2, 14, 33, 2)).astype(np.float32), np.arange(14) < np.array([[10], [14]])]
    expected = model(x)
    assert expected.shape == (2, 2)
    again = keras.Model.from_config(model.get_config())
    assert str(again.get_config()) == str(model.get_config())
    again.set_weights(model.get_weights())
    model.save(tmp_path / "model.keras")
    for copy in (again, keras.models.load_model(tmp_path / "model.keras")):
        np.testing.assert_array_equal(copy(x), expected)
        assert [weight.trainable for weight in copy.weights] == [weight.trainable for weight in model.weights]
        sn = copy.get_layer("sn")
        assert (sn.dtype_policy.name, sn.layer.dtype_policy.name, sn.power_iterations) == ("float32", "mixed_bfloat16", 2)
        before = sn.layer.kernel.numpy().copy()
        sn(np.ones((1, 12, 33, 3), np.float32), training=True)
        after = sn.layer.kernel.numpy()
        assert (after != before).any() and (after != np.asarray(keras.ops.cast(after, "bfloat16"), np.float32)).any()
