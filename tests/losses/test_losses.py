"""Losses: known values, one an utterance, no padding and no level in them, gradients at silence."""

import numpy as np
import pytest
from conftest import value_and_gradient

from se_keras.errors import UserError
from se_keras.losses.mse import mse
from se_keras.losses.quality import frame_weighted_loss, quality, quality_linear, score_loss
from se_keras.signals.magnitudes import COMPRESSIONS

RNG = np.random.default_rng(0)
LENGTHS = (3, 7, 10)
MASK = np.arange(10) < np.array(LENGTHS)[:, None]
CLEAN, ENHANCED, NOISY = (RNG.gamma(1.0, 1.0, (3, 10, 5)).astype(np.float32) * MASK[..., None] for _ in range(3))


@pytest.mark.parametrize("shape", [(3, 1), (3,)])
def test_quality_loss_is_the_squared_distance_from_perfect(shape):
    """(1 - Q)^2: 0 for a perfect score, 1 for a score of 0, and again above 1."""
    scores = np.array([1.0, 0.0, 1.5], np.float32).reshape(shape)
    np.testing.assert_allclose(quality(scores), [0, 1, 0.25])
    np.testing.assert_allclose(quality_linear(scores), [0, 1, -0.5])


@pytest.mark.parametrize("how", COMPRESSIONS)
def test_nothing_wrong_is_no_loss(how):
    np.testing.assert_array_equal(mse(CLEAN, CLEAN, MASK, NOISY, how), [0, 0, 0])


def test_known_values():
    """Noisy speech of level 2: an error of 2 in every value is 1 of its level, squared 1; in log1p, from 0 to ln 2."""
    noisy, mask = np.full((1, 4, 3), 2, np.float32), np.ones((1, 4), bool)
    np.testing.assert_allclose(mse(noisy, 2 * noisy, mask, noisy, "magnitude"), [1], rtol=1e-6)
    np.testing.assert_allclose(mse(0 * noisy, noisy, mask, noisy), [np.log(2) ** 2], rtol=1e-6)
    half = noisy * np.array([[1, 0, 1, 0]], np.float32)[..., None]  # half of the frames wrong is half of the error
    np.testing.assert_allclose(mse(0 * noisy, half, mask, noisy), [np.log(2) ** 2 / 2], rtol=1e-6)


@pytest.mark.parametrize("how", COMPRESSIONS)
def test_an_utterance_alone_and_in_a_padded_batch(how):
    together = np.asarray(mse(CLEAN, ENHANCED, MASK, NOISY, how))
    assert together.shape == (3,) and together.dtype == np.float32 and (together > 0).all()
    for i, n in enumerate(LENGTHS):
        alone = mse(*(signal[i:i + 1, :n] for signal in (CLEAN, ENHANCED, MASK, NOISY)), how)
        np.testing.assert_allclose(alone, together[i:i + 1], rtol=1e-5)
    garbage = [np.where(MASK[..., None], signal, value).astype(np.float32) for signal, value in ((CLEAN, 7), (ENHANCED, 70), (NOISY, 700))]
    np.testing.assert_allclose(mse(garbage[0], garbage[1], MASK, garbage[2], how), together, rtol=1e-5)


@pytest.mark.parametrize("how", COMPRESSIONS)
@pytest.mark.parametrize("gain", [0.1, 10])
def test_a_loud_recording_weighs_no_more_than_a_quiet_one(how, gain):
    gain = np.float32(gain)
    louder = mse(gain * CLEAN, gain * ENHANCED, MASK, gain * NOISY, how)
    np.testing.assert_allclose(louder, mse(CLEAN, ENHANCED, MASK, NOISY, how), rtol=1e-4)


def test_an_unknown_compression():
    with pytest.raises(UserError, match="unknown compression 'cube'; known: magnitude, log1p, log, root"):
        mse(CLEAN, ENHANCED, MASK, NOISY, "cube")


@pytest.mark.parametrize("how", COMPRESSIONS)
def test_gradients_are_finite_where_there_is_silence(how):
    noisy = NOISY.copy()
    noisy[0] = 0  # a whole utterance of it
    noisy[1, 2:4] = 0
    _, gradient = value_and_gradient(lambda mask: mse(0 * CLEAN, noisy * mask, MASK, noisy, how), np.full(noisy.shape, 0.5, np.float32))
    assert np.isfinite(gradient).all()
    assert (gradient[1, :2] > 0).all() and (gradient[1, 2:4] == 0).all() and (gradient[~MASK] == 0).all()


def test_score_loss_is_the_squared_error_and_that_of_differences():
    """By hand: errors 0.1, 0.3 | -0.2, -0.2. Mean square 0.045; variances 0.02 and 0."""
    target = np.float32([0.5, 0.5, 0.6, 0.4])
    score = target + np.float32([0.1, 0.3, -0.2, -0.2])
    assert float(score_loss(score[:, None], target[:, None])) == pytest.approx(0.045, rel=1e-5)
    assert float(score_loss(score, target, siblings=2, contrast=0)) == pytest.approx(0.045, rel=1e-5)
    assert float(score_loss(score, target, siblings=2, contrast=3)) == pytest.approx(0.045 + 3 * 0.01, rel=1e-5)
    assert float(score_loss(target + 0.25, target, siblings=2, contrast=3)) == pytest.approx(0.0625, rel=1e-5)  # one error: no difference


@pytest.mark.parametrize("shape", [(3, 1), (3,)])
def test_frame_weighted_loss_by_hand(shape):
    """Frames weigh 1 where the speech is perfect, a hundredth at 2.5, a hundred-thousandth at the worst score of -0.5."""
    target = np.float32([4.5, 2.5, -0.5]).reshape(shape)
    score = target + np.float32([0.5, 0, 1]).reshape(shape)
    frame_scores = np.float32([[4.5, 3.5], [3.5, 5.5], [-0.5, 0.5]])  # mean squared distance 0.5, 5, 0.5
    everything = np.ones((3, 2), bool)
    np.testing.assert_allclose(frame_weighted_loss(score, frame_scores, target, everything), [0.75, 0.05, 1 + 0.5e-5], rtol=1e-5)
    np.testing.assert_array_equal(frame_weighted_loss(target, target.reshape(3, 1) + np.zeros((3, 2), np.float32), target, everything), 0)


def test_frame_weighted_loss_leaves_padding_out():
    score, target = RNG.uniform(-0.5, 4.5, (2, 3, 1)).astype(np.float32)
    frame_scores = RNG.uniform(-0.5, 4.5, MASK.shape).astype(np.float32)
    together = np.asarray(frame_weighted_loss(score, frame_scores, target, MASK))
    assert together.shape == (3,) and together.dtype == np.float32
    for i, n in enumerate(LENGTHS):
        alone = frame_weighted_loss(score[i:i + 1], frame_scores[i:i + 1, :n], target[i:i + 1], MASK[i:i + 1, :n])
        np.testing.assert_allclose(alone, together[i:i + 1], rtol=1e-5)
    garbage = np.where(MASK, frame_scores, np.float32(99))
    np.testing.assert_allclose(frame_weighted_loss(score, garbage, target, MASK), together, rtol=1e-5)
