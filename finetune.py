#!/usr/bin/env python
"""Fine-tune an enhancer through a Quality-Net, so that the score it predicts rises (equation 1 of the letter)."""

from pathlib import Path

from se_keras import backend, cli, files, models, pretrained
from se_keras.errors import UserError, check_choice
from se_keras.judges import targets
from se_keras.mixtures import manifest
from se_keras.scoring import evaluation
from se_keras.signals.stft import Stft
from se_keras.training import runs

EXAMPLES = """
  python finetune.py --data data/demo --enhancer runs/blstm --quality-net runs/quality-net --out runs/blstm-qnet
  python finetune.py --data data/demo --enhancer runs/blstm --quality-net runs/quality-net --update replay --anchor --out runs/blstm-replay
      a Quality-Net that learns on in turns with the enhancer, each time beside what the enhancer of the start made of it
  python finetune.py --data data/demo --enhancer runs/blstm --preset metricgan-plus --out runs/blstm-metricgan-plus
      as MetricGAN+ has it: with a Quality-Net that begins from nothing (--quality-net new) and learns wide-band PESQ (--target)
  python finetune.py --data data/demo --enhancer runs/blstm --loss mse --out runs/blstm-mse-on --compare runs/blstm-qnet
      on with MSE, for comparison: the letter's Fig. 2, with the run before it in the same figures

What the enhancer learns through:
  frozen       a Quality-Net that stays as it is (the letter)
  alternating  one that learns, every so many updates, how the enhancer's newest outputs truly score
  replay       and learns again from a bounded history of earlier outputs (MetricGAN)

Every so many iterations the validation set is enhanced and truly scored; the weights with the best true score are kept. Where the
predicted score goes on rising after the true one has turned, the enhancer fools Quality-Net, and the run stops. PESQ may rise at
the cost of intelligibility: --stoi-drop 0.005 keeps no weights that lose more STOI than that.

The run folder is a system for test.py and enhance.py. In it: history.csv, predicted_and_true.png (the letter's Fig. 5), worst/ (the ten
mixtures that Quality-Net overrates most, to listen to), and, where it learns on, the Quality-Net of the best weights, quality-net/.
"""
UPDATES = {"frozen": (), "alternating": ("current",), "replay": ("historical", "current")}  # stages of a round of Quality-Net
BESIDE = ("pesq_raw", "stoi", "si_sdr")  # measured at every validation, whatever the target


