"""Enhancing a file as a stream: an identity system must give the file back, whatever its rate, length and format."""

import tracemalloc

import numpy as np
import pytest
import soundfile as sf
from conftest import speech_like

from se_keras.enhancers.wiener import Wiener
from se_keras.errors import UserError
from se_keras.signals import streaming
from se_keras.signals.streaming import Report, enhance_file


class System:
    """A fake enhancer: `function` on every wave; remembers the lengths it was given."""

    name = fingerprint = "fake"

    def __init__(self, function=lambda wave: wave):
        self.function, self.calls = function, []

    def enhance(self, waves):
        self.calls.append([len(wave) for wave in waves])
        return [self.function(wave) for wave in waves]


def noise(samples, channels=1, seed=0):
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (samples, channels)).astype(np.float32)


def lowpassed(samples, rate, channels=1):
    """Tones below 3.5 kHz and a fade at either end: content that every resampling here must keep."""
    t = np.arange(samples)[:, None] / rate
    tones = sum(np.sin(2 * np.pi * f * t + phase) for f, phase in ((150, 0), (1000, 1), (3400, 2)))
    tones = tones * (1 + np.arange(channels)) / (4 * channels)
    return (tones * np.sin(np.pi * np.arange(samples) / samples)[:, None] ** 2).astype(np.float32)


def leftovers(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("suffix", "subtype"), (
    ("wav", "PCM_16"), ("wav", "PCM_24"), ("wav", "PCM_U8"), ("wav", "FLOAT"),
    ("flac", "PCM_16"), ("flac", "PCM_24"), ("aiff", "PCM_16")))
@pytest.mark.parametrize("channels", (1, 2))
def test_identity_at_16k_is_bit_exact(tmp_path, suffix, subtype, channels):
    source, target = tmp_path / f"in.{suffix}", tmp_path / "out" / f"out.{suffix}"
    sf.write(source, noise(20_001, channels), 16_000, subtype=subtype)
    report = enhance_file(System(), source, target)
    assert report == Report(20_001 / 16_000, 16_000, channels, 1.0, False)
    assert sf.info(target).subtype == subtype and sf.info(target).format == sf.info(source).format
    np.testing.assert_array_equal(sf.read(target)[0], sf.read(source)[0])


def test_full_scale_16_bit_comes_back(tmp_path):
    samples = np.arange(-32768, 32768, dtype=np.int16)
    sf.write(tmp_path / "in.wav", samples, 16_000)
    assert enhance_file(System(), tmp_path / "in.wav", tmp_path / "out.flac").gain == 1
    np.testing.assert_array_equal(sf.read(tmp_path / "out.flac", dtype="int16")[0], samples)


@pytest.mark.parametrize("rate", (8_000, 11_025, 22_050, 44_100, 48_000, 96_000))
@pytest.mark.parametrize("extra", (0, 1, 17))
def test_other_rates_keep_length_and_place(tmp_path, rate, extra):
    wave = lowpassed(2 * rate + extra, rate, 2)
    sf.write(tmp_path / "in.wav", wave, rate, subtype="FLOAT")
    report = enhance_file(System(), tmp_path / "in.wav", tmp_path / "out.wav")
    out, out_rate = sf.read(tmp_path / "out.wav", dtype="float32")
    assert out_rate == rate and out.shape == wave.shape
    assert report.dropped_above_8k == (rate > 16_000) and report.channels == 2
    # a lag of one sample at 8 kHz would leave a difference of 0.5 at 1 kHz alone
    assert np.abs(out - wave).max() < 1e-3


def test_content_above_8k_goes(tmp_path):
    t = np.arange(48_000) / 48_000
    sf.write(tmp_path / "in.wav", 0.5 * np.sin(2 * np.pi * 12_000 * t), 48_000)
    enhance_file(System(), tmp_path / "in.wav", tmp_path / "out.wav")
    assert np.abs(sf.read(tmp_path / "out.wav")[0][4800:-4800]).max() < 1e-3


@pytest.mark.parametrize("rate", (16_000, 44_100))
@pytest.mark.parametrize("seconds", (7, 8, 8.01, 11.3, 14.01, 25))
def test_pieces_join_without_a_trace(tmp_path, rate, seconds):
    source, whole, pieces = (tmp_path / name for name in ("in.wav", "whole.wav", "pieces.wav"))
    sf.write(source, noise(int(seconds * rate), 2), rate, subtype="PCM_16")
    enhance_file(System(), source, whole)
    system = System()
    enhance_file(system, source, pieces, piece_s=4, overlap_s=1)
    np.testing.assert_array_equal(sf.read(pieces, dtype="int16")[0], sf.read(whole, dtype="int16")[0])
    lengths = [call[0] for call in system.calls]
    assert all(len(call) == 2 and call[0] == call[1] for call in system.calls)  # both channels as one batch
    assert lengths[:-1] == [64_000] * (len(lengths) - 1)
    if seconds > 8:
        assert len(lengths) > 1 and 64_000 < lengths[-1] <= 128_000  # the last piece is never short of context
    else:
        assert len(lengths) == 1


