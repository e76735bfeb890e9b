"""What a Quality-Net is trained to predict: a metric, or a weighted sum of several, as a score from 0 to 1.

    target = parse("pesq_raw")                       # or "pesq_wb:0.7,stoi:0.3", or "my.module:function[0,5]"
    row, = Scorer(target.metrics).score([job])
    target.to_score(row)                             # float32, 0 to 1; NaN where a metric failed
    target.from_score(0.5)                           # 2.0, in the metric's own unit

The grammar is that of `expressions`; weights are positive, and divided by their sum.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import numpy as np

from se_keras import expressions, metrics
from se_keras.errors import UserError, check_choice

# Values with score 0 and score 1 where the range is not finite: what speech and enhancers span. Beyond them the score is cut.
SPANS = {"si_sdr": (-10.0, 30.0), "llr": (2.0, 0.0), "wss": (100.0, 0.0)}  # LLR: Hu and Loizou's cut at 2
# MetricGAN's: (PESQ + 0.5) / 5 also of MOS-LQO, where a perfect 4.64 gives 1.03, and STOI as it is; neither is cut.
METRICGAN = {"pesq_raw": (-0.5, 4.5), "pesq_wb": (-0.5, 4.5), "stoi": (0.0, 1.0)}
MAPPINGS = ("range", "metricgan")


@dataclass(frozen=True)
class Term:
    """One metric of a target, and its line to 0..1: (value - low) / (high - low).

    Attributes:
        metric: its name.
        weight: its share, above 0; those of a target sum to 1.
        low, high: values with score 0 and score 1; of a metric of which less is better, low is the larger one.
        clip: whether scores outside 0..1 are cut.
    """

    metric: str
    weight: float
    low: float
    high: float
    clip: bool = True


@dataclass(frozen=True)
class Target:
    """What a Quality-Net predicts, from `parse`; two are equal where text and mapping are.

    Attributes:
        text: what `parse` takes, its weights summing to 1: "stoi", "pesq_wb:0.7,stoi:0.3".
        terms: tuple of `Term`.
    """

    text: str
    terms: tuple[Term, ...]

    @property
    def metrics(self):
        """Names of the metrics to be measured, for `scores.Scorer`."""
        return tuple(term.metric for term in self.terms)

    @property
    def functions(self):
        """{name: hash of its module} of the user's own functions among the metrics: edited, they are another target."""
        return {name: metrics.get(name).source for name in self.metrics if name not in metrics.NAMES}

    @property
    def higher_is_better(self):
        """Whether more is better in the unit of `from_score`; of LLR, say, less is."""
        return len(self.terms) > 1 or self.terms[0].high > self.terms[0].low

    @property
    def label(self):
        """The target and the unit of `from_score`, in words: "raw P.862 PESQ", "STOI", "0.7 PESQ wb + 0.3 STOI, 0 to 1"."""
        if len(self.terms) == 1:
            return metrics.label(self.terms[0].metric)
        return " + ".join(f"{term.weight:.3g} {metrics.label(term.metric)}" for term in self.terms) + ", 0 to 1"

    def to_score(self, values):
        """The score of measured values.

        Args:
            values: {metric name: float, or None where it failed}, such as a row of `Scorer.score`; or arrays of one shape. What
                else it holds does not matter.

        Returns:
            float32, a number or an array: 0 to 1 (with MetricGAN's mapping up to 1.03), NaN where a metric failed.
        """
        return np.float32(sum(term.weight * _to_score(term, values[term.metric]) for term in self.terms))

    def from_score(self, score):
        """Inverse of `to_score` for one metric: the value in its own unit, number or array. A weighted sum stays a score."""
        if len(self.terms) > 1:
            return score
        low, high = self.terms[0].low, self.terms[0].high
        return score * (high - low) + low

    def to_config(self):
        """What JSON can hold and `from_config` takes: the text, and the mapping, which is then independent of a metric's range."""
        return {"text": self.text, "terms": [asdict(term) for term in self.terms]}

    @classmethod
    def from_config(cls, config):
        """The target that `to_config` described, with the mapping that was used then. No metric is looked up.

        Raises:
            UserError: anything else.
        """
        names = {field.name for field in fields(Term)}
        if not (isinstance(config, Mapping) and config.keys() == {"text", "terms"} and isinstance(config["terms"], list) and config["terms"]
                and all(isinstance(term, Mapping) and term.keys() == names for term in config["terms"])):
            raise UserError(f"a target's configuration has text and terms with {', '.join(sorted(names))}; found {config!r}")
        return cls(config["text"], tuple(Term(**term) for term in config["terms"]))


def _to_score(term, value):
    """Score of one metric's values; arrays of floats keep their precision until the sum is rounded to float32."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        value = np.array(value, np.float64)  # None becomes NaN
    score = (value - term.low) / (term.high - term.low)
    return np.clip(score, 0, 1) if term.clip else score


def parse(text, mapping="range"):
    """The `Target` of a metric's name or of a weighted sum, see above.

    Args:
        text: such as "pesq_raw", "pesq_wb:0.7,stoi:0.3", "my.module:function[0,5]".
        mapping: "range": each metric's own range becomes 0..1; SI-SDR -10..30 dB, LLR 2..0, WSS 100..0. "metricgan": (PESQ + 0.5) / 5
            of raw or wide-band PESQ, and STOI as it is.

    Raises:
        UserError: an empty term, a weight that is not a positive number, a metric that stands twice or cannot be had
            (`metrics.get`), an unknown mapping, a metric that MetricGAN's does not know.
    """
    check_choice("mapping", mapping, MAPPINGS)
    weights = expressions.parse(text, "target", "a metric, or several with weights such as pesq_wb:0.7,stoi:0.3", metrics.NAMES)
    metrics.own.trust(weights)  # it was typed
    spans = {name: _span(name, mapping) for name in weights}
    total = sum(weights.values())
    terms = tuple(Term(name, weight / total, *spans[name], clip=mapping == "range") for name, weight in weights.items())
    return Target(terms[0].metric if len(terms) == 1 else expressions.spell({term.metric: term.weight for term in terms}), terms)


def _span(name, mapping):
    """(value with score 0, value with score 1)."""
    metric = metrics.get(name)
    if mapping == "metricgan":
        if name not in METRICGAN:
            raise UserError(f"MetricGAN maps no {name!r}; it knows {', '.join(METRICGAN)}; --mapping range maps every metric")
        return METRICGAN[name]
    if name in SPANS:
        return SPANS[name]
    low, high = map(float, metric.range)
    return (low, high) if metric.higher_is_better else (high, low)
