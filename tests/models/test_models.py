"""Networks: parameter counts, golden outputs, padding and level left out, files; the combined model leaves Quality-Net alone."""

import h5py
import keras
import numpy as np
import pytest
from conftest import speech_like

from se_keras import losses, models
from se_keras.enhancers.base import pad_frames
from se_keras.enhancers.magnitude_mask import MaskEnhancer
from se_keras.errors import UserError
from se_keras.judges.surrogate import QualityPredictor, combined_model
from se_keras.models.layers import OperatorNormalization, SpectralNormalization
from se_keras.models.quality_net import METRICGAN_PLUS, PYTORCH_QNET
from se_keras.signals.stft import Stft, magnitude, stft
from se_keras.training.objective import objective_batch, objective_model, weighted_mean
from se_keras.weights import load_weights

SMALL = {"blstm": {"bins": 9, "units": 4, "dense_units": 5, "dropout": 0.1, "mask_floor": 0.05},
         "dnn": {"bins": 9, "units": 4, "context": 2, "normalization": "none", "compression": "root"},
         "quality_net": {"bins": 17, "filters": [[3, 3], [4, 5]], "padding": "same", "batch_normalization": True, "input_gain": 2.0}}
TINY = {"bins": 17, "filters": [[3, 3], [4, 5]]}
RELATIVES = {"qnet": {**PYTORCH_QNET, **TINY}, "metricgan-plus": {**METRICGAN_PLUS, **TINY},
             "operator": {**TINY, "batch_normalization": "convolutions", "spectral_norm": "operator"}}


def magnitudes(*frames, bins=257, seed=0):
    """Speech-like magnitude spectrograms: smooth in time, falling with frequency, with pauses."""
    rng = np.random.default_rng(seed)
    fall = np.exp(-np.arange(bins) / bins * 4)
    return [(rng.gamma(0.5, 2, (n, bins)) * fall * (0.2 + np.abs(np.sin(np.arange(n) / 4)))[:, None]).astype(np.float32) for n in frames]


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(1)


def mask_network(name):
    """A network whose last kernel is made larger, so that its masks fill the range that a trained one's do."""
    keras.utils.set_random_seed(0)
    network = models.build(name)
    last = network.get_layer("mask").kernel
    last.assign(10 * last)
    return network


@pytest.fixture(scope="module")
def blstm():
    return mask_network("blstm")


@pytest.fixture(scope="module")
def dnn():
    return mask_network("dnn")


@pytest.fixture(scope="module", params=["valid", "same"])
def quality_net(request):
    keras.utils.set_random_seed(0)
    return models.build("quality_net", padding=request.param)


def test_an_unknown_model_or_argument_is_named_with_the_known_ones():
    with pytest.raises(UserError, match="unknown model 'unet'; known: blstm, dnn, lstm"):
        models.build("unet")
    with pytest.raises(UserError, match="dnn takes no argument layers; it takes bins, units, context"):
        models.build("dnn", layers=4)


@pytest.mark.parametrize("name, argument, value, known", [
    ("blstm", "compression", "cube", "magnitude, log1p, log, root"), ("blstm", "normalization", "batch", "utterance, none"),
    ("dnn", "normalization", "batch", "utterance, none"), ("quality_net", "compression", "cube", "magnitude, log1p, log, root"),
    ("quality_net", "padding", "causal", "valid, same"),
    ("quality_net", "batch_normalization", "dense", "none, input, utterance, convolutions"),
    ("quality_net", "spectral_norm", "kernel", "all, dense, none, operator"), ("quality_net", "head", "relu", "linear, sigmoid"),
    ("quality_net", "precision", "float16", "float32, bfloat16")])
def test_an_unknown_value_is_named_with_the_known_ones(name, argument, value, known):
    with pytest.raises(UserError, match=f"unknown {argument} '{value}'; known: {known}"):
        models.build(name, **{argument: value})


# --- Counts and golden outputs ---------------------------------------------------------------------------------------------------


def stored_count(path):
    """Values in an HDF5 file."""
    found = []
    with h5py.File(path) as file:
        file.visititems(lambda _, node: found.append(node.size) if isinstance(node, h5py.Dataset) else None)
    return sum(found)


