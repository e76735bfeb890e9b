"""Metrics by name: what each measures, on which scale, by which package; always 16 kHz, always (reference, degraded)."""

import functools
import importlib.metadata
import math
from collections.abc import Callable
from dataclasses import dataclass

from se_keras.errors import UserError
from se_keras.metrics import pesq, si_sdr, stoi
from se_keras.metrics.base import MetricError


@dataclass(frozen=True)
class Metric:
    """A metric and what its numbers mean.

    Attributes:
        name: its name in tables, files and on the command line.
        function: (reference, degraded), float `(samples,)` at 16 kHz each, to a float; raises `MetricError`.
        range: (lowest, highest) value.
        scale: what the number is, in words.
        band: "nb" or "wb" for PESQ, else None.
        package: the package that measures it; None for this one.
        definition: to be raised when this project's own part in the number changes: kept scores of an older one no longer count.
        higher_is_better: True for every metric so far.
        measured: name of the metric that is measured in its place, where it is only another scale of that one.
        derive: the map from the value of `measured`.
    """

    name: str
    function: Callable
    range: tuple[float, float]
    scale: str
    band: str | None = None
    package: str | None = None
    definition: int = 1
    higher_is_better: bool = True
    measured: str | None = None
    derive: Callable | None = None

    @property
    def version(self):
        """The stamp of a kept score: name, band, scale, package with its version, definition."""
        package = f"{self.package} {_package_version(self.package)}" if self.package else "se_keras"
        return f"{self.name} | {self.band or 'full band'} | {self.scale} | {package} | definition {self.definition}"


@functools.cache
def _package_version(package):
    return importlib.metadata.version(package)


_METRICS = {metric.name: metric for metric in (
    Metric("pesq_raw", pesq.pesq_raw, pesq.RAW_RANGE, "raw P.862 score", "nb", "pesq", measured="pesq_nb", derive=pesq.nb_to_raw),
    Metric("pesq_nb", pesq.pesq_nb, tuple(map(pesq.raw_to_nb, pesq.RAW_RANGE)), "MOS-LQO of P.862.1", "nb", "pesq"),
    Metric("pesq_wb", pesq.pesq_wb, tuple(map(pesq.raw_to_wb, pesq.RAW_RANGE)), "MOS-LQO of P.862.2", "wb", "pesq"),
    Metric("stoi", stoi.stoi, (0.0, 1.0), "mean correlation", package="pystoi"),
    Metric("estoi", stoi.estoi, (0.0, 1.0), "mean correlation", package="pystoi"),
    Metric("si_sdr", si_sdr.si_sdr, (-math.inf, math.inf), "dB"),
)}
NAMES = tuple(_METRICS)


def get(name):
    """The `Metric` of that name.

    Raises:
        UserError: an unknown name.
    """
    if name not in _METRICS:
        raise UserError(f"unknown metric {name!r}; known: {', '.join(NAMES)}")
    return _METRICS[name]


def measured(names):
    """Names of the metrics to be measured for `names`, each once: `pesq_raw` and `pesq_nb` are one run of PESQ."""
    return tuple(dict.fromkeys(metric.measured or metric.name for metric in map(get, names)))


def measure(names, reference, degraded):
    """Outcomes {name: (value, None)} or {name: (None, reason)} of metrics from `measured`."""
    outcomes = {}
    for name in names:
        try:
            value = get(name).function(reference, degraded)
            outcomes[name] = (None, "the metric gave NaN") if math.isnan(value) else (value, None)
        except MetricError as error:
            outcomes[name] = (None, str(error))
    return outcomes


def result(names, outcomes):
    """A row of scores from the outcomes of `measure`.

    Returns:
        {metric name: float, or None where it failed} in the order of `names`, and "error": None, or every reason with the names
        of the metrics it struck, such as "pesq_raw, pesq_wb: PESQ finds no speech (NoUtterancesError)".
    """
    row, reasons = {}, {}
    for metric in map(get, names):
        value, reason = outcomes[metric.measured or metric.name]
        row[metric.name] = metric.derive(value) if metric.derive and value is not None else value
        if reason is not None:
            reasons.setdefault(reason, []).append(metric.name)
    row["error"] = "; ".join(f"{', '.join(struck)}: {reason}" for reason, struck in reasons.items()) or None
    return row


def evaluate(names, reference, degraded):
    """Scores of one pair, here and now, as a row of `result`; `se_keras.scores` does many, in parallel, and keeps them.

    Raises:
        UserError: an unknown metric.
    """
    return result(names, measure(measured(names), reference, degraded))
