"""Every preset of train.py enhancer trains, goes by its own name, family, STFT and loss, and enhances: its network made tiny."""

import json
import tomllib
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, speech_like

import enhance
import train
from se_keras import cli, enhancers, files, losses, models, pretrained
from se_keras.recipes import enhancer as recipe
from se_keras.signals.stft import Stft

PRESETS = {path.stem: table["enhancer"] for path in sorted((ROOT / "configs").glob("*.toml"))
           if "enhancer" in (table := tomllib.loads(path.read_text()))}
LSTM = {"units": 4, "dense_units": 4}
PIECES = {"filters": [4, 8], "frames": 32}
TINY = {"blstm": LSTM, "lstm": LSTM, "dnn": {"units": 8}, "dccrn": {"channels": [4, 8], "rnn_units": 4},
        "tfgridnet": {"emb": 4, "hidden": 4, "heads": 2, "blocks": None}, "autoencoder": {**PIECES, "dense_units": [8]},
        "autoencoder_ibm": {**PIECES, "dense_units": [8]}, "unet_ibm": {**PIECES, "bottom": 8, "up_filters": [8, 4], "head": [4]}}


def tiny(preset):
    """(network, its arguments with tiny sizes)."""
    name, arguments = preset.get("model", "blstm"), preset.get("model-args", {})
    made = {**arguments, **TINY[name]}
    if name == "tfgridnet":
        made["stages"] = min(arguments.get("stages", 1), 2)
        made["blocks"] = made["stages"]
    return name, made


@pytest.mark.parametrize("name", [name for name in PRESETS if f"{name}-small" not in PRESETS])  # its twin takes the same way
def test_a_preset_trains_and_enhances(name, trained, tmp_path):
    preset = PRESETS[name]
    network, arguments = tiny(preset)
    jit = "on" if name == "letter" else "auto"
    train.main(["enhancer", "--preset", name, "--data", str(trained / "data"), "--out", str(tmp_path / "run"), "--model-args",
                json.dumps(arguments), "--epochs", "1", "--batch", "8", "--crop", "0.5", "--validation-rows", "1", "--workers", "1",
                "--jit", jit])
    card = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (card["network"], card["family"]) == (network, models.ENHANCERS[network])
    assert card["training"]["jit"] == ("on" if name == "letter" else "off")
    assert Stft(**card["stft"]) == Stft(**{**models.STFTS.get(network, {}), **preset.get("stft", {})})
    expected = losses.parse(preset.get("loss", "mse:1"), compression=preset.get("compression"))
    assert losses.parse(card["training"]["loss"]) == expected
    assert card["arguments"].get("stages") == arguments.get("stages", card["arguments"].get("stages"))
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert np.isfinite(history["valid_loss"]).all()
    if len(expected.terms) > 1:
        assert {f"{kind}_{term.name}" for kind in ("loss", "valid") for term in expected.terms} <= set(history)
    system = pretrained.load_system(str(tmp_path / "run"))
    assert isinstance(system, enhancers.family(card["family"]))
    waves = [speech_like(1.0, 1), speech_like(0.7, 2)]
    for wave, enhanced in zip(waves, system.enhance(waves), strict=True):
        assert enhanced.shape == wave.shape and np.isfinite(enhanced).all()
    assert enhance.main([str(trained / "noisy.wav"), "--enhancer", str(tmp_path / "run"), "--out", str(tmp_path / "out.wav")]) == 0


def test_loops_are_compiled_where_that_pays_and_as_the_run_began(tmp_path):
    def chosen(updates, **flags):
        return recipe._jit(SimpleNamespace(**{"jit": "auto", "crop": 3.0, "out": tmp_path / "run"} | flags), updates)

    assert [chosen(1000), chosen(999), chosen(1000, crop=0)] == ["on", "off", "off"]
    assert [chosen(10, jit="on"), chosen(9999, jit="off")] == ["on", "off"]
    for began, then in (({"jit": "on"}, "on"), ({"jit": "off"}, "off"), ({}, "off")):  # the last is older than the flag
        files.write_json(tmp_path / "run" / "config.json", {"training": began})
        assert chosen(10) == chosen(9999) == then


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_nothing_that_cannot_be_meant(name):
    """Its own sizes are arguments of its network, and its flags are the script's; the network itself is not built."""
    args = train.arguments(["enhancer", "--preset", name])
    assert args.data.startswith("data/") and args.out.startswith("runs/")
    models.with_bins(args.model_args, Stft.checked({**models.STFTS.get(args.model, {}), **args.stft}))
    assert set(args.model_args) <= set(models.resolve(args.model, {}))


@pytest.mark.parametrize(("network", "arguments", "message"), [
    ("dccrn", {"mask": "X"}, "mask"), ("dccrn", {"channels": [3]}, "even numbers are expected"),
    ("tfgridnet", {"emb": 5}, "emb 5: a multiple of heads is expected, which is 4"),
    ("tfgridnet", {"stages": 3, "blocks": 2}, "one block a stage"),
    ("autoencoder", {"feature": "phase"}, "feature"), ("autoencoder_ibm", {"at_use": "hard"}, "hard"),
    ("unet_ibm", {"frames": 50}, "50"), ("lstm", {"memory_frames": -1}, "memory_frames -1"),
    ("lstm", {"units": "many"}, "lstm cannot be built with bins=257, units='many'"),
    ("dccrn", {"layers": 3}, "dccrn takes no argument layers; it takes bins, channels"),
])
def test_a_bad_argument_is_refused_in_a_line(network, arguments, message, trained, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: train.main(["enhancer", "--data", str(trained / "data"), "--model", network, "--model-args", json.dumps(arguments),
                                    "--out", str(tmp_path / "run")]))
    error = capsys.readouterr().err.strip()
    assert end.value.code == 2 and message in error and len(error.splitlines()) == 1 and not (tmp_path / "run").exists()
