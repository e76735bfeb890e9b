"""Weights files (.weights.h5 of Keras 3): written whole and with a checksum, loaded with errors in words."""

import hashlib

import numpy as np

from se_keras import files
from se_keras.errors import UserError

_CHECKSUM = "se_keras_sha256"  # attribute of the file; Keras passes over it, and what Keras alone has written lacks it
_DAMAGED = (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError)  # by the place where an HDF5 file is damaged


def save_weights(network, path):
    """`network.save_weights`, with a checksum of all arrays, under a temporary name, then renamed: a kill never leaves half a file."""
    import h5py

    with files.replacing(path) as temporary:
        network.save_weights(temporary)
        with h5py.File(temporary, "r+") as file:
            file.attrs[_CHECKSUM] = _digest(file)


def load_weights(network, path):
    """`network.load_weights(path)` with an error that says which layer differs and in which shapes.

    Raises:
        UserError: a damaged file, wherever that is; weights of another architecture, or such as are no finite numbers.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            stored = _stored_shapes(file)
            changed = _CHECKSUM in file.attrs and file.attrs[_CHECKSUM] != _digest(file)
    except _DAMAGED as error:
        raise UserError(f"{path}: not a readable .weights.h5 file ({error})") from None
    if changed:
        raise UserError(f"{path}: its numbers are not those that were saved; the file is damaged, restore it or train again")
    for layer in network.layers:
        name, shapes = layer.name, [tuple(weight.shape) for weight in layer.weights]
        if not shapes:
            continue
        if set(shapes) != set(stored.get(name, [])):  # sets: SpectralNormalization stores its kernel under two names
            raise UserError(f"{path}: weights of another architecture: layer {name} of {network.name} wants {in_words(shapes)}, "
                            f"the file holds {in_words(stored.get(name)) if name in stored else 'no such layer'}")
    try:
        network.load_weights(path)
    except _DAMAGED as error:
        raise UserError(f"{path}: cannot be loaded into {network.name} ({error})") from None
    values = zip(network.weights, network.get_weights(), strict=True)
    if broken := [weight.path for weight, value in values if not np.isfinite(value).all()]:
        raise UserError(f"{path}: holds numbers that are none in {broken[0]}; it is damaged, or its training came to nothing")


def in_words(shapes):
    """Shapes as text, each once: "257x300, 300"."""
    return ", ".join("x".join(map(str, shape)) or "a scalar" for shape in dict.fromkeys(shapes))


def _digest(file):
    """sha256 (hex) of all arrays below an HDF5 file: their names, types, shapes and bytes."""
    import h5py

    digest = hashlib.sha256()

    def add(name, node):
        if isinstance(node, h5py.Dataset):
            digest.update(f"{name} {node.dtype} {node.shape}".encode())
            digest.update(np.ascontiguousarray(node[()]).tobytes())

    file.visititems(add)
    return digest.hexdigest()


def _stored_shapes(file):
    """{layer name: shapes of all arrays below it} of a Keras 3 weights file."""
    import h5py

    if "layers" not in file:
        return {}
    shapes = {}
    for name, group in file["layers"].items():
        found = []
        group.visititems(lambda _, node, found=found: found.append(tuple(node.shape)) if isinstance(node, h5py.Dataset) else None)
        if found:
            shapes[group["vars"].attrs.get("name", name) if "vars" in group else name] = found
    return shapes
