"""Training an enhancer towards the clean spectrogram, and what every validation of an enhancer measures."""

import numpy as np

from se_keras.dataset import Feed
from se_keras.enhancer import MaskEnhancer
from se_keras.scores import recipe, wave_job


def mse_model(network, compression="log1p"):
    """A training model around a mask network: noisy and clean spectrum, frame mask -> masked MSE, one value an utterance.

    Inputs: `noisy`, `clean` float32 `(batch, frames, bins, 2)`, `frame_mask` bool `(batch, frames)`.
    """
    import keras

    from se_keras.enhancer import spectral_enhancer
    from se_keras.losses.spectral import masked_mse
    from se_keras.models.layers import SpectrumMagnitude

    enhancer = spectral_enhancer(network)
    noisy, frame_mask = enhancer.inputs
    clean = keras.Input(noisy.shape[1:], name="clean")
    enhanced = enhancer([noisy, frame_mask])
    loss = masked_mse(SpectrumMagnitude(name="clean_magnitude")(clean), enhanced["magnitude"], enhanced["noisy_magnitude"], frame_mask, compression)
    return keras.Model({"noisy": noisy, "clean": clean, "frame_mask": frame_mask}, loss, name="mse_training")


def mse_batch(batch):
    """(x, y) of a batch for `mse_model`."""
    return {name: batch[name] for name in ("noisy", "clean", "frame_mask")}, np.zeros(len(batch["noisy"]), np.float32)


def validation_loss(model, rows, config, batch_size=16):
    """Mean of a training model's output over rows, each utterance whole and counted once."""
    feed = Feed(rows, batch_size, config)
    losses = [np.asarray(model.predict_on_batch(mse_batch(feed.batch(k))[0])) for k in range(feed.batches_per_epoch)]
    return float(np.concatenate(losses).mean())


def true_scores(rows, network, config, scorer, description="validation"):
    """True metrics of a mask network on rows.

    Args:
        rows: manifest rows.
        network: mask network.
        config: STFT parameters.
        scorer: `scores.Scorer`, whose metrics are measured.
        description: of the progress bar.

    Returns:
        A list of result dicts as `Scorer.score`, in the order of rows.
    """
    from se_keras import mixing

    enhancer = MaskEnhancer(network, config)
    recipes = [recipe(row, enhancer.fingerprint) for row in rows]
    results = scorer.lookup(recipes)
    missing = [i for i, result in enumerate(results) if result is None]

    def jobs():
        for start in range(0, len(missing), 32):
            chunk = missing[start:start + 32]
            waves = enhancer.enhance([mixing.pair(rows[i])[0] for i in chunk])
            for i, wave in zip(chunk, waves, strict=True):
                yield wave_job(rows[i], wave, recipe=recipes[i])

    for i, result in zip(missing, scorer.score(jobs(), desc=description), strict=True):
        results[i] = result
    return results


def averages(results, names):
    """{metric: mean over the results that have it}, rows with an error left out."""
    return {name: float(np.mean([r[name] for r in results if r[name] is not None])) if any(r[name] is not None for r in results)
            else float("nan") for name in names}
