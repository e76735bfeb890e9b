"""Voice Bank's preset on a tree with all the corpus's names: 28 + 2 speakers, 11,572 + 824 pairs; only the audio is short."""

import json
import os

import pandas as pd
import pytest
import soundfile as sf
from conftest import load_script, noise, prepare, speech_like

import train
from se_keras.corpora import voicebank
from se_keras.mixtures import manifest

SPEAKERS = ("p226 p287 p227 p228 p230 p231 p233 p236 p239 p243 p244 p250 p254 p256 p258 p259 p267 p268 p269 p270 p273 p274 p276 p277 p278 "
            "p279 p282 p286").split()  # SpeechBrain's list
TRAIN_NOISES = "babble cafeteria car kitchen meeting metro restaurant ssn station traffic".split()
TEST_NOISES = "bus cafe living office psquare".split()


def names(part):
    """Base names of a part's pairs: in training 770 of the two held-out speakers, and 11,572 in all; in the test 824 of p232 and p257."""
    shares = {"p232": 393, "p257": 431} if part == "test" else (
        {"p226": 375, "p287": 395} | {speaker: 415 + (number < 12) for number, speaker in enumerate(SPEAKERS[2:])})
    return [f"{speaker}_{number:03d}" for speaker, count in shares.items() for number in range(1, count + 1)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Each part has a recording a speaker, under all of that speaker's names (hard links)."""
    root = tmp_path_factory.mktemp("voicebank")
    for seed, (part, folders) in enumerate(voicebank.FOLDERS.items()):
        first = {}
        for folder in folders:
            (root / folder).mkdir()
        log = []
        noises, levels = (TRAIN_NOISES, (15, 10, 5, 0)) if part == "train" else (TEST_NOISES, (17.5, 12.5, 7.5, 2.5))
        for number, name in enumerate(names(part)):
            speaker = name.split("_")[0]
            log.append(f"{name} {noises[number % len(noises)]} {levels[number % 4]}\n")
            for folder in folders:
                if (folder, speaker) in first:
                    os.link(first[folder, speaker], root / folder / f"{name}.wav")
                    continue
                clean = speech_like(1.0, 100 * seed + number)
                first[folder, speaker] = root / folder / f"{name}.wav"
                sf.write(first[folder, speaker], clean if "clean" in folder else clean + 0.3 * noise(1.0, number), 16_000)
        (root / voicebank.LOGS[part]).write_text("".join(log))
    return root


def test_the_preset_on_all_names(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    prepare.main(["voicebank", "--root", str(root), "--out", "data/voicebank"])
    assert "notice" not in capsys.readouterr().out  # 11,572 and 824: nothing is missing
    rows = {split: manifest.read(tmp_path / "data" / "voicebank" / f"{split}.jsonl") for split in ("train", "valid", "test")}
    assert {split: len(some) for split, some in rows.items()} == {"train": 10_802, "valid": 770, "test": 824}
    assert {split: len({row.speaker for row in some}) for split, some in rows.items()} == {"train": 26, "valid": 2, "test": 2}
    assert {row.noise_type for row in rows["test"]} == set(TEST_NOISES) and {row.snr_db for row in rows["test"]} == {17.5, 12.5, 7.5, 2.5}

    small = json.dumps({"units": 2, "dense_units": 2})
    train.main(["enhancer", "--preset", "voicebank", "--model-args", small, "--epochs", "1", "--batch", "512", "--crop", "0.2",
                "--validation-rows", "4", "--workers", "1"])
    history = pd.read_csv("runs/voicebank-mse/history.csv")
    assert history["update"].tolist() == [22] and history["pesq_raw"].notna().all()  # 10,802 / 512, rounded up
    load_script("test.py").main(["--data", "data/voicebank", "--systems", "noisy", "runs/voicebank-mse", "--limit", "10", "--workers", "1",
                                 "--metrics", "pesq_wb", "stoi", "--out", "report"])
    assert "voicebank-mse" in capsys.readouterr().out
