"""Every network gives on every backend of Keras what it gives on TensorFlow: its output, and its loss after two updates.

    python tests/models/test_every_backend.py    writes tests/golden/backends.json anew, on TensorFlow
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

EXPECTED = Path(__file__).resolve().parent.parent / "golden" / "backends.json"
BATCH, FRAMES = 2, 40
# No dropout: each backend draws random numbers of its own.
TINY = {"blstm": {"units": 6, "dense_units": 6}, "dnn": {"units": 8}, "lstm": {"units": 6, "dense_units": 6},
        "dccrn": {"channels": [4, 8], "rnn_units": 4}, "tfgridnet": {"emb": 4, "hidden": 4, "heads": 2, "blocks": 1},
        "autoencoder": {"filters": [4, 8], "frames": FRAMES, "dense_units": [8]},
        "autoencoder_ibm": {"filters": [4, 8], "frames": FRAMES, "dense_units": [8], "dropout": 0},
        "unet_ibm": {"filters": [4, 8], "frames": FRAMES, "bottom": 8, "up_filters": [8, 4], "head": [4]},
        "quality_net": {"filters": [[4, 3], [6, 3]]}, "quality_net_2018": {"units": 6, "dense_units": 6, "dropout": 0}}
EARS = "quality_net with ears"


def measured(name):
    """{"output": six numbers of a network's output, "losses": of two updates by SGD} from weights and inputs that NumPy draws."""
    import keras

    from se_keras import models
    from se_keras.training import loop

    arguments = {**TINY["quality_net"], "front_end": "hearing"} if name == EARS else TINY[name]
    network = models.build("quality_net" if name == EARS else name, **arguments)
    rng = np.random.default_rng(0)
    for weight in network.weights:
        if "seed_generator" not in weight.path:
            scale = 1 / np.sqrt(max(np.prod(weight.shape[:-1]), 1))
            value = scale * rng.standard_normal(weight.shape)
            weight.assign(np.abs(value) + 0.1 if "variance" in weight.path or "gamma" in weight.path else value)
    inputs = [_drawn(rng, each) for each in network.inputs]
    if len(outputs := keras.tree.flatten(network.outputs)) > 1:  # the score, beside that of each frame
        network = keras.Model(network.inputs, 1.0 * outputs[0])  # without the mask of the frames
    output = np.asarray(keras.ops.convert_to_numpy(network(inputs, training=False)), np.float64)
    loop.compile_model(network, keras.optimizers.SGD(0.01), "mse")
    losses = [float(network.train_on_batch(inputs, np.full(output.shape, 0.3, np.float32))) for _ in range(2)]
    flat = output.ravel()
    return {"output": [*flat[:: max(1, flat.size // 4)][:4].tolist(), float(flat.mean()), float(flat.std())], "losses": losses}


def _drawn(rng, tensor):
    """An input: magnitudes from 0 to 1, or a spectrum; no padding, on which some networks' output has no meaning."""
    shape = [size or (BATCH if axis == 0 else FRAMES) for axis, size in enumerate(tensor.shape)]
    if tensor.dtype == "bool":
        return np.ones(shape, bool)
    return rng.random(shape, np.float32) if "noisy" not in tensor.name or len(shape) < 4 else rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("name", [*TINY, EARS])
def test_output_and_losses_are_those_of_tensorflow(name):
    found, expected = measured(name), json.loads(EXPECTED.read_text())[name]
    np.testing.assert_allclose(found["output"], expected["output"], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found["losses"], expected["losses"], rtol=1e-3, atol=1e-5)
    assert len(set(expected["losses"])) == 2  # the first update changed something


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))
    EXPECTED.write_text(json.dumps({name: measured(name) for name in [*TINY, EARS]}, indent=1) + "\n")