def arguments(argv):
    parser = cli.parser(__doc__ + EXAMPLES)
    cli.add_training_arguments(parser, out="runs/blstm-qnet", batch=4, learning_rate=1e-4, schedule="constant")
    parser.add_argument("--enhancer", default="runs/blstm", metavar="RUN|NAME", help="the enhancer to start from")
    parser.add_argument("--model-args", default={}, type=cli.json_object, metavar="JSON",
                        help="arguments of its builder to change, such as '{\"mask_floor\": 0.05}'")
    parser.add_argument("--quality-net", default="runs/quality-net", metavar="RUN|NAME|new",
                        help="the Quality-Net to learn from; new: one from nothing, which --update must then teach")
    parser.add_argument("--loss", default="quality", choices=["quality", "mse"],
                        help="quality: (1 - Q)^2; mse: go on as before, for comparison")
    parser.add_argument("--compression", default="log1p", help="scale of the MSE, as in train.py")
    parser.add_argument("--optimizer", default="rmsprop", choices=["rmsprop", "adam"])
    parser.add_argument("--iterations", type=cli.positive_int, default=100, help="updates of the enhancer")
    parser.add_argument("--validate-every", type=cli.positive_int, default=5, metavar="ITERATIONS")
    parser.add_argument("--validation-rows", type=cli.positive_int, default=100, metavar="N",
                        help="validation mixtures that are scored each time")
    parser.add_argument("--stop-fooled", type=cli.from_zero_int, default=3, metavar="N",
                        help="stop after N validations in a row with the predicted score above, and the true one below, where they stood "
                             "at the best true score; of a Quality-Net that learns on, only where it predicts too much; 0 for never")
    parser.add_argument("--stoi-drop", type=cli.from_zero, default=None, metavar="DROP",
                        help="keep no weights whose STOI on validation is more than this below where it began: what pleases PESQ alone "
                             "is no better; 0.005, say")
    parser.add_argument("--crop", type=cli.from_zero, default=0, metavar="SECONDS",
                        help="train on random pieces of this length; 0 for whole utterances")
    parser.add_argument("--snr-raise", type=cli.from_zero, default=0.0, metavar="DB",
                        help="every second mixture has its noise turned down by up to this much")
    parser.add_argument("--compare", nargs="+", default=[], metavar="RUN", help="other fine-tunings: all in one figure")
    parser.add_argument("--workers", type=cli.positive_int, default=None, help="scoring processes; one a core by default")

    turns = parser.add_argument_group("Quality-Net that learns on (--update alternating or replay)")
    turns.add_argument("--update", default="frozen", choices=list(UPDATES), help="what happens to Quality-Net meanwhile")
    turns.add_argument("--round", type=cli.positive_int, default=20, metavar="ITERATIONS", help="updates of the enhancer between its turns")
    turns.add_argument("--sample", type=cli.positive_int, default=24, metavar="N", help="mixtures scored in each of its turns")
    turns.add_argument("--sample-of", default="next", choices=["next", "last"],
                       help="which: of those that the enhancer is about to train on, or has just trained on")
    turns.add_argument("--lag", type=int, default=1, choices=[0, 1], metavar="0|1",
                       help="1: it learns how the enhancer of a round ago scored, while the one of now is being scored, so that no "
                            "accelerator waits; 0: how the one of now scores, which the enhancer waits for")
    turns.add_argument("--stages", nargs="+", choices=["current", "historical"],
                       help="what it learns from in a turn, in order; by default current, with replay historical current")
    turns.add_argument("--history-share", type=cli.fraction, default=0.1, help="of the history, learned in a historical stage")
    turns.add_argument("--history-pairs", type=cli.positive_int, default=1000, metavar="N", help="kept at most, the newest")
    turns.add_argument("--base-rows", type=cli.from_zero_int, default=0, metavar="N",
                       help="training mixtures whose scores under the enhancer that it begins from stay in the history for ever, so that "
                            "Quality-Net does not forget what it could judge")
    turns.add_argument("--step-size", type=cli.share, default=0.5,
                       help="how far the Quality-Net that the enhancer hears moves towards what was learned in a turn: below 1, an average")
    turns.add_argument("--perturbed", type=cli.from_zero_int, default=2, metavar="N", help="perturbed masks shown of each mixture")
    turns.add_argument("--noisy-share", type=cli.fraction, default=1.0, help="of the mixtures, shown as they are too")
    turns.add_argument("--clean-share", type=cli.fraction, default=0.05, help="of the mixtures, whose clean speech is shown too")
    turns.add_argument("--anchor", action="store_true",
                       help="show each mixture as the enhancer that it began from enhances it, too: Quality-Net learns what has changed")
    turns.add_argument("--siblings", type=cli.positive_int, default=2, help="pairs of one mixture side by side, as in train.py")
    turns.add_argument("--contrast", type=cli.from_zero, default=3.0, help="weight of their differences in the loss")
    turns.add_argument("--quality-batch", type=cli.positive_int, default=4, help="pairs in an update of Quality-Net")
    turns.add_argument("--quality-rate", type=cli.positive_float, default=5e-5, help="its learning rate (Adam)")

    new = parser.add_argument_group("A new Quality-Net (--quality-net new)")
    new.add_argument("--quality-args", default={}, type=cli.json_object, metavar="JSON", help="arguments of models.quality_net")
    new.add_argument("--target", metavar="TARGET", help="what it learns to predict, as in train.py; a trained one predicts what it does")
    new.add_argument("--mapping", default="range", choices=targets.MAPPINGS,
                     help="of the target's values to 0 .. 1: each metric's own range, or MetricGAN's")
    new.add_argument("--input", default="mask", choices=["mask", "wave"], help="what it sees of enhanced speech, as in train.py")
    groups = {"--update frozen": defaults(turns), "a trained --quality-net": defaults(new)}  # which flags have no effect with what
    typed = cli.typed(parser, argv)
    args = cli.parse(parser, {"finetune": parser}, argv)
    drop_pointless(args, groups, typed)
    if "sample" not in typed:
        args.sample = min(args.sample, args.round * args.batch)  # a default is no reason to refuse a short round
    check(args, groups["--update frozen"])
    return args


