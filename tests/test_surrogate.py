"""Quality-Net's diet and labels, what it is shown, and the enhancer behind it."""

import numpy as np
import pytest

from se_keras import manifest, mixing, models, surrogate
from se_keras.dataset import spectrogram_batch
from se_keras.enhancer import MaskEnhancer
from se_keras.errors import UserError
from se_keras.scores import Scorer
from se_keras.stft import magnitude, stft

SMALL = ((2, 5), (3, 9))


@pytest.fixture(scope="module")
def rows(tree, tmp_path_factory):
    import subprocess
    import sys
    from pathlib import Path

    out = tmp_path_factory.mktemp("data")
    script = Path(__file__).parent.parent / "data" / "prepare.py"
    subprocess.run([sys.executable, script, "folders", "--speech", tree / "S", "--noise", tree / "N", "--out", out], check=True,
                   capture_output=True)
    return manifest.read(out / "train.jsonl")


@pytest.fixture(scope="module")
def enhancer():
    import keras

    keras.utils.set_random_seed(0)
    return MaskEnhancer(models.build("dnn", units=8))


@pytest.fixture(scope="module")
def quality_net():
    return models.build("quality_net", filters=SMALL)


def test_diet_is_noisy_enhanced_and_some_clean_of_the_same_piece(rows):
    pairs = surrogate.diet(rows, 1, exponents=(0.5, 1.0), clean_share=1.0, crop_s=0.5)
    assert [pair.exponent for pair in pairs[::3]] == [0.0] * len(rows)
    assert {pair.exponent for pair in pairs[1::3]} == {0.5, 1.0}
    assert {pair.exponent for pair in pairs[2::3]} == {surrogate.CLEAN}
    assert all(a.row == b.row == c.row and a.used_samples == 8000 for a, b, c in zip(*[iter(pairs)] * 3, strict=True))


def test_a_row_is_cut_alike_whichever_rows_stand_beside_it(rows):
    assert surrogate.diet(rows[5:6], 1, crop_s=0.5) == [p for p in surrogate.diet(rows, 1, crop_s=0.5) if p.row.id == rows[5].id]


def test_labels_are_pesq_of_what_the_pair_stands_for_and_are_kept(rows, enhancer, tmp_path):
    from se_keras import metrics

    pairs = [surrogate.Pair(rows[0], exponent) for exponent in (0.0, 1.0, 0.5, surrogate.CLEAN)]
    with Scorer(["pesq_raw"], cache=tmp_path, workers=1) as scorer:
        true = surrogate.label(pairs, [enhancer], scorer)
        again = surrogate.label(pairs, [enhancer], scorer)
    noisy, clean = mixing.pair(rows[0])
    pesq = metrics.get("pesq_raw").function
    expected = [pesq(clean, noisy), *(pesq(clean, enhancer.enhance([noisy], exponent)[0]) for exponent in (1.0, 0.5)), 4.5]
    np.testing.assert_allclose(true, expected, atol=1e-4)
    np.testing.assert_array_equal(true, again)


def test_pairs_without_a_score_are_left_out_and_none_at_all_is_an_error(rows, capsys):
    pairs = surrogate.diet(rows[:2], 0, clean_share=0)
    kept, values = surrogate.known(pairs, np.array([np.nan, 2.0], np.float32))
    assert kept == pairs[1:] and values == [2.0] and "1 of 2 pairs" in capsys.readouterr().out
    with pytest.raises(UserError, match="refused every pair"):
        surrogate.known(pairs, np.array([np.nan, np.nan], np.float32))


@pytest.mark.parametrize("representation", ["mask", "wave"])
def test_enhanced_is_the_same_thing_in_training_scoring_and_fine_tuning(rows, enhancer, quality_net, representation):
    """A Quality-Net's batch, its prediction for a system and the combined model must see one and the same spectrogram."""
    row = rows[0]
    predictor = surrogate.QualityPredictor(quality_net, representation=representation)
    by_system = predictor(enhancer, [row])[0]
    feed = surrogate.QualityFeed([surrogate.Pair(row, 1.0)], [0.5], [enhancer], 1, representation=representation)
    x, _ = surrogate.quality_batch(next(feed.batches(0, 1)))
    by_feed = surrogate.score_to_pesq(float(np.asarray(quality_net(x))[0, 0]))
    assert by_system == pytest.approx(by_feed, abs=1e-4)
    if representation == "wave":
        noisy, clean = mixing.pair(row)
        assert by_system == pytest.approx(predictor.predict_raw([(enhancer.enhance([noisy])[0], clean)])[0], abs=1e-4)
    assert row.samples % 256 == 0  # in batches, the combined model's wave is a whole number of hops
    combined = surrogate.combined_model(enhancer.network, quality_net, representation)
    batch, _ = surrogate.combined_batch(spectrogram_batch([mixing.pair(row)]))
    assert surrogate.score_to_pesq(float(np.asarray(combined(batch))[0, 0])) == pytest.approx(by_system, abs=1e-4)


def test_a_power_of_zero_is_the_noisy_speech_and_clean_is_clean(rows, enhancer):
    pairs = [surrogate.Pair(rows[0], 0.0), surrogate.Pair(rows[0], surrogate.CLEAN)]
    batch = next(surrogate.QualityFeed(pairs, [0, 1], [enhancer], 2, seed=0).batches(0, 1))
    order = np.argsort(batch["score"])
    noisy, clean = (magnitude(stft(wave)) for wave in mixing.pair(rows[0]))
    frames = len(noisy)
    np.testing.assert_allclose(batch["degraded"][order[0], :frames], noisy, atol=1e-6)
    np.testing.assert_allclose(batch["degraded"][order[1], :frames], clean, atol=1e-6)


def test_a_predicted_score_does_not_depend_on_its_batchmates(rows, quality_net):
    predictor = surrogate.QualityPredictor(quality_net)
    waves = [mixing.pair(row) for row in (rows[0], rows[-1])]
    assert len(waves[0][0]) != len(waves[1][0])
    together = predictor.predict_raw(waves)
    assert together == pytest.approx([predictor.predict_raw([pair])[0] for pair in waves], abs=1e-5)


def test_scores_map_between_pesq_and_the_unit_interval():
    assert surrogate.pesq_to_score(4.5) == 1.0 and surrogate.pesq_to_score(-0.5) == 0.0
    assert surrogate.score_to_pesq(surrogate.pesq_to_score(2.37)) == pytest.approx(2.37)


@pytest.mark.parametrize("representation", ["mask", "wave"])
def test_digital_silence_gives_finite_gradients(representation):
    """STYLE.md of the references: the gradient of sqrt(re^2 + im^2) at silence is not a number. Here a step on it stays finite."""
    import keras

    from se_keras import training

    network = models.build("dnn", units=4)
    combined = surrogate.combined_model(network, models.build("quality_net", filters=SMALL), representation)
    training.compile_model(combined, keras.optimizers.RMSprop(1e-3), surrogate.quality_objective)
    silent = np.zeros((1, 40, 257, 2), np.float32)
    loss = combined.train_on_batch({"noisy": silent, "clean": silent, "frame_mask": np.ones((1, 40), bool)}, np.ones((1, 1), np.float32))
    assert np.isfinite(loss) and all(np.isfinite(weight).all() for weight in network.get_weights())
