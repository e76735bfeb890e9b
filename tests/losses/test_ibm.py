"""The ideal binary mask and the terms that compare a mask with it: known values, padding, silence, options, what they hear."""

import keras
import numpy as np
import pytest
from conftest import noisy_speech, speech_like, value_and_gradient
from keras import ops

from se_keras import losses, models
from se_keras.enhancers.binary_mask import BinaryMaskEnhancer
from se_keras.enhancers.complex_mapping import ComplexMappingEnhancer
from se_keras.enhancers.magnitude_mask import MaskEnhancer
from se_keras.errors import UserError
from se_keras.losses.ibm import check, ibm_bce, ibm_bce_dice, ibm_mse, ideal_binary_mask
from se_keras.mixtures.feed import spectrogram_batch
from se_keras.signals.stft import Stft
from se_keras.training.objective import objective_batch, objective_model

RNG = np.random.default_rng(0)
LENGTHS = (3, 7, 10)
MASK = np.arange(10) < np.array(LENGTHS)[:, None]
CLEAN, NOISE = (RNG.standard_normal((3, 10, 5, 2)).astype(np.float32) for _ in range(2))
NOISY = CLEAN + NOISE
SOFT = RNG.random((3, 10, 5)).astype(np.float32)
TERMS = (ibm_bce, ibm_mse, ibm_bce_dice)


def local_snr_db(clean, noise):
    return 20 * np.log10(np.linalg.norm(clean, axis=-1) / np.linalg.norm(noise, axis=-1))


@pytest.mark.parametrize("threshold", [0, -5, 6.5])
def test_the_mask_is_1_where_the_local_snr_is_above_the_threshold(threshold):
    ideal = ideal_binary_mask(CLEAN, NOISY, f"{threshold}dB")
    np.testing.assert_array_equal(ideal, local_snr_db(CLEAN, NOISE) > threshold)
    assert ideal.dtype == np.float32 and isinstance(ideal, np.ndarray) and ideal.shape == (3, 10, 5)


def test_the_ratio_of_real_parts():
    """|Re S| / |Re Y| of 0.4, 0.6, 0.9 and, where Re Y is small, more than 1; the sign and the imaginary part do not matter."""
    clean, noisy = np.zeros((1, 5, 2), np.float32), np.zeros((1, 5, 2), np.float32)
    clean[0, :, 0], noisy[0, :, 0] = (0.4, -0.6, 0.9, 1, 0), (1, 1, -1, 0.1, 0)
    noisy[..., 1] = 7
    assert ideal_binary_mask(clean, noisy, "ratio0.5").tolist() == [[0, 1, 1, 1, 0]]
    assert ideal_binary_mask(clean, noisy, "ratio0.8").tolist() == [[0, 0, 1, 1, 0]]


@pytest.mark.parametrize("criterion", ["0dB", "-5dB", "ratio0.5", "ratio.8"])
def test_numpy_and_the_backend_agree(criterion):
    tensors = ideal_binary_mask(ops.convert_to_tensor(CLEAN), ops.convert_to_tensor(NOISY), criterion)
    np.testing.assert_array_equal(ops.convert_to_numpy(tensors), ideal_binary_mask(CLEAN, NOISY, criterion))


def test_clean_speech_is_kept_and_silence_is_not_speech():
    assert ideal_binary_mask(CLEAN, CLEAN).all() and not ideal_binary_mask(0 * CLEAN, NOISE).any()
    for criterion in ("0dB", "ratio0.5"):
        assert not ideal_binary_mask(0 * CLEAN, 0 * CLEAN, criterion).any()


