"""DCCRN: parameter counts, golden values, padding and future left out, masks, weights of PyTorch, files, what cannot be meant."""

import json

import keras
import numpy as np
import pytest
from conftest import load_script

from se_keras import enhancers, models
from se_keras.errors import UserError
from se_keras.models.dccrn import ApplyMask, ComplexConv2D, ComplexConv2DTranspose, ComplexLstm, JoinParts, SplitParts, dccrn
from se_keras.models.macs import multiply_accumulates
from se_keras.signals.stft import Stft, stft
from se_keras.torch.dccrn import from_torch

networks = load_script("tests/golden/networks.py")
TINY = {"bins": 17, "channels": (4, 6), "rnn_units": 6}
VARIANTS = {"E": {}, "C": {"mask": "C", "rnn_layers": 1}, "R": {"mask": "R", "kernel": (3, 3), "rnn_layers": 3},
            "7 bins": {"kernel": (7, 1)}}
OWN = np.arange(8) < np.array([[8], [5]])
RNG = np.random.default_rng(0)


def network(variant="E"):
    """A tiny network with random weights and statistics, none of them at its start."""
    built = dccrn(**{**TINY, **VARIANTS[variant]})
    built.set_weights([0.5 + np.abs(array) if "variance" in weight.name else array for weight, array in (
        (weight, 0.5 * RNG.standard_normal(weight.shape)) for weight in built.weights)])
    return built


def spectra(*shape):
    return RNG.standard_normal((*shape, 17, 2)).astype(np.float32)


def of(layer, name):
    return keras.ops.convert_to_numpy(getattr(layer, name))


def run(built, spectrum):
    """The network's output for one spectrum without padding."""
    return keras.ops.convert_to_numpy(built([spectrum[None], np.ones((1, len(spectrum)), bool)]))[0]


@pytest.fixture(scope="module")
def arrays(golden):
    with np.load(golden / "dccrn_tiny_E.npz") as file:
        return dict(file)


# --- Counts and golden values ----------------------------------------------------------------------------------------------------


def test_parameters_are_those_of_the_full_size(golden):
    """By name and shape, the second bias of each LSTM among them."""
    info = json.loads((golden / "network_info.json").read_text())
    built, config = from_torch({name: np.zeros(shape, np.float32) for name, shape in info["DCCRN_state_shapes"].items()})
    trainable = sum(weight.numpy().size for weight in built.trainable_weights)
    assert trainable == info["DCCRN_params_full"] == 3_671_053
    assert built.count_params() - trainable == 2 * (32 + 64 + 128 + 3 * 256 + 2 * 256 + 128 + 64 + 32) == 3_456
    assert config == Stft(**models.STFTS["dccrn"]) and config.frames(48_000) == 483
    assert [weight.shape for weight in built.weights] == [weight.shape for weight in models.build("dccrn").weights]


def test_masks_spectrum_and_wave_are_those_of_pytorch(arrays):
    built, config = from_torch(arrays)
    spectrum = stft(arrays["x"][0], config)
    expected = np.stack(np.split(arrays["stft"][0], 2), axis=-1).transpose(1, 0, 2)
    np.testing.assert_allclose(spectrum, expected, atol=1e-5)

    both = keras.Model(built.inputs, keras.ops.stack([built.get_layer("give_dc").output, built.output], axis=1))
    mask, made = run(both, spectrum)
    for got, parts in ((mask, ("mask_real", "mask_imag")), (made, ("real", "imag"))):
        expected = np.stack([arrays[part][0] for part in parts], axis=-1).transpose(1, 0, 2)
        np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())
        assert (got[:, 0] == 0).all()
    y, = enhancers.family("complex_mapping")(built, config).enhance([arrays["x"][0]])
    np.testing.assert_allclose(y, arrays["y"][0], atol=1e-5)


@pytest.mark.parametrize("mask", ["C", "R"])
def test_other_masks_by_their_formulas(arrays, mask):
    """From the golden masks M and spectrum X: C is X M, R is Re X Re M + i Im X Im M; E turns and bounds."""
    built, config = from_torch(arrays, mask=mask)
    real, imag = np.split(arrays["stft"][0].astype(np.float64), 2)
    x, m = real + 1j * imag, arrays["mask_real"][0] + 1j * arrays["mask_imag"][0]
    made = (x * m if mask == "C" else x.real * m.real + 1j * x.imag * m.imag).T
    made = np.stack([made.real, made.imag], axis=-1)
    np.testing.assert_allclose(run(built, stft(arrays["x"][0], config)), made, atol=1e-5 * np.abs(made).max())


