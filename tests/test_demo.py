"""The presets and demo.py's plan: every setting is a flag of its command, every command parses, the verdict is plain."""

import json
import subprocess
import sys
import tomllib

import numpy as np
import pytest
from conftest import ROOT, load_script, prepare

import demo
import finetune
import train
from se_keras import cli, models

COMMANDS = {"enhancer": (train, ["enhancer"]), "quality-net": (train, ["quality-net"]), "finetune": (finetune, [])}


@pytest.mark.parametrize("name", cli.presets())
def test_every_key_of_a_preset_is_a_flag_with_a_value_of_its_kind(name):
    preset = tomllib.loads((ROOT / "configs" / f"{name}.toml").read_text())
    assert set(preset) in (set(COMMANDS), {"enhancer"}) or name.startswith("metricgan") and set(preset) == {"finetune"}
    for section, values in preset.items():
        script, command = COMMANDS[section]
        found = script.arguments([*command, "--preset", name])
        flat = {**{key: value for key, value in values.items() if key != "turns"}, **values.get("turns", {})}
        said = {key: getattr(found, key.replace("-", "_")) for key in flat}
        assert said == flat
        # Given again as flags, they pass the command line's own checks: choices, bounds, JSON.
        flags = [text for key, value in values.items() if value is not False for text in (f"--{key}", *as_flags(value))]
        assert vars(script.arguments([*command, *flags])) == {**vars(found), "preset": None}


def as_flags(value):
    if value is True:
        return []
    return list(map(str, value)) if isinstance(value, list) else [json.dumps(value) if isinstance(value, dict) else str(value)]


def test_a_flag_wins_over_a_preset():
    assert train.arguments(["enhancer", "--preset", "demo", "--epochs", "1"]).epochs == 1


def test_the_three_commands_of_a_preset_fit_together():
    """What the enhancer's run is called is what Quality-Net's training and fine-tuning look for."""
    for name in ("letter", "voicebank"):
        enhancer, quality, tuned = (script.arguments([*command, "--preset", name]) for script, command in COMMANDS.values())
        assert quality.enhancer == [enhancer.out] == [tuned.enhancer] and tuned.quality_net == quality.out
        assert len({enhancer.data, quality.data, tuned.data}) == 1 and len({enhancer.out, quality.out, tuned.out}) == 3


def test_every_command_of_the_demo_parses(tmp_path):
    for _, script, *arguments in demo.plan("data/demo", tmp_path):
        assert (ROOT / script).is_file()
        module = {"train.py": train, "finetune.py": finetune, "test.py": load_script("test.py"), "data/prepare.py": prepare}[script]
        args = module.arguments(arguments)
        assert str(getattr(args, "data", args.out)) == "data/demo"
        assert script not in ("train.py", "finetune.py") or args.preset == "demo"


def test_the_letter_preset_trains_as_the_letter_says():
    enhancer, quality, tuned = (script.arguments([*command, "--preset", "letter"]) for script, command in COMMANDS.values())
    assert (enhancer.optimizer, tuned.optimizer, tuned.iterations) == ("rmsprop", "rmsprop", 700)
    assert (quality.perturbed, quality.snr_raise, quality.siblings, quality.contrast) == (0, 0, 1, 0)  # noisy and enhanced; plain MSE
    assert quality.model_args["compression"] == enhancer.compression == "magnitude"


@pytest.mark.parametrize(("name", "facts", "weights"), [
    ("metricgan", {"optimizer": "adam", "learning_rate": 1e-3, "quality_rate": 1e-3, "sample_of": "last", "history_share": 0.1,
                   "stages": ["current", "current", "historical", "current"], "noisy_share": 0, "input": "mask"}, None),
    ("metricgan-plus", {"optimizer": "adam", "learning_rate": 5e-4, "quality_rate": 5e-4, "sample_of": "next", "history_share": 0.2,
                        "stages": ["current", "historical", "current"], "noisy_share": 1, "input": "wave", "mapping": "metricgan",
                        "target": "pesq_wb"}, 19_010)])
