#!/usr/bin/env python
"""Copy the best weights of a run into weights/, with a card: what it is, how it was made, on what data, and how it scores."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from se_keras import backend, cli, files, models, pretrained
from se_keras.errors import UserError  # noqa: E402
from se_keras.training import runs  # noqa: E402  (the path above lets the script run from anywhere)

EXAMPLE = """
  python weights/ship.py runs/blstm-qnet blstm-qnet --report reports/letter --licence "CC BY 4.0 (trained on LibriSpeech ...)"
"""
KEPT = ("network", "family", "arguments", "stft", "representation", "target", "weights", "start", "blend")  # of a run's config


def main(argv=None):
    parser = cli.parser(__doc__ + EXAMPLE)
    parser.add_argument("run", help="run folder")
    parser.add_argument("name", help="name to ship it under")
    parser.add_argument("--data-note", default="", help="the training data in a sentence, with their licences")
    parser.add_argument("--licence", default="MIT", help="of the weights")
    parser.add_argument("--report", metavar="REPORT", help="a report of test.py in which the run was scored")
    parser.add_argument("--validation", metavar="REPORT",
                        help="of a Quality-Net: a report of test.py --split valid --quality-net, for its bias")
    parser.add_argument("--system", help="its name in that report; the run folder's by default")
    args = parser.parse_args(argv)
    config = runs.read_config(args.run)
    _, weights = pretrained.find(args.run)
    folder = Path(args.run)
    blended = "blend" in config  # of weights/blend.py: no validation of a run is of these weights
    folder = folder if (folder / "history.csv").is_file() or blended else folder.parent  # the Quality-Net in a fine-tuning's folder
    best = {} if blended else [row for row in runs.read_history(folder).to_dict("records") if row["best"]][-1]
    card = {
        "name": args.name,
        **{key: config[key] for key in KEPT if key in config},
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "licence": args.licence,
        "recipe": {key: config[key] for key in ("command", "training", "versions", "git", "machine", "started")},
        "data": {**(config["data"] or {}), "note": args.data_note},
        **({} if blended else {"validation": {key: value for key, value in best.items() if value == value}}),
    }
    if config["network"] == "quality_net" and config["arguments"].get("front_end") != "hearing":  # the hearing model has no such bound
        backend.load()
        from se_keras.judges.lipschitz import lipschitz_bounds

        card["lipschitz"] = lipschitz_bounds(pretrained.load_quality_net(args.run).network, frames=64)
    if args.report:
        card["scores"] = _scores(Path(args.report) / "summary.json", None if config["network"] in models.QUALITY_NETWORKS else
                                 args.system or Path(args.run).name)
    if args.validation:
        card["bias"] = _bias(Path(args.validation) / "summary.json")
    shutil.copy(weights, pretrained.WEIGHTS / f"{args.name}.weights.h5")
    files.write_json(pretrained.WEIGHTS / f"{args.name}.json", card)
    print(f"{pretrained.WEIGHTS / args.name}.weights.h5, sha256 {card['sha256'][:12]}...")


def _bias(path):
    """By how much Quality-Net's predictions are too high on average: {"data": of what, system: mean of predicted - true}."""
    summary = _summary(path, predictions=True)
    return {"data": summary["note"], **{system: round(entry["bias"], 3) for system, entry in summary["prediction"].items()}}


def _summary(path, predictions=False):
    if not path.is_file():
        raise UserError(f"{path}: no such report; make one with test.py")
    summary = json.loads(path.read_text())
    if predictions and not summary["prediction"]:
        raise UserError(f"{path}: holds no predictions; make it with test.py --quality-net")
    return summary


def _scores(path, system):
    """What a report says of an enhancer; with None, what it says of Quality-Net's predictions."""
    summary = _summary(path, predictions=system is None)
    if system is None:
        return {"target": summary["target"], "prediction": summary["prediction"], "note": summary["note"]}
    found = {metric: {"mean": systems[system]["mean"], "per_snr": systems[system]["per_snr"]}
             for metric, systems in summary["averages"].items() if system in systems}
    if not found:
        raise UserError(f"{path}: no system {system!r} in it")
    return {**found, "note": summary["note"]}


if __name__ == "__main__":
    cli.run(main)
