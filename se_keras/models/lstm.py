"""The causal enhancer: two LSTM layers that run forward, and features that know only the frames so far."""

import math

import keras
import numpy as np
from keras import ops

from se_keras.errors import UserError, check_choice
from se_keras.models.blstm import mask_head
from se_keras.models.layers import gate_activation, register
from se_keras.models.recurrent import Lstm
from se_keras.signals.magnitudes import COMPRESSIONS, compress

BLOCK = 64  # frames that are summed as one product of matrices


def lstm(bins=257, units=300, dense_units=300, dropout=0.0, mask_floor=0.0, compression="log", memory_frames=250, sigmoid="plain",
         recurrent_activation="sigmoid", name="lstm"):
    """Build the causal, unidirectional twin of `blstm`: the mask of a frame depends on that frame and on those before it.

    There is no lookahead in frames; only the STFT delays a stream, whose centred frames end half a window after their centre. From
    block to block a stream carries the state of `RunningNormalization` and (h, c) of each LSTM.

    Inputs: magnitude float32 `(batch, frames, bins)`, >= 0, at any level; frame_mask bool `(batch, frames)`, right-padded. Output: mask
    float32 `(batch, frames, bins)` in [mask_floor, 1].

    Args:
        bins: frequency bins.
        units: LSTM units of each of the two layers.
        dense_units, dropout, mask_floor, sigmoid, recurrent_activation: as `blstm`.
        compression: scale of the input feature, one of `signals.magnitudes.COMPRESSIONS`, after the level is normalised.
        memory_frames: time constant of the running level, mean and variance, in frames: 250 are 4 s at a hop of 16 ms. None: all the
            frames so far count alike.
        name: name of the model.

    Returns:
        A functional keras.Model of 1,558,457 parameters with the default sizes.

    Raises:
        UserError: a memory that is not above 0, or another unknown value.
    """
    magnitude = keras.Input((None, bins), name="magnitude")
    frame_mask = keras.Input((None,), dtype="bool", name="frame_mask")
    x = RunningNormalization(compression, memory_frames, name="running")(magnitude)
    for number in (1, 2):
        x = Lstm(units, return_sequences=True, recurrent_activation=gate_activation(recurrent_activation),
                 name=f"lstm_{number}")(x, mask=frame_mask)
    mask = mask_head(x, bins, dense_units, dropout, sigmoid, mask_floor)
    return keras.Model([magnitude, frame_mask], mask, name=name)


def streams(network):
    """Whether a network is one of `lstm`, which `step` takes apart."""
    return any(isinstance(layer, RunningNormalization) for layer in network.layers)


def step(network):
    """One frame of `lstm`'s network, with the state between frames as inputs and outputs, sharing its weights.

    Inputs: magnitude float32 `(1, 1, bins)`, and the states, zeros before the first frame: of the running statistics `(1, 2 + 2 * bins)`,
    then h and c `(1, units)` of each LSTM. Outputs: mask float32 `(1, 1, bins)`, and the states behind the frame, in that order.

    Args:
        network: of `lstm`.

    Returns:
        A functional keras.Model.
    """
    running, cells = network.get_layer("running"), [network.get_layer(f"lstm_{number}").cell for number in (1, 2)]
    bins = network.input_shape[0][-1]
    magnitude = keras.Input((1, bins), batch_size=1, name="magnitude")
    statistics = keras.Input((2 + 2 * bins,), batch_size=1, name="statistics")
    states = [keras.Input((cell.units,), batch_size=1, name=f"{kind}_{number}") for number, cell in enumerate(cells, 1) for kind in "hc"]
    x, after = AdvanceStatistics(running, name="running")(magnitude, statistics)
    outputs = [after]
    x = x[:, 0]
    for number, cell in enumerate(cells):
        outputs += AdvanceLstm(cell, name=f"advance_lstm_{number + 1}")(x, *states[2 * number:2 * number + 2])
        x = outputs[-2]
    x = x[:, None]
    names = [layer.name for layer in network.layers]
    for layer in network.layers[names.index("lstm_2") + 1:]:
        x = layer(x)
    return keras.Model([magnitude, statistics, *states], [x, *outputs], name=f"{network.name}_step")


