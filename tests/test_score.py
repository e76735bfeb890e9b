"""score.py as a user runs it: measured beside predicted, notices, errors, exit codes."""

import json
import re

import numpy as np
import pytest
import soundfile as sf
from conftest import noisy_speech, run_without_tensorflow, speech_like

import score
from se_keras import metrics, pretrained
from se_keras.corpora import demo_speech
from se_keras.errors import UserError
from se_keras.judges import targets
from se_keras.metrics.pesq import raw_to_nb


class Predictor:
    """A Quality-Net that predicts the degraded signal's level over its reference's, in bel: any mismatch shows."""

    target, needs_reference = targets.parse("pesq_raw"), True

    def predict_waves(self, pairs):
        return [np.log10(np.sum(np.square(degraded)) / np.sum(np.square(clean))) for degraded, clean in pairs]


@pytest.fixture(scope="session")
def spoken(tmp_path_factory):
    """A sentence of the demo corpus: the shipped networks know such speech."""
    path = tmp_path_factory.mktemp("spoken") / "sentence.wav"
    _, *voice = demo_speech.VOICES["test"][0]
    demo_speech._speak((voice, demo_speech.SENTENCES["test"][:1], [path]))
    return sf.read(path, dtype="float32")[0]


@pytest.fixture
def pair(spoken, tmp_path):
    """Clean and noisy speech: (degraded path, reference path, degraded wave, reference wave)."""
    clean = spoken
    noisy = clean + np.float32(0.3 * np.std(clean)) * np.random.default_rng(0).standard_normal(len(clean)).astype(np.float32)
    for name, wave in (("noisy", noisy), ("clean", clean)):
        (tmp_path / name).mkdir()
        sf.write(tmp_path / name / "one.wav", wave, 16_000, subtype="FLOAT")
    return tmp_path / "noisy" / "one.wav", tmp_path / "clean" / "one.wav", noisy, clean


def test_scores_are_the_metrics(pair):
    degraded, reference, noisy, clean = pair
    result = run_without_tensorflow("score", "--degraded", degraded, "--reference", reference, "--json", "--quality-net", "none")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)["pairs"][0]
    assert found["degraded"] == str(degraded) and found["error"] is None
    for name in metrics.DEFAULT:
        assert found[name] == pytest.approx(metrics.get(name).function(clean, noisy), abs=1e-4), name


def test_a_table_with_predictions_and_mean(pair, monkeypatch, capsys):
    degraded, reference, noisy, clean = pair
    sf.write(degraded.with_name("two.flac"), clean, 16_000)
    sf.write(reference.with_name("two.wav"), clean, 16_000)
    monkeypatch.setattr(pretrained, "load_quality_net", lambda name: Predictor())
    assert score.main(["--degraded", str(degraded.parent), "--reference", str(reference.parent)]) == 0
    above, names, rule, one, two, mean = capsys.readouterr().out.splitlines()
    assert above.split() == ["PESQ", "PESQ", "PESQ", "SI-SDR", "predicted", "predicted"]
    assert names.split() == ["degraded", "raw", "nb", "wb", "STOI", "ESTOI", "(dB)", "PESQ", "raw", "PESQ", "nb"]
    assert [line.split()[0] for line in (one, two, mean)] == ["one.wav", "two.flac", "mean"]
    assert one.split()[1] == f"{metrics.get('pesq_raw').function(clean, noisy):.2f}"


def test_the_table_of_several_pairs_is_100_wide(pair, monkeypatch):
    """All that the shipped Quality-Nets give fits side by side; with more, a second table goes below. Long names lose their middle."""
    sums = [targets.parse("pesq_raw:0.5,covl:0.25,stoi:0.25"), targets.parse("pesq_wb:0.5,stoi:0.5")]
    measured = dict.fromkeys((*metrics.DEFAULT, "covl", *(target.text for target in sums[:1])), 1.234) | {"si_sdr": -10.123}
    predicted = dict.fromkeys(("pesq_raw", "pesq_nb", sums[0].text), 1.234)
    names = ["1355-39947-0000-0000_pink_noise_-10dB.wav", "1355-39947-0000-0001_pink_noise_-10dB.wav", "b.wav"]
    rows = [{"degraded": f"in/{name}", "reference": "r", **measured, **{f"predicted_{name}": value for name, value in predicted.items()},
             "error": None} for name in names]
    lines = score.as_table(rows, sums[:1]).splitlines()
    assert len(lines) == 3 + 4 + 1 and max(map(len, lines)) <= 100
    assert [line.split()[:2] for line in lines[3:7]] == [["1", "1355-...dB.wav"], ["2", "1355-...dB.wav"], ["3", "b.wav"], ["mean", "1.23"]]
    assert lines[-1] == "sum: 0.5 PESQ raw + 0.25 COVL + 0.25 STOI, 0 to 1"
    for row in rows:
        row |= {f"predicted_without_reference_{name}": 2.0 for name in ("pesq_raw", "pesq_nb")} | {f"predicted_{sums[1].text}": 0.5}
    lines = score.as_table(rows, sums).splitlines()
    assert max(map(len, lines)) <= 100 and "sum 1: 0.5 PESQ raw" in lines[-2] and "sum 2: 0.5 PESQ wb + 0.5 STOI" in lines[-1]
    assert sum(line.startswith("3 b.wav") for line in lines) == 2 and sum("without ref." in line for line in lines) == 1


