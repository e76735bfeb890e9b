"""What the scripts say of bad input: one message, exit code 2, no trace, and nothing written or spoilt."""

import json
import os
import re
import shutil
import subprocess
import time

import h5py
import numpy as np
import pytest
import soundfile as sf
from conftest import ENHANCER, FINETUNE, QUALITY_NET, ROOT, refused

import enhance
import finetune
import score
import train
from se_keras import pretrained
from se_keras.mixtures import manifest


def contents(folder):
    """{path: bytes} of the files below a folder; none where it does not exist."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


BAD_TRAINING = {
    "no data folder": (["enhancer", "--data", "{new}"], "train.jsonl: no such manifest; make one with data/prepare.py"),
    "unknown model": (["enhancer", "--data", "{data}", "--model", "blstmm"], "unknown --model 'blstmm'; known: blstm, dnn"),
    "unknown argument of a model": (["enhancer", "--data", "{data}", "--model", "dnn", "--model-args", '{"unit": 8}'],
                                    "dnn takes no argument unit; it takes bins, units, context"),
    "unknown compression": (["enhancer", "--data", "{data}", "--compression", "cube"], "unknown --compression 'cube'; known: magnitude"),
    "unknown term of a loss": (["enhancer", "--data", "{data}", "--loss", "mse:1,pesq:2"],
                              "unknown term 'pesq'; known terms: mse, quality"),
    "a weight that is no number": (["enhancer", "--data", "{data}", "--loss", "mse:x"],
                                   "mse has the weight 'x'; expected a number above 0"),
    "a judge's term without a judge": (["enhancer", "--data", "{data}", "--loss", "mse:1,quality:1"],
                                       "quality is a Quality-Net's score, and none is named; add --quality-net RUN|NAME; known terms: mse"),
    "unknown preset": (["enhancer", "--data", "{data}", "--preset", "leter"], "unknown preset 'leter'; known: "),
    "unwritable run": (["enhancer", "--data", "{data}", "--out", "/proc/run"], "/proc/run: cannot be written"),
    "unknown enhancer": (["quality-net", "--data", "{data}", "--enhancer", "blstmm"], "blstmm: no such model; shipped:"),
    "empty target": (["quality-net", "--data", "{data}", "--target", ""], "--target is empty; give it a value, or leave it out"),
    "Quality-Net for an enhancer": (["quality-net", "--data", "{data}", "--enhancer", "{quality_net}"],
                                    "quality-net is a quality_net, which scores speech; an enhancer is expected here"),
    "enhancer for a Quality-Net": (["quality-net", "--data", "{data}", "--start", "{mse}"], "mse is a dnn; a quality_net is expected here"),
    "another target than PESQ of the one without a reference": (
        ["quality-net", "--data", "{data}", "--enhancer", "{mse}", "--model", "quality_net_2018", "--target", "stoi"],
        "quality_net_2018 predicts pesq_raw of a wave divided by its peak"),
    "unknown target": (["quality-net", "--data", "{data}", "--enhancer", "{mse}", "--target", "pesk"], "unknown metric 'pesk'; known:"),
    "pairs that fill no batch": (["quality-net", "--data", "{data}", "--enhancer", "{mse}", "--batch", "3"],
                                 "--batch 3 does not hold whole groups of --siblings 2"),
    "another input than it began with": (["quality-net", "--data", "{data}", "--enhancer", "{mse}", "--start", "{quality_net}", "--input",
                                          "wave"], "quality-net has learned from --input mask"),
    "a value that a model cannot take": (["enhancer", "--data", "{data}", "--model", "dnn", "--model-args", '{"units": "many"}'],
                                         "dnn cannot be built with bins=257, units='many': "),
    "a negative seed": (["enhancer", "--data", "{data}", "--seed", "-1"], "argument --seed: -1 is not from 0 to 4294967295"),
    "no such transform": (["enhancer", "--data", "{data}", "--stft", '{"hop_length": 300}'], "n_fft 512 and hop_length 300: whole numbers"),
    "another transform than it began with": (["quality-net", "--data", "{data}", "--start", "{quality_net}", "--stft",
                                              '{"hop_length": 128}'], "both must have one"),
    "a run that has no weights yet": (["quality-net", "--data", "{data}", "--enhancer", "{empty}"], "no run with weights in it"),
}
TUNE = ["--data", "{data}", "--enhancer", "{mse}", "--quality-net", "{quality_net}"]
BAD_TUNING = {
    "no data folder": (["--data", "{new}"], "train.jsonl: no such manifest"),
    "unknown enhancer": (["--data", "{data}", "--enhancer", "blstmm"], "blstmm: no such model; shipped:"),
    "enhancer for a Quality-Net": (["--data", "{data}", "--enhancer", "{mse}", "--quality-net", "{mse}"],
                                   "mse is a dnn; a quality_net is expected here"),
    "Quality-Net for an enhancer": (["--data", "{data}", "--enhancer", "{quality_net}"], "an enhancer is expected here"),
    "unknown compression": ([*TUNE, "--loss", "mse[cube]"], "unknown compression of mse 'cube'; known: magnitude"),
    "unknown term of a loss": ([*TUNE, "--loss", "quality:1,pesq:1"],
                              "unknown term 'pesq'; known terms: mse, quality, quality_linear, si_snr"),
    "a weight that is no number": ([*TUNE, "--loss", "quality:much"], "quality has the weight 'much'; expected a number above 0"),
    "an unknown setting": ([*TUNE, "--turns", '{"rounds": 5}'], "--turns has no rounds; it takes round, sample, sample_of"),
    "a setting of another kind": ([*TUNE, "--update", "replay", "--turns", '{"round": 1.5}'], "--turns: round is 1.5;"),
    "a truth for a number": ([*TUNE, "--update", "replay", "--turns", '{"lag": true}'], "--turns: lag is True; True is none of 0, 1"),
    "stages that there are not": ([*TUNE, "--update", "replay", "--turns", '{"stages": ["future"]}'],
                                  "--turns: stages is ['future']; ['future'] is no list of current, historical"),
    "no fine-tuning to compare with": ([*TUNE, "--compare",
                                        "{quality_net}"], "its history holds no true scores; --compare takes other fine-tunings"),
    "a new Quality-Net that is taught nothing": (["--data", "{data}", "--enhancer", "{mse}", "--quality-net", "new"],
                                                "--quality-net new knows nothing, and --update frozen would teach it nothing"),
    "Quality-Net learns what nobody asks": ([*TUNE, "--loss", "mse",
                                             "--update", "replay"], "--loss mse does not ask Quality-Net"),
    "flags that frozen would ignore": ([*TUNE, "--turns", '{"round": 5, "base_rows": 3}'],
                                       "--update frozen makes --turns round, --turns base_rows pointless"),
    "flags of a new one": ([*TUNE, "--update", "replay", "--turns", '{"quality_args": {"padding": "same"}}'],
                           "a trained --quality-net makes --turns quality_args pointless"),
    "alternating with a history": ([*TUNE, "--update", "alternating", "--turns", '{"stages": ["historical"]}'],
                                  "--turns stages historical is what --update replay does"),
    "a base that is never shown": ([*TUNE, "--update", "alternating", "--turns", '{"base_rows": 3}'],
                                  "--turns base_rows 3 are shown in historical stages, of which there are none"),
    "pairs that fill no batch": ([*TUNE, "--update", "replay", "--turns", '{"quality_batch": 3}'],
                                "--turns quality_batch 3 does not hold whole groups of siblings 2"),
    "alternating with flags of a history": ([*TUNE, "--update", "alternating", "--turns", '{"history_share": 0.2}'],
                                            "--update alternating keeps no history, so --turns history_share has no effect"),
    "a share in percent": ([*TUNE, "--update", "replay", "--turns", '{"history_share": 20}'],
                           "--turns: history_share is 20; 20 is not a number from 0 to 1"),
    "replay without a past": ([*TUNE, "--update", "replay", "--turns", '{"stages": ["current"]}'],
                              "--update replay without a historical stage"),
    "a sample that no round holds": ([*TUNE, "--update", "replay", "--turns", '{"sample": 9, "round": 2}'],
                                     "--turns sample 9: a round of 2 updates of 4 mixtures sees 8 only"),
    "another target than it predicts": ([*TUNE, "--target", "stoi"],
                                        "quality-net predicts pesq_raw, not stoi"),
    "no run to compare with": ([*TUNE, "--compare", "{new}"],
                               "holds no history of a training"),
}


@pytest.mark.parametrize(("script", "arguments", "message"), [
    *[pytest.param(train, *bad, id=f"train: {name}") for name, bad in BAD_TRAINING.items()],
    *[pytest.param(finetune, *bad, id=f"finetune: {name}") for name, bad in BAD_TUNING.items()]])
def test_training_refuses_before_any_work(script, arguments, message, trained, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    places = {"data": trained / "data", "mse": trained / "mse", "quality_net": trained / "quality-net", "new": tmp_path / "new",
              "empty": tmp_path / "empty"}
    filled = [places[text[1:-1]] if text.startswith("{") and text[1:-1] in places else text for text in arguments]
    out = [] if "--out" in filled else ["--out", tmp_path / "run"]
    assert message in refused(capsys, script, *filled, *out)
    assert contents(tmp_path) == {}


def test_a_run_folder_of_another_config(trained, capsys):
    """The keys that differ are named, and the run that is there stays as it is."""
    before = contents(trained / "mse"), contents(trained / "tuned")
    message = refused(capsys, train, "enhancer", "--data", trained / "data", "--out", trained / "mse", *ENHANCER, "--learning-rate", "0.1")
    assert "holds a run of another config (learning_rate was 0.001, is 0.1); name another --out" in message
    message = refused(capsys, finetune, "--data", trained / "data", "--enhancer", trained / "mse", "--quality-net", trained / "quality-net",
                      "--out", trained / "tuned", *FINETUNE, "--seed", "7")
    assert "(seed was 0, is 7)" in message
    began = time.monotonic()  # told before the labelling: another crop is other labels
    message = refused(capsys, train, "quality-net", "--data", trained / "data", "--enhancer", trained / "mse",
                      "--out", trained / "quality-net", *QUALITY_NET, "--crop", "0.5")
    assert "(crop was 1.0, is 0.5)" in message and time.monotonic() - began < 5
    assert before == (contents(trained / "mse"), contents(trained / "tuned"))


def test_a_run_whose_enhancer_was_trained_again_is_another_run(trained, tmp_path, capsys):
    for name in ("mse", "quality-net", "tuned"):
        shutil.copytree(trained / name, tmp_path / name)
    config = json.loads((tmp_path / "tuned" / "config.json").read_text())
    moved = {"weights": {str(tmp_path / name): pretrained.sha256(trained / name) for name in ("mse", "quality-net")},
             "training": {**config["training"], "enhancer": str(tmp_path / "mse"), "quality_net": str(tmp_path / "quality-net")}}
    (tmp_path / "tuned" / "config.json").write_text(json.dumps({**config, **moved}))
    with h5py.File(tmp_path / "mse" / "best.weights.h5", "r+") as file:
        found = []
        file.visititems(lambda name, node: found.append(name) if isinstance(node, h5py.Dataset) else None)
        file[found[0]][...] = file[found[0]][...] + 1e-3
        del file.attrs["se_keras_sha256"]  # else it would be a damaged file
    message = refused(capsys, finetune, "--data", trained / "data", "--enhancer", tmp_path / "mse", "--quality-net",
                      tmp_path / "quality-net", "--out", tmp_path / "tuned", *FINETUNE)
    assert f"{tmp_path / 'mse'} was '{pretrained.sha256(trained / 'mse')}'" in message


def test_without_arguments_the_demo_corpus_is_made_and_its_failure_is_passed_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr(subprocess, "run", lambda command: asked.append(command) or subprocess.CompletedProcess(command, 2))
    with pytest.raises(SystemExit) as end:
        train.main([])
    assert end.value.code == 2 and asked[0][1:] == [ROOT / "data" / "prepare.py", "demo", "--out", "data/demo"]
    assert "the BLSTM, by MSE, on the demo corpus" in capsys.readouterr().out


@pytest.fixture
def data(trained, tmp_path):
    """A copy of the data folder whose rows can be spoilt."""
    rows = {split: manifest.read(trained / "data" / f"{split}.jsonl") for split in manifest.SPLITS}
    for split, found in rows.items():
        manifest.write(tmp_path / "data" / f"{split}.jsonl", found)
    return tmp_path / "data"


@pytest.mark.parametrize(("spoil", "message"), [
    (lambda lines: [*lines[:2], lines[2][:40]], "train.jsonl, line 3: not a JSON object"),
    (lambda lines: [lines[0].replace("train0-0.wav", "gone.wav"), *lines[1:]], "line 1: clean file .*gone.wav does not exist"),
    (lambda lines: [], "train.jsonl: holds no rows")])
@pytest.mark.parametrize("script", [train, finetune])
def test_a_damaged_manifest(script, spoil, message, data, trained, tmp_path, capsys):
    path = data / "train.jsonl"
    path.write_text("".join(line + "\n" for line in spoil(path.read_text().splitlines())))
    command = ["enhancer"] if script is train else []
    assert re.search(message, refused(capsys, script, *command, "--data", data, "--out", tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_speakers_in_two_splits(data, tmp_path, capsys):
    shutil.copy(data / "train.jsonl", data / "valid.jsonl")
    assert "is in both train and valid" in refused(capsys, train, "enhancer", "--data", data, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("spoil", "message"), [
    (lambda path, wave: sf.write(path, np.where(np.arange(len(wave)) == 99, np.nan, wave), 16_000, subtype="FLOAT"), "NaN"),
    (lambda path, wave: sf.write(path, wave[:-1], 16_000), "the manifest says"),
    (lambda path, wave: sf.write(path, wave, 8_000), "8000"),
    (lambda path, wave: path.write_bytes(path.read_bytes()[:1000]), "truncated|samples"),
    (lambda path, wave: path.write_bytes(b""), "not a readable audio file|empty")],
    ids=["NaN", "shorter", "another rate", "truncated", "empty"])
def test_a_file_that_went_bad_after_preparation(spoil, message, data, tmp_path, capsys):
    """Found in the middle of the input pipeline: still one message with the file's name, and no trace of tf.data's."""
    rows = manifest.read(data / "train.jsonl")
    bad = tmp_path / "went-bad.wav"
    shutil.copy(rows[0].clean, bad)
    spoil(bad, sf.read(bad)[0])
    with open(data / "train.jsonl", "a") as file:
        record = json.loads((data / "train.jsonl").read_text().splitlines()[0])
        file.write(json.dumps({**record, "id": "bad", "clean": str(bad)}) + "\n")
    found = refused(capsys, train, "enhancer", "--data", data, "--out", tmp_path / "run", *ENHANCER)
    assert "went-bad.wav" in found and re.search(message, found)


@pytest.fixture
def model(trained, tmp_path):
    """A copy of the trained enhancer, to be damaged."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "best.weights.h5"):
        shutil.copy(trained / "mse" / name, folder / name)
    return folder


