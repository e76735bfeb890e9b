"""Faults once seen: manifests, presets, flags and names that cannot be."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, load_script, make_tree, prepare, refused

import demo
import enhance
import finetune
import score
import train
from se_keras import cli
from se_keras.errors import UserError
from se_keras.mixtures import manifest
from se_keras.signals import audio, mixing

evaluate = load_script("test.py")

# --- Manifests -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "message"), [
    ({"offset": 10 ** 13}, "offset is 10000000000000, expected a whole number from 0"), ({"offset": -1}, "offset is -1"),
    ({"offset": 1.5}, "offset is 1.5"), ({"gain": -0.5}, "gain is -0.5, expected a finite number from 0"),
    ({"length": 10 ** 9}, "reach past the"), ({"start": 10 ** 9}, "reach past the"), ({"gain": 10 ** 400}, "gain is 1000"),
    ({"speaker": "\ud800"}, "speaker is "), ({"clean": "a\0b"}, "clean is ")])
def test_a_row_that_cannot_be(rows, tmp_path, change, message):
    import dataclasses

    record = {name: value for name, value in dataclasses.asdict(rows[0]).items() if value is not None} | change
    (tmp_path / "train.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(UserError) as error:
        manifest.read(tmp_path / "train.jsonl")
    assert message in str(error.value) and "line 1" in str(error.value)


@pytest.mark.parametrize("line", ["[" * 100_000, '{"id": "a", "id": "b"}', '{"offset": ' + "9" * 5000 + "}"])
def test_a_line_that_is_no_row(tmp_path, line):
    (tmp_path / "train.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match="line 1: "):
        manifest.read(tmp_path / "train.jsonl")


def test_a_gain_that_contradicts_the_snr_is_said_before_a_test(rows):
    import dataclasses

    mixing.check_gain(rows[0])
    with pytest.raises(UserError, match=f"the gain .* makes an SNR of .* dB, the manifest says {rows[0].snr_db:g}"):
        mixing.check_gain(dataclasses.replace(rows[0], gain=2 * rows[0].gain))


def test_an_offset_past_the_noise_starts_again():
    noise = np.arange(10, dtype=np.float32)
    np.testing.assert_array_equal(mixing.noise_segment(noise, 10 ** 12 + 3, 4), noise[3:7])


# --- Presets and flags -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("line", "message"), [
    ("learning-rate = -0.1", "learning-rate is -0.1: -0.1 is not a number above 0"), ("batch = -1", "batch is -1: -1 is not at least 1"),
    ("epochs = 0", "epochs is 0"), ("batch = 1.5", "batch is 1.5: '1.5' is no whole number"),
    ("seed = [1]", "seed is [1]: expected one value"),
    ("model = 5", "model is 5: expected a text"), ("model-args = 3", "model-args is 3: expected a table"),
    ("deterministic = 1", "deterministic is 1: expected true or false"), ("optimizer = 'sgd'", "expected one of adam, rmsprop"),
    ("out = ''", "out is '': it is empty"), ("nonsense = 1", "sets nonsense, which is no flag")])
def test_a_presets_values_pass_the_checks_of_flags(line, message, tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text(f"[enhancer]\n{line}\n")
    monkeypatch.setattr(cli, "CONFIGS", tmp_path)
    with pytest.raises(UserError) as error:
        train.arguments(["enhancer", "--preset", "mine"])
    assert message in str(error.value) and "mine.toml" in str(error.value)


def test_a_preset_that_is_no_text(tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_bytes(b"[enhancer]\nmodel = '\xff'\n")
    monkeypatch.setattr(cli, "CONFIGS", tmp_path)
    with pytest.raises(UserError, match="mine.toml: not TOML"):
        train.arguments(["enhancer", "--preset", "mine"])


def test_a_preset_is_a_name_or_a_toml_file(tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text("[enhancer]\nepochs = 7\n")
    assert train.arguments(["enhancer", "--preset", str(mine)]).epochs == 7
    for name in ("../configs/demo", str(mine)[:-5], "nowhere.toml"):
        with pytest.raises(UserError, match="unknown preset .*; known: .*demo, dns, letter.*or a .toml file of your own"):
            train.arguments(["enhancer", "--preset", name])


@pytest.mark.parametrize(("script", "arguments", "meant"), [
    (train, ["enhancer", "--lr", "0.1"], "--learning-rate"), (finetune, ["--batch-size", "3"], "--batch"),
    (train, ["enhancer", "--epoch_s", "3"], "--epochs"), (finetune, ["--steps", "3"], "--iterations"),
    (evaluate, ["--data", "d", "--out", "o", "--batch-size", "3"], "--batch"),
    (evaluate, ["--data", "d", "--batch-size=3"], "--batch"),  # also where another flag is missing
    (train, ["quality-net", "--steps", "3"], "--updates"), (train, ["enhancer", "--steps", "3"], "--epochs"),  # of this command
    (train, ["quality-net", "--n_epochs", "3"], "--updates"), (train, ["--lr", "3"], "--learning-rate"),
    (train, ["enhancer", "-lr", "3"], "--learning-rate"), (train, ["enhancer", "extra", "--learning_rate", "3"], "--learning-rate"),
    (finetune, ["--history-share", "0.2"], "--turns '{\"history_share\": ...}'"),
    (enhance, ["x.wav", "--output", "y"], "--out"), (enhance, ["x.wav", "--out", "y", "--model", "wiener"], "--enhancer"),
    (score, ["--noisy", "x", "--clean", "y"], "--degraded"), (prepare, ["demo", "--random-seed", "1"], "--seed"),
    (demo, ["--output", "x"], "--out")])
def test_a_wrong_flag_is_answered_with_the_one_meant(script, arguments, meant, capsys):
    with pytest.raises(SystemExit) as end:
        script.main(arguments)
    said = capsys.readouterr().err
    assert end.value.code == 2 and f"did you mean {meant}?" in said and "usage" not in said


@pytest.mark.parametrize(("script", "arguments", "message"), [
    (evaluate, ["--data", "d", "--out", ""], "--out is empty"), (evaluate, ["--data", "d", "--out="], "--out is empty"),
    (evaluate, ["--data", "d", "--out", "o", "--systems", "noisy", ""], "--systems is empty"),
    (load_script("data/prepare.py"), ["folders", "--speech", "s", "--noise", "n", "--out="], "--out is empty"),
    (train, ["enhancer", "--out", "a\0b"], "NUL"), (train, ["enhancer", "--seed", "9" * 20], "is not from 0 to 4294967295"),
    (train, ["enhancer", "--batch", "1.5"], "--batch: '1.5' is no whole number"), (train, ["enhancer", "--crop", "x"], "'x' is no number"),
    (train, ["enhancer", "--epochs", "9" * 12], "is not below 2147483648"),
    (train, ["enhancer", "--epochs", "9" * 5000], "is no whole number")])
def test_values_that_no_flag_takes(script, arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        script.arguments(arguments)
    assert end.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["enhancer", "--model-args", '{"bins":100}'],
                                       ["enhancer", "--model-args", '{"units":9000000000000000000}'],
                                       ["enhancer", "--model-args", "[" * 100_000], ["quality-net", "--model-args", '{"bins":100}'],
                                       ["quality-net", "--start", "{quality_net}", "--model-args", '{"bins":100}'],
                                       ["quality-net", "--target", "stoi:1e308,si_sdr:1e308"]])
def test_arguments_that_make_no_network_leave_no_folder(trained, tmp_path, arguments, capsys):
    arguments = [each.replace("{quality_net}", str(trained / "quality-net")) for each in arguments]
    enhancer = ["--enhancer", trained / "mse"] if arguments[0] == "quality-net" else []
    refused(capsys, train, *arguments, *enhancer, "--data", trained / "data", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_names_that_are_not_text(trained, tmp_path):
    """Of a file, of a speaker's folder, of an output: said, and the other files are done."""
    import shutil

    odd = tmp_path / "in" / os.fsdecode(b"odd\xff.wav")
    odd.parent.mkdir()
    for path in (odd, tmp_path / "in" / "sound.wav"):
        shutil.copy(trained / "noisy.wav", path)
    done = subprocess.run([sys.executable, ROOT / "enhance.py", odd.parent, "--out", tmp_path / "out", "--enhancer", "wiener"], text=True,
                          capture_output=True)
    assert done.returncode == 2 and "the name of the file, or of a folder above it, is not UTF-8; rename it" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sound.wav"]
    with pytest.raises(UserError, match="is not UTF-8; rename it"):
        audio.read(odd)
    speaker = tmp_path / "S" / os.fsdecode(b"odd\xff")
    shutil.copytree(odd.parent, speaker, ignore=lambda *_: [odd.name])
    make_tree(tmp_path / "tree")
    with pytest.raises(UserError, match="is not UTF-8; rename it"):
        load_script("data/prepare.py").main(["folders", "--split", "test", "--speech", str(tmp_path / "S"), "--noise",
                                             str(tmp_path / "tree" / "N"), "--out", str(tmp_path / "data")])
    assert not (tmp_path / "data").exists()


def test_a_wrong_setting_of_a_preset_names_the_preset(tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text("[finetune]\nupdate = 'replay'\n[finetune.turns]\nround = 0\n")
    monkeypatch.setattr(cli, "CONFIGS", tmp_path)
    with pytest.raises(UserError, match=r"--preset mine, \[finetune.turns\]: round is 0"):
        finetune.arguments(["--preset", "mine"])
    assert finetune.arguments(["--preset", "mine", "--turns", '{"round": 7}']).round == 7  # what is typed wins, key by key


def test_a_noise_of_one_sample_loops_at_once():
    np.testing.assert_array_equal(mixing.noise_segment(np.ones(1, np.float32), 10 ** 12, 100_000), np.ones(100_000))
