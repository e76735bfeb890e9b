"""DNSMOS: golden values of the package, no reference, one run for four names, level, threads, and the package that is not there."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, speech_like

from se_keras import metrics
from se_keras.errors import UserError
from se_keras.metrics import dnsmos
from se_keras.metrics.base import MetricError
from se_keras.scoring.scores import Scorer

NAMES = ("dnsmos_ovrl", "dnsmos_sig", "dnsmos_bak", "dnsmos_p808")


@pytest.fixture
def package():
    pytest.importorskip("speechmos", reason="needs requirements-extras.txt")
    pytest.importorskip("onnxruntime", reason="needs requirements-extras.txt")


def test_golden_values(package, golden_signals):
    """To 1e-5: float32 networks, whose sums depend on the threads and the processor in their last digits."""
    folder, signals, name = golden_signals
    golden = json.loads((folder / "dnsmos.json").read_text())
    for kind, wave in signals.items():
        scores, expected = metrics.evaluate(NAMES, speech_like(1), wave), golden[f"{name}_{kind}"]["dnsmos"]
        assert scores.pop("error") is None
        assert scores == pytest.approx({metric: expected[f"{metric.removeprefix('dnsmos_')}_mos"] for metric in NAMES}, abs=1e-5)


def test_one_run_serves_four_names_and_the_reference_is_ignored(package, monkeypatch):
    runs, networks = [], dnsmos._networks()
    monkeypatch.setattr(dnsmos, "_networks", lambda: lambda *arguments, **options: runs.append(1) or networks(*arguments, **options))
    wave = speech_like(1, seed=11)
    scores = metrics.evaluate(NAMES, None, wave)
    assert runs == [1] and scores["error"] is None
    assert scores == metrics.evaluate(NAMES, np.ones(7), wave)
    assert len({scores[name] for name in NAMES}) == 4 and all(1 <= scores[name] <= 5 for name in NAMES)
    assert all(metrics.get(name).range == (1, 5) for name in NAMES)
    assert runs == [1]


def test_louder_than_full_scale_is_heard_at_full_scale(package):
    wave = speech_like(1, seed=12)
    wave /= np.abs(wave).max()
    full, loud = (metrics.evaluate(NAMES, None, gain * wave) for gain in (np.float32(1), np.float32(4)))
    assert loud == full  # a gain of 4 and back is exact
    assert dnsmos.ovrl(None, np.float32(0.01) * wave) != full["dnsmos_ovrl"]  # below full scale, level matters


def test_networks_run_on_one_thread(package):
    options = [session.get_session_options() for session in (dnsmos._networks().onnx_sess, dnsmos._networks().p808_onnx_sess)]
    assert [(each.intra_op_num_threads, each.inter_op_num_threads) for each in options] == [(1, 1), (1, 1)]


@pytest.mark.parametrize(("wave", "reason"), [
    (np.zeros(16_000, np.float32), "the degraded signal is digital silence"),
    (np.full(16_000, np.nan, np.float32), "NaN or infinite samples in the degraded signal"),
    (np.ones((16_000, 2), np.float32), "the degraded signal must be mono"),
    (np.zeros(0, np.float32), "the degraded signal is empty"),
])
def test_what_has_no_score(wave, reason):
    for function in (dnsmos.ovrl, dnsmos.sig, dnsmos.bak, dnsmos.p808):
        with pytest.raises(MetricError, match=reason):
            function(None, wave)


@pytest.mark.parametrize("missing", ["speechmos", "onnxruntime"])
def test_a_missing_package_is_said_before_any_work(missing, monkeypatch):
    find = metrics.importlib.util.find_spec
    monkeypatch.setattr(metrics.importlib.util, "find_spec", lambda name: None if name == missing else find(name) or "there")
    for ask in (metrics.get, lambda name: Scorer([name])):
        with pytest.raises(UserError, match=f"'dnsmos_ovrl' needs {missing}, which is not installed; pip install -r {metrics.EXTRAS}"):
            ask("dnsmos_ovrl")
    assert (ROOT / metrics.EXTRAS).is_file()
    assert metrics.get("stoi").name == "stoi"


def test_a_worker_measures_it_and_keeps_it(package, tmp_path):
    code = ("import functools, numpy as np; from conftest import speech_like; from se_keras import scores\n"
            "load = functools.partial(__import__('test_metrics_dnsmos').pair, 5)\n"
            f"with scores.Scorer(['dnsmos_ovrl', 'dnsmos_p808', 'si_sdr'], cache={str(tmp_path)!r}, workers=1) as scorer:\n"
            "    row, = scorer.score([scores.Job('a', load, 'r')], progress=False)\n"
            "    assert scorer.lookup(['r']) == [row]\n"
            "    print(row['dnsmos_ovrl'], row['dnsmos_p808'], row['error'])\n")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'metrics'}{os.pathsep}{ROOT / 'tests'}"}
    words = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True).stdout.split()
    here = metrics.evaluate(["dnsmos_ovrl", "dnsmos_p808"], *pair(5))
    assert [float(word) for word in words[:2]] == pytest.approx([here["dnsmos_ovrl"], here["dnsmos_p808"]], abs=1e-5)
    assert words[2] == "None"


def pair(seed):
    clean = speech_like(1, seed)
    return clean, 0.9 * clean + 0.01 * speech_like(1, seed + 1)
