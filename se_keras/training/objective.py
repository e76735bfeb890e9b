"""A training model of an enhancer and a loss: noisy and clean spectrum in, the value of every term out."""

import functools

import numpy as np

from se_keras.errors import UserError
from se_keras.mixtures.feed import Feed
from se_keras.signals.stft import Stft


def objective_model(enhancer, objective, judge=None, judges=None):
    """The functional training model of an enhancer: noisy and clean spectrum, frame mask -> values of the loss's terms.

    Inputs: `noisy`, `clean` float32 `(batch, frames, bins, 2)`, `frame_mask` bool `(batch, frames)`. Output: float32
    `(batch, terms)`, one value an utterance and term, not weighted (`weighted_mean` does that).

    Of a progressive network a term is the sum over its stages, each against its own target: clean speech with the mixture's noise at
    0, 5, 10 and 15 dB (`stage_snrs`), and the last clean. A judge scores the last stage alone. Where the mixture is better than a stage's
    target, that target is noisier than what the network is given.

    Args:
        enhancer: `enhancers.base.Enhancer`; its network is what is trained.
        objective: `losses.Objective`.
        judge: `judges.surrogate.QualityPredictor`, or what has its `score`, where a term asks for a score; frozen here.
        judges: {name: likewise} of the judges that terms name themselves (`Objective.judges`).

    Raises:
        UserError: a term hears a mask, and the enhancer has none.
    """
    import keras
    from keras import ops

    from se_keras.models.layers import SpectrumMagnitude
    from se_keras.models.training_layers import FrameMask, SampleMask, TermValue, Waveform, WaveMagnitude

    noisy, frame_mask = enhancer.model.inputs
    clean = keras.Input(noisy.shape[1:], name="clean")
    enhanced = enhancer.model([noisy, frame_mask])
    if "mask" not in enhanced and (without := [term.name for term in objective.terms if term.hears == "mask"]):
        raise UserError(f"--loss {objective.text!r}: {', '.join(without)} compares a mask, and {enhancer.name} ({enhancer.family}) has "
                        "none; take another loss, or a network with a mask")

    wave, sample_mask = Waveform(enhancer.config, name="wave"), SampleMask(enhancer.config, name="sample_mask")
    clean_magnitude = SpectrumMagnitude(name="clean_magnitude_of_loss")
    ear_magnitude, ear_mask = WaveMagnitude(Stft(), name="ear"), FrameMask(enhancer.config, Stft(), name="ear_frame_mask")

    def listener(clean, enhanced):
        """What terms hear of an estimate and its target: a function (what) -> ((clean, enhanced, own), noisy), which makes each once."""

        def waves():  # the differentiable inverse STFT, once for all terms that hear waves
            heard = [wave(spectrum, frame_mask) for spectrum in (clean, enhanced["spectrum"], noisy)]
            return (*heard[:2], sample_mask(frame_mask, heard[0])), heard[2]

        def magnitudes():
            return (clean_magnitude(clean), enhanced["magnitude"], frame_mask), enhanced["noisy_magnitude"]

        def ear():  # what the ear hears is of one STFT; a mask's magnitude stays as it is where the enhancer has that one
            if enhancer.config == Stft():
                return heard("magnitude")
            (clean_wave, enhanced_wave, _), noisy_wave = heard("wave")
            magnitudes = [ear_magnitude(each) for each in (clean_wave, enhanced_wave, noisy_wave)]
            return (*magnitudes[:2], ear_mask(frame_mask, magnitudes[0])), magnitudes[2]

        hear = {"magnitude": magnitudes, "ear": ear, "wave": waves,
                "spectrum": lambda: ((clean, enhanced["spectrum"], frame_mask), noisy),
                "mask": lambda: ((clean, enhanced["mask"], frame_mask), noisy)}

        @functools.cache
        def heard(what):
            return hear[what]()

        return heard

    @functools.cache
    def score(name):
        if name is None:
            return judge.score(enhanced, clean, frame_mask, enhancer.config)
        return judges[name].score(enhanced, clean, frame_mask, enhancer.config, f"judge_{list(judges).index(name)}")

    stages = [listener(*stage) for stage in _stages(enhancer, enhanced, noisy, clean, frame_mask)]

    def value(number, term):
        layer = TermValue(term.function, name=f"term_{number}")
        return layer((score(term.judge),)) if term.hears == "score" else sum(layer(*heard(term.hears)) for heard in stages)

    values = ops.stack([value(number, term) for number, term in enumerate(objective.terms)], axis=-1)
    return keras.Model({"noisy": noisy, "clean": clean, "frame_mask": frame_mask}, values, name="objective")


def _stages(enhancer, enhanced, noisy, clean, frame_mask):
    """(target, outputs of the enhancer's model) of each stage of a progressive network; else of the enhanced spectrum alone."""
    if "stages" not in enhanced:
        return [(clean, enhanced)]
    from se_keras.enhancers.complex_mapping import spectrum_outputs
    from se_keras.models.training_layers import StageTarget

    count = enhanced["stages"].shape[-1]
    estimates = [{**enhanced, **spectrum_outputs(enhanced["stages"][..., stage])} for stage in range(count - 1)]
    targets = [StageTarget(enhancer.config, snr_db, name=f"target_{stage}")(clean, noisy, frame_mask)
               for stage, snr_db in enumerate(stage_snrs(count))]
    return [*zip(targets, estimates, strict=True), (clean, enhanced)]


def stage_snrs(count):
    """SNR in dB of the targets of `count` stages, the last of which is clean: up to 15 dB, in steps of 5 dB."""
    return [15 - 5 * below for below in reversed(range(count - 1))]


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
