"""Waves to spectra and back as convolutions: an STFT that every format a model is exported to can hold.

`signals.stft` calls a Fourier transform, which ONNX and LiteRT know in few lengths or not at all. Here the windowed transform of a frame
is a product with a matrix, so that all frames are one convolution along time, as in DCCRN's `ConvSTFT`; the inverse is a product and an
overlap-add. The results are those of `signals.stft` to rounding.
"""

import functools

import keras
import numpy as np
from keras import ops

from se_keras.models.layers import register
from se_keras.models.training_layers import stft_of
from se_keras.signals.stft import framed_window, inverse_matrix, overlap_add, padded_ops


@functools.lru_cache
def transform(config):
    """A frame's samples -> real, then imaginary part of its windowed spectrum: float32 `(n_fft, 2 * bins)`."""
    spectra = np.fft.rfft(np.diag(framed_window(config).astype(np.float64)))
    return np.concatenate([spectra.real, spectra.imag], axis=1).astype(np.float32)


@functools.lru_cache
def inverse(config):
    """Real, then imaginary part of a frame's spectrum -> its samples, windowed for the overlap-add: float32 `(2 * bins, n_fft)`."""
    return inverse_matrix(config) * framed_window(config)


@register
class WaveSpectrum(keras.layers.Layer):
    """`signals.stft.stft` of waves: float32 `(batch, samples)` -> `(batch, frames, bins, 2)`.

    Args:
        config: STFT parameters, or their config.
    """

    def __init__(self, config=None, **kwargs):
        super().__init__(**kwargs)
        self.stft = stft_of(config)

    def call(self, wave):
        config, padded = self.stft, padded_ops(wave, self.stft)
        spectra = ops.conv(ops.expand_dims(padded, -1), transform(config)[:, None], strides=config.hop_length, padding="valid",
                           data_format="channels_last")
        return ops.stack(ops.split(spectra, 2, axis=-1), axis=-1)

    def compute_output_shape(self, shape):
        frames = None if shape[1] is None else self.stft.frames(shape[1])
        return (shape[0], frames, self.stft.bins, 2)

    def get_config(self):
        return {**super().get_config(), "config": self.stft.to_config()}


@register
class SpectrumWave(keras.layers.Layer):
    """`signals.stft.istft`: spectrum float32 `(batch, frames, bins, 2)`, and the wave that it was made of, whose length it takes,
    float32 `(batch, samples)` -> float32 `(batch, samples)`.

    Args:
        config: STFT parameters, or their config.
    """

    def __init__(self, config=None, **kwargs):
        super().__init__(**kwargs)
        self.stft = stft_of(config)

    def call(self, spectrum, wave):
        config, samples = self.stft, ops.shape(wave)[1]
        framed = ops.matmul(ops.concatenate(ops.unstack(spectrum, axis=-1), axis=-1), inverse(config))
        weight = ops.ones_like(framed) * framed_window(config) ** 2
        known = config.samples(ops.shape(spectrum)[1]) if config.tail == "cut" else samples
        own = slice(config.padding, config.padding + ops.minimum(known, samples))
        enhanced = overlap_add(framed, config.hop_length)[:, own] / overlap_add(weight, config.hop_length)[:, own]
        return ops.pad(enhanced, [[0, 0], [0, samples - ops.shape(enhanced)[1]]])

    def compute_output_shape(self, spectrum_shape, wave_shape):
        return wave_shape

    def get_config(self):
        return {**super().get_config(), "config": self.stft.to_config()}


@register
class EveryFrameIsSpeech(keras.layers.Layer):
    """The frame mask of an utterance alone: `(batch, frames, ...)` -> bool `(batch, frames)`, all True."""

    def call(self, spectrum):
        return ops.ones(ops.shape(spectrum)[:2], dtype="bool")

    def compute_output_spec(self, spectrum):
        return keras.KerasTensor(spectrum.shape[:2], dtype="bool")


class _Matrix(keras.layers.Layer):
    """A product with a matrix that an STFT gives: float32 `(batch, values)` -> `(batch, other values)`.

    Args:
        config: STFT parameters, or their config.
    """

    def __init__(self, config=None, **kwargs):
        super().__init__(**kwargs)
        self.stft = stft_of(config)

    def call(self, x):
        return ops.matmul(x, self._matrix(self.stft))

    def compute_output_shape(self, shape):
        return (shape[0], self._matrix(self.stft).shape[1])

    def get_config(self):
        return {**super().get_config(), "config": self.stft.to_config()}


@register
class FrameSpectrum(_Matrix):
    """`transform` of one frame: its samples, float32 `(batch, n_fft)`, -> real, then imaginary part, `(batch, 2 * bins)`."""

    _matrix = staticmethod(transform)


@register
class SpectrumFrame(_Matrix):
    """`inverse` of one frame: real, then imaginary part, float32 `(batch, 2 * bins)`, -> its windowed samples, `(batch, n_fft)`."""

    _matrix = staticmethod(inverse)


@register
class UnitPeak(keras.layers.Layer):
    """A wave divided by its largest absolute sample, silence as it is (`judges.surrogate.unit_peak`): float32 `(batch, samples)`."""

    def call(self, wave):
        return wave / ops.maximum(ops.max(ops.abs(wave), axis=1, keepdims=True), 1e-8)

    def compute_output_shape(self, shape):
        return shape
