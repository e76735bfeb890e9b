"""Corpora: the protocol's counts, the draws, what a data folder holds, and every error before anything is written."""

import argparse
import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import soundfile as sf

from se_keras import audio, corpora, manifest, mixing
from se_keras.corpora import protocol, timit, voicebank
from se_keras.errors import UserError
from tests.conftest import ROOT, make_tree, speech_like
from tests.test_mixing import measured_snr_db

_spec = importlib.util.spec_from_file_location("prepare", ROOT / "data" / "prepare.py")
prepare = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(prepare)


def folders(root, out, *flags):
    """`prepare.py folders` on a tree with S/ and N/; the rows by split."""
    prepare.main(["folders", "--speech", str(root / "S"), "--noise", str(root / "N"), "--out", str(out), *flags])
    return {path.stem: manifest.read(path) for path in out.glob("*.jsonl")}


def noise(seconds, seed=0, rate=16_000):
    return (0.1 * np.random.default_rng(seed).standard_normal(int(seconds * rate))).astype(np.float32)


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


@pytest.mark.parametrize("bad", [["0", "0"], ["nan"], ["inf", "3"]])
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
    with pytest.raises(UserError, match="valid: no such folder; expected .*<split>/<speaker>/.*wav.*--split test"):
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
    assert done.stderr == "error: unknown corpus 'librispeech'; known: demo, folders, timit, voicebank\n"


@pytest.mark.parametrize("name", corpora.NAMES)
def test_help_of_every_corpus(name, capsys):
    with pytest.raises(SystemExit) as ended:
        prepare.main([name, "--help"])
    assert ended.value.code == 0 and "--out" in capsys.readouterr().out


# TIMIT.

@pytest.fixture(scope="module")
def timit_tree(tmp_path_factory):
    """A tiny TIMIT in SPHERE files, Hu's hundred sounds at 20 kHz, and two test noises."""
    root, seed = tmp_path_factory.mktemp("timit"), 0
    for part, speakers in (("TRAIN", 5), ("TEST", 2)):
        for speaker in range(speakers):
            folder = root / "corpus" / "TIMIT" / part / "DR1" / f"F{part[:3]}{speaker}"
            folder.mkdir(parents=True)
            for sentence in ("SA1", "SX9", "SI7"):
                seed += 1
                sf.write(folder / f"{sentence}.WAV", speech_like(0.6, seed), 16_000, format="NIST", subtype="PCM_16")
    (root / "hu").mkdir()
    for number in range(1, 101):
        sf.write(root / "hu" / f"n{number}.wav", noise(0.3, number, 20_000), 20_000)
    for number, kind in enumerate(("engine", "white")):
        audio.write(root / "other" / kind / "a.wav", noise(0.5, 200 + number))
    return root


def run_timit(root, out, *flags, train="4", valid="2"):
    prepare.main(["timit", "--root", str(root / "corpus"), "--noise", str(root / "hu"), "--test-noise", str(root / "other"),
                  "--train-utterances", train, "--valid-utterances", valid, "--test-utterances", "3", "--out", str(out), *flags])
    return {path.stem: manifest.read(path) for path in out.glob("*.jsonl")}


def test_timit_by_the_letters_protocol(timit_tree, tmp_path):
    """Ten training types x 5 SNRs an utterance, one validation noise, two test types here; no speaker twice, no SA sentence."""
    rows = run_timit(timit_tree, tmp_path / "out")
    assert {split: len(some) for split, some in rows.items()} == {"train": 4 * 10 * 5, "valid": 2 * 5, "test": 3 * 2 * 5}
    assert {row.noise_type for row in rows["train"]} == {
        "crowd", "machine 1", "machine 2", "alarm and siren", "traffic and car", "animal", "water", "wind", "bell", "laugh"}
    assert not {row.noise_type for row in rows["valid"]} & {row.noise_type for row in rows["train"]}
    assert {row.noise_type for row in rows["test"]} == {"engine", "white"}
    assert not {row.speaker for row in rows["train"]} & {row.speaker for row in rows["valid"]}
    assert all(row.speaker.startswith("FTES") for row in rows["test"])
    assert not any("SA1" in row.id for some in rows.values() for row in some)
    assert all(row.clean.endswith(".WAV") and "wav16k" in row.noise for row in rows["train"])
    for row in rows["train"][::20]:
        assert measured_snr_db(*mixing.pair(row)) == pytest.approx(row.snr_db, abs=0.01)


def test_timit_takes_a_sentence_once_in_any_spelling(timit_tree, tmp_path):
    """Copies in lower case, and with SPHERE and RIFF files side by side, give the same sentences."""
    shutil.copytree(timit_tree / "corpus" / "TIMIT" / "TRAIN", tmp_path / "timit" / "train")
    for path in sorted((tmp_path / "timit").rglob("*.WAV")):
        sf.write(f"{path}.wav", sf.read(path)[0], 16_000)
    found = timit.sentences(tmp_path, "TRAIN", with_sa=False)
    expected = timit.sentences(timit_tree / "corpus", "TRAIN", with_sa=False)
    assert {speaker: [one.id for one in some] for speaker, some in found.items()} == {
        speaker: [one.id for one in some] for speaker, some in expected.items()}
    assert sum(map(len, timit.sentences(tmp_path, "TRAIN", with_sa=True).values())) == 15


def test_timit_errors(timit_tree, tmp_path):
    with pytest.raises(UserError, match="9 utterances of speakers not used elsewhere are asked for, [0-8] are left"):
        run_timit(timit_tree, tmp_path / "out", valid="9")
    with pytest.raises(UserError, match="holds no TRAIN folder; expected TIMIT/"):
        timit.sentences(timit_tree / "hu", "TRAIN", with_sa=False)
    shutil.copytree(timit_tree / "hu", tmp_path / "hu")
    (tmp_path / "hu" / "n57.wav").unlink()
    with pytest.raises(UserError, match=r"lacks 1 of the sounds in hu_noise_types.csv \(n57.wav"):
        timit.hu_noises(tmp_path / "hu", timit.NOISE_TYPES)
    assert not (tmp_path / "out").exists()


