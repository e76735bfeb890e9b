"""Layers that the networks share; those of training models are in `training_layers`.

All are registered, so that full models save and load by name.

A frame mask is bool `(batch, frames)`, True on an utterance's own frames and False on the padding to its right.
"""

import contextlib
import functools

import keras
from keras import ops

from se_keras import backend
from se_keras.errors import check_choice
from se_keras.signals.magnitudes import COMPRESSIONS, compress, rms_level

register = keras.saving.register_keras_serializable(package="se_keras")

@register
def hard_sigmoid_keras2(x):
    """clip(0.2 x + 0.5, 0, 1), which Keras 2 calls hard_sigmoid; Keras 3's hard_sigmoid is clip(x / 6 + 0.5, 0, 1)."""
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


GATES = {"sigmoid": keras.activations.sigmoid, "hard_sigmoid_keras2": hard_sigmoid_keras2}


def gate_activation(name):
    """The function of an LSTM's gates, one of `GATES`, by a name that a card can hold: to Keras a string means its own alone."""
    check_choice("recurrent_activation", name, GATES)
    return GATES[name]


@register
class SpectrumMagnitude(keras.layers.Layer):
    """|X| of a spectrum: float32 `(..., 2)` -> `(...)`. For inputs only: its gradient at zero is not a number."""

    def call(self, spectrum):
        return ops.sqrt(ops.sum(ops.square(spectrum), axis=-1))

    def compute_output_shape(self, shape):
        return shape[:-1]


@register
class LevelNormalization(keras.layers.Layer):
    """Divides magnitudes by one level an utterance (`rms_level`), so that gain does not matter.

    Call arguments:
        magnitude: float32 `(batch, frames, bins)`.
        frame_mask: bool `(batch, frames)`.
        reference: float32 `(batch, frames, bins)`, whose level is used; by default `magnitude` itself. A pair of signals is
            normalised by one gain when both calls get the same reference.
    """

    def call(self, magnitude, frame_mask, reference=None):
        return magnitude / rms_level(magnitude if reference is None else reference, frame_mask)

    def compute_output_shape(self, magnitude_shape, *_, **__):
        return magnitude_shape


@register
class Compression(keras.layers.Layer):
    """`compress` as a layer."""

    def __init__(self, how="log1p", **kwargs):
        super().__init__(**kwargs)
        check_choice("compression", how, COMPRESSIONS)
        self.how = how

    def call(self, magnitude):
        return compress(magnitude, self.how)

    def compute_output_shape(self, shape):
        return shape

    def get_config(self):
        return {**super().get_config(), "how": self.how}


@register
class UtteranceNormalization(keras.layers.Layer):
    """Each bin to zero mean and unit variance over an utterance's own frames (the feature of MetricGAN's enhancer).

    Call arguments: features float32 `(batch, frames, bins)`, frame_mask bool `(batch, frames)`. Padding frames come out zero.
    """

    variance_floor = 1e-6

    def call(self, features, frame_mask):
        valid = ops.expand_dims(ops.cast(frame_mask, features.dtype), -1)
        count = ops.maximum(ops.sum(valid, axis=1, keepdims=True), 1.0)
        mean = ops.sum(features * valid, axis=1, keepdims=True) / count
        variance = ops.sum(ops.square(features - mean) * valid, axis=1, keepdims=True) / count
        return (features - mean) / ops.sqrt(variance + self.variance_floor) * valid

    def compute_output_shape(self, features_shape, *_):
        return features_shape


@register
class ReferenceNormalization(UtteranceNormalization):
    """`UtteranceNormalization` as MetricGAN's code has it: it divides by std + 1e-12, which sqrt(variance + 1e-24) is to seven digits."""

    variance_floor = 1e-24


@register
class ZeroPadding(keras.layers.Layer):
    """Sets what lies on padding frames to zero: `(batch, frames, ...)` times the frame mask."""

    def call(self, x, frame_mask):
        mask = ops.cast(frame_mask, x.dtype)
        return x * ops.reshape(mask, ops.shape(mask) + (1,) * (len(x.shape) - 2))

    def compute_output_shape(self, shape, *_):
        return shape


@register
class MaskedGlobalAveragePooling2D(keras.layers.GlobalAveragePooling2D):
    """GlobalAveragePooling2D over the valid frames only: `(batch, frames, bins, channels)` -> float32 `(batch, channels)`.

    Sums in float32 whatever the dtype of its input: a bfloat16 sum over 60,000 values keeps 8 bits.

    Call arguments: features, and frame_mask bool `(batch, frames)` of the same number of frames.
    """

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})

    def call(self, features, frame_mask):
        features = ops.cast(features, "float32")
        valid = ops.cast(frame_mask, "float32")
        per_frame = ops.mean(features, axis=2) * ops.expand_dims(valid, -1)
        return ops.sum(per_frame, axis=1) / ops.maximum(ops.sum(valid, axis=1, keepdims=True), 1.0)

    def compute_output_shape(self, features_shape, *_):
        return (features_shape[0], features_shape[-1])


