"""Streams: block by block the same as the whole recording; refused where that cannot be."""

import io
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
from conftest import ROOT, noise, refused, save_with_card, speech_like

from se_keras import models
from se_keras.enhancers.live import StreamingEnhancer
from se_keras.enhancers.magnitude_mask import MaskEnhancer
from se_keras.errors import UserError
from se_keras.models import lstm
from se_keras.recipes import live
from se_keras.signals.stft import Stft

SHORT = Stft(256, 128)  # 16 ms


def make(config=Stft(), **arguments):
    keras.utils.set_random_seed(0)
    return MaskEnhancer(models.build("lstm", bins=config.bins, units=6, dense_units=5, **arguments), config, "tiny")


def blocks(stream, wave, sizes):
    """What comes out of a wave in blocks of the sizes, over and over, and the most samples by which it lagged before the end."""
    out, at, number, lag = [], 0, 0, 0
    while at < len(wave):
        size = sizes[number % len(sizes)]
        out.append(stream.process(wave[at:at + size]))
        at, number = min(at + size, len(wave)), number + 1
        lag = max(lag, at - sum(map(len, out)))
    return np.concatenate([*out, stream.flush()]), lag


@pytest.mark.parametrize("sizes", [[1], [160], [256], [5000], [0, 7, 300, 511]], ids=str)
@pytest.mark.parametrize("samples", [2000, 2048])
def test_blocks_of_any_size_make_the_whole(sizes, samples):
    wave = speech_like(1.0, 3)[:samples] + noise(1.0, 4)[:samples]
    enhancer = make()
    streamed, lag = blocks(StreamingEnhancer(enhancer), wave, sizes)
    assert streamed.shape == wave.shape
    np.testing.assert_allclose(streamed, enhancer.enhance([wave])[0], atol=1e-5)
    assert lag <= 512 + 256


@pytest.mark.parametrize(("config", "arguments"), [
    (SHORT, {}), (Stft(512, 128, "hann"), {}),
    (Stft(), {"sigmoid": "learnable", "mask_floor": 0.05, "memory_frames": None, "dropout": 0.1})],
    ids=["16 ms", "hop of a quarter", "another head"])
def test_other_transforms_and_heads(config, arguments):
    wave = speech_like(0.3, 5)
    enhancer = make(config, **arguments)
    streamed, _ = blocks(StreamingEnhancer(enhancer), wave, [333])
    np.testing.assert_allclose(streamed, enhancer.enhance([wave])[0], atol=1e-5)
    assert StreamingEnhancer(enhancer).latency_s == config.n_fft / 16_000


def test_recordings_follow_one_another():
    """The second knows nothing of the first; silence stays silence; nothing in, nothing out."""
    enhancer = make()
    stream = StreamingEnhancer(enhancer)
    wave = speech_like(0.2, 6)
    blocks(stream, noise(0.3), [500])
    np.testing.assert_allclose(blocks(stream, wave, [500])[0], enhancer.enhance([wave])[0], atol=1e-5)
    assert not blocks(stream, np.zeros(1000, np.float32), [100])[0].any()
    assert len(stream.flush()) == 0 and len(stream.process(np.zeros(0))) == 0


def test_what_cannot_stream_is_refused():
    with pytest.raises(UserError, match="hears the whole recording.*the causal network is lstm"):
        StreamingEnhancer(MaskEnhancer(models.build("blstm", units=4, dense_units=4), Stft(), "mine"))
    with pytest.raises(UserError, match="pad_mode='reflect'"):
        StreamingEnhancer(make(Stft(pad_mode="reflect")))
    for block in (np.zeros((2, 3)), np.array([0.0, np.nan])):
        with pytest.raises(UserError, match="one row of finite samples"):
            StreamingEnhancer(make()).process(block)


