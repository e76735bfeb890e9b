"""What networks on images of a fixed size have in common: an utterance's spectrum cut to pieces, and put together again.

    noisy spectrum -> level-normalised feature without the last bin -> pieces of `frames` frames -> network -> mask, or spectrum

The last bin, Nyquist's, is left out so that the bins can be halved time and again (256 of 257), and gets its neighbour's gain in the end.
The last piece is filled up with zeros; each goes through the network alone. So an utterance, cut from its own first frame on, gives the
same in a padded batch as alone.
"""

import keras
from keras import ops

from se_keras.errors import UserError, check_choice
from se_keras.models.layers import Compression, register
from se_keras.signals.magnitudes import rms_level

FEATURES = ("magnitude", "real")
SMALLEST_MAGNITUDE = 1e-6  # of the utterance's level: a quieter bin has no gain of its own
SMALLEST_POWER = 1e-4  # likewise; about a bin and its neighbours


def piece_images(bins, frames, feature, compression, halvings):
    """Inputs of a network on spectra, and the images of their pieces.

    Args:
        bins: of the spectrum.
        frames: of a piece.
        feature: "magnitude", or "real": the real part of the spectrum, with its sign.
        compression: of the magnitude, one of `signals.magnitudes.COMPRESSIONS`; "magnitude" leaves it (and the real part) as it is.
        halvings: how often the network halves an image.

    Returns:
        `(noisy, frame_mask, images, piece_mask)`: the two inputs, float32 `(batch, frames, bins, 2)` and bool `(batch, frames)`;
        images float32 `(pieces, frames, bins - 1, 1)`, and the mask of their frames that are not padding, bool `(pieces, frames)`.

    Raises:
        UserError: an unknown feature or compression; a compression of the real part; sizes that cannot be halved so often.
    """
    check_choice("feature", feature, FEATURES)
    if feature == "real" and compression != "magnitude":
        raise UserError(f"compression {compression!r} is of magnitudes, and the feature is the real part; leave one of them out")
    for size, value in (("bins - 1", bins - 1), ("frames", frames)):
        if value < 1 or value % 2 ** halvings:
            raise UserError(f"{size} is {value}: a multiple of {2 ** halvings} is expected, since the network halves it {halvings} times; "
                            "take another number, or fewer filters")
    noisy = keras.Input((None, bins, 2), name="noisy")
    frame_mask = keras.Input((None,), dtype="bool", name="frame_mask")
    x = SpectrumFeature(feature, name="feature")(noisy, frame_mask)
    x = CutPieces(frames, name="pieces")(x)
    if compression != "magnitude":
        x = Compression(compression, name="compression")(x)
    images = keras.layers.Reshape((frames, bins - 1, 1), name="images")(x)
    return noisy, frame_mask, images, CutPieces(frames, name="piece_mask")(frame_mask)


def mask_model(noisy, frame_mask, images, at_use, name):
    """The keras.Model that ends in a mask, float32 `(batch, frames, bins)`, of its images, float32 `(pieces, frames, bins - 1, 1)`."""
    mask = LastBin(name="last_bin")(JoinPieces(name="mask")(images, noisy))
    return keras.Model([noisy, frame_mask], AtUse(at_use, name="at_use")(mask), name=name)


def normalised_feature(noisy, frame_mask, feature):
    """|Y| or Re Y over the utterance's level (`rms_level`): float32 `(batch, frames, bins)`, zero on padding."""
    magnitude = ops.sqrt(ops.sum(ops.square(noisy), axis=-1))
    x = magnitude if feature == "magnitude" else noisy[..., 0]
    return x / rms_level(magnitude, frame_mask) * ops.expand_dims(ops.cast(frame_mask, x.dtype), -1)


@register
class SpectrumFeature(keras.layers.Layer):
    """`normalised_feature` without the last bin.

    Call arguments: noisy float32 `(batch, frames, bins, 2)`, frame_mask bool `(batch, frames)`. Output: `(batch, frames, bins - 1)`.
    """

    def __init__(self, feature="magnitude", **kwargs):
        super().__init__(**kwargs)
        self.feature = feature

    def call(self, noisy, frame_mask):
        return normalised_feature(noisy, frame_mask, self.feature)[..., :-1]

    def compute_output_shape(self, noisy_shape, *_):
        return (*noisy_shape[:2], noisy_shape[2] - 1)

    def get_config(self):
        return {**super().get_config(), "feature": self.feature}


