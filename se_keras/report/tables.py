"""Score rows to averages, intervals, tests: one summary, and the tables made of it."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from tabulate import tabulate

from se_keras import metrics
from se_keras.errors import UserError
from se_keras.metrics import pesq
from se_keras.report import costs, judges
from se_keras.report.statistics import agreement, cluster_bootstrap, paired_test

LABELS = {name: metrics.label(name) for name in metrics.NAMES} | {
    "pesq_raw": "PESQ (raw P.862)", "pesq_nb": "PESQ (nb, P.862.1)", "pesq_wb": "PESQ (wb, P.862.2)"}
MAIN = ("pesq_raw", "stoi", "pesq_wb", "si_sdr")  # the letter's Table I and what stands beside it; of the default ones only these
_TEXT = ("id", "system", "speaker", "noise_type", "clean", "error")  # columns that are not numbers
_CLUSTERS = {"by_clean_utterance": "clean", "by_speaker": "speaker"}  # what the intervals and tests resample: the column
_HEADERS = {"by_clean_utterance": "95% by utterance", "by_speaker": "95% by speaker"}
_SNR_LEVELS = 10  # more distinct SNRs than this (pairs with a measured SNR) are gathered in steps of 5 dB


def read_scores(path):
    """A scores.csv as a DataFrame: one row an utterance and system, missing scores NaN, missing texts "".

    Raises:
        UserError: no such file, a column that a report needs is missing, a system's score of an utterance stands twice.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; test.py writes it")
    columns = list(pd.read_csv(path, nrows=0).columns)
    if missing := sorted({*_TEXT, "snr_db"} - set(columns)):
        raise UserError(f"{path}: lacks the columns {', '.join(missing)}; expected a scores.csv as test.py writes it")
    # A speaker named "NA" is a name: only an empty number is a missing one.
    scores = pd.read_csv(path, dtype=dict.fromkeys(_TEXT, str), keep_default_na=False,
                         na_values={name: [""] for name in columns if name not in _TEXT})
    if scores.duplicated(["id", "system"]).any():
        first = scores[scores.duplicated(["id", "system"])].iloc[0]
        raise UserError(f"{path}: {first.id} of {first.system} stands twice; run test.py again")
    return scores


def metric_names(scores):
    """The metrics among the columns of score rows, in their order there."""
    known = (*_TEXT, "snr_db", "target", "predicted")
    return [name for name in scores.columns if name not in known and not judges.is_column(name)]


def paired(scores, metric):
    """One metric as utterances x systems, so that every system is judged on the same utterances.

    Args:
        scores: score rows.
        metric: name of a column.

    Returns:
        (DataFrame with a column a system, index id, without the utterances that lack a finite score of any system;
        {id: reason} of those utterances).
    """
    table = scores.pivot(index="id", columns="system", values=metric).astype(float)
    table = table.reindex(index=scores["id"].unique(), columns=scores["system"].unique()).replace([np.inf, -np.inf], np.nan)
    missing = table.isna()
    errors = scores.assign(error=scores["error"].fillna("")).set_index(["id", "system"])["error"]
    left_out = {}
    for name in table.index[missing.any(axis=1)]:
        systems = list(table.columns[missing.loc[name]])
        reasons = {system: errors.get((name, system), "") or f"no finite {metric}" for system in systems}
        left_out[name] = "; ".join(f"{system}: {reason}" for system, reason in reasons.items())
    return table[~missing.any(axis=1)], left_out


def contradictory(scores):
    """Which score rows hold a narrow-band and a wide-band PESQ that cannot both be right (`metrics.pesq.contradict`): bool Series.

    They are scores as any other, and stay in all averages; but one of them among a hundred can decide a correlation.
    """
    if not {"pesq_raw", "pesq_wb"} <= set(scores.columns):
        return pd.Series(False, scores.index)
    return pd.Series(pesq.contradict(scores["pesq_raw"].astype(float), scores["pesq_wb"].astype(float)), scores.index)


