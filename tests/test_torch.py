"""Weights of PyTorch: from a mapping, an .npz file, a checkpoint; what cannot be read. PyTorch itself need not be there."""

import pickle
import sys
import types

import numpy as np
import pytest

from se_keras import torch as door
from se_keras.errors import UserError

CHECKPOINTS = {"plain": lambda state: state, "state_dict": lambda state: {"epoch": 3, "state_dict": state},
               "model": lambda state: {"model": state, "optimizer": {"lr": 0.1}},
               "parallel": lambda state: {"model_state_dict": {f"module.{name}": array for name, array in state.items()}}}


@pytest.fixture(scope="module")
def given(golden):
    """{network: arrays of its golden file}."""
    found = {}
    for network, name in (("dccrn", "dccrn_tiny_E"), ("tfgridnet", "tfgridnet_dl_tiny")):
        with np.load(golden / f"{name}.npz") as file:
            found[network] = dict(file)
    return found


def state_dict(arrays):
    return {name.removeprefix("w/"): array for name, array in arrays.items() if name.startswith("w/")}


@pytest.fixture
def pytorch(monkeypatch):
    """A stand-in for PyTorch, whose files are pickles of arrays: the real one takes 200 MB, and reads the same names."""
    def load(path, map_location, weights_only):
        assert map_location == "cpu" and weights_only
        return pickle.loads(path.read_bytes())

    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(load=load))


@pytest.mark.parametrize("network", door.NETWORKS)
def test_a_system_enhances_as_pytorch_does(network, given, golden):
    """From the golden file itself: what is no weight in it is not read."""
    path = golden / f"{'dccrn_tiny_E' if network == 'dccrn' else 'tfgridnet_dl_tiny'}.npz"
    system = door.load(network, path)
    y, = system.enhance([given[network]["x"][0]])
    np.testing.assert_allclose(y, given[network]["y"][0], atol=1e-5)
    assert (system.name, system.network.name, system.family) == (path.stem, network, "complex_mapping")
    assert system.config.tail == ("cut" if network == "tfgridnet" else "pad")


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_every_form_of_checkpoint(kind, given, pytorch, tmp_path):
    checkpoint, expected = CHECKPOINTS[kind](state_dict(given["dccrn"])), door.load("dccrn", given["dccrn"], mask="C")
    path = tmp_path / ("best.pth" if kind == "plain" else "best.pt")
    path.write_bytes(pickle.dumps(checkpoint))
    for arrays, name in ((checkpoint, "dccrn"), (path, "best"), (str(path), "best")):
        system = door.load("dccrn", arrays, mask="C")
        assert system.name == name and system.network.get_layer("masked").mask == "C"
        for one, other in zip(system.network.get_weights(), expected.network.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_arguments_and_networks_that_are_not_known(given):
    with pytest.raises(UserError, match="unknown network 'unet'; known: dccrn, tfgridnet"):
        door.load("unet", given["dccrn"])
    with pytest.raises(UserError, match="dccrn takes no argument hop; it takes bins, channels, .* mask, kernel"):
        door.load("dccrn", given["dccrn"], hop=2)
    with pytest.raises(UserError, match="the arrays lack encoder.0.0.real_conv.weight"):
        door.load("dccrn", given["tfgridnet"])


def test_files_that_cannot_be_read(tmp_path, pytorch):
    with pytest.raises(UserError, match="none.npz: no such file"):
        door.load("dccrn", tmp_path / "none.npz")
    for name, message in (("some.h5", "some.h5: .npz, .pth or .pt is expected"), ("some.npz", "some.npz: not a readable .npz file"),
                          ("some.pt", r"some.pt: PyTorch does not read it as weights \(")):
        (tmp_path / name).write_bytes(b"nothing\n")
        with pytest.raises(UserError, match=message) as error:
            door.load("dccrn", tmp_path / name)
        assert "\n" not in str(error.value)
    (tmp_path / "list.pt").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(UserError, match="a state dict is expected, names and arrays; a list has arrived"):
        door.load("dccrn", tmp_path / "list.pt")


def test_without_pytorch_a_checkpoint_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "some.pth").write_bytes(b"nothing")
    with pytest.raises(UserError, match="reading it takes PyTorch: pip install torch; or save the state dict where PyTorch is, by numpy"):
        door.load("dccrn", tmp_path / "some.pth")


def test_a_checkpoint_of_pytorch_itself(given, tmp_path):
    torch = pytest.importorskip("torch", reason="reads a file of PyTorch, which nothing else needs (benchmarks/requirements.txt)")
    state = {name: torch.from_numpy(array) for name, array in state_dict(given["dccrn"]).items()}
    torch.save({"epoch": 1, "model": {**state, "encoder.0.1.num_batches_tracked": torch.tensor(7)}}, tmp_path / "best.pt")
    system = door.load("dccrn", tmp_path / "best.pt")
    y, = system.enhance([given["dccrn"]["x"][0]])
    np.testing.assert_allclose(y, given["dccrn"]["y"][0], atol=1e-5)
