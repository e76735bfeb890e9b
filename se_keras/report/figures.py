"""Figures of scores: arrays or score rows in, one PNG out, its path back."""

import matplotlib
import numpy as np
import scipy.signal

from se_keras.report import gains
from se_keras.report.drawing import COLOURS, FIXED, LETTER_TABLE_I, PESQ, STYLE, finite, new_figure, palette, saved, wrapped
from se_keras.report.statistics import agreement
from se_keras.report.tables import LABELS

_LETTER_NAMES = {"noisy": "noisy", "dnn-mse": "DNN (MSE)", "blstm-mse": "BLSTM (MSE)", "blstm-qnet": "BLSTM (Quality-Net)"}


def label_histogram(labels, path, colours=None, label=PESQ):
    """Histogram of true scores: what Quality-Net learns from, or is tested on.

    Args:
        labels: {name: scores `(n,)`}, such as noisy, enhanced, clean; missing values are left out.
        path: of the PNG.
        colours: `palette` of the report.
        label: of the score, with its unit.
    """
    colours = colours or palette(labels)
    labels = {name: finite(values) for name, values in labels.items()}
    every = np.concatenate(list(labels.values()))
    width = next((width for width in (0.02, 0.1, 1.0) if np.ptp(every) <= 50 * width), np.ptp(every) / 50)
    edges = np.arange(np.floor(every.min() / width) * width, every.max() + width, width)
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(6.4, 4.0)
        for name, values in labels.items():
            axes.hist(values, edges, histtype="stepfilled", alpha=0.18, color=colours[name])
            axes.hist(values, edges, histtype="step", linewidth=1.6, color=colours[name],
                      label=f"{name}: mean {values.mean():.2f}, n = {len(values):,}")
        axes.set(xlabel=label, ylabel=f"Utterances per {width:g}")
        figure.legend(loc="outside upper center", ncols=min(2, len(labels)))
        return saved(figure, path)


def predicted_against_true(pairs, path, colours=None, max_points=4000, label=PESQ, contradictory=None):
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
    every = finite(np.concatenate([pair.ravel() for pair in values.values()]))
    limits = (every.min() - 0.1, every.max() + 0.1)
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(3.7 * len(pairs) + 0.4, 4.3, columns=len(pairs), sharey=True)
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
            panel.set(xlim=limits, ylim=limits, box_aspect=1, title=name, xlabel=wrapped(f"True {label}"))
            panel.legend(loc="upper left", handlelength=0, handletextpad=0, markerscale=0)
        np.atleast_1d(axes)[0].set_ylabel(wrapped(f"Predicted {label}"))
        return saved(figure, path)


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
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(3.7 * len(pairs) + 0.4, 4.3, columns=len(pairs))
        for panel, (judge, pair) in zip(np.atleast_1d(axes), pairs.items(), strict=True):
            true, predicted = (np.asarray(values, dtype=float) for values in pair)
            limits = (finite(np.concatenate([true, predicted])).min() - 0.1, finite(np.concatenate([true, predicted])).max() + 0.1)
            panel.plot(limits, limits, color="black", linewidth=0.8, linestyle="--")
            drawn = np.arange(len(true)) % max(1, len(true) // max_points) == 0
            for name in names:
                chosen = drawn & (systems == name)
                panel.scatter(true[chosen], predicted[chosen], s=7, alpha=0.35, linewidths=0, color=colours[name], label=name)
            panel.text(0.97, 0.03, _agreement(agreement(true, predicted)), transform=panel.transAxes, ha="right", va="bottom", fontsize=8)
            label = (labels or {}).get(judge, "score")
            panel.set(xlim=limits, ylim=limits, box_aspect=1, title=judge)
            panel.set(xlabel=wrapped(f"True {label}"), ylabel=wrapped(f"Predicted {label}"))
        np.atleast_1d(axes)[0].legend(loc="upper left", markerscale=3)
        return saved(figure, path)


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
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure, axes = new_figure(8.0, 1.75 * len(waves) + 0.7, rows=len(waves), sharex=True, sharey=True)
        for panel, (name, level) in zip(np.atleast_1d(axes), levels.items(), strict=True):
            level_db = 20 * np.log10(np.maximum(level / loudest, 10 ** (-range_db / 20)))  # (bins, frames)
            image = panel.imshow(level_db, origin="lower", aspect="auto", cmap="magma", vmin=-range_db, vmax=0,
                                 extent=(0, len(waves[name]) / sample_rate, 0, sample_rate / 2000))
            panel.set_title(name, loc="left", fontsize=10)
        figure.supylabel("Frequency (kHz)", fontsize=10)
        np.atleast_1d(axes)[-1].set_xlabel("Time (s)")
        figure.colorbar(image, ax=list(np.atleast_1d(axes)), label="Level (dB re loudest bin)", pad=0.02)
        figure.suptitle(title, fontsize=11)
        return saved(figure, path)


def gain_bars(scores, path, metric="pesq_raw", baseline="noisy", colours=None):
    """Mean gain over `baseline`, per SNR and per noise type, with 95% intervals over clean utterances.

    Args:
        scores: score rows (`tables.read_scores`) that hold the baseline and at least one other system.
        path: of the PNG.
        metric: name of a metric's column.
        baseline: the system that the others are measured against.
        colours: `palette` of the report.
    """
    groups = gains.by_condition(scores, metric, baseline)
    systems = [name for name in scores["system"].unique() if name != baseline]
    colours = colours or palette(scores["system"].unique())
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "y"}):
        figure, axes = new_figure(5.2 * len(groups), 4.0, columns=len(groups), sharey=True)
        for panel, (column, intervals) in zip(np.atleast_1d(axes), groups.items(), strict=True):
            width, labels = 0.8 / len(systems), list(intervals)
            for number, system in enumerate(systems):
                of_system = [intervals[label][system] for label in labels]
                means = np.array([interval.mean for interval in of_system])
                spread = np.abs(np.array([[interval.low, interval.high] for interval in of_system]).T - means)
                panel.bar(np.arange(len(labels)) + (number - (len(systems) - 1) / 2) * width, means, 0.92 * width, label=system,
                          color=colours[system], yerr=np.nan_to_num(spread), error_kw={"elinewidth": 0.9, "capsize": 2})
            panel.axhline(0, color="black", linewidth=0.8)
            turn = 20 if max(map(len, labels)) * len(labels) > 40 else 0
            panel.set_xticks(np.arange(len(labels)), labels, rotation=turn, ha="right" if turn else "center")
            panel.set(xlabel="SNR" if column == "snr" else "Noise type")
        np.atleast_1d(axes)[0].set_ylabel(f"Gain in {LABELS.get(metric, metric)}\nover {baseline}")
        figure.legend(*np.atleast_1d(axes)[0].get_legend_handles_labels(), loc="outside upper center", ncols=min(4, len(systems)))
        return saved(figure, path)