def test_known_values():
    """Two bins, one of speech: a mask of 1/2 costs ln 2 and 1/4; Dice (2 * 1/2 + 1) / (1 + 1 + 1) = 2/3. The ideal mask costs nothing."""
    clean = np.float32([[[[1, 0], [0, 0]]]])
    noisy, own = np.float32([[[[1, 0], [1, 0]]]]), np.ones((1, 1), bool)
    half, ideal = np.full((1, 1, 2), 0.5, np.float32), np.float32([[[1, 0]]])
    np.testing.assert_allclose(ibm_bce(clean, half, own, noisy), [np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(ibm_mse(clean, half, own, noisy), [0.25], rtol=1e-6)
    np.testing.assert_allclose(ibm_bce_dice(clean, half, own, noisy), [np.log(2) + 1 / 3], rtol=1e-6)
    for term in TERMS:
        np.testing.assert_allclose(term(clean, ideal, own, noisy), [0], atol=1e-6)
        assert float(term(clean, 1 - ideal, own, noisy)[0]) > 0.9  # and the opposite is the worst


@pytest.mark.parametrize("term", TERMS)
def test_an_utterance_alone_and_in_a_padded_batch(term):
    together = np.asarray(term(CLEAN, SOFT, MASK, NOISY, "-5dB"))
    assert together.shape == (3,) and together.dtype == np.float32 and (together > 0).all()
    for i, n in enumerate(LENGTHS):
        alone = term(*(x[i:i + 1, :n] for x in (CLEAN, SOFT, MASK, NOISY)), "-5dB")
        np.testing.assert_allclose(alone, together[i:i + 1], rtol=1e-5)
    garbage = [np.where(MASK.reshape(3, 10, *[1] * (x.ndim - 2)), x, value).astype(np.float32)
               for x, value in ((CLEAN, 7), (SOFT, 70), (NOISY, 700))]
    np.testing.assert_allclose(term(garbage[0], garbage[1], MASK, garbage[2], "-5dB"), together, rtol=1e-5)


@pytest.mark.parametrize("term", TERMS)
def test_gain_does_not_matter(term):
    gain = np.float32(0.03)
    np.testing.assert_allclose(term(gain * CLEAN, SOFT, MASK, gain * NOISY), term(CLEAN, SOFT, MASK, NOISY), rtol=1e-5)


@pytest.mark.parametrize("term", TERMS)
def test_silence_and_masks_of_0_and_1_are_finite_with_their_gradients(term):
    """A learnable sigmoid's mask reaches 1.2."""
    masks = np.concatenate([np.zeros_like(SOFT[:1]), np.ones_like(SOFT[:1]), np.full_like(SOFT[:1], 1.2)])
    for clean, noisy in ((0 * CLEAN, 0 * NOISY), (0 * CLEAN, NOISY), (CLEAN, CLEAN)):
        assert np.isfinite(term(clean, masks, MASK, noisy)).all()
    _, gradient = value_and_gradient(lambda mask: term(0 * CLEAN, mask, MASK, NOISY), masks)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(("text", "expected"), [
    ("0dB", ("db", 0)), ("-5dB", ("db", -5)), ("+1.5dB", ("db", 1.5)), ("ratio0.8", ("ratio", 0.8))])
def test_criteria(text, expected):
    assert check(text) == expected


@pytest.mark.parametrize("criterion", ["", "0", "dB", "0db", "1e3dB", "101dB", "ratio", "ratio0", "ratio-1", "snr0"])
def test_what_is_no_criterion(criterion):
    with pytest.raises(UserError, match="expected a local SNR within 100 dB, such as 0dB or -5dB, or a ratio above 0, such as ratio0.5"):
        check(criterion)
    with pytest.raises(UserError) as error:
        losses.parse(f"mse:1,ibm_bce[{criterion}]:0.5")
    assert f"ibm_bce: criterion '{criterion}' of an ideal binary mask" in str(error.value) and "\n" not in str(error.value)


def test_options_of_terms():
    objective = losses.parse("ibm_bce[-5dB]:1,ibm_mse:2,ibm_bce_dice[ratio0.8]")
    assert objective.text == "ibm_bce[-5dB]:1,ibm_mse:2,ibm_bce_dice[ratio0.8]:1" and losses.parse(objective.text) == objective
    assert not objective.judges and not objective.asks_judge
    values = [term.function(CLEAN, SOFT, MASK, noisy=NOISY) for term in objective.terms]
    for value, expected in zip(values, (ibm_bce(CLEAN, SOFT, MASK, NOISY, "-5dB"), ibm_mse(CLEAN, SOFT, MASK, NOISY),
                                        ibm_bce_dice(CLEAN, SOFT, MASK, NOISY, "ratio0.8")), strict=True):
        np.testing.assert_array_equal(value, expected)


# --- In a training model ---------------------------------------------------------------------------------------------------------

CONFIG = Stft(32, 16)


@pytest.fixture(scope="module")
def batch():
    return spectrogram_batch([(noisy_speech(seconds, seed), speech_like(seconds, seed)) for seed, seconds in ((1, 0.1), (2, 0.06))], CONFIG)


@pytest.mark.parametrize(("family", "name", "arguments"), [
    (BinaryMaskEnhancer, "unet_ibm", {"frames": 8, "filters": [2], "bottom": 2, "up_filters": [2], "head": []}),
    (MaskEnhancer, "blstm", {"units": 2, "dense_units": 3}), (MaskEnhancer, "lstm", {"units": 2, "dense_units": 3})])
def test_every_mask_can_be_compared(family, name, arguments, batch):
    keras.utils.set_random_seed(0)
    enhancer = family(models.build(name, bins=17, **arguments), CONFIG)
    objective = losses.parse("ibm_bce_dice[-5dB]:1,ibm_mse:1,mse:1")
    x, y = objective_batch(batch)
    model = objective_model(enhancer, objective)
    values = np.asarray(model(x))
    mask = np.asarray(enhancer.model([batch["noisy"], batch["frame_mask"]])["mask"])
    np.testing.assert_allclose(values[:, 0], ibm_bce_dice(batch["clean"], mask, batch["frame_mask"], batch["noisy"], "-5dB"), rtol=1e-4)
    np.testing.assert_allclose(values[:, 1], ibm_mse(batch["clean"], mask, batch["frame_mask"], batch["noisy"]), rtol=1e-4)


def test_what_has_no_mask_is_refused():
    network = models.build("autoencoder", bins=17, frames=8, filters=[2], dense_units=[])
    with pytest.raises(UserError) as error:
        objective_model(ComplexMappingEnhancer(network, CONFIG), losses.parse("mse:1,ibm_bce[-5dB]:1"))
    assert str(error.value) == ("--loss 'mse:1,ibm_bce[-5dB]:1': ibm_bce[-5dB] compares a mask, and autoencoder (complex_mapping) has "
                                "none; take another loss, or a network with a mask")
