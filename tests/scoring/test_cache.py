"""The score cache: values as they were, several writers, folders and disks that cannot hold it."""

import multiprocessing
import sqlite3
from concurrent.futures import ProcessPoolExecutor

import pytest

from se_keras.errors import UserError
from se_keras.scoring.cache import Cache


def _put_many(folder, writer):
    cache = Cache(folder)
    for number in range(100):
        cache.put([f"{writer}-{number}"], {"stamp": (float(number), None)})


def test_several_processes_write_at_once(tmp_path):
    with ProcessPoolExecutor(3, multiprocessing.get_context("spawn")) as writers:
        for future in [writers.submit(_put_many, tmp_path, writer) for writer in range(3)]:
            future.result()
    found = Cache(tmp_path).get([f"{writer}-{number}" for writer in range(3) for number in range(100)], ["stamp"])
    assert len(found) == 300 and all(found[f"2-{number}"] == {"stamp": (number, None)} for number in range(100))


def test_values_come_back_as_they_were(tmp_path):
    outcomes = {"a": (0.1 + 0.2, None), "b": (float("inf"), None), "c": (None, "a reason")}
    Cache(tmp_path / "new" / "folder").put(["key", "other"], outcomes)
    assert Cache(tmp_path / "new" / "folder").get(["key"], ["a", "b", "c", "d"]) == {"key": outcomes}


def test_a_folder_that_cannot_hold_the_cache(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be used as a score cache"):
        Cache(tmp_path / "file")
    with sqlite3.connect(tmp_path / "scores.sqlite") as database:
        database.execute("CREATE TABLE scores (of TEXT, football INTEGER)")
    database.close()
    with pytest.raises(UserError, match="scores.sqlite: is no score cache .*football"):
        Cache(tmp_path)
    with sqlite3.connect(tmp_path / "scores.sqlite") as database:
        database.execute("ALTER TABLE scores RENAME TO goals")
    database.close()
    with pytest.raises(UserError, match="scores.sqlite: is no score cache .it holds the tables goals"):
        Cache(tmp_path)


def test_a_full_disk_is_said(tmp_path):
    cache = Cache(tmp_path)
    cache._database.execute("PRAGMA max_page_count = 8")
    with pytest.raises(UserError, match="scores.sqlite: a score cannot be kept .*full"):
        cache.put([f"key {number}" for number in range(10_000)], {"stamp": (1.0, None)})
    assert cache.get(["key 1"], ["stamp"]) == {}  # all or nothing
