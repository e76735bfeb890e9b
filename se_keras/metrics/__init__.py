"""Metrics by name: what each measures, on which scale, by which package; always 16 kHz, always (reference, degraded).

A name with a colon, `package.module:function`, is a function of the user's (`own`).
"""

import importlib.util
import math

from se_keras.errors import UserError
from se_keras.metrics import composite, dnsmos, own, pesq, si_sdr, stoi
from se_keras.metrics.base import Metric, MetricError

EXTRAS = "requirements-extras.txt"
_MOS = (1.0, 5.0)
_DNSMOS = {"package": "speechmos", "requires": ("speechmos", "onnxruntime"), "needs_reference": False}

_METRICS = {metric.name: metric for metric in (
    Metric("pesq_raw", pesq.pesq_raw, pesq.RAW_RANGE, "raw P.862 score", "raw P.862 PESQ", "nb", "pesq",
           measured=("pesq_nb",), derive=pesq.nb_to_raw),
    Metric("pesq_nb", pesq.pesq_nb, tuple(map(pesq.raw_to_nb, pesq.RAW_RANGE)), "MOS-LQO of P.862.1", "PESQ nb", "nb", "pesq"),
    Metric("pesq_wb", pesq.pesq_wb, tuple(map(pesq.raw_to_wb, pesq.RAW_RANGE)), "MOS-LQO of P.862.2", "PESQ wb", "wb", "pesq"),
    Metric("stoi", stoi.stoi, (0.0, 1.0), "mean correlation", "STOI", package="pystoi"),
    Metric("estoi", stoi.estoi, (0.0, 1.0), "mean correlation", "ESTOI", package="pystoi"),
    Metric("si_sdr", si_sdr.si_sdr, (-math.inf, math.inf), "dB", "SI-SDR (dB)"),
    Metric("csig", composite.csig, _MOS, "opinion of the signal", "CSIG",
           measured=("pesq_wb", "llr", "wss"), derive=composite.csig_of),
    Metric("cbak", composite.cbak, _MOS, "opinion of the background", "CBAK",
           measured=("pesq_wb", "wss", "seg_snr"), derive=composite.cbak_of),
    Metric("covl", composite.covl, _MOS, "opinion of the whole", "COVL",
           measured=("pesq_wb", "llr", "wss"), derive=composite.covl_of),
    Metric("llr", composite.llr, (0.0, math.inf), "log-likelihood ratio", "LLR", higher_is_better=False),
    Metric("wss", composite.wss, (0.0, math.inf), "weighted spectral slope distance", "WSS", higher_is_better=False),
    Metric("seg_snr", composite.seg_snr, composite.SEG_SNR_RANGE, "dB", "segmental SNR (dB)"),
    Metric("dnsmos_ovrl", dnsmos.ovrl, _MOS, "predicted MOS of P.835", "DNSMOS OVRL", **_DNSMOS),
    Metric("dnsmos_sig", dnsmos.sig, _MOS, "predicted MOS of P.835", "DNSMOS SIG", **_DNSMOS),
    Metric("dnsmos_bak", dnsmos.bak, _MOS, "predicted MOS of P.835", "DNSMOS BAK", **_DNSMOS),
    Metric("dnsmos_p808", dnsmos.p808, _MOS, "predicted MOS of P.808", "DNSMOS P.808", **_DNSMOS),
)}
NAMES = tuple(_METRICS)  # all that have a name of their own
WITHOUT_REFERENCE = tuple(name for name, metric in _METRICS.items() if not metric.needs_reference)
DEFAULT = ("pesq_raw", "pesq_nb", "pesq_wb", "stoi", "estoi", "si_sdr")  # what is measured where nobody chooses


def get(name):
    """The `Metric` of that name, or of the user's function `package.module:function` (`own.load`).

    Raises:
        UserError: an unknown name, a metric whose package is not installed, a function that cannot be used.
    """
    if ":" in name:
        return own.load(name)
    if name not in _METRICS:
        raise UserError(f"unknown metric {name!r}; known: {', '.join(NAMES)}, and functions of your own as package.module:function")
    metric = _METRICS[name]
    if missing := [module for module in metric.requires if importlib.util.find_spec(module) is None]:
        raise UserError(f"metric {name!r} needs {', '.join(missing)}, which is not installed; pip install -r {EXTRAS}")
    return metric


def label(name):
    """A metric and its scale in a word or two, for figures and tables; of a user's function its name, without importing it."""
    return _METRICS[name].label if name in _METRICS else name


def about(names):
    """{metric: what a report keeps with its numbers: scale, range, higher_is_better, version}."""
    return {metric.name: {"scale": metric.scale, "range": list(metric.range), "higher_is_better": metric.higher_is_better,
                          "version": metric.version} for metric in map(get, names)}


def measured(names):
    """Names of the metrics to be measured for `names`, each once: `pesq_raw` and `pesq_nb` are one run of PESQ."""
    return tuple(dict.fromkeys(part for metric in map(get, names) for part in _parts(metric)))


def _parts(metric):
    return metric.measured or (metric.name,)


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
    row, struck = {}, {}  # struck: {reason: {metric name: None}}, the names in order and each once
    for metric in map(get, names):
        values, reasons = zip(*(outcomes[part] for part in _parts(metric)), strict=True)
        failed = any(reasons)
        row[metric.name] = None if failed else metric.derive(*values) if metric.derive else values[0]
        for reason in filter(None, reasons):
            struck.setdefault(reason, {})[metric.name] = None
    row["error"] = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in struck.items()) or None
    return row


def evaluate(names, reference, degraded):
    """Scores of one pair, here and now, as a row of `result`; `se_keras.scoring.scores` does many, in parallel, and keeps them.

    Raises:
        UserError: an unknown metric.
    """
    return result(names, measure(measured(names), reference, degraded))
