"""Short-time Fourier transform and its inverse: one definition, for NumPy at the edges and `keras.ops` inside a model.

Argument names and meanings are librosa's. By default frame t is centred on sample t * hop_length: the signal is padded with
n_fft / 2 samples on either side (and with zeros at its end to a whole number of hops), so a signal of n samples has
1 + ceil(n / hop_length) frames, and every sample comes back. `keras` is imported only by the functions that need it: metrics
and workers stay light.

Padding. "constant" (zeros): zeros that pad a batch leave an utterance's own frames as they are. "reflect": the signal is
mirrored at its two ends, as in librosa and torch, so a spectrum is that of the array it was made from. An utterance that is
padded in a batch is not mirrored at its own end: its last frames see the batch's zeros, and differ from those it has alone.
Transform each utterance alone and pad the spectra (`mixtures.feed` does), or use zeros inside a model. A signal that is
shorter than the padding is mirrored to and fro, as `np.pad` and librosa do (torch refuses it); an empty one becomes zeros.

Not centred (`center=False`): the convolutional STFT of DCCRN (arXiv 2008.00264, `ConvSTFT`). The signal is padded with
win_length - hop_length samples on either side, and the window lies on the first win_length samples of a frame. Frame t then begins at
sample t * hop_length - (win_length - hop_length), every sample lies in all the frames that can hold it, and the transform can be
inverted everywhere: 48,000 samples make 483 frames of 512 samples, window 400, hop 100. librosa's `center=False` pads nothing, has
the window in the middle of the frame, and loses the first and last samples.

The last hop. tail="pad": zeros make the signal a whole number of hops long, and every sample comes back. "cut": no frame is made for a
part of a hop, as in torch and librosa: 1 + floor(n / hop_length) frames, and what lies behind the last one's centre comes back as zeros.

Inverse. A spectrum that was changed is no signal's any more; "dft" takes each frame's inverse DFT and drops what lies outside the window,
"least_squares" the samples within the window whose DFT is nearest (DCCRN's, by pseudo-inverse). Of an unchanged spectrum they are equal.
"""

import functools
from dataclasses import dataclass, fields

import numpy as np
import scipy.fft
import scipy.signal

from se_keras.errors import UserError

PAD_MODES = ("constant", "reflect")
TAILS = ("pad", "cut")
INVERSES = ("dft", "least_squares")
_SMALLEST_WEIGHT = 1e-4  # of the largest: below it, the inverse would make a rounding error of 1e-7 larger than 1e-5


@dataclass(frozen=True, repr=False)
class Stft:
    """Parameters of the transform.

    Attributes:
        n_fft: samples in a frame and in its Fourier transform; even.
        hop_length: samples from frame to frame; at most half of win_length.
        window: a scipy.signal.get_window name, or "sqrt_" and such a name for its square root ("sqrt_hann"); periodic.
        win_length: samples in the window, at most n_fft; a frame is zero elsewhere. None: n_fft.
        center: True: frames, and the window in them, are centred on multiples of hop_length. False: see the module.
        pad_mode: what the signal is padded with: "constant" (zeros) or "reflect".
        tail: of centred frames, "pad" or "cut": see the module.
        inverse: "dft" or "least_squares": see the module.
    """

    n_fft: int = 512
    hop_length: int = 256
    window: str = "hamming"
    win_length: int | None = None
    center: bool = True
    pad_mode: str = "constant"
    tail: str = "pad"
    inverse: str = "dft"

    def __post_init__(self):
        if self.win_length == self.n_fft:  # one transform, one description: cards are compared
            object.__setattr__(self, "win_length", None)

    def __repr__(self):
        return f"Stft({', '.join(f'{name}={value!r}' for name, value in self.to_config().items())})"

    @property
    def bins(self):
        """Frequency bins, n_fft / 2 + 1."""
        return self.n_fft // 2 + 1

    @property
    def padding(self):
        """Samples of padding before the signal, and at least as many behind it."""
        return self.n_fft // 2 if self.center else (self.win_length or self.n_fft) - self.hop_length

    def frames(self, samples):
        """Frames of a signal of `samples` samples."""
        if not self.center:
            return (samples + self.padding + self.hop_length - 1) // self.hop_length
        return 1 + (samples if self.tail == "cut" else samples + self.hop_length - 1) // self.hop_length

    def samples(self, frames):
        """Samples of a signal of `frames` frames that all come back: (frames - 1) * hop_length of centred ones."""
        if self.center:
            return (frames - 1) * self.hop_length
        return frames * self.hop_length - self.padding

    def to_config(self):
        """{name: value}: the first three always, of the others those that are not the default (cards and caches keep their text)."""
        return {field.name: value for number, field in enumerate(fields(self))
                if (value := getattr(self, field.name)) != field.default or number < 3}

    @classmethod
    def checked(cls, arguments):
        """`Stft(**arguments)` of a user's arguments.

        Raises:
            UserError: an unknown one; lengths that are no whole numbers, an odd n_fft, a window longer than n_fft or shorter than two
                hops; a window that SciPy does not know or that no sample can be recovered from; another center, pad_mode, tail or
                inverse; a tail that is cut of frames that are not centred.
        """
        names = [field.name for field in fields(cls)]
        if unknown := sorted(set(arguments) - set(names)):
            raise UserError(f"the STFT has no {', '.join(unknown)}; it takes {', '.join(names[:-1])} and {names[-1]}")
        config = cls(**arguments)
        length = config.n_fft if config.win_length is None else config.win_length
        lengths = f"n_fft {config.n_fft!r} and hop_length {config.hop_length!r}: whole numbers of samples are expected"
        if not all(type(value) is int and value > 0 for value in (config.n_fft, config.hop_length)) or config.n_fft % 2:
            raise UserError(f"{lengths}, n_fft even")
        if type(length) is not int or not 0 < length <= config.n_fft:
            raise UserError(f"win_length {length!r}: a whole number of samples is expected, at most n_fft, which is {config.n_fft}")
        if 2 * config.hop_length > length:
            raise UserError(f"{lengths}, hop_length at most half of the window, which has {length}, so that every sample lies in two "
                            "frames or more")
        if type(config.center) is not bool:
            raise UserError(f"center {config.center!r}: true or false is expected")
        for name, choices in (("pad_mode", PAD_MODES), ("tail", TAILS), ("inverse", INVERSES)):
            if (value := getattr(config, name)) not in choices:
                raise UserError(f"{name} {value!r}: {' or '.join(choices)} is expected")
        if config.tail == "cut" and not config.center:
            raise UserError("tail 'cut' is of centred frames, and center is false; leave one of them out")
        try:
            window = framed_window(config) if isinstance(config.window, str) else None
        except ValueError:
            window = None
        if window is None:
            raise UserError(f"window {config.window!r}: not known to scipy.signal.get_window; hamming, hann and sqrt_hann are")
        if not np.isfinite(window).all():
            raise UserError(f"window {config.window!r}: the window has negative values and no square root; sqrt_hann and sqrt_hamming do")
        samples = 2 * config.n_fft
        weight = _weight(config, config.frames(samples))
        if weight[config.padding:config.padding + samples].min() < _SMALLEST_WEIGHT * weight.max():
            raise UserError(f"window {config.window!r} of {length} samples and hop_length {config.hop_length}: the frames' windows leave "
                            "samples (almost) unseen, and the transform cannot be inverted; a shorter hop_length may do")
        return config


