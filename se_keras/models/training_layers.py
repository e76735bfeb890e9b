"""Layers of training models: a frozen network, waves of spectra and back, the value of a term. All but the last are registered.

A frame mask is bool `(batch, frames)`, True on an utterance's own frames and False on the padding to its right.
"""

import inspect

import keras
from keras import ops

from se_keras.models.layers import register
from se_keras.signals.stft import Stft, istft_ops, stft_ops


@register
class Frozen(keras.layers.Layer):
    """A network inside another, of which not one bit changes while the other trains.

    `trainable = False` is not enough: SpectralNormalization rewrites its kernel, and BatchNormalization its averages, whenever
    they are called with training=True, which `fit` passes on through a functional model even where `training=False` was given.
    This layer's own call says training=False to the network, and that stands.
    """

    def __init__(self, network, **kwargs):
        super().__init__(**kwargs)
        network.trainable = False
        self.network = network
        self.trainable = False

    def call(self, inputs):
        return self.network(inputs, training=False)

    def compute_output_shape(self, input_shape):
        return self.network.compute_output_shape(input_shape)

    def get_config(self):
        return {**super().get_config(), "network": keras.saving.serialize_keras_object(self.network)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "network": keras.saving.deserialize_keras_object(config["network"])})


def stft_of(config):
    """The `Stft` of a layer's argument: one, its config, or None for the default."""
    return Stft(**config) if isinstance(config, dict) else config or Stft()


@register
class Waveform(keras.layers.Layer):
    """The wave of a spectrum, differentiable: what wave losses, and judges with another STFT, hear.

    Call arguments: spectrum float32 `(batch, frames, bins, 2)`, frame_mask bool `(batch, frames)`. An utterance of n frames becomes
    `config.samples(n)` samples, alone and in a padded batch. Output: float32 `(batch, samples)`, zero beyond an utterance's own.

    Args:
        config: STFT parameters, or their config.
    """

    def __init__(self, config=None, **kwargs):
        super().__init__(**kwargs)
        self.stft = stft_of(config)

    def call(self, spectrum, frame_mask):
        samples = self.stft.samples(ops.shape(spectrum)[1])
        wave = istft_ops(spectrum, samples, self.stft)
        return ops.where(_own_samples(frame_mask, samples, self.stft), wave, 0.0)

    def compute_output_shape(self, spectrum_shape, frame_mask_shape=None):
        return (spectrum_shape[0], None if spectrum_shape[1] is None else self.stft.samples(spectrum_shape[1]))

    def get_config(self):
        return {**super().get_config(), "config": self.stft.to_config()}


def _own_samples(frame_mask, samples, config):
    """Mask of an utterance's own samples, bool `(batch, samples)`."""
    frames = ops.sum(ops.cast(frame_mask, "int32"), axis=1, keepdims=True)
    return ops.arange(samples) < config.samples(frames)


@register
class SampleMask(keras.layers.Layer):
    """The mask of an utterance's own samples: frame_mask bool `(batch, frames)`, wave `(batch, samples)` -> bool `(batch, samples)`.

    Args:
        config: STFT parameters, or their config.
    """

    def __init__(self, config=None, **kwargs):
        super().__init__(**kwargs)
        self.stft = stft_of(config)

    def call(self, frame_mask, wave):
        return _own_samples(frame_mask, ops.shape(wave)[1], self.stft)

    def compute_output_spec(self, frame_mask, wave):
        return keras.KerasTensor(wave.shape, dtype="bool")

    def get_config(self):
        return {**super().get_config(), "config": self.stft.to_config()}


