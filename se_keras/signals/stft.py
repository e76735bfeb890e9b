"""Short-time Fourier transform and its inverse: one definition, for NumPy at the edges and `keras.ops` inside a model.

Frame t is centred on sample t * hop_length: the signal is padded with n_fft / 2 zeros on either side (and at its end to a
whole number of hops), so a signal of n samples has 1 + ceil(n / hop_length) frames, and zeros that pad a batch leave an
utterance's own frames as they are. `keras` is imported only by the functions that need it: metrics and workers stay light.
"""

import functools
from dataclasses import asdict, dataclass, fields

import numpy as np
import scipy.fft
import scipy.signal

from se_keras.errors import UserError


@dataclass(frozen=True)
class Stft:
    """Parameters of the transform.

    Attributes:
        n_fft: samples in a frame and in its Fourier transform.
        hop_length: samples from frame to frame.
        window: a scipy.signal window name; periodic.
    """

    n_fft: int = 512
    hop_length: int = 256
    window: str = "hamming"

    @property
    def bins(self):
        """Frequency bins, n_fft / 2 + 1."""
        return self.n_fft // 2 + 1

    def frames(self, samples):
        """Frames of a signal of `samples` samples."""
        return 1 + -(-samples // self.hop_length)

    def samples(self, frames):
        """The longest signal of `frames` frames, in samples."""
        return (frames - 1) * self.hop_length

    def to_config(self):
        return asdict(self)

    @classmethod
    def checked(cls, arguments):
        """`Stft(**arguments)` of a user's arguments.

        Raises:
            UserError: an unknown one, n_fft that is no even multiple of hop_length, or a window that SciPy does not know.
        """
        if unknown := sorted(set(arguments) - {field.name for field in fields(cls)}):
            raise UserError(f"the STFT has no {', '.join(unknown)}; it takes n_fft, hop_length and window")
        config = cls(**arguments)
        whole = all(type(value) is int and value > 0 for value in (config.n_fft, config.hop_length))
        if not whole or config.n_fft % (2 * config.hop_length):
            raise UserError(f"n_fft {config.n_fft!r} and hop_length {config.hop_length!r}: whole numbers of samples are expected, n_fft an "
                            "even multiple of hop_length, so that every sample lies in two frames or more")
        try:
            _window(config)
        except (ValueError, TypeError):
            raise UserError(f"window {config.window!r}: not known to scipy.signal.get_window; hamming and hann are") from None
        return config


@functools.lru_cache
def _window(config):
    return scipy.signal.get_window(config.window, config.n_fft, fftbins=True).astype(np.float32)


def stft(wave, config=Stft()):
    """float `(..., samples)` -> float32 `(..., frames, bins, 2)`: real and imaginary part."""
    wave = np.asarray(wave, np.float32)
    frames = config.frames(wave.shape[-1])
    padded = np.zeros(wave.shape[:-1] + ((frames - 1) * config.hop_length + config.n_fft,), np.float32)
    padded[..., config.n_fft // 2:config.n_fft // 2 + wave.shape[-1]] = wave
    framed = np.lib.stride_tricks.sliding_window_view(padded, config.n_fft, axis=-1)[..., ::config.hop_length, :]
    spectrum = scipy.fft.rfft(framed * _window(config), axis=-1)
    return spectrum[..., None].view(np.float32)


def istft(spectrum, samples, config=Stft()):
    """float32 `(..., frames, bins, 2)` -> float32 `(..., samples)`: weighted overlap-add, exact for an unchanged spectrum."""
    spectrum = np.ascontiguousarray(spectrum, np.float32).view(np.complex64)[..., 0]
    window = _window(config)
    framed = scipy.fft.irfft(spectrum, config.n_fft, axis=-1) * window
    frames, hop = framed.shape[-2], config.hop_length
    wave = np.zeros(framed.shape[:-2] + ((frames - 1) * hop + config.n_fft,), np.float32)
    weight = np.zeros(wave.shape[-1], np.float32)
    for t in range(frames):
        wave[..., t * hop:t * hop + config.n_fft] += framed[..., t, :]
        weight[t * hop:t * hop + config.n_fft] += window ** 2
    kept = slice(config.n_fft // 2, config.n_fft // 2 + samples)
    return wave[..., kept] / weight[kept]


def magnitude(spectrum):
    """|X| of float `(..., 2)` real and imaginary parts, NumPy: `(...)`."""
    return np.hypot(spectrum[..., 0], spectrum[..., 1])


def stft_ops(wave, config=Stft()):
    """`stft` in `keras.ops`, differentiable on every backend: float32 `(batch, samples)` -> `(batch, frames, bins, 2)`."""
    from keras import ops

    samples = ops.shape(wave)[-1]
    tail = (-samples) % config.hop_length  # pads the end to a whole number of hops, so that every sample lies in two frames
    padded = ops.pad(wave, [[0, 0], [config.n_fft // 2, config.n_fft // 2 + tail]])
    real, imag = ops.stft(padded, config.n_fft, config.hop_length, config.n_fft, window=_window(config), center=False)
    return ops.stack([real, imag], axis=-1)


def istft_ops(spectrum, samples, config=Stft()):
    """`istft` in `keras.ops`: float32 `(batch, frames, bins, 2)` -> `(batch, samples)`; `samples` a Python int or a scalar tensor."""
    from keras import ops

    window = _window(config)
    framed = ops.irfft((spectrum[..., 0], spectrum[..., 1]), config.n_fft) * window
    wave = _overlap_add(framed, config.hop_length)
    weight = _overlap_add(ops.ones_like(framed[:1, :, :1]) * (window ** 2), config.hop_length)
    start = config.n_fft // 2
    return (wave / weight)[:, start:start + samples]


def _overlap_add(framed, hop):
    """`(batch, frames, n_fft)` -> `(batch, (frames - 1) * hop + n_fft)`, for n_fft a multiple of hop."""
    from keras import ops

    parts, total = framed.shape[-1] // hop, 0
    for part in range(parts):  # hop-sized slice number `part` of frame t lands on hop t + part
        piece = framed[:, :, part * hop:(part + 1) * hop]
        total = total + ops.pad(piece, [[0, 0], [part, parts - 1 - part], [0, 0]])
    return ops.reshape(total, (ops.shape(total)[0], -1))
