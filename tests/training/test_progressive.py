"""Progressive learning: the targets of stages, the loss over all of them, a run by the scripts."""


import keras
import numpy as np
import pytest
from conftest import noise, speech_like

from se_keras import enhancers, losses
from se_keras.losses.compressed import compressed
from se_keras.models.training_layers import StageTarget
from se_keras.signals.stft import Stft, istft, stft
from se_keras.training.objective import objective_model, stage_snrs

CONFIG = Stft(128, 64, "sqrt_hann")
TINY = {"stages": 2, "emb": 2, "hidden": 2, "heads": 1, "hop": 4}


def three_stages(bins):
    """A network of one dense layer with random weights."""
    noisy, frame_mask = keras.Input((None, bins, 2), name="noisy"), keras.Input((None,), dtype="bool", name="frame_mask")
    flat = keras.layers.Dense(6 * bins)(keras.layers.Reshape((-1, 2 * bins))(noisy))
    return keras.Model([noisy, frame_mask], keras.layers.Reshape((-1, bins, 2, 3))(flat), name="three_stages")


def batch(lengths=(40, 25)):
    """Speech and speech in noise of so many frames, padded; garbage on the padding."""
    waves = [speech_like(1.0, seed)[:(length - 1) * 64] for seed, length in enumerate(lengths)]
    spectra = np.random.default_rng(0).standard_normal((2, len(lengths), max(lengths) + 3, 65, 2)).astype(np.float32)
    for i, (wave, length) in enumerate(zip(waves, lengths, strict=True)):
        spectra[:, i, :length] = [stft(each, CONFIG) for each in (wave, wave + noise(1.0, i)[:len(wave)])]
    return {"clean": spectra[0], "noisy": spectra[1], "frame_mask": np.arange(max(lengths) + 3) < np.array(lengths)[:, None]}


def test_stages_go_up_to_clean_speech():
    assert stage_snrs(5) == [0, 5, 10, 15] and stage_snrs(2) == [15] and stage_snrs(1) == []


@pytest.mark.parametrize("snr_db", [0, 15])
def test_a_target_has_its_snr_over_own_samples(snr_db):
    """Measured on its wave, whose noise is the mixture's."""
    given, lengths = batch(), (40, 25)
    target = np.asarray(StageTarget(CONFIG, snr_db)(given["clean"], given["noisy"], given["frame_mask"]))
    for i, length in enumerate(lengths):
        clean, noisy, wave = (istft(each[i, :length], (length - 1) * 64, CONFIG) for each in (given["clean"], given["noisy"], target))
        assert 10 * np.log10(np.sum(clean ** 2) / np.sum((wave - clean) ** 2)) == pytest.approx(snr_db, abs=1e-3)
        assert np.corrcoef(wave - clean, noisy - clean)[0, 1] == pytest.approx(1, abs=1e-4)


def test_where_speech_or_noise_is_silent_the_target_is_clean():
    given = batch()
    silent = 0 * given["clean"]
    for clean, noisy in ((given["clean"], given["clean"]), (silent, given["noisy"])):
        np.testing.assert_array_equal(StageTarget(CONFIG, 5)(clean, noisy, given["frame_mask"]), clean)


def test_a_target_layer_comes_back_from_its_configuration():
    layer = StageTarget.from_config(StageTarget(CONFIG, 5, name="target").get_config())
    assert (layer.stft, layer.snr_db, layer.name) == (CONFIG, 5, "target")


class Judge:
    """A judge that says how loud the enhanced magnitude is."""

    def score(self, enhanced, clean, frame_mask, config, name=None):
        return keras.ops.mean(enhanced["magnitude"], axis=(1, 2))[:, None]


def test_a_term_is_the_sum_over_stages_and_a_score_that_of_the_last():
    """Against each stage's spectrum and target, made one by one."""
    keras.utils.set_random_seed(0)
    network = three_stages(65)
    enhancer, given = enhancers.family("complex_mapping")(network, CONFIG), batch()
    objective = losses.parse("compressed:1,quality_linear:1,si_sdr:0.1")
    values = np.asarray(objective_model(enhancer, objective, Judge()).predict_on_batch(given))
    outputs = enhancer.model([given["noisy"], given["frame_mask"]])
    stages = np.asarray(outputs["stages"])
    targets = [np.asarray(StageTarget(CONFIG, snr_db)(given["clean"], given["noisy"], given["frame_mask"])) for snr_db in (10, 15)]
    expected = sum(np.asarray(compressed(target, stages[..., number], given["frame_mask"]))
                   for number, target in enumerate([*targets, given["clean"]]))
    np.testing.assert_allclose(values[:, 0], expected, rtol=1e-4)
    np.testing.assert_allclose(values[:, 1], 1 - np.mean(outputs["magnitude"], axis=(1, 2)), rtol=1e-4)
    direct = objective_model(enhancers.family("complex_mapping")(
        keras.Model(network.inputs, network.outputs[0][..., -1]), CONFIG), losses.parse("compressed:1"))
    assert (np.asarray(direct.predict_on_batch(given))[:, 0] < values[:, 0]).all()
