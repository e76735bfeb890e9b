"""The feed-forward baseline: three dense layers on a frame and its neighbours."""

import keras

from se_keras.models.blstm import mask_features
from se_keras.models.layers import ZeroPadding


def dnn(bins=257, units=256, context=5, compression="log", normalization="utterance", name="dnn"):
    """Build the DNN ratio-mask estimator (the letter's baseline: 3 hidden layers of 256 ReLU units).

    Inputs and output as `blstm`. The first layer sees `context` frames on either side, as a convolution over time, which is
    the same as a dense layer on the stacked frames; beyond the ends of the utterance it sees zeros.

    Args:
        bins: frequency bins.
        units: units of each hidden layer.
        context: frames seen on either side.
        compression, normalization: as `blstm`.
        name: name of the model.

    Returns:
        A functional keras.Model of 921,601 parameters with the default sizes.
    """
    magnitude = keras.Input((None, bins), name="magnitude")
    frame_mask = keras.Input((None,), dtype="bool", name="frame_mask")
    x = mask_features(magnitude, frame_mask, compression, normalization)
    x = ZeroPadding(name="zero_padding")(x, frame_mask)
    x = keras.layers.Conv1D(units, 2 * context + 1, padding="same", activation="relu", name="hidden_1")(x)
    x = keras.layers.Dense(units, activation="relu", name="hidden_2")(x)
    x = keras.layers.Dense(units, activation="relu", name="hidden_3")(x)
    mask = keras.layers.Dense(bins, activation="sigmoid", name="mask")(x)
    return keras.Model([magnitude, frame_mask], mask, name=name)
