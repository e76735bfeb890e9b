"""What a difference of two systems is worth: intervals and tests for scores that come in clusters.

Mixtures of one clean utterance share their speech, and utterances of one speaker their voice: their scores are not
independent, and an interval that takes them as such is too narrow. Everything here resamples or flips whole clusters.
"""

from dataclasses import dataclass

import numpy as np
import scipy.stats

DRAWS = 10_000


@dataclass(frozen=True)
class Interval:
    """A mean and its 95% interval.

    Attributes:
        mean: over all values.
        low, high: ends of the interval; NaN where fewer than two clusters say nothing of the spread.
        clusters: number of clusters.
    """

    mean: float
    low: float
    high: float
    clusters: int


def cluster_bootstrap(values, clusters, draws=DRAWS, seed=0, level=0.95):
    """Percentile interval of a mean by the cluster bootstrap: whole clusters are drawn with replacement.

    For a paired comparison hand in the differences of the two systems. With few clusters (ten speakers, say) percentile
    intervals are somewhat too narrow.

    Args:
        values: float `(n,)`, finite.
        clusters: `(n,)` of labels: the clean utterance, or the speaker, of each value.
        draws: bootstrap samples.
        seed: of the draws; the same seed gives the same interval.
        level: of confidence, in (0, 1).

    Returns:
        `Interval`. A draw's mean is the mean over its values, so that large clusters weigh more, as they do in the mean.

    Reference: Field and Welsh, "Bootstrapping clustered data", J. R. Statist. Soc. B 69 (2007).
    """
    sums, counts = _by_cluster(values, clusters)
    mean, number = float(np.sum(sums) / np.sum(counts)), len(sums)
    if number < 2:
        return Interval(mean, np.nan, np.nan, number)
    drawn = np.random.default_rng(seed).integers(number, size=(draws, number))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)  # (draws,)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high), number)


def paired_test(differences, clusters, draws=DRAWS, seed=0):
    """Two-sided tests of "no difference" between two systems, on the mean difference of each cluster.

    Args:
        differences: float `(n,)`, score of one system minus score of the other for the same utterance.
        clusters: `(n,)` of labels.
        draws: sign patterns drawn for the permutation test; where there are no more than that (13 clusters or fewer for
            the default) all of them are used and the p-value is exact.
        seed: of the draws.

    Returns:
        {"p_sign_flip": sign-flip permutation test of the mean, "p_wilcoxon": Wilcoxon's signed-rank test, "clusters": int}.
        Identical systems give 1 in both.
    """
    sums, counts = _by_cluster(differences, clusters)
    means = sums / counts
    number = len(means)
    if not means.any():
        return {"p_sign_flip": 1.0, "p_wilcoxon": 1.0, "clusters": number}
    exact = 2 ** number <= draws
    if exact:
        signs = 1 - 2 * (np.arange(2 ** number)[:, None] >> np.arange(number) & 1)  # (patterns, clusters), each of -1, 1
    else:
        signs = 1 - 2 * np.random.default_rng(seed).integers(2, size=(draws, number), dtype=np.int8)
    # A pattern counts as no less extreme within rounding, so that the observed pattern always counts itself.
    extreme = np.count_nonzero(np.abs(signs @ means) >= np.abs(means.sum()) * (1 - 1e-9))
    p_sign_flip = extreme / len(signs) if exact else (extreme + 1) / (draws + 1)
    return {"p_sign_flip": float(p_sign_flip), "p_wilcoxon": float(scipy.stats.wilcoxon(means).pvalue), "clusters": number}


def agreement(true, predicted):
    """How well predicted scores follow true ones: {"lcc", "srcc", "rmse", "bias", "count"}.

    Args:
        true, predicted: float `(n,)`; pairs in which either is missing (None or NaN) are left out.

    Returns:
        Pearson's and Spearman's correlation in [-1, 1], root mean square error on the scores' scale, mean of predicted - true,
        pairs used.
        What the pairs do not determine (fewer than two, or one side constant) is NaN.
    """
    true, predicted = np.asarray(true, dtype=float), np.asarray(predicted, dtype=float)
    both = np.isfinite(true) & np.isfinite(predicted)
    true, predicted = true[both], predicted[both]
    lcc = srcc = rmse = bias = np.nan
    if len(true):
        bias = float(np.mean(predicted - true))
        rmse = float(np.sqrt(np.mean((true - predicted) ** 2)))
    if len(true) > 1 and np.ptp(true) > 0 and np.ptp(predicted) > 0:
        lcc = float(scipy.stats.pearsonr(true, predicted).statistic)
        srcc = float(scipy.stats.spearmanr(true, predicted).statistic)
    return {"lcc": lcc, "srcc": srcc, "rmse": rmse, "bias": bias, "count": len(true)}


def _by_cluster(values, clusters):
    """Sum and count of each cluster's values, `(clusters,)` each.

    Raises:
        ValueError: no values, values that are not finite, or another number of labels than of values.
    """
    values = np.asarray(values, dtype=float)
    if len(values) == 0 or len(values) != len(clusters) or not np.isfinite(values).all():
        raise ValueError(f"expected finite values with a cluster each, found {len(values)} values "
                         f"({np.count_nonzero(~np.isfinite(values))} not finite) and {len(clusters)} clusters")
    _, index = np.unique(np.asarray(clusters).astype(str), return_inverse=True)
    return np.bincount(index, weights=values), np.bincount(index)
