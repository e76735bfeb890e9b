"""Run folders of version 0.1.0 (commit d00b26f), made before families and losses as expressions, go on to the bits of their own version.

tests/golden/old_runs holds five runs on the tiny corpus, each left half-way, and in after/ the weights that the code of then ended with.
"""

import shutil

import numpy as np
import pytest
from conftest import ROOT, make_tree, prepare

import finetune
import train
from se_keras import pretrained
from se_keras.weights import load_weights

OLD = ROOT / "tests" / "golden" / "old_runs"
TUNE = ["--data", "data", "--enhancer", "mse", "--quality-net", "quality-net", "--validate-every", "2", "--batch", "2", "--workers", "1",
        "--crop", "1", "--iterations", "4"]
RUNS = {  # name: (script, its arguments today)
    "frozen": (finetune, [*TUNE, "--out", "frozen"]),
    "replay": (finetune, [*TUNE, "--out", "replay", "--update", "replay", "--anchor", "--turns", '{"round": 2, "sample": 2}']),
    "on": (finetune, [*TUNE, "--out", "on", "--loss", "mse"]),
    "quality-net": (train, ["quality-net", "--data", "data", "--enhancer", "mse", "--out", "quality-net", "--model-args",
                            '{"filters":[[2,5],[2,7]],"compression":"log"}', "--validate-every", "3", "--crop", "1", "--workers", "1",
                            "--schedule", "constant", "--updates", "6"]),
    "mse": (train, ["enhancer", "--data", "data", "--model", "dnn", "--model-args", '{"units":8,"context":1}', "--batch", "4", "--crop",
                    "1", "--schedule", "constant", "--workers", "1", "--out", "mse", "--epochs", "2"]),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    make_tree(folder)
    prepare.main(["folders", "--speech", str(folder / "S"), "--noise", str(folder / "N"), "--out", str(folder / "data"), "--snr-train", "0",
                  "5", "--snr-valid", "0", "10", "--snr-test", "0", "10"])
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_an_old_run_goes_on_exactly(root, name, tmp_path, monkeypatch):
    """Its config is read as today's, its checkpoint's variables stand in today's order, its history and awaited pairs are found."""
    for run in ("mse", "quality-net", name):
        shutil.copytree(OLD / run, tmp_path / run, dirs_exist_ok=True)
    (tmp_path / "data").symlink_to(root / "data")
    monkeypatch.chdir(tmp_path)
    script, arguments = RUNS[name]
    # paths of the corpus stand in no config; relative names of models do
    script.main(arguments)
    network, _ = pretrained.load(f"{name}/last.weights.h5")
    expected, _ = pretrained.load(name)
    load_weights(expected, OLD / "after" / f"{name}.weights.h5")
    for found, wanted in zip(network.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)  # bit for bit on the machine that made them


def test_an_old_card_is_a_magnitude_mask():
    system = pretrained.load_system(OLD / "mse")
    assert system.family == "magnitude_mask" and "family" not in pretrained.read_card(OLD / "mse")
    assert pretrained.load_quality_net(OLD / "replay" / "quality-net").representation == "mask"


@pytest.mark.parametrize("name", pretrained.names())
def test_every_shipped_model_loads(name):
    card = pretrained.read_card(name)
    if card["network"] in ("quality_net", "quality_net_2018"):
        assert pretrained.load_quality_net(name).config.to_config() == card["stft"]
    else:
        system = pretrained.load_system(name)
        enhanced, = system.enhance([np.zeros(1000, np.float32)])
        assert enhanced.shape == (1000,) and not enhanced.any()
