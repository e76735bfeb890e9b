"""Downloads of corpora, from a local server that misbehaves; archives that are damaged or would write elsewhere."""

import argparse
import zipfile

import numpy as np
import pytest

from se_keras.corpora import download
from se_keras.errors import UserError

BODY = np.random.default_rng(0).bytes(300_000)


def test_fetch_from_the_start(server, tmp_path):
    server.files["a.zip"] = BODY
    download.fetch(f"{server.url}/a.zip", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == BODY and server.ranges == [None]


def test_fetch_goes_on_from_half_a_file(server, tmp_path):
    server.files["a.zip"] = BODY
    (tmp_path / "a.zip.part").write_bytes(BODY[:100_000])
    download.fetch(f"{server.url}/a.zip", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == BODY and server.ranges == ["bytes=100000-"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_fetch_goes_on_when_the_connection_breaks(server, tmp_path):
    server.files["a.zip"], server.break_after = BODY, 120_000
    download.fetch(f"{server.url}/a.zip", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == BODY and server.ranges == [None, "bytes=65536-"]  # whole chunks are kept


def test_fetch_starts_over_where_the_server_knows_no_range(server, tmp_path):
    server.files["a.zip"], server.with_range = BODY, False
    (tmp_path / "a.zip.part").write_bytes(b"x" * 100_000)
    download.fetch(f"{server.url}/a.zip", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == BODY


def test_fetch_of_a_complete_part_file(server, tmp_path):
    """Killed between the last byte and the renaming; and a part file longer than the archive, which cannot be its beginning."""
    server.files["a.zip"] = BODY
    (tmp_path / "a.zip.part").write_bytes(BODY)
    download.fetch(f"{server.url}/a.zip", tmp_path / "a.zip")
    (tmp_path / "b.zip.part").write_bytes(BODY + b"more")
    download.fetch(f"{server.url}/a.zip", tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes() == BODY


def test_fetch_errors(server, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="a.zip: the server answers 404 Not Found; see --base-url"):
        download.fetch(f"{server.url}/a.zip", tmp_path / "a.zip")
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    with pytest.raises(UserError, match="cannot be fetched .*run the same command again"):
        download.fetch("http://127.0.0.1:1/a.zip", tmp_path / "a.zip")
    server.files["a.zip"] = BODY
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: argparse.Namespace(free=1000))
    with pytest.raises(UserError, match="too little space is left"):
        download.fetch(f"{server.url}/a.zip", tmp_path / "a.zip")


def test_unpacking_stays_in_its_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as file:
        file.writestr("good.txt", "x")
        file.writestr("../../outside.txt", "x")
    with pytest.raises(UserError, match="holds the path '../../outside.txt', which leads out"):
        download.unpack(tmp_path / "bad.zip", tmp_path / "deep" / "bad")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["bad.zip"]


def test_a_damaged_archive_is_told_and_leaves_nothing(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a/good.bin", BODY)
    (tmp_path / "cut.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:-5000])
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[1000] ^= 1
    (tmp_path / "flipped.zip").write_bytes(data)
    for name in ("cut", "flipped"):
        with pytest.raises(UserError, match=f"{name}.zip: is damaged .*delete it"):
            download.unpack(tmp_path / f"{name}.zip", tmp_path / name)
        assert not (tmp_path / name).exists()
    download.unpack(tmp_path / "a.zip", tmp_path / "a")
    assert (tmp_path / "a" / "good.bin").read_bytes() == BODY
