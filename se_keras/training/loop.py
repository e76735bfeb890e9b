"""The training loop that every network here goes through: checkpoints inside an epoch, exact resume, best weights kept.

A training model ends in what is to be made small, or in what a Keras loss turns into it; the loop feeds it batch k, k + 1, ...
of a `mixtures.feed.Feed` by `train_on_batch`, so it runs on every Keras backend and is at a known place in the data at every moment.
"""

import contextlib
import io
import json
import math
import signal
import threading
import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from se_keras import files
from se_keras.errors import UserError, check_choice
from se_keras.signals.audio import SAMPLE_RATE
from se_keras.training import runs, sharing
from se_keras.training.examples import MOST_TIMES
from se_keras.training.runs import BEST, LAST
from se_keras.weights import save_weights


@dataclass(frozen=True)
class Plan:
    """How long, how fast and what to watch.

    Attributes:
        updates: optimiser updates in all.
        validate_every: updates between validations (an epoch, where training counts in epochs).
        learning_rate: of the optimiser, at the start.
        schedule: "constant", or "cosine" (to zero at `updates`).
        monitor: the validation value that decides which weights are best.
        higher_is_better: its direction.
        patience: validations without a better value before training stops; None for never.
        checkpoint_s: seconds between checkpoints.
        validate_first: validate before the first update too.
    """

    updates: int
    validate_every: int
    learning_rate: float
    schedule: str = "constant"
    monitor: str = "valid_loss"
    higher_is_better: bool = False
    patience: int | None = None
    checkpoint_s: float = 120.0
    validate_first: bool = False

    def rate(self, step):
        """Learning rate of update `step`, counted from 0."""
        check_choice("schedule", self.schedule, ("constant", "cosine"))
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * step / self.updates))


def seed_everything(seed, deterministic=False):
    """Seed Python, NumPy and the backend; with `deterministic`, ops that give the same bits on every run (slower)."""
    import keras

    keras.utils.set_random_seed(seed)
    if deterministic:
        if keras.backend.backend() != "tensorflow":
            raise UserError(f"--deterministic needs the TensorFlow backend, this is {keras.backend.backend()}")
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def optimizer(name, learning_rate):
    """The optimiser "adam" or "rmsprop", each variable's gradient clipped to norm 1."""
    import keras

    return {"adam": keras.optimizers.Adam, "rmsprop": keras.optimizers.RMSprop}[name](learning_rate, clipnorm=1.0)


def compile_model(model, optimizer, loss, metrics=()):
    """`model.compile` as every training here wants it: XLA only where the backend has nothing else, kernels normalised on JAX too."""
    import keras

    from se_keras.models.layers import normalise_before_updates

    normalise_before_updates(model)
    model.compile(optimizer=optimizer, loss=loss, metrics=list(metrics), jit_compile=keras.backend.backend() == "jax")


def mean_output(_, y_pred):
    """Keras loss of a model whose output is the loss already, one value an utterance."""
    from keras import ops

    return ops.mean(y_pred)


