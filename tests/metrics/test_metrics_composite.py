"""CSIG, CBAK, COVL and the three distances beneath them: golden values, known answers, digital silence, one run for all."""

import json
import math

import numpy as np
import pytest
from conftest import speech_like

from se_keras import metrics
from se_keras.metrics import composite
from se_keras.metrics.base import MetricError
from se_keras.metrics.pesq import pesq_wb
from se_keras.scoring.scores import Job, Scorer

COMPOSITE = ("csig", "cbak", "covl")
DISTANCES = ("llr", "wss", "seg_snr")


@pytest.fixture(scope="module")
def pair():
    clean = speech_like(3, seed=1)
    return clean, clean + 0.02 * np.random.default_rng(0).standard_normal(len(clean)).astype(np.float32)


@pytest.fixture
def golden_pairs(golden_signals):
    """[(name, reference, degraded, golden values)]."""
    folder, signals, name = golden_signals
    values = json.loads((folder / "metrics.json").read_text())
    return [(name, signals["clean"], signals[kind], values[f"{name}_{kind}"]["matlab_consistent_int16_scale"]) for kind in ("noisy", "enh")]


def test_golden_values(golden_pairs):
    """Opinions to 1e-9: what is left is rounding in LLR's recursion, 2e-10. PESQ's float32 is the same on both sides."""
    for _, reference, degraded, values in golden_pairs:
        scores = metrics.evaluate(COMPOSITE, reference, degraded)
        assert scores == pytest.approx({**{name: values[name] for name in COMPOSITE}, "error": None}, abs=1e-9)


def test_golden_distances(golden_pairs):
    """WSS and segmental SNR to the last bits. LLR too where the reference has no digital silence; with it (synth1, over a quarter
    of the frames) an LLR of 20 in each such frame hangs on the twelfth digit of its autocorrelation, and the mean on 0.01."""
    for name, reference, degraded, values in golden_pairs:
        assert composite.wss(reference, degraded) == pytest.approx(values["wss"], rel=1e-12)
        assert composite.seg_snr(reference, degraded) == pytest.approx(values["segsnr"], rel=1e-12)
        assert composite.llr(reference, degraded) == pytest.approx(values["llr"], abs=1e-9 if name == "real15" else 0.02)


def test_identical_signals_have_no_distance(pair):
    """LLR and WSS 0, segmental SNR at its cap; CSIG 3.093 + 0.603 * 4.644 > 5 is cut, as the other two are."""
    scores = metrics.evaluate((*DISTANCES, *COMPOSITE), pair[0], pair[0])
    assert scores == {"llr": 0, "wss": 0, "seg_snr": 35, "csig": 5, "cbak": 5, "covl": 5, "error": None}


def test_opinions_are_regressions_cut_to_one_and_five():
    assert composite.csig_of(2, 1, 50) == pytest.approx(3.093 - 1.029 + 1.206 - 0.45)
    assert composite.cbak_of(2, 50, 5) == pytest.approx(1.634 + 0.956 - 0.35 + 0.315)
    assert composite.covl_of(2, 1, 50) == pytest.approx(1.594 + 1.61 - 0.512 - 0.35)
    assert composite.csig_of(1, 9, 100) == 1 and composite.covl_of(4.64, 0, 0) == 5


def test_segmental_snr_of_a_scaled_copy(pair):
    """x = 0.9 s leaves a tenth as noise: 20 dB in every frame."""
    assert composite.seg_snr(pair[0], np.float64(0.9) * pair[0]) == pytest.approx(20, abs=1e-6)
    assert composite.seg_snr(pair[0], 10 * pair[0]) == -10  # 20 log10(1 / 9) = -19, cut


def test_llr_ignores_level_and_knows_a_filter(pair):
    """Against white noise through 1 / (1 - 0.9 z^-1), white noise needs no prediction: ln(1 / (1 - 0.9^2)) = 1.66 of energy ratio."""
    clean, noisy = pair
    assert composite.llr(clean, 4 * noisy) == pytest.approx(composite.llr(clean, noisy), abs=1e-8)
    from scipy.signal import lfilter

    white = 0.01 * np.random.default_rng(3).standard_normal(64_000)
    assert composite.llr(lfilter([1], [1, -0.9], white), white) == pytest.approx(math.log(1 / (1 - 0.81)), abs=0.1)


