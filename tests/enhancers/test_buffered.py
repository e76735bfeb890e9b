"""Streams in buffers: known answers by systems that are no networks, latency by experiment, refusals, and a network in a pipe."""

import io
import sys
import types

import numpy as np
import pytest
from conftest import noise, refused, speech_like
from test_live import blocks, weights  # noqa: F401  a tiny enhancer on disk

import se_keras
from se_keras.enhancers.buffered import BufferedEnhancer
from se_keras.errors import UserError
from se_keras.recipes import live

SIZES = {"block_s": 0.05, "past_s": 0.2, "look_ahead_s": 0.03}  # 800, 3,200 and 480 samples


class System:
    """Gives back what it gets by `function`, and notes what that was."""

    name = "system"

    def __init__(self, function=lambda wave: wave):
        self.function, self.heard = function, []

    def enhance(self, waves):
        self.heard += [len(wave) for wave in waves]
        return [self.function(wave) for wave in waves]


@pytest.mark.parametrize("samples", [0, 1, 799, 800, 1280, 16_000, 16_001])
@pytest.mark.parametrize("sizes", [[1, 3000], [160], [800], [100_000], [0, 7, 300, 5001]], ids=str)
def test_the_identity_gives_back_every_sample(samples, sizes):
    wave = noise(1.1)[:samples]
    system = System()
    stream = BufferedEnhancer(system, **SIZES)
    system.heard.clear()
    out, lag = blocks(stream, wave, sizes) if samples else (stream.flush(), 0)
    np.testing.assert_array_equal(out, wave)
    assert lag < 16_000 * stream.latency_s == 800 + 480
    assert max(system.heard, default=0) <= 3200 + 800 + 480


def test_defaults_are_those_of_the_benchmark():
    stream = BufferedEnhancer(System())
    assert (stream.latency_s, stream.block, stream.lag) == (0.5, 4000, 4000) and stream.system.heard[-1] <= 16_000 * 4.5
    assert se_keras.BufferedEnhancer is BufferedEnhancer


def test_the_size_of_what_comes_in_does_not_matter():
    """A system that depends on its whole buffer, by level and by end, whichever blocks it came in."""
    stream = BufferedEnhancer(System(lambda wave: wave * np.std(wave) + wave[-1]), **SIZES)
    wave = speech_like(1.0, 3)
    first = blocks(stream, wave, [16_000])[0]
    for sizes in ([37], [800], [33, 4000]):
        np.testing.assert_array_equal(blocks(stream, wave, sizes)[0], first)


def test_latency_by_experiment():
    """Of a system whose every sample depends on all it gets, a changed sample changes what comes out a latency before it, and no more."""
    stream, wave = BufferedEnhancer(System(lambda wave: wave + wave.mean()), **SIZES), noise(1.0)
    usual, distances = blocks(stream, wave, [500])[0], []
    for place in range(8000, 8000 + 1600, 53):
        changed = wave.copy()
        changed[place] += 10
        distances.append(place - np.flatnonzero(blocks(stream, changed, [500])[0] != usual)[0])
    assert 16_000 * stream.latency_s - 53 <= max(distances) < 16_000 * stream.latency_s
    last = np.flatnonzero(blocks(stream, changed, [500])[0] != usual)[-1]
    assert last < place + 3200 + 800  # and for as long as it is past


@pytest.mark.parametrize(("fade_s", "expected"), [(0, [1.0, 2.0, 2.0, 2.0]), (4 / 16_000, [1.0, 1.125, 1.875, 2.0])], ids=["cut", "faded"])
def test_joints_are_faded(fade_s, expected):
    """Buffer k gives k everywhere: where the second block begins the output rises from 1 to 2, at once or in four samples."""
    calls = iter([0.0, 0.0, 1.0, 2.0, 3.0])  # two to warm up
    stream = BufferedEnhancer(System(lambda wave: np.full_like(wave, next(calls))), **SIZES, fade_s=fade_s)
    out = np.concatenate([stream.process(noise(0.13)[:2080]), stream.flush()])
    np.testing.assert_allclose(out[[799, 800, 803, 804]], expected, rtol=1e-6)
    assert out[-1] == 3.0 and len(out) == 2080


def test_recordings_follow_one_another():
    stream = BufferedEnhancer(System(lambda wave: wave - wave.mean()), **SIZES)
    first = blocks(stream, wave := speech_like(0.3, 6), [500])[0]
    np.testing.assert_array_equal(blocks(stream, wave, [500])[0], first)
    stream.process(wave[:2000])
    stream.reset()
    np.testing.assert_array_equal(blocks(stream, wave, [500])[0], first)
    assert len(stream.flush()) == 0


