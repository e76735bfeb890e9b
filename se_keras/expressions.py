"""Weighted sums as a user types them: `--target "pesq_wb:0.7,stoi:0.3"` and `--loss "mse:3,si_sdr:0.1"` have one grammar.

A term is a name and, behind a colon, its weight, a number above 0; 1 where it is left out. Terms are separated by commas outside
brackets, and brackets belong to the name: "mse[log]:1", "my.module:function[0,5]:0.7,stoi:0.3". What stands behind the colon of a
user's function is no number, so both kinds of colon can be told apart.
"""

import math
import re

from se_keras.errors import UserError


def parse(text, what, example, names=()):
    """{name: weight} of an expression, in its order.

    Args:
        text: the expression.
        what: what it is, for errors: "target", "loss".
        example: a right one, for errors.
        names: known names, which are never taken apart.

    Raises:
        UserError: an empty term, a weight that is not a number above 0, a name that stands twice.
    """
    weights = {}
    for part in re.split(r",(?![^\[\]]*\])", text):  # commas that no closing bracket follows before an opening one
        name, weight = _term(part.strip(), text, what, example, names)
        if name in weights:
            raise UserError(f"{what} {text!r}: {name} stands twice")
        weights[name] = weight
    return weights


def spell(weights):
    """The expression that `parse` takes, of {name: weight}."""
    return ",".join(f"{name}:{weight:.6g}" for name, weight in weights.items())


def _term(part, text, what, example, names):
    """(name, weight) of "name" or "name:weight"."""
    name, weight = (piece.strip() for piece in part.rpartition(":")[::2])
    if not name or not (name.partition("[")[0] in names or re.match(r"[-+.\d]", weight)):
        name, weight = part, "1"  # all of it is a name: "stoi", "module:function"
    if not name:
        raise UserError(f"{what} {text!r}: a term is empty; expected {example}")
    try:
        number = float(weight)
    except ValueError:
        number = math.nan
    if not 1e-9 <= number <= 1e9:  # beyond these a sum of weights is no number, or a share of it is 0
        raise UserError(f"{what} {text!r}: {name} has the weight {weight!r}; expected a number above 0, from 1e-9 to 1e9")
    return name, number
