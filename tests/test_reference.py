"""Keras 2 files of the references' code: golden outputs, every form of file that there is, and what is refused."""

import json

import h5py
import keras
import numpy as np
import pytest
from conftest import speech_like

import se_keras
from se_keras import models, pretrained, reference
from se_keras.enhancers.magnitude_mask import MaskEnhancer
from se_keras.errors import UserError
from se_keras.models.layers import hard_sigmoid_keras2
from se_keras.reference import features, load_reference
from se_keras.signals.stft import Stft

BINS, UNITS, DENSE, FILTERS = 5, 3, 4, [[2, 3], [3, 5]]
EVERYTHING = np.ones((2, 12), bool)


# --- Golden values ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def io(golden):
    """What Keras 2 made of fixed inputs."""
    return np.load(golden / "keras2_io.npz")


def core(network):
    """Features, frame mask -> mask: what is in the reference's file."""
    return keras.Model([network.get_layer("standardise").output, network.inputs[1]], network.output)


def test_the_enhancer(golden, io):
    """2 x 2 layers of 4 x 8 x (257 or 16, + 8 + 1), dense 17 x 12 and 13 x 257."""
    network, card = load_reference(golden / "enhancer_sigmoid.h5")
    assert network.count_params() == 64 * (266 + 25) + 204 + 3_341 and card["name"] == "enhancer_sigmoid"
    assert card["arguments"]["units"] == 8 and card["arguments"]["dense_units"] == 12
    assert card["stft"] == Stft(512, 256).to_config() and card["arguments"]["recurrent_activation"] == "sigmoid"
    np.testing.assert_allclose(core(network)([io["enh_x"], np.ones((1, 60), bool)]), io["enh_y_sigmoid"], atol=1e-6)


@pytest.mark.parametrize("which", ["transposed", "reshaped"])
def test_the_discriminator(golden, io, which):
    network, card = load_reference(golden / "discriminator_no_sn.h5")
    assert card["network"] == "quality_net" and card["arguments"]["filters"] == [[2, 5], [3, 7], [4, 9], [5, 11]]
    degraded, clean = (io[f"disc_x_{which}"][..., channel].transpose(0, 2, 1) for channel in (0, 1))
    np.testing.assert_allclose(network([degraded, clean, np.ones((1, 60), bool)]), io[f"disc_y_{which}"], atol=1e-6)


def test_quality_net_of_2018(golden, io):
    """2 x 4 x 6 x (257 + 6 + 1) + 13 x 5 + 6."""
    network, card = se_keras.load_reference(golden / "qualitynet2018.h5")
    assert network.count_params() == 12_743 and card["arguments"]["recurrent_activation"] == "hard_sigmoid_keras2"
    outputs = network([io["qn_x"], np.ones((1, 60), bool), np.ones((1, 1), np.float32)])
    np.testing.assert_allclose(outputs["score"], io["qn_average"], atol=1e-5)
    np.testing.assert_allclose(outputs["frame_scores"], io["qn_frame"][..., 0], atol=1e-5)


def test_other_gates_are_far_off(golden, io):
    """What Keras 3 makes of "hard_sigmoid", and sigmoid, on the same weights."""
    network, _ = load_reference(golden / "qualitynet2018.h5")
    lstm, = (layer for layer in network.layers if isinstance(layer, keras.layers.Bidirectional))
    for gate in (keras.activations.hard_sigmoid, keras.activations.sigmoid):
        for layer in (lstm.forward_layer, lstm.backward_layer):
            layer.cell.recurrent_activation = gate
        outputs = network([io["qn_x"], np.ones((1, 60), bool), np.ones((1, 1), np.float32)])
        assert np.abs(outputs["frame_scores"] - io["qn_frame"][..., 0]).max() > 0.01


