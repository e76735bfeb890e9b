"""Corpora: the protocol's counts, the draws, what a data folder holds, and every error before anything is written."""

import argparse
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf
from conftest import ROOT, make_tree, noise, prepare, speech_like

from se_keras import corpora
from se_keras.corpora import protocol
from se_keras.errors import UserError
from se_keras.mixtures import manifest
from se_keras.signals import audio, mixing
from tests.signals.test_mixing import measured_snr_db


def folders(root, out, *flags):
    """`prepare.py folders` on a tree with S/ and N/; the rows by split."""
    prepare.main(["folders", "--speech", str(root / "S"), "--noise", str(root / "N"), "--out", str(out), *flags])
    return {path.stem: manifest.read(path) for path in out.glob("*.jsonl")}


@pytest.fixture(scope="module")
def prepared(tree, tmp_path_factory):
    """The tiny tree, prepared with the letter's protocol: (data folder, rows by split)."""
    out = tmp_path_factory.mktemp("data") / "tiny"
    return out, folders(tree, out)


@pytest.fixture
def copy(tree, tmp_path):
    """A copy of the tiny tree, to be damaged."""
    shutil.copytree(tree, tmp_path / "tree")
    return tmp_path / "tree"


# The protocol.

def test_letter_protocol_of_the_tiny_tree(prepared):
    """Train: 4 utterances x 2 types x 5 SNRs; validation: 2 x 1 noise x 5; test: 2 x 2 x 5."""
    rows = prepared[1]
    assert {split: len(rows[split]) for split in rows} == {"train": 40, "valid": 10, "test": 20}
    assert sorted({row.snr_db for row in rows["train"]}) == [-8, -4, 0, 4, 8]
    assert sorted({row.snr_db for row in rows["valid"]}) == [-10, -5, 0, 5, 10]
    assert sorted({row.snr_db for row in rows["test"]}) == [-6, 0, 6, 12, 18]
    combinations = {(row.clean, row.noise_type, row.snr_db) for row in rows["train"]}
    assert len(combinations) == 40 and {row.noise_type for row in rows["train"]} == {"train_white", "train_hum"}


def test_validation_hears_one_noise_an_utterance(prepared):
    drawn = {}
    for row in prepared[1]["valid"]:
        drawn.setdefault(row.clean, set()).add((row.noise_type, row.noise, row.offset))
    assert len(drawn) == 2 and all(len(draws) == 1 for draws in drawn.values())


def test_ids_tell_utterance_noise_and_snr(prepared):
    assert [row.id for row in prepared[1]["train"]][:6] == [
        "train0-0_train_hum_-8dB", "train0-0_train_hum_-4dB", "train0-0_train_hum_0dB", "train0-0_train_hum_4dB",
        "train0-0_train_hum_8dB", "train0-0_train_white_-8dB"]
    assert len({row.id for rows in prepared[1].values() for row in rows}) == 70


def test_measured_snr_is_the_requested_one_in_every_row(prepared):
    for rows in prepared[1].values():
        for row in rows:
            assert measured_snr_db(*mixing.pair(row)) == pytest.approx(row.snr_db, abs=0.01), row.id