def beside_the_letter(averages, path, names=None):
    """Raw PESQ and STOI of the letter's Table I beside ours. The corpora differ (theirs is TIMIT), so gains compare, levels do not.

    Args:
        averages: {system: {label of a metric (`tables.LABELS`): mean over the test set}}.
        path: of the PNG.
        names: {our system: system of `LETTER_TABLE_I`}; by default those of the shipped models.
    """
    names = {ours: theirs for ours, theirs in (names or _LETTER_NAMES).items() if ours in averages}
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "y"}):
        figure, panels = new_figure(9.0, 3.6, columns=2)
        for place, (panel, metric) in enumerate(zip(panels, ("pesq_raw", "stoi"), strict=True)):
            sides = (("the letter, TIMIT", [LETTER_TABLE_I[theirs][place] for theirs in names.values()], FIXED["noisy"], -0.2),
                     ("here", [averages[ours][LABELS[metric]] for ours in names], COLOURS[0], 0.2))
            for said, values, colour, shift in sides:
                bars = panel.bar(np.arange(len(names)) + shift, values, 0.37, color=colour, label=said)
                panel.bar_label(bars, fmt="%.3f", fontsize=8, padding=1)
            panel.set_xticks(np.arange(len(names)), [theirs.replace(" (", "\n(") for theirs in names.values()])
            panel.set(ylabel=LABELS[metric], ylim=(0, (3.2, 1.05)[place]))
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
        return saved(figure, path)


def pareto(runs, path):
    """What a gain in raw PESQ costs: SI-SDR, DNSMOS OVRL and CSIG against it, one point a run, all minus the first one, the start.

    Args:
        runs: DataFrame with the columns name, pesq_raw, si_sdr, dnsmos_ovrl and csig, means on validation.
        path: of the PNG.
    """
    gained = runs["pesq_raw"] - runs["pesq_raw"].iloc[0]
    costs = {"si_sdr": "SI-SDR (dB)", "dnsmos_ovrl": "DNSMOS OVRL", "csig": "CSIG"}
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(3.5 * len(costs) + 0.4, 3.6, columns=len(costs), sharex=True)
        for panel, (name, label) in zip(axes, costs.items(), strict=True):
            change = runs[name] - runs[name].iloc[0]
            panel.axhline(0, color="black", linewidth=0.8, linestyle="--")
            panel.scatter(gained, change, s=26, color=COLOURS[1])
            for text, x, y in zip(runs["name"], gained, change, strict=True):
                panel.annotate(text, (x, y), textcoords="offset points", xytext=(4, 4), fontsize=8)
            panel.set(xlabel="Raw PESQ gained", ylabel=f"{label}, change")
        return saved(figure, path)


def _agreement(numbers):
    return f"LCC {numbers['lcc']:.3f}\nSRCC {numbers['srcc']:.3f}\nRMSE {numbers['rmse']:.3f}\nn = {numbers['count']:,}"
