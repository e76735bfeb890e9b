"""A shuffled order that nobody holds: where each place of a permutation leads is computed when it is asked for."""

import numpy as np

_ROUNDS = 6


def permuted(size, places, *key):
    """Where places lead in a random permutation of 0 ... size - 1, a pure function of `key`.

    A Feistel network permutes the numbers of 2 b bits, the smallest such range that holds them all. What it leads out of the range is led
    on until it is back in it (cycle walking), which makes a permutation of the range; it takes four steps a place at most, on average.

    Args:
        size: of the range, 1 to 2^62.
        places: integers from 0 to size - 1, of any shape.
        key: whole numbers from 0, such as (seed, epoch).

    Returns:
        int64, of the shape of `places`.
    """
    half = np.uint64(max(1, -(-(int(size) - 1).bit_length() // 2)))
    keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64)
    places = np.asarray(places)
    found = places.astype(np.uint64).ravel()
    outside = np.arange(found.size)
    while outside.size:
        found[outside] = _feistel(found[outside], half, keys)
        outside = outside[found[outside] >= size]
    return found.astype(np.int64).reshape(places.shape)


def _feistel(values, half, keys):
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right + key) & mask)
    return left << half | right


def _mixed(values):
    """Bits of uint64 stirred (the finaliser of splitmix64, Steele et al. 2014); products wrap round."""
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)
