"""The networks on pieces of spectrograms (mapping, binary mask, U-Net): sizes, pieces, padding, gain, the last bin, the spectrum."""

import keras
import numpy as np
import pytest
from conftest import noisy_speech

from se_keras import models
from se_keras.errors import UserError
from se_keras.models import pieces
from se_keras.models.pieces import AtUse, CutPieces, EveryFrame, JoinPieces, LastBin, MappedSpectrum, SpectrumFeature
from se_keras.signals.stft import Stft, magnitude, stft

CONFIG = Stft(32, 8, "hann")  # 17 bins, 16 of which the networks see
BODY = {"bins": 17, "frames": 8, "filters": [3, 4], "dense_units": [5]}
UNET = {"bins": 17, "frames": 8, "filters": [2, 3], "bottom": 4, "up_filters": [3, 2], "head": [2]}
SMALL = [("autoencoder", BODY), ("autoencoder", {**BODY, "feature": "real", "activation": "relu"}), ("autoencoder_ibm", BODY),
         ("autoencoder_ibm", {**BODY, "compression": "log", "at_use": "binary"}), ("unet_ibm", {**UNET, "feature": "real"}),
         ("unet_ibm", {**UNET, "compression": "log1p"})]
EACH = pytest.mark.parametrize(("name", "arguments"), SMALL)


def built(name, arguments):
    """A network with random weights, the averages of its batch normalisation included."""
    keras.utils.set_random_seed(0)
    network, rng = models.build(name, **arguments), np.random.default_rng(1)
    network.set_weights([weight + 0.1 * rng.random(weight.shape) for weight in network.get_weights()])
    return network


def spectrum(frames, seed=1):
    return stft(noisy_speech(0.1, seed), CONFIG)[:frames]


def run(network, one, training=False):
    return np.asarray(network([one[None], np.ones((1, len(one)), bool)], training=training))[0]


# --- Sizes -----------------------------------------------------------------------------------------------------------------------


def body_parameters(filters, dense_units, smallest):
    """Weights and biases of every layer, and four values a channel of each batch normalisation."""
    def convolutions(widths):
        return sum(9 * a * b + b for a, b in zip(widths[:-1], widths[1:], strict=True))

    dense = [smallest * filters[-1], *dense_units, smallest * filters[-1]]
    down, up = convolutions([1, *filters]), convolutions([*filters[::-1], 1])
    return (down + up + 4 * sum(filters[:-1]) + 4 * sum(filters[:-2])
            + sum(a * b + b for a, b in zip(dense[:-1], dense[1:], strict=True)) + 4 * sum(dense[1:]))


def test_parameters_of_the_autoencoder():
    """The original's sizes give 81,891,073; the mapping has one more batch normalisation, of one channel."""
    assert body_parameters((32, 64, 128, 256, 512, 1024), (2048, 512, 2048), 16) == 81_891_073
    assert models.build("autoencoder").count_params() == 81_891_077
    small = body_parameters(BODY["filters"], BODY["dense_units"], 8)
    assert built("autoencoder", BODY).count_params() == small + 4
    assert built("autoencoder_ibm", BODY).count_params() == small


def test_parameters_of_the_unet():
    down, up, total, before = (32, 64, 128, 256, 512), (256, 128, 128, 64, 32), 0, 1
    for width in (*down, 256):
        total += 9 * before * width + width + 9 * width * width + width
        before = width
    for width, twin in zip(up, down[::-1], strict=True):
        total += 4 * before * width + width + 9 * (width + twin) * width + width + 9 * width * width + width
        before = width
    total += (32 * 16 + 16) + (16 * 4 + 4) + (4 + 1)
    assert models.build("unet_ibm").count_params() == total == 10_513_497


@EACH
def test_shapes_and_ranges(name, arguments):
    network = built(name, arguments)
    for frames in (1, 8, 21):
        out = run(network, spectrum(frames))
        assert out.shape == ((frames, 17, 2) if name == "autoencoder" else (frames, 17)) and np.isfinite(out).all()
        if name != "autoencoder":
            assert (0 <= out).all() and (out <= 1).all()
            np.testing.assert_array_equal(out[:, -1], out[:, -2])  # Nyquist's bin has its neighbour's mask


# --- Pieces and padding ----------------------------------------------------------------------------------------------------------


