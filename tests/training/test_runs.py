"""The run folder: what it says of a run, which other configs it refuses, and its history."""

import json

import keras
import pytest

from se_keras.errors import UserError
from se_keras.signals.stft import Stft
from se_keras.training import runs

CONFIG = {"name": "x", "network": "dnn", "arguments": {"units": 8}, "stft": Stft().to_config(), "data": {"fingerprint": "f"},
          "training": {"batch": 4, "epochs": 3, "patience": None}}


def test_a_run_folder_says_with_what_it_was_made(tmp_path):
    logger = runs.open_run(tmp_path / "run", CONFIG)
    logger.info("here")
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {name: stored[name] for name in CONFIG} == CONFIG
    assert stored["versions"]["keras"] == keras.__version__ and stored["versions"]["python"]
    assert {"git", "command", "started", "machine"} <= set(stored)
    assert "here" in (tmp_path / "run" / "run.log").read_text()


def test_a_run_of_another_config_is_refused_by_the_keys_that_differ(tmp_path):
    runs.open_run(tmp_path, CONFIG)
    grown = {**CONFIG, "name": "moved", "training": {**CONFIG["training"], "epochs": 9, "patience": 4}}
    runs.open_run(tmp_path, grown)  # what may grow
    for change, message in (({"network": "blstm"}, "network was 'dnn', is 'blstm'"), ({"arguments": {}}, "units was 8, is None"),
                            ({"data": {"fingerprint": "g"}}, "fingerprint was 'f', is 'g'"), ({"data": None}, "data was .*, is None"),
                            ({"training": {**CONFIG["training"], "batch": 8, "seed": 1}}, "batch was 4, is 8; seed was None, is 1")):
        before = (tmp_path / "config.json").read_bytes()
        with pytest.raises(UserError, match=f"holds a run of another config .{message}.; name another --out, or delete it"):
            runs.open_run(tmp_path, {**grown, **change})
        assert (tmp_path / "config.json").read_bytes() == before
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="config.json: not JSON"):
        runs.open_run(tmp_path, CONFIG)


def test_a_run_older_than_an_argument_goes_on_with_its_default(tmp_path):
    runs.open_run(tmp_path, CONFIG)
    with pytest.raises(UserError, match="config .context was 5, is 4.;"):
        runs.open_run(tmp_path, {**CONFIG, "arguments": {"units": 8, "context": 4}})
    runs.open_run(tmp_path, {**CONFIG, "arguments": {"units": 8, "context": 5}})


def test_a_run_older_than_a_flag_of_the_turns_did_what_was_done_then(tmp_path):
    """It goes on where that is asked for; a frozen one takes no turns, and goes on whatever the flag's default is now."""
    for update, goes_on in (("replay", {"lag": 0, "anchor": False}), ("frozen", {"lag": 1, "anchor": False})):
        old = {**CONFIG, "training": {"batch": 4, "update": update}}
        runs.open_run(tmp_path / update, old)
        runs.open_run(tmp_path / update, {**old, "training": {**old["training"], **goes_on}})
    runs.open_run(tmp_path / "more", {**CONFIG, "training": {"update": "replay"}})
    with pytest.raises(UserError, match="config .anchor was False, is True; lag was 0, is 1.;"):
        runs.open_run(tmp_path / "more", {**CONFIG, "training": {"update": "replay", "lag": 1, "anchor": True}})


def test_what_a_run_says_of_itself_may_be_damaged(tmp_path):
    for damaged, message in (("{", "not JSON"), ("[1]", "no description of a run"), ('{"training": 5}', "no description of a run"),
                             ('{"training": {"loss": 5}}', "no description of a run")):
        (tmp_path / "config.json").write_text(damaged)
        with pytest.raises(UserError, match=f"config.json: {message}"):
            runs.read_config(tmp_path)
    for damaged in (b"", b"\xff\xfe\x00", b"a,b\n1,2,3\n1,2\n\"1"):
        (tmp_path / "history.csv").write_bytes(damaged)
        with pytest.raises(UserError, match="history.csv: no table"):
            runs.read_history(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run", "/proc/run"):
        with pytest.raises(UserError, match="cannot be written"):
            runs.open_run(folder, CONFIG)


def test_history_columns_grow(tmp_path):
    runs.write_history(tmp_path / "h.csv", [{"update": 0, "loss": None}, {"update": 1, "loss": 0.5, "pesq": 2.0}])
    assert (tmp_path / "h.csv").read_text().splitlines() == ["update,loss,pesq", "0,,", "1,0.5,2.0"]


def test_data_are_known_by_their_fingerprint(tmp_path):
    assert runs.data_fingerprint(tmp_path) is None
    (tmp_path / "corpus.json").write_text(json.dumps({"name": "demo", "seed": 1, "fingerprint": "f", "counts": {}}))
    assert runs.data_fingerprint(tmp_path) == {"name": "demo", "seed": 1, "fingerprint": "f"}
