"""Augmented mixtures: what is drawn is in its range, the same at every call, other in every epoch, and the pair stays a pair."""

import dataclasses

import numpy as np
import pytest
from conftest import speech_like

from se_keras.errors import UserError
from se_keras.mixtures import manifest
from se_keras.mixtures.augment import Augmentation, equalise, in_room, noise_files
from se_keras.mixtures.feed import Feed
from se_keras.signals import audio, mixing

PLAIN = Augmentation(snr_db=None, noise=False, second_noise=0.0, speed=(1, 1), equaliser_db=0, level_db=(0, 0))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Six mixtures of 1 s and two noises, in whose files a type's folder is the last but one part."""
    root = tmp_path_factory.mktemp("augment")
    for number, name in enumerate(("rain", "wind")):
        audio.write(root / name / "0.wav", 0.1 * np.random.default_rng(number).standard_normal(24_000).astype(np.float32))
    made = []
    for n in range(6):
        audio.write(root / f"{n}.wav", speech_like(1.0, seed=n))
        made.append(manifest.Utterance(f"u{n}", str(root / f"{n}.wav"), "s", "rain", 16_000, 0.0, str(root / "rain" / "0.wav"), gain=0.5))
    return made


def noises(rows):
    return [str(rows[0].noise), str(rows[0].noise).replace("rain", "wind")]


def test_nothing_drawn_is_the_row_itself(rows):
    rng = np.random.default_rng(0)
    row = PLAIN.redraw(rows[0], noises(rows), rng)
    assert row == rows[0]
    for ours, plain in zip(PLAIN.pair(row, noises(rows), rng), mixing.pair(row), strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-6)


def test_a_redrawn_row_is_a_row_of_its_snr(rows):
    drawn = [Augmentation().redraw(rows[0], noises(rows), np.random.default_rng(seed)) for seed in range(60)]
    assert {row.noise_type for row in drawn} == {"rain", "wind"} and len({row.offset for row in drawn}) > 50
    snr_db = np.array([row.snr_db for row in drawn])
    assert -10 <= snr_db.min() < -5 and 15 < snr_db.max() <= 20
    for row in drawn[:5]:
        noisy, clean = mixing.pair(row)
        assert 10 * np.log10(np.sum(clean ** 2) / np.sum((noisy - clean) ** 2)) == pytest.approx(row.snr_db, abs=0.01)
        mixing.check_gain(row)


@pytest.mark.parametrize("crop_s", [None, 0.5])
def test_batches_are_a_function_of_seed_and_number(rows, crop_s):
    feeds = [Feed(rows, 2, crop_s=crop_s, augment=Augmentation(), seed=seed) for seed in (3, 3, 4)]
    one, again, other = (feed.batch(2) for feed in feeds)
    for name in one:
        np.testing.assert_array_equal(one[name], again[name])
    assert not np.array_equal(one["noisy"][:, :10], other["noisy"][:, :10])
    epochs = {round(float(np.abs(feeds[0].batch(k)["noisy"]).sum()), 3) for k in range(0, 30, 3)}
    assert len(epochs) == 10  # nothing is seen twice


def test_noise_comes_from_the_rows_given(rows):
    feed = Feed(rows, 6, augment=Augmentation())
    assert {row.noise for row in feed.cut_rows(0)} == set(noise_files(rows)) == {rows[0].noise}


def test_speed_moves_length_and_pitch(rows):
    fast = dataclasses.replace(PLAIN, speed=(1.1, 1.1))
    noisy, clean = fast.pair(rows[0], noises(rows), np.random.default_rng(0))
    assert len(noisy) == len(clean) == pytest.approx(16_000 / 1.1, abs=2)
    piece = dataclasses.replace(rows[0], start=2_000, length=8_000)
    assert [len(wave) for wave in fast.pair(piece, noises(rows), np.random.default_rng(0))] == [8_000, 8_000]
    expected = audio.resample(mixing.pair(rows[0])[1], 17_600, 16_000)
    np.testing.assert_allclose(clean, expected, atol=1e-6)


def test_level_is_that_of_both(rows):
    loud = dataclasses.replace(PLAIN, level_db=(6, 6)).pair(rows[0], noises(rows), np.random.default_rng(0))
    for wave, plain in zip(loud, mixing.pair(rows[0]), strict=True):
        np.testing.assert_allclose(wave, 10 ** (6 / 20) * plain, rtol=1e-5)


