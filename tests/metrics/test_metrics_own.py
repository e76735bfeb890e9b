"""Metrics of the user's own: found, ranged, measured in workers and again after an edit; every mistake said, no run crashed."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, speech_like

from se_keras import metrics
from se_keras.errors import UserError
from se_keras.metrics import own
from se_keras.metrics.base import MetricError
from se_keras.scoring import scores
from se_keras.scoring.scores import Job, Scorer

SOURCE = """
import numpy as np

LEVELS = 3

def loudness(reference, degraded):
    return np.mean(np.abs(degraded)) / np.mean(np.abs(reference))

loudness.range = (0, 4)

def error(reference, degraded):
    reference -= degraded  # in place
    return float(np.sum(reference**2))

error.range, error.higher_is_better = (0, 100.5), False

def bare(reference, degraded):
    return 3

def nan(reference, degraded):
    return float("nan")

def text(reference, degraded):
    return "good"

def crash(reference, degraded):
    raise ZeroDivisionError(f"no {len(degraded)}")

crash.range = (0, 1)
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A current folder with mymetrics.py, forgotten afterwards."""
    def forget():
        own._load.cache_clear()
        own._source_hash.cache_clear()
        for name in [name for name in sys.modules if name.split(".")[0] in ("mymetrics", "pack")]:
            del sys.modules[name]

    (tmp_path / "mymetrics.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    forget()
    yield tmp_path
    forget()


def pair():
    clean = speech_like(1, seed=3)
    return clean, np.float32(0.5) * clean


def test_a_function_in_the_current_folder(home):
    metric = metrics.get("mymetrics:loudness")
    assert metric.name == "mymetrics:loudness" and metric.range == (0, 4) and metric.higher_is_better
    assert metrics.evaluate(["mymetrics:loudness", "si_sdr"], *pair()) == {"mymetrics:loudness": pytest.approx(0.5),
                                                                           "si_sdr": math.inf, "error": None}
    assert metrics.get("mymetrics:loudness") is metric
    assert sys.path[-1] == str(home)  # behind everything else, so that it shadows nothing


def test_a_function_of_a_package(home):
    (home / "pack").mkdir()
    (home / "pack" / "__init__.py").write_text("")
    (home / "pack" / "inner.py").write_text(SOURCE)
    assert metrics.get("pack.inner:loudness").function(*pair()) == pytest.approx(0.5)


def test_range_in_brackets_wins_and_serves_functions_without_one(home):
    assert metrics.get("mymetrics:loudness[-1,2.5]").range == (-1, 2.5)
    assert metrics.get("mymetrics:bare[ 0 , 5 ]").range == (0, 5)
    assert metrics.get("math:dist[0,1e3]").range == (0, 1000)  # neither a file of the user's nor one in Python
    assert "sha256" in metrics.get("math:dist[0,1e3]").version


def test_less_can_be_better(home):
    assert not metrics.get("mymetrics:error").higher_is_better


def test_a_function_may_work_in_place(home):
    """It has copies: what is measured after it has the signals as they were."""
    clean, degraded = pair()
    kept = clean.copy()
    row = metrics.evaluate(["mymetrics:error", "stoi"], clean, degraded)
    assert np.array_equal(clean, kept) and row["stoi"] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("name", "message"), [
    ("nowhere:loudness[0,1]", "there is no module nowhere, neither in .* nor on Python's path"),
    ("mymetrics.inner:loudness[0,1]", "there is no module mymetrics.inner"),
    ("mymetrics:nothing", r"mymetrics \(.*mymetrics.py\) has no nothing"),
    ("mymetrics:LEVELS[0,1]", "LEVELS is no function but int"),
    ("mymetrics:bare", r"its range is not known; name it as mymetrics:bare\[lowest,highest\], or set bare.range = "),
    ("mymetrics:bare[5,0]", "expected two increasing finite numbers"),
    ("mymetrics:bare[1,1]", "expected two increasing finite numbers"),
    ("mymetrics:bare[0,inf]", "expected two increasing finite numbers"),
    ("mymetrics:bare[0,nan]", "expected two increasing finite numbers"),
    ("mymetrics:bare[0]", "expected two increasing finite numbers"),
    ("mymetrics:bare[0,1,2]", "expected two increasing finite numbers"),
    ("mymetrics:bare[low,high]", "expected two increasing finite numbers"),
    ("mymetrics:bare[]", "expected two increasing finite numbers"),
    ("mymetrics:", "expected package.module:function, or"),
    (":bare", "expected package.module:function, or"),
    ("mymetrics:bare[0,1", "expected package.module:function, or"),
    ("mymetrics:bare:0.5", "expected package.module:function, or"),
    ("..mymetrics:bare[0,1]", "cannot be imported"),
])
def test_mistakes_in_the_name(home, name, message):
    with pytest.raises(UserError, match=message):
        metrics.get(name)
    with pytest.raises(UserError, match=message):
        Scorer([name])


@pytest.mark.parametrize(("source", "message"), [
    ("def broken(:", r"mymetrics cannot be imported \(SyntaxError"),
    ("import not_installed_anywhere", r"mymetrics cannot be imported \(ModuleNotFoundError: No module named 'not_installed_anywhere'\)"),
    ("import sys; sys.exit(3)", r"mymetrics cannot be imported \(SystemExit: 3\)"),
    ("def f(r, d): return 1\nf.range = 5", "its range is 5; expected two increasing finite numbers"),
])
def test_mistakes_in_the_file(home, source, message):
    (home / "mymetrics.py").write_text(source)
    with pytest.raises(UserError, match=message):
        metrics.get("mymetrics:f")


@pytest.mark.parametrize(("name", "reason"), [
    ("mymetrics:crash", "mymetrics:crash: crash failed (ZeroDivisionError: no 16000)"),
    ("mymetrics:text[0,1]", "mymetrics:text[0,1]: text failed (ValueError: could not convert string to float: 'good')"),
    ("mymetrics:nan[0,1]", "mymetrics:nan[0,1]: the metric gave NaN"),
])
def test_what_a_function_raises_is_a_reason(home, name, reason):
    assert metrics.evaluate([name, "si_sdr"], *pair()) == {name: None, "si_sdr": math.inf, "error": reason}


def test_a_reason_of_its_own_is_kept_word_for_word():
    def refuse(reference, degraded):
        raise MetricError("not for me")

    with pytest.raises(MetricError, match="^not for me$"):
        own._measure("refuse", refuse, *pair())


def test_workers_measure_it_and_an_edit_is_measured_again(home, tmp_path):
    """Each run in a fresh interpreter, as scripts are run, from the folder with the user's file; workers are spawned."""
    code = ("import functools, json, sys; from se_keras import scores; from test_metrics_own import pair\n"
            "names = ['mymetrics:loudness', 'mymetrics:crash', 'si_sdr']\n"
            f"with scores.Scorer(names, cache={str(tmp_path / 'kept')!r}, workers=1) as scorer:\n"
            "    known = scorer.lookup(['r'])[0]\n"
            "    row, = scorer.score([scores.Job('a', pair, 'r')], progress=False)\n"
            "print(known == row, row['mymetrics:loudness'], row['error'])\n")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'metrics'}{os.pathsep}{ROOT / 'tests'}"}
    script = tmp_path / "elsewhere" / "script.py"  # Python puts the script's folder on its path, not the current one
    script.parent.mkdir()
    script.write_text(code)

    def run():
        result = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    error = "mymetrics:crash: crash failed (ZeroDivisionError: no 16000)"
    assert run() == f"False 0.5 {error}"
    assert run() == f"True 0.5 {error}"
    (home / "mymetrics.py").write_text(SOURCE.replace("np.mean(np.abs(degraded)) /", "np.float32(3) * np.mean(np.abs(degraded)) /"))
    assert run() == f"False 1.5 {error}"


def test_an_edit_in_the_middle_of_a_run_stops_it(home):
    stamp = metrics.get("mymetrics:loudness").version
    assert scores._score(pair, None, {stamp: "mymetrics:loudness"}) == {stamp: (0.5, None)}
    with pytest.raises(UserError, match="mymetrics:loudness: the source was edited after the run had begun"):
        scores._score(pair, None, {stamp.replace("sha256 ", "sha256 0"): "mymetrics:loudness"})


def test_two_ranges_of_one_function_are_two_columns(home):
    names = ["mymetrics:bare[0,5]", "mymetrics:bare[0,9]"]
    with Scorer(names, workers=1) as scorer:
        assert scorer.score([Job("a", pair)], progress=False) == [{names[0]: 3, names[1]: 3, "error": None}]
