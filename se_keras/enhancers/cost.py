"""What a system costs: parameters, multiply-accumulates, computing time, latency.

A network is loaded by whoever made the system: nothing here imports Keras before it is asked about one.
"""

import math
import statistics
import time

import numpy as np

from se_keras import backend
from se_keras.errors import UserError
from se_keras.signals.audio import SAMPLE_RATE
from se_keras.signals.stft import stft

SECONDS = 1.0  # of audio that are enhanced at a time, where time is measured
RUNS, LONGEST_S = 5, 2.0  # times are medians of so many runs, or of those that begin within so many seconds
PREFIX_FRAMES = 32  # frames that stay as they are while all behind them changes; from further away what an LSTM knows fades out of sight
PHASES = 8  # places of that change, a frame apart: a network with strides along time looks further from some than from others
_measured = {}  # of `measure`


def measure(system):
    """All of it, once in a process for systems of one fingerprint.

    Args:
        system: anything with `enhance` and `fingerprint` (see `enhancers.base`); what is known beside depends on what it has.

    Returns:
        dict of
        parameters: int, 0 without a network.
        macs_per_second: int, or None without a network or where a layer cannot be counted.
        rtf: float, four digits, of batches of one; None of noisy speech, which is enhanced by nothing.
        latency_ms: float; None where it is the whole utterance, or unknown.
        whole_utterance: bool, whether it hears all of an utterance before it gives any; None where that is unknown.
        measured: how rtf was measured, in words.
        remark: what could not be counted, and why, in words; "" where there is nothing to say.
    """
    if system.fingerprint not in _measured:
        _measured[system.fingerprint] = _measure(system)
    return dict(_measured[system.fingerprint])


def _measure(system):
    found = {"parameters": 0, "macs_per_second": None, "rtf": None, "latency_ms": 0.0, "whole_utterance": False, "measured": "",
             "remark": ""}
    if system.fingerprint == "noisy":
        return found
    found["parameters"] = getattr(system, "parameters", 0)
    if hasattr(system, "network"):
        found["parameters"] = parameters(system.network)
        try:
            found["macs_per_second"] = macs_per_second(system)
        except UserError as error:
            found["remark"] = str(error)
    found["rtf"], on = real_time_factor(system)
    found["rtf"], found["measured"] = float(f"{found['rtf']:.4g}"), f"{on}, batch 1, {SECONDS:g} s of audio"
    latency = latency_ms(system)
    found["whole_utterance"] = None if latency is None else math.isinf(latency)
    found["latency_ms"] = None if found["whole_utterance"] in (None, True) else latency
    return found


def parameters(network):
    """Numbers in a network's weights: what training changes, and what the forward pass uses beside, such as moving averages."""
    return network.count_params()


def macs_per_second(enhancer):
    """Multiply-accumulates of an enhancer's network for one second of audio (`models.macs` says what counts); int.

    One second alone, with as many frames as its STFT makes of it. STFT and inverse are not counted. Of a network with attention over
    frames a longer utterance costs more a second.

    Raises:
        UserError: as `multiply_accumulates`.
    """
    from se_keras.models.macs import multiply_accumulates

    given = enhancer.inputs(stft(_noise(SAMPLE_RATE), enhancer.config))[None]
    return multiply_accumulates(enhancer.network, [given, np.ones(given.shape[:2], bool)])


def real_time_factor(system, seconds=SECONDS, batch=1, cores=1):
    """Seconds of computing a second of audio, STFT and inverse included: the median of some runs of `enhance` after one to warm up.

    Measured on one core, it is the processor time of this process with all its threads on that core, which is the time that passes
    where nothing else uses the core. What else the machine does changes it little.

    Args:
        system: anything with `enhance`.
        seconds: of audio, each wave.
        batch: waves.
        cores: 1, or None for all there are, and the time that passes.

    Returns:
        (factor, what it was measured on in words: "one core", or where that cannot be had "4 cores", "an accelerator").
    """
    waves = [_noise(int(seconds * SAMPLE_RATE), seed) for seed in range(batch)]
    accelerated = _accelerated(system)
    if cores is None or accelerated:
        return _median_s(system, waves, time.perf_counter) / (seconds * batch), "an accelerator" if accelerated else _all_cores()
    with backend.one_core() as alone:
        taken = _median_s(system, waves, time.process_time if alone else time.perf_counter)
    return taken / (seconds * batch), "one core" if alone else _all_cores()


def _accelerated(system):
    """Whether the network's weights lie on something that is no CPU."""
    weights = system.network.weights if hasattr(system, "network") else []
    return bool(weights) and "cpu" not in str(weights[0].value.device).lower()


def _all_cores():
    count = backend.available_cores()
    return "one core" if count == 1 else f"{count} cores"


def _median_s(system, waves, clock):
    system.enhance(waves)
    times, began = [], time.perf_counter()
    while not times or len(times) < RUNS and time.perf_counter() - began < LONGEST_S:
        start = clock()
        system.enhance(waves)
        times.append(clock() - start)
    return statistics.median(times)


def latency_ms(system):
    """Algorithmic latency in ms: how far behind its input the output must run, were computing to take no time.

        latency = window + hop * look-ahead

    A frame is complete when its last sample has come, and overlap-add gives a sample when the last frame that holds it is complete. That
    frame begins at the sample at the latest, and ends a window later: with or without padding, a window in all. A network that waits
    for so many frames more (`look_ahead`) gives each frame as many hops later. Time to gather a hop of samples is not counted.

    Args:
        system: anything with `enhance` and the STFT `config` that it works with.

    Returns:
        float, infinite where the whole utterance is heard first; None of a system that has no `config`.
    """
    config = getattr(system, "config", None)
    if config is None:
        return None
    return 1000 * ((config.win_length or config.n_fft) + config.hop_length * look_ahead(system)) / SAMPLE_RATE


def look_ahead(system):
    """Frames that a system hears beyond the one that it enhances, found by experiment.

    Noise is enhanced, and again with what only frames from number 32 on can see replaced by other noise, ten times as loud. The first
    sample that comes out otherwise belongs to the first frame that knows of it. A network that runs backward along time, or one that
    normalises over the utterance, knows of it from the start: its look-ahead is infinite. One of 30 frames or more is taken for such.

    Args:
        system: as `latency_ms`.

    Returns:
        int, or math.inf.
    """
    config = system.config
    samples = config.samples(2 * PREFIX_FRAMES)
    noise, other = _noise(samples), 10 * _noise(samples, 1)
    (usual,), (again,) = system.enhance([noise]), system.enhance([noise])
    rounding = np.abs(again - usual).max()  # zero on a CPU: what does not depend on the change comes out bit by bit as before
    length, farthest = config.win_length or config.n_fft, 0
    before = length // 2 if config.center else config.padding  # samples of the first window that lie before the signal
    for frame in range(PREFIX_FRAMES, PREFIX_FRAMES + PHASES):
        start = frame * config.hop_length - before  # of the first window that sees the change, in its last hop
        change = start + length - config.hop_length
        changed, = system.enhance([np.concatenate([noise[:change], other[change:]])])
        differing = np.flatnonzero(np.abs(changed - usual) > rounding)
        if not len(differing):
            continue
        if differing[0] < config.hop_length:
            return math.inf
        farthest = max(farthest, -(-(start - int(differing[0])) // config.hop_length))
    return farthest


def _noise(samples, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)