def test_a_second_noise_lies_0_to_10_db_below(rows):
    two = dataclasses.replace(PLAIN, second_noise=1.0)
    for seed in range(5):
        noisy, clean = two.pair(rows[0], noises(rows)[1:], np.random.default_rng(seed))
        first = np.subtract(*mixing.pair(rows[0]))
        below_db = 10 * np.log10(np.sum(first ** 2) / np.sum((noisy - clean - first) ** 2))
        assert -0.01 <= below_db <= 10.01


def test_an_equaliser_has_its_gains_and_keeps_energy():
    tones = sum(np.sin(2 * np.pi * hz * np.arange(16_000) / 16_000) for hz in (500, 4000)).astype(np.float32)
    shaped = equalise(tones, np.array([0, 0, 0, 0, 0, 0, -12, -12.0]))
    assert np.sum(shaped ** 2) == pytest.approx(np.sum(tones ** 2), rel=1e-4)
    spectrum = np.abs(np.fft.rfft(shaped))
    assert 20 * np.log10(spectrum[4000] / spectrum[500]) == pytest.approx(-12, abs=0.1)
    assert not equalise(np.zeros(100, np.float32), np.zeros(8)).any()


def test_a_room_keeps_the_direct_path_in_place(rows, tmp_path):
    response = np.zeros(8_000, np.float32)
    response[[40, 400, 4_000]] = 0.5, 0.2, 0.1  # direct, early (22 ms), late (250 ms)
    speech = speech_like(0.5, 1)
    whole, early = in_room(speech, response)
    shifted = np.pad(speech, (360, 0))[:len(speech)]
    np.testing.assert_allclose(early, speech + 0.4 * shifted, atol=1e-4)
    np.testing.assert_allclose(whole - early, 0.2 * np.pad(speech, (3_960, 0))[:len(speech)], atol=1e-4)
    audio.write(tmp_path / "room.wav", response)
    in_rooms = dataclasses.replace(PLAIN, rooms=str(tmp_path), room=1.0)
    noisy, clean = in_rooms.pair(rows[0], noises(rows), np.random.default_rng(0))
    reverberant = noisy - clean - np.subtract(*mixing.pair(rows[0]))  # what the room adds after 50 ms, and rounding to 16 bits
    assert 0.01 < np.abs(reverberant).max() < 0.3


@pytest.mark.parametrize(("settings", "message"), [
    ({"snr": [0, 10]}, "augment has no snr; it takes snr_db, noise, second_noise, speed, equaliser_db, level_db, rooms, room"),
    ({"snr_db": [10, 0]}, r"augment: snr_db is \[10, 0\]; expected \[lowest, highest\] from -100 to 100 dB, or null"),
    ({"speed": [0, 1]}, r"expected \[slowest, fastest\] from 0.5 to 2"), ({"noise": 1}, "expected true or false"),
    ({"second_noise": 2}, "expected a share"), ({"level_db": "loud"}, "level_db is 'loud'"),
    ({"equaliser_db": -1}, "expected a number from 0 to 40"), ({"rooms": ""}, "expected a folder"), ({"room": True}, "expected a share"),
    ({"rooms": "nowhere"}, "rooms 'nowhere' holds no .wav; make some with data/rooms.py")])
def test_what_is_no_setting(settings, message):
    with pytest.raises(UserError, match=message):
        Augmentation.checked(settings)
    assert Augmentation.checked({"speed": [1, 1], "snr_db": None}) == Augmentation(speed=(1, 1), snr_db=None)
    assert Augmentation.checked(None) is None


def test_a_ready_made_pair_keeps_its_noise(rows, tmp_path):
    audio.write(tmp_path / "noisy.wav", speech_like(1.0, seed=9))
    pair = dataclasses.replace(rows[0], noise=None, noisy=str(tmp_path / "noisy.wav"))
    assert Augmentation().redraw(pair, [], np.random.default_rng(0)) == pair
    noisy, clean = Augmentation().pair(pair, [], np.random.default_rng(0))
    assert len(noisy) == len(clean) and np.isfinite(noisy).all()
