"""The manifest: what is written is read again, and a bad line is told by its number."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from conftest import speech_like

from se_keras.errors import UserError
from se_keras.mixtures import manifest
from se_keras.signals import audio, mixing


@pytest.fixture
def folder(tmp_path):
    """A data folder with two clean and two noise files in it."""
    for number in range(2):
        audio.write(tmp_path / "data" / f"c{number}.wav", speech_like(0.5, number))
        audio.write(tmp_path / "data" / f"n{number}.wav", speech_like(0.4, 10 + number))
    return tmp_path / "data"


def row(folder, number=0, **changes):
    base = manifest.Utterance(f"u{number}", str(folder / f"c{number}.wav"), f"s{number}", "hum", 8000, -2.5,
                              str(folder / f"n{number}.wav"), 17, 0.1 + 0.2)
    return dataclasses.replace(base, **changes)


def test_rows_come_back_exactly(folder):
    rows = [row(folder, 0), row(folder, 1, snr_db=None, noise=None, offset=0, gain=1.0, noisy=str(folder / "n1.wav"))]
    manifest.write(folder / "train.jsonl", rows)
    assert manifest.read(folder / "train.jsonl") == rows
    assert sorted(path.name for path in folder.iterdir()) == ["c0.wav", "c1.wav", "n0.wav", "n1.wav", "train.jsonl"]


def test_gain_survives_json_to_the_last_bit(folder):
    gains = np.random.default_rng(0).lognormal(sigma=5, size=200)
    manifest.write(folder / "train.jsonl", [row(folder, id=f"u{i}", gain=float(gain)) for i, gain in enumerate(gains)])
    assert [one.gain for one in manifest.read(folder / "train.jsonl")] == list(gains)


def test_mixtures_from_a_reread_manifest_are_bit_identical(folder):
    rows = [row(folder, number) for number in range(2)]
    manifest.write(folder / "train.jsonl", rows)
    for before, after in zip(rows, manifest.read(folder / "train.jsonl"), strict=True):
        for one, other in zip(mixing.pair(before), mixing.pair(after), strict=True):
            assert one.tobytes() == other.tobytes()


def test_a_data_folder_can_be_moved_with_its_audio(folder, tmp_path):
    manifest.write(folder / "train.jsonl", [row(folder)])
    before = mixing.pair(manifest.read(folder / "train.jsonl")[0])[0].tobytes()
    shutil.move(folder, tmp_path / "moved")
    moved = manifest.read(tmp_path / "moved" / "train.jsonl")[0]
    assert moved.clean == str(tmp_path / "moved" / "c0.wav") and mixing.pair(moved)[0].tobytes() == before


def test_files_elsewhere_are_named_by_their_full_path(folder, tmp_path):
    manifest.write(tmp_path / "other" / "train.jsonl", [row(folder)])
    assert manifest.read(tmp_path / "other" / "train.jsonl") == [row(folder)]


BAD_LINES = {
    "not json": ("{", "not a JSON object"),
    "a list": ("[1]", "expected a JSON object, found list"),
    "a missing field": ({"samples": ...}, "the row lacks samples"),
    "an unknown field": ({"snr": 3}, "has unknown fields snr"),
    "a missing and an unknown field": ({"speaker": ..., "spk": "x"}, "lacks speaker and has unknown fields spk"),
    "no noise": ({"noise": ...}, "expected either `noise`"),
    "noise and noisy": ({"noisy": "n1.wav"}, "expected either `noise`"),
    "text for a number": ({"samples": "8000"}, "samples is '8000', expected a whole number above 0"),
    "a fraction for a count": ({"offset": 1.5}, "offset is 1.5, expected a whole number from 0"),
    "a negative offset": ({"offset": -1}, "offset is -1"),
    "no samples": ({"samples": 0}, "samples is 0"),
    "a NaN gain": ({"gain": float("nan")}, "gain is nan, expected a finite number"),
    "a number for a name": ({"speaker": 3}, "speaker is 3, expected a text"),
    "null for a path": ({"clean": None}, "clean is None, expected a text"),
    "a missing file": ({"clean": "gone.wav"}, "clean file .*gone.wav does not exist"),
    "a missing noise file": ({"noise": "gone.wav"}, "noise file .*gone.wav does not exist"),
    "a doubled id": ({"id": "u0"}, "the id 'u0' stands on an earlier line"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_is_told_by_its_number(folder, case):
    bad, message = BAD_LINES[case]
    path = folder / "train.jsonl"
    manifest.write(path, [row(folder, 0), row(folder, 1)])
    first, second = path.read_text().splitlines()
    if isinstance(bad, dict):
        record = json.loads(second) | bad
        bad = json.dumps({name: value for name, value in record.items() if value is not ...})
    path.write_text(f"{first}\n\n{bad}\n")  # the empty line is skipped, and counted
    with pytest.raises(UserError, match=f"train.jsonl, line 3: .*{message}"):
        manifest.read(path)


def test_missing_and_empty_manifests_are_told(folder):
    with pytest.raises(UserError, match="no such manifest; make one with data/prepare.py"):
        manifest.read(folder / "train.jsonl")
    (folder / "train.jsonl").write_text("\n")
    with pytest.raises(UserError, match="holds no rows"):
        manifest.read(folder / "train.jsonl")


@pytest.mark.parametrize("field, what", [("speaker", "speaker"), ("clean", "clean file"), ("noise", "noise file")])
def test_what_crosses_splits_fails_loudly(folder, field, what):
    rows = {"train": [row(folder, 0)], "test": [row(folder, 1)]}
    manifest.check_splits(rows)
    shared = getattr(rows["train"][0], field)
    rows["test"] = [dataclasses.replace(rows["test"][0], **{field: shared})]
    with pytest.raises(UserError, match=f"the {what} {shared} is in both train and test"):
        manifest.check_splits(rows)


def test_unknown_speakers_are_told_apart_by_file_alone(folder):
    rows = {split: [row(folder, number, speaker=manifest.UNKNOWN)] for number, split in enumerate(("train", "test"))}
    manifest.check_splits(rows)
    rows["test"] = [dataclasses.replace(rows["test"][0], clean=rows["train"][0].clean)]
    with pytest.raises(UserError, match="the clean file .* is in both train and test"):
        manifest.check_splits(rows)


def test_a_recording_needs_no_clean_file_where_none_is_asked_for(folder):
    recordings = [row(folder, noise=None, offset=0, gain=1.0, noisy=str(folder / "n0.wav"), clean=None, samples=6400)]
    manifest.write(folder / "test.jsonl", recordings)
    assert manifest.read(folder / "test.jsonl", reference=False) == recordings
    with pytest.raises(UserError, match="test.jsonl, line 1: u0 has no clean reference; such recordings can be tested"):
        manifest.read(folder / "test.jsonl")


def test_ready_made_pairs_share_no_noise_file(folder):
    manifest.check_splits({split: [row(folder, number, noise=None, noisy=str(folder / f"n{number}.wav"))]
                           for number, split in enumerate(("train", "test"))})
