"""Benchmarks: a crash, a missing package and a table are said as they should be."""

import json
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import pytest

from benchmarks import enhancing, hearing, measuring, pipeline, run, training_steps
from benchmarks.training_steps import OURS, PEERS, STOCK, Case


def test_stock_keras_is_that_without_what_is_faster_on_a_cpu():
    import keras

    from se_keras import backend
    from se_keras.models.dft_conv import LargeKernelConv2D
    from se_keras.models.recurrent import Bidirectional

    layers = Bidirectional(keras.layers.LSTM(4, return_sequences=True)), LargeKernelConv2D(4, 11)
    before = layers[0]._written_out(), layers[1]._dft_is_faster()
    with backend.portable():
        assert not layers[0]._written_out() and not layers[1]._dft_is_faster()
    assert (layers[0]._written_out(), layers[1]._dft_is_faster()) == before


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
    head = measuring.table([{**rows[0], "before": 111.0, "ratio before": 1.11}, rows[1]]).splitlines()[0]
    assert [cell.strip() for cell in head.strip("|").split("|")][2:6] == ["ours", "before", "peer", "ratio"]


def test_results_are_kept_by_topic(tmp_path):
    path = tmp_path / "results.json"
    for topic, ours in (("scores", 1.0), ("enhancing", 2.0), ("scores", 3.0)):
        run.keep(path, topic, {"date": "2026-01-02", "processor": "a processor"}, [measuring.row("x", "s", ours)])
    figures, machines = run.before(path, ["enhancing", "pipeline"])
    assert figures == {"x": {"before": 2.0, "ratio before": None}} and machines == ["2026-01-02, a processor"]
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
    row = pipeline._row(pipeline.CASES[0], records, None)
    assert (row["what"], row["ours"], row["peer"], row["ratio"]) == ("input pipeline, BLSTM, 32 x 3 s", 300.0, 100.0, 3.0)
    assert row["remark"].endswith("training from the pipeline runs at 90 utt/s, 90% of it")
    assert pipeline._row(pipeline.CASES[0], [], "crashed (SIGKILL)")["remark"] == "crashed (SIGKILL)"


def test_the_hearing_model_is_compared_with_the_step():
    records = [{"contender": name, "rate": rate} for name, rate in (("step", 100.0), ("hearing_nb", 1500.0), ("hearing_wb", 800.0))]
    narrow, wide = hearing.rows(records, None)
    assert (narrow["what"], narrow["ratio"], wide["ratio"]) == ("hearing_nb, value and gradient, 32 x 3 s", 15.0, 8.0)
    assert hearing.rows([], "crashed (SIGKILL)")[0]["remark"] == "crashed (SIGKILL)"
