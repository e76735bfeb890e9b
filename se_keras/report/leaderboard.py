"""Systems from best to worst by one number: leaderboard.md and leaderboard.csv."""

import csv
import math

from se_keras import files
from se_keras.report import costs, tables


def order(summary, by):
    """Systems, best first; equal ones in the summary's order, those without the number last.

    Args:
        summary: of `tables.summarise`.
        by: a metric in it, or one of `costs.KEYS`.
    """
    about = summary["metrics"].get(by, {})
    sign = -1 if by not in costs.KEYS and about.get("higher_is_better", True) else 1

    def place(system):
        value = _number(summary, system, by)
        return value is None, sign * (value or 0)

    return sorted(summary["systems"], key=place)


def _number(summary, system, by):
    if by not in costs.KEYS:
        return summary["averages"][by][system]["mean"]
    cost = summary["cost"].get(system)
    if cost is None:
        return None
    return math.inf if by == "latency" and cost["whole_utterance"] else cost[costs.KEYS[by]]


def reordered(summary, systems):
    """The summary with its systems, their averages and costs in another order, which its tables then have."""
    averages = {metric: {system: entries[system] for system in systems} for metric, entries in summary["averages"].items()}
    return {**summary, "systems": systems, "averages": averages,
            "cost": {system: summary["cost"][system] for system in systems if system in summary["cost"]}}


def markdown(summary, by):
    """The leaderboard as Markdown: rank, system, every metric's average, cost."""
    averages, shown = summary["averages"], summary["cost"]
    body = [[rank, system, *(tables.score_text(metric, averages[metric][system]["mean"]) for metric in averages),
             *(costs.cells(shown[system]) if shown else [])] for rank, system in enumerate(order(summary, by), start=1)]
    headers = ["Rank", "System", *(tables.LABELS.get(metric, metric) for metric in averages), *(costs.HEADERS if shown else [])]
    note = summary["note"] and summary["note"] + "\n"
    said = f"{note}{summary['utterances']:,} utterances, averages. Sorted by {name(by)}, best first.\n"
    return "\n".join(["# Leaderboard\n", said, tables.tabulated(body, headers, "github", text=(1,)), costs.about(shown) if shown else ""])


def name(by):
    """What is sorted by, as the tables' headers say it."""
    return dict(zip(costs.KEYS, costs.HEADERS, strict=True)).get(by, tables.LABELS.get(by, by))


def write(summary, folder, by):
    """FOLDER/leaderboard.md, and leaderboard.csv with all digits: unknown numbers empty, whole_utterance 1 or 0."""
    files.write_text(folder / "leaderboard.md", markdown(summary, by))
    numbers = [*costs.KEYS.values(), "whole_utterance"] if summary["cost"] else []
    with files.replacing(folder / "leaderboard.csv") as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["rank", "system", *summary["averages"], *numbers])
        for rank, system in enumerate(order(summary, by), start=1):
            means = [entries[system]["mean"] for entries in summary["averages"].values()]
            cost = [summary["cost"][system][key] for key in numbers]
            writer.writerow([rank, system, *means, *(int(value) if isinstance(value, bool) else value for value in cost)])
