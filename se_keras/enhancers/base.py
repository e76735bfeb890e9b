"""What every enhancer shares: an STFT, a network run on batches of bounded size, an inverse STFT.

A *system* is anything with `name`, `fingerprint` and `enhance(waves) -> waves`. An `Enhancer` is a system around a network. Its
family (a subclass, one a file) says what the network's output means; nothing outside this package asks.
"""

import functools
import hashlib
from dataclasses import dataclass

import numpy as np

from se_keras import backend
from se_keras.enhancers.perturbation import perturb
from se_keras.signals.stft import Stft, istft, magnitude, stft

# Frames enhanced in one call, padding included: bounds memory whatever the lengths. A layer may ask for fewer by its `max_batch_frames`.
MAX_BATCH_FRAMES = 8192


class Noisy:
    """The noisy speech as it is: what every other system is compared with."""

    name = "noisy"
    fingerprint = "noisy"

    def enhance(self, waves):
        return list(waves)


class Mixed:
    """A system with some of the noisy speech mixed back in, as listeners often like it.

    Args:
        system: with `.name` and `.enhance(waves)`.
        dry: share of the noisy speech, in [0, 1].
    """

    def __init__(self, system, dry):
        self.system, self.dry, self.name = system, dry, f"{system.name} and {100 * dry:g}% of the noisy speech"

    def enhance(self, waves):
        """As `Enhancer.enhance`."""
        return [(1 - self.dry) * enhanced + self.dry * noisy for enhanced, noisy in zip(self.system.enhance(waves), waves, strict=True)]


@dataclass(frozen=True)
class SpectrumEstimate:
    """What an enhancer made of one mixture: here, a spectrum; a family may keep something smaller.

    Attributes:
        values: float32 `(frames, bins, 2)`, what is kept of it on disk.
    """

    values: np.ndarray

    def spectrum(self, noisy):
        """Enhanced spectrum, float32 `(frames, bins, 2)`, of the noisy one."""
        return self.values

    def magnitude(self, noisy):
        """Enhanced magnitude, float32 `(frames, bins)`, of the noisy spectrum: what a judge with the enhancer's STFT is shown."""
        return magnitude(self.values)

    def perturbed(self, noisy, clean, rng):
        """The estimate as the enhancer might make it some updates from now (`perturb`): here on its magnitude, the phase kept.

        Args:
            noisy, clean: spectra of the mixture, float32 `(frames, bins, 2)`.
            rng: numpy Generator.
        """
        own, noisy_magnitude = magnitude(self.values), magnitude(noisy)
        most = np.maximum(np.maximum(own, noisy_magnitude), 1e-8)
        ratio = perturb(own / most, ideal_ratio(noisy_magnitude, magnitude(clean)), rng)
        phase = np.where(own[..., None] > 1e-8, self.values / np.maximum(own, 1e-8)[..., None],
                         noisy / np.maximum(noisy_magnitude, 1e-8)[..., None])
        return SpectrumEstimate((phase * (ratio * most)[..., None]).astype(np.float32))


def ideal_ratio(noisy, clean):
    """Ideal amplitude mask of magnitudes, float32 `(frames, bins)`: |S| / |N|, cut at 1."""
    return np.minimum(clean / np.maximum(noisy, 1e-8), 1.0)


