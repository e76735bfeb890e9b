"""Faults once seen: damaged cards, run folders, scores and archives; two hands on one run; a full disk."""

import errno
import importlib.util
import json
import os
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from conftest import ENHANCER, ROOT, load_script, prepare, refused

import train
from se_keras import cli, files, pretrained
from se_keras.errors import UserError
from se_keras.scoring.cache import Cache
from se_keras.signals import audio
from se_keras.training import runs

evaluate = load_script("test.py")

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


def test_weights_that_are_damaged_inside(trained, tmp_path):
    """Where h5py raises something else than for a file that is none; and numbers that are none, wherever they come from."""
    import shutil

    import h5py

    shutil.copytree(trained / "mse", tmp_path / "mse")
    path = tmp_path / "mse" / "best.weights.h5"
    whole = path.read_bytes()
    at = whole.index(b"SNOD")  # a node of HDF5's table of names
    path.write_bytes(whole[:at] + b"XXXX" + whole[at + 4:])
    with pytest.raises(UserError, match="not a readable .weights.h5 file"):
        pretrained.load(tmp_path / "mse")
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        arrays = []
        file.visititems(lambda name, node: arrays.append(node) if isinstance(node, h5py.Dataset) else None)
        arrays[0][...] = np.nan
        del file.attrs["se_keras_sha256"]  # as Keras alone writes it
    with pytest.raises(UserError, match="holds numbers that are none in "):
        pretrained.load(tmp_path / "mse")


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


@pytest.mark.parametrize(("path", "said"), [(("a.wav",), "error: a.wav: a disk, or the way to it, fails (Input/output error)"),
                                            ((), "error: a disk, or the way to it, fails (Input/output error)")])
def test_a_disk_that_fails_is_said(path, said, capsys):
    def main():
        raise OSError(errno.EIO, os.strerror(errno.EIO), *path)

    with pytest.raises(SystemExit) as end:
        cli.run(main)
    assert end.value.code == 2 and capsys.readouterr().err.startswith(said)


