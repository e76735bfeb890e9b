"""Binary mask: the network says of every bin how likely speech prevails there; the noisy spectrum is masked by that, or by its 0 and 1."""

import numpy as np

from se_keras.enhancers.base import Enhancer
from se_keras.enhancers.magnitude_mask import MaskEstimate, mask_outputs


class BinaryMaskEnhancer(Enhancer):
    """A mask network that takes spectra: keras.Model, (noisy spectrum `(batch, frames, bins, 2)`, frame_mask) -> soft mask
    `(batch, frames, bins)` in [0, 1].

    The noisy phase stays, and the inverse STFT is that of every enhancer. A network that ends in `models.pieces.AtUse("binary")` enhances
    by the mask cut at 0.5; what is trained through it, and `functional`, is soft all the same.
    """

    family = "binary_mask"
    Estimate = MaskEstimate

    @property
    def at_use(self):
        """"binary" or "soft": how the network's mask is used."""
        from se_keras.models.pieces import AtUse

        return next((layer.how for layer in self.network.layers if isinstance(layer, AtUse)), "soft")

    def _values(self, spectra):
        masks = super()._values(spectra)
        return [(mask >= 0.5).astype(np.float32) for mask in masks] if self.at_use == "binary" else masks

    @staticmethod
    def functional(network):
        """As `Enhancer.functional`; also `mask`, the soft one."""
        import keras

        from se_keras.models.layers import SpectrumMagnitude

        noisy = keras.Input((None, *network.input_shape[0][2:]), name="noisy")
        frame_mask = keras.Input((None,), dtype="bool", name="frame_mask")
        outputs = mask_outputs(noisy, SpectrumMagnitude(name="noisy_magnitude")(noisy), network([noisy, frame_mask]))
        return keras.Model([noisy, frame_mask], outputs, name=f"{network.name}_spectral")