def test_what_cannot_be_a_buffer_is_refused():
    for sizes in ({"block_s": 0}, {"past_s": -1}, {"look_ahead_s": np.inf}, {"fade_s": np.nan}):
        with pytest.raises(UserError, match=f"{next(iter(sizes))} .*0 to 60 seconds are expected"):
            BufferedEnhancer(System(), **sizes)
    stream = BufferedEnhancer(System(lambda wave: wave / wave[0]), **SIZES)
    for block in (np.zeros((2, 3)), np.array([0.0, np.nan])):
        with pytest.raises(UserError, match="one row of finite samples"):
            stream.process(block)
    with pytest.raises(UserError, match="system gave NaN"), np.errstate(invalid="ignore"):
        stream.process(np.zeros(2000))


def test_devices_are_fed_whole_blocks(monkeypatch):
    """What is heard is what came in, block and look-ahead later: 800 of a block that the device gathers, 800 of silence before it."""
    wave, played = speech_like(0.5, 9), []

    class Stream:
        def __init__(self, blocksize, callback, **_):
            self.size, self.callback = blocksize, callback

        def __enter__(self):
            for start in range(0, len(wave), self.size):
                out = np.empty((self.size, 1), np.float32)
                self.callback(wave[start:start + self.size, None], out, self.size, None, "")
                played.append(out[:, 0])

        def __exit__(self, *_):
            pass

    monkeypatch.setitem(sys.modules, "sounddevice", types.SimpleNamespace(Stream=Stream, PortAudioError=OSError))
    assert live.devices(BufferedEnhancer(System(), **SIZES), wait=lambda: None).samples == 8000
    np.testing.assert_array_equal(np.concatenate(played), np.concatenate([np.zeros(800, np.float32), wave[:-800]]))


def test_a_machine_without_sound_is_told(monkeypatch):
    class PortAudioError(Exception):
        pass

    def no_device(**_):
        raise PortAudioError("Error querying device -1")

    monkeypatch.setitem(sys.modules, "sounddevice", types.SimpleNamespace(Stream=no_device, PortAudioError=PortAudioError))
    with pytest.raises(UserError, match="querying device -1; is there a microphone and a loudspeaker.*--live pipe needs neither"):
        live.devices(BufferedEnhancer(System(), **SIZES))


def test_any_enhancer_stands_in_a_pipe(monkeypatch, capsys):
    """wiener, with some of the noisy speech: the first second, which no buffer cuts, as of the file."""
    import enhance
    from se_keras.enhancers.wiener import Wiener

    raw = np.round(20_000 * speech_like(1.0, 7)).astype("<i2")
    sink = types.SimpleNamespace(buffer=io.BytesIO())
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(raw.tobytes())))
    monkeypatch.setattr(sys, "stdout", sink)
    assert enhance.main(["--live", "pipe", "--enhancer", "wiener", "--look-ahead", "1", "--dry", "0.5"]) == 0
    wave = raw.astype(np.float32) / 32768
    expected = 0.5 * wave + 0.5 * Wiener().enhance([wave])[0]
    np.testing.assert_allclose(np.frombuffer(sink.buffer.getvalue(), "<i2") / 32768, expected, atol=1.1 / 32768)
    assert "latency 1250 ms" in capsys.readouterr().err


def test_a_network_in_buffers_is_that_of_the_file(weights):  # noqa: F811
    """A causal one with a past as long as the recording: the same but for the frames, which lie elsewhere only where a past is cut."""
    enhancer, _ = weights
    wave = speech_like(0.6, 8)
    streamed, _ = blocks(BufferedEnhancer(enhancer, block_s=0.1, past_s=1, look_ahead_s=0.1), wave, [1000])
    np.testing.assert_allclose(streamed, enhancer.enhance([wave])[0], atol=1e-5)


def test_bad_calls(capsys):
    import enhance

    assert "--look-ahead is for --live" in refused(capsys, enhance, "a.wav", "--out", "b.wav", "--look-ahead", "1")
    assert "is not a number from 0" in refused(capsys, enhance, "--live", "pipe", "--look-ahead", "-1")
    assert "--look-ahead 0.25" in refused(capsys, enhance, "--live", "pipe", "--enhancer", "blstm-hearing")
