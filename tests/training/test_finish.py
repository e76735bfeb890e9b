"""A training that has gained nothing says so."""

from conftest import ENHANCER, FINETUNE

import finetune
import train
from se_keras.training import runs


def history(*best):
    return [{"update": number, "true": 1.0 - 0.1 * number, "best": number in best} for number in range(3)]


def test_nothing_gained_is_said(tmp_path, capsys):
    runs.finish(tmp_path, history(0), "true")
    assert "nothing gained: these are the weights it began from" in capsys.readouterr().out
    runs.finish(tmp_path, history(0, 2), "true")
    assert "nothing gained" not in capsys.readouterr().out


def test_a_fine_tuning_that_gains_nothing(trained, tmp_path, capsys):
    """A rate so high that every step hurts."""
    finetune.main(["--data", str(trained / "data"), "--enhancer", str(trained / "mse"), "--quality-net", str(trained / "quality-net"),
                   "--out", str(tmp_path / "run"), "--learning-rate", "3", *FINETUNE])
    assert "nothing gained" in capsys.readouterr().out


def test_an_enhancer_below_noisy_speech_is_said(trained, tmp_path, capsys):
    """Two updates at a rate that gains nothing: a random mask on speech."""
    command = ["enhancer", "--data", str(trained / "data"), "--out", str(tmp_path / "run"), *ENHANCER, "--learning-rate", "1e-9"]
    command[command.index("--epochs") + 1] = "1"
    train.main(command)
    said = capsys.readouterr().out
    from se_keras import pretrained
    from se_keras.mixtures import manifest
    from se_keras.scoring import evaluation, scores

    rows = manifest.read(trained / "data" / "valid.jsonl")
    with scores.Scorer(["pesq_raw"], cache=trained / "data" / "scores", workers=1) as scorer:
        noisy, ours = (evaluation.mean_scores(rows, pretrained.load_system(name), scorer)["pesq_raw"]
                       for name in ("noisy", tmp_path / "run"))
    assert ("worse than doing nothing" in said) == (ours < noisy)
