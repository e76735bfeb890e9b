#!/usr/bin/env python
"""Train an enhancer, or the Quality-Net that will teach it."""

import subprocess
import sys
from pathlib import Path

from se_keras import backend, cli, files, models, pretrained
from se_keras.errors import UserError, check_choice
from se_keras.judges import targets
from se_keras.mixtures import manifest
from se_keras.scoring import evaluation
from se_keras.signals.stft import Stft
from se_keras.training import runs

EXAMPLES = """
  python data/prepare.py demo --out data/demo
  python train.py enhancer --data data/demo --out runs/blstm
  python train.py quality-net --data data/demo --enhancer runs/blstm --out runs/quality-net

Run the same command again and it goes on from the last checkpoint; a longer --epochs or --updates continues a finished run.
Without arguments: the BLSTM on the demo corpus, which is made first where it is not there.
"""


def arguments(argv):
    parser = cli.parser(__doc__ + EXAMPLES)
    commands = parser.add_subparsers(dest="command", required=True, metavar="{enhancer,quality-net}")

    def command(name, help):
        return commands.add_parser(name, help=help, formatter_class=parser.formatter_class)

    enhancer = command("enhancer", "train a mask network towards the clean spectrogram")
    cli.add_training_arguments(enhancer, out="runs/blstm", batch=32, learning_rate=1e-3)
    enhancer.add_argument("--model", default="blstm", help=f"one of {', '.join(models.MASK_NETWORKS)}")
    enhancer.add_argument("--model-args", default={}, type=cli.json_object, metavar="JSON",
                          help="arguments of the builder, such as '{\"mask_floor\": 0.05}'")
    enhancer.add_argument("--stft", default={}, type=cli.json_object, metavar="JSON",
                          help="arguments of the STFT to change, such as '{\"hop_length\": 128, \"window\": \"hann\"}'")
    enhancer.add_argument("--loss", default="mse", choices=["mse"], help="mse: masked mean squared error of the spectrogram")
    enhancer.add_argument("--compression", default="log1p",
                          help="scale on which errors are squared: magnitude (the letter's), log1p, log, root")
    enhancer.add_argument("--optimizer", default="adam", choices=["adam", "rmsprop"])
    enhancer.add_argument("--epochs", type=cli.positive_int, default=10, help="passes over the training rows")
    enhancer.add_argument("--monitor", default="pesq_raw", choices=["pesq_raw", "valid_loss"],
                          help="what decides which weights are best: true PESQ on validation mixtures, or the loss on all of them")
    enhancer.add_argument("--validation-rows", type=cli.positive_int, default=100, metavar="N",
                          help="validation mixtures that are scored each epoch")
    enhancer.add_argument("--workers", type=cli.positive_int, default=None, help="scoring processes; one a core by default")
    enhancer.add_argument("--crop", type=cli.from_zero, default=3.0, metavar="SECONDS",
                          help="train on random pieces of this length, another each epoch; 0 for whole utterances")

    quality = command("quality-net", "train Quality-Net to predict PESQ")
    cli.add_training_arguments(quality, out="runs/quality-net", batch=4, learning_rate=1.5e-4)
    quality.add_argument("--enhancer", nargs="+", default=[], metavar="RUN|NAME",
                         help="enhancers whose output is scored beside noisy and clean speech")
    quality.add_argument("--model", default="quality_net", help="quality_net, or quality_net_2018: the one that needs no clean reference")
    quality.add_argument("--model-args", default={}, type=cli.json_object, metavar="JSON",
                         help="arguments of the model, such as '{\"padding\": \"same\"}'")
    quality.add_argument("--stft", default={}, type=cli.json_object, metavar="JSON",
                         help="arguments of the STFT to change, such as '{\"hop_length\": 128, \"window\": \"hann\"}'")
    quality.add_argument("--target", metavar="TARGET",
                         help="what it learns to predict: a metric (test.py --help), a function of your own as "
                              "package.module:function[low,high], or a weighted sum such as pesq_wb:0.7,stoi:0.3; pesq_raw where not "
                              "given, or with --start what that one predicts")
    quality.add_argument("--start", metavar="RUN|NAME", help="continue from the weights of this Quality-Net instead of from nothing")
    quality.add_argument("--updates", type=cli.positive_int, default=10_000, help="optimiser updates")
    quality.add_argument("--validate-every", type=cli.positive_int, default=1000, metavar="UPDATES")
    quality.add_argument("--perturbed", type=cli.from_zero_int, default=2, metavar="N",
                         help="random variations of an enhancer's mask that are scored too, for each mixture: they teach Quality-Net which "
                              "way quality lies")
    quality.add_argument("--snr-raise", type=cli.from_zero, default=10.0, metavar="DB",
                         help="every second mixture has its noise turned down by up to this much")
    quality.add_argument("--siblings", type=cli.positive_int, default=2, metavar="N",
                         help="pairs of one mixture in a batch, whose differences are learned too; 1 for none")
    quality.add_argument("--contrast", type=cli.from_zero, default=3.0, metavar="WEIGHT", help="weight of these differences in the loss")
    quality.add_argument("--rows", type=cli.positive_int, default=None, help="use only this many training rows, drawn at random")
    quality.add_argument("--validation-rows", type=cli.positive_int, default=100, metavar="N",
                         help="validation mixtures used, noisy and enhanced")
    quality.add_argument("--crop", type=cli.from_zero, default=2.0, metavar="SECONDS",
                         help="train on one fixed random piece of each mixture, whose PESQ is its label; 0 for whole utterances")
    quality.add_argument("--input", choices=["mask", "wave"],
                         help="what Quality-Net sees of enhanced speech: mask, the masked magnitude (equation 1; the default), or wave, "
                              "the magnitude of the resynthesised wave; with --start, what that one sees")
    quality.add_argument("--precision", default="float32", choices=["float32", "bfloat16"],
                         help="of the convolutions; bfloat16 may pay on a GPU or with AMX, and is slower on other processors")
    quality.add_argument("--workers", type=cli.positive_int, default=None, help="scoring processes; one a core by default")
    return cli.parse(parser, commands.choices, argv)


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    if not argv:
        argv = ["enhancer"]
        print("train.py enhancer --data data/demo --out runs/blstm: the BLSTM, by MSE, on the demo corpus (--help shows more)")
    args = arguments(argv)
    if args.data == "data/demo" and not Path("data/demo/train.jsonl").is_file():
        prepared = subprocess.run([sys.executable, Path(__file__).with_name("data") / "prepare.py", "demo", "--out", args.data])
        if prepared.returncode:
            raise SystemExit(prepared.returncode)  # it has said why
    train_rows, valid_rows = (manifest.read(Path(args.data) / f"{split}.jsonl") for split in ("train", "valid"))
    manifest.check_splits({"train": train_rows, "valid": valid_rows})
    (train_enhancer if args.command == "enhancer" else train_quality_net)(args, train_rows, valid_rows)