def test_hu_table_can_be_edited(timit_tree, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("number,type,split\n3,crowd,train\n4,crowd,train\n90,laugh,valid\n")
    noises = timit.hu_noises(timit_tree / "hu", table)
    assert {kind: [path.name for path in files] for kind, files in noises["train"].items()} == {"crowd": ["n3.wav", "n4.wav"]}
    for bad, line in (("5,crowd\n", 5), ("x,crowd,train\n", 5), ("5,crowd,test\n", 5)):
        table.write_text("number,type,split\n3,crowd,train\n4,crowd,train\n90,laugh,valid\n" + bad)
        with pytest.raises(UserError, match=f"table.csv, line {line}: expected number,type,split"):
            timit.hu_noises(timit_tree / "hu", table)
    table.write_text("number,type,split\n3,crowd,train\n")
    with pytest.raises(UserError, match="names no sound for valid"):
        timit.hu_noises(timit_tree / "hu", table)


def test_shipped_hu_table_names_a_hundred_sounds_and_ten_training_types(timit_tree):
    noises = timit.hu_noises(timit_tree / "hu", timit.NOISE_TYPES)
    assert len(noises["train"]) == 10 and not noises["train"].keys() & noises["valid"].keys()
    assert sum(len(files) for by_type in noises.values() for files in by_type.values()) == 100


# Voice Bank.

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


# The demo corpus.

@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "demo"
    prepare.main(["demo", "--out", str(out), "--snr-train", "0"])
    return out, {path.stem: manifest.read(path) for path in out.glob("*.jsonl")}


def test_demo_splits_by_voice_and_noise_type(demo):
    rows = demo[1]
    voices = {split: {row.speaker for row in some} for split, some in rows.items()}
    types = {split: {row.noise_type for row in some} for split, some in rows.items()}
    assert sum(map(len, voices.values())) == len(set.union(*voices.values())) >= 12
    assert sum(map(len, types.values())) == len(set.union(*types.values())) >= 10
    assert {split: len({row.clean for row in some}) for split, some in rows.items()} == {"train": 60, "valid": 15, "test": 12}
    assert {split: len(some) for split, some in rows.items()} == {"train": 60 * 8, "valid": 15 * 3, "test": 12 * 3 * 4}


def test_demo_sentences_and_voices_are_of_one_split():
    from se_keras.corpora import demo_speech

    sentences = [text for group in demo_speech.SENTENCES.values() for text in group]
    variants = [(voice[1], voice[2]) for group in demo_speech.VOICES.values() for voice in group]
    assert len(sentences) == len(set(sentences)) and len({variant for _, variant in variants}) == len(variants)


def test_demo_audio_is_sound(demo):
    """Speech of two to five seconds at peak 0.7; noises of eight seconds without DC, and none of them silent anywhere."""
    for row in {row.clean: row for rows in demo[1].values() for row in rows}.values():
        wave = audio.read(row.clean)
        assert 2 < len(wave) / 16_000 < 5 and np.abs(wave).max() == pytest.approx(0.7, abs=1e-3)
    for path in {row.noise for rows in demo[1].values() for row in rows}:
        wave = audio.read(path)
        assert len(wave) == 8 * 16_000 and np.abs(wave).max() == pytest.approx(0.7, abs=1e-3) and abs(wave.mean()) < 1e-3
        assert np.square(wave).reshape(8, -1).mean(axis=1).min() > 1e-6


def test_an_interrupted_demo_goes_on_and_ends_the_same(demo, tmp_path):
    """A voice cut off between two sentences is spoken again, and its files are the same bytes."""
    out, rows = demo
    shutil.copytree(out, tmp_path / "demo")
    gone = [tmp_path / "demo" / "corpus.json", tmp_path / "demo" / "speech" / "test" / "nell" / "nell-2.wav",
            tmp_path / "demo" / "noise" / "test" / "crowd" / "crowd-1.wav"]
    for path in gone:
        path.unlink()
    kept = tmp_path / "demo" / "speech" / "train" / "alba" / "alba-0.wav"
    before = kept.stat().st_mtime_ns
    prepare.main(["demo", "--out", str(tmp_path / "demo"), "--snr-train", "0"])
    assert kept.stat().st_mtime_ns == before
    for path in (*gone[1:], tmp_path / "demo" / "corpus.json"):
        assert path.read_bytes() == (out / path.relative_to(tmp_path / "demo")).read_bytes(), path


def test_demo_of_another_seed_is_another_one(demo, tmp_path):
    shutil.copytree(demo[0], tmp_path / "demo")
    white = tmp_path / "demo" / "noise" / "train" / "white"
    (white / "mine.txt").write_text("not generated")
    prepare.main(["demo", "--out", str(tmp_path / "demo"), "--snr-train", "0", "--seed", "1", "--force"])
    assert (white / "mine.txt").exists()
    before = demo[0] / "noise" / "train" / "white"
    assert not np.array_equal(audio.read(white / "white-0.wav"), audio.read(before / "white-0.wav"))


def test_parselmouth_is_imported_by_the_demo_alone():
    """It is GPLv3; the rest of the package must not depend on it. Neither may preparing data wait for TensorFlow."""
    code = ("import sys; sys.path.insert(0, 'data'); import prepare; from se_keras import corpora; "
            "[corpora.get(name) for name in ('folders', 'timit', 'voicebank')]; "
            "assert not {'parselmouth', 'tensorflow', 'keras'} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
