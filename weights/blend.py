#!/usr/bin/env python
"""Weights between those that fine-tunings began from and those that they ended with, as a run folder of their own.

start + the sum of share (end - start), weight by weight. One run: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"; several
from one start: the same, "Model soups". Most of what was gained, for less of what it cost. Which shares are best is for validation to
say (test.py --split valid).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from se_keras import cli, files, pretrained  # noqa: E402  (the path above lets the script run from anywhere)
from se_keras.errors import UserError  # noqa: E402
from se_keras.training import loop, runs  # noqa: E402

EXAMPLE = """
  python weights/blend.py runs/blstm-hearing --share 0.75 --out runs/three-quarters
  python weights/blend.py runs/blstm-hearing runs/blstm-hearing-sdr --share 0.4 0.6 --out runs/between
"""


def main(argv=None):
    parser = cli.parser(__doc__ + EXAMPLE)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders of finetune.py that began from one enhancer")
    parser.add_argument("--share", type=cli.fraction, nargs="+", required=True, help="of each run; 0: the start's weights, 1: its own")
    parser.add_argument("--out", required=True, type=Path, metavar="RUN", help="run folder to make")
    args = parser.parse_args(argv)
    if len(args.share) != len(args.runs):
        raise UserError(f"{len(args.runs)} runs and {len(args.share)} shares; --share takes one a run")
    configs = [runs.read_config(run) for run in args.runs]
    start = common_start(args.runs, configs)
    if (args.out / "config.json").exists():
        raise UserError(f"{args.out} is there already; name another --out")
    network, *ended = (pretrained.load(name)[0] for name in (start, *args.runs))
    began = network.get_weights()
    changes = zip(*([last - first for last, first in zip(end.get_weights(), began, strict=True)] for end in ended), strict=True)
    network.set_weights([first + sum(share * change for share, change in zip(args.share, of_runs, strict=True))
                         for first, of_runs in zip(began, changes, strict=True)])
    files.check_writable(args.out)
    args.out.mkdir(parents=True, exist_ok=True)
    loop.save_weights(network, args.out / runs.BEST)
    blend = {"start": start, "shares": dict(zip(args.runs, args.share, strict=True)),
             "commands": {run: config["command"] for run, config in zip(args.runs, configs, strict=True)}}
    files.write_json(args.out / "config.json", {**configs[0], "name": args.out.name, "blend": blend})  # last: before it, there is no run
    print(f"{args.out}: from {start}, " + ", ".join(f"{share:g} of the way to {run}" for run, share in blend["shares"].items()))


def common_start(names, configs):
    """The enhancer that all of these runs began from.

    Raises:
        UserError: a run that began from none, runs that began from two, or one whose weights are others now.
    """
    starts = {}
    for name, config in zip(names, configs, strict=True):
        start = config.get("training", {}).get("enhancer")
        if start is None:
            raise UserError(f"{name}: did not begin from an enhancer; finetune.py makes runs that do")
        if pretrained.sha256(start) != config.get("weights", {}).get(start, pretrained.sha256(start)):
            raise UserError(f"{start} has other weights than when {name} began from it; restore them")
        starts[start] = name
    if len(starts) > 1:
        raise UserError("these runs began from different enhancers: " + ", ".join(f"{run} from {start}" for start, run in starts.items()))
    return start


if __name__ == "__main__":
    cli.run(main)
