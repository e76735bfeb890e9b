"""Quality-Net and the BLSTM in PyTorch: the same networks, normalisation, loss and optimiser as in se_keras, for comparing speed.

Both compute what the Keras ones do, to float32 rounding, once their weights are copied (tests/test_benchmarks.py). What PyTorch
offers and is faster is used: its fused Adam, its own LSTM over both layers and directions, and, if asked, channels last.
"""

import contextlib

import torch
from torch import nn
from torch.nn import functional as F

from se_keras.models.quality_net import FILTERS
from se_keras.signals.magnitudes import LOG_FLOOR


def rms_level(magnitude, frame_mask):
    """`se_keras.signals.magnitudes.rms_level`, without its care for digital silence."""
    valid = frame_mask[..., None].float()
    count = valid.sum((1, 2), keepdim=True) * magnitude.shape[-1]
    return ((magnitude.square() * valid).sum((1, 2), keepdim=True) / count).sqrt()


class SpectralNormalization(nn.Module):
    """A convolution or linear layer whose stored weight is divided by its spectral norm at every training step, as Keras does.

    (torch.nn.utils.parametrizations.spectral_norm keeps the raw weight, and differentiates through the norm too, which costs more.)
    """

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.register_buffer("vector_u", F.normalize(torch.randn(len(layer.weight)), dim=0))

    @torch.no_grad()
    def normalise(self):
        matrix = self.layer.weight.reshape(len(self.vector_u), -1)
        vector_v = F.normalize(self.vector_u @ matrix, dim=0)
        self.vector_u.copy_(F.normalize(matrix @ vector_v, dim=0))
        self.layer.weight.div_(self.vector_u @ matrix @ vector_v)

    def forward(self, x):
        return self.layer(x)


