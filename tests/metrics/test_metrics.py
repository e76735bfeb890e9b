"""Metrics: golden values of the packages, known answers, the scales of PESQ against each other, what each refuses."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, speech_like

from se_keras import metrics
from se_keras.errors import UserError
from se_keras.metrics import pesq
from se_keras.metrics.base import MetricError
from se_keras.metrics.pesq import nb_to_raw, raw_to_nb, raw_to_wb


@pytest.fixture(scope="module")
def pair():
    clean = speech_like(2.0, seed=1)
    noise = 0.05 * np.random.default_rng(0).standard_normal(len(clean)).astype(np.float32)
    return clean, clean + noise


def test_golden_values(golden_signals):
    folder, signals, name = golden_signals
    golden = json.loads((folder / "metrics.json").read_text())
    expected = {"pesq_raw": "p862_raw_nb", "pesq_nb": "pesq_nb_mos_lqo", "pesq_wb": "pesq_wb_mos_lqo", "stoi": "stoi",
                "estoi": "estoi", "si_sdr": "si_sdr_no_mean_removal"}
    for kind in ("noisy", "enh"):
        scores = metrics.evaluate(metrics.DEFAULT, signals["clean"], signals[kind])
        assert scores.pop("error") is None
        assert scores == pytest.approx({metric: golden[f"{name}_{kind}"][key] for metric, key in expected.items()}, abs=1e-5)


def test_frozen_values(pair):
    """pesq 0.0.4 and pystoi 0.4.1 on a seeded signal."""
    scores = metrics.evaluate(["pesq_raw", "pesq_nb", "pesq_wb", "stoi", "estoi"], *pair)
    assert scores == pytest.approx({"pesq_raw": 1.3518, "pesq_nb": 1.2653, "pesq_wb": 1.0352, "stoi": 0.9634, "estoi": 0.8604,
                                    "error": None}, abs=2e-3)


def test_identical_signals_have_the_perfect_score(pair):
    scores = metrics.evaluate(metrics.DEFAULT, pair[0], pair[0])
    assert scores == {"pesq_raw": pytest.approx(4.5, abs=1e-5), "pesq_nb": pytest.approx(4.548638, abs=1e-5),
                      "pesq_wb": pytest.approx(4.643888, abs=1e-5), "stoi": pytest.approx(1), "estoi": pytest.approx(1),
                      "si_sdr": math.inf, "error": None}


def test_the_top_of_each_range_is_the_perfect_score():
    assert metrics.get("pesq_nb").range == pytest.approx((1.0168, 4.5486), abs=1e-4)
    assert metrics.get("pesq_wb").range == pytest.approx((1.0427, 4.6439), abs=1e-4)
    assert metrics.get("pesq_raw").range == (-0.5, 4.5)


def test_scales_of_pesq_map_back_and_forth():
    raw = np.linspace(-1, 4.5, 56)
    np.testing.assert_allclose(nb_to_raw(raw_to_nb(raw)), raw, atol=1e-12)
    assert np.all(np.diff(raw_to_nb(raw)) > 0) and np.all(np.diff(raw_to_wb(raw)) > 0)
    assert isinstance(nb_to_raw(2.0), float) and isinstance(raw_to_nb(2.0), float)
    for outside in (0.999, 4.999, 7, math.nan):
        with pytest.raises(ValueError, match="between 0.999 and 4.999"):
            nb_to_raw(outside)


def test_pesq_and_si_sdr_ignore_level(pair):
    clean, noisy = pair
    full, quiet = (metrics.evaluate(["pesq_nb", "pesq_wb", "si_sdr"], clean, gain * noisy) for gain in (1, np.float32(0.1)))
    assert quiet == pytest.approx(full, abs=1e-3)
    assert metrics.get("si_sdr").function(3 * clean, noisy) == pytest.approx(full["si_sdr"], abs=1e-5)


def test_si_sdr_of_an_orthogonal_mix_is_its_snr():
    """Orthogonal noise is all distortion, so SI-SDR equals the 5 dB it was mixed at; a mean in it counts, for none is removed."""
    t = np.arange(16_000) / 16_000
    clean, noise = np.sin(2 * np.pi * 100 * t), np.cos(2 * np.pi * 100 * t)
    si_sdr = metrics.get("si_sdr").function
    assert si_sdr(clean, clean + 10 ** (-5 / 20) * noise) == pytest.approx(5, abs=1e-9)
    assert si_sdr(clean, clean + 1) == pytest.approx(10 * math.log10(0.5), abs=1e-9)


def test_more_noise_scores_lower_everywhere(pair):
    clean, noisy = pair
    better, worse = (metrics.evaluate(metrics.DEFAULT, clean, wave) for wave in (noisy, clean + 4 * (noisy - clean)))
    assert all(better[name] > worse[name] for name in metrics.DEFAULT)
    assert all(metrics.get(name).higher_is_better for name in metrics.DEFAULT)


def test_pesq_runs_once_for_both_narrow_band_scales(pair, monkeypatch):
    import pesq

    bands = []
    monkeypatch.setattr(pesq, "pesq", lambda rate, reference, degraded, band: bands.append(band) or 2.0)
    scores = metrics.evaluate(["pesq_raw", "pesq_nb", "pesq_wb"], *pair)
    assert bands == ["nb", "wb"]
    assert scores["pesq_raw"] == nb_to_raw(2.0)


@pytest.mark.parametrize(("spoil", "struck", "reason"), [
    (lambda c, n: (0 * c, n), metrics.DEFAULT, "the reference signal is digital silence"),
    (lambda c, n: (c, 0 * n), metrics.DEFAULT, "the degraded signal is digital silence"),
    (lambda c, n: (c, np.where(n == n[100], np.nan, n)), metrics.DEFAULT, "NaN or infinite samples in the degraded signal"),
    (lambda c, n: (c, n[:-1]), metrics.DEFAULT, "reference and degraded signal differ in length"),
    (lambda c, n: (c[:0], n[:0]), metrics.DEFAULT, "the reference signal is empty"),
    (lambda c, n: (c[:, None], n[:, None]), metrics.DEFAULT, "must be mono"),
    (lambda c, n: (np.resize(c, 60 * 16_000 + 1), np.resize(n, 60 * 16_000 + 1)), ("pesq_raw", "pesq_nb", "pesq_wb"),
     "longer than 60 s"),
], ids=["silent reference", "silent degraded", "NaN", "lengths", "empty", "stereo", "a minute"])
def test_what_cannot_be_scored_has_its_reason_and_no_number(pair, spoil, struck, reason):
    scores = metrics.evaluate(metrics.DEFAULT, *spoil(*pair))
    assert reason in scores["error"]
    assert [name for name in metrics.DEFAULT if scores[name] is None] == list(struck)


def test_a_metric_that_refuses_leaves_the_others_their_values(pair):
    clean, noisy = pair
    scores = metrics.evaluate(metrics.DEFAULT, clean[:3999], noisy[:3999])
    assert scores["error"] == ("pesq_raw, pesq_nb, pesq_wb: shorter than 1/4 s (BufferTooShortError); "
                               "stoi, estoi: fewer than 30 frames of speech for STOI")
    assert scores["si_sdr"] == pytest.approx(metrics.get("si_sdr").function(clean[:3999], noisy[:3999]))

    pulse = np.zeros(32_000, np.float32)  # 2 s with 0.1 s of sound: no utterance, no 30 frames
    pulse[16_000:17_600] = noisy[16_000:17_600] + 0.01
    scores = metrics.evaluate(["pesq_wb", "stoi", "si_sdr"], pulse, pulse + noisy - clean)
    assert scores["error"] == "pesq_wb: PESQ finds no speech (NoUtterancesError); stoi: fewer than 30 frames of speech for STOI"
    assert scores["si_sdr"] is not None


def test_a_function_raises_what_evaluate_reports(pair):
    for name in metrics.DEFAULT:
        with pytest.raises(MetricError, match="differ in length"):
            metrics.get(name).function(pair[0], pair[1][:-5])


def test_a_number_that_is_none_is_a_reason(pair, monkeypatch):
    monkeypatch.setattr("pystoi.stoi", lambda *arguments, **options: math.nan)
    scores = metrics.evaluate(["stoi", "pesq_nb"], *pair)
    assert scores["stoi"] is None and scores["error"] == "stoi: the metric gave NaN" and scores["pesq_nb"] is not None


def test_each_metric_stamps_its_scores():
    stamps = [metrics.get(name).version for name in metrics.NAMES if not name.startswith("dnsmos")]
    assert len(set(stamps)) == len(stamps)
    assert metrics.get("pesq_wb").version == "pesq_wb | wb | MOS-LQO of P.862.2 | pesq 0.0.4 | definition 1"


def test_unknown_metric_names_the_known_ones():
    with pytest.raises(UserError, match="unknown metric 'pesq'; known: pesq_raw, pesq_nb, pesq_wb, stoi, estoi, si_sdr"):
        metrics.get("pesq")


def test_metrics_are_light_to_import():
    """No TensorFlow, and the packages that measure only when one does."""
    code = "import sys, se_keras.scoring.scores; print({'tensorflow', 'keras', 'pesq', 'pystoi', 'scipy'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "set()"


def test_narrow_and_wide_band_pesq_may_contradict_each_other():
    """Where one says 3.54 and the other 1.02 the alignment has gone wrong; identical signals and what usually goes together are fine."""
    np.testing.assert_allclose(pesq.wb_to_raw(pesq.raw_to_wb(np.array([-0.5, 1.0, 4.5]))), [-0.5, 1.0, 4.5])
    assert pesq.contradict(3.54, 1.02) is True and pesq.contradict(0.99, 4.32) is True
    assert pesq.contradict(4.5, pesq.raw_to_wb(4.5)) is False
    raw = np.linspace(-0.5, 4.5, 11)
    usual = np.interp(raw, pesq.USUAL_NB, pesq.USUAL_WB)
    for shift, found in ((0, False), (-1.6, False), (1.6, False), (-1.8, True), (1.8, True)):
        assert (pesq.contradict(raw, pesq.raw_to_wb(usual + shift)) == found).all()
    assert pesq.contradict([np.nan, 3.54, 3.54], [1.02, np.nan, 1.02]).tolist() == [False, False, True]
    assert (np.diff(pesq.USUAL_WB) > 0).all()
