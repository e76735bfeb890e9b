"""Predicted beside true scores: is the enhancer getting better, or is Quality-Net being fooled?"""

from pathlib import Path

import numpy as np
import pandas as pd

from se_keras import files
from se_keras.errors import UserError
from se_keras.scoring import evaluation
from se_keras.signals import audio, mixing


class HonestValidation:
    """Predicted and true scores of an enhancer, side by side: called while it is fine-tuned.

    Its values: each metric of the scorer; `true`, the target's value in its own unit, and `predicted`, the same as Quality-Net sees
    it; `gap`, how much better it seems to Quality-Net than it is; `left_out`, how many rows a metric refused, which are left out of
    all averages; and, where STOI must not fall, `allowed`: `true`, or not a number where it has fallen too far.

    Args:
        enhancer: `Enhancer` that is trained.
        predictor: `QualityPredictor` around the Quality-Net that it is trained through.
        rows: validation rows.
        scorer: `scores.Scorer` that measures the target's metrics, and others beside.
        stoi_drop: how far STOI may fall below where it began; None for as far as it likes.
        start_stoi: where it began, of a run that goes on; None for what the first call finds.
    """

    def __init__(self, enhancer, predictor, rows, scorer, stoi_drop=None, start_stoi=None):
        self.enhancer, self.predictor, self.rows, self.scorer = enhancer, predictor, rows, scorer
        self.stoi_drop, self.start_stoi = stoi_drop, start_stoi

    def __call__(self):
        results, true, predicted = self.by_row()
        values = evaluation.means(results, self.scorer.names, true=true, predicted=predicted)
        if not np.isfinite(values["true"]):
            raise UserError("no validation mixture has a true score; is the validation speech silent, or shorter than 1/4 s?")
        values["gap"] = self._sign() * (values["predicted"] - values["true"])
        if self.stoi_drop is not None:
            self.start_stoi = values["stoi"] if self.start_stoi is None else self.start_stoi
            values["allowed"] = values["true"] if values["stoi"] >= self.start_stoi - self.stoi_drop else float("nan")
        return values

    def _sign(self):
        return 1 if self.predictor.target.higher_is_better else -1

    def by_row(self):
        """(rows of scores, true, predicted) of each validation row."""
        enhancer = self.enhancer.now()
        results = evaluation.score_system(self.rows, enhancer, self.scorer, progress=False)
        target = self.predictor.target
        true = [float(target.from_score(target.to_score(result))) for result in results]
        return results, true, self.predictor(enhancer, self.rows)

    def write_worst(self, folder, count=10):
        """The rows that seem to Quality-Net most above what they are, to be listened to.

        Args:
            folder: gets worst.csv (rank, id, speaker, noise_type, snr_db, true, predicted, gap) and, of each,
                RANK-{noisy,enhanced,clean}.wav, the three with one gain where one of them would clip.
            count: how many.

        Returns:
            The path of worst.csv.
        """
        folder = Path(folder)
        _, true, predicted = self.by_row()
        gaps = self._sign() * (np.asarray(predicted) - np.asarray(true))
        known = np.flatnonzero(np.isfinite(gaps))
        worst = known[np.argsort(-gaps[known], kind="stable")[:count]]
        enhancer = self.enhancer.now()
        records = []
        for rank, number in enumerate(worst, start=1):
            row = self.rows[number]
            noisy, clean = mixing.pair(row)
            waves = {"noisy": noisy, "enhanced": enhancer.enhance([noisy])[0], "clean": clean}
            gain = min(1.0, 0.99 / max(np.abs(wave).max() for wave in waves.values()))
            for name, wave in waves.items():
                audio.write(folder / f"{rank:02d}-{name}.wav", gain * wave)
            records.append({"rank": rank, "id": row.id, "speaker": row.speaker, "noise_type": row.noise_type, "snr_db": row.snr_db,
                            "true": true[number], "predicted": predicted[number], "gap": gaps[number]})
        with files.replacing(folder / "worst.csv") as temporary:
            pd.DataFrame(records).to_csv(temporary, index=False, float_format="%.4f")
        return folder / "worst.csv"


def best_of(history, higher_is_better=True):
    """Number of the validation in a history whose weights are kept; where that is not said, of the one with the best `true`."""
    kept = [number for number, row in enumerate(history) if row.get("best")]
    return kept[-1] if kept else _peak(history, higher_is_better)


def _peak(history, higher_is_better):
    """Number of the validation with the best `true`, whether or not its weights are kept."""
    return (max if higher_is_better else min)(range(len(history)), key=lambda number: history[number]["true"])


def fooled(history, validations=3, higher_is_better=True, learning=False):
    """Why to stop, in words, where the enhancer fools Quality-Net; None while it does not.

    It does when, at each of the last `validations` validations, the predicted score stands above what it was at the best true
    score, and the true one below that best: what has been learned since pleases Quality-Net alone. The predictions of one that learns
    on rise by its own learning too, so of that one they must stand above the true score as well.

    Args:
        history: list of dicts with `update`, `true`, `predicted`, and `best` where it says whose weights are kept.
        validations: how many in a row; 0 never stops.
        higher_is_better: of both scores.
        learning: whether Quality-Net learns on meanwhile.
    """
    peak = _peak(history, higher_is_better)
    since, start, sign = history[peak + 1:][-validations:] if validations else [], history[peak], 1 if higher_is_better else -1
    if not validations or len(since) < validations:
        return None
    for row in since:
        rises = sign * row["predicted"] > sign * start["predicted"] and not (learning and sign * row["predicted"] <= sign * row["true"])
        if not (rises and sign * row["true"] < sign * start["true"]):
            return None
    last, kept = since[-1], history[best_of(history, higher_is_better)]["update"]
    return (f"Quality-Net is fooled since iteration {start['update']}: predicted {start['predicted']:.3f} -> {last['predicted']:.3f}, "
            f"true {start['true']:.3f} -> {last['true']:.3f}; the weights of iteration {kept} are kept")
