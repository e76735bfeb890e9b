"""Networks of the references' code: their Keras 2 files read, and a file written that the Keras 2 API reads without this project.

Keras 3 refuses such files (a Sequential configuration that is a bare list, keys such as `time_major`), or reads them with another
meaning: its hard_sigmoid is not that of Keras 2, which moves a mask by up to 0.12. Here a file is read as what it holds, arrays in
the order of its layers and, in a full model, a configuration in JSON. The arrays' shapes say which network it is, the
configuration has to agree, and the weights go into this project's own network. Nothing of the file is executed or unpickled.
"""

import itertools
import json
from pathlib import Path

import numpy as np

from se_keras import files, models
from se_keras.errors import UserError
from se_keras.signals.stft import Stft

KNOWN = """known are
  MetricGAN's enhancer: 2 BLSTM, dense LeakyReLU 0.3, dense sigmoid; 1,892,057 weights
  MetricGAN's discriminator: batch normalisation, 4 'valid' convolutions and 3 dense layers, LeakyReLU 0.3, with or without the
    vectors of its spectral normalisation; 345,334 weights besides them
  the Quality-Net of 2018: BLSTM, dense ELU, dense frame scores, average; 296,501 weights"""

_GATES = {"sigmoid": "sigmoid", "hard_sigmoid": "hard_sigmoid_keras2"}  # Keras 2's names to ours
_USUAL = {  # settings of a layer that go without saying; any other becomes part of its name
    "LSTM": {"activation": "tanh", "use_bias": True, "return_sequences": True, "go_backwards": False},
    "Bidirectional": {"merge_mode": "concat"},
    "Dense": {"use_bias": True},
    "Conv2D": {"use_bias": True, "padding": "valid", "strides": [1, 1], "dilation_rate": [1, 1], "data_format": "channels_last"},
    "BatchNormalization": {"epsilon": 0.001, "center": True, "scale": True},
    "LeakyReLU": {"alpha": 0.3},
    "ELU": {"alpha": 1.0},
}


# --- Keras 2 files in ------------------------------------------------------------------------------------------------------------


def load_reference(path, **overrides):
    """A Keras 2 HDF5 file of the references' code, weights only or a full model, as this project's network.

    Of any sizes; what each becomes, and takes:

    - MetricGAN's enhancer: `models.blstm` with normalization="metricgan" and compression="magnitude". Takes magnitude float32
      `(batch, frames, bins)`, and frame_mask bool `(batch, frames)`; gives the mask. The code applies max(mask, 0.05) outside the
      file (mask_floor=0.05), and has dropout=0.05 in training; that of Voice Bank wants compression="log1p", and its mask
      multiplies log1p of the magnitude.
    - MetricGAN's discriminator: `models.quality_net` with compression="magnitude", batch_normalization=True and
      normalize_level=False. Takes degraded and clean magnitude `(batch, frames, bins)` at their own levels, and frame_mask; gives
      (PESQ + 0.5) / 5 `(batch, 1)`. The file's image is (bins, frames): kernels are transposed. With spectral vectors, the
      kernels become W / sigma after one step of the power iteration, which is what the first prediction of the code uses.
    - The Quality-Net of 2018: `models.quality_net_2018`. Takes the magnitude of a wave, frame_mask and the wave's peak; gives
      the score and the frame scores in raw PESQ.

    Gates are what the configuration says, hard_sigmoid with Keras 2's meaning. A file of weights alone does not say: they are
    hard_sigmoid, Keras's default then, where it was written before Keras 2.3, and sigmoid otherwise. Only of one written by tf.keras
    before that ("2.2.4-tf") nobody can tell: the default was hard_sigmoid in TensorFlow 1 and sigmoid in 2.0 and 2.1.

    Magnitudes are those of waves in [-1, 1]. The card's STFT is this project's, which has a periodic Hamming window and zeros beyond
    the ends, where the code has a symmetric one and reflects: to the same magnitudes, the networks answer as in Keras 2.

    Args:
        path: the .h5 or .hdf5 file.
        overrides: arguments of the builder to change, such as mask_floor=0.05 or recurrent_activation="sigmoid".

    Returns:
        `(keras.Model, card dict)`, as `pretrained.load`: the weights, saved, and the card beside them are one of its models.

    Raises:
        UserError: no such file, no HDF5 file of Keras 2, or one of another network; the message says what it holds. Or one whose
            gates cannot be told, and recurrent_activation is not given.
    """
    layers, config, version, tf_keras = _read(path)
    kind, arguments, expected = _recognise(path, layers)
    if kind != "quality_net":
        arguments["recurrent_activation"] = _GATES["hard_sigmoid" if version < (2, 3) else "sigmoid"]
        if config is None and tf_keras and version < (2, 3) and "recurrent_activation" not in overrides:
            raise UserError(f"{path}: weights alone, written by tf.keras {'.'.join(map(str, version))}: the gates of its LSTMs are "
                            "hard_sigmoid if that was TensorFlow 1, and sigmoid if it was TensorFlow 2; say which, by "
                            "recurrent_activation='hard_sigmoid_keras2' or 'sigmoid'")
    if config is not None:
        steps, gates = _steps(path, config)
        if steps != expected or not gates <= set(_GATES) or len(gates) > 1:
            raise UserError(f"{path}: its weights have the shapes of {kind}, but its configuration differs:\n  it says {_join(steps)}"
                            f"{f'; gates {_join(sorted(gates))}' if gates else ''}\n  expected {_join(expected)}; gates {_join(_GATES)}")
        for gate in gates:
            arguments["recurrent_activation"] = _GATES[gate]
    network = models.build(kind, **{**arguments, **overrides})
    try:
        _SET_WEIGHTS[kind](network, [arrays for _, arrays in layers])
    except ValueError as error:
        raise UserError(f"{path}: does not fit {kind} with {overrides} ({error})") from None
    bins = network.input_shape[0][-1]
    card = {"name": Path(path).stem, "network": kind, "arguments": models.resolve(kind, {**arguments, **overrides}),
            "stft": Stft(2 * (bins - 1), bins - 1).to_config()}
    return network, card


