"""Training: killed at any moment it ends as if never killed; early stopping, Ctrl-C, NaN, and the real script."""

import csv
import dataclasses
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from conftest import ROOT

from data import prepare
from se_keras import losses, models
from se_keras.enhancers.magnitude_mask import MaskEnhancer
from se_keras.errors import UserError
from se_keras.mixtures import manifest
from se_keras.signals.stft import Stft
from se_keras.training import loop
from se_keras.training.objective import objective_model, validation_loss

PLAN = loop.Plan(updates=6, validate_every=2, learning_rate=0.02, schedule="cosine", checkpoint_s=0.0)


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it is done."""


@dataclasses.dataclass
class Batches:
    """A feed of random vectors: batch k is a function of k."""

    poisoned: int | None = None
    on_batch: object = None
    batches_per_epoch: int = 2
    rows: list = dataclasses.field(default_factory=lambda: [manifest.Utterance(f"row-{i}", "c", "s", "n", 1) for i in range(4)])

    def indices(self, k):
        return np.array([k % 4, (k + 1) % 4])

    def batches(self, start, stop):
        for k in range(start, stop):
            x = np.random.default_rng(k).standard_normal((2, 3)).astype(np.float32)
            if self.on_batch:
                self.on_batch(k)
            yield {"x": x * (np.nan if k == self.poisoned else 1), "y": x.sum(axis=1, keepdims=True)}


class Tiny:
    """A network with dropout that is trained again and again from the same start, without being built again."""

    def __init__(self):
        keras.utils.set_random_seed(5)
        layers = [keras.Input((3,)), keras.layers.Dense(6, "relu"), keras.layers.Dropout(0.3), keras.layers.Dense(1)]
        self.model = keras.Sequential(layers, name="tiny")
        loop.compile_model(self.model, keras.optimizers.Adam(0.02), "mse")
        self.model.optimizer.build(self.model.trainable_variables)
        self.start = [variable.numpy() for variable in self.variables]
        self.x = np.random.default_rng(99).standard_normal((8, 3)).astype(np.float32)
        self.scores = None  # what validations say, instead of the loss

    @property
    def variables(self):
        return [*self.model.variables, *self.model.optimizer.variables]

    def validate(self):
        if self.scores is not None:
            return {"valid_loss": next(self.scores)}
        return {"valid_loss": float(np.mean((np.asarray(self.model(self.x))[:, 0] - self.x.sum(axis=1)) ** 2))}

    def train(self, run, plan=PLAN, feed=None, validate=None, stop=None):
        """As a fresh process would: from the seed's weights, or from what the run folder holds."""
        for variable, value in zip(self.variables, self.start, strict=True):
            variable.assign(value)
        run.mkdir(exist_ok=True)
        return loop.train(self.model, feed or Batches(), lambda batch: (batch["x"], batch["y"]), plan, run, logging.getLogger("test"),
                              validate or self.validate, self.model, stop=stop)

    def result(self, run):
        """Everything that a run ends in, but the seconds it took."""
        with open(run / "history.csv") as file:
            history = [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]
        last = [variable.numpy().tobytes() for variable in self.variables]
        self.model.load_weights(run / "best.weights.h5")
        return history, last, [weight.tobytes() for weight in self.model.get_weights()]


@pytest.fixture(scope="module")
def tiny():
    return Tiny()


@pytest.fixture(autouse=True)
def no_scores_left(tiny):
    yield
    tiny.scores = None


@pytest.fixture(scope="module")
def uninterrupted(tiny, tmp_path_factory):
    run = tmp_path_factory.mktemp("uninterrupted")
    tiny.train(run)
    return tiny.result(run)


def test_a_reason_to_stop_stops_the_run_and_its_successor(tiny, tmp_path, capsys):
    asked = []

    def stop(history):
        asked.append([row["update"] for row in history])
        return "it is enough" if len(history) >= 2 else None

    plan = dataclasses.replace(PLAN, updates=20, validate_every=2)
    assert [row["update"] for row in tiny.train(tmp_path, plan, stop=stop)] == [2, 4] and asked == [[2], [2, 4]]
    assert "stops at update 4: it is enough" in capsys.readouterr().out
    assert len(tiny.train(tmp_path, plan, stop=stop)) == 2  # the same command again changes nothing
    assert "stopped at update 4 before: it is enough" in capsys.readouterr().out
    assert [row["update"] for row in tiny.train(tmp_path, dataclasses.replace(plan, updates=6))] == [2, 4, 6]  # unless told to go on


