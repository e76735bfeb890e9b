"""Quality-Net learns on while the enhancer is fine-tuned: the two take turns, so that what fools the one of now is scored and learned.

The stages of a round have MetricGAN's names (Fu et al., "MetricGAN", ICML 2019, algorithm 1; "MetricGAN+", Interspeech 2021, section 2.2):
current, Quality-Net learns how the enhancer's newest outputs truly score; historical, it learns again from those of earlier rounds;
and then the enhancer is trained through it (`training.train`).
"""

import dataclasses
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from se_keras.enhancers.base import Enhancer, pad_frames
from se_keras.errors import UserError
from se_keras.judges import diet
from se_keras.judges.history import Awaited, History
from se_keras.judges.surrogate import see
from se_keras.signals import mixing
from se_keras.signals.stft import stft
from se_keras.training import sharing
from se_keras.training.runs import BEST

STAGES = ("current", "historical")


@dataclass(frozen=True)
class Turns:
    """How Quality-Net and the enhancer take turns.

    Attributes:
        every: updates of the enhancer in a round.
        sample: mixtures scored a round.
        sample_of: "next": the first of those that the enhancer is about to train on (MetricGAN+); "last": of those that it has just
            trained on (MetricGAN), in the first round as "next".
        stages: what Quality-Net learns from in a round, in order, each "current" or "historical".
        history_share: how much of the history a historical stage shows, drawn anew each time.
        history_pairs: pairs that the history holds at most; the oldest rounds go first.
        step_size: how far the Quality-Net behind the enhancer moves in a round, from its weights towards those that have been learned.
            Below 1 it is an average over rounds, which the few mixtures of one round shake less.
        batch: pairs in an update of Quality-Net.
        siblings, contrast: of `losses.quality.score_loss`.
        lag: rounds between the scoring of pairs and the learning from them. 0: Quality-Net learns how the enhancer of now scores, and
            the enhancer waits for the last score. 1: it learns how the one of a round ago did, while the enhancer goes on and the
            scores of now are measured. The first round, which has none before it, waits for its own, and the second learns those
            again; those of the last one are learned by none.
        anchored: whether each mixture is shown as the enhancer that fine-tuning began from enhances it, too: what has changed since
            is then a difference between siblings.
        diet: further arguments of `diet.diet`: what is shown of each mixture.
        seed: of all draws.
    """

    every: int
    sample: int
    stages: tuple
    sample_of: str = "next"
    history_share: float = 1.0
    history_pairs: int = 1000
    step_size: float = 1.0
    batch: int = 4
    siblings: int = 1
    contrast: float = 0.0
    lag: int = 0
    anchored: bool = False
    diet: dict = dataclasses.field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True)
class Base:
    """The enhancer that fine-tuning begins from, and what Quality-Net could judge of it before its first round and is not to forget.

    Attributes:
        enhancer: an `Enhancer` of its own.
        pairs: list of `diet.Pair`, enhanced by it.
        scores: float32 array, one each.
    """

    enhancer: Enhancer
    pairs: list = dataclasses.field(default_factory=list)
    scores: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.float32))