def identical(scores):
    """Pairs of systems whose scores are equal in every row and metric: a list of (earlier, later); none where there are no scores."""
    names = metric_names(scores)
    tables = {system: rows.set_index("id")[names].sort_index() for system, rows in scores.groupby("system", sort=False)}
    return [(one, other) for one, other in itertools.combinations(tables, 2)
            if tables[one].notna().any(axis=None) and tables[one].equals(tables[other])]


def snr_labels(snr_db):
    """SNRs to labels such as "-6 dB"; "" where there is none. More than ten distinct ones are rounded to steps of 5 dB."""
    snr_db = np.asarray(snr_db, dtype=float)
    if len(np.unique(snr_db[np.isfinite(snr_db)])) > _SNR_LEVELS:
        snr_db = 5 * np.round(snr_db / 5)
    return [f"{value + 0.0:g} dB" if np.isfinite(value) else "" for value in snr_db]


def summarise(scores, comparisons=(), about=None, note="", seed=0, target=LABELS["pesq_raw"], same_weights=(), judged=None, cost=None):
    """Averages, intervals, paired tests and counts, ready for JSON (what is unknown is None).

    Args:
        scores: score rows (`read_scores`, `evaluation.evaluate`).
        comparisons: pairs (system, baseline); each gives the difference system - baseline in every metric.
        about: {metric: anything worth keeping with its numbers: scale, package, version}.
        note: what the tables say first, such as which manifest was scored, or that it is a subset.
        seed: of the bootstrap and of the permutations.
        target: what Quality-Net predicts, in words.
        same_weights: pairs of systems that are known to be one and the same.
        judged: {judge: its target in words}, of those that have columns in the rows.
        cost: {system: of `enhancers.cost.measure`}.

    Returns:
        dict with note, systems, utterances, clean_utterances, speakers, snrs, metrics (`about`), target,
        averages {metric: {system: mean, by_clean_utterance, by_speaker (95% intervals), per_snr, utterances}},
        comparisons [system, baseline, metric, difference, the same intervals, tests by clean utterance and by speaker],
        prediction {system: lcc, srcc, rmse, bias, count} of the predicted against the true target; where some of its rows are
        contradictory also how many of these have a prediction (contradictory) and the numbers of the others (without_contradictory),
        judges (`judges.summarise`), cost (as given),
        contradictory [id, system, snr_db, pesq_raw, pesq_wb] of rows whose metrics contradict each other (`contradictory`),
        identical [systems, why]: pairs of systems that do not differ,
        left_out {metric: {id: reason}}: utterances without a score of some system, left out for all systems of that metric.
    """
    systems, names = list(scores["system"].unique()), metric_names(scores)
    utterances = scores.drop_duplicates("id").set_index("id")
    utterances = utterances.assign(snr=snr_labels(utterances["snr_db"]))
    levels = sorted(set(utterances["snr"]) - {""}, key=lambda label: float(label.split()[0]))
    summary = {"note": note, "systems": systems, "utterances": len(utterances),
               "clean_utterances": int(utterances["clean"].nunique()), "speakers": int(utterances["speaker"].nunique()),
               "snrs": levels, "metrics": about or {}, "target": target,
               "averages": {}, "comparisons": [], "prediction": {}, "judges": judges.summarise(scores, judged or {}),
               "cost": cost or {}, "left_out": {}, "contradictory": [], "identical": []}
    odd = contradictory(scores)
    if odd.any():
        summary["contradictory"] = scores.loc[odd, ["id", "system", "snr_db", "pesq_raw", "pesq_wb"]].to_dict("records")
    known = [tuple(pair) for pair in same_weights]
    summary["identical"] = [{"systems": pair, "why": "the same weights" if pair in known else "equal scores in every row"}
                            for pair in dict.fromkeys([*known, *identical(scores)])]
    for metric in names:
        table, left_out = paired(scores, metric)
        rows = utterances.loc[table.index]
        if left_out:
            summary["left_out"][metric] = left_out
        summary["averages"][metric] = {
            system: {**_mean(table[system], rows, seed), "utterances": len(table),
                     "per_snr": {level: table.loc[rows["snr"] == level, system].mean() for level in levels}}
            for system in systems}
        for system, baseline in comparisons:
            difference = table[system] - table[baseline]
            tests = {f"test_{by}": paired_test(difference, rows[column], seed=seed) if len(table) else None
                     for by, column in _CLUSTERS.items()}
            mean = _mean(difference, rows, seed)
            summary["comparisons"].append({"system": system, "baseline": baseline, "metric": metric,
                                           "difference": mean.pop("mean"), **mean, **tests})
    if "predicted" in scores:
        for system, rows in scores.groupby("system", sort=False):
            if rows["predicted"].notna().any():
                entry = summary["prediction"][system] = agreement(rows["target"], rows["predicted"])
                left = rows[~contradictory(rows)]
                if len(left) < len(rows):
                    entry["without_contradictory"] = agreement(left["target"], left["predicted"])
                    entry["contradictory"] = entry["count"] - entry["without_contradictory"]["count"]
    return plain(summary)