@register
class CutPieces(keras.layers.Layer):
    """Utterances as pieces of `frames` frames, zeros at their end: `(batch, any, ...)` -> `(pieces, frames, ...)`; also frame masks."""

    def __init__(self, frames=256, **kwargs):
        super().__init__(**kwargs)
        self.frames = frames

    def call(self, x):
        missing = (self.frames - ops.shape(x)[1] % self.frames) % self.frames  # of a number above 0: converters get -n % m wrong
        padded = ops.pad(x, [[0, 0], [0, missing]] + [[0, 0]] * (len(x.shape) - 2))
        return ops.reshape(padded, (-1, self.frames, *x.shape[2:]))

    def compute_output_spec(self, x):
        return keras.KerasTensor((None, self.frames, *x.shape[2:]), dtype=x.dtype)

    def get_config(self):
        return {**super().get_config(), "frames": self.frames}


@register
class JoinPieces(keras.layers.Layer):
    """The way back of `CutPieces`: images float32 `(pieces, frames, bins, 1)` -> `(batch, any, bins)`, cut to the frames of `noisy`.

    Call arguments: images; noisy `(batch, any, ...)`, which says how many utterances and frames there are.
    """

    def call(self, images, noisy):
        batch, frames = ops.shape(noisy)[:2]
        return ops.reshape(images, (batch, -1, images.shape[2]))[:, :frames]

    def compute_output_shape(self, images_shape, noisy_shape):
        return (*noisy_shape[:2], images_shape[2])


@register
class EveryFrame(keras.layers.Layer):
    """Every `stride`-th frame of a frame mask: the mask behind layers of that stride, since padding stands to the right."""

    def __init__(self, stride=2, **kwargs):
        super().__init__(**kwargs)
        self.stride = stride

    def call(self, frame_mask):
        return frame_mask[:, ::self.stride]

    def compute_output_spec(self, frame_mask):
        frames = frame_mask.shape[1]
        return keras.KerasTensor((frame_mask.shape[0], None if frames is None else -(-frames // self.stride)), dtype="bool")

    def get_config(self):
        return {**super().get_config(), "stride": self.stride}


@register
class LastBin(keras.layers.Layer):
    """Gives the last bin its neighbour's gain: float32 `(batch, frames, bins - 1)` -> `(batch, frames, bins)`."""

    def call(self, gain):
        return ops.concatenate([gain, gain[..., -1:]], axis=-1)

    def compute_output_shape(self, shape):
        return (*shape[:-1], shape[-1] + 1)


@register
class AtUse(keras.layers.Layer):
    """Passes a soft mask on as it is, and says how `enhancers.binary_mask` uses it.

    Args:
        how: "soft", as it is; or "binary", 1 where it is 0.5 or more, and 0 elsewhere. Training sees the soft one: a step has no gradient.
    """

    def __init__(self, how="soft", **kwargs):
        super().__init__(**kwargs)
        check_choice("at_use", how, ("soft", "binary"))
        self.how = how

    def call(self, soft):
        return soft

    def compute_output_shape(self, shape):
        return shape

    def get_config(self):
        return {**super().get_config(), "how": self.how}


@register
class MappedSpectrum(keras.layers.Layer):
    """The enhanced spectrum of an estimated feature: the noisy spectrum times a real gain in each bin, so its phase is the noisy one.

    magnitude: the gain makes the bin's magnitude the estimated one.
    real: the real parts alone are no spectrum of a signal, and beside the noisy imaginary parts half of the noise would stay. So the gain
        is the one that brings the noisy real parts nearest to the estimated ones, in the least squares over the bin and its eight
        neighbours: one bin's real part may be near zero at any energy. It may be negative, which turns the phase round.

    The last bin gets its neighbour's gain, of at most 1.

    Call arguments: estimate float32 `(batch, frames, bins - 1)`, in units of the noisy utterance's level (`normalised_feature`); noisy
    float32 `(batch, frames, bins, 2)`; frame_mask bool `(batch, frames)`. Output: float32 `(batch, frames, bins, 2)`, zero on padding and
    where the noisy one is zero.
    """

    def __init__(self, feature="magnitude", **kwargs):
        super().__init__(**kwargs)
        self.feature = feature

    def call(self, estimate, noisy, frame_mask):
        own = normalised_feature(noisy, frame_mask, self.feature)[..., :-1]
        if self.feature == "magnitude":
            gain = estimate / ops.maximum(own, SMALLEST_MAGNITUDE)
        else:
            gain = _around(estimate * own) / (_around(ops.square(own)) + SMALLEST_POWER)
        gain = ops.concatenate([gain, ops.minimum(gain[..., -1:], 1.0)], axis=-1)
        return ops.where(frame_mask[..., None, None], noisy * ops.expand_dims(gain, -1), 0.0)

    def compute_output_shape(self, estimate_shape, noisy_shape, *_):
        return noisy_shape

    def get_config(self):
        return {**super().get_config(), "feature": self.feature}


def _around(x):
    """Mean over each bin and its eight neighbours, float32 `(batch, frames, bins)`; beyond the borders are zeros, as on padding."""
    return ops.average_pool(ops.pad(x, [[0, 0], [1, 1], [1, 1]])[..., None], 3, 1)[..., 0]
