"""The golden values are those of the signals beside them, and none is of recorded speech."""

import hashlib
import json

import numpy as np


def test_signals_are_those_that_the_values_were_measured_on(golden):
    expected = json.loads((golden / "signals.json").read_text())
    with np.load(golden / "signals.npz") as signals:
        assert set(signals.files) == set(expected)
        for name, wave in signals.items():
            assert hashlib.sha256(wave.tobytes()).hexdigest() == expected[name]["sha256"]


def test_nothing_is_of_recorded_speech(golden):
    for path in golden.glob("*.json"):
        assert "real15" not in path.read_text()
    for name, samples in (("dccrn_tiny_E", 4800), ("tfgridnet_dl_tiny", 4000)):
        wave = np.load(golden / "signals.npz")["synth1_noisy"][16_000:16_000 + samples]
        np.testing.assert_array_equal(np.load(golden / f"{name}.npz")["x"][0], wave)
