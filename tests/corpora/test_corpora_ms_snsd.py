"""MS-SNSD: clips by the synthesiser's rules, held-out speakers and noises, one epoch of its preset and its test, and every error."""

import json
import shutil

import numpy as np
import pytest
import soundfile as sf
from conftest import load_script, noise, prepare, speech_like

import train
from se_keras.corpora import ms_snsd
from se_keras.errors import UserError
from se_keras.mixtures import manifest
from se_keras.signals import audio, mixing
from tests.signals.test_mixing import measured_snr_db

TINY = ["--model-args", '{"units": 4, "dense_units": 4}', "--epochs", "1", "--batch", "8", "--crop", "0.5", "--validation-rows", "2",
        "--workers", "1"]
SPEECH = {"clean_train": ["p234_001", "p234_003", "p234_005", "p236_002", "p236_004", "p240_001", "mic_F01_sa1", "mic_F01_sa2", "other7"],
          "clean_test": ["clnsp0", "clnsp10", "clnsp101"]}
NOISES = {"noise_train": ["AirConditioner_1", "AirConditioner_10", "Babble_3", "Babble_7", "Babble_12", "Typing_1"],
          "noise_test": ["AirConditioner_2", "Neighbor_4"]}


def make_ms_snsd(root, rate=16_000):
    """The four folders, utterances of 1.2 s and noises of 1 s at several levels."""
    seed = 0
    for names, made, seconds in ((SPEECH, speech_like, 1.2), (NOISES, noise, 1.0)):
        for folder, files in names.items():
            (root / folder).mkdir(parents=True)
            for name in files:
                seed += 1
                sf.write(root / folder / f"{name}.wav", 0.1 * (1 + seed % 4) * audio.resample(made(seconds, seed), 16_000, rate), rate)
    return root


def run_ms_snsd(root, out, *flags):
    prepare.main(["ms-snsd", "--root", str(root), "--out", str(out), "--clip", "1.5", "--valid-speakers", "1", *flags])
    return {path.stem: manifest.read(path) for path in out.glob("*.jsonl")}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return make_ms_snsd(tmp_path_factory.mktemp("ms-snsd") / "root")


@pytest.fixture(scope="module")
def prepared(tree, tmp_path_factory):
    """(data folder, rows by split)."""
    out = tmp_path_factory.mktemp("data") / "out"
    return out, run_ms_snsd(tree, out)


@pytest.fixture
def copy(tree, tmp_path):
    """The tree, to be damaged."""
    return shutil.copytree(tree, tmp_path / "root")


def rms_db(wave):
    return 10 * np.log10(np.mean(np.square(wave, dtype=np.float64)))


def test_the_defaults_are_the_synthesisers():
    parser = prepare.arguments(["ms-snsd", "--root", "x", "--out", "y"])
    assert (parser.clip, parser.snr_train, parser.snr_test) == (10, [0, 5, 10, 15, 20], [0, 5, 10, 15, 20])
    assert (ms_snsd.SILENCE_S, ms_snsd.LEVEL_DB) == (0.2, -25)


def test_a_clip_is_utterances_and_silence_longer_than_asked_for_and_not_cut(prepared):
    """Two utterances of 1.2 s and 0.2 s between: 2.6 s, where more than 1.5 s are wanted; each at -25 dB, and so the clip."""
    wave = audio.read(next(path for path in (prepared[0] / "clean").rglob("p236-000.wav")))
    assert len(wave) == 41_600 and rms_db(wave) == pytest.approx(-25, abs=0.01)
    assert not wave[19_200:22_400].any() and wave[19_100:19_200].any() and wave[22_400:22_500].any()
    assert rms_db(wave[:19_200]) == pytest.approx(rms_db(wave[22_400:]), abs=0.01)


def test_every_utterance_is_used_once_and_what_is_left_is_a_shorter_clip(prepared):
    seconds = {(path.parent.name == "test", path.stem): len(audio.read(path)) / 16_000 for path in (prepared[0] / "clean").rglob("*.wav")}
    assert seconds == pytest.approx({
        (False, "p234-000"): 2.6, (False, "p234-001"): 1.2, (False, "p236-000"): 2.6, (False, "p240-000"): 1.2, (False, "F01-000"): 2.6,
        (False, "unknown-000"): 1.2, (True, "unknown-000"): 2.6, (True, "unknown-001"): 1.2})


def test_a_clip_meets_one_noise_at_every_snr(prepared):
    for rows in prepared[1].values():
        met = {}
        for row in rows:
            met.setdefault(row.clean, []).append(row)
            assert measured_snr_db(*mixing.pair(row)) == pytest.approx(row.snr_db, abs=0.01), row.id
        for some in met.values():
            assert [row.snr_db for row in some] == [0, 5, 10, 15, 20]
            assert len({(row.noise, row.offset, row.noise_type) for row in some}) == 1


