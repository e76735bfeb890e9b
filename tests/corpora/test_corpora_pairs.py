"""Ready-made pairs of one's own: how they are found, split and named, and every error before anything is written."""

import json
import shutil

import numpy as np
import pytest
import soundfile as sf
from conftest import noise, prepare, speech_like

from se_keras.corpora import pairs
from se_keras.errors import UserError
from se_keras.mixtures import manifest
from se_keras.signals import audio, mixing


def write_pair(root, name, seed=0, rate=16_000, seconds=0.5, clean_suffix=".wav"):
    """root/noisy/NAME.wav and root/clean/NAME."""
    clean = audio.resample(speech_like(seconds, seed), 16_000, rate)
    for kind, wave, suffix in (("noisy", clean + noise(seconds, seed, rate), ".wav"), ("clean", clean, clean_suffix)):
        path = root / kind / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        sf.write(path, wave, rate)


def run_pairs(root, *flags):
    """`prepare.py pairs` on root/noisy and root/clean to root/out; the rows by split."""
    prepare.main(["pairs", "--noisy", str(root / "noisy"), "--clean", str(root / "clean"), "--out", str(root / "out"), *flags])
    return {path.stem: manifest.read(path) for path in (root / "out").glob("*.jsonl")}


@pytest.fixture
def split_tree(tmp_path):
    """Two pairs a split, each of a speaker of its own."""
    seed = 0
    for split in manifest.SPLITS:
        for number in range(2):
            seed += 1
            write_pair(tmp_path, f"{split}/{split}-speaker/{number}", seed)
    return tmp_path


def test_flat_folders_become_the_test_manifest(tmp_path, capsys):
    for number in range(3):
        write_pair(tmp_path, f"talk {number}", number, clean_suffix=".flac")
    rows = run_pairs(tmp_path)
    assert rows.keys() == {"test"} and [row.id for row in rows["test"]] == ["talk 0", "talk 1", "talk 2"]
    assert {(row.speaker, row.noise_type, row.snr_db) for row in rows["test"]} == {("unknown", "unknown", None)}
    assert "3 of 3 pairs do not say who speaks" in capsys.readouterr().out
    noisy, clean = mixing.pair(rows["test"][1])
    np.testing.assert_allclose(clean, speech_like(0.5, 1), atol=1e-4)
    np.testing.assert_allclose(noisy - clean, noise(0.5, 1), atol=1e-4)
    assert json.loads((tmp_path / "out" / "corpus.json").read_text())["counts"]["test"]["rows"] == 3


def test_split_names_the_manifest_of_flat_folders(tmp_path):
    write_pair(tmp_path, "anna_1")
    assert run_pairs(tmp_path, "--split", "valid").keys() == {"valid"}


def test_split_folders_become_manifests(split_tree):
    rows = run_pairs(split_tree)
    assert {split: [(row.id, row.speaker) for row in some] for split, some in rows.items()} == {
        split: [(str(number), f"{split}-speaker") for number in range(2)] for split in manifest.SPLITS}


def test_one_split_of_split_folders(split_tree):
    rows = run_pairs(split_tree, "--split", "test")
    assert {row.speaker for row in rows.pop("test")} == {"test-speaker"} and not rows


def test_speakers_by_name_and_by_folder(tmp_path):
    for name in ("p232_001", "p232_002", "anna-7"):
        write_pair(tmp_path, f"room/{name}")
    assert {row.id: row.speaker for row in run_pairs(tmp_path, "--speaker-from", "name")["test"]} == {
        "p232_001": "p232", "p232_002": "p232", "anna-7": "anna"}
    assert {row.speaker for row in run_pairs(tmp_path, "--force")["test"]} == {"room"}


