"""Weights of seorim0/DCCRN-with-various-loss-functions."""

import numpy as np

from se_keras.errors import UserError
from se_keras.models import STFTS
from se_keras.models.dccrn import dccrn
from se_keras.signals.stft import Stft
from se_keras.torch.arrays import TorchArrays


def from_torch(arrays, **arguments):
    """The network of the weights of seorim0/DCCRN-with-various-loss-functions, and its STFT.

    Args:
        arrays: {name: array}, a state dict as NumPy arrays, by the names of that repository, or each behind "w/". Left aside are names
            without a point, such as x and y; the weights of its STFT, which are fixed; and `num_batches_tracked`.
        arguments: of `dccrn`: mask, which no array tells. Sizes follow from the arrays.

    Returns:
        (keras.Model, Stft).

    Raises:
        UserError: arrays that are missing, unexpected or of another shape, with their names.
    """
    named = {name.removeprefix("w/"): array for name, array in arrays.items()}
    read = TorchArrays("dccrn", {name: array for name, array in named.items() if "." in name
                                 and not name.startswith(("stft.", "istft.")) and not name.endswith(".num_batches_tracked")})
    layers, rnn_layers = read.count("encoder."), max(read.count("enhance."), 1)
    channels = [2 * read.shape(f"encoder.{number}.0.real_conv.weight", 4)[0] for number in range(max(layers, 1))]
    *_, kernel_bins, kernel_frames = read.shape("encoder.0.0.real_conv.weight", 4)
    units = read.shape("enhance.0.real_lstm.weight_hh_l0", 2)[1]
    outputs, _ = read.shape(f"enhance.{rnn_layers - 1}.r_trans.weight", 2)
    innermost = 2 * outputs // channels[-1]
    sizes = {"bins": 1 + innermost * 2 ** layers, "channels": channels, "rnn_units": 2 * units, "rnn_layers": rnn_layers,
             "kernel": (kernel_bins, kernel_frames)}
    if told := [name for name in sizes if name in arguments]:
        raise UserError(f"dccrn: {', '.join(told)} given, which the arrays tell; leave it out")
    network = dccrn(**sizes, **arguments)
    for number in range(layers):
        _read_convolution(read, f"encoder.{number}", network, f"encoder_{number + 1}")
        _read_convolution(read, f"decoder.{number}", network, f"decoder_{number + 1}", activated=number + 1 < layers)
    for number in range(rnn_layers):
        _read_lstm(read, f"enhance.{number}", network.get_layer(f"lstm_{number + 1}"), (innermost, channels[-1] // 2))
    read.finish()
    return network, Stft.checked({**STFTS["dccrn"], "n_fft": 2 * (network.input_shape[0][2] - 1)})


def _read_convolution(read, name, network, part, activated=True):
    """Sets the weights of a convolution, and of the normalisation and activation behind it. PyTorch's images are (bins, frames)."""
    conv = network.get_layer(f"{part}_conv")
    for kind in ("real", "imag"):
        kernel = getattr(conv, f"{kind}_kernel")
        kernel.assign(read.take(f"{name}.0.{kind}_conv.weight", kernel.shape[::-1]).T)
        getattr(conv, f"{kind}_bias").assign(read.take(f"{name}.0.{kind}_conv.bias", (conv.filters // 2,)))
    if activated:
        kinds = ("weight", "bias", "running_mean", "running_var")
        network.get_layer(f"{part}_norm").set_weights([read.take(f"{name}.1.{kind}", (conv.filters,)) for kind in kinds])
        network.get_layer(f"{part}_prelu").set_weights([read.take(f"{name}.2.weight", (1,)).reshape(1, 1, 1)])


def _read_lstm(read, name, layer, image):
    """Sets the weights of a `ComplexLstm`. The first one's features and the last one's outputs are an image of (bins, channels), and stand
    channel by channel there, bin by bin here."""
    units, (bins, channels) = layer.units // 2, image

    def bin_by_bin(array):
        return array.reshape(channels, bins, -1).transpose(1, 0, 2).reshape(array.shape)

    for part, lstm in zip(("real", "imag"), layer.lstms, strict=True):
        features = lstm.cell.kernel.shape[0] - 1
        of_input, recurrent, bias_of_input, bias = (read.take(f"{name}.{part}_lstm.{kind}_l0", shape) for kind, shape in (
            ("weight_ih", (4 * units, features)), ("weight_hh", (4 * units, units)), ("bias_ih", (4 * units,)), ("bias_hh", (4 * units,))))
        of_input = of_input.T if name != "enhance.0" else bin_by_bin(of_input.T)
        lstm.set_weights([np.concatenate([of_input, bias_of_input[None]]), recurrent.T, bias])
    for part, projection in zip("ri", layer.projections, strict=False):
        kernel, bias = (read.take(f"{name}.{part}_trans.{kind}", shape) for kind, shape in (
            ("weight", (bins * channels, units)), ("bias", (bins * channels,))))
        projection.set_weights([bin_by_bin(kernel).T, bin_by_bin(bias)])
