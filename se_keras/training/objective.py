"""A training model of an enhancer and a loss: noisy and clean spectrum in, the value of every term out."""

import numpy as np

from se_keras.mixtures.feed import Feed
from se_keras.signals.stft import Stft


def objective_model(enhancer, objective, judge=None, judges=None):
    """The functional training model of an enhancer: noisy and clean spectrum, frame mask -> values of the loss's terms.

    Inputs: `noisy`, `clean` float32 `(batch, frames, bins, 2)`, `frame_mask` bool `(batch, frames)`. Output: float32
    `(batch, terms)`, one value an utterance and term, not weighted (`weighted_mean` does that).

    Args:
        enhancer: `enhancers.base.Enhancer`; its network is what is trained.
        objective: `losses.Objective`.
        judge: `judges.surrogate.QualityPredictor`, or what has its `score`, where a term asks for a score; frozen here.
        judges: {name: likewise} of the judges that terms name themselves (`Objective.judges`).
    """
    import keras
    from keras import ops

    from se_keras.models.layers import SpectrumMagnitude
    from se_keras.models.training_layers import FrameMask, SampleMask, TermValue, Waveform, WaveMagnitude

    noisy, frame_mask = enhancer.model.inputs
    clean = keras.Input(noisy.shape[1:], name="clean")
    enhanced = enhancer.model([noisy, frame_mask])

    def waves():  # the differentiable inverse STFT, once for all terms that hear waves
        wave = Waveform(enhancer.config, name="wave")
        heard = [wave(spectrum, frame_mask) for spectrum in (clean, enhanced["spectrum"], noisy)]
        return (*heard[:2], SampleMask(enhancer.config, name="sample_mask")(frame_mask, heard[0])), heard[2]

    def magnitudes():
        return (SpectrumMagnitude(name="clean_magnitude_of_loss")(clean), enhanced["magnitude"], frame_mask), enhanced["noisy_magnitude"]

    def ear():  # what the ear hears is of one STFT; a mask's magnitude stays as it is where the enhancer has that one
        if enhancer.config == Stft():
            return heard("magnitude")
        (clean_wave, wave, _), noisy_wave = heard("wave")
        transform = WaveMagnitude(Stft(), name="ear")
        mask = FrameMask(enhancer.config, Stft(), name="ear_frame_mask")
        magnitudes = [transform(each) for each in (clean_wave, wave, noisy_wave)]
        return (*magnitudes[:2], mask(frame_mask, magnitudes[0])), magnitudes[2]

    def score(name):
        if name is None:
            return (judge.score(enhanced, clean, frame_mask, enhancer.config),), None
        return (judges[name].score(enhanced, clean, frame_mask, enhancer.config, f"judge_{list(judges).index(name)}"),), None

    hear = {"magnitude": magnitudes, "ear": ear,
            "spectrum": lambda: ((clean, enhanced["spectrum"], frame_mask), noisy),
            "wave": waves,
            "score": score}
    made = {}

    def heard(what, *of):
        if (what, *of) not in made:
            made[what, *of] = hear[what](*of)
        return made[what, *of]

    values = ops.stack([TermValue(term.function, name=f"term_{number}")(*heard(term.hears, *([term.judge] if term.hears == "score" else [])))
                        for number, term in enumerate(objective.terms)], axis=-1)
    return keras.Model({"noisy": noisy, "clean": clean, "frame_mask": frame_mask}, values, name="objective")


def weighted_mean(objective):
    """The Keras loss of an `objective_model`: the weighted sum of its terms, averaged over utterances."""
    from keras import ops

    def loss(_, values):
        return sum(term.weight * ops.mean(values[:, number]) for number, term in enumerate(objective.terms))

    return loss


def term_means(objective):
    """Keras metrics of an `objective_model`: the mean of each term, by its name; of one term, none: its loss says it."""
    import keras

    def mean_of(number, name):
        return keras.metrics.MeanMetricWrapper(lambda _, values: values[:, number], name=name)

    return [mean_of(number, term.name) for number, term in enumerate(objective.terms)] if len(objective.terms) > 1 else []


def objective_batch(batch):
    """(x, y) of a batch for `objective_model`."""
    return {name: batch[name] for name in ("noisy", "clean", "frame_mask")}, np.zeros(len(batch["noisy"]), np.float32)


def validation_loss(model, objective, rows, config, batch_size=16):
    """{"valid_loss": weighted sum, "valid_TERM": each term}, means over rows, each utterance whole and counted once."""
    feed = Feed(rows, batch_size, config)
    values = np.concatenate([np.asarray(model.predict_on_batch(objective_batch(feed.batch(k))[0])) for k in range(feed.batches_per_epoch)])
    means = {term.name: float(values[:, number].mean()) for number, term in enumerate(objective.terms)}
    total = {"valid_loss": sum(weight * means[name] for name, weight in objective.weights.items())}
    return total | ({f"valid_{name}": mean for name, mean in means.items()} if len(means) > 1 else {})
