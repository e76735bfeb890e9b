"""What bfloat16 costs on this machine is measured, and said at the start of a training."""

import pytest

from se_keras.training import precision


def test_both_precisions_are_timed(monkeypatch):
    monkeypatch.setattr(precision, "BINS", 33)
    assert 0 < precision.bfloat16_share() < 100


@pytest.mark.parametrize(("share", "advice"), [(0.55, "in float32\n"), (1.4, "; leave the flag out, float32 is as good and faster\n")])
def test_it_is_said(monkeypatch, capsys, share, advice):
    monkeypatch.setattr(precision, "bfloat16_share", lambda: share)
    precision.say_share()
    said = capsys.readouterr().out
    assert f"here a step takes {share:.2f} times as long" in said and said.endswith(advice)
