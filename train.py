#!/usr/bin/env python
"""Train an enhancer, or the Quality-Net that will teach it."""

import dataclasses
import subprocess
import sys
from pathlib import Path

from se_keras import cli, losses, models
from se_keras.mixtures import manifest
from se_keras.mixtures.augment import Augmentation
from se_keras.recipes.enhancer import train_enhancer
from se_keras.recipes.quality_net import train_quality_net
from se_keras.training import devices, hosts

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

    enhancer = command("enhancer", "train an enhancer towards clean speech")
    cli.add_training_arguments(enhancer, out="runs/blstm", batch=32, learning_rate=1e-3)
    devices.add_arguments(enhancer)
    enhancer.add_argument("--model", default="blstm", help=f"one of {', '.join(models.ENHANCERS)}")
    enhancer.add_argument("--model-args", default={}, type=cli.json_object, metavar="JSON",
                          help="arguments of the builder, such as '{\"mask_floor\": 0.05}'")
    enhancer.add_argument("--stft", default={}, type=cli.json_object, metavar="JSON",
                          help="arguments of the STFT to change, such as '{\"hop_length\": 128, \"window\": \"hann\"}'")
    enhancer.add_argument("--loss", default="mse:1", metavar="TERM:WEIGHT,...",
                          help=f"weighted sum of terms, such as mse:3,si_sdr:0.1; known terms: {losses.KNOWN}")
    enhancer.add_argument("--quality-net", metavar="RUN|NAME", help="the frozen judge that the terms quality and quality_linear ask")
    enhancer.add_argument("--compression", default="log1p",
                          help="scale on which mse squares errors: magnitude (the letter's), log1p, log, root; or in its brackets, "
                               "mse[magnitude]")
    enhancer.add_argument("--optimizer", default="adam", choices=["adam", "rmsprop"])
    enhancer.add_argument("--epochs", type=cli.positive_int, default=10, help="passes over the training rows")
    enhancer.add_argument("--rows", type=cli.positive_int, default=None, metavar="N",
                          help="an epoch is this many training rows, the same each time; all of them by default")
    enhancer.add_argument("--monitor", default="pesq_raw", choices=["pesq_raw", "valid_loss"],
                          help="what decides which weights are best: true PESQ on validation mixtures, or the loss on all of them")
    enhancer.add_argument("--validation-rows", type=cli.positive_int, default=100, metavar="N",
                          help="validation mixtures that are scored each epoch")
    cli.add_workers_argument(enhancer, more=", and threads that make batches")
    enhancer.add_argument("--crop", type=cli.from_zero, default=3.0, metavar="SECONDS",
                          help="train on random pieces of this length, another each epoch; 0 for whole utterances")
    enhancer.add_argument("--jit", default="auto", choices=["auto", "on", "off"],
                          help="compile the loops of LSTMs on a CPU: a fifth to a quarter less time an update, some seconds for each "
                               "length of a batch; auto: with --crop, from 1,000 updates on")
    enhancer.add_argument("--augment", nargs="?", const={}, type=cli.json_object, metavar="JSON",
                          help="draw mixtures anew each time: noise, SNR from -10 to 20 dB, speed, level, colour; with settings to change "
                               f"as JSON: {', '.join(field.name for field in dataclasses.fields(Augmentation))}")

    quality = command("quality-net", "train Quality-Net to predict PESQ")
    cli.add_training_arguments(quality, out="runs/quality-net", batch=4, learning_rate=1.5e-4)
    devices.add_arguments(quality)
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
                         help="of the convolutions; bfloat16 pays on a GPU and on a processor with AMX, and is slower on others: the start "
                              "says what it comes to here")
    cli.add_trust_argument(quality)
    cli.add_workers_argument(quality)
    return cli.parse(parser, commands.choices, argv)


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    if not argv:
        argv = ["enhancer"]
        print("train.py enhancer --data data/demo --out runs/blstm: the BLSTM, by MSE, on the demo corpus (--help shows more)")
    args = arguments(argv)
    devices.check(args)
    if args.data == "data/demo" and not Path("data/demo/train.jsonl").is_file():
        prepared = subprocess.run([sys.executable, Path(__file__).with_name("data") / "prepare.py", "demo", "--out", args.data])
        if prepared.returncode:
            raise SystemExit(prepared.returncode)  # it has said why
    train_rows, valid_rows = (manifest.read(Path(args.data) / f"{split}.jsonl") for split in ("train", "valid"))
    manifest.check_splits({"train": train_rows, "valid": valid_rows})
    with hosts.together(args):
        {"enhancer": train_enhancer, "quality-net": train_quality_net}[args.command](args, train_rows, valid_rows)


if __name__ == "__main__":
    cli.run(main)
