"""Weights by name: the shipped ones, files, run folders; and what is said of those that cannot be used."""

import hashlib
import json
import shutil

import keras
import numpy as np
import pytest

from se_keras import models, pretrained
from se_keras.enhancers.magnitude_mask import MaskEnhancer
from se_keras.errors import UserError
from se_keras.pretrained import load_system
from se_keras.weights import load_weights, save_weights

ENHANCER = {"network": "dnn", "arguments": {"bins": 9, "units": 4, "context": 1}, "stft": {"n_fft": 16, "hop_length": 8, "window": "hann"}}
QUALITY_NET = {"network": "quality_net", "arguments": {"bins": 9, "filters": [[2, 3]]}, "stft": ENHANCER["stft"]}


def ship(folder, name, card, checksum=True):
    """A card and random weights as they are shipped; the network."""
    keras.utils.set_random_seed(3)
    network = models.build(card["network"], **card["arguments"])
    network.save_weights(folder / f"{name}.weights.h5")
    digest = hashlib.sha256((folder / f"{name}.weights.h5").read_bytes()).hexdigest()
    (folder / f"{name}.json").write_text(json.dumps({**card, "name": name, **({"sha256": digest} if checksum else {})}))
    return network


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A weights/ folder of the project's own with an enhancer and a Quality-Net in it."""
    folder = tmp_path / "weights"
    folder.mkdir()
    ship(folder, "small-dnn", ENHANCER)
    ship(folder, "small-qnet", QUALITY_NET)
    monkeypatch.setattr(pretrained, "WEIGHTS", folder)
    return folder


def assert_same_weights(a, b):
    for x, y in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)


def test_by_name_by_file_and_by_run_folder(weights, tmp_path):
    expected = ship(weights, "small-dnn", ENHANCER)
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(weights / "small-dnn.weights.h5", run / "best.weights.h5")
    shutil.copy(weights / "small-dnn.weights.h5", run / "last.weights.h5")
    (run / "config.json").write_text(json.dumps({**ENHANCER, "name": "mine"}))
    for name, called in (("small-dnn", "small-dnn"), (weights / "small-dnn.json", "small-dnn"),
                         (str(weights / "small-dnn.weights.h5"), "small-dnn"), (run, "mine"), (run / "best.weights.h5", "mine"),
                         (str(run / "last.weights.h5"), "mine (last)")):
        network, card = pretrained.load(name)
        assert_same_weights(network, expected)
        assert card["name"] == called
        system = load_system(name)
        assert isinstance(system, MaskEnhancer) and system.config.to_config() == ENHANCER["stft"] and system.name == called
    assert pretrained.names() == ["small-dnn", "small-qnet"]


def test_a_quality_net_by_name_with_another_precision(weights):
    predictor = pretrained.load_quality_net("small-qnet", precision="bfloat16")
    assert predictor.network.get_layer("sn_conv_1").layer.dtype_policy.name == "mixed_bfloat16"
    assert predictor.config.n_fft == 16 and predictor.representation == "mask"


def test_overrides_change_the_network_around_the_same_weights(weights):
    """A learnable sigmoid and a floor, as MetricGAN+'s, begin from what was trained under a plain one; other sizes cannot."""
    card = {**ENHANCER, "network": "blstm", "arguments": {"bins": 9, "units": 3, "dense_units": 4}}
    plain = ship(weights, "small-blstm", card)
    network, _ = pretrained.load("small-blstm", sigmoid="learnable", mask_floor=0.6)
    x = [np.abs(np.random.default_rng(0).standard_normal((2, 6, 9))).astype(np.float32), np.ones((2, 6), bool)]
    expected = np.maximum(1.2 * np.asarray(plain(x)), 0.6)
    assert (expected == np.float32(0.6)).any() and (expected > 0.6).any()
    np.testing.assert_allclose(network(x), expected, atol=1e-6)
    with pytest.raises(UserError, match="small-blstm: layer dense has weights of 6x4, 4; with .* it wants 6x5, 5"):
        pretrained.load("small-blstm", dense_units=5)


@pytest.mark.parametrize("name", ["small", "runs/small-dnn", "nowhere/small-dnn.weights.h5", "small-dnn.h5"])
def test_an_unknown_name_lists_the_shipped_ones(weights, name):
    """Also where a shipped model has the name of a run folder that is not there: nobody wants that one instead."""
    with pytest.raises(UserError, match=f"{name}: no such model; shipped: small-dnn, small-qnet; or give a run folder"):
        pretrained.load(name)