def test_a_short_file_is_enhanced_whole_and_alone(tmp_path):
    wave = speech_like(3) + 0.02 * noise(48_000)[:, 0]
    sf.write(tmp_path / "in.wav", wave, 16_000, subtype="FLOAT")
    enhance_file(Wiener(), tmp_path / "in.wav", tmp_path / "out.wav")
    np.testing.assert_array_equal(sf.read(tmp_path / "out.wav", dtype="float32")[0], Wiener().enhance([wave])[0])


def test_cross_fade_between_pieces(tmp_path):
    # a system whose gain grows from call to call: the joint must be a ramp over the overlap, nowhere a step
    gains = iter((0.1, 0.2, 0.3, 0.4))
    sf.write(tmp_path / "in.wav", np.full(16 * 16_000, 0.9), 16_000, subtype="FLOAT")

    class Growing(System):
        def enhance(self, waves):
            gain = np.float32(next(gains))
            return [gain * wave for wave in waves]

    enhance_file(Growing(), tmp_path / "in.wav", tmp_path / "out.wav", piece_s=4, overlap_s=1)
    out = sf.read(tmp_path / "out.wav")[0] / 0.9
    assert np.abs(np.diff(out)).max() < 2 * 0.1 / 16_000
    np.testing.assert_allclose(out[3 * 16_000], 0.1, atol=1e-4)
    np.testing.assert_allclose(out[4 * 16_000], 0.2, atol=1e-4)


def test_one_gain_where_it_would_clip(tmp_path):
    sf.write(tmp_path / "in.wav", 0.5 * noise(40_000, 2), 16_000)
    report = enhance_file(System(lambda wave: 4 * wave), tmp_path / "in.wav", tmp_path / "out.wav")
    source, out = sf.read(tmp_path / "in.wav")[0], sf.read(tmp_path / "out.wav")[0]
    assert 0.5 < report.gain < 0.6
    np.testing.assert_allclose(out, 4 * report.gain * source, atol=1 / 32768)
    assert np.abs(out).max() == pytest.approx(streaming.FULL_SCALE, abs=1 / 32768)


def test_float_files_cannot_clip(tmp_path):
    sf.write(tmp_path / "in.wav", noise(4_000), 16_000, subtype="FLOAT")
    assert enhance_file(System(lambda wave: 4 * wave), tmp_path / "in.wav", tmp_path / "out.wav").gain == 1
    np.testing.assert_array_equal(sf.read(tmp_path / "out.wav")[0], 4 * sf.read(tmp_path / "in.wav")[0])


def test_silence_and_one_sample(tmp_path):
    for number, wave in enumerate((np.zeros(30_000), np.zeros(1), np.full(1, 0.5))):
        sf.write(tmp_path / "in.wav", wave, 44_100)
        enhance_file(Wiener(), tmp_path / "in.wav", tmp_path / f"{number}.wav")
        out = sf.read(tmp_path / f"{number}.wav")[0]
        assert out.shape == wave.shape and (wave.any() or not out.any())


def test_progress_counts_every_second(tmp_path):
    sf.write(tmp_path / "in.wav", noise(22_050 * 13), 22_050)
    seconds = []
    enhance_file(System(), tmp_path / "in.wav", tmp_path / "out.wav", piece_s=4, overlap_s=1, progress=seconds.append)
    assert len(seconds) >= 3 and sum(seconds) == pytest.approx(13)


def test_other_containers(tmp_path):
    sf.write(tmp_path / "in.wav", 0.5 * lowpassed(48_000, 16_000), 16_000, subtype="FLOAT")
    for name, subtype in (("out.flac", "PCM_16"), ("out.ogg", "VORBIS"), ("out.aif", "FLOAT")):
        enhance_file(System(), tmp_path / "in.wav", tmp_path / name)
        assert sf.info(tmp_path / name).subtype == subtype and sf.info(tmp_path / name).frames == 48_000


@pytest.mark.parametrize(("name", "subtype"), (
    ("out.wav", "PCM_16"), ("out.flac", "PCM_16"), ("out.aif", "PCM_16"), ("out.mp3", "MPEG_LAYER_III")))
def test_an_mp3_becomes_pcm_elsewhere(tmp_path, name, subtype):
    """libsndfile says that WAV can hold MPEG samples, and refuses to write them."""
    sf.write(tmp_path / "in.mp3", 0.5 * lowpassed(48_000, 16_000), 16_000)
    enhance_file(System(), tmp_path / "in.mp3", tmp_path / name)
    assert sf.info(tmp_path / name).subtype == subtype and sf.info(tmp_path / name).frames == sf.info(tmp_path / "in.mp3").frames


def test_a_sphere_file_named_wav_becomes_a_wav(tmp_path):
    sf.write(tmp_path / "in.WAV", noise(5_000), 16_000, format="NIST")
    enhance_file(System(), tmp_path / "in.WAV", tmp_path / "out.WAV")
    assert sf.info(tmp_path / "out.WAV").format == "WAV"
    np.testing.assert_array_equal(sf.read(tmp_path / "out.WAV")[0], sf.read(tmp_path / "in.WAV")[0])


