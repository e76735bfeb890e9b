"""enhance.py --live: what a stream is fed from, and where it goes."""

import threading
import time
from dataclasses import dataclass

import numpy as np

from se_keras.errors import UserError
from se_keras.signals.audio import SAMPLE_RATE

BLOCK = 256  # samples that are asked for at a time: 16 ms
FULL_SCALE = 32_768  # of 16 bits


@dataclass
class Report:
    """What a live run was.

    Attributes:
        samples: that came in.
        busy_s: seconds of enhancing.
        xruns: blocks that a device lost, for want of time.
    """

    samples: int = 0
    busy_s: float = 0.0
    xruns: int = 0

    def __str__(self):
        seconds = self.samples / SAMPLE_RATE
        factor = f", real-time factor {self.busy_s / seconds:.2f}" if seconds else ""
        return f"{seconds:.1f} s{factor}, {self.xruns} xruns"


def pipe(stream, source, sink):
    """Enhance raw audio until it ends: 16-bit little-endian integers, mono, 16 kHz, in and out, as many samples out as in.

    Args:
        stream: `enhancers.live.StreamingEnhancer` or `enhancers.buffered.BufferedEnhancer`.
        source, sink: binary files; each block is written as soon as it is finished.

    Returns:
        `Report`.
    """
    report, odd = Report(), b""
    read = getattr(source, "read1", source.read)  # what is there, without waiting for a whole block
    while data := read(2 * BLOCK):
        data, odd = odd + data, b""
        if len(data) % 2:
            data, odd = data[:-1], data[-1:]
        block = np.frombuffer(data, "<i2").astype(np.float32) / FULL_SCALE
        report.samples += len(block)
        _write(sink, _timed(report, stream.process, block))
    _write(sink, _timed(report, stream.flush))
    return report


def _write(sink, wave):
    sink.write(np.clip(np.round(wave * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype("<i2").tobytes())
    sink.flush()


def _timed(report, function, *arguments):
    began = time.perf_counter()
    result = function(*arguments)
    report.busy_s += time.perf_counter() - began
    return result


def devices(stream, wait=None):
    """Enhance what the default microphone hears, to the default loudspeaker, until Ctrl-C.

    Args:
        stream: as `pipe`. One with a `block` is fed blocks of that size, and what it makes of one must be ready before the next comes.
        wait: a function that returns when it is to end; None to wait for Ctrl-C, or for the device to stop.

    Returns:
        `Report`.

    Raises:
        UserError: sounddevice is not installed, there is no device, or it gives what is no number.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: PortAudio is missing
        raise UserError(f"--live devices needs sounddevice ({error}); pip install sounddevice (the extra live), on Debian: apt install "
                        "libportaudio2; or use --live pipe") from None
    report = Report()
    block = getattr(stream, "block", BLOCK)
    ahead = stream.lag if hasattr(stream, "lag") else stream.config.n_fft + max(stream.config.hop_length, block)  # the output may lag so
    ready = np.zeros(ahead, np.float32)  # what is to be heard next: at first, silence

    failure = []

    def callback(heard, played, frames, _, status):
        nonlocal ready
        report.xruns += bool(status)
        report.samples += frames
        try:
            ready = np.concatenate([ready, _timed(report, stream.process, heard[:, 0])])
        except UserError as error:  # on PortAudio's thread, where nobody would hear of it
            failure.append(error)
            raise sounddevice.CallbackAbort from None
        played[:, 0] = ready[:frames]
        ready = ready[frames:]

    ended = threading.Event()
    try:
        with sounddevice.Stream(samplerate=SAMPLE_RATE, blocksize=block, channels=1, dtype="float32", callback=callback,
                                finished_callback=ended.set):
            (wait or ended.wait)()
    except KeyboardInterrupt:
        pass
    except sounddevice.PortAudioError as error:
        raise UserError(f"--live devices: {error}; is there a microphone and a loudspeaker? --live pipe needs neither") from None
    if failure:
        raise failure[0]
    return report