def test_parameter_counts(blstm, dnn, quality_net):
    """blstm: 2 x 4 x 200 x (257 + 200 + 1) + 2 x 4 x 200 x (400 + 200 + 1) + 401 x 300 + 301 x 257."""
    assert blstm.count_params() == 1_892_057
    assert dnn.count_params() == 11 * 257 * 256 + 256 + 2 * 257 * 256 + 257 * 257 == 921_601
    vectors = 15 + 25 + 40 + 50 + 50 + 10 + 1  # of the power iteration, one value an output channel
    assert quality_net.count_params() == 345_326 + vectors
    assert models.build("quality_net", batch_normalization=True).count_params() == 345_334 + vectors
    assert blstm.count_params() == sum(weight.numpy().size for weight in blstm.trainable_weights)


def trainable_count(network):
    return sum(weight.numpy().size for weight in network.trainable_weights)


def test_parameter_counts_of_relatives():
    """MetricGAN+: 4 + 765 + 3 x 5,640 + 800 + 510 + 11. The PyTorch Q-Net: 345,326 and a scale and an offset for each of 130 filters."""
    assert trainable_count(models.build("quality_net", **METRICGAN_PLUS)) == 19_010
    assert trainable_count(models.build("quality_net", **PYTORCH_QNET)) == 345_586
    assert trainable_count(models.build("quality_net", spectral_norm="operator")) == 345_326


def test_relatives_are_made_of_the_layers_that_they_name():
    def kinds(network):
        kernels = [f"conv_{n}" for n in (1, 2)] + ["dense_1", "dense_2", "score"]
        layers = {layer.name.removeprefix("sn_"): layer for layer in network.layers}
        return "".join({SpectralNormalization: "S", OperatorNormalization: "O"}.get(type(layers[name]), "-") for name in kernels)

    for spectral_norm, expected in (("all", "SSSSS"), ("dense", "--SSS"), ("none", "-----"), ("operator", "OOSSS")):
        assert kinds(models.build("quality_net", **TINY, spectral_norm=spectral_norm)) == expected
    for batch_normalization, expected in ((False, []), (True, [""]), ("input", [""]), ("convolutions", ["_1", "_2"])):
        names = [layer.name for layer in models.build("quality_net", **TINY, batch_normalization=batch_normalization).layers]
        assert [name for name in names if "batch" in name] == [f"batch_normalization{number}" for number in expected]
    qnet = models.build("quality_net", **RELATIVES["qnet"])
    slopes = {layer.name: layer.negative_slope for layer in qnet.layers if "leaky" in layer.name}
    assert slopes == {"leaky_relu_1": 0, "leaky_relu_2": 0, "leaky_relu_dense_1": 0.01, "leaky_relu_dense_2": 0.01}


def test_shapes(blstm, dnn, quality_net):
    assert blstm.output_shape == dnn.output_shape == (None, None, 257) and quality_net.output_shape == (None, 1)


def keras2_arrays(path, *layers):
    """Arrays of a Keras 2 file's layers, kernels before recurrent kernels before biases, forward before backward."""
    order = ["forward", "backward", "kernel", "recurrent_kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"]
    with h5py.File(path) as file:
        arrays = []
        for layer in layers:
            found = {}

            def keep(name, node, found=found):
                if isinstance(node, h5py.Dataset):
                    found[name] = node[()]

            file["model_weights"][layer].visititems(keep)

            def rank(name):
                *_, group, leaf = ["", *name.removesuffix(":0").split("/")]
                return ("backward" in name, order.index(leaf), group)

            arrays += [found[name] for name in sorted(found, key=rank)]
    return arrays


def test_blstm_has_the_output_of_the_reference_network(golden):
    """The reference enhancer takes a ready feature: here it goes in where the level is normalised and the bins standardised."""
    path, io = golden / "enhancer_sigmoid.h5", np.load(golden / "keras2_io.npz")
    network = models.build("blstm", units=8, dense_units=12)
    assert network.count_params() == stored_count(path)
    network.set_weights(keras2_arrays(path, "bidirectional", "bidirectional_1", "time_distributed", "time_distributed_1"))
    frame_mask = network.inputs[1]
    core = keras.Model([network.get_layer("standardise").output, frame_mask], network.output)
    mask = core([io["enh_x"], np.ones(io["enh_x"].shape[:2], bool)])
    np.testing.assert_allclose(mask, io["enh_y_sigmoid"], atol=4e-7)


