"""The Voice Bank corpus: ready-made pairs, and their download from a local server that misbehaves."""

import argparse
import hashlib
import json
import shutil
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import soundfile as sf
from conftest import noise, prepare, speech_like

from se_keras.corpora import voicebank
from se_keras.errors import UserError
from se_keras.mixtures import manifest
from se_keras.signals import audio, mixing


def make_voicebank(root, rate=48_000, suffix=""):
    """Pairs of p226 (validation), p230 and p231 (training) and p232 (test)."""
    seed = 0
    for part, speakers in (("trainset_28spk", ("p226", "p230", "p231")), ("testset", ("p232",))):
        for kind in ("clean", "noisy"):
            (root / f"{kind}_{part}_wav{suffix}").mkdir(parents=True)
        for speaker in speakers:
            for number in (1, 2):
                seed += 1
                clean = audio.resample(speech_like(0.5, seed), 16_000, rate)
                sf.write(root / f"clean_{part}_wav{suffix}" / f"{speaker}_00{number}.wav", clean, rate)
                sf.write(root / f"noisy_{part}_wav{suffix}" / f"{speaker}_00{number}.wav", clean + noise(0.5, seed, rate), rate)
    return root


def run_voicebank(root, out, *flags):
    prepare.main(["voicebank", "--root", str(root), "--out", str(out), *flags])
    return {path.stem: manifest.read(path) for path in out.glob("*.jsonl")}


def test_voicebank_pairs(tmp_path, capsys):
    root = make_voicebank(tmp_path / "vb")
    (root / "logfiles").mkdir()
    (root / "logfiles" / "log_testset.txt").write_text("p232_001 cafe 17.5\np232_002 bus 2.5\n")
    rows = run_voicebank(root, tmp_path / "out")
    assert {split: [row.id for row in some] for split, some in rows.items()} == {
        "train": ["p230_001", "p230_002", "p231_001", "p231_002"], "valid": ["p226_001", "p226_002"],
        "test": ["p232_001", "p232_002"]}
    assert [(row.noise_type, row.snr_db) for row in rows["test"]] == [("cafe", 17.5), ("bus", 2.5)]
    assert {(row.noise_type, row.snr_db) for row in rows["train"]} == {("unknown", None)}
    assert "hold 2 of the 824 pairs" in capsys.readouterr().out
    noisy, clean = mixing.pair(rows["test"][0])
    assert len(noisy) == len(clean) == rows["test"][0].samples == 8_000
    np.testing.assert_allclose(clean[500:-500], speech_like(0.5, 7)[500:-500], atol=5e-3)  # 16 -> 48 -> 16 kHz


def test_voicebank_at_16_khz_is_used_as_it_is(tmp_path):
    make_voicebank(tmp_path / "vb", 16_000, "_16k")
    rows = run_voicebank(tmp_path / "vb", tmp_path / "out")
    assert all("_16k" in row.clean for row in rows["train"]) and not (tmp_path / "out" / "wav16k").exists()


