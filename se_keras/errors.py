"""The one exception for what a user can put right."""


class UserError(ValueError):
    """Bad input: the message says what arrived, what was expected and what to do.

    The scripts print it in a line or two, without a stack trace, and exit with code 2 (`se_keras.cli.run`).
    """


def check_choice(what, value, known):
    """See that `value` is one of `known`.

    Raises:
        UserError: it is not; the message lists the known ones.
    """
    if value not in known:
        raise UserError(f"unknown {what} {value!r}; known: {', '.join(known)}")