@register
class WaveMagnitude(keras.layers.Layer):
    """Magnitude spectrogram of a wave, for training through it.

    Call argument: wave float32 `(batch, samples)`. Output: float32 `(batch, frames, bins)`, the square root kept 1e-5 away from zero,
    where it has no gradient.

    Args:
        config: STFT parameters, or their config.
        unit_peak: divide the wave by its largest absolute sample.
    """

    def __init__(self, config=None, unit_peak=False, **kwargs):
        super().__init__(**kwargs)
        self.unit_peak = unit_peak
        self.stft = stft_of(config)

    def call(self, wave):
        if self.unit_peak:
            wave = wave / ops.maximum(ops.max(ops.abs(wave), axis=1, keepdims=True), 1e-8)
        return ops.sqrt(ops.sum(ops.square(stft_ops(wave, self.stft)), axis=-1) + 1e-10)

    def compute_output_shape(self, shape):
        return (shape[0], None if shape[1] is None else self.stft.frames(shape[1]), self.stft.bins)

    def get_config(self):
        return {**super().get_config(), "config": self.stft.to_config(), "unit_peak": self.unit_peak}


@register
class FrameMask(keras.layers.Layer):
    """The frame mask of an utterance under another STFT.

    Call arguments: frame_mask bool `(batch, frames)` of the one, magnitude float32 `(batch, other frames, bins)` of the other.
    Output: bool `(batch, other frames)`.

    Args:
        config, other: both STFTs' parameters, or their configs.
    """

    def __init__(self, config=None, other=None, **kwargs):
        super().__init__(**kwargs)
        self.stft, self.other = stft_of(config), stft_of(other)

    def call(self, frame_mask, magnitude):
        frames = ops.sum(ops.cast(frame_mask, "int32"), axis=1, keepdims=True)
        return ops.arange(ops.shape(magnitude)[1]) < self.other.frames(self.stft.samples(frames))

    def compute_output_shape(self, frame_mask_shape, magnitude_shape):
        return magnitude_shape[:2]

    def compute_output_spec(self, frame_mask, magnitude):
        return keras.KerasTensor(self.compute_output_shape(frame_mask.shape, magnitude.shape), dtype="bool")

    def get_config(self):
        return {**super().get_config(), "config": self.stft.to_config(), "other": self.other.to_config()}


@register
class StageTarget(keras.layers.Layer):
    """The target of a stage of progressive learning: clean speech with the mixture's own noise at another SNR, in place of clean speech.

    clean + g (noisy - clean), with g such that the wave of clean speech has `snr_db` more energy than that of the noise, over an
    utterance's own samples. Where one of them is silent, clean speech.

    Call arguments: clean, noisy float32 `(batch, frames, bins, 2)`, frame_mask bool `(batch, frames)`. Output: likewise clean.

    Args:
        config: STFT parameters, or their config.
        snr_db: of the target.
    """

    def __init__(self, config=None, snr_db=0.0, **kwargs):
        super().__init__(**kwargs)
        self.stft, self.snr_db = stft_of(config), snr_db
        self.wave = Waveform(self.stft, name="wave")

    def call(self, clean, noisy, frame_mask):
        noise = noisy - clean
        speech_energy, noise_energy = (ops.sum(ops.square(self.wave(part, frame_mask)), axis=1) for part in (clean, noise))
        gain = ops.sqrt(speech_energy * 10 ** (-self.snr_db / 10) / (noise_energy + 1e-12))
        return clean + gain[:, None, None, None] * noise

    def compute_output_shape(self, clean_shape, *_):
        return clean_shape

    def get_config(self):
        return {**super().get_config(), "config": self.stft.to_config(), "snr_db": self.snr_db}


class TermValue(keras.layers.Layer):
    """A term of a loss as a part of a training model: inside a layer its tensors have their shapes.

    Call arguments: what the term hears, as a tuple, and the noisy signal in the same form, which it gets where it asks for it. Output:
    float32 `(batch,)`.

    Args:
        function: of a term (`losses.Term.function`). A training model is never saved whole, so there is no config.
    """

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function, self.asks_noisy = function, "noisy" in inspect.signature(function).parameters
        self.supports_masking = True  # the LSTMs' mask of time steps ends here

    def compute_mask(self, *_):
        return None

    def call(self, heard, noisy=None):
        return self.function(*heard, **({"noisy": noisy} if self.asks_noisy else {}))

    def compute_output_spec(self, heard, noisy=None):
        return keras.KerasTensor((heard[0].shape[0],), dtype="float32")
