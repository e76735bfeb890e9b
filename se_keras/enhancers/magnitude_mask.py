"""What every enhancer shares: spectrum in, spectrum out; wave in, wave out.

A *system* is anything with `name`, `fingerprint` and `enhance(waves) -> waves`; `load_system` finds one by name.
"""

import hashlib

import numpy as np

from se_keras.signals.stft import Stft, istft, magnitude, stft

MAX_BATCH_FRAMES = 8192  # frames enhanced in one call, padding included: bounds memory whatever the lengths


class Noisy:
    """The noisy speech as it is: what every other system is compared with."""

    name = "noisy"
    fingerprint = "noisy"

    def enhance(self, waves):
        return list(waves)


class MaskEnhancer:
    """A mask network between an STFT and its inverse: |N| (x) G(N) with the noisy phase (equation 1 of the letter).

    Attributes:
        network: keras.Model, (magnitude, frame_mask) -> mask, as `models.blstm`.
        config: STFT parameters.
        name: what tables call it.
    """

    def __init__(self, network, config=Stft(), name=None):
        self.network, self.config, self.name = network, config, name or network.name
        self._fingerprint = None

    @property
    def fingerprint(self):
        """sha256 of weights and STFT: equal for equal outputs."""
        if self._fingerprint is None:
            digest = hashlib.sha256(repr((self.network.name, self.config)).encode())
            for weight in self.network.get_weights():
                digest.update(np.ascontiguousarray(weight).tobytes())
            digest.update(repr([layer.get_config() for layer in self.network.layers]).encode())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def masks(self, magnitudes):
        """Masks of a list of magnitude spectrograms, each float32 `(frames, bins)`; the padding of a batch changes none of them."""
        order = np.argsort([len(m) for m in magnitudes], kind="stable")
        masks, start = [None] * len(magnitudes), 0
        while start < len(order):
            stop = start + 1
            while stop < len(order) and (stop + 1 - start) * len(magnitudes[order[stop]]) <= MAX_BATCH_FRAMES:
                stop += 1
            chosen = order[start:stop]
            batch, mask = pad_frames([magnitudes[i] for i in chosen])
            for i, out in zip(chosen, np.asarray(self.network.predict_on_batch([batch, mask])), strict=True):
                masks[i] = out[:len(magnitudes[i])]
            start = stop
        return masks

    def enhance(self, waves):
        """Enhance waves, float32 `(samples,)` each, at 16 kHz; same lengths out."""
        spectra = [stft(wave, self.config) for wave in waves]
        masks = self.masks([magnitude(spectrum) for spectrum in spectra])
        return [istft(spectrum * mask[..., None], len(wave), self.config)
                for spectrum, mask, wave in zip(spectra, masks, waves, strict=True)]


def pad_frames(spectrograms, multiple=16):
    """Stack float32 `(frames, bins)` arrays: `(batch, frames, bins)` padded with zeros, and the bool frame mask."""
    lengths = np.array([len(s) for s in spectrograms])
    longest = -(-lengths.max() // multiple) * multiple
    batch = np.zeros((len(spectrograms), longest, *spectrograms[0].shape[1:]), np.float32)
    for row, spectrogram in zip(batch, spectrograms, strict=True):
        row[:len(spectrogram)] = spectrogram
    return batch, np.arange(longest) < lengths[:, None]


def spectral_enhancer(network):
    """The enhancer as a functional model on spectra, for training through it.

    Inputs: noisy float32 `(batch, frames, bins, 2)`, frame_mask bool `(batch, frames)`. Outputs: a dict of `mask` and
    `magnitude`, both float32 `(batch, frames, bins)`; `magnitude` is N (x) G(N) as it is, never recomputed from complex values
    (the gradient of a square root at digital silence is not a number), and `noisy_magnitude`.
    """
    import keras

    from se_keras.models.layers import SpectrumMagnitude

    noisy = keras.Input((None, network.input_shape[0][-1], 2), name="noisy")
    frame_mask = keras.Input((None,), dtype="bool", name="frame_mask")
    noisy_magnitude = SpectrumMagnitude(name="noisy_magnitude")(noisy)
    mask = network([noisy_magnitude, frame_mask])
    outputs = {"mask": mask, "magnitude": noisy_magnitude * mask, "noisy_magnitude": noisy_magnitude}
    return keras.Model([noisy, frame_mask], outputs, name=f"{network.name}_spectral")