def test_the_table_of_one_pair_is_100_wide():
    """With a long name, all three kinds of scores, and a metric of one's own."""
    row = {"degraded": f"in/{'long' * 30}.wav", "reference": "r", "pesq_raw": 1.0, "some.package.metrics:a_function_of_my_own[0,10]": 2.0,
           "predicted_pesq_raw": 1.5, "predicted_without_reference_pesq_raw": 2.5, "error": None}
    lines = score.as_table([row]).splitlines()
    assert max(map(len, lines)) == 100 and re.match(r"longlong\w+\.\.\.\w+longlong\.wav +measured ", lines[0])
    assert lines[2].split() == ["PESQ", "raw", "1.000", "1.500", "2.500"] and "..." in lines[3] and lines[3].endswith("2.000")


def test_both_default_judges_predict_beside_what_is_measured(pair, capsys):
    """A Quality-Net with ears raw PESQ, the hearing model PESQ wb; one pair is a line a score."""
    degraded, reference, noisy, clean = pair
    files = ["--degraded", str(degraded), "--reference", str(reference)]
    assert score.main([*files, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["quality_net"] == ["quality-net-ears", "hearing_wb"]
    row, = said["pairs"]
    for name in ("pesq_raw", "pesq_nb", "pesq_wb"):
        assert row[name] == pytest.approx(metrics.get(name).function(clean, noisy), abs=1e-4)
        assert row["predicted_" + name] == pytest.approx(row[name], abs=0.6)
    assert score.main(files) == 0
    lines = {line[:10].strip(): line[10:].split() for line in capsys.readouterr().out.splitlines()}
    assert lines["one.wav"] == ["measured", "predicted"]
    assert lines["PESQ raw"] == [f"{row[prefix + 'pesq_raw']:.3f}" for prefix in ("", "predicted_")]
    assert lines["STOI"] == [f"{row['stoi']:.3f}"]


class Renamed(Predictor):
    """The same, for a target that is given."""

    def __init__(self, *names):
        self.target = targets.Target(",".join(names), tuple(targets.Term(name, 1 / len(names), 0.0, 1.0) for name in names))


def test_what_cannot_be_measured_is_predicted(pair, monkeypatch, capsys):
    """A user's function that is not at hand here, and a sum that holds it."""
    degraded, reference, _, _ = pair
    found = {"one": Renamed("gone:loudness[0,1]"), "two": Renamed("stoi", "gone:loudness[0,1]")}
    monkeypatch.setattr(pretrained, "load_quality_net", found.__getitem__)
    monkeypatch.setattr(pretrained, "read_card", lambda name, kinds: {"network": "quality_net", "target": found[name].target.to_config()})
    assert score.main(["--degraded", str(degraded), "--reference", str(reference), "--quality-net", "one", "two", "--json",
                       "--trust-card"]) == 0
    said = capsys.readouterr()
    row, = json.loads(said.out)["pairs"]
    assert row["predicted_gone:loudness[0,1]"] == row["predicted_stoi,gone:loudness[0,1]"] is not None
    assert 0 < row["stoi"] < 1 and not {"gone:loudness[0,1]", "stoi,gone:loudness[0,1]"} & set(row)
    assert "note: gone:loudness[0,1] is predicted, and not measured: metric 'gone:loudness[0,1]': there is no module gone" in said.err


class Deaf(Predictor):
    """The same of a network that needs no reference."""

    needs_reference = False

    def predict_waves(self, pairs):
        return [0.25 for _ in pairs]


def test_both_kinds_of_quality_net_stand_in_one_table(pair, monkeypatch, capsys):
    """The one that compares and the one that does not both predict raw PESQ of one pair."""
    degraded, reference, _, _ = pair
    found = {"quality-net": Predictor(), "quality-net-2018": Deaf()}
    monkeypatch.setattr(pretrained, "load_quality_net", found.__getitem__)
    asked = ["--degraded", str(degraded), "--reference", str(reference), "--quality-net", *found]
    assert score.main([*asked, "--json"]) == 0
    row, = json.loads(capsys.readouterr().out)["pairs"]
    assert row["predicted_pesq_raw"] == pytest.approx(np.log10(1.09), abs=0.01)
    assert row["predicted_without_reference_pesq_raw"] == 0.25
    assert row["predicted_without_reference_pesq_nb"] == raw_to_nb(0.25)
    assert score.main(asked) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split(maxsplit=3)[1:] == ["measured", "predicted", "predicted without reference"]
    assert lines[2].split()[2:] == [
        f"{row[name]:.3f}" for name in ("pesq_raw", "predicted_pesq_raw", "predicted_without_reference_pesq_raw")]


def test_two_quality_nets_that_predict_the_same_are_refused(pair, monkeypatch):
    _, reference, _, _ = pair
    assert score.quality_nets(["quality-net", "quality-net-2018"], reference) == ["quality-net", "quality-net-2018"]
    for network in ("quality_net", "quality_net_2018"):
        monkeypatch.setattr(pretrained, "read_card", lambda name, kinds, network=network: {
            "network": network, "target": targets.parse(name).to_config()})
        with pytest.raises(UserError, match="pesq_raw and pesq_raw both predict pesq_raw; name one of them"):
            score.quality_nets(["pesq_raw", "pesq_raw"], reference)
        with pytest.raises(UserError, match="pesq_raw and pesq_nb both predict pesq_nb"):  # which follows from raw PESQ
            score.quality_nets(["pesq_raw", "pesq_nb"], reference)


@pytest.mark.parametrize("gain_db", (-20, 20))
@pytest.mark.parametrize("delay", (0, 37))
def test_level_of_the_degraded_signal_does_not_matter(pair, gain_db, delay):
    _, _, noisy, clean = pair
    noisy = np.roll(noisy, delay)
    one = score.score(noisy, clean, [Predictor()])
    other = score.score(noisy * np.float32(10 ** (gain_db / 20)), clean, [Predictor()])
    # noise 0.3 times as large as speech, uncorrelated with it: the energy grows by 1 + 0.09, whatever level it came at
    assert one["predicted_pesq_raw"] == pytest.approx(np.log10(1.09), abs=0.01)
    for name in ("predicted_pesq_raw", "predicted_pesq_nb", *metrics.DEFAULT):
        assert other[name] == pytest.approx(one[name], abs=0.005), name
    assert one["predicted_pesq_nb"] == raw_to_nb(one["predicted_pesq_raw"])


def test_other_rates_are_resampled_and_said(pair, tmp_path):
    _, reference, noisy, _ = pair
    import soxr

    sf.write(tmp_path / "noisy44.wav", soxr.resample(noisy, 16_000, 44_100), 44_100, subtype="FLOAT")
    result = run_without_tensorflow("score", "--degraded", tmp_path / "noisy44.wav", "--reference", reference, "--json",
                                    "--quality-net", "none")
    assert "1 of 2 files resampled from 44100 to 16000 Hz" in result.stderr
    assert json.loads(result.stdout)["pairs"][0]["si_sdr"] == pytest.approx(20 * np.log10(1 / 0.3), abs=0.5)


def test_what_has_no_score_says_why(tmp_path, capsys):
    for name, wave in (("silent", np.zeros(16_000)), ("clean", speech_like(1)), ("short", speech_like(1)[8_000:10_000])):
        sf.write(tmp_path / f"{name}.wav", wave, 16_000)

    def scored(degraded, reference, code):
        assert score.main(["--degraded", str(tmp_path / degraded), "--reference", str(tmp_path / reference), "--json",
                           "--quality-net", "none"]) == code
        said = capsys.readouterr()
        assert ("error: not one score could be measured: " in said.err) == (code == 2)
        return json.loads(said.out)["pairs"][0]

    row = scored("silent.wav", "clean.wav", 2)
    assert row["pesq_raw"] is None and "digital silence" in row["error"]
    row = scored("short.wav", "short.wav", 0)
    assert row["pesq_wb"] is None and "1/4 s" in row["error"]
    assert row["si_sdr"] is None  # infinite for identical signals: JSON has no infinity


@pytest.mark.parametrize("wave, reason", [(np.zeros(16_000), "digital silence"), (speech_like(1)[8_000:8_100], "shorter than 1/4 s")])
def test_what_cannot_be_predicted_without_a_reference_ends_in_2(tmp_path, monkeypatch, capsys, wave, reason):
    monkeypatch.setattr(pretrained, "load_quality_net", lambda name: Deaf())
    sf.write(tmp_path / "bad.wav", wave, 16_000)
    assert score.main(["--degraded", str(tmp_path / "bad.wav")]) == 2
    said = capsys.readouterr()
    assert "error: not one score could be predicted: " in said.err and reason in said.err and "bad.wav" in said.out
    sf.write(tmp_path / "good.wav", speech_like(1), 16_000)
    assert score.main(["--degraded", str(tmp_path)]) == 0


def test_the_bias_on_the_card_is_said_without_a_reference(pair, monkeypatch, capsys):
    degraded, reference, _, _ = pair
    card = {**pretrained.read_card("quality-net-2018"), "bias": {"data": "valid", "noisy": -0.034, "blstm-mse": 0.1, "blstm-qnet": 0.2}}
    monkeypatch.setattr(pretrained, "load_quality_net", lambda name: Deaf())
    monkeypatch.setattr(pretrained, "read_card", lambda name, kinds=None: card)
    assert score.main(["--degraded", str(degraded)]) == 0
    sentence = "quality-net-2018: on validation it predicts noisy speech 0.03 too low and enhanced speech 0.15 too high on average"
    assert sentence in " ".join(capsys.readouterr().out.split())
    assert score.main(["--degraded", str(degraded), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bias"] == {"quality-net-2018": {"noisy": -0.034, "enhanced": pytest.approx(0.15)}}
    assert score.main(["--degraded", str(degraded), "--reference", str(reference), "--quality-net", "quality-net-2018"]) == 0
    assert "too high" not in capsys.readouterr().out
    del card["bias"]
    assert score.main(["--degraded", str(degraded)]) == 0
    assert "too high" not in capsys.readouterr().out


def test_silence_is_not_predicted():
    row = score.score(np.zeros(16_000, np.float32), speech_like(1), [Predictor()])
    assert row["predicted_pesq_raw"] is None and row["predicted_pesq_nb"] is None and "digital silence" in row["error"]


def test_lengths_may_differ_by_a_frame(tmp_path, capsys):
    sf.write(tmp_path / "clean.wav", speech_like(2), 16_000)
    sf.write(tmp_path / "frame.wav", noisy_speech(2)[:-256], 16_000)
    sf.write(tmp_path / "more.wav", noisy_speech(2)[:-257], 16_000)
    common = ["--reference", str(tmp_path / "clean.wav"), "--quality-net", "none"]
    assert score.main(["--degraded", str(tmp_path / "frame.wav"), *common]) == 0
    assert "cut to the length" in capsys.readouterr().err
    assert score.main(["--degraded", str(tmp_path / "more.wav"), *common]) == 2
    assert "holds 31743 samples at 16 kHz" in capsys.readouterr().err


def test_a_bad_pair_among_good_ones(pair, capsys):
    degraded, reference, _, clean = pair
    degraded.with_name("bad.wav").write_text("no audio")
    sf.write(reference.with_name("bad.wav"), clean, 16_000)
    assert score.main(["--degraded", str(degraded.parent), "--reference", str(reference.parent), "--quality-net", "none"]) == 2
    printed = capsys.readouterr()
    assert "one.wav" in printed.out and "bad.wav: not a readable audio file" in printed.err


def test_without_a_reference_only_the_network_that_needs_none_will_do(tmp_path, capsys):
    sf.write(tmp_path / "one.wav", speech_like(1.0), 16_000)
    for network in ("quality-net", "none"):
        with pytest.raises(UserError, match="--reference is missing"):
            score.main(["--degraded", str(tmp_path / "one.wav"), "--quality-net", network])


def test_files_that_make_no_pairs(tmp_path):
    for name in ("d/a.wav", "d/b.wav", "r/a.wav", "twice/a.wav", "twice/more/a.flac", "empty/readme.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        sf.write(tmp_path / name, np.zeros(10), 16_000) if not name.endswith("txt") else (tmp_path / name).write_text("")
    for degraded, reference, message in (
            ("d", "r", "no reference for 1 of 2 files of .*: b;"), ("d/a.wav", "r", "one is a file and one a folder"),
            ("r", "twice", "have one name"), ("empty", "r", "without audio files"), ("d/c.wav", "r/a.wav", "no such file")):
        with pytest.raises(UserError, match=message):
            score.pair_files(tmp_path / degraded, tmp_path / reference)
    assert score.pair_files(tmp_path / "r", tmp_path / "d") == [(tmp_path / "r" / "a.wav", tmp_path / "d" / "a.wav")]
