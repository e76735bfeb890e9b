"""What malformed input, hostile cards and two hands on one run did once, each with its answer now."""

import errno
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ENHANCER, FINETUNE, ROOT, load_script, make_tree, prepare, refused

import demo
import enhance
import finetune
import score
import train
from se_keras import cli, files, metrics, pretrained
from se_keras.errors import UserError
from se_keras.mixtures import manifest
from se_keras.signals import audio, mixing
from se_keras.training import runs

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
                                       ["enhancer", "--model-args", '{"units":1000000000000}'],
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


# --- Cards, run folders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "message"), [
    ({"arguments": []}, "arguments is []; expected a JSON object"), ({"stft": 3}, "stft is 3; expected a JSON object"),
    ({"stft": {"n_fft": 512, "hop_length": 300, "window": "hamming"}}, "hop_length"), ({"name": 5}, "name is 5; expected a text"),
    ({"arguments": {"bins": 100}}, "say bins 100, and its STFT has 257"), ({"sha256": 7}, "sha256 is 7"),
    ({"representation": "x"}, "representation is 'x'; expected one of mask, wave, peak"),
    ({"bias": {"noisy": "a"}}, "expected a number for each kind of speech"), ({"network": ["dnn"]}, "network is ['dnn']")])
def test_a_damaged_card_is_an_error_in_words(trained, tmp_path, change, message):
    import shutil

    shutil.copytree(trained / "mse", tmp_path / "mse")
    card = json.loads((tmp_path / "mse" / "config.json").read_text())
    files.write_json(tmp_path / "mse" / "config.json", {**card, **change})
    with pytest.raises(UserError) as error:
        pretrained.read_card(tmp_path / "mse")
    assert message in str(error.value) and "config.json" in str(error.value)


@pytest.mark.parametrize("text", [b"[" * 100_000, b"\xff\xfe", b"[1]", b"{"])
def test_a_card_that_is_no_json(trained, tmp_path, text):
    import shutil

    shutil.copytree(trained / "mse", tmp_path / "mse")
    (tmp_path / "mse" / "config.json").write_bytes(text)
    with pytest.raises(UserError, match="config.json: "):
        pretrained.read_card(tmp_path / "mse")
    with pytest.raises(UserError, match="config.json: "):
        runs.check_same(tmp_path / "mse", {"network": "dnn", "arguments": {}, "training": {}})


@pytest.fixture
def half(trained, tmp_path):
    """A training's folder, finished, and the command that goes on with it."""
    import shutil

    shutil.copytree(trained / "mse", tmp_path / "half")
    command = ["enhancer", "--data", str(trained / "data"), "--out", str(tmp_path / "half"), *ENHANCER]
    command[command.index("--epochs") + 1] = "3"
    return tmp_path / "half", command


def test_a_damaged_checkpoint_is_an_error_in_words(half, capsys):
    folder, command = half
    whole = (folder / "checkpoint.npz").read_bytes()
    middle = len(whole) // 2
    for damaged in (whole[:middle], whole[:middle] + bytes(200) + whole[middle + 200:], b""):
        (folder / "checkpoint.npz").write_bytes(damaged)
        assert "checkpoint.npz: damaged, it cannot be gone on from" in refused(capsys, train, *command)
    with np.load(trained_checkpoint(folder, whole)) as stored:
        arrays = dict(stored)
    for state in ("[", "{}", '{"surprise": 1}'):
        np.savez(folder / "checkpoint.npz", **{**arrays, "state": np.array(state)})
        if state != "{}":
            assert "damaged" in refused(capsys, train, *command)


def trained_checkpoint(folder, whole):
    path = folder.parent / "whole.npz"
    path.write_bytes(whole)
    return path


def test_a_damaged_corpus_description(half, trained, tmp_path, capsys):
    import shutil

    shutil.copytree(trained / "data", tmp_path / "data", ignore=shutil.ignore_patterns("scores*"))
    (tmp_path / "data" / "corpus.json").write_text("[1]")
    _, command = half
    command[command.index("--data") + 1] = str(tmp_path / "data")
    assert "corpus.json: not a description written by prepare.py" in refused(capsys, train, *command)


