"""What the devices and hosts of a training share on the way: parts of a batch, what host 0 decides. One device shares nothing."""

import dataclasses
from pathlib import Path

import numpy as np

from se_keras.mixtures.feed import Feed


@dataclasses.dataclass
class Together:
    """What this process is a part of.

    Attributes:
        hosts, host: how many, and which this one is.
        devices: of all hosts.
        folder: temporary one of a host that has no run folder.
        whole: whether the batch of now, which does not divide, is computed whole on each device.
    """

    hosts: int = 1
    host: int = 0
    devices: int = 1
    folder: Path | None = None
    whole: bool = False


now = Together()


def divides(batch):
    """Whether a batch of so many divides among the devices."""
    return batch % now.devices == 0


def train_on_batch(model, x, y, size):
    """`model.train_on_batch` as a dict of floats.

    Args:
        model: compiled keras.Model.
        x, y: this host's part of a batch (`own`).
        size: () -> utterances in the whole batch.
    """
    now.whole = now.hosts > 1 and not divides(size())
    return {name: float(value) for name, value in model.train_on_batch(x, y, return_dict=True).items()}


def own(arrays):
    """This host's part of a batch, of a structure of arrays over it; all of it where it does not divide."""
    if now.hosts == 1:
        return arrays
    import keras

    size = len(keras.tree.flatten(arrays)[0])
    part = slice(now.host * size // now.hosts, (now.host + 1) * size // now.hosts) if divides(size) else slice(None)
    return keras.tree.map_structure(lambda array: array[part], arrays)


def batches(feed, start, stop):
    """This host's part of the batches of a feed, `feed.batches(start, stop)`. Of a `Feed`, the other hosts' part is not made."""
    if now.hosts == 1:
        yield from feed.batches(start, stop)
    elif isinstance(feed, Feed):
        mine = _OwnRows(**{field.name: getattr(feed, field.name) for field in dataclasses.fields(Feed)})
        for k in range(start, stop):
            yield mine.batch(k)
    else:
        for batch in feed.batches(start, stop):
            yield own(batch)


class _OwnRows(Feed):
    """A `Feed` whose batches hold this host's rows, padded to the longest of all hosts."""

    def indices(self, k):
        return own(super().indices(k))

    def batch(self, k):
        batch = super().batch(k)
        frames = batch["frame_mask"].shape[1]
        more = _largest_of_all(frames) - frames
        return {name: np.pad(array, [(0, 0), (0, more)] + [(0, 0)] * (array.ndim - 2)) if name in ("noisy", "clean", "frame_mask")
                else array for name, array in batch.items()}


def from_first_host(text):
    """A text as host 0 has it."""
    return text if now.hosts == 1 else bytes_of_first_host(text.encode()).decode()


def wait_for_all():
    """Return when all hosts have come here."""
    if now.hosts > 1:
        barrier("on the way")


def barrier(name):
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices(name)


def bytes_of_first_host(content):
    from jax.experimental import multihost_utils

    size = int(multihost_utils.broadcast_one_to_all(np.array(len(content), np.int32)))
    padded = np.zeros(1 << max(size - 1, 0).bit_length(), np.uint8)  # of few lengths: JAX compiles for each
    padded[:size] = np.frombuffer(content, np.uint8) if now.host == 0 else 0
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(padded))[:size])


def _largest_of_all(number):
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.array([number], np.int32))))


def all_of(true):
    from jax.experimental import multihost_utils

    return bool(np.all(multihost_utils.process_allgather(np.array([true], np.int32))))
