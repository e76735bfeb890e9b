"""Quality-Net at work: what it is shown in training, its predictions, and the enhancer fine-tuned through it, frozen."""

import numpy as np

from se_keras.enhancers.base import pad_frames
from se_keras.errors import UserError
from se_keras.judges import targets
from se_keras.judges.diet import CHUNK, Pair, label, pair_estimates
from se_keras.mixtures.feed import Feed
from se_keras.report.statistics import agreement
from se_keras.signals import mixing
from se_keras.signals.stft import Stft, istft, magnitude, stft

PESQ = targets.parse("pesq_raw")  # the letter's

# --- What Quality-Net is shown ----------------------------------------------------------------------------------------------------


class QualityFeed:
    """Batches of (degraded, clean) magnitudes with their scores, as `dataset.Feed` gives spectra.

    A batch holds `siblings` pairs of each of its mixtures, side by side, drawn anew each epoch: with two or more, the loss can ask
    how the score changes with what was done to one mixture (`losses.quality.score_loss`).

    Args:
        pairs: list of `diet.Pair`.
        scores: target of each, float32.
        enhancers: `Enhancer`s; frozen here, run on several batches at once.
        batch_size: pairs a batch, a multiple of `siblings`.
        config, seed: as `Feed`.
        representation: of enhanced speech. "mask": the enhancer's own magnitude, |N| (x) G(N) of a mask (equation 1); "wave": the magnitude
            of the resynthesised wave; "peak": that, of noisy and clean speech too, the wave divided by its peak (the non-intrusive
            Quality-Net of 2018).
        siblings: pairs of one mixture a batch; of a mixture with fewer, some come twice.
    """

    def __init__(self, pairs, scores, enhancers, batch_size, config=Stft(), seed=0, representation="mask", siblings=1):
        self.pairs, self.scores, self.enhancers = pairs, np.asarray(scores, np.float32), enhancers
        self.config, self.seed, self.representation, self.siblings = config, seed, representation, siblings
        mixtures = {}
        for number, pair in enumerate(pairs):
            mixtures.setdefault(pair.row, []).append(number)
        self.numbers = list(mixtures.values())
        self.feed = Feed(list(mixtures), batch_size // siblings, config, seed)
        self.rows, self.batches_per_epoch = pairs, self.feed.batches_per_epoch

    def indices(self, k):
        """Pair numbers of batch k, siblings side by side."""
        epoch = int(k) // self.batches_per_epoch
        drawn = []
        for mixture in self.feed.indices(k):
            numbers, rng = self.numbers[mixture], np.random.default_rng([self.seed, epoch, int(mixture)])
            drawn.append(rng.choice(numbers, self.siblings, replace=len(numbers) < self.siblings))
        return np.concatenate(drawn)

    def batches(self, start, stop):
        """Batches start .. stop - 1: dicts of `degraded`, `clean`, `frame_mask` and `score`."""
        size = max(1, CHUNK // self.feed.batch_size)
        first = start // size * size  # a mixture is enhanced beside the same others wherever training goes on: bit for bit the same
        group = []
        for k, batch in zip(range(first, stop), self.feed.batches(first, stop), strict=True):
            group.append((k, self.indices(k), batch))
            if len(group) == size or k == stop - 1:
                for of, made in zip(group, self._degrade(group), strict=True):
                    if of[0] >= start:
                        yield made
                group = []

    def _degrade(self, group):
        places = [(indices, batch, i) for _, indices, batch in group for i in range(len(indices))]
        spectra = []
        for _, batch, i in places:
            mixture = i // self.siblings
            frames = batch["frame_mask"][mixture].sum()
            spectra.append((batch["noisy"][mixture, :frames], batch["clean"][mixture, :frames]))
        pairs = [self.pairs[indices[i]] for indices, _, i in places]
        seen = see(pairs, spectra, pair_estimates(pairs, spectra, self.enhancers, self.config), self.config, self.representation)
        for _, indices, batch in group:
            mine, seen = seen[:len(indices)], seen[len(indices):]
            mask = np.repeat(batch["frame_mask"], self.siblings, axis=0)
            degraded, clean = (np.zeros((*mask.shape, self.config.bins), np.float32) for _ in range(2))
            for i, (d, c) in enumerate(mine):
                degraded[i, :len(d)], clean[i, :len(c)] = d, c
            yield {"degraded": degraded, "clean": clean, "frame_mask": mask, "score": self.scores[indices]}


def see(pairs, spectra, estimates, config=Stft(), representation="mask"):
    """What Quality-Net is shown of pairs: a list of (degraded, clean) magnitudes, float32 `(frames, bins)` each.

    Args:
        pairs: list of `diet.Pair`.
        spectra: (noisy, clean) spectrum of each, float32 `(frames, bins, 2)`.
        estimates: estimate of each, or None where no enhancer has part in it (`diet.pair_estimates`).
        config, representation: as `QualityFeed`.
    """
    shown = []
    for pair, (noisy, clean), estimate in zip(pairs, spectra, estimates, strict=True):
        if representation == "peak":
            degraded = _of_unit_peak(clean if pair.kind == "clean" else noisy if estimate is None else estimate.spectrum(noisy), config)
        elif pair.kind == "clean":
            degraded = magnitude(clean)
        elif estimate is None:
            degraded = magnitude(noisy)
        elif representation == "mask":
            degraded = estimate.magnitude(noisy)
        else:
            samples = config.samples(len(noisy))  # as training_layers.Waveform
            degraded = magnitude(stft(istft(estimate.spectrum(noisy), samples, config), config))
        shown.append((degraded, magnitude(clean)))
    return shown


def _of_unit_peak(spectrum, config):
    """Magnitude of the wave of a spectrum, divided by its largest absolute sample."""
    wave = istft(spectrum, config.samples(len(spectrum)), config)  # as training_layers.Waveform
    return magnitude(stft(unit_peak(wave), config))


def unit_peak(wave):
    """A wave divided by its largest absolute sample; silence as it is."""
    return wave / np.float32(max(np.abs(wave).max(), 1e-8))


def compile_quality_net(network, learning_rate, siblings, contrast):
    """Compile a Quality-Net for Adam and `losses.quality.score_loss`."""
    from se_keras.losses.quality import score_loss
    from se_keras.training import loop

    loop.compile_model(network, loop.optimizer("adam", learning_rate),
                           lambda y_true, y_pred: score_loss(y_pred, y_true, siblings, contrast))


def frame_model(network, target):
    """A training model around `models.quality_net_2018`: degraded magnitude, frame mask, score -> `frame_weighted_loss`.

    Args:
        network: it.
        target: `targets.Target` of raw PESQ; the score is 0 to 1, as in every batch here.
    """
    import keras
    from keras import ops

    from se_keras.losses.quality import frame_weighted_loss

    degraded, frame_mask, _ = (keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name) for tensor in network.inputs)
    score = keras.Input((1,), name="score")
    outputs = network([degraded, frame_mask, ops.ones_like(score)])
    loss = frame_weighted_loss(outputs["score"], outputs["frame_scores"], target.from_score(score), frame_mask)
    return keras.Model({"degraded": degraded, "frame_mask": frame_mask, "score": score}, loss, name="frame_training")


def frame_batch(batch):
    """(x, y) of a batch for `frame_model`."""
    x = {"degraded": batch["degraded"], "frame_mask": batch["frame_mask"], "score": batch["score"][:, None]}
    return x, np.zeros(len(batch["score"]), np.float32)


def quality_batch(batch):
    """(x, y) of a batch for Quality-Net."""
    return {name: batch[name] for name in ("degraded", "clean", "frame_mask")}, batch["score"][:, None]


# --- Predictions -----------------------------------------------------------------------------------------------------------------


class QualityPredictor:
    """A Quality-Net asked for scores, in the unit of what it was trained to predict: raw P.862 PESQ, where nothing else is said.

    Attributes:
        network: `models.quality_net`.
        config: STFT parameters.
        representation: what it was trained to see of enhanced speech ("mask", "wave" or "peak").
        target: `targets.Target` that it was trained to predict.
    """

    def __init__(self, network, config=Stft(), representation="mask", target=PESQ):
        self.network, self.config, self.representation, self.target = network, config, representation, target

    def predict_magnitudes(self, pairs, batch_size=8):
        """Predicted scores of (degraded, clean) magnitude pairs, float32 `(frames, bins)` each: float32 `(len(pairs),)`."""
        return self.target.from_score(self.network_scores(pairs, batch_size))

    def network_scores(self, pairs, batch_size=8):
        """As `predict_magnitudes`, as the network gives them: trained towards 0 .. 1, but not bounded."""
        predicted = np.zeros(len(pairs), np.float32)
        order = np.argsort([len(clean) for _, clean in pairs], kind="stable")
        for start in range(0, len(order), batch_size):
            chosen = order[start:start + batch_size]
            degraded, frame_mask = pad_frames([pairs[i][0] for i in chosen])
            clean, _ = pad_frames([pairs[i][1] for i in chosen])
            scores = self.network.predict_on_batch({"degraded": degraded, "clean": clean, "frame_mask": frame_mask})
            predicted[chosen] = np.asarray(scores)[:, 0]
        return predicted

    @property
    def needs_reference(self):
        """Whether it compares with clean speech; the Quality-Net of 2018 does not."""
        return self.representation != "peak"

    def score(self, enhanced, clean, frame_mask, config, name="quality_net"):
        """The predicted score as a part of a functional model, frozen: float32 `(batch, 1)`, trained towards 0 .. 1.

        `network.trainable` is False, and it is called inside `training_layers.Frozen`, so that not one of its bits changes.

        Args:
            enhanced: outputs of an enhancer's model (`enhancers.base.Enhancer.functional`).
            clean: spectrum, float32 `(batch, frames, bins, 2)`.
            frame_mask: bool `(batch, frames)`.
            config: STFT of the enhancer. Where Quality-Net has another, it hears the waves.
            name: of its layers; several judges in one model need several.
        """
        from se_keras.models.layers import SpectrumMagnitude
        from se_keras.models.training_layers import FrameMask, Frozen, Waveform, WaveMagnitude

        if self.representation == "mask" and config == self.config:
            degraded = enhanced["magnitude"]
        else:
            wave = Waveform(config, name=f"{name}_enhanced_wave")(enhanced["spectrum"], frame_mask)
            degraded = WaveMagnitude(self.config, unit_peak=self.representation == "peak", name=f"{name}_resynthesis")(wave)
        if config == self.config:
            reference = SpectrumMagnitude(name=f"{name}_clean_magnitude")(clean)
        else:
            wave = Waveform(config, name=f"{name}_clean_wave")(clean, frame_mask)
            reference = WaveMagnitude(self.config, name=f"{name}_clean_magnitude")(wave)
            frame_mask = FrameMask(config, self.config, name=f"{name}_frame_mask")(frame_mask, degraded)
        self.network.trainable = False
        return Frozen(self.network, name=name)([degraded, reference, frame_mask])

    def predict_waves(self, pairs):
        """Predicted scores of (degraded, clean) waves at 16 kHz, each pair of one length: a list of float.

        Where no reference is needed, what stands in its place is not looked at.
        """
        if not self.needs_reference:
            pairs = [(unit_peak(degraded), degraded) for degraded, _ in pairs]
        spectra = [tuple(magnitude(stft(wave, self.config)) for wave in pair) for pair in pairs]
        return [float(value) for value in self.predict_magnitudes(spectra)]

    def __call__(self, system, rows):
        """Predicted scores of a system's output for manifest rows: a list of float.

        The output of an enhancer of the same STFT is seen as in training (`representation`); any other system's as the magnitude of
        its wave.
        """
        predicted = []
        for start in range(0, len(rows), CHUNK):
            waves = [mixing.pair(row) for row in rows[start:start + CHUNK]]
            spectra = [tuple(stft(wave, self.config) for wave in pair) for pair in waves]
            if hasattr(system, "estimates") and system.config == self.config:
                pairs = [Pair(row, "enhanced") for row in rows[start:start + CHUNK]]
                shown = see(pairs, spectra, system.estimates([noisy for noisy, _ in spectra]), self.config, self.representation)
                predicted += self.predict_magnitudes(shown).tolist()
            else:
                enhanced = system.enhance([wave for wave, _ in waves])
                predicted += self.predict_waves([(wave, clean) for wave, (_, clean) in zip(enhanced, waves, strict=True)])
        return predicted


class QualityValidation:
    """How well a Quality-Net predicts validation mixtures: called after every so many updates.

    Its values: valid_loss, the mean squared error of the score over noisy and enhanced mixtures; valid_lcc, valid_srcc and valid_rmse
    over both and over each; and valid_lcc_change, the correlation of true and predicted change as the first enhancer's mask is
    perturbed, which says whether fine-tuning will be led the right way.

    Args:
        network: Quality-Net.
        rows: validation rows, used whole.
        enhancers: `Enhancer`s.
        scorer: measures the target's metrics.
        config, representation, target: as `QualityPredictor`.

    Raises:
        UserError: no pair has a score.
    """

    def __init__(self, network, rows, enhancers, scorer, config=Stft(), representation="mask", target=PESQ):
        self.predictor = QualityPredictor(network, config, representation, target)
        self.pairs = [Pair(row, "noisy") for row in rows] + [Pair(row, "enhanced", n) for n in range(len(enhancers)) for row in rows]
        self.pairs += [Pair(row, "perturbed", 0, 1) for row in rows if enhancers]
        self.scores = label(self.pairs, enhancers, scorer, target, config, description="validation labels")
        self.true = target.from_score(self.scores)
        if not np.isfinite(self.true).any():
            raise UserError("no validation pair has a score; is the validation speech silent, or shorter than 1/4 s?")
        self.magnitudes = []
        for start in range(0, len(self.pairs), CHUNK):
            pairs = self.pairs[start:start + CHUNK]
            spectra = [tuple(stft(wave, config) for wave in mixing.pair(pair.row)) for pair in pairs]
            self.magnitudes += see(pairs, spectra, pair_estimates(pairs, spectra, enhancers, config), config, representation)

    def __call__(self):
        scores = self.predictor.network_scores(self.magnitudes)
        predicted = self.predictor.target.from_score(scores)
        is_kind = {kind: np.array([pair.kind == kind for pair in self.pairs]) for kind in ("noisy", "enhanced", "perturbed")}
        given = ~is_kind["perturbed"]
        known = given & np.isfinite(self.true)
        values = {"valid_loss": float(np.mean((scores[known] - self.scores[known]) ** 2))}
        for name, chosen in (("", given), ("_noisy", is_kind["noisy"]), ("_enhanced", is_kind["enhanced"])):
            if chosen.any():
                found = agreement(self.true[chosen], predicted[chosen])
                values.update({f"valid_{key}{name}": found[key] for key in ("lcc", "srcc", "rmse")})
        if is_kind["perturbed"].any():
            perturbed = np.flatnonzero(is_kind["perturbed"])
            enhanced = np.flatnonzero(is_kind["enhanced"])[:len(perturbed)]  # the first enhancer's
            changes = (values[perturbed] - values[enhanced] for values in (self.true, predicted))
            values["valid_lcc_change"] = agreement(*changes)["lcc"]
        return values


# --- Fine-tuning -----------------------------------------------------------------------------------------------------------------


def combined_model(enhancer, predictor):
    """Enhancer, then Quality-Net, frozen: noisy and clean spectrum, frame mask -> predicted score `(batch, 1)`.

    The part of a training model (`training.objective`) that asks Quality-Net.

    Args:
        enhancer: `enhancers.base.Enhancer`.
        predictor: `QualityPredictor` around a trained Quality-Net.
    """
    import keras

    noisy, frame_mask = enhancer.model.inputs
    clean = keras.Input(noisy.shape[1:], name="clean")
    score = predictor.score(enhancer.model([noisy, frame_mask]), clean, frame_mask, enhancer.config)
    return keras.Model({"noisy": noisy, "clean": clean, "frame_mask": frame_mask}, score, name="combined")
