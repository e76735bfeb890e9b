"""The hearing model: known answers, invariances, silence, and that it follows the pesq package, to which it is a stranger."""

import numpy as np
import pytest
from conftest import noise, speech_like, value_and_gradient

from se_keras import metrics
from se_keras.errors import UserError
from se_keras.hearing import bark, model
from se_keras.metrics.pesq import raw_to_nb
from se_keras.signals.stft import magnitude, stft

CLEAN = speech_like(2.0, 1)


def heard(clean, degraded):
    """Magnitudes and mask of two waves, a batch of one."""
    pair = [magnitude(stft(wave))[None] for wave in (clean, degraded)]
    return *pair, np.ones(pair[0].shape[:2], bool)


def score(clean, degraded, band="nb", **options):
    pair = heard(clean, degraded)
    return float(model.score(model.hear(*pair, band, **options), pair[2])[0])


def test_bark_bands_are_those_of_the_public_ports(golden):
    """Golden: asteroid's 16 kHz matrix, which holds the constant part too; here bin 0 is heard by no band."""
    with np.load(golden / "bark_matrix_16k.npz") as stored:
        expected = next(stored[name] for name in stored.files if stored[name].size == 257 * 49).reshape(257, 49)
    np.testing.assert_allclose(bark.matrix(constant=True) / bark.POWER_SCALE, expected, rtol=1e-5)
    assert bark.matrix()[0].sum() == bark.matrix()[256].sum() == 0
    assert bark.WIDTH.sum() == pytest.approx(21.335651, rel=1e-5)


def test_the_handset_passes_1_khz_as_it_is_and_no_bass():
    handset, high_pass = model.response_of("nb"), model.response_of("wb")
    assert handset[32] == pytest.approx(1, rel=1e-6)  # bin 32 is 1 kHz
    assert handset[1] < 1e-4 and handset[129:].max() < 1e-12  # 31 Hz, and above 4 kHz
    assert high_pass[0] == 0 and high_pass[1] < 0.01 * high_pass[32]
    np.testing.assert_array_equal(model.response_of(None), 1)


@pytest.mark.parametrize("band", model.BANDS)
def test_equal_signals_are_perfect(band):
    assert score(CLEAN, CLEAN, band) == pytest.approx(4.5, abs=0.02)  # roots are kept from zero: 4.487


@pytest.mark.parametrize("band", model.BANDS)
def test_level_does_not_matter(band):
    noisy = CLEAN + 0.3 * noise(2.0)
    expected = score(CLEAN, noisy, band)
    assert expected < 3.5
    for gains in ((0.01, 1), (1, 0.01), (50, 3)):
        assert score(gains[0] * CLEAN, gains[1] * noisy, band) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("band", model.BANDS)
def test_more_noise_is_worse(band):
    scores = [score(CLEAN, CLEAN + gain * noise(2.0), band) for gain in (0.03, 0.1, 0.3, 1.0)]
    assert scores == sorted(scores, reverse=True) and scores[0] - scores[-1] > 1


def test_it_follows_pesq_without_having_learned():
    """Raw P.862 of a few mixtures, from the pesq package; docs/results.md has the agreement on real speech."""
    pairs = [(speech_like(3.0, seed), speech_like(3.0, seed) + gain * noise(3.0, seed)) for seed in range(3) for gain in (0.1, 0.4, 1.2)]
    true = [metrics.evaluate(("pesq_raw",), *pair)["pesq_raw"] for pair in pairs]
    ours = [score(*pair) for pair in pairs]
    assert np.corrcoef(true, ours)[0, 1] > 0.9 and raw_to_nb(4.5) > 4.5


@pytest.mark.parametrize("band", model.BANDS)
def test_padding_and_company_change_nothing(band):
    waves = [(speech_like(seconds, seed), speech_like(seconds, seed) + 0.2 * noise(seconds)) for seconds, seed in ((0.5, 2), (1.3, 3))]
    alone = [score(*pair, band) for pair in waves]
    longest = 130
    clean, degraded = np.zeros((2, longest, 257), np.float32), np.full((2, longest, 257), 9.0, np.float32)
    mask = np.zeros((2, longest), bool)
    for i, pair in enumerate(waves):
        c, d, own = heard(*pair)
        frames = own.shape[1]
        clean[i, :frames], degraded[i, :frames], mask[i, :frames] = c[0], d[0], True
    np.testing.assert_allclose(model.score(model.hear(clean, degraded, mask, band), mask), alone, atol=1e-3)


def test_gain_over_time_is_smoothed_like_the_recursion():
    """s_t = 0.8 g_t + 0.2 s_(t-1), s_(-1) = 1."""
    rng = np.random.default_rng(0)
    reference, degraded = (1e5 * rng.random((1, 40, bark.BANDS)).astype(np.float32) for _ in range(2))
    expected, last = [], 1.0
    for r, d in zip(reference[0], degraded[0], strict=True):
        audible = [power[power > bark.THRESHOLD].sum() for power in (r, d)]
        last = 0.8 * (audible[0] + 5000) / (audible[1] + 5000) + 0.2 * last
        expected.append(np.clip(last, 3e-4, 5))
    np.testing.assert_allclose(np.asarray(model.gain(reference, degraded))[0, :, 0], expected, rtol=1e-4)


def test_over_time_by_hand():
    """25 frames: groups from 0, 10 and 20; a disturbance of 1 in frame 0 alone, then in all of them."""
    mask = np.ones((2, 25), bool)
    values = np.zeros((2, 25), np.float32)
    values[0, 0], values[1] = 1, 1
    silent = 1e-6 ** (1 / 6)  # what keeps the root from zero
    groups = [(1 / 20) ** (1 / 6), silent, silent], [1, (15 / 20) ** (1 / 6), (5 / 20) ** (1 / 6)]
    np.testing.assert_allclose(model.over_time(values, mask), [np.sqrt(np.mean(np.square(group))) for group in groups], rtol=1e-3)


@pytest.mark.parametrize("through", [True, False])
@pytest.mark.parametrize("band", model.BANDS)
@pytest.mark.parametrize("case", ["digital silence", "one frame", "mask of zeros", "clean of zeros", "as usual"])
def test_gradients_are_finite(case, band, through):
    clean, noisy, own = heard(CLEAN[:8000], CLEAN[:8000] + 0.1 * noise(0.5))
    if case == "digital silence":
        clean[:], noisy[:] = 0, 0
    elif case == "clean of zeros":
        clean[:] = 0
    elif case == "one frame":
        clean, noisy, own = clean[:, 7:8], noisy[:, 7:8], own[:, 7:8]
    mask = np.full(noisy.shape, 0.0 if case == "mask of zeros" else 0.5, np.float32)
    value, gradient = value_and_gradient(lambda mask: model.score(model.hear(clean, noisy * mask, own, band, through), own), mask)
    assert np.isfinite(value).all() and np.isfinite(gradient).all()
    assert case != "as usual" or np.abs(gradient).max() > 0


def test_without_the_gradient_through_equalisation_the_score_is_the_same():
    noisy = CLEAN + 0.3 * noise(2.0)
    assert score(CLEAN, noisy, through_equalisation=False) == score(CLEAN, noisy)


def test_an_unknown_band():
    with pytest.raises(UserError, match="unknown band 'fm'; known: nb, wb"):
        score(CLEAN, CLEAN, "fm")
