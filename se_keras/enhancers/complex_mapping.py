"""Complex mapping: the network's output is the enhanced spectrum itself."""

from se_keras.enhancers.base import Enhancer


class ComplexMappingEnhancer(Enhancer):
    """A mapping network: keras.Model, (noisy spectrum `(batch, frames, bins, 2)`, frame_mask) -> spectrum `(batch, frames, bins, 2)`.

    That of a progressive network is `(batch, frames, bins, 2, stages)`: the last stage is what it enhances to.
    """

    family = "complex_mapping"

    @staticmethod
    def _own(output, frames):
        return output[:frames] if output.ndim == 3 else output[:frames, ..., -1]

    @staticmethod
    def functional(network):
        """As `Enhancer.functional`; of a progressive network also `stages`, float32 `(batch, frames, bins, 2, stages)`."""
        return spectrum_model(network, lambda noisy, output: output)


def spectrum_model(network, spectrum_of):
    """The functional model of a network that takes spectra.

    Args:
        network: keras.Model, (noisy spectrum, frame_mask) -> output `(batch, frames, bins, 2)`, or that of every stage.
        spectrum_of: (noisy, output) -> enhanced spectrum, in `keras.ops`.
    """
    import keras

    from se_keras.models.layers import SpectrumMagnitude

    noisy = keras.Input((None, *network.input_shape[0][2:]), name="noisy")
    frame_mask = keras.Input((None,), dtype="bool", name="frame_mask")
    spectrum = spectrum_of(noisy, network([noisy, frame_mask]))
    stages = {"stages": spectrum} if len(spectrum.shape) == 5 else {}
    outputs = {**spectrum_outputs(spectrum[..., -1] if stages else spectrum), **stages,
               "noisy_magnitude": SpectrumMagnitude(name="noisy_magnitude")(noisy)}
    return keras.Model([noisy, frame_mask], outputs, name=f"{network.name}_spectral")


def spectrum_outputs(spectrum):
    """What `functional` gives of an enhanced spectrum. 1e-10 under the root: the gradient is finite at digital silence."""
    from keras import ops

    return {"spectrum": spectrum, "magnitude": ops.sqrt(ops.sum(ops.square(spectrum), axis=-1) + 1e-10)}
