"""Quality-Net: a CNN that predicts the PESQ of a degraded against a clean spectrogram, and has a gradient."""

import math

import keras
from keras import ops

from se_keras.errors import check_choice
from se_keras.hearing import bark
from se_keras.hearing.model import BANDS
from se_keras.models.dft_conv import LargeKernelConv2D
from se_keras.models.hearing import HearingFrontEnd
from se_keras.models.layers import (
    Compression,
    LevelNormalization,
    MaskedBatchNormalization,
    MaskedGlobalAveragePooling2D,
    MaskedInstanceNormalization,
    OperatorNormalization,
    SpectralNormalization,
    ZeroPadding,
    normalise_before_updates,
    register,
)

FILTERS = ((15, 5), (25, 7), (40, 9), (50, 11))  # (filters, kernel size): the letter, section II
METRICGAN_PLUS = {"filters": ((15, 5),) * 4, "compression": "log1p", "batch_normalization": "utterance"}  # SpeechBrain's; 19,010 weights
PYTORCH_QNET = {"padding": "same", "compression": "magnitude", "batch_normalization": "convolutions", "conv_slope": 0.0,
                "dense_slope": 0.01, "spectral_norm": "dense", "head": "sigmoid"}  # github.com/seunghyeon528/Q-Net; 345,586 weights


def quality_net(bins=257, filters=FILTERS, padding="valid", compression="log", batch_normalization=False, input_gain=1.0,
                mean_score=0.5, conv_slope=0.3, dense_slope=0.3, spectral_norm="all", head="linear", normalize_level=True,
                front_end="spectrogram", band="nb", residual=True, precision="float32", name="quality_net"):
    """Build Quality-Net (Fu, Liao and Tsao 2019, section II), or a network of its kind.

    Inputs: degraded and clean magnitude, float32 `(batch, frames, bins)`, >= 0; frame_mask bool `(batch, frames)`. Both
    magnitudes are divided by one gain, the clean one's RMS level, so that the level of a recording does not matter.
    Output: score float32 `(batch, 1)`, trained towards 0 .. 1 (`targets`; of raw PESQ, (PESQ + 0.5) / 5); unbounded, or 0 to 1
    with a sigmoid head.

    The arguments also make its relatives (`METRICGAN_PLUS` and `PYTORCH_QNET`: `quality_net(**PYTORCH_QNET)`).

    Args:
        bins: frequency bins.
        filters: (filters, kernel size) of each convolution.
        padding: "valid" (as MetricGAN's code; an utterance shorter than the receptive field of 29 frames is padded with zeros) or "same".
        compression: scale of the input, one of `signals.magnitudes.COMPRESSIONS` ("magnitude" is the letter's).
        batch_normalization: "input" (or True) for the two-channel input, as MetricGAN's code; "utterance" for that with the statistics
            of each utterance by itself, which is what MetricGAN's batches of one train with; "convolutions" for the output of each
            convolution, before its activation; or False. Statistics are those of valid frames: padding does not count.
        input_gain: factor on the compressed input, or on what is heard. A spectrally normalised network cannot amplify, so this sets
            how far apart its scores can lie, and how fast it learns.
        mean_score: what the head says of a zero at the start, below 1 and above 0 if it is a sigmoid; the mean of the labels is a good one.
        conv_slope, dense_slope: negative slope of the LeakyReLU after each convolution, and after each hidden dense layer; 0 is ReLU.
        spectral_norm: what is divided by its norm: "all" kernels, as matrices (Miyato et al. 2018); the "dense" ones only; "none"; or
            "operator": all, the convolutions by their norm as operators, which is the larger (`layers.OperatorNormalization`).
        head: "linear" or "sigmoid".
        front_end: "spectrogram": the convolutions see the two magnitudes (the letter); "hearing": loudness and disturbance of the
            hearing model (`models.hearing`), 49 bands instead of 257 bins; compression and level then mean nothing.
        band: of the hearing model, "nb" or "wb".
        residual: with ears, the score is the hearing model's value plus what the network learns beyond it; False, for a target that the
            model has no formula for: the value is one feature beside the pooled ones.
        normalize_level: False shows it the magnitudes as they are, as MetricGAN's code does; its scores then depend on the level.
        precision: "float32", or "bfloat16" for the convolutions (spectral normalisation, pooling and head stay float32).
        name: name of the model.

    Returns:
        A functional keras.Model; 345,326 trainable weights, and 4 more with "input" or "utterance", 260 with "convolutions" normalised.
    """
    check_choice("padding", padding, ("valid", "same"))
    check_choice("precision", precision, ("float32", "bfloat16"))
    check_choice("spectral_norm", spectral_norm, ("all", "dense", "none", "operator"))
    check_choice("head", head, ("linear", "sigmoid"))
    check_choice("front_end", front_end, ("spectrogram", "hearing"))
    check_choice("band", band, BANDS)
    ears = front_end == "hearing"
    if ears:
        check_choice("bins of a Quality-Net with ears", bins, (bark.BINS,))
    batch_normalization = {True: "input", False: "none"}.get(batch_normalization, batch_normalization)
    check_choice("batch_normalization", batch_normalization, ("none", "input", "utterance", "convolutions"))
    normalize_conv = {"all": SpectralNormalization, "operator": OperatorNormalization}.get(spectral_norm, _plain)
    normalize_dense = _plain if spectral_norm == "none" else SpectralNormalization
    degraded = keras.Input((None, bins), name="degraded")
    clean = keras.Input((None, bins), name="clean")
    frame_mask = keras.Input((None,), dtype="bool", name="frame_mask")
    conv_dtype = {"float32": "float32", "bfloat16": "mixed_bfloat16"}[precision]

    if ears:
        x, formula = HearingFrontEnd(band, input_gain, name="front_end")(degraded, clean, frame_mask)
    else:
        pair = [degraded, clean]
        if normalize_level:
            level = LevelNormalization(name="level")
            pair = [level(signal, frame_mask, reference=clean) for signal in pair]
        x = StackPair(input_gain, name="pair")(*[Compression(compression, name=f"compression_{which}")(signal)
                                                 for which, signal in zip(("degraded", "clean"), pair, strict=True)])
    if batch_normalization == "input":
        x = MaskedBatchNormalization(momentum=0.99, name="batch_normalization")(x, frame_mask)
    elif batch_normalization == "utterance":
        x = MaskedInstanceNormalization(name="instance_normalization")(x, frame_mask)
    x = ZeroPadding(name="zero_padding")(x, frame_mask)
    valid = frame_mask
    if padding == "valid":
        pad = PadToField(1 + sum(size - 1 for _, size in filters), name="pad_to_field")
        x, valid = pad(x), PadToField(pad.frames, name="pad_mask_to_field")(frame_mask)
    for number, (channels, size) in enumerate(filters, start=1):
        convolution = LargeKernelConv2D(channels, size, padding=padding, dtype=conv_dtype, name=f"conv_{number}")
        x = normalize_conv(convolution, name=f"sn_conv_{number}")(x)
        if padding == "valid":
            valid = ShortenMask(size - 1, name=f"shorten_mask_{number}")(valid)
        if batch_normalization == "convolutions":  # momentum and epsilon are PyTorch's
            x = MaskedBatchNormalization(momentum=0.9, epsilon=1e-5, dtype=conv_dtype, name=f"batch_normalization_{number}")(x, valid)
        x = keras.layers.LeakyReLU(negative_slope=conv_slope, dtype=conv_dtype, name=f"leaky_relu_{number}")(x)
        if padding == "same":  # what the bias put on padding frames would leak into the next layer
            x = ZeroPadding(dtype=conv_dtype, name=f"zero_padding_{number}")(x, frame_mask)
    x = MaskedGlobalAveragePooling2D(name="pool")(x, valid)
    if ears:
        x = keras.layers.Concatenate(name="features")([x, formula])
    for number, units in ((1, 50), (2, 10)):
        x = normalize_dense(keras.layers.Dense(units, name=f"dense_{number}"), name=f"sn_dense_{number}")(x)
        x = keras.layers.LeakyReLU(negative_slope=dense_slope, name=f"leaky_relu_dense_{number}")(x)
    beyond = ears and residual  # what the network adds begins near zero
    bias = 0.0 if beyond else math.log(mean_score / (1 - mean_score)) if head == "sigmoid" else mean_score
    last = keras.layers.Dense(1, None if beyond else head, bias_initializer=keras.initializers.Constant(bias), name="score")
    score = normalize_dense(last, name="sn_score")(x)
    if beyond:
        score = Residual(name="residual")(formula, score)
    return normalise_before_updates(keras.Model([degraded, clean, frame_mask], score, name=name))


