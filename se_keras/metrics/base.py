"""What every metric shares: its description, the checks before it, and the error of a pair that has no score."""

import functools
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Metric:
    """A metric and what its numbers mean.

    Attributes:
        name: its name in tables, files and on the command line.
        function: (reference, degraded), float `(samples,)` at 16 kHz each, to a float; raises `MetricError`.
        range: (lowest, highest) value.
        scale: what the number is, in words.
        label: metric and scale in a word or two, for figures and tables.
        band: "nb" or "wb" for PESQ, else None.
        package: the package that measures it; None where the code is `source`.
        source: whose code measures it where no package does: this project, or a hash of a module of the user's.
        definition: to be raised when this project's own part in the number changes: kept scores of an older one no longer count.
        higher_is_better: False for a distance.
        measured: names of the metrics that are measured in its place, where it follows from those; empty where it is measured.
        derive: the map from the values of `measured`, in their order.
        requires: modules that it needs beyond requirements.txt.
        needs_reference: False where the clean signal may be None.
    """

    name: str
    function: Callable
    range: tuple[float, float]
    scale: str
    label: str
    band: str | None = None
    package: str | None = None
    source: str = "se_keras"
    definition: int = 1
    higher_is_better: bool = True
    measured: tuple[str, ...] = ()
    derive: Callable | None = None
    requires: tuple[str, ...] = ()
    needs_reference: bool = True

    @property
    def version(self):
        """The stamp of a kept score: name, band, scale, package with its version (or source), definition."""
        package = f"{self.package} {_package_version(self.package)}" if self.package else self.source
        return f"{self.name} | {self.band or 'full band'} | {self.scale} | {package} | definition {self.definition}"


@functools.cache
def _package_version(package):
    return importlib.metadata.version(package)


class MetricError(ValueError):
    """A pair of signals that has no score; the message is the reason, the same text for every pair with the same fault."""


def validate(reference, degraded):
    """Check what every metric of two signals asks of them.

    Args:
        reference, degraded: float `(samples,)` at 16 kHz, full scale at 1.0.

    Raises:
        MetricError: what `validate_wave` refuses in either, or two lengths.
    """
    validate_wave("reference", reference)
    validate_wave("degraded", degraded)
    if len(reference) != len(degraded):
        raise MetricError("reference and degraded signal differ in length")


def validate_wave(name, wave):
    """Check what every metric asks of a signal.

    Args:
        name: "reference" or "degraded", for the message.
        wave: float `(samples,)`.

    Raises:
        MetricError: not one-dimensional, no samples, NaN or infinite ones, or digital silence, against which PESQ, STOI and
            SI-SDR are all undefined.
    """
    if np.ndim(wave) != 1:
        raise MetricError(f"the {name} signal must be mono, of shape (samples,)")
    if not np.isfinite(wave).all():
        raise MetricError(f"NaN or infinite samples in the {name} signal")
    if not np.any(wave):
        raise MetricError(f"the {name} signal is digital silence" if len(wave) else f"the {name} signal is empty")
