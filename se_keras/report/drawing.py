"""What all figures share: colours, style, and a PNG at the end.

A system has one colour in all figures of a report (`palette`). No figure opens a window or touches pyplot's state, so all
of them work in scripts, notebooks and tests alike.
"""

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from se_keras import files
from se_keras.report.tables import LABELS

# Okabe and Ito's colours, distinct under the common colour deficiencies; black and grey are kept for clean and noisy.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
FIXED = {"clean": "#000000", "noisy": "#7F7F7F"}
STYLE = {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25, "grid.linewidth": 0.6,
         "axes.axisbelow": True, "axes.titlesize": 11, "axes.labelsize": 10, "legend.fontsize": 9, "legend.frameon": False,
         "figure.dpi": 100, "savefig.dpi": 150}
PESQ = LABELS["pesq_raw"]
# Fu, Liao and Tsao, "Learning with learned loss function", IEEE SPL 27 (2020), Table I: their TIMIT test set, mean over five SNRs. The
# curves of their Fig. 2 and 5 are drawn on validation data, and their values are printed nowhere.
LETTER_TABLE_I = {"noisy": (1.995, 0.800), "DNN (MSE)": (2.221, 0.759), "BLSTM (MSE)": (2.467, 0.852),
                  "BLSTM (Quality-Net)": (2.569, 0.848)}  # raw PESQ, STOI
LETTER_TEST_PESQ = {f"{system}, test": LETTER_TABLE_I[system][0] for system in ("BLSTM (MSE)", "BLSTM (Quality-Net)")}


def palette(names):
    """{name: colour}, in order of first appearance; "noisy" is grey and "clean" black wherever they stand."""
    others = [name for name in dict.fromkeys(names) if name not in FIXED]
    return {**FIXED, **{name: COLOURS[number % len(COLOURS)] for number, name in enumerate(others)}}


def new_figure(width, height, rows=1, columns=1, **options):
    """A figure and its axes, in inches, without pyplot: nothing stays open."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def wrapped(label):
    """An axis label in lines that fit beside a low figure: a weighted sum of metrics has a long name."""
    return textwrap.fill(label, 36)


def saved(figure, path):
    """Write a PNG; the path back."""
    with files.replacing(path) as temporary:
        figure.savefig(temporary, format="png")
    return Path(path)


def finite(values):
    values = np.asarray(values, dtype=float)
    return values[np.isfinite(values)]