class QualityRounds:
    """Quality-Net's turns, as the `partner` of `training.train`.

    It trains its own copy of the network, and at the end of a turn moves the frozen one behind the enhancer towards it.

    Args:
        enhancer: `Enhancer` that is fine-tuned.
        quality_net: compiled Quality-Net that learns.
        predictor: `surrogate.QualityPredictor` around the frozen one.
        feed: `dataset.Feed` that the enhancer trains on.
        scorer: measures `predictor.target.metrics`.
        turns: `Turns`.
        run: run folder; the history lies in run/history, with a lag the pairs of now in run/awaited, Quality-Net's weights beside the
            best enhancer's in run/quality-net.
        logger: of the run.
        base: `Base`, of whose pairs each historical stage shows `sample` mixtures too; None for none, and no anchored turns.
    """

    def __init__(self, enhancer, quality_net, predictor, feed, scorer, turns, run, logger, base=None):
        self.enhancer, self.quality_net, self.predictor, self.feed, self.scorer = enhancer, quality_net, predictor, feed, scorer
        self.turns, self.folder, self.logger, self.base = turns, Path(run) / "quality-net", logger, base
        made = enhancer.estimate_type(predictor.config)
        self.history = History(Path(run) / "history", turns.history_pairs, made, feed.rows)
        self.awaited = Awaited(Path(run) / "awaited", made, feed.rows) if turns.lag else None
        self._begun = {}  # of rounds that are to be learned yet: `_Current`, its scores on the way
        quality_net.optimizer.build(quality_net.trainable_variables)

    @property
    def variables(self):
        """What a checkpoint must hold of Quality-Net: weights and optimiser. The history is found again on disk."""
        return [*self.quality_net.variables, *self.quality_net.optimizer.variables]

    def due(self, step):
        """Whether a round begins before the enhancer's update `step`."""
        return step % self.turns.every == 0

    def keep(self):
        """Quality-Net as it is now, kept beside the enhancer's best weights."""
        from se_keras.weights import save_weights

        save_weights(self.predictor.network, self.folder / BEST)

    def __call__(self, step):
        number = step // self.turns.every
        learned = max(number - self.turns.lag, 0)  # the round whose scores are learned from now
        rng = np.random.default_rng([self.turns.seed, number])
        order = self._score_current(step, number, rng)
        current = self._scored(learned)
        current.waited_s = 0.0
        if learned < number:
            order = None  # that of the first pass over pairs which are scored meanwhile
        past = self.history.before(learned) if "historical" in self.turns.stages else []
        losses = []
        for stage in self.turns.stages:  # while the scoring processes work: on what is past, or on what they have done already
            if stage == "historical":
                pairs, shown, scores = self._historical(past, rng)
                losses += self._learn(shown, scores.__getitem__, self._families(pairs, rng))
            else:
                losses += self._learn(current.shown, current.score, order or self._families(current.pairs, rng))
                order = None
        scores = np.array([current.score(i) for i in range(len(current.pairs))], np.float32)
        if "historical" in self.turns.stages:
            self.history.add(learned, current.pairs, current.estimates, scores)
        self._begun = {of: begun for of, begun in self._begun.items() if of > learned}  # they hold waves and spectra
        self._hand_over()
        self.logger.info("round %d: %d current pairs%s, %d in the history, Quality-Net's loss %s over %d updates, %.1f s waited for scores",
                         number, np.isfinite(scores).sum(), f" (of round {learned})" if learned < number else "", len(past),
                         f"{np.mean(losses):.5f}" if losses else "none", len(losses), current.waited_s)

    def _hand_over(self):
        frozen, learned = self.predictor.network.get_weights(), self.quality_net.get_weights()
        self.predictor.network.set_weights([old + self.turns.step_size * (new - old) for old, new in zip(frozen, learned, strict=True)])

    def _score_current(self, step, number, rng):
        """Begin to score the round's pairs; the batches of a first pass over them, in whose order they are scored."""
        rows, first = [], step - self.turns.every if self.turns.sample_of == "last" and step else step
        for k in range(first, first + self.turns.every):
            if len(rows) >= self.turns.sample:
                break
            rows += self.feed.cut_rows(k)
        enhancers, config = [self.enhancer.now()], self.predictor.config
        enhancers += [self.base.enhancer] if self.turns.anchored else []
        pairs = diet.diet(rows[:self.turns.sample], len(enhancers), seed=self.turns.seed + 1000 * (number + 1), **self.turns.diet)
        spectra = self._spectra(pairs)
        estimates = diet.pair_estimates(pairs, spectra, enhancers, config)
        recipes = [diet.pair_recipe(pair, enhancers, config) for pair in pairs]
        order = self._families(pairs, rng)
        self._begun[number] = self._begin(pairs, spectra, estimates, recipes, list(dict.fromkeys(np.concatenate(order).tolist())))
        if self.awaited is not None:
            self.awaited.add(number, pairs, estimates, recipes, self.turns.lag)
        return order

    def _begin(self, pairs, spectra, estimates, recipes, first_wanted):
        """The `_Current` of pairs, whose scoring begins, in the order given."""
        config = self.predictor.config
        jobs = diet.jobs_of(*([of[i] for i in first_wanted] for of in (pairs, spectra, estimates, recipes)), config)
        pending = {i: self.scorer.submit(job) for i, job in zip(first_wanted, jobs, strict=True)}
        shown = see(pairs, spectra, estimates, config, self.predictor.representation)
        return _Current(pairs, estimates, shown, pending, self.predictor.target)

    def _scored(self, number):
        """The `_Current` of a round that was begun; found on disk where that was before a restart, or has been learned already."""
        if number not in self._begun:
            pairs, estimates, recipes = self.awaited.get(number)
            return self._begin(pairs, self._spectra(pairs), estimates, recipes, range(len(pairs)))
        return self._begun[number]

    def _families(self, pairs, rng):
        return families(pairs, self.turns.siblings, self.turns.batch, rng)

    def _historical(self, past, rng):
        """(pairs, what Quality-Net is shown of them, scores) of a share of the history and some of the base."""
        config, representation = self.predictor.config, self.predictor.representation
        drawn = draw(past, [(entry.round, entry.pair.row) for entry in past], round(self.turns.history_share * len(past)), rng)
        pairs, estimates, scores = ([of(entry) for entry in drawn] for of in (lambda e: e.pair, lambda e: e.estimate(), lambda e: e.score))
        spectra = self._spectra(pairs)
        if self.base is not None and self.base.pairs:
            rows = [pair.row for pair in self.base.pairs]
            share = self.turns.sample * len(rows) // len(set(rows))
            chosen = draw(range(len(rows)), rows, share, rng)
            old = [self.base.pairs[i] for i in chosen]
            heard = self._spectra(old)
            estimates += diet.pair_estimates(old, heard, [self.base.enhancer], config)
            pairs, spectra, scores = pairs + old, spectra + heard, scores + [self.base.scores[i] for i in chosen]
        return pairs, see(pairs, spectra, estimates, config, representation), np.array(scores, np.float32)

    def _spectra(self, pairs):
        return [tuple(stft(wave, self.predictor.config) for wave in mixing.pair(pair.row)) for pair in pairs]

    def _learn(self, shown, score, batches):
        """One pass of Quality-Net over batches, the score of each pair asked for when its batch is; the loss of each update.

        Siblings of which one has no score are left out.

        Raises:
            UserError: the loss is not a number.
        """
        losses = []
        for chosen in tqdm(batches, desc="quality-net", unit="update", leave=False):
            scores = np.array([score(i) for i in chosen], np.float32)
            known = np.repeat(np.isfinite(scores).reshape(-1, self.turns.siblings).all(axis=1), self.turns.siblings)
            if not known.any():
                continue
            chosen, scores = chosen[known], scores[known]
            degraded, frame_mask = pad_frames([shown[i][0] for i in chosen])
            clean, _ = pad_frames([shown[i][1] for i in chosen])
            x = {"degraded": degraded, "clean": clean, "frame_mask": frame_mask}
            self.quality_net.reset_metrics()
            x, y = sharing.own((x, scores[:, None]))
            losses.append(sharing.train_on_batch(self.quality_net, x, y, lambda: len(scores))["loss"])  # noqa: B023  asked at once
            if not math.isfinite(losses[-1]):
                raise UserError(f"Quality-Net's loss is {losses[-1]}; lower --quality-rate; checkpoint and best weights are kept")
        return losses


