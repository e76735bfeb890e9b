"""The database of a listening test: whole or not there, one answer a trial, nothing of one listener in another's."""

import sqlite3
import threading

import pytest
from scripted import SYSTEMS, changed, make

from se_keras.errors import UserError
from se_keras.listening.store import Conflict, Store, create


@pytest.fixture
def opened(tmp_path):
    store = Store(make(tmp_path / "test.db"))
    yield store
    store.close()


def test_a_test_comes_back_as_it_was_made(opened):
    assert opened.settings["systems"] == list(SYSTEMS) and opened.settings["consent"] == "You agree." and opened.settings["made"]
    assert opened.design.trials == 4 and opened.wav(0, SYSTEMS[0])[:4] == b"RIFF" and opened.wav(0, "nobody") is None
    with sqlite3.connect(opened.path) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert opened._database.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL: an answer is on disk when it is acknowledged


def test_answers_come_in_order_once_and_stay(opened):
    listener = opened.listener(opened.start())
    assert (listener.number, listener.scripted, opened.turn(listener)) == (0, False, (0, 6))
    assert opened.answer(listener, 0, "A", 1.5) is True
    assert opened.answer(listener, 0, "A") is False  # sent again: nothing happens
    with pytest.raises(Conflict, match="this trial has another answer, which stays"):
        opened.answer(listener, 0, "B")
    with pytest.raises(Conflict, match="trial 1 is to be answered first"):
        opened.answer(listener, 2, "B")
    stored, = opened.answers()
    assert (stored["listener"], stored["trial"], stored["answer"], stored["seconds"], stored["phase"]) == (0, 0, "A", 1.5, "training")
    assert stored["item"].startswith("u") and sorted(stored["slots"]) == sorted(SYSTEMS)


def test_listeners_have_plans_of_their_own(opened):
    one, two = (opened.listener(opened.start(scripted)) for scripted in (False, True))
    assert (two.number, two.scripted) == (1, True)
    assert [opened.trial(one, number) for number in range(6)] == opened.design.plan(0)
    assert [opened.trial(two, number) for number in range(6)] == opened.design.plan(1)
    assert opened.trial(one, 6) is None and opened.listener("nobody") is None
    opened.answer(one, 0, "A")
    assert opened.turn(two) == (0, 6)
    assert [(each["answered"], each["trials"], each["scripted"]) for each in opened.listeners()] == [(1, 6, 0), (0, 6, 1)]


def test_threads_and_processes_start_listeners_at_once(opened):
    other = Store(opened.path)  # as another process would
    threads = [threading.Thread(target=store.start) for store in (opened, other) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each["number"] for each in opened.listeners()] == list(range(16))
    other.close()


def test_a_test_goes_on_where_it_was(opened):
    secret = opened.start()
    opened.answer(opened.listener(secret), 0, "B")
    opened.keep_token("from-now-on")
    opened.close()
    again = Store(opened.path)
    assert again.turn(again.listener(secret)) == (1, 6) and again.settings["token"] == "from-now-on"
    again.close()


def test_what_is_no_test(tmp_path):
    make(tmp_path / "test.db")
    (tmp_path / "text.db").write_text("no database, but a text that is long enough for one" * 99)
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE t (x)")
    whole = (tmp_path / "test.db").read_bytes()
    (tmp_path / "cut.db").write_bytes(whole[:5000])
    (tmp_path / "spoilt.db").write_bytes(whole[:-8192] + b"x" * 8192)  # its head is whole
    cases = {tmp_path / "none.db": "none.db: no such file; python listen.py --report REPORT", tmp_path: "is a folder",
             tmp_path / "text.db": "text.db: not a listening test's database", tmp_path / "other.db": "a database, but not a listening",
             tmp_path / "cut.db": "or a damaged one", tmp_path / "spoilt.db": "or is damaged"}
    for path, message in cases.items():
        with pytest.raises(UserError, match=message):
            Store(path)
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(UserError, match="of version 2, this listen.py reads version 1; use the release that made it"):
        Store(changed(tmp_path / "test.db", "PRAGMA user_version = 2"))


def test_nothing_is_overwritten_and_nothing_half_made(tmp_path):
    make(tmp_path / "test.db")
    before = (tmp_path / "test.db").read_bytes()
    with pytest.raises(UserError, match="is there already"):
        make(tmp_path / "test.db")
    assert (tmp_path / "test.db").read_bytes() == before
    (tmp_path / "gone.db-wal").write_bytes(b"answers")
    with pytest.raises(UserError, match="gone.db-wal: is left of a database that is gone"):
        make(tmp_path / "gone.db")
    with pytest.raises(KeyError):
        create(tmp_path / "half.db", {"kind": "ab"}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gone.db-wal", "test.db"]
