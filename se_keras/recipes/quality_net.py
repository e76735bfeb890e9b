"""train.py quality-net: a Quality-Net towards true scores of noisy, enhanced, perturbed and clean speech."""

from pathlib import Path

from se_keras import files, models, pretrained
from se_keras.errors import UserError, check_choice
from se_keras.judges import targets
from se_keras.scoring import evaluation
from se_keras.signals.stft import Stft
from se_keras.training import devices, runs
from se_keras.weights import load_weights


def train_quality_net(args, train_rows, valid_rows):
    """Train a Quality-Net and leave a run folder.

    Args:
        args: of train.py quality-net.
        train_rows, valid_rows: manifest rows.

    Raises:
        UserError: what cannot be meant, before any work; a loss that is not a number, during it.
    """
    target, config, chosen = check(args)
    intrusive = args.model == "quality_net"
    weights = {name: pretrained.sha256(name) for name in [*args.enhancer, *([args.start] if args.start else [])]} | target.functions
    devices.start(args, weights)
    from se_keras.judges import diet, surrogate
    from se_keras.models.quality_net_2018 import as_quality_net
    from se_keras.report import figures
    from se_keras.scoring import scores
    from se_keras.training import loop
    from se_keras.training import precision as precisions

    if args.precision == "bfloat16":
        precisions.say_share()
    loop.seed_everything(args.seed, args.deterministic)
    precision = {"precision": args.precision} if intrusive else {}
    models.build(args.model, **chosen, **precision)  # a wrong argument is told before the labelling
    files.check_writable(args.out)
    enhancers = [pretrained.load_system(name) for name in args.enhancer]
    train_rows = evaluation.subset(train_rows, args.rows) if args.rows else train_rows
    valid_rows = evaluation.subset(valid_rows, args.validation_rows)

    def described(arguments):
        return runs.describe(args, args.model, arguments, config, representation=args.input, target=target.to_config(), weights=weights)

    runs.check_same(args.out, described(models.resolve(args.model, chosen)), unknown=["mean_score"])
    pairs = diet.diet(train_rows, len(enhancers), args.perturbed, args.snr_raise, crop_s=args.crop or None, seed=args.seed)
    with scores.Scorer(target.metrics, cache=Path(args.data) / "scores", workers=args.workers) as scorer:
        pairs, labels = diet.known(pairs, diet.label(pairs, enhancers, scorer, target, config))
        start = {"mean_score": round(float(labels.mean()), 4)} if intrusive else {}
        arguments = models.resolve(args.model, {**start, **chosen})
        network = models.build(args.model, **arguments, **precision)
        logger = runs.open_run(args.out, described(arguments))
        if args.start is not None:
            load_weights(network, pretrained.find(args.start)[1])
        if intrusive:
            model, judge, prepare = network, network, surrogate.quality_batch
            surrogate.compile_quality_net(model, args.learning_rate, args.siblings, args.contrast)
        else:
            model, judge, prepare = surrogate.frame_model(network, target), as_quality_net(network), surrogate.frame_batch
            loop.compile_model(model, loop.optimizer("rmsprop", args.learning_rate), loop.mean_output)
        validate = surrogate.QualityValidation(judge, valid_rows, enhancers, scorer, config, args.input, target)
    figures.label_histogram(diet.by_kind(pairs, target.from_score(labels)), Path(args.out) / "labels.png", label=target.label)
    feed = surrogate.QualityFeed(pairs, labels, enhancers, args.batch, config, args.seed, args.input, args.siblings)
    plan = loop.Plan(updates=args.updates, validate_every=args.validate_every, learning_rate=args.learning_rate,
                     schedule=args.schedule, patience=args.patience, checkpoint_s=args.checkpoint_every,
                     validate_first=args.start is not None)
    history = loop.train(model, feed, prepare, plan, args.out, logger, validate, network, args.model.replace("_", "-"))
    runs.finish(args.out, history, plan.monitor)


def check(args):
    """What can be known to be wrong before anything is loaded; fills in what follows from other flags.

    Returns:
        (`targets.Target`, `Stft`, arguments of the network's builder).
    """
    pretrained.trust_cards(args.trust_card)
    if not args.enhancer:
        print("no --enhancer: Quality-Net will know noisy and clean speech only, and will be a poor judge of enhanced speech")
        args.perturbed, args.siblings = 0, 1
    check_choice("--model", args.model, models.TRAINED_QUALITY_NETWORKS)
    target = targets.parse("pesq_raw" if args.target is None else args.target)
    if args.model == "quality_net_2018":
        if target.text != "pesq_raw" or args.input not in (None, "peak"):
            raise UserError(f"{args.model} predicts pesq_raw of a wave divided by its peak; leave --target and --input out")
        if args.precision != "float32":
            raise UserError(f"--precision {args.precision} is of convolutions, and {args.model} has none; leave it out")
        args.input, args.siblings = "peak", 1
    if args.batch % args.siblings:
        raise UserError(f"--batch {args.batch} does not hold whole groups of --siblings {args.siblings}; make it a multiple")
    pretrained.check_enhancers(args.enhancer)
    config = Stft.checked(args.stft)
    arguments = models.with_bins(args.model_args, config)
    if args.start is not None:
        pretrained.check_stft(args.start, config, "the Quality-Net that --stft asks for")
        card = pretrained.read_card(args.start, args.model)
        arguments = models.with_bins({**card["arguments"], **args.model_args}, config)
        args.input = args.input or card.get("representation", "mask")
        if args.input != card.get("representation", "mask"):
            raise UserError(f"{args.start} has learned from --input {card.get('representation', 'mask')}; go on with the same, or start "
                            "from nothing")
        before = pretrained.read_target(card)
        if args.target is None or target.text == before.text:
            target = before  # with the mapping of then
        else:
            print(f"{args.start} predicts {before.text}: what it knows of speech is kept, and it learns {target.text} from here")
    args.target = target.text
    args.input = args.input or "mask"
    return target, config, arguments