def test_voicebank_lengths(tmp_path):
    """Up to a frame apart a pair is cut to the shorter; beyond that it is told."""
    root = make_voicebank(tmp_path / "vb", 16_000)
    clean = root / "clean_testset_wav" / "p232_001.wav"
    sf.write(clean, audio.read(clean)[:-256], 16_000)
    row = run_voicebank(root, tmp_path / "out")["test"][0]
    assert row.samples == 8_000 - 256 == len(mixing.pair(row)[0])
    sf.write(clean, audio.read(clean)[:-1], 16_000)
    with pytest.raises(UserError, match="p232_001.wav and .*p232_001.wav hold 7743 and 8000 samples at 16 kHz, more than"):
        run_voicebank(root, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_voicebank_errors(tmp_path):
    root = make_voicebank(tmp_path / "vb", 16_000)
    with pytest.raises(UserError, match="holds no clean_trainset_28spk_wav with wav files; .*--download"):
        run_voicebank(tmp_path / "none", tmp_path / "out")
    (root / "log_testset.txt").write_text("p232_001 cafe 17.5\np232_002 cafe\n")
    with pytest.raises(UserError, match='log_testset.txt, line 2: expected "name noise snr"'):
        run_voicebank(root, tmp_path / "out")
    (root / "noisy_testset_wav" / "p232_002.wav").unlink()
    with pytest.raises(UserError, match=r"clean_testset_wav/p232_002.wav: has no counterpart in noisy_testset_wav \(1 such"):
        run_voicebank(root, tmp_path / "out")
    shutil.rmtree(root / "clean_trainset_28spk_wav")
    shutil.rmtree(root / "noisy_trainset_28spk_wav")
    for kind in ("clean", "noisy"):
        shutil.copytree(root / "clean_testset_wav", root / f"{kind}_trainset_28spk_wav")
    shutil.copy(root / "clean_testset_wav" / "p232_002.wav", root / "noisy_testset_wav")
    (root / "log_testset.txt").unlink()
    with pytest.raises(UserError, match="no pair is left for valid; expected the speakers p226 and p287"):
        run_voicebank(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Downloads, from a server on this machine.

class Server(ThreadingHTTPServer):
    """Serves `files` {name: bytes}; notes the Range headers; may ignore Range, or break off once after `break_after` bytes."""

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.ranges, self.with_range, self.break_after = files, [], True, None
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body, wanted = self.server.files.get(self.path.lstrip("/")), self.headers.get("Range")
        self.server.ranges.append(wanted)
        if body is None:
            self.send_error(404, "Not Found")
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.with_range else 0
        if start and start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end, self.server.break_after = self.server.break_after, None
        self.wfile.write(body[start:end])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    """A server that runs while a test does."""
    with Server({}) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.shutdown()


BODY = np.random.default_rng(0).bytes(300_000)


def test_fetch_from_the_start(server, tmp_path):
    server.files["a.zip"] = BODY
    voicebank.fetch(f"{server.url}/a.zip", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == BODY and server.ranges == [None]


def test_fetch_goes_on_from_half_a_file(server, tmp_path):
    server.files["a.zip"] = BODY
    (tmp_path / "a.zip.part").write_bytes(BODY[:100_000])
    voicebank.fetch(f"{server.url}/a.zip", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == BODY and server.ranges == ["bytes=100000-"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_fetch_goes_on_when_the_connection_breaks(server, tmp_path):
    server.files["a.zip"], server.break_after = BODY, 120_000
    voicebank.fetch(f"{server.url}/a.zip", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == BODY and server.ranges == [None, "bytes=65536-"]  # whole chunks are kept


def test_fetch_starts_over_where_the_server_knows_no_range(server, tmp_path):
    server.files["a.zip"], server.with_range = BODY, False
    (tmp_path / "a.zip.part").write_bytes(b"x" * 100_000)
    voicebank.fetch(f"{server.url}/a.zip", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == BODY


def test_fetch_of_a_complete_part_file(server, tmp_path):
    """Killed between the last byte and the renaming; and a part file longer than the archive, which cannot be its beginning."""
    server.files["a.zip"] = BODY
    (tmp_path / "a.zip.part").write_bytes(BODY)
    voicebank.fetch(f"{server.url}/a.zip", tmp_path / "a.zip")
    (tmp_path / "b.zip.part").write_bytes(BODY + b"more")
    voicebank.fetch(f"{server.url}/a.zip", tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes() == BODY


def test_fetch_errors(server, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="a.zip: the server answers 404 Not Found; see --base-url"):
        voicebank.fetch(f"{server.url}/a.zip", tmp_path / "a.zip")
    monkeypatch.setattr(voicebank.time, "sleep", lambda seconds: None)
    with pytest.raises(UserError, match="cannot be fetched .*run the same command again"):
        voicebank.fetch("http://127.0.0.1:1/a.zip", tmp_path / "a.zip")
    server.files["a.zip"] = BODY
    monkeypatch.setattr(voicebank.shutil, "disk_usage", lambda path: argparse.Namespace(free=1000))
    with pytest.raises(UserError, match="too little space is left"):
        voicebank.fetch(f"{server.url}/a.zip", tmp_path / "a.zip")


def zipped(folder, path):
    with zipfile.ZipFile(path, "w") as file:
        for one in sorted(folder.rglob("*")):
            file.write(one, f"{folder.name}/{one.relative_to(folder)}")
    return path.read_bytes()


def test_download_fetches_unpacks_records_and_is_not_repeated(server, tmp_path, capsys):
    root = make_voicebank(tmp_path / "published", 16_000)
    (root / "logfiles").mkdir()
    (root / "logfiles" / "log_testset.txt").write_text("p232_001 cafe 17.5\np232_002 bus 2.5\n")
    server.files.update({f"{name}.zip": zipped(root / name, tmp_path / f"{name}.zip") for name in voicebank.ARCHIVES})
    flags = "--download", "--base-url", f"{server.url}/"
    rows = run_voicebank(tmp_path / "vb", tmp_path / "out", *flags)
    assert len(rows["train"]) == 4 and rows["test"][0].noise_type == "cafe"
    record, printed = json.loads((tmp_path / "out" / "downloads.json").read_text()), capsys.readouterr().out
    assert len(record) == 5
    for name, body in server.files.items():
        assert record[name] == {"url": f"{server.url}/{name}", "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        assert record[name]["sha256"] in printed
    requests = len(server.ranges)
    run_voicebank(tmp_path / "vb", tmp_path / "other", *flags)
    assert len(server.ranges) == requests == 5


def test_unpacking_stays_in_its_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as file:
        file.writestr("good.txt", "x")
        file.writestr("../../outside.txt", "x")
    with pytest.raises(UserError, match="holds the path '../../outside.txt', which leads out"):
        voicebank.unpack(tmp_path / "bad.zip", tmp_path / "deep" / "bad")
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
            voicebank.unpack(tmp_path / f"{name}.zip", tmp_path / name)
        assert not (tmp_path / name).exists()
    voicebank.unpack(tmp_path / "a.zip", tmp_path / "a")
    assert (tmp_path / "a" / "good.bin").read_bytes() == BODY