def test_a_log_that_cannot_be_written_ends_a_run_without_a_trace(tmp_path, capsys, monkeypatch):
    logger = runs.open_run(tmp_path / "run", {"network": "dnn", "arguments": {}, "stft": {}, "training": {}})

    def full(text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(logger.handlers[0].stream, "write", full, raising=False)
    with pytest.raises(OSError, match="No space left"):
        logger.info("a line")
    assert not capsys.readouterr().err


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
        pytest.skip("needs a machine without JAX: the message is of one that lacks it")
    command = [sys.executable, ROOT / "enhance.py", trained / "noisy.wav", "--out", trained / "never.wav"]
    done = subprocess.run(command, text=True, capture_output=True, env={**os.environ, "KERAS_BACKEND": name})
    assert done.returncode == 2 and f"error: {message}" in done.stderr and "Traceback" not in done.stderr


# --- Kept scores, downloads, preparations ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["cut in the header", "cut in a page", "cut between pages", "overwritten", "text"])
def test_a_damaged_score_database_is_moved_aside_and_begun_anew(tmp_path, capsys, damage):
    path, outcomes = tmp_path / "scores.sqlite", {"stamp": (1.0, None)}
    cache = Cache(tmp_path)
    cache.put([f"{number:064x}" for number in range(500)], outcomes)
    cache.close()
    whole = path.read_bytes()
    path.write_bytes({"cut in the header": whole[:50], "cut in a page": whole[:9000], "cut between pages": whole[:-4096],
                      "overwritten": whole[:4096] + bytes(4096) + whole[8192:], "text": b"no database; " * 1000}[damage])
    kept = path.read_bytes()
    cache = Cache(tmp_path)
    assert f"{path}: is damaged" in capsys.readouterr().err
    (aside,) = tmp_path.glob("scores.sqlite.damaged-*")
    assert aside.read_bytes() == kept and cache.get([f"{0:064x}"], ["stamp"]) == {}
    cache.put(["key"], outcomes)
    cache.close()
    assert Cache(tmp_path).get(["key"], ["stamp"]) == {"key": outcomes} and not capsys.readouterr().err  # once is enough


def test_a_score_whose_bytes_were_changed_is_not_known(tmp_path):
    cache = Cache(tmp_path)
    cache.put(["key", "other"], {"stamp": (1.25, None)})
    cache._database.execute("UPDATE scores SET value = 1.5 WHERE key = 'key'")  # as a changed byte does: the checksum stays
    assert cache.get(["key", "other"], ["stamp"]) == {"other": {"stamp": (1.25, None)}}


def test_a_reason_that_is_no_text_any_more_is_not_known(tmp_path):
    cache = Cache(tmp_path)
    cache.put(["key", "other"], {"stamp": (None, "too short")})
    cache._database.execute("UPDATE scores SET reason = CAST(X'746F6F2073686F72FF' AS TEXT) WHERE key = 'key'")
    assert cache.get(["key", "other"], ["stamp"]) == {"other": {"stamp": (None, "too short")}}


def test_scores_kept_before_rows_had_checksums_are_known(tmp_path):
    with sqlite3.connect(tmp_path / "scores.sqlite") as database:
        database.execute("CREATE TABLE scores (key TEXT, stamp TEXT, value REAL, reason TEXT, PRIMARY KEY (key, stamp)) WITHOUT ROWID")
        database.execute("INSERT INTO scores VALUES ('old', 'stamp', 2.5, NULL)")
    database.close()
    cache = Cache(tmp_path)
    cache.put(["new"], {"stamp": (3.5, None)})
    assert cache.get(["old", "new"], ["stamp"]) == {"old": {"stamp": (2.5, None)}, "new": {"stamp": (3.5, None)}}


def test_a_web_page_kept_as_an_archive_is_fetched_again(tmp_path, monkeypatch, capsys):
    from se_keras.corpora import download

    fetched = []

    def fetch(url, path):
        fetched.append(url)
        path.write_bytes(b"<!DOCTYPE html>")

    monkeypatch.setattr(download, "fetch", fetch)
    (tmp_path / "wanted.zip").write_bytes(b"\n<html>sign in</html>")
    with pytest.raises(UserError, match="the server sent a web page instead of the archive"):
        download.archives(["wanted"], "http://localhost", tmp_path, tmp_path / "record.json", lambda name: False)
    assert len(fetched) == 1 and "is a web page, no archive; it is fetched again" in capsys.readouterr().out
    assert not (tmp_path / "wanted.zip").exists()


@pytest.mark.parametrize(("status", "headers"), [(416, {}), (206, {"Content-Range": "bytes 7-9/10"})])
def test_an_answer_that_nobody_asked_for_is_no_file(tmp_path, monkeypatch, status, headers):
    import contextlib
    from types import SimpleNamespace

    from se_keras.corpora import download

    answer = SimpleNamespace(status_code=status, reason="As I like", headers=headers)
    monkeypatch.setattr(download.requests, "get", lambda *arguments, **options: contextlib.nullcontext(answer))
    with pytest.raises(UserError, match=f"answers {status} As I like, and no part of the file was asked for"):
        download.fetch("http://localhost/a.zip", tmp_path / "a.zip")
    assert not list(tmp_path.iterdir())


def test_an_archive_that_the_disk_cannot_hold_is_not_begun(tmp_path, monkeypatch):
    import shutil
    import zipfile
    from types import SimpleNamespace

    from se_keras.corpora import download

    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.wav", bytes(3_000_000))
        file.writestr("b.wav", bytes(3_000_000))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5_000_000))
    with pytest.raises(UserError, match="unpacks to 6 MB, and 5 MB are free; not unpacked"):
        download.unpack(tmp_path / "a.zip", tmp_path / "a")
    assert [each.name for each in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("kind", ["encrypted", "a link"])
def test_members_that_are_not_unpacked(kind, tmp_path):
    import stat
    import zipfile

    from se_keras.corpora import download

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
        download.unpack(tmp_path / "a.zip", tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(("arguments", "message"), [(["demo", "--seed", "-1"], "-1 is not from 0 to"),
                                                    (["demo", "--out", "{file}"], "Not a directory; name another path")])
def test_preparations_that_cannot_be(arguments, message, tmp_path, capsys):

    (tmp_path / "file").write_text("")
    arguments = [each.format(file=tmp_path / "file") for each in arguments]
    assert message in refused(capsys, prepare, *arguments)


def test_what_a_kill_leaves_is_overwritten(tmp_path):
    """Temporary names are those of the file to come: no second one grows beside the first."""
    (tmp_path / ".x.wav").write_bytes(b"half a file")
    audio.write(tmp_path / "x.wav", np.zeros(100, np.float32))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.wav"]
