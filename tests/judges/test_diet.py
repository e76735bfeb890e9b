"""Quality-Net's diet: pairs, perturbed masks, labels."""

import dataclasses

import numpy as np
import pytest

from se_keras import metrics
from se_keras.enhancers.perturbation import perturb
from se_keras.errors import UserError
from se_keras.judges import diet
from se_keras.judges.surrogate import PESQ
from se_keras.scoring.scores import Scorer
from se_keras.signals import mixing
from se_keras.signals.stft import Stft, istft, magnitude, stft

RNG = np.random.default_rng(0)
MASK = RNG.uniform(size=(50, 257)).astype(np.float32)


def test_diet_is_noisy_enhanced_perturbed_and_some_clean_of_the_same_piece(rows):
    pairs = diet.diet(rows, 2, perturbed=3, clean_share=1.0, crop_s=0.5)
    families = list(zip(*[iter(pairs)] * 7, strict=True))
    assert len(families) == len(rows)
    for family in families:
        assert [pair.kind for pair in family] == ["noisy", "enhanced", "enhanced", "perturbed", "perturbed", "perturbed", "clean"]
        assert [pair.enhancer for pair in family[1:3]] == [0, 1] and [pair.variant for pair in family[3:6]] == [1, 2, 3]
        assert len({pair.row for pair in family}) == 1 and family[0].row.used_samples == 8000
    assert {pair.enhancer for pair in pairs if pair.kind == "perturbed"} == {0, 1}
    assert len({pair.id for pair in pairs}) == len(pairs) - len(rows)  # the two enhancers' outputs share one


def test_a_diet_without_enhancers_has_nothing_to_perturb(rows):
    assert {pair.kind for pair in diet.diet(rows, 0, perturbed=2, clean_share=1.0)} == {"noisy", "clean"}


def test_every_second_row_has_its_noise_turned_down(rows):
    pairs = diet.diet(rows, 0, snr_raise=12.0, clean_share=0)
    raised = [(before, pair.row) for before, pair in zip(rows, pairs, strict=True)]
    changed = [(before, after) for before, after in raised if before != after]
    assert 0.2 < len(changed) / len(raised) < 0.8
    for before, after in changed:
        up_db = after.snr_db - before.snr_db
        assert 0 < up_db < 12 and after.gain == pytest.approx(before.gain * 10 ** (-up_db / 20))
        noisy, clean = mixing.pair(after)
        assert 10 * np.log10(np.sum(clean ** 2) / np.sum((noisy - clean) ** 2)) == pytest.approx(after.snr_db, abs=0.01)


def test_raised_rows_depend_on_nothing_but_themselves_and_the_seed(rows):
    raised = diet.raise_snr(rows, 12.0, seed=3)
    assert diet.raise_snr(rows[4:5], 12.0, seed=3) == raised[4:5] and diet.raise_snr(rows, 12.0, seed=4) != raised
    assert diet.raise_snr(rows, 0.0) == rows
    pair = dataclasses.replace(rows[0], noise=None, noisy=rows[0].clean, snr_db=None)
    assert diet.raise_snr([pair] * 1, 12.0, seed=3) == [pair]
    unknown = [dataclasses.replace(row, snr_db=None) for row in rows]
    assert any(row.gain != before.gain and row.snr_db is None for row, before in zip(diet.raise_snr(unknown, 9.0), unknown, strict=True))


def test_a_row_is_cut_alike_whichever_rows_stand_beside_it(rows):
    of_all = [pair for pair in diet.diet(rows, 1, 2, 10.0, crop_s=0.5) if pair.row.id == rows[5].id]
    assert diet.diet(rows[5:6], 1, 2, 10.0, crop_s=0.5) == of_all


def test_perturbed_masks_are_masks_around_the_enhancers_own():
    masks = [perturb(MASK, np.ones_like(MASK), np.random.default_rng(seed)) for seed in range(40)]
    assert all(mask.dtype == np.float32 and mask.shape == MASK.shape and mask.min() >= 0 and mask.max() <= 1 for mask in masks)
    correlations = np.array([np.corrcoef(mask.ravel(), MASK.ravel())[0, 1] for mask in masks])
    assert correlations.min() > 0.3 and correlations.max() > 0.99  # from another enhancer to nearly the same one
    np.testing.assert_array_equal(masks[3], perturb(MASK, np.ones_like(MASK), np.random.default_rng(3)))
    assert len({float(mask.mean()) for mask in masks}) == 40