def test_two_trainings_into_one_folder(tmp_path):
    code = ("import sys, time; from pathlib import Path; from se_keras.training import runs; runs._lock(Path(sys.argv[1])); "
            "print('in', flush=True); time.sleep(60)")
    first = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert first.stdout.readline() == "in\n"
    with pytest.raises(UserError, match="another process is training into it; wait for its end, or name another --out"):
        runs._lock(tmp_path)
    first.kill()  # leaves its lock file, and no lock
    first.wait()
    runs._lock(tmp_path)
    runs._lock(tmp_path)  # one process may open a folder again
    runs._locks.pop(tmp_path.resolve()).close()


def test_a_full_disk_in_the_middle_costs_nothing(half, tmp_path, monkeypatch, capsys):
    """A sentence, the last checkpoint whole, whichever write it strikes; the same command then ends with the same bits."""
    import shutil

    folder, command = half
    shutil.copytree(folder, tmp_path / "undisturbed")
    undisturbed = [str(tmp_path / "undisturbed") if each == str(folder) else each for each in command]
    fsync = os.fsync
    for allowed in (2, 3, 5):  # after config.json and history.csv come checkpoints, weights and the table of a validation
        written = []

        def full(file, allowed=allowed, written=written):
            written.append(file)
            if len(written) > allowed:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fsync(file)

        monkeypatch.setattr(os, "fsync", full)
        message = refused(capsys, train, *command)
        assert "cannot be written" in message and "the disk is full, " in message and "MB are free" in message
        assert str(folder) in message and not [path for path in folder.iterdir() if path.name.startswith(".")]
        with np.load(folder / "checkpoint.npz") as stored:
            assert all(np.isfinite(stored[name]).all() for name in stored.files if name != "state")
        monkeypatch.setattr(os, "fsync", fsync)
    train.main(command)
    train.main(undisturbed)
    one, other = (np.load(run / "checkpoint.npz") for run in (folder, tmp_path / "undisturbed"))
    for name in set(one.files) - {"state"}:
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
                                   OSError("Unable to write (errno = 28, error message = 'No space left on device')")])
def test_a_full_disk_is_known_by_number_or_text(error, tmp_path, capsys):
    """Of what a library writes by itself, too."""
    assert files.is_full(error) and not files.is_full(OSError(errno.EACCES, "no"))

    def main():
        raise error

    with pytest.raises(SystemExit) as end:
        cli.run(main)
    assert end.value.code == 2 and capsys.readouterr().err.startswith("error: the disk is full; free some space")


def test_too_little_memory_is_said(capsys):
    def main():
        np.ones(1 << 50)

    with pytest.raises(SystemExit) as end:
        cli.run(main)
    assert end.value.code == 2 and "error: too little memory (Unable to allocate" in capsys.readouterr().err


def test_what_nobody_thought_of_is_two_lines_and_a_file(capsys):
    def main():
        raise ZeroDivisionError("of all things")

    with pytest.raises(SystemExit) as end:
        cli.run(main)
    lines = capsys.readouterr().err.splitlines()
    assert end.value.code == 1 and len(lines) == 2 and lines[0] == "error: ZeroDivisionError: of all things"
    trace = lines[1].rpartition(" ")[2]
    assert "Traceback" in open(trace).read()
    os.unlink(trace)


@pytest.mark.parametrize(("name", "message"), [("evil", "unknown KERAS_BACKEND 'evil'; known: tensorflow, jax, torch"),
                                               ("jax", "KERAS_BACKEND asks for jax, which is not installed: pip install jax")])
