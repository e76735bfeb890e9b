"""Short-time Fourier transform and its inverse: one definition, for NumPy at the edges and `keras.ops` inside a model.

Centred (the default), frame t has its middle on sample t * hop_length: n_fft / 2 zeros, or a reflection, stand on either side, and zeros
at the end up to a whole number of hops, so a signal of n samples has 1 + ceil(n / hop_length) frames, and zeros that pad a batch
leave an utterance's own frames as they are. Not centred, win_length - hop_length zeros stand on either side, so that every sample lies in
as many frames as any other, and the inverse is exact everywhere (DCCRN's ConvSTFT; librosa's center=False adds none, and loses the ends).

`keras` is imported only by the functions that need it: metrics and workers stay light.
"""

import functools
from dataclasses import dataclass, fields

import numpy as np
import scipy.fft
import scipy.signal

from se_keras.errors import UserError, check_choice

PAD_MODES = ("constant", "reflect")


@dataclass(frozen=True, repr=False)
class Stft:
    """Parameters of the transform, by librosa's names.

    Attributes:
        n_fft: samples in a Fourier transform; even.
        hop_length: samples from frame to frame.
        window: a scipy.signal window name, periodic; or sqrt_ before one ("sqrt_hann"), its square root.
        win_length: samples of the window, at most n_fft; None for n_fft. A shorter one stands in the middle of its frame where frames are
            centred (librosa), at its start where they are not (DCCRN).
        center: whether frame t has its middle on sample t * hop_length.
        pad_mode: of centred frames: "constant", zeros before and after the signal; "reflect", the signal in a mirror, as far as it
            reaches. With "reflect", zeros that pad a batch are reflected too: an utterance's last frames differ from those it has alone.
    """

    n_fft: int = 512
    hop_length: int = 256
    window: str = "hamming"
    win_length: int | None = None
    center: bool = True
    pad_mode: str = "constant"

    @property
    def bins(self):
        """Frequency bins, n_fft / 2 + 1."""
        return self.n_fft // 2 + 1

    @property
    def _length(self):
        return self.n_fft if self.win_length is None else self.win_length

    @property
    def _front(self):
        """Samples that stand before the signal."""
        return self.n_fft // 2 if self.center else self._length - self.hop_length

    def frames(self, samples):
        """Frames of a signal of `samples` samples (an int, or integers as an array)."""
        hops = -(-samples // self.hop_length)
        return 1 + hops if self.center else hops + self._length // self.hop_length - 1 + (self._length % self.hop_length > 0)

    def samples(self, frames):
        """The longest signal of `frames` frames, in samples: the inverse of `frames`."""
        return (frames - self.frames(0)) * self.hop_length

    def to_config(self):
        """JSON's arguments of it; those from before there were more than three are left out at their defaults."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in given.items() if name in _FIRST or value != _DEFAULTS[name]}

    def __repr__(self):  # scores that are kept are known by it, so what is at its default is not said
        return f"Stft({', '.join(f'{name}={value!r}' for name, value in self.to_config().items())})"

    @classmethod
    def checked(cls, arguments):
        """`Stft(**arguments)` of a user's arguments, or of a card's.

        Raises:
            UserError: an unknown one, a length that is no whole number above 0, an odd n_fft, a window longer than n_fft or unknown,
                a window and hop that cannot be inverted, an unknown pad_mode.
        """
        if unknown := sorted(set(arguments) - set(_DEFAULTS)):
            raise UserError(f"the STFT has no {', '.join(unknown)}; it takes {', '.join(_DEFAULTS)}")
        config = cls(**arguments)
        for name in ("n_fft", "hop_length", "win_length"):
            value = getattr(config, name)
            if not (type(value) is int and 0 < value <= MOST or name == "win_length" and value is None):
                raise UserError(f"{name} {value!r}: a whole number of samples is expected, from 1 to {MOST}")
        if config.n_fft % 2 or config._length > config.n_fft:
            raise UserError(f"n_fft {config.n_fft} and win_length {config.win_length}: n_fft is to be even, the window no longer")
        if type(config.center) is not bool:
            raise UserError(f"center {config.center!r}: true or false is expected")
        check_choice("pad_mode", config.pad_mode, PAD_MODES)
        try:
            window = _window(config if type(config.window) is str else cls(window=""))
        except ValueError:
            raise UserError(f"window {config.window!r}: not known to scipy.signal.get_window; hamming, hann and sqrt_hann are") from None
        if config.hop_length > config._length // 2 or _weight(config, 8 + 4 * config.frames(0)).min() < 1e-3 * np.square(window).max():
            raise UserError(f"hop_length {config.hop_length} with a window of {config._length} samples ({config.window}) cannot be "
                            "inverted: every sample is to lie in two frames or more, where the window is not zero; take a hop of at most "
                            "half the window")
        return config


_DEFAULTS = {field.name: field.default for field in fields(Stft)}
_FIRST = ("n_fft", "hop_length", "window")
MOST = 1 << 20  # samples in a frame: a minute


@functools.lru_cache
def _window(config):
    """The window in its frame, float32 `(n_fft,)`."""
    name, length = str(config.window), config._length
    root = name.startswith("sqrt_")
    window = scipy.signal.get_window(name.removeprefix("sqrt_") if root else config.window, length, fftbins=True)
    window = np.sqrt(np.maximum(window, 0)) if root else window
    before = (config.n_fft - length) // 2 if config.center else 0
    return np.pad(window, (before, config.n_fft - length - before)).astype(np.float32)


def _weight(config, frames):
    """Overlapped squares of the window on the samples that `frames` frames hold, float32."""
    hop, square = config.hop_length, _window(config) ** 2
    weight = np.zeros((frames - 1) * hop + config.n_fft, np.float32)
    for t in range(frames):
        weight[t * hop:t * hop + config.n_fft] += square
    return weight[config._front:config._front + config.samples(frames)]


def _reflected(samples, width):
    """How many samples a mirror gives at either end of a signal, and how many zeros then stand before them."""
    mirrored = max(min(width, samples - 1), 0)
    return mirrored, width - mirrored


def stft(wave, config=Stft()):
    """float `(..., samples)` -> float32 `(..., frames, bins, 2)`: real and imaginary part."""
    wave = np.asarray(wave, np.float32)
    samples, front = wave.shape[-1], config._front
    frames = config.frames(samples)
    padded = np.zeros(wave.shape[:-1] + ((frames - 1) * config.hop_length + config.n_fft,), np.float32)
    padded[..., front:front + samples] = wave
    if config.center and config.pad_mode == "reflect":
        mirrored, zeros = _reflected(samples, front)
        ends = np.pad(wave, [(0, 0)] * (wave.ndim - 1) + [(mirrored, mirrored)], mode="reflect")[..., :padded.shape[-1] - zeros]
        padded[..., zeros:zeros + ends.shape[-1]] = ends
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
    kept = slice(config._front, config._front + samples)
    return wave[..., kept] / weight[kept]


def magnitude(spectrum):
    """|X| of float `(..., 2)` real and imaginary parts, NumPy: `(...)`."""
    return np.hypot(spectrum[..., 0], spectrum[..., 1])


def stft_ops(wave, config=Stft()):
    """`stft` in `keras.ops`, differentiable on every backend: float32 `(batch, samples)` -> `(batch, frames, bins, 2)`."""
    from keras import ops

    samples, front = ops.shape(wave)[-1], config._front
    length = (config.frames(samples) - 1) * config.hop_length + config.n_fft  # pads the end to a whole number of hops
    if config.center and config.pad_mode == "reflect":
        # a wave whose length is known when it comes only is taken to be longer than half a frame
        mirrored, zeros = (front, 0) if wave.shape[-1] is None else _reflected(samples, front)
        ends = ops.pad(wave, [[0, 0], [mirrored, mirrored]], mode="reflect")[:, :length - zeros]
        padded = ops.pad(ends, [[0, 0], [zeros, length - zeros - ops.shape(ends)[-1]]])
    else:
        padded = ops.pad(wave, [[0, 0], [front, length - front - samples]])
    real, imag = ops.stft(padded, config.n_fft, config.hop_length, config.n_fft, window=_window(config), center=False)
    return ops.stack([real, imag], axis=-1)


def istft_ops(spectrum, samples, config=Stft()):
    """`istft` in `keras.ops`: float32 `(batch, frames, bins, 2)` -> `(batch, samples)`; `samples` a Python int or a scalar tensor."""
    from keras import ops

    window = _window(config)
    framed = ops.irfft((spectrum[..., 0], spectrum[..., 1]), config.n_fft) * window
    wave = _overlap_add(framed, config.hop_length)
    weight = _overlap_add(ops.ones_like(framed[:1, :, :1]) * (window ** 2), config.hop_length)
    start = config._front
    return wave[:, start:start + samples] / weight[:, start:start + samples]


def _overlap_add(framed, hop):
    """`(batch, frames, n_fft)` -> `(batch, at least (frames - 1) * hop + n_fft)`."""
    from keras import ops

    if ragged := -framed.shape[-1] % hop:
        framed = ops.pad(framed, [[0, 0], [0, 0], [0, ragged]])
    parts, total = framed.shape[-1] // hop, 0
    for part in range(parts):  # hop-sized slice number `part` of frame t lands on hop t + part
        piece = framed[:, :, part * hop:(part + 1) * hop]
        total = total + ops.pad(piece, [[0, 0], [part, parts - 1 - part], [0, 0]])
    return ops.reshape(total, (ops.shape(total)[0], -1))