def test_the_metricgan_presets_say_what_their_code_does(name, facts, weights):
    """One enhanced mixture an update, 100 scored an epoch, mask floor 0.05, clean speech shown, plain squared error; then what differs."""
    args = finetune.arguments(["--preset", name])
    shared = {"update": "replay", "quality_net": "new", "batch": 1, "sample": 100, "round": 100, "quality_batch": 1, "siblings": 1,
              "contrast": 0, "clean_share": 1, "perturbed": 0, "step_size": 1}
    assert {key: getattr(args, key) for key in shared | facts} == shared | facts
    network, quality = models.build("blstm", **args.model_args), models.build("quality_net", **args.quality_args)
    magnitude = np.abs(np.random.default_rng(0).standard_normal((1, 6, 257))).astype(np.float32)
    assert np.min(network([magnitude, np.ones((1, 6), bool)])) >= 0.05 - 1e-6
    assert args.model_args["mask_floor"] == 0.05 and (name == "metricgan-plus") == (args.model_args.get("sigmoid") == "learnable")
    assert weights is None or sum(np.prod(weight.shape) for weight in quality.trainable_weights) == weights


def test_the_demo_starts_from_nothing(tmp_path):
    """No weights but those that it has trained: every system and Quality-Net named is a run of its own."""
    stages = demo.plan("data/demo", tmp_path)
    assert not any("--start" in stage for stage in stages)
    args = train.arguments(["quality-net", "--preset", "demo"])
    assert args.start is None and args.model_args["front_end"] == "hearing"
    assert {argument.rpartition("/")[2] for stage in stages for argument in stage if argument.startswith(str(tmp_path))} == {
        "blstm-mse", "validation", "quality-net", "blstm-qnet", "report"}


def summary(noisy, mse, tuned, stoi=(0.80, 0.80)):
    pesq = {system: {"mean": value} for system, value in (("noisy", noisy), ("blstm-mse", mse), ("blstm-qnet", tuned))}
    return {"systems": list(pesq), "averages": {"pesq_raw": pesq, "pesq_wb": pesq, "stoi": {
        system: {"mean": value} for system, value in zip(("blstm-mse", "blstm-qnet"), stoi, strict=True)}}}


def test_verdict():
    assert demo.verdict(summary(2.0, 2.3, 2.4)).count("PESQ raw: as expected, Quality-Net > MSE > noisy (blstm-qnet 2.400,") == 1
    for ending in ((2.0, 2.3, 2.3), (2.0, 2.3, 2.2), (2.4, 2.3, 2.5)):
        lines = demo.verdict(summary(*ending)).splitlines()
        assert len(lines) == 3 and all("NOT as expected, Quality-Net > MSE > noisy does not hold in this run" in line for line in lines[:2])


@pytest.mark.parametrize(("tuned", "said"), [
    (0.796, "STOI: held, Quality-Net at most 0.005 below MSE (blstm-qnet 0.796, blstm-mse 0.800)"),
    (0.794, "STOI: NOT held, Quality-Net more than 0.005 below MSE (blstm-qnet 0.794, blstm-mse 0.800)")])
def test_verdict_on_stoi(tuned, said):
    assert demo.verdict(summary(2.0, 2.3, 2.4, (0.800, tuned))).splitlines()[2] == said


def test_a_step_that_fails_stops_the_demo(tmp_path, monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(demo, "run", lambda command: ran.append(command[0]) or (2 if command[0] == "train.py" else 0))
    assert demo.main(["--out", str(tmp_path), "--data", str(tmp_path / "data")]) == 2
    assert ran == ["data/prepare.py", "train.py"]
    printed = capsys.readouterr()
    assert "[2/6] train the enhancer with MSE\n$ python train.py enhancer --preset demo" in printed.out
    assert "stopped at step 2 of 6; run it again and it goes on from there" in printed.err


def test_the_scripts_are_found_from_anywhere(tmp_path):
    done = subprocess.run([sys.executable, ROOT / "demo.py", "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "in 4 to 7 minutes on two cores" in done.stdout