def test_pieces_by_hand():
    x = np.arange(2 * 5 * 3, dtype=np.float32).reshape(2, 5, 3)
    cut = np.asarray(CutPieces(4)(x))
    assert cut.shape == (4, 4, 3)
    np.testing.assert_array_equal(cut[[0, 2]], x[:, :4])
    np.testing.assert_array_equal(cut[[1, 3], 0], x[:, 4])
    assert not cut[[1, 3], 1:].any()
    np.testing.assert_array_equal(JoinPieces()(cut[..., None], x), x)
    frame_mask = np.arange(5) < np.array([[5], [2]])
    mask = np.asarray(CutPieces(4)(frame_mask))
    assert mask.dtype == bool and mask.sum(axis=1).tolist() == [4, 1, 2, 0]
    assert np.asarray(EveryFrame(2)(mask)).tolist() == [[True, True], [True, False], [True, False], [False, False]]
    np.testing.assert_array_equal(LastBin()(x), np.concatenate([x, x[..., -1:]], axis=-1))


def test_the_feature_by_hand():
    """Two utterances of constant spectra 3 + 4i and -6 + 8i, of magnitude 5 and 10, which is their level."""
    noisy = np.tile(np.float32([[3, 4], [-6, 8]])[:, None, None], (1, 4, 3, 1))
    noisy[1, 2:] = 1e3
    frame_mask = np.arange(4) < np.array([[4], [2]])
    for feature, values in (("magnitude", (1, 1)), ("real", (0.6, -0.6))):
        out = np.asarray(SpectrumFeature(feature)(noisy, frame_mask))
        assert out.shape == (2, 4, 2)
        np.testing.assert_allclose(out[0], values[0], rtol=1e-6)
        np.testing.assert_allclose(out[1, :2], values[1], rtol=1e-6)
        assert not out[1, 2:].any()


@EACH
@pytest.mark.parametrize("training", [False, True])
def test_a_padded_batch_gives_each_utterance_what_it_gets_alone(name, arguments, training):
    """In training too, as far as padding goes: pieces of nothing else take no part in the statistics of a batch."""
    network = built(name, {**arguments, "dropout": 0.0} if name == "autoencoder_ibm" else arguments)
    several = [spectrum(frames, frames) for frames in (5, 8, 19)]
    batch, frame_mask = np.full((3, 40, 17, 2), 1e3, np.float32), np.zeros((3, 40), bool)
    for row, mask, one in zip(batch, frame_mask, several, strict=True):
        row[:len(one)], mask[:len(one)] = one, True
    together = np.asarray(network([batch, frame_mask], training=training))
    if name == "autoencoder":
        assert not together[~frame_mask].any()
    if training:  # in one batch, with as little padding as there can be
        alone = np.asarray(network([batch[:, :19], frame_mask[:, :19]], training=True))
        np.testing.assert_allclose(together[frame_mask], alone[frame_mask[:, :19]], atol=1e-4)
        return
    for ours, one in zip(together, several, strict=True):
        np.testing.assert_allclose(ours[:len(one)], run(network, one), atol=1e-4)


@EACH
def test_a_piece_knows_no_other(name, arguments):
    """But for their common level, which reversing the frames of a piece leaves as it is."""
    network, one = built(name, arguments), spectrum(24)
    other = one.copy()
    other[8:16] = other[8:16][::-1]
    before, after = run(network, one), run(network, other)
    np.testing.assert_allclose(np.delete(after, np.s_[7:17], axis=0), np.delete(before, np.s_[7:17], axis=0), atol=1e-5)
    assert np.abs(after[8:16] - before[8:16]).max() > 1e-4


@EACH
def test_gain_does_not_matter_and_silence_is_finite(name, arguments):
    network, one = built(name, arguments), spectrum(20)
    gain = np.float32(0.01)
    expected = run(network, one) * (gain if name == "autoencoder" else 1)
    np.testing.assert_allclose(run(network, gain * one), expected, atol=1e-5)
    silent = run(network, 0 * one)
    assert np.isfinite(silent).all() and (name != "autoencoder" or not silent.any())


# --- The way to a spectrum -------------------------------------------------------------------------------------------------------


def mapped(feature, noisy, factor):
    """The spectrum of an estimate that is `factor` times the noisy feature."""
    frame_mask = np.ones((1, len(noisy)), bool)
    own = np.asarray(SpectrumFeature(feature)(noisy[None], frame_mask))
    return np.asarray(MappedSpectrum(feature)(np.float32(factor) * own, noisy[None], frame_mask))[0]


