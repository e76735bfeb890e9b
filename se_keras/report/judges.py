"""How well judges follow the truth: of each system, of all together, and of the change from the first one that is not noisy speech."""

import numpy as np

from se_keras.report.statistics import agreement


def columns(name):
    """Columns of score rows that hold a judge's truth and its predictions, both in its target's unit."""
    return f"true[{name}]", f"predicted[{name}]"


def is_column(name):
    """Whether a column of score rows is one of `columns`."""
    return name.startswith(("true[", "predicted[")) and name.endswith("]")


def summarise(scores, targets):
    """What summary.json says under `judges`.

    Args:
        scores: score rows (`tables.read_scores`) with the columns of each judge.
        targets: {judge: its target in words}.

    Returns:
        {judge: {"target", "baseline": the system that changes are counted from, or None, "systems": {system: numbers}, "all": numbers}},
        numbers being lcc, srcc, rmse, bias (mean of predicted - true), count and lcc_change: Pearson's correlation of true and
        predicted change, system minus baseline, utterance by utterance; NaN of noisy speech and of the baseline itself; of all, over all
        systems that have one.
    """
    systems = list(scores["system"].unique())
    enhanced = [system for system in systems if system != "noisy"]
    baseline, later = (enhanced[0], enhanced[1:]) if enhanced else (None, [])
    summary = {}
    for judge, target in targets.items():
        true, predicted = (scores.pivot(index="id", columns="system", values=column).astype(float) for column in columns(judge))
        changes = {system: [np.asarray(values[system] - values[baseline]) for values in (true, predicted)] for system in later}
        pooled = [np.concatenate(parts) for parts in zip(*changes.values(), strict=True)] if changes else [[], []]
        summary[judge] = {
            "target": target, "baseline": baseline,
            "systems": {system: {**agreement(true[system], predicted[system]),
                                 "lcc_change": agreement(*changes[system])["lcc"] if system in changes else np.nan} for system in systems},
            "all": {**agreement(true.to_numpy().ravel(), predicted.to_numpy().ravel()), "lcc_change": agreement(*pooled)["lcc"]}}
    return summary


def rows(summary):
    """Lines of a table: judge, speech of, LCC, SRCC, RMSE, bias, LCC of the change, utterances.

    Args:
        summary: of `summarise`, its unknown numbers None.
    """
    lines = []
    for judge, entry in summary.items():
        for number, (system, said) in enumerate([*entry["systems"].items(), ("all", entry["all"])]):
            texts = ["" if said[name] is None else f"{said[name]:{'+' if name == 'bias' else ''}.3f}"
                     for name in ("lcc", "srcc", "rmse", "bias", "lcc_change")]
            lines.append(["" if number else judge, system, *texts, said["count"]])
    return lines


HEADERS = ("Judge", "Speech of", "LCC", "SRCC", "RMSE", "Bias", "LCC of the change", "Utterances")
