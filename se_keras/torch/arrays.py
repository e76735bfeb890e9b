"""A PyTorch state dict as NumPy arrays, read into a network array by array."""

import re

import numpy as np

from se_keras.errors import UserError


class TorchArrays:
    """Arrays by name, each taken once, with its shape. What is missing, misshaped or left over is named at the end, all at once.

    Args:
        network: what error messages call the network.
        arrays: {name: array}. Where names begin with "w/", only those count, without it; else all but x and y, an input and its output.
    """

    def __init__(self, network, arrays):
        weights = {name.removeprefix("w/"): arrays[name] for name in arrays if name.startswith("w/")}
        self.network, self.arrays = network, weights or {name: arrays[name] for name in arrays if name not in ("x", "y")}
        self.missing, self.misshaped, self.taken = [], [], set()

    def shape(self, name, rank):
        """Shape of an array that a size of the network is read from.

        Raises:
            UserError: it is missing, or has not so many axes.
        """
        if name not in self.arrays:
            raise UserError(f"{self.network}: the arrays lack {name}, which tells its size; arrays by the names of its PyTorch code are "
                            f"expected, {len(self.arrays)} have arrived")
        if len(shape := np.shape(self.arrays[name])) != rank:
            raise UserError(f"{self.network}: {name} has the shape {shape}; {rank} axes are expected")
        return shape

    def count(self, prefix):
        """How many parts the names `prefix` 0, `prefix` 1, ... speak of."""
        numbers = (re.match(re.escape(prefix) + r"(\d+)\.", name) for name in self.arrays)
        return max((int(number[1]) + 1 for number in numbers if number), default=0)

    def take(self, name, shape):
        """An array, float32; one that is missing or of another shape is noted, and zeros stand for it."""
        self.taken.add(name)
        if name not in self.arrays:
            self.missing.append(name)
        elif np.shape(self.arrays[name]) != shape:
            self.misshaped.append(f"{name} has the shape {np.shape(self.arrays[name])}, expected {shape}")
        else:
            return np.asarray(self.arrays[name], np.float32)
        return np.zeros(shape, np.float32)

    def finish(self):
        """See that all has been taken.

        Raises:
            UserError: it has not; the message names the arrays.
        """
        unexpected = sorted(set(self.arrays) - self.taken)
        faults = [f"the arrays lack {_named(self.missing)}"] if self.missing else []
        faults += [_named(self.misshaped)] if self.misshaped else []
        faults += [f"nothing takes {_named(unexpected)}"] if unexpected else []
        if faults:
            raise UserError(f"{self.network}: {'; '.join(faults)}")


def _named(names, most=5):
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
