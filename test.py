"""Score systems on a test manifest: a table with intervals and paired tests, and a report folder.

A system is noisy (the mixture itself), wiener, a shipped model's name, a weights file, or a run folder of train.py or
finetune.py. Every score is kept in the data folder: what was scored before is neither enhanced nor scored again.

examples:
  python test.py --data data/demo --systems noisy wiener blstm-mse blstm-qnet --out runs/report
      the table of the README on the demo's test set; runs/report holds index.html (tables, charts, and utterances to listen to),
      scores.csv, summary.json, table.md, leaderboard.md, leaderboard.csv and figures/
  python test.py --data data/demo --systems noisy runs/mse runs/finetuned --out runs/quick --limit 200 --quality-net quality-net
      two runs of one's own on 200 test mixtures, and how well Quality-Net predicts their PESQ
  python test.py --data data/demo --systems noisy blstm-mse blstm-qnet --out runs/judged --judges hearing_nb hearing_wb quality-net
      how well each judge follows the truth, and the change from the first system that is not noisy
  python test.py --data data/demo --systems noisy wiener dnn-mse blstm-mse --out runs/report --sort rtf
      the fastest first, in the tables and in the leaderboard; what a system costs is always shown

Paired tests: the last system against the one before it, every later trained system against the first, and all against noisy.
"""

import itertools
import json
from pathlib import Path

from se_keras import cli, files, metrics, pretrained
from se_keras.errors import UserError, check_choice
from se_keras.mixtures import manifest

UNTRAINED = ("noisy", "wiener")


def distinct_names(names, given, flag="--systems"):
    """Names that differ, from "clean" too: systems that share one are called by the end of their path, as long as it takes.

    Raises:
        UserError: the same system twice.
    """
    paths = [Path(one.removesuffix(".weights.h5").removesuffix(".json")).resolve().parts for one in given]
    if len(set(paths)) < len(paths):
        twice = next(one for one, path in zip(given, paths, strict=True) if paths.count(path) > 1)
        raise UserError(f"{flag}: {twice} is listed twice; list each once")
    length, labels = 0, names
    while len({*labels, "clean"}) <= len(labels):
        length += 1
        labels = ["/".join(path[-length:]) if (names.count(name) > 1 or name == "clean") and one not in UNTRAINED else name
                  for name, one, path in zip(names, given, paths, strict=True)]
    return labels


def overlap(data):
    """What corpus.json says that the test shares with training, as a sentence after others; "" where it shares nothing."""
    try:
        said = json.loads((data / "corpus.json").read_text(encoding="utf-8")).get("overlap", "")
    except (OSError, ValueError, AttributeError):  # manifests alone are a data folder too
        said = ""
    return said and f" Not unseen: {said}."


def check_references(rows, chosen, judges, data):
    """See that nothing is asked of rows without a clean reference that needs one.

    Args:
        rows: manifest rows.
        chosen: `metrics.Metric`s.
        judges: names of Quality-Nets.
        data: the folder, for the message.

    Raises:
        UserError: a metric that compares with the clean speech, or a judge, whose truth does.
    """
    without = sum(row.clean is None for row in rows)
    has = f"{data} has none" if without == len(rows) else f"{without} of {len(rows)} rows of {data} have none"
    if without and (needing := [metric.name for metric in chosen if metric.needs_reference]):
        raise UserError(f"{', '.join(needing)} need{'' if len(needing) > 1 else 's'} a clean reference; {has}; use --metrics "
                        f"{' '.join(metrics.WITHOUT_REFERENCE)}")
    if without and judges:
        raise UserError(f"{', '.join(judges)}: judges are compared with scores against a clean reference; {has}; leave them out")


def comparisons(names):
    """Pairs (system, baseline) to be tested, see above."""
    systems = [name for name in names if name != "noisy"]
    trained = [name for name in names if name not in UNTRAINED]
    pairs = list(zip(systems[-1:], systems[-2:-1], strict=False)) + [(later, trained[0]) for later in trained[1:]]
    pairs += [(name, "noisy") for name in systems if "noisy" in names]
    return list(dict.fromkeys(pairs))


def arguments(argv):
    parser = cli.parser(__doc__)
    parser.add_argument("--data", required=True, metavar="DIR", help="a folder made by data/prepare.py")
    parser.add_argument("--systems", nargs="+", default=["noisy", "wiener"], metavar="SYSTEM",
                        help="names, weights files (runs/NAME/last.weights.h5), run folders")
    parser.add_argument("--out", required=True, metavar="REPORT", help="folder for the report; an earlier one there is replaced")
    parser.add_argument("--split", choices=("test", "valid"), default="test", help="the manifest to score on")
    parser.add_argument("--limit", type=cli.positive_int, metavar="N", help="score N utterances only, each SNR and noise type in its share")
    parser.add_argument("--metrics", nargs="+", default=list(metrics.DEFAULT), metavar="METRIC",
                        help="of " + ", ".join(metrics.NAMES) + "; or functions of your own, package.module:function[lowest,highest]")
    parser.add_argument("--sort", metavar="METRIC", help="sort the systems, best first, by a metric that is shown, or by params, macs, rtf "
                        "or latency; where not given, the leaderboard is by the first metric, and the tables are as listed")
    parser.add_argument("--quality-net", metavar="NAME|RUN", help="what this Quality-Net predicts, beside the truth")
    parser.add_argument("--judges", nargs="+", default=[], metavar="NAME|RUN",
                        help=f"Quality-Nets, or {', '.join(pretrained.BUILT_IN)}: how well each follows the truth, and its changes")
    cli.add_workers_argument(parser)
    parser.add_argument("--on-error", choices=("row", "fail"), default="row",
                        help="what a metric refuses (silence, under a quarter second): a row with its reason, or stop")
    cli.add_trust_argument(parser)
    parser.add_argument("--batch", type=cli.positive_int, default=16, metavar="N", help="utterances enhanced at a time")
    return parser.parse_args(argv)


