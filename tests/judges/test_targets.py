"""Targets: what parses and what does not, known scores of each mapping, round trips, and rows in which a metric failed."""

import hashlib
import json
import math
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from se_keras import metrics
from se_keras.errors import UserError
from se_keras.judges import targets
from se_keras.judges.targets import Target, Term, parse
from se_keras.training import runs

OWN = "statistics:correlation[-1,1]"  # a function of two sequences that every Python has


# --- Text to target --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "canonical", "weights"), [
    ("pesq_raw", "pesq_raw", {"pesq_raw": 1}),
    (" stoi ", "stoi", {"stoi": 1}),
    ("stoi:5", "stoi", {"stoi": 1}),
    ("pesq_wb:0.7,stoi:0.3", "pesq_wb:0.7,stoi:0.3", {"pesq_wb": 0.7, "stoi": 0.3}),
    ("pesq_wb : 7, stoi : 3", "pesq_wb:0.7,stoi:0.3", {"pesq_wb": 0.7, "stoi": 0.3}),
    ("pesq_wb,stoi", "pesq_wb:0.5,stoi:0.5", {"pesq_wb": 0.5, "stoi": 0.5}),
    ("pesq_wb:2,stoi", "pesq_wb:0.666667,stoi:0.333333", {"pesq_wb": 2 / 3, "stoi": 1 / 3}),
    ("stoi:3e-1,estoi:.7", "stoi:0.3,estoi:0.7", {"stoi": 0.3, "estoi": 0.7}),
    (OWN, OWN, {OWN: 1}),
    (f"{OWN}:0.7,stoi:0.3", f"{OWN}:0.7,stoi:0.3", {OWN: 0.7, "stoi": 0.3}),
    (f"stoi:0.3,{OWN}:0.7", f"stoi:0.3,{OWN}:0.7", {"stoi": 0.3, OWN: 0.7}),
    (f"{OWN},stoi", f"{OWN}:0.5,stoi:0.5", {OWN: 0.5, "stoi": 0.5}),
])
def test_text(text, canonical, weights):
    target = parse(text)
    assert target.text == canonical
    assert target.metrics == tuple(weights)
    assert {term.metric: term.weight for term in target.terms} == pytest.approx(weights, rel=1e-12)
    assert sum(term.weight for term in target.terms) == pytest.approx(1, abs=1e-15)
    assert parse(canonical).text == canonical


@pytest.mark.parametrize(("text", "message"), [
    ("", "a term is empty; expected a metric, or several with weights such as pesq_wb:0.7,stoi:0.3"),
    ("stoi,", "a term is empty"),
    ("stoi,,estoi", "a term is empty"),
    (":0.5,stoi", "metric ':0.5': expected package.module:function"),
    ("stoi:0", "stoi has the weight '0'; expected a number above 0"),
    ("stoi:-1,estoi:2", "stoi has the weight '-1'"),
    ("stoi:", "stoi has the weight ''"),
    ("stoi:much", "stoi has the weight 'much'"),
    ("stoi:nan", "stoi has the weight 'nan'"),
    ("stoi:1e999,estoi", "stoi has the weight '1e999'"),
    ("stoi:1x", "stoi has the weight '1x'"),
    ("stoi,pesq_wb,stoi", "stoi stands twice"),
    ("pesq", "unknown metric 'pesq'; known: pesq_raw"),
    ("pesq:0.5,stoi:0.5", "unknown metric 'pesq'"),
    ("statistics:correlation", "its range is not known"),
    ("statistics:correlation[1,-1]", "two increasing finite numbers"),
    ("nowhere:function[0,1]:0.5,stoi:0.5", "there is no module nowhere"),
])
def test_what_is_no_target(text, message):
    with pytest.raises(UserError, match=message):
        parse(text)


def test_words():
    assert parse("pesq_raw").label == "raw P.862 PESQ"
    assert parse("stoi").label == "STOI"
    assert parse("si_sdr").label == "SI-SDR (dB)"
    assert parse("pesq_wb:0.7,stoi:0.3").label == "0.7 PESQ wb + 0.3 STOI, 0 to 1"
    assert parse(OWN).label == OWN
    assert all(metrics.label(name) != name for name in metrics.NAMES)


