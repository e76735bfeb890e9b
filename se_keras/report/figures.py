"""The report's figures: plain arrays or score rows in, one PNG out, its path back.

A system has one colour in all figures of a report (`palette`). No figure opens a window or touches pyplot's state, so all
of them work in scripts, notebooks and tests alike.
"""

import itertools
import textwrap
from pathlib import Path

import matplotlib
import matplotlib.lines
import matplotlib.ticker
import numpy as np
import scipy.signal
from matplotlib.figure import Figure

from se_keras import files
from se_keras.report.statistics import agreement, cluster_bootstrap
from se_keras.report.tables import LABELS, paired, snr_labels

# Okabe and Ito's colours, distinct under the common colour deficiencies; black and grey are kept for clean and noisy.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
_FIXED = {"clean": "#000000", "noisy": "#7F7F7F"}
_STYLE = {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25, "grid.linewidth": 0.6,
          "axes.axisbelow": True, "axes.titlesize": 11, "axes.labelsize": 10, "legend.fontsize": 9, "legend.frameon": False,
          "figure.dpi": 100, "savefig.dpi": 150}
_PESQ = LABELS["pesq_raw"]
# Fu, Liao and Tsao, "Learning with learned loss function", IEEE SPL 27 (2020), Table I: their TIMIT test set, mean over five SNRs. The
# curves of their Fig. 2 and 5 are drawn on validation data, and their values are printed nowhere.
LETTER_TABLE_I = {"noisy": (1.995, 0.800), "DNN (MSE)": (2.221, 0.759), "BLSTM (MSE)": (2.467, 0.852),
                  "BLSTM (Quality-Net)": (2.569, 0.848)}  # raw PESQ, STOI
LETTER_TEST_PESQ = {f"{system}, test": LETTER_TABLE_I[system][0] for system in ("BLSTM (MSE)", "BLSTM (Quality-Net)")}
_LETTER_NAMES = {"noisy": "noisy", "dnn-mse": "DNN (MSE)", "blstm-mse": "BLSTM (MSE)", "blstm-qnet": "BLSTM (Quality-Net)"}
_ITERATION = "Iteration (updates of the enhancer)"


def palette(names):
    """{name: colour}, in order of first appearance; "noisy" is grey and "clean" black wherever they stand."""
    others = [name for name in dict.fromkeys(names) if name not in _FIXED]
    return {**_FIXED, **{name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(others)}}


def label_histogram(labels, path, colours=None, label=_PESQ):
    """Histogram of true scores: what Quality-Net learns from, or is tested on.

    Args:
        labels: {name: scores `(n,)`}, such as noisy, enhanced, clean; missing values are left out.
        path: of the PNG.
        colours: `palette` of the report.
        label: of the score, with its unit.
    """
    colours = colours or palette(labels)
    labels = {name: _finite(values) for name, values in labels.items()}
    every = np.concatenate(list(labels.values()))
    width = next((width for width in (0.02, 0.1, 1.0) if np.ptp(every) <= 50 * width), np.ptp(every) / 50)
    edges = np.arange(np.floor(every.min() / width) * width, every.max() + width, width)
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(6.4, 4.0)
        for name, values in labels.items():
            axes.hist(values, edges, histtype="stepfilled", alpha=0.18, color=colours[name])
            axes.hist(values, edges, histtype="step", linewidth=1.6, color=colours[name],
                      label=f"{name}: mean {values.mean():.2f}, n = {len(values):,}")
        axes.set(xlabel=label, ylabel=f"Utterances per {width:g}")
        figure.legend(loc="outside upper center", ncols=min(2, len(labels)))
        return _save(figure, path)


