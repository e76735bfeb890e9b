"""The real scripts, end to end on a tiny corpus, each in a process of its own; and what they say of bad input."""

import json
import os
import re
import shutil
import subprocess
import sys
import time

import h5py
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import ROOT, load_script, speech_like

import enhance
import finetune
import score
import train
from se_keras import cli, manifest, pretrained
from se_keras.errors import UserError
from se_keras.models.quality_net import PYTORCH_QNET
from se_keras.stft import Stft

ENHANCER = ["--model", "dnn", "--model-args", '{"units": 8}', "--epochs", "2", "--batch", "4", "--crop", "1"]
QUALITY_NET = ["--model-args", '{"filters": [[2, 5], [2, 7]], "compression": "log"}', "--updates", "6", "--validate-every", "3",
               "--crop", "1", "--workers", "1"]
FINETUNE = ["--iterations", "3", "--validate-every", "3", "--batch", "2", "--workers", "1"]


def run(script, *arguments):
    """What a script prints; it must succeed."""
    done = subprocess.run([sys.executable, ROOT / script, *map(str, arguments)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{script}: {done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def root(tree, tmp_path_factory):
    """The whole job done once: data/, mse/, quality-net/, tuned/, report/, enhanced.wav, and what the scripts printed in said/."""
    root = tmp_path_factory.mktemp("job")
    data, mse, quality_net, tuned = (root / name for name in ("data", "mse", "quality-net", "tuned"))
    sf.write(root / "noisy.wav", 0.5 * speech_like(1.5, seed=90) + 0.02 * np.random.default_rng(0).standard_normal(24_000), 16_000)
    sf.write(root / "clean.wav", 0.5 * speech_like(1.5, seed=90), 16_000)
    said = {
        "prepare": run("data/prepare.py", "folders", "--speech", tree / "S", "--noise", tree / "N", "--out", data,
                       "--snr-train", 0, 5, "--snr-valid", 0, 10, "--snr-test", 0, 10),
        "enhancer": run("train.py", "enhancer", "--data", data, "--out", mse, *ENHANCER),
        "quality-net": run("train.py", "quality-net", "--data", data, "--enhancer", mse, "--out", quality_net, *QUALITY_NET),
        "finetune": run("finetune.py", "--data", data, "--enhancer", mse, "--quality-net", quality_net, "--out", tuned, *FINETUNE),
        "test": run("test.py", "--data", data, "--systems", "noisy", mse, tuned, "--quality-net", quality_net, "--out", root / "report",
                    "--workers", 1),
        "enhance": run("enhance.py", root / "noisy.wav", "--out", root / "enhanced.wav", "--enhancer", tuned),
        "score": run("score.py", "--degraded", root / "enhanced.wav", "--reference", root / "clean.wav", "--quality-net", quality_net,
                     "--json")}
    (root / "said.json").write_text(json.dumps(said))
    return root


@pytest.fixture(scope="module")
def said(root):
    return json.loads((root / "said.json").read_text())


def test_a_run_folder_tells_its_whole_story(root):
    """Network, weights, history, log, versions, revision, data: what is needed to use a run, to trust it or to make it again."""
    fingerprint = json.loads((root / "data" / "corpus.json").read_text())["fingerprint"]
    for name, network, updates in (("mse", "dnn", [4, 8]), ("quality-net", "quality_net", [3, 6]), ("tuned", "dnn", [0, 3])):
        folder, config = root / name, json.loads((root / name / "config.json").read_text())
        assert config["network"] == network and config["data"]["fingerprint"] == fingerprint
        assert config["versions"]["keras"] and config["versions"]["pesq"] and "git" in config
        assert config["command"].startswith("finetune.py" if name == "tuned" else "train.py")
        # 16 rows in batches of 4 are 4 updates an epoch; fine-tuning validates before its first update too
        assert pd.read_csv(folder / "history.csv")["update"].tolist() == updates
        assert (folder / "run.log").read_text().count("update") >= len(updates)
        pretrained.load(folder)


def test_fine_tuning_keeps_the_best_by_true_pesq(root, said):
    history = pd.read_csv(root / "tuned" / "history.csv")
    assert {"predicted", "true", "gap", "pesq_raw", "stoi", "si_sdr"} <= set(history.columns)
    np.testing.assert_allclose(history["true"], history["pesq_raw"], atol=1e-6)  # the target, in its own unit
    best = history.loc[history["true"].idxmax()]
    assert f"best true {best['true']:.5g} at update {best['update']}" in said["finetune"]
    assert (root / "tuned" / "predicted_and_true.png").is_file()
    assert len(list((root / "tuned" / "worst").glob("*-enhanced.wav"))) == len(pd.read_csv(root / "tuned" / "worst" / "worst.csv"))


def test_quality_net_learns_on_and_is_kept_beside_the_enhancer(root, said, tmp_path, capsys):
    """Replay from the trained Quality-Net, then MetricGAN+'s preset, whose own begins from nothing; each resumes to more iterations."""
    common = ["--data", root / "data", "--enhancer", root / "mse", "--validate-every", "2", "--workers", "1", "--round", "2", "--sample",
              "2"]
    for out, arguments in ((tmp_path / "replay", ["--quality-net", root / "quality-net", "--update", "replay", "--batch", "2",
                                                  "--compare", root / "tuned", "--stoi-drop", "0.9"]),
                           (tmp_path / "metricgan", ["--preset", "metricgan-plus", "--model-args", '{"bins": 257}', "--quality-args",
                                                     '{"filters": [[2, 5]], "batch_normalization": true}'])):
        for iterations in (2, 4):
            finetune.main([str(argument) for argument in [*common, *arguments, "--out", out, "--iterations", iterations]])
        history = pd.read_csv(out / "history.csv")
        assert history["update"].tolist() == [0, 2, 4]
        assert "round 1: " in (out / "run.log").read_text() and len(list((out / "history").iterdir())) == 2
        predictor = pretrained.load_quality_net(out / "quality-net")
        assert predictor.representation == ("wave" if out.name == "metricgan" else "mask")
        assert f"best {'true' if out.name == 'metricgan' else 'allowed'} " in capsys.readouterr().out
    assert (tmp_path / "replay" / "predicted_and_true_over_runs.png").is_file() and (tmp_path / "replay" / "true.png").is_file()
    assert "was fine-tuned towards pesq_raw, this run towards pesq_wb" in refused(  # scores of two kinds on one axis
        capsys, finetune, *common, *arguments, "--compare", root / "tuned", "--out", tmp_path / "other")


def test_a_quality_net_that_needs_no_reference(root, tmp_path, capsys):
    """Trained, asked about a recording that has no clean twin, and used as a loss."""
    run = tmp_path / "qn2018"
    train.main(list(map(str, ["quality-net", "--data", root / "data", "--enhancer", root / "mse", "--model", "quality_net_2018",
                              "--model-args", '{"units": 4, "dropout": 0.0}', "--updates", 4, "--validate-every", 2, "--crop", 1,
                              "--workers", 1, "--out", run])))
    capsys.readouterr()
    assert score.main(["--degraded", str(root / "noisy.wav"), "--quality-net", str(run), "--json"]) == 0
    row, = json.loads(capsys.readouterr().out)["pairs"]
    assert row["reference"] is None and row["error"] is None and set(row) == {"degraded", "reference", "predicted_pesq_raw",
                                                                              "predicted_pesq_nb", "error"}
    finetune.main(list(map(str, ["--data", root / "data", "--enhancer", root / "mse", "--quality-net", run, "--out", tmp_path / "tuned",
                                 *FINETUNE])))
    assert "best true" in capsys.readouterr().out


def test_a_quality_net_learns_another_target(root, tmp_path, capsys):
    """From the weights of one that predicts PESQ to a sum; from those on, nothing said, to the same sum; and an enhancer through it."""
    common = ["quality-net", "--data", root / "data", "--enhancer", root / "mse", "--updates", 2, "--validate-every", 2, "--crop", 1,
              "--workers", 1]
    train.main(list(map(str, [*common, "--start", root / "quality-net", "--target", "pesq_raw:3,stoi:1", "--out", tmp_path / "sum"])))
    assert "quality-net predicts pesq_raw: what it knows of speech is kept, and it learns pesq_raw:0.75,stoi:0.25 from here" in (
        capsys.readouterr().out)
    assert pd.read_csv(tmp_path / "sum" / "history.csv")["update"].tolist() == [0, 2]
    train.main(list(map(str, [*common, "--start", tmp_path / "sum", "--out", tmp_path / "on"])))
    assert "from here" not in capsys.readouterr().out
    for run in ("sum", "on"):
        assert pretrained.load_quality_net(tmp_path / run).target.text == "pesq_raw:0.75,stoi:0.25"
    finetune.main(list(map(str, ["--data", root / "data", "--enhancer", root / "mse", "--quality-net", tmp_path / "on", "--out",
                                 tmp_path / "tuned", *FINETUNE])))
    history = pd.read_csv(tmp_path / "tuned" / "history.csv")
    np.testing.assert_allclose(history["true"], 0.75 * (history["pesq_raw"] + 0.5) / 5 + 0.25 * history["stoi"], atol=1e-6)


def test_a_quality_net_of_another_transform(root, tmp_path, capsys):
    """The PyTorch Q-Net's variant: hop 128, Hann. It scores recordings, and is refused where the enhancer's hop is another."""
    run = tmp_path / "q-net"
    variant = {**PYTORCH_QNET, "filters": [[2, 5], [2, 3]]}
    train.main(list(map(str, ["quality-net", "--data", root / "data", "--stft", '{"hop_length": 128, "window": "hann"}', "--model-args",
                              json.dumps(variant), "--updates", 2, "--validate-every", 2, "--crop", 0.5, "--workers", 1, "--out", run])))
    assert pretrained.load_quality_net(run).config == Stft(512, 128, "hann")
    capsys.readouterr()
    assert score.main(["--degraded", str(root / "noisy.wav"), "--reference", str(root / "clean.wav"), "--quality-net", str(run),
                       "--json"]) == 0
    assert -0.5 <= json.loads(capsys.readouterr().out)["pairs"][0]["predicted_pesq_raw"] <= 4.5  # a sigmoid's
    assert "both must have one" in refused(capsys, finetune, "--data", root / "data", "--enhancer", root / "mse", "--quality-net", run,
                                           "--out", tmp_path / "tuned")


def test_the_report(root, said):
    scores = pd.read_csv(root / "report" / "scores.csv")
    # 2 utterances x 2 noise types x 2 SNRs, three systems
    assert scores.groupby("system").size().to_dict() == {"mse": 8, "noisy": 8, "tuned": 8}
    assert scores[["pesq_raw", "pesq_wb", "stoi", "si_sdr", "predicted"]].notna().all(axis=None)
    assert "tuned - mse" in said["test"] and f"report: {root / 'report'}" in said["test"]
    assert {path.name for path in (root / "report" / "figures").iterdir()} == {"labels.png", "predicted.png", "gain.png",
                                                                             "spectrograms.png"}


def test_a_run_is_shipped_with_its_card(root, tmp_path, monkeypatch, capsys):
    """Weights, checksum, recipe and scores, by name: an enhancer's, and what its Quality-Net predicts and how well."""
    ship = load_script("weights/ship.py")
    monkeypatch.setattr(pretrained, "WEIGHTS", tmp_path)
    for run, name in (("tuned", "mine"), ("quality-net", "my-judge")):
        ship.main([str(root / run), name, "--report", str(root / "report"), "--licence", "MIT", "--data-note", "a tiny corpus"])
        assert f"{name}.weights.h5" in capsys.readouterr().out
        network, card = pretrained.load(name)  # which checks the checksum
        for ours, theirs in zip(network.get_weights(), pretrained.load(root / run)[0].get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert card["licence"] == "MIT" and card["data"]["note"] == "a tiny corpus" and card["recipe"]["training"]["seed"] == 0
    table = pd.read_csv(root / "report" / "scores.csv")
    mine = json.loads((tmp_path / "mine.json").read_text())["scores"]
    assert mine["pesq_raw"]["mean"] == pytest.approx(table.loc[table["system"] == "tuned", "pesq_raw"].mean())
    judge = json.loads((tmp_path / "my-judge.json").read_text())
    assert judge["target"]["text"] == "pesq_raw" and set(judge["scores"]["prediction"]) == {"noisy", "mse", "tuned"}
    assert judge["lipschitz"]["product"] > 0 and "lipschitz" not in json.loads((tmp_path / "mine.json").read_text())
    with pytest.raises(UserError, match="no such report"):
        ship.main([str(root / "tuned"), "mine", "--report", str(tmp_path / "nowhere")])


def test_an_enhanced_file(root, said):
    noisy, (enhanced, rate) = sf.read(root / "noisy.wav")[0], sf.read(root / "enhanced.wav")
    assert rate == 16_000 and len(enhanced) == len(noisy)
    assert 0 < np.sum(enhanced ** 2) < np.sum(noisy ** 2)  # a mask of at most 1 takes energy away
    assert "enhanced by tuned" in said["enhance"]


def test_scores_of_a_file(said):
    row = json.loads(said["score"])["pairs"][0]
    assert row["error"] is None and all(isinstance(row[name], float) for name in ("predicted_pesq_raw", "pesq_raw", "pesq_wb", "stoi"))


# --- bad input -------------------------------------------------------------------------------------------------------------------


def refused(capsys, script, *arguments):
    """The message of a script that must refuse: exit code 2, at most two lines, no trace."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: script.main([str(argument) for argument in arguments]))
    message = capsys.readouterr().err
    lines = [line for line in message.splitlines() if line.startswith("error: ") or "error:" in line or "Traceback" in line]
    assert end.value.code == 2, message
    assert len(lines) == 1 and len(message[message.index("error:"):].strip().splitlines()) <= 2, message
    return lines[0]


def contents(folder):
    """{path: bytes} of the files below a folder; none where it does not exist."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


BAD_TRAINING = {
    "no data folder": (["enhancer", "--data", "{new}"], "train.jsonl: no such manifest; make one with data/prepare.py"),
    "unknown model": (["enhancer", "--data", "{data}", "--model", "blstmm"], "unknown --model 'blstmm'; known: blstm, dnn"),
    "unknown argument of a model": (["enhancer", "--data", "{data}", "--model", "dnn", "--model-args", '{"unit": 8}'],
                                    "dnn takes no argument unit; it takes bins, units, context"),
    "unknown compression": (["enhancer", "--data", "{data}", "--compression", "cube"], "unknown --compression 'cube'; known: magnitude"),
    "unknown preset": (["enhancer", "--data", "{data}", "--preset", "leter"], "unknown preset 'leter'; known: demo, letter"),
    "unwritable run": (["enhancer", "--data", "{data}", "--out", "/proc/run"], "/proc/run: cannot be written"),
    "unknown enhancer": (["quality-net", "--data", "{data}", "--enhancer", "blstmm"], "blstmm: no such model; shipped:"),
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
                                         "dnn cannot be built with units='many': "),
    "a negative seed": (["enhancer", "--data", "{data}", "--seed", "-1"], "argument --seed: -1 is not at least 0"),
    "no such transform": (["enhancer", "--data", "{data}", "--stft", '{"hop_length": 300}'], "n_fft 512 and hop_length 300: whole numbers"),
    "another transform than the enhancer's": (["quality-net", "--data", "{data}", "--enhancer", "{mse}", "--stft", '{"hop_length": 128}'],
                                              "'window': 'hamming'}; both must have one"),
    "a run that has no weights yet": (["quality-net", "--data", "{data}", "--enhancer", "{empty}"], "no run with weights in it"),
}
TUNE = ["--data", "{data}", "--enhancer", "{mse}", "--quality-net", "{quality_net}"]
BAD_TUNING = {
    "no data folder": (["--data", "{new}"], "train.jsonl: no such manifest"),
    "unknown enhancer": (["--data", "{data}", "--enhancer", "blstmm"], "blstmm: no such model; shipped:"),
    "enhancer for a Quality-Net": (["--data", "{data}", "--enhancer", "{mse}", "--quality-net", "{mse}"],
                                   "mse is a dnn; a quality_net is expected here"),
    "Quality-Net for an enhancer": (["--data", "{data}", "--enhancer", "{quality_net}"], "an enhancer is expected here"),
    "unknown compression": ([*TUNE, "--loss", "mse",
                             "--compression", "cube"], "unknown --compression 'cube'; known: magnitude"),
    "no fine-tuning to compare with": ([*TUNE, "--compare",
                                        "{quality_net}"], "its history holds no true scores; --compare takes other fine-tunings"),
    "a new Quality-Net that is taught nothing": (["--data", "{data}", "--enhancer", "{mse}", "--quality-net", "new"],
                                                "--quality-net new knows nothing, and --update frozen would teach it nothing"),
    "Quality-Net learns what nobody asks": ([*TUNE, "--loss", "mse",
                                             "--update", "replay"], "--loss mse does not ask Quality-Net"),
    "flags that frozen would ignore": ([*TUNE, "--round", "5",
                                        "--base-rows", "3"], "--update frozen makes --round, --base-rows pointless"),
    "flags of a new one": ([*TUNE, "--preset", "metricgan"],
                           "a trained --quality-net makes --quality-args pointless"),
    "alternating with a history": ([*TUNE, "--update", "alternating",
                                    "--stages", "historical"], "--stages historical is what --update replay does"),
    "a base that is never shown": ([*TUNE, "--update", "alternating",
                                    "--base-rows", "3"], "--base-rows 3 are shown in historical stages, of which there are none"),
    "pairs that fill no batch": ([*TUNE, "--update", "replay",
                                  "--quality-batch", "3"], "--quality-batch 3 does not hold whole groups of --siblings 2"),
    "alternating with flags of a history": ([*TUNE, "--update", "alternating", "--history-share", "0.2"],
                                            "--update alternating keeps no history, so --history-share has no effect"),
    "replay without a past": ([*TUNE, "--update", "replay", "--stages", "current"], "--update replay without a historical stage"),
    "a sample that no round holds": ([*TUNE, "--update", "replay", "--sample", "9", "--round", "2"],
                                     "--sample 9: a round of 2 updates of 4 mixtures sees 8 only"),
    "another target than it predicts": ([*TUNE, "--target", "stoi"],
                                        "quality-net predicts pesq_raw, not stoi"),
    "no run to compare with": ([*TUNE, "--compare", "{new}"],
                               "holds no history of a training"),
}


@pytest.mark.parametrize(("script", "arguments", "message"), [
    *[pytest.param(train, *bad, id=f"train: {name}") for name, bad in BAD_TRAINING.items()],
    *[pytest.param(finetune, *bad, id=f"finetune: {name}") for name, bad in BAD_TUNING.items()]])
def test_training_refuses_before_any_work(script, arguments, message, root, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    places = {"data": root / "data", "mse": root / "mse", "quality_net": root / "quality-net", "new": tmp_path / "new",
              "empty": tmp_path / "empty"}
    filled = [places[text[1:-1]] if text.startswith("{") and text[1:-1] in places else text for text in arguments]
    out = [] if "--out" in filled else ["--out", tmp_path / "run"]
    assert message in refused(capsys, script, *filled, *out)
    assert contents(tmp_path) == {}


def test_a_run_folder_of_another_config(root, capsys):
    """The keys that differ are named, and the run that is there stays as it is."""
    before = contents(root / "mse"), contents(root / "tuned")
    message = refused(capsys, train, "enhancer", "--data", root / "data", "--out", root / "mse", *ENHANCER, "--learning-rate", "0.1")
    assert "holds a run of another config (learning_rate was 0.001, is 0.1); name another --out" in message
    message = refused(capsys, finetune, "--data", root / "data", "--enhancer", root / "mse", "--quality-net", root / "quality-net",
                      "--out", root / "tuned", *FINETUNE, "--seed", "7")
    assert "(seed was 0, is 7)" in message
    began = time.monotonic()  # told before the labelling: another crop is other labels
    message = refused(capsys, train, "quality-net", "--data", root / "data", "--enhancer", root / "mse", "--out", root / "quality-net",
                      *QUALITY_NET, "--crop", "0.5")
    assert "(crop was 1.0, is 0.5)" in message and time.monotonic() - began < 5
    assert before == (contents(root / "mse"), contents(root / "tuned"))


def test_a_run_whose_enhancer_was_trained_again_is_another_run(root, tmp_path, capsys):
    for name in ("mse", "quality-net", "tuned"):
        shutil.copytree(root / name, tmp_path / name)
    config = json.loads((tmp_path / "tuned" / "config.json").read_text())
    moved = {"weights": {str(tmp_path / name): pretrained.sha256(root / name) for name in ("mse", "quality-net")},
             "training": {**config["training"], "enhancer": str(tmp_path / "mse"), "quality_net": str(tmp_path / "quality-net")}}
    (tmp_path / "tuned" / "config.json").write_text(json.dumps({**config, **moved}))
    with h5py.File(tmp_path / "mse" / "best.weights.h5", "r+") as file:
        found = []
        file.visititems(lambda name, node: found.append(name) if isinstance(node, h5py.Dataset) else None)
        file[found[0]][...] = file[found[0]][...] + 1e-3
    message = refused(capsys, finetune, "--data", root / "data", "--enhancer", tmp_path / "mse", "--quality-net", tmp_path / "quality-net",
                      "--out", tmp_path / "tuned", *FINETUNE)
    assert f"{tmp_path / 'mse'} was '{pretrained.sha256(root / 'mse')}'" in message


def test_without_arguments_the_demo_corpus_is_made_and_its_failure_is_passed_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr(subprocess, "run", lambda command: asked.append(command) or subprocess.CompletedProcess(command, 2))
    with pytest.raises(SystemExit) as end:
        train.main([])
    assert end.value.code == 2 and asked[0][1:] == [ROOT / "data" / "prepare.py", "demo", "--out", "data/demo"]
    assert "the BLSTM, by MSE, on the demo corpus" in capsys.readouterr().out


@pytest.fixture
def data(root, tmp_path):
    """A copy of the data folder whose rows can be spoilt."""
    rows = {split: manifest.read(root / "data" / f"{split}.jsonl") for split in manifest.SPLITS}
    for split, found in rows.items():
        manifest.write(tmp_path / "data" / f"{split}.jsonl", found)
    return tmp_path / "data"


@pytest.mark.parametrize(("spoil", "message"), [
    (lambda lines: [*lines[:2], lines[2][:40]], "train.jsonl, line 3: not a JSON object"),
    (lambda lines: [lines[0].replace("train0-0.wav", "gone.wav"), *lines[1:]], "line 1: clean file .*gone.wav does not exist"),
    (lambda lines: [], "train.jsonl: holds no rows")])
@pytest.mark.parametrize("script", [train, finetune])
def test_a_damaged_manifest(script, spoil, message, data, root, tmp_path, capsys):
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
def model(root, tmp_path):
    """A copy of the trained enhancer, to be damaged."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "best.weights.h5"):
        shutil.copy(root / "mse" / name, folder / name)
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
def test_damaged_weights(damage, model, root, tmp_path, capsys):
    """Which layer, which shapes; whichever script is given them, before it writes anything."""
    damage(model)
    common = ["--data", root / "data", "--enhancer", model]
    for script, arguments in ((enhance, [root / "noisy.wav", "--enhancer", model, "--out", tmp_path / "out" / "enhanced.wav"]),
                              (train, ["quality-net", *common, "--out", tmp_path / "out"]),
                              (finetune, [*common, "--quality-net", root / "quality-net", "--out", tmp_path / "out"])):
        assert BAD_WEIGHTS[damage] in refused(capsys, script, *arguments)
        assert contents(tmp_path / "out") == {}


def test_weights_that_are_not_their_cards(model, tmp_path, capsys, root):
    """A shipped model whose file was changed: the card's checksum tells."""
    card = json.loads((model / "config.json").read_text())
    (tmp_path / "mine.json").write_text(json.dumps({**card, "sha256": "0" * 64}))
    shutil.copy(model / "best.weights.h5", tmp_path / "mine.weights.h5")
    found = refused(capsys, enhance, root / "noisy.wav", "--enhancer", tmp_path / "mine.weights.h5", "--out", tmp_path / "enhanced.wav")
    assert "the card says 000000000000" in found and not (tmp_path / "enhanced.wav").exists()


def test_score_wants_a_quality_net(root, capsys):
    pair = ["--degraded", root / "noisy.wav", "--reference", root / "clean.wav"]
    assert "mse is a dnn; a quality_net is expected here" in refused(capsys, score, *pair, "--quality-net", root / "mse")
    assert "qq: no such model; shipped:" in refused(capsys, score, *pair, "--quality-net", "qq")
