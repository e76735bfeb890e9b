"""Write this folder anew: `python tests/golden/make.py FOLDER`, FOLDER holding the golden values that they come from.

Nothing here holds or derives from the real speech of that folder (`real15`), whose licence is unclear. Files whose inputs were
made of it are made again, by the same packages, from the synthetic signals:

- metricgan_features.npz: librosa, as in MetricGAN's code. The same function, on real15, has to give what FOLDER holds.
- *.h5, keras2_io.npz: the three reference networks by tf_keras (the Keras 2 API), with a few units and random weights.
  tf_keras has to give what FOLDER holds for the networks of full size, too.

- dccrn_tiny_E.npz, tfgridnet_dl_tiny.npz: FOLDER's weights, of PyTorch; outputs by networks.py, which has to give what FOLDER holds.

It needs tests/requirements.txt.
"""

import json
import os
import shutil
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import librosa
import networks
import numpy as np
import scipy.signal
import tf_keras
from tf_keras import layers

HERE = Path(__file__).resolve().parent
AS_THEY_ARE = ("bark_matrix_16k.npz", "bark_matrix_8k.npz", "lms_melbanks.npz", "gridnet_block_tiny.npz", "spectral_norm.npz",
               "network_info.json")
BY_SIGNAL = ("signals.json", "metrics.json", "dnsmos.json", "dccrn_pmsqe_losses.json", "tfgridnet_losses.json")
FRAMES = slice(40, 100)  # of synth1, into the networks


def main(source):
    for name in AS_THEY_ARE:
        shutil.copyfile(source / name, HERE / name)
    for name in BY_SIGNAL:
        values = json.loads((source / name).read_text())
        kept = {key: value for key, value in values.items() if "real" not in key}
        (HERE / name).write_text(json.dumps(kept, indent=1) + "\n")
    signals = np.load(source / "signals.npz")
    np.savez_compressed(HERE / "signals.npz", **{key: signals[key] for key in signals.files if "real" not in key})

    expected = np.load(source / "metricgan_features.npz")
    found = metricgan_features(signals["real15_noisy"], signals["real15_clean"])
    for key in found:
        np.testing.assert_allclose(found[key], expected[key], atol=2e-5, rtol=1e-5, err_msg=key)
    features = metricgan_features(signals["synth1_noisy"], signals["synth1_clean"])
    np.savez_compressed(HERE / "metricgan_features.npz", **features)

    given = np.load(source / "keras2_io.npz")
    for name, pairs in OUTPUTS.items():
        reference = tf_keras.models.load_model(source / f"{name}.h5", compile=False)
        for x, keys in pairs.items():
            check(reference, given[x], {key: given[key] for key in keys})
    inputs = {"enh_x": features["norm_feature"][:, FRAMES], "qn_x": features["clean_mag"][:, FRAMES]}
    image = np.stack([features["noisy_mag"][:, FRAMES], features["clean_mag"][:, FRAMES]], axis=-1)
    inputs["disc_x_transposed"] = image.transpose(0, 2, 1, 3)
    inputs["disc_x_reshaped"] = image.reshape(1, 257, 60, 2)  # what MetricGAN's code does: no transposition
    io = {key: given[key] for key in given.files if key.startswith("act_")} | inputs
    for number, (name, pairs) in enumerate(OUTPUTS.items()):
        tf_keras.backend.clear_session()  # layers are numbered from the first
        network = NETWORKS[name]()
        randomise(network, seed=number)
        network.save(HERE / f"{name}.h5", save_format="h5", include_optimizer=False)
        for x, keys in pairs.items():
            io |= dict(zip(keys, as_list(network(inputs[x])), strict=True))
    np.savez_compressed(HERE / "keras2_io.npz", **{key: np.asarray(value, np.float32) for key, value in io.items()})

    for name, forward, samples in (("dccrn_tiny_E", networks.dccrn, 4800), ("tfgridnet_dl_tiny", networks.tf_gridnet, 4000)):
        golden = np.load(source / f"{name}.npz")
        weights = {key: golden[key] for key in golden.files if key.startswith("w/")}
        exact = {key.removeprefix("w/"): array.astype(np.float64) for key, array in weights.items()}
        for key, value in forward(golden["x"], exact).items():
            np.testing.assert_allclose(value, golden[key], atol=5e-6 * np.abs(golden[key]).max(), err_msg=key)
        x = signals["synth1_noisy"][None, 16_000:16_000 + samples]
        made = {key: value.astype(np.float32) for key, value in forward(x, exact).items()}
        np.savez_compressed(HERE / f"{name}.npz", **weights, x=x, **made)


