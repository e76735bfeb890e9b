"""The networks by name. Builders are imported when asked for: Keras loads TensorFlow, which takes seconds."""

import importlib
import inspect

from se_keras import backend
from se_keras.errors import UserError, check_choice

MASK_NETWORKS = ("blstm", "dnn")  # magnitude, frame_mask -> mask
QUALITY_NETWORKS = ("quality_net", "quality_net_2018")  # degraded and, the first, clean magnitude -> score
NETWORKS = (*MASK_NETWORKS, *QUALITY_NETWORKS)


def builder(name):
    """The function that builds network `name`.

    Raises:
        UserError: an unknown name, with the known ones.
    """
    check_choice("model", name, NETWORKS)
    backend.load()
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
    except (TypeError, ValueError, ArithmeticError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items()) or "its defaults"
        raise UserError(f"{name} cannot be built with {given}: {str(error).splitlines()[0]}") from error


def resolve(name, arguments):
    """`arguments` with the builder's defaults filled in, for a card: the weights stay what they are when a default changes.

    Left out are the name and the precision, which do not belong to the weights.
    """
    parameters = inspect.signature(builder(name)).parameters
    defaults = {key: parameter.default for key, parameter in parameters.items() if key not in ("name", "precision")}
    return {**defaults, **arguments}