def defaults(group):
    """{destination: default} of a group's flags, before a preset changes them."""
    return {action.dest: action.default for action in group._group_actions}


def main(argv=None):
    args = arguments(argv)
    train_rows, valid_rows = (manifest.read(Path(args.data) / f"{split}.jsonl") for split in ("train", "valid"))
    manifest.check_splits({"train": train_rows, "valid": valid_rows})
    check_models(args)
    files.check_writable(args.out)

    backend.load()
    from se_keras.judges import diet, honesty, surrogate
    from se_keras.mixtures.feed import Feed
    from se_keras.scoring import scores
    from se_keras.signals.magnitudes import COMPRESSIONS
    from se_keras.training import loop, supervised

    check_choice("--compression", args.compression, COMPRESSIONS)
    loop.seed_everything(args.seed, args.deterministic)
    network, card = pretrained.load(args.enhancer, **args.model_args)
    predictor, quality_arguments = quality_net(args)
    config, target = predictor.config, predictor.target
    valid_rows = evaluation.subset(valid_rows, args.validation_rows)
    weights = {name: pretrained.sha256(name) for name in (args.enhancer, args.quality_net) if name != "new"} | target.functions
    enhancer_arguments = {**card["arguments"], **args.model_args}
    described = runs.describe(args, card["network"], enhancer_arguments, config, weights=weights, target=target.to_config())
    logger = runs.open_run(args.out, described)
    if args.loss == "quality":
        model = surrogate.combined_model(network, predictor.network, predictor.representation, config)
        prepare, loss = surrogate.combined_batch, surrogate.quality_objective
    else:
        model, prepare, loss = supervised.mse_model(network, args.compression), supervised.mse_batch, loop.mean_output
    loop.compile_model(model, loop.optimizer(args.optimizer, args.learning_rate), loss)
    feed = Feed(diet.raise_snr(train_rows, args.snr_raise, args.seed), args.batch, config, seed=args.seed, crop_s=args.crop or None)
    plan = loop.Plan(updates=args.iterations, validate_every=args.validate_every, learning_rate=args.learning_rate,
                         schedule=args.schedule, monitor="true" if args.stoi_drop is None else "allowed",
                         higher_is_better=target.higher_is_better, patience=args.patience,
                         checkpoint_s=args.checkpoint_every, validate_first=True)
    cache = Path(args.data) / "scores"
    with (scores.Scorer(list(dict.fromkeys([*target.metrics, *BESIDE])), cache=cache, workers=args.workers) as scorer,
          scores.Scorer(target.metrics, cache=cache, workers=args.workers) as labeller):
        began = runs.read_history(args.out)["stoi"][0] if (Path(args.out) / "history.csv").is_file() else None
        validate = honesty.HonestValidation(network, predictor, valid_rows, scorer, args.stoi_drop, began)
        partner = None
        if args.update != "frozen":
            partner = quality_rounds(args, network, predictor, quality_arguments, feed, labeller, logger)

        def stop(history):  # MSE does not ask Quality-Net, and cannot fool it
            return honesty.fooled(history, args.stop_fooled if args.loss == "quality" else 0, target.higher_is_better,
                                  learning=args.update != "frozen")

        history = loop.train(model, feed, prepare, plan, args.out, logger, validate, network, f"fine-tuning ({args.loss})",
                                 partner, stop)
        network.load_weights(Path(args.out) / runs.BEST)
        if partner is not None:
            predictor.network.load_weights(Path(args.out) / "quality-net" / runs.BEST)
        print(validate.write_worst(Path(args.out) / "worst"))
    runs.finish(args.out, history, "true", "" if args.stoi_drop is None else f" of those that lost at most {args.stoi_drop:g} STOI")
    draw(args, history, target)


