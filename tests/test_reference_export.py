"""The way back: a BLSTM of this project as a file that plain tf_keras reads."""

import json

import h5py
import keras
import numpy as np
import pytest

from se_keras import models
from se_keras.errors import UserError
from se_keras.reference import export_tf_keras, features, load_reference

BINS, UNITS, DENSE = 5, 3, 4
FRAMES = np.ones((2, 12), bool)


def magnitudes(*shape, seed=0):
    return np.abs(np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


@pytest.fixture(params=["sigmoid", "hard_sigmoid_keras2"])
def network(request):
    keras.utils.set_random_seed(0)
    network = models.build("blstm", bins=BINS, units=UNITS, dense_units=DENSE, dropout=0.1, recurrent_activation=request.param)
    rng = np.random.default_rng(0)
    network.set_weights([rng.standard_normal(weight.shape) for weight in network.weights])
    return network


def test_a_file_of_keras_2_comes_out(network, tmp_path):
    export_tf_keras(network, tmp_path / "out" / "x.h5")
    with h5py.File(tmp_path / "out" / "x.h5") as file:
        config = json.loads(file.attrs["model_config"])
        assert [layer["class_name"] for layer in config["config"]["layers"]] == [*["Bidirectional"] * 2, "Dense", "LeakyReLU", "Dense"]
        first, *_, leaky, last = (layer["config"] for layer in config["config"]["layers"])
        assert first["batch_input_shape"] == [None, None, BINS] and leaky["alpha"] == pytest.approx(0.3)
        assert "negative_slope" not in leaky and "time_major" not in first["layer"]["config"] and last["activation"] == "sigmoid"
        weights = file["model_weights"]
        assert weights.attrs["layer_names"].tolist() == [layer["config"]["name"].encode() for layer in config["config"]["layers"]]
        assert "bidirectional_2/backward_lstm_2/recurrent_kernel:0" in weights["bidirectional_2"]
    again, card = load_reference(tmp_path / "out" / "x.h5", compression="log", normalization="utterance")
    assert card["arguments"]["recurrent_activation"] == network.get_layer("blstm_1").forward_layer.recurrent_activation.__name__
    x = [magnitudes(2, 12, BINS), FRAMES]
    np.testing.assert_array_equal(again(x), network(x))


def test_tf_keras_reads_it_and_gives_the_same_mask(network, tmp_path):
    tf_keras = pytest.importorskip("tf_keras")
    export_tf_keras(network, tmp_path / "x.h5")
    magnitude = magnitudes(2, 12, BINS)
    mask = tf_keras.models.load_model(tmp_path / "x.h5")(features(network, magnitude))
    np.testing.assert_allclose(mask, network([magnitude, FRAMES]), atol=1e-5)


def test_tf_keras_reads_the_reference_that_went_through_here(golden, tmp_path):
    tf_keras = pytest.importorskip("tf_keras")
    io = np.load(golden / "keras2_io.npz")
    export_tf_keras(load_reference(golden / "enhancer_sigmoid.h5", mask_floor=0.05)[0], tmp_path / "x.h5")
    np.testing.assert_allclose(tf_keras.models.load_model(tmp_path / "x.h5")(io["enh_x"]), io["enh_y_sigmoid"], atol=1e-5)


def test_a_learnable_sigmoid_cannot_be_said_in_plain_layers(tmp_path):
    network = models.build("blstm", bins=5, units=2, dense_units=3, sigmoid="learnable")
    with pytest.raises(UserError, match="has a learnable sigmoid, which plain layers of Keras 2 cannot express"):
        export_tf_keras(network, tmp_path / "x.h5")


def test_only_a_blstm_mask_network_comes_out(tmp_path):
    for network in (models.build("dnn", bins=5, units=2), models.build("quality_net", bins=9, filters=[[2, 3]])):
        expected = f"{network.name} has no layers .*blstm_1.*; a mask network by models.blstm is expected"
        with pytest.raises(UserError, match=expected):
            export_tf_keras(network, tmp_path / "x.h5")
        with pytest.raises(UserError, match=expected):
            features(network, np.ones((1, 3, 5)))
    assert not (tmp_path / "x.h5").exists()


def test_features_without_standardisation():
    network = models.build("blstm", bins=BINS, units=2, compression="magnitude", normalization="none")
    magnitude = magnitudes(1, 7, BINS)
    np.testing.assert_allclose(features(network, magnitude), magnitude / np.sqrt(np.mean(magnitude ** 2)), rtol=1e-5)