class _Current:
    """A round's pairs: what Quality-Net is shown of them, and their scores as they come."""

    def __init__(self, pairs, estimates, shown, pending, target):
        self.pairs, self.estimates, self.shown, self._pending, self._target = pairs, estimates, shown, pending, target
        self.waited_s = 0.0

    def score(self, i):
        """Score of pair i, waited for; NaN where a metric refuses."""
        began = time.monotonic()
        result = self._pending[i].result()
        self.waited_s += time.monotonic() - began
        return self._target.to_score(result)


def draw(items, mixtures, wanted, rng):
    """At least `wanted` of `items` (fewer only where there are no more), by whole mixtures, so that siblings come together.

    Args:
        items: list of anything.
        mixtures: hashable, one each: what it was made of.
        wanted: how many.
        rng: numpy Generator.
    """
    groups = {}
    for item, mixture in zip(items, mixtures, strict=True):
        groups.setdefault(mixture, []).append(item)
    groups, drawn = list(groups.values()), []
    for place in rng.permutation(len(groups)):
        if len(drawn) >= wanted:
            break
        drawn += groups[place]
    return drawn


def families(pairs, siblings, batch, rng):
    """Batches that show every pair once, `siblings` pairs of one mixture side by side.

    Args:
        pairs: list of `diet.Pair`.
        siblings: pairs of one mixture that stand together; where its number of pairs is no multiple, some come twice.
        batch: pairs a batch, a multiple of `siblings`; the last one may hold fewer.
        rng: numpy Generator of the order.

    Returns:
        list of int arrays, numbers of pairs.
    """
    mixtures = {}
    for number, pair in enumerate(pairs):
        mixtures.setdefault(pair.row, []).append(number)
    groups = []
    for numbers in mixtures.values():
        numbers = rng.permutation(numbers)
        numbers = np.resize(numbers, -(-len(numbers) // siblings) * siblings)  # the first ones again
        groups += list(numbers.reshape(-1, siblings))
    groups = [groups[place] for place in rng.permutation(len(groups))]
    size = batch // siblings
    return [np.concatenate(groups[start:start + size]) for start in range(0, len(groups), size)]