def test_quality_net_has_the_output_of_the_reference_network(golden):
    """The reference discriminator sees (frequency, time) images of raw magnitudes: kernels are transposed, and `input_gain` undoes
    the level that is divided by."""
    path, io = golden / "discriminator_no_sn.h5", np.load(golden / "keras2_io.npz")
    degraded, clean = (np.ascontiguousarray(io["disc_x_transposed"][..., channel].transpose(0, 2, 1)) for channel in (0, 1))
    level = float(np.sqrt(np.mean(clean.astype(np.float64) ** 2)))
    network = models.build("quality_net", filters=[[2, 5], [3, 7], [4, 9], [5, 11]], compression="magnitude", batch_normalization=True,
                           input_gain=level)
    assert stored_count(path) == network.count_params() - (2 + 3 + 4 + 5 + 50 + 10 + 1)  # without vectors of a power iteration
    network.get_layer("batch_normalization").set_weights(keras2_arrays(path, "batch_normalization"))
    convolutions = [(f"sn_conv_{n}", f"conv2d{'_' * (n > 1)}{n - 1 or ''}") for n in (1, 2, 3, 4)]
    for ours, theirs in [*convolutions, ("sn_dense_1", "dense"), ("sn_dense_2", "dense_1"), ("sn_score", "dense_2")]:
        kernel, bias = keras2_arrays(path, theirs)
        network.get_layer(ours).layer.set_weights([kernel.transpose(1, 0, 2, 3) if kernel.ndim == 4 else kernel, bias])
    score = network([degraded, clean, np.ones(clean.shape[:2], bool)])
    np.testing.assert_allclose(score, io["disc_y_transposed"], atol=1e-6)


# --- Padding and level -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["blstm", "dnn"])
def test_a_mask_alone_and_in_a_padded_batch(request, name):
    network = request.getfixturevalue(name)
    given = magnitudes(7, 30, 64)
    batch, frame_mask = pad_frames(given)
    together = np.asarray(network([batch, frame_mask]))
    assert 0 <= together.min() and together.max() <= 1 and together.std() > 0.1
    for alone, mask in zip(given, together, strict=True):
        np.testing.assert_allclose(network([alone[None], np.ones((1, len(alone)), bool)])[0], mask[:len(alone)], atol=1e-5)
    garbage = np.where(frame_mask[..., None], batch, 50.0).astype(np.float32)  # what lies on the padding does not matter either
    np.testing.assert_allclose(np.asarray(network([garbage, frame_mask]))[frame_mask], together[frame_mask], atol=1e-5)


def test_a_score_alone_and_in_a_padded_batch(quality_net):
    """Also of utterances with fewer frames than the receptive field of 29."""
    frames = (5, 28, 29, 40)
    given = list(zip(magnitudes(*frames, seed=1), magnitudes(*frames, seed=2), strict=True))
    (degraded, frame_mask), (clean, _) = (pad_frames(list(signals)) for signals in zip(*given, strict=True))
    together = np.asarray(quality_net([degraded, clean, frame_mask]))[:, 0]
    assert np.ptp(together) > 1e-3  # the network does tell them apart
    for (x, y), score in zip(given, together, strict=True):
        assert float(quality_net([x[None], y[None], np.ones((1, len(x)), bool)])[0, 0]) == pytest.approx(score, abs=1e-5)
    garbage = [np.where(frame_mask[..., None], signal, 50.0).astype(np.float32) for signal in (degraded, clean)]
    np.testing.assert_allclose(np.asarray(quality_net([*garbage, frame_mask]))[:, 0], together, atol=1e-5)


@pytest.mark.parametrize("relative", RELATIVES)
def test_a_relatives_score_alone_and_in_a_padded_batch(relative):
    """In inference every utterance; in training one that is padded, whose batch statistics must not know. The field is 7 frames."""
    network = models.build("quality_net", **RELATIVES[relative])
    weights, rng = network.get_weights(), np.random.default_rng(0)
    network.set_weights([weight + 0.1 * rng.random(weight.shape) for weight in weights])  # offsets, which make padding non-zero
    given = [(*magnitudes(n, n, bins=17, seed=n), np.ones((1, n), bool)) for n in (3, 7, 20)]
    (degraded, frame_mask), (clean, _) = (pad_frames([pair[which] for pair in given]) for which in (0, 1))
    degraded, clean = (np.where(frame_mask[..., None], signal, np.float32(50)) for signal in (degraded, clean))
    together = np.asarray(network([degraded, clean, frame_mask]))
    assert np.ptp(together) > 1e-4
    if relative == "qnet":
        assert 0 < together.min() and together.max() < 1
    before = network.get_weights()
    for i, (x, y, everything) in enumerate(given):
        np.testing.assert_allclose(network([x[None], y[None], everything])[0], together[i], atol=1e-5)
        found = []
        for batch in ([x[None], y[None], everything], [degraded[i:i + 1], clean[i:i + 1], frame_mask[i:i + 1]]):
            network.set_weights(before)
            found.append([network(batch, training=True), *network.get_weights()])
        for alone, padded in zip(*found, strict=True):
            np.testing.assert_allclose(padded, alone, atol=1e-5)
        network.set_weights(before)