def test_letter_protocol_on_real_speech(shared, tmp_path):
    """300 x 10 x 5, 100 x 5 and 100 x 4 x 5 rows; in a sample of them, SNRs as asked for and no wrap where none is needed."""
    args = argparse.Namespace(speech=shared / "data" / "speech", noise=shared / "data" / "noise", split=None, seed=0,
                              snr_train=[-8, -4, 0, 4, 8], snr_valid=[-10, -5, 0, 5, 10], snr_test=[-6, 0, 6, 12, 18])
    splits = corpora.get("folders").prepare(args, tmp_path).splits
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 15_000, "valid": 500, "test": 2_000}
    manifest.check_splits(splits)
    for rows in splits.values():
        for row in rows[::len(rows) // 20]:
            assert measured_snr_db(*mixing.pair(row)) == pytest.approx(row.snr_db, abs=0.01), row.id
            length = len(audio.read_cached(row.noise))
            assert length < row.samples or row.offset + row.samples <= length
    assert not list(tmp_path.iterdir())


def test_seed_and_nothing_else_decides_the_draws(tree, prepared, tmp_path):
    again, other = folders(tree, tmp_path / "again"), folders(tree, tmp_path / "other", "--seed", "1")
    assert again == prepared[1]
    assert [row.id for row in other["train"]] == [row.id for row in again["train"]]
    assert [row.offset for row in other["train"]] != [row.offset for row in again["train"]]


def test_a_row_does_not_depend_on_the_rows_around_it(copy, prepared, tmp_path):
    """One utterance removed: the rows of the others stay as they were."""
    (copy / "S" / "train" / "train-0" / "train0-0.wav").unlink()
    left = {row.id: (row.offset, row.gain) for row in folders(copy, tmp_path / "out")["train"]}
    assert left == {row.id: (row.offset, row.gain) for row in prepared[1]["train"] if not row.id.startswith("train0-0_")}


@pytest.mark.parametrize("bad", [["0", "0"], ["nan"], ["inf", "3"], ["1e9"]])
def test_snrs_that_make_no_sense_are_told(tree, tmp_path, bad):
    with pytest.raises(UserError, match="--snr-test: .* expected finite dB values, each once"):
        folders(tree, tmp_path / "out", "--snr-test", *bad)
    assert not (tmp_path / "out").exists()


# Drawing noise.

def write_noises(folder, *waves):
    for number, wave in enumerate(waves):
        audio.write(folder / f"{number}.wav", wave, subtype="FLOAT")
    return sorted(folder.iterdir())


def test_long_noise_is_cut_without_a_wrap_and_short_noise_looped_from_anywhere(tmp_path):
    long, short = write_noises(tmp_path, noise(2.0), noise(0.5))
    for samples in (16_000, 32_000):
        offsets = [protocol.draw([long], samples, np.random.default_rng(seed))[1] for seed in range(50)]
        assert 0 <= min(offsets) and max(offsets) + samples <= 32_000
    offsets = [protocol.draw([short], 16_000, np.random.default_rng(seed))[1] for seed in range(200)]
    assert min(offsets) < 400 and 7600 < max(offsets) < 8000  # anywhere in the 8,000 samples


def test_silent_segments_and_files_are_drawn_again(tmp_path):
    """Of a silent file and one with a second of sound after nine of silence, only the sound is ever used."""
    late = np.concatenate([np.zeros(9 * 16_000, np.float32), noise(1.0)])
    files = write_noises(tmp_path, np.zeros(16_000, np.float32), late)
    for seed in range(40):
        path, offset, segment = protocol.draw(files, 4_000, np.random.default_rng(seed))
        assert path == files[1] and segment.any()
        np.testing.assert_array_equal(segment, mixing.noise_segment(audio.read(path), offset, 4_000))


def test_a_click_in_long_silence_is_found(tmp_path):
    """Twenty random draws miss it; it is then placed by hand."""
    wave = np.zeros(600_000, np.float32)
    wave[300_000] = 0.5
    path, offset, segment = protocol.draw(write_noises(tmp_path, wave), 1_000, np.random.default_rng(0))
    assert segment[300_000 - offset] == np.float32(0.5)


def test_hiss_in_a_pause_is_not_taken_for_noise(tmp_path):
    """A recorder's hiss 80 dB below the barks would otherwise be amplified to the SNR."""
    wave = np.concatenate([1e-5 * noise(9.0), noise(1.0)])
    files = write_noises(tmp_path, wave)
    for seed in range(20):
        assert np.abs(protocol.draw(files, 2_000, np.random.default_rng(seed))[2]).max() > 0.01


def test_a_noise_type_of_silent_files_is_told(copy, tmp_path):
    audio.write(copy / "N" / "test" / "test_hum" / "test-hum.wav", np.zeros(8_000, np.float32))
    with pytest.raises(UserError, match="noise type test_hum of test: 1 of 1 files are digital silence"):
        folders(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# The data folder.

def test_corpus_json_says_what_there_is(prepared):
    out, rows = prepared
    corpus = json.loads((out / "corpus.json").read_text())
    assert corpus["name"] == "folders" and corpus["sample_rate"] == 16_000 and corpus["settings"]["seed"] == 0
    hours = sum(row.samples for row in rows["train"]) / 16_000 / 3600
    assert corpus["counts"]["train"] == {"rows": 40, "utterances": 4, "speakers": 2, "noise_types": 2, "noise_files": 2,
                                         "hours": pytest.approx(hours, abs=1e-3)}
    assert corpus["settings"]["snr_valid"] == [-10, -5, 0, 5, 10]
    assert {"source", "licence", "versions", "fingerprint"} <= corpus.keys()
    assert sorted(path.name for path in out.iterdir()) == ["corpus.json", "test.jsonl", "train.jsonl", "valid.jsonl"]


def test_fingerprint_is_of_contents_not_places(copy, prepared, tmp_path):
    before = json.loads((prepared[0] / "corpus.json").read_text())["fingerprint"]
    folders(copy, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "corpus.json").read_text())["fingerprint"] == before
    audio.write(copy / "S" / "test" / "test-0" / "test0-0.wav", speech_like(1.2, seed=99))
    folders(copy, tmp_path / "changed")
    assert json.loads((tmp_path / "changed" / "corpus.json").read_text())["fingerprint"] != before


def test_same_settings_are_used_again_other_settings_are_told(tree, tmp_path, capsys):
    folders(tree, tmp_path / "out")
    written = (tmp_path / "out" / "corpus.json").stat().st_mtime_ns
    folders(tree, tmp_path / "out")
    assert "is there already, prepared with these settings" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"prepared otherwise \(seed: 0 there, 5 asked for\); use another --out, or --force"):
        folders(tree, tmp_path / "out", "--seed", "5")
    assert (tmp_path / "out" / "corpus.json").stat().st_mtime_ns == written
    folders(tree, tmp_path / "out", "--seed", "5", "--force")
    assert json.loads((tmp_path / "out" / "corpus.json").read_text())["settings"]["seed"] == 5


