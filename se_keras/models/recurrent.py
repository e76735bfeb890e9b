"""LSTMs that train on a CPU as fast as they should: loops of few kernels, and a gradient written out."""

import keras
from keras import ops

from se_keras.backend import on_cpu
from se_keras.models.layers import register


@register
class Bidirectional(keras.layers.Bidirectional):
    """`keras.layers.Bidirectional` of an LSTM, with the same weights, configuration and results.

    Keras runs one loop a direction, tells padding from speech in every step of it, and differentiates it step by step: some
    150,000 small kernels an update of the letter's enhancer. Here, under TensorFlow on a CPU, the products with the input
    stand outside the loop, padding (always to the right) is left to fall where it does no harm, and the gradient is a second
    loop of as few kernels. Elsewhere (cuDNN, other backends), for an LSTM with other activations, and in the training of one
    with dropout, the call is Keras's own.

    Attributes:
        jit: whether its loops are compiled by XLA in training (`compile_loops`).

    Call arguments: sequence float32 `(batch, frames, features)`; mask bool `(batch, frames)`, True first and then False, or None.
    Output float32 `(batch, frames, 2 units)`; what stands on padding frames has no meaning.
    """

    jit = False

    def __init__(self, layer, **kwargs):
        super().__init__(layer, **kwargs)
        # While a file is read, Keras knows layers by their address: were the given one freed, the next to lie there would be taken for it.
        self._given = lambda: layer

    def call(self, sequences, initial_state=None, mask=None, training=None):
        if initial_state is not None or not self._written_out(training):
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        lengths = ops.full(ops.shape(sequences)[:1], ops.shape(sequences)[1], "int32") if mask is None else ops.sum(
            ops.cast(mask, "int32"), axis=1)
        return _bidirectional_lstm(sequences, lengths, _weights(self.forward_layer), _weights(self.backward_layer), self.jit and training)

    def _written_out(self, training=False):
        layers = (self.forward_layer, self.backward_layer)
        return (all(map(_standard, layers)) and not self.forward_layer.go_backwards and self.merge_mode == "concat"
                and not (training and any(map(_drops, layers))) and _here(self))


@register
class Lstm(keras.layers.LSTM):
    """`keras.layers.LSTM`, in one direction, with the same weights, configuration and results: `Bidirectional` says where it is faster.

    Call arguments: sequence float32 `(batch, frames, features)`; mask bool `(batch, frames)`, True first and then False, or None.
    Output float32 `(batch, frames, units)`; what stands on padding frames has no meaning.
    """

    jit = False  # as of `Bidirectional`

    def call(self, sequences, initial_state=None, mask=None, training=False):
        if initial_state is not None or not self._written_out(training):
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        return _lstm(sequences, _weights(self), self.jit and training)

    def _written_out(self, training=False):
        return _standard(self) and not self.go_backwards and not (training and _drops(self)) and _here(self)


def compile_loops(network):
    """Have XLA compile the loops of a network's LSTMs in training, where they are written out (TensorFlow on a CPU).

    An update of the letter's enhancer takes a fifth to a quarter less time then (docs/benchmarks.md). Each shape of a batch is compiled by
    itself, which takes seconds: this is for pieces of one length. The results are equal to rounding.

    Args:
        network: keras.Model, before its first update.

    Returns:
        The number of such LSTMs.
    """
    found = [layer for layer in network._flatten_layers() if isinstance(layer, (Bidirectional, Lstm)) and layer._written_out()]
    for layer in found:
        layer.jit = True
    return len(found)


def _standard(layer):
    """Whether a layer is an LSTM as `_recurrence` has it (the one that runs backward has `go_backwards`)."""
    return isinstance(layer, keras.layers.LSTM) and layer.return_sequences and layer.use_bias and not (
        layer.return_state or layer.stateful or layer.unroll) and (
        layer.activation, layer.recurrent_activation) == (keras.activations.tanh, keras.activations.sigmoid)


def _weights(layer):
    """Kernel, recurrent kernel and bias of an LSTM, as Keras keeps them: its gates are input, forget, candidate, output."""
    return layer.cell.kernel.value, layer.cell.recurrent_kernel.value, layer.cell.bias.value


def _drops(layer):
    return bool(layer.dropout or layer.recurrent_dropout)


def _here(layer):
    """Whether a layer computes where the written-out loops are of use."""
    return layer.compute_dtype == "float32" and keras.backend.backend() == "tensorflow" and on_cpu()


def _lstm(x, weights, jit):
    """One direction's outputs, float32 `(batch, frames, units)`; arguments as `_bidirectional_lstm`."""
    import tensorflow as tf

    return tf.transpose(_one_direction(tf.transpose(x, [1, 0, 2]), *weights, jit), [1, 0, 2])