def changed(args, group):
    """The flags of a group that stand away from their defaults."""
    return [name for name, default in group.items() if name != "update" and getattr(args, name) not in (default, None)]


def spell(names):
    return ", ".join("--" + name.replace("_", "-") for name in names)


def drop_pointless(args, groups, typed):
    """Flags of a preset that another flag makes pointless fall away, with a note; those that were typed are an error."""
    ignored = {"--update frozen": args.update == "frozen", "a trained --quality-net": args.quality_net != "new"}
    for why in (why for why, group in groups.items() if ignored[why]):
        pointless = [name for name in changed(args, groups[why]) if not (name == "target" and name in typed)]  # that one may agree
        if wrong := [name for name in pointless if name in typed]:
            raise UserError(f"{why} makes {spell(wrong)} pointless; leave one out")
        if pointless:
            print(f"{why}: of --preset {args.preset}, {spell(pointless)} fall away")
            vars(args).update({name: groups[why][name] for name in pointless})


def check(args, turns):
    """Flags that contradict each other, or would be ignored."""
    stages = args.stages or UPDATES[args.update]
    seen = args.round * args.batch
    kept = changed(args, {name: turns[name] for name in ("history_share", "history_pairs")})
    for wrong, why in (
        (args.update == "frozen" and args.quality_net == "new",
         "--quality-net new knows nothing, and --update frozen would teach it nothing; choose --update alternating or replay, or name a "
         "trained one"),
        (args.update != "frozen" and args.loss == "mse",
         f"--loss mse does not ask Quality-Net, so --update {args.update} has nothing to serve; leave one of them out"),
        (args.update == "alternating" and "historical" in stages,
         "--stages historical is what --update replay does; name that, or --stages current"),
        (args.update == "replay" and "historical" not in stages,
         "--update replay without a historical stage is what --update alternating does; name that, or add the stage"),
        (args.update != "frozen" and args.sample > seen,
         f"--sample {args.sample}: a round of {args.round} updates of {args.batch} mixtures sees {seen} only; lower it, or raise --round"),
        (args.update == "alternating" and kept,
         f"--update alternating keeps no history, so {spell(kept)} has no effect; leave it out, or name --update replay"),
        (args.base_rows and "historical" not in stages,
         f"--base-rows {args.base_rows} are shown in historical stages, of which there are none; leave it out"),
        (args.quality_batch % args.siblings,
         f"--quality-batch {args.quality_batch} does not hold whole groups of --siblings {args.siblings}; make it a multiple"),
    ):
        if wrong:
            raise UserError(why)


def check_models(args):
    """See that the models named can be what they are named for, before anything is loaded."""
    pretrained.check_mask_networks([args.enhancer])
    target = targets.parse(args.target, args.mapping) if args.target is not None else None
    if args.quality_net != "new":
        kinds = models.QUALITY_NETWORKS if args.update == "frozen" else "quality_net"  # the one of 2018 is only used frozen
        card = pretrained.read_card(args.quality_net, kinds)
        pretrained.check_stft(args.enhancer, Stft(**card["stft"]), args.quality_net)
        known = pretrained.read_target(card)
        for name, source in known.functions.items():
            if (then := card.get("weights", {}).get(name, source)) != source:
                raise UserError(f"{args.quality_net} has learned to predict {name} as it was before an edit ({then}); train it again, or "
                                "restore the function")
        if target and target.text != known.text:
            raise UserError(f"{args.quality_net} predicts {known.text}, not {target.text}; train one that does, or use --quality-net new")
        target = known
    for run in args.compare:
        if "true" not in runs.read_history(run):
            raise UserError(f"{run}: its history holds no true scores; --compare takes other fine-tunings")
        if (theirs := pretrained.read_target(runs.read_config(run))).text != (ours := target or targets.parse("pesq_raw")).text:
            raise UserError(f"{run}: was fine-tuned towards {theirs.text}, this run towards {ours.text}; they do not fit into one figure")


