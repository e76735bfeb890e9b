"""Quality-Net's diet: what it is shown of each mixture, and the true scores of that, measured on waves."""

import dataclasses
import hashlib
from dataclasses import dataclass

import numpy as np

from se_keras.errors import UserError
from se_keras.mixtures import manifest
from se_keras.scoring.scores import CLEAN, NOISY, clean_job, mixture_job, recipe, summarise_errors, wave_job
from se_keras.signals import mixing
from se_keras.signals.audio import SAMPLE_RATE
from se_keras.signals.stft import istft, stft

KINDS = ("noisy", "enhanced", "perturbed", "clean")
CHUNK = 32  # utterances enhanced in one go
PERTURBATION = 1  # to be raised when `perturbation.perturb` draws other masks: kept labels would be of the old ones


@dataclass(frozen=True)
class Pair:
    """One training pair: a mixture, and what was done to it.

    Attributes:
        row: manifest row, cut to the piece that is used.
        kind: "noisy", "enhanced", "perturbed" (`perturbation.perturb`) or "clean" (the clean speech itself).
        enhancer: index into the list of enhancers, where one is needed.
        variant: number of the perturbation; each is another one.
    """

    row: manifest.Utterance
    kind: str
    enhancer: int = 0
    variant: int = 0

    @property
    def id(self):
        return f"{self.row.id} ({self.kind}{self.variant or ''})"

    @property
    def processed(self):
        """Whether an enhancer has part in it."""
        return self.kind in ("enhanced", "perturbed")


def diet(rows, enhancers, perturbed=0, snr_raise=0.0, clean_share=0.05, crop_s=None, seed=0, noisy_share=1.0):
    """The pairs that Quality-Net learns from: noisy, enhanced and clean (the letter, section III; clean as in its author's code).

    Args:
        rows: manifest rows.
        enhancers: how many enhancers there are; each row is enhanced once by each.
        perturbed: how many pairs a row more, each a perturbed output of an enhancer drawn at random (`perturbation.perturb`).
        snr_raise: as `raise_snr`.
        clean_share: clean pairs per row.
        crop_s: each mixture is cut to one fixed random piece of this many seconds, so that its label is measured once; None for whole.
        seed: of cuts and draws.
        noisy_share: noisy pairs per row.
    """
    pairs = []
    for row in rows:
        rng = _rng(row, seed)
        row = manifest.crop(row, crop_s and round(crop_s * SAMPLE_RATE), rng)
        clean = rng.random() < clean_share
        row = _raised(row, snr_raise, rng)
        if noisy_share >= 1 or rng.random() < noisy_share:
            pairs.append(Pair(row, "noisy"))
        pairs += [Pair(row, "enhanced", number) for number in range(enhancers)]
        if enhancers:
            pairs += [Pair(row, "perturbed", int(rng.integers(enhancers)), variant) for variant in range(1, perturbed + 1)]
        if clean:
            pairs.append(Pair(row, "clean"))
    return pairs


def raise_snr(rows, most_db, seed=0):
    """Rows of which every second one, drawn at random, has its noise turned down by 0 to `most_db` dB.

    So that what is learned holds at SNRs that a training set in much noise lacks. Ready-made pairs stay as they are.
    """
    return [_raised(row, most_db, _rng(row, seed)) for row in rows]


def _raised(row, most_db, rng):
    if rng.random() >= 0.5 or not most_db or row.noise is None:
        return row
    up_db = float(rng.uniform(0, most_db))
    return dataclasses.replace(row, gain=row.gain * 10 ** (-up_db / 20), snr_db=None if row.snr_db is None else row.snr_db + up_db)


def _rng(row, seed):
    """A random generator by the row's id: what it draws is the same whichever rows stand beside it."""
    return np.random.default_rng([seed, *hashlib.sha256(row.id.encode()).digest()])


def pair_recipe(pair, enhancers, config):
    """The score cache's key of a pair (`scores.recipe`).

    Args:
        pair: `Pair`.
        enhancers: the `Enhancer`s.
        config: STFT of the judge. A perturbation is drawn in it where an enhancer has another.
    """
    if not pair.processed:
        return recipe(pair.row, {"noisy": NOISY, "clean": CLEAN}[pair.kind])
    enhancer = enhancers[pair.enhancer]
    if pair.kind == "enhanced":
        return recipe(pair.row, enhancer.fingerprint)
    elsewhere = "" if config == enhancer.config else f"@{config}"
    return recipe(pair.row, f"{enhancer.fingerprint}~{PERTURBATION}.{pair.variant}{elsewhere}")