def train_enhancer(args, train_rows, valid_rows):
    check_choice("--model", args.model, models.MASK_NETWORKS)
    config = Stft.checked(args.stft)
    arguments = {"bins": config.bins, **args.model_args}
    backend.load()
    from se_keras.enhancers.magnitude_mask import MaskEnhancer
    from se_keras.mixtures.feed import Feed
    from se_keras.scoring import scores
    from se_keras.signals.magnitudes import COMPRESSIONS
    from se_keras.training import loop, supervised

    check_choice("--compression", args.compression, COMPRESSIONS)
    loop.seed_everything(args.seed, args.deterministic)
    network = models.build(args.model, **arguments)
    feed = Feed(train_rows, args.batch, config, seed=args.seed, crop_s=args.crop or None)
    logger = runs.open_run(args.out, runs.describe(args, args.model, models.resolve(args.model, arguments), config))
    model = supervised.mse_model(network, args.compression)
    loop.compile_model(model, loop.optimizer(args.optimizer, args.learning_rate), loop.mean_output)
    plan = loop.Plan(updates=args.epochs * feed.batches_per_epoch, validate_every=feed.batches_per_epoch,
                         learning_rate=args.learning_rate, schedule=args.schedule, patience=args.patience,
                         checkpoint_s=args.checkpoint_every, monitor=args.monitor, higher_is_better=args.monitor != "valid_loss")

    with scores.Scorer(["pesq_raw", "stoi", "si_sdr"], cache=Path(args.data) / "scores", workers=args.workers) as scorer:
        scored = evaluation.subset(valid_rows, args.validation_rows)

        def validate():
            return {"valid_loss": supervised.validation_loss(model, valid_rows, config),
                    **evaluation.mean_scores(scored, MaskEnhancer(network, config), scorer)}

        history = loop.train(model, feed, supervised.mse_batch, plan, args.out, logger, validate, network, f"{args.model} {args.loss}")
    runs.finish(args.out, history, plan.monitor)


