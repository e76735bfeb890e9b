"""What parses a user's words, asked by Hypothesis: whatever arrives, it is understood or refused in words, and nothing else is raised.

Hypothesis looks for what breaks a parser and makes it small; the note of a case is the smallest value that it found.
"""

import argparse
import functools
import importlib.util
import json
import shutil
import tempfile
from pathlib import Path

from ledger import Case, Outcome

from se_keras import cli, losses, models, pretrained
from se_keras.errors import UserError
from se_keras.export import running
from se_keras.judges import targets
from se_keras.mixtures import rows
from se_keras.signals.stft import Stft

EXAMPLES = 300  # of each parser
WORDS = ["mse", "stoi", "pesq_raw", "si_sdr", "quality", "hearing_nb", "[", "]", ",", ":", "1", "0.5", "-1", "1e999", "nan", " ", "", "log",
         "\0", "é", "[log]", "[0,5]"]
CARD = {"network": "dnn", "arguments": {"units": 8}, "stft": Stft().to_config(), "representation": "mask", "bias": {}, "weights": {},
        "sha256": "0", "name": "a", "family": "magnitude_mask", "target": targets.parse("pesq_raw").to_config()}


def _card(record):
    """A card on disk, beside shipped weights, read as any model's."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.json").write_text(json.dumps(record))
        shutil.copy(pretrained.find("dnn-mse")[1], Path(folder) / "a.weights.h5")
        pretrained.read_target(pretrained.read_card(str(Path(folder) / "a.weights.h5")))


PARSERS = {  # name: (strategy of `_strategies`, function of a value)
    "a row": ("row", lambda record: rows.checked(record, "line 1", Path("/nowhere"))),
    "a loss": ("words", losses.parse),
    "a target": ("words", targets.parse),
    "a JSON flag": ("text", cli.json_object),
    "an STFT": ("stft", Stft.checked),
    "arguments of a network": ("arguments", lambda given: models.with_bins(given, Stft())),
    "a card": ("card", _card),
    "an exported model's card": ("any", running._is_card)}


def _strategies():
    from hypothesis import strategies as st

    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    anything = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
                            max_leaves=6)

    def like(example):
        """Dicts with some keys of an example, whose values are the example's or anything."""
        return st.fixed_dictionaries({}, optional={name: st.just(value) | anything for name, value in example.items()})

    row = {"id": "a", "clean": "c.wav", "speaker": "s", "noise_type": "n", "samples": 16_000, "snr_db": 0.0, "noise": "n.wav", "offset": 0,
           "gain": 1.0, "noisy": "y.wav", "start": 0, "length": 10}
    return {"row": like(row), "card": like(CARD), "stft": like(CARD["stft"]), "any": anything,
            "arguments": st.dictionaries(st.sampled_from(["bins", "units", "context", "x"]), anything, max_size=3),
            "words": st.lists(st.sampled_from(WORDS), max_size=8).map("".join), "text": anything.map(json.dumps) | st.text(max_size=20)}


def asked(name, place):
    """One parser, so many examples."""
    if importlib.util.find_spec("hypothesis") is None:
        return Outcome(skipped="needs Hypothesis: pip install hypothesis")
    import hypothesis

    outcome, (strategy, parse), last = Outcome(), PARSERS[name], []

    def understood(value):
        last[:] = [repr(value)[:200]]
        try:
            parse(value)
        except (UserError, argparse.ArgumentTypeError):
            pass

    test = hypothesis.given(_strategies()[strategy])(understood)
    settings = hypothesis.settings(max_examples=EXAMPLES, deadline=None, database=None, print_blob=False,
                                   suppress_health_check=list(hypothesis.HealthCheck))
    try:
        hypothesis.seed(place.draw.randrange(2 ** 32))(settings(test))()
    except Exception as error:  # the smallest example's
        outcome.traces += 1
        outcome.fails(f"{name}: {last[0]}: {type(error).__name__}: {error}")
    return outcome


def cases(kind, count=None):
    for number, name in enumerate(PARSERS):
        yield Case(kind, number, name, functools.partial(asked, name))
