"""Multiply-accumulates against counts by hand: layer by layer, and of whole networks."""

import re

import keras
import numpy as np
import pytest
from keras import layers

from se_keras import models
from se_keras.errors import UserError
from se_keras.models.macs import multiply_accumulates
from se_keras.models.recurrent import Bidirectional, Lstm


def counted(shape, *through):
    """Multiply-accumulates of layers one behind the other, on an input `shape` without its batch axis."""
    given = x = keras.Input(shape)
    for layer in through:
        x = layer(x)
    return multiply_accumulates(keras.Model(given, x), np.zeros((1, *shape), np.float32))


LSTM = 4 * 3 * (5 + 3)  # a step of 3 units on 5 features: four gates, each a product with the input and one with the last output
LAYERS = {
    "dense": ((7, 5), [layers.Dense(3)], 7 * 5 * 3),
    "dense on the last of three axes": ((7, 2, 5), [layers.Dense(3)], 7 * 2 * 5 * 3),
    "einsum": ((7, 5), [layers.EinsumDense("abc,cde->abde", (None, 2, 3))], 7 * 5 * 2 * 3),
    "einsum with an ellipsis, contracting two": ((7, 2, 5), [layers.EinsumDense("...cd,cde->...e", 4)], 7 * 2 * 5 * 4),
    "convolution in time": ((7, 5), [layers.Conv1D(3, 4, padding="same")], 7 * 4 * 5 * 3),
    "valid": ((7, 5), [layers.Conv1D(3, 4)], (7 - 3) * 4 * 5 * 3),
    "causal and dilated": ((7, 5), [layers.Conv1D(3, 2, dilation_rate=2, padding="causal")], 7 * 2 * 5 * 3),
    "strides": ((8, 6, 5), [layers.Conv2D(3, (2, 3), strides=2, padding="same")], 4 * 3 * 2 * 3 * 5 * 3),
    "groups": ((8, 6, 4), [layers.Conv2D(6, 3, padding="same", groups=2)], 8 * 6 * 9 * 4 * 6 // 2),
    "transposed": ((4, 3, 5), [layers.Conv2DTranspose(2, (2, 3), strides=2, padding="same")], 4 * 3 * 2 * 3 * 5 * 2),
    "depthwise": ((8, 6, 5), [layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)], 8 * 6 * 9 * 5 * 2),
    "separable": ((8, 5), [layers.SeparableConv1D(7, 3, padding="same")], 8 * (3 * 5 + 5 * 7)),
    "LSTM": ((7, 5), [layers.LSTM(3)], 7 * LSTM),
    "the house's": ((7, 5), [Lstm(3, return_sequences=True)], 7 * LSTM),
    "GRU": ((7, 5), [layers.GRU(3, return_sequences=True)], 7 * LSTM * 3 // 4),
    "bidirectional": ((7, 5), [layers.Bidirectional(layers.LSTM(3, return_sequences=True))], 2 * 7 * LSTM),
    "bidirectional, the house's": ((7, 5), [Bidirectional(layers.LSTM(3, return_sequences=True))], 2 * 7 * LSTM),
    "at every step": ((7, 4, 5), [layers.TimeDistributed(layers.Conv1D(3, 2, padding="same"))], 7 * 4 * 2 * 5 * 3),
    "in a wrapper": ((7, 5), [layers.SpectralNormalization(layers.Dense(3))], 7 * 5 * 3),
    "in a model in a model": ((7, 5), [keras.Sequential([layers.Dense(3), keras.Sequential([layers.Dense(2)])])], 7 * (5 * 3 + 3 * 2)),
    "nothing counts": ((7, 5), [layers.LayerNormalization(axis=(1, 2)), layers.PReLU(), layers.BatchNormalization(),
                                layers.Activation("tanh")], 0)}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer(name):
    shape, through, expected = LAYERS[name]
    assert counted(shape, *through) == expected


def test_attention():
    """4 queries, 6 keys, two heads of 3 features: projections there and back, queries with keys, weights with values."""
    query, value = keras.Input((4, 5)), keras.Input((6, 7))
    x = layers.MultiHeadAttention(2, 3)(query, value)
    found = multiply_accumulates(keras.Model([query, value], x), [np.zeros((1, 4, 5)), np.zeros((1, 6, 7))])
    projections = 4 * 5 * 2 * 3 + 2 * (6 * 7 * 2 * 3) + 4 * (2 * 3) * 5
    assert found == projections + 2 * 4 * 6 * (3 + 3)


def test_what_is_used_twice_counts_twice():
    layer = layers.Dense(5)
    assert counted((7, 5), layer, layer) == 2 * 7 * 5 * 5


class Folded(layers.Layer):
    """A dense layer on every frame's bins, frames folded into the batch."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def build(self, shape):
        self.inner.build((None, *shape[2:]))

    def call(self, x):
        batch, frames, *rest = keras.ops.shape(x)
        y = self.inner(keras.ops.reshape(x, (-1, *rest)))
        return keras.ops.reshape(y, (batch, frames, *y.shape[1:]))

    def compute_output_shape(self, shape):
        return (*shape[:2], *self.inner.compute_output_shape((None, *shape[2:]))[1:])


class SaysItself(layers.Dense):
    """A layer that says what it costs, and hears shapes without the batch axis; what is in it is not counted again."""

    def macs(self, input_shapes, output_shape):
        assert (input_shapes, output_shape) == ([(4, 5)], (4, 3))
        return 1000


def test_frames_folded_into_the_batch_count():
    lstm = Bidirectional(layers.LSTM(3, return_sequences=True))
    assert counted((6, 7, 5), Folded(lstm)) == 6 * 2 * 7 * LSTM
    assert counted((4, 5), SaysItself(3)) == 1000
    assert counted((6, 4, 5), Folded(SaysItself(3))) == 6 * 1000


class Hidden(layers.Layer):
    """A matrix of which nobody knows what it is for."""

    def build(self, shape):
        self.matrix = self.add_weight(shape=(shape[-1], 3), name="matrix")

    def call(self, x):
        return keras.ops.matmul(x, self.matrix)


@pytest.mark.parametrize(("through", "named"), [
    ([Hidden(name="mine")], r"layer mine \(Hidden\)"),
    ([layers.TimeDistributed(keras.Sequential([layers.Dense(2)]), name="each")], r"layer each \(TimeDistributed of a Sequential\)"),
    ([layers.RNN(layers.StackedRNNCells([layers.LSTMCell(2)]), name="stack")], r"layer stack \(RNN of a StackedRNNCells\)")])
def test_a_layer_without_a_rule_is_named(through, named):
    with pytest.raises(UserError, match=f"{named}: no rule counts its multiply-accumulates; give its class a method "
                                        + re.escape("macs(input_shapes, output_shape)")):
        counted((7, 4) if "each" not in named else (7, 4, 5), *through)
    assert counted((7, 5), layers.Dense(3)) == 7 * 5 * 3  # Keras calls its layers as before


def test_attention_without_weights_is_no_nothing():
    x = keras.Input((4, 5))
    with pytest.raises(UserError, match="layer scores"):
        multiply_accumulates(keras.Model(x, layers.Attention(name="scores")([x, x])), np.zeros((1, 4, 5)))


# --- networks --------------------------------------------------------------------------------------------------------------------


def of_network(name, frames, **arguments):
    network = models.build(name, **arguments)
    shape = (1, frames, *network.input_shape[0][2:])
    return multiply_accumulates(network, [np.zeros(shape, np.float32), np.ones((1, frames), bool)])


def test_dnn():
    """11 frames of 257 bins to 256 units, twice 256 to 256, 256 to 257."""
    assert of_network("dnn", 64) == 64 * (11 * 257 * 256 + 2 * 256 * 256 + 256 * 257) == 58_916_864


def test_blstm():
    """Two layers of two directions, then 400 to 300 and 300 to 257."""
    per_frame = 2 * 4 * 200 * (257 + 200) + 2 * 4 * 200 * (400 + 200) + 400 * 300 + 300 * 257
    assert of_network("blstm", 64) == 64 * per_frame == 120_851_200


def test_lstm():
    per_frame = 4 * 300 * (257 + 300) + 4 * 300 * (300 + 300) + 300 * 300 + 300 * 257
    assert of_network("lstm", 64) == 64 * per_frame == 99_552_000


def test_convolutions_there_and_back():
    """Halved by strides, and doubled again: what counts there are the outputs, and back the inputs."""
    x = given = keras.Input((16, 8, 1))
    x = layers.Conv2D(4, 3, strides=2, padding="same")(x)
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same")(x)
    x = layers.Conv2D(1, 1)(x)
    found = multiply_accumulates(keras.Model(given, x), np.zeros((1, 16, 8, 1)))
    assert found == 8 * 4 * 9 * (1 * 4 + 4 * 6 + 6 * 4) + 16 * 8 * 4


def test_tfgridnet():
    """A second at its authors' size. They print 33.65 G, 2% more: a tool's count, in which the gates of an LSTM have their share."""
    frames, bins, channels, units = 63, 255, 32, 100
    step = 2 * 4 * units * (4 * channels + units) + 2 * units * 4 * channels  # four cells a step; and back to cells
    steps = frames * (bins - 3) + bins * (frames - 3)
    projections = frames * bins * channels * (2 * 4 * 4 + channels + channels)  # queries and keys: 4 heads of 4; values; what follows
    attention = frames ** 2 * bins * (4 * 4 + channels)
    ends = 4 * 3 * frames * 257 * 4 + frames * bins * 9 * (4 * channels + 2 * channels)  # phase encoder; convolutions in and out
    found = of_network("tfgridnet", frames)
    assert found == 5 * (step * steps + projections + attention) + ends == 32_941_238_688
    assert 0.97 < found / 33.65e9 < 1


def test_dccrn():
    """A second at its authors' size: complex convolutions of 5 bins x 2 frames, each the four real ones between halves of the channels."""
    frames, kernel = 163, 5 * 2
    bins = {"down": (128, 64, 32, 16, 8, 4), "up": (4, 8, 16, 32, 64, 128)}  # of an encoder's outputs, of a decoder's inputs
    encoder = sum(width * kernel * of * to for width, of, to in zip(bins["down"], (2, 32, 64, 128, 256, 256), (32, 64, 128, 256, 256, 256),
                                                                    strict=True))
    decoder = sum(width * kernel * of * to for width, of, to in zip(bins["up"], (512, 512, 512, 256, 128, 64), (256, 256, 128, 64, 32, 2),
                                                                    strict=True))
    lstms = 4 * 4 * 128 * ((512 + 128) + (128 + 128)) + 2 * 128 * 512  # real and imaginary LSTM on both parts, twice; and back
    assert of_network("dccrn", frames) == frames * (encoder + decoder + lstms) == 8_692_776_960