class Enhancer:
    """A network between an STFT and its inverse. Subclasses are the families.

    Attributes:
        network: keras.Model, of two inputs: what `inputs` makes of a spectrum, and frame_mask bool `(batch, frames)`.
        config: STFT parameters.
        name: what tables call it.
        family: name of the family, as cards have it.
        Estimate: what it makes of a mixture.
    """

    family = None
    Estimate = SpectrumEstimate

    def __init__(self, network, config=Stft(), name=None):
        self.network, self.config, self.name = network, config, name or network.name
        self._fingerprint = None

    # --- what a family says ------------------------------------------------------------------------------------------------------

    @staticmethod
    def inputs(spectrum):
        """What the network takes of a noisy spectrum, float32 `(frames, bins, 2)`: here, the spectrum."""
        return spectrum

    @staticmethod
    def functional(network):
        """The enhancer as a functional model on spectra, for training through it.

        Inputs: noisy float32 `(batch, frames, bins, 2)`, frame_mask bool `(batch, frames)`. Outputs: a dict of `spectrum`,
        float32 `(batch, frames, bins, 2)`, `magnitude` and `noisy_magnitude`, both float32 `(batch, frames, bins)`, and what else the
        family has. `magnitude` has a finite gradient everywhere.
        """
        raise NotImplementedError  # each family's own

    def _identity(self):
        """What tells enhancers of equal weights apart, beside their layers."""
        return self.family, self.network.name, self.config

    # --- what all have in common -------------------------------------------------------------------------------------------------

    @functools.cached_property
    def model(self):
        """`functional` of this enhancer's network, which it shares its weights with."""
        return self.functional(self.network)

    @property
    def fingerprint(self):
        """sha256 of weights and STFT: equal for equal outputs."""
        if self._fingerprint is None:
            digest = hashlib.sha256(repr(self._identity()).encode())
            for weight in self.network.get_weights():
                digest.update(np.ascontiguousarray(weight).tobytes())
            digest.update(repr([layer.get_config() for layer in self.network.layers]).encode())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def now(self):
        """The same enhancer, its fingerprint that of the weights as they are now: for one that is being trained."""
        return type(self)(self.network, self.config, self.name)

    def run(self, given):
        """The network's outputs for a list of inputs, `(frames, ...)` each; the padding of a batch changes none of them."""
        order = np.argsort([len(each) for each in given], kind="stable")
        outputs, start = [None] * len(given), 0
        most = min([MAX_BATCH_FRAMES, *(layer.max_batch_frames for layer in self.network.layers if hasattr(layer, "max_batch_frames"))])
        while start < len(order):
            stop = start + 1
            while stop < len(order) and (stop + 1 - start) * len(given[order[stop]]) <= most:
                stop += 1
            chosen = order[start:stop]
            batch, frame_mask = pad_frames([given[i] for i in chosen])
            for i, out in zip(chosen, np.asarray(self.network.predict_on_batch([batch, frame_mask])), strict=True):
                outputs[i] = self._own(out, len(given[i]))
            start = stop
        return outputs

    @staticmethod
    def _own(output, frames):
        return output[:frames]

    def estimates(self, spectra, config=None):
        """What it makes of noisy spectra, float32 `(frames, bins, 2)` each.

        Args:
            spectra: list of them.
            config: STFT of the spectra. Where it is another than the enhancer's, the wave is enhanced, and the estimate is its spectrum.

        Returns:
            list of `estimate_type(config)`.
        """
        if self.estimate_type(config) is self.Estimate and config in (None, self.config):
            return [self.Estimate(values) for values in self._values(spectra)]
        waves = [istft(spectrum, config.samples(len(spectrum)), config) for spectrum in spectra]
        return [SpectrumEstimate(stft(wave, config)) for wave in self.enhance(waves)]

    def estimate_type(self, config=None):
        """Class of its estimates for spectra of an STFT."""
        return self.Estimate if config in (None, self.config) else SpectrumEstimate

    def _values(self, spectra):
        return self.run([self.inputs(spectrum) for spectrum in spectra])

    def enhance(self, waves):
        """Enhance waves, float32 `(samples,)` each, at 16 kHz; same lengths out."""
        spectra = [stft(wave, self.config) for wave in waves]
        return [istft(estimate.spectrum(spectrum), len(wave), self.config)
                for estimate, spectrum, wave in zip(self.estimates(spectra), spectra, waves, strict=True)]


def pad_frames(spectrograms):
    """Stack float32 `(frames, ...)` arrays: `(batch, frames, ...)` padded with zeros, and the bool frame mask."""
    lengths, multiple = np.array([len(s) for s in spectrograms]), backend.frame_multiple()
    longest = -(-lengths.max() // multiple) * multiple
    batch = np.zeros((len(spectrograms), longest, *spectrograms[0].shape[1:]), np.float32)
    for row, spectrogram in zip(batch, spectrograms, strict=True):
        row[:len(spectrogram)] = spectrogram
    return batch, np.arange(longest) < lengths[:, None]
