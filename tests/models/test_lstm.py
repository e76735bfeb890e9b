"""The causal LSTM: no frame knows a later one, a stream goes on block by block, gain and padding do not matter."""

import keras
import numpy as np
import pytest
from conftest import noisy_speech
from keras import ops

from se_keras import models
from se_keras.enhancers.magnitude_mask import MaskEnhancer
from se_keras.errors import UserError
from se_keras.models.lstm import RunningNormalization
from se_keras.signals.stft import Stft, magnitude, stft

RNG = np.random.default_rng(0)
MAGNITUDE = RNG.gamma(1.0, 1.0, (2, 150, 5)).astype(np.float32)  # three blocks of the layer's sums, the last of them begun
SIZES = {"bins": 33, "units": 6, "dense_units": 5}
CONFIG = Stft(64, 32)


def by_hand(frames, memory):
    """The running feature of one utterance, frame by frame in float64, as the docstring says it."""
    decay = 1.0 if memory is None else np.exp(-1 / memory)
    count = energy = first = second = 0.0
    out = []
    for frame in frames.astype(np.float64):
        heard, power = float(frame.any()), np.mean(frame ** 2)
        count, energy, first, second = decay * count + heard, decay * energy + power, decay * first, decay * second
        if not heard:
            out.append(np.zeros_like(frame))
            continue
        x = np.log(frame / np.sqrt(energy / count) + 0.01)
        first, second = first + x, second + x ** 2
        mean = first / count
        out.append((x - mean) / np.sqrt(np.maximum(second / count - mean ** 2, 0) + 1e-3))
    return np.array(out)


@pytest.mark.parametrize("memory", [250, 5, None])
def test_running_statistics_are_those_of_a_loop(memory):
    some = MAGNITUDE.copy()
    some[1, :3] = some[1, 20:30] = 0  # silence, before the first sound and after it, is not counted
    out = np.asarray(RunningNormalization(memory_frames=memory)(some))
    for ours, frames in zip(out, some, strict=True):
        np.testing.assert_allclose(ours, by_hand(frames, memory), atol=1e-4)
    assert (out[:, 0] == 0).all() and (out[1, :4] == 0).all()  # the first frame is its own mean
    t = np.arange(150)[None, :, None]
    assert (np.abs(out) <= np.sqrt(t) + 1e-4).all()


def test_a_stream_goes_on_from_its_state():
    layer = RunningNormalization(memory_frames=40)
    state, parts = layer.initial_state(2, 5), []
    for start, stop in ((0, 1), (1, 2), (2, 80), (80, 150)):
        features, state = layer.advance(MAGNITUDE[:, start:stop], state)
        parts.append(np.asarray(features))
    assert state.shape == (2, 12)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), layer(MAGNITUDE), atol=1e-4)


def test_gain_and_silence():
    layer = RunningNormalization()
    for gain in (1e-4, 1e3):
        np.testing.assert_allclose(layer(np.float32(gain) * MAGNITUDE), layer(MAGNITUDE), atol=1e-3)
    assert (np.asarray(layer(0 * MAGNITUDE)) == 0).all()
    still = np.ones((1, 100, 5), np.float32)  # no variance: no noise of the arithmetic blown up
    assert np.abs(layer(still)).max() < 0.05


def test_wrong_memories_and_scales():
    for memory in (0, -1):
        with pytest.raises(UserError, match=f"memory_frames {memory}: a number of frames above 0 is expected"):
            RunningNormalization(memory_frames=memory)
    with pytest.raises(UserError, match="unknown compression 'cube'"):
        models.build("lstm", **SIZES, compression="cube")


def test_parameters():
    """Of the default sizes: LSTMs 4 * 300 * (257 + 300 + 1) and 4 * 300 * (300 + 300 + 1), dense layers 301 * 300 and 301 * 257."""
    expected = 4 * 300 * 558 + 4 * 300 * 601 + 301 * 300 + 301 * 257
    assert models.build("lstm").count_params() == expected == 1_558_457


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return models.build("lstm", **SIZES)


def spectrogram(seconds=0.3, seed=1):
    return magnitude(stft(noisy_speech(seconds, seed), CONFIG))


def mask_of(network, frames):
    return np.asarray(network([frames[None], np.ones((1, len(frames)), bool)]))[0]


def test_a_frame_knows_no_later_one(network):
    frames = spectrogram()
    whole = mask_of(network, frames)
    assert whole.shape == frames.shape and whole.dtype == np.float32 and (0 <= whole).all() and (whole <= 1).all()
    for t in (0, 1, 63, 64, len(frames) - 1):
        changed = frames.copy()
        changed[t:] = 100 * changed[t:][::-1]
        other = mask_of(network, changed)
        np.testing.assert_array_equal(other[:t], whole[:t])
        assert np.abs(other[t] - whole[t]).max() > 1e-5 or t == 0  # its own frame it knows
        np.testing.assert_allclose(mask_of(network, frames[:t + 1]), whole[:t + 1], atol=1e-5)


def test_a_padded_batch_gives_each_utterance_what_it_gets_alone(network):
    several = [spectrogram(0.1 * (1 + i), i) for i in range(3)]
    batch, frame_mask = np.full((3, 160, 33), 1e3, np.float32), np.zeros((3, 160), bool)
    for row, mask, frames in zip(batch, frame_mask, several, strict=True):
        row[:len(frames)], mask[:len(frames)] = frames, True
    together = np.asarray(network([batch, frame_mask]))
    for ours, frames in zip(together, several, strict=True):
        np.testing.assert_allclose(ours[:len(frames)], mask_of(network, frames), atol=1e-5)


def test_gain_does_not_matter(network):
    frames = spectrogram()
    np.testing.assert_allclose(mask_of(network, np.float32(0.01) * frames), mask_of(network, frames), atol=1e-4)
    assert np.isfinite(mask_of(network, 0 * frames)).all()


def test_it_is_a_magnitude_mask_and_learns(network):
    assert models.ENHANCERS["lstm"] == MaskEnhancer.family
    system = MaskEnhancer(network, CONFIG)
    wave = noisy_speech(0.3, 2)
    enhanced, = system.enhance([wave])
    assert enhanced.shape == wave.shape and np.isfinite(enhanced).all()
    frames = spectrogram()
    x = [np.stack([frames, 0 * frames]), np.ones((2, len(frames)), bool)]  # silence has a finite gradient
    learner = models.build("lstm", **SIZES, dropout=0.1)
    learner.compile(keras.optimizers.Adam(1e-2), "mse")
    target = np.stack([(frames > np.median(frames)).astype(np.float32), 0 * frames])
    losses = [learner.train_on_batch(x, target) for _ in range(8)]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


@pytest.mark.parametrize("arguments", [{}, {"memory_frames": None, "compression": "root", "mask_floor": 0.1, "sigmoid": "learnable"}])
def test_config_weights_file_and_whole_model_file(arguments, tmp_path):
    network, frames = models.build("lstm", **SIZES, **arguments), spectrogram()
    expected = mask_of(network, frames)
    again = keras.Model.from_config(network.get_config())
    again.set_weights(network.get_weights())
    network.save_weights(tmp_path / "x.weights.h5")
    rebuilt = models.build("lstm", **SIZES, **arguments)
    rebuilt.load_weights(tmp_path / "x.weights.h5")
    network.save(tmp_path / "x.keras")
    for copy in (again, rebuilt, keras.models.load_model(tmp_path / "x.keras")):
        np.testing.assert_array_equal(mask_of(copy, frames), expected)
    assert ops.shape(again.output)[-1] == 33
