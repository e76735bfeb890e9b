"""Losses as sums of terms: the grammar, its errors, what a term hears, and its value in a training model."""

import keras
import numpy as np
import pytest
from conftest import speech_like, value_and_gradient

from se_keras import losses, models
from se_keras.enhancers.magnitude_mask import MaskEnhancer
from se_keras.errors import UserError
from se_keras.judges.surrogate import QualityPredictor
from se_keras.losses.mse import mse
from se_keras.losses.si_snr import si_sdr, si_snr
from se_keras.metrics.si_sdr import si_sdr as true_si_sdr
from se_keras.mixtures.feed import spectrogram_batch
from se_keras.signals.stft import Stft, magnitude
from se_keras.training.objective import objective_batch, objective_model, term_means, weighted_mean


@pytest.mark.parametrize(("text", "canonical"), [
    ("mse", "mse:1"), ("mse:1", "mse:1"), ("mse:3,si_sdr:0.1", "mse:3,si_sdr:0.1"), (" quality:1 , mse[magnitude]:0.5 ",
                                                                                    "quality:1,mse[magnitude]:0.5"),
    ("quality_linear,si_snr:1e-3", "quality_linear:1,si_snr:0.001")])
def test_text(text, canonical):
    objective = losses.parse(text)
    assert objective.text == canonical and losses.parse(canonical) == objective
    assert objective.asks_judge == ("quality" in text)


def test_a_compression_may_be_said_apart():
    assert losses.parse("mse:2,si_sdr", compression="root").text == "mse[root]:2,si_sdr:1"
    assert losses.parse("mse[log]", compression="root").text == "mse[log]:1"  # what the brackets say wins
    assert losses.parse("mse", compression="log1p").text == "mse:1"


@pytest.mark.parametrize(("text", "message"), [
    ("", "a term is empty; expected terms with weights such as mse:3,si_sdr:0.1; known terms: mse, quality, quality_linear, si_snr"),
    ("mse,,si_sdr", "a term is empty"), ("pesq:1", "unknown term 'pesq'; known terms: mse, quality"),
    ("mse:much", "mse has the weight 'much'"), ("mse:0", "expected a number above 0"), ("mse:-1", "expected a number above 0"),
    ("mse:nan", "mse has the weight 'nan'"),
    ("mse,mse:2", "mse stands twice"), ("mse[cube]:1", "unknown compression of mse 'cube'; known: magnitude, log1p, log, root"),
    ("si_sdr[log]", "si_sdr has no option"), ("my.module:f", "unknown term 'my.module:f'; known terms:")])
def test_what_is_no_loss(text, message):
    with pytest.raises(UserError) as error:
        losses.parse(text)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_judges_term_needs_a_judge():
    with pytest.raises(UserError, match="quality_linear is a Quality-Net's score, and none is named; add --quality-net .*known terms: mse"):
        losses.parse("mse:1,quality_linear:1", judge=False)


def test_a_term_may_name_its_judge():
    objective = losses.parse("hearing_nb[stopped]:1,quality[runs/dnsmos-net]:2,quality_linear[quality-net],quality", judge=True)
    assert objective.judges == ["runs/dnsmos-net", "quality-net"] and objective.asks_judge
    assert losses.parse(objective.text) == objective
    assert not losses.parse("quality[quality-net]", judge=False).asks_judge
    with pytest.raises(UserError, match="names no judge"):
        losses.parse("quality[]:1")


def test_each_judge_is_asked_for_its_own_score(system, batch):
    keras.utils.set_random_seed(3)
    judges = {name: QualityPredictor(models.build("quality_net", filters=[[2, 5]])) for name in ("one", "two")}
    x, _ = objective_batch(batch)
    values = np.asarray(objective_model(system, losses.parse("quality_linear[two],quality_linear[one]"), judges=judges)(x))
    for column, name in ((1, "one"), (0, "two")):
        alone = objective_model(system, losses.parse("quality_linear"), judges[name])(x)
        np.testing.assert_allclose(values[:, column], np.asarray(alone)[:, 0], atol=1e-6)
    assert not np.allclose(values[:, 0], values[:, 1])


