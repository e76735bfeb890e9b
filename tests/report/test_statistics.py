"""Statistics: intervals, paired tests and agreement with known answers."""

import math

import numpy as np
import pytest

from se_keras.report import statistics


def clustered(rng, clusters=40, size=10, between=1.0, within=0.3):
    """Values of mean 0 whose clusters differ by a standard deviation of `between`."""
    labels = np.repeat(np.arange(clusters), size)
    return rng.normal(0, between, clusters)[labels] + rng.normal(0, within, clusters * size), labels


def test_constant_difference_has_no_width():
    interval = statistics.cluster_bootstrap(np.full(60, 0.25), np.arange(60) % 6)
    assert (interval.mean, interval.low, interval.high, interval.clusters) == (0.25, 0.25, 0.25, 6)


def test_interval_is_seeded_and_blind_to_order():
    rng = np.random.default_rng(0)
    values, labels = clustered(rng)
    interval = statistics.cluster_bootstrap(values, labels, seed=3)
    order = rng.permutation(len(values))
    shuffled = statistics.cluster_bootstrap(values[order], labels[order], seed=3)
    assert shuffled.low == pytest.approx(interval.low) and shuffled.high == pytest.approx(interval.high)
    assert statistics.cluster_bootstrap(values, labels, seed=4) != interval


def test_interval_of_single_values_is_the_normal_one():
    """With every value its own cluster it is the ordinary bootstrap: mean +- 1.96 standard errors, within its noise."""
    values = np.random.default_rng(1).normal(2.0, 1.0, 400)
    interval = statistics.cluster_bootstrap(values, np.arange(400))
    error = values.std() / math.sqrt(400)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.05 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.05 * error)


def test_copies_of_a_cluster_add_no_certainty():
    """Ten mixtures that score alike are one observation: the interval is that of the ten-fold smaller data."""
    values = np.random.default_rng(2).normal(size=30)
    once = statistics.cluster_bootstrap(values, np.arange(30))
    tenfold = statistics.cluster_bootstrap(np.repeat(values, 10), np.repeat(np.arange(30), 10))
    naive = statistics.cluster_bootstrap(np.repeat(values, 10), np.arange(300))
    assert (tenfold.low, tenfold.high) == pytest.approx((once.low, once.high))
    assert (naive.high - naive.low) < 0.4 * (once.high - once.low)  # 1 / sqrt(10) = 0.32 of it


def test_coverage_on_clustered_data():
    rng = np.random.default_rng(3)
    covered = {"cluster": 0, "naive": 0}
    for seed in range(200):
        values, labels = clustered(rng)
        for name, by in (("cluster", labels), ("naive", np.arange(len(values)))):
            interval = statistics.cluster_bootstrap(values, by, draws=400, seed=seed)
            covered[name] += interval.low <= 0 <= interval.high
    # 95% of 200 is 190 with a standard deviation of 3; 40 clusters cost the percentile interval a little.
    assert covered["cluster"] >= 178
    assert covered["naive"] < 110  # an interval a third as wide as it should be covers about half the time


def test_unequal_clusters_weigh_by_their_size():
    interval = statistics.cluster_bootstrap([1.0, 1.0, 1.0, 5.0], ["a", "a", "a", "b"])
    assert interval.mean == 2.0  # the mean over values, not over clusters (3.0)
    assert (interval.low, interval.high) == (1.0, 5.0)  # both drawn from one cluster: a quarter of the draws each


def test_one_cluster_has_no_interval():
    interval = statistics.cluster_bootstrap([1.0, 2.0], ["a", "a"])
    assert interval.mean == 1.5 and math.isnan(interval.low) and math.isnan(interval.high)


@pytest.mark.parametrize("values, clusters", [([], []), ([1.0, np.nan], ["a", "b"]), ([1.0, 2.0], ["a"])])
def test_bootstrap_refuses(values, clusters):
    with pytest.raises(ValueError, match="finite values with a cluster each"):
        statistics.cluster_bootstrap(values, clusters)


def test_sign_flip_is_exact_for_few_clusters():
    """Five clusters all in favour: of 2^5 sign patterns only two are as extreme, p = 2 / 32."""
    test = statistics.paired_test([1.0, 2.0, 3.0, 4.0, 5.0, 5.0], ["a", "b", "c", "d", "e", "e"])
    assert test == {"p_sign_flip": 2 / 32, "p_wilcoxon": 2 / 32, "clusters": 5}
    # 3 - 1 - 1 = 1 in mean: |s1 3 + s2 1 + s3 1| is 5, 3, 3, 1 for s1 = + and again for -: all 8 patterns are as extreme.
    assert statistics.paired_test([3.0, -1.0, -1.0], ["a", "b", "c"])["p_sign_flip"] == 1.0


def test_paired_test_by_drawing():
    rng = np.random.default_rng(5)
    values, labels = clustered(rng, clusters=50)
    strong = statistics.paired_test(values + 3, labels)
    assert strong["p_sign_flip"] == 1 / (statistics.DRAWS + 1) and strong["p_wilcoxon"] < 1e-8
    assert statistics.paired_test(values, labels) == statistics.paired_test(-values, labels)  # two-sided


def test_paired_test_holds_its_level():
    """Without a difference p falls below 0.05 in about 5% of trials, though the values of a cluster go together."""
    rng = np.random.default_rng(6)
    p_values = np.array([statistics.paired_test(*clustered(rng), draws=500)["p_sign_flip"] for _ in range(300)])
    assert 0.015 < np.mean(p_values < 0.05) < 0.09


def test_identical_systems_do_not_differ():
    assert statistics.paired_test(np.zeros(20), np.arange(20)) == {"p_sign_flip": 1.0, "p_wilcoxon": 1.0, "clusters": 20}


def test_agreement_of_known_pairs():
    numbers = statistics.agreement([1.0, 2.0, 3.0, None], [1.5, 2.5, 3.5, 9.0])
    assert numbers == {"lcc": pytest.approx(1.0), "srcc": pytest.approx(1.0), "rmse": pytest.approx(0.5),
                       "bias": pytest.approx(0.5), "count": 3}
    numbers = statistics.agreement([1.0, 2.0, 3.0, 4.0], [1.0, 8.0, 27.0, 64.0])
    assert numbers["srcc"] == pytest.approx(1.0) and 0.9 < numbers["lcc"] < 1.0  # monotonous, not linear
    assert statistics.agreement([1.0, 2.0], [3.0, 1.0])["lcc"] == pytest.approx(-1.0)


@pytest.mark.parametrize("true, predicted, count", [([], [], 0), ([1.0], [2.0], 1), ([1.0, 2.0], [3.0, 3.0], 2)])
def test_agreement_says_what_it_cannot_tell(true, predicted, count):
    numbers = statistics.agreement(true, predicted)
    assert math.isnan(numbers["lcc"]) and math.isnan(numbers["srcc"]) and numbers["count"] == count