def test_an_interrupted_preparation_is_done_again(tree, prepared, tmp_path):
    """corpus.json comes last: without it, what else lies there does not count."""
    shutil.copytree(prepared[0], tmp_path / "out")
    (tmp_path / "out" / "corpus.json").unlink()
    (tmp_path / "out" / "train.jsonl").write_text("half a li")
    assert folders(tree, tmp_path / "out") == prepared[1]


def test_a_foreign_corpus_json_is_told(tree, tmp_path):
    (tmp_path / "corpus.json").write_text("[]")
    with pytest.raises(UserError, match="not a description written by prepare.py"):
        folders(tree, tmp_path)


def test_one_split_only(tree, tmp_path):
    flags = ["--speech", str(tree / "S" / "test"), "--noise", str(tree / "N" / "test"), "--split", "test"]
    prepare.main(["folders", *flags, "--out", str(tmp_path / "out")])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["corpus.json", "test.jsonl"]
    assert len(manifest.read(tmp_path / "out" / "test.jsonl")) == 20


def test_one_split_of_a_whole_tree_takes_that_split_alone(tree, prepared, tmp_path):
    """S and N hold train, valid and test: no training speech gets into the test, and the rows are those of the whole preparation."""
    assert folders(tree, tmp_path / "out", "--split", "test") == {"test": prepared[1]["test"]}
    mixed = {"speech": tree / "S", "noise": tree / "N" / "valid"}
    prepare.main(["folders", *(word for name, path in mixed.items() for word in (f"--{name}", str(path))), "--split", "valid",
                  "--out", str(tmp_path / "valid")])
    assert manifest.read(tmp_path / "valid" / "valid.jsonl") == prepared[1]["valid"]


