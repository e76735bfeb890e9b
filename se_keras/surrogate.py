"""Quality-Net at work: its diet and training, its predictions, and the enhancer fine-tuned through it, frozen."""

import hashlib
from dataclasses import dataclass

import numpy as np

from se_keras import manifest, mixing
from se_keras.dataset import Feed
from se_keras.enhancer import MaskEnhancer, pad_frames
from se_keras.errors import UserError
from se_keras.evaluation import mean_scores
from se_keras.models.quality_net import pesq_to_score, score_to_pesq
from se_keras.report.statistics import agreement
from se_keras.scores import mixture_job, recipe, wave_job
from se_keras.stft import Stft, istft, magnitude, stft

CLEAN = -1  # the exponent that stands for the clean speech itself
CHUNK = 32  # utterances enhanced in one go

# --- What Quality-Net learns from ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """One training pair: a mixture, and what was done to it.

    Attributes:
        row: manifest row, cut to the piece that is used.
        exponent: power of the enhancer's mask: 0 is the noisy speech, 1 the enhanced; `CLEAN` the clean speech itself.
        enhancer: index into the list of enhancers; 0 where none is needed.
    """

    row: manifest.Utterance
    exponent: float
    enhancer: int = 0

    @property
    def id(self):
        return f"{self.row.id}^{self.exponent:g}"

    @property
    def used_samples(self):
        return self.row.used_samples


def diet(rows, enhancers, exponents=(1.0,), clean_share=0.05, crop_s=None, seed=0):
    """The pairs that Quality-Net learns from: noisy, enhanced and clean (the letter, section III; clean as in its author's code).

    Args:
        rows: manifest rows.
        enhancers: how many enhancers there are.
        exponents: powers of each enhancer's mask; each row is enhanced once by each enhancer, with one of them drawn at random.
        clean_share: clean pairs per row.
        crop_s: each mixture is cut to one fixed random piece of this many seconds, so that its label is measured once; None for whole.
        seed: of cuts and draws.
    """
    pairs = []
    for row in rows:
        rng = np.random.default_rng([seed, *hashlib.sha256(row.id.encode()).digest()])  # by id: the same whichever rows stand beside it
        row = manifest.crop(row, crop_s and round(crop_s * 16_000), rng)
        pairs.append(Pair(row, 0.0))
        pairs += [Pair(row, float(rng.choice(exponents)), number) for number in range(enhancers)]
        if rng.random() < clean_share:
            pairs.append(Pair(row, CLEAN))
    return pairs


def label(pairs, enhancers, scorer, metric="pesq_raw", description="labels"):
    """True scores of pairs, measured on waves: float32 array, NaN where the metric refuses.

    Args:
        pairs: list of `Pair`.
        enhancers: the `MaskEnhancer`s.
        scorer: `scores.Scorer` that measures `metric`.
        metric: name of the metric.
        description: of the progress bar.
    """
    recipes = [None if p.exponent == CLEAN else recipe(p.row, _fingerprint(p, enhancers)) for p in pairs]
    wanted = [i for i, p in enumerate(pairs) if p.exponent != CLEAN]
    values = np.full(len(pairs), 4.5, np.float32)  # raw P.862 of clean against clean
    found = scorer.lookup([recipes[i] for i in wanted])
    missing = [i for i, result in zip(wanted, found, strict=True) if result is None]

    def jobs():
        for start in range(0, len(missing), CHUNK):
            chunk = missing[start:start + CHUNK]
            enhanced = {}
            for number, enhancer in enumerate(enhancers):
                mine = [i for i in chunk if pairs[i].exponent > 0 and pairs[i].enhancer == number]
                waves = enhancer.enhance_with([(mixing.pair(pairs[i].row)[0], pairs[i].exponent) for i in mine]) if mine else []
                enhanced.update(zip(mine, waves, strict=True))
            for i in chunk:
                yield wave_job(pairs[i].row, enhanced[i], recipe=recipes[i]) if i in enhanced else mixture_job(pairs[i].row)

    results = dict(zip(wanted, found, strict=True))
    if missing:
        results.update(zip(missing, scorer.score(jobs(), desc=description, total=len(missing)), strict=True))
    for i, result in results.items():
        values[i] = np.nan if result[metric] is None else result[metric]
    return values


def known(pairs, values):
    """The pairs that have a score, and their scores; how many were left out is printed.

    Raises:
        UserError: none has one.
    """
    has = np.isfinite(values)
    if not has.any():
        raise UserError("PESQ refused every pair, so there is nothing to learn from; is the speech silent, or shorter than 1/4 s?")
    if not has.all():
        print(f"{np.count_nonzero(~has)} of {len(pairs)} pairs were refused by PESQ and are left out")
    return [pair for pair, kept in zip(pairs, has, strict=True) if kept], values[has]


def by_kind(pairs, values):
    """{"noisy", "enhanced", "clean": their values}, of the kinds that there are."""
    kinds = np.array(["clean" if pair.exponent == CLEAN else "enhanced" if pair.exponent else "noisy" for pair in pairs])
    return {kind: values[kinds == kind] for kind in ("noisy", "enhanced", "clean") if (kinds == kind).any()}


def _fingerprint(pair, enhancers):
    if pair.exponent == 0:
        return "noisy"
    fingerprint = enhancers[pair.enhancer].fingerprint
    return fingerprint if pair.exponent == 1 else f"{fingerprint}^{pair.exponent:g}"


class QualityFeed:
    """Batches of (degraded, clean) magnitudes with their scores, as `dataset.Feed` gives spectra.

    Args:
        pairs: list of `Pair`.
        scores: target of each, float32.
        enhancers: `MaskEnhancer`s; frozen here, run on several batches at once.
        batch_size, config, seed: as `Feed`.
        representation: "mask": enhanced is |N| (x) G(N) (equation 1); "wave": the magnitude of the resynthesised wave.
    """

    def __init__(self, pairs, scores, enhancers, batch_size, config=Stft(), seed=0, representation="mask"):
        self.pairs, self.enhancers, self.config, self.representation = pairs, enhancers, config, representation
        self.feed = Feed([pair.row for pair in pairs], batch_size, config, seed,
                         extra={"score": np.asarray(scores, np.float32), "pair": np.arange(len(pairs))})
        self.rows, self.indices, self.batches_per_epoch = pairs, self.feed.indices, self.feed.batches_per_epoch

    def batches(self, start, stop):
        """Batches start .. stop - 1: dicts of `degraded`, `clean`, `frame_mask` and `score`."""
        group, size = [], max(1, CHUNK // self.feed.batch_size)
        for batch in self.feed.batches(start, stop):
            group.append(batch)
            if len(group) == size:
                yield from self._degrade(group)
                group = []
        yield from self._degrade(group)

    def _degrade(self, group):
        noisy = [magnitude(batch["noisy"]) for batch in group]
        places = [(b, i, self.pairs[number]) for b, batch in enumerate(group) for i, number in enumerate(batch["pair"])]
        lengths = [batch["frame_mask"].sum(axis=1) for batch in group]
        for number, enhancer in enumerate(self.enhancers):
            mine = [(b, i, pair) for b, i, pair in places if pair.exponent > 0 and pair.enhancer == number]
            masks = enhancer.masks([noisy[b][i, :lengths[b][i]] for b, i, _ in mine]) if mine else []
            for (b, i, pair), mask in zip(mine, masks, strict=True):
                noisy[b][i, :len(mask)] = self._enhanced(group[b]["noisy"][i, :len(mask)], mask ** pair.exponent, pair)
        clean = [magnitude(batch["clean"]) for batch in group]
        for b, i, pair in places:
            if pair.exponent == CLEAN:
                noisy[b][i] = clean[b][i]
        for b, batch in enumerate(group):
            yield {"degraded": noisy[b], "clean": clean[b], "frame_mask": batch["frame_mask"], "score": batch["score"]}

    def _enhanced(self, spectrum, mask, pair):
        if self.representation == "mask":
            return magnitude(spectrum) * mask
        return magnitude(stft(istft(spectrum * mask[..., None], pair.used_samples, self.config), self.config))


def quality_batch(batch):
    """(x, y) of a batch for Quality-Net."""
    return {name: batch[name] for name in ("degraded", "clean", "frame_mask")}, batch["score"][:, None]


# --- Predictions -----------------------------------------------------------------------------------------------------------------


class QualityPredictor:
    """A Quality-Net asked for scores: raw P.862 PESQ as predicted.

    Attributes:
        network: `models.quality_net`.
        config: STFT parameters.
        representation: what it was trained to see of enhanced speech ("mask" or "wave").
    """

    def __init__(self, network, config=Stft(), representation="mask"):
        self.network, self.config, self.representation = network, config, representation

    def predict_magnitudes(self, pairs, batch_size=8):
        """Predicted raw PESQ of (degraded, clean) magnitude pairs, float32 `(frames, bins)` each: float32 `(len(pairs),)`."""
        predicted = np.zeros(len(pairs), np.float32)
        order = np.argsort([len(clean) for _, clean in pairs], kind="stable")
        for start in range(0, len(order), batch_size):
            chosen = order[start:start + batch_size]
            degraded, frame_mask = pad_frames([pairs[i][0] for i in chosen])
            clean, _ = pad_frames([pairs[i][1] for i in chosen])
            scores = self.network.predict_on_batch({"degraded": degraded, "clean": clean, "frame_mask": frame_mask})
            predicted[chosen] = score_to_pesq(np.asarray(scores)[:, 0])
        return predicted

    def predict_raw(self, pairs):
        """Predicted raw PESQ of (degraded, clean) waves at 16 kHz, each pair of one length: a list of float."""
        spectra = [tuple(magnitude(stft(wave, self.config)) for wave in pair) for pair in pairs]
        return [float(value) for value in self.predict_magnitudes(spectra)]

    def __call__(self, system, rows):
        """Predicted raw PESQ of a system's output for manifest rows: a list of float.

        A mask network's output is seen as in training (`representation`); any other system's as the magnitude of its wave.
        """
        predicted = []
        for start in range(0, len(rows), CHUNK):
            waves = [mixing.pair(row) for row in rows[start:start + CHUNK]]
            clean = [magnitude(stft(wave, self.config)) for _, wave in waves]
            if self.representation == "mask" and isinstance(system, MaskEnhancer):
                noisy = [magnitude(stft(wave, self.config)) for wave, _ in waves]
                degraded = [n * mask for n, mask in zip(noisy, system.masks(noisy), strict=True)]
            else:
                degraded = [magnitude(stft(wave, self.config)) for wave in system.enhance([wave for wave, _ in waves])]
            predicted += self.predict_magnitudes(list(zip(degraded, clean, strict=True))).tolist()
        return predicted


class QualityValidation:
    """How well a Quality-Net predicts validation mixtures, noisy and enhanced: called after every so many updates.

    Args:
        network: Quality-Net.
        rows: validation rows, used whole.
        enhancers: `MaskEnhancer`s.
        scorer: measures "pesq_raw".
        config, representation: as `QualityPredictor`.
    """

    def __init__(self, network, rows, enhancers, scorer, config=Stft(), representation="mask"):
        self.predictor = QualityPredictor(network, config, representation)
        self.pairs = [Pair(row, 0.0) for row in rows] + [Pair(row, 1.0, number) for number in range(len(enhancers)) for row in rows]
        self.true = label(self.pairs, enhancers, scorer, description="validation labels")
        if not np.isfinite(self.true).any():
            raise UserError("PESQ refused every validation pair; is the validation speech silent, or shorter than 1/4 s?")
        feed = QualityFeed(self.pairs, self.true, enhancers, CHUNK, config, representation=representation)
        self.magnitudes = [None] * len(self.pairs)
        for k, batch in enumerate(feed.batches(0, feed.batches_per_epoch)):
            for i, number in enumerate(feed.indices(k)):
                frames = batch["frame_mask"][i].sum()
                self.magnitudes[number] = (batch["degraded"][i, :frames], batch["clean"][i, :frames])

    def __call__(self):
        predicted = self.predictor.predict_magnitudes(self.magnitudes)
        known = np.isfinite(self.true)
        values = {"valid_loss": float(np.mean((pesq_to_score(predicted[known]) - pesq_to_score(self.true[known])) ** 2))}
        noisy = np.array([pair.exponent == 0 for pair in self.pairs])
        for name, chosen in (("", noisy | ~noisy), ("_noisy", noisy), ("_enhanced", ~noisy)):
            if chosen.any():
                found = agreement(self.true[chosen], predicted[chosen])
                values.update({f"valid_{key}{name}": found[key] for key in ("lcc", "srcc", "rmse")})
        return values


# --- Fine-tuning -----------------------------------------------------------------------------------------------------------------


def combined_model(network, quality_net, representation="mask", config=Stft()):
    """Enhancer, then Quality-Net, frozen: noisy and clean spectrum, frame mask -> predicted score `(batch, 1)`.

    `quality_net.trainable` is False, and it is called inside `layers.Frozen`, so that not one of its bits changes.

    Args:
        network: mask network, trained by `fit` or `train_on_batch` of the returned model.
        quality_net: trained Quality-Net.
        representation: what Quality-Net sees, as in its own training.
        config: STFT parameters ("wave" only).
    """
    import keras

    from se_keras.enhancer import spectral_enhancer
    from se_keras.models.layers import Frozen, Resynthesis, SpectrumMagnitude

    enhancer = spectral_enhancer(network)
    noisy, frame_mask = enhancer.inputs
    clean = keras.Input(noisy.shape[1:], name="clean")
    outputs = enhancer([noisy, frame_mask])
    enhanced = outputs["magnitude"]
    if representation == "wave":
        enhanced = Resynthesis(config, name="resynthesis")(noisy, outputs["mask"])
    quality_net.trainable = False
    score = Frozen(quality_net, name="quality_net")([enhanced, SpectrumMagnitude(name="clean_magnitude")(clean), frame_mask])
    return keras.Model({"noisy": noisy, "clean": clean, "frame_mask": frame_mask}, score, name="combined")


def combined_batch(batch):
    """(x, y) of a batch for `combined_model`: the target score is 1."""
    return {name: batch[name] for name in ("noisy", "clean", "frame_mask")}, np.ones((len(batch["noisy"]), 1), np.float32)


def quality_objective(y_true, y_pred):
    """`losses.quality.quality_loss` as Keras calls a loss: y_true is the target score."""
    from keras import ops

    from se_keras.losses.quality import quality_loss

    return quality_loss(y_pred, ops.reshape(y_true, (-1,)))


class HonestValidation:
    """Predicted and true scores of an enhancer, side by side: called while it is fine-tuned.

    Args:
        network: the mask network that is trained.
        predictor: `QualityPredictor`, frozen.
        rows: validation rows.
        scorer: `scores.Scorer` of the true metrics; rows that one of them refuses are left out of all averages.
    """

    def __init__(self, network, predictor, rows, scorer):
        self.network, self.predictor, self.rows, self.scorer = network, predictor, rows, scorer

    def __call__(self):
        enhancer = MaskEnhancer(self.network, self.predictor.config)  # a new one each time: its fingerprint is of these weights
        predicted = self.predictor(enhancer, self.rows)
        return {**mean_scores(self.rows, enhancer, self.scorer), "predicted": float(np.mean(predicted))}
