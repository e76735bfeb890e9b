"""The presets of fine-tuning as they are shipped: MetricGAN's and MetricGAN+'s turns, on a small BLSTM and a small Quality-Net."""

import json
import tomllib

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, refused, save_with_card

import finetune
from se_keras import cli, files, models, pretrained
from se_keras.models.quality_net import METRICGAN_PLUS
from se_keras.signals.stft import Stft

SMALL = {"metricgan": {"filters": [[2, 5]], "batch_normalization": "utterance", "compression": "magnitude"},
         "metricgan-plus": {**METRICGAN_PLUS, "filters": [[2, 5]]}}


def preset(name):
    return tomllib.loads((ROOT / "configs" / f"{name}.toml").read_text())["finetune"]


@pytest.fixture(scope="module")
def blstm(tmp_path_factory):
    """A small BLSTM with random weights, as a weights file with its card."""
    folder = tmp_path_factory.mktemp("blstm")
    keras.utils.set_random_seed(0)
    arguments = {"units": 4, "dense_units": 4}
    return save_with_card(folder / "small", models.build("blstm", **arguments), "blstm", arguments, Stft())


def tune(trained, blstm, name, out, iterations, *more):
    """The preset with all its flags but for the sizes; returns the run's history."""
    finetune.main(list(map(str, ["--preset", name, "--data", trained / "data", "--enhancer", blstm, "--out", out, "--turns",
                                 json.dumps({"quality_args": SMALL[name], "round": 2, "sample": 2}), "--iterations", iterations,
                                 "--validate-every", 2, "--workers", 1, *more])))
    return pd.read_csv(out / "history.csv")


@pytest.mark.parametrize("name", ["metricgan", "metricgan-plus"])
def test_a_metricgan_preset_trains_and_goes_on_as_if_it_had_not_stopped(name, trained, blstm, tmp_path, capsys):
    """Mask floor, learnable sigmoid, dropout's random state, both optimisers, the history: all of it is there again after a stop."""
    whole = tune(trained, blstm, name, tmp_path / "whole", 4)
    tune(trained, blstm, name, tmp_path / "halves", 2)
    halves = tune(trained, blstm, name, tmp_path / "halves", 4)
    assert whole["update"].tolist() == [0, 2, 4]
    said = ["pesq_raw", "stoi", "si_sdr", "true", "predicted", "gap", *(["pesq_wb"] if name == "metricgan-plus" else [])]
    np.testing.assert_allclose(whole[said], halves[said], rtol=1e-5, atol=1e-6)
    last, (start, _) = pretrained.load(tmp_path / "whole" / "last.weights.h5")[0], pretrained.load(blstm)
    for one, other in zip(last.get_weights(), pretrained.load(tmp_path / "halves" / "last.weights.h5")[0].get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    assert np.abs(last.get_layer("dense").get_weights()[0] - start.get_layer("dense").get_weights()[0]).max() > 1e-4  # it has learned
    mask = np.asarray(last([np.full((1, 5, 257), 1e-3, np.float32), np.ones((1, 5), bool)]))
    assert mask.min() >= np.float32(0.05)
    judge = pretrained.load_quality_net(tmp_path / "whole" / "quality-net")
    assert (judge.target.text, judge.representation) == (("pesq_wb", "wave") if name == "metricgan-plus" else ("pesq_raw", "mask"))
    assert len(list((tmp_path / "whole" / "history").iterdir())) == 2
    assert "best true" in capsys.readouterr().out


def test_the_networks_of_the_presets_are_those_of_the_constants():
    assert json.loads(json.dumps(METRICGAN_PLUS)) == preset("metricgan-plus")["turns"]["quality_args"]
    assert {**SMALL["metricgan"], **preset("metricgan")["turns"]["quality_args"]} == SMALL["metricgan"]


def test_scores_of_two_kinds_do_not_fit_into_one_figure(trained, blstm, tmp_path, capsys):
    assert "was fine-tuned towards pesq_raw, this run towards pesq_wb" in refused(
        capsys, finetune, "--preset", "metricgan-plus", "--data", trained / "data", "--enhancer", blstm, "--compare", trained / "tuned",
        "--out", tmp_path / "other")


def test_what_a_trained_quality_net_makes_pointless_falls_away(capsys):
    """The rest of the preset stays: MetricGAN+'s turns around the shipped Quality-Net."""
    args = finetune.arguments(["--preset", "metricgan-plus", "--quality-net", "quality-net"])
    assert ("a trained --quality-net: of --preset metricgan-plus, --target, --turns quality_args, --turns mapping, --turns input fall away"
            in capsys.readouterr().out)
    assert (args.quality_args, args.target, args.mapping, args.input) == ({}, None, "range", "mask")
    assert (args.update, args.round, args.quality_rate, args.model_args["sigmoid"]) == ("replay", 100, 5e-4, "learnable")


def test_what_frozen_makes_pointless_falls_away(capsys):
    args = finetune.arguments(["--preset", "metricgan", "--quality-net", "quality-net", "--update", "frozen"])
    assert "--update frozen: of --preset metricgan, --turns round, --turns sample" in capsys.readouterr().out
    assert args.stages is None and args.siblings == 2 and args.learning_rate == 1e-3
    with pytest.raises(SystemExit):
        cli.run(lambda: finetune.arguments(["--preset", "metricgan", "--quality-net", "quality-net", "--turns", '{"input": "wave"}']))
    assert "a trained --quality-net makes --turns input pointless" in capsys.readouterr().err


def test_a_default_sample_is_cut_to_a_short_round():
    assert finetune.arguments(["--update", "replay", "--quality-net", "quality-net", "--batch", "1"]).sample == 20


def test_a_quality_net_left_by_a_fine_tuning_knows_which_function_it_learned(trained, tmp_path, monkeypatch, capsys):
    """A function of the user's own, learned on the way: edited since, it is another target."""
    (tmp_path / "levels_of_mine.py").write_text("def level(reference, degraded):\n    return float(min(abs(degraded).max(), 1))\n")
    monkeypatch.chdir(tmp_path)
    common = ["--data", trained / "data", "--enhancer", trained / "mse", "--iterations", 2, "--validate-every", 2, "--workers", 1]
    finetune.main(list(map(str, [*common, "--quality-net", "new", "--update", "alternating", "--target", "levels_of_mine:level[0,1]",
                                 "--batch", 2, "--turns", '{"round": 2, "sample": 2, "quality_args": {"filters": [[2, 5]]}}',
                                 "--out", tmp_path / "run"])))
    card = tmp_path / "run" / "quality-net" / "config.json"
    config = json.loads(card.read_text())
    assert list(config["weights"]) == ["levels_of_mine:level[0,1]"]
    files.write_json(card, {**config, "weights": {"levels_of_mine:level[0,1]": "sha256 of another day"}})
    assert "has learned to predict levels_of_mine:level[0,1] as it was before an edit (sha256 of another day)" in refused(
        capsys, finetune, *common, "--quality-net", tmp_path / "run" / "quality-net", "--out", tmp_path / "other")
