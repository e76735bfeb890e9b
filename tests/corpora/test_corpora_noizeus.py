"""NOIZEUS: pairs by name at 8 kHz, three splits, the download, one epoch of its preset and its test, and every error."""

import itertools
import json
import shutil

import numpy as np
import pytest
import soundfile as sf
from conftest import load_script, noise, prepare, speech_like, zipped

import train
from se_keras.corpora import noizeus
from se_keras.errors import UserError
from se_keras.mixtures import manifest
from se_keras.signals import audio, mixing

SPOKEN = (1, 7, 16, 21, 26)  # of the 30 sentences: two of training, one of validation, two of the test
TINY = ["--model-args", '{"units": 4, "dense_units": 4}', "--epochs", "1", "--batch", "4", "--crop", "0.5", "--validation-rows", "2",
        "--workers", "1"]


def make_noizeus(root, sentences=SPOKEN, noises=("airport", "train"), snrs=noizeus.SNRS, rate=8_000):
    """Folders as the archives unpack them: clean/sp01.wav, airport_5dB/5dB/sp01_airport_sn5.wav."""
    (root / "clean").mkdir(parents=True)
    for sentence in sentences:
        clean = audio.resample(0.5 * speech_like(1.2, sentence), 16_000, rate)
        sf.write(root / "clean" / f"sp{sentence:02d}.wav", clean, rate)
        for number, kind in enumerate(noises):
            for snr_db in snrs:
                folder = root / f"{kind}_{snr_db}dB" / f"{snr_db}dB"
                folder.mkdir(parents=True, exist_ok=True)
                noisy = mixing.mix(clean, noise(1.2, 100 * sentence + number, rate), snr_db)
                sf.write(folder / f"sp{sentence:02d}_{kind}_sn{snr_db}.wav", noisy, rate)
    return root


def run_noizeus(root, out, *flags):
    prepare.main(["noizeus", "--root", str(root), "--out", str(out), *flags])
    return {path.stem: manifest.read(path) for path in out.glob("*.jsonl")}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return make_noizeus(tmp_path_factory.mktemp("noizeus") / "root")


@pytest.fixture
def copy(tree, tmp_path):
    """The tree, to be damaged."""
    return shutil.copytree(tree, tmp_path / "root")


def test_no_sentence_and_no_block_of_five_stands_in_two_splits(tree, tmp_path, capsys):
    rows = run_noizeus(tree, tmp_path / "out")
    assert {split: {row.id[:4] for row in some} for split, some in rows.items()} == {
        "train": {"sp01", "sp07"}, "valid": {"sp16"}, "test": {"sp21", "sp26"}}
    assert {row.id: row.speaker for row in rows["train"]}.get("sp07_train_sn15") == "sp06-10"
    assert [row.id for row in rows["valid"]] == sorted(f"sp16_{kind}_sn{snr}" for kind in ("airport", "train") for snr in (0, 5, 10, 15))
    assert {(row.noise_type, row.snr_db) for row in rows["valid"]} == set(itertools.product(("airport", "train"), (0, 5, 10, 15)))
    assert "holds 40 of the 960 noisy files" in capsys.readouterr().out
    assert "overlap" not in json.loads((tmp_path / "out" / "corpus.json").read_text())


def test_every_sentence_of_the_corpus_has_a_split_and_a_block_one_split():
    """15, 5 and 10 sentences; six blocks."""
    splits = {number: noizeus.split_of(number, 0, "apart") for number in range(1, 31)}
    assert [list(splits.values()).count(split) for split in manifest.SPLITS] == [15, 5, 10]
    blocks = {(noizeus.speaker_of(number), split) for number, split in splits.items()}
    assert len(blocks) == len({block for block, _ in blocks}) == 6


