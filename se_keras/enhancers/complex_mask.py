"""Complex mask: the noisy spectrum times a complex number in every bin, which changes its phase too (Williamson et al. 2016)."""

import numpy as np

from se_keras.enhancers.base import Enhancer
from se_keras.enhancers.complex_mapping import spectrum_model


class ComplexMaskEnhancer(Enhancer):
    """A complex-mask network: keras.Model, (noisy spectrum `(batch, frames, bins, 2)`, frame_mask) -> mask `(batch, frames, bins, 2)`."""

    family = "complex_mask"

    def _values(self, spectra):
        masks = super()._values(spectra)
        return [complex_product(spectrum, mask, np.stack) for spectrum, mask in zip(spectra, masks, strict=True)]

    @staticmethod
    def functional(network):
        """As `Enhancer.functional`."""
        from keras import ops

        return spectrum_model(network, lambda noisy, mask: complex_product(noisy, mask, ops.stack))


def complex_product(a, b, stack):
    """(a_r + i a_i)(b_r + i b_i) of arrays `(..., 2)`; `stack` is NumPy's or `keras.ops`'."""
    return stack([a[..., 0] * b[..., 0] - a[..., 1] * b[..., 1], a[..., 0] * b[..., 1] + a[..., 1] * b[..., 0]], axis=-1)