@pytest.mark.parametrize("feature", pieces.FEATURES)
def test_a_feature_that_is_left_alone_leaves_the_spectrum_alone(feature):
    noisy = spectrum(20)
    loud = 1e-3 if feature == "magnitude" else 0.1  # where the neighbourhood is far above the floor of its power
    for factor in (1, 0.25, 0):
        assert np.abs(mapped(feature, noisy, factor) - factor * noisy).max() < loud * np.abs(noisy).max()
    np.testing.assert_allclose(mapped(feature, noisy, 2)[:, :-1], 2 * mapped(feature, noisy, 1)[:, :-1], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(mapped(feature, noisy, 2)[:, -1], noisy[:, -1], rtol=1e-4, atol=1e-2)  # Nyquist's gain: 1 at most
    assert not mapped(feature, 0 * noisy, 1).any()


def test_a_magnitude_comes_with_the_noisy_phase():
    noisy = spectrum(20)
    estimate = np.random.default_rng(0).random((1, 20, 16)).astype(np.float32)
    out = np.asarray(MappedSpectrum("magnitude")(estimate, noisy[None], np.ones((1, 20), bool)))[0]
    level = np.sqrt(np.mean(magnitude(noisy) ** 2))
    np.testing.assert_allclose(magnitude(out[:, :-1]), level * estimate[0], rtol=1e-3, atol=1e-5)
    cross = out[..., 0] * noisy[..., 1] - out[..., 1] * noisy[..., 0]
    np.testing.assert_allclose(cross, 0, atol=1e-4)


def test_a_real_part_turned_round_turns_the_spectrum_round():
    noisy = spectrum(20)
    np.testing.assert_allclose(mapped("real", noisy, -1)[:, :-1], -mapped("real", noisy, 1)[:, :-1], atol=1e-6)


# --- Arguments, learning, files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "arguments", "message"), [
    ("autoencoder", {"bins": 33, "filters": [2] * 6}, "bins - 1 is 32: a multiple of 64 is expected, since the network halves it 6 times"),
    ("unet_ibm", {**UNET, "frames": 6}, "frames is 6: a multiple of 4 is expected, since the network halves it 2 times"),
    ("autoencoder", {**BODY, "feature": "phase"}, "unknown feature 'phase'; known: magnitude, real"),
    ("autoencoder_ibm", {**BODY, "feature": "real", "compression": "log"},
     "compression 'log' is of magnitudes, and the feature is the real part"),
    ("unet_ibm", {**UNET, "compression": "cube"}, "unknown compression 'cube'"),
    ("autoencoder_ibm", {**BODY, "activation": "elu"}, "unknown activation 'elu'; known: leaky_relu, relu"),
    ("unet_ibm", {**UNET, "at_use": "hard"}, "unknown at_use 'hard'; known: soft, binary")])
def test_what_cannot_be_built(name, arguments, message):
    with pytest.raises(UserError) as error:
        models.build(name, **arguments)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "arguments"), SMALL[1::2])
def test_a_few_steps_lower_the_loss_and_silence_does_no_harm(name, arguments):
    network = built(name, arguments)
    one = spectrum(16)
    x = [np.stack([one, 0 * one]), np.ones((2, 16), bool)]
    target = 0.5 * x[0] if name == "autoencoder" else (magnitude(x[0]) > np.median(magnitude(one))).astype(np.float32)
    network.compile(keras.optimizers.Adam(1e-2), "mse")
    losses = [network.train_on_batch(x, target) for _ in range(12)]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


@EACH
def test_config_weights_file_and_whole_model_file(name, arguments, tmp_path):
    network, one = built(name, arguments), spectrum(13)
    expected = run(network, one)
    again = keras.Model.from_config(network.get_config())
    assert again.get_config() == network.get_config()
    again.set_weights(network.get_weights())
    network.save_weights(tmp_path / "x.weights.h5")
    rebuilt = models.build(name, **arguments)
    rebuilt.load_weights(tmp_path / "x.weights.h5")
    network.save(tmp_path / "x.keras")
    for copy in (again, rebuilt, keras.models.load_model(tmp_path / "x.keras")):
        np.testing.assert_array_equal(run(copy, one), expected)
    assert [layer.name for layer in rebuilt.layers] == [layer.name for layer in network.layers]  # no counter in a name: see fingerprint


def test_how_a_mask_is_used_is_said_and_not_done():
    mask = np.float32([[[0.2, 0.7]]])
    np.testing.assert_array_equal(AtUse("binary")(mask), mask)
    assert AtUse.from_config(AtUse("binary").get_config()).how == "binary"
