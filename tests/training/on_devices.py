"""A process of test_devices.py: a BLSTM, a Quality-Net, a DNN through it in turns, 20 updates each, validated after each."""

import argparse
import dataclasses
import logging
import os
import signal
import sys
from concurrent.futures import Future
from pathlib import Path

import numpy as np

from se_keras import cli, losses, models
from se_keras.mixtures import manifest
from se_keras.mixtures.feed import Feed
from se_keras.training import devices, hosts, runs

sys.modules["tensorflow"] = None  # seconds, for what no process here uses


class Scores:
    """In place of a `scores.Scorer`: of each mixture a score that its name decides, at once."""

    def submit(self, job):
        scored = Future()
        scored.set_result({"pesq_raw": 1.0 + sum(job.id.encode()) % 7 / 3})
        return scored


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data")
    parser.add_argument("--out")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--first", action="store_true", help="the first training alone")
    parser.add_argument("--die-after", type=int, help="the update of the first training after which host --dies is killed")
    parser.add_argument("--dies", type=int)
    parser.add_argument("--weights", help="what stands for the checksum of some")
    devices.add_arguments(parser)
    args = parser.parse_args()
    devices.check(args)
    return args


def main():
    args = arguments()
    with hosts.together(args):
        weights, args.weights = {"runs/mse": args.weights}, None  # no flag: it would differ as one
        devices.start(args, weights)
        learn(args)


def learn(args):
    from se_keras.enhancers.magnitude_mask import MaskEnhancer
    from se_keras.judges import diet, rounds, surrogate
    from se_keras.training import loop
    from se_keras.training.objective import objective_batch, objective_model, weighted_mean

    rows = manifest.read(Path(args.data) / "train.jsonl")
    rows = [*rows][:9]  # the last batch of an epoch holds one
    plan = loop.Plan(updates=args.updates, validate_every=1, learning_rate=1e-2, checkpoint_s=0)
    loop.seed_everything(0)
    enhancer = MaskEnhancer(models.build("blstm", units=3, dense_units=8))
    small = MaskEnhancer(models.build("dnn", units=4))
    network, learner = (models.build("quality_net", filters=[[2, 3], [2, 5]]) for _ in range(2))
    predictor = surrogate.QualityPredictor(network)
    pairs = diet.diet(rows, 1, perturbed=1)
    quality_feed = surrogate.QualityFeed(pairs, np.linspace(0.2, 0.9, len(pairs)), [small], args.batch, siblings=2)
    heard = np.random.default_rng(0).random((2, 128, 257)).astype(np.float32)  # a prediction that each validation makes

    def train(name, model, feed, prepare, network, predict, rate, partner=None):
        folder = Path(args.out) / name
        logger = runs.open_run(folder, {"network": name, "arguments": {}})

        def dying(batch):
            if args.dies is not None and (int(model.optimizer.iterations), args.host_id) == (args.die_after, args.dies):
                os.kill(os.getpid(), signal.SIGKILL)
            return prepare(batch)

        loop.train(model, feed, dying, dataclasses.replace(plan, learning_rate=rate), folder, logger,
                   lambda: {"valid_loss": float(np.mean(predict()))}, network, name, partner)

    def mask(of):
        return of.network.predict_on_batch([heard, np.ones((2, 128), bool)])

    def score():
        return learner.predict_on_batch({"degraded": heard, "clean": heard[::-1], "frame_mask": np.ones((2, 128), bool)})

    feed = Feed(rows, args.batch, crop_s=0.3, seed=1)
    objective = losses.parse("mse:1")
    model = objective_model(enhancer, objective)
    loop.compile_model(model, loop.optimizer("adam", 1e-2), weighted_mean(objective))
    train("enhancer", model, feed, objective_batch, enhancer.network, lambda: mask(enhancer), 1e-2)
    if args.first:
        return

    surrogate.compile_quality_net(learner, 1e-3, 2, 1.0)
    train("quality-net", learner, quality_feed, surrogate.quality_batch, learner, score, 1e-3)

    learner.set_weights(network.get_weights())  # as it was: the judge behind the enhancer
    objective = losses.parse("quality:1")
    model = objective_model(small, objective, predictor)
    loop.compile_model(model, loop.optimizer("rmsprop", 1e-3), weighted_mean(objective))
    surrogate.compile_quality_net(learner, 1e-3, 2, 1.0)
    turns = rounds.Turns(every=10, sample=3, stages=("historical", "current"), step_size=0.5, siblings=2, contrast=1.0,
                         diet={"perturbed": 0})  # a perturbation is drawn anew for weights that differ in their last bit
    folder = Path(args.out) / "turns"
    partner = rounds.QualityRounds(small, learner, predictor, feed, Scores(), turns, folder, logging.getLogger("turns"))
    train("turns", model, feed, objective_batch, small.network, lambda: mask(small), 1e-3, partner)


if __name__ == "__main__":
    cli.run(main)
