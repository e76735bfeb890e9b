"""Multiply-accumulates of a network, counted from its layers as they are called.

What counts are products with a matrix of weights, and of queries with keys and of weights with values in attention. What does not:
biases, activations, normalisation, elementwise products of signals or masks, and what an LSTM does at each gate.

A layer of one's own may say itself what it costs, by a method

    def macs(self, input_shapes, output_shape)

of shapes without the batch axis, for one utterance; its sublayers are then not asked.
"""

import math

import keras

from se_keras.errors import UserError

_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D, keras.layers.DepthwiseConv1D,
                 keras.layers.DepthwiseConv2D)
_TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
_SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
_CELLS = (keras.layers.LSTMCell, keras.layers.GRUCell, keras.layers.SimpleRNNCell)
_ELEMENTWISE = (keras.layers.BatchNormalization, keras.layers.LayerNormalization, keras.layers.GroupNormalization,
                keras.layers.RMSNormalization, keras.layers.Normalization, keras.layers.PReLU)
_WITHOUT_RULE = (keras.layers.Attention, keras.layers.AdditiveAttention, keras.layers.GroupQueryAttention, keras.layers.Dot)


def multiply_accumulates(network, inputs):
    """Multiply-accumulates of one call.

    The network is called as it is, and every layer in it, however deep, is counted by the shapes that it meets: a layer that sees
    frames folded into the batch as often as it really works, a layer that is used twice twice. What is counted is not computed: zeros of
    the right shape go on in its place.

    Args:
        network: keras.Model.
        inputs: its inputs, arrays with a batch of one.

    Returns:
        int.

    Raises:
        UserError: a layer with a matrix of weights, or an attention, that has no rule here and no `macs` of its own.
    """
    total, inside = 0, False
    plain_call = keras.layers.Layer.__call__

    def counted_call(layer, *arguments, **named):
        nonlocal total, inside
        if inside:  # of a layer that was counted as a whole
            return plain_call(layer, *arguments, **named)
        rule = _rule(layer)
        if rule is None:
            return plain_call(layer, *arguments, **named)
        whole = not isinstance(layer, keras.layers.MultiHeadAttention)  # whose projections are layers in it
        output = _zeros(layer, arguments, named) if whole else None
        if output is None:
            inside = whole
            try:
                output = plain_call(layer, *arguments, **named)
            finally:
                inside = False
        total += rule(layer, _shapes((arguments, named)), _shapes(output)[0])
        return output

    keras.layers.Layer.__call__ = counted_call
    try:
        network(inputs, training=False)
    finally:
        keras.layers.Layer.__call__ = plain_call
    return total


def _zeros(layer, arguments, named):
    """Zeros of the shape and type of a layer's output; None where it cannot say it beforehand."""
    def spec(each):
        return keras.KerasTensor(each.shape, keras.backend.standardize_dtype(each.dtype)) if hasattr(each, "shape") else each

    arguments, named = keras.tree.map_structure(spec, (arguments, named))
    outputs = layer.compute_output_spec(*arguments, **named)
    if any(None in shape for shape in _shapes(outputs)):
        return None
    return keras.tree.map_structure(lambda each: keras.ops.zeros(each.shape, each.dtype), outputs)


def _shapes(tensors):
    """Shapes of all tensors in a nest, batch axis included."""
    return [tuple(each.shape) for each in keras.tree.flatten(tensors) if hasattr(each, "shape")]


def _rule(layer):
    """(layer, input shapes, output shape) -> int, shapes with the batch axis; None of a layer that costs nothing but what is in it.

    Raises:
        UserError: there is none, and there should be one.
    """
    if hasattr(layer, "macs"):
        return _own
    for kinds, rule in _RULES:
        if isinstance(layer, kinds):
            return rule
    if isinstance(layer, _WITHOUT_RULE) or not isinstance(layer, (*_ELEMENTWISE, keras.layers.Wrapper)) and _has_matrix(layer):
        raise _no_rule(layer)
    return None