def _mean(values, rows, seed):
    """{"mean", "by_clean_utterance": [low, high], "by_speaker": [low, high]} of scores or differences."""
    if len(values) == 0:
        return {"mean": None, **dict.fromkeys(_CLUSTERS, [None, None])}
    intervals = {by: cluster_bootstrap(values, rows[column], seed=seed) for by, column in _CLUSTERS.items()}
    return {"mean": float(values.mean()), **{by: [interval.low, interval.high] for by, interval in intervals.items()}}


def plain(value):
    """The same in JSON's types: NumPy numbers as Python's, NaN as None."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def markdown(summary):
    """The whole report as Markdown: scores, paired comparisons, agreement of Quality-Net, what was left out."""
    parts = ["# Scores\n", about_rows(summary), _identical(summary)]
    parts += [averages_table(summary, "github"), scores_table(summary, "github"), _notes(summary)]
    if summary["cost"]:
        parts += ["## Cost\n", cost_table(summary, "github"), costs.about(summary["cost"])]
    if summary["comparisons"]:
        parts += ["## Paired differences\n", comparisons_table(summary, "github"),
                  "p: two-sided sign-flip permutation test (in brackets Wilcoxon's signed-rank test) on the mean difference\n"
                  "of each clean utterance, or of each speaker; not corrected for the number of comparisons.\n"]
    if summary["prediction"]:
        parts += [f"## Predicted against true: {summary['target']}\n", prediction_table(summary, "github")]
    if summary["judges"]:
        parts += ["## Judges\n", judges_table(summary, "github"), _about_judges(summary)]
    return "\n".join(part for part in parts if part)


def terminal(summary):
    """The same for a terminal: the scores, what was left out, the cost, and the paired differences in the first metric."""
    scores = averages_table(summary, "simple") if _shown(summary) != _first(summary) else ""  # what has no room by SNR
    parts = [summary["note"], _identical(summary), scores]
    parts += [scores_table(summary, "simple", _first(summary), ["by_clean_utterance"]), _notes(summary)]
    if summary["cost"]:
        parts += [cost_table(summary, "simple"), costs.about(summary["cost"])]
    if summary["comparisons"]:
        parts.append(comparisons_table(summary, "simple", metrics=_first(summary)[:1]))
    if summary["prediction"]:
        parts += [f"Quality-Net's predicted against true {summary['target']}", prediction_table(summary, "simple")]
    if summary["judges"]:
        parts += [judges_table(summary, "simple"), _about_judges(summary)]
    return "\n".join(part for part in parts if part)


def averages_table(summary, style="github"):
    """System down, every metric across: the averages alone."""
    systems, averages = summary["systems"], summary["averages"]
    body = [[system, *(score_text(metric, averages[metric][system]["mean"]) for metric in averages)] for system in systems]
    return tabulated(body, ["System", *(LABELS.get(metric, metric) for metric in averages)], style, text=(0,))


def scores_table(summary, style="github", metrics=None, intervals=("by_clean_utterance", "by_speaker")):
    """The letter's Table I: metric x system down, SNRs and the average with its 95% intervals across.

    Args:
        summary: of `summarise`.
        style: a table format of tabulate.
        metrics: which; None for all that were asked for beside the default ones, and of those the letter's.
        intervals: which of the two to show.
    """
    body = []
    for metric in metrics or _shown(summary):
        for number, (system, entry) in enumerate(summary["averages"][metric].items()):
            body.append(["" if number else LABELS.get(metric, metric), system,
                         *(score_text(metric, entry["per_snr"][level]) for level in summary["snrs"]),
                         score_text(metric, entry["mean"]), *(_interval(metric, entry[by]) for by in intervals)])
    headers = ["Metric", "System", *summary["snrs"], "Average", *(_HEADERS[by] for by in intervals)]
    return tabulated(body, headers, style, text=(0, 1))


def cost_table(summary, style="github"):
    """System down; parameters, multiply-accumulates, real-time factor and latency across."""
    body = [[system, *costs.cells(cost)] for system, cost in summary["cost"].items()]
    return tabulated(body, ["System", *costs.HEADERS], style, text=(0,))


def comparisons_table(summary, style="github", metrics=None):
    """One line a pair of systems and metric: difference, intervals and p-values by clean utterance and by speaker."""
    metrics = metrics or _shown(summary)
    body = []
    for entry in (entry for metric in metrics for entry in summary["comparisons"] if entry["metric"] == metric):
        metric = entry["metric"]
        cells = []
        for by in _CLUSTERS:
            test = entry[f"test_{by}"]
            cells += [_interval(metric, entry[by], "+"), f"{_p(test['p_sign_flip'])} ({_p(test['p_wilcoxon'])})" if test else ""]
        body.append([LABELS.get(metric, metric), f"{entry['system']} - {entry['baseline']}",
                     score_text(metric, entry["difference"], "+"), *cells])
    headers = ["Metric", "Systems", "Difference"]
    for by in _CLUSTERS:
        headers += [_HEADERS[by], "p"]
    return tabulated(body, headers, style, text=(0, 1))


def prediction_table(summary, style="github"):
    """LCC, SRCC, RMSE and bias (mean of predicted - true) of Quality-Net for each system; below it those without contradictory rows."""
    body = []
    for system, entry in summary["prediction"].items():
        body.append([system, *_agreement(entry)])
        if entry.get("contradictory"):
            body.append([f"{system}, without {entry['contradictory']} contradictory", *_agreement(entry["without_contradictory"])])
    return tabulated(body, ["Speech of", "LCC", "SRCC", "RMSE", "Bias", "Utterances"], style, text=(0,))


def judges_table(summary, style="github"):
    """Every judge's agreement with the truth, system by system and over all."""
    return tabulated(judges.rows(summary["judges"]), list(judges.HEADERS), style, text=(0, 1))