def train(model, feed, prepare, plan, run, logger, validate, network, description="training", partner=None, stop=None, terms=None,
          examples=None):
    """Train until the plan is fulfilled, patience ends or Ctrl-C comes; go on from the run's checkpoint where there is one.

    Args:
        model: compiled keras.Model.
        feed: `mixtures.feed.Feed`.
        prepare: batch dict -> (x, y) for `model.train_on_batch`.
        plan: `Plan`.
        run: the run folder, opened by `runs.open_run`.
        logger: of that run.
        validate: () -> {name: float}, holding plan.monitor.
        network: keras.Model whose weights are the result, written to last.weights.h5 at each validation, and to
            best.weights.h5 when plan.monitor is better than before.
        description: of the progress bar.
        partner: what learns in turns with the model (`rounds.QualityRounds`); None for nothing. `partner.due(step)` says whether
            its turn comes before update `step`, `partner(step)` is that turn, `partner.variables` go into the checkpoint, and
            `partner.keep()` is called beside every keeping of the best weights. A turn that was interrupted is taken again.
        stop: history -> why training should end, in words, or None to go on; asked after each validation.
        terms: {name: weight} of the terms of the model's loss (`losses.Objective.weights`), each of which gets a column loss_NAME; of
            several, each is a metric of the model. None for a loss without terms.
        examples: `examples.Examples` for TensorBoard; the given ones at the first validation, the enhanced ones at up to
            `examples.MOST_TIMES`, evenly spaced, and at the last. None for none.

    Returns:
        The history: a list of dicts, one a validation, as in history.csv.

    Raises:
        UserError: the loss is not a number, or a weight is none after the update; the message names the batch's utterances.
    """
    run = Path(run)
    model.optimizer.build(model.trainable_variables)
    state = _State(run / "checkpoint.npz", model, partner.variables if partner else [])
    state.load()
    board = _TensorBoard(run / "tensorboard", examples, plan)
    if state.step:
        logger.info("goes on from update %d", state.step)
        runs.write_history(run / "history.csv", state.history)
    started = saved = time.monotonic()
    seconds_before = state.seconds
    bar = tqdm(total=plan.updates, initial=state.step, desc=description, unit="update")

    def validation():
        _validation(state, plan, run, logger, validate, network, board, feed.batches_per_epoch, description, partner)

    try:
        if state.due(plan):
            validation()
        why = state.why_stop(plan, stop)
        if why and state.step < plan.updates:
            tqdm.write(f"stopped at update {state.step} before: {why}")
        elif state.step < plan.updates:
            for batch in sharing.batches(feed, state.step, plan.updates):
                if partner is not None and partner.due(state.step):
                    state.save()
                    state.whole = False  # until the update after the turn, the file just written is what there is to go on from
                    partner(state.step)
                with _uninterrupted():
                    model.optimizer.learning_rate = plan.rate(state.step)
                    model.reset_metrics()
                    said = sharing.train_on_batch(model, *prepare(batch), lambda: len(feed.indices(state.step)))
                    loss = said["loss"]
                    if not (math.isfinite(loss) and _finite(model)):
                        what = "weights are not finite" if math.isfinite(loss) else f"the loss is {loss}"
                        ids = ", ".join(feed.rows[i].id for i in feed.indices(state.step))
                        raise UserError(f"{what} at update {state.step}; its utterances: {ids}. See whether one of them is damaged, or "
                                        "lower --learning-rate; the last checkpoint and the best weights are kept")
                    state.step += 1
                    state.whole = True
                    state.loss_sum += loss
                    state.loss_count += 1
                    for name, weight in (terms or {}).items():
                        state.term_sums[name] = state.term_sums.get(name, 0.0) + (said[name] if len(terms) > 1 else loss / weight)
                    state.seconds = seconds_before + time.monotonic() - started
                bar.update()
                bar.set_postfix(loss=f"{state.loss_sum / state.loss_count:.4f}", refresh=False)
                due = state.due(plan)
                if due or time.monotonic() - saved > plan.checkpoint_s:
                    state.save()
                    saved = time.monotonic()
                if due:
                    validation()
                    if why := state.why_stop(plan, stop):
                        said = f"stops at update {state.step}: {why}"
                        logger.info(said)
                        tqdm.write(said)
                        break
    except KeyboardInterrupt:
        if state.whole:
            state.save()
        logger.info("interrupted at update %d", state.step)
        raise
    finally:
        bar.close()
    return state.history


def _finite(model):
    """Whether the weights still are numbers. A gradient can be none while its loss is one, and then a later loss may look sound
    too: oneDNN's fused ReLU makes zeros of what is not a number."""
    from keras import ops

    return math.isfinite(sum(float(ops.convert_to_numpy(ops.sum(weight))) for weight in model.trainable_variables))


@contextlib.contextmanager
def _uninterrupted():
    """Ctrl-C waits for the end of the block: weights and the count of updates change together, or the checkpoint would lie."""
    handler, pressed = signal.getsignal(signal.SIGINT), []
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield  # Ctrl-C is ignored, or another thread's to handle
        return
    signal.signal(signal.SIGINT, lambda *caught: pressed.append(caught))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if pressed:
        handler(*pressed[0])


