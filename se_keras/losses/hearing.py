"""The hearing model as a loss: what is missing to its best score (`hearing.model`)."""

from se_keras.hearing import model


def hearing_nb(clean, enhanced, frame_mask, equalisation="through"):
    """4.5 - score of the narrow-band model, one value an utterance: 0 for equal signals, on the scale of raw P.862.

    A level, and a fixed filter within 20 dB, cost nothing: add a term that holds them, such as mse.

    Args:
        clean, enhanced: magnitudes of the 512/256 STFT at 16 kHz, float32 `(batch, frames, 257)`, >= 0.
        frame_mask: bool `(batch, frames)`.
        equalisation: "through": gradients go through both equalisations; "stopped": they do not, so that nothing is paid for a change of
            level or colour that the equalisations take back.

    Returns:
        float32 `(batch,)`.
    """
    return _missing(clean, enhanced, frame_mask, "nb", equalisation)


def hearing_wb(clean, enhanced, frame_mask, equalisation="through"):
    """As `hearing_nb`, of the wide-band model, before its mapping to MOS-LQO."""
    return _missing(clean, enhanced, frame_mask, "wb", equalisation)


def _missing(clean, enhanced, frame_mask, band, equalisation):
    heard = model.hear(clean, enhanced, frame_mask, band, through_equalisation=equalisation == "through")
    return 4.5 - model.score(heard, frame_mask)
