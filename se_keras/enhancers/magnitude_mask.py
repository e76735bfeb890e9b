"""The family of the letter: |N| (x) G(N) with the noisy phase (equation 1), G a ratio mask."""

from dataclasses import dataclass

import numpy as np

from se_keras.enhancers.base import Enhancer, ideal_ratio
from se_keras.enhancers.perturbation import perturb
from se_keras.signals.stft import magnitude


@dataclass(frozen=True)
class MaskEstimate:
    """A ratio mask.

    Attributes:
        values: float32 `(frames, bins)`, >= 0.
    """

    values: np.ndarray

    def spectrum(self, noisy):
        """As `base.SpectrumEstimate.spectrum`: the noisy phase."""
        return noisy * self.values[..., None]

    def magnitude(self, noisy):
        """As `base.SpectrumEstimate.magnitude`: N (x) G(N) as it is."""
        return magnitude(noisy) * self.values

    def perturbed(self, noisy, clean, rng):
        """As `base.SpectrumEstimate.perturbed`, on the mask."""
        return MaskEstimate(perturb(self.values, ideal_ratio(magnitude(noisy), magnitude(clean)), rng))


class MaskEnhancer(Enhancer):
    """A mask network: keras.Model, (magnitude `(batch, frames, bins)`, frame_mask) -> mask `(batch, frames, bins)`, as `models.blstm`."""

    family = "magnitude_mask"
    Estimate = MaskEstimate
    inputs = staticmethod(magnitude)

    def _identity(self):
        return self.network.name, self.config  # as before there were families: scores that are kept stay known

    def masks(self, magnitudes):
        """Masks of a list of magnitude spectrograms, each float32 `(frames, bins)`."""
        return self.run(magnitudes)

    @staticmethod
    def functional(network):
        """As `Enhancer.functional`; also `mask`."""
        import keras

        from se_keras.models.layers import SpectrumMagnitude

        noisy = keras.Input((None, network.input_shape[0][-1], 2), name="noisy")
        frame_mask = keras.Input((None,), dtype="bool", name="frame_mask")
        noisy_magnitude = SpectrumMagnitude(name="noisy_magnitude")(noisy)
        outputs = mask_outputs(noisy, noisy_magnitude, network([noisy_magnitude, frame_mask]))
        return keras.Model([noisy, frame_mask], outputs, name=f"{network.name}_spectral")


def mask_outputs(noisy, noisy_magnitude, mask):
    """What `functional` gives of a mask. `magnitude` is N (x) G(N) as it is, never recomputed from complex values: the gradient of a square
    root at digital silence is not a number."""
    from keras import ops

    return {"mask": mask, "magnitude": noisy_magnitude * mask, "noisy_magnitude": noisy_magnitude,
            "spectrum": noisy * ops.expand_dims(mask, -1)}
