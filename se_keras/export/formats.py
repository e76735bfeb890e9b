"""A form of a model (`forms.Form`) as a file of another runtime, and that file run: the same calls for every format.

ONNX goes through tf2onnx. LiteRT and ONNX are made of the model with its weights as constants: a LiteRT file with variables has lost them
when it runs. What each converter gets wrong is caught by running the file (`checking`).
"""

import importlib.util
import tempfile
from pathlib import Path

import numpy as np

from se_keras import backend
from se_keras.errors import UserError, check_choice
from se_keras.export.forms import named

SUFFIXES = {"onnx": ".onnx", "litert": ".tflite", "keras": ".keras", "saved-model": ""}  # a SavedModel is a folder
NEEDS = {"onnx": ("onnx", "tf2onnx", "onnxruntime"), "litert": ("ai_edge_litert",)}
WEIGHTS = {"onnx": ("float32",), "litert": ("float32", "float16", "int8"), "keras": ("float32",), "saved-model": ("float32",)}
OPSET = 18


def check(name, weights="float32"):
    """See, before any work, that a format can be made here.

    Raises:
        UserError: an unknown format or kind of weights; packages that are not installed; another backend than TensorFlow.
    """
    check_choice("format", name, SUFFIXES)
    if weights not in WEIGHTS[name]:
        raise UserError(f"--weights {weights}: {name} takes {', '.join(WEIGHTS[name])}")
    _check_installed(name, NEEDS.get(name, ()))
    backend.load()
    import keras

    if name != "keras" and keras.backend.backend() != "tensorflow":
        raise UserError(f"--format {name} is made by TensorFlow, and KERAS_BACKEND is {keras.backend.backend()}; leave it out")


def _check_installed(name, packages):
    missing = [package.replace("_", "-") for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(f"format {name} needs {' and '.join(missing)}: pip install {' '.join(missing)} (tested versions: "
                        "requirements-extras.txt)")


def write(form, path, name, weights="float32"):
    """Write a form, as it comes: `making.make` makes sure that it is whole, and right.

    Args:
        form: `forms.Form`.
        path: of the file, or of the folder of a SavedModel.
        name: format, a key of `SUFFIXES`.
        weights: "float32"; "float16" halves the file, and it computes in float32; "int8" quarters it, with a scale for
            each column of a matrix. Of LiteRT only.

    Raises:
        UserError: as `check`; a converter that fails, with what it says; or the file cannot be written.
    """
    check(name, weights)
    convert = {"onnx": _onnx, "litert": _litert, "keras": _keras, "saved-model": _saved_model}[name]
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with backend.portable(), backend.aside():
            convert(form.model, weights, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); free some space or name another place") from None
    except Exception as error:  # whatever a converter makes of a network
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{form.model.name} cannot be converted to {name}: {said[:200]}") from error


def run(path, name):
    """The file as a function, {input name: float32 array} -> {output name: array}, run by its own runtime on one thread.

    The inputs of a wave may have another length at each call.

    Args:
        path: of `write`.
        name: its format.

    Raises:
        UserError: an unknown format; its runtime is not installed, or cannot read the file.
    """
    check_choice("format", name, SUFFIXES)
    _check_installed(name, NEEDS.get(name, ())[-1:])  # the runtime, where it is not TensorFlow
    open_file = {"onnx": _run_onnx, "litert": _run_litert, "keras": _run_keras, "saved-model": _run_saved_model}[name]
    try:
        return open_file(Path(path))
    except Exception as error:  # each runtime has its own
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: cannot be read as {name} ({said[:200]}); it is damaged or of another format, export the model "
                        "again") from error


# --- ONNX ------------------------------------------------------------------------------------------------------------------------


def _onnx(model, weights, path):
    import tf2onnx

    function = _function(model)
    proto, _ = tf2onnx.convert.from_function(function, function.input_signature, opset=OPSET)
    path.write_bytes(proto.SerializeToString())


def _run_onnx(path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda given: dict(zip(names, session.run(names, given), strict=True))


# --- LiteRT ----------------------------------------------------------------------------------------------------------------------


def _litert(model, weights, path):
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    frozen = convert_variables_to_constants_v2(_function(model).get_concrete_function())
    names = sorted(named(model, model.output))  # the order in which TensorFlow flattens a dict
    module = tf.Module()
    module.run = tf.function(lambda *given: dict(zip(names, frozen(*given), strict=True)), input_signature=_signature(model))
    with tempfile.TemporaryDirectory() as folder:  # a SavedModel has names, and after freezing no variables
        tf.saved_model.save(module, folder, signatures=module.run)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if weights != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if weights == "float16":
            converter.target_spec.supported_types = [tf.float16]
        path.write_bytes(converter.convert())


def _run_litert(path):
    from ai_edge_litert.interpreter import Interpreter

    with backend.aside():  # its first call tells what it runs on
        runner = Interpreter(str(path), num_threads=1).get_signature_runner()
        runner(**{name: np.zeros(about["shape"], about["dtype"]) for name, about in runner.get_input_details().items()})
    return lambda given: runner(**given)


# --- Keras, SavedModel -----------------------------------------------------------------------------------------------------------


def _keras(model, weights, path):
    with tempfile.TemporaryDirectory() as folder:  # Keras wants the suffix
        model.save(Path(folder) / "model.keras")
        path.write_bytes((Path(folder) / "model.keras").read_bytes())


def _run_keras(path):
    backend.load()
    import keras

    model = keras.models.load_model(path, compile=False, safe_mode=True)  # whatever Keras is set to: code in a file is refused

    def call(given):
        inputs = given if isinstance(model.input, dict) else [given[tensor.name] for tensor in model.inputs]
        return {name: np.asarray(value) for name, value in named(model, model.predict_on_batch(inputs)).items()}

    return call


def _saved_model(model, weights, path):
    import tensorflow as tf

    module = tf.Module()
    module.model, module.run = model, _function(model)
    tf.saved_model.save(module, str(path), signatures=module.run)


def _run_saved_model(path):
    backend.load()
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    signature = loaded.signatures["serving_default"]  # does not keep what it belongs to alive

    def call(given, _loaded=loaded):
        return {name: value.numpy() for name, value in signature(**{name: tf.constant(value) for name, value in given.items()}).items()}

    return call


# --- what they share -------------------------------------------------------------------------------------------------------------


def _signature(model):
    import tensorflow as tf

    return [tf.TensorSpec(tensor.shape, tensor.dtype, tensor.name) for tensor in model.inputs]


def _function(model):
    """The model as a tf.function of its inputs, in their order, that gives a dict of its outputs."""
    import tensorflow as tf

    names = [tensor.name for tensor in model.inputs]

    def call(*given):
        inputs = dict(zip(names, given, strict=True)) if isinstance(model.input, dict) else list(given)
        return named(model, model(inputs, training=False))

    return tf.function(call, input_signature=_signature(model))
