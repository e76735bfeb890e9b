"""Quality-Net: a CNN that predicts the PESQ of a degraded against a clean spectrogram, and has a gradient."""

import keras
from keras import ops

from se_keras.errors import check_choice
from se_keras.models.dft_conv import LargeKernelConv2D
from se_keras.models.layers import (
    Compression,
    LevelNormalization,
    MaskedGlobalAveragePooling2D,
    SpectralNormalization,
    ZeroPadding,
    register,
)

FILTERS = ((15, 5), (25, 7), (40, 9), (50, 11))  # (filters, kernel size): the letter, section II


def quality_net(bins=257, filters=FILTERS, padding="valid", compression="log", batch_normalization=False, input_gain=1.0,
                mean_score=0.5, normalize_level=True, precision="float32", name="quality_net"):
    """Build Quality-Net (Fu, Liao and Tsao 2019, section II).

    Inputs: degraded and clean magnitude, float32 `(batch, frames, bins)`, >= 0; frame_mask bool `(batch, frames)`. Both
    magnitudes are divided by one gain, the clean one's RMS level, so that the level of a recording does not matter.
    Output: score float32 `(batch, 1)`, unbounded, trained towards 0 .. 1 (`targets`; of raw PESQ, (PESQ + 0.5) / 5).

    Args:
        bins: frequency bins.
        filters: (filters, kernel size) of each convolution.
        padding: "valid" (as MetricGAN's code; an utterance shorter than the receptive field of 29 frames is padded with zeros) or "same".
        compression: scale of the input, one of `layers.COMPRESSIONS` ("magnitude" is the letter's).
        batch_normalization: normalise the two-channel input as MetricGAN's code does. Its statistics include no padding only
            when a batch holds none; prefer `compression` and `input_gain`.
        input_gain: factor on the compressed input. A spectrally normalised network cannot amplify, so this sets how far apart
            its scores can lie, and how fast it learns.
        mean_score: bias of the last layer at the start; the mean of the labels is a good one.
        normalize_level: False shows it the magnitudes as they are, as MetricGAN's code does; its scores then depend on the level.
        precision: "float32", or "bfloat16" for the convolutions (spectral normalisation, pooling and head stay float32).
        name: name of the model.

    Returns:
        A functional keras.Model; 345,326 weights besides the spectral normalisation's vectors, 8 more with batch normalisation.
    """
    check_choice("padding", padding, ("valid", "same"))
    check_choice("precision", precision, ("float32", "bfloat16"))
    degraded = keras.Input((None, bins), name="degraded")
    clean = keras.Input((None, bins), name="clean")
    frame_mask = keras.Input((None,), dtype="bool", name="frame_mask")
    conv_dtype = {"float32": "float32", "bfloat16": "mixed_bfloat16"}[precision]

    pair = [degraded, clean]
    if normalize_level:
        level = LevelNormalization(name="level")
        pair = [level(signal, frame_mask, reference=clean) for signal in pair]
    x = StackPair(input_gain, name="pair")(*[Compression(compression, name=f"compression_{which}")(signal)
                                             for which, signal in zip(("degraded", "clean"), pair, strict=True)])
    if batch_normalization:
        x = keras.layers.BatchNormalization(momentum=0.99, name="batch_normalization")(x)
    x = ZeroPadding(name="zero_padding")(x, frame_mask)
    valid = frame_mask
    if padding == "valid":
        field = sum(size - 1 for _, size in filters)
        x = PadToField(field + 1, name="pad_to_field")(x)
        valid = ShortenMask(field, name="shorten_mask")(frame_mask)
    for number, (channels, size) in enumerate(filters, start=1):
        convolution = LargeKernelConv2D(channels, size, padding=padding, dtype=conv_dtype, name=f"conv_{number}")
        x = SpectralNormalization(convolution, name=f"sn_conv_{number}")(x)
        x = keras.layers.LeakyReLU(negative_slope=0.3, dtype=conv_dtype, name=f"leaky_relu_{number}")(x)
        if padding == "same":  # what the bias put on padding frames would leak into the next layer
            x = ZeroPadding(dtype=conv_dtype, name=f"zero_padding_{number}")(x, frame_mask)
    x = MaskedGlobalAveragePooling2D(name="pool")(x, valid)
    for number, units in ((1, 50), (2, 10)):
        x = SpectralNormalization(keras.layers.Dense(units, name=f"dense_{number}"), name=f"sn_dense_{number}")(x)
        x = keras.layers.LeakyReLU(negative_slope=0.3, name=f"leaky_relu_dense_{number}")(x)
    last = keras.layers.Dense(1, bias_initializer=keras.initializers.Constant(mean_score), name="score")
    score = SpectralNormalization(last, name="sn_score")(x)
    return keras.Model([degraded, clean, frame_mask], score, name=name)


@register
class StackPair(keras.layers.Layer):
    """Degraded and clean `(batch, frames, bins)` as the two channels of one image, times `gain`: `(batch, frames, bins, 2)`."""

    def __init__(self, gain=1.0, **kwargs):
        super().__init__(**kwargs)
        self.gain = gain

    def call(self, degraded, clean):
        return ops.stack([degraded, clean], axis=-1) * self.gain

    def compute_output_shape(self, degraded_shape, clean_shape):
        return (*degraded_shape, 2)

    def get_config(self):
        return {**super().get_config(), "gain": self.gain}


def _at_least_zero(count):
    """max(count, 0); a Python integer stays one, which is what a backend with static shapes wants for a padding."""
    return max(count, 0) if isinstance(count, int) else ops.maximum(count, 0)


@register
class PadToField(keras.layers.Layer):
    """Zeros to the right of an image with fewer than `frames` frames, the least that 'valid' convolutions can take."""

    def __init__(self, frames=29, **kwargs):
        super().__init__(**kwargs)
        self.frames = frames

    def call(self, x):
        missing = _at_least_zero(self.frames - ops.shape(x)[1])
        return ops.pad(x, [[0, 0], [0, missing], [0, 0], [0, 0]])

    def compute_output_shape(self, shape):
        return (shape[0], None, *shape[2:])

    def get_config(self):
        return {**super().get_config(), "frames": self.frames}


@register
class ShortenMask(keras.layers.Layer):
    """The mask of the frames that 'valid' convolutions leave: `shorter_by` fewer, and at least one an utterance."""

    def __init__(self, shorter_by=28, **kwargs):
        super().__init__(**kwargs)
        self.shorter_by = shorter_by

    def call(self, frame_mask):
        missing = _at_least_zero(self.shorter_by + 1 - ops.shape(frame_mask)[1])
        mask = ops.pad(frame_mask, [[0, 0], [0, missing]])[:, self.shorter_by:]
        first = ops.arange(ops.shape(mask)[1]) == 0
        return ops.logical_or(mask, first)

    def compute_output_shape(self, shape):
        return (shape[0], None)

    def get_config(self):
        return {**super().get_config(), "shorter_by": self.shorter_by}
