"""The report page: which utterances, at what level, within its size; names stay text."""

import io
import json
import re

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import speech_like

from se_keras import report
from se_keras.report import gains, listening, page, tables

ATTACK = "</script><script>alert(1)</script><!--"


def score_rows(systems=("noisy", "mse", "quality"), utterances=6):
    """Utterance u gains u / 10 raw PESQ with the last system and loses u dB SI-SDR; two SNRs, two noise types in turn."""
    return pd.DataFrame([{
        "id": f"u{u}", "system": system, "speaker": f"s{u % 2}", "noise_type": ("babble", "white")[u // 2 % 2], "snr_db": 6.0 * (u % 2),
        "clean": f"s{u % 2}/u{u}", "pesq_raw": 2 + number * u / 10, "si_sdr": 5.0 - number * u, "target": 2.0,
        "predicted": 2.0 + (u == 4), "error": ""} for number, system in enumerate(systems) for u in range(utterances)])


def content(path):
    """What the page holds, as its script reads it."""
    text = path.read_text(encoding="utf-8")
    return text, json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def waves(name="u0", systems=("noisy", "mse", "quality")):
    clean = speech_like(0.5, seed=3)
    return {name: {"clean": clean, **{system: clean for system in systems}}}


def test_rules_choose_what_is_heard_first():
    why = listening.choose(score_rows(), "quality")
    assert why["u5"] == ["best pesq_raw", "worst si_sdr"] and why["u0"] == ["worst pesq_raw", "best si_sdr"]
    assert why["u3"] == ["typical pesq_raw"] and why["u4"] == ["most overrated by Quality-Net"]
    assert list(why)[:3] == ["u5", "u3", "u0"] and sorted(why) == [f"u{u}" for u in range(6)]
    assert listening.choose(score_rows(), "quality", distances=("si_sdr",))["u5"] == ["best pesq_raw", "best si_sdr"]


def test_a_judge_of_a_distance_overrates_by_predicting_less():
    scores = score_rows().assign(predicted=lambda rows: 2.0 - (rows["id"] == "u4"))
    assert listening.choose(scores, "quality", distances=("Quality-Net",))["u4"] == ["most overrated by Quality-Net"]


def test_a_system_gains_nothing_over_itself():
    assert not any(listening.choose(score_rows(("noisy",)).assign(predicted=np.nan, target=np.nan), "noisy").values())


def test_the_rest_is_spread_over_conditions():
    """Of 400 utterances, the first four without a rule have four conditions."""
    scores = score_rows(utterances=400).assign(predicted=2.0)
    unruled = [name for name, rules in listening.choose(scores, "quality").items() if not rules][:4]
    rows = scores.drop_duplicates("id").set_index("id").loc[unruled]
    assert len(set(zip(rows["snr_db"], rows["noise_type"], strict=True))) == 4


def test_versions_are_matched_in_speech():
    clean = speech_like(1.0, seed=1)
    noise = np.random.default_rng(0).standard_normal(len(clean)).astype(np.float32)
    noise -= clean * (noise @ clean) / (clean @ clean)  # no speech in it
    matched = listening.matched({"clean": clean, "noisy": clean + 0.5 * noise, "quiet": 0.5 * clean + 0.1 * noise, "lost": 0.001 * clean},
                                "clean")
    speech = {name: wave @ clean / (clean @ clean) for name, wave in matched.items()}
    assert speech["noisy"] == pytest.approx(speech["clean"], rel=1e-4) and speech["quiet"] == pytest.approx(speech["clean"], rel=1e-4)
    assert speech["lost"] == pytest.approx(10 ** (12 / 20) * 0.001 * speech["clean"], rel=1e-3)  # by 12 dB at most
    assert max(np.abs(wave).max() for wave in matched.values()) <= 0.99 + 1e-6
    real = listening.matched({"noisy": clean, "mse": 0.5 * clean})  # a recording: no clean wave
    np.testing.assert_allclose(real["mse"], real["noisy"], rtol=1e-4, atol=1e-6)
    assert not np.any(listening.matched({"clean": 0 * clean, "noisy": 0 * clean}, "clean")["noisy"])


def test_opus_sounds_as_what_went_in():
    wave = speech_like(2.0, seed=2)
    data = listening.opus(wave)
    decoded, rate = sf.read(io.BytesIO(data))
    assert rate == 16_000 and len(decoded) == len(wave)
    assert 10 * np.log10(np.mean(wave ** 2) / np.mean((decoded - wave) ** 2)) > 12
    assert 30 < 8 * len(data) / 2.0 / 1000 < 70  # kb/s


def test_forty_utterances_of_five_systems_fit(tmp_path):
    """Of 5 s each, as LibriSpeech has them, in noise, which Opus squeezes least."""
    systems = ("noisy", "a", "b", "c", "d")
    scores = score_rows(systems, 40)
    wave = 0.1 * np.random.default_rng(1).standard_normal(5 * 16_000).astype(np.float32)
    encoded = listening.opus(wave)
    summary, heard = tables.summarise(scores), {"clean": wave, **dict.fromkeys(systems, wave)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listening, "opus", lambda wave: encoded)
        path = page.write(tmp_path / "index.html", "Report", summary, scores, lambda ids: dict.fromkeys(ids, heard))
    _, data = content(path)
    assert len(data["heard"]) == 40 and path.stat().st_size <= page.LIMIT_BYTES
    with pytest.MonkeyPatch.context() as patch:  # whole minutes: as many as fit, the first ones
        patch.setattr(listening, "opus", lambda wave: 12 * encoded)
        page.write(path, "Report", summary, scores, lambda ids: dict.fromkeys(ids, heard))
    assert [item["id"] for item in content(path)[1]["heard"]] == [item["id"] for item in data["heard"]][:len(content(path)[1]["heard"])]
    assert 2 <= len(content(path)[1]["heard"]) < 40 and path.stat().st_size <= page.LIMIT_BYTES


def test_names_never_become_markup(tmp_path):
    scores = score_rows(("noisy", ATTACK)).replace({"noise_type": {"babble": ATTACK}, "id": {"u0": ATTACK}})
    heard = waves(ATTACK, ("noisy", ATTACK))
    path = page.write(tmp_path / "index.html", ATTACK, tables.summarise(scores), scores, lambda ids: heard)
    text, data = content(path)
    assert "alert(1)</script>" not in text and "<script>alert" not in text
    assert data["title"] == ATTACK and data["systems"] == ["noisy", ATTACK] and data["heard"][0]["id"] == ATTACK


def test_a_report_writes_its_page(tmp_path):
    asked = []

    def hear(ids):
        asked.extend(ids)
        return waves(ids[0])

    report.write(score_rows(), tmp_path, hear=hear, title="One")
    text, data = content(tmp_path / "index.html")
    assert asked == ["u5", "u3", "u0", "u2", "u4", "u1"]  # u2: typical si_sdr
    assert data["title"] == "One" and data["heard"][0]["why"] == ["best pesq_raw", "worst si_sdr"]
    assert list(data["heard"][0]["audio"]) == ["clean", "noisy", "mse", "quality"]
    assert data["judges"]["Quality-Net"]["systems"]["mse"] == [[2.0] * 6, [2.0, 2.0, 2.0, 2.0, 3.0, 2.0]]
    assert not re.findall(r'(?:src|href)="(?!data:)', text.split('id="data"')[0])  # nothing is fetched
    assert data["scores"]["quality"]["pesq_raw"] == pytest.approx([2 + 2 * u / 10 for u in range(6)])


def test_gains_are_those_of_the_figure(tmp_path):
    scores = score_rows()
    path = page.write(tmp_path / "index.html", "Report", tables.summarise(scores), scores)
    _, data = content(path)
    found = gains.by_condition(scores, "pesq_raw")
    assert data["baseline"] == "noisy" and list(data["gains"]["pesq_raw"]["snr"]) == ["0 dB", "6 dB"]
    assert data["gains"]["pesq_raw"]["snr"]["6 dB"]["quality"][0] == pytest.approx(np.mean([0.2, 0.6, 1.0]))
    interval = found["noise_type"]["white"]["mse"]
    assert data["gains"]["pesq_raw"]["noise_type"]["white"]["mse"] == [interval.mean, interval.low, interval.high]


def test_recordings_of_which_nothing_is_known(tmp_path):
    """No SNR, noise, speaker or clean wave: one gain over all, no name for what has none, and levels that are no levels of speech."""
    scores = score_rows().assign(noise_type="unknown", speaker="unknown", snr_db=np.nan)
    heard = {"u0": {system: speech_like(0.2) for system in ("noisy", "mse", "quality")}}
    _, data = content(page.write(tmp_path / "index.html", "Report", tables.summarise(scores), scores, lambda ids: heard))
    assert set(data["noise"] + data["speaker"] + data["snr"]) == {""} and data["level"] == "one level"
    assert list(data["gains"]["pesq_raw"]) == ["all"]
    assert data["gains"]["pesq_raw"]["all"]["all utterances"]["quality"][0] == pytest.approx(np.mean([0, 0.2, 0.4, 0.6, 0.8, 1.0]))
    scores["snr_db"] = 5.0  # something is known
    _, data = content(page.write(tmp_path / "index.html", "Report", tables.summarise(scores), scores, lambda ids: waves()))
    assert list(data["gains"]["pesq_raw"]) == ["snr"] and data["level"] == "one speech level"


def test_one_long_utterance_leaves_room_for_short_ones():
    wave = speech_like(0.5, seed=4)
    kept = listening.encoded({"long": {"clean": np.tile(wave, 40)}, "short": {"clean": wave}}, 20_000)
    assert list(kept) == ["short"]


def test_a_history_may_lack_a_number(tmp_path):
    history = {"update": [0, 5], "predicted": [2.0, float("nan")], "true": [2.0, 2.2], "best": 5, "label": "PESQ"}
    scores = score_rows()
    _, data = content(page.write(tmp_path / "index.html", "Report", tables.summarise(scores), scores, history=history))
    assert data["history"]["predicted"] == [2.0, None]


def test_too_many_systems_are_heard_in_part():
    systems = ["noisy", *(f"s{number}" for number in range(12))]
    assert page.audible(systems) == ["noisy", *(f"s{number}" for number in range(5, 12))]
    assert page.audible(systems[:5]) == systems[:5]


def test_many_utterances_are_thinned_but_what_is_heard_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "_MOST_POINTS", 30)
    scores = score_rows(utterances=20)
    path = page.write(tmp_path / "index.html", "Report", tables.summarise(scores), scores, lambda ids: waves("u13"))
    _, data = content(path)
    assert "u13" in data["ids"] and len(data["ids"]) < 20 and data["scored"] == 20
    assert data["scores"]["mse"]["pesq_raw"][data["ids"].index("u13")] == pytest.approx(3.3)
