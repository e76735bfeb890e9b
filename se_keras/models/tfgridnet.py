"""TF-GridNet: blocks of LSTMs along frequency and along time and attention over frames, that map the noisy spectrum to the enhanced one.

Wang et al., "TF-GridNet" (arXiv 2209.03952, 2211.12433), as a speech enhancer with a phase encoder, in one go ("direct learning") or
in stages ("progressive learning"): Acceleration123/Speech-Enhancement. docs/errata.md says where its code does otherwise than it means.
"""

import math

import keras
from keras import ops

from se_keras.errors import UserError, check_choice
from se_keras.models.layers import ZeroPadding, register
from se_keras.models.recurrent import Bidirectional

# Arguments of ESPnet's separator (espnet2/enh/separator/tfgridnet_separator.py), for one speaker.
ESPNET = {"phase_channels": 0, "level": "std", "blocks": 6, "emb": 48, "hidden": 192}
_EPSILON = 1e-5  # of every normalisation, as in PyTorch
_SMALLEST_POWER = 1e-12  # added under roots: a finite gradient at digital silence; far below a 16-bit sample's
_LSTM_BYTES = 1e9  # that one LSTM may take at inference: see GridNetBlock.max_batch_frames


def tfgridnet(bins=257, stages=1, blocks=None, emb=32, hidden=100, heads=4, kernel=4, hop=1, phase_channels=4, qk_features=None,
              level="none", name="tfgridnet"):
    """Build a TF-GridNet.

    Inputs: noisy spectrum float32 `(batch, frames, bins, 2)`, frame_mask bool `(batch, frames)`, right-padded. Output: enhanced spectrum
    float32 `(batch, frames, bins, 2)`; of a progressive network `(batch, frames, bins, 2, stages)`, its last stage the enhanced one. Zero
    on padding; an utterance in a padded batch comes out as it does alone.

    Args:
        bins: frequency bins.
        stages: spectra that it estimates, each from the output of a block of its own, from noisier to clean. 1: the clean one alone.
        blocks: GridNet blocks; None for 5, or for as many as stages, which is all that a progressive network can have.
        emb: channels of each cell of time and frequency; a multiple of heads.
        hidden: LSTM units in each direction.
        heads: attention heads.
        kernel, hop: cells that a step of an LSTM sees, and from one step to the next. A larger hop makes its sequences shorter.
        phase_channels: complex channels of the phase encoder, whose roots of magnitudes are what the network sees, 2 bins fewer.
            0: real and imaginary part as they are, all bins (ESPnet's).
        qk_features: features of queries and keys, a cell and head; None for floor(1024 / bins of a block), ESPnet's ceil(512 / bins)
            without a phase encoder.
        level: "none", or "std": the spectrum divided by its standard deviation over an utterance, which the estimate is multiplied by
            (ESPnet's, there that of the wave; a constant factor apart). Gain then does not matter.
        name: name of the model.

    Returns:
        A functional keras.Model of 2,359,523 parameters with the default sizes, with stages=5 of 2,361,835.

    Raises:
        UserError: arguments that do not fit together.
    """
    blocks = blocks or (5 if stages == 1 else stages)
    _check(stages, blocks, emb, hidden, heads, kernel, hop, level)
    width, margin = (bins - 2, 0) if phase_channels else (bins, 1)  # a kernel of 3 bins, on the bins as they are or with zeros around
    qk_features = qk_features or (max(1024 // width, 1) if phase_channels else -(-512 // width))

    noisy = keras.Input((None, bins, 2), name="noisy")
    frame_mask = keras.Input((None,), dtype="bool", name="frame_mask")
    x = ZeroPadding(name="noisy_own")(noisy, frame_mask)
    if level == "std":
        deviation = SpectrumLevel(name="level")(x, frame_mask)
        x = x / deviation
    if phase_channels:
        x = PhaseEncoder(phase_channels, name="phase_encoder")(x)
        x = ZeroPadding(name="phase_own")(x, frame_mask)
    x = keras.layers.ZeroPadding2D((1, margin), name="conv_margin")(x)
    x = keras.layers.Conv2D(emb, 3, name="conv")(x)
    x = GlobalNormalization(name="norm")(x, frame_mask)
    spectra = []
    for number in range(1, blocks + 1):
        made = GridNetBlock(hidden, heads, kernel, hop, qk_features, name=f"block_{number}")(x, frame_mask)
        x = x + made if stages > 1 else made  # a progressive block sees the sum of all that was before it
        if stages > 1 or number == blocks:
            spectrum = keras.layers.Conv2DTranspose(2, 3, name=f"decoder_{number}")(made)
            spectrum = keras.layers.Cropping2D((1, margin), name=f"decoder_{number}_crop")(spectrum)
            spectra.append(spectrum * deviation if level == "std" else spectrum)
    output = ops.stack(spectra, axis=-1) if stages > 1 else spectra[0]
    return keras.Model([noisy, frame_mask], ZeroPadding(name="own")(output, frame_mask), name=name)


def _check(stages, blocks, emb, hidden, heads, kernel, hop, level):
    sizes = {"stages": stages, "blocks": blocks, "emb": emb, "hidden": hidden, "heads": heads, "kernel": kernel, "hop": hop}
    for name, value in sizes.items():
        if type(value) is not int or value < 1:
            raise UserError(f"tfgridnet: {name} {value!r}: a whole number is expected, at least 1")
    if stages > 1 and blocks != stages:
        raise UserError(f"tfgridnet: stages {stages} and blocks {blocks}: a progressive network has one block a stage; leave blocks out")
    if emb % heads:
        raise UserError(f"tfgridnet: emb {emb}: a multiple of heads is expected, which is {heads}")
    if hop > kernel:
        raise UserError(f"tfgridnet: hop {hop}: at most kernel is expected, which is {kernel}")
    check_choice("level", level, ("none", "std"))


@register
class SpectrumLevel(keras.layers.Layer):
    """Standard deviation of a spectrum's real and imaginary parts over an utterance's own frames, at least 1e-5.

    Call arguments: spectrum float32 `(batch, frames, bins, 2)`, frame_mask bool `(batch, frames)`. Output: float32 `(batch, 1, 1, 1)`.
    """

    def call(self, spectrum, frame_mask):
        _, variance = _moments(spectrum, frame_mask)
        return ops.maximum(ops.sqrt(variance), 1e-5)

    def compute_output_shape(self, spectrum_shape, *_):
        return (spectrum_shape[0], 1, 1, 1)


@register
class GlobalNormalization(keras.layers.Layer):
    """Global layer normalisation: an utterance to zero mean and unit variance over own frames, bins and channels, then scale and offset.

    One mean and one variance an utterance, scale and offset a channel (PyTorch's GroupNorm of one group).

    Call arguments: x float32 `(batch, frames, bins, channels)`, frame_mask bool `(batch, frames)`. Padding comes out zero.
    """

    def build(self, x_shape, frame_mask_shape=None):
        self.gamma = self.add_weight(shape=(x_shape[-1],), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(x_shape[-1],), initializer="zeros", name="beta")

    def call(self, x, frame_mask):
        mean, variance = _moments(x, frame_mask)
        y = (x - mean) * ops.rsqrt(variance + _EPSILON) * self.gamma + self.beta
        return ops.where(frame_mask[:, :, None, None], y, 0.0)

    def compute_output_shape(self, x_shape, *_):
        return x_shape


def _moments(x, frame_mask):
    """Mean and variance of each utterance over own frames, bins and channels: float32 `(batch, 1, 1, 1)`, both."""
    valid = ops.cast(frame_mask, x.dtype)[:, :, None, None]
    count = ops.maximum(ops.sum(valid, axis=1, keepdims=True), 1.0)

    def average(values):
        return ops.sum(ops.mean(values, axis=(2, 3), keepdims=True) * valid, axis=1, keepdims=True) / count

    mean = average(x)
    return mean, average(ops.square(x - mean))


@register
class PhaseEncoder(keras.layers.Layer):
    """Complex convolution over three frames, then the square root of the magnitude.

    re = Wr * r - Wi * i + br - bi, im = Wr * i + Wi * r + br + bi; (re^2 + im^2 + 1e-12)^(1/4). The root of a magnitude has an infinite
    gradient at zero; with 1e-12 added it stays below 320, and changes nothing above 1e-5.

    Only the biases let phase through: without them a spectrum turned by any angle would look the same. So they begin where PyTorch's do,
    uniform up to 3^-0.5, as the kernels, and not at zero.

    Call argument: spectrum float32 `(batch, frames, bins, 2)`. Output: float32 `(batch, frames, bins, channels)`, >= 0.001.
    """

    def __init__(self, channels=4, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels

    def build(self, shape):
        start = keras.initializers.RandomUniform(-3 ** -0.5, 3 ** -0.5)
        for part in ("real", "imag"):
            for kind, shape in (("kernel", (3, 1, 1, self.channels)), ("bias", (self.channels,))):
                setattr(self, f"{part}_{kind}", self.add_weight(shape=shape, initializer=start.clone(), name=f"{part}_{kind}"))

    def call(self, spectrum):
        # One real convolution, from both parts to all real and then all imaginary channels.
        wr, wi = ops.convert_to_tensor(self.real_kernel), ops.convert_to_tensor(self.imag_kernel)
        kernel = ops.concatenate([ops.concatenate([wr, wi], axis=-1), ops.concatenate([-wi, wr], axis=-1)], axis=2)
        bias = ops.concatenate([self.real_bias - self.imag_bias, self.real_bias + self.imag_bias], axis=0)
        padded = ops.pad(spectrum, [[0, 0], [1, 1], [0, 0], [0, 0]])
        made = ops.conv(padded, kernel, padding="valid", data_format="channels_last") + bias
        power = ops.square(made[..., :self.channels]) + ops.square(made[..., self.channels:])
        return ops.sqrt(ops.sqrt(power + _SMALLEST_POWER))

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.channels)

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}

    def macs(self, input_shapes, output_shape):
        """Multiply-accumulates: four real products, three frames, each channel."""
        return 4 * 3 * math.prod(output_shape)


@register
class RecurrentPath(keras.layers.Layer):
    """A bidirectional LSTM along sequences of cells, added to them: normalised, `kernel` cells a step, and back to cells.

    Call arguments: x float32 `(sequences, length, channels)`, whose length is `padded_length` of a whole sequence; step_mask bool
    `(sequences, steps)`, right-padded, or None. Output: likewise x; beyond a sequence's own steps, x and the last layer's bias.

    Args:
        hidden: LSTM units in each direction.
        kernel, hop: cells of a step, and from one step to the next.
    """

    def __init__(self, hidden, kernel=4, hop=1, **kwargs):
        super().__init__(**kwargs)
        self.hidden, self.kernel, self.hop = hidden, kernel, hop

    def build(self, x_shape, step_mask_shape=None):
        channels = x_shape[-1]
        self.norm = keras.layers.LayerNormalization(epsilon=_EPSILON, name="norm")
        self.blstm = Bidirectional(keras.layers.LSTM(self.hidden, return_sequences=True, name="lstm"), name="blstm")
        self.deconv = keras.layers.Conv1DTranspose(channels, self.kernel, strides=self.hop, name="deconv")
        self.norm.build((None, None, channels))
        self.blstm.build((None, None, self.kernel * channels + 1))
        self.deconv.build((None, None, 2 * self.hidden))

    def steps(self, length):
        """LSTM steps of a sequence of `length` cells, an int or a tensor: as many as see all of it, and at least one."""
        larger = max if isinstance(length, int) else ops.maximum
        return -(-larger(length - self.kernel, 0) // self.hop) + 1

    def padded_length(self, length):
        """Cells that so many steps see: `length`, with zeros up to the end of the last step."""
        return (self.steps(length) - 1) * self.hop + self.kernel

    def call(self, x, step_mask=None):
        h = self.norm(x)
        span = (self.steps(ops.shape(x)[1]) - 1) * self.hop + 1
        parts = [h[:, k:k + span:self.hop] for k in range(self.kernel)]
        # An LSTM of PyTorch adds two biases, both of which published counts of parameters have: the second weighs a constant.
        h = self.blstm(ops.concatenate([*parts, ops.ones_like(parts[0][..., :1])], axis=-1), mask=step_mask)
        if step_mask is not None:
            h = ops.where(step_mask[..., None], h, 0.0)
        return x + self.deconv(h)

    def compute_output_shape(self, x_shape, *_):
        return x_shape

    def get_config(self):
        return {**super().get_config(), "hidden": self.hidden, "kernel": self.kernel, "hop": self.hop}

    def macs_of_step(self, channels):
        """Multiply-accumulates of a step, both directions: LSTM and what leads back to cells."""
        return 2 * 4 * self.hidden * (self.kernel * channels + self.hidden) + 2 * self.hidden * self.kernel * channels


@register
class CellProjection(keras.layers.Layer):
    """A dense layer on the channels of each cell, PReLU, and layer normalisation over the bins and features of each frame and head.

    Call argument: x float32 `(batch, frames, bins, channels)`. Output: float32 `(batch, frames, bins, heads, features)`.
    """

    def __init__(self, heads, features, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.features = heads, features

    def build(self, x_shape):
        self.dense = keras.layers.Dense(self.heads * self.features, name="dense")
        self.dense.build(x_shape)
        self.slope = self.add_weight(shape=(self.heads, 1), initializer=keras.initializers.Constant(0.25), name="slope")
        shape = (x_shape[2], self.heads, self.features)
        self.gamma = self.add_weight(shape=shape, initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=shape, initializer="zeros", name="beta")

    def call(self, x):
        y = ops.reshape(self.dense(x), ops.shape(x)[:-1] + (self.heads, self.features))
        y = ops.maximum(y, 0.0) + self.slope * ops.minimum(y, 0.0)
        mean = ops.mean(y, axis=(2, 4), keepdims=True)
        variance = ops.mean(ops.square(y - mean), axis=(2, 4), keepdims=True)
        return (y - mean) * ops.rsqrt(variance + _EPSILON) * self.gamma + self.beta

    def compute_output_shape(self, x_shape):
        return (*x_shape[:-1], self.heads, self.features)

    def get_config(self):
        return {**super().get_config(), "heads": self.heads, "features": self.features}


@register
class GridNetBlock(keras.layers.Layer):
    """A block of TF-GridNet: along the bins of each frame, along the frames of each bin, then attention of frames to frames.

    Call arguments: x float32 `(batch, frames, bins, channels)`, zero on padding; frame_mask bool `(batch, frames)`, right-padded. Output:
    likewise x.

    Args:
        hidden: LSTM units in each direction.
        heads: attention heads, among which the channels are divided.
        kernel, hop: cells of an LSTM step, and from one step to the next.
        qk_features: features of queries and keys, a cell and head.
    """

    def __init__(self, hidden=100, heads=4, kernel=4, hop=1, qk_features=4, **kwargs):
        super().__init__(**kwargs)
        self.hidden, self.heads, self.kernel, self.hop, self.qk_features = hidden, heads, kernel, hop, qk_features

    def build(self, x_shape, frame_mask_shape=None):
        *_, self.bins, self.channels = x_shape
        self.intra, self.inter = (RecurrentPath(self.hidden, self.kernel, self.hop, name=name) for name in ("intra", "inter"))
        self.query, self.key = (CellProjection(self.heads, self.qk_features, name=name) for name in ("query", "key"))
        self.value = CellProjection(self.heads, self.channels // self.heads, name="value")
        self.context = CellProjection(1, self.channels, name="context")
        for path in (self.intra, self.inter):
            path.build((None, None, self.channels))
        for projection in (self.query, self.key, self.value, self.context):
            projection.build((None, None, self.bins, self.channels))

    def call(self, x, frame_mask):
        x = self._along_frames(self._along_bins(x), frame_mask)
        x = x + self._attention(x, frame_mask)
        return ops.where(frame_mask[:, :, None, None], x, 0.0)

    def _along_bins(self, x):
        """The spectral module, on the frames and the zeros behind them that an LSTM's last step along time still sees."""
        path, (_, frames, bins, channels) = self.intra, ops.shape(x)
        longest, width = self.inter.padded_length(frames), path.padded_length(bins)
        x = ops.pad(x, [[0, 0], [0, longest - frames], [0, width - bins], [0, 0]])
        x = path(ops.reshape(x, (-1, width, channels)))
        return ops.reshape(x, (-1, longest, width, channels))[:, :, :bins]

    def _along_frames(self, x, frame_mask):
        """The temporal module: of each utterance the steps that it has alone, backwards from the last of them."""
        path, (_, longest, bins, channels) = self.inter, ops.shape(x)
        own = path.steps(ops.sum(ops.cast(frame_mask, "int32"), axis=1, keepdims=True))
        step_mask = ops.repeat(ops.arange(path.steps(longest)) < own, bins, axis=0)
        x = ops.transpose(x, (0, 2, 1, 3))
        x = path(ops.reshape(x, (-1, longest, channels)), step_mask)
        x = ops.transpose(ops.reshape(x, (-1, bins, longest, channels)), (0, 2, 1, 3))
        return x[:, :ops.shape(frame_mask)[1]]

    def _attention(self, x, frame_mask):
        """The full-band module: every frame attends to an utterance's own, by the products of whole frames."""
        query, key, value = self.query(x), self.key(x), self.value(x)
        scores = ops.einsum("bqfhe,bkfhe->bhqk", query, key) / math.sqrt(self.bins * self.qk_features)
        scores = ops.where(frame_mask[:, None, None, :], scores, -1e9)
        context = ops.einsum("bhqk,bkfhe->bqfhe", ops.softmax(scores), value)
        return self.context(ops.reshape(context, ops.shape(x)))[:, :, :, 0]

    def compute_output_shape(self, x_shape, *_):
        return x_shape

    def get_config(self):
        return {**super().get_config(), "hidden": self.hidden, "heads": self.heads, "kernel": self.kernel, "hop": self.hop,
                "qk_features": self.qk_features}

    @property
    def max_batch_frames(self):
        """Frames for one call of an enhancer, padding included: an LSTM keeps some ten values a unit and step on a CPU."""
        return max(int(_LSTM_BYTES / (2 * 10 * 4 * self.hidden * self.intra.steps(self.bins))), 1)

    def macs(self, input_shapes, output_shape):
        """Multiply-accumulates: both LSTMs, the four projections, and the products of frames with frames."""
        frames, bins, channels = output_shape
        lstms = (frames * self.intra.steps(bins) + bins * self.inter.steps(frames)) * self.intra.macs_of_step(channels)
        of_heads = self.heads * self.qk_features
        projections = frames * bins * channels * (2 * of_heads + 2 * channels)
        return lstms + projections + frames * frames * bins * (of_heads + channels)
