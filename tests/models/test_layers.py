"""Layers: known values, padding left out, gain left out, config, save and load."""

import keras
import numpy as np
import pytest
from conftest import speech_like, tensorflow

from se_keras.errors import UserError
from se_keras.models import layers, training_layers
from se_keras.models.blstm import LearnableSigmoid, MaskFloor
from se_keras.models.dft_conv import LargeKernelConv2D
from se_keras.models.quality_net import PadToField, ShortenMask, StackPair
from se_keras.signals import magnitudes
from se_keras.signals.stft import Stft, istft, magnitude, stft

RNG = np.random.default_rng(0)
MASK = np.arange(6) < np.array([[4], [6]])  # two utterances of 4 and 6 frames
MAGNITUDE = RNG.random((2, 6, 5)).astype(np.float32)


def with_garbage(x, value=1e3):
    """x with other values on padding frames."""
    return np.where(MASK.reshape(MASK.shape + (1,) * (x.ndim - 2)), x, value).astype(np.float32)


@pytest.mark.parametrize("how, at_zero, at_one", [("magnitude", 0, 1), ("log1p", 0, np.log(2)), ("log", np.log(0.01), np.log(1.01)),
                                                  ("root", 1e-4 ** 0.3, 1.0001 ** 0.3)])
def test_compressions_at_zero_and_one(how, at_zero, at_one):
    for function in (lambda x: magnitudes.compress(x, how), layers.Compression(how)):
        np.testing.assert_allclose(function(np.array([[[0.0, 1.0]]], np.float32))[0, 0], [at_zero, at_one], rtol=1e-6)


def test_an_unknown_compression_is_named_with_the_known_ones():
    for function in (lambda: magnitudes.compress(MAGNITUDE, "cube"), lambda: layers.Compression("cube")):
        with pytest.raises(UserError, match="unknown compression 'cube'; known: magnitude, log1p, log, root"):
            function()


def test_level_is_the_rms_of_own_frames():
    level = np.asarray(magnitudes.rms_level(with_garbage(MAGNITUDE), MASK))
    expected = [np.sqrt(np.mean(MAGNITUDE[i, :n] ** 2)) for i, n in enumerate((4, 6))]
    np.testing.assert_allclose(level[:, 0, 0], expected, rtol=1e-6)
    assert np.asarray(magnitudes.rms_level(0 * MAGNITUDE, MASK)).tolist() == [[[1.0]], [[1.0]]]  # silence is never divided by


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


def test_standardised_feature_is_metricgans(golden):
    """The golden feature adds 1e-12 to the deviation, this layer 1e-6 to the variance: the same once a scale makes that little."""
    golden = np.load(golden / "metricgan_features.npz")
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


def resynthesis(**arguments):
    """Of a noisy spectrum, a mask and a frame mask: the magnitude of the wave, as training through it has it."""
    waveform, transform = training_layers.Waveform(), training_layers.WaveMagnitude(**arguments)
    return lambda noisy, mask, frame_mask: transform(waveform(noisy * mask[..., None], frame_mask))


def test_resynthesis_is_what_is_left_of_a_masked_spectrum_in_its_wave():
    spectrum = stft(np.stack([speech_like(0.5, 1)[:7680], speech_like(0.5, 2)[:7680]]))
    mask = RNG.random(spectrum.shape[:-1]).astype(np.float32)
    expected = magnitude(stft(istft(spectrum * mask[..., None], 7680)))
    every = np.ones(mask.shape[:2], bool)
    np.testing.assert_allclose(resynthesis()(spectrum, mask, every), expected, atol=1e-4)
    np.testing.assert_allclose(resynthesis()(spectrum, np.ones_like(mask), every), magnitude(spectrum), atol=1e-4)


def test_resynthesis_alone_and_in_a_padded_batch():
    spectrum = stft(speech_like(0.5, 1)[None, :7680])
    mask = RNG.random(spectrum.shape[:-1]).astype(np.float32)
    padded, padded_mask = (np.pad(values, [(0, 0), (0, 5)] + [(0, 0)] * (values.ndim - 2)) for values in (spectrum, mask))
    frames = spectrum.shape[1]
    alone = resynthesis()(spectrum, mask, np.ones((1, frames), bool))
    together = resynthesis()(padded, padded_mask, np.arange(frames + 5)[None] < frames)
    np.testing.assert_allclose(together[:, :frames], alone, atol=1e-5)


