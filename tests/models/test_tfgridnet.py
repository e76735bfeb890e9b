"""TF-GridNet: parameter counts, golden values, padding left out, its variants, weights of PyTorch, files, what cannot be meant."""

import keras
import numpy as np
import pytest
from conftest import load_script, speech_like

from se_keras import enhancers, models
from se_keras.enhancers import base
from se_keras.errors import UserError
from se_keras.models.tfgridnet import (
    ESPNET,
    CellProjection,
    GlobalNormalization,
    GridNetBlock,
    PhaseEncoder,
    RecurrentPath,
    SpectrumLevel,
    tfgridnet,
)
from se_keras.signals.stft import Stft
from se_keras.torch.tfgridnet import block_from_torch, from_torch

networks = load_script("tests/golden/networks.py")
TINY = {"bins": 17, "blocks": 1, "emb": 4, "hidden": 3, "heads": 2}
VARIANTS = {"direct": {}, "progressive": {"stages": 2, "blocks": 2}, "hop 4": {"hop": 4}, "hop 3": {"hop": 3, "kernel": 5},
            "espnet": {**ESPNET, **TINY}}
RNG = np.random.default_rng(0)


def network(variant="direct"):
    """A tiny network with random weights, none of them at its start."""
    built = tfgridnet(**{**TINY, **VARIANTS[variant]})
    built.set_weights([0.5 * RNG.standard_normal(weight.shape) for weight in built.get_weights()])
    return built


def golden_arrays(golden, name):
    with np.load(golden / f"{name}.npz") as arrays:
        return dict(arrays)


def weights_of(arrays):
    return {name.removeprefix("w/"): array.astype(np.float64) for name, array in arrays.items() if name.startswith("w/")}


# --- Counts and golden values ----------------------------------------------------------------------------------------------------


def test_parameter_counts():
    """Published: 2.36 M. Each stage beyond the first has a decoder of 32 x 2 x 3 x 3 + 2 = 578."""
    direct = models.build("tfgridnet")
    assert direct.count_params() == 2_359_523
    assert direct.get_layer("block_1").count_params() == 471_533
    assert models.build("tfgridnet", stages=5).count_params() == 2_359_523 + 4 * 578 == 2_361_835


def test_multiply_accumulates():
    """Published: 33.65 G for a second, counted with normalisation, activations and biases; products alone are some percent fewer."""
    frames, bins, channels = 63, 255, 32
    block = GridNetBlock()
    block.build((None, None, bins, channels))
    steps = frames * 252 + bins * 60  # along bins and along frames
    lstm, back = 2 * 400 * (128 + 100), 200 * 32 * 4
    attention = frames * bins * (2 * 32 * 16 + 2 * 32 * 32) + frames * frames * bins * (16 + 32)
    macs = block.macs([(frames, bins, channels), (frames,)], (frames, bins, channels))
    assert macs == steps * (lstm + back) + attention
    assert 0.97 * 33.65e9 < 5 * macs < 33.65e9
    assert PhaseEncoder(4).macs([(63, 257, 2)], (63, 257, 4)) == 4 * 4 * 3 * 63 * 257


def test_a_block_is_that_of_pytorch(golden):
    arrays = golden_arrays(golden, "gridnet_block_tiny")
    x = arrays["x"].transpose(0, 2, 3, 1)
    block = block_from_torch(arrays)
    y = keras.ops.convert_to_numpy(block(x, np.ones(x.shape[:2], bool)))
    np.testing.assert_allclose(y.transpose(0, 3, 1, 2), arrays["y"], atol=1e-5)
    assert (block.hidden, block.heads, block.kernel, block.qk_features, block.channels, block.bins) == (6, 2, 4, 3, 4, 9)


def test_the_whole_is_that_of_pytorch(golden):
    """Its last samples, less than a hop, are zeros: torch makes no frame for them."""
    arrays = golden_arrays(golden, "tfgridnet_dl_tiny")
    built, config = from_torch(arrays)
    assert config == Stft(**models.STFTS["tfgridnet"])
    system = enhancers.family("complex_mapping")(built, config)
    y, = system.enhance([arrays["x"][0]])
    np.testing.assert_allclose(y, arrays["y"][0], atol=1e-5)
    assert len(y) == 4000 and (y[4000 - 4000 % 256:] == 0).all()


