"""Reading, resampling and writing: every file is either whole and finite or an error that names it."""

import os
import re
import struct

import numpy as np
import pytest
import soundfile as sf
from conftest import speech_like

from se_keras.errors import UserError
from se_keras.signals import audio, mp3


@pytest.fixture
def wave():
    return speech_like(0.5)


@pytest.mark.parametrize("name, options", [("a.wav", {}), ("a.flac", {}), ("A.WAV", {"format": "NIST"})])
def test_read_gives_back_what_was_written(tmp_path, wave, name, options):
    sf.write(tmp_path / name, wave, 16_000, subtype="PCM_16", **options)
    read = audio.read(tmp_path / name)
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, wave, atol=1 / 32768)  # one step of 16 bits


def test_channels_are_averaged(tmp_path, wave):
    sf.write(tmp_path / "stereo.wav", np.stack([wave, -wave / 2], axis=1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(audio.read(tmp_path / "stereo.wav"), wave / 4, atol=1e-7)
    np.testing.assert_array_equal(audio.read_any_rate(tmp_path / "stereo.wav", channel=0)[0], wave)


def test_another_sample_rate_is_told(tmp_path, wave):
    sf.write(tmp_path / "a.wav", wave, 8_000)
    with pytest.raises(UserError, match=r"a\.wav: sample rate is 8000 Hz, expected 16000 Hz"):
        audio.read(tmp_path / "a.wav")


def test_missing_and_unreadable_files_are_told(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        audio.read(tmp_path / "none.wav")
    for content in (b"", b"RIFF", b"this is no audio"):
        (tmp_path / "bad.wav").write_bytes(content)
        with pytest.raises(UserError, match=r"bad\.wav: not a readable audio file"):
            audio.read(tmp_path / "bad.wav")


def test_a_file_without_samples_is_told(tmp_path):
    sf.write(tmp_path / "empty.wav", np.zeros(0), 16_000)
    with pytest.raises(UserError, match="zero-length"):
        audio.read(tmp_path / "empty.wav")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinite_samples_are_told(tmp_path, wave, bad):
    wave[100:103] = bad
    sf.write(tmp_path / "nan.wav", wave, 16_000, subtype="FLOAT")
    with pytest.raises(UserError, match="holds 3 NaN or infinite samples"):
        audio.read(tmp_path / "nan.wav")


@pytest.mark.parametrize("name, options", [("a.wav", {}), ("a.flac", {}), ("A.WAV", {"format": "NIST"})])
def test_a_truncated_file_is_told(tmp_path, wave, name, options):
    path = tmp_path / name
    sf.write(path, wave, 16_000, **options)
    path.write_bytes(path.read_bytes()[:path.stat().st_size * 2 // 3])
    with pytest.raises(UserError, match=f"{name}: (truncated|not a readable audio file)"):
        audio.read(path)


def test_truncated_wav_says_how_much_is_there(tmp_path):
    sf.write(tmp_path / "a.wav", np.full((1000, 2), 0.1), 16_000, subtype="PCM_16")
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:44 + 4 * 250])
    with pytest.raises(UserError, match="truncated, 250 of 1000 samples"):
        audio.read(tmp_path / "a.wav")


def test_a_streamed_wav_with_a_placeholder_length_is_whole(tmp_path, wave):
    """Tools that write to a pipe cannot know the length and write 0xFFFFFFFF."""
    sf.write(tmp_path / "a.wav", wave, 16_000)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    at = data.index(b"data") + 4
    data[at:at + 4] = struct.pack("<I", 0xFFFFFFFF)
    (tmp_path / "a.wav").write_bytes(data)
    assert len(audio.read(tmp_path / "a.wav")) == len(wave)


def test_a_placeholder_length_is_doubted_a_true_one_not(tmp_path, wave):
    sf.write(tmp_path / "a.wav", wave, 16_000)
    assert audio.doubt(tmp_path / "a.wav") == ""
    data = bytearray((tmp_path / "a.wav").read_bytes())
    at = data.index(b"data") + 4
    data[at:at + 4] = struct.pack("<I", 0xFFFFFFFF)
    (tmp_path / "a.wav").write_bytes(data)
    assert f"does not say its length: the {len(wave) / 16_000:.2f} s" in audio.doubt(tmp_path / "a.wav")


@pytest.mark.parametrize("name, options", [("a.ogg", {}), ("a.opus", {"format": "OGG", "subtype": "OPUS"})])
@pytest.mark.parametrize("how", ["cut in half", "cut in its last page"])
def test_an_ogg_file_without_its_end_is_doubted(tmp_path, name, options, how):
    """libsndfile counts the pages that are there, so that half a file reads as a whole one."""
    sf.write(tmp_path / name, 0.1 * np.random.default_rng(0).standard_normal(10 * 16_000), 16_000, **options)
    assert audio.doubt(tmp_path / name) == ""
    data = (tmp_path / name).read_bytes()
    half = len(data) // 2
    (tmp_path / name).write_bytes({"cut in half": data[:half], "cut in its last page": data[:-100]}[how])
    assert 0 < audio.read_any_rate(tmp_path / name)[0].size < 10 * 16_000
    assert "the end is missing, or was never marked" in audio.doubt(tmp_path / name)


@pytest.mark.parametrize("name, options", [("a.ogg", {}), ("a.opus", {"format": "OGG", "subtype": "OPUS"})])
@pytest.mark.parametrize("how", ["one bit", "bytes cut out", "zeros for its second half", "a page cut out"])
def test_an_ogg_file_with_a_damaged_page_is_refused(tmp_path, name, options, how):
    """A decoder passes over the page, and the recording is shorter by a second."""
    sf.write(tmp_path / name, 0.1 * np.random.default_rng(0).standard_normal(10 * 16_000), 16_000, **options)
    data = bytearray((tmp_path / name).read_bytes())
    half, pages = len(data) // 2, [each.start() for each in re.finditer(rb"OggS\0", data)]
    data[half] ^= how == "one bit"
    spoilt = {"bytes cut out": data[:half] + data[half + 50:], "zeros for its second half": data[:half] + bytes(half),
              "a page cut out": data[:pages[4]] + data[pages[5]:]}
    (tmp_path / name).write_bytes(spoilt.get(how, data))
    with pytest.raises(UserError, match=r"is damaged; fetch|pages are missing before its page 5"):
        audio.read_any_rate(tmp_path / name)
    assert re.search("its page . is damaged|pages are missing", audio.doubt(tmp_path / name))


@pytest.mark.parametrize("how", ["its count", "its first frame", "bytes cut out of it"])
def test_an_mp3_that_lost_the_count_in_its_first_frame_is_told(tmp_path, how):
    """The decoder guesses then, and stops half-way; the frames are there, and can be counted."""
    sf.write(tmp_path / "a.mp3", speech_like(6.0), 16_000)
    assert len(audio.read(tmp_path / "a.mp3")) == 6 * 16_000
    data = (tmp_path / "a.mp3").read_bytes()
    count = data.index(b"Xing") + 8  # of four bytes, after the flags
    spoilt = {"its count": data[:count + 2] + bytes([0, 60]) + data[count + 4:], "its first frame": data[:7] + bytes(40) + data[47:],
              "bytes cut out of it": data[:274] + data[431:]}
    (tmp_path / "a.mp3").write_bytes(spoilt[how])
    with pytest.raises(UserError, match=r"truncated, \d+ of 9[67]\d\d\d samples"):
        audio.read(tmp_path / "a.mp3")


@pytest.mark.parametrize(("hz", "frame"), [(8000, 576), (16_000, 576), (44_100, 1152), (48_000, 1152)])
def test_frames_of_an_mp3_are_counted(tmp_path, hz, frame):
    sf.write(tmp_path / "a.mp3", speech_like(3.0, sample_rate=hz), hz)
    found, data = mp3.samples(tmp_path / "a.mp3"), (tmp_path / "a.mp3").read_bytes()
    assert found % frame == 0 and 0 <= found - 3 * hz < 6 * frame  # of the encoder's delay, of filling up, of the count
    tag = b"ID3\4\0\0" + bytes([0, 0, 2, 5]) + b"\xff\xf3\x48" * 87  # 261 bytes that look like headers
    (tmp_path / "a.mp3").write_bytes(tag + data + b"TAG" + bytes(125))
    assert mp3.samples(tmp_path / "a.mp3") == found
    (tmp_path / "a.mp3").write_bytes(bytes(1000))
    assert mp3.samples(tmp_path / "a.mp3") == 0


def test_a_wav_cut_inside_a_sample_is_told(tmp_path):
    sf.write(tmp_path / "a.wav", np.zeros(1000, np.float32), 16_000)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-1])
    with pytest.raises(UserError, match="truncated, 999 of 1000 samples"):
        audio.read(tmp_path / "a.wav")


def test_a_streamed_flac_without_a_length_is_told(tmp_path, wave):
    """The 36 bits of STREAMINFO's sample count are zero where the encoder wrote to a pipe."""
    sf.write(tmp_path / "a.flac", wave, 16_000)
    data = bytearray((tmp_path / "a.flac").read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(data)
    with pytest.raises(UserError, match=r"a\.flac: does not say its length"):
        audio.read(tmp_path / "a.flac")


def test_read_cached_cannot_be_changed(tmp_path, wave):
    audio.write(tmp_path / "a.wav", wave)
    with pytest.raises(ValueError, match="read-only"):
        audio.read_cached(str(tmp_path / "a.wav"))[0] = 1


@pytest.mark.parametrize("rate", [8_000, 20_000, 44_100, 48_000])
def test_resampling_keeps_a_tone(rate):
    """A 1 kHz tone stays one: same frequency, phase and level, away from the ends."""
    t = np.arange(rate) / rate
    resampled = audio.resample(np.sin(2 * np.pi * 1000 * t).astype(np.float32), rate, 16_000)
    assert resampled.dtype == np.float32 and len(resampled) == 16_000
    expected = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(resampled[1000:-1000], expected[1000:-1000], atol=1e-3)


def test_resampling_drops_what_the_lower_rate_cannot_hold():
    t = np.arange(48_000) / 48_000
    aliased = audio.resample(np.sin(2 * np.pi * 12_000 * t).astype(np.float32), 48_000, 16_000)
    assert np.abs(aliased[1000:-1000]).max() < 1e-3


def test_resampling_to_the_same_rate_is_the_identity(wave):
    assert audio.resample(wave, 16_000, 16_000) is wave


def test_write_leaves_no_half_file(tmp_path, wave, monkeypatch):
    audio.write(tmp_path / "sub" / "a.wav", wave)

    def full_disk(path, *arguments, **options):
        with open(path, "wb") as file:
            file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(audio.sf, "write", full_disk)
    with pytest.raises(UserError, match="a.wav: cannot be written.*the disk is full"):
        audio.write(tmp_path / "sub" / "a.wav", np.zeros_like(wave))
    assert os.listdir(tmp_path / "sub") == ["a.wav"]
    np.testing.assert_allclose(audio.read(tmp_path / "sub" / "a.wav"), wave, atol=1 / 32768)


def test_file_hash_is_of_the_content(tmp_path):
    # sha256 of "abc" is the first test vector of FIPS 180-2.
    (tmp_path / "a").write_bytes(b"abc")
    assert audio.file_hash(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "a").write_bytes(b"abcd")
    assert audio.file_hash(tmp_path / "a") != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_what_libsndfile_cannot_write_is_said(tmp_path, monkeypatch):
    """As on a full disk, of which it says no more than this."""
    def write(*arguments, **more):
        raise sf.LibsndfileError(2)

    monkeypatch.setattr(sf, "write", write)
    with pytest.raises(UserError, match=r"x.wav: cannot be written \(.* MB are free\); see whether its folder can be written, and has room"):
        audio.write(tmp_path / "x.wav", np.zeros(10, np.float32))
    assert not list(tmp_path.iterdir())