@functools.lru_cache
def inverse_matrix(config):
    """Real, then imaginary part of a frame's spectrum -> its samples, float32 `(2 * bins, n_fft)`: the inverse DFT, or by
    "least_squares" the pseudo-inverse on the window's support."""
    if config.inverse == "dft":
        unit = np.eye(config.bins)
        return np.concatenate([np.fft.irfft(unit, config.n_fft), np.fft.irfft(1j * unit, config.n_fft)]).astype(np.float32)
    support = _support(config)
    rows = np.fft.rfft(np.eye(config.n_fft)[support])
    inverse = np.zeros((2 * config.bins, config.n_fft))
    inverse[:, support] = np.linalg.pinv(np.concatenate([rows.real, rows.imag], axis=1))
    return inverse.astype(np.float32)


@functools.lru_cache
def framed_window(config):
    """The window in its frame, float32 `(n_fft,)`."""
    length = config.win_length or config.n_fft
    name = config.window.removeprefix("sqrt_")
    window = scipy.signal.get_window(name, length, fftbins=True)
    if name != config.window:
        with np.errstate(invalid="ignore"):
            window = np.sqrt(window)
    framed = np.zeros(config.n_fft, np.float32)
    framed[_support(config)] = window
    return framed


def _support(config):
    """Where the window lies in its frame."""
    length = config.win_length or config.n_fft
    before = (config.n_fft - length) // 2 if config.center else 0
    return slice(before, before + length)


def _weight(config, frames):
    """Sum of the squared windows that lie on each padded sample, float32 `((frames - 1) * hop_length + n_fft,)`."""
    window, hop = framed_window(config), config.hop_length
    weight = np.zeros((frames - 1) * hop + config.n_fft, np.float32)
    for t in range(frames):
        weight[t * hop:t * hop + config.n_fft] += window ** 2
    return weight


def stft(wave, config=Stft()):
    """float `(..., samples)` -> float32 `(..., frames, bins, 2)`: real and imaginary part."""
    wave = np.asarray(wave, np.float32)
    samples, reach = wave.shape[-1], config.padding
    frames = config.frames(samples)
    padded = np.zeros(wave.shape[:-1] + ((frames - 1) * config.hop_length + config.n_fft,), np.float32)
    if config.pad_mode == "reflect" and samples:
        wave, reach = np.pad(wave, [(0, 0)] * (wave.ndim - 1) + [(reach, reach)], "reflect"), 0
    wave = wave[..., :padded.shape[-1] - reach]  # a tail that is cut may reach beyond the last frame
    padded[..., reach:reach + wave.shape[-1]] = wave
    framed = np.lib.stride_tricks.sliding_window_view(padded, config.n_fft, axis=-1)[..., ::config.hop_length, :]
    spectrum = scipy.fft.rfft(framed * framed_window(config), axis=-1)
    return spectrum[..., None].view(np.float32)


