"""Listening tests of a report's utterances: AB, ABX, MUSHRA. Design, database, server, results; listen.py joins them."""

import importlib.util

from se_keras.errors import UserError

KINDS = ("ab", "abx", "mushra")


def check_installed(*modules):
    """See that what only listening tests need is there.

    Raises:
        UserError: it is not installed.
    """
    if missing := [name for name in modules if importlib.util.find_spec(name) is None]:
        raise UserError(f"listening tests need {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed: "
                        f"pip install {' '.join(missing)}, or pip install -r requirements-extras.txt")
