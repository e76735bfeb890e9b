"""From answers to a table: who is left out by which rule, preference or rating, intervals, tests."""

import csv
import itertools
import math
import textwrap
from pathlib import Path

import numpy as np
import scipy.stats

from se_keras import files
from se_keras.listening import design, mixed
from se_keras.report import page, tables
from se_keras.report.statistics import cluster_bootstrap

REFERENCE_BELOW, REFERENCE_SHARE = 90, 0.15  # BS.1534-3: the hidden reference below 90 in more than 15% of the items
CHANCE = 0.05  # of contradicting oneself as often by tossing a coin
_COLUMNS = ("listener", "scripted", "excluded", "trial", "phase", "item", "slots", "answer", "seconds", "stored")
_ABOUT = {
    "ab": "Prefer A: its share of the answers that prefer one system; those that prefer neither are counted beside, and are in no share, "
          "interval or test. p: of no preference.",
    "abx": "Correct: share of the answers that name what X is. p: of guessing, 0.5.",
    "mushra": "Ratings from 0 to 100; differences are within listener and utterance. p: of no difference.",
}
_INTERVALS = ("95% intervals: Wilson's takes answers as independent, which those of one listener or of one utterance are not; the "
              "bootstraps draw whole listeners, or whole utterances.")
_TESTS = ("p: two-sided; binomial takes answers as independent; mixed: a linear mixed model with random effects of listener and utterance "
          "(docs/listening.md). Not corrected for the number of comparisons. n/e: not estimable, for want of listeners, utterances or "
          "differing answers.")


def evaluate(settings, listeners, answers, keep_all=False, scripted=False, seed=0):
    """A test's table, and what must stand beside it.

    Args:
        settings, listeners, answers: of a `store.Store`.
        keep_all: leave out nobody by rule.
        scripted: evaluate the listeners that are programs, instead of those that are not.
        seed: of the bootstrap.

    Returns:
        dict with headers and rows (lists of cells, as text; no rows where nobody is left), about (text), title, kind, numbers (the
        rows' values, a dict each), excluded {listener: reason}, answers (every one, a dict each with the columns of the CSV).
    """
    kind = settings["kind"]
    programs = {each["number"] for each in listeners if each["scripted"]}
    asked = [each for each in listeners if bool(each["scripted"]) == scripted]
    reasons = {} if keep_all else exclusions(kind, asked, answers)
    left = {each["number"] for each in asked} - set(reasons)
    counted = [row for row in answers if row["listener"] in left and row["phase"] == "test"]
    numbers = _NUMBERS[kind](counted, settings, seed) if counted else []
    said = [_who(listeners, asked, programs, left, reasons, keep_all, scripted)]
    if counted:
        said += [f"{len(counted)} answers to {len({row['item'] for row in counted})} utterances. {_ABOUT[kind]}", _INTERVALS, _TESTS]
    rows = [{"listener": row["listener"], "scripted": int(row["listener"] in programs), "excluded": reasons.get(row["listener"], ""), **{
        name: row[name] for name in _COLUMNS[3:]}} for row in answers]
    return {"kind": kind, "title": f"{_NAMES[kind]} of {', '.join(settings['systems'])}", "about": "\n".join(said), "numbers": numbers,
            "headers": _HEADERS[kind] if counted else [], "rows": [_CELLS[kind](row) for row in numbers], "excluded": reasons,
            "answers": rows}


def exclusions(kind, listeners, answers):
    """{listener: reason} of those who are left out by rule.

    All: who has not finished. AB: who chose the other system in so many repeats that a coin would in 5% of cases at most (5 of 5, 7 of 8),
    as somebody does who always presses the same side; "no preference" contradicts nothing, and who guesses mostly stays. MUSHRA: who
    rated the hidden reference below 90 in more than 15% of the trials (BS.1534-3).

    Args:
        kind: of the test.
        listeners, answers: of a `store.Store`.
    """
    reasons = {}
    for each in listeners:
        own = [row for row in answers if row["listener"] == each["number"]]
        if each["answered"] < each["trials"]:
            reasons[each["number"]] = f"unfinished: {each['answered']} of {each['trials']} trials"
        elif kind == "ab":
            first = {(row["item"], tuple(sorted(row["slots"]))): _chosen(row) for row in own if row["phase"] == "test"}
            again = [(first[row["item"], tuple(sorted(row["slots"]))], _chosen(row)) for row in own if row["phase"] == "repeat"]
            turned = sum(None not in pair and pair[0] != pair[1] for pair in again)
            if again and scipy.stats.binom.sf(turned - 1, len(again), 0.5) <= CHANCE:
                reasons[each["number"]] = f"inconsistent: the other system in {turned} of {len(again)} repeats"
        elif kind == "mushra":
            rated = [_ratings(row)[design.REFERENCE] for row in own if row["phase"] == "test"]
            low = sum(value < REFERENCE_BELOW for value in rated)
            if low > REFERENCE_SHARE * len(rated):
                reasons[each["number"]] = f"hidden reference rated below {REFERENCE_BELOW} in {low} of {len(rated)} trials"
    return reasons


