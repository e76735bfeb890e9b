"""Metrics of the user's own: any function of two signals, by its name `package.module:function`, with its range.

    # loudness.py
    def difference(reference, degraded):    # float32 (samples,) at 16 kHz each; a number
        return abs(10 * np.log10(np.mean(degraded**2) / np.mean(reference**2)))

    difference.range = (0, 60)              # or in the name: loudness:difference[0,60], which wins
    difference.higher_is_better = False     # True where it is left out

The module is looked for wherever Python looks, and in the current folder.
"""

import functools
import hashlib
import importlib
import math
import os
import re
import sys
from pathlib import Path

import numpy as np

from se_keras.errors import UserError
from se_keras.metrics.base import Metric, MetricError

_NAME = re.compile(r"(?P<module>[^:\[\]]+):(?P<function>[^:\[\]]+)(\[(?P<range>[^\[\]]*)\])?")
_EXPECTED = "expected package.module:function, or package.module:function[lowest,highest]"


_of_cards = set()  # functions that only a model's card names: nobody has typed them, so nothing of them is run


def refuse(names):
    """Names that come from a model's card: `load` refuses them until somebody types them (`trust`)."""
    _of_cards.update(name for name in names if ":" in name and name not in _trusted)


def trust(names):
    """Names that stand on the command line, or in a card that the user trusts: their modules may be imported."""
    _trusted.update(names)
    _of_cards.difference_update(names)


_trusted = set()


def load(name):
    """The `Metric` of a function, imported once a process; as `_load`.

    Raises:
        UserError: also of a function that only a model's card names: importing it would run whatever the card's author has written.
    """
    if name in _of_cards:
        raise UserError(f"{name}: only a model's card names this function, and it is not run unasked; add --trust-card if you know whose "
                        "it is")
    return _load(name)


@functools.cache
def _load(name):
    """The `Metric` of a function.

    Its scores are stamped with a hash of the module's file, so that a function that was edited is measured again. What the
    module imports is not hashed.

    Args:
        name: `package.module:function`, or with its range `package.module:function[0,5]`.

    Raises:
        UserError: another form of name, a module that is missing or fails, no such function, not callable, no range, or a
            range that is not two increasing finite numbers.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise UserError(f"metric {name!r}: {_EXPECTED}")
    module = _module(name, match["module"])
    function = getattr(module, match["function"], None)
    if function is None:
        raise UserError(f"metric {name!r}: {match['module']} ({_place(module)}) has no {match['function']}")
    if not callable(function):
        raise UserError(f"metric {name!r}: {match['function']} is no function but {type(function).__name__}")
    limits = match["range"].split(",") if match["range"] is not None else getattr(function, "range", None)
    if limits is None:
        raise UserError(f"metric {name!r}: its range is not known; name it as {name}[lowest,highest], "
                        f"or set {match['function']}.range = (lowest, highest) in {_place(module)}")
    return Metric(name, functools.partial(_measure, match["function"], function), _range(name, limits), "own scale", name,
                  source=f"sha256 {_source_hash(match['module'])}", higher_is_better=bool(getattr(function, "higher_is_better", True)))


def _module(name, module):
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # at the end: a file of the user's must not stand in for a module of Python's
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever the user's file raises
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
            raise UserError(f"metric {name!r}: there is no module {error.name}, neither in {os.getcwd()} nor on Python's path") from None
        raise UserError(f"metric {name!r}: {module} cannot be imported ({type(error).__name__}: {error})") from None


def _place(module):
    return getattr(module, "__file__", None) or "built into Python"


@functools.cache
def _source_hash(module):
    """sha256 of a module's file as it was when first asked for, which is when it was imported; of Python's version where it has none."""
    file = getattr(sys.modules[module], "__file__", None)
    return hashlib.sha256(Path(file).read_bytes() if file else sys.version.encode()).hexdigest()


def _range(name, limits):
    try:
        low, high = map(float, limits)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"metric {name!r}: its range is {limits}; expected two increasing finite numbers, the lowest and the highest score")
    return low, high


def _measure(name, function, reference, degraded):
    """The function's number. It gets copies, so that it may work in place; whatever it raises is a reason, not the end of a run."""
    try:
        return float(function(np.array(reference), np.array(degraded)))
    except MetricError:
        raise
    except (Exception, SystemExit) as error:  # sys.exit() in a metric is no end of a run either
        raise MetricError(f"{name} failed ({type(error).__name__}: {error})") from error