def _read(path):
    """What a Keras 2 file holds: `([(layer, [float32 array ...]) ...], configuration or None, version of Keras, whether tf.keras)`."""
    import h5py

    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    try:
        with h5py.File(path, "r") as file:
            group = file.get("model_weights", file)
            if "layer_names" not in group.attrs:
                raise UserError(f"{path}: not a file of Keras 2, which lists layer_names; it holds {_contents(file)}\n"
                                "(se_keras.load reads weights of this project); " + KNOWN)
            layers = [(name, [np.asarray(group[name][weight], np.float32) for weight in _names(group[name], "weight_names")])
                      for name in _names(group, "layer_names")]
            config, version = file.attrs.get("model_config"), _text(group.attrs.get("keras_version", "0"))
        config = None if config is None else json.loads(_text(config))
    except UserError:
        raise
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: not an HDF5 file of Keras 2, or a damaged one ({error}); {KNOWN}") from None
    numbers = tuple(int(number) for number in version.split("-")[0].split(".") if number.isdigit())  # "2.2.4-tf"
    if numbers >= (3,):
        raise UserError(f"{path}: written by Keras {version}, not by Keras 2; keras.models.load_model reads it")
    return [(name, arrays) for name, arrays in layers if arrays], config, numbers, version.endswith("-tf")


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def _names(group, attribute):
    return [_text(name) for name in group.attrs[attribute]]


def _contents(file):
    """The first arrays of an HDF5 file with their shapes, for a message."""
    import h5py

    found = []
    file.visititems(lambda name, node: found.append(f"{name} {_say([node.shape])}") if isinstance(node, h5py.Dataset) else None)
    return _join(found[:8] + ["..."] * (len(found) > 8)) or "nothing"


def _say(shapes):
    return " ".join("x".join(map(str, shape)) or "scalar" for shape in shapes)


def _join(parts):
    return ", ".join(parts)


def _recognise(path, layers):
    """The network that arrays of these shapes are: `(name, arguments of its builder, the steps that a configuration has to say)`."""
    shapes = [[array.shape for array in arrays] for _, arrays in layers]
    flat = list(itertools.chain(*shapes))
    match flat:
        case [(bins, _), (units, _), *_, (_, dense_units), (_,), (_, _), (_,)]:
            sizes = {"bins": bins, "units": units, "dense_units": dense_units}
            if flat == _blstm(bins, units) + _blstm(2 * units, units) + _dense(2 * units, dense_units, bins):
                steps = ["Bidirectional LSTM", "Bidirectional LSTM", "Dense", "LeakyReLU", "Dense", "sigmoid"]
                return "blstm", {**sizes, "compression": "magnitude", "normalization": "metricgan"}, steps
            if flat == _blstm(bins, units) + _dense(2 * units, dense_units, 1):
                return "quality_net_2018", sizes, ["Bidirectional LSTM", "Dense", "ELU", "Dense", "GlobalAveragePooling1D"]
        case [(2,), (2,), (2,), (2,), *_]:
            filters = [[layer[0][-1], layer[0][0]] for layer in shapes[1:] if len(layer[0]) == 4]
            channels = [2, *(channel for channel, _ in filters)]
            kernels = [(size, size, before, after) for (_, size), (before, after)
                       in zip(filters, itertools.pairwise(channels), strict=True)] + _dense(channels[-1], 50, 10, 1)[::2]
            plain = [[kernel, kernel[-1:]] for kernel in kernels]
            if filters and shapes[1:] in (plain, [[*layer, (1, *layer[1])] for layer in plain]):
                activated = ["Conv2D", "LeakyReLU"] * len(filters) + ["GlobalAveragePooling2D"] + ["Dense", "LeakyReLU"] * 2
                arguments = {"filters": filters, "compression": "magnitude", "batch_normalization": True, "normalize_level": False}
                return "quality_net", arguments, ["BatchNormalization", *activated, "Dense"]
    found = "; ".join(f"{name} {_say(layer)}" for (name, _), layer in zip(layers, shapes, strict=True)) or "no weights"
    raise UserError(f"{path}: none of the networks that are known; it holds {found}\n{KNOWN}")


