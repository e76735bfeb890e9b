"""The demo corpus: voices, noises, splits, and that it is generated the same again."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT, prepare

from se_keras.mixtures import manifest
from se_keras.signals import audio


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


def test_ctrl_c_while_voices_speak(tmp_path):
    """To the whole group, as a terminal sends it: the voices end with the script, and none leaves a trace."""
    handled = "import signal, runpy, sys; signal.signal(signal.SIGINT, signal.default_int_handler); sys.argv = sys.argv[1:]; " \
              "runpy.run_path(sys.argv[0], run_name='__main__')"
    process = subprocess.Popen([sys.executable, "-c", handled, ROOT / "data" / "prepare.py", "demo", "--out", tmp_path / "demo"],
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("*.wav")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted" in said and "Traceback" not in said, said
