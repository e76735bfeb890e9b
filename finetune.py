#!/usr/bin/env python
"""Fine-tune an enhancer through a Quality-Net, so that the score it predicts rises (equation 1 of the letter)."""

from pathlib import Path

from se_keras import cli, files, losses, pretrained
from se_keras.mixtures import manifest
from se_keras.recipes import finetuning, turns
from se_keras.scoring import evaluation
from se_keras.training import devices, hosts, runs

EXAMPLES = f"""
  python finetune.py --data data/demo --enhancer runs/blstm --quality-net runs/quality-net --out runs/blstm-qnet
  python finetune.py --data data/demo --enhancer runs/blstm --quality-net runs/quality-net --update replay --anchor --out runs/blstm-replay
      a Quality-Net that learns on in turns with the enhancer, each time beside what the enhancer of the start made of it
  python finetune.py --data data/demo --enhancer runs/blstm --preset metricgan-plus --out runs/blstm-metricgan-plus
      as MetricGAN+ has it: with a Quality-Net that begins from nothing (--quality-net new) and learns wide-band PESQ (--target)
  python finetune.py --data data/demo --enhancer runs/blstm --loss mse:1 --out runs/blstm-mse-on --compare runs/blstm-qnet
      on with MSE, for comparison: the letter's Fig. 2, with the run before it in the same figures
  python finetune.py --data data/demo --enhancer runs/blstm --quality-net runs/quality-net --loss quality:1,mse:0.5 --out runs/blstm-both

What the enhancer learns through:
  frozen       a Quality-Net that stays as it is (the letter)
  alternating  one that learns, every so many updates, how the enhancer's newest outputs truly score
  replay       and learns again from a bounded history of earlier outputs (MetricGAN)

Every so many iterations the validation set is enhanced and truly scored; the weights with the best true score are kept. Where the
predicted score goes on rising after the true one has turned, the enhancer fools Quality-Net, and the run stops. PESQ may rise at
the cost of intelligibility: --stoi-drop 0.005 keeps no weights that lose more STOI than that.

The run folder is a system for test.py and enhance.py. In it: index.html (before and after, to look at and listen to), history.csv,
predicted_and_true.png (the letter's Fig. 5), worst/ (the ten mixtures that Quality-Net overrates most), validation.csv, and, where it
learns on, the Quality-Net of the best weights, quality-net/.

Settings of --turns, with their defaults, one JSON object such as '{{"lag": 0, "round": 50}}'; in a preset, a table [finetune.turns]:
{turns.help_text()}
"""


def arguments(argv):
    parser = cli.parser(__doc__ + EXAMPLES)
    parser.inside = {"--turns": turns.SETTINGS}
    parser.add_argument("--data", default="data/demo", metavar="DIR", help="folder with train.jsonl and valid.jsonl (data/prepare.py)")
    parser.add_argument("--out", default="runs/blstm-qnet", metavar="RUN", help="run folder: config, weights, history, log, checkpoint")
    parser.add_argument("--preset", metavar="NAME", help=f"defaults from configs/NAME.toml: {', '.join(cli.presets())}")
    parser.add_argument("--enhancer", default="runs/blstm", metavar="RUN|NAME", help="the enhancer to start from")
    parser.add_argument("--model-args", default={}, type=cli.json_object, metavar="JSON",
                        help="arguments of its builder to change, such as '{\"mask_floor\": 0.05}'")
    parser.add_argument("--quality-net", default="runs/quality-net", metavar="RUN|NAME|new",
                        help="the Quality-Net to learn from; new: one from nothing, which --update must then teach")
    parser.add_argument("--target", metavar="TARGET", help="what a new one learns to predict, as in train.py")
    parser.add_argument("--loss", default="quality:1", metavar="TERM:WEIGHT,...",
                        help="weighted sum of terms: quality is (1 - Q)^2, quality_linear 1 - Q, which pulls as hard at good scores; mse:1 "
                             f"goes on as before, for comparison; known terms: {losses.KNOWN}")
    parser.add_argument("--update", default="frozen", choices=list(turns.STAGES_OF), help="what happens to Quality-Net meanwhile")
    parser.add_argument("--anchor", action="store_true",
                        help="show each mixture as the enhancer that it began from enhances it, too: Quality-Net learns what has changed")
    parser.add_argument("--iterations", type=cli.positive_int, default=100,
                        help="updates of the enhancer: more to gain, and more time to be fooled in")
    parser.add_argument("--batch", type=cli.positive_int, default=4, help="utterances in an update")
    parser.add_argument("--crop", type=cli.from_zero, default=0, metavar="SECONDS",
                        help="train on random pieces of this length: faster updates, of a judge that hears less; 0 for whole utterances")
    parser.add_argument("--learning-rate", type=cli.positive_float, default=1e-4, help="of the optimiser: the higher, the sooner fooled")
    parser.add_argument("--optimizer", default="rmsprop", choices=["rmsprop", "adam"], help="rmsprop is the letter's")
    parser.add_argument("--validate-every", type=cli.positive_int, default=5, metavar="ITERATIONS",
                        help="how often the validation set is truly scored, and the best weights are kept")
    parser.add_argument("--validation-rows", type=cli.positive_int, default=100, metavar="N",
                        help="validation mixtures that are scored each time: more, and the choice of weights is surer")
    parser.add_argument("--stop-fooled", type=cli.from_zero_int, default=3, metavar="N",
                        help="stop after N validations in a row with the predicted score above, and the true one below, where they stood "
                             "at the best true score; of a Quality-Net that learns on, only where it predicts too much; 0 for never")
    parser.add_argument("--stoi-drop", type=cli.from_zero, default=None, metavar="DROP",
                        help="keep no weights whose STOI on validation is more than this below where it began: what pleases PESQ alone "
                             "is no better; 0.005, say")
    parser.add_argument("--compare", nargs="+", default=[], metavar="RUN", help="other fine-tunings: all in one figure")
    parser.add_argument("--turns", default={}, type=cli.json_object, action=cli.MergeJson, metavar="JSON",
                        help="finer settings of Quality-Net's turns and of the training, listed above")
    cli.add_trust_argument(parser)
    devices.add_arguments(parser)
    cli.add_workers_argument(parser)
    parser.add_argument("--seed", type=cli.from_zero_int, default=0, help="of all draws")
    parser.add_argument("--deterministic", action="store_true", help="the same bits on every run, slower")
    typed, typed_turns = cli.typed(parser, argv), set(parser.parse_args(argv).turns)
    args = cli.parse(parser, {"finetune": parser}, argv)
    turns.settle(args, typed, typed_turns)
    turns.check(args)
    return args