@register
class MaskedBatchNormalization(keras.layers.BatchNormalization):
    """BatchNormalization of images by the statistics of their valid frames.

    Written with a frame as a row of a matrix: sums and products along many short rows of channels take twice as long on a CPU.

    Call arguments: x float `(batch, frames, bins, channels)`, frame_mask bool `(batch, frames)`. What comes out on padding frames
    is not zero.
    """

    def build(self, x_shape, frame_mask_shape=None):
        super().build(x_shape)

    def call(self, x, frame_mask, training=None):
        bins, channels = x.shape[2:]
        rows = ops.reshape(ops.cast(x, "float32"), (-1, bins * channels))
        valid = ops.reshape(ops.cast(frame_mask, "float32"), (-1, 1))

        def row(values):  # one a channel -> one a bin and channel
            return ops.tile(values, (bins,))

        if training and self.trainable:
            count = ops.maximum(bins * ops.sum(valid), 1.0)

            def average(rows):
                return ops.sum(ops.reshape(ops.sum(rows * valid, axis=0), (bins, channels)), axis=0) / count

            mean = average(rows)
            rows = rows - row(mean)
            variance = average(ops.square(rows))
            for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + now * (1.0 - self.momentum))
        else:
            rows, variance = rows - row(self.moving_mean), self.moving_variance
        rows = rows * row(self.gamma * ops.rsqrt(variance + self.epsilon)) + row(self.beta)
        return ops.cast(ops.reshape(rows, ops.shape(x)), self.compute_dtype)

    def compute_output_shape(self, x_shape, *_):
        return x_shape


@register
class MaskedInstanceNormalization(keras.layers.Layer):
    """Each image and channel by its own mean and variance over valid frames and bins, then scale and offset a channel.

    What batch normalisation does in training with batches of one, and here in use as well (Ulyanov et al. 2016).

    Call arguments: x float `(batch, frames, bins, channels)`, frame_mask bool `(batch, frames)`. What comes out on padding frames
    is not zero.
    """

    def __init__(self, epsilon=1e-3, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, x_shape, frame_mask_shape=None):
        self.gamma = self.add_weight(shape=(x_shape[-1],), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(x_shape[-1],), initializer="zeros", name="beta")

    def call(self, x, frame_mask):
        valid = frame_mask[:, :, None, None]
        count = ops.maximum(ops.sum(ops.cast(valid, x.dtype), axis=(1, 2), keepdims=True) * x.shape[2], 1)
        mean = ops.sum(ops.where(valid, x, 0), axis=(1, 2), keepdims=True) / count
        variance = ops.sum(ops.where(valid, ops.square(x - mean), 0), axis=(1, 2), keepdims=True) / count
        return (x - mean) * ops.rsqrt(variance + self.epsilon) * self.gamma + self.beta

    def compute_output_shape(self, x_shape, *_):
        return x_shape

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


_normalised = False  # within a training step that has normalised the kernels itself


def normalise_before_updates(model):
    """On JAX, have each training step of `model` begin with the normalisation of its kernels; elsewhere the layers' calls do it.

    A normalised kernel is a trainable variable that the layer assigns to. Keras's JAX trainer returns from a call only what was assigned
    to non-trainable ones, and would differentiate through the normalisation. So here the normalisation is a step of its own, with
    TensorFlow's results: kernels normalised, gradients with respect to these, the update.

    Args:
        model: keras.Model, before its first update. Saved and loaded again, it needs this again; `training.loop.compile_model` does it.

    Returns:
        The model.
    """
    if keras.backend.backend() == "jax":
        model.train_step = functools.partial(_normalising_step, model)
        model.train_function = None
    return model


def _normalising_step(model, state, data):
    """`train_step` of Keras's JAX trainer, which is traced, after the normalisation of the model's trainable kernels."""
    trainable, others, *rest = state
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, (SpectralNormalization, OperatorNormalization))]
    variables = [*model.trainable_variables, *model.non_trainable_variables]
    with keras.StatelessScope(state_mapping=list(zip(variables, [*trainable, *others], strict=True))) as scope:
        for layer in layers:
            if layer.kernel.trainable:
                layer.normalise()
        values = [scope.get_current_value(variable) for variable in variables]
    with _already_normalised():
        return type(model).train_step(model, (values[:len(trainable)], values[len(trainable):], *rest), data)