# --- Values to scores ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_raw_pesq_is_scored_as_in_the_letters_authors_code(dtype):
    """(PESQ + 0.5) / 5: -0.5 to 4.5 is 0 to 1; arrays and numbers, both ways."""
    target = parse("pesq_raw")
    assert [float(target.to_score({"pesq_raw": value})) for value in (-0.5, 2.0, 4.5)] == [0, 0.5, 1]
    assert [target.from_score(score) for score in (0, 0.5, 1)] == [-0.5, 2.0, 4.5]
    values = np.random.default_rng(0).uniform(-0.5, 4.5, 10_000).astype(dtype)
    found = target.to_score({"pesq_raw": values})
    assert found.dtype == np.float32 and np.array_equal(found, ((values + 0.5) / 5).astype(np.float32))
    np.testing.assert_allclose(target.from_score(found), values, atol=1e-6)


@pytest.mark.parametrize(("text", "low", "high"), [
    ("pesq_raw", -0.5, 4.5), ("pesq_nb", 1.0168, 4.5486), ("pesq_wb", 1.0427, 4.6439), ("stoi", 0, 1), ("estoi", 0, 1),
    ("si_sdr", -10, 30), ("csig", 1, 5), ("covl", 1, 5), ("seg_snr", -10, 35), ("llr", 2, 0), ("wss", 100, 0), (OWN, -1, 1),
])
def test_each_range_becomes_zero_to_one(text, low, high):
    target = parse(text)
    scores = target.to_score({text: np.linspace(low, high, 5)})
    np.testing.assert_allclose(scores, [0, 0.25, 0.5, 0.75, 1], atol=1e-4)
    np.testing.assert_allclose(target.from_score(scores), np.linspace(low, high, 5), atol=1e-3)
    beyond = high - low  # as far again on both sides
    assert target.to_score({text: low - beyond}) == 0 and target.to_score({text: high + beyond}) == 1
    assert target.to_score({text: np.copysign(math.inf, beyond)}) == 1


def test_every_metric_has_a_finite_mapping(monkeypatch):
    monkeypatch.setattr(metrics.importlib.util, "find_spec", lambda name: name)  # DNSMOS's is known without its package
    for name in metrics.NAMES:
        term, = parse(name).terms
        assert math.isfinite(term.low) and math.isfinite(term.high) and (term.low < term.high) == metrics.get(name).higher_is_better