def _about_judges(summary):
    said = "; ".join(f"{judge}: {entry['target']}" for judge, entry in summary["judges"].items())
    baseline = next(iter(summary["judges"].values()))["baseline"]
    change = f" Change: minus {baseline}, utterance by utterance." if baseline else ""
    return f"What they predict: {said}.{change}\n"


def _agreement(entry):
    return [*(f"{entry[name]:.3f}" if entry[name] is not None else "" for name in ("lcc", "srcc", "rmse")),
            f"{entry['bias']:+.3f}" if entry["bias"] is not None else "", entry["count"]]


def about_rows(summary):
    """What was scored and how the intervals were made, in a few lines."""
    note = summary["note"] and summary["note"] + "\n"
    clean = summary["clean_utterances"]
    clean = f" from {clean:,} clean ones" if clean < summary["utterances"] else ""  # of recordings there may be none
    return (f"{note}{summary['utterances']:,} utterances{clean} of {summary['speakers']:,} speakers. Averages are over utterances;\n"
            "95% intervals by a cluster bootstrap over clean utterances (mixtures of one sentence are not independent)\n"
            "and over speakers.\n"
            f"On the command line {', '.join(f'{LABELS.get(name, name)} is `{name}`' for name in summary['averages'])}.\n")


def _notes(summary):
    """What was left out, and what contradicts itself, named and counted; "" where nothing was."""
    return "".join(f"\n{part}\n" for part in (_left_out(summary), _contradictory(summary)) if part)


