#!/usr/bin/env python
"""Weights between those that a fine-tuning began from and those that it ended with, as a run folder of their own.

start + share (end - start), weight by weight (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"): most of what the
fine-tuning gained, for less of what it cost. Which share is best is for validation to say (test.py --split valid).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from se_keras import cli, files, pretrained  # noqa: E402  (the path above lets the script run from anywhere)
from se_keras.errors import UserError  # noqa: E402
from se_keras.training import loop, runs  # noqa: E402

EXAMPLE = """
  python weights/blend.py runs/blstm-hearing --share 0.75 --out runs/blstm-hearing-75
"""


def main(argv=None):
    parser = cli.parser(__doc__ + EXAMPLE)
    parser.add_argument("run", help="run folder of finetune.py; the enhancer that it began from is in its config")
    parser.add_argument("--share", type=cli.fraction, required=True, help="0: the start's weights, 1: the run's own")
    parser.add_argument("--out", required=True, type=Path, metavar="RUN", help="run folder to make")
    args = parser.parse_args(argv)
    config = runs.read_config(args.run)
    start = config.get("training", {}).get("enhancer")
    if start is None:
        raise UserError(f"{args.run}: did not begin from an enhancer; finetune.py makes runs that do")
    if (args.out / "config.json").exists():
        raise UserError(f"{args.out} is there already; name another --out")
    if pretrained.sha256(start) != config.get("weights", {}).get(start, pretrained.sha256(start)):
        raise UserError(f"{start} has other weights than when {args.run} began from it; restore them")
    began, ended = (pretrained.load(name)[0] for name in (start, args.run))
    pairs = list(zip(began.get_weights(), ended.get_weights(), strict=True))
    ended.set_weights([first + args.share * (last - first) for first, last in pairs])
    files.check_writable(args.out)
    args.out.mkdir(parents=True, exist_ok=True)
    loop.save_weights(ended, args.out / runs.BEST)
    blend = {"start": start, "run": str(args.run), "share": args.share}
    files.write_json(args.out / "config.json", {**config, "name": args.out.name, "blend": blend})  # last: before it, there is no run
    print(f"{args.out}: {args.share:g} of the way from {start} to {args.run}")


if __name__ == "__main__":
    cli.run(main)
