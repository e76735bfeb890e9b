"""Weights of Acceleration123/Speech-Enhancement (TF-GridNet)."""

import numpy as np

from se_keras.models import STFTS
from se_keras.models.tfgridnet import GridNetBlock, tfgridnet
from se_keras.signals.stft import Stft
from se_keras.torch.arrays import TorchArrays


def from_torch(arrays, **arguments):
    """The network of Acceleration123/Speech-Enhancement's weights, and its STFT.

    Args:
        arrays: {name: array}, a state dict as NumPy arrays, by the names of that repository (`arrays.TorchArrays`). The decoder is
            `de_conv`; those of a progressive network, whose number is that of its stages, are `de_conv.0`, `de_conv.1`, ...
        arguments: of `tfgridnet`: hop, which no array tells. Sizes that contradict the arrays are refused.

    Returns:
        (keras.Model, Stft).

    Raises:
        UserError: arrays that are missing, unexpected or of another shape, with their names.
    """
    read = TorchArrays("tfgridnet", arrays)
    emb, phase_channels, *_ = read.shape("conv.weight", 4)
    block_sizes, width = _block_sizes(read, "tf_grid_blks.0.")
    sizes = {**block_sizes, "bins": width + 2, "emb": emb, "phase_channels": phase_channels, "stages": read.count("de_conv.") or 1,
             "blocks": read.count("tf_grid_blks."), **arguments}
    network = tfgridnet(**sizes)
    encoder, conv, norm = (network.get_layer(name) for name in ("phase_encoder", "conv", "norm"))
    for part in ("real", "imag"):
        name = f"phase_encoder.conv_{part}"
        getattr(encoder, f"{part}_kernel").assign(_image_kernel(read.take(f"{name}.weight", (phase_channels, 1, 3, 1))))
        getattr(encoder, f"{part}_bias").assign(read.take(f"{name}.bias", (phase_channels,)))
    conv.set_weights([_image_kernel(read.take("conv.weight", (emb, phase_channels, 3, 3))), read.take("conv.bias", (emb,))])
    norm.set_weights([read.take(f"gln.{part}", (emb,)) for part in ("weight", "bias")])
    for number in range(sizes["blocks"]):
        _read_block(read, f"tf_grid_blks.{number}.", network.get_layer(f"block_{number + 1}"))
        if sizes["stages"] > 1 or number + 1 == sizes["blocks"]:
            name = f"de_conv.{number}" if sizes["stages"] > 1 else "de_conv"
            network.get_layer(f"decoder_{number + 1}").set_weights([_image_kernel(read.take(f"{name}.weight", (emb, 2, 3, 3))),
                                                                   read.take(f"{name}.bias", (2,))])
    read.finish()
    return network, Stft(**{**STFTS["tfgridnet"], "n_fft": 2 * (width + 1), "hop_length": width + 1})


def block_from_torch(arrays, hop=1):
    """A GridNet block of PyTorch's weights.

    Args:
        arrays: {name: array} (`arrays.TorchArrays`): intra_norm.gamma and so on.
        hop: as `GridNetBlock`; no array tells it.

    Returns:
        A built `GridNetBlock`, of `bins` and `channels` as the arrays have them.

    Raises:
        UserError: as `from_torch`.
    """
    read = TorchArrays("GridNet block", arrays)
    sizes, width = _block_sizes(read, "")
    block = GridNetBlock(**sizes, hop=hop)
    block.build((None, None, width, read.shape("intra_norm.gamma", 4)[1]))
    _read_block(read, "", block)
    read.finish()
    return block


def _block_sizes(read, prefix):
    """({argument of `GridNetBlock`: value}, bins) of a block's arrays."""
    return {"hidden": read.shape(f"{prefix}intra_rnn.weight_hh_l0", 2)[1], "heads": read.count(f"{prefix}attn_conv_Q_"),
            "kernel": read.shape(f"{prefix}intra_linear.weight", 3)[2],
            "qk_features": read.shape(f"{prefix}attn_conv_Q_0.0.weight", 4)[0]}, read.shape(f"{prefix}attn_concat_proj.2.gamma", 4)[3]


def _image_kernel(array):
    """A kernel of images, `(filters, channels, rows, columns)` there (first two exchanged, where it is transposed), as Keras has it."""
    return array.transpose(2, 3, 1, 0)


def _read_block(read, prefix, block):
    """Sets the weights of a built `GridNetBlock`."""
    channels, hidden, kernel = block.channels, block.hidden, block.kernel
    for way, path in (("intra", block.intra), ("inter", block.inter)):
        name = f"{prefix}{way}_"
        path.norm.set_weights([read.take(f"{name}norm.{part}", (1, channels, 1, 1)).ravel() for part in ("gamma", "beta")])
        for layer, direction in ((path.blstm.forward_layer, ""), (path.blstm.backward_layer, "_reverse")):
            of_input, recurrent, bias_of_input, bias = (
                read.take(f"{name}rnn.{part}_l0{direction}", shape) for part, shape in (
                    ("weight_ih", (4 * hidden, channels * kernel)), ("weight_hh", (4 * hidden, hidden)), ("bias_ih", (4 * hidden,)),
                    ("bias_hh", (4 * hidden,))))
            of_input = of_input.T.reshape(channels, kernel, -1).transpose(1, 0, 2).reshape(kernel * channels, -1)  # cell by cell
            layer.set_weights([np.concatenate([of_input, bias_of_input[None]]), recurrent.T, bias])
        path.deconv.set_weights([read.take(f"{name}linear.weight", (2 * hidden, channels, kernel)).transpose(2, 1, 0),
                                 read.take(f"{name}linear.bias", (channels,))])
    for kind, projection in (("Q", block.query), ("K", block.key), ("V", block.value)):
        _read_projection(read, [f"{prefix}attn_conv_{kind}_{head}" for head in range(block.heads)], projection, block)
    _read_projection(read, [f"{prefix}attn_concat_proj"], block.context, block)


def _read_projection(read, names, projection, block):
    """Sets the weights of a `CellProjection` whose heads have names of their own."""
    features = projection.features
    kernel, bias, slope, gamma, beta = ([read.take(f"{name}.{part}", shape) for name in names] for part, shape in (
        ("0.weight", (features, block.channels, 1, 1)), ("0.bias", (features,)), ("1.weight", (1,)),
        ("2.gamma", (1, features, 1, block.bins)), ("2.beta", (1, features, 1, block.bins))))
    projection.dense.set_weights([np.concatenate(kernel)[:, :, 0, 0].T, np.concatenate(bias)])
    projection.slope.assign(np.stack(slope))
    projection.gamma.assign(np.stack([array[0, :, 0].T for array in gamma], axis=1))
    projection.beta.assign(np.stack([array[0, :, 0].T for array in beta], axis=1))
