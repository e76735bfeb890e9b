"""What half precision costs here, measured: without tiles for it (AMX), a processor takes longer in bfloat16 than in float32."""

import time

import numpy as np

FRAMES, BINS, TURNS = 100, 257, 3


def bfloat16_share():
    """Time of a Quality-Net's training step in bfloat16, as a share of the time in float32: the fastest of `TURNS`, two seconds in all.

    Draws from Keras's random numbers: call it before they are seeded.
    """
    from se_keras import models

    rng = np.random.default_rng(0)
    inputs = {"degraded": rng.random((2, FRAMES, BINS), np.float32), "clean": rng.random((2, FRAMES, BINS), np.float32),
              "frame_mask": np.ones((2, FRAMES), bool)}
    seconds = {}
    for precision in ("bfloat16", "float32"):
        network = models.build("quality_net", bins=BINS, precision=precision)
        network.compile("sgd", "mse")
        took = []
        for _ in range(1 + TURNS):  # the first compiles
            began = time.perf_counter()
            float(network.train_on_batch(inputs, np.zeros((2, 1), np.float32)))
            took.append(time.perf_counter() - began)
        seconds[precision] = min(took[1:])
    return seconds["bfloat16"] / seconds["float32"]


def say_share():
    """Print it in a line."""
    share = bfloat16_share()
    print(f"--precision bfloat16: here a step takes {share:.2f} times as long as in float32"
          + ("; leave the flag out, float32 is as good and faster" if share > 1 else ""))
