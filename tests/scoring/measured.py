"""What the workers of a cluster are given in test_cluster.py: loads and a metric, importable without the suite's fixtures."""

import os
import signal
import time

import numpy as np


def waves(seed, wait_s=0.0, spoil=None, note=None):
    """A clean and a noisy wave of a second, after a while; `note`: a file that gets a line for each call, with the worker's process."""
    if note is not None:
        with open(note, "a") as file:
            file.write(f"{os.getpid()}\n")
    time.sleep(wait_s)
    if spoil == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    t, rng = np.arange(16_000) / 16_000, np.random.default_rng(seed)
    clean = 0.3 * np.sin(2 * np.pi * (150 + 10 * seed) * t) * (np.sin(2 * np.pi * 4 * t) > -0.5) + 0.01 * rng.standard_normal(len(t))
    noisy = clean + 0.05 * rng.standard_normal(len(t))
    return clean.astype(np.float32), {"silent": 0, "loud": 100}.get(spoil, 1) * noisy.astype(np.float32)


def level(reference, degraded):
    """A metric, which hangs where the wave is loud."""
    if np.abs(degraded).max() > 5:
        time.sleep(1000)
    return float(np.mean(np.abs(degraded)))


level.range = (0, 10)


def until(path):
    """A task that ends when there is such a file."""
    while not os.path.exists(path):
        time.sleep(0.05)