def test_the_progressive_network_is_the_independent_one(golden):
    """Block 2 sees x0 and block 1's output; decoder i reads block i's output. The names of its decoders are de_conv.0 and so on."""
    arrays = golden_arrays(golden, "tfgridnet_dl_tiny")
    for part in ("weight", "bias"):
        arrays[f"w/de_conv.0.{part}"] = RNG.standard_normal(arrays[f"w/de_conv.{part}"].shape).astype(np.float32)
        arrays[f"w/de_conv.1.{part}"] = arrays.pop(f"w/de_conv.{part}")
    built, config = from_torch(arrays)
    assert built.output_shape == (None, None, 257, 2, 2)
    system = enhancers.family("complex_mapping")(built, config)
    spectrum = RNG.standard_normal((1, 4, 257, 2)).astype(np.float32)
    outputs = {name: keras.ops.convert_to_numpy(each)[0] for name, each in system.model([spectrum, np.ones((1, 4), bool)]).items()}
    assert outputs["stages"].shape == (4, 257, 2, 2)

    w = weights_of(arrays)
    encoder = [w[f"phase_encoder.conv_{part}.{kind}"] for part in ("real", "imag") for kind in ("weight", "bias")]
    padded = np.pad(spectrum[0].astype(np.float64).transpose(2, 0, 1), ((0, 0), (1, 1), (0, 0)))
    rr, ri, ir, ii = (networks.conv2d(part[None], *encoder[2 * n:2 * n + 2]) for n in (0, 1) for part in padded)
    x = networks.conv2d(np.pad(np.sqrt(np.hypot(rr - ii, ri + ir)), ((0, 0), (1, 1), (0, 0))), w["conv.weight"], w["conv.bias"])
    x = networks.normalize(x, (0, 1, 2)) * w["gln.weight"][:, None, None] + w["gln.bias"][:, None, None]
    for number in range(2):
        prefix = f"tf_grid_blks.{number}."
        made = networks.gridnet_block(x, {name.removeprefix(prefix): each for name, each in w.items() if name.startswith(prefix)})
        decoded = networks.conv_transpose2d(made, w[f"de_conv.{number}.weight"], w[f"de_conv.{number}.bias"])[:, 1:-1]
        np.testing.assert_allclose(outputs["stages"][..., number], decoded.transpose(1, 2, 0), atol=1e-4)
        x = x + made
    estimate, = system.estimates([spectrum[0]])
    for last in (estimate.values, outputs["spectrum"]):
        np.testing.assert_allclose(last, outputs["stages"][..., -1], atol=1e-4)


def test_a_hop_makes_sequences_shorter(golden):
    """Against NumPy: zeros behind bins and frames up to the last step, normalised like all cells, and cut off before attention."""
    arrays = golden_arrays(golden, "gridnet_block_tiny")
    w, hop, kernel = weights_of(arrays), 3, 4
    x = RNG.standard_normal((4, 6, 9))
    y = np.pad(x, ((0, 0), (0, 1), (0, 1)))  # 2 and 3 steps, which see 7 and 10 cells
    for way, axes in (("intra", (1, 2, 0)), ("inter", (2, 1, 0))):
        h = (networks.normalize(y, 0) * w[f"{way}_norm.gamma"][0] + w[f"{way}_norm.beta"][0]).transpose(axes)
        made = np.zeros(h.shape) + w[f"{way}_linear.bias"]
        for number, sequence in enumerate(h):
            cells = np.array([sequence[start:start + kernel].T.ravel() for start in range(0, len(sequence) - kernel + 1, hop)])
            both = np.concatenate([networks.lstm(cells, w, f"{way}_rnn."),
                                   networks.lstm(cells[::-1], w, f"{way}_rnn.", "_reverse")[::-1]], axis=-1)
            for step, values in enumerate(both):
                made[number, step * hop:step * hop + kernel] += np.einsum("i,iok->ko", values, w[f"{way}_linear.weight"])
        y = y + made.transpose(np.argsort(axes))
    without_lstms = {name: 0 * array if "linear" in name else array for name, array in w.items()}
    expected = networks.gridnet_block(y[:, :6, :9], without_lstms)  # attention alone
    got = block_from_torch(arrays, hop=hop)(x.transpose(1, 2, 0)[None].astype(np.float32), np.ones((1, 6), bool))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(got)[0].transpose(2, 0, 1), expected, atol=1e-5)


