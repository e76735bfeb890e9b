"""Losses as weighted sums of terms: `parse("mse:3,si_sdr:0.1")`. One term, or a small family of them, a file.

A term is a function of its own name, (clean, enhanced, own) -> float32 `(batch,)`, less is better, one value an utterance. It hears:

    magnitude   clean, enhanced float32 (batch, frames, bins), own = frame mask bool (batch, frames)
    ear         as magnitude, of the 512/256 STFT (`Stft()`): an enhancer's own where it has that one, else of the waves
    spectrum    clean, enhanced float32 (batch, frames, bins, 2), own = frame mask
    mask        clean as spectrum, the enhancer's mask float32 (batch, frames, bins), own = frame mask; `noisy` as spectrum
    wave        clean, enhanced float32 (batch, samples), zero beyond an utterance's own; own = sample mask bool (batch, samples)
    score       a judge's score float32 (batch, 1), and nothing else

A term that has an argument `noisy` gets the noisy signal in the same form. What stands in brackets behind its name is its option:
"mse[magnitude]"; of a judge's score, the judge: "quality[runs/dnsmos-net]", and without brackets that of --quality-net; of other terms
without a list of choices, what the `check` of their module takes: "ibm_bce[-5dB]". A new term is a file, a line in `TERMS` and a test.
Nothing here imports a model: a judge's score is handed in.
"""

import functools
import importlib
from dataclasses import dataclass

from se_keras import expressions
from se_keras.errors import UserError, check_choice

TERMS = {  # name: (module, what it hears, its option, values of the option; None: a judge, or what the module's `check` takes)
    "mse": ("mse", "magnitude", "compression", ("magnitude", "log1p", "log", "root")),
    "quality": ("quality", "score", "judge", None),
    "quality_linear": ("quality", "score", "judge", None),
    "si_snr": ("si_snr", "wave", None, ()),
    "si_sdr": ("si_snr", "wave", None, ()),
    "hearing_nb": ("hearing", "ear", "equalisation", ("through", "stopped")),
    "hearing_wb": ("hearing", "ear", "equalisation", ("through", "stopped")),
    "pmsqe": ("pmsqe", "ear", None, ()),
    "stoi": ("stoi", "wave", None, ()),
    "estoi": ("stoi", "wave", None, ()),
    "lms": ("lms", "magnitude", "order", ("frames", "memory")),
    "mrstft": ("mrstft", "wave", None, ()),
    "llr": ("llr", "wave", None, ()),
    "mse_wave": ("waves", "wave", None, ()),
    "sdr": ("waves", "wave", None, ()),
    "compressed": ("compressed", "spectrum", "exponent", ("paper", "repository")),
    "ibm_bce": ("ibm", "mask", "criterion", None),
    "ibm_mse": ("ibm", "mask", "criterion", None),
    "ibm_bce_dice": ("ibm", "mask", "criterion", None),
}
KNOWN = ", ".join(TERMS)
# The DCCRN study's couplings by name, (r1 A + r2 B) / (r1 + r2) with its constants; docs/errata.md says where its code does otherwise.
_COUPLED = {"mse+lms": ("mse_wave", 1000, "lms", 1), "mse+si_snr": ("mse_wave", 100, "si_snr", 1),
            "mse+pmsqe": ("mse_wave", 1000, "pmsqe", 1), "si_snr+si_sdr": ("si_snr", 1, "si_sdr", 1),
            "sdr+lms": ("sdr", 1, "lms", 2), "sdr+pmsqe": ("sdr", 1, "pmsqe", 15),
            "si_snr+lms": ("si_snr", 1, "lms", 2), "si_snr+pmsqe": ("si_snr", 1, "pmsqe", 8)}
COUPLINGS = {name: f"{a}:{r1 / (r1 + r2):.6g},{b}:{r2 / (r1 + r2):.6g}" for name, (a, r1, b, r2) in _COUPLED.items()}


@dataclass(frozen=True)
class Term:
    """A term of a loss.

    Attributes:
        name: as typed, with its option: "mse", "mse[magnitude]".
        weight: its factor, above 0.
        hears: "magnitude", "ear", "spectrum", "mask", "wave" or "score".
        options: keyword arguments of its function.
        judge: whose score it is, a Quality-Net's name; None for that of --quality-net.
    """

    name: str
    weight: float
    hears: str
    options: tuple = ()
    judge: str | None = None

    @property
    def function(self):
        """Its function, with its options; Keras is loaded."""
        base = self.name.partition("[")[0]
        return functools.partial(getattr(_module(base), base), **dict(self.options))


@dataclass(frozen=True)
class Objective:
    """A loss, from `parse`.

    Attributes:
        terms: tuple of `Term`.
    """

    terms: tuple[Term, ...]

    @property
    def text(self):
        """What `parse` takes, every weight written out."""
        return expressions.spell(self.weights)

    @property
    def weights(self):
        """{term's name: weight}."""
        return {term.name: term.weight for term in self.terms}

    @property
    def asks_judge(self):
        """Whether a term is the score of --quality-net."""
        return any(term.hears == "score" and term.judge is None for term in self.terms)

    @property
    def judges(self):
        """Names of the judges that terms name in brackets."""
        return list(dict.fromkeys(term.judge for term in self.terms if term.judge is not None))


def _module(base):
    return importlib.import_module(f"se_keras.losses.{TERMS[base][0]}")


def _check(text, base, option):
    try:
        _module(base).check(option)
    except UserError as error:
        raise UserError(f"--loss {text!r}: {base}: {error}") from None


def parse(text, judge=True, compression=None):
    """The `Objective` of an expression such as "mse:1", "mse:3,si_sdr:0.1", "quality:1,mse[magnitude]:0.5".

    Args:
        text: the expression (`expressions`), or the name of one of `COUPLINGS`.
        judge: whether there is a judge, which terms of its score need.
        compression: of an `mse` whose brackets name none; None for its own default, log1p.

    Raises:
        UserError: an unknown term or option, a weight that is not a number above 0, a term that stands twice, a term of a judge's score
            without a judge; the message lists the known terms.
    """
    text = COUPLINGS.get(text, text)
    example = f"terms with weights such as mse:3,si_sdr:0.1; known terms: {KNOWN}"
    terms = []
    for name, weight in expressions.parse(text, "--loss", example, TERMS).items():
        base, bracket, option = name.partition("[")
        if base not in TERMS:
            raise UserError(f"--loss {text!r}: unknown term {base!r}; known terms: {KNOWN}")
        _, hears, key, choices = TERMS[base]
        if bracket:
            if key is None:
                raise UserError(f"--loss {text!r}: {base} has no option; known terms: {KNOWN}")
            option = option.removesuffix("]")
            if choices is not None:
                check_choice(f"{key} of {base}", option, choices)
            elif hears != "score":
                _check(text, base, option)
            elif not option:
                raise UserError(f"--loss {text!r}: {base}[] names no judge; write a Quality-Net's name or run folder in the brackets")
        elif base == "mse" and compression not in (None, "log1p"):
            check_choice("--compression", compression, choices)
            option = compression
        if hears == "score" and not (judge or option):
            raise UserError(f"--loss {text!r}: {base} is a Quality-Net's score, and none is named; add --quality-net RUN|NAME; "
                            f"known terms: {KNOWN}")
        name = f"{base}[{option}]" if option else base
        terms.append(Term(name, weight, hears, judge=option or None) if hears == "score" else
                     Term(name, weight, hears, ((key, option),) if option else ()))
    return Objective(tuple(terms))
