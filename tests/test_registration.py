"""Keras knows the package's layers once both are imported, whichever comes first."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import ROOT, noise

import se_keras
from se_keras import registration


def test_layers_are_registered_when_keras_comes_later(tmp_path):
    """With a stand-in for Keras, which would take seconds."""
    (tmp_path / "keras.py").write_text("print('keras runs')\n")
    script = """
import importlib.util
from se_keras import registration
registration.register = lambda: print('registered')
importlib.util.find_spec('keras')  # as TensorFlow looks before it imports
import keras
import keras
"""
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
                          capture_output=True, text=True)
    assert done.stdout.split("\n") == ["keras runs", "registered", ""], done.stderr


def test_a_module_that_asks_for_keras_first_is_imported_whole(tmp_path):
    """Layers that import it in turn would find half of it; they are registered as they are imported."""
    (tmp_path / "keras.py").write_text("ops = None\n")
    done = subprocess.run([sys.executable, "-c", "import se_keras.hearing.model as model; print(model.BANDS)"], text=True,
                          capture_output=True, env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"})
    assert done.stdout == "('nb', 'wb')\n", done.stderr


def test_every_module_of_models_is_imported():
    registration.register()
    registered = {name.removeprefix("se_keras>") for name in keras.saving.get_custom_objects() if name.startswith("se_keras>")}
    assert {"RunningNormalization", "ComplexConv2D", "HearingFrontEnd", "Bidirectional", "MappedSpectrum", "WaveSpectrum"} <= registered


@pytest.mark.parametrize(("name", "arguments"), [("lstm", {"units": 3, "dense_units": 4, "sigmoid": "learnable"}),
                                                 ("quality_net", {"filters": [[3, 5]], "front_end": "hearing"})])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_model_saves_whole(name, arguments, suffix, tmp_path):
    """The notebook loads such files in a session of its own."""
    network = se_keras.build(name, **arguments)
    network.save(tmp_path / f"model{suffix}")
    again = keras.models.load_model(tmp_path / f"model{suffix}", compile=False)
    size = np.abs(noise(1.0)[:40 * 257]).reshape(1, 40, 257)
    given = [np.ones((1, 40), bool) if "mask" in tensor.name else size for tensor in network.inputs]
    np.testing.assert_array_equal(np.asarray(network(given)), np.asarray(again(given)))