def test_learning_rates():
    """Half of the rate in the middle of a cosine, nothing at its end."""
    assert [PLAN.rate(step) for step in (0, 3, 6)] == pytest.approx([0.02, 0.01, 0])
    assert dataclasses.replace(PLAN, schedule="constant").rate(5) == 0.02
    with pytest.raises(UserError, match="unknown schedule 'linear'; known: constant, cosine"):
        dataclasses.replace(PLAN, schedule="linear").rate(0)


def test_history_and_best_weights(tiny, tmp_path):
    tiny.scores = iter([3.0, 1.0, 2.0])
    history = tiny.train(tmp_path)
    assert [(row["update"], row["valid_loss"], row["best"]) for row in history] == [(2, 3.0, True), (4, 1.0, True), (6, 2.0, False)]
    assert [row["learning_rate"] for row in history] == pytest.approx([PLAN.rate(step) for step in (2, 4, 6)])
    with open(tmp_path / "history.csv") as file:
        assert [row["valid_loss"] for row in csv.DictReader(file)] == ["3.0", "1.0", "2.0"]
    last = tiny.model.get_weights()
    tiny.model.load_weights(tmp_path / "best.weights.h5")
    assert any((a != b).any() for a, b in zip(last, tiny.model.get_weights(), strict=True))  # those of update 4
    tiny.model.load_weights(tmp_path / "last.weights.h5")
    assert all((a == b).all() for a, b in zip(last, tiny.model.get_weights(), strict=True))
    assert list((tmp_path / "tensorboard").iterdir())


def test_higher_may_be_better_and_the_start_may_be_best(tiny, tmp_path):
    tiny.scores = iter([2.5, 2.4, 2.6, float("nan")])
    history = tiny.train(tmp_path, dataclasses.replace(PLAN, higher_is_better=True, validate_first=True))
    assert [(row["update"], row["best"]) for row in history] == [(0, True), (2, False), (4, True), (6, False)]
    assert history[0]["loss"] is None


def test_early_stopping_counts_over_interruptions(tiny, tmp_path):
    plan = dataclasses.replace(PLAN, updates=20, patience=2)
    tiny.scores = iter([1.0, 2.0])
    with pytest.raises(StopIteration):  # stands for a crash in the third validation, after one without a better value
        tiny.train(tmp_path, plan)
    tiny.scores = iter([3.0])
    assert [row["update"] for row in tiny.train(tmp_path, plan)] == [2, 4, 6]
    assert [row["update"] for row in tiny.train(tmp_path, plan)] == [2, 4, 6]  # and it stays stopped
    tiny.scores = iter([0.5, 0.6, 0.7, 0.8])
    assert [row["update"] for row in tiny.train(tmp_path, dataclasses.replace(plan, patience=3))][-1] == 14  # unless told to go on


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_around_any_file_it_ends_as_if_never_killed(tiny, uninterrupted, tmp_path, monkeypatch, moment):
    """A kill matters only by which files were replaced before it: so one before and one after each of them, then one run to the end."""
    replace, left = os.replace, [0]

    def kill_when_due(source, target):
        left[0] -= 1
        if left[0] == 0 and moment == "before":
            raise Killed
        replace(source, target)
        if left[0] == 0:
            raise Killed

    monkeypatch.setattr(os, "replace", kill_when_due)
    for number in range(1, 100, 2 if moment == "after" else 1):
        run, left[0] = tmp_path / str(number), number
        try:
            tiny.train(run)
        except Killed:
            left[0] = 0
            tiny.train(run)
            assert tiny.result(run) == uninterrupted, f"killed {moment} file {number}"
            assert not [path.name for path in run.iterdir() if path.name.startswith(".")]  # nothing half-written stays
        else:
            break
    assert number > 12  # six updates, three validations with history, checkpoint and sometimes weights