# --- Padding, silence, level -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_utterance_in_a_padded_batch_comes_out_as_alone(variant):
    """Lengths shorter than a kernel and longer, of whole hops and not; what stands on the padding is not seen, and comes out zero."""
    built, lengths = network(variant), (3, 8)
    spectra = RNG.standard_normal((len(lengths), 11, 17, 2)).astype(np.float32)
    frame_mask = np.arange(11) < np.array(lengths)[:, None]
    together = keras.ops.convert_to_numpy(built([spectra, frame_mask]))
    assert (together[~frame_mask] == 0).all() and np.abs(together).max() > 0.1
    for spectrum, out, length in zip(spectra, together, lengths, strict=True):
        alone = keras.ops.convert_to_numpy(built([spectrum[None, :length], np.ones((1, length), bool)]))[0]
        np.testing.assert_allclose(out[:length], alone, atol=2e-5)


def test_silence_has_a_finite_gradient():
    """The root of a magnitude has an infinite one at zero: one NaN would make all weights NaN."""
    built = tfgridnet(**TINY)
    built.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    x = np.zeros((1, 6, 17, 2), np.float32)
    encoder = built.get_layer("phase_encoder")
    for bias in (encoder.real_bias, encoder.imag_bias):
        bias.assign(np.zeros(4))
    np.testing.assert_allclose(encoder(x), np.full((1, 6, 17, 4), 1e-3), rtol=1e-5)
    assert np.isfinite(built.train_on_batch([x, np.ones((1, 6), bool)], x + 1))
    assert all(np.isfinite(weight).all() for weight in built.get_weights())


def test_the_phase_encoder_tells_a_signal_from_its_negative():
    """By its biases alone, which therefore do not begin at zero."""
    keras.utils.set_random_seed(0)
    encoder, x = PhaseEncoder(4), RNG.standard_normal((1, 6, 17, 2)).astype(np.float32)
    one, other = (keras.ops.convert_to_numpy(encoder(each)) for each in (x, -x))
    assert np.abs(one - other).mean() > 0.1
    assert np.abs(keras.ops.convert_to_numpy(encoder.real_kernel - encoder.imag_kernel)).min() > 1e-3
    for bias in (encoder.real_bias, encoder.imag_bias):
        bias.assign(np.zeros(4))
    np.testing.assert_allclose(encoder(x), encoder(-x), rtol=1e-5)


def test_level_normalisation_makes_gain_pass_through():
    """ESPnet's variant: twice the input, twice the output."""
    built, spectrum, mask = network("espnet"), RNG.standard_normal((1, 6, 17, 2)).astype(np.float32), np.ones((1, 6), bool)
    one, two = (keras.ops.convert_to_numpy(built([gain * spectrum, mask])) for gain in (1, 2))
    np.testing.assert_allclose(two, 2 * one, rtol=1e-3, atol=1e-4)
    level = SpectrumLevel()(spectrum, mask)
    np.testing.assert_allclose(np.ravel(level), spectrum.std(), rtol=1e-5)


def test_global_normalisation_counts_own_frames():
    x = RNG.standard_normal((1, 6, 5, 3)).astype(np.float32) + 2
    mask = np.array([[True] * 4 + [False] * 2])
    y = keras.ops.convert_to_numpy(GlobalNormalization()(x, mask))
    assert abs(y[:, :4].mean()) < 1e-5 and y[:, :4].std() == pytest.approx(1, abs=1e-4) and (y[:, 4:] == 0).all()


# --- Variants, files, memory -----------------------------------------------------------------------------------------------------


def test_features_of_queries_and_keys():
    """The repository rounds 1024 / bins down, ESPnet 512 / bins up; neither to none."""
    def features(**arguments):
        return tfgridnet(**{**TINY, **arguments}).get_layer("block_1").qk_features

    assert features() == 1024 // 15 and features(phase_channels=0) == -(-512 // 17) == 31
    assert features(bins=257) == 4 and features(bins=257, phase_channels=0) == 2 and features(bins=2049) == 1
    assert features(qk_features=3) == 3


