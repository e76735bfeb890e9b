"""enhance.py as a user runs it, and what both scripts on recordings say: files and folders in and out, notices, errors, exit codes."""

import base64
import io

import numpy as np
import pytest
import soundfile as sf
from conftest import ROOT, noisy_speech, refused, run_without_tensorflow

import enhance
import score
from se_keras import metrics
from se_keras.enhancers.wiener import Wiener
from se_keras.errors import UserError
from se_keras.recipes import comparing
from se_keras.report import page
from se_keras.signals import audio, streaming


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


def test_dry_mixes_the_noisy_speech_back_in(tmp_path, capsys):
    sf.write(tmp_path / "a.wav", noisy_speech(), 16_000)
    wave = sf.read(tmp_path / "a.wav", dtype="float32")[0]
    assert enhance.main([str(tmp_path / "a.wav"), "--out", str(tmp_path / "b.wav"), "--enhancer", "wiener", "--dry", "0.2"]) == 0
    expected = 0.8 * Wiener().enhance([wave])[0] + 0.2 * wave
    np.testing.assert_allclose(sf.read(tmp_path / "b.wav")[0], expected, atol=1 / 32768)
    assert "20% of the noisy speech" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        enhance.main([str(tmp_path / "a.wav"), "--out", str(tmp_path / "b.wav"), "--dry", "1.5"])


def test_a_folder_with_a_bad_file_among_good_ones(folder, tmp_path):
    result = run_without_tensorflow("enhance", folder, "--out", tmp_path / "out", "--enhancer", "wiener")
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
    result = run_without_tensorflow("enhance", folder / "a.wav", "--out", tmp_path / "clean.flac", "--enhancer", "wiener")
    assert result.returncode == 0, result.stderr
    assert sf.info(tmp_path / "clean.flac").frames == 32_000


@pytest.mark.parametrize("script", ("enhance", "score"))
def test_help_teaches(script):
    result = run_without_tensorflow(script, "--help")
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


def test_compare_writes_a_page_of_both(folder, tmp_path, monkeypatch, capsys):
    """Beside a file, or in the folder; of what is long the start, of stereo the average; both at the enhanced speech's level."""
    monkeypatch.setattr(comparing, "LONGEST_S", 0.4)
    assert enhance.main([str(folder), "--out", str(tmp_path / "out"), "--enhancer", "wiener", "--compare"]) == 2  # bad.wav
    place = tmp_path / "out" / "compare.html"
    assert f"noisy and enhanced in step: {place} (the first 0.4 s of each)" in capsys.readouterr().out
    content = page.read(place)
    assert [item["id"] for item in content["heard"]] == ["a.wav", "sub/b.flac"] and content["metrics"] == []
    assert content["heard"][1]["note"] == ("Heard here: the first 0.4 s of 0.5 s, the average of 2 channels, at 16 kHz, where the file has "
                                           "44100 Hz.")
    waves = {name: sf.read(io.BytesIO(base64.b64decode(text)))[0] for name, text in content["heard"][0]["audio"].items()}
    assert list(waves) == ["noisy", "enhanced"] and {len(wave) for wave in waves.values()} == {6400}
    speech = waves["noisy"] @ waves["enhanced"] / (waves["enhanced"] @ waves["enhanced"])
    assert speech == pytest.approx(1, abs=0.1)  # Opus keeps no sample
    sf.write(tmp_path / "silent.wav", np.zeros(1000), 16_000)
    assert enhance.main([str(tmp_path / "silent.wav"), "--out", str(tmp_path / "x.flac"), "--enhancer", "noisy", "--compare"]) == 0
    assert len(page.read(tmp_path / "x.compare.html")["heard"]) == 1


def test_a_page_of_many_files_holds_the_first_ones(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(comparing, "MOST_FILES", 1)
    monkeypatch.setattr(comparing, "TOTAL_S", 0.1)
    pairs = [(folder / name, folder / name) for name in ("a.wav", "sub/b.flac")]
    assert comparing.write(folder / "compare.html", pairs, "me") == " (the first 0.1 s of each, 1 of the 2 recordings)"


def test_where_no_page_can_be(folder, tmp_path, capsys):
    (tmp_path / "out.compare.html").mkdir()
    assert "is a folder, and --compare writes its page there" in refused(
        capsys, enhance, folder / "a.wav", "--out", tmp_path / "out.wav", "--enhancer", "wiener", "--compare")
    assert not (tmp_path / "out.wav").exists()
    assert "--compare is for files" in refused(capsys, enhance, "--live", "pipe", "--compare")
    assert "--piece is for files" in refused(capsys, enhance, "--live", "pipe", "--piece", "20")


def test_an_unknown_enhancer_is_told(folder, tmp_path):
    result = run_without_tensorflow("enhance", folder, "--out", tmp_path / "out", "--enhancer", "no-such-model")
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


def test_the_recording_that_comes_with_the_clone_gains(tmp_path):
    """README's first command: the shipped enhancer on data/examples, better than the noisy speech in raw PESQ, wb PESQ and SI-SDR."""
    examples = ROOT / "data" / "examples"
    assert enhance.main([str(examples / "noisy.wav"), "--out", str(tmp_path / "enhanced.wav")]) == 0
    clean, noisy, enhanced = (audio.read(path) for path in (examples / "clean.wav", examples / "noisy.wav", tmp_path / "enhanced.wav"))
    names = ("pesq_raw", "pesq_wb", "si_sdr")
    before, after = (metrics.evaluate(names, clean, wave) for wave in (noisy, enhanced))
    assert all(after[name] > before[name] for name in names)