def test_hard_sigmoid_of_keras_2():
    x = np.array([-4, -2.5, -1, 0, 1, 2.5, 4], np.float32)
    np.testing.assert_allclose(hard_sigmoid_keras2(x), [0, 0, 0.3, 0.5, 0.7, 1, 1], atol=1e-6)
    assert np.abs(hard_sigmoid_keras2(x) - keras.activations.hard_sigmoid(x)).max() > 0.08
    config = keras.activations.serialize(hard_sigmoid_keras2)
    assert keras.activations.get(json.loads(json.dumps(config))) is hard_sigmoid_keras2


def test_spectral_normalisation_is_that_of_the_reference(golden):
    vectors = np.load(golden / "spectral_norm.npz")
    for name in ("conv", "dense"):
        weight, u = vectors[f"{name}_W"], vectors[f"{name}_u0"]
        for step in (1, 2, 3):
            kernel, u = reference._spectrally_normalised(weight, u)
            np.testing.assert_allclose(kernel, weight / vectors[f"{name}_sigma{step}"], rtol=1e-5)
            np.testing.assert_allclose(np.abs(u), np.abs(vectors[f"{name}_u{step}"]), atol=1e-6)


# --- Forms of file ---------------------------------------------------------------------------------------------------------------


def write(path, layers, config=None, version="2.0.9", group="model_weights"):
    """A file as Keras 2 writes it: layers `[(name, {weight: array})]`; without `group`, of weights alone."""
    with h5py.File(path, "w") as file:
        node = file.create_group(group) if group else file
        for owner in (file, node):
            owner.attrs["keras_version"] = np.bytes_(version)
        if config is not None:
            file.attrs["model_config"] = np.bytes_(json.dumps(config))
        node.attrs["layer_names"] = np.array([name for name, _ in layers], "S")
        for name, weights in layers:
            layer = node.create_group(name)
            layer.attrs["weight_names"] = np.array([f"{name}/{weight}:0" for weight in weights], "S")
            for weight, array in weights.items():
                layer[f"{name}/{weight}:0"] = array
    return path