def test_blocks_follow_from_stages():
    def blocks(**arguments):
        return sum(isinstance(layer, GridNetBlock) for layer in tfgridnet(bins=9, emb=2, hidden=2, heads=1, **arguments).layers)

    assert (blocks(), blocks(blocks=1), blocks(stages=2)) == (5, 1, 2)


@pytest.mark.parametrize("variant", ["progressive", "espnet"])
def test_files_keep_everything(variant, tmp_path):
    built = network(variant)
    inputs = [RNG.standard_normal((1, 6, 17, 2)).astype(np.float32), np.ones((1, 6), bool)]
    y = built(inputs)
    built.save(tmp_path / "whole.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "whole.keras")(inputs), y)
    built.save_weights(tmp_path / "some.weights.h5")
    again = tfgridnet(**{**TINY, **VARIANTS[variant]})
    again.load_weights(tmp_path / "some.weights.h5")
    np.testing.assert_array_equal(again(inputs), y)


@pytest.mark.parametrize("layer", [GridNetBlock(5, 2, 3, 2, 1), RecurrentPath(5, 3, 2), CellProjection(2, 3), PhaseEncoder(3),
                                   GlobalNormalization(), SpectrumLevel()])
def test_configurations_come_back(layer):
    config = layer.get_config()
    assert type(layer).from_config(config).get_config() == config


def test_an_enhancer_hands_over_no_more_frames_than_a_block_can_take(monkeypatch):
    """Waves of one length, three at a time where the memory of the LSTMs would hold three."""
    built = network()
    assert built.get_layer("block_1").max_batch_frames > base.MAX_BATCH_FRAMES
    block = GridNetBlock()
    block.build((None, None, 255, 32))
    assert 400 < block.max_batch_frames < 600
    monkeypatch.setattr(GridNetBlock, "max_batch_frames", 3 * 16)
    shapes = []
    monkeypatch.setattr(built, "predict_on_batch", lambda x: shapes.append(x[0].shape) or np.zeros_like(x[0]))
    system = enhancers.family("complex_mapping")(built, Stft(32, 16, "sqrt_hann"))
    system.enhance([speech_like(1.0, seed)[:15 * 16] for seed in range(5)])
    assert [shape[0] for shape in shapes] == [3, 2]


# --- What cannot be meant --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arguments", "message"), [
    ({"stages": 2, "blocks": 5}, "stages 2 and blocks 5: a progressive network has one block a stage; leave blocks out"),
    ({"emb": 5, "heads": 2}, "emb 5: a multiple of heads is expected, which is 2"),
    ({"hop": 5}, "hop 5: at most kernel is expected, which is 4"),
    ({"hop": 0}, "hop 0: a whole number is expected, at least 1"), ({"stages": 1.5}, "stages 1.5: a whole number is expected"),
    ({"level": "peak"}, "unknown level 'peak'; known: none, std")])
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        models.build("tfgridnet", **{"bins": 17, **arguments})


def test_arrays_that_do_not_fit_are_named(golden):
    arrays = golden_arrays(golden, "tfgridnet_dl_tiny")
    name = "w/tf_grid_blks.1.inter_rnn.weight_hh_l0"
    faulty = {**arrays, name: arrays[name][:-1], "w/de_conv.scale": np.ones(2)}
    del faulty["w/gln.bias"]
    with pytest.raises(UserError) as error:
        from_torch(faulty)
    assert str(error.value) == ("tfgridnet: the arrays lack gln.bias; tf_grid_blks.1.inter_rnn.weight_hh_l0 has the shape (19, 5), "
                                "expected (20, 5); nothing takes de_conv.scale")
    with pytest.raises(UserError, match="the arrays lack de_conv.0.weight, de_conv.0.bias, .*; nothing takes de_conv.bias, de_conv.weight"):
        from_torch(arrays, stages=2)
    with pytest.raises(UserError, match="tfgridnet: the arrays lack conv.weight, which tells its size; .* 1 have arrived"):
        from_torch({"x": np.ones(3), "kernel": np.ones(3)})
    with pytest.raises(UserError, match=r"tfgridnet: conv.weight has the shape \(3,\); 4 axes are expected"):
        from_torch({"conv.weight": np.ones(3)})
    bare = {name.removeprefix("w/"): array for name, array in arrays.items()}
    np.testing.assert_array_equal(from_torch(bare)[0].get_weights()[0], from_torch(arrays)[0].get_weights()[0])