def test_wss_walks_to_peaks_as_a_loop_does(pair):
    """Beside the textbook's loops over frames and bands."""
    frames = composite._frames(*pair)[1]
    slopes, weights = composite._slopes(frames)
    power = np.abs(np.fft.fft(frames / 32_768, 1024)[:, :512]) ** 2
    for frame in range(0, len(frames), 20):
        level = 10 * np.log10(np.maximum(power[frame] @ composite._critical_bands(), 1e-10))
        for band in range(24):
            stop = band
            if level[band + 1] > level[band]:
                while stop < 24 and level[stop + 1] > level[stop]:
                    stop += 1
                peak = level[stop - 1]
            else:
                while stop >= 0 and level[stop + 1] <= level[stop]:
                    stop -= 1
                peak = level[stop + 1]
            assert slopes[frame, band] == pytest.approx(level[band + 1] - level[band], abs=1e-9)
            assert weights[frame, band] == pytest.approx(20 / (20 + level.max() - level[band]) / (1 + peak - level[band]), rel=1e-9)


@pytest.mark.parametrize("silent", ["reference", "degraded", "both"])
def test_digital_silence_in_a_part_gives_numbers(pair, silent):
    clean, noisy = (wave.copy() for wave in pair)
    for wave, name in ((clean, "reference"), (noisy, "degraded")):
        if silent in (name, "both"):
            wave[4_000:10_000] = 0
    with np.errstate(all="raise", under="ignore"):
        scores = metrics.evaluate((*DISTANCES, *COMPOSITE), clean, noisy)
    assert scores.pop("error") is None and np.isfinite(list(scores.values())).all()
    frames = composite._frames(clean, noisy)
    inside = slice(34, 79)  # frames of 480 from sample 4,080 to 9,960
    peaks = [np.abs(each[inside]).max() for each in frames]
    assert [bool(0 < peak < 1e-15) for peak in peaks] == [silent in (name, "both") for name in ("reference", "degraded")]
    if silent == "both":  # equal frames: no LLR, no slope, and an SNR of 0/0, which counts as the least
        cut = [wave[4_000:10_000].astype(np.float64) for wave in (clean, noisy)]
        cut[0][-1] = cut[1][-1] = 1e-3  # silence alone is refused
        assert composite.llr(*cut) == composite.wss(*cut) == 0 and composite.seg_snr(*cut) == -10


def test_more_noise_is_worse(pair):
    clean, noisy = pair
    one, other = (metrics.evaluate((*DISTANCES, *COMPOSITE), clean, clean + gain * (noisy - clean)) for gain in (0.3, 3))
    for name in (*DISTANCES, *COMPOSITE):
        assert (one[name] > other[name]) == metrics.get(name).higher_is_better, name


def test_one_run_of_each_part_serves_all(pair, monkeypatch):
    import pesq

    names = (*COMPOSITE, "pesq_wb", "llr")
    assert metrics.measured(names) == ("pesq_wb", "llr", "wss", "seg_snr")
    bands, original = [], pesq.pesq
    monkeypatch.setattr(pesq, "pesq", lambda rate, *waves_and_band: bands.append(waves_and_band[-1]) or original(rate, *waves_and_band))
    scores = metrics.evaluate(names, *pair)
    assert bands == ["wb"]
    assert scores == {"csig": composite.csig(*pair), "cbak": composite.cbak(*pair), "covl": composite.covl(*pair),
                      "pesq_wb": pesq_wb(*pair), "llr": composite.llr(*pair), "error": None}


def test_parts_that_are_kept_are_not_measured_again(pair, tmp_path):
    with Scorer(["pesq_wb"], cache=tmp_path) as scorer:
        parts = dict.fromkeys(("pesq_wb", "llr", "wss"), 1.0)
        scorer._cache.put(["r"], {metrics.get(name).version: (value, None) for name, value in parts.items()})
    with Scorer(["csig", "covl"], cache=tmp_path) as scorer:
        assert scorer.lookup(["r"]) == [{"csig": composite.csig_of(1, 1, 1), "covl": composite.covl_of(1, 1, 1), "error": None}]
        assert scorer.score([Job("id", None, "r")], progress=False)[0]["error"] is None  # nothing is even loaded
    with Scorer(["cbak"], cache=tmp_path) as scorer:
        assert scorer.lookup(["r"]) == [None]


def test_what_cannot_be_scored_says_so_once(pair):
    clean, noisy = pair
    scores = metrics.evaluate(("csig", "cbak", "wss"), clean, 0 * noisy)
    assert scores == {"csig": None, "cbak": None, "wss": None, "error": "csig, cbak, wss: the degraded signal is digital silence"}
    scores = metrics.evaluate(("csig", "wss"), clean[8_000:11_000], noisy[8_000:11_000])
    assert scores["csig"] is None and scores["wss"] > 0 and scores["error"] == "csig: shorter than 1/4 s (BufferTooShortError)"
    for name in DISTANCES:
        with pytest.raises(MetricError, match="shorter than 600 samples"):
            metrics.get(name).function(clean[8_000:8_599], noisy[8_000:8_599])
        assert math.isfinite(metrics.get(name).function(clean[8_000:8_600], noisy[8_000:8_600]))
