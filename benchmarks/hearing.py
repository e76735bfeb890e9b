"""The hearing model as a loss against the BLSTM's training step: value and gradient on the same batch, on the same cores."""

import functools

import numpy as np

from benchmarks import measuring, training_steps

BATCH, DURATION_S = 32, 3.0
TERMS = ("hearing_nb", "hearing_wb")


def run(quick, cores):
    """Rows of the table, a term each."""
    measuring.progress("the hearing model against the training step")
    records, failure = measuring.spawn(__name__, cores, rounds=2 if quick else 5, turn_s=1.0 if quick else 3.0)
    return rows(records, failure)


def rows(records, failure):
    """A row a term, from the records of `child`."""
    found = {name: rate for name, (rate, _) in measuring.rates(records).items()}
    return [measuring.row(f"{term}, value and gradient, {BATCH} x {DURATION_S:g} s", "utt/s", found.get(term), found.get("step"), None,
                          "ratio >= 10", failure or "peer: the BLSTM's training step by MSE") for term in TERMS]


def child(rounds, turn_s):
    """In a process of its own: each term and the step, by turns."""
    contenders = {"step": training_steps.blstm_steps(BATCH, DURATION_S, "float32")[training_steps.OURS](),
                  **{term: _term_step(term) for term in TERMS}}
    for step in contenders.values():  # the first call compiles
        step()
    yield from measuring.alternate({name: functools.partial(measuring.repeat, step, BATCH, turn_s) for name, step in contenders.items()},
                                   rounds)


def _term_step(term):
    """() -> step: loss of a batch and its gradient for the enhanced magnitude, as a fine-tuning takes it."""
    import tensorflow as tf

    from se_keras import losses

    made = training_steps.noise_spectra(BATCH, DURATION_S)
    clean, enhanced = (tf.constant(np.sqrt(np.square(made[name]).sum(-1))) for name in ("clean", "noisy"))
    mask = tf.constant(made["frame_mask"])
    function = losses.parse(term).terms[0].function

    @tf.function
    def value_and_gradient():
        with tf.GradientTape() as tape:
            tape.watch(enhanced)
            loss = tf.reduce_mean(function(clean, enhanced, mask))
        return loss, tape.gradient(loss, enhanced)

    return lambda: [part.numpy() for part in value_and_gradient()]