@contextlib.contextmanager
def _already_normalised():
    global _normalised
    before, _normalised = _normalised, True
    try:
        yield
    finally:
        _normalised = before


def _normalise_in_call(layer):
    """What a call of a normalising layer does in training, before it asks the layer within.

    Raises:
        RuntimeError: on JAX, in a training step that would lose it.
    """
    if layer.kernel.trainable and backend.is_traced_by_jax(layer.kernel.value):
        if not _normalised:
            raise RuntimeError(f"{layer.name}: Keras's JAX trainer would lose the normalised kernel; call "
                               "se_keras.models.layers.normalise_before_updates(model) before the first update")
        return
    layer.normalise()


@register
class SpectralNormalization(keras.layers.SpectralNormalization):
    """Keras's SpectralNormalization, its power iteration and the kernel it stores in float32 under every precision.

    Keras's own computes W / sigma in the wrapped layer's compute dtype and assigns that to the master weights: under
    mixed_bfloat16 every training call would round them to 8 bits, and small updates would vanish. Here the wrapper's own dtype
    is float32 and it casts neither its input nor its output; only the wrapped layer computes in bfloat16.
    """

    def __init__(self, layer, power_iterations=1, **kwargs):
        super().__init__(layer, power_iterations, **{"dtype": "float32", "autocast": False, **kwargs})

    def call(self, inputs, training=False):
        if training:
            _normalise_in_call(self)
        return self.layer(inputs)

    def normalise(self):
        """One power iteration, and the kernel divided by the norm that it finds."""
        vector_u, kernel = self.normalized_weights()
        self.vector_u.assign(vector_u)
        self.kernel.assign(kernel)


def convolution_power_step(kernel, image, padding):
    """One step of the power iteration on a convolution A of stride 1 and its adjoint A', both for images of one size.

    Args:
        kernel: float32 `(rows, columns, channels, filters)`.
        image: float32 `(1, height, width, channels)`, not zero.
        padding: "valid" or "same" (zeros).

    Returns:
        The next image, v = A'u / |A'u| with u = A image / |A image|; and |A'u|, an estimate of the largest singular value of A that
        comes from below. With a kernel of zeros: zeros.
    """
    u = _unit(ops.conv(image, kernel, padding=padding, data_format="channels_last"))
    back = ops.conv_transpose(u, kernel, padding=padding, data_format="channels_last")
    return _unit(back), _length(back)


def _length(x):
    return ops.sqrt(ops.sum(ops.square(x)))


def _unit(x):
    return x / ops.maximum(_length(x), 1e-12)


@register
class OperatorNormalization(keras.layers.Wrapper):
    """Divides a convolution's kernel by its norm as an operator on images, so that no image comes out longer than it went in.

    `SpectralNormalization` divides by the norm of the kernel reshaped to `(rows * columns * channels, filters)`. That is the gain of one
    patch; patches overlap, and the gain of the image is up to sqrt(rows * columns) times as large. Here the power iteration runs
    on the convolution itself, one step a training call, with zeros beyond the borders of an image of `size` x `size`, which is
    kept between calls. A larger image has a norm that is a little larger: for a flat 11x11 kernel, at most 2.2 %. State and
    arithmetic are float32 under every precision, and inference changes nothing, as in `SpectralNormalization`.

    Args:
        layer: a Conv2D of stride 1, without dilation and groups.
        size: rows and columns of the image.

    Raises:
        ValueError: another layer.
    """

    def __init__(self, layer, size=64, **kwargs):
        super().__init__(layer, **{"dtype": "float32", "autocast": False, **kwargs})
        if not isinstance(layer, keras.layers.Conv2D) or {*layer.strides, *layer.dilation_rate, layer.groups} != {1}:
            raise ValueError(f"{layer.name} is not a Conv2D of stride 1, without dilation and groups")
        self.size = size

    def build(self, input_shape):
        super().build(input_shape)
        self.kernel = self.layer.kernel
        self.image = self.add_weight(shape=(1, self.size, self.size, self.kernel.shape[-2]), initializer="random_normal", trainable=False,
                                     name="image")

    def call(self, inputs, training=False):
        if training:
            _normalise_in_call(self)
        return self.layer(inputs)

    def normalise(self):
        """One step of the power iteration, and the kernel divided by the norm that it finds."""
        image, norm = convolution_power_step(self.kernel.value, self.image.value, "same")
        self.image.assign(ops.where(norm > 0, image, self.image.value))  # a kernel of zeros has no norm to divide by
        self.kernel.assign(self.kernel.value / ops.where(norm > 0, norm, 1.0))

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)

    def get_config(self):
        return {**super().get_config(), "size": self.size}
