"""From score rows to a report: index.html, summary.json, tables, leaderboard, figures/. Reads rows and files, never a network."""

from pathlib import Path

import numpy as np

from se_keras import files
from se_keras.report import judges, leaderboard, page, tables

FIGURES = ("labels.png", "predicted.png", "gain.png", "judges.png", "spectrograms.png", "spectrograms_hard.png")


def write(scores, folder, comparisons=(), about=None, pictured=None, note="", seed=0, target=tables.LABELS["pesq_raw"],
          same_weights=(), judged=None, cost=None, sort=None, hear=None, title="Report",
          distances=()):
    """Write REPORT/index.html, summary.json, table.md, leaderboard.md, leaderboard.csv and figures/; what an earlier one left is replaced.

    Args:
        scores: score rows (`tables.read_scores`, `se_keras.scoring.evaluation.evaluate`).
        folder: REPORT; made where it is missing.
        comparisons: pairs (system, baseline) to be tested, see `tables.summarise`.
        about: {metric: what its numbers are: scale, package, version}.
        pictured: {title: {name: float `(samples,)` at 16 kHz}} of one utterance for the spectrograms, and of a second, harder
            one where there is one; none where it is None.
        note: what the tables say first.
        seed: of the bootstrap.
        target: what Quality-Net predicts, in words.
        same_weights: pairs of systems that are known to be one and the same.
        judged: {judge: its target in words} of the rows' judges.
        cost: {system: what it costs} (`enhancers.cost.measure`).
        sort: a metric, or one of `costs.KEYS`, by which the systems are sorted in the tables, best first; None for their own order, and a
            leaderboard by the first metric.
        hear: what the page plays (`page.write`).
        title: of the page.
        distances: as `page.write`.

    Returns:
        The summary.
    """
    from se_keras.report import drawing, figures  # here, so that reading a table does not load matplotlib

    folder = Path(folder)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    summary = tables.summarise(scores, comparisons, about, note, seed, target, same_weights, judged, cost)
    if sort:
        summary = leaderboard.reordered(summary, leaderboard.order(summary, sort))
    files.write_json(folder / "summary.json", summary)
    files.write_text(folder / "table.md", tables.markdown(summary))
    leaderboard.write(summary, folder, sort or tables.metric_names(scores)[0])

    paths = {name: folder / "figures" / name for name in FIGURES}
    for path in paths.values():
        path.unlink(missing_ok=True)
    colours = drawing.palette(summary["systems"])
    by_system = dict(list(scores.groupby("system", sort=False)))
    metric = tables.metric_names(scores)[0]
    scored = {name: rows["pesq_raw"] for name, rows in by_system.items() if "pesq_raw" in rows and rows["pesq_raw"].notna().any()}
    if scored:
        figures.label_histogram(scored, paths["labels.png"], colours)
    if summary["prediction"]:
        pairs = {name: (by_system[name]["target"], by_system[name]["predicted"]) for name in summary["prediction"]}
        odd = tables.contradictory(scores)
        odd = {name: odd[by_system[name].index].to_numpy() for name in pairs}
        figures.predicted_against_true(pairs, paths["predicted.png"], colours, label=target, contradictory=odd)
    if judged:
        pairs = {name: [scores[column] for column in judges.columns(name)] for name in judged}
        figures.judges({name: pair for name, pair in pairs.items() if np.isfinite(pair[0]).any()}, scores["system"], paths["judges.png"],
                       colours, judged)
    if "noisy" in by_system and len(by_system) > 1 and summary["averages"][metric]["noisy"]["utterances"]:
        figures.gain_bars(scores, paths["gain.png"], metric, colours=colours)
    for name, (heading, waves) in zip(("spectrograms.png", "spectrograms_hard.png"), (pictured or {}).items(), strict=False):
        figures.spectrograms(waves, paths[name], title=heading)
    page.write(folder / "index.html", title, summary, scores, hear, distances=distances)
    return summary


def typical_utterance(scores, system, baseline="noisy", hard=False):
    """The id of an utterance to show: of the middle SNR, the one in which `system` gains its median over `baseline`.

    The gain is in the rows' first metric (raw PESQ by default), so that the choice favours nobody. Where no utterance has both
    scores it is the first one.

    Args:
        scores: score rows.
        system, baseline: names in them.
        hard: of the lowest SNR instead.
    """
    table, _ = tables.paired(scores, tables.metric_names(scores)[0])
    if table.empty:
        return scores["id"].iloc[0]
    snr_db = scores.drop_duplicates("id").set_index("id")["snr_db"].loc[table.index]
    levels = sorted(snr_db.dropna().unique())
    if levels:
        table = table[snr_db == levels[0 if hard else len(levels) // 2]]
    gain = (table[system] - table[baseline]).sort_values(kind="stable")
    return gain.index[len(gain) // 2]
