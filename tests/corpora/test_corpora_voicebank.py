"""The Voice Bank corpus: ready-made pairs, and their download from a local server."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import soundfile as sf
from conftest import noise, prepare, speech_like, zipped

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