def main(argv=None):
    args = arguments(argv)

    # Everything that can be wrong is found here, before anything long begins.
    metrics.own.trust(args.metrics)  # typed, whatever a card names
    chosen = [metrics.get(name) for name in dict.fromkeys(args.metrics)]
    data, out = Path(args.data), Path(args.out)
    if not data.is_dir():
        raise UserError(f"--data: there is no folder {data}; make one with data/prepare.py (python data/prepare.py --help)")
    every = manifest.read(data / f"{args.split}.jsonl", reference=False)
    check_references(every, chosen, [*([args.quality_net] if args.quality_net else []), *args.judges], data)

    pretrained.trust_cards(args.trust_card)
    pretrained.check_judges(args.judges)
    from se_keras import report
    from se_keras.enhancers import cost
    from se_keras.report import costs, page, tables
    from se_keras.scoring import evaluation, scores
    from se_keras.signals import mixing  # after the cheap checks: these take a moment

    systems = [pretrained.load_system(name) for name in args.systems]
    for system, name in zip(systems, distinct_names([system.name for system in systems], args.systems), strict=True):
        system.name = name
    same = [(one.name, other.name) for one, other in itertools.combinations(systems, 2) if one.fingerprint == other.fingerprint]
    predictor = pretrained.load_quality_net(args.quality_net) if args.quality_net else None
    judges = dict(zip(distinct_names([pretrained.read_card(name)["name"] for name in args.judges], args.judges, "--judges"),
                      [pretrained.load_quality_net(name) for name in args.judges], strict=True))
    asked = [*([predictor] if predictor else []), *judges.values()]
    chosen = [metrics.get(name) for name in dict.fromkeys([*args.metrics, *(name for each in asked for name in each.target.metrics)])]
    if args.sort:
        check_choice("--sort", args.sort, (*(metric.name for metric in chosen), *costs.KEYS))
    rows = evaluation.subset(every, args.limit)
    for row in rows:
        mixing.check_gain(row)
    files.check_writable(out)

    part = f", a subset: {len(rows):,} of {len(every):,} utterances, each SNR and noise type in its share"
    real = ", recordings without a clean reference" if any(row.clean is None for row in rows) else ""
    seen = overlap(data) if args.split == "test" else ""
    note = f"Scored on {data / args.split}.jsonl{real}{part if len(rows) < len(every) else ''}.{seen}"
    with scores.Scorer([metric.name for metric in chosen], data / "scores", args.workers, args.on_error) as scorer:
        table = evaluation.evaluate(rows, systems, scorer, out / "scores.csv", args.batch, predictor, judges=judges)

    shown = [system for system in systems if system.name != "noisy"][-2:]  # beside clean and noisy, in the spectrograms
    baseline = "noisy" if "noisy" in args.systems else systems[0].name
    by_id, pictured = {row.id: row for row in rows}, {}
    for hard in (False, True):
        row = by_id[report.typical_utterance(table, systems[-1].name, baseline, hard)]
        noisy, clean = mixing.pair(row)
        level = "" if row.snr_db is None else f" at {row.snr_db:g} dB"
        waves = {"clean": clean, "noisy": noisy, **{system.name: system.enhance([noisy])[0] for system in shown}}
        pictured[f"{row.id}: {row.noise_type}{level}"] = {name: wave for name, wave in waves.items() if wave is not None}
    about = metrics.about(metric.name for metric in chosen)
    names = [system.name for system in systems]

    def hear(ids):
        playing = page.audible(names)
        return evaluation.waves_of([by_id[name] for name in ids], [system for system in systems if system.name in playing], args.batch)

    summary = report.write(table, out, comparisons(names), about, pictured, note, same_weights=same,
                           judged={name: judge.target.label for name, judge in judges.items()},
                           cost={system.name: cost.measure(system) for system in systems}, sort=args.sort, hear=hear,
                           title=f"{out.name}: {', '.join(names) if len(names) < 7 else f'{len(names)} systems'}",
                           distances=[name for name, judge in {**({"Quality-Net": predictor} if predictor else {}), **judges}.items()
                                      if not judge.target.higher_is_better],
                           **({"target": predictor.target.label} if predictor else {}))
    print(tables.terminal(summary))
    print(f"report: {out}; open {out / 'index.html'} to look and listen")


if __name__ == "__main__":
    cli.run(main)
