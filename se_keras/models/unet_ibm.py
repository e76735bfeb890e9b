"""A U-Net that estimates the ideal binary mask (Doyosae/Speech-Enhancement-with-U-Net, 2020)."""

import keras

from se_keras.models.pieces import mask_model, piece_images


def unet_ibm(bins=257, feature="magnitude", filters=(32, 64, 128, 256, 512), bottom=256, up_filters=(256, 128, 128, 64, 32), head=(16, 4),
             frames=256, compression="magnitude", at_use="soft", name="unet_ibm"):
    """Build the U-Net: levels of two 3x3 convolutions, halved by maxima; on the way up each level sees its twin's image too.

    There is no normalisation in it, so the padding of a last piece is zeros and nothing else.

    Inputs: noisy spectrum float32 `(batch, frames, bins, 2)`; frame_mask bool `(batch, frames)`, right-padded. Output: mask float32
    `(batch, frames, bins)` in [0, 1], the last bin's that of its neighbour.

    Args:
        filters: of each level on the way down.
        bottom: filters of the smallest image.
        up_filters: of each level on the way up, as many as `filters`.
        head: of the last convolutions, 1x1, before the mask's.
        bins, feature, frames, compression, at_use, name: as `autoencoder_ibm`.

    Returns:
        A functional keras.Model of 10,513,497 parameters with the default sizes.

    Raises:
        UserError: a value that is unknown or does not fit the sizes.
    """
    noisy, frame_mask, x, _ = piece_images(bins, frames, feature, compression, len(filters))

    def twice(x, width, name):
        for number in (1, 2):
            x = keras.layers.Conv2D(width, 3, padding="same", activation="relu", name=f"{name}_{number}")(x)
        return x

    seen = []
    for level, width in enumerate(filters, 1):
        x = twice(x, width, f"down_{level}")
        seen.append(x)
        x = keras.layers.MaxPooling2D(2, name=f"pool_{level}")(x)
    x = twice(x, bottom, "bottom")
    for level, (width, twin) in enumerate(zip(up_filters, reversed(seen), strict=True), 1):
        x = keras.layers.Conv2DTranspose(width, 2, strides=2, name=f"double_{level}")(x)
        x = keras.layers.Concatenate(name=f"skip_{level}")([twin, x])
        x = twice(x, width, f"up_{level}")
    for number, width in enumerate(head, 1):
        x = keras.layers.Conv2D(width, 1, activation="relu", name=f"head_{number}")(x)
    x = keras.layers.Conv2D(1, 1, activation="sigmoid", name="output")(x)
    return mask_model(noisy, frame_mask, x, at_use, name)