def quality_net(args):
    """The `surrogate.QualityPredictor` to learn from, a trained one or a new one that knows nothing yet, and its builder's arguments."""
    from se_keras.judges.surrogate import QualityPredictor

    if args.quality_net != "new":
        return pretrained.load_quality_net(args.quality_net), pretrained.read_card(args.quality_net)["arguments"]
    target = targets.parse("pesq_raw" if args.target is None else args.target, args.mapping)
    config = Stft(**pretrained.read_card(args.enhancer)["stft"])
    arguments = models.resolve("quality_net", {"bins": config.bins, **args.quality_args})
    return QualityPredictor(models.build("quality_net", **arguments), config, args.input, target), arguments


def quality_rounds(args, network, predictor, arguments, feed, scorer, logger):
    """Quality-Net's part in the turns that it and the enhancer take: a copy of it that learns."""
    from se_keras.enhancers.magnitude_mask import MaskEnhancer
    from se_keras.judges import diet, rounds, surrogate

    learner = models.build("quality_net", **arguments)
    learner.set_weights(predictor.network.get_weights())
    surrogate.compile_quality_net(learner, args.quality_rate, args.siblings, args.contrast)
    described = runs.describe(args, "quality_net", arguments, predictor.config, representation=predictor.representation,
                              target=predictor.target.to_config(), weights=predictor.target.functions)
    start = {} if args.quality_net == "new" else {args.quality_net: pretrained.sha256(args.quality_net)}
    runs.open_run(Path(args.out) / "quality-net", {**described, "name": f"{described['name']}/quality-net", "start": start})
    shown = {"perturbed": args.perturbed, "noisy_share": args.noisy_share, "clean_share": args.clean_share}
    stages = tuple(args.stages or UPDATES[args.update])
    turns = rounds.Turns(every=args.round, sample=args.sample, sample_of=args.sample_of, stages=stages, history_share=args.history_share,
                         history_pairs=args.history_pairs, step_size=args.step_size, batch=args.quality_batch, siblings=args.siblings,
                         contrast=args.contrast, lag=args.lag, anchored=args.anchor, diet=shown, seed=args.seed)
    base = None
    if args.anchor or args.base_rows:  # loaded again: the one that is fine-tuned will not stay what it is
        base = rounds.Base(MaskEnhancer(pretrained.load(args.enhancer, **args.model_args)[0], predictor.config))
    if args.base_rows:
        pairs = diet.diet(evaluation.subset(feed.rows, args.base_rows), 1, crop_s=args.crop or None, seed=args.seed, **shown)
        base = rounds.Base(base.enhancer, *diet.known(pairs, diet.label(pairs, [base.enhancer], scorer, predictor.target, "base")))
    return rounds.QualityRounds(network, learner, predictor, feed, scorer, turns, args.out, logger, base)


def draw(args, history, target):
    """The letter's Fig. 5 of this run; and, with others to compare, its Figs. 2 and 5 over all of them."""
    from se_keras.judges.honesty import best_of
    from se_keras.report import figures

    out = Path(args.out)
    columns = {name: [row[name] for row in history] for name in ("update", "predicted", "true")}
    best = history[best_of(history, target.higher_is_better)]["update"]
    print(figures.predicted_and_true_by_iteration(columns["update"], columns["predicted"], columns["true"], out / "predicted_and_true.png",
                                                  best=best, label=target.label))
    if args.compare:
        lines = {}
        for run in (out, *args.compare):
            said, table = runs.read_config(run)["training"], runs.read_history(run)
            kind = said["loss"] if said["loss"] == "mse" else said.get("update", "frozen")
            lines[str(run) if kind in Path(run).name else f"{run} ({kind})"] = table[["update", "predicted", "true"]].to_numpy().T
        print(figures.true_by_iteration({name: line[[0, 2]] for name, line in lines.items()}, out / "true.png", label=target.label))
        print(figures.predicted_and_true_over_runs(lines, out / "predicted_and_true_over_runs.png", label=target.label))


if __name__ == "__main__":
    cli.run(main)
