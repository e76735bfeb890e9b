"""DCCRN: complex convolutions around a complex LSTM, which estimate a complex mask.

Hu et al., "DCCRN: Deep Complex Convolution Recurrent Network for Phase-Aware Speech Enhancement" (Interspeech 2020, arXiv 2008.00264), in
the form that seorim0/DCCRN-with-various-loss-functions trains: ordinary batch normalisation, and no direct current in or out.

Images are `(batch, frames, bins, channels)`; the first half of the channels are real parts, the second half imaginary ones.
"""

import math

import keras
from keras import ops

from se_keras.errors import UserError, check_choice
from se_keras.models.layers import MaskedBatchNormalization, ZeroPadding, register
from se_keras.models.recurrent import Lstm

MASKS = ("E", "C", "R")


def dccrn(bins=257, channels=(32, 64, 128, 256, 256, 256), rnn_units=256, rnn_layers=2, mask="E", kernel=(5, 2), name="dccrn"):
    """Build DCCRN.

    Inputs: noisy spectrum float32 `(batch, frames, bins, 2)`, frame_mask bool `(batch, frames)`, right-padded. Output: enhanced spectrum
    float32 `(batch, frames, bins, 2)`, zero on padding; an utterance in a padded batch comes out as it does alone. Bin 0, the direct
    current, is left out before the first convolution and comes out as zero.

    The encoder and the LSTMs look back only. Each convolution of the decoder looks ahead by kernel[1] - 1 frames: an output frame hears
    6 frames (37.5 ms) beyond its own with the default sizes. Convolutions start at N(0, 0.05) and without biases, LSTMs as Keras's.

    Args:
        bins: frequency bins; bins - 1 a multiple of 2 to the number of layers.
        channels: of each layer of the encoder, real and imaginary ones together: even.
        rnn_units: LSTM units, real and imaginary ones together: even.
        rnn_layers: complex LSTM layers.
        mask: M multiplies the noisy spectrum X. "E": magnitude tanh(|M|), and the phase of M is added; "C": the complex product; "R": real
            part times real part and imaginary part times imaginary part.
        kernel: (bins, frames) of the convolutions; an odd number of bins.
        name: name of the model.

    Returns:
        A functional keras.Model; with the default sizes of 3,671,053 trainable parameters, and 3,456 statistics of batch normalisation.

    Raises:
        UserError: arguments that cannot be meant.
    """
    _check(bins, channels, rnn_units, rnn_layers, mask, kernel)
    kernel = tuple(reversed(kernel))  # of images
    noisy = keras.Input((None, bins, 2), name="noisy")
    frame_mask = keras.Input((None,), dtype="bool", name="frame_mask")

    def activated(x, part):
        x = MaskedBatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{part}_norm")(x, frame_mask)
        return keras.layers.PReLU(keras.initializers.Constant(0.25), shared_axes=(1, 2, 3), name=f"{part}_prelu")(x)

    x = keras.layers.Cropping2D(((0, 0), (1, 0)), name="drop_dc")(noisy)
    skipped = []
    for number, filters in enumerate(channels, start=1):
        x = activated(ComplexConv2D(filters, kernel, name=f"encoder_{number}_conv")(x), f"encoder_{number}")
        skipped.append(x)
    shape = x.shape[2:]
    x = SplitParts(name="split_parts")(x)
    for number in range(1, rnn_layers + 1):
        x = ComplexLstm(rnn_units, math.prod(shape) if number == rnn_layers else None, name=f"lstm_{number}")(x)
    x = JoinParts(shape, name="join_parts")(x)
    for number, filters in enumerate((*channels[-2::-1], 2), start=1):
        x = keras.layers.Concatenate(name=f"decoder_{number}_skip")([x, skipped.pop()])
        x = ZeroPadding(name=f"decoder_{number}_own")(x, frame_mask)  # the convolution looks ahead
        x = ComplexConv2DTranspose(filters, kernel, images=2, name=f"decoder_{number}_conv")(x)
        if skipped:
            x = activated(x, f"decoder_{number}")
    x = keras.layers.ZeroPadding2D(((0, 0), (1, 0)), name="give_dc")(x)
    x = ApplyMask(mask, name="masked")(noisy, x)
    return keras.Model([noisy, frame_mask], ZeroPadding(name="own")(x, frame_mask), name=name)