def test_the_step_comes_back_from_a_file(tmp_path):
    step = lstm.step(make().network)
    step.save(tmp_path / "step.keras")
    loaded = keras.saving.load_model(tmp_path / "step.keras")
    given = [np.random.default_rng(0).random(each.shape).astype(np.float32) for each in step.inputs]
    for one, other in zip(step(given), loaded(given), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.fixture
def weights(tmp_path):
    """A tiny causal enhancer as a weights file with its card."""
    enhancer = make()
    return enhancer, save_with_card(tmp_path / "causal", enhancer.network, "lstm", {"units": 6, "dense_units": 5}, Stft())


def test_it_stands_in_a_pipe(weights):
    enhancer, path = weights
    wave = speech_like(0.5, 7)[:7999]
    raw = np.round(wave * 32768).astype("<i2")
    done = subprocess.run([sys.executable, ROOT / "enhance.py", "--live", "pipe", "--enhancer", path], input=raw.tobytes(),
                          capture_output=True, timeout=120)
    assert done.returncode == 0 and b"latency 32 ms" in done.stderr and b"0.5 s, real-time factor" in done.stderr
    expected, = enhancer.enhance([raw.astype(np.float32) / 32768])
    np.testing.assert_allclose(np.frombuffer(done.stdout, "<i2") / 32768, expected, atol=1.1 / 32768)


def test_a_pipe_that_cuts_samples_in_half():
    class Halves(io.BytesIO):
        def read1(self, size):
            return self.read(min(size, 3))

    sink, wave = io.BytesIO(), np.round(speech_like(0.1, 8) * 32768).astype("<i2")
    report = live.pipe(StreamingEnhancer(make()), Halves(wave.tobytes() + b"x"), sink)  # half a sample at the end is none
    assert report.samples == len(wave) and len(sink.getvalue()) == 2 * len(wave)


def test_devices_are_fed_and_xruns_counted(monkeypatch):
    wave, played = speech_like(0.5, 9), []

    class Stream:
        def __init__(self, samplerate, blocksize, channels, dtype, callback, finished_callback):
            assert (samplerate, channels, dtype) == (16_000, 1, "float32")
            self.size, self.callback = blocksize, callback

        def __enter__(self):
            for start in range(0, len(wave) - self.size, self.size):
                out = np.empty((self.size, 1), np.float32)
                self.callback(wave[start:start + self.size, None], out, self.size, None, "input overflow" if start == 0 else "")
                played.append(out[:, 0])

        def __exit__(self, *_):
            pass

    monkeypatch.setitem(sys.modules, "sounddevice", types.SimpleNamespace(Stream=Stream, PortAudioError=OSError))
    enhancer = make()
    report = live.devices(StreamingEnhancer(enhancer), wait=lambda: None)
    heard, delay = np.concatenate(played), 512 + live.BLOCK
    assert report.xruns == 1 and report.samples == len(heard) and "1 xruns" in str(report)
    np.testing.assert_allclose(heard[delay:], enhancer.enhance([wave])[0][:len(heard) - delay], atol=1e-5)


def test_a_device_that_gives_no_number_ends_the_stream(monkeypatch):
    class Abort(Exception):
        pass

    class Stream:
        def __init__(self, callback, finished_callback, **_):
            self.callback, self.finished = callback, finished_callback

        def __enter__(self):
            with pytest.raises(Abort):
                self.callback(np.full((256, 1), np.nan, np.float32), np.empty((256, 1), np.float32), 256, None, "")
            self.finished()

        def __exit__(self, *_):
            pass

    monkeypatch.setitem(sys.modules, "sounddevice", types.SimpleNamespace(Stream=Stream, PortAudioError=OSError, CallbackAbort=Abort))
    with pytest.raises(UserError, match="finite samples"):
        live.devices(StreamingEnhancer(make()))


def test_bad_calls_of_live(weights, monkeypatch, capsys):
    import enhance

    assert "takes no files" in refused(capsys, enhance, "a.wav", "--live", "pipe")
    assert "or --live" in refused(capsys, enhance, "a.wav")
    assert "the causal network is lstm" in refused(capsys, enhance, "--live", "pipe", "--enhancer", "blstm-hearing")
    assert "cannot stream" in refused(capsys, enhance, "--live", "pipe", "--enhancer", "wiener")
    assert "--dry is for files" in refused(capsys, enhance, "--live", "pipe", "--dry", "0.2", "--enhancer", weights[1])
    monkeypatch.setattr(sys, "stdin", None)
    assert "standard input is closed" in refused(capsys, enhance, "--live", "pipe", "--enhancer", weights[1])
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert "pip install sounddevice" in refused(capsys, enhance, "--live", "devices", "--enhancer", weights[1])