def test_equal_names_in_several_folders_are_told_apart_by_them(tmp_path):
    for speaker in ("anna", "ben"):
        write_pair(tmp_path, f"{speaker}/001", seed=len(speaker))
    rows = run_pairs(tmp_path)["test"]
    assert [(row.id, row.speaker) for row in rows] == [("anna-001", "anna"), ("ben-001", "ben")]
    assert all(f"/{row.speaker}/" in path for row in rows for path in (row.noisy, row.clean))


def test_pairs_at_another_rate_are_resampled_once_and_cut_to_the_shorter(tmp_path):
    write_pair(tmp_path, "a/1", rate=48_000)
    wave, rate = sf.read(tmp_path / "noisy" / "a" / "1.wav")
    sf.write(tmp_path / "noisy" / "a" / "1.wav", wave[:-300], rate)  # 100 samples at 16 kHz
    row, = run_pairs(tmp_path)["test"]
    assert row.samples == 7_900
    assert {row.noisy, row.clean} == {str(tmp_path / "out" / "wav16k" / kind / "test" / "1.wav") for kind in ("noisy", "clean")}
    noisy, clean = mixing.pair(row)
    assert len(noisy) == len(clean) == 7_900


def spoil(kind, root):
    path = root / "noisy" / "test" / "test-speaker" / "1.wav"
    if kind == "length":
        sf.write(path, audio.read(path)[:7_000], 16_000)
    elif kind == "no clean":
        (root / "clean" / "test" / "test-speaker" / "1.wav").unlink()
    elif kind == "no noisy":
        path.unlink()
    elif kind == "two suffixes":
        sf.write(path.with_suffix(".flac"), audio.read(path), 16_000)
    elif kind == "silent":
        sf.write(path, np.zeros(8_000), 16_000)
    elif kind == "half the splits":
        shutil.rmtree(root / "clean" / "valid")
    elif kind == "beside":
        shutil.copy(path, root / "noisy" / "loose.wav")
    elif kind == "empty":
        for one in (root / "clean" / "test").rglob("*.wav"):
            one.unlink()
    elif kind == "missing":
        shutil.rmtree(root / "clean")
    elif kind == "no speaker":
        for of in ("noisy", "clean"):
            (root / of / "test" / "test-speaker" / "1.wav").rename(root / of / "test" / "1.wav")
    elif kind == "one speaker in two":
        for of in ("noisy", "clean"):
            (root / of / "test" / "test-speaker").rename(root / of / "test" / "train-speaker")


@pytest.mark.parametrize("kind, message", [
    ("length", "hold 8000 and 7000 samples at 16 kHz, more than 256 apart"),
    ("no clean", r"noisy/test/test-speaker/1.wav: has no counterpart in .*clean/test \(1 of 2 files have none\)"),
    ("no noisy", r"clean/test/test-speaker/1.wav: has no counterpart in .*noisy/test \(1 of 2"),
    ("two suffixes", "would have the same id"), ("silent", "1.wav: is digital silence"),
    ("half the splits", "noisy holds the splits train, valid, test, .*clean train, test; expected the same in both"),
    ("beside", "loose.wav: lies beside the folders train, valid, test"), ("empty", "clean/test: holds no audio files"),
    ("missing", "clean: no such folder"), ("no speaker", "test/1.wav: lies in no speaker's folder.*--speaker-from name"),
    ("one speaker in two", "the speaker train-speaker is in both train and test")])
def test_what_is_no_set_of_pairs_is_told_before_anything_is_written(split_tree, kind, message):
    spoil(kind, split_tree)
    with pytest.raises(UserError, match=message):
        run_pairs(split_tree)
    assert not (split_tree / "out").exists()


def test_a_split_that_is_not_there_and_one_folder_given_twice_are_told(split_tree):
    for root in ("noisy", "clean"):
        shutil.rmtree(split_tree / root / "test")
    with pytest.raises(UserError, match=r"holds the splits train, valid and no test \(--split test\)"):
        run_pairs(split_tree, "--split", "test")
    with pytest.raises(UserError, match="given as --noisy and as --clean"):
        pairs.find_splits(split_tree / "noisy", split_tree / "noisy")
