"""The TIMIT corpus: NIST SPHERE files and Hu's hundred sounds, by the letter's protocol."""

import shutil

import pytest
import soundfile as sf
from conftest import noise, prepare, speech_like

from se_keras.corpora import timit
from se_keras.errors import UserError
from se_keras.mixtures import manifest
from se_keras.signals import audio, mixing
from tests.signals.test_mixing import measured_snr_db


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
