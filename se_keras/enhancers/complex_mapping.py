"""Complex mapping: the network's output is the enhanced spectrum itself."""

from se_keras.enhancers.base import Enhancer


class ComplexMappingEnhancer(Enhancer):
    """A mapping network: keras.Model, (noisy spectrum `(batch, frames, bins, 2)`, frame_mask) -> spectrum `(batch, frames, bins, 2)`."""

    family = "complex_mapping"

    @staticmethod
    def functional(network):
        """As `Enhancer.functional`."""
        return spectrum_model(network, lambda noisy, output: output)


def spectrum_model(network, spectrum_of):
    """The functional model of a network that takes spectra.

    Args:
        network: keras.Model, (noisy spectrum, frame_mask) -> output `(batch, frames, bins, 2)`.
        spectrum_of: (noisy, output) -> enhanced spectrum, in `keras.ops`.
    """
    import keras

    from se_keras.models.layers import SpectrumMagnitude

    noisy = keras.Input((None, *network.input_shape[0][2:]), name="noisy")
    frame_mask = keras.Input((None,), dtype="bool", name="frame_mask")
    spectrum = spectrum_of(noisy, network([noisy, frame_mask]))
    # 1e-10 under the root: the gradient is finite at digital silence
    outputs = {"spectrum": spectrum, "magnitude": keras.ops.sqrt(keras.ops.sum(keras.ops.square(spectrum), axis=-1) + 1e-10),
               "noisy_magnitude": SpectrumMagnitude(name="noisy_magnitude")(noisy)}
    return keras.Model([noisy, frame_mask], outputs, name=f"{network.name}_spectral")