def test_pairs_are_resampled_once_and_belong_together(tree, tmp_path):
    row = next(row for row in run_noizeus(tree, tmp_path / "out")["test"] if row.id == "sp21_airport_sn5")
    assert row.clean == str(tmp_path / "out" / "wav16k" / "clean" / "sp21.wav") and row.samples == 19_200  # 1.2 s
    noisy, clean = mixing.pair(row)
    spectrum = np.abs(np.fft.rfft(noisy)) ** 2
    assert spectrum[-len(spectrum) // 2 + 100:].sum() < 1e-4 * spectrum.sum()  # the upper half of the band is empty
    assert 10 * np.log10(np.sum(clean**2) / np.sum((noisy - clean) ** 2)) == pytest.approx(5, abs=0.4)  # soxr's edge takes some noise


def test_the_original_split_says_that_it_tests_on_sentences_seen_in_training(tree, tmp_path, capsys):
    rows = run_noizeus(tree, tmp_path / "out", "--split", "original")
    assert {row.snr_db for row in rows["train"]} == {0, 5, 10} and {row.snr_db for row in rows["test"]} == {15}
    assert {row.id[:4] for row in rows["test"]} == {"sp01", "sp07", "sp16", "sp21", "sp26"}
    assert {row.id[:4] for row in rows["valid"]} == {"sp26"} and "sp26" not in {row.id[:4] for row in rows["train"]}
    assert {row.clean for row in rows["train"]} < {row.clean for row in rows["test"]}
    assert "notice: 25 of the 30 test sentences are trained on" in capsys.readouterr().out
    assert "trained on" in json.loads((tmp_path / "out" / "corpus.json").read_text())["overlap"]
    with pytest.raises(SystemExit):
        prepare.main(["noizeus", "--help"])
    assert "on sentences seen in training" in " ".join(capsys.readouterr().out.split())


def test_all_pairs_as_test_data(tree, tmp_path):
    rows = run_noizeus(tree, tmp_path / "out", "--split", "test")
    assert rows.keys() == {"test"} and len(rows["test"]) == 40


def test_prepare_train_by_the_preset_and_test(tree, tmp_path, capsys):
    data, run, report = (str(tmp_path / name) for name in ("data", "run", "report"))
    run_noizeus(tree, tmp_path / "data", "--split", "original")
    train.main(["enhancer", "--preset", "noizeus", "--data", data, "--out", run, *TINY])
    load_script("test.py").main(["--data", data, "--systems", "noisy", run, "--metrics", "pesq_raw", "si_sdr", "--out", report,
                                 "--workers", "1"])
    assert "Not unseen: 25 of the 30 test sentences are trained on" in capsys.readouterr().out
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert summary["systems"] == ["noisy", "run"] and summary["utterances"] == 10
    assert "Not unseen" in (tmp_path / "report" / "table.md").read_text()


def test_download_fetches_what_is_missing(server, tmp_path, monkeypatch):
    monkeypatch.setattr(noizeus, "NOISES", ("airport",))
    archives = [name for name in noizeus.ARCHIVES if name == "clean" or name.startswith("airport")]
    monkeypatch.setattr(noizeus, "ARCHIVES", archives)
    published = make_noizeus(tmp_path / "published", noises=("airport",))
    server.files.update({f"{name}.zip": zipped(published / name, tmp_path / f"{name}.zip") for name in archives})
    shutil.copytree(published / "airport_0dB", tmp_path / "root" / "mine")  # unpacked by hand, under another name
    rows = run_noizeus(tmp_path / "root", tmp_path / "out", "--download", "--base-url", server.url)
    assert sum(map(len, rows.values())) == 20
    assert sorted(json.loads((tmp_path / "out" / "downloads.json").read_text())) == [
        "airport_10dB.zip", "airport_15dB.zip", "airport_5dB.zip", "clean.zip"]
    assert len(server.ranges) == 4
    run_noizeus(tmp_path / "root", tmp_path / "other", "--download", "--base-url", server.url)
    assert len(server.ranges) == 4


def test_the_published_archives_are_33():
    assert len(noizeus.ARCHIVES) == 33 and {"clean", "airport_0dB", "train_10dB"} < set(noizeus.ARCHIVES)


def spoil(kind, root):
    noisy = root / "airport_0dB" / "0dB" / "sp01_airport_sn0.wav"
    if kind == "missing":
        shutil.rmtree(root)
    elif kind == "no clean":
        shutil.rmtree(root / "clean")
    elif kind == "empty":
        shutil.rmtree(root)
        root.mkdir()
    elif kind == "unpaired":
        for sentence in ("01", "07"):
            (root / "clean" / f"sp{sentence}.wav").unlink()
    elif kind == "other names":
        for name in ("sp31.wav", "speech.wav"):
            shutil.copy(noisy, root / name)
    elif kind == "twice":
        shutil.copy(noisy, root / noisy.name)
    elif kind == "rates":
        sf.write(noisy, audio.resample(sf.read(noisy, dtype="float32")[0], 8_000, 48_000), 48_000)
    elif kind == "length":
        sf.write(noisy, sf.read(noisy)[0][:-200], 8_000)
    elif kind == "silent":
        sf.write(noisy, np.zeros(4_800), 8_000)
    elif kind == "no validation":
        for path in root.rglob("sp16*.wav"):
            path.unlink()


@pytest.mark.parametrize("kind, message", [
    ("missing", "root: no such folder; expected spNN.wav .*--download"), ("empty", "holds 0 clean and 0 noisy files; expected spNN.wav"),
    ("no clean", "holds 0 clean files; expected"),
    ("unpaired", r"16 of 40 noisy files have no clean file spNN.wav \(sp01_airport_sn0.wav, sp01_airport_sn10.wav, sp01_.* ...\)"),
    ("other names", r"2 files are not named as in NOIZEUS \(sp31.wav, speech.wav\)"),
    ("twice", "sp01_airport_sn0.wav and .*sp01_airport_sn0.wav have one name"),
    ("rates", r"45 files of several sample rates: 44 at 8000 Hz \(.*sp01.wav\), 1 at 48000 Hz \(.*sp01_airport_sn0.wav\); expected"),
    ("length", "hold 19200 and 18800 samples at 16 kHz, more than 256 apart"), ("silent", "sp01_airport_sn0.wav: is digital silence"),
    ("no validation", r"no pair is left for valid \(--split apart\)")])
def test_what_is_no_noizeus_is_told(copy, tmp_path, kind, message):
    spoil(kind, copy)
    with pytest.raises(UserError, match=message):
        run_noizeus(copy, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.json*"))