def pair_estimates(pairs, spectra, enhancers, config):
    """What an enhancer made of each pair that one has part in; None for noisy and clean.

    Args:
        pairs: list of `Pair`.
        spectra: (noisy, clean) spectrum of each, float32 `(frames, bins, 2)`.
        enhancers: the `Enhancer`s; each is run once on all its mixtures, a mixture of several pairs once.
        config: STFT of the spectra.

    Returns:
        list of estimates (`enhancers.base`).
    """
    estimates = [None] * len(pairs)
    for number, enhancer in enumerate(enhancers):
        mine = {}
        for i, pair in enumerate(pairs):
            if pair.processed and pair.enhancer == number:
                mine.setdefault(pair.row, []).append(i)
        if mine:
            made = enhancer.estimates([spectra[places[0]][0] for places in mine.values()], config)
            for estimate, places in zip(made, mine.values(), strict=True):
                for i in places:
                    estimates[i] = estimate
                    if pairs[i].kind == "perturbed":
                        seed = list(bytes.fromhex(pair_recipe(pairs[i], enhancers, config)))
                        estimates[i] = estimate.perturbed(*spectra[i], np.random.default_rng(seed))
    return estimates


def jobs(pairs, enhancers, config):
    """The `scores.Job` of each pair, in order, its wave made when it is asked for.

    Args:
        pairs: list of `Pair`.
        enhancers: the `Enhancer`s, run on several mixtures at once.
        config: STFT of the judge.
    """
    for start in range(0, len(pairs), CHUNK):
        chunk = pairs[start:start + CHUNK]
        spectra = {row: None for row in (pair.row for pair in chunk if pair.processed)}
        for row in spectra:
            spectra[row] = tuple(stft(wave, config) for wave in mixing.pair(row))
        seen = [spectra.get(pair.row) for pair in chunk]
        recipes = [pair_recipe(pair, enhancers, config) for pair in chunk]
        yield from jobs_of(chunk, seen, pair_estimates(chunk, seen, enhancers, config), recipes, config)


def jobs_of(pairs, spectra, estimates, recipes, config):
    """As `jobs`, where the estimates are known already (`pair_estimates`), and the enhancers may be gone.

    Args:
        pairs: list of `Pair`.
        spectra: (noisy, clean) spectrum of each, float32 `(frames, bins, 2)`; only those of processed pairs are looked at.
        estimates: estimate of each, or None.
        recipes: `pair_recipe` of each.
        config: `Stft` of the spectra.
    """
    for pair, spectrum, estimate, known in zip(pairs, spectra, estimates, recipes, strict=True):
        if pair.processed:
            wave = istft(estimate.spectrum(spectrum[0]), pair.row.used_samples, config)
            yield wave_job(pair.row, wave, recipe=known)
        else:
            yield mixture_job(pair.row) if pair.kind == "noisy" else clean_job(pair.row)


def label(pairs, enhancers, scorer, target, config, description="labels"):
    """True scores of pairs, measured on waves: float32 `(len(pairs),)` in [0, 1], NaN where a metric refuses; the reasons are printed.

    Args:
        pairs: list of `Pair`.
        enhancers: the `Enhancer`s.
        scorer: `scores.Scorer` that measures `target.metrics`.
        target: `targets.Target`.
        config: STFT of the judge.
        description: of the progress bar.
    """
    results = scorer.lookup([pair_recipe(pair, enhancers, config) for pair in pairs])
    missing = [i for i, result in enumerate(results) if result is None]
    if missing:
        made = jobs([pairs[i] for i in missing], enhancers, config)
        for i, result in zip(missing, scorer.score(made, desc=description, total=len(missing)), strict=True):
            results[i] = result
    for reason, count in summarise_errors(results).items():
        print(f"{description}: {count} of {len(pairs)} without a score: {reason}")
    return np.array([target.to_score(result) for result in results], np.float32)


def known(pairs, values):
    """The pairs that have a score, and their scores; how many were left out is printed.

    Raises:
        UserError: none has one.
    """
    has = np.isfinite(values)
    if not has.any():
        raise UserError("no pair has a score, so there is nothing to learn from; is the speech silent, or shorter than 1/4 s?")
    if not has.all():
        print(f"{np.count_nonzero(~has)} of {len(pairs)} pairs have no score and are left out")
    return [pair for pair, kept in zip(pairs, has, strict=True) if kept], values[has]


def by_kind(pairs, values):
    """{kind: its values}, of the kinds that there are."""
    kinds = np.array([pair.kind for pair in pairs])
    return {kind: values[kinds == kind] for kind in KINDS if (kinds == kind).any()}