def test_nothing_shipped(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "WEIGHTS", tmp_path)
    with pytest.raises(UserError, match="shipped: none"):
        pretrained.load("blstm")


def test_a_run_without_weights_yet(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="no run with weights in it .*best.weights.h5.* its first validation"):
        pretrained.load(tmp_path)


def test_the_wrong_kind(weights):
    with pytest.raises(UserError, match="small-qnet is a quality_net, which scores speech; an enhancer is expected"):
        load_system("small-qnet")
    with pytest.raises(UserError, match="small-dnn is a dnn; a quality_net is expected"):
        pretrained.load_quality_net("small-dnn")


@pytest.mark.parametrize("text, reason", [("{", "not JSON"), ('{"network": "dnn"}', "lacks arguments, stft; it does not describe a model"),
                                          ("[1]", "lacks arguments, network, stft; it does not")])
def test_a_damaged_card(weights, text, reason):
    (weights / "small-dnn.json").write_text(text)
    with pytest.raises(UserError, match=f"small-dnn.json: {reason}"):
        pretrained.load("small-dnn")


@pytest.mark.parametrize("change, reason", [({"network": "unet"}, "unknown model 'unet'; known: blstm, dnn, lstm, .*, quality_net"),
                                            ({"arguments": {"layers": 3}}, "dnn takes no argument layers")])
def test_a_card_of_another_version(weights, change, reason):
    (weights / "small-dnn.json").write_text(json.dumps({**ENHANCER, **change}))
    with pytest.raises(UserError, match=reason):
        pretrained.load("small-dnn")


def test_a_checksum_that_differs(weights):
    card = json.loads((weights / "small-dnn.json").read_text())
    (weights / "small-dnn.json").write_text(json.dumps({**card, "sha256": "0" * 64}))
    with pytest.raises(UserError, match=f"sha256 is {card['sha256'][:12]}..., the card says 000000000000...; the file is damaged"):
        pretrained.load("small-dnn")


@pytest.mark.parametrize("kept", [0, 100, 2000])
def test_a_file_that_is_no_weights_file(weights, kept):
    ship(weights, "small-dnn", ENHANCER, checksum=False)
    path = weights / "small-dnn.weights.h5"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match="small-dnn.weights.h5: not a readable .weights.h5 file"):
        pretrained.load("small-dnn")


def test_weights_of_another_architecture_say_which_layer_and_shapes(weights):
    ship(weights, "small-dnn", {**ENHANCER, "arguments": {"bins": 9, "units": 5, "context": 1}}, checksum=False)
    (weights / "small-dnn.json").write_text(json.dumps(ENHANCER))
    with pytest.raises(UserError, match="weights of another architecture: layer hidden_1 of dnn wants 3x9x4, 4, the file holds 3x9x5, 5"):
        pretrained.load("small-dnn")
    shutil.copy(weights / "small-qnet.weights.h5", weights / "small-dnn.weights.h5")
    with pytest.raises(UserError, match="layer hidden_1 of dnn wants 3x9x4, 4, the file holds no such layer"):
        pretrained.load("small-dnn")
    network = models.build("quality_net", bins=9, filters=[[2, 5]])
    with pytest.raises(UserError, match="layer sn_conv_1 of quality_net wants 5x5x2x2, 1x2, 2, the file holds 3x3x2x2, 2, 1x2"):
        load_weights(network, weights / "small-qnet.weights.h5")


def test_a_legacy_file_of_keras_2(golden):
    with pytest.raises(UserError, match="weights of another architecture: layer blstm_1 of blstm .* the file holds no such layer"):
        load_weights(models.build("blstm"), golden / "enhancer_sigmoid.h5")


def test_a_byte_changed_in_a_weights_file_is_told(tmp_path):
    """Of a file as a training writes it; Keras loads it all the same, and a file that Keras alone has written has no checksum."""
    network, path = models.build("dnn", units=8), tmp_path / "best.weights.h5"
    save_weights(network, path)
    load_weights(network, path)
    network.load_weights(path)
    data = bytearray(path.read_bytes())
    at = data.index(np.asarray(network.weights[0])[0].tobytes())
    data[at + 1] ^= 1  # a low bit of one weight: as good a number as before
    path.write_bytes(data)
    network.load_weights(path)
    with pytest.raises(UserError, match="best.weights.h5: its numbers are not those that were saved"):
        load_weights(network, path)
