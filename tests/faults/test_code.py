"""Faults once seen: code that a card names, what a metric may raise, workers that never end."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import strangers
from conftest import ENHANCER, FINETUNE, QUALITY_NET, ROOT, load_script, refused

import finetune
import score
import train
from se_keras import files, metrics, pretrained
from se_keras.errors import UserError

evaluate = load_script("test.py")

# --- A card runs no code ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def hostile(trained, tmp_path, monkeypatch):
    """A Quality-Net whose card names a function of a file that leaves a mark when it is imported."""
    import shutil

    shutil.copytree(trained / "quality-net", tmp_path / "evil-net")
    card = json.loads((tmp_path / "evil-net" / "config.json").read_text())
    name = "evil_of_a_card:f[0,1]"
    card["target"] = {"text": name, "terms": [{"metric": name, "weight": 1.0, "low": 0.0, "high": 1.0, "clip": True}]}
    files.write_json(tmp_path / "evil-net" / "config.json", card)
    (tmp_path / "evil_of_a_card.py").write_text("open('mark', 'w').close()\ndef f(reference, degraded):\n    return 0.5\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    metrics.own._of_cards.clear()
    metrics.own._trusted.discard(name)
    pretrained.trust_cards(False)
    sys.modules.pop("evil_of_a_card", None)


def test_a_cards_function_is_not_imported(hostile, trained, capsys):
    common = ["--data", trained / "data", "--quality-net", "evil-net", "--out", "out"]
    assert "--trust-card" in refused(capsys, finetune, "--enhancer", trained / "mse", *common, *FINETUNE)
    assert "--trust-card" in refused(capsys, evaluate, "--systems", "noisy", "--limit", "2", *common)
    pair = ["--degraded", str(trained / "noisy.wav"), "--reference", str(trained / "clean.wav")]
    assert score.main([*pair, "--quality-net", "evil-net"]) == 0
    assert "is predicted, and not measured: evil_of_a_card:f[0,1]: only a model's card names this function" in capsys.readouterr().err
    assert "--trust-card" in refused(capsys, train, "quality-net", "--enhancer", trained / "mse", "--start", "evil-net",
                                     "--data", trained / "data", "--out", "out", *QUALITY_NET[2:])
    train.main(["enhancer", *ENHANCER, "--epochs", "1", "--validation-rows", "1", "--workers", "1", "--loss", "mse:1,quality:1",
                "--quality-net", "evil-net", "--data", str(trained / "data"), "--out", "judged"])  # asks the network, and no function
    assert not (hostile / "mark").exists()


def test_a_trusted_cards_function_is(hostile, trained, capsys):
    assert score.main(["--degraded", str(trained / "noisy.wav"), "--reference", str(trained / "clean.wav"), "--quality-net", "evil-net",
                       "--trust-card", "--json"]) == 0
    assert (hostile / "mark").exists()


def test_what_is_typed_is_trusted(hostile):
    pretrained.read_target(pretrained.read_card("evil-net"))
    with pytest.raises(UserError, match="only a model's card names this function"):
        metrics.get("evil_of_a_card:f[0,1]")
    metrics.own.trust(["evil_of_a_card:f[0,1]"])
    assert metrics.get("evil_of_a_card:f[0,1]").range == (0, 1)


# --- Files of strangers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("load", strangers.LOADED.values(), ids=strangers.LOADED)
def test_what_a_strangers_file_holds_does_not_run(load, tmp_path):
    """Lambda layers, pickles, names of programs: refused in words, and the mark that they would leave is not there."""
    with pytest.raises(UserError):
        load(tmp_path, tmp_path / "mark")
    assert not (tmp_path / "mark").exists()


def test_what_strangers_files_would_do_without_the_refusal(tmp_path):
    """The marks are real: the same files, loaded by who trusts them."""
    import pickle

    import keras

    mark = tmp_path / "mark"
    for path in (strangers.keras_file(tmp_path, mark), strangers.h5_file(tmp_path, mark)):
        network = keras.models.load_model(path, safe_mode=False)
        mark.unlink(missing_ok=True)
        network(np.zeros((1, 4), np.float32))
        assert mark.exists()
        mark.unlink()
    pickle.loads(strangers.pickled(tmp_path / "evil.pth", mark).read_bytes())["state_dict"]["a"].close()
    assert mark.exists()


# --- Metrics and workers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["sys.exit(0)", "sys.exit(3)", "raise RuntimeError('no')", "raise GeneratorExit"])
def test_whatever_a_metric_raises_is_a_reason(code, tmp_path, monkeypatch):
    name = f"exits_{abs(hash(code))}"
    (tmp_path / f"{name}.py").write_text(f"import sys\ndef f(reference, degraded):\n    {code}\n")
    monkeypatch.chdir(tmp_path)
    wave = np.ones(16_000, np.float32)
    row = metrics.evaluate([f"{name}:f[0,1]"], wave, wave)
    assert row[f"{name}:f[0,1]"] is None and "f failed (" in row["error"]


ENDLESS = """
import os, pathlib, signal
from se_keras import cli
from se_keras.errors import UserError
from se_keras.scoring.scores import Job, Scorer

def endless():
    pathlib.Path("pid").write_text(str(os.getpid()))
    while True:
        pass

def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with Scorer(["si_sdr"], workers=1) as scorer:
        pending = scorer.submit(Job("x", endless))
        {wait}
"""


@pytest.mark.parametrize("wait", ["pending.result()", "raise UserError('something else, and then the worker is waited for')"])
def test_ctrl_c_ends_a_worker_whose_job_never_does(tmp_path, wait):
    """To the whole group, as a terminal sends it: the workers start deaf to it, and the parent ends them."""
    (tmp_path / "job.py").write_text(ENDLESS.format(wait=wait))
    process = subprocess.Popen([sys.executable, "-c", "import job; job.cli.run(job.main)"], stderr=subprocess.PIPE, text=True, cwd=tmp_path,
                               env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True)
    deadline = time.monotonic() + 60
    while not ((tmp_path / "pid").is_file() and (tmp_path / "pid").read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    worker = int((tmp_path / "pid").read_text())
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130 and "interrupted" in said and "Traceback" not in said, said
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{worker}") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{worker}"), "the worker lives on"