def _blstm(features, units):
    return 2 * [(features, 4 * units), (units, 4 * units), (4 * units,)]


def _dense(*sizes):
    return [shape for pair in itertools.pairwise(sizes) for shape in (pair, pair[1:])]


def _steps(path, config):
    """What a configuration computes, `(layers in order, dropout left out; activations of the LSTMs' gates)`."""
    gates = set()

    def steps(layer):
        kind, settings = layer["class_name"], layer["config"]
        kind = {"ConvSN2D": "Conv2D", "DenseSN": "Dense"}.get(kind, kind)
        if kind in ("InputLayer", "Dropout"):
            return []
        if kind == "Activation":
            return [_value(settings["activation"])]
        if kind == "TimeDistributed":
            return steps(settings["layer"])
        if kind == "LSTM":
            gates.add(_value(settings["recurrent_activation"]))
        unusual = [f"{key} {_value(settings[key])}" for key, usual in _USUAL.get(kind, {}).items()
                   if key in settings and _value(settings[key]) != usual]
        name = " ".join([kind, *(steps(settings["layer"]) if kind == "Bidirectional" else []), *unusual])
        activation = _value(settings.get("activation", "linear")) if kind in ("Dense", "Conv2D") else "linear"
        return [name] if activation == "linear" else [name, activation]

    try:
        layers = config["config"]
        layers = layers if isinstance(layers, list) else layers["layers"]  # a Sequential's was a bare list before Keras 2.2.3
        return list(itertools.chain(*map(steps, layers))), gates
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: its model_config is not one of Keras 2 ({error!r})") from None


def _value(setting):
    """A setting to compare: Keras 2 wrote some numbers as {"type": "ndarray", "value": 0.3} and in float32's digits."""
    if isinstance(setting, dict) and "value" in setting:
        setting = setting["value"]
    return round(setting, 6) if isinstance(setting, float) else setting


def _set_in_order(network, layers):
    network.set_weights(list(itertools.chain(*layers)))


def _set_quality_net(network, layers):
    """Batch normalisation, convolutions, dense layers, each as [kernel, bias] or [kernel, bias, vector]."""
    normalization, *rest = layers
    network.get_layer("batch_normalization").set_weights(normalization)
    wrappers = [layer for layer in network.layers if hasattr(layer, "power_iterations")]
    for wrapper, (kernel, bias, *vector) in zip(wrappers, rest, strict=True):
        if vector:
            kernel, vector_u = _spectrally_normalised(kernel, *vector)
            wrapper.vector_u.assign(vector_u)
        wrapper.layer.set_weights([kernel.transpose(1, 0, 2, 3) if kernel.ndim == 4 else kernel, bias])


_SET_WEIGHTS = {"blstm": _set_in_order, "quality_net_2018": _set_in_order, "quality_net": _set_quality_net}


def _spectrally_normalised(kernel, vector_u):
    """W / sigma and the next u, by one step of MetricGAN's power iteration: v = u W' / |.|, u = v W / |.|, sigma = v W u'.

    Args:
        kernel: float `(..., outputs)`, which is W of `(all others, outputs)`.
        vector_u: float `(1, outputs)`.
    """
    matrix = kernel.reshape(-1, kernel.shape[-1]).astype(np.float64)

    def unit(x):
        return x / (np.linalg.norm(x) + 1e-12)

    v = unit(vector_u @ matrix.T)
    vector_u = unit(v @ matrix)
    return (kernel / (v @ matrix @ vector_u.T).item()).astype(np.float32), vector_u.astype(np.float32)


# --- Keras 2 files out -----------------------------------------------------------------------------------------------------------


