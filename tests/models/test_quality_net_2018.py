"""The non-intrusive Quality-Net: the reference's numbers, padding and level left out, one training step, files."""

import h5py
import keras
import numpy as np
import pytest
from conftest import speech_like, tensorflow

from se_keras import models
from se_keras.enhancers.base import pad_frames
from se_keras.losses.quality import frame_weighted_loss
from se_keras.models.quality_net_2018 import ForgetGateBias, PeakNormalization
from se_keras.signals.stft import magnitude, stft

SMALL = {"bins": 9, "units": 4, "dense_units": 5}


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(1)


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return models.build("quality_net_2018")


def magnitudes(*frames, bins=257):
    rng = np.random.default_rng(0)
    return [rng.gamma(0.5, 2, (n, bins)).astype(np.float32) for n in frames]


def ones(magnitude):
    """A batch of one utterance, whole, of peak 1."""
    return [magnitude[None], np.ones((1, len(magnitude)), bool), np.ones((1, 1), np.float32)]


def test_parameters_and_shapes(network):
    """2 x 4 x 100 x (257 + 100 + 1) + 201 x 50 + 51."""
    assert network.count_params() == 296_501
    assert {name: output.shape for name, output in network.output.items()} == {"score": (None, 1), "frame_scores": (None, None)}
    paths = [weight.path for weight in network.weights]
    lstm = [f"blstm/{way}_lstm/lstm_cell/{name}" for way in ("forward", "backward") for name in ("kernel", "recurrent_kernel", "bias")]
    assert paths == [*lstm, *(f"{layer}/{name}" for layer in ("dense", "frame_score") for name in ("kernel", "bias"))]


def test_forget_gates_start_closed_in_both_directions(network):
    bias = np.repeat([0, -3, 0, 0], 100)
    for layer in (network.get_layer("blstm").forward_layer, network.get_layer("blstm").backward_layer):
        np.testing.assert_array_equal(layer.cell.bias, bias)


def test_it_has_the_output_of_the_reference_network(golden):
    path, io = golden / "qualitynet2018.h5", np.load(golden / "keras2_io.npz")
    network = models.build("quality_net_2018", units=6, dense_units=5, recurrent_activation="hard_sigmoid_keras2")
    with h5py.File(path) as file:
        stored = file["model_weights"]
        lstms = [stored[f"bidirectional/bidirectional/{way}_lstm/lstm_cell"] for way in ("forward", "backward")]
        arrays = [cell[f"{name}:0"][()] for cell in lstms for name in ("kernel", "recurrent_kernel", "bias")]
        dense = [stored["time_distributed/time_distributed"], stored["Frame_score/Frame_score"]]
        network.set_weights(arrays + [layer[f"{name}:0"][()] for layer in dense for name in ("kernel", "bias")])
    outputs = network(ones(io["qn_x"][0]))
    np.testing.assert_allclose(outputs["score"], io["qn_average"], atol=4e-7)
    np.testing.assert_allclose(outputs["frame_scores"], io["qn_frame"][..., 0], atol=4e-7)


@pytest.mark.parametrize("recurrent_activation", ["sigmoid", "hard_sigmoid_keras2"])  # the LSTM written out, and Keras's own
def test_a_score_alone_and_in_a_padded_batch(recurrent_activation):
    network = models.build("quality_net_2018", recurrent_activation=recurrent_activation)
    given, peak = magnitudes(1, 12, 30), np.float32([[0.5], [1], [2]])
    batch, frame_mask = pad_frames(given)
    for degraded in (batch, np.where(frame_mask[..., None], batch, np.float32(50))):
        together = network([degraded, frame_mask, peak])
        assert np.ptp(together["score"]) > 1e-3 and (np.asarray(together["frame_scores"])[~frame_mask] == 0).all()
        for i, x in enumerate(given):
            alone = network([x[None], np.ones((1, len(x)), bool), peak[i:i + 1]])
            np.testing.assert_allclose(alone["score"], together["score"][i:i + 1], atol=1e-5)
            np.testing.assert_allclose(alone["frame_scores"][0], together["frame_scores"][i, :len(x)], atol=1e-5)
            np.testing.assert_allclose(alone["score"][0, 0], np.mean(alone["frame_scores"]), atol=1e-6)


@pytest.mark.parametrize("gain_db", [-20, 20])
def test_level_does_not_matter(network, gain_db):
    wave = speech_like(0.5)
    scores = []
    for level in (1, 10 ** (gain_db / 20)):
        louder = np.float32(level) * wave
        spectrum = magnitude(stft(louder))
        scores.append(network([spectrum[None], np.ones((1, len(spectrum)), bool), np.abs(louder).max().reshape(1, 1)])["score"])
    np.testing.assert_allclose(scores[1], scores[0], atol=1e-5)


def test_silence_is_divided_by_nothing(network):
    np.testing.assert_array_equal(PeakNormalization()(np.ones((2, 3, 4), np.float32), np.float32([[0], [2]]))[:, 0, 0], [1, 0.5])
    silence = network([np.zeros((1, 4, 257), np.float32), np.ones((1, 4), bool), np.zeros((1, 1), np.float32)])
    assert np.isfinite(silence["score"]).all()


def test_a_training_step_lowers_the_loss_and_bounds_the_recurrence():
    """Every column of the recurrent kernels is at most 1e-5 long after an update: the reference's LSTM forgets its own output."""
    tf = tensorflow()
    network = models.build("quality_net_2018", **SMALL, dropout=0.1)
    batch, frame_mask = pad_frames(magnitudes(20, 12, bins=9))
    x, target = [batch, frame_mask, np.ones((2, 1), np.float32)], np.float32([3, 1.5])
    optimizer = keras.optimizers.RMSprop(1e-2)
    optimizer.build(network.trainable_variables)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            outputs = network(x, training=True)
            loss = tf.reduce_mean(frame_weighted_loss(outputs["score"], outputs["frame_scores"], target, frame_mask))
        weights = network.trainable_variables
        optimizer.apply(tape.gradient(loss, [weight.value for weight in weights]), weights)
        return loss

    losses = [float(step()) for _ in range(8)]
    assert losses[-1] < losses[0]
    for cell in (network.get_layer("blstm").forward_layer.cell, network.get_layer("blstm").backward_layer.cell):
        assert np.linalg.norm(cell.recurrent_kernel, axis=0).max() <= 1.001e-5


def test_config_weights_file_and_whole_model_file(tmp_path):
    network = models.build("quality_net_2018", **SMALL)
    x = ones(magnitudes(12, bins=9)[0])
    from_config = keras.Model.from_config(network.get_config())
    assert from_config.get_config() == network.get_config()
    from_config.set_weights(network.get_weights())
    network.save_weights(tmp_path / "x.weights.h5")
    rebuilt = models.build("quality_net_2018", **SMALL)
    rebuilt.load_weights(tmp_path / "x.weights.h5")
    network.save(tmp_path / "x.keras")
    for copy in (from_config, rebuilt, keras.models.load_model(tmp_path / "x.keras")):
        for name, expected in network(x).items():
            np.testing.assert_array_equal(copy(x)[name], expected)
    assert ForgetGateBias.from_config(ForgetGateBias(-3).get_config()).value == -3