def another_architecture(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "arguments": {"units": 9}}))


def truncated(folder):
    with open(folder / "best.weights.h5", "r+b") as file:
        file.truncate(os.path.getsize(folder / "best.weights.h5") // 2)


def no_layers(folder):
    with h5py.File(folder / "best.weights.h5", "w") as file:
        file["something"] = 1


BAD_WEIGHTS = {
    another_architecture: "weights of another architecture: layer hidden_1 of dnn wants 11x257x9, 9, the file holds 11x257x8, 8",
    truncated: "not a readable .weights.h5 file",
    no_layers: "layer hidden_1 of dnn wants 11x257x8, 8, the file holds no such layer",
    lambda folder: (folder / "config.json").write_text("{"): "config.json: not JSON",
    lambda folder: (folder / "config.json").write_text('{"network": "dnn"}'): "lacks arguments, stft; it does not describe a model",
}


@pytest.mark.parametrize("damage", BAD_WEIGHTS, ids=["architecture", "truncated", "no layers", "no JSON", "no card"])
def test_damaged_weights(damage, model, trained, tmp_path, capsys):
    """Which layer, which shapes; whichever script is given them, before it writes anything."""
    damage(model)
    common = ["--data", trained / "data", "--enhancer", model]
    for script, arguments in ((enhance, [trained / "noisy.wav", "--enhancer", model, "--out", tmp_path / "out" / "enhanced.wav"]),
                              (train, ["quality-net", *common, "--out", tmp_path / "out"]),
                              (finetune, [*common, "--quality-net", trained / "quality-net", "--out", tmp_path / "out"])):
        assert BAD_WEIGHTS[damage] in refused(capsys, script, *arguments)
        assert contents(tmp_path / "out") == {}


def test_weights_that_are_not_their_cards(model, tmp_path, capsys, trained):
    """A shipped model whose file was changed: the card's checksum tells."""
    card = json.loads((model / "config.json").read_text())
    (tmp_path / "mine.json").write_text(json.dumps({**card, "sha256": "0" * 64}))
    shutil.copy(model / "best.weights.h5", tmp_path / "mine.weights.h5")
    found = refused(capsys, enhance, trained / "noisy.wav", "--enhancer", tmp_path / "mine.weights.h5", "--out", tmp_path / "enhanced.wav")
    assert "the card says 000000000000" in found and not (tmp_path / "enhanced.wav").exists()


def test_score_wants_a_quality_net(trained, capsys):
    pair = ["--degraded", trained / "noisy.wav", "--reference", trained / "clean.wav"]
    assert "mse is a dnn; a quality_net is expected here" in refused(capsys, score, *pair, "--quality-net", trained / "mse")
    assert "qq: no such model; shipped:" in refused(capsys, score, *pair, "--quality-net", "qq")
    assert "none means that no Quality-Net is asked; name it alone" in refused(capsys, score, *pair, "--quality-net", "quality-net", "none")