def test_si_sdr_is_the_metric_and_si_snr_that_without_means():
    clean = np.stack([speech_like(0.3, 1), speech_like(0.3, 2)])
    enhanced = 0.5 * clean + 0.05 * np.random.default_rng(0).standard_normal(clean.shape).astype(np.float32)
    every = np.ones(clean.shape, bool)
    expected = [true_si_sdr(*pair) for pair in zip(clean, enhanced, strict=True)]
    np.testing.assert_allclose(-np.asarray(si_sdr(clean, enhanced, every)), expected, atol=1e-3)
    without = [true_si_sdr(c - c.mean(), e - e.mean()) for c, e in zip(clean, enhanced, strict=True)]
    np.testing.assert_allclose(-np.asarray(si_snr(clean, enhanced + 0.1, every)), without, atol=1e-2)
    np.testing.assert_allclose(si_sdr(clean, 7 * enhanced, every), si_sdr(clean, enhanced, every), atol=1e-3)  # gain does not matter
    for term in (si_sdr, si_snr):  # alone and in a padded batch
        padded = [np.pad(wave, [(0, 0), (0, 500)]) for wave in (clean, enhanced, every)]
        np.testing.assert_allclose(term(*padded), term(clean, enhanced, every), atol=1e-3)
    perfect = np.asarray(si_sdr(clean, clean, every))
    assert (perfect < -70).all() and np.isfinite(perfect).all()


def test_silence_has_finite_values_and_gradients():
    for clean in (np.zeros((1, 800), np.float32), speech_like(0.05, 1)[None]):
        for term in (si_sdr, si_snr):
            value, gradient = value_and_gradient(lambda enhanced, clean=clean, term=term: term(clean, enhanced, np.ones((1, 800), bool)),
                                                 np.zeros((1, 800), np.float32))
            assert np.isfinite(value).all() and np.isfinite(gradient).all()


@pytest.fixture(scope="module")
def system():
    keras.utils.set_random_seed(0)
    return MaskEnhancer(models.build("dnn", units=8, context=1))


@pytest.fixture(scope="module")
def batch():
    clean = [speech_like(seconds, seed) for seed, seconds in ((1, 0.512), (2, 0.32))]
    rng = np.random.default_rng(5)
    return spectrogram_batch([(wave + 0.05 * rng.standard_normal(len(wave)).astype(np.float32), wave) for wave in clean])


def test_every_term_hears_what_it_should(system, batch):
    """The training model's values are those of the functions on what the enhancer gives, wave by wave."""
    objective = losses.parse("mse[log]:3,si_sdr:0.1,quality:2,quality_linear:1")
    judge = QualityPredictor(models.build("quality_net", filters=[[2, 5]]))
    x, y = objective_batch(batch)
    values = np.asarray(objective_model(system, objective, judge)(x))
    outputs = system.model([batch["noisy"], batch["frame_mask"]])
    np.testing.assert_allclose(values[:, 0], mse(magnitude(batch["clean"]), outputs["magnitude"], batch["frame_mask"],
                                                 magnitude(batch["noisy"]), "log"), rtol=1e-5)
    from se_keras.signals.stft import istft

    for i, frames in enumerate(batch["frame_mask"].sum(axis=1)):
        noisy, clean = (istft(batch[name][i, :frames], (frames - 1) * 256) for name in ("noisy", "clean"))
        enhanced, = system.enhance([noisy])
        assert values[i, 1] == pytest.approx(-true_si_sdr(clean, enhanced), abs=0.02)
    score = np.asarray(judge.network([np.asarray(outputs["magnitude"]), magnitude(batch["clean"]), batch["frame_mask"]]))[:, 0]
    np.testing.assert_allclose(values[:, 2:], np.stack([(1 - score) ** 2, 1 - score], axis=1), atol=1e-5)
    model = objective_model(system, objective, judge)
    model.compile(keras.optimizers.SGD(0.0), weighted_mean(objective), metrics=term_means(objective))
    said = model.train_on_batch(x, y, return_dict=True)
    assert said["loss"] == pytest.approx(values.mean(axis=0) @ [3, 0.1, 2, 1], rel=1e-4)
    assert {name: said[name] for name in objective.weights} == pytest.approx(dict(zip(objective.weights, values.mean(axis=0), strict=True)),
                                                                              rel=1e-4)


@pytest.mark.parametrize("other", [Stft(512, 128, "hann"), Stft(512, 100, "hann", 400, False), Stft(320, 160, "sqrt_hann")], ids=repr)
def test_a_judge_with_another_stft_hears_the_wave(system, batch, other):
    """The score in training is that of the enhanced wave's own spectrogram under the judge's STFT."""
    judge = QualityPredictor(models.build("quality_net", bins=other.bins, filters=[[2, 5]]), other)
    values = np.asarray(objective_model(system, losses.parse("quality_linear"), judge)(objective_batch(batch)[0]))
    from se_keras.signals.stft import istft

    for i, frames in enumerate(batch["frame_mask"].sum(axis=1)):
        noisy, clean = (istft(batch[name][i, :frames], (frames - 1) * 256) for name in ("noisy", "clean"))
        predicted, = judge.predict_waves([(system.enhance([noisy])[0], clean)])
        assert judge.target.from_score(1 - values[i, 0]) == pytest.approx(predicted, abs=5e-3)
