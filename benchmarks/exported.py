"""Exported models: size, difference from Keras, and computing time a second of audio on one core, by ONNX Runtime and LiteRT."""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import measuring
from se_keras.signals.audio import SAMPLE_RATE

# each network once
MODELS = ("lstm-ears", "lstm-16ms-ears", "blstm-hearing", "dnn-mse", "dccrn-small-ears", "quality-net", "quality-net-ears",
          "quality-net-2018")
SMALLER = ("lstm-ears", "blstm-hearing")  # also with smaller weights
DTLN = {"float32": 0.36 / 8, "int8": 0.27 / 8}  # ms a block of 8 ms: its README, TF-lite, Intel i5-6600K
DURATION_S, RUNS = 10, 5


def run(quick, cores):
    """Rows of the table, one a file."""
    rows = []
    for model in MODELS[:1] if quick else MODELS:
        measuring.progress(f"exporting {model}")
        records, failure = measuring.spawn(__name__, 1, model=model, runs=1 if quick else RUNS)
        rows += [_row(model, record) for record in records]
        if failure:
            rows.append(measuring.row(f"{model}, exported", "real-time factor", remark=failure))
    return rows


def _row(model, record):
    live = record["form"] == "step"
    peer = DTLN.get(record["weights"]) if live else None
    remark = f"{record['mb']:.1f} MB; {record['difference']:.0e} from Keras" + ("; peer: DTLN by TF-lite, as published" if peer else "")
    return measuring.row(f"{model}, {record['form']}, {record['format']}, {record['weights']}", "real-time factor", record["rtf"], peer,
                         aim="<= 0.1" if live else "", remark=remark)


def child(model, runs):
    """In a process of its own, on one core: a record a file, of every form, format and kind of weights."""
    from se_keras import models, pretrained
    from se_keras.export import formats, forms, making

    card = pretrained.read_card(model)
    scores = card["network"] in models.QUALITY_NETWORKS
    holder = pretrained.load_quality_net(model) if scores else pretrained.load_enhancer(model)[0]
    with tempfile.TemporaryDirectory() as folder:
        for name in ("onnx", "litert"):
            for weights in formats.WEIGHTS[name] if model in SMALLER else ("float32",):
                for form in forms.of(holder):
                    path = Path(folder) / f"{form.kind}-{weights}{formats.SUFFIXES[name]}"
                    about = making.make(form, path, name, weights, card, holder)
                    yield {"form": form.kind, "format": name, "weights": weights, "mb": path.stat().st_size / 1e6,
                           "difference": about["difference"], "rtf": _rtf(path, about, runs)}


def _rtf(path, about, runs):
    """Seconds a second of audio: the median of some runs, after one to warm up."""
    from se_keras.export import running

    wave = 0.1 * np.random.default_rng(0).standard_normal(DURATION_S * SAMPLE_RATE).astype(np.float32)
    if "score" in about["outputs"]:
        load = running.load(path)
        call = lambda: load({name: wave[None] for name in about["inputs"]})  # noqa: E731
    else:
        system = running.ExportedSystem(path)
        call = lambda: system.enhance([wave])  # noqa: E731
    took = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        call()
        took.append(time.perf_counter() - start)
    return statistics.median(took[1:]) / DURATION_S
