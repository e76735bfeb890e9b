"""The real scripts, end to end on a tiny corpus, each in a process of its own."""

import io
import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import ENHANCER, FINETUNE, PREPARE, QUALITY_NET, ROOT, load_script, write_recordings

import finetune
import score
import train
from se_keras import metrics, pretrained
from se_keras.errors import UserError
from se_keras.models.quality_net import PYTORCH_QNET
from se_keras.signals.stft import Stft
from se_keras.training import runs
from se_keras.training.examples import PLACES


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
    write_recordings(root)
    said = {
        "prepare": run("data/prepare.py", "folders", "--speech", tree / "S", "--noise", tree / "N", "--out", data, *PREPARE),
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


def test_tensorboard_plays_and_shows_three_utterances(root):
    """The noisy and the clean once, what the enhancer makes of them at each validation: 16-bit audio, and pictures of three of them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for name, steps in (("mse", [4, 8]), ("tuned", [0, 3])):
        events = EventAccumulator(str(root / name / "tensorboard"), {"tensors": 0}).Reload()
        found = {tag: events.SummaryMetadata(tag) for tag in events.Tags()["tensors"]}
        assert {tag: data.plugin_data.plugin_name for tag, data in found.items() if data.plugin_data.plugin_name != "scalars"} == {
            **{f"{place}/{kind}": "audio" for place in PLACES for kind in ("noisy", "clean", "enhanced")},
            **{f"spectrograms/{kind}": "images" for kind in ("noisy", "clean", "enhanced")}}
        assert [found[f"{place}/noisy"].summary_description.split(", ")[1] for place in PLACES] == ["0 dB", "10 dB", "10 dB"]
        at = {tag: [event.step for event in events.Tensors(tag)] for tag in found}
        assert at["low_snr/enhanced"] == at["spectrograms/enhanced"] == steps and at["low_snr/clean"] == steps[:1]
        waves = {kind: sf.read(io.BytesIO(events.Tensors(f"low_snr/{kind}")[0].tensor_proto.string_val[0])) for kind in ("noisy", "clean")}
        (noisy, rate), (clean, _) = waves.values()
        assert rate == 16_000 and len(noisy) == len(clean)
        assert 10 * np.log10(np.sum(clean ** 2) / np.sum((noisy - clean) ** 2)) == pytest.approx(0, abs=0.1)  # its SNR


def test_fine_tuning_keeps_the_best_by_true_pesq(root, said):
    history = pd.read_csv(root / "tuned" / "history.csv")
    assert {"predicted", "true", "gap", "pesq_raw", "stoi", "si_sdr"} <= set(history.columns)
    np.testing.assert_allclose(history["true"], history["pesq_raw"], atol=1e-6)  # the target, in its own unit
    best = history.loc[history["true"].idxmax()]
    assert f"best true {best['true']:.5g} at update {best['update']}" in said["finetune"]
    assert (root / "tuned" / "predicted_and_true.png").is_file() and "before and after" in (root / "tuned" / "index.html").read_text()
    assert len(list((root / "tuned" / "worst").glob("*-enhanced.wav"))) == len(pd.read_csv(root / "tuned" / "worst" / "worst.csv"))


def test_quality_net_learns_on_and_is_kept_beside_the_enhancer(root, tmp_path, capsys):
    """Replay from the trained Quality-Net, resumed to more iterations: the second round learns the scores of the first, found on disk."""
    out = tmp_path / "replay"
    for iterations in (2, 4):
        finetune.main(list(map(str, ["--data", root / "data", "--enhancer", root / "mse", "--quality-net", root / "quality-net", "--update",
                                     "replay", "--batch", 2, "--validate-every", 2, "--workers", 1, "--turns",
                                     '{"round": 2, "sample": 2, "lag": 1}', "--compare", root / "tuned", "--stoi-drop", 0.9,
                                     "--out", out, "--iterations", iterations])))
    assert pd.read_csv(out / "history.csv")["update"].tolist() == [0, 2, 4]
    assert re.search(r"round 1: \d+ current pairs \(of round 0\)", (out / "run.log").read_text())
    assert [path.name for path in (out / "history").iterdir()] == ["round_00000.npz"]
    assert pretrained.load_quality_net(out / "quality-net").representation == "mask"
    assert pretrained.read_card(out / "quality-net")["name"] == "replay/quality-net"
    assert re.search(r"best true [\d.]+ of those that lost at most 0.9 STOI at update", capsys.readouterr().out)
    assert (out / "predicted_and_true_over_runs.png").is_file() and (out / "true.png").is_file()


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
    """The PyTorch Q-Net's variant: hop 128, Hann. It scores recordings, and hears the wave of an enhancer with another hop."""
    run = tmp_path / "q-net"
    variant = {**PYTORCH_QNET, "filters": [[2, 5], [2, 3]]}
    train.main(list(map(str, ["quality-net", "--data", root / "data", "--stft", '{"hop_length": 128, "window": "hann"}', "--model-args",
                              json.dumps(variant), "--updates", 2, "--validate-every", 2, "--crop", 0.5, "--workers", 1, "--out", run])))
    assert pretrained.load_quality_net(run).config == Stft(512, 128, "hann")
    capsys.readouterr()
    assert score.main(["--degraded", str(root / "noisy.wav"), "--reference", str(root / "clean.wav"), "--quality-net", str(run),
                       "--json"]) == 0
    assert -0.5 <= json.loads(capsys.readouterr().out)["pairs"][0]["predicted_pesq_raw"] <= 4.5  # a sigmoid's
    finetune.main(list(map(str, ["--data", root / "data", "--enhancer", root / "mse", "--quality-net", run, "--out", tmp_path / "tuned",
                                 *FINETUNE])))
    assert pretrained.load_system(tmp_path / "tuned").config == Stft()


def test_the_report(root, said):
    scores = pd.read_csv(root / "report" / "scores.csv")
    # 2 utterances x 2 noise types x 2 SNRs, three systems
    assert scores.groupby("system").size().to_dict() == {"mse": 8, "noisy": 8, "tuned": 8}
    assert scores[["pesq_raw", "pesq_wb", "stoi", "si_sdr", "predicted"]].notna().all(axis=None)
    assert "tuned - mse" in said["test"] and f"report: {root / 'report'}" in said["test"]
    assert {path.name for path in (root / "report" / "figures").iterdir()} == {"labels.png", "predicted.png", "gain.png",
                                                                             "spectrograms.png", "spectrograms_hard.png"}


def test_judges_are_judged(root, tmp_path, capsys):
    """The hearing model, which has no weights, beside a trained Quality-Net; what they predict is measured though nobody asked."""
    load_script("test.py").main(list(map(str, ["--data", root / "data", "--systems", "noisy", root / "mse", root / "tuned",
                                               "--metrics", "si_sdr", "--judges", "hearing_nb", "hearing_wb", root / "quality-net",
                                               "--out", tmp_path / "report", "--workers", 2])))
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    judged = summary["judges"]
    assert list(judged) == ["hearing_nb", "hearing_wb", "quality-net"] and set(summary["averages"]) == {"si_sdr", "pesq_raw", "pesq_wb"}
    assert judged["hearing_wb"]["target"] == metrics.label("pesq_wb") and judged["hearing_nb"]["baseline"] == "mse"
    scores = pd.read_csv(tmp_path / "report" / "scores.csv")
    assert (scores["true[hearing_nb]"] - scores["pesq_raw"]).abs().max() < 1e-5
    assert judged["hearing_nb"]["systems"]["noisy"]["lcc"] > 0.8 and judged["hearing_nb"]["all"]["rmse"] < 0.6
    assert "LCC of the change" in capsys.readouterr().out and (tmp_path / "report" / "figures" / "judges.png").is_file()


def test_the_hearing_model_is_a_frozen_judge(root, tmp_path, capsys):
    tune = ["--data", root / "data", "--enhancer", root / "mse", "--quality-net", "hearing_nb", "--out", tmp_path / "tuned", *FINETUNE]
    finetune.main(list(map(str, tune)))
    history = pd.read_csv(tmp_path / "tuned" / "history.csv")
    assert history["predicted"].notna().all() and json.loads((tmp_path / "tuned" / "config.json").read_text())["weights"]["hearing_nb"]
    for arguments, message in ((["--update", "replay"], "hearing_nb is a hearing; a quality_net is expected here"),
                               (["--loss", "quality[runs/nowhere]:1"], "no run with weights|no such model")):
        with pytest.raises(UserError, match=message):
            finetune.main(list(map(str, [*tune, "--out", tmp_path / "other", *arguments])))
    with pytest.raises(UserError, match="known: quality_net, quality_net_2018"):
        train.main(list(map(str, ["quality-net", "--data", root / "data", "--enhancer", root / "mse", "--model", "hearing",
                                  "--out", tmp_path / "judge"])))


def test_weights_between_start_and_ends(root, tmp_path, monkeypatch, capsys):
    blend = load_script("weights/blend.py")
    first, last = [pretrained.load(root / run)[0].get_weights() for run in ("mse", "tuned")]
    tuned = str(root / "tuned")
    for name, named, shares in (("none", [tuned], [0]), ("quarter", [tuned], [0.25]), ("all", [tuned], [1]),
                                ("two", [tuned] * 2, [0.25, 0.5])):
        blend.main([*named, "--share", *map(str, shares), "--out", str(tmp_path / name)])
        network, card = pretrained.load(tmp_path / name)
        assert card["blend"]["start"] == str(root / "mse") and list(card["blend"]["shares"]) == [tuned]
        for before, after, mixed in zip(first, last, network.get_weights(), strict=True):
            np.testing.assert_allclose(mixed, before + sum(shares) * (after - before), atol=1e-6)
    another = runs.read_config(tuned)
    another["training"]["enhancer"] = "blstm-mse"
    (tmp_path / "another").mkdir()
    (tmp_path / "another" / "config.json").write_text(json.dumps(another))
    for arguments, message in (([root / "mse", "--share", 0.5, "--out", tmp_path / "new"], "did not begin from an enhancer"),
                               ([tuned, "--share", 0.5, "--out", tmp_path / "all"], "is there already"),
                               ([tuned, "--share", 0.5, 0.1, "--out", tmp_path / "new"], "1 runs and 2 shares"),
                               ([tuned, tmp_path / "another", "--share", 0.5, 0.1, "--out", tmp_path / "new"], "different enhancers")):
        with pytest.raises(UserError, match=message):
            blend.main(list(map(str, arguments)))
    monkeypatch.setattr(pretrained, "WEIGHTS", tmp_path)
    load_script("weights/ship.py").main([str(tmp_path / "quarter"), "between", "--licence", "MIT"])
    card = json.loads((tmp_path / "between.json").read_text())
    assert card["blend"]["shares"] == {tuned: 0.25} and "validation" not in card
    capsys.readouterr()


def test_a_run_is_shipped_with_its_card(root, tmp_path, monkeypatch, capsys):
    """Weights, checksum, recipe and scores, by name: an enhancer's, and what its Quality-Net predicts and how well."""
    ship = load_script("weights/ship.py")
    monkeypatch.setattr(pretrained, "WEIGHTS", tmp_path)
    for run, name in (("tuned", "mine"), ("quality-net", "my-judge")):
        ship.main([str(root / run), name, "--report", str(root / "report"), "--licence", "MIT", "--data-note", "a tiny corpus",
                   *(["--validation", str(root / "report")] if name == "my-judge" else [])])
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
    assert judge["bias"].keys() == {"data", "noisy", "mse", "tuned"} and judge["bias"]["data"].endswith("test.jsonl.")
    for system, rows in table.groupby("system"):
        assert judge["bias"][system] == pytest.approx((rows["predicted"] - rows["target"]).mean(), abs=1e-3)
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