def _no_rule(layer, what=""):
    return UserError(f"layer {layer.name} ({type(layer).__name__}{what}): no rule counts its multiply-accumulates; give its class a method "
                     "macs(input_shapes, output_shape)")


def _has_matrix(layer):
    """Whether a layer itself holds weights that more than scale and shift: with two axes or more that are longer than one."""
    below = {id(weight) for sublayer in layer._flatten_layers(include_self=False) for weight in sublayer.weights}
    return any(sum(length > 1 for length in weight.shape) > 1 for weight in layer.weights if id(weight) not in below)


def _own(layer, input_shapes, output_shape):
    return layer.macs([shape[1:] for shape in input_shapes], output_shape[1:]) * output_shape[0]  # frames may be folded into the batch


def _dense(layer, input_shapes, output_shape):
    return math.prod(input_shapes[0][:-1]) * math.prod(layer.kernel.shape)


def _einsum_dense(layer, input_shapes, output_shape):
    of_input, of_kernel = layer.equation.split("->")[0].replace(".", "").split(",")
    return math.prod(input_shapes[0]) * math.prod(length for label, length in zip(of_kernel, layer.kernel.shape, strict=True)
                                                  if label not in of_input)


def _convolution(layer, input_shapes, output_shape):
    """The whole kernel at every place of the output, zeros of padding included."""
    channels = output_shape[1 if layer.data_format == "channels_first" else -1]
    return math.prod(output_shape) // channels * math.prod(layer.kernel.shape)


def _separable(layer, input_shapes, output_shape):
    return math.prod(output_shape) // layer.filters * (math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape))


def _transposed(layer, input_shapes, output_shape):
    """The whole kernel at every place of the input, what is cropped at the borders included."""
    return math.prod(input_shapes[0]) // layer.kernel.shape[-1] * math.prod(layer.kernel.shape)


def _recurrent(layer, input_shapes, output_shape):
    """Both kernels, of the input and of the last output, at every step."""
    if not isinstance(layer.cell, _CELLS):
        raise _no_rule(layer, f" of a {type(layer.cell).__name__}")
    return math.prod(input_shapes[0][:-1]) * (math.prod(layer.cell.kernel.shape) + math.prod(layer.cell.recurrent_kernel.shape))


def _bidirectional(layer, input_shapes, output_shape):
    return sum(_recurrent(direction, input_shapes, output_shape) for direction in (layer.forward_layer, layer.backward_layer))


def _time_distributed(layer, input_shapes, output_shape):
    """Its layer at every step; that is not called as layers are, so layers in it are not seen."""
    rule = _rule(layer.layer)
    if rule is None:
        if layer.layer._flatten_layers(include_self=False):
            raise _no_rule(layer, f" of a {type(layer.layer).__name__}")
        return 0
    at_once = [(shape[0] * shape[1], *shape[2:]) for shape in (*input_shapes[:1], output_shape)]
    return rule(layer.layer, at_once[:1], at_once[1])


def _attention(layer, input_shapes, output_shape):
    """Queries with keys, and weights with values; the projections before and after are layers of their own."""
    query, value = input_shapes[:2]
    axes = layer.attention_axes or range(1, len(query) - 1)
    return math.prod(query[:-1]) * math.prod(value[axis] for axis in axes) * layer.num_heads * (layer.key_dim + layer.value_dim)


_RULES = ((keras.layers.Dense, _dense), (keras.layers.EinsumDense, _einsum_dense), (_TRANSPOSED, _transposed), (_SEPARABLE, _separable),
          (_CONVOLUTIONS, _convolution), (keras.layers.Bidirectional, _bidirectional), (keras.layers.RNN, _recurrent),
          (keras.layers.TimeDistributed, _time_distributed), (keras.layers.MultiHeadAttention, _attention))