def test_perturbations_are_smooth_and_every_second_one_leans_to_the_ideal_mask():
    flat = np.full((64, 257), 0.5, np.float32)
    zero, one = (np.array([perturb(flat, np.full_like(flat, ideal), np.random.default_rng(seed)) for seed in range(60)])
                 for ideal in (0, 1))
    share = (one - zero).mean(axis=(1, 2))  # what the ideal mask adds is its share
    assert 0.3 < np.mean(share > 1e-3) < 0.7 and share.max() <= 0.3 + 1e-6 and np.ptp(one - zero, axis=(1, 2)).max() < 1e-6
    assert np.abs(np.diff(zero, axis=1)).max() < 0.25 and np.abs(np.diff(zero, axis=2)).max() < 0.25  # against 1 for white noise


def test_a_silent_mixture_has_a_finite_mask(enhancer, rows):
    silent = np.zeros((40, 257, 2), np.float32)
    estimate, = diet.pair_estimates([diet.Pair(rows[0], "perturbed", variant=1)], [(silent, silent)], [enhancer], Stft())
    assert np.isfinite(estimate.values).all()


def test_labels_are_pesq_of_what_the_pair_stands_for_and_are_kept(rows, enhancer, tmp_path, monkeypatch):
    pairs = [diet.Pair(rows[0], "noisy"), diet.Pair(rows[0], "enhanced"), diet.Pair(rows[0], "perturbed", variant=1),
             diet.Pair(rows[0], "perturbed", variant=2), diet.Pair(rows[0], "clean")]
    with Scorer(["pesq_raw"], cache=tmp_path, workers=1) as scorer:
        true = diet.label(pairs, [enhancer], scorer, PESQ, Stft())
        monkeypatch.setattr(enhancer, "run", lambda given: pytest.fail("enhanced again"))
        monkeypatch.setattr(scorer, "score", lambda *arguments: pytest.fail("scored again"))
        np.testing.assert_array_equal(diet.label(pairs, [enhancer], scorer, PESQ, Stft()), true)
    monkeypatch.undo()
    noisy, clean = mixing.pair(rows[0])
    spectra = [(stft(noisy), stft(clean))] * 2
    perturbed = [istft(spectra[0][0] * estimate.values[..., None], len(noisy), Stft())
                 for estimate in diet.pair_estimates(pairs[2:4], spectra, [enhancer], Stft())]
    pesq = metrics.get("pesq_raw").function
    expected = [pesq(clean, noisy), pesq(clean, enhancer.enhance([noisy])[0]), *(pesq(clean, wave) for wave in perturbed), 4.5]
    np.testing.assert_allclose(PESQ.from_score(true), expected, atol=1e-4)
    assert len(set(np.round(true, 4))) == 5


def test_clean_speech_is_measured_too(rows, enhancer, capsys):
    """Against itself: perfect, where PESQ hears speech; a piece that it refuses has no score, and the reason is said."""
    short = [dataclasses.replace(row, length=length) for row, length in ((rows[0], 2000), (rows[1], 16_000))]  # 1/8 s is refused
    pairs = [diet.Pair(row, kind) for row in short for kind in ("noisy", "clean")]
    with Scorer(["pesq_raw"], workers=1) as scorer:
        true = diet.label(pairs, [enhancer], scorer, PESQ, Stft())
    assert np.isnan(true).tolist() == [True, True, False, False] and true[3] == 1.0
    assert "labels: 2 of 4 without a score: " in capsys.readouterr().out


def test_one_enhancer_masks_a_mixture_once_whatever_is_made_of_it(rows, enhancer, monkeypatch):
    seen, run = [], enhancer.run
    monkeypatch.setattr(enhancer, "run", lambda given: seen.append(len(given)) or run(given))
    pairs = [diet.Pair(rows[0], "noisy"), diet.Pair(rows[0], "enhanced"), diet.Pair(rows[0], "perturbed", variant=1)]
    spectra = [tuple(stft(wave) for wave in mixing.pair(rows[0]))] * 3
    none, plain, perturbed = diet.pair_estimates(pairs, spectra, [enhancer], Stft())
    assert seen == [1] and none is None and not np.array_equal(plain.values, perturbed.values)
    np.testing.assert_allclose(plain.values, run([magnitude(spectra[0][0])])[0], atol=1e-6)


def test_pairs_without_a_score_are_left_out_and_none_at_all_is_an_error(rows, capsys):
    pairs = diet.diet(rows[:2], 0, clean_share=0)
    kept, values = diet.known(pairs, np.array([np.nan, 2.0], np.float32))
    assert kept == pairs[1:] and values == [2.0] and "1 of 2 pairs" in capsys.readouterr().out
    with pytest.raises(UserError, match="no pair has a score"):
        diet.known(pairs, np.array([np.nan, np.nan], np.float32))


def test_values_by_kind(rows):
    pairs = diet.diet(rows[:1], 1, perturbed=2, clean_share=0)
    found = diet.by_kind(pairs, np.arange(4.0))
    assert {kind: values.tolist() for kind, values in found.items()} == {"noisy": [0], "enhanced": [1], "perturbed": [2, 3]}
