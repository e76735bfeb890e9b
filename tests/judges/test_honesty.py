"""Predicted beside true scores: averages, the rule that stops a run, and the worst gaps to listen to."""

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from se_keras import models
from se_keras.errors import UserError
from se_keras.judges import honesty, surrogate


class Given:
    """Stands in for a scorer: raw PESQ by the row's number in the order asked; None is a refusal."""

    names = ("pesq_raw",)

    def __init__(self, values):
        self.values = values

    def lookup(self, recipes, ids=None):
        return [{"pesq_raw": value, "error": None if value is not None else "refused"} for value in self.values]


@pytest.fixture
def validation(rows, enhancer, monkeypatch):
    """Four rows; the third has no true score."""
    monkeypatch.setattr(surrogate.QualityPredictor, "__call__", lambda self, system, rows: [2.0, 2.6, 100.0, 3.0])
    predictor = surrogate.QualityPredictor(models.build("quality_net", filters=((2, 5),)))
    return honesty.HonestValidation(enhancer, predictor, rows[:4], Given([1.5, 2.5, None, 2.3]))


def test_predicted_and_true_are_averaged_over_the_same_mixtures(validation):
    values = validation()
    assert values == pytest.approx({"pesq_raw": 2.1, "true": 2.1, "predicted": 7.6 / 3, "left_out": 1, "gap": 7.6 / 3 - 2.1})


def test_weights_that_lost_too_much_stoi_are_not_kept(validation):
    """Against where STOI began, which a run that goes on is told."""
    scorer = validation.scorer
    scorer.lookup = lambda recipes, ids=None: [{"pesq_raw": 2.0, "stoi": scorer.stoi, "error": None}] * 4
    scorer.names, validation.stoi_drop, allowed = ("pesq_raw", "stoi"), 0.005, []
    for scorer.stoi in (0.8, 0.796, 0.794, 0.81):
        allowed.append(validation()["allowed"])
    assert allowed == pytest.approx([2.0, 2.0, float("nan"), 2.0], nan_ok=True) and validation.start_stoi == 0.8
    validation.start_stoi, scorer.stoi = 0.9, 0.81
    assert np.isnan(validation()["allowed"])
    rows = [{"true": 2.0, "best": True}, {"true": 2.2, "best": True}, {"true": 2.4, "best": False}]
    assert honesty.best_of(rows) == 1  # the weights that are kept, not the best true score of all


def test_the_worst_gaps_can_be_listened_to(validation, rows, tmp_path):
    table = pd.read_csv(validation.write_worst(tmp_path / "worst", count=2))
    assert table["id"].tolist() == [rows[3].id, rows[0].id] and table["rank"].tolist() == [1, 2]
    assert table["gap"].tolist() == pytest.approx([0.7, 0.5], abs=1e-4)
    assert {path.name for path in (tmp_path / "worst").glob("*.wav")} == {
        f"{rank:02d}-{name}.wav" for rank in (1, 2) for name in ("noisy", "enhanced", "clean")}
    wave, rate = sf.read(tmp_path / "worst" / "01-clean.wav")
    assert rate == 16_000 and len(wave) == rows[3].used_samples and np.abs(wave).max() > 0.1


def history(*scores):
    return [{"update": 10 * number, "true": true, "predicted": predicted} for number, (true, predicted) in enumerate(scores)]


def test_fooled_is_predicted_up_and_true_down_since_the_best():
    best, worse = (2.4, 2.5), [(2.39, 2.6), (2.35, 2.7), (2.3, 2.8)]
    assert honesty.fooled(history((2.3, 2.4), best, *worse), 4) is None
    reason = honesty.fooled(history((2.3, 2.4), best, *worse), 3)
    assert "fooled since iteration 10" in reason and "2.500 -> 2.800" in reason and "2.400 -> 2.300" in reason
    assert honesty.fooled(history((2.3, 2.4), best, *worse), 0) is None              # never
    assert honesty.fooled(history(best, *worse[:2], (2.3, 2.45)), 3) is None         # Quality-Net has noticed
    assert honesty.fooled(history(best, *worse[:2], (2.41, 2.9)), 3) is None         # it was no trick
    assert honesty.fooled(history((2.3, 2.4)), 3) is None
    new = history((2.4, 2.0), (2.3, 2.1), (2.32, 2.2), (2.35, 2.3))
    assert honesty.fooled(new, 3, learning=True) is None                             # one that knew nothing is only catching up
    assert "2.000 -> 2.300" in honesty.fooled(new, 3)                                # one that is frozen does not catch up
    assert "fooled since" in honesty.fooled(history(best, *worse), 3, learning=True)


def test_fooled_too_where_the_best_true_score_may_not_be_kept():
    """STOI forbids all weights but the first: true has fallen from its best all the same."""
    rows = history((2.24, 2.3), (2.37, 2.4), (2.35, 2.5), (2.3, 2.6), (2.27, 2.7))
    rows = [{**row, "best": number == 0} for number, row in enumerate(rows)]
    reason = honesty.fooled(rows, 3)
    assert "fooled since iteration 10: predicted 2.400 -> 2.700, true 2.370 -> 2.270; the weights of iteration 0 are kept" in reason


def test_of_a_score_of_which_less_is_better_all_is_turned_round():
    higher = history((2.3, 2.4), (2.4, 2.5), (2.39, 2.6), (2.3, 2.7))
    lower = [{**row, "true": -row["true"], "predicted": -row["predicted"]} for row in higher]
    assert honesty.best_of(lower, higher_is_better=False) == 1
    assert "fooled since iteration 10" in honesty.fooled(lower, 2, higher_is_better=False) and honesty.fooled(lower, 2) is None


def test_no_true_score_at_all_is_an_error(validation):
    validation.scorer.values = [None] * 4
    with pytest.raises(UserError, match="no validation mixture has a true score"):
        validation()
