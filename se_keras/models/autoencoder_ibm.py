"""The convolutional autoencoder that estimates the ideal binary mask (Doyosae/Speech_Enhancement, 2020)."""

import keras

from se_keras.models.autoencoder import DENSE_UNITS, FILTERS, encoder_decoder
from se_keras.models.pieces import mask_model, piece_images


def autoencoder_ibm(bins=257, feature="magnitude", filters=FILTERS, dense_units=DENSE_UNITS, frames=256, activation="leaky_relu",
                    dropout=0.3, compression="magnitude", at_use="soft", name="autoencoder_ibm"):
    """Build the autoencoder with a sigmoid mask: the probability of each bin that the ideal binary mask is 1 there (`losses.ibm`).

    Inputs: noisy spectrum float32 `(batch, frames, bins, 2)`; frame_mask bool `(batch, frames)`, right-padded. Output: mask float32
    `(batch, frames, bins)` in [0, 1], the last bin's that of its neighbour.

    Args:
        feature: "magnitude", or the original's "real": the real part of the spectrum.
        activation: "leaky_relu" (the original's 02) or "relu" (03).
        dropout: rate before each dense layer.
        at_use: "soft", or "binary": the mask cut at 0.5 where speech is enhanced; in training it is soft.
        bins, filters, dense_units, frames, compression, name: as `autoencoder`.

    Returns:
        A functional keras.Model of 81,891,073 parameters with the default sizes.

    Raises:
        UserError: a value that is unknown or does not fit the sizes.
    """
    noisy, frame_mask, images, mask = piece_images(bins, frames, feature, compression, len(filters))
    x = encoder_decoder(images, mask, filters, dense_units, activation, dropout)
    return mask_model(noisy, frame_mask, keras.layers.Activation("sigmoid", name="output")(x), at_use, name)