def test_a_backend_that_is_not_there_is_one_line(name, message, trained):
    if name == "jax" and importlib.util.find_spec("jax"):
        pytest.skip("JAX is installed")
    command = [sys.executable, ROOT / "enhance.py", trained / "noisy.wav", "--out", trained / "never.wav"]
    done = subprocess.run(command, text=True, capture_output=True, env={**os.environ, "KERAS_BACKEND": name})
    assert done.returncode == 2 and f"error: {message}" in done.stderr and "Traceback" not in done.stderr


# --- Kept scores, downloads, preparations ----------------------------------------------------------------------------------------


def test_a_damaged_score_database_is_said(tmp_path):
    from se_keras.scoring.cache import Cache

    cache = Cache(tmp_path)
    cache.put(["key"], {"stamp": (1.0, None)})
    cache.close()
    whole = bytearray((tmp_path / "scores.sqlite").read_bytes())
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"scores.sqlite{suffix}").unlink(missing_ok=True)
    (tmp_path / "scores.sqlite").write_bytes(whole[:100] + bytes(b ^ 0xFF for b in whole[100:]))
    with pytest.raises(UserError, match="scores.sqlite: "):
        Cache(tmp_path).get(["key"], ["stamp"])


def test_a_web_page_kept_as_an_archive_is_fetched_again(tmp_path, monkeypatch, capsys):
    from se_keras.corpora import voicebank

    fetched = []

    def fetch(url, path):
        fetched.append(url)
        path.write_bytes(b"<!DOCTYPE html>")

    monkeypatch.setattr(voicebank, "fetch", fetch)
    (tmp_path / f"{voicebank.ARCHIVES[0]}.zip").write_bytes(b"\n<html>sign in</html>")
    with pytest.raises(UserError, match="the server sent a web page instead of the archive"):
        voicebank.download("http://localhost", tmp_path, tmp_path / "record.json")
    assert len(fetched) == 1 and "is a web page, no archive; it is fetched again" in capsys.readouterr().out
    assert not (tmp_path / f"{voicebank.ARCHIVES[0]}.zip").exists()


@pytest.mark.parametrize("kind", ["encrypted", "a link"])
def test_members_that_are_not_unpacked(kind, tmp_path):
    import stat
    import zipfile

    from se_keras.corpora import voicebank

    info = zipfile.ZipInfo("x.wav")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16 if kind == "a link" else 0
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(info, "/etc/passwd")
    if kind == "encrypted":
        data = bytearray((tmp_path / "a.zip").read_bytes())
        for signature, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
            data[data.index(signature) + at] |= 1
        (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(UserError, match=f"'x.wav' is {kind}; not unpacked"):
        voicebank.unpack(tmp_path / "a.zip", tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(("arguments", "message"), [(["demo", "--seed", "-1"], "-1 is not from 0 to"),
                                                    (["demo", "--out", "{file}"], "Not a directory; name another path")])
def test_preparations_that_cannot_be(arguments, message, tmp_path, capsys):
    from conftest import prepare

    (tmp_path / "file").write_text("")
    arguments = [each.format(file=tmp_path / "file") for each in arguments]
    assert message in refused(capsys, prepare, *arguments)


def test_what_a_kill_leaves_is_overwritten(tmp_path):
    """Temporary names are those of the file to come: no second one grows beside the first."""
    (tmp_path / ".x.partial.wav").write_bytes(b"half a file")
    audio.write(tmp_path / "x.wav", np.zeros(100, np.float32))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.wav"]


def test_a_wrong_setting_of_a_preset_names_the_preset(tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text("[finetune]\nupdate = 'replay'\n[finetune.turns]\nround = 0\n")
    monkeypatch.setattr(cli, "CONFIGS", tmp_path)
    with pytest.raises(UserError, match=r"--preset mine, \[finetune.turns\]: round is 0"):
        finetune.arguments(["--preset", "mine"])
    assert finetune.arguments(["--preset", "mine", "--turns", '{"round": 7}']).round == 7  # what is typed wins, key by key


def test_a_noise_of_one_sample_loops_at_once():
    np.testing.assert_array_equal(mixing.noise_segment(np.ones(1, np.float32), 10 ** 12, 100_000), np.ones(100_000))