def _check(bins, channels, rnn_units, rnn_layers, mask, kernel):
    check_choice("mask", mask, MASKS)
    if not channels or any(type(each) is not int or each < 2 or each % 2 for each in channels):
        raise UserError(f"dccrn: channels {channels!r}: even numbers are expected, one a layer, real and imaginary channels together")
    if type(rnn_units) is not int or rnn_units < 2 or rnn_units % 2:
        raise UserError(f"dccrn: rnn_units {rnn_units!r}: an even number is expected, real and imaginary units together")
    if type(rnn_layers) is not int or rnn_layers < 1:
        raise UserError(f"dccrn: rnn_layers {rnn_layers!r}: a whole number of layers is expected, at least 1")
    if len(kernel) != 2 or any(type(size) is not int or size < 1 for size in kernel) or kernel[0] < 3 or not kernel[0] % 2:
        raise UserError(f"dccrn: kernel {kernel!r}: (bins, frames) are expected, an odd number of bins from 3 on")
    multiple = 2 ** len(channels)
    if bins < 2 or (bins - 1) % multiple:
        raise UserError(f"dccrn: bins {bins!r}: {len(channels)} layers halve the {bins - 1} bins beside bin 0, which have to be a multiple "
                        f"of {multiple}; take another n_fft or fewer layers")


