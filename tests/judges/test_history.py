"""What Quality-Net keeps of its rounds on disk."""

import dataclasses

import numpy as np
import pytest

from se_keras.enhancers.magnitude_mask import MaskEstimate
from se_keras.errors import UserError
from se_keras.judges import diet
from se_keras.judges.history import Awaited, History


def test_history_is_bounded_newest_first_and_forgets_what_a_kill_has_undone(rows, tmp_path):
    history = History(tmp_path, 5, MaskEstimate)
    pairs = [diet.Pair(rows[0], "noisy"), diet.Pair(rows[0], "enhanced"), diet.Pair(rows[1], "perturbed", variant=2)]
    rng = np.random.default_rng(0)
    masks = {number: [None, *map(MaskEstimate, rng.random((2, 7, 257), np.float32))] for number in range(4)}
    for number in range(4):
        history.add(number, pairs, masks[number], np.array([0.1, 0.2, 0.3 if number else np.nan]))
    kept = history.before(4)
    assert [(entry.round, entry.pair, entry.score) for entry in kept] == [
        (3, pairs[1], 0.2), (3, pairs[2], 0.3), (2, pairs[1], 0.2), (2, pairs[2], 0.3)]  # noisy speech has no mask to remember
    np.testing.assert_allclose(kept[1].estimate().values, masks[3][2].values, atol=5e-4)  # 16 bits
    assert sorted(path.name for path in tmp_path.iterdir()) == ["round_00002.npz", "round_00003.npz"]
    tight = History(tmp_path, 1, MaskEstimate)
    assert {entry.round for entry in tight.before(4)} == {3}  # the newest round whatever it holds: replay without a past is none
    history.add(1, pairs, masks[1], np.array([0.1, 0.2, 0.3]))
    assert {entry.round for entry in history.before(2)} == {1}
    history.add(0, pairs, masks[0], np.array([0.1, 0.2, np.nan]))
    assert len(history.before(1)) == 1  # without a score, nothing to remember


def test_the_history_goes_with_a_corpus_that_was_moved(rows, tmp_path):
    pairs, mask = [diet.Pair(rows[0], "enhanced")], MaskEstimate(np.ones((3, 257), np.float32))
    History(tmp_path, 9, MaskEstimate).add(0, pairs, [mask], np.array([0.5]))
    moved = dataclasses.replace(rows[0], clean="/elsewhere/clean.wav", noise="/elsewhere/noise.wav")
    assert History(tmp_path, 9, MaskEstimate, [moved]).before(1)[0].pair.row == moved
    assert History(tmp_path, 9, MaskEstimate).before(1)[0].pair.row == rows[0]


def test_what_is_awaited_comes_back_bit_for_bit(rows, tmp_path):
    """Also the paths of a corpus that was moved meanwhile, and no more rounds than may be asked for."""
    pairs = [diet.Pair(rows[0], "noisy"), diet.Pair(rows[0], "enhanced", 1), diet.Pair(rows[1], "perturbed", variant=2),
             diet.Pair(rows[1], "clean")]
    masks = [None, *map(MaskEstimate, np.random.default_rng(0).random((2, 7, 257), np.float32)), None]
    for number in range(4):
        Awaited(tmp_path, MaskEstimate).add(number, pairs, masks, ["a", "b", "c", "d"], back=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["round_00002.npz", "round_00003.npz"]
    found, found_masks, recipes = Awaited(tmp_path, MaskEstimate).get(3)
    assert found == pairs and recipes == ["a", "b", "c", "d"] and found_masks[0] is found_masks[3] is None
    for one, other in zip(found_masks[1:3], masks[1:3], strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        assert one.values.dtype == np.float32
    moved = dataclasses.replace(rows[1], clean="/elsewhere/clean.wav")
    assert [pair.row for pair in Awaited(tmp_path, MaskEstimate, [moved]).get(3)[0]] == [rows[0], rows[0], moved, moved]
    with pytest.raises(UserError, match="round_00001.npz is missing, and without it the run cannot go on; name another --out"):
        Awaited(tmp_path, MaskEstimate).get(1)


def test_a_history_that_was_deleted_or_damaged_is_said(rows, tmp_path):
    history = History(tmp_path, 9, MaskEstimate)
    assert history.before(0) == []
    for number in range(2):
        history.add(number, [diet.Pair(rows[0], "enhanced")], [MaskEstimate(np.ones((3, 257), np.float32))], np.array([0.5]))
    entry = history.before(2)[0]
    (tmp_path / "round_00001.npz").write_bytes((tmp_path / "round_00001.npz").read_bytes()[:100])
    for use in (entry.estimate, lambda: history.before(2), lambda: Awaited(tmp_path, MaskEstimate).get(1)):
        with pytest.raises(UserError, match="round_00001.npz is damaged, and without it the run cannot go on; name another --out"):
            use()
    (tmp_path / "round_00001.npz").unlink()
    with pytest.raises(UserError, match="round_00001.npz is missing"):
        history.before(2)