def arrays(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def blstm_layer(name, features, units, seed):
    names = [f"{way}_lstm_1/{kind}" for way in ("forward", "backward") for kind in ("kernel", "recurrent_kernel", "bias")]
    return name, dict(zip(names, arrays(*2 * [(features, 4 * units), (units, 4 * units), (4 * units,)], seed=seed), strict=True))


def dense_layer(name, features, units, seed, vector=False):
    names, shapes = ["kernel", "bias", "sn"], [(features, units), (units,), (1, units)]
    return name, dict(zip(names[:2 + vector], arrays(*shapes[:2 + vector], seed=seed), strict=True))


ENHANCER = [blstm_layer("bidirectional_7", BINS, UNITS, 1), blstm_layer("bidirectional_8", 2 * UNITS, UNITS, 2),
            dense_layer("time_distributed_3", 2 * UNITS, DENSE, 3), ("leaky_re_lu_1", {}), ("dropout_1", {}),
            dense_layer("time_distributed_4", DENSE, BINS, 4), ("activation_1", {})]
QUALITY_NET_2018 = [blstm_layer("bidirectional_1", BINS, UNITS, 1), dense_layer("time_distributed_1", 2 * UNITS, DENSE, 2),
                    dense_layer("Frame_score", DENSE, 1, 3)]


def discriminator(vector):
    """Convolutions of `FILTERS` and the head, with or without the vectors of ConvSN2D and DenseSN."""
    layers, channels = [("batch_normalization_1", dict(zip(["gamma", "beta", "moving_mean", "moving_variance"],
                                                           np.abs(arrays((2,), (2,), (2,), (2,))), strict=True)))], 2
    for number, (filters, size) in enumerate(FILTERS, start=1):
        weights = dict(zip(["kernel", "bias", "sn"], arrays((size, size, channels, filters), (filters,), (1, filters), seed=number),
                           strict=True))
        layers += [(f"conv_sn2d_{number}", {name: weights[name] for name in ["kernel", "bias", "sn"][:2 + vector]})]
        channels = filters
    sizes = ((channels, 50), (50, 10), (10, 1))
    return layers + [dense_layer(f"dense_sn_{number}", *size, 10 + number, vector) for number, size in enumerate(sizes, start=1)]


def lstm_config(recurrent_activation="hard_sigmoid", **settings):
    config = {"name": "lstm_1", "units": UNITS, "activation": "tanh", "recurrent_activation": recurrent_activation, "use_bias": True,
              "return_sequences": True, "go_backwards": False, "time_major": False, "implementation": 0, **settings}
    return {"class_name": "Bidirectional", "config": {"merge_mode": "concat", "layer": {"class_name": "LSTM", "config": config}}}


def simple(kind, **settings):
    return {"class_name": kind, "config": settings}


def timed(units):
    return simple("TimeDistributed", layer=simple("Dense", units=units, activation="linear"))


def enhancer_config(*lstms, alpha=0.30000001192092896, last="sigmoid"):
    """A Sequential before Keras 2.2.3: its configuration is the list of its layers."""
    lstms = lstms or (lstm_config(), lstm_config())
    return simple("Sequential") | {"config": [*lstms, timed(DENSE), simple("LeakyReLU", alpha=alpha), simple("Dropout", rate=0.05),
                                              timed(BINS), simple("Activation", activation=last)]}


def discriminator_config(**convolution):
    layers = [simple("InputLayer", batch_input_shape=[None, 257, None, 2]), simple("BatchNormalization", epsilon=0.001)]
    for _ in FILTERS:
        layers += [simple("ConvSN2D", padding="valid", activation="linear", **convolution), simple("LeakyReLU", alpha=0.3)]
    layers += [simple("GlobalAveragePooling2D"), *2 * [simple("DenseSN", activation="linear"), simple("LeakyReLU", alpha=0.3)],
               simple("DenseSN", activation="linear")]
    return {"class_name": "Model", "config": {"name": "model_1", "layers": layers}}


def flat(layers):
    return [array for _, weights in layers for array in weights.values()]


def gates(card):
    return card["arguments"]["recurrent_activation"]


@pytest.mark.parametrize("alpha", [0.30000001192092896, {"type": "ndarray", "value": 0.30000001192092896}])
def test_a_full_model_whose_configuration_is_a_bare_list(tmp_path, alpha):
    network, card = load_reference(write(tmp_path / "SE.h5", ENHANCER, enhancer_config(alpha=alpha), "2.3.1"))
    assert card["network"] == "blstm" and gates(card) == "hard_sigmoid_keras2" and card["name"] == "SE"
    assert card["stft"] == {"n_fft": 8, "hop_length": 4, "window": "hamming"}
    for ours, theirs in zip(network.get_weights(), flat(ENHANCER), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("version, gate", [("2.0.9", "hard_sigmoid_keras2"), ("2.2.4", "hard_sigmoid_keras2"), ("2.3.0", "sigmoid"),
                                           ("2.3.0-tf", "sigmoid"), ("2.21.0", "sigmoid")])
@pytest.mark.parametrize("layers, network", [(ENHANCER, "blstm"), (QUALITY_NET_2018, "quality_net_2018")])
def test_weights_alone_have_the_gates_of_their_time(tmp_path, version, gate, layers, network):
    path = write(tmp_path / "weights.h5", layers, version=version, group=None)
    assert gates(load_reference(path)[1]) == gate
    other, card = load_reference(path, recurrent_activation="sigmoid")
    assert gates(card) == "sigmoid" and card["network"] == network
    for ours, theirs in zip(other.get_weights(), flat(layers), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_gates_that_nobody_can_tell_must_be_said(tmp_path):
    """tf.keras of TensorFlow 1.14 to 2.1 called itself 2.2.4-tf; the default changed between."""
    path = write(tmp_path / "weights.h5", ENHANCER, version="2.2.4-tf", group=None)
    with pytest.raises(UserError, match=r"written by tf.keras 2\.2\.4: .* recurrent_activation='hard_sigmoid_keras2' or 'sigmoid'"):
        load_reference(path)
    for said in ("hard_sigmoid_keras2", "sigmoid"):
        assert gates(load_reference(path, recurrent_activation=said)[1]) == said
    full = write(tmp_path / "full.h5", ENHANCER, enhancer_config(), version="2.2.4-tf")  # its configuration says
    assert gates(load_reference(full)[1]) == "hard_sigmoid_keras2"
    assert load_reference(write(tmp_path / "D.h5", discriminator(vector=False), version="2.2.4-tf", group=None), bins=17)[0]  # has no gates


@pytest.mark.parametrize("config", [None, discriminator_config(strides=[1, 1])])
def test_a_discriminator_with_spectral_vectors(tmp_path, config):
    """As the same one whose kernels are divided by sigma beforehand; images are transposed, which moves no score."""
    layers = discriminator(vector=True)
    network, card = load_reference(write(tmp_path / "sn.h5", layers, config), bins=17)
    assert card["arguments"]["filters"] == FILTERS and card["arguments"]["bins"] == 17
    plain = []
    for name, weights in layers:
        if "sn" in weights:
            kernel = weights["kernel"]
            matrix = kernel.reshape(-1, kernel.shape[-1])
            v = weights["sn"] @ matrix.T
            sigma = np.linalg.norm((v / np.linalg.norm(v)) @ matrix)
            weights = {"kernel": kernel / sigma, "bias": weights["bias"]}
        plain.append((name, weights))
    divided, _ = load_reference(write(tmp_path / "plain.h5", plain), bins=17)
    x = [np.abs(array) for array in arrays((2, 12, 17), (2, 12, 17))]
    score = np.asarray(network([*x, EVERYTHING]))
    np.testing.assert_allclose(score, divided([*x, EVERYTHING]), atol=1e-6)
    image = np.stack(x, axis=-1).transpose(0, 2, 1, 3)  # (bins, frames), the file's own layout
    np.testing.assert_allclose(score, plain_discriminator(image, [list(weights.values()) for _, weights in plain]), atol=1e-5)
    before = network.get_layer("sn_conv_1").layer.get_weights()[0]
    network([*x, EVERYTHING], training=True)  # sigma is about 1 by now: training goes on from where the file stood
    assert np.abs(network.get_layer("sn_conv_1").layer.get_weights()[0] / before - 1).max() < 0.5


def plain_discriminator(image, layers):
    """The reference's discriminator by Keras's functions, on (bins, frames) images."""
    (gamma, beta, mean, variance), *layers = layers
    x = (image - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    for kernel, bias in layers[:len(FILTERS)]:
        x = keras.ops.leaky_relu(keras.ops.conv(x, kernel, padding="valid") + bias, 0.3)
    x = keras.ops.mean(x, axis=(1, 2))
    for kernel, bias in layers[len(FILTERS):-1]:
        x = keras.ops.leaky_relu(x @ kernel + bias, 0.3)
    return np.asarray(x @ layers[-1][0] + layers[-1][1])


# --- Use -------------------------------------------------------------------------------------------------------------------------


def test_the_enhancer_standardises_magnitudes_as_the_reference_does(tmp_path):
    path = write(tmp_path / "SE.h5", ENHANCER, enhancer_config())
    magnitude = np.abs(arrays((1, 30, BINS))[0]) * np.array([1e-4, 1e-2, 1, 10, 1e-3], np.float32)  # quiet bins count in full
    for compression, scale in (("magnitude", lambda x: x), ("log1p", np.log1p)):
        network, _ = load_reference(path, compression=compression, mask_floor=0.05)
        x = scale(magnitude.astype(np.float64))
        np.testing.assert_allclose(features(network, magnitude), (x - x.mean(1)) / (x.std(1) + 1e-12), atol=1e-3)
        silence = network([np.zeros_like(magnitude), np.ones((1, 30), bool)])
        assert np.isfinite(silence).all() and np.asarray(silence).min() >= np.float32(0.05)


def test_one_line_to_enhance(tmp_path):
    network, card = load_reference(write(tmp_path / "SE.h5", ENHANCER, enhancer_config()))
    wave = speech_like(0.1)
    enhanced, = MaskEnhancer(network, Stft(**card["stft"])).enhance([wave])
    assert enhanced.shape == wave.shape and 0 < np.abs(enhanced).max() and np.isfinite(enhanced).all()


ALL = pytest.mark.parametrize("layers", [ENHANCER, QUALITY_NET_2018, discriminator(vector=True)], ids=["enhancer", "2018", "discriminator"])


def load_any(layers, path):
    """A network of any kind, of 11 bins where the file leaves that open, magnitudes for it, and what it takes behind the frame mask."""
    network, card = load_reference(write(path, layers), **({"bins": 11} if layers[0][0].startswith("batch") else {}))
    shape, peak = (2, 12, network.input_shape[0][-1]), [np.float32([[1], [2]])] if card["network"] == "quality_net_2018" else []
    return network, card, [np.abs(array) for array in arrays(*[shape] * (len(network.inputs) - 1 - len(peak)))], peak


@ALL
def test_padding_takes_no_part(tmp_path, layers):
    network, _, x, peak = load_any(layers, tmp_path / "old.h5")
    short = np.arange(12) < np.array([[12], [9]])
    together = keras.tree.flatten(network([*(np.where(short[..., None], signal, np.float32(50)) for signal in x), short, *peak]))
    alone = keras.tree.flatten(network([*(signal[1:, :9] for signal in x), np.ones((1, 9), bool), *(value[1:] for value in peak)]))
    for ours, expected in zip(together, alone, strict=True):
        ours = np.asarray(ours)[1:]
        np.testing.assert_allclose(ours[:, :9] if ours.shape[1] > 1 else ours, expected, atol=1e-5)


@ALL
def test_saved_and_loaded_as_every_model(tmp_path, layers):
    network, card, x, peak = load_any(layers, tmp_path / "old.h5")
    x = [*x, EVERYTHING, *peak]
    expected = keras.tree.flatten(network(x))
    network.save(tmp_path / "x.keras")
    network.save_weights(tmp_path / "x.weights.h5")
    (tmp_path / "x.json").write_text(json.dumps(card))
    for again in (keras.models.load_model(tmp_path / "x.keras"), pretrained.load(tmp_path / "x.json")[0]):
        for ours, theirs in zip(keras.tree.flatten(again(x)), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


# --- What is refused -------------------------------------------------------------------------------------------------------------


def test_no_file(tmp_path):
    for path in (tmp_path / "SE.h5", tmp_path):
        with pytest.raises(UserError, match=f"{path}: no such file"):
            load_reference(path)


@pytest.mark.parametrize("kept", [0, 100, 4000, 0.9])
def test_no_hdf5_or_half_of_it(tmp_path, kept):
    path = write(tmp_path / "SE.h5", ENHANCER, enhancer_config())
    content = path.read_bytes()
    path.write_bytes(content[:kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(UserError, match="(?s)SE.h5: not an HDF5 file of Keras 2, or a damaged one .*known are.*1,892,057"):
        load_reference(path)


def test_a_damaged_file(tmp_path):
    path = write(tmp_path / "SE.h5", ENHANCER)
    with h5py.File(path, "a") as file:
        del file["model_weights"]["time_distributed_3"]
    with pytest.raises(UserError, match="or a damaged one .*time_distributed_3"):
        load_reference(path)
    with h5py.File(path := write(tmp_path / "config.h5", ENHANCER), "a") as file:
        file.attrs["model_config"] = np.bytes_("{")
    with pytest.raises(UserError, match="or a damaged one"):
        load_reference(path)


def test_another_hdf5_file(tmp_path):
    network = models.build("dnn", bins=5, units=2)
    network.save_weights(tmp_path / "new.weights.h5")
    with pytest.raises(UserError, match="not a file of Keras 2, .* it holds layers/.* 11x5x2, (?s:.*)se_keras.load reads"):
        load_reference(tmp_path / "new.weights.h5")
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    with pytest.raises(UserError, match="it holds nothing"):
        load_reference(tmp_path / "empty.h5")
    with pytest.raises(UserError, match="written by Keras 3.15.1, not by Keras 2; keras.models.load_model reads it"):
        load_reference(write(tmp_path / "SE.h5", ENHANCER, version="3.15.1"))


@pytest.mark.parametrize("layers, held", [
    ([dense_layer("dense_1", 3, 4, 0)], "dense_1 3x4 4"), ([("input_1", {})], "no weights"),
    (ENHANCER[:-2], "bidirectional_7 5x12 3x12 12 5x12 3x12 12; bidirectional_8 .*; time_distributed_3 6x4 4"),
    (discriminator(vector=True)[:-1], "batch_normalization_1 2 2 2 2; conv_sn2d_1 3x3x2x2 2 1x2; .*dense_sn_2 50x10 10 1x10"),
    (discriminator(vector=False)[:-1] + discriminator(vector=True)[-1:], "dense_sn_2 50x10 10; dense_sn_3 10x1 1 1x1")])
def test_another_network(tmp_path, layers, held):
    with pytest.raises(UserError, match=f"(?s)x.h5: none of the networks that are known; it holds .*{held}\nknown are"):
        load_reference(write(tmp_path / "x.h5", layers))


@pytest.mark.parametrize("layers, config, difference", [
    (ENHANCER, enhancer_config(last="relu"), "Dense, relu; gates hard_sigmoid\n  expected .* Dense, sigmoid; gates sigmoid, hard_sigmoid"),
    (ENHANCER, enhancer_config(alpha=0.1), "LeakyReLU alpha 0.1"),
    (ENHANCER, enhancer_config(lstm_config("relu"), lstm_config("relu")), "gates relu"),
    (ENHANCER, enhancer_config(lstm_config("sigmoid"), lstm_config()), "gates hard_sigmoid, sigmoid"),
    (ENHANCER, enhancer_config(lstm_config(activation="relu"), lstm_config()), "Bidirectional LSTM activation relu, Bidirectional LSTM,"),
    (ENHANCER, {"class_name": "Sequential", "config": {"layers": [simple("Lambda", function="x")]}}, "it says Lambda\n"),
    (discriminator(vector=True), discriminator_config(strides=[2, 2]), r"Conv2D strides \[2, 2\], LeakyReLU")])
def test_a_configuration_that_differs(tmp_path, layers, config, difference):
    with pytest.raises(UserError, match=f"(?s)x.h5: its weights have the shapes of .*, but its configuration differs.*{difference}"):
        load_reference(write(tmp_path / "x.h5", layers, config))


@pytest.mark.parametrize("config", [[], {"class_name": "Model"}, {"config": {"layers": [1]}}])
def test_a_configuration_of_something_else(tmp_path, config):
    with pytest.raises(UserError, match="x.h5: its model_config is not one of Keras 2"):
        load_reference(write(tmp_path / "x.h5", ENHANCER, config))


@pytest.mark.parametrize("overrides, message", [
    ({"units": 4}, "x.h5: does not fit blstm with {'units': 4}"), ({"layers": 3}, "blstm takes no argument layers"),
    ({"recurrent_activation": "hard_sigmoid"}, "unknown recurrent_activation 'hard_sigmoid'; known: sigmoid, hard_sigmoid_keras2")])
def test_an_argument_that_does_not_fit(tmp_path, overrides, message):
    with pytest.raises(UserError, match=message):
        load_reference(write(tmp_path / "x.h5", ENHANCER), **overrides)