def _validation(state, plan, run, logger, validate, network, board, batches_per_epoch, description, partner):
    """Validate, keep the weights if they are the best so far, and save the checkpoint."""
    values = {name: float(value) for name, value in validate().items()}
    values = json.loads(sharing.from_first_host(json.dumps(values)))
    value = values[plan.monitor]
    better = math.isfinite(value) and (state.best is None or (value > state.best if plan.higher_is_better else value < state.best))
    row = {"update": state.step, "epoch": round(state.step / batches_per_epoch, 4),
           "loss": state.loss_sum / state.loss_count if state.loss_count else None,
           **{f"loss_{name}": total / state.loss_count for name, total in state.term_sums.items() if state.loss_count},
           "learning_rate": plan.rate(state.step),
           "seconds": round(state.seconds, 1), **values, "best": better}
    with _uninterrupted():
        save_weights(network, run / LAST)
        if better:
            state.best, state.best_step, state.wait = value, state.step, 0
            save_weights(network, run / BEST)
            if partner is not None:
                partner.keep()
        else:
            state.wait += 1
        state.loss_sum, state.loss_count, state.term_sums = 0.0, 0, {}
        state.history.append(row)
        runs.write_history(run / "history.csv", state.history)
        state.save()
    board.write(state.step, row, len(state.history))
    logger.info("%s", json.dumps(row))
    tqdm.write(f"{description}: " + "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))


class _State:
    """Where a training stands: everything that the next update depends on, in one file that is replaced at once."""

    def __init__(self, path, model, more=()):
        self.path, self.model, self.more, self.whole = path, model, more, True
        self.step, self.history, self.loss_sum, self.loss_count, self.term_sums = 0, [], 0.0, 0, {}
        self.best, self.best_step, self.wait, self.seconds = None, None, 0, 0.0

    def why_stop(self, plan, stop=None):
        """Why training ends before its last update; None where it does not."""
        if plan.patience is not None and self.wait >= plan.patience:
            return f"{plan.monitor} did not improve for {self.wait} validations"
        return stop(self.history) if stop is not None and self.history else None

    def due(self, plan):
        """Whether this step is one to validate after, and has not been: also after a kill in the middle of the validation."""
        if self.history and self.history[-1]["update"] == self.step:
            return False
        if self.step == 0:
            return plan.validate_first
        return self.step % plan.validate_every == 0 or self.step == plan.updates

    def _variables(self):
        return [*self.model.variables, *self.model.optimizer.variables, *self.more]  # weights, random seeds, optimiser; the partner's

    def save(self):
        scalars = {name: value for name, value in vars(self).items() if name not in ("path", "model", "more", "whole")}
        arrays = {str(i): np.asarray(variable) for i, variable in enumerate(self._variables())}
        buffer = io.BytesIO()
        np.savez(buffer, state=np.array(json.dumps(scalars)), **arrays)
        with files.replacing(self.path) as temporary:
            temporary.write_bytes(buffer.getvalue())

    def load(self):
        if not self.path.is_file():
            return
        damaged = f"{self.path}: damaged, it cannot be gone on from; name another --out, or delete it to start again"
        if not zipfile.is_zipfile(self.path):
            raise UserError(damaged)
        try:
            self._load()
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, TypeError, OSError, RecursionError) as error:
            raise UserError(f"{damaged} ({type(error).__name__}: {error})") from None
        except ValueError as error:  # arrays that are none, a state that is no JSON
            raise error if isinstance(error, UserError) else UserError(f"{damaged} ({error})") from None

    def _load(self):
        with np.load(self.path) as stored:
            variables = self._variables()
            if len(stored.files) != len(variables) + 1:
                raise UserError(f"{self.path}: holds {len(stored.files) - 1} variables, this training has {len(variables)}; "
                                "it belongs to another version or model: name another --out, or delete it")
            for i, variable in enumerate(variables):
                if stored[str(i)].shape != tuple(variable.shape):
                    raise UserError(f"{self.path}: variable {variable.path} has shape {stored[str(i)].shape}, here it is "
                                    f"{tuple(variable.shape)}; name another --out, or delete the file")
                variable.assign(stored[str(i)])
            state = json.loads(str(stored["state"]))
            if unknown := set(state) - set(vars(self)):
                raise ValueError(f"its state holds {', '.join(sorted(unknown))}")
            vars(self).update(state)


class _TensorBoard:
    """Scalars for TensorBoard, and what examples sound and look like; nothing where TensorFlow is not the backend."""

    def __init__(self, folder, examples, plan):
        import keras

        self.writer, self.examples, self.last = None, examples, plan.updates
        self.every = -(-(plan.updates // plan.validate_every) // MOST_TIMES) or 1  # validations from one hearing to the next
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            self.writer = tf.summary.create_file_writer(str(folder))

    def write(self, step, row, validations):
        """The row of a validation, the so manieth."""
        if self.writer is None:
            return
        import tensorflow as tf

        with self.writer.as_default(step=step):
            for name, value in row.items():
                if isinstance(value, float):
                    tf.summary.scalar(name, value)
            if self.examples is not None:
                if validations == 1:
                    self._write_examples(self.examples.given())
                if (validations - 1) % self.every == 0 or step >= self.last:
                    self._write_examples(self.examples.enhanced())
        self.writer.flush()

    def _write_examples(self, kinds):
        import tensorflow as tf

        for kind, waves in kinds.items():
            for place, wave in waves.items():
                wave, about = np.clip(wave, -1, 1)[None, :, None], self.examples.about[place]
                tf.summary.audio(f"{place}/{kind}", wave, SAMPLE_RATE, description=about)
            tf.summary.image(f"spectrograms/{kind}", self.examples.picture(waves)[None])
