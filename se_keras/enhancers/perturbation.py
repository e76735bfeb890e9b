"""Random smooth changes of a mask: what an enhancer might estimate some updates from now."""

import numpy as np


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
