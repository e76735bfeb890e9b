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
from se_keras.signals.stft import istft, magnitude, stft

KINDS = ("noisy", "enhanced", "perturbed", "clean")
CHUNK = 32  # utterances enhanced in one go
PERTURBATION = 1  # to be raised when `perturb` draws other masks: kept labels would be of the old ones


@dataclass(frozen=True)
class Pair:
    """One training pair: a mixture, and what was done to it.

    Attributes:
        row: manifest row, cut to the piece that is used.
        kind: "noisy", "enhanced", "perturbed" (`perturb`) or "clean" (the clean speech itself).
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
    def masked(self):
        """Whether an enhancer's mask has part in it."""
        return self.kind in ("enhanced", "perturbed")


def diet(rows, enhancers, perturbed=0, snr_raise=0.0, clean_share=0.05, crop_s=None, seed=0, noisy_share=1.0):
    """The pairs that Quality-Net learns from: noisy, enhanced and clean (the letter, section III; clean as in its author's code).

    Args:
        rows: manifest rows.
        enhancers: how many enhancers there are; each row is enhanced once by each.
        perturbed: how many pairs a row more, each with a perturbed mask of an enhancer drawn at random (`perturb`).
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


def perturb(mask, ideal, rng):
    """A mask as the enhancer might estimate it some updates from now: what Quality-Net must know to point in the right direction.

    Quality-Net's gradient is of use only where it has seen how the true score answers to a small change of the mask. With z
    the logit of the mask,

        z' = s(f) z + b(f) + d(t, f),    mask' = (1 - w) sigmoid(z') + w ideal,

    where s and b are smooth random curves over frequency (what other weights of the last layer do), d is a random field that is
    smooth over some 16 frames and 32 bins (what other weights before it do), and w, in every second mask, a share of the
    ideal mask up to 0.3 (where training should lead). One strength in 0 .. 1 scales s, b and d together.

    Args:
        mask: float32 `(frames, bins)` in [0, 1].
        ideal: ideal amplitude mask, likewise.
        rng: numpy Generator.

    Returns:
        float32 `(frames, bins)` in [0, 1].
    """
    frames, bins = mask.shape
    strength = rng.uniform()
    slope = np.exp(0.5 * strength * _curve(bins, rng))
    shift = 1.5 * strength * _curve(bins, rng)
    across_frames, across_bins = _hats(frames, 16), _hats(bins, 32)
    field = across_frames @ rng.standard_normal((across_frames.shape[1], across_bins.shape[1])) @ across_bins.T
    share = rng.uniform(0, 0.3) if rng.random() < 0.5 else 0.0
    clipped = np.clip(mask, 1e-4, 1 - 1e-4)
    logit = slope * np.log(clipped / (1 - clipped)) + shift + 1.5 * strength * field
    return ((1 - share) / (1 + np.exp(-logit)) + share * ideal).astype(np.float32)


def _curve(bins, rng):
    """A smooth random curve over frequency, float64 `(bins,)`: five cosines, variance 1.6 on average."""
    order = np.arange(5)
    return np.cos(np.pi * np.linspace(0, 1, bins)[:, None] * order) @ (rng.standard_normal(5) / np.sqrt(1 + order))


def _hats(count, spacing):
    """Linear interpolation of knots `spacing` apart to `count` places: float64 `(count, knots)`."""
    knots = np.arange(-(-count // spacing) + 1)
    return np.maximum(0, 1 - np.abs(np.arange(count)[:, None] / spacing - knots))


def pair_recipe(pair, enhancers):
    """The score cache's key of a pair (`scores.recipe`)."""
    system = enhancers[pair.enhancer].fingerprint if pair.masked else {"noisy": NOISY, "clean": CLEAN}[pair.kind]
    return recipe(pair.row, f"{system}~{PERTURBATION}.{pair.variant}" if pair.kind == "perturbed" else system)


def pair_masks(pairs, spectra, enhancers):
    """The mask of each pair that has one; None for noisy and clean.

    Args:
        pairs: list of `Pair`.
        spectra: (noisy, clean) spectrum of each, float32 `(frames, bins, 2)`.
        enhancers: the `MaskEnhancer`s; each is run once on all its mixtures, a mixture of several pairs once.
    """
    masks = [None] * len(pairs)
    for number, enhancer in enumerate(enhancers):
        mine = {}
        for i, pair in enumerate(pairs):
            if pair.masked and pair.enhancer == number:
                mine.setdefault(pair.row, []).append(i)
        if mine:
            estimated = enhancer.masks([magnitude(spectra[places[0]][0]) for places in mine.values()])
            for mask, places in zip(estimated, mine.values(), strict=True):
                for i in places:
                    masks[i] = mask if pairs[i].kind == "enhanced" else _perturbed(pairs[i], mask, spectra[i], enhancers)
    return masks


def _perturbed(pair, mask, spectra, enhancers):
    noisy, clean = (magnitude(spectrum) for spectrum in spectra)
    ideal = np.minimum(clean / np.maximum(noisy, 1e-8), 1.0)
    return perturb(mask, ideal, np.random.default_rng(list(bytes.fromhex(pair_recipe(pair, enhancers)))))


def jobs(pairs, enhancers):
    """The `scores.Job` of each pair, in order, its wave made when it is asked for.

    Args:
        pairs: list of `Pair`.
        enhancers: the `MaskEnhancer`s, run on several mixtures at once.
    """
    for start in range(0, len(pairs), CHUNK):
        chunk = pairs[start:start + CHUNK]
        spectra = {row: None for row in (pair.row for pair in chunk if pair.masked)}
        for row in spectra:
            spectra[row] = tuple(stft(wave, enhancers[0].config) for wave in mixing.pair(row))
        seen = [spectra.get(pair.row) for pair in chunk]
        recipes = [pair_recipe(pair, enhancers) for pair in chunk]
        yield from jobs_of(chunk, seen, pair_masks(chunk, seen, enhancers), recipes, enhancers[0].config if enhancers else None)


def jobs_of(pairs, spectra, masks, recipes, config):
    """As `jobs`, where the masks are known already (`pair_masks`), and the enhancers may be gone.

    Args:
        pairs: list of `Pair`.
        spectra: (noisy, clean) spectrum of each, float32 `(frames, bins, 2)`; only those of masked pairs are looked at.
        masks: mask of each, float32 `(frames, bins)`, or None.
        recipes: `pair_recipe` of each.
        config: `Stft` of the spectra; None where there are none.
    """
    for pair, spectrum, mask, known in zip(pairs, spectra, masks, recipes, strict=True):
        if pair.masked:
            wave = istft(spectrum[0] * mask[..., None], pair.row.used_samples, config)
            yield wave_job(pair.row, wave, recipe=known)
        else:
            yield mixture_job(pair.row) if pair.kind == "noisy" else clean_job(pair.row)


def label(pairs, enhancers, scorer, target, description="labels"):
    """True scores of pairs, measured on waves: float32 `(len(pairs),)` in [0, 1], NaN where a metric refuses; the reasons are printed.

    Args:
        pairs: list of `Pair`.
        enhancers: the `MaskEnhancer`s.
        scorer: `scores.Scorer` that measures `target.metrics`.
        target: `targets.Target`.
        description: of the progress bar.
    """
    results = scorer.lookup([pair_recipe(pair, enhancers) for pair in pairs])
    missing = [i for i, result in enumerate(results) if result is None]
    if missing:
        made = jobs([pairs[i] for i in missing], enhancers)
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
