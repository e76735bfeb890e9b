"""What systems cost: latency by experiment against what networks are built to know, time against a system that takes a known one."""

import math
import os
import threading
import time

import keras
import numpy as np
import pytest
from conftest import speech_like
from keras import layers

from se_keras import backend, enhancers, models
from se_keras.enhancers import cost
from se_keras.enhancers.base import Noisy
from se_keras.enhancers.magnitude_mask import MaskEnhancer
from se_keras.enhancers.wiener import Wiener
from se_keras.errors import UserError
from se_keras.models.layers import LevelNormalization, UtteranceNormalization
from se_keras.signals.stft import Stft


def enhancer(*through, config=Stft(), bins=8, last=True):
    """A mask network of 8 units between dense layers, of layers that take `(batch, frames, 8)`; some take the frame mask too."""
    magnitude, frame_mask = keras.Input((None, config.bins)), keras.Input((None,), dtype="bool")
    x = layers.Dense(bins, activation="tanh")(magnitude)
    for layer in through:
        x = layer(x, frame_mask) if isinstance(layer, (LevelNormalization, UtteranceNormalization)) else layer(x)
    return MaskEnhancer(keras.Model([magnitude, frame_mask], layers.Dense(config.bins, activation="sigmoid")(x)), config)


LOOKS_AHEAD = {
    "each frame alone": ([], 0),
    "convolution of five frames on either side": ([layers.Conv1D(8, 11, padding="same")], 5),
    "of 28": ([layers.Conv1D(8, 57, padding="same")], 28),
    "of more than can be told from the whole": ([layers.Conv1D(8, 65, padding="same")], math.inf),
    "causal convolution": ([layers.Conv1D(8, 3, padding="causal", dilation_rate=4)], 0),
    "blocks of four frames": ([layers.Conv1D(8, 4, strides=4), layers.UpSampling1D(4)], 3),
    "LSTM": ([layers.LSTM(8, return_sequences=True)], 0),
    "backwards": ([layers.Bidirectional(layers.LSTM(8, return_sequences=True))], math.inf),
    "level of the utterance": ([LevelNormalization()], math.inf),
    "mean of the utterance": ([UtteranceNormalization()], math.inf)}


@pytest.mark.parametrize("name", LOOKS_AHEAD)
def test_look_ahead(name):
    keras.utils.set_random_seed(0)
    through, expected = LOOKS_AHEAD[name]
    system = enhancer(*through)
    assert cost.look_ahead(system) == expected
    assert cost.latency_ms(system) == 32 + 16 * expected


@pytest.mark.parametrize(("config", "window", "hop"), [
    (Stft(), 512, 256), (Stft(512, 128, "hann"), 512, 128), (Stft(512, 256, "sqrt_hann", pad_mode="reflect", tail="cut"), 512, 256),
    (Stft(512, 100, "hann", 400, center=False, inverse="least_squares"), 400, 100), (Stft(512, 160, "hann", 320), 320, 160),
    (Stft(2048, 1024, "hann"), 2048, 1024)])
@pytest.mark.parametrize("ahead", [0, 2])
def test_latency_is_the_window_and_the_hops_ahead(config, window, hop, ahead):
    keras.utils.set_random_seed(0)
    system = enhancer(layers.Conv1D(8, 2 * ahead + 1, padding="same"), config=config)
    assert cost.latency_ms(system) == pytest.approx((window + ahead * hop) / 16)


def test_latency_by_hand():
    """Of overlap-add without a network: no output sample knows of an input that is a window later, and one does of all but that."""
    config = Stft(64, 32, "hamming")
    system = enhancer(config=config)
    wave = speech_like(0.1)
    usual, = system.enhance([wave])
    behind = []
    for change in range(640, 640 + 32):
        changed = wave.copy()
        changed[change] += 1
        behind.append(change - np.flatnonzero(system.enhance([changed])[0] != usual)[0])
    assert max(behind) == 63 and cost.latency_ms(system) == 64 / 16  # the sample itself must have come too


def test_systems_without_a_network():
    assert cost.latency_ms(Wiener()) == 32
    assert cost.measure(Noisy()) == {"parameters": 0, "macs_per_second": None, "rtf": None, "latency_ms": 0.0, "whole_utterance": False,
                                     "measured": "", "remark": ""}
    found = cost.measure(Wiener())
    assert (found["parameters"], found["macs_per_second"], found["latency_ms"]) == (0, None, 32) and 0 < found["rtf"] < 10
    assert found["measured"].endswith("batch 1, 1 s of audio") and found["remark"] == ""