class _ComplexConvolution(keras.layers.Layer):
    """A complex convolution of images, which is two real ones with a bias each: (R + iI)(r + ii') = R(r) - I(i') + i(I(r) + R(i')).

    It runs as a single real convolution of both parts.

    Args:
        filters: output channels, real and imaginary ones together.
        kernel_size: (frames, bins) of the kernel.
    """

    def __init__(self, filters, kernel_size=(2, 5), **kwargs):
        super().__init__(**kwargs)
        self.filters, self.kernel_size = filters, tuple(kernel_size)

    def build(self, shape):
        start, half = keras.initializers.RandomNormal(stddev=0.05), self.filters // 2
        kernel = (*self.kernel_size, *self._channels(shape[-1] // 2, half))
        for part in ("real", "imag"):
            setattr(self, f"{part}_kernel", self.add_weight(shape=kernel, initializer=start.clone(), name=f"{part}_kernel"))
            setattr(self, f"{part}_bias", self.add_weight(shape=(half,), initializer="zeros", name=f"{part}_bias"))

    def _whole_bias(self):
        return ops.concatenate([self.real_bias - self.imag_bias, self.real_bias + self.imag_bias], axis=0)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "kernel_size": self.kernel_size}


@register
class ComplexConv2D(_ComplexConvolution):
    """A complex convolution that halves the bins and looks back only: zeros before the first frame, and on both sides of the bins.

    Call argument: x float32 `(batch, frames, bins, channels)`, bins even. Output: float32 `(batch, frames, bins / 2, filters)`.
    """

    @staticmethod
    def _channels(inputs, outputs):
        return inputs, outputs

    def call(self, x):
        real, imag = ops.convert_to_tensor(self.real_kernel), ops.convert_to_tensor(self.imag_kernel)
        kernel = ops.concatenate([ops.concatenate([real, imag], axis=3), ops.concatenate([-imag, real], axis=3)], axis=2)
        frames, bins = self.kernel_size
        x = ops.pad(x, [[0, 0], [frames - 1, 0], [bins // 2, bins // 2 - 1], [0, 0]])
        return ops.conv(x, kernel, strides=(1, 2), padding="valid", data_format="channels_last") + self._whole_bias()

    def compute_output_shape(self, shape):
        return (*shape[:2], shape[2] // 2, self.filters)

    def macs(self, input_shapes, output_shape):
        """Multiply-accumulates: every input channel under the kernel, for each output."""
        return math.prod(output_shape) * math.prod(self.kernel_size) * input_shapes[0][-1]


@register
class ComplexConv2DTranspose(_ComplexConvolution):
    """A transposed complex convolution that doubles the bins. The first frames of its full output are dropped, so it looks ahead.

    Frame t is made of the frames t to t + kernel_size[0] - 1, with zeros behind the last.

    Call argument: x float32 `(batch, frames, bins, channels)`, the channels being those of one complex image, or of two of equal size
    beside each other. Output: float32 `(batch, frames, 2 bins, filters)`.

    Args:
        images: 1 or 2.
    """

    def __init__(self, filters, kernel_size=(2, 5), images=1, **kwargs):
        super().__init__(filters, kernel_size, **kwargs)
        self.images = images

    @staticmethod
    def _channels(inputs, outputs):
        return outputs, inputs

    def call(self, x):
        images = [ops.split(ops.convert_to_tensor(part), self.images, axis=3) for part in (self.real_kernel, self.imag_kernel)]
        to_real = ops.concatenate([part for real, imag in zip(*images, strict=True) for part in (real, -imag)], axis=3)
        to_imag = ops.concatenate([part for real, imag in zip(*images, strict=True) for part in (imag, real)], axis=3)
        kernel = ops.concatenate([to_real, to_imag], axis=2)  # (frames, bins, filters, channels)

        # As one plain convolution that makes both bins of a pair, which is faster than the gradient of one that halves them: of the
        # taps along the bins every second belongs to the even ones, the others to the odd ones.
        (frames, bins), (batch, length, width, channels) = self.kernel_size, ops.shape(x)
        before, behind = bins // 2 % 2, (bins // 2 + 1) // 2
        taps = (bins + before + 1) // 2
        kernel = ops.pad(kernel, [[0, 0], [before, 2 * taps - bins - before], [0, 0], [0, 0]])
        kernel = ops.flip(ops.reshape(kernel, (frames, taps, 2, self.filters, channels)), axis=(0, 1))
        kernel = ops.reshape(ops.transpose(kernel, (0, 1, 4, 2, 3)), (frames, taps, channels, 2 * self.filters))
        x = ops.pad(x, [[0, 0], [0, frames - 1], [taps - 1 - behind, behind], [0, 0]])
        pairs = ops.conv(x, kernel, padding="valid", data_format="channels_last")
        return ops.reshape(pairs, (batch, length, 2 * width, self.filters)) + self._whole_bias()

    def compute_output_shape(self, shape):
        return (*shape[:2], 2 * shape[2], self.filters)

    def get_config(self):
        return {**super().get_config(), "images": self.images}

    def macs(self, input_shapes, output_shape):
        """Multiply-accumulates: every output channel under the kernel, for each input."""
        return math.prod(input_shapes[0]) * math.prod(self.kernel_size) * output_shape[-1]


@register
class SplitParts(keras.layers.Layer):
    """An image as two sequences: `(batch, frames, bins, channels)` -> `(batch, frames, 2, bins * channels / 2)`, real and imaginary."""

    def call(self, x):
        batch, frames, bins, channels = ops.shape(x)
        x = ops.transpose(ops.reshape(x, (batch, frames, bins, 2, channels // 2)), (0, 1, 3, 2, 4))
        return ops.reshape(x, (batch, frames, 2, bins * channels // 2))

    def compute_output_shape(self, shape):
        return (*shape[:2], 2, math.prod(shape[2:]) // 2)


@register
class JoinParts(keras.layers.Layer):
    """The inverse of `SplitParts`.

    Args:
        image: (bins, channels).
    """

    def __init__(self, image, **kwargs):
        super().__init__(**kwargs)
        self.image = tuple(image)

    def call(self, x):
        (batch, frames), (bins, channels) = ops.shape(x)[:2], self.image
        x = ops.transpose(ops.reshape(x, (batch, frames, 2, bins, channels // 2)), (0, 1, 3, 2, 4))
        return ops.reshape(x, (batch, frames, bins, channels))

    def compute_output_shape(self, shape):
        return (*shape[:2], *self.image)

    def get_config(self):
        return {**super().get_config(), "image": self.image}


@register
class ComplexLstm(keras.layers.Layer):
    """Two LSTMs R and I as a complex one, (R + iI)(r + ii') = R(r) - I(i') + i(R(i') + I(r)); then a dense layer for each part.

    Call argument: x float32 `(batch, frames, 2, features)`, real and imaginary part; padding may stand to the right. Output: float32
    `(batch, frames, 2, units / 2 or outputs / 2)`.

    Args:
        units: real and imaginary ones together.
        outputs: of the dense layers, likewise; None for no dense layers.
    """

    def __init__(self, units, outputs=None, **kwargs):
        super().__init__(**kwargs)
        self.units, self.outputs = units, outputs

    def build(self, shape):
        features, self.lstms, self.projections = shape[-1], [], []
        for part in ("real", "imag"):
            self.lstms.append(Lstm(self.units // 2, return_sequences=True, name=f"{part}_lstm"))
            self.lstms[-1].build((None, None, features + 1))
            if self.outputs is not None:
                self.projections.append(keras.layers.Dense(self.outputs // 2, name=f"{part}_projection"))
                self.projections[-1].build((None, None, self.units // 2))

    def call(self, x):
        both = ops.concatenate([x[:, :, 0], x[:, :, 1]], axis=0)
        # An LSTM of PyTorch adds two biases, both of which published counts of parameters have: the second weighs a constant.
        both = ops.concatenate([both, ops.ones_like(both[..., :1])], axis=-1)
        (real_r, imag_r), (real_i, imag_i) = (ops.split(lstm(both), 2, axis=0) for lstm in self.lstms)
        parts = [real_r - imag_i, imag_r + real_i]
        if self.projections:
            parts = [projection(part) for projection, part in zip(self.projections, parts, strict=True)]
        return ops.stack(parts, axis=2)

    def compute_output_shape(self, shape):
        return (*shape[:-1], (self.outputs or self.units) // 2)

    def get_config(self):
        return {**super().get_config(), "units": self.units, "outputs": self.outputs}

    def macs(self, input_shapes, output_shape):
        """Multiply-accumulates: two LSTMs of two parts each, and the dense layers."""
        frames, _, features = input_shapes[0]
        units = self.units // 2
        return 4 * frames * 4 * units * (features + units) + (2 * frames * units * output_shape[-1] if self.outputs is not None else 0)


@register
class ApplyMask(keras.layers.Layer):
    """A spectrum times a complex factor: float32 `(..., 2)` both.

    Args:
        mask: "E", "C" or "R", as in `dccrn`. "E" is X M tanh(|M|) / |M|: what magnitude and phase come to, without an angle, and with a
            gradient that is finite everywhere.
    """

    def __init__(self, mask="E", **kwargs):
        super().__init__(**kwargs)
        check_choice("mask", mask, MASKS)
        self.mask = mask

    def call(self, spectrum, factor):
        if self.mask == "R":
            return spectrum * factor
        (real, imag), (factor_real, factor_imag) = (ops.unstack(x, axis=-1) for x in (spectrum, factor))
        if self.mask == "E":
            size = ops.sqrt(ops.square(factor_real) + ops.square(factor_imag) + 1e-8)  # tanh(m) / m is flat at 0: nothing is lost
            gain = ops.tanh(size) / size
            factor_real, factor_imag = gain * factor_real, gain * factor_imag
        return ops.stack([real * factor_real - imag * factor_imag, real * factor_imag + imag * factor_real], axis=-1)

    def compute_output_shape(self, spectrum_shape, factor_shape):
        return spectrum_shape

    def get_config(self):
        return {**super().get_config(), "mask": self.mask}