def _who(listeners, asked, programs, left, reasons, keep_all, scripted):
    """Who is in the table, and who is not, in words."""
    lines = []
    if programs:
        lines.append(f"{len(programs)} of {len(listeners)} listeners are scripted: "
                     + ("this table is a check of the test, no listening result" if scripted else
                        "no listening result" if len(programs) == len(listeners) else "they are left out"))
    elif not listeners:
        lines.append("nobody has listened yet: no listening result")
    elif scripted:
        lines.append(f"none of {len(listeners)} listeners is scripted: nothing to check")
    if asked:
        kind = "scripted listeners" if scripted else "listeners"
        lines.append(f"{len(left)} of {len(asked)} {kind} are counted" + (", nobody is excluded by rule (--keep-all)" if keep_all else ""))
        lines += [f"excluded: listener {number}, {reason}" for number, reason in sorted(reasons.items())]
    return "\n".join(lines)


# --- One kind each -------------------------------------------------------------------------------------------------------------------


def _ab(answers, settings, seed):
    """One dict a pair of systems: share of the first one in the answers that prefer one."""
    found = []
    for pair in itertools.combinations(settings["systems"], 2):
        rows = [row for row in answers if set(row["slots"]) == set(pair)]
        choices = [_chosen(row) for row in rows]
        decided = [(choice == pair[0], row) for choice, row in zip(choices, rows, strict=True) if choice is not None]
        found.append({"pair": pair, "first": choices.count(pair[0]), "second": choices.count(pair[1]), "neither": choices.count(None),
                      **_share(decided, seed)})
    return found


def _abx(answers, settings, seed):
    """One dict a pair of systems: share of correct answers."""
    found = []
    for pair in itertools.combinations(settings["systems"], 2):
        rows = [row for row in answers if set(row["slots"]) == set(pair)]
        found.append({"pair": pair, **_share([(_chosen(row) == row["slots"][2], row) for row in rows], seed)})
    return found


def _mushra(answers, settings, seed):
    """One dict a condition, its ratings; then one a pair of systems, their differences."""
    found, rated = [], [_ratings(row) for row in answers]
    for condition in (design.REFERENCE, *settings["systems"], design.ANCHOR):
        found.append({"name": condition, **_mean([values[condition] for values in rated], answers, seed)})
    for first, second in itertools.combinations(settings["systems"], 2):
        differences = [values[second] - values[first] for values in rated]
        found.append({"name": f"{second} - {first}", "difference": True, **_mean(differences, answers, seed),
                      "p_mixed": mixed.p_value(differences, *_clusters(answers))})
    return found


def wilson(successes, count):
    """Wilson's 95% interval of a share; of nothing counted, NaN twice."""
    if count == 0:
        return np.nan, np.nan
    interval = scipy.stats.binomtest(successes, count).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def _share(decided, seed):
    """Count, share, three intervals and two p of answers that are one of two, [(bool, row)]."""
    values, rows = [float(value) for value, _ in decided], [row for _, row in decided]
    if not rows:
        return {"count": 0}
    return {"count": len(rows), "wilson": wilson(int(sum(values)), len(rows)), **_mean(values, rows, seed),
            "p_binomial": float(scipy.stats.binomtest(int(sum(values)), len(rows)).pvalue),
            "p_mixed": mixed.p_value([value - 0.5 for value in values], *_clusters(rows))}


def _mean(values, rows, seed):
    """Mean and its bootstrap intervals by listener and by utterance."""
    by = {name: cluster_bootstrap(values, labels, seed=seed) for name, labels in zip(("listener", "item"), _clusters(rows), strict=True)}
    return {"mean": float(np.mean(values)), **{f"by_{name}": (interval.low, interval.high) for name, interval in by.items()}}


def _clusters(rows):
    """Labels of listeners and of utterances, of each row."""
    return [row["listener"] for row in rows], [row["item"] for row in rows]


def _chosen(row):
    """The system that an answer of AB or ABX names; None for neither."""
    return None if row["answer"] == design.NEITHER else row["slots"]["AB".index(row["answer"])]


