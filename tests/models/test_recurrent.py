"""The written-out LSTMs compute what Keras's do: outputs, gradients, weights files."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from se_keras.backend import on_cpu
from se_keras.models.recurrent import Bidirectional, Lstm, compile_loops

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 11, 5)).astype(np.float32)
MASK = np.arange(11) < np.array([[11], [6], [1]])
ON_CPU = pytest.mark.skipif(keras.backend.backend() != "tensorflow" or not on_cpu(), reason="elsewhere the call is Keras's own")


def both(directions=2, **arguments):
    """Keras's layer and ours with the same random weights, biases included."""
    if directions == 2:
        layers = [kind(keras.layers.LSTM(4, return_sequences=True, **arguments)) for kind in (keras.layers.Bidirectional, Bidirectional)]
    else:
        layers = [kind(4, return_sequences=True, **arguments) for kind in (keras.layers.LSTM, Lstm)]
    for layer in layers:
        layer.build(X.shape)
    layers[1].set_weights([RNG.standard_normal(weight.shape) for weight in layers[0].get_weights()])
    layers[0].set_weights(layers[1].get_weights())
    return layers


def loops(layer, mask):
    """How many loops the graph of a call holds."""
    graph = tf.function(lambda x: layer(x, mask=mask)).get_concrete_function(tf.constant(X)).graph
    return sum(operation.type in ("While", "StatelessWhile") for operation in graph.get_operations())


@ON_CPU
@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("directions", [2, 1])
def test_outputs_and_gradients_are_those_of_keras(mask, graph, directions):
    found = []
    for layer in both(directions):
        def run(x, layer=layer):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, mask=mask)
                if mask is not None:
                    y *= mask[..., None]
                loss = tf.reduce_sum(y * np.sin(np.arange(4 * directions)) + y ** 2)  # no output has the weight of another
            return y, tape.gradient(loss, [x, *(weight.value for weight in layer.trainable_variables)])

        y, gradients = (tf.function(run) if graph else run)(tf.constant(X))
        found.append([y, *gradients])
    assert len(found[0]) == 2 + 3 * directions  # output, input gradient, three weights a direction
    for theirs, ours in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@ON_CPU