def test_one_split_of_a_tree_without_it_is_told(copy, tmp_path):
    shutil.rmtree(copy / "S" / "test")
    with pytest.raises(UserError, match="S/train: named like a split where a speaker or a noise type is expected"):
        folders(copy, tmp_path / "out", "--split", "test")
    assert not (tmp_path / "out").exists()


def test_a_split_beside_speakers_is_told(copy, tmp_path):
    shutil.copytree(copy / "S" / "train" / "train-0", copy / "S" / "alice")
    with pytest.raises(UserError, match="S: holds test/ beside alice; with --split test expected either"):
        folders(copy, tmp_path / "out", "--split", "test")


@pytest.mark.parametrize("where, name", [("S", "test"), ("N", "Valid")])
def test_groups_named_like_splits_are_told(copy, tmp_path, where, name):
    first = next((copy / where / "train").iterdir())
    first.rename(first.with_name(name))
    with pytest.raises(UserError, match=f"train/{name}: named like a split"):
        folders(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_at_another_rate_are_resampled_once(copy, tmp_path):
    path = copy / "S" / "test" / "test-0" / "test0-0.wav"
    sf.write(path, audio.resample(audio.read(path), 16_000, 44_100), 44_100)
    sf.write(copy / "N" / "train" / "train_hum" / "train-hum.wav", noise(1.0, rate=20_000), 20_000)
    rows = folders(copy, tmp_path / "out")
    used = {row.clean for row in rows["test"]} | {row.noise for row in rows["train"]}
    copies = sorted((tmp_path / "out" / "wav16k").rglob("*.wav"))
    assert [str(one.relative_to(tmp_path / "out")) for one in copies] == [
        "wav16k/noise/train/train_hum/train-hum.wav", "wav16k/speech/test/test-0/test0-0.wav"]
    assert {str(one) for one in copies} <= used
    assert all(row.samples == 19_200 for row in rows["test"] if row.clean == str(copies[1]))  # 1.2 s
    before = [one.stat().st_mtime_ns for one in copies]
    folders(copy, tmp_path / "out", "--seed", "1", "--force")
    assert [one.stat().st_mtime_ns for one in copies] == before


def test_resampling_that_overshoots_is_not_clipped(tmp_path):
    square = np.sign(np.sin(2 * np.pi * 300 * np.arange(48_000) / 48_000)).astype(np.float32)
    sf.write(tmp_path / "square.wav", square, 48_000, subtype="FLOAT")
    source = tmp_path / "square.wav"
    copied = protocol.at_16_khz({source: (48_000, 48_000)}, {source: tmp_path / "16k.wav"})[source]
    assert np.abs(audio.read(copied)).max() > 1


def test_wavs_for_listening_are_scaled_by_one_gain_a_pair(copy, tmp_path):
    rows = folders(copy, tmp_path / "out", "--snr-train", "-8", "--snr-test", "18", "--write-wavs")
    lines = (tmp_path / "out" / "wavs" / "gains.csv").read_text().splitlines()
    gains = {line.split(",")[1]: float(line.split(",")[2]) for line in lines[1:]}
    assert lines[0] == "split,id,gain" and gains.keys() == {row.id for some in rows.values() for row in some}
    assert min(gains.values()) < 1 == max(gains.values())
    for split, some in rows.items():
        for row in some:
            noisy, clean = mixing.pair(row)
            for name, wave in (("noisy", noisy), ("clean", clean)):
                heard = audio.read(tmp_path / "out" / "wavs" / split / name / f"{row.id}.wav")
                assert np.abs(heard).max() < 1
                np.testing.assert_allclose(heard, gains[row.id] * wave, atol=1 / 32768)


# Errors of `folders`.

def test_missing_and_empty_folders_are_told(copy, tmp_path):
    shutil.rmtree(copy / "S" / "valid")
    with pytest.raises(UserError, match="valid: no such folder; expected .*<split>/<speaker>/.*wav.*--split test makes a test manifest and "
                                        "nothing to train on"):
        folders(copy, tmp_path / "out")
    (copy / "S" / "valid" / "someone").mkdir(parents=True)
    with pytest.raises(UserError, match="valid: holds no audio files; expected"):
        folders(copy, tmp_path / "out")
    audio.write(copy / "S" / "valid" / "loose.wav", speech_like(1.0))
    with pytest.raises(UserError, match="loose.wav: lies outside a folder of its own group"):
        folders(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def damaged(kind, path):
    wave = audio.read(path)
    if kind == "silent":
        sf.write(path, np.zeros_like(wave), 16_000)
    elif kind == "nan":
        wave[10] = np.nan
        sf.write(path, wave, 16_000, subtype="FLOAT")
    elif kind == "zero-length":
        sf.write(path, wave[:0], 16_000)
    elif kind == "unreadable":
        path.write_bytes(b"no audio")
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:10_000])


