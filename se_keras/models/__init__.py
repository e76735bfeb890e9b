"""The networks by name. Builders are imported when asked for: Keras loads TensorFlow, which takes seconds."""

import importlib
import inspect

from se_keras import backend
from se_keras.errors import UserError, check_choice

# Each enhancer network with its family (`enhancers.FAMILIES`): what its output means. A new one is a line here, a file and a test.
ENHANCERS = {"blstm": "magnitude_mask", "dnn": "magnitude_mask", "lstm": "magnitude_mask", "dccrn": "complex_mapping",
             "tfgridnet": "complex_mapping", "autoencoder": "complex_mapping", "autoencoder_ibm": "binary_mask", "unet_ibm": "binary_mask"}
# The STFT of a network's authors, where it is not `Stft()`: what it is trained with unless --stft says otherwise.
STFTS = {
    "dccrn": {"n_fft": 512, "hop_length": 100, "window": "hann", "win_length": 400, "center": False, "inverse": "least_squares"},
    "tfgridnet": {"n_fft": 512, "hop_length": 256, "window": "sqrt_hann", "pad_mode": "reflect", "tail": "cut"},
    **{name: {"n_fft": 512, "hop_length": 128, "window": "hann"} for name in ("autoencoder", "autoencoder_ibm", "unet_ibm")},
}
TRAINED_QUALITY_NETWORKS = ("quality_net", "quality_net_2018")  # degraded and, the first, clean magnitude -> score
QUALITY_NETWORKS = (*TRAINED_QUALITY_NETWORKS, "hearing")  # the last has nothing to learn
_registered = {}  # name: builder, of `register`


def register(name, build_network, family):
    """Make a network of one's own known by name, for this process: to `build`, to cards, and to the scripts called from Python.

    Args:
        name: of the network; an existing one is replaced.
        build_network: a function like `blstm.blstm`, whose arguments have defaults; `bins` is always given.
        family: one of `enhancers.FAMILIES`.
    """
    ENHANCERS[name], _registered[name] = family, build_network


def builder(name):
    """The function that builds network `name`.

    Raises:
        UserError: an unknown name, with the known ones.
    """
    check_choice("model", name, (*ENHANCERS, *QUALITY_NETWORKS))
    backend.load()
    if name in _registered:
        return _registered[name]
    return getattr(importlib.import_module(f"se_keras.models.{name}"), name)


def build(name, **arguments):
    """A new network: `builder(name)(**arguments)`.

    Raises:
        UserError: an unknown name, an argument that the builder does not take, or a value that it cannot take.
    """
    build_network = builder(name)
    known = inspect.signature(build_network).parameters
    if unknown := sorted(set(arguments) - set(known)):
        raise UserError(f"{name} takes no argument {', '.join(unknown)}; it takes {', '.join(known)}")
    try:
        return build_network(**arguments)
    except UserError:
        raise
    except Exception as error:  # whatever Keras and its backend make of the arguments, too little memory for them too
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items()) or "its defaults"
        raise UserError(f"{name} cannot be built with {given}: {str(error).splitlines()[0]}") from error


def with_bins(arguments, config):
    """`arguments` of a builder with the frequency bins of an STFT.

    Raises:
        UserError: they name another number of bins.
    """
    if (bins := arguments.get("bins", config.bins)) != config.bins:
        raise UserError(f"the network's arguments say bins {bins!r}, and its STFT has {config.bins}; leave bins out")
    return {"bins": config.bins, **arguments}


def resolve(name, arguments):
    """`arguments` with the builder's defaults filled in, for a card: the weights stay what they are when a default changes.

    Left out are the name and the precision, which do not belong to the weights.
    """
    parameters = inspect.signature(builder(name)).parameters
    defaults = {key: parameter.default for key, parameter in parameters.items() if key not in ("name", "precision")}
    return {**defaults, **arguments}
