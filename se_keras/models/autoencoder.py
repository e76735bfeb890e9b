"""A convolutional autoencoder that maps noisy to clean spectrograms (Doyosae/Speech_Enhancement, 2020)."""

import keras

from se_keras.errors import check_choice
from se_keras.models.layers import MaskedBatchNormalization
from se_keras.models.pieces import EveryFrame, JoinPieces, MappedSpectrum, piece_images

FILTERS = (32, 64, 128, 256, 512, 1024)
DENSE_UNITS = (2048, 512, 2048)
ACTIVATIONS = ("leaky_relu", "relu")


def autoencoder(bins=257, feature="magnitude", filters=FILTERS, dense_units=DENSE_UNITS, frames=256, activation="leaky_relu", dropout=0.0,
                compression="magnitude", name="autoencoder"):
    """Build the autoencoder that maps a spectrum to an enhanced one.

    The original maps real parts, at whatever level, and inverts them alone, which is no signal's spectrum. Here the default maps
    magnitudes and keeps the noisy phase; feature="real" maps real parts, and `MappedSpectrum` says how they become a spectrum. Either is
    divided by the utterance's level, so gain does not matter. The original's last LeakyReLU, on signed values, is a softplus for
    magnitudes, and none for real parts. docs/errata.md has more.

    Inputs: noisy spectrum float32 `(batch, frames, bins, 2)`; frame_mask bool `(batch, frames)`, right-padded. Output: enhanced spectrum,
    float32 `(batch, frames, bins, 2)`. Utterances of any length: each piece of `frames` frames goes through the network alone (`pieces`).

    Args:
        bins: frequency bins of the spectrum; the network sees all but the last.
        feature: "magnitude" or "real".
        filters: of the convolutions of stride 2, which the transposed ones follow backwards.
        dense_units: of the layers between them; a last one as wide as the smallest image follows.
        frames: of a piece. It and bins - 1 are multiples of 2 to the number of filters.
        activation: "leaky_relu" (slope 0.2) or "relu".
        dropout: rate before each dense layer.
        compression: scale of the magnitude that the network sees, one of `signals.magnitudes.COMPRESSIONS`; it always gives a magnitude as
            it is.
        name: name of the model.

    Returns:
        A functional keras.Model of 81,891,077 parameters with the default sizes.

    Raises:
        UserError: a value that is unknown or does not fit the sizes.
    """
    noisy, frame_mask, images, mask = piece_images(bins, frames, feature, compression, len(filters))
    x = encoder_decoder(images, mask, filters, dense_units, activation, dropout)
    x = MaskedBatchNormalization(name="output_norm")(x, mask)
    if feature == "magnitude":
        x = keras.layers.Activation("softplus", name="output")(x)
    x = JoinPieces(name="estimate")(x, noisy)
    return keras.Model([noisy, frame_mask], MappedSpectrum(feature, name="spectrum")(x, noisy, frame_mask), name=name)


def encoder_decoder(images, mask, filters, dense_units, activation, dropout):
    """The body that the mapping and the mask network share: 6 convolutions, 4 dense layers and 6 transposed convolutions by default.

    Batch normalisation leaves out the padding of the last pieces, and pieces that are nothing else.

    Args:
        images: float32 `(pieces, frames, bins, 1)`.
        mask: bool `(pieces, frames)`.
        filters, dense_units, activation, dropout: as `autoencoder`.

    Returns:
        float32 `(pieces, frames, bins, 1)`, of the last convolution, without an activation.
    """
    check_choice("activation", activation, ACTIVATIONS)

    def activate(x, name):
        slope = 0.2 if activation == "leaky_relu" else 0.0
        return keras.layers.LeakyReLU(negative_slope=slope, name=f"{name}_activation")(x)

    masks = [EveryFrame(2 ** level, name=f"mask_{level}")(mask) for level in range(1, len(filters))]  # of image sizes 1/2, 1/4, ...
    x = images
    for level, width in enumerate(filters, 1):
        x = keras.layers.Conv2D(width, 3, strides=2, padding="same", name=f"encoder_{level}")(x)
        if level < len(filters):
            x = MaskedBatchNormalization(name=f"encoder_{level}_norm")(x, masks[level - 1])
        x = activate(x, f"encoder_{level}")
    smallest = x.shape[1:]
    any_frame = EveryFrame(images.shape[1], name="mask_piece")(mask)
    x = keras.layers.Reshape((1, 1, -1), name="flat")(x)
    for number, width in enumerate((*dense_units, x.shape[-1]), 1):
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"dropout_{number}")(x)
        x = keras.layers.Dense(width, name=f"dense_{number}")(x)
        x = activate(MaskedBatchNormalization(name=f"dense_{number}_norm")(x, any_frame), f"dense_{number}")
    x = keras.layers.Reshape(smallest, name="smallest")(x)
    for number, width in enumerate(reversed(filters[:-1]), 1):
        x = keras.layers.Conv2DTranspose(width, 3, strides=2, padding="same", name=f"decoder_{number}")(x)
        if number > 1:
            x = MaskedBatchNormalization(name=f"decoder_{number}_norm")(x, masks[-number])
        x = activate(x, f"decoder_{number}")
    return keras.layers.Conv2DTranspose(1, 3, strides=2, padding="same", name="decoder_last")(x)
