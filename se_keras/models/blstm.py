"""The letter's enhancer: two bidirectional LSTM layers and a dense sigmoid that estimates a ratio mask."""

import keras

from se_keras.errors import check_choice
from se_keras.models.layers import (
    Compression,
    LevelNormalization,
    ReferenceNormalization,
    UtteranceNormalization,
    gate_activation,
    register,
)
from se_keras.models.recurrent import Bidirectional


def blstm(bins=257, units=200, dense_units=300, dropout=0.0, mask_floor=0.0, compression="log", normalization="utterance",
          sigmoid="plain", recurrent_activation="sigmoid", name="blstm"):
    """Build the BLSTM ratio-mask estimator (Fu, Liao and Tsao 2019, section III; MetricGAN's enhancer has the same layers).

    Inputs: magnitude float32 `(batch, frames, bins)`, >= 0, at any level; frame_mask bool `(batch, frames)`, right-padded,
    which lets the LSTMs take cuDNN's path on a GPU. Output: mask float32 `(batch, frames, bins)` in [mask_floor, 1].

    Args:
        bins: frequency bins.
        units: LSTM units in each direction of each of the two layers.
        dense_units: units of the LeakyReLU layer.
        dropout: rate after the dense layer (MetricGAN 0.05, the letter does not say).
        mask_floor: smallest value of the mask (MetricGAN 0.05, the letter names none).
        compression: scale of the input feature, one of `signals.magnitudes.COMPRESSIONS`, after the level is normalised.
        normalization: "utterance" for zero mean and unit variance of each bin over the utterance, "none", or "metricgan" for what
            MetricGAN's code does: as "utterance", but of the magnitude at its own level, and with next to no floor of the variance.
        recurrent_activation: of the LSTMs' gates, "sigmoid" or "hard_sigmoid_keras2" (weights trained with Keras before 2.3; slower).
        sigmoid: "plain", or "learnable" for MetricGAN+'s 1.2 sigmoid(slope z) with a slope of each bin (`LearnableSigmoid`): 257
            parameters more, and a mask of up to 1.2.
        name: name of the model.

    Returns:
        A functional keras.Model of 1,892,057 parameters with the default sizes.
    """
    magnitude = keras.Input((None, bins), name="magnitude")
    frame_mask = keras.Input((None,), dtype="bool", name="frame_mask")
    x = mask_features(magnitude, frame_mask, compression, normalization)
    for number in (1, 2):
        lstm = keras.layers.LSTM(units, return_sequences=True, recurrent_activation=gate_activation(recurrent_activation),
                                 name=f"lstm_{number}")  # a name that no counter makes: see fingerprint
        x = Bidirectional(lstm, name=f"blstm_{number}")(x, mask=frame_mask)
    mask = mask_head(x, bins, dense_units, dropout, sigmoid, mask_floor)
    return keras.Model([magnitude, frame_mask], mask, name=name)


def mask_features(magnitude, frame_mask, compression, normalization):
    """The feature of every mask network here: level-normalised, compressed and standardised magnitude; see `blstm` for what varies."""
    check_choice("normalization", normalization, ("utterance", "none", "metricgan"))
    x = magnitude
    if normalization != "metricgan":
        x = LevelNormalization(name="level")(x, frame_mask)
    x = Compression(compression, name="compression")(x)
    if normalization != "none":
        standardise = {"utterance": UtteranceNormalization, "metricgan": ReferenceNormalization}[normalization]
        x = standardise(name="standardise")(x, frame_mask)
    return x


def mask_head(x, bins, dense_units, dropout, sigmoid, mask_floor):
    """The mask of what the LSTMs give; see `blstm`."""
    x = keras.layers.Dense(dense_units, name="dense")(x)
    x = keras.layers.LeakyReLU(negative_slope=0.3, name="leaky_relu")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    check_choice("sigmoid", sigmoid, ("plain", "learnable"))
    mask = keras.layers.Dense(bins, activation="sigmoid" if sigmoid == "plain" else None, name="mask")(x)
    if sigmoid == "learnable":
        mask = LearnableSigmoid(name="learnable_sigmoid")(mask)
    if mask_floor:
        mask = MaskFloor(mask_floor, name="mask_floor")(mask)
    return mask


@register
class LearnableSigmoid(keras.layers.Layer):
    """height * sigmoid(slope * z), the slope learned for each bin (Fu et al., "MetricGAN+", Interspeech 2021, equation 5).

    Where it starts, at slope 1, it is a plain sigmoid times `height`. The slope stays at or below `steepest`, as in SpeechBrain's recipe.
    """

    def __init__(self, height=1.2, steepest=3.5, **kwargs):
        super().__init__(**kwargs)
        self.height, self.steepest = height, steepest
        self.supports_masking = True  # the LSTMs' mask of time steps goes through

    def build(self, shape):
        steepest = self.steepest
        self.slope = self.add_weight(shape=(shape[-1],), initializer="ones", name="slope",
                                     constraint=lambda slope: keras.ops.minimum(slope, steepest))

    def call(self, z):
        return self.height * keras.ops.sigmoid(self.slope * z)

    def compute_output_shape(self, shape):
        return shape

    def get_config(self):
        return {**super().get_config(), "height": self.height, "steepest": self.steepest}


@register
class MaskFloor(keras.layers.Layer):
    """max(mask, floor): what the mask takes away at most, as MetricGAN does (its gradient is zero below the floor)."""

    def __init__(self, floor=0.05, **kwargs):
        super().__init__(**kwargs)
        self.floor = floor
        self.supports_masking = True  # the LSTMs' mask of time steps goes through

    def call(self, ratio_mask):
        return keras.ops.maximum(ratio_mask, self.floor)

    def compute_output_shape(self, shape):
        return shape

    def get_config(self):
        return {**super().get_config(), "floor": self.floor}
