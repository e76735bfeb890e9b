"""DNS: pieces at a drawn SNR and level, splits by speaker and recording, one epoch of its preset and its test, and every error."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from conftest import load_script, noise, prepare, speech_like

import train
from se_keras.corpora import dns
from se_keras.errors import UserError
from se_keras.mixtures import manifest
from se_keras.mixtures.augment import Augmentation
from se_keras.signals import audio, mixing
from tests.signals.test_mixing import measured_snr_db

TINY = ["--model-args", '{"units": 4, "dense_units": 4}', "--epochs", "1", "--batch", "4", "--crop", "0.5", "--validation-rows", "2",
        "--workers", "1"]
SPEECH = {"read_speech/book_00394_chp_0008_reader_01326_9.wav": 2.6, "read_speech/book_00007_chp_0008_reader_01326_3.wav": 1.2,
          "read_speech/book_02972_chp_0050_reader_02616_19.wav": 2.4, "read_speech/book_01187_chp_0011_reader_02383_1_seg_1.wav": 1.2,
          "vctk_wav48_silence_trimmed/p225/p225_001_mic1.flac": 1.2, "vctk_wav48_silence_trimmed/p225/p225_002_mic1.flac": 1.2,
          "emotional_speech/1001_DFA_ANG_XX.wav": 1.2}
NOISES = ["door_Freesound_validated_439434_0.wav", "door_Freesound_validated_439434_1.wav", "fan_Freesound_validated_361372_19.wav",
          "-0GfVCSaXgI.wav", "yH4huWPvzfM.wav"]


def make_dns(root, rate=48_000):
    """clean/, noise/ and rirs/ as the challenge names and nests them."""
    for seed, (name, seconds) in enumerate(SPEECH.items()):
        (root / "clean" / name).parent.mkdir(parents=True, exist_ok=True)
        sf.write(root / "clean" / name, 0.5 * audio.resample(speech_like(seconds, seed), 16_000, rate), rate)
    (root / "noise").mkdir()
    for seed, name in enumerate(NOISES):
        sf.write(root / "noise" / name, noise(1.0, seed, rate), rate)
    (root / "rirs" / "SLR28").mkdir(parents=True)
    response = np.zeros((4_800, 2), np.float32)
    response[100], response[3_000] = (0.5, 0.1), (0.1, 0.5)
    sf.write(root / "rirs" / "SLR28" / "room.wav", response, rate)
    return root


def run_dns(root, out, *flags):
    prepare.main(["dns", "--clean", str(root / "clean"), "--noise", str(root / "noise"), "--out", str(out), "--piece", "1.2", *flags])
    return {path.stem: manifest.read(path) for path in out.glob("*.jsonl")}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return make_dns(tmp_path_factory.mktemp("dns") / "root")


@pytest.fixture(scope="module")
def prepared(tree, tmp_path_factory):
    """(data folder, rows by split)."""
    out = tmp_path_factory.mktemp("data") / "out"
    return out, run_dns(tree, out, "--impulse-responses", str(tree / "rirs"))


@pytest.fixture
def copy(tree, tmp_path):
    """The tree, to be damaged."""
    return shutil.copytree(tree, tmp_path / "root")


def test_the_defaults_are_the_challenges():
    args = prepare.arguments(["dns", "--clean", "x", "--noise", "y", "--out", "z"])
    assert (args.piece, args.snr, args.level) == (10, [-5, 20], [-35, -15])


def test_files_are_cut_into_pieces_of_one_length(prepared):
    """2.6 and 2.4 s are two pieces of 1.2 s; what is left over, 0.2 s, is not used. 1.2 s is one."""
    rows = [row for some in prepared[1].values() for row in some]
    assert len(rows) == 9 and {row.samples for row in rows} == {19_200}
    assert {"book_00394_chp_0008_reader_01326_9-00", "book_00394_chp_0008_reader_01326_9-01"} < {row.id for row in rows}


def test_snr_and_level_are_drawn_in_their_ranges_and_measured(prepared):
    rows = [row for some in prepared[1].values() for row in some]
    levels = []
    for row in rows:
        noisy, clean = mixing.pair(row)
        assert measured_snr_db(noisy, clean) == pytest.approx(row.snr_db, abs=0.01)
        levels.append(10 * np.log10(np.mean(noisy.astype(np.float64) ** 2)))
    assert -35.01 <= min(levels) and max(levels) <= -14.99 and np.ptp(levels) > 4
    assert -5 <= min(row.snr_db for row in rows) and max(row.snr_db for row in rows) <= 20 and len({row.snr_db for row in rows}) == 9


def test_no_speaker_and_no_recording_stands_in_two_splits(prepared):
    rows = prepared[1]
    manifest.check_splits(rows)
    where = {}
    for split, some in rows.items():
        for row in some:
            where.setdefault(row.speaker, set()).add(split)
    assert where.keys() == {"reader_01326", "reader_02616", "reader_02383", "p225", "unknown"}
    assert all(len(splits) == 1 for splits in where.values())
    assert len({dns.noise_group(Path(name)) for name in NOISES}) == 4  # two cuts of recording 439434 are one


def test_names_tell_speakers_and_kinds_of_noise():
    speakers = {"book_00394_chp_0008_re_f872gDrfumM": "book_00394", "p287_424_mic1": "p287", "clnsp12": "unknown", "p2871": "unknown"}
    assert {name: dns.speaker_of(Path(f"{name}.wav")) for name in speakers} == speakers
    kinds = {"breath_spit_Freesound_validated_26803_1": "breath_spit", "wntLte49djU": "unknown"}
    assert {name: dns.noise_type_of(Path(f"{name}.wav")) for name in kinds} == kinds


def test_unknown_speakers_are_said(tree, prepared, tmp_path, capsys):
    run_dns(tree, tmp_path / "out")
    said = capsys.readouterr().out
    assert "notice: 1 of 7 files of speech do not say who speaks: they are split by file" in said
    assert "notice: train: 0.00 hours of speech are there, 100 were asked for" in said
    assert not (tmp_path / "out" / "rooms").exists()
    fingerprints = [json.loads((out / "corpus.json").read_text())["fingerprint"] for out in (tmp_path / "out", prepared[0])]
    assert fingerprints[0] == fingerprints[1]


def test_no_more_hours_than_asked_for(tree, tmp_path):
    """1.8 s of each: at most two files of 1.2 s, or one of 2.4 s or 2.6 s."""
    rows = run_dns(tree, tmp_path / "out", "--hours", "0.0005", "--valid-hours", "0.0005", "--test-hours", "0.0005")
    assert {split for split, some in rows.items() if 1 <= len(some) <= 2} == set(manifest.SPLITS)
    assert max(len({row.clean.rsplit("-", 1)[0] for row in some}) for some in rows.values()) <= 2


def test_impulse_responses_serve_an_augmentation(prepared):
    """The first of two microphones, 16 kHz, float: its direct path is the largest sample."""
    response = audio.read(prepared[0] / "rooms" / "SLR28-room.wav")
    assert len(response) == 1_600 and np.abs(response).argmax() == pytest.approx(100 / 3, abs=1)
    assert Augmentation.checked({"rooms": str(prepared[0] / "rooms")}).responses() == [str(prepared[0] / "rooms" / "SLR28-room.wav")]


def test_a_pause_is_no_piece(tmp_path):
    """A second of speech, a second of hiss 60 dB below, a second of speech."""
    wave = np.concatenate([speech_like(1.0, 1), 1e-4 * noise(1.0), speech_like(1.0, 2)])
    audio.write(tmp_path / "a.wav", wave)
    assert len(list(dns.pieces(tmp_path / "a.wav", 1.0))) == 2


def test_prepare_train_by_the_preset_and_test(prepared, tmp_path):
    data, run, report = str(prepared[0]), str(tmp_path / "run"), str(tmp_path / "report")
    train.main(["enhancer", "--preset", "dns", "--data", data, "--out", run, *TINY])
    load_script("test.py").main(["--data", data, "--systems", "noisy", run, "--metrics", "si_sdr", "--out", report, "--workers", "1"])
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert summary["systems"] == ["noisy", "run"] and summary["utterances"] == len(prepared[1]["test"])


def spoil(kind, root):
    if kind == "missing":
        shutil.rmtree(root / "noise")
    elif kind == "empty":
        for path in (root / "noise").iterdir():
            path.unlink()
        shutil.rmtree(root / "clean")
    elif kind == "speakers":
        for folder in ("read_speech", "emotional_speech"):
            shutil.rmtree(root / "clean" / folder)
    elif kind == "recordings":
        for name in NOISES[2:]:
            (root / "noise" / name).unlink()
    elif kind in ("speech rates", "noise rates"):
        path = root / ("clean/emotional_speech/1001_DFA_ANG_XX.wav" if kind == "speech rates" else "noise/yH4huWPvzfM.wav")
        sf.write(path, audio.resample(sf.read(path, dtype="float32")[0], 48_000, 8_000), 8_000)
    elif kind == "unreadable":
        (root / "clean" / "emotional_speech" / "1001_DFA_ANG_XX.wav").write_bytes(b"no audio")
    elif kind == "silent noise":
        for name in NOISES:
            sf.write(root / "noise" / name, np.zeros(4_800), 48_000)


@pytest.mark.parametrize("kind, message", [
    ("missing", "1 of 2 folders are missing or hold no audio files .*root/noise.*; expected folders of wav or flac"),
    ("empty", "2 of 2 folders are missing .*root/clean, .*root/noise"), ("speakers", "clean: holds 1 speakers or recordings in 2 files"),
    ("recordings", "noise: holds 1 speakers or recordings in 2 files; expected three at least"),
    ("speech rates", "7 files of several sample rates: 1 at 8000 Hz .*1001_DFA_ANG_XX.wav.*, 6 at 48000 Hz"),
    ("noise rates", "5 files of several sample rates: 1 at 8000 Hz .*, 4 at 48000 Hz"),
    ("unreadable", "1001_DFA_ANG_XX.wav: not a readable audio file"),
    ("silent noise", "noise: the . noise files of train are digital silence")])
def test_what_is_no_dns_is_told(copy, tmp_path, kind, message):
    spoil(kind, copy)
    with pytest.raises(UserError, match=message):
        run_dns(copy, tmp_path / "out")
    assert not list(tmp_path.glob("out/*.json*"))


@pytest.mark.parametrize("flags, message", [
    (["--snr", "20", "-5"], "--snr 20 -5: expected a lowest and a highest value"),
    (["--level", "-15", "3"], "--level -15 3: expected a lowest and a highest value from -80 to 0 dB"),
    (["--snr", "nan", "3"], "--snr nan 3: expected")])
def test_ranges_that_are_none_are_told(tree, tmp_path, flags, message):
    with pytest.raises(UserError, match=message):
        run_dns(tree, tmp_path / "out", *flags)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flag, bad", [("--hours", "0"), ("--piece", "-1"), ("--seed", "-1")])
def test_numbers_that_cannot_be_are_told(tree, tmp_path, flag, bad, capsys):
    with pytest.raises(SystemExit):
        run_dns(tree, tmp_path / "out", flag, bad)
    assert flag in capsys.readouterr().err
