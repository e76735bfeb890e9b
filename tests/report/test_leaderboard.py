"""Who costs what, and who is first: the order, the two files, what the tables say of cost."""

import csv
import json

import pandas as pd
import pytest

from se_keras import report
from se_keras.report import costs, leaderboard, tables


def cost(parameters=0, macs=None, rtf=None, latency_ms=None, whole=False, remark=""):
    return {"parameters": parameters, "macs_per_second": macs, "rtf": rtf, "latency_ms": latency_ms, "whole_utterance": whole,
            "measured": "" if rtf is None else "one core, batch 1, 1 s of audio", "remark": remark}


COST = {"noisy": cost(latency_ms=0.0), "wiener": cost(rtf=0.0031, latency_ms=32.0),
        "big|best": cost(2_359_523, 32_941_238_688, 1.358, whole=True), "own": cost(921_601, None, 0.0123, whole=None, remark="no rule")}
SCORES = {"noisy": (2.0, 9.0, 40.0), "wiener": (2.2, 11.0, None), "big|best": (2.9, 10.0, 20.0), "own": (2.2, 8.0, 30.0)}
METRICS = ("pesq_raw", "si_sdr", "wss")  # of the last, less is better


@pytest.fixture
def rows():
    """One utterance; the Wiener filter has no WSS."""
    return pd.DataFrame([{"id": "u0", "system": system, "speaker": "s", "noise_type": "white", "snr_db": 0.0, "clean": "s/u0",
                          **dict(zip(METRICS, values, strict=True)), "error": ""} for system, values in SCORES.items()])


@pytest.fixture
def summary(rows):
    summary = tables.summarise(rows, about={"wss": {"higher_is_better": False}, "si_sdr": {"higher_is_better": True}}, cost=COST)
    json.dumps(summary, allow_nan=False)
    return summary


def with_wss(summary):
    """The metric of which one system has no score at all: all are left out of its averages, as no utterance has all scores."""
    for system, (*_, value) in SCORES.items():
        summary["averages"]["wss"][system]["mean"] = value
    return summary


@pytest.mark.parametrize(("by", "first_to_last"), [
    ("pesq_raw", ["big|best", "wiener", "own", "noisy"]),  # equal ones as they were listed
    ("si_sdr", ["wiener", "big|best", "noisy", "own"]),
    ("wss", ["big|best", "own", "noisy", "wiener"]),  # less is better, and what has none is last
    ("params", ["noisy", "wiener", "own", "big|best"]),
    ("macs", ["big|best", "noisy", "wiener", "own"]),
    ("rtf", ["wiener", "own", "big|best", "noisy"]),
    ("latency", ["noisy", "wiener", "big|best", "own"])])  # the whole utterance is behind all that wait less, before what is unknown
def test_order(summary, by, first_to_last):
    assert leaderboard.order(with_wss(summary), by) == first_to_last


def test_files(rows, tmp_path):
    summary = report.write(rows, tmp_path, cost=COST, sort="rtf", note="Of a test.")
    assert summary["systems"] == list(summary["averages"]["pesq_raw"]) == list(summary["cost"]) == ["wiener", "own", "big|best", "noisy"]
    assert json.loads((tmp_path / "summary.json").read_text())["cost"]["wiener"] == COST["wiener"]
    with open(tmp_path / "leaderboard.csv", encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file)
    assert header == ["rank", "system", *METRICS, "parameters", "macs_per_second", "rtf", "latency_ms", "whole_utterance"]
    assert lines == [["1", "wiener", "2.2", "11.0", "", "0", "", "0.0031", "32.0", "0"],
                     ["2", "own", "2.2", "8.0", "", "921601", "", "0.0123", "", ""],
                     ["3", "big|best", "2.9", "10.0", "", "2359523", "32941238688", "1.358", "", "1"],
                     ["4", "noisy", "2.0", "9.0", "", "0", "", "", "0.0", "0"]]
    text = (tmp_path / "leaderboard.md").read_text()
    assert text.startswith("# Leaderboard\n\nOf a test.\n1 utterances, averages. Sorted by Real-time factor, best first.\n\n| ")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert [" ".join(line.split()) for line in table[2:]] == [
        "| 1 | wiener | 2.200 | 11.00 | | 0 | | 0.0031 | 32 ms |",
        "| 2 | own | 2.200 | 8.00 | | 921,601 | | 0.012 | |",
        "| 3 | big\\|best | 2.900 | 10.00 | | 2,359,523 | 32.9 G | 1.4 | whole utterance |",  # a bar would end the cell
        "| 4 | noisy | 2.000 | 9.00 | | 0 | | | 0 ms |"]
    assert "own: no rule" in text


def test_the_first_metric_sorts_where_nothing_is_asked(rows, tmp_path):
    """Then the tables keep the order that the systems were listed in."""
    summary = report.write(rows, tmp_path, cost=COST)
    assert summary["systems"] == list(SCORES)
    assert list(pd.read_csv(tmp_path / "leaderboard.csv")["system"]) == ["big|best", "wiener", "own", "noisy"]
    assert f"Sorted by {tables.LABELS['pesq_raw']}" in (tmp_path / "leaderboard.md").read_text()
    assert not (tmp_path / "table.md").read_text().count("big|best")


def test_without_cost(rows, tmp_path):
    report.write(rows, tmp_path)
    assert list(pd.read_csv(tmp_path / "leaderboard.csv").columns) == ["rank", "system", *METRICS]
    assert "Parameters" not in (tmp_path / "leaderboard.md").read_text() + (tmp_path / "table.md").read_text()


def test_the_tables_tell_the_cost(summary):
    for text in (tables.markdown(summary), tables.terminal(summary)):
        assert "whole utterance" in text and "32.9 G" in text and "own: no rule" in text
        assert "Real-time factor: seconds of computing a second of audio (one core, batch 1, 1 s of audio)." in text
    assert max(map(len, tables.cost_table(summary, "simple").splitlines())) < 80


def test_counts_in_three_digits():
    assert [costs._short(count) for count in (0, 7, 999, 1000, 58_916_864, 120_851_200, 999_400, 999_600, 32_941_238_688)] == [
        "0", "7", "999", "1.00 k", "58.9 M", "121 M", "999 k", "1.00 M", "32.9 G"]
