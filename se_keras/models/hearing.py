"""The hearing model as a network without weights: a judge that has nothing to learn, and the front end of one that has."""

import keras
from keras import ops

from se_keras.errors import check_choice
from se_keras.hearing import bark, model
from se_keras.models.layers import register

MAPS = 4  # of each band: loudness of both signals, symmetric and asymmetric disturbance
_SCALES = (10.0, 10.0, 5.0, 50.0)  # in sone: about what speech at the listening level has


def hearing(bins=bark.BINS, band="nb", name="hearing"):
    """The hearing model's score as a Quality-Net gives one.

    Inputs: degraded and clean magnitude of the 512/256 STFT at 16 kHz, float32 `(batch, frames, 257)`; frame_mask bool
    `(batch, frames)`. Output: float32 `(batch, 1)`: of "nb" (raw + 0.5) / 5, of "wb" MOS-LQO (P.862.2) mapped likewise to 0 .. 1.

    Args:
        bins: 257.
        band: "nb" or "wb" (`hearing.model.BANDS`).
        name: name of the model.
    """
    check_choice("band", band, model.BANDS)
    check_choice("bins of the hearing model", bins, (bark.BINS,))
    degraded, clean = (keras.Input((None, bins), name=which) for which in ("degraded", "clean"))
    frame_mask = keras.Input((None,), dtype="bool", name="frame_mask")
    _, score = HearingFrontEnd(band, name="front_end")(degraded, clean, frame_mask)
    return keras.Model([degraded, clean, frame_mask], score, name=name)


@register
class HearingFrontEnd(keras.layers.Layer):
    """Magnitudes -> what is heard, and the model's own score.

    Call arguments: degraded, clean float32 `(batch, frames, 257)`, frame_mask bool `(batch, frames)`. Output: maps float32
    `(batch, frames, 49, 4)`, scaled to about 1 and zero on padding; score float32 `(batch, 1)`, 0 to 1 (`unit_score`).

    Args:
        band: "nb" or "wb".
        gain: factor on the maps.
    """

    def __init__(self, band="nb", gain=1.0, **kwargs):
        super().__init__(**kwargs)
        self.band = band
        self.gain = gain

    def call(self, degraded, clean, frame_mask):
        heard = model.hear(clean, degraded, frame_mask, self.band)
        maps = ops.stack([heard.degraded, heard.reference, heard.symmetric, heard.asymmetric], axis=-1) / ops.array(_SCALES, "float32")
        valid = ops.cast(frame_mask, "float32")[:, :, None, None]
        return self.gain * maps * valid, unit_score(model.score(heard, frame_mask), self.band)[:, None]

    def compute_output_shape(self, degraded_shape, clean_shape, frame_mask_shape):
        return (*degraded_shape[:2], bark.BANDS, MAPS), (degraded_shape[0], 1)

    def get_config(self):
        return {**super().get_config(), "band": self.band, "gain": self.gain}


def unit_score(raw, band):
    """A score of `hearing.model.score` as 0 to 1: of "nb" by raw PESQ's range -0.5 to 4.5, of "wb" by MOS-LQO's of P.862.2."""
    if band == "nb":
        return (raw + 0.5) / 5
    low, high = 1.0, 4.644  # the range of pesq_wb as a target
    return (model.mos_lqo_wb(raw) - low) / (high - low)
