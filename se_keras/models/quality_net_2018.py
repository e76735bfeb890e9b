"""The Quality-Net of 2018: a BLSTM that predicts raw PESQ from the degraded spectrogram alone, frame by frame."""

import keras
from keras import ops

from se_keras.models.layers import gate_activation
from se_keras.models.lstm import Bidirectional


def quality_net_2018(bins=257, units=100, dense_units=50, dropout=0.3, recurrent_activation="sigmoid", name="quality_net_2018"):
    """Build the non-intrusive Quality-Net (Fu, Tsao, Hwang and Wang 2018).

    Inputs: degraded magnitude float32 `(batch, frames, bins)`; frame_mask bool `(batch, frames)`. Outputs, in raw PESQ: "score"
    float32 `(batch, 1)`, the mean of "frame_scores" float32 `(batch, frames)` over an utterance's own frames.

    Args:
        bins: frequency bins.
        units: LSTM units in each direction.
        dense_units: units of the ELU layer.
        dropout: rate after both layers.
        recurrent_activation: of the gates, one of `layers.GATES`.
        name: name of the model.

    Returns:
        A functional keras.Model of 296,501 parameters with the default sizes.
    """
    degraded = keras.Input((None, bins), name="degraded")
    frame_mask = keras.Input((None,), dtype="bool", name="frame_mask")
    lstm = keras.layers.LSTM(units, return_sequences=True, recurrent_activation=gate_activation(recurrent_activation), name="lstm")
    x = Bidirectional(lstm, name="blstm")(degraded, mask=frame_mask)
    x = keras.layers.Dropout(dropout, name="dropout_1")(x)
    x = keras.layers.Dense(dense_units, activation="elu", name="dense")(x)
    x = keras.layers.Dropout(dropout, name="dropout_2")(x)
    x = keras.layers.Dense(1, name="frame_score")(x)
    score = keras.layers.GlobalAveragePooling1D(name="score")(x, mask=frame_mask)
    return keras.Model([degraded, frame_mask], {"score": score, "frame_scores": ops.squeeze(x, -1)}, name=name)