@pytest.mark.parametrize("kind, message", [("silent", "digital silence"), ("nan", "1 NaN"), ("zero-length", "zero-length"),
                                           ("unreadable", "not a readable audio file"), ("truncated", "truncated, 4978 of ")])
def test_bad_speech_is_told_before_anything_is_written(copy, tmp_path, kind, message):
    damaged(kind, copy / "S" / "test" / "test-0" / "test0-1.wav")
    sf.write(copy / "S" / "train" / "train-0" / "train0-0.wav", speech_like(1.0), 8_000)  # would be resampled
    with pytest.raises(UserError, match=f"test0-1.wav: .*{message}"):
        folders(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_speakers_and_recordings_in_two_splits_are_told(copy, tmp_path):
    shutil.copytree(copy / "S" / "train" / "train-1", copy / "S" / "test" / "train-1")
    with pytest.raises(UserError, match="the speaker train-1 is in both train and test"):
        folders(copy, tmp_path / "out")
    (copy / "S" / "test" / "train-1").rename(copy / "S" / "test" / "renamed")
    with pytest.raises(UserError, match=r"\(train\) and .*\(test\) are the same recording"):
        folders(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_equal_names_get_ids_from_their_speakers(tmp_path):
    make_tree(tmp_path)
    for speaker in range(2):
        (tmp_path / "S" / "train" / f"train-{speaker}" / f"train{speaker}-0.wav").rename(
            tmp_path / "S" / "train" / f"train-{speaker}" / "hello.wav")
    ids = {row.id.split("_")[0] for row in folders(tmp_path, tmp_path / "out")["train"]}
    assert ids == {"train-0-hello", "train-1-hello", "train-0-train0-1", "train-1-train1-1"}
    audio.write(tmp_path / "S" / "train" / "train-0" / "hello.flac", speech_like(1.0))
    with pytest.raises(UserError, match="hello.wav and .*hello.flac would have the same id 'train-0-hello'"):
        folders(tmp_path, tmp_path / "other")


def test_an_unknown_corpus_is_told_with_the_known_ones(tmp_path):
    done = subprocess.run([sys.executable, ROOT / "data" / "prepare.py", "librispeech", "--out", tmp_path / "out"],
                          capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and not (tmp_path / "out").exists()
    assert done.stderr == f"error: unknown corpus 'librispeech'; known: {', '.join(corpora.NAMES)}\n"


@pytest.mark.parametrize("name", corpora.NAMES)
def test_help_of_every_corpus(name, capsys):
    with pytest.raises(SystemExit) as ended:
        prepare.main([name, "--help"])
    assert ended.value.code == 0 and "--out" in capsys.readouterr().out