def _plain(layer, name):
    """The layer as it is, where another would be wrapped under `name`."""
    return layer


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


@register
class Residual(keras.layers.Layer):
    """base + gain * more, both float32 `(batch, 1)`; the gain is learned from 0.1 on, so that little is added at first.

    A spectrally normalised network cannot amplify, so the gain has a long way to go: its weight is the gain over `REACH`.
    """

    REACH = 20.0

    def build(self, base_shape, more_shape):
        self.gain = self.add_weight(shape=(), initializer=keras.initializers.Constant(0.1 / self.REACH), name="gain")

    def call(self, base, more):
        return base + self.REACH * self.gain * more

    def compute_output_shape(self, base_shape, more_shape):
        return base_shape


def _larger(count, least):
    """max(count, least); of a Python integer a Python integer, which is what a backend with static shapes wants."""
    return max(count, least) if isinstance(count, int) else ops.maximum(count, least)


@register
class PadToField(keras.layers.Layer):
    """Zeros to the right of fewer than `frames` frames, the least that 'valid' convolutions can take: an image, or a frame mask."""

    def __init__(self, frames=29, **kwargs):
        super().__init__(**kwargs)
        self.frames = frames

    def call(self, x):
        padded = ops.pad(x, [[0, 0], [0, self.frames - 1]] + [[0, 0]] * (len(x.shape) - 2))  # by a constant: LiteRT knows the shape then
        return padded[:, :_larger(ops.shape(x)[1], self.frames)]

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
        missing = _larger(self.shorter_by + 1 - ops.shape(frame_mask)[1], 0)
        mask = ops.pad(frame_mask, [[0, 0], [0, missing]])[:, self.shorter_by:]
        first = ops.arange(ops.shape(mask)[1]) == 0
        return ops.logical_or(mask, first)

    def compute_output_shape(self, shape):
        return (shape[0], None)

    def get_config(self):
        return {**super().get_config(), "shorter_by": self.shorter_by}
