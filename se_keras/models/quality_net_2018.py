"""The non-intrusive Quality-Net of 2018: a BLSTM that scores degraded speech, frame by frame, without its clean reference."""

import keras
from keras import ops

from se_keras.models.layers import gate_activation, register
from se_keras.models.recurrent import Bidirectional


def quality_net_2018(bins=257, units=100, dense_units=50, dropout=0.3, recurrent_activation="sigmoid", name="quality_net_2018"):
    """Build the non-intrusive Quality-Net (Fu, Tsao, Hwang and Wang 2018).

    Inputs: degraded magnitude float32 `(batch, frames, bins)`, >= 0; frame_mask bool `(batch, frames)`, right-padded; peak
    float32 `(batch, 1)`, the largest absolute sample of the wave that the magnitude is of. The network divides by it, as the
    authors' code divides the wave, so that level does not matter. A magnitude does not tell its wave's peak; that it is an input
    keeps it from being forgotten, and 1 stands for a wave that is normalised already.

    Outputs: a dict of score, float32 `(batch, 1)`, the mean of the frame scores over the utterance's own frames, and frame_scores,
    float32 `(batch, frames)`, 0 on padding. Both are raw P.862 PESQ, as in the authors' weights and in their loss, which weighs
    frames by it (`losses.quality.frame_weighted_loss`); both are unbounded.

    In training, recurrent dropout takes the LSTM along Keras's own, slower path; inference goes by `recurrent.Bidirectional`'s.

    Args:
        bins: frequency bins.
        units: LSTM units in each direction.
        dense_units: units of the ELU layer.
        dropout: rate on the LSTM's input and state, and after the ELU layer.
        recurrent_activation: of the LSTM's gates, one of `layers.GATES`: "hard_sigmoid_keras2" is what weights of Keras 2's time want.
        name: name of the model.

    Returns:
        A functional keras.Model of 296,501 parameters with the default sizes, in this order: forward kernel, recurrent kernel,
        bias; backward kernel, recurrent kernel, bias; kernel and bias of "dense"; kernel and bias of "frame_score".
    """
    degraded = keras.Input((None, bins), name="degraded")
    frame_mask = keras.Input((None,), dtype="bool", name="frame_mask")
    peak = keras.Input((1,), name="peak")
    x = PeakNormalization(name="peak_normalization")(degraded, peak)
    lstm = keras.layers.LSTM(units, return_sequences=True, recurrent_activation=gate_activation(recurrent_activation),
                             unit_forget_bias=False, bias_initializer=ForgetGateBias(-3.0), dropout=dropout, recurrent_dropout=dropout,
                             recurrent_constraint=keras.constraints.MaxNorm(1e-5), name="lstm")
    x = Bidirectional(lstm, name="blstm")(x, mask=frame_mask)
    x = keras.layers.Dense(dense_units, activation="elu", name="dense")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    x = keras.layers.Dense(1, name="frame_score")(x)
    score = keras.layers.GlobalAveragePooling1D(name="score")(x, mask=frame_mask)
    frame_scores = FrameScores(name="frame_scores")(x, frame_mask)
    return keras.Model([degraded, frame_mask, peak], {"score": score, "frame_scores": frame_scores}, name=name)


def as_quality_net(network, low=-0.5, high=4.5):
    """The same network where a `models.quality_net` is expected: it asks for the clean speech, and does not listen to it.

    Inputs: degraded and clean magnitude, frame_mask, as there; the degraded one is of a wave whose peak is 1. Output: score
    float32 `(batch, 1)`, (PESQ - low) / (high - low). The weights are those of `network`.
    """
    degraded, frame_mask, _ = network.inputs
    degraded, frame_mask = keras.Input(degraded.shape[1:], name="degraded"), keras.Input((None,), dtype="bool", name="frame_mask")
    clean = keras.Input(degraded.shape[1:], name="clean")
    raw = network([degraded, frame_mask, ops.ones_like(degraded[:, 0, :1])])["score"]
    return keras.Model([degraded, clean, frame_mask], (raw - low) / (high - low), name="quality_net")


@register
class PeakNormalization(keras.layers.Layer):
    """Magnitude `(batch, frames, bins)` of a wave divided by its peak, which is a gain: of silence, whose peak is 0, as it is.

    Call arguments: magnitude float32 `(batch, frames, bins)`, peak float32 `(batch, 1)`.
    """

    def call(self, magnitude, peak):
        return magnitude / ops.expand_dims(ops.where(peak > 0, peak, ops.ones_like(peak)), -1)

    def compute_output_shape(self, magnitude_shape, peak_shape=None):
        return magnitude_shape


@register
class FrameScores(keras.layers.Layer):
    """Scores `(batch, frames, 1)` as `(batch, frames)`, 0 where frame_mask, bool `(batch, frames)`, is False."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True  # the LSTM's mask of time steps, which is the same

    def call(self, scores, frame_mask):
        return scores[..., 0] * ops.cast(frame_mask, scores.dtype)

    def compute_output_shape(self, scores_shape, frame_mask_shape=None):
        return scores_shape[:-1]


@register
class ForgetGateBias(keras.initializers.Initializer):
    """An LSTM's bias, `(4 * units,)`: zeros, and `value` for the forget gate, the second of Keras's four."""

    def __init__(self, value=1.0):
        self.value = value

    def __call__(self, shape, dtype=None):
        gates = ops.reshape(ops.convert_to_tensor([0.0, self.value, 0.0, 0.0], dtype), (4, 1))
        return ops.reshape(ops.broadcast_to(gates, (4, shape[0] // 4)), shape)

    def get_config(self):
        return {"value": self.value}
