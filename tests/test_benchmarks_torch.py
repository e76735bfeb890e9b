"""Benchmarks: the peers in PyTorch are the same networks."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="compares with PyTorch, which only the benchmarks need (benchmarks/requirements.txt)")

from benchmarks import measuring, training_steps  # noqa: E402
from benchmarks.training_steps import OURS, PEERS, STOCK  # noqa: E402


@pytest.fixture
def torch_networks():
    import keras

    from benchmarks import torch_networks

    keras.utils.set_random_seed(0)
    return torch_networks


def pair_of_spectra(*frames, bins=257):
    """Two spectra, float32 `(len(frames), max(frames), bins, 2)`, zero beyond each one's frames, and the frame mask."""
    rng = np.random.default_rng(0)
    mask = np.arange(max(frames)) < np.array(frames)[:, None]
    noisy, clean = (rng.standard_normal((*mask.shape, bins, 2)).astype(np.float32) * mask[..., None, None] for _ in range(2))
    return noisy, clean, mask


def test_quality_net_in_torch_gives_the_same_scores_and_normalises_its_kernels_alike(torch_networks):
    from se_keras import models

    noisy, clean, mask = pair_of_spectra(40, 33)
    inputs = [*(np.sqrt(np.square(spectrum).sum(-1)) for spectrum in (noisy, clean)), mask]
    ours = models.build("quality_net")
    peer = torch_networks.QualityNet().copy(ours)
    for training in (False, True, True):  # each call in training divides the stored kernels by their norm, and the vectors move on
        expected = np.asarray(ours(inputs, training=training))
        found = peer.train(training)(*map(torch.from_numpy, inputs)).detach().numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4)
    kernel = np.transpose(peer.convolutions[3].layer.weight.detach().numpy(), (2, 3, 1, 0))
    np.testing.assert_allclose(kernel, ours.get_layer("sn_conv_4").layer.kernel.numpy(), atol=1e-4)
    channels_last = torch_networks.QualityNet(channels_last=True).copy(ours).eval()(*map(torch.from_numpy, inputs))
    np.testing.assert_allclose(channels_last.detach().numpy(), np.asarray(ours(inputs, training=False)), atol=1e-4)


def test_blstm_in_torch_gives_the_same_masks(torch_networks):
    from se_keras import models

    noisy, _, mask = pair_of_spectra(20, 20)
    magnitude = np.sqrt(np.square(noisy).sum(-1))
    ours = models.build("blstm")
    found = torch_networks.Blstm().copy(ours).ratio_mask(torch.from_numpy(magnitude), torch.from_numpy(mask))
    np.testing.assert_allclose(found.detach().numpy(), np.asarray(ours([magnitude, mask])), atol=1e-4)


def test_gradients_are_the_same(torch_networks):
    """Of the losses that are trained on; kernels at the networks' far end, so that all between has its gradient too."""
    import tensorflow as tf

    from se_keras import losses, models
    from se_keras.enhancers.magnitude_mask import MaskEnhancer
    from se_keras.training.objective import objective_model

    noisy, clean, mask = pair_of_spectra(40, 40)
    magnitudes = [np.sqrt(np.square(spectrum).sum(-1)) for spectrum in (noisy, clean)]
    quality_net, blstm = models.build("quality_net"), models.build("blstm")
    torch_quality_net, torch_blstm = torch_networks.QualityNet().copy(quality_net).train(), torch_networks.Blstm().copy(blstm)
    cases = [(quality_net, [*magnitudes, mask], quality_net.get_layer("sn_conv_1").layer.kernel,
              torch_quality_net, torch_quality_net.convolutions[0].layer.weight, lambda gradient: gradient.permute(2, 3, 1, 0)),
             (objective_model(MaskEnhancer(blstm), losses.parse("mse")), {"noisy": noisy, "clean": clean, "frame_mask": mask},
              blstm.get_layer("blstm_1").weights[3],
              torch_blstm, torch_blstm.lstm.weight_ih_l0_reverse, torch.t)]
    for ours, inputs, kernel, peer, weight, as_ours in cases:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(ours(inputs, training=True) - 1))
        expected = tape.gradient(loss, kernel.value).numpy()
        arrays = inputs.values() if isinstance(inputs, dict) else inputs
        (peer(*map(torch.from_numpy, arrays)) - 1).square().mean().backward()
        np.testing.assert_allclose(as_ours(weight.grad).numpy(), expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("network", ["quality_net", "blstm"])
def test_every_contender_can_make_a_step(torch_networks, network):
    builders = {"quality_net": training_steps.quality_net_steps, "blstm": training_steps.blstm_steps}[network](1, 0.5, "float32")
    expected = (OURS, STOCK, *PEERS) if network == "quality_net" else (OURS, STOCK, PEERS[0])
    assert tuple(builders) == expected
    for build in builders.values():
        step = build()
        assert measuring.repeat(step, 1, 0.0)[0] == 2
