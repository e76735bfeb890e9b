"""Forms: models that take and give waves say what enhancers and judges say, before any converter touches them."""

import keras
import numpy as np
import pytest
from conftest import noise, speech_like

from se_keras import enhancers, models
from se_keras.enhancers.live import StreamingEnhancer
from se_keras.errors import UserError
from se_keras.export import forms
from se_keras.judges.surrogate import QualityPredictor
from se_keras.models.quality_net_2018 import as_quality_net
from se_keras.models.wave_layers import SpectrumWave, WaveSpectrum
from se_keras.signals.stft import Stft, istft, stft

TINY = {
    "blstm": {"units": 4, "dense_units": 5},
    "lstm": {"units": 6, "dense_units": 5},
    "dnn": {"units": 8},
    "dccrn": {"channels": [4, 8], "rnn_units": 4},
    "tfgridnet": {"blocks": 1, "emb": 4, "hidden": 4, "heads": 1},
    "unet_ibm": {"filters": [2, 2], "bottom": 2, "up_filters": [2, 2], "head": [2]},
}


def make(name, config=None, **arguments):
    """A tiny enhancer of a network's family, with the STFT of its authors."""
    keras.utils.set_random_seed(0)
    config = config or Stft(**models.STFTS.get(name, {}))
    network = models.build(name, bins=config.bins, **(TINY[name] | arguments))
    return enhancers.family(models.ENHANCERS[name])(network, config, f"tiny-{name}")


def call(form, **given):
    return {name: np.asarray(value) for name, value in form.model({key: value[None] for key, value in given.items()}).items()}


@pytest.mark.parametrize("config", [Stft(), Stft(256, 128), Stft(512, 128, "hann"), Stft(**models.STFTS["dccrn"]),
                                    Stft(**models.STFTS["tfgridnet"])], ids=str)
@pytest.mark.parametrize("samples", [1, 100, 4000])
def test_transforms_of_waves_are_those_of_the_arrays(config, samples):
    wave = noise(1.0)[:samples]
    spectrum = WaveSpectrum(config)(wave[None])
    np.testing.assert_allclose(np.asarray(spectrum)[0], stft(wave, config), atol=1e-5)
    changed = np.asarray(spectrum) * np.linspace(1, 0.2, config.bins, dtype=np.float32)[:, None]
    np.testing.assert_allclose(np.asarray(SpectrumWave(config)(changed, wave[None]))[0], istft(changed[0], samples, config), atol=1e-6)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("samples", [1, 100, 5000])
def test_a_wave_form_enhances_as_the_enhancer(name, samples):
    enhancer, wave = make(name), speech_like(1.0, 3)[:samples]
    form = forms.of_enhancer(enhancer, "wave")
    assert form.describe() == {"inputs": {"noisy": [1, None]}, "outputs": {"enhanced": [1, None]}}
    np.testing.assert_allclose(call(form, noisy=wave)["enhanced"][0], enhancer.enhance([wave])[0], atol=1e-6)


def test_a_step_is_the_streaming_enhancer():
    enhancer = make("lstm", Stft(256, 128))
    form, wave = forms.of_enhancer(enhancer, "step"), speech_like(0.4, 3)[:6 * 128]
    said = form.describe()
    assert (said["block"], said["delay"], said["latency_s"]) == (128, 128, 0.016)
    assert said["outputs"] == {"enhanced": [1, 128]} | {f"next_{name}": shape for name, shape in said["inputs"].items() if name != "block"}
    states = {name: np.zeros(shape[1:], np.float32) for name, shape in said["inputs"].items() if name != "block"}
    out = []
    for block in np.append(wave, np.zeros(128, np.float32)).reshape(-1, 128):
        given = call(form, block=block, **states)
        out.append(given.pop("enhanced")[0])
        states = {name.removeprefix("next_"): value[0] for name, value in given.items()}
    stream = StreamingEnhancer(enhancer)
    np.testing.assert_allclose(np.concatenate(out)[128:], np.append(stream.process(wave), stream.flush()), atol=1e-6)


def test_a_quality_net_takes_waves_and_gives_its_target():
    keras.utils.set_random_seed(0)
    clean = speech_like(1.0, 3)
    degraded = clean + noise(1.0, 2)
    judge = QualityPredictor(models.build("quality_net", filters=[[3, 5], [4, 7]]))
    assert call(forms.of_quality_net(judge, "wave"), degraded=degraded, clean=clean)["score"] == pytest.approx(
        judge.predict_waves([(degraded, clean)])[0], abs=1e-5)
    alone = QualityPredictor(as_quality_net(models.build("quality_net_2018", units=4, dense_units=3)), representation="peak")
    form = forms.of_quality_net(alone, "wave")
    assert list(form.describe()["inputs"]) == ["degraded"]
    assert call(form, degraded=3 * degraded)["score"] == pytest.approx(alone.predict_waves([(degraded, None)])[0], abs=1e-5)


def test_what_cannot_stream_says_so():
    judge = QualityPredictor(models.build("quality_net", filters=[[3, 5]]))
    for make_step, said in ((lambda: forms.of_enhancer(make("blstm"), "step"), "hears the whole recording.*lstm-ears"),
                            (lambda: forms.of_enhancer(make("lstm", Stft(512, 128, "hann")), "step"), "windows that overlap by half"),
                            (lambda: forms.of_quality_net(judge, "step"), "whole utterances")):
        with pytest.raises(UserError, match=said):
            make_step()
    assert forms.streams(make("lstm")) and not forms.streams(make("blstm")) and not forms.streams(make("lstm", Stft(512, 128, "hann")))
