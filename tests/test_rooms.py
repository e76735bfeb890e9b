"""data/rooms.py: responses that measure what was asked for, the same by seed; and a training in such rooms."""

import importlib.util
import json

import numpy as np
import pytest
from conftest import ENHANCER, PREPARE, load_script, prepare

import train
from se_keras.errors import UserError
from se_keras.signals import audio

rooms = load_script("data/rooms.py")
simulated = pytest.mark.skipif(importlib.util.find_spec("pyroomacoustics") is None,
                               reason="needs pyroomacoustics, an extra (requirements-extras.txt)")


def decay_s(response):
    """RT60 by Schroeder's backward integral, from the slope between -5 and -25 dB (ISO 3382's T20)."""
    energy = np.cumsum(np.square(response[np.argmax(np.abs(response)):].astype(float))[::-1])[::-1]
    level_db = 10 * np.log10(energy / energy[0])
    return 3 * (np.argmax(level_db < -25) - np.argmax(level_db < -5)) / audio.SAMPLE_RATE


@simulated
def test_a_room_rings_as_long_as_drawn_and_its_direct_path_is_the_largest():
    for seed in range(12):
        response, room = rooms.respond(np.random.default_rng(seed))
        assert rooms.RT60_S[0] <= room.rt60_s <= rooms.RT60_S[1]
        assert 0.6 < decay_s(response) / room.rt60_s < 1.7
        assert response.dtype == np.float32 and response.max() == 1 == np.abs(response).max()
        assert np.abs(response[:np.argmax(response) - 41]).max() < 0.05  # nothing is heard before it


@simulated
def test_the_direct_path_arrives_after_its_way():
    room = rooms.Room(np.array([6.0, 5.0, 3.0]), 0.3, 0.35, 20)
    source = np.array([2.0, 2.0, 1.5])
    response = rooms.simulate(room, source, source + [70 * 343 / 16_000, 0, 0])
    assert np.argmax(response) == 70 + 40  # and half a sinc


def test_places_keep_their_distance():
    room, rng = rooms.Room(np.array([3.0, 4.0, 2.4]), 0.3, 0.35, 20), np.random.default_rng(0)
    drawn = [places for _ in range(300) if (places := rooms.draw_places(room, rng)) is not None]
    assert len(drawn) > 200
    for source, microphone in drawn:
        assert np.all(np.minimum(source, room.size_m - source) >= 0.5) and np.all(np.minimum(microphone, room.size_m - microphone) >= 0.5)
        samples = np.linalg.norm(source - microphone) * 16_000 / 343
        assert samples == pytest.approx(round(samples), abs=1e-6) and samples > 22


@simulated
def test_the_same_seed_gives_the_same_samples(tmp_path, capsys):
    for name, count, seed in (("one", 2, 3), ("again", 3, 3), ("other", 1, 4)):
        rooms.main(["--count", str(count), "--seed", str(seed), "--out", str(tmp_path / name)])
    one, again, other = (sorted((tmp_path / name).iterdir()) for name in ("one", "again", "other"))
    assert [path.name for path in again] == ["0000.wav", "0001.wav", "0002.wav"]  # and nothing half written
    one, again, other = ([audio.read(path).tobytes() for path in paths] for paths in (one, again, other))  # a file holds its time too
    assert one == again[:2] and len({*again, *other}) == 4
    assert "3 rooms are ready" in capsys.readouterr().out
    wave = np.frombuffer(one[0], np.float32)
    assert wave.max() == 1 and np.any(wave * 32768 % 1)  # float: quiet reflections are not rounded to 16 bits
    with pytest.raises(UserError, match="holds 0001.wav, which is none of the 1 to be made"):
        rooms.main(["--count", "1", "--out", str(tmp_path / "again")])


def test_without_the_package_its_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(rooms.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pyroomacoustics, an extra: pip install -r requirements-extras.txt$"):
        rooms.main(["--out", str(tmp_path / "rooms")])
    assert not (tmp_path / "rooms").exists()


@simulated
def test_an_enhancer_trains_in_rooms(tree, tmp_path):
    rooms.main(["--count", "2", "--out", str(tmp_path / "rooms")])
    prepare.main(["folders", "--speech", str(tree / "S"), "--noise", str(tree / "N"), "--out", str(tmp_path / "data"), *PREPARE])
    augment = json.dumps({"rooms": str(tmp_path / "rooms"), "room": 1})
    train.main(["enhancer", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), *ENHANCER, "--epochs", "1",
                "--augment", augment, "--workers", "1"])
    assert (tmp_path / "run" / "best.weights.h5").is_file()
    assert json.loads((tmp_path / "run" / "config.json").read_text())["training"]["augment"]["room"] == 1