def test_memory_does_not_grow_with_the_length(tmp_path):
    def peak(minutes):
        with sf.SoundFile(tmp_path / "in.wav", "w", 16_000, 1) as file:
            for _ in range(minutes):
                file.write(noise(60 * 16_000))
        tracemalloc.start()
        enhance_file(System(), tmp_path / "in.wav", tmp_path / "out.wav", piece_s=10)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    assert peak(6) < 1.1 * peak(1)


def test_more_than_4_gb_becomes_rf64():
    class Long:
        frames, channels, samplerate, subtype = 2 ** 30, 2, 48_000, "PCM_16"

    assert streaming._written_as(streaming.Path("out.wav"), Long) == {"format": "RF64", "subtype": "PCM_16"}


@pytest.fixture
def good(tmp_path):
    folder = tmp_path / "given"
    folder.mkdir()
    sf.write(folder / "good.wav", noise(20_000), 16_000)
    return folder / "good.wav"


def broken(path, kind):
    if kind == "text":
        path.write_text("no audio")
    elif kind == "nothing":
        path.write_bytes(b"")
    elif kind == "no samples":
        sf.write(path, np.zeros(0), 16_000)
    elif kind == "NaN":
        wave = noise(400_000)
        wave[350_000] = np.nan
        sf.write(path, wave, 16_000, subtype="FLOAT")
    elif kind.startswith("truncated"):
        sf.write(path, noise(40_000), 16_000, format=kind.split()[1])
        path.write_bytes(path.read_bytes()[:40_000])


@pytest.mark.parametrize(("kind", "message"), (
    ("missing", "no such file"), ("text", "not a readable audio file"), ("nothing", "not a readable audio file"),
    ("no samples", "holds no samples"), ("NaN", "NaN or infinite samples after 20 s"),
    ("truncated WAV", "truncated, 19978 of 40000 samples"), ("truncated FLAC", "truncated")))
def test_bad_sources_leave_nothing(tmp_path, kind, message):
    source, out = tmp_path / "in.wav", tmp_path / "out"
    broken(source, kind)
    with pytest.raises(UserError, match=message) as error:
        enhance_file(System(), source, out / "out.wav", piece_s=4, overlap_s=1)
    assert str(source) in str(error.value)
    assert not out.exists() or not leftovers(out)


@pytest.mark.parametrize(("name", "message"), (
    ("given/good.wav", "the same file"), ("given/../given/good.wav", "the same file"), ("out.xyz", "names no audio format"),
    ("out", "names no audio format"), ("folder.wav", "is a folder"), ("given/good.wav/out.wav", "cannot be written")))
def test_bad_targets(tmp_path, good, name, message):
    (tmp_path / "folder.wav").mkdir()
    before = good.read_bytes()
    with pytest.raises(UserError, match=message):
        enhance_file(System(), good, tmp_path / name)
    assert good.read_bytes() == before and leftovers(good.parent) == ["good.wav"]


def test_a_link_to_the_source_is_the_source(tmp_path, good):
    (tmp_path / "link.wav").symlink_to(good)
    with pytest.raises(UserError, match="the same file"):
        enhance_file(System(), good, tmp_path / "link.wav")


def test_a_format_that_cannot_hold_it_is_named_before_the_work(tmp_path):
    sf.write(tmp_path / "in.wav", noise(1000, 9), 16_000)
    system = System()
    with pytest.raises(UserError, match="FLAC cannot hold 9 channels at 16000 Hz"):
        enhance_file(system, tmp_path / "in.wav", tmp_path / "out.flac")
    assert not system.calls


def test_pieces_shorter_than_two_overlaps(tmp_path, good):
    with pytest.raises(UserError, match="longer than two overlaps"):
        enhance_file(System(), good, tmp_path / "out.wav", piece_s=4, overlap_s=2)


@pytest.mark.parametrize("stop", (KeyboardInterrupt, RuntimeError))
def test_an_interrupted_file_leaves_what_was_there(tmp_path, good, stop):
    def interrupt(wave):
        raise stop

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "out.wav").write_bytes(b"earlier")
    with pytest.raises(stop):
        enhance_file(System(interrupt), good, tmp_path / "out" / "out.wav")
    assert leftovers(tmp_path / "out") == ["out.wav"] and (tmp_path / "out" / "out.wav").read_bytes() == b"earlier"


def test_interrupted_while_writing(tmp_path, good, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(streaming, "_quantised", interrupt)
    with pytest.raises(KeyboardInterrupt):
        enhance_file(System(), good, tmp_path / "out" / "out.wav")
    assert not leftovers(tmp_path / "out")


def test_a_full_disk_is_said(tmp_path, good, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(streaming, "_quantised", full)
    with pytest.raises(UserError, match="cannot be written .No space left on device"):
        enhance_file(System(), good, tmp_path / "out" / "out.wav")
    assert not leftovers(tmp_path / "out")


def test_damaged_weights_are_said(tmp_path, good):
    with pytest.raises(UserError, match="fake gave NaN"):
        enhance_file(System(lambda wave: wave * np.nan), good, tmp_path / "out" / "out.wav")
    assert not leftovers(tmp_path / "out")