def test_resynthesis_with_a_peak_of_one():
    """The gain of the spectrum does not matter, padding neither."""
    spectrum = stft(np.stack([speech_like(0.5, 1)[:7680], speech_like(0.5, 2)[:7680]]))
    mask = RNG.random(spectrum.shape[:-1]).astype(np.float32)
    waves = istft(spectrum * mask[..., None], 7680)
    expected = magnitude(stft(waves / np.abs(waves).max(axis=1, keepdims=True)))
    every = np.ones(mask.shape[:2], bool)
    for gain in (0.1, 5):
        np.testing.assert_allclose(resynthesis(unit_peak=True)(np.float32(gain) * spectrum, mask, every), expected, atol=1e-4)
    padded = [np.pad(values, [(0, 0), (0, 5)] + [(0, 0)] * (values.ndim - 2)) for values in (spectrum, mask, every)]
    np.testing.assert_allclose(resynthesis(unit_peak=True)(*padded)[:, :spectrum.shape[1]], expected, atol=1e-4)


def test_resynthesis_has_a_gradient_at_silence():
    tf = tensorflow()
    mask = tf.Variable(np.ones((1, 4, 257), np.float32))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(resynthesis()(np.zeros((1, 4, 257, 2), np.float32), mask, np.ones((1, 4), bool)))
    assert np.isfinite(tape.gradient(total, mask).numpy()).all()


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


def test_instance_statistics_are_those_of_an_image_and_its_valid_frames():
    x = 2 + 3 * RNG.standard_normal((2, 6, 5, 3)).astype(np.float32)
    layer = layers.MaskedInstanceNormalization(epsilon=1e-6)
    out = np.asarray(layer(with_garbage(x), MASK))
    for own in (out[0, :4], out[1]):
        np.testing.assert_allclose(own.mean(axis=(0, 1)), 0, atol=1e-5)
        np.testing.assert_allclose(own.std(axis=(0, 1)), 1, atol=1e-4)
    np.testing.assert_allclose(layer(x[:1, :4], MASK[:1, :4]), out[:1, :4], atol=1e-5)  # alone as in a batch
    batch = layers.MaskedBatchNormalization(epsilon=1e-6)(x[1:], MASK[1:], training=True)  # what a batch of one is trained with
    np.testing.assert_allclose(out[1:], batch, atol=1e-5)


# --- Config, save, load ----------------------------------------------------------------------------------------------------------


def every_layer():
    """A model that holds every layer of the project."""
    spectrum = keras.Input((None, 33, 2), name="spectrum")
    frame_mask = keras.Input((None,), dtype="bool", name="frame_mask")
    config = Stft(64, 32, "hann")
    wave = training_layers.Waveform(config, name="waveform")(spectrum, frame_mask)
    x = training_layers.WaveMagnitude(config, name="wave_magnitude")(wave) + layers.SpectrumMagnitude(name="magnitude")(spectrum)
    other = training_layers.FrameMask(config, Stft(64, 32), name="other_frames")(frame_mask, x)
    x = layers.Compression("root", name="compression")(layers.LevelNormalization(name="level")(x, frame_mask))
    x = MaskFloor(0.2, name="floor")(layers.UtteranceNormalization(name="standardise")(x, frame_mask))
    x = PadToField(12, name="field")(StackPair(0.5, name="pair")(x, x))
    x = layers.MaskedBatchNormalization(momentum=0.5, name="batch")(x, frame_mask)
    x = layers.MaskedInstanceNormalization(0.01, name="instance")(x, frame_mask)
    x = layers.OperatorNormalization(keras.layers.Conv2D(3, 3, padding="same"), size=8, name="operator")(x)
    x = layers.SpectralNormalization(LargeKernelConv2D(4, 9, dtype="mixed_bfloat16"), power_iterations=2, name="sn")(x)
    training_layers.SampleMask(config, name="samples")(frame_mask, wave)
    valid = ShortenMask(8, name="shorten")(other)
    x = layers.MaskedGlobalAveragePooling2D(name="pool")(layers.ZeroPadding(name="zero")(x, valid), valid)
    small = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    return keras.Model([spectrum, frame_mask], training_layers.Frozen(small, name="frozen")(x))


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