def test_a_valid_score_is_the_mean_over_windows_of_own_frames_only():
    """The head is left out: the pooled features of 40 frames are the mean of those of its twelve windows of 29 frames."""
    network = models.build("quality_net", bins=33)
    features = keras.Model(network.inputs, network.get_layer("pool").output)
    degraded, clean = magnitudes(40, 40, bins=33)
    clean /= np.sqrt(np.mean(clean ** 2, axis=1, keepdims=True))  # every window has the level of the whole
    windows = [np.stack([signal[t:t + 29] for t in range(12)]) for signal in (degraded, clean)]
    pooled = features([*windows, np.ones((12, 29), bool)])
    np.testing.assert_allclose(features([degraded[None], clean[None], np.ones((1, 40), bool)])[0], np.mean(pooled, axis=0), atol=1e-5)


@pytest.mark.parametrize("gain_db", [-20, 20])
def test_level_does_not_matter(blstm, dnn, quality_net, gain_db):
    gain = np.float32(10 ** (gain_db / 20))
    clean = speech_like(1.0, 1)
    noisy = clean + 0.05 * np.random.default_rng(0).standard_normal(len(clean)).astype(np.float32)
    spectrum = magnitude(stft(noisy))
    for network in (blstm, dnn):
        masks = MaskEnhancer(network).masks([spectrum, gain * spectrum])
        np.testing.assert_allclose(masks[1], masks[0], atol=1e-3)
    reference, scaled = QualityPredictor(quality_net).predict_waves([(noisy, clean), (gain * noisy, gain * clean)])
    assert scaled == pytest.approx(reference, abs=0.01)


def test_silence_gives_finite_outputs(blstm, dnn, quality_net):
    silence, everything = np.zeros((1, 30, 257), np.float32), np.ones((1, 30), bool)
    for output in (blstm([silence, everything]), dnn([silence, everything]), quality_net([silence, silence, everything])):
        assert np.isfinite(output).all()


def test_mask_floor():
    free, floored = (models.build("blstm", bins=9, units=4, dense_units=5, mask_floor=floor) for floor in (0.0, 0.5))
    floored.set_weights(free.get_weights())
    x = [magnitudes(20, bins=9)[0][None], np.ones((1, 20), bool)]
    np.testing.assert_allclose(floored(x), np.maximum(free(x), 0.5))
    assert np.asarray(free(x)).min() < 0.5


def test_dnn_sees_its_context_and_no_further():
    network = models.build("dnn", bins=9, units=16, context=3, normalization="none")
    core = keras.Model([network.get_layer("compression").output, network.inputs[1]], network.output)
    feature = np.random.default_rng(0).standard_normal((1, 20, 9)).astype(np.float32)
    other = feature.copy()
    other[0, 10] += 1
    everything = np.ones((1, 20), bool)
    moved = np.abs(np.asarray(core([feature, everything])) - np.asarray(core([other, everything]))).max(axis=(0, 2)) > 0
    assert np.flatnonzero(moved).tolist() == list(range(7, 14))


def test_mean_score_is_what_an_untrained_network_says_of_silence():  # log1p of which is 0, and so is all that follows
    network = models.build("quality_net", bins=33, mean_score=0.43, compression="log1p")
    silence = np.zeros((1, 30, 33), np.float32)
    assert float(network([silence, silence, np.ones((1, 30), bool)])[0, 0]) == pytest.approx(0.43, abs=1e-6)
    network = models.build("quality_net", bins=33, mean_score=0.43, compression="log1p", head="sigmoid")
    assert float(network([silence, silence, np.ones((1, 30), bool)])[0, 0]) == pytest.approx(0.43, abs=1e-6)