def _ratings(row):
    """{condition: rating} of a MUSHRA answer."""
    return {condition: row["answer"][letter]
            for letter, condition in zip(design.letters("mushra", len(row["slots"])), row["slots"], strict=True)}


# --- As text -------------------------------------------------------------------------------------------------------------------------


def _percent(interval):
    return " to ".join(f"{100 * value:.0f}%" for value in interval) if np.isfinite(interval).all() else "n/e"


def _points(interval, sign=""):
    return " to ".join(f"{value:{sign}.1f}" for value in interval) if np.isfinite(interval).all() else "n/e"


def _p(value):
    return "n/e" if math.isnan(value) else "<0.0001" if value < 1e-4 else f"{value:.4f}"


def _share_cells(row):
    if not row["count"]:
        return [""] * 6
    return [f"{100 * row['mean']:.1f}%", _percent(row["wilson"]), _percent(row["by_listener"]), _percent(row["by_item"]),
            _p(row["p_binomial"]), _p(row["p_mixed"])]


def _mushra_cells(row):
    difference = row.get("difference", False)
    sign = "+" if difference else ""
    return [row["name"], f"{row['mean']:{sign}.1f}", _points(row["by_listener"], sign), _points(row["by_item"], sign),
            _p(row["p_mixed"]) if difference else ""]


_BOOTSTRAPS = ["95% by listener", "95% by utterance"]
_NAMES = {"ab": "AB preference test", "abx": "ABX test", "mushra": "MUSHRA test"}
_NUMBERS = {"ab": _ab, "abx": _abx, "mushra": _mushra}
_TESTED = ["95% Wilson", *_BOOTSTRAPS, "p binomial", "p mixed"]
_HEADERS = {"ab": ["A", "B", "A : neither : B", "Prefer A", *_TESTED],
            "abx": ["Systems", "answers", "Correct", *_TESTED],
            "mushra": ["Condition", "Mean", *_BOOTSTRAPS, "p mixed"]}
_CELLS = {"ab": lambda row: [*row["pair"], f"{row['first']} : {row['neither']} : {row['second']}", *_share_cells(row)],
          "abx": lambda row: [" against ".join(row["pair"]), str(row["count"]), *_share_cells(row)], "mushra": _mushra_cells}


def terminal(summary):
    """Title, table and what stands beside it, for a terminal."""
    about = [textwrap.fill(line, 120) for line in summary["about"].split("\n")]
    return "\n".join([summary["title"], *([_table(summary, "simple")] if summary["rows"] else []), *about])


def markdown(summary):
    """The same as Markdown."""
    said = summary["about"].replace("\n", "\n\n")
    return f"# Listening test\n\n{summary['title']}.\n\n{_table(summary, 'github')}\n{said}\n"


def _table(summary, style):
    return tables.tabulated(summary["rows"], summary["headers"], style, text=(0, 1) if summary["kind"] == "ab" else (0,))


def write_answers(path, summary):
    """Every answer as a row of a CSV file: what was heard in each slot, and whether its listener is counted."""
    with files.replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for row in summary["answers"]:
            heard = dict(zip(design.letters(summary["kind"], len(row["slots"])), row["slots"], strict=True))
            answer = row["answer"] if isinstance(row["answer"], str) else _listed(row["answer"])
            writer.writerow([*(row[name] for name in _COLUMNS[:6]), _listed(heard), answer, row["seconds"], row["stored"]])


def _listed(values):
    return " ".join(f"{slot}={value}" for slot, value in values.items())


def into_report(folder, summary, settings):
    """Put the table into REPORT/index.html, and beside it as listening.md, with every answer in listening.csv.

    Args:
        folder: REPORT.
        summary: of `evaluate`.
        settings: of the test, to see whose it is.

    Returns:
        Where it is, in words.

    Raises:
        UserError: no page there, or not of a report with these systems.
    """
    folder = Path(folder)
    content = page.read(folder / "index.html")
    from se_keras.listening import material

    material.check_systems(content, settings["systems"], folder / "index.html")
    if material.fingerprint(content) != settings["fingerprint"]:
        summary = {**summary, "about": f"{summary['about']}\nThe listeners heard other audio than this page plays: of {settings['title']}, "
                                       f"{settings['made'][:10]}."}
    page.add_listening(folder / "index.html", {"about": f"{summary['title']}.\n{summary['about']}", "headers": summary["headers"],
                                               "rows": summary["rows"]})
    files.write_text(folder / "listening.md", markdown(summary))
    write_answers(folder / "listening.csv", summary)
    return f"{folder / 'index.html'}, listening.md and listening.csv"
