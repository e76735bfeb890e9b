"""enhance.py and score.py as a user runs them: files and folders in and out, notices, errors, exit codes."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf
from conftest import ROOT, speech_like

import enhance
import score
from se_keras import metrics, pretrained
from se_keras.corpora import demo_speech
from se_keras.enhancers.wiener import Wiener
from se_keras.errors import UserError
from se_keras.judges import targets
from se_keras.metrics.pesq import raw_to_nb
from se_keras.signals import streaming


def run(script, *arguments):
    """A script in a process of its own, with a TensorFlow that cannot be imported: nothing here may ask for it."""
    code = ("import sys, runpy; sys.modules['tensorflow'] = None; sys.argv = sys.argv[1:]; "
            "runpy.run_path(sys.argv[0], run_name='__main__')")
    return subprocess.run([sys.executable, "-c", code, ROOT / f"{script}.py", *map(str, arguments)], cwd=ROOT, capture_output=True,
                          text=True, timeout=120)


def noisy_speech(seconds=2.0, seed=0, level=0.05):
    wave = speech_like(seconds, seed)
    return wave + (level * np.random.default_rng(seed).standard_normal(len(wave))).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    """Recordings of several kinds, with one that cannot be read among them."""
    root = tmp_path / "given"
    (root / "sub").mkdir(parents=True)
    sf.write(root / "a.wav", noisy_speech(), 16_000)
    sf.write(root / "sub" / "b.flac", np.stack([noisy_speech(2, 1, 0.01)[:20_000], noisy_speech(2, 2, 0.01)[:20_000]], 1), 44_100)
    (root / "sub" / "bad.wav").write_text("no audio")
    (root / "sub" / "notes.txt").write_text("no audio either")
    return root


def test_a_folder_with_a_bad_file_among_good_ones(folder, tmp_path):
    result = run("enhance", folder, "--out", tmp_path / "out", "--enhancer", "wiener")
    assert result.returncode == 2
    assert "error: " in result.stderr and "bad.wav: not a readable audio file" in result.stderr and "Traceback" not in result.stderr
    out = tmp_path / "out"
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*")) == ["a.wav", "sub/b.flac"]
    info = sf.info(out / "sub" / "b.flac")
    assert (info.samplerate, info.channels, info.frames, info.subtype) == (44_100, 2, 20_000, "PCM_16")
    assert "content above 8 kHz dropped" in result.stdout and "2.00 s" in result.stdout
    expected, = Wiener().enhance([sf.read(folder / "a.wav", dtype="float32")[0]])
    np.testing.assert_allclose(sf.read(out / "a.wav")[0], expected, atol=1 / 32768)


def test_one_file_to_a_file(folder, tmp_path):
    result = run("enhance", folder / "a.wav", "--out", tmp_path / "clean.flac", "--enhancer", "wiener")
    assert result.returncode == 0, result.stderr
    assert sf.info(tmp_path / "clean.flac").frames == 32_000


@pytest.mark.parametrize("script", ("enhance", "score"))
def test_help_teaches(script):
    result = run(script, "--help")
    assert result.returncode == 0 and f"python {script}.py" in result.stdout


def test_where_outputs_go(folder, tmp_path):
    a, b, out = folder / "a.wav", folder / "sub" / "b.flac", tmp_path / "out"
    assert enhance.plan([a], out / "x.wav") == [(a, out / "x.wav")]
    assert enhance.plan([a], out) == [(a, out / "a.wav")]
    assert enhance.plan([a, b], out) == [(a, out / "a.wav"), (b, out / "b.flac")]
    assert enhance.plan([a], f"{tmp_path}/v1.2/") == [(a, tmp_path / "v1.2" / "a.wav")]
    assert [target for _, target in enhance.plan([folder], out)] == [out / "a.wav", out / "sub" / "b.flac", out / "sub" / "bad.wav"]


def test_earlier_outputs_inside_the_input_are_not_inputs(folder):
    (folder / "out").mkdir()
    sf.write(folder / "out" / "a.wav", np.zeros(100), 16_000)
    assert folder / "out" / "a.wav" not in [source for source, _ in enhance.plan([folder], folder / "out")]


def test_outputs_that_cannot_be(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    sf.write(tmp_path / "other" / "a.wav", np.zeros(100), 16_000)
    for inputs, out, message in (
            ([tmp_path / "missing.wav"], "out", "missing.wav: no such file or folder"),
            ([tmp_path / "missing.wav"], "out.wav", "missing.wav: no such file or folder"),
            ([tmp_path / "empty"], "out", "without audio files"),
            ([folder], "out.wav", "a folder is expected"),
            ([folder], "given/a.wav", "a folder is expected"),
            ([folder], "given", "the same folder"),
            ([folder / "a.wav"], "given", "the same file"),
            ([folder / "a.wav"], "given/a.wav", "the same file"),
            ([folder / "a.wav"], "out.mp9", "names no audio format"),
            ([folder / "a.wav", tmp_path / "other" / "a.wav"], "out", "would both be written")):
        with pytest.raises(UserError, match=message):
            enhance.plan(inputs, tmp_path / out)


def test_arguments_are_checked_before_a_model_is_loaded(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(enhance, "load_system", lambda name: pytest.fail("loaded"))
    with pytest.raises(UserError, match="longer than two overlaps"):
        enhance.main([str(folder), "--out", str(tmp_path / "out"), "--piece", "3"])
    with pytest.raises(UserError, match="no such file"):
        enhance.main([str(folder / "c.wav"), "--out", str(tmp_path / "out")])


def test_an_unknown_enhancer_is_told(folder, tmp_path):
    result = run("enhance", folder, "--out", tmp_path / "out", "--enhancer", "no-such-model")
    assert result.returncode == 2 and result.stderr.startswith("error: no-such-model: no such model")
    assert not (tmp_path / "out").exists()


def test_a_gain_against_clipping_is_said(folder, tmp_path, monkeypatch, capsys):
    class Louder(Wiener):
        def enhance(self, waves):
            return [wave * np.float32(2 / np.abs(wave).max()) for wave in waves]

    monkeypatch.setattr(enhance, "load_system", lambda name: Louder())
    assert enhance.main([str(folder / "a.wav"), "--out", str(tmp_path / "out")]) == 0
    assert "scaled by -6.0 dB, or it would clip" in capsys.readouterr().out  # 20 log10(1/2)


def test_half_an_ogg_file_is_said(folder, tmp_path, capsys):
    sf.write(folder / "half.ogg", noisy_speech(10.0), 16_000)
    (folder / "half.ogg").write_bytes((folder / "half.ogg").read_bytes()[:30_000])
    for script in (enhance.main, score.main):
        flags = ["--out", str(tmp_path / "out.wav"), "--enhancer", "wiener"] if script is enhance.main else ["--quality-net", "none"]
        inputs = [str(folder / "half.ogg")] if script is enhance.main else [
            "--degraded", str(folder / "half.ogg"), "--reference", str(folder / "half.ogg")]
        assert script([*inputs, *flags]) == 0
        said = capsys.readouterr()
        assert "the end is missing, or was never marked" in said.out + said.err


def test_ctrl_c_keeps_what_is_done(folder, tmp_path, monkeypatch, capsys):
    enhance_file = streaming.enhance_file

    def interrupted(system, source, *arguments, **more):
        if source.name == "b.flac":
            raise KeyboardInterrupt
        return enhance_file(system, source, *arguments, **more)

    monkeypatch.setattr(streaming, "enhance_file", interrupted)
    assert enhance.main([str(folder), "--out", str(tmp_path / "out"), "--enhancer", "wiener"]) == 130
    assert "interrupted: 1 of 3 files" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "out").rglob("*.*")] == ["a.wav"]


# score.py


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
    result = run("score", "--degraded", degraded, "--reference", reference, "--json", "--quality-net", "none")
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
    result = run("score", "--degraded", tmp_path / "noisy44.wav", "--reference", reference, "--json", "--quality-net", "none")
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


def test_the_recording_that_comes_with_the_clone_gains(tmp_path):
    """README's first command: the shipped enhancer on data/examples, better than the noisy speech in raw PESQ, wb PESQ and SI-SDR."""
    from conftest import ROOT

    from se_keras import metrics
    from se_keras.signals import audio

    examples = ROOT / "data" / "examples"
    assert enhance.main([str(examples / "noisy.wav"), "--out", str(tmp_path / "enhanced.wav")]) == 0
    clean, noisy, enhanced = (audio.read(path) for path in (examples / "clean.wav", examples / "noisy.wav", tmp_path / "enhanced.wav"))
    names = ("pesq_raw", "pesq_wb", "si_sdr")
    before, after = (metrics.evaluate(names, clean, wave) for wave in (noisy, enhanced))
    assert all(after[name] > before[name] for name in names)