@register
class RunningNormalization(keras.layers.Layer):
    """Level-normalised, compressed and standardised magnitude by statistics of the frames so far: the causal twin of `mask_features`.

    Frame t is divided by the RMS magnitude of frames 0 .. t, compressed, and each bin brought to zero mean and unit variance by the
    mean and variance of its frames 0 .. t, each of which was divided by the level of its own time. A frame's weight falls by a factor
    e every `memory_frames` frames. The weights' own sum divides, so that the first frames are averaged over as few as there are: the
    first is 0 in every bin, and frame t lies within +-sqrt(t). Frames of digital silence are not counted, and come out 0. Gain does not
    matter.

    Call argument: magnitude float32 `(batch, frames, bins)`, >= 0. Output: float32, likewise. Padding, to the right, changes nothing.

    Args:
        compression: one of `signals.magnitudes.COMPRESSIONS`.
        memory_frames: time constant in frames, above 0; None for no forgetting.

    Raises:
        UserError: another value of either.
    """

    variance_floor = 1e-3  # a bin that stands still, as above the band of narrow-band speech, is not blown up to unit variance

    def __init__(self, compression="log", memory_frames=250, **kwargs):
        super().__init__(**kwargs)
        check_choice("compression", compression, COMPRESSIONS)
        if memory_frames is not None and not memory_frames > 0:
            raise UserError(f"memory_frames {memory_frames!r}: a number of frames above 0 is expected, or None for no forgetting")
        self.compression, self.memory_frames = compression, memory_frames

    def call(self, magnitude):
        return self.advance(magnitude, self.initial_state(ops.shape(magnitude)[0], magnitude.shape[-1]))[0]

    @staticmethod
    def initial_state(batch, bins):
        """The state before the first frame: zeros, float32 `(batch, 2 + 2 * bins)`."""
        return ops.zeros((batch, 2 + 2 * bins), "float32")

    def advance(self, magnitude, state):
        """The next frames of a stream.

        Args:
            magnitude: float32 `(batch, frames, bins)`, one frame or more.
            state: float32 `(batch, 2 + 2 * bins)`: the weighted sums over all frames before of 1, of the mean power, and for each bin
                of the feature and of its square.

        Returns:
            `(features, state)`: float32 `(batch, frames, bins)`, and the state behind these frames.
        """
        power = ops.mean(ops.square(magnitude), axis=-1, keepdims=True)
        heard = ops.cast(power > 0, "float32")
        sums = self._sums(ops.concatenate([heard, power], axis=-1), state[:, :2])
        count, energy = ops.split(ops.where(heard > 0, sums, 1.0), 2, axis=-1)
        x = compress(magnitude / ops.sqrt(energy / count), self.compression)
        moments = self._sums(ops.concatenate([x, ops.square(x)], axis=-1) * heard, state[:, 2:])
        mean, square = ops.split(moments / count, 2, axis=-1)
        variance = ops.maximum(square - ops.square(mean), 0.0)
        features = heard * (x - mean) * ops.rsqrt(variance + self.variance_floor)
        return features, ops.concatenate([sums[:, -1], moments[:, -1]], axis=-1)

    def _sums(self, x, before):
        """s_t = decay s_(t-1) + x_t for all frames: float32 `(batch, frames, values)` of as many, from `before` `(batch, values)` on.

        Within blocks, and from block to block, as products with matrices of powers: no loop over frames.
        """
        frames, values = ops.shape(x)[1], x.shape[-1]
        decay = 1.0 if self.memory_frames is None else math.exp(-1 / self.memory_frames)
        age = np.subtract.outer(np.arange(BLOCK), np.arange(BLOCK))
        missing = (BLOCK - frames % BLOCK) % BLOCK  # of a number above 0: tf2onnx gets -n % m wrong
        blocks = ops.reshape(ops.pad(x, [[0, 0], [0, missing], [0, 0]]), (ops.shape(x)[0], -1, BLOCK, values))
        within = ops.matmul(np.where(age >= 0, decay ** np.maximum(age, 0), 0).astype(np.float32), blocks)
        number = ops.arange(ops.shape(blocks)[1])
        blocks_ago = ops.expand_dims(number, 1) - 1 - number  # of the block that ends before this one: 0
        faded = ops.power(decay ** BLOCK, ops.cast(ops.maximum(blocks_ago, 0), "float32")) * ops.cast(blocks_ago >= 0, "float32")
        carried = ops.matmul(faded, within[:, :, -1])
        carried = carried + ops.power(decay ** BLOCK, ops.cast(number, "float32"))[:, None] * ops.expand_dims(before, 1)
        fading = (decay ** np.arange(1, BLOCK + 1)).astype(np.float32)[:, None]
        sums = within + ops.convert_to_tensor(fading) * ops.expand_dims(carried, 2)
        return ops.reshape(sums, (ops.shape(x)[0], -1, values))[:, :frames]

    def compute_output_shape(self, shape):
        return shape

    def get_config(self):
        return {**super().get_config(), "compression": self.compression, "memory_frames": self.memory_frames}


class _Advance(keras.layers.Layer):
    """A frame of another layer, with its state as input and output.

    Args:
        advanced: the layer, whose weights it shares.
    """

    def __init__(self, advanced, **kwargs):
        super().__init__(**kwargs)
        self.advanced = advanced

    def get_config(self):
        return {**super().get_config(), "advanced": keras.saving.serialize_keras_object(self.advanced)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("advanced")), **config)


@register
class AdvanceLstm(_Advance):
    """A frame of a `keras.layers.LSTMCell`: (features, h, c), float32 `(batch, ...)` each, -> the next (h, c); h is its output."""

    def call(self, x, h, c):
        return tuple(self.advanced(x, [h, c])[1])

    def compute_output_shape(self, x_shape, h_shape, c_shape):
        return h_shape, c_shape


@register
class AdvanceStatistics(_Advance):
    """`advance` of a `RunningNormalization`: (magnitude, state) -> (features, state), shapes as there."""

    def call(self, magnitude, state):
        return self.advanced.advance(magnitude, state)

    def compute_output_shape(self, magnitude_shape, state_shape):
        return magnitude_shape, state_shape
