"""Judges against the truth: known answers, the change from the first enhanced system, table, JSON and figure."""

import json

import numpy as np
import pandas as pd
import pytest

from se_keras import report
from se_keras.report import judges, tables

TARGETS = {"perfect": "raw P.862 PESQ", "too kind": "STOI", "deaf": "raw P.862 PESQ"}


@pytest.fixture(scope="module")
def scores():
    """Three systems on eight utterances: one judge is the truth, one is 0.2 above it, one hears nothing."""
    rng, rows = np.random.default_rng(0), []
    base = rng.uniform(1, 3, 8)
    for number, system in enumerate(("noisy", "mse", "tuned")):
        gain = 0.3 * number + rng.uniform(-0.1, 0.1, 8)
        for u in range(8):
            true = base[u] + gain[u]
            said = {"perfect": true, "too kind": true + 0.2, "deaf": 2.0}
            rows.append({"id": f"u{u}", "system": system, "speaker": f"s{u % 2}", "noise_type": "rain", "snr_db": 0.0, "clean": f"s/{u}",
                         "pesq_raw": true, "target": None, "predicted": None,
                         **{column: value for judge in TARGETS
                            for column, value in zip(judges.columns(judge), (true, said[judge]), strict=True)}, "error": ""})
    return pd.DataFrame(rows)


def test_numbers_are_those_put_in(scores):
    summary = tables.summarise(scores, judged=TARGETS)["judges"]
    json.dumps(summary, allow_nan=False)
    assert list(summary) == list(TARGETS) and summary["perfect"]["baseline"] == "mse"
    assert summary["too kind"]["target"] == "STOI" and list(summary["perfect"]["systems"]) == ["noisy", "mse", "tuned"]
    for entry in (*summary["perfect"]["systems"].values(), summary["perfect"]["all"]):
        assert entry["lcc"] == pytest.approx(1) and entry["srcc"] == pytest.approx(1) and entry["rmse"] == entry["bias"] == 0
    for entry in (*summary["too kind"]["systems"].values(), summary["too kind"]["all"]):
        assert entry["lcc"] == pytest.approx(1) and entry["rmse"] == pytest.approx(0.2) and entry["bias"] == pytest.approx(0.2)
    for judge in ("perfect", "too kind"):
        changes = {system: entry["lcc_change"] for system, entry in summary[judge]["systems"].items()}
        assert changes == {"noisy": None, "mse": None, "tuned": pytest.approx(1)}
        assert summary[judge]["all"]["lcc_change"] == pytest.approx(1)
    assert summary["deaf"]["systems"]["tuned"]["lcc"] is None and summary["deaf"]["systems"]["tuned"]["lcc_change"] is None
    assert [summary["perfect"]["systems"]["noisy"]["count"], summary["perfect"]["all"]["count"]] == [8, 24]


def test_missing_truth_is_left_out(scores):
    scores = scores.copy()
    scores.loc[scores["id"] == "u3", "true[perfect]"] = np.nan
    entry = tables.summarise(scores, judged=TARGETS)["judges"]["perfect"]
    assert entry["systems"]["tuned"]["count"] == 7 and entry["all"]["count"] == 21 and entry["all"]["lcc"] == pytest.approx(1)


def test_one_system_has_no_change(scores):
    entry = tables.summarise(scores[scores["system"] == "noisy"], judged=TARGETS)["judges"]["perfect"]
    assert entry["baseline"] is None and entry["all"]["lcc_change"] is None


def test_report_and_its_file(scores, tmp_path):
    summary = report.write(scores, tmp_path, judged=TARGETS)
    assert (tmp_path / "figures" / "judges.png").stat().st_size > 10_000
    text = (tmp_path / "table.md").read_text()
    assert "## Judges" in text and "| too kind" in text and "minus mse, utterance by utterance" in text
    assert "too kind: STOI" in tables.terminal(summary)
    assert json.loads((tmp_path / "summary.json").read_text())["judges"] == summary["judges"]
    assert list(summary["averages"]) == ["pesq_raw"]  # a judge's columns are no metrics
    scores.to_csv(tmp_path / "scores.csv", index=False)
    assert tables.metric_names(tables.read_scores(tmp_path / "scores.csv")) == ["pesq_raw"]
    report.write(scores, tmp_path)
    assert not (tmp_path / "figures" / "judges.png").exists()
