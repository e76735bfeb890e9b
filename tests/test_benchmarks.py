"""Benchmarks: the peers in PyTorch are the same networks; a crash, a missing package and a table are said as they should be."""

import json
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
import pytest

from benchmarks import enhancing, measuring, pipeline, run, training_steps
from benchmarks.training_steps import OURS, PEERS, STOCK, Case


@pytest.fixture
def torch_networks():
    pytest.importorskip("torch", reason="compares with PyTorch, which only the benchmarks need (benchmarks/requirements.txt)")
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


# --- The same networks -----------------------------------------------------------------------------------------------------------


def test_quality_net_in_torch_gives_the_same_scores_and_normalises_its_kernels_alike(torch_networks):
    import torch

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
    import torch

    from se_keras import models

    noisy, _, mask = pair_of_spectra(20, 20)
    magnitude = np.sqrt(np.square(noisy).sum(-1))
    ours = models.build("blstm")
    found = torch_networks.Blstm().copy(ours).ratio_mask(torch.from_numpy(magnitude), torch.from_numpy(mask))
    np.testing.assert_allclose(found.detach().numpy(), np.asarray(ours([magnitude, mask])), atol=1e-4)


def test_gradients_are_the_same(torch_networks):
    """Of the losses that are trained on; kernels at the networks' far end, so that all between has its gradient too."""
    import tensorflow as tf
    import torch

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


def test_the_stock_layers_are_put_back():
    import keras

    from se_keras.models import dft_conv
    from se_keras.models.lstm import Bidirectional

    layer, before = Bidirectional(keras.layers.LSTM(4, return_sequences=True)), dft_conv.SMALLEST_KERNEL
    ours = layer._written_out()
    with training_steps._stock_layers():
        assert dft_conv.SMALLEST_KERNEL > 11 and not layer._written_out()
    assert dft_conv.SMALLEST_KERNEL == before and layer._written_out() == ours


# --- Processes -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module that a process started by `measuring.spawn` can import; returns its name."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(body):
        (tmp_path / "measured.py").write_text(f"import os, signal\n\ndef child(count):\n    yield {{'count': count}}\n    {body}\n")
        return "measured"

    return write


def test_records_come_back_from_a_process_on_so_many_cores_without_a_gpu(module):
    body = "print('noise of a library'); yield {'gpu': os.environ['CUDA_VISIBLE_DEVICES'], 'threads': os.environ['OMP_NUM_THREADS']}"
    assert measuring.spawn(module(body), 1, count=3) == ([{"count": 3}, {"gpu": "-1", "threads": "1"}], None)


def test_a_crash_and_an_error_keep_what_was_measured_and_say_what_happened(module):
    assert measuring.spawn(module("os.kill(os.getpid(), signal.SIGSEGV)"), 1, count=1) == ([{"count": 1}], "crashed (SIGSEGV)")
    assert measuring.spawn(module("raise ValueError('no memory left')"), 1, count=1) == (
        [{"count": 1}], "failed (ValueError: no memory left)")


# --- Rows and table --------------------------------------------------------------------------------------------------------------


def test_contenders_take_turns_and_their_rate_is_the_median():
    clock = iter([1.0, 2.0, 1.0, 4.0, 1.0, 5.0])
    turns = {"a": lambda: (10, next(clock)), "b": lambda: (10, next(clock))}
    records = list(measuring.alternate(turns, rounds=3))
    assert [record["contender"] for record in records] == ["a", "b"] * 3
    assert measuring.rates([{"warms": "a"}, *records]) == {"a": (10.0, 0.0), "b": (2.5, pytest.approx((5 - 2) / 2.5))}


def test_a_case_is_compared_with_the_faster_torch_and_beside_stock_keras():
    rates = {OURS: 30.0, STOCK: 12.0, PEERS[0]: 15.0, PEERS[1]: 20.0}
    row = training_steps.case_row(Case("quality_net", 2, 2.0), [{"contender": name, "rate": rate} for name, rate in rates.items()], None)
    assert row == {"what": "training step, Quality-Net, 2 x 2 s (126 frames), float32", "unit": "utt/s", "ours": 30.0, "peer": 20.0,
                   "ratio": 1.5, "stock Keras": 12.0, "aim": "ratio >= 1", "remark": "peer: PyTorch, channels last"}


def test_a_case_that_crashed_is_a_row_that_says_so():
    row = training_steps.case_row(Case("quality_net", 2, 2.0, "bfloat16"), [{"warms": OURS}], "crashed (SIGSEGV)")
    assert (row["ours"], row["ratio"], row["remark"]) == (None, None, "ours crashed (SIGSEGV)")


def test_the_table_is_markdown_without_empty_columns():
    rows = [measuring.row("a step", "utt/s", 123.456, 100.0, aim="ratio >= 1", remark="peer: PyTorch"),
            measuring.row("memory", "MB", 9.8765)]
    lines = measuring.table(rows).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["what", "unit", "ours", "peer", "ratio", "aim", "remark"]
    assert cells[2] == ["a step", "utt/s", "123", "100", "1.23", "ratio >= 1", "peer: PyTorch"]
    assert cells[3] == ["memory", "MB", "9.88", "", "", "", ""]


def test_results_are_kept_by_topic(tmp_path):
    path = tmp_path / "results.json"
    for topic, ours in (("scores", 1.0), ("enhancing", 2.0), ("scores", 3.0)):
        run.keep(path, topic, {"cores": 2}, [measuring.row("x", "s", ours)])
    results = json.loads(path.read_text())
    assert {topic: entry["rows"][0]["ours"] for topic, entry in results.items()} == {"scores": 3.0, "enhancing": 2.0}


def test_without_torch_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(run.UserError, match="pip install -r benchmarks/requirements.txt"):
        run.main(["--only", "training_steps"])


def test_noisy_speech_of_any_length_is_written(tmp_path):
    import soundfile as sf

    enhancing.write_speech(tmp_path / "noisy.wav", 25)
    info = sf.info(str(tmp_path / "noisy.wav"))
    assert (info.samplerate, info.channels, info.frames) == (16_000, 1, 25 * 16_000)
    assert enhancing.peak_mb() > 50


def test_a_pipeline_is_compared_with_the_step_and_both_together_are_said():
    records = [{"contender": name, "rate": rate} for name, rate in (("pipeline", 300.0), ("step", 100.0), ("both", 90.0))]
    row = pipeline._row("blstm", 32, records, None)
    assert (row["what"], row["ours"], row["peer"], row["ratio"]) == ("input pipeline, BLSTM, 32 x 3 s", 300.0, 100.0, 3.0)
    assert row["remark"].endswith("training from the pipeline runs at 90 utt/s, 90% of it")
    assert pipeline._row("blstm", 32, [], "crashed (SIGKILL)")["remark"] == "crashed (SIGKILL)"
