"""Figures of a training: learning curves, and the letter's Figs. 2 and 5. Histories in, one PNG out, its path back."""

import itertools

import matplotlib
import matplotlib.lines
import matplotlib.ticker
import numpy as np

from se_keras.report.drawing import COLOURS, FIXED, PESQ, STYLE, new_figure, palette, saved, wrapped
from se_keras.report.tables import LABELS

_ITERATION = "Iteration (updates of the enhancer)"


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
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(6.4, 2.2 * len(panels) + 1.2, rows=len(panels), sharex=True)
        for panel, names in zip(np.atleast_1d(axes), panels, strict=True):
            for name in names:
                rows = history[["epoch", name]].dropna()
                label, colour = ("training objective", COLOURS[0]) if name == "loss" else ("validation", COLOURS[1])
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
        return saved(figure, path)


def quality_net_learning_curve(history, path):
    """A Quality-Net's training: errors above, correlations below, against its updates, from a run's history.csv.

    Args:
        history: DataFrame with update (or epoch), loss, and what `judges.surrogate.QualityValidation` gives: valid_loss, valid_lcc,
            valid_srcc, valid_rmse, these three also with _noisy and _enhanced, and valid_lcc_change. What is missing is not drawn.
        path: of the PNG.
    """
    speech = {"": ("all validation speech", "black"), "_noisy": ("noisy", FIXED["noisy"]), "_enhanced": ("enhanced", COLOURS[0])}
    lines = [(0, "loss", "training objective", {"color": COLOURS[1], "linestyle": ":"}),
             (0, "valid_loss", "validation loss: squared error of the score", {"color": COLOURS[1]})]
    lines += [(0, f"valid_rmse{kind}", f"RMSE, {said}", {"color": colour}) for kind, (said, colour) in speech.items()]
    for name, style in (("lcc", "-"), ("srcc", "--")):
        lines += [(1, f"valid_{name}{kind}", f"{name.upper()}, {said}", {"color": colour, "linestyle": style})
                  for kind, (said, colour) in speech.items()]
    lines.append((1, "valid_lcc_change", "LCC of changes of a mask", {"color": COLOURS[2]}))
    along = "update" if "update" in history else "epoch"
    with matplotlib.rc_context(STYLE):
        figure, panels = new_figure(8.0, 6.4, rows=2, sharex=True)
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
        return saved(figure, path)


def true_by_iteration(runs, path, colours=None, last=None, label=PESQ, letter=None):
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
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(6.0, 3.8)
        for (name, (iteration, pesq)), marker in zip(runs.items(), _markers(len(runs)), strict=True):
            iteration, pesq = np.asarray(iteration), np.asarray(pesq, dtype=float)
            shown = (iteration <= last) & np.isfinite(pesq)
            axes.plot(iteration[shown], pesq[shown], marker=marker, markersize=4.5, color=colours[name], label=name)
        _draw_letter(axes, letter)
        axes.set(xlabel=_ITERATION, ylabel=wrapped(f"True {label}, validation"), title="Fine-tuning", xlim=(-0.02 * last, 1.02 * last))
        axes.legend()
        return saved(figure, path)


def predicted_and_true_by_iteration(iteration, predicted, true, path, best=None, label=PESQ, letter=None):
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
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(6.4, 3.8)
        for values, name, line in ((predicted, "predicted by Quality-Net", {"color": COLOURS[1], "linestyle": "--"}),
                                   (true, "true", {"color": COLOURS[0]})):
            given = np.isfinite(values)
            axes.plot(iteration[given], values[given], label=name, **line)
        value = true[np.argmin(np.abs(iteration - best))]
        axes.plot([best], [value], "o", color=COLOURS[0], label=f"kept: iteration {best:g}, true {value:.2f}")
        _draw_letter(axes, letter)
        axes.set(xlabel=_ITERATION, ylabel=wrapped(f"{label}, validation"), title="Predicted and true score", xlim=(0, None))
        axes.legend()
        return saved(figure, path)


def predicted_and_true_over_runs(runs, path, colours=None, label=PESQ):
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
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(3.0 * columns + 0.6, 2.5 * rows + 0.5, rows=rows, columns=columns, sharex=True, sharey=True)
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
        figure.supylabel(wrapped(f"{label}, validation"), fontsize=10, multialignment="center")
        return saved(figure, path)


def _draw_letter(axes, letter):
    """The letter's own values on axes of scores against iteration: a number as a level, a pair of arrays as a line."""
    for (name, value), style in zip((letter or {}).items(), itertools.cycle((":", "-.", (0, (5, 1, 1, 1, 1, 1)))), strict=False):
        if np.ndim(value):
            axes.plot(*value, color="black", linestyle=style, linewidth=1.0, label=f"the letter's {name}")
        else:
            axes.axhline(value, color="black", linestyle=style, linewidth=1.0, label=f"the letter's {name}: {value:g}")


def _markers(number):
    return [("o", "s", "^", "D", "v", "P", "X")[index % 7] for index in range(number)]