# --- MetricGAN's features --------------------------------------------------------------------------------------------------------


def metricgan_features(noisy, clean):
    """Its features of a pair, by librosa: a symmetric Hamming window, half a window of zeros behind the wave, reflection at the ends."""
    window = scipy.signal.get_window("hamming", 512, fftbins=False)

    def spectrum(wave, window=window, **settings):
        padded = librosa.util.fix_length(wave, size=len(wave) + 256)
        return librosa.stft(padded, n_fft=512, hop_length=256, window=window, pad_mode="reflect").T[None]

    noisy_spectrum = spectrum(noisy)
    magnitude = np.abs(noisy_spectrum)
    periodic = np.abs(spectrum(noisy, scipy.signal.get_window("hamming", 512)))
    return {"noisy_mag": magnitude, "noisy_phase_TxF": np.angle(noisy_spectrum), "clean_mag": np.abs(spectrum(clean)),
            "norm_feature": standardised(magnitude), "norm_feature_log1p": standardised(np.log1p(magnitude)), "window": window,
            "mag_maxdiff_if_periodic_window": np.abs(periodic - magnitude).max()}


def standardised(feature):
    return (feature - feature.mean(axis=1, keepdims=True)) / (feature.std(axis=1, keepdims=True) + 1e-12)


# --- Networks of the Keras 2 API -------------------------------------------------------------------------------------------------


def enhancer():
    network = tf_keras.Sequential([layers.Input((None, 257))])
    for _ in range(2):
        network.add(layers.Bidirectional(layers.LSTM(8, return_sequences=True)))
    network.add(layers.TimeDistributed(layers.Dense(12)))
    network.add(layers.LeakyReLU())
    network.add(layers.Dropout(0.05))
    network.add(layers.TimeDistributed(layers.Dense(257)))
    network.add(layers.Activation("sigmoid"))
    return network


def discriminator():
    image = layers.Input((257, None, 2))
    x = layers.BatchNormalization()(image)
    for filters, size in ((2, 5), (3, 7), (4, 9), (5, 11)):
        x = layers.LeakyReLU()(layers.Conv2D(filters, size)(x))
    x = layers.GlobalAveragePooling2D(name="Average_score")(x)
    for units in (50, 10):
        x = layers.LeakyReLU()(layers.Dense(units)(x))
    return tf_keras.Model(image, layers.Dense(1)(x))


def quality_net_2018():
    magnitude = layers.Input((None, 257))
    lstm = layers.LSTM(6, return_sequences=True, recurrent_activation="hard_sigmoid", dropout=0.3, recurrent_dropout=0.3, implementation=1)
    x = layers.ELU()(layers.TimeDistributed(layers.Dense(5))(layers.Bidirectional(lstm)(magnitude)))
    frame = layers.TimeDistributed(layers.Dense(1), name="Frame_score")(layers.Dropout(0.3)(x))
    return tf_keras.Model(magnitude, [layers.GlobalAveragePooling1D(name="Average_score")(frame), frame])


NETWORKS = {"enhancer_sigmoid": enhancer, "discriminator_no_sn": discriminator, "qualitynet2018": quality_net_2018}
OUTPUTS = {"enhancer_sigmoid": {"enh_x": ["enh_y_sigmoid"]},
           "discriminator_no_sn": {f"disc_x_{layout}": [f"disc_y_{layout}"] for layout in ("transposed", "reshaped")},
           "qualitynet2018": {"qn_x": ["qn_average", "qn_frame"]}}


def randomise(network, seed):
    """Weights that leave no gate, bias or statistic at its start, and outputs of the order of 1."""
    rng = np.random.default_rng(seed)
    arrays = []
    for weight in network.weights:
        fan_in = np.prod(weight.shape[:-1]) if len(weight.shape) > 1 else 1
        array = rng.standard_normal(weight.shape) / np.sqrt(fan_in) * (1 if len(weight.shape) > 1 else 0.3)
        arrays.append(0.5 + np.abs(array) if "variance" in weight.name or "gamma" in weight.name else array)
    network.set_weights(arrays)


def as_list(outputs):
    return outputs if isinstance(outputs, list) else [outputs]


def check(network, x, expected):
    for found, (key, value) in zip(as_list(network(x)), expected.items(), strict=True):
        np.testing.assert_allclose(found, value, atol=1e-5, err_msg=key)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