def test_mask_e_bounds_the_magnitude_and_adds_the_phase():
    x, m = (RNG.standard_normal(50) + 1j * RNG.standard_normal(50) for _ in range(2))
    m[0] = 0
    made = ApplyMask("E")(*(np.stack([z.real, z.imag], axis=-1).astype(np.float32) for z in (x, m)))
    expected = np.abs(x) * np.tanh(np.abs(m)) * np.exp(1j * (np.angle(x) + np.angle(m)))
    np.testing.assert_allclose(made, np.stack([expected.real, expected.imag], axis=-1), atol=1e-6)


@pytest.mark.parametrize("kernel", [(2, 5), (1, 3), (3, 7)])
@pytest.mark.parametrize("images", [1, 2])
def test_convolutions_are_those_of_pytorch(kernel, images):
    """Against NumPy: complex products of real convolutions, images (channels, bins, frames) there; real parts stand together there."""
    frames, bins = kernel
    x = RNG.standard_normal((1, 5, 8, 4 * images)).astype(np.float32)
    for layer in (ComplexConv2DTranspose(6, kernel, images=images), *([ComplexConv2D(6, kernel)] if images == 1 else [])):
        layer.build(x.shape)
        layer.set_weights([RNG.standard_normal(weight.shape) for weight in layer.get_weights()])
        parts = {part: (of(layer, f"{part}_kernel").T, of(layer, f"{part}_bias")) for part in ("real", "imag")}

        def convolve(half, part, layer=layer, parts=parts):
            if isinstance(layer, ComplexConv2D):
                half = np.pad(half, ((0, 0), (bins // 2, bins // 2), (frames - 1, 0)))
                return networks.conv2d(half, *parts[part], stride=(2, 1))
            made = networks.conv_transpose2d(half, *parts[part], stride=(2, 1))
            return made[:, bins // 2:bins // 2 + 16, frames - 1:]

        image = x[0].astype(np.float64).reshape(5, 8, images, 2, 2).transpose(3, 2, 4, 1, 0).reshape(-1, 8, 5)
        expected = networks.complex_product(convolve, image).transpose(2, 1, 0)
        made = layer(x)
        np.testing.assert_allclose(made[0], expected, atol=1e-5)
        assert layer.compute_output_shape(x.shape) == made.shape


def test_multiply_accumulates():
    """Four real products for a complex one; 7 frames of 16 bins, 2 -> 4 -> 6 channels, LSTMs of 3 units in each part."""
    frames = 7
    encoder = frames * 10 * (8 * 4 * 2 + 4 * 6 * 4)
    decoder = frames * 10 * (4 * 12 * 4 + 8 * 8 * 2)
    lstms = frames * 4 * 12 * ((12 + 3) + (3 + 3)) + frames * 2 * 3 * 12
    inputs = [spectra(1, frames), np.ones((1, frames), bool)]
    assert multiply_accumulates(network(), inputs) == encoder + decoder + lstms


# --- Padding, time, silence ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_utterance_in_a_padded_batch_comes_out_as_alone(variant):
    """What stands on the padding is not seen, and comes out zero."""
    built, lengths = network(variant), (1, 9, 16)
    batch = spectra(3, 16)
    frame_mask = np.arange(16) < np.array(lengths)[:, None]
    together = keras.ops.convert_to_numpy(built([batch, frame_mask]))
    assert (together[~frame_mask] == 0).all() and np.abs(together).max() > 0.1
    for spectrum, out, length in zip(batch, together, lengths, strict=True):
        np.testing.assert_allclose(out[:length], run(built, spectrum[:length]), atol=1e-5)


@pytest.fixture(scope="module")
def update():
    """(weights, batch, clean) -> weights after an update of a tiny network; two utterances of 8 and 5 frames."""
    built = dccrn(**TINY)
    built.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)

    def update(weights, batch, clean):
        built.set_weights(weights)
        assert np.isfinite(built.train_on_batch([batch, OWN], clean))
        return built.get_weights()

    return update


def test_padding_trains_nothing(update):
    """Batches that differ on their padding alone; statistics of batch normalisation included."""
    batch, start = spectra(2, 8), network().get_weights()
    one, other = (update(start, noisy, np.zeros_like(batch)) for noisy in (batch, np.where(OWN[..., None, None], batch, np.float32(7))))
    for a, b, before in zip(one, other, start, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
        assert (a != before).any() or a.ndim == 1  # biases before batch normalisation have no effect


@pytest.mark.parametrize(("variant", "ahead"), [("E", 2), ("R", 4), ("7 bins", 0)])
def test_no_frame_hears_more_of_the_future_than_the_decoder_looks_ahead(variant, ahead):
    """A change at frame 8 is heard from frame 8 - ahead on: layers x (frames of the kernel - 1)."""
    built, spectrum = network(variant), spectra(12)
    changed = spectrum.copy()
    changed[8] += 1
    moved = np.abs(run(built, changed) - run(built, spectrum)).max(axis=(1, 2))
    assert (moved[:8 - ahead] < 1e-6).all() and (moved[8 - ahead:] > 1e-4).all()


def test_silence_has_a_finite_output_and_gradient(update):
    built, silence = dccrn(**TINY), np.zeros((2, 8, 17, 2), np.float32)
    assert all(np.isfinite(weight).all() for weight in update(built.get_weights(), silence, silence + 1))
    assert (run(built, silence[0]) == 0).all()


def test_a_mask_of_zero_has_a_finite_gradient():
    """Where the magnitude of the mask is not differentiable, but what comes out is."""
    factor = keras.Input((3, 2), name="factor")
    model = keras.Model(factor, ApplyMask("E")(np.ones((1, 3, 2), np.float32), keras.layers.Dense(2, name="dense")(factor)))
    model.compile(keras.optimizers.SGD(1.0), "mse", jit_compile=False)
    model.get_layer("dense").set_weights([np.zeros((2, 2)), np.zeros(2)])
    model.train_on_batch(np.ones((1, 3, 2), np.float32), np.ones((1, 3, 2), np.float32))
    assert all(np.isfinite(weight).all() and np.abs(weight).max() > 0.1 for weight in model.get_weights())


# --- Weights of PyTorch, files ---------------------------------------------------------------------------------------------------


def state_dict(channels, units, rnn_layers, kernel, innermost):
    """Random arrays of a network of such sizes, by PyTorch's names; `units` of each part."""
    shapes, width, last = {}, innermost * channels[-1] // 2, rnn_layers - 1

    def add(prefix, **named):
        shapes.update({f"{prefix}.{name.replace('__', '.')}": shape for name, shape in named.items()})

    for number, (before, after) in enumerate(zip((2, *channels), channels, strict=False)):
        for side, place, ends, filters in (("encoder", number, (after // 2, before // 2), after),
                                           ("decoder", len(channels) - 1 - number, (after, before // 2), before)):
            for part in ("real", "imag"):
                add(f"{side}.{place}.0.{part}_conv", weight=(*ends, *kernel), bias=(filters // 2,))
            if (side, number) != ("decoder", 0):
                add(f"{side}.{place}", **{f"1__{kind}": (filters,) for kind in ("weight", "bias", "running_mean", "running_var")},
                    **{"1__num_batches_tracked": (), "2__weight": (1,)})
    for number in range(rnn_layers):
        for part in ("real", "imag"):
            add(f"enhance.{number}.{part}_lstm", weight_ih_l0=(4 * units, units if number else width), weight_hh_l0=(4 * units, units),
                bias_ih_l0=(4 * units,), bias_hh_l0=(4 * units,))
    for part in "ri":
        add(f"enhance.{last}.{part}_trans", weight=(width, units), bias=(width,))
    return {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def test_sizes_follow_from_the_arrays():
    """What is no weight is left aside: the fixed transforms, counters, names without a point."""
    given = state_dict((4, 6, 10), 5, 3, (3, 3), innermost=32)
    built, config = from_torch({**given, "x": np.ones(3), "stft.weight": np.ones(3), "istft.window": np.ones(3)}, mask="R")
    assert built.input_shape[0] == (None, None, 257, 2) and config == Stft(**models.STFTS["dccrn"])
    expected = dccrn(257, (4, 6, 10), 10, 3, "R", (3, 3))
    assert [weight.path for weight in built.weights] == [weight.path for weight in expected.weights]
    assert built.get_layer("masked").mask == "R"
    np.testing.assert_array_equal(built.get_layer("encoder_2_conv").real_kernel[2, 1, 0], given["encoder.1.0.real_conv.weight"][:, 0, 1, 2])
    _, config = from_torch(state_dict((4, 6), 5, 1, (5, 2), innermost=128))
    assert (config.bins, config.n_fft, config.win_length) == (513, 1024, 400)


def test_arrays_that_do_not_fit_are_named(arrays):
    faulty = {**arrays, "w/decoder.1.1.bias": np.ones(3), "w/encoder.0.1.Wrr": np.ones(2)}
    del faulty["w/enhance.1.i_trans.bias"]
    with pytest.raises(UserError) as error:
        from_torch(faulty)
    assert str(error.value) == ("dccrn: the arrays lack enhance.1.i_trans.bias; decoder.1.1.bias has the shape (3,), expected (4,); "
                                "nothing takes encoder.0.1.Wrr")
    with pytest.raises(UserError, match="the arrays lack enhance.0.real_lstm.weight_hh_l0, which tells its size"):
        from_torch({name: array for name, array in arrays.items() if "enhance" not in name})
    with pytest.raises(UserError, match="the arrays lack encoder.0.0.real_conv.weight, which tells its size; .* 0 have arrived"):
        from_torch({"x": np.ones(3)})
    with pytest.raises(UserError, match="dccrn: channels given, which the arrays tell; leave it out"):
        from_torch(arrays, channels=(4, 8))
    with pytest.raises(UserError, match="win_length 400: .* at most n_fft, which is 32"):
        from_torch(state_dict((4, 6), 5, 1, (5, 2), innermost=4))


def test_files_keep_everything(tmp_path):
    built, spectrum = network("R"), spectra(3)
    y = run(built, spectrum)
    built.save(tmp_path / "whole.keras")
    np.testing.assert_array_equal(run(keras.models.load_model(tmp_path / "whole.keras"), spectrum), y)
    built.save_weights(tmp_path / "some.weights.h5")
    again = network("R")
    again.load_weights(tmp_path / "some.weights.h5")
    np.testing.assert_array_equal(run(again, spectrum), y)


@pytest.mark.parametrize("layer", [ComplexConv2D(4, (3, 3)), ComplexConv2DTranspose(4, (3, 3), 2), ComplexLstm(6, 8), ComplexLstm(6),
                                   SplitParts(), JoinParts((4, 6)), ApplyMask("C")])
def test_configurations_come_back(layer):
    config = layer.get_config()
    assert type(layer).from_config(json.loads(json.dumps(config))).get_config() == config


def test_layers_are_named_by_no_counter():
    """A second network has the same fingerprint, whatever was built before."""
    one, other = (enhancers.family("complex_mapping")(dccrn(**TINY)) for _ in range(2))
    other.network.set_weights(one.network.get_weights())
    assert one.fingerprint == other.fingerprint


# --- What cannot be meant --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arguments", "message"), [
    ({"mask": "A"}, "unknown mask 'A'; known: E, C, R"),
    ({"channels": []}, r"dccrn: channels \[\]: even numbers are expected, one a layer"),
    ({"channels": [4, 5]}, r"dccrn: channels \[4, 5\]: even numbers are expected"),
    ({"rnn_units": 5}, "dccrn: rnn_units 5: an even number is expected"),
    ({"rnn_layers": 0}, "dccrn: rnn_layers 0: a whole number of layers is expected, at least 1"),
    ({"kernel": [4, 2]}, r"dccrn: kernel \[4, 2\]: \(bins, frames\) are expected, an odd number of bins from 3 on"),
    ({"bins": 161}, "dccrn: bins 161: 6 layers halve the 160 bins beside bin 0, which have to be a multiple of 64; take another"),
    ({"bins": 1}, "dccrn: bins 1: 6 layers halve the 0 bins")])
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(UserError, match=message) as error:
        models.build("dccrn", **arguments)
    assert "\n" not in str(error.value)