def predicted_against_true(pairs, path, colours=None, max_points=4000, label=_PESQ, contradictory=None):
    """Scatter of predicted over true scores, one panel a kind of speech, with LCC, SRCC and RMSE in the legend.

    Args:
        pairs: {name: (true `(n,)`, predicted `(n,)`)}; pairs with a missing value are left out.
        path: of the PNG.
        colours: `palette` of the report.
        max_points: points drawn a panel, evenly spaced in the order given; the numbers are of all.
        label: of the score, with its unit.
        contradictory: {name: bool `(n,)`}: pairs whose true score contradicts another metric (`tables.contradictory`). They are drawn as
            crosses, each one, and the numbers are given with and without them.
    """
    colours = colours or palette(pairs)
    values = {name: np.asarray(pair, dtype=float) for name, pair in pairs.items()}
    every = _finite(np.concatenate([pair.ravel() for pair in values.values()]))
    limits = (every.min() - 0.1, every.max() + 0.1)
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(3.7 * len(pairs) + 0.4, 4.3, columns=len(pairs), sharey=True)
        for panel, (name, (true, predicted)) in zip(np.atleast_1d(axes), values.items(), strict=True):
            odd = np.zeros(len(true), bool) if contradictory is None else np.asarray(contradictory.get(name, np.zeros(len(true), bool)))
            odd = odd & np.isfinite(true) & np.isfinite(predicted)
            said = _agreement(agreement(true, predicted))
            plain = np.flatnonzero(~odd)
            plain = plain[::max(1, len(true) // max_points)]
            panel.plot(limits, limits, color="black", linewidth=0.8, linestyle="--")
            panel.scatter(true[plain], predicted[plain], s=7, alpha=0.35, linewidths=0, color=colours[name], label=said)
            if odd.any():
                without = _agreement(agreement(true[~odd], predicted[~odd]))
                panel.scatter(true[odd], predicted[odd], s=36, marker="x", linewidths=1.4, color="black",
                              label=f"without x (metrics\ncontradict each other):\n{without}")
            panel.set(xlim=limits, ylim=limits, box_aspect=1, title=name, xlabel=_wrap(f"True {label}"))
            panel.legend(loc="upper left", handlelength=0, handletextpad=0, markerscale=0)
        np.atleast_1d(axes)[0].set_ylabel(_wrap(f"Predicted {label}"))
        return _save(figure, path)


def judges(pairs, systems, path, colours=None, labels=None, max_points=4000):
    """Scatter of predicted over true scores, one panel a judge, every system in its colour: who hears what?

    Args:
        pairs: {judge: (true `(n,)`, predicted `(n,)`)}; pairs with a missing value are left out.
        systems: `(n,)`, which system each pair is of.
        path: of the PNG.
        colours: `palette` of the report.
        labels: {judge: the score that it predicts, with its unit}.
        max_points: points drawn a panel, evenly spaced in the order given; the numbers are of all.
    """
    systems = np.asarray(systems).astype(str)
    names = list(dict.fromkeys(systems))
    colours = colours or palette(names)
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(3.7 * len(pairs) + 0.4, 4.3, columns=len(pairs))
        for panel, (judge, pair) in zip(np.atleast_1d(axes), pairs.items(), strict=True):
            true, predicted = (np.asarray(values, dtype=float) for values in pair)
            limits = (_finite(np.concatenate([true, predicted])).min() - 0.1, _finite(np.concatenate([true, predicted])).max() + 0.1)
            panel.plot(limits, limits, color="black", linewidth=0.8, linestyle="--")
            drawn = np.arange(len(true)) % max(1, len(true) // max_points) == 0
            for name in names:
                chosen = drawn & (systems == name)
                panel.scatter(true[chosen], predicted[chosen], s=7, alpha=0.35, linewidths=0, color=colours[name], label=name)
            panel.text(0.97, 0.03, _agreement(agreement(true, predicted)), transform=panel.transAxes, ha="right", va="bottom", fontsize=8)
            label = (labels or {}).get(judge, "score")
            panel.set(xlim=limits, ylim=limits, box_aspect=1, title=judge, xlabel=_wrap(f"True {label}"), ylabel=_wrap(f"Predicted {label}"))
        np.atleast_1d(axes)[0].legend(loc="upper left", markerscale=3)
        return _save(figure, path)


def pareto(runs, path):
    """What a gain in raw PESQ costs: SI-SDR, DNSMOS OVRL and CSIG against it, one point a run, all minus the first one, the start.

    Args:
        runs: DataFrame with the columns name, pesq_raw, si_sdr, dnsmos_ovrl and csig, means on validation.
        path: of the PNG.
    """
    gained = runs["pesq_raw"] - runs["pesq_raw"].iloc[0]
    costs = {"si_sdr": "SI-SDR (dB)", "dnsmos_ovrl": "DNSMOS OVRL", "csig": "CSIG"}
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(3.5 * len(costs) + 0.4, 3.6, columns=len(costs), sharex=True)
        for panel, (name, label) in zip(axes, costs.items(), strict=True):
            change = runs[name] - runs[name].iloc[0]
            panel.axhline(0, color="black", linewidth=0.8, linestyle="--")
            panel.scatter(gained, change, s=26, color=_COLOURS[1])
            for text, x, y in zip(runs["name"], gained, change, strict=True):
                panel.annotate(text, (x, y), textcoords="offset points", xytext=(4, 4), fontsize=8)
            panel.set(xlabel="Raw PESQ gained", ylabel=f"{label}, change")
        return _save(figure, path)


def _agreement(numbers):
    return f"LCC {numbers['lcc']:.3f}\nSRCC {numbers['srcc']:.3f}\nRMSE {numbers['rmse']:.3f}\nn = {numbers['count']:,}"


def learning_curve(history, path):
    """Training and validation against the epoch, from a run's history.csv.

    Args:
        history: DataFrame with the columns epoch, loss and any number of valid_* (or val_*) ones. The validation loss stands
            beside the training loss; every other validation column gets a panel below.
        path: of the PNG.
    """
    validation = {name: name.split("_", 1)[1] for name in history.columns if name.startswith(("valid_", "val_"))}
    panels = [{name: label for name, label in {"loss": "training", **validation}.items() if "loss" in name}]
    panels += [{name: label} for name, label in validation.items() if "loss" not in name]
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(6.4, 2.2 * len(panels) + 1.2, rows=len(panels), sharex=True)
        for panel, names in zip(np.atleast_1d(axes), panels, strict=True):
            for name in names:
                rows = history[["epoch", name]].dropna()
                label, colour = ("training objective", _COLOURS[0]) if name == "loss" else ("validation", _COLOURS[1])
                panel.plot(rows["epoch"], rows[name], marker="o", markersize=3, label=label, color=colour)
            label = next(iter(names.values()))
            panel.set_ylabel("Loss" if "loss" in names else LABELS.get(label, label.upper() if len(label) < 5 else label))
            if "loss" in names and (history[list(names)].min() > 0).all():
                panel.set_yscale("log")
                panel.yaxis.set_major_formatter(matplotlib.ticker.ScalarFormatter())
                panel.yaxis.set_minor_formatter(matplotlib.ticker.ScalarFormatter())
        np.atleast_1d(axes)[0].legend()
        np.atleast_1d(axes)[-1].set_xlabel("Epoch")
        np.atleast_1d(axes)[0].set_title("Learning curve")
        return _save(figure, path)


def quality_net_learning_curve(history, path):
    """A Quality-Net's training: errors above, correlations below, against its updates, from a run's history.csv.

    Args:
        history: DataFrame with update (or epoch), loss, and what `judges.surrogate.QualityValidation` gives: valid_loss, valid_lcc,
            valid_srcc, valid_rmse, these three also with _noisy and _enhanced, and valid_lcc_change. What is missing is not drawn.
        path: of the PNG.
    """
    speech = {"": ("all validation speech", "black"), "_noisy": ("noisy", _FIXED["noisy"]), "_enhanced": ("enhanced", _COLOURS[0])}
    lines = [(0, "loss", "training objective", {"color": _COLOURS[1], "linestyle": ":"}),
             (0, "valid_loss", "validation loss: squared error of the score", {"color": _COLOURS[1]})]
    lines += [(0, f"valid_rmse{kind}", f"RMSE, {said}", {"color": colour}) for kind, (said, colour) in speech.items()]
    for name, style in (("lcc", "-"), ("srcc", "--")):
        lines += [(1, f"valid_{name}{kind}", f"{name.upper()}, {said}", {"color": colour, "linestyle": style})
                  for kind, (said, colour) in speech.items()]
    lines.append((1, "valid_lcc_change", "LCC of changes of a mask", {"color": _COLOURS[2]}))
    along = "update" if "update" in history else "epoch"
    with matplotlib.rc_context(_STYLE):
        figure, panels = _figure(8.0, 6.4, rows=2, sharex=True)
        for place, name, said, style in lines:
            if name in history and history[name].notna().any():
                rows = history[[along, name]].dropna()
                panels[place].plot(rows[along], rows[name], marker="o", markersize=3, label=said, **style)
        positive = [line.get_ydata().min() > 0 for line in panels[0].lines]
        if positive and all(positive):
            panels[0].set_yscale("log")
            panels[0].yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
        panels[0].set(ylabel="Error", title="Quality-Net's learning curve")
        panels[1].set(ylabel="Correlation", xlabel="Updates" if along == "update" else "Epoch")
        for panel in panels:
            panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        return _save(figure, path)


def true_by_iteration(runs, path, colours=None, last=None, label=_PESQ, letter=None):
    """The letter's Fig. 2: true validation score against iteration, fine-tuning through Quality-Net beside going on with MSE.

    Args:
        runs: {name: (iteration `(n,)`, mean true score on validation `(n,)`)}.
        path: of the PNG.
        colours: `palette` of the report.
        last: last iteration shown; None for all (the letter shows 30).
        label: of the score, with its unit.
        letter: {name: value or (iteration, value)} of the letter's own, to be drawn beside, such as `LETTER_TEST_PESQ`.
    """
    colours = colours or palette(runs)
    last = max(np.max(iteration) for iteration, _ in runs.values()) if last is None else last
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(6.0, 3.8)
        for (name, (iteration, pesq)), marker in zip(runs.items(), _markers(len(runs)), strict=True):
            iteration, pesq = np.asarray(iteration), np.asarray(pesq, dtype=float)
            shown = (iteration <= last) & np.isfinite(pesq)
            axes.plot(iteration[shown], pesq[shown], marker=marker, markersize=4.5, color=colours[name], label=name)
        _draw_letter(axes, letter)
        axes.set(xlabel=_ITERATION, ylabel=_wrap(f"True {label}, validation"), title="Fine-tuning", xlim=(-0.02 * last, 1.02 * last))
        axes.legend()
        return _save(figure, path)


def predicted_and_true_by_iteration(iteration, predicted, true, path, best=None, label=_PESQ, letter=None):
    """The letter's Fig. 5: predicted and true score against iteration; where they part, Quality-Net is being fooled.

    Args:
        iteration: `(n,)`, updates of the enhancer.
        predicted, true: `(n,)`, mean score on validation.
        path: of the PNG.
        best: iteration that was kept; by default that of the highest true score.
        label: of the score, with its unit.
        letter: as `true_by_iteration`.
    """
    iteration, predicted, true = (np.asarray(values, dtype=float) for values in (iteration, predicted, true))
    best = iteration[np.nanargmax(true)] if best is None else best
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(6.4, 3.8)
        for values, name, line in ((predicted, "predicted by Quality-Net", {"color": _COLOURS[1], "linestyle": "--"}),
                                   (true, "true", {"color": _COLOURS[0]})):
            given = np.isfinite(values)
            axes.plot(iteration[given], values[given], label=name, **line)
        value = true[np.argmin(np.abs(iteration - best))]
        axes.plot([best], [value], "o", color=_COLOURS[0], label=f"kept: iteration {best:g}, true {value:.2f}")
        _draw_letter(axes, letter)
        axes.set(xlabel=_ITERATION, ylabel=_wrap(f"{label}, validation"), title="Predicted and true score", xlim=(0, None))
        axes.legend()
        return _save(figure, path)


def predicted_and_true_over_runs(runs, path, colours=None, label=_PESQ):
    """The letter's Fig. 5 for several runs, a panel each on common axes: predicted dashed, true solid.

    Args:
        runs: {name: (iteration, predicted, true)}, `(n,)` each, mean score on validation.
        path: of the PNG.
        colours: `palette` of the report.
        label: of the score, with its unit.
    """
    colours = colours or palette(runs)
    columns = min(len(runs), 3)
    rows = -(-len(runs) // columns)
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(3.0 * columns + 0.6, 2.5 * rows + 0.5, rows=rows, columns=columns, sharex=True, sharey=True)
        panels = list(np.atleast_1d(axes).flat)
        for panel, (name, line) in zip(panels, runs.items(), strict=False):
            iteration, predicted, true = (np.asarray(values, dtype=float) for values in line)
            for values, style in ((true, "-"), (predicted, "--")):
                given = np.isfinite(values)
                panel.plot(iteration[given], values[given], color=colours[name], linestyle=style)
            if np.isfinite(true[0]):
                panel.axhline(true[0], color="black", linewidth=0.6)
            panel.set_title(name, loc="left", fontsize=10)
        panels[0].set_xlim(0, None)  # shared, so only when all runs are drawn: it ends the autoscaling
        for panel in panels[len(runs):]:
            panel.set_visible(False)
        lines = [matplotlib.lines.Line2D([], [], color="black", linestyle=style, linewidth=width, label=said)
                 for style, width, said in (("-", 1.5, "true"), ("--", 1.5, "predicted by Quality-Net"), ("-", 0.6, "true at the start"))]
        figure.legend(handles=lines, loc="outside upper center", ncols=3)
        figure.supxlabel(_ITERATION, fontsize=10)
        figure.supylabel(_wrap(f"{label}, validation"), fontsize=10, multialignment="center")
        return _save(figure, path)


def spectrograms(waves, path, sample_rate=16_000, title="", range_db=70):
    """Spectrograms of one utterance on one scale: 0 dB is the loudest bin of all the waves.

    Args:
        waves: {name: float `(samples,)`}, such as clean, noisy and the systems.
        path: of the PNG.
        sample_rate: Hz.
        title: over the panels.
        range_db: lowest level shown, below 0 dB.
    """
    transform = scipy.signal.ShortTimeFFT(scipy.signal.windows.hann(512, sym=False), hop=128, fs=sample_rate)
    levels = {name: np.abs(transform.stft(np.asarray(wave, dtype=float))) for name, wave in waves.items()}
    loudest = max(level.max() for level in levels.values()) or 1.0
    with matplotlib.rc_context({**_STYLE, "axes.grid": False}):
        figure, axes = _figure(8.0, 1.75 * len(waves) + 0.7, rows=len(waves), sharex=True, sharey=True)
        for panel, (name, level) in zip(np.atleast_1d(axes), levels.items(), strict=True):
            level_db = 20 * np.log10(np.maximum(level / loudest, 10 ** (-range_db / 20)))  # (bins, frames)
            image = panel.imshow(level_db, origin="lower", aspect="auto", cmap="magma", vmin=-range_db, vmax=0,
                                 extent=(0, len(waves[name]) / sample_rate, 0, sample_rate / 2000))
            panel.set_title(name, loc="left", fontsize=10)
        figure.supylabel("Frequency (kHz)", fontsize=10)
        np.atleast_1d(axes)[-1].set_xlabel("Time (s)")
        figure.colorbar(image, ax=list(np.atleast_1d(axes)), label="Level (dB re loudest bin)", pad=0.02)
        figure.suptitle(title, fontsize=11)
        return _save(figure, path)


def gain_bars(scores, path, metric="pesq_raw", baseline="noisy", colours=None):
    """Mean gain over `baseline`, per SNR and per noise type, with 95% intervals over clean utterances.

    Args:
        scores: score rows (`tables.read_scores`) that hold the baseline and at least one other system.
        path: of the PNG.
        metric: name of a metric's column.
        baseline: the system that the others are measured against.
        colours: `palette` of the report.
    """
    table, _ = paired(scores, metric)
    colours = colours or palette(table.columns)
    systems = [system for system in table.columns if system != baseline]
    utterances = scores.drop_duplicates("id").set_index("id")
    utterances = utterances.assign(snr=snr_labels(utterances["snr_db"])).loc[table.index]
    snrs = sorted(set(utterances["snr"]) - {""}, key=lambda label: float(label.split()[0]))
    groups = [("snr", snrs), ("noise_type", sorted(utterances["noise_type"].unique()))]
    groups = [(column, labels) for column, labels in groups if labels]
    with matplotlib.rc_context({**_STYLE, "axes.grid.axis": "y"}):
        figure, axes = _figure(5.2 * len(groups), 4.0, columns=len(groups), sharey=True)
        for panel, (column, labels) in zip(np.atleast_1d(axes), groups, strict=True):
            width = 0.8 / len(systems)
            for number, system in enumerate(systems):
                gains = utterances.assign(gain=table[system] - table[baseline])
                by_group = gains.groupby(column)
                intervals = [cluster_bootstrap(part["gain"], part["clean"]) for part in map(by_group.get_group, labels)]
                means = np.array([interval.mean for interval in intervals])
                spread = np.abs(np.array([[interval.low, interval.high] for interval in intervals]).T - means)
                panel.bar(np.arange(len(labels)) + (number - (len(systems) - 1) / 2) * width, means, 0.92 * width, label=system,
                          color=colours[system], yerr=np.nan_to_num(spread), error_kw={"elinewidth": 0.9, "capsize": 2})
            panel.axhline(0, color="black", linewidth=0.8)
            turn = 20 if max(map(len, labels)) * len(labels) > 40 else 0
            panel.set_xticks(np.arange(len(labels)), labels, rotation=turn, ha="right" if turn else "center")
            panel.set(xlabel="SNR" if column == "snr" else "Noise type")
        np.atleast_1d(axes)[0].set_ylabel(f"Gain in {LABELS.get(metric, metric)}\nover {baseline}")
        figure.legend(*np.atleast_1d(axes)[0].get_legend_handles_labels(), loc="outside upper center", ncols=min(4, len(systems)))
        return _save(figure, path)


def beside_the_letter(averages, path, names=None):
    """Raw PESQ and STOI of the letter's Table I beside ours. The corpora differ (theirs is TIMIT), so gains compare, levels do not.

    Args:
        averages: {system: {label of a metric (`tables.LABELS`): mean over the test set}}.
        path: of the PNG.
        names: {our system: system of `LETTER_TABLE_I`}; by default those of the shipped models.
    """
    names = {ours: theirs for ours, theirs in (names or _LETTER_NAMES).items() if ours in averages}
    with matplotlib.rc_context({**_STYLE, "axes.grid.axis": "y"}):
        figure, panels = _figure(9.0, 3.6, columns=2)
        for place, (panel, metric) in enumerate(zip(panels, ("pesq_raw", "stoi"), strict=True)):
            sides = (("the letter, TIMIT", [LETTER_TABLE_I[theirs][place] for theirs in names.values()], _FIXED["noisy"], -0.2),
                     ("here", [averages[ours][LABELS[metric]] for ours in names], _COLOURS[0], 0.2))
            for said, values, colour, shift in sides:
                bars = panel.bar(np.arange(len(names)) + shift, values, 0.37, color=colour, label=said)
                panel.bar_label(bars, fmt="%.3f", fontsize=8, padding=1)
            panel.set_xticks(np.arange(len(names)), [theirs.replace(" (", "\n(") for theirs in names.values()])
            panel.set(ylabel=LABELS[metric], ylim=(0, (3.2, 1.05)[place]))
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
        return _save(figure, path)


def _draw_letter(axes, letter):
    """The letter's own values on axes of scores against iteration: a number as a level, a pair of arrays as a line."""
    for (name, value), style in zip((letter or {}).items(), itertools.cycle((":", "-.", (0, (5, 1, 1, 1, 1, 1)))), strict=False):
        if np.ndim(value):
            axes.plot(*value, color="black", linestyle=style, linewidth=1.0, label=f"the letter's {name}")
        else:
            axes.axhline(value, color="black", linestyle=style, linewidth=1.0, label=f"the letter's {name}: {value:g}")


def _figure(width, height, rows=1, columns=1, **options):
    """A figure and its axes, in inches, without pyplot: nothing stays open."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def _wrap(label):
    """An axis label in lines that fit beside a low figure: a weighted sum of metrics has a long name."""
    return textwrap.fill(label, 36)


def _save(figure, path):
    """Write a PNG; the path back."""
    with files.replacing(path) as temporary:
        figure.savefig(temporary, format="png")
    return Path(path)


def _finite(values):
    values = np.asarray(values, dtype=float)
    return values[np.isfinite(values)]


def _markers(number):
    return [("o", "s", "^", "D", "v", "P", "X")[index % 7] for index in range(number)]