def features(network, magnitude):
    """What a BLSTM mask network feeds its first LSTM: the input of the file that `export_tf_keras` writes.

    Args:
        network: keras.Model by `models.blstm`.
        magnitude: float32 `(batch, frames, bins)`, every frame an utterance's own: for utterances of different lengths call it for each.

    Returns:
        float32 `(batch, frames, bins)`.
    """
    import keras

    _check_blstm(network)
    last = network.get_layer("standardise" if any(layer.name == "standardise" for layer in network.layers) else "compression")
    magnitude = np.asarray(magnitude, np.float32)
    return np.asarray(keras.Model(network.inputs, last.output)([magnitude, np.ones(magnitude.shape[:2], bool)]))


def export_tf_keras(network, path):
    """Write a BLSTM mask network as a Keras 2 model that `tf_keras.models.load_model(path)` reads without any code of this project.

    The model maps `features(network, magnitude)`, float32 `(batch, frames, bins)` without padding, to the mask before its floor:
    layers of Keras 2 can express neither the level and the compression nor a maximum, and a Lambda would be code in the file. The
    reference's enhancer divides the work in the same way. `load_reference` reads the file, too, once it is told this
    network's compression and normalization.

    Args:
        network: keras.Model by `models.blstm`, of any sizes.
        path: the .h5 file; replaced where it exists.

    Raises:
        UserError: another network.
    """
    import h5py

    _check_blstm(network)
    layers = []  # (class, configuration, {name in the file: array})
    for number in (1, 2):
        layer = network.get_layer(f"blstm_{number}")
        lstm = layer.forward_layer
        gate = {ours: name for name, ours in _GATES.items()}[lstm.recurrent_activation.__name__]
        inner = {"name": f"lstm_{number}", "trainable": True, "return_sequences": True, "return_state": False, "go_backwards": False,
                 "stateful": False, "unroll": False, "units": lstm.units, "activation": "tanh", "recurrent_activation": gate,
                 "use_bias": True, "unit_forget_bias": True, "dropout": 0.0, "recurrent_dropout": 0.0}
        names = [f"{way}_lstm_{number}/{kind}" for way in ("forward", "backward") for kind in ("kernel", "recurrent_kernel", "bias")]
        layers.append(_layer("Bidirectional", f"bidirectional_{number}", layer, names, merge_mode="concat",
                             layer={"class_name": "LSTM", "config": inner}))
    layers[0][1]["batch_input_shape"] = [None, None, network.output_shape[-1]]
    dense, leaky_relu, mask = map(network.get_layer, ("dense", "leaky_relu", "mask"))
    layers += [_layer("Dense", "dense_1", dense, ["kernel", "bias"], units=dense.units, activation="linear", use_bias=True),
               _layer("LeakyReLU", "leaky_re_lu_1", leaky_relu, [], alpha=float(leaky_relu.negative_slope)),
               _layer("Dense", "dense_2", mask, ["kernel", "bias"], units=mask.units, activation="sigmoid", use_bias=True)]
    config = {"class_name": "Sequential", "config": {"name": "blstm", "layers": [
        {"class_name": kind, "config": settings} for kind, settings, _ in layers]}}
    with files.replacing(path) as temporary, h5py.File(temporary, "w") as file:
        group = file.create_group("model_weights")
        for node in (file, group):
            node.attrs.update({"keras_version": np.bytes_("2.3.0"), "backend": np.bytes_("tensorflow")})
        file.attrs["model_config"] = np.bytes_(json.dumps(config))
        group.attrs["layer_names"] = np.array([settings["name"] for _, settings, _ in layers], "S")
        for _, settings, weights in layers:
            node = group.create_group(settings["name"])
            node.attrs["weight_names"] = np.array(list(weights), "S")
            for name, array in weights.items():
                node[name] = array


def _layer(kind, name, source, names, **settings):
    """A layer as Keras 2 has it: `(class, configuration, {name in the file: array})`."""
    weights = {f"{name}/{weight}:0": array for weight, array in zip(names, source.get_weights(), strict=True)}
    return kind, {"name": name, "trainable": True, "dtype": "float32", **settings}, weights


def _check_blstm(network):
    names = [layer.name for layer in network.layers]
    if missing := {"blstm_1", "blstm_2", "dense", "leaky_relu", "mask"} - set(names):
        raise UserError(f"{network.name} has no layers {_join(sorted(missing))}; a mask network by models.blstm is expected")
    if "learnable_sigmoid" in names:
        raise UserError(f"{network.name} has a learnable sigmoid, which plain layers of Keras 2 cannot express; only sigmoid=\"plain\" can "
                        "be exported")