@pytest.mark.parametrize("directions", [2, 1])
def test_compiled_loops_compute_the_same_in_training_alone(directions):
    x = keras.Input((None, 5))
    _, layer = both(directions)
    assert compile_loops(keras.Model(x, layer(x))) == 1 and layer.jit

    def run(x, training):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, mask=MASK, training=training) * MASK[..., None].astype(np.float32)
        return y, tape.gradient(y, [x, *(weight.value for weight in layer.trainable_variables)])

    def compiled(training):
        graph = tf.function(lambda x: run(x, training)).get_concrete_function(tf.constant(X)).graph
        return any("_XlaMustCompile" in operation.node_def.attr for operation in graph.get_operations())

    assert compiled(True) and not compiled(False)
    for ours, theirs in zip(tf.nest.flatten(run(tf.constant(X), True)), tf.nest.flatten(run(tf.constant(X), False)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@ON_CPU
@pytest.mark.parametrize("directions", [2, 1])
def test_padding_takes_no_part(directions):
    _, layer = both(directions)
    together = layer(X, mask=MASK)
    for i, frames in enumerate(MASK.sum(1)):
        np.testing.assert_allclose(together[i, :frames], layer(X[i:i + 1, :frames])[0], atol=1e-6)
    garbage = np.where(MASK[..., None], X, np.float32(1e3))
    np.testing.assert_allclose(layer(garbage, mask=MASK) * MASK[..., None], together * MASK[..., None], atol=1e-6)


@ON_CPU
def test_it_is_written_out_only_where_it_means_the_same():
    """One loop a direction, whatever the mask; Keras's own call with other activations, half precision, or dropout in training."""
    _, layer = both()
    assert layer._written_out() and loops(layer, MASK) == 2
    for dropping in ({"dropout": 0.5}, {"recurrent_dropout": 0.5}):
        layer = Bidirectional(keras.layers.LSTM(4, return_sequences=True, **dropping))
        assert layer._written_out() and not layer._written_out(training=True)
    for unusual in ({"activation": "relu"}, {"recurrent_activation": "hard_sigmoid"},
                    {"use_bias": False}, {"stateful": True}):
        assert not Bidirectional(keras.layers.LSTM(4, return_sequences=True, **unusual))._written_out(), unusual
    assert not Bidirectional(keras.layers.LSTM(4))._written_out()
    assert not Bidirectional(keras.layers.GRU(4, return_sequences=True))._written_out()
    assert not Bidirectional(keras.layers.LSTM(4, return_sequences=True, dtype="mixed_bfloat16"), dtype="mixed_bfloat16")._written_out()
    backward = keras.layers.LSTM(4, return_sequences=True, go_backwards=True, activation="relu")
    assert not Bidirectional(keras.layers.LSTM(4, return_sequences=True), backward_layer=backward)._written_out()


@ON_CPU
def test_one_direction_is_written_out_only_where_it_means_the_same():
    _, layer = both(1)
    assert layer._written_out() and loops(layer, MASK) == 1
    assert not Lstm(4, return_sequences=True, dropout=0.5)._written_out(training=True)
    for unusual in ({"activation": "relu"}, {"go_backwards": True}, {"return_state": True}, {"stateful": True},
                    {"dtype": "mixed_bfloat16"}):
        assert not Lstm(4, return_sequences=True, **unusual)._written_out(), unusual
    assert not Lstm(4)._written_out()
    theirs, ours = both(1, return_state=True)
    state = [RNG.standard_normal((3, 4)).astype(np.float32) for _ in range(2)]
    for a, b in zip(ours(X, initial_state=state), theirs(X, initial_state=state), strict=True):  # a state handed in: Keras's own call
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("directions", [2, 1])
def test_elsewhere_the_call_is_keras_s_own(directions):
    theirs, ours = both(directions, dropout=0.5, recurrent_dropout=0.5)
    np.testing.assert_allclose(ours(X), theirs(X), atol=1e-6)
    assert np.abs(ours(X, training=True) - ours(X)).max() > 0.01  # dropped
    theirs, ours = both(directions, recurrent_activation="hard_sigmoid")
    np.testing.assert_allclose(ours(X, mask=MASK), theirs(X, mask=MASK), atol=1e-6)


@pytest.mark.parametrize("directions", [2, 1])
def test_a_gpu_keeps_cudnn(monkeypatch, directions):
    _, layer = both(directions)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["a GPU"])
    assert not layer._written_out()


@pytest.mark.parametrize("kinds", [
    [lambda layer=layer: layer(keras.layers.LSTM(4, return_sequences=True, name="lstm"), name="blstm")
     for layer in (keras.layers.Bidirectional, Bidirectional)],
    [lambda layer=layer: layer(4, return_sequences=True, name="lstm") for layer in (keras.layers.LSTM, Lstm)]])
def test_weights_and_models_are_exchanged_with_keras(tmp_path, kinds):
    """A weights file of the stock layer loads, and the other way round; a full model comes back as this layer."""
    models = []
    for kind in kinds:
        inputs = keras.Input((None, 5))
        models.append(keras.Model(inputs, kind()(inputs)))
    theirs, ours = models
    theirs.save_weights(tmp_path / "w.weights.h5")
    ours.load_weights(tmp_path / "w.weights.h5")
    np.testing.assert_allclose(ours(X), theirs(X), atol=1e-6)
    ours.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again.layers[-1]) is type(ours.layers[-1])
    np.testing.assert_array_equal(again(X), ours(X))


def test_the_layer_that_is_given_keeps_its_address():
    """Keras 3.15, reading a file, takes a layer for an earlier one that lay at the same address: two directions alike, shared weights."""
    given = keras.layers.LSTM(2, return_sequences=True)
    layer, alive = Bidirectional(given), weakref.ref(given)
    del given
    gc.collect()
    assert alive() is not None and alive() not in (layer.forward_layer, layer.backward_layer)
    layer.build((None, None, 3))
    assert len(layer.weights) == 6
