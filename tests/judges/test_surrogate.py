"""What Quality-Net is shown, what it predicts, and the enhancer behind it."""

import dataclasses

import numpy as np
import pytest

from se_keras import losses, models
from se_keras.enhancers.magnitude_mask import MaskEnhancer
from se_keras.errors import UserError
from se_keras.judges import surrogate
from se_keras.judges.diet import Pair, diet, pair_estimates
from se_keras.losses.quality import frame_weighted_loss
from se_keras.mixtures.feed import spectrogram_batch
from se_keras.models.quality_net_2018 import as_quality_net
from se_keras.signals import mixing
from se_keras.signals.stft import Stft, magnitude, stft
from se_keras.training.objective import objective_batch, objective_model, weighted_mean

SMALL = ((2, 5), (3, 9))


@pytest.fixture(scope="module")
def quality_net():
    return models.build("quality_net", filters=SMALL)


@pytest.mark.parametrize("siblings", [1, 2, 3])
def test_a_batch_holds_siblings_of_each_mixture_and_their_own_scores(rows, enhancer, siblings):
    pairs = diet(rows[:6], 1, perturbed=2, clean_share=0.5, crop_s=0.5)
    feed = surrogate.QualityFeed(pairs, np.arange(len(pairs)), [enhancer], 2 * siblings, siblings=siblings)
    mixtures, drawn = [], []
    for k, batch in enumerate(feed.batches(0, 2 * feed.batches_per_epoch)):
        indices = feed.indices(k)
        np.testing.assert_array_equal(batch["score"], indices)
        for family in indices.reshape(-1, siblings):
            assert len({pairs[i].row for i in family}) == 1 and len(set(family)) == siblings
            mixtures.append(pairs[family[0]].row)
        drawn.append(tuple(indices))
        chosen = [pairs[i] for i in indices]
        spectra = [tuple(stft(wave) for wave in mixing.pair(pair.row)) for pair in chosen]
        shown = surrogate.see(chosen, spectra, pair_estimates(chosen, spectra, [enhancer], Stft()))
        for i, (degraded, clean) in enumerate(shown):
            np.testing.assert_allclose(batch["degraded"][i, :len(degraded)], degraded, atol=1e-5)
            np.testing.assert_allclose(batch["clean"][i, :len(clean)], clean, atol=1e-5)
    assert len(set(mixtures[:6])) == len(set(mixtures[6:])) == 6  # each once an epoch
    assert len(set(drawn)) > feed.batches_per_epoch               # and not with the same siblings in the next one


@pytest.mark.parametrize("representation", ["mask", "wave"])
def test_enhanced_is_the_same_thing_in_training_scoring_and_fine_tuning(rows, enhancer, quality_net, representation):
    """A Quality-Net's batch, its prediction for a system and the combined model must see one and the same spectrogram."""
    row = dataclasses.replace(rows[0], length=17_000)  # no whole number of hops
    predictor = surrogate.QualityPredictor(quality_net, representation=representation)
    by_system = predictor(enhancer, [row])[0]
    feed = surrogate.QualityFeed([Pair(row, "enhanced")], [0.5], [enhancer], 1, representation=representation)
    x, _ = surrogate.quality_batch(next(feed.batches(0, 1)))
    by_feed = surrogate.PESQ.from_score(float(np.asarray(quality_net(x))[0, 0]))
    assert by_system == pytest.approx(by_feed, abs=1e-4)
    if representation == "wave":
        noisy, clean = mixing.pair(row)
        by_wave = predictor.predict_waves([(enhancer.enhance([noisy])[0], clean)])[0]
        assert by_system == pytest.approx(by_wave, abs=0.01)  # but for the last hop, which a wave has in part
    combined = surrogate.combined_model(enhancer, predictor)
    for company in ([], [rows[-1]]):  # alone, and padded beside a longer one
        batch, _ = objective_batch(spectrogram_batch([mixing.pair(each) for each in (row, *company)]))
        assert surrogate.PESQ.from_score(float(np.asarray(combined(batch))[0, 0])) == pytest.approx(by_system, abs=1e-4)


def test_the_one_without_a_reference_sees_the_same_everywhere(rows, enhancer):
    """Feed, prediction for a system, for a recording at any level, and the combined model: one spectrogram, of a wave with peak 1."""
    network = models.build("quality_net_2018", units=3, dense_units=4, dropout=0.0)
    judge = as_quality_net(network)
    predictor = surrogate.QualityPredictor(judge, representation="peak")
    assert not predictor.needs_reference
    row = dataclasses.replace(rows[0], length=16_384)  # whole hops: a wave and its spectrum are the same thing
    noisy, _ = mixing.pair(row)
    by_system = predictor(enhancer, [row])[0]
    enhanced, = enhancer.enhance([noisy])
    assert predictor.predict_waves([(gain * enhanced, None) for gain in (0.1, 1, 10)]) == pytest.approx([by_system] * 3, abs=1e-3)
    feed = surrogate.QualityFeed([Pair(row, "enhanced"), Pair(row, "noisy")], [0.5, 0.4], [enhancer], 2, representation="peak", siblings=2)
    batch = next(feed.batches(0, 1))
    x, _ = surrogate.quality_batch(batch)
    by_feed = surrogate.PESQ.from_score(np.asarray(judge(x))[:, 0])[np.argsort(-batch["score"])]
    assert by_feed == pytest.approx([by_system, predictor.predict_waves([(noisy, None)])[0]], abs=1e-3)
    combined = surrogate.combined_model(enhancer, predictor)
    for company in ([], [rows[-1]]):
        alone, _ = objective_batch(spectrogram_batch([mixing.pair(each) for each in (row, *company)]))
        assert surrogate.PESQ.from_score(float(np.asarray(combined(alone))[0, 0])) == pytest.approx(by_system, abs=1e-3)