def test_bfloat16_convolutions_give_nearly_the_same_score():
    reduced = models.build("quality_net", bins=33, precision="bfloat16")
    full = models.build("quality_net", bins=33)
    full.set_weights(reduced.get_weights())
    assert all(weight.dtype == "float32" for weight in reduced.weights) and reduced.output.dtype == "float32"
    x = [*(m[None] for m in magnitudes(40, 40, bins=33)), np.ones((1, 40), bool)]
    assert float(reduced(x)[0, 0]) == pytest.approx(float(full(x)[0, 0]), abs=5e-3)
    for network in (reduced, full):  # one training call each: the stored kernels stay those of float32
        network(x, training=True)
    for a, b in zip(reduced.get_weights(), full.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


# --- Config and files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, arguments", [*SMALL.items(), *(("quality_net", arguments) for arguments in RELATIVES.values())])
def test_config_weights_file_and_whole_model_file(name, arguments, tmp_path):
    network = models.build(name, **arguments)
    network.set_weights([weight + 0.01 * np.random.default_rng(0).random(weight.shape) for weight in network.get_weights()])
    x = [m[None] for m in magnitudes(*[35] * (len(network.inputs) - 1), bins=arguments["bins"])] + [np.ones((1, 35), bool)]
    expected = network(x)
    from_config = keras.Model.from_config(network.get_config())
    assert from_config.name == name and from_config.get_config() == network.get_config()
    from_config.set_weights(network.get_weights())
    network.save_weights(tmp_path / "x.weights.h5")
    rebuilt = models.build(name, **arguments)
    load_weights(rebuilt, tmp_path / "x.weights.h5")
    network.save(tmp_path / "x.keras")
    for copy in (from_config, rebuilt, keras.models.load_model(tmp_path / "x.keras")):
        np.testing.assert_array_equal(copy(x), expected)


# --- The combined model ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("representation, padding", [("mask", "valid"), ("wave", "same")])
def test_fit_changes_the_enhancer_and_not_one_bit_of_quality_net(representation, padding):
    config = Stft(64, 32)
    enhancer = models.build("dnn", bins=33, units=4, context=1)
    quality_net = models.build("quality_net", bins=33, filters=[[3, 3], [4, 9]], padding=padding, batch_normalization=True)
    system, judge = MaskEnhancer(enhancer, config), QualityPredictor(quality_net, config, representation)
    objective = losses.parse("quality")
    scores, model = combined_model(system, judge), objective_model(system, objective, judge)
    model.compile(keras.optimizers.RMSprop(1e-3), weighted_mean(objective))
    noisy, clean = (np.stack([stft(level * speech_like(0.1, seed)[:1216], config) for level, seed in ((1, 1), (3, 2))]) for _ in range(2))
    noisy = noisy + 0.1 * np.random.default_rng(0).standard_normal(noisy.shape).astype(np.float32)
    noisy[:, 10:15] = clean[:, 10:15] = 0  # digital silence, where a magnitude has no gradient
    frame_mask = np.arange(noisy.shape[1]) < np.array([[30], [noisy.shape[1]]])
    x, y = objective_batch({"noisy": noisy, "clean": clean, "frame_mask": frame_mask})
    frozen, before, predicted = quality_net.get_weights(), enhancer.get_weights(), scores.predict_on_batch(x)

    history = model.fit(x, y, batch_size=1, epochs=3, verbose=0).history["loss"]
    model.train_on_batch(x, y)
    model(x, training=True)

    for a, b in zip(frozen, quality_net.get_weights(), strict=True):
        assert a.tobytes() == b.tobytes()
    moved = [np.abs(a - b).max() for a, b in zip(before, enhancer.get_weights(), strict=True)]
    assert min(moved) > 0 and np.isfinite(moved).all()
    assert [weight.path for weight in model.trainable_weights] == [weight.path for weight in enhancer.trainable_weights]
    assert history[-1] < history[0] and scores.predict_on_batch(x).mean() > predicted.mean()  # towards the score of 1


def test_the_combined_model_says_what_quality_net_says_of_the_masked_magnitude():
    """Equation 1: Q(N (x) G(N), C)."""
    enhancer, quality_net = models.build("dnn", bins=33, units=4), models.build("quality_net", bins=33, filters=[[3, 3]])
    noisy, clean = (np.random.default_rng(seed).standard_normal((2, 20, 33, 2)).astype(np.float32) for seed in (1, 2))
    frame_mask = np.arange(20) < np.array([[12], [20]])
    x, _ = objective_batch({"noisy": noisy, "clean": clean, "frame_mask": frame_mask})
    mask = enhancer([magnitude(noisy), frame_mask])
    expected = quality_net([magnitude(noisy) * np.asarray(mask), magnitude(clean), frame_mask])
    np.testing.assert_allclose(combined_model(MaskEnhancer(enhancer), QualityPredictor(quality_net))(x), expected, atol=1e-6)
