"""One adapter a corpus: from what lies on disk to the rows of a manifest.

An adapter is a module with `add_arguments(parser)`, `settings(args)` (what the data depend on, as JSON can hold it) and
`prepare(args, out)`, which returns a `protocol.Corpus` and writes nothing but audio files below `out`.
"""

import importlib

from se_keras.errors import UserError

NAMES = ("demo", "folders", "shards", "pairs", "timit", "voicebank", "noizeus", "ms-snsd", "dns", "dns-test")


def get(name):
    """The adapter module of a corpus, imported when asked for.

    Raises:
        UserError: an unknown corpus, with the known ones.
    """
    if name not in NAMES:
        raise UserError(f"unknown corpus {name!r}; known: {', '.join(NAMES)}")
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
