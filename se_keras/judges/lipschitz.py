"""How far Quality-Net's score can move when its input moves by one: norms of its layers, and their product.

Spectral normalisation is said to make a network 1-Lipschitz. It divides a convolution's kernel, reshaped to a matrix, by that
matrix's largest singular value, which is the gain of one patch of the image; as an operator on the image, where patches overlap, a
convolution of k x k can have k times that gain (Tsuzuku, Sato and Sugiyama 2018). Here both are measured.
"""

import keras
import numpy as np

from se_keras.errors import UserError
from se_keras.models.layers import MaskedInstanceNormalization, convolution_power_step
from se_keras.models.quality_net import PadToField, StackPair


def reshaped_norm(kernel):
    """The largest singular value of a kernel as a matrix `(all other dimensions, last one)`: what `SpectralNormalization` divides by."""
    kernel = np.asarray(kernel, np.float64)
    return float(np.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), 2))


def operator_norm(kernel, shape, padding="valid", iterations=50, seed=0):
    """The largest singular value of a convolution of stride 1, as a linear operator on images of one size.

    By power iteration on the convolution and its adjoint, the transposed convolution, from a seeded random image. The value comes
    from below.

    Args:
        kernel: `(rows, columns, channels, filters)`.
        shape: (height, width) of the image.
        padding: "valid" or "same" (zeros).
        iterations: steps; after thirty, the shipped Quality-Net's norms are within one percent of what a hundred give.
        seed: of the first image.

    Raises:
        UserError: an image that "valid" leaves nothing of.
    """
    if padding == "valid" and (shape[0] < kernel.shape[0] or shape[1] < kernel.shape[1]):
        raise UserError(f"an image of {shape[0]} x {shape[1]} is smaller than the kernel of {kernel.shape[0]} x {kernel.shape[1]}; "
                        "give a larger one, or padding='same'")
    kernel = keras.ops.convert_to_tensor(kernel, "float32")
    image = keras.random.normal((1, *shape, kernel.shape[2]), seed=seed)
    norm = 0.0
    for _ in range(iterations):
        image, norm = convolution_power_step(kernel, image, padding)
    return float(norm)


def lipschitz_bounds(quality_net, frames=64, iterations=50):
    """Bounds on a Quality-Net's Lipschitz constant, of an utterance of `frames` frames without padding.

    |Q(x) - Q(y)| <= product * |x - y|, but for the percent that the power iterations fall short (`operator_norm`), with x and y
    pairs of compressed magnitudes (what `StackPair` is given) and | | the root of the sum of squares. The norm of a pooling over n
    positions is 1 / sqrt(n), exactly; those of a ReLU and a leaky one are 1, and of a sigmoid 1/4; a batch normalisation's is that
    of inference, and an instance normalisation's at most that of a constant image.
    Weights are those that inference applies, and none is changed.

    Args:
        quality_net: `models.quality_net`.
        frames: frames of the utterance; with fewer than "valid" convolutions need, as many as they do.
        iterations: as `operator_norm`.

    Returns:
        A dict, plain JSON: `input`, (frames, bins); `layers`, a list of dicts of `layer`, `operator_norm` and, where there is a kernel,
        `reshaped_norm`; `product` of the operator norms, and `reshaped_product`, what it would be if a convolution's norm were that
        of its reshaped kernel.

    Raises:
        UserError: a network that is no `models.quality_net`, such as that of 2018: a layer whose norm is not known here.
    """
    rows, columns = frames, quality_net.inputs[0].shape[-1]
    image, table = [rows, columns], []
    for layer in quality_net.layers:
        inner = getattr(layer, "layer", layer)  # what a normalisation wraps
        norms = {}
        if isinstance(layer, StackPair):
            norms = {"operator_norm": abs(float(layer.gain))}
        elif isinstance(layer, PadToField) and len(layer.output.shape) == 4:
            rows = max(rows, layer.frames)
            image = [rows, columns]
        elif isinstance(layer, keras.layers.BatchNormalization):
            scale = np.asarray(layer.gamma) / np.sqrt(np.asarray(layer.moving_variance) + layer.epsilon)
            norms = {"operator_norm": float(np.abs(scale).max())}
        elif isinstance(layer, MaskedInstanceNormalization):
            norms = {"operator_norm": float(np.abs(layer.gamma).max() / np.sqrt(layer.epsilon))}
        elif isinstance(inner, keras.layers.Conv2D):
            kernel = np.asarray(inner.kernel)
            norms = {"operator_norm": operator_norm(kernel, (rows, columns), inner.padding, iterations),
                     "reshaped_norm": reshaped_norm(kernel)}
            if inner.padding == "valid":
                rows, columns = rows - kernel.shape[0] + 1, columns - kernel.shape[1] + 1
        elif isinstance(inner, keras.layers.LeakyReLU):
            norms = {"operator_norm": max(1.0, abs(float(inner.negative_slope)))}
        elif isinstance(inner, keras.layers.GlobalAveragePooling2D):
            norms = {"operator_norm": float((rows * columns) ** -0.5)}
        elif isinstance(inner, keras.layers.Dense):
            norm = reshaped_norm(inner.kernel)
            norms = {"operator_norm": norm, "reshaped_norm": norm}
        elif layer.weights:
            raise UserError(f"{quality_net.name}: how far its layer {layer.name} ({type(inner).__name__}) can move the score is not known; "
                            "it is of a models.quality_net only")
        if norms:
            table.append({"layer": layer.name, **norms})
        if getattr(inner, "activation", None) is keras.activations.sigmoid:
            table.append({"layer": "sigmoid", "operator_norm": 0.25})
    return {"input": image, "layers": table,
            "product": float(np.prod([row["operator_norm"] for row in table])),
            "reshaped_product": float(np.prod([row.get("reshaped_norm", row["operator_norm"]) for row in table]))}