def test_speakers_and_noises_of_validation_are_held_out(prepared):
    rows = prepared[1]
    speakers = {split: {row.speaker for row in some} for split, some in rows.items()}
    assert len(speakers["valid"]) == 1 and speakers["train"] | speakers["valid"] == {"p234", "p236", "p240", "F01", "unknown"}
    assert speakers["test"] == {"unknown"}
    noises = {split: {row.noise for row in some} for split, some in rows.items()}
    assert not noises["train"] & noises["valid"] and {row.noise_type for row in rows["test"]} <= {"AirConditioner", "Neighbor"}
    split = ms_snsd.split_noises([prepared[0] / f"{name}.wav" for name in NOISES["noise_train"]], 0, prepared[0])
    assert {kind: len(files) for kind, files in split["train"].items()} == {"AirConditioner": 1, "Babble": 2, "Typing": 1}
    assert {kind: len(files) for kind, files in split["valid"].items()} == {"AirConditioner": 1, "Babble": 1}  # Typing has one file


def test_seed_decides_the_draws(tree, prepared, tmp_path, capsys):
    assert run_ms_snsd(tree, tmp_path / "again")["test"][0].offset == prepared[1]["test"][0].offset
    assert "notice: test: 3 files do not say who speaks" in capsys.readouterr().out
    assert json.loads((tmp_path / "again" / "corpus.json").read_text())["fingerprint"] == json.loads(
        (prepared[0] / "corpus.json").read_text())["fingerprint"]
    other = run_ms_snsd(tree, tmp_path / "other", "--seed", "1")
    assert [row.offset for row in other["test"]] != [row.offset for row in prepared[1]["test"]]


def test_files_of_both_folders_are_left_out_of_training(copy, tmp_path, capsys):
    shutil.copy(copy / "noise_test" / "AirConditioner_2.wav", copy / "noise_train" / "Babble_99.wav")
    rows = run_ms_snsd(copy, tmp_path / "out")
    assert "notice: 1 of 7 files of noise_train are in noise_test too" in capsys.readouterr().out
    assert not any("Babble_99" in row.noise for row in rows["train"] + rows["valid"])


def test_prepare_train_by_the_preset_and_test(prepared, tmp_path):
    data, run, report = str(prepared[0]), str(tmp_path / "run"), str(tmp_path / "report")
    train.main(["enhancer", "--preset", "ms-snsd", "--data", data, "--out", run, *TINY])
    load_script("test.py").main(["--data", data, "--systems", "noisy", run, "--metrics", "si_sdr", "--out", report, "--workers", "1"])
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert summary["systems"] == ["noisy", "run"] and summary["utterances"] == 10 and summary["clean_utterances"] == 2


def spoil(kind, root):
    if kind == "missing":
        shutil.rmtree(root / "noise_test")
        shutil.rmtree(root / "clean_train")
    elif kind == "empty":
        for path in (root / "clean_test").iterdir():
            path.unlink()
    elif kind == "speakers":
        for path in (root / "clean_train").glob("p*.wav"):
            path.rename(path.with_name(f"{path.stem[1:]}.wav"))
    elif kind == "noises":
        for name in NOISES["noise_train"][1:]:
            (root / "noise_train" / f"{name}.wav").unlink()
    elif kind == "rates":
        path = root / "noise_train" / "Babble_3.wav"
        sf.write(path, audio.resample(audio.read(path), 16_000, 48_000), 48_000)
    elif kind == "silent":
        sf.write(root / "clean_test" / "clnsp10.wav", np.zeros(8_000), 16_000)


@pytest.mark.parametrize("kind, message", [
    ("missing", r"root: 2 of 4 folders are missing or hold no audio files \(clean_train, noise_test\); expected clean_train"),
    ("empty", r"1 of 4 folders .* \(clean_test\)"), ("speakers", "names of clean_train tell 1 speakers .* of which --valid-speakers 1"),
    ("noises", "noise_train: no type has two files"),
    ("rates", r"20 files of several sample rates: 19 at 16000 Hz \(.*\), 1 at 48000 Hz \(.*Babble_3.wav\)"),
    ("silent", "clnsp10.wav: is digital silence")])
def test_what_is_no_ms_snsd_is_told_before_anything_is_written(copy, tmp_path, kind, message):
    spoil(kind, copy)
    with pytest.raises(UserError, match=message):
        run_ms_snsd(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("bad", ["0", "nan", "ten"])
def test_a_clip_that_cannot_be_is_told(tree, tmp_path, bad, capsys):
    with pytest.raises(SystemExit):
        prepare.main(["ms-snsd", "--root", str(tree), "--out", str(tmp_path / "out"), "--clip", bad])
    assert "--clip" in capsys.readouterr().err
