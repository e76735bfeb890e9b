#!/usr/bin/env python
"""Fine-tune an enhancer through a frozen Quality-Net, so that the score it predicts rises (equation 1 of the letter)."""

from pathlib import Path

from se_keras import backend, cli, evaluation, manifest, pretrained, runs
from se_keras.errors import UserError, check_choice

EXAMPLES = """
  python finetune.py --data data/demo --enhancer runs/blstm --quality-net runs/quality-net --out runs/blstm-qnet
  python finetune.py --data data/demo --enhancer runs/blstm --loss mse --out runs/blstm-mse-on      # the comparison of the letter's Fig. 2

Every so many iterations the validation set is enhanced and truly scored; the weights with the best true PESQ are kept. The
predicted score goes on rising after the true one has turned: that is the enhancer fooling Quality-Net.
"""


def arguments(argv):
    parser = cli.parser(__doc__ + EXAMPLES)
    cli.add_training_arguments(parser, out="runs/blstm-qnet", batch=4, learning_rate=1e-4, schedule="constant")
    parser.add_argument("--enhancer", default="runs/blstm", metavar="RUN|NAME", help="the enhancer to start from")
    parser.add_argument("--quality-net", default="runs/quality-net", metavar="RUN|NAME", help="the Quality-Net to learn from")
    parser.add_argument("--loss", default="quality", choices=["quality", "mse"],
                        help="quality: (1 - Q)^2; mse: go on as before, for comparison")
    parser.add_argument("--compression", default="log1p", help="scale of the MSE, as in train.py")
    parser.add_argument("--optimizer", default="rmsprop", choices=["rmsprop", "adam"])
    parser.add_argument("--iterations", type=cli.positive_int, default=100, help="updates of the enhancer")
    parser.add_argument("--validate-every", type=cli.positive_int, default=5, metavar="ITERATIONS")
    parser.add_argument("--validation-rows", type=cli.positive_int, default=100, metavar="N",
                        help="validation mixtures that are scored each time")
    parser.add_argument("--crop", type=cli.from_zero, default=0, metavar="SECONDS",
                        help="train on random pieces of this length; 0 for whole utterances")
    parser.add_argument("--snr-raise", type=cli.from_zero, default=0.0, metavar="DB",
                        help="every second mixture has its noise turned down by up to this much")
    parser.add_argument("--compare", metavar="RUN",
                        help="another fine-tuning, such as one with --loss mse: both in one figure (the letter's Fig. 2)")
    parser.add_argument("--workers", type=cli.positive_int, default=None, help="scoring processes; one a core by default")
    return cli.parse(parser, {"finetune": parser}, argv)


def main(argv=None):
    args = arguments(argv)
    train_rows, valid_rows = (manifest.read(Path(args.data) / f"{split}.jsonl") for split in ("train", "valid"))
    manifest.check_splits({"train": train_rows, "valid": valid_rows})
    pretrained.check_mask_networks([args.enhancer])
    pretrained.read_card(args.quality_net, "quality_net")
    cli.check_writable(args.out)
    if args.compare and "pesq_raw" not in runs.read_history(args.compare):
        raise UserError(f"{args.compare}: its history holds no pesq_raw; --compare takes another fine-tuning")

    backend.load()
    from se_keras import diet, scores, supervised, surrogate, training
    from se_keras.dataset import Feed
    from se_keras.models.layers import COMPRESSIONS
    from se_keras.report import figures

    check_choice("--compression", args.compression, COMPRESSIONS)
    training.seed_everything(args.seed, args.deterministic)
    network, card = pretrained.load(args.enhancer)
    predictor = pretrained.load_quality_net(args.quality_net)
    config = predictor.config
    valid_rows = evaluation.subset(valid_rows, args.validation_rows)
    weights = {name: pretrained.sha256(name) for name in (args.enhancer, args.quality_net)}
    logger = runs.open_run(args.out, runs.describe(args, card["network"], card["arguments"], config, weights=weights))
    if args.loss == "quality":
        model = surrogate.combined_model(network, predictor.network, predictor.representation, config)
        prepare, loss = surrogate.combined_batch, surrogate.quality_objective
    else:
        model, prepare, loss = supervised.mse_model(network, args.compression), supervised.mse_batch, training.mean_output
    training.compile_model(model, training.optimizer(args.optimizer, args.learning_rate), loss)
    feed = Feed(diet.raise_snr(train_rows, args.snr_raise, args.seed), args.batch, config, seed=args.seed, crop_s=args.crop or None)
    plan = training.Plan(updates=args.iterations, validate_every=args.validate_every, learning_rate=args.learning_rate,
                         schedule=args.schedule, monitor="pesq_raw", higher_is_better=True, patience=args.patience,
                         checkpoint_s=args.checkpoint_every, validate_first=True)
    with scores.Scorer(["pesq_raw", "stoi", "si_sdr"], cache=Path(args.data) / "scores", workers=args.workers) as scorer:
        validate = surrogate.HonestValidation(network, predictor, valid_rows, scorer)
        history = training.train(model, feed, prepare, plan, args.out, logger, validate, network, f"fine-tuning ({args.loss})")
    runs.finish(args.out, history, plan.monitor)
    column = {name: [row[name] for row in history] for name in ("update", "pesq_raw", "predicted")}
    best = max(history, key=lambda row: row["pesq_raw"])["update"]
    print(figures.predicted_and_true_by_iteration(column["update"], column["predicted"], column["pesq_raw"],
                                                  Path(args.out) / "predicted_and_true.png", best=best))
    if args.compare:
        lines = {f"{Path(run).name}, {runs.read_config(run)['training']['loss']} loss":
                 runs.read_history(run)[["update", "pesq_raw"]].to_numpy().T for run in (args.out, args.compare)}
        print(figures.true_pesq_by_iteration(lines, Path(args.out) / "true_pesq.png"))


if __name__ == "__main__":
    cli.run(main)