def train_quality_net(args, train_rows, valid_rows):
    target, config, chosen = check_quality_net(args)
    intrusive = args.model == "quality_net"
    backend.load()
    from se_keras.judges import diet, surrogate
    from se_keras.models.quality_net_2018 import as_quality_net
    from se_keras.report import figures
    from se_keras.scoring import scores
    from se_keras.training import loop

    loop.seed_everything(args.seed, args.deterministic)
    precision = {"precision": args.precision} if intrusive else {}
    models.build(args.model, **chosen, **precision)  # a wrong argument is told before the labelling
    files.check_writable(args.out)
    enhancers = [pretrained.load_system(name) for name in args.enhancer]
    train_rows = evaluation.subset(train_rows, args.rows) if args.rows else train_rows
    valid_rows = evaluation.subset(valid_rows, args.validation_rows)
    weights = {name: pretrained.sha256(name) for name in [*args.enhancer, *([args.start] if args.start else [])]} | target.functions

    def described(arguments):
        return runs.describe(args, args.model, arguments, config, representation=args.input, target=target.to_config(),
                             weights=weights)

    runs.check_same(args.out, described(models.resolve(args.model, chosen)), unknown=["mean_score"])
    pairs = diet.diet(train_rows, len(enhancers), args.perturbed, args.snr_raise, crop_s=args.crop or None, seed=args.seed)
    with scores.Scorer(target.metrics, cache=Path(args.data) / "scores", workers=args.workers) as scorer:
        pairs, labels = diet.known(pairs, diet.label(pairs, enhancers, scorer, target))
        start = {"mean_score": round(float(labels.mean()), 4)} if intrusive else {}
        arguments = models.resolve(args.model, {**start, **chosen})
        network = models.build(args.model, **arguments, **precision)
        logger = runs.open_run(args.out, described(arguments))
        if args.start is not None:
            pretrained.load_weights(network, pretrained.find(args.start)[1])
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


def check_quality_net(args):
    """What can be known to be wrong before anything is loaded; fills in what follows from other flags.

    Returns:
        (`targets.Target`, `Stft`, arguments of the network's builder).
    """
    if not args.enhancer:
        print("no --enhancer: Quality-Net will know noisy and clean speech only, and will be a poor judge of enhanced speech")
        args.perturbed, args.siblings = 0, 1
    check_choice("--model", args.model, models.QUALITY_NETWORKS)
    target = targets.parse("pesq_raw" if args.target is None else args.target)
    if args.model == "quality_net_2018":
        if target.text != "pesq_raw" or args.input not in (None, "peak"):
            raise UserError(f"{args.model} predicts pesq_raw of a wave divided by its peak; leave --target and --input out")
        if args.precision != "float32":
            raise UserError(f"--precision {args.precision} is of convolutions, and {args.model} has none; leave it out")
        args.input, args.siblings = "peak", 1
    if args.batch % args.siblings:
        raise UserError(f"--batch {args.batch} does not hold whole groups of --siblings {args.siblings}; make it a multiple")
    pretrained.check_mask_networks(args.enhancer)
    config = Stft.checked(args.stft)
    arguments = {"bins": config.bins, **args.model_args}
    for name in [*args.enhancer, *([args.start] if args.start else [])]:
        pretrained.check_stft(name, config, "the Quality-Net that --stft asks for")
    if args.start is not None:
        card = pretrained.read_card(args.start, args.model)
        arguments = {**card["arguments"], **args.model_args}
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


if __name__ == "__main__":
    cli.run(main)