def _left_out(summary):
    names = {}
    for metric, entries in summary["left_out"].items():
        for name, reason in entries.items():
            names.setdefault((name, reason), []).append(metric)
    if not names:
        return ""
    total = len({name for name, _ in names})
    lines = [f"{total:,} of {summary['utterances']:,} utterances lack a score and are in no system's average of the metrics named:"]
    return _listed(lines, [f"{name} ({', '.join(metrics)}): {reason}" for (name, reason), metrics in names.items()])


def _contradictory(summary):
    rows = summary["contradictory"]
    if not rows:
        return ""
    total = summary["utterances"] * len(summary["systems"])
    lines = [f"{len(rows):,} of {total:,} scored rows contradict themselves: PESQ raw and PESQ wb cannot both be right, where PESQ aligns",
             "the signals wrongly in much noise. They are in all averages; Quality-Net's agreement is given without them too:"]
    return _listed(lines, [f"{row['id']} of {row['system']}: PESQ raw {row['pesq_raw']:.2f}, PESQ wb {row['pesq_wb']:.2f}" for row in rows])


def _listed(lines, entries):
    """`lines`, and below them the first five entries and how many more there are."""
    more = [f"- and {len(entries) - 5:,} more, in summary.json"] if len(entries) > 5 else []
    return "\n".join([*lines, *(f"- {entry}" for entry in entries[:5]), *more])


def _identical(summary):
    return "".join(f"{' and '.join(entry['systems'])} are identical: {entry['why']}\n" for entry in summary["identical"])


def _first(summary):
    """Metrics that a terminal has room for: the letter's and what stands beside them, or all where it is none of these."""
    return [name for name in MAIN if name in summary["averages"]] or list(summary["averages"])


def _shown(summary):
    """Metrics that the report's tables show: those, and what else than the default ones was asked for."""
    first = _first(summary)
    return first + [name for name in summary["averages"] if name not in (*metrics.DEFAULT, *first)]


def _p(value):
    return "<0.0001" if value < 1e-4 else f"{value:.4f}"


def digits(metric):
    """Digits behind the point that tables print of a metric."""
    return 2 if metric == "si_sdr" else 3


def score_text(metric, value, sign=""):
    """A score as tables print it; of None, ""."""
    return "" if value is None else f"{value:{sign}.{digits(metric)}f}"


def _interval(metric, interval, sign=""):
    return "" if interval[0] is None else f"{score_text(metric, interval[0], sign)} to {score_text(metric, interval[1], sign)}"


def tabulated(body, headers, style, text):
    """A table as text, ending with a line break.

    Args:
        body: rows of cells.
        headers: of the columns.
        style: a table format of tabulate; a bar within a cell of "github" is escaped, or it would end the cell.
        text: columns that are aligned to the left, by number.
    """
    if style == "github":
        headers, *body = ([str(cell).replace("|", "\\|") for cell in row] for row in (headers, *body))
    align = ["left" if column in text else "right" for column in range(len(headers))]
    return tabulate(body, headers, tablefmt=style, colalign=align if body else None, disable_numparse=True) + "\n"
