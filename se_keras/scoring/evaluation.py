"""Manifest x systems: enhance, score, one row an utterance and system."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from se_keras import files
from se_keras.mixtures.manifest import ParquetRows
from se_keras.scoring import scores
from se_keras.signals import mixing


def evaluate(rows, systems, scorer, out_csv, batch_size=16, predictor=None, limit=None, progress=True,
             judges=None):
    """Score every system on every utterance and write scores.csv.

    What the score cache holds already, found by recipe, is neither enhanced nor scored again: a run that was interrupted goes
    on. The rest is enhanced in batches of like length while the scorer's processes score what came before.

    Args:
        rows: list of `manifest.Utterance`.
        systems: objects with `.name` (distinct), `.fingerprint` and `.enhance(waves) -> waves`, float32 `(samples,)` each;
            the fingerprint `scores.NOISY` stands for the mixture itself.
        scorer: an open `scores.Scorer`; its metrics become columns.
        out_csv: path of the table, written at the end, atomically.
        batch_size: utterances enhanced at a time.
        predictor: `surrogate.QualityPredictor`, called once a system, after its scores; the scorer must measure its target's
            metrics. None for no predictions.
        limit: number of utterances, chosen by `subset`; None for all.
        progress: show progress bars.
        judges: {name: `surrogate.QualityPredictor`} more, likewise.

    Returns:
        DataFrame as written: id, system, speaker, noise_type, snr_db, clean (the clean utterance, "speaker/file"; of a recording
        that has none, its id instead of the file), each metric, target (what Quality-Net should predict, in its unit), predicted,
        of each judge true[NAME] and predicted[NAME], error ("" where there is none); system by system, each in the manifest's order.
    """
    rows = subset(rows, limit)
    records = []
    for system in systems:
        results = score_system(rows, system, scorer, batch_size, progress)
        true = predicted = [None] * len(rows)
        if predictor:
            true = [float(predictor.target.from_score(predictor.target.to_score(result))) for result in results]
            predicted = predictor(system, rows)
        judged = {}
        for name, judge in (judges or {}).items():
            judged[f"true[{name}]"] = [float(judge.target.from_score(judge.target.to_score(result))) for result in results]
            judged[f"predicted[{name}]"] = judge(system, rows)
        for number, (row, result, expected, value) in enumerate(zip(rows, results, true, predicted, strict=True)):
            measured = {name: score for name, score in result.items() if name != "error"}
            records.append({"id": row.id, "system": system.name, "speaker": row.speaker, "noise_type": row.noise_type,
                            "snr_db": row.snr_db, "clean": f"{row.speaker}/{Path(row.clean).stem if row.clean else row.id}", **measured,
                            "target": expected, "predicted": value,
                            **{column: values[number] for column, values in judged.items()}, "error": result["error"] or ""})
    table = pd.DataFrame(records)
    numbers = [name for name in table.columns if name not in ("id", "system", "speaker", "noise_type", "clean", "error")]
    table[numbers] = table[numbers].astype(float)
    _write_csv(out_csv, table)
    return table


def subset(rows, limit):
    """At most `limit` rows in the manifest's order, the same ones at every call.

    Every SNR and noise type keeps its share within one row; within these the rows are as good as drawn at random (ordered by
    a hash of the id), since evenly spaced ones would fall on the same few clean utterances in every condition.
    """
    if isinstance(rows, ParquetRows):  # too many to be held: the same ones are found column by column
        return rows.subset(limit)
    if limit is None or limit >= len(rows):
        return list(rows)

    def order(number):
        row = rows[number]
        return (row.snr_db is None, row.snr_db or 0.0, row.noise_type, hashlib.sha256(row.id.encode()).digest())

    ordered = sorted(range(len(rows)), key=order)
    return [rows[number] for number in sorted(ordered[(2 * place + 1) * len(rows) // (2 * limit)] for place in range(limit))]


def score_system(rows, system, scorer, batch_size=16, progress=True):
    """Scores of one system on rows, what the cache holds already not made again.

    Args:
        rows, system, scorer, batch_size, progress: as `evaluate`.

    Returns:
        A list of dicts as `Scorer.score`, in the order of rows.
    """
    if system.fingerprint == scores.NOISY:
        return scorer.score([scores.mixture_job(row) for row in rows], desc=system.name, progress=progress)
    recipes = [scores.recipe(row, system.fingerprint) for row in rows]
    results = scorer.lookup(recipes, [row.id for row in rows])
    todo = _longest_first(rows, [number for number, result in enumerate(results) if result is None])

    def jobs():
        for number, wave in _enhanced([rows[number] for number in todo], system, batch_size):
            yield scores.wave_job(rows[todo[number]], wave, recipes[todo[number]])

    if todo:
        for number, result in zip(todo, scorer.score(jobs(), system.name, progress, total=len(todo)), strict=True):
            results[number] = result
    return results


def waves_of(rows, systems, batch_size=16):
    """What is heard of rows.

    Args:
        rows: list of `manifest.Utterance`.
        systems, batch_size: as `evaluate`.

    Returns:
        {id: {name: float32 `(samples,)`}}: "clean" where there is a clean wave, and each system.
    """
    heard = {row.id: {} if (clean := mixing.pair(row)[1]) is None else {"clean": clean} for row in rows}
    ordered = [rows[number] for number in _longest_first(rows, range(len(rows)))]
    for system in systems:
        for number, wave in _enhanced(ordered, system, batch_size):
            heard[ordered[number].id][system.name] = wave
    return heard


def _longest_first(rows, numbers):
    """Numbers of rows so that batches are of like length; if memory is too small, the first one tells."""
    return sorted(numbers, key=lambda number: -rows[number].used_samples)


def _enhanced(rows, system, batch_size):
    """(number, wave) of each row, batch by batch as they are asked for."""
    for start in range(0, len(rows), batch_size):
        waves = system.enhance([mixing.pair(row)[0] for row in rows[start:start + batch_size]])
        yield from enumerate(waves, start)


def mean_scores(rows, system, scorer, batch_size=16):
    """`means` of a system's scores on rows; arguments as `score_system`."""
    return means(score_system(rows, system, scorer, batch_size, progress=False), scorer.names)


def means(results, names, **more):
    """Mean of each metric over rows, those that a metric refused left out of all: {metric: float, "left_out": count}.

    Args:
        results: rows of scores (`score_system`).
        names: the metrics.
        more: further values, one a row each, averaged over the same rows.
    """
    kept = [number for number, result in enumerate(results) if result["error"] is None]
    values = {**{name: [result[name] for result in results] for name in names}, **more}
    found = {name: float(np.mean([column[number] for number in kept])) if kept else float("nan") for name, column in values.items()}
    return {**found, "left_out": len(results) - len(kept)}


def _write_csv(path, table):
    with files.replacing(path) as temporary:
        table.to_csv(temporary, index=False)