def test_the_one_without_a_reference_learns_by_its_frames(rows, enhancer):
    """The training model's output is the 2018 loss of the network's own answers, in raw PESQ."""
    network = models.build("quality_net_2018", units=3, dense_units=4, dropout=0.0)
    feed = surrogate.QualityFeed([Pair(rows[0], "noisy"), Pair(rows[-1], "noisy")], [0.5, 0.9], [enhancer], 2, representation="peak")
    batch = next(feed.batches(0, 1))
    x, _ = surrogate.frame_batch(batch)
    outputs = network([x["degraded"], x["frame_mask"], np.ones((2, 1), np.float32)])
    expected = frame_weighted_loss(outputs["score"], outputs["frame_scores"], batch["score"] * 5 - 0.5, x["frame_mask"])
    np.testing.assert_allclose(surrogate.frame_model(network, surrogate.PESQ)(x), expected, rtol=1e-5)


def test_noisy_is_the_noisy_speech_and_clean_is_clean(rows, enhancer):
    pairs = [Pair(rows[0], "noisy"), Pair(rows[0], "clean")]
    batch = next(surrogate.QualityFeed(pairs, [0, 1], [enhancer], 2, siblings=2).batches(0, 1))
    order = np.argsort(batch["score"])
    noisy, clean = (magnitude(stft(wave)) for wave in mixing.pair(rows[0]))
    frames = len(noisy)
    np.testing.assert_allclose(batch["degraded"][order[0], :frames], noisy, atol=1e-6)
    np.testing.assert_allclose(batch["degraded"][order[1], :frames], clean, atol=1e-6)


def test_a_predicted_score_does_not_depend_on_its_batchmates(rows, quality_net):
    predictor = surrogate.QualityPredictor(quality_net)
    waves = [mixing.pair(row) for row in (rows[0], rows[-1])]
    assert len(waves[0][0]) != len(waves[1][0])
    together = predictor.predict_waves(waves)
    assert together == pytest.approx([predictor.predict_waves([pair])[0] for pair in waves], abs=1e-5)


@pytest.mark.parametrize("representation", ["mask", "wave", "peak"])
def test_digital_silence_gives_finite_gradients(representation):
    """STYLE.md of the references: the gradient of sqrt(re^2 + im^2) at silence is not a number. Here a step on it stays finite."""
    import keras

    from se_keras.training import loop

    network = models.build("dnn", units=4)
    judge = surrogate.QualityPredictor(models.build("quality_net", filters=SMALL), representation=representation)
    objective = losses.parse("quality:1,mse:1,si_snr:0.1,si_sdr:0.1")
    model = objective_model(MaskEnhancer(network), objective, judge)
    loop.compile_model(model, keras.optimizers.RMSprop(1e-3), weighted_mean(objective))
    silent = np.zeros((1, 40, 257, 2), np.float32)
    loss = model.train_on_batch(*objective_batch({"noisy": silent, "clean": silent, "frame_mask": np.ones((1, 40), bool)}))
    assert np.isfinite(loss) and all(np.isfinite(weight).all() for weight in network.get_weights())


def test_a_feed_goes_on_bit_for_bit_where_it_was_left(rows, enhancer):
    """Masks are made for groups of batches; where a resumed training begins must not change a mixture's company in its group."""
    pairs = diet(rows, 1, perturbed=1)
    feed = surrogate.QualityFeed(pairs, np.arange(len(pairs)), [enhancer], 8, siblings=2)
    whole = list(feed.batches(0, 11))
    assert surrogate.CHUNK // feed.feed.batch_size == 8
    for start in (3, 8, 10):
        for expected, found in zip(whole[start:], feed.batches(start, 11), strict=True):
            for name in expected:
                np.testing.assert_array_equal(found[name], expected[name])


class Given:
    """Stands in for a scorer: raw PESQ by a function of the row's number in the order asked; None is a refusal."""

    names = ("pesq_raw",)

    def __init__(self, value):
        self.value = value

    def lookup(self, recipes, ids=None):
        return [{"pesq_raw": self.value(number), "error": None if self.value(number) is not None else "refused"}
                for number in range(len(recipes))]


def test_validation_of_quality_net(rows, enhancer, quality_net, monkeypatch):
    """Agreement over noisy and enhanced; the change by a perturbed mask apart; refused pairs left out."""
    count = len(rows)
    true = 2 + np.cos(np.arange(3 * count) ** 2)  # no trend
    validation = surrogate.QualityValidation(quality_net, rows, [enhancer], Given(lambda i: None if i == 2 else float(true[i])))
    predicted = true + 0.1 * np.sin(np.arange(3 * count))
    monkeypatch.setattr(validation.predictor, "network_scores", lambda magnitudes: surrogate.PESQ.to_score({"pesq_raw": predicted}))
    values = validation()
    kept = np.arange(2 * count) != 2
    errors = (predicted - true)[:2 * count][kept]
    assert values["valid_loss"] == pytest.approx(np.mean(errors ** 2) / 25, rel=1e-4)
    assert values["valid_rmse"] == pytest.approx(np.sqrt(np.mean(errors ** 2)), rel=1e-4)
    assert values["valid_rmse_enhanced"] == pytest.approx(np.sqrt(np.mean((predicted - true)[count:2 * count] ** 2)), rel=1e-4)
    changes = [v[2 * count:] - v[count:2 * count] for v in (true, predicted)]
    assert values["valid_lcc_change"] == pytest.approx(np.corrcoef(*changes)[0, 1], rel=1e-3)
    with pytest.raises(UserError, match="no validation pair has a score"):
        surrogate.QualityValidation(quality_net, rows[:2], [enhancer], Given(lambda i: None))
