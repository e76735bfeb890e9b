"""Weights of the PyTorch code of other systems, in this project's networks."""

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from se_keras import backend, enhancers, models
from se_keras.errors import UserError, check_choice

NETWORKS = ("dccrn", "tfgridnet")  # whose module has a function from_torch(arrays, **arguments) -> (keras.Model, Stft)
_INSIDE = ("state_dict", "model_state_dict", "model")  # where a checkpoint keeps its state dict


def load(network, arrays, **arguments):
    """An enhancer with the weights of a PyTorch checkpoint.

    DCCRN's code clips its wave to [-1, 1]; here the wave stays as it is (enhance.py scales a file that would clip).

    Args:
        network: "dccrn" (seorim0/DCCRN-with-various-loss-functions) or "tfgridnet" (Acceleration123/Speech-Enhancement).
        arrays: a state dict {name: array or tensor}; or the path of one, .npz as `numpy.savez(path, **arrays)` writes it, or, where
            PyTorch is installed, .pth or .pt. It may stand in a checkpoint under "state_dict", "model_state_dict" or "model", and its
            names behind "module.". Nothing of a file is executed (`torch.load(weights_only=True)`).
        arguments: of the network's builder, that the arrays do not tell: mask of dccrn, hop of tfgridnet.

    Returns:
        `enhancers.base.Enhancer`, with `enhance(waves)`, `network` and `config`, its STFT.

    Raises:
        UserError: an unknown network or argument, a file that cannot be read, or arrays that do not fit, with their names.
    """
    check_choice("network", network, NETWORKS)
    known = [name for name in inspect.signature(models.builder(network)).parameters if name != "name"]
    if unknown := sorted(set(arguments) - set(known)):
        raise UserError(f"{network} takes no argument {', '.join(unknown)}; it takes {', '.join(known)}")
    backend.load()
    name = network if isinstance(arrays, Mapping) else Path(arrays).stem
    read = importlib.import_module(f"se_keras.torch.{network}").from_torch
    built, config = read(_state_dict(arrays if isinstance(arrays, Mapping) else _read(Path(arrays))), **arguments)
    return enhancers.family(models.ENHANCERS[network])(built, config, name)


def _read(path):
    """What a file holds, a mapping or something else."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix == ".npz":
        try:
            with np.load(path) as arrays:
                return dict(arrays)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{path}: not a readable .npz file ({error})") from None
    if path.suffix not in (".pth", ".pt"):
        raise UserError(f"{path}: .npz, .pth or .pt is expected")
    try:
        import torch
    except ImportError:
        raise UserError(f"{path}: reading it takes PyTorch: pip install torch; or save the state dict where PyTorch is, by "
                        "numpy.savez('weights.npz', **{name: tensor.cpu().numpy() for name, tensor in state_dict.items()})") from None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged archive, or objects that are no weights: torch raises what it meets
        raise UserError(f"{path}: PyTorch does not read it as weights ({str(error).splitlines()[0]})") from None


def _state_dict(given):
    """{name: array} of a state dict or a checkpoint around one."""
    inside = next((given[key] for key in _INSIDE if isinstance(given, Mapping) and isinstance(given.get(key), Mapping)), given)
    if not isinstance(inside, Mapping):
        raise UserError(f"a state dict is expected, names and arrays; a {type(inside).__name__} has arrived; "
                        "torch.save(network.state_dict(), path) writes one")
    return {name.removeprefix("module."): np.asarray(array.detach().cpu().float() if hasattr(array, "detach") else array)
            for name, array in inside.items()}