def _bidirectional_lstm(x, lengths, forward, backward, jit):
    """Both directions' outputs, side by side: float32 `(batch, frames, 2 units)`.

    Args:
        x: float32 `(batch, frames, features)`.
        lengths: int32 `(batch,)`, frames that are not padding.
        forward, backward: weights of each direction (`_weights`): float32 `(features, 4 units)`, `(units, 4 units)`, `(4 units,)`.
        jit: whether XLA compiles the loops.
    """
    import tensorflow as tf

    def reverse(sequence):
        return tf.reverse_sequence(sequence, lengths, seq_axis=0, batch_axis=1)

    x = tf.transpose(x, [1, 0, 2])  # time first
    outputs = [_one_direction(x, *forward, jit), reverse(_one_direction(reverse(x), *backward, jit))]
    return tf.transpose(tf.concat(outputs, axis=-1), [1, 0, 2])


def _one_direction(x, kernel, recurrent, bias, jit):
    """h of every frame, float32 `(frames, batch, units)`, of x float32 `(frames, batch, features)` and weights as Keras keeps them."""
    import tensorflow as tf

    def gates_last(weight):  # input, forget, output, candidate: the three sigmoids stand together
        i, f, g, o = tf.split(weight, 4, axis=-1)
        return tf.concat([i, f, o, g], axis=-1)

    recurrence = tf.function(_recurrence, jit_compile=True, autograph=False) if jit else _recurrence
    return recurrence(_product(x, gates_last(kernel), gates_last(bias)), gates_last(recurrent))


def _product(sequence, matrix, bias):
    """`(frames, batch, features)` times `(features, columns)` plus `(columns,)`, as one product of two matrices."""
    import tensorflow as tf

    shape = tf.shape(sequence)
    flat = tf.nn.bias_add(tf.matmul(tf.reshape(sequence, [-1, sequence.shape[-1]]), matrix), bias)  # its gradient has a kernel of its own
    return tf.reshape(flat, [shape[0], shape[1], matrix.shape[-1]])


def _recurrence(from_input, recurrent):
    """The LSTM itself: z_t = from_input_t + h_(t-1) R, c_t = f_t c_(t-1) + i_t g_t, h_t = o_t tanh(c_t), from h = c = 0 on.

    Args:
        from_input: float32 `(frames, batch, 4 units)`, gates in the order input, forget, output, candidate.
        recurrent: R, float32 `(units, 4 units)`.

    Returns:
        h, float32 `(frames, batch, units)`.
    """
    import tensorflow as tf

    units = recurrent.shape[0]

    @tf.custom_gradient
    def lstm(from_input, recurrent):
        frames = tf.shape(from_input)[0]
        inputs = tf.TensorArray(tf.float32, frames).unstack(from_input)

        def step(t, h, c, hs, cs, sigmoids, candidates):
            z = inputs.read(t) + tf.matmul(h, recurrent)
            sigmoid, g = tf.sigmoid(z[..., :3 * units]), tf.tanh(z[..., 3 * units:])
            i, f, o = tf.split(sigmoid, 3, axis=-1)
            c = f * c + i * g
            h = o * tf.tanh(c)
            return t + 1, h, c, hs.write(t, h), cs.write(t, c), sigmoids.write(t, sigmoid), candidates.write(t, g)

        zero = tf.zeros_like(from_input[0, ..., :units])
        arrays = [tf.TensorArray(tf.float32, frames) for _ in range(4)]
        kept = tf.while_loop(lambda t, *_: t < frames, step, [0, zero, zero, *arrays])[3:]
        h, c, sigmoid, g = (array.stack() for array in kept)

        def gradient(dh_from_output):
            # All that needs no h or c of another frame is done for all frames at once.
            i, f, o = tf.split(sigmoid, 3, axis=-1)
            before = tf.pad(c[:-1], [[1, 0], [0, 0], [0, 0]])
            tanh_c = tf.tanh(c)
            to_gates = tf.concat([g * i * (1 - i), before * f * (1 - f), tanh_c * o * (1 - o), i * (1 - tf.square(g))], axis=-1)
            to_cell = o * (1 - tf.square(tanh_c))
            read = [tf.TensorArray(tf.float32, frames).unstack(values) for values in (dh_from_output, to_gates, to_cell, f)]
            transposed = tf.transpose(recurrent)

            def step_back(t, dh, dc, dzs):
                from_output, gates, cell, forget = (array.read(t) for array in read)
                dh += from_output
                dc += dh * cell
                dz = tf.concat([dc, dc, dh, dc], axis=-1) * gates
                return t - 1, tf.matmul(dz, transposed), dc * forget, dzs.write(t, dz)

            dz = tf.while_loop(lambda t, *_: t >= 0, step_back, [frames - 1, zero, zero, tf.TensorArray(tf.float32, frames)])[3].stack()
            h_before = tf.pad(h[:-1], [[1, 0], [0, 0], [0, 0]])
            return dz, tf.matmul(*(tf.reshape(values, [-1, values.shape[-1]]) for values in (h_before, dz)), transpose_a=True)

        return h, gradient

    return lstm(from_input, recurrent)
