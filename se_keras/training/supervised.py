"""Training an enhancer towards the clean spectrogram."""

import numpy as np

from se_keras.mixtures.feed import Feed


def mse_model(network, compression="log1p"):
    """A training model around a mask network: noisy and clean spectrum, frame mask -> masked MSE, one value an utterance.

    Inputs: `noisy`, `clean` float32 `(batch, frames, bins, 2)`, `frame_mask` bool `(batch, frames)`.
    """
    import keras

    from se_keras.enhancers.magnitude_mask import spectral_enhancer
    from se_keras.losses.mse import masked_mse
    from se_keras.models.layers import SpectrumMagnitude

    enhancer = spectral_enhancer(network)
    noisy, frame_mask = enhancer.inputs
    clean = keras.Input(noisy.shape[1:], name="clean")
    enhanced = enhancer([noisy, frame_mask])
    clean_magnitude = SpectrumMagnitude(name="clean_magnitude")(clean)
    loss = masked_mse(clean_magnitude, enhanced["magnitude"], enhanced["noisy_magnitude"], frame_mask, compression)
    return keras.Model({"noisy": noisy, "clean": clean, "frame_mask": frame_mask}, loss, name="mse_training")


def mse_batch(batch):
    """(x, y) of a batch for `mse_model`."""
    return {name: batch[name] for name in ("noisy", "clean", "frame_mask")}, np.zeros(len(batch["noisy"]), np.float32)


def validation_loss(model, rows, config, batch_size=16):
    """Mean of a training model's output over rows, each utterance whole and counted once."""
    feed = Feed(rows, batch_size, config)
    losses = [np.asarray(model.predict_on_batch(mse_batch(feed.batch(k))[0])) for k in range(feed.batches_per_epoch)]
    return float(np.concatenate(losses).mean())
