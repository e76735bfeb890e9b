"""Batches: a pure function of (seed, k), every row once an epoch, bucketed, cropped anew each epoch, masked."""

import dataclasses

import numpy as np
import pytest
from conftest import speech_like

from se_keras.errors import UserError
from se_keras.mixtures import manifest
from se_keras.mixtures.feed import BUCKET_BATCHES, Feed, spectrogram_batch
from se_keras.signals import audio, mixing
from se_keras.signals.stft import Stft, stft

CONFIG = Stft(64, 32)  # 33 bins: small arrays


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Eleven mixtures of 0.2 to 0.7 s."""
    root = tmp_path_factory.mktemp("rows")
    audio.write(root / "noise.wav", 0.1 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32))
    rows = []
    for n in range(11):
        audio.write(root / f"{n}.wav", speech_like(0.2 + 0.05 * n, seed=n))
        clean = audio.read(root / f"{n}.wav")
        rows.append(manifest.Utterance(f"u{n}", str(root / f"{n}.wav"), "s", "white", len(clean), 0.0, str(root / "noise.wav"), gain=0.5))
    return rows


def feed(rows, **arguments):
    return Feed(rows, 4, CONFIG, **{"extra": {"number": np.arange(len(rows))}, **arguments})


def assert_equal(a, b):
    assert list(a) == list(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], strict=True)


def test_a_batch_of_pairs(rows):
    pairs = [mixing.pair(row) for row in (rows[4], rows[0])]
    batch = spectrogram_batch(pairs, CONFIG, lambda frames: -(-frames // 16) * 16)  # 0.4 s: 201 frames, padded to 13 x 16
    frames = [CONFIG.frames(len(clean)) for _, clean in pairs]
    assert {name: (array.shape, array.dtype.name) for name, array in batch.items()} == {
        "noisy": ((2, 208, 33, 2), "float32"), "clean": ((2, 208, 33, 2), "float32"), "frame_mask": ((2, 208), "bool")}
    assert batch["frame_mask"].sum(axis=1).tolist() == frames and batch["frame_mask"][:, 0].all()
    for i, n in enumerate(frames):
        assert batch["frame_mask"][i, :n].all() and not batch["frame_mask"][i, n:].any()
        for name, wave in zip(("noisy", "clean"), pairs[i], strict=True):
            np.testing.assert_array_equal(batch[name][i, :n], stft(wave, CONFIG))
            assert (batch[name][i, n:] == 0).all()


@pytest.mark.parametrize(("backend", "crop_s", "lengths"), [
    ("tensorflow", None, {16: 16, 17: 32, 189: 192, 400: 400}), ("jax", None, {16: 128, 129: 256, 400: 512}),
    ("jax", 0.3, {16: 128, 129: 160, 151: 160})])  # a cut of 0.3 s has 151 frames: no more is computed for it than on TensorFlow
def test_jax_sees_few_shapes(rows, monkeypatch, backend, crop_s, lengths):
    """It compiles the network anew for each."""
    monkeypatch.setenv("KERAS_BACKEND", backend)
    given = feed(rows, crop_s=crop_s)
    assert {frames: given.padded(frames) for frames in lengths} == lengths
    batch = given.batch(0)["frame_mask"]
    assert batch.shape[1] == given.padded(batch.sum(axis=1).max())


def test_a_batch_is_a_pure_function_of_seed_and_number(rows):
    first, again, other = feed(rows, crop_s=0.15), feed(rows, crop_s=0.15), feed(rows, crop_s=0.15, seed=1)
    in_order = [first.batch(k) for k in range(7)]
    for k in (5, 0, 6, 2):  # in any order, over three epochs
        assert_equal(again.batch(k), in_order[k])
    assert any((other.indices(k) != first.indices(k)).any() for k in range(2))


def test_every_row_once_an_epoch_in_another_order(rows):
    given = feed(rows, crop_s=0.2)
    assert given.batches_per_epoch == 3
    epochs = [np.concatenate([given.indices(k) for k in range(3 * epoch, 3 * epoch + 3)]) for epoch in range(4)]
    assert all(sorted(epoch) == list(range(11)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    together = [{frozenset(given.indices(k).tolist()) for k in range(3 * epoch, 3 * epoch + 3)} for epoch in range(4)]
    assert not set.intersection(*together)  # and with other rows: after the cut all are of one length, so none must go with another
    assert sorted(len(given.indices(k)) for k in range(3)) == [3, 4, 4]
    batch = given.batch(4)
    np.testing.assert_array_equal(batch["number"], given.indices(4))  # extra values follow their rows
    whole = feed(rows)
    np.testing.assert_array_equal(whole.batch(4)["frame_mask"].sum(axis=1), [CONFIG.frames(rows[i].samples) for i in whole.indices(4)])


def test_bucketing_reduces_padding(rows):
    """Lengths spread evenly over 1 : 8; batches of 4 drawn at random are padded by about 60 %, sorted in windows hardly at all
    (lengths within one multiple of 16 frames stay in any order)."""
    many = [dataclasses.replace(rows[0], id=str(n), samples=2000 + 14 * n) for n in range(1000)]

    def padding(batches):
        lengths = [np.array([many[i].samples for i in batch]) for batch in batches]
        return sum(batch.max() * len(batch) for batch in lengths) / sum(batch.sum() for batch in lengths) - 1

    shuffled = np.random.default_rng(0).permutation(1000).reshape(-1, 4)
    assert padding(shuffled) > 0.4
    assert padding(feed(many, extra={}).order(0)) < 0.04
    mean_lengths = [np.mean([many[i].samples for i in batch]) for batch in feed(many, extra={}).order(0)]
    assert abs(np.corrcoef(mean_lengths, np.arange(250))[0, 1]) < 0.2  # short and long batches come mixed


def test_another_piece_each_epoch(rows):
    given = feed(rows, crop_s=0.1, extra={})
    waves = {}
    for epoch in range(3):
        for k in range(3 * epoch, 3 * epoch + 3):
            batch = given.batch(k)
            assert (batch["frame_mask"].sum(axis=1) == CONFIG.frames(1600)).all()
            for i, index in enumerate(given.indices(k)):
                waves.setdefault(int(index), set()).add(batch["clean"][i].tobytes())
                _, clean = mixing.pair(rows[index])
                whole = stft(clean, CONFIG)
                assert np.abs(batch["clean"][i, 1:CONFIG.frames(1600) - 1]).max() <= np.abs(whole).max() * 1.5
    assert all(len(pieces) == 3 for pieces in waves.values())
    assert_equal(feed(rows[:1], crop_s=5.0).batch(0), feed(rows[:1]).batch(0))  # shorter than a piece: whole


@pytest.mark.parametrize("start, stop", [(0, 7), (4, 6)])
def test_tf_data_gives_the_numpy_batches_in_order(rows, start, stop):
    given = feed(rows, crop_s=0.2)
    expected = list(given.numpy_batches(start, stop))
    for got in (given.tf_dataset(start, stop).as_numpy_iterator(), given.batches(start, stop)):
        got = list(got)
        assert len(got) == stop - start
        for a, b in zip(got, expected, strict=True):
            assert_equal(a, b)


def test_tf_data_makes_each_batch_once(rows, monkeypatch):
    made, pairs = [], Feed._pairs
    monkeypatch.setattr(Feed, "_pairs", lambda self, k: made.append(int(k)) or pairs(self, k))
    list(feed(rows).tf_dataset(0, 3))
    assert sorted(made) == [0, 0, 1, 2]  # and the first before, for its names and shapes


def test_tf_data_knows_the_shapes(rows):
    spec = feed(rows).tf_dataset(0, 3).element_spec
    assert {name: tuple(value.shape) for name, value in spec.items()} == {
        "noisy": (None, None, 33, 2), "clean": (None, None, 33, 2), "frame_mask": (None, None), "number": (None,)}


def test_a_damaged_file_is_named_as_it_would_be_without_tf_data(rows, tmp_path):
    (tmp_path / "damaged.wav").write_bytes(b"RIFF")
    damaged = [*rows, dataclasses.replace(rows[0], id="damaged", clean=str(tmp_path / "damaged.wav"))]
    given = Feed(damaged, 1, CONFIG)
    at = next(k for k in range(12) if given.indices(k)[0] == 11)
    start = max(0, at - 2)
    batches = given.batches(start, 12)
    for _ in range(at - start):
        next(batches)
    with pytest.raises(UserError, match="damaged.wav: not a readable audio file"):
        next(batches)


def test_memory_holds_one_epochs_order(rows):
    given = feed(rows)
    for k in range(30):
        given.indices(k)
    epoch, order = given.__dict__["_order"]
    assert epoch == 9 and len(order) == 3 and BUCKET_BATCHES >= 8
