"""Blocks of a recording on its way: one row of finite samples, enhanced ones without NaN, joints that are faded."""

import numpy as np

from se_keras.errors import UserError


def checked(block):
    """A block as float32 `(samples,)`.

    Raises:
        UserError: it is not one row of finite numbers.
    """
    block = np.asarray(block, np.float32)
    if block.ndim != 1 or not np.isfinite(block).all():
        raise UserError(f"a block of shape {block.shape}: one row of finite samples is expected")
    return block


def enhanced(system, waves):
    """`system.enhance(waves)`: a list of float32 `(samples,)`.

    Raises:
        UserError: what comes out holds NaN or infinity.
    """
    made = system.enhance(waves)
    if not all(np.isfinite(wave).all() for wave in made):
        raise UserError(f"{system.name} gave NaN or infinite samples; its weights are damaged, train or fetch them again")
    return made


def faded(tail, wave):
    """`wave` with its start faded in over `tail`, both `(samples, ...)`; the tail may be the longer. Exact where both are equal."""
    tail = tail[:len(wave)]
    if not len(tail):
        return wave
    rise = ((np.arange(len(tail), dtype=np.float32) + 0.5) / len(tail)).reshape(-1, *[1] * (wave.ndim - 1))
    return np.concatenate([tail + rise * (wave[:len(tail)] - tail), wave[len(tail):]])