def istft(spectrum, samples, config=Stft()):
    """float32 `(..., frames, bins, 2)` -> float32 `(..., samples)`: weighted overlap-add, exact for an unchanged spectrum."""
    spectrum = np.ascontiguousarray(spectrum, np.float32)
    if config.inverse == "least_squares":
        framed = np.concatenate([spectrum[..., 0], spectrum[..., 1]], axis=-1) @ inverse_matrix(config)
    else:
        framed = scipy.fft.irfft(spectrum.view(np.complex64)[..., 0], config.n_fft, axis=-1)
    framed = framed * framed_window(config)
    frames, hop = framed.shape[-2], config.hop_length
    wave = np.zeros(framed.shape[:-2] + ((frames - 1) * hop + config.n_fft,), np.float32)
    for t in range(frames):
        wave[..., t * hop:t * hop + config.n_fft] += framed[..., t, :]
    known = min(samples, config.samples(frames)) if config.tail == "cut" else samples
    kept = slice(config.padding, config.padding + known)
    wave = wave[..., kept] / _weight(config, frames)[kept]
    return wave if known == samples else np.pad(wave, [(0, 0)] * (wave.ndim - 1) + [(0, samples - known)])


def magnitude(spectrum):
    """|X| of float `(..., 2)` real and imaginary parts, NumPy: `(...)`."""
    return np.hypot(spectrum[..., 0], spectrum[..., 1])


def stft_ops(wave, config=Stft()):
    """`stft` in `keras.ops`, differentiable on every backend: float32 `(batch, samples)` -> `(batch, frames, bins, 2)`."""
    from keras import ops

    padded = padded_ops(wave, config)
    real, imag = ops.stft(padded, config.n_fft, config.hop_length, config.n_fft, window=framed_window(config), center=False)
    return ops.stack([real, imag], axis=-1)


def padded_ops(wave, config=Stft()):
    """What the frames of a wave are cut from, one every hop: float32 `(batch, samples)` -> `(batch, padded samples)`."""
    from keras import ops

    samples, reach = ops.shape(wave)[-1], config.padding
    total = (config.frames(samples) - 1) * config.hop_length + config.n_fft
    padded = ops.pad(wave, [[0, 0], [reach, reach if config.tail == "cut" else total - reach - samples]])
    if config.pad_mode == "reflect":
        before, behind = (reach + _mirrored(ops.arange(start, start + reach), samples) for start in (-reach, samples))
        padded = ops.concatenate([ops.take(padded, before, axis=1), padded[:, reach:reach + samples],
                                  ops.take(padded, behind, axis=1), padded[:, samples + 2 * reach:]], axis=1)
    return padded[:, :total] if config.tail == "cut" else padded


def _mirrored(positions, samples):
    """Sample of a signal of `samples` samples that reflection puts at a position, to and fro where it is short; 0 for none."""
    from keras import ops

    period = ops.maximum(2 * (samples - 1), 1)
    positions = ops.mod(ops.abs(positions), period)  # of a number above 0: tf2onnx gets -n % m wrong
    return ops.minimum(positions, period - positions)


def istft_ops(spectrum, samples, config=Stft()):
    """`istft` in `keras.ops`: float32 `(batch, frames, bins, 2)` -> `(batch, samples)`; `samples` a Python int or a scalar tensor."""
    from keras import ops

    window, start = framed_window(config), config.padding
    if config.inverse == "least_squares":
        framed = ops.matmul(ops.concatenate([spectrum[..., 0], spectrum[..., 1]], axis=-1), inverse_matrix(config))
    else:
        framed = ops.irfft((spectrum[..., 0], spectrum[..., 1]), config.n_fft)
    framed = framed * window
    known = samples
    if config.tail == "cut":
        of_frames = config.samples(ops.shape(spectrum)[1])
        fewer = min if isinstance(samples, int) and isinstance(of_frames, int) else ops.minimum  # JAX cuts at Python's numbers alone
        known = fewer(samples, of_frames)
    wave = overlap_add(framed, config.hop_length)[:, start:start + known]
    weight = overlap_add(ops.ones_like(framed[:1, :, :1]) * (window ** 2), config.hop_length)[:, start:start + known]
    wave = wave / weight  # what is cut off may have weight 0, and no gradient
    return ops.pad(wave, [[0, 0], [0, samples - known]]) if config.tail == "cut" else wave


def overlap_add(framed, hop):
    """`(batch, frames, n_fft)` -> `(batch, samples)`, zeros behind the last frame up to a whole number of hops."""
    from keras import ops

    framed = ops.pad(framed, [[0, 0], [0, 0], [0, -framed.shape[-1] % hop]])
    parts, total = framed.shape[-1] // hop, 0
    for part in range(parts):  # hop-sized slice number `part` of frame t lands on hop t + part
        piece = framed[:, :, part * hop:(part + 1) * hop]
        total = total + ops.pad(piece, [[0, 0], [part, parts - 1 - part], [0, 0]])
    return ops.reshape(total, (ops.shape(total)[0], -1))