def main(argv=None):
    args = arguments(argv)
    devices.check(args)
    pretrained.trust_cards(args.trust_card)
    objective = losses.parse(args.loss)
    turns.check_loss(args, objective)
    train_rows, valid_rows = (manifest.read(Path(args.data) / f"{split}.jsonl") for split in ("train", "valid"))
    manifest.check_splits({"train": train_rows, "valid": valid_rows})
    finetuning.check_models(args, objective)
    if not args.host_id:
        files.check_writable(args.out)
    with hosts.together(args):
        tune(args, objective, train_rows, valid_rows)


def tune(args, objective, train_rows, valid_rows):
    """Fine-tune, and leave a run folder.

    Args:
        args: of this script, checked.
        objective: `losses.Objective`.
        train_rows, valid_rows: manifest rows.
    """
    devices.start(args, finetuning.named_weights(args, objective))
    from se_keras.judges import diet, honesty
    from se_keras.mixtures.augment import Augmentation
    from se_keras.mixtures.feed import Feed
    from se_keras.scoring import scores
    from se_keras.training import examples, loop
    from se_keras.training.objective import objective_batch, objective_model, term_means, weighted_mean

    loop.seed_everything(args.seed, args.deterministic)
    enhancer, card = pretrained.load_enhancer(args.enhancer, **args.model_args)
    predictor, quality_arguments = finetuning.load_judge(args)
    target, out, cache = predictor.target, Path(args.out), Path(args.data) / "scores"
    args.loss = objective.text
    judges = {name: pretrained.load_quality_net(name) for name in objective.judges}
    model = objective_model(enhancer, objective, predictor, judges)
    logger = runs.open_run(out, finetuning.describe(args, enhancer, card, target, objective))
    loop.compile_model(model, loop.optimizer(args.optimizer, args.learning_rate), weighted_mean(objective), term_means(objective))
    valid_rows = evaluation.subset(valid_rows, args.validation_rows)
    train_rows = diet.raise_snr(train_rows, args.snr_raise, args.seed)
    feed = Feed(train_rows, args.batch, enhancer.config, seed=args.seed, crop_s=args.crop or None,
                augment=Augmentation.checked(args.augment))
    plan = loop.Plan(updates=args.iterations, validate_every=args.validate_every, learning_rate=args.learning_rate,
                     schedule=args.schedule, monitor="true" if args.stoi_drop is None else "allowed",
                     higher_is_better=target.higher_is_better, patience=args.patience,
                     checkpoint_s=args.checkpoint_every, validate_first=True)
    with (scores.Scorer(list(dict.fromkeys([*target.metrics, *finetuning.BESIDE])), cache=cache, workers=args.workers) as scorer,
          scores.Scorer(target.metrics, cache=cache, workers=args.workers) as labeller):
        began = runs.read_history(out)["stoi"][0] if (out / "history.csv").is_file() else None
        validate = honesty.HonestValidation(enhancer, predictor, valid_rows, scorer, args.stoi_drop, began)
        partner = None
        if args.update != "frozen":
            partner = finetuning.quality_rounds(args, enhancer, predictor, quality_arguments, feed, labeller, logger)

        def stop(history):  # a loss that does not ask Quality-Net cannot fool it
            return honesty.fooled(history, args.stop_fooled if objective.asks_judge else 0, target.higher_is_better,
                                  learning=args.update != "frozen")

        history = loop.train(model, feed, objective_batch, plan, out, logger, validate, enhancer.network, f"fine-tuning ({args.loss})",
                             partner, stop, objective.weights, examples.Examples(valid_rows, enhancer))
        enhancer.network.load_weights(out / runs.BEST)
        if partner is not None:
            predictor.network.load_weights(out / "quality-net" / runs.BEST)
        print(validate.write_worst(out / "worst"))
        print(finetuning.write_page(args, enhancer, predictor, valid_rows, scorer, history))
    runs.finish(out, history, "true", "" if args.stoi_drop is None else f" of those that lost at most {args.stoi_drop:g} STOI")
    finetuning.draw(args, history, target)


if __name__ == "__main__":
    cli.run(main)