class Busy:
    """A system that computes for 20 ms whatever it is given, and says how often."""

    fingerprint = "busy"

    def __init__(self):
        self.given = []

    def enhance(self, waves):
        self.given.append([len(wave) for wave in waves])
        began = time.process_time()
        while time.process_time() - began < 0.02:
            pass
        return waves


def test_real_time_factor(monkeypatch):
    system = Busy()
    factor, on = cost.real_time_factor(system, seconds=0.5, batch=2)
    assert 0.02 <= factor < 0.04 and on == ("one core" if hasattr(os, "sched_setaffinity") else cost._all_cores())
    assert system.given == [[8000, 8000]] * (1 + cost.RUNS)  # one to warm up
    system = Busy()
    assert cost.real_time_factor(system, cores=None)[1] == cost._all_cores()
    monkeypatch.setattr(cost, "LONGEST_S", 0.0)
    system = Busy()
    cost.real_time_factor(system)
    assert system.given == [[16_000]] * 2


def test_what_is_known_of_a_system_that_is_no_enhancer():
    """No STFT that is known of, so no latency."""
    found = cost.measure(Busy())
    assert found["latency_ms"] is None and found["whole_utterance"] is None and found["rtf"] > 0


def test_an_enhancer_is_measured_once():
    keras.utils.set_random_seed(0)
    system = enhancer()
    found = cost.measure(system)
    assert found["parameters"] == system.network.count_params() == 257 * 8 + 8 + 8 * 257 + 257
    assert found["macs_per_second"] == 64 * 2 * 257 * 8  # a second of the default STFT has 64 frames
    assert found["latency_ms"] == 32 and found["whole_utterance"] is False and 0 < found["rtf"] < 10
    system.enhance = lambda waves: pytest.fail("measured again")
    assert cost.measure(system) == found and cost.measure(system) is not found


def test_moving_averages_are_parameters():
    assert cost.parameters(enhancer(layers.BatchNormalization()).network) == cost.parameters(enhancer().network) + 4 * 8


def test_a_layer_that_cannot_be_counted_is_a_remark():
    class Hidden(layers.Layer):
        def build(self, shape):
            self.matrix = self.add_weight(shape=(shape[-1], shape[-1]))

        def call(self, x):
            return keras.ops.matmul(x, self.matrix)

    system = enhancer(Hidden(name="mine"))
    with pytest.raises(UserError, match="layer mine"):
        cost.macs_per_second(system)
    found = cost.measure(system)
    assert found["macs_per_second"] is None and "layer mine (Hidden): no rule" in found["remark"] and found["parameters"] > 0


@pytest.mark.parametrize(("name", "arguments", "ms"), [
    ("dnn", {"units": 8}, math.inf), ("blstm", {"units": 8}, math.inf),  # both normalise over the utterance
    ("lstm", {"units": 8}, 32), ("tfgridnet", {"blocks": 1, "emb": 4, "hidden": 4}, math.inf),
    ("dccrn", {"channels": [16] * 6, "rnn_units": 4}, 62.5)])  # a window of 25 ms, and each layer of the decoder a hop of 6.25 ms
def test_latency_of_the_networks_of_the_house(name, arguments, ms):
    keras.utils.set_random_seed(0)
    system = enhancers.family(models.ENHANCERS[name])(models.build(name, **arguments), Stft(**models.STFTS.get(name, {})))
    assert cost.latency_ms(system) == ms


def test_macs_of_a_second():
    """64 frames of the default STFT: the network's own are counted by hand in tests/models/test_macs.py."""
    assert cost.macs_per_second(MaskEnhancer(models.build("dnn"))) == 58_916_864


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux lets a process choose its cores")
def test_one_core_holds_all_threads_and_lets_them_go():
    def everyone():
        return [os.sched_getaffinity(int(thread)) for thread in os.listdir("/proc/self/task")]

    stop, before = threading.Event(), os.sched_getaffinity(0)
    threads = [threading.Thread(target=stop.wait) for _ in range(2)]
    threads[0].start()
    try:
        with pytest.raises(RuntimeError), backend.one_core() as alone:
            threads[1].start()
            assert alone and all(len(cores) == 1 for cores in everyone()) and len(everyone()) >= 3
            raise RuntimeError
        assert all(cores == before for cores in everyone())
    finally:
        stop.set()
        for thread in threads:
            thread.join()