def test_killed_again_and_again(tiny, uninterrupted, tmp_path):
    def kill(k):
        raise Killed

    plan = dataclasses.replace(PLAN, checkpoint_s=1e9)  # no checkpoint but those of validations
    for updates in (1, 3, 5):
        feed = Batches(on_batch=lambda k, updates=updates: kill(k) if k == updates else None)
        with pytest.raises(Killed):
            tiny.train(tmp_path, plan, feed)
    tiny.train(tmp_path, plan)
    assert tiny.result(tmp_path) == uninterrupted


@pytest.mark.parametrize("update", [0, 1, 3, 5])
def test_ctrl_c_lets_an_update_end_and_is_gone_on_from(tiny, uninterrupted, tmp_path, monkeypatch, update):
    """An update that has changed the weights but is not counted would be done twice."""
    train_on_batch = tiny.model.train_on_batch

    def interrupted(*batch, **options):
        if len(seen) == update:
            signal.raise_signal(signal.SIGINT)
        seen.append(batch)
        return train_on_batch(*batch, **options)

    seen = []
    monkeypatch.setattr(tiny.model, "train_on_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tiny.train(tmp_path)
    assert len(seen) == update + 1
    with np.load(tmp_path / "checkpoint.npz") as stored:
        assert json.loads(str(stored["state"]))["step"] == update + 1
    tiny.train(tmp_path)
    assert len(seen) == 6 and tiny.result(tmp_path) == uninterrupted


def test_ctrl_c_in_a_validation_stops_at_once_and_the_validation_is_made_up(tiny, uninterrupted, tmp_path):
    def interrupted():
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("went on")

    with pytest.raises(KeyboardInterrupt):
        tiny.train(tmp_path, validate=interrupted)
    tiny.train(tmp_path)
    assert tiny.result(tmp_path) == uninterrupted


def test_more_updates_go_on_where_fewer_ended(tiny, tmp_path):
    constant = dataclasses.replace(PLAN, schedule="constant")
    tiny.train(tmp_path / "whole", constant)
    expected = tiny.result(tmp_path / "whole")
    tiny.train(tmp_path / "grown", dataclasses.replace(constant, updates=2))
    tiny.train(tmp_path / "grown", constant)
    assert tiny.result(tmp_path / "grown") == expected


@pytest.mark.parametrize("activation, what", [("linear", "the loss is nan"), ("relu", "(the loss is nan|weights are not finite)")])
def test_what_is_no_number_stops_with_its_utterances(tmp_path, activation, what):
    """A fused ReLU may make a sound loss of an input that is not a number; the weights then tell."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(6, activation), keras.layers.Dense(1)])
    loop.compile_model(model, keras.optimizers.Adam(), "mse")
    with pytest.raises(UserError, match=f"{what} at update 3; its utterances: row-3, row-0. See whether one of them is damaged"):
        loop.train(model, Batches(poisoned=3), lambda batch: (batch["x"], batch["y"]), PLAN, tmp_path, logging.getLogger("test"),
                       lambda: {"valid_loss": 0.0}, model)
    with np.load(tmp_path / "checkpoint.npz") as stored:  # from before it
        assert json.loads(str(stored["state"]))["step"] == 3
        assert all(np.isfinite(stored[name]).all() for name in stored.files if name != "state")


@pytest.mark.parametrize("units, message", [((5, 5), "holds [0-9]+ variables, this training has [0-9]+; it belongs to another"),
                                            ((5,), r"variable .*kernel has shape \(3, 6\), here it is \(3, 5\)")])
def test_a_checkpoint_of_another_model(tiny, tmp_path, units, message):
    tiny.train(tmp_path)
    layers = [layer for unit in units for layer in (keras.layers.Dense(unit), keras.layers.Dropout(0.3))][:2 * len(units)]
    model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(1)])
    loop.compile_model(model, keras.optimizers.Adam(), "mse")
    with pytest.raises(UserError, match=f"checkpoint.npz: {message}"):
        loop.train(model, Batches(), None, PLAN, tmp_path, logging.getLogger("test"), None, model)


def test_a_damaged_checkpoint(tiny, tmp_path):
    (tmp_path / "checkpoint.npz").write_bytes(b"PK half")
    with pytest.raises(UserError, match="checkpoint.npz: damaged, .* delete it to start again"):
        tiny.train(tmp_path)


# --- The real script -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    prepare.main(["folders", "--speech", str(tree / "S"), "--noise", str(tree / "N"), "--out", str(folder), "--snr-train", "0", "5",
                  "--snr-valid", "0", "--snr-test", "0"])
    return folder


def test_validation_counts_each_utterance_once_and_whole(data):
    """The mean over utterances, though they go in batches of unequal size and length."""
    rows = manifest.read(data / "train.jsonl")[:5]
    keras.utils.set_random_seed(0)
    objective = losses.parse("mse:2,si_snr:0.1")
    model = objective_model(MaskEnhancer(models.build("dnn", units=4, context=1)), objective)
    each = [validation_loss(model, objective, [row], Stft()) for row in rows]
    alone, together = [values["valid_loss"] for values in each], validation_loss(model, objective, rows, Stft(), batch_size=2)
    assert together["valid_loss"] == pytest.approx(np.mean(alone), rel=1e-5)
    assert together["valid_loss"] == pytest.approx(2 * together["valid_mse"] + 0.1 * together["valid_si_snr"], rel=1e-6)
    assert np.ptp(alone) > 0


def start(data, run):
    """`train.py enhancer` on the tiny corpus: 3 epochs of 8 updates, a checkpoint after each."""
    command = [sys.executable, ROOT / "train.py", "enhancer", "--data", data, "--out", run, "--model", "dnn", "--model-args",
               '{"units": 8, "context": 1}', "--epochs", "3", "--batch", "2", "--crop", "0.5", "--checkpoint-every", "0", "--workers", "1",
               "--deterministic"]
    return subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def step_of(run):
    """The update that the run's checkpoint is from; its file is replaced at once, so it can be read at any time."""
    try:
        with np.load(run / "checkpoint.npz") as stored:
            return json.loads(str(stored["state"]))["step"]
    except FileNotFoundError:
        return 0


def stop(process, run, step, number):
    """Send a signal a random moment after the checkpoint of `step`; the exit code, and what was printed."""
    deadline = time.monotonic() + 300
    while step_of(run) < step and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(0.03 * random.random())
    process.send_signal(number)
    said, _ = process.communicate(timeout=300)
    return process.returncode, said


def test_the_script_killed_and_interrupted_ends_as_one_that_never_was(data, tmp_path):
    """SIGKILL at a random moment, then Ctrl-C at one: the same weights bit for bit, the same history but for the seconds."""
    never, run = start(data, tmp_path / "never"), tmp_path / "run"
    killed, interrupted = random.randint(1, 11), random.randint(12, 20)
    code, said = stop(start(data, run), run, killed, signal.SIGKILL)
    assert code == -signal.SIGKILL and killed <= step_of(run) < 24, said
    code, said = stop(start(data, run), run, interrupted, signal.SIGINT)
    assert code == 130 and "interrupted; the same command goes on" in said and "Traceback" not in said, said
    assert interrupted <= step_of(run) < 24
    for process in (never, start(data, run)):
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0 and "; weights in " in said, said

    with np.load(tmp_path / "never" / "checkpoint.npz") as expected, np.load(run / "checkpoint.npz") as got:
        assert expected.files == got.files and len(got.files) > 10
        for name in set(got.files) - {"state"}:
            assert got[name].tobytes() == expected[name].tobytes(), name
    histories = []
    for folder in (tmp_path / "never", run):
        with open(folder / "history.csv") as file:
            histories.append([{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)])
    assert histories[0] == histories[1] and [row["update"] for row in histories[0]] == ["8", "16", "24"]
    networks = [models.build("dnn", units=8, context=1) for _ in range(2)]
    for network, folder in zip(networks, (tmp_path / "never", run), strict=True):
        network.load_weights(folder / "best.weights.h5")
    for a, b in zip(*(network.get_weights() for network in networks), strict=True):
        assert a.tobytes() == b.tobytes()
    assert "goes on from update" in (run / "run.log").read_text()
    assert not [path.name for path in run.iterdir() if path.name.startswith(".")]