class QualityNet(nn.Module):
    """`se_keras.models.quality_net` with its default arguments; input of at least 29 frames.

    Args:
        precision: "float32" or "bfloat16", of the convolutions.
        channels_last: keep images in this memory order.
    """

    def __init__(self, precision="float32", channels_last=False):
        super().__init__()
        channels = (2, *(filters for filters, _ in FILTERS))
        self.convolutions = nn.ModuleList(SpectralNormalization(nn.Conv2d(channels[i], filters, size))
                                          for i, (filters, size) in enumerate(FILTERS))
        self.dense = nn.ModuleList(SpectralNormalization(nn.Linear(*sizes)) for sizes in ((channels[-1], 50), (50, 10), (10, 1)))
        self.field = sum(size - 1 for _, size in FILTERS)
        self.precision, self.order = precision, torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.order)

    def forward(self, degraded, clean, frame_mask):
        """Magnitudes float32 `(batch, frames, bins)`, bool `(batch, frames)` -> score float32 `(batch, 1)`."""
        if self.training:
            for layer in (*self.convolutions, *self.dense):
                layer.normalise()
        x = torch.log(torch.stack([degraded, clean], 1) / rms_level(clean, frame_mask)[:, None] + LOG_FLOOR)
        x = (x * frame_mask[:, None, :, None]).contiguous(memory_format=self.order)
        low = torch.autocast("cpu", torch.bfloat16) if self.precision == "bfloat16" else contextlib.nullcontext()
        with low:
            for layer in self.convolutions:
                x = F.leaky_relu(layer(x), 0.3)
        valid = frame_mask[:, self.field:].float()
        valid[:, 0] = 1  # as the Keras network: at least one frame an utterance
        x = (x.float().mean(3) * valid[:, None]).sum(2) / valid.sum(1, keepdim=True)
        for layer in self.dense[:-1]:
            x = F.leaky_relu(layer(x), 0.3)
        return self.dense[-1](x)

    @torch.no_grad()
    def copy(self, network):
        """Take over the weights of a Keras Quality-Net of the default architecture."""
        names = [f"sn_conv_{number}" for number in range(1, len(FILTERS) + 1)] + ["sn_dense_1", "sn_dense_2", "sn_score"]
        for name, ours in zip(names, (*self.convolutions, *self.dense), strict=True):
            theirs = network.get_layer(name)
            kernel, bias = (torch.tensor(value.numpy()) for value in (theirs.layer.kernel, theirs.layer.bias))
            ours.layer.weight.copy_(kernel.permute(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T)  # Keras: (height, width, in, out)
            ours.layer.bias.copy_(bias)
            ours.vector_u.copy_(torch.tensor(theirs.vector_u.numpy())[0])
        return self


class Blstm(nn.Module):
    """`se_keras.models.blstm` with its default arguments and the loss around it (`supervised.mse_model`).

    The LSTM runs over padding too, and its backward direction begins there: for batches without padding.
    """

    def __init__(self, bins=257, units=200, dense_units=300):
        super().__init__()
        self.lstm = nn.LSTM(bins, units, num_layers=2, bidirectional=True, batch_first=True)
        self.dense, self.mask = nn.Linear(2 * units, dense_units), nn.Linear(dense_units, bins)
        for name, bias in self.lstm.named_parameters():
            if name.startswith("bias_hh"):  # PyTorch's LSTM adds two biases, Keras's has one
                nn.init.zeros_(bias.requires_grad_(False))

    def ratio_mask(self, magnitude, frame_mask):
        """Magnitude float32 `(batch, frames, bins)`, bool `(batch, frames)` -> mask float32 `(batch, frames, bins)`."""
        valid = frame_mask[..., None].float()
        count = valid.sum(1, keepdim=True)
        x = torch.log(magnitude / rms_level(magnitude, frame_mask) + LOG_FLOOR)
        mean = (x * valid).sum(1, keepdim=True) / count
        variance = ((x - mean).square() * valid).sum(1, keepdim=True) / count
        x, _ = self.lstm((x - mean) / (variance + 1e-6).sqrt() * valid)
        return torch.sigmoid(self.mask(F.leaky_relu(self.dense(x), 0.3)))

    def forward(self, noisy, clean, frame_mask):
        """Spectra float32 `(batch, frames, bins, 2)`, bool `(batch, frames)` -> loss float32 `(batch,)`."""
        noisy, clean = (spectrum.square().sum(-1).sqrt() for spectrum in (noisy, clean))
        level = rms_level(noisy, frame_mask)
        enhanced = noisy * self.ratio_mask(noisy, frame_mask)
        error = (torch.log1p(enhanced / level) - torch.log1p(clean / level)).square().mean(-1)
        return (error * frame_mask).sum(1) / frame_mask.sum(1)

    @torch.no_grad()
    def copy(self, network):
        """Take over the weights of a Keras BLSTM of the default architecture."""
        for layer in range(2):
            weights = [torch.tensor(value) for value in network.get_layer(f"blstm_{layer + 1}").get_weights()]
            for suffix, (kernel, recurrent, bias) in (("", weights[:3]), ("_reverse", weights[3:])):
                getattr(self.lstm, f"weight_ih_l{layer}{suffix}").copy_(kernel.T)  # both order the gates i, f, c, o
                getattr(self.lstm, f"weight_hh_l{layer}{suffix}").copy_(recurrent.T)
                getattr(self.lstm, f"bias_ih_l{layer}{suffix}").copy_(bias)
        for ours, name in ((self.dense, "dense"), (self.mask, "mask")):
            kernel, bias = (torch.tensor(value) for value in network.get_layer(name).get_weights())
            ours.weight.copy_(kernel.T)
            ours.bias.copy_(bias)
        return self


def training_step(network, loss, learning_rate):
    """step(*NumPy arrays of `network`) -> loss, one update by Adam; `loss` takes the network's output."""
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, eps=1e-7, fused=True)
    network.train()

    def step(*arrays):
        optimizer.zero_grad()
        value = loss(network(*map(torch.from_numpy, arrays)))
        value.backward()
        optimizer.step()
        return value.item()

    return step


def quality_net_step(target, learning_rate, network):
    """`training_step` of a `QualityNet` by the mean squared error to `target`, float32 `(batch, 1)`."""
    target = torch.from_numpy(target)
    return training_step(network, lambda score: F.mse_loss(score, target), learning_rate)


def blstm_step(learning_rate, network):
    """`training_step` of a `Blstm`."""
    return training_step(network, torch.mean, learning_rate)