def test_less_is_better_of_a_function_with_the_attribute(tmp_path, monkeypatch):
    (tmp_path / "target_distance.py").write_text("def f(r, d): return 0\nf.range = (0, 4)\nf.higher_is_better = False\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert parse("target_distance:f").to_score({"target_distance:f": 1}) == 0.75


def test_a_weighted_sum():
    target = parse("pesq_raw:3,stoi:1")
    assert target.to_score({"pesq_raw": 2.0, "stoi": 0.9, "si_sdr": 3.0, "error": None}) == np.float32(0.75 * 0.5 + 0.25 * 0.9)
    scores = target.to_score({"pesq_raw": np.array([2.0, 4.5]), "stoi": np.array([0.9, 1.0])})
    assert scores.dtype == np.float32 and scores == pytest.approx([0.6, 1.0])
    assert target.from_score(0.6) == 0.6  # no unit of its own


def test_a_metric_that_failed_is_nan():
    target = parse("pesq_raw,stoi")
    assert np.isnan(target.to_score({"pesq_raw": None, "stoi": 0.9, "error": "pesq_raw: PESQ finds no speech"}))
    scores = target.to_score({"pesq_raw": [2.0, None, 2.0], "stoi": np.array([0.5, 0.5, np.nan])})
    assert scores[0] == 0.5 and np.isnan(scores[1:]).all()


def test_score_of_one_value_is_a_float32_number():
    score = parse("stoi").to_score({"stoi": 0.3})
    assert isinstance(score, np.float32) and score == np.float32(0.3)


def test_metricgan_mapping():
    """(PESQ + 0.5) / 5 of wide-band MOS-LQO, so that a perfect pair has 1.03; STOI as it is."""
    target = parse("pesq_wb", mapping="metricgan")
    assert target.to_score({"pesq_wb": 2.0}) == 0.5
    assert target.to_score({"pesq_wb": 4.6439}) == pytest.approx(1.02878)
    assert target.from_score(0.5) == 2.0
    assert parse("stoi", "metricgan").to_score({"stoi": -0.1}) == np.float32(-0.1)
    assert parse("pesq_raw", "metricgan").to_score({"pesq_raw": 2.0}) == 0.5
    with pytest.raises(UserError, match="MetricGAN maps no 'si_sdr'; it knows pesq_raw, pesq_wb, stoi"):
        parse("stoi,si_sdr", "metricgan")
    with pytest.raises(UserError, match="unknown mapping 'letter'; known: range, metricgan"):
        parse("stoi", "letter")


# --- Configurations --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mapping", targets.MAPPINGS)
@pytest.mark.parametrize("text", ["pesq_raw", "pesq_wb:1,stoi:2"])
def test_round_trip_through_json(text, mapping):
    target = parse(text, mapping)
    again = Target.from_config(json.loads(json.dumps(target.to_config())))
    assert again == target and hash(again) == hash(target)


def test_the_saved_mapping_counts_not_todays():
    """Neither the range of today nor the function itself is asked for."""
    config = {"text": "gone:away[0,9]", "terms": [{"metric": "gone:away[0,9]", "weight": 1.0, "low": 0.0, "high": 8.0, "clip": True}]}
    target = Target.from_config(config)
    assert target.to_score({"gone:away[0,9]": 4}) == 0.5 and target.from_score(0.5) == 4 and target.label == "gone:away[0,9]"
    assert target.terms == (Term("gone:away[0,9]", 1.0, 0.0, 8.0),)


TERM = {"metric": "stoi", "weight": 1.0, "low": 0.0, "high": 1.0, "clip": True}


@pytest.mark.parametrize("config", [None, {}, {"text": "stoi"}, {"text": "stoi", "terms": []}, {"text": "stoi", "terms": "stoi"},
                                    {"text": "stoi", "terms": [{"metric": "stoi"}]}, {"text": 5, "terms": [TERM]},
                                    *({"text": "stoi", "terms": [{**TERM, **wrong}]} for wrong in (
                                        {"metric": 5}, {"metric": ["stoi"]}, {"weight": "1"}, {"weight": 0.0}, {"weight": -1.0},
                                        {"low": None}, {"low": float("nan")}, {"high": 10**400}, {"high": 0.0}, {"clip": 1}))])
def test_what_is_no_configuration(config):
    with pytest.raises(UserError, match="a target's configuration has text and terms with clip, high, low, metric, weight; found"):
        Target.from_config(config)


def test_targets_are_light_to_import():
    heavy = {"tensorflow", "keras", "pesq", "pystoi", "scipy", "onnxruntime"}
    code = f"import sys, se_keras.judges.targets; print({heavy} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "set()"


def test_a_function_of_ones_own_is_part_of_what_a_run_is(tmp_path, monkeypatch):
    """Edited, it is another target: its module's hash goes into the run's config, from which a resumed run must not differ."""
    (tmp_path / "taste_of_now.py").write_text("def taste(reference, degraded):\n    return 0.5\n")
    monkeypatch.chdir(tmp_path)
    target = targets.parse("taste_of_now:taste[0,1]:0.5,stoi:0.5")
    digest = hashlib.sha256((tmp_path / "taste_of_now.py").read_bytes()).hexdigest()
    assert target.functions == {"taste_of_now:taste[0,1]": f"sha256 {digest}"} and targets.parse("stoi").functions == {}
    config = {"network": "quality_net", "arguments": {}, "weights": target.functions}
    runs.open_run(tmp_path / "run", config)
    runs.check_same(tmp_path / "run", config)
    with pytest.raises(UserError, match=f"taste_of_now:taste.* was 'sha256 {digest}', is 'sha256 other'"):
        runs.check_same(tmp_path / "run", {**config, "weights": {"taste_of_now:taste[0,1]": "sha256 other"}})
