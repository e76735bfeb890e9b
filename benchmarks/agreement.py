#!/usr/bin/env python
"""How well terms with a gradient agree with the measures that they stand for: LCC, RMSE and the correlation of the change.

  python benchmarks/agreement.py --data data/letter --systems noisy blstm-mse blstm-qnet --limit 300

Each term is computed on the waves of a test mixture, as an enhancer leaves them; the measure comes from its own package (pesq, pystoi).
Change: of a later system minus the first one that is not noisy speech, mixture by mixture.
"""

import sys
from pathlib import Path

import numpy as np
from tabulate import tabulate
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from se_keras import backend, cli, pretrained  # noqa: E402  (the path above lets the script run from anywhere)
from se_keras.mixtures import manifest  # noqa: E402

MEASURES = {"hearing_nb": "pesq_raw", "hearing_wb": "pesq_wb", "pmsqe": "pesq_raw", "stoi": "stoi", "estoi": "estoi", "si_sdr": "si_sdr",
            "llr": "llr"}


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument("--data", required=True, metavar="DIR", help="a folder made by data/prepare.py")
    parser.add_argument("--split", choices=("test", "valid"), default="test")
    parser.add_argument("--systems", nargs="+", default=["noisy", "blstm-mse", "blstm-qnet"], metavar="SYSTEM")
    parser.add_argument("--limit", type=cli.positive_int, default=300, metavar="N", help="mixtures, each SNR and noise type in its share")
    parser.add_argument("--terms", nargs="+", choices=list(MEASURES), default=list(MEASURES), metavar="TERM", help=", ".join(MEASURES))
    args = parser.parse_args(argv)
    rows = manifest.read(Path(args.data) / f"{args.split}.jsonl")

    backend.load()
    from se_keras.scoring import evaluation, scores

    rows = evaluation.subset(rows, args.limit)
    systems = [pretrained.load_system(name) for name in args.systems]
    measured = sorted({MEASURES[term] for term in args.terms})
    true, said = {}, {}
    with scores.Scorer(measured, Path(args.data) / "scores") as scorer:
        for system in systems:
            results = evaluation.score_system(rows, system, scorer)
            true[system.name] = {name: np.array([result[name] for result in results], float) for name in measured}
            said[system.name] = {name: [] for name in args.terms}
            for row in tqdm(rows, desc=f"terms of {system.name}", unit="mixture"):
                for name, value in term_values(system, row, args.terms).items():
                    said[system.name][name].append(value)
    print(tabulate(table(args.terms, true, said), headers=["term", "measure", "LCC", "RMSE", *[f"change: {name}" for name in _later(said)]],
                   tablefmt="github", floatfmt=".3f"))


def term_values(system, row, terms):
    """{term: the measure that it stands for} of a system's output for a row."""
    from se_keras import losses
    from se_keras.models.hearing import unit_score
    from se_keras.signals import mixing
    from se_keras.signals.stft import Stft, magnitude, stft

    noisy, clean = mixing.pair(row)
    enhanced, = system.enhance([noisy])
    spectra = [magnitude(stft(wave, Stft()))[None] for wave in (clean, enhanced)]
    waves = [wave[None] for wave in (clean, enhanced)]
    values = {}
    for term in losses.parse(",".join(terms)).terms:
        pair = waves if term.hears == "wave" else spectra
        values[term.name] = float(np.asarray(term.function(*pair, np.ones(pair[0].shape[:2], bool)))[0])
    to_measure = {"hearing_nb": lambda loss: 4.5 - loss, "hearing_wb": lambda loss: 1 + 3.644 * float(unit_score(4.5 - loss, "wb")),
                  "si_sdr": lambda loss: -loss, "pmsqe": lambda loss: -loss, "llr": lambda loss: loss}
    return {name: to_measure.get(name, lambda loss: 1 - loss)(value) for name, value in values.items()}


def _later(systems):
    return [name for name in systems if name != "noisy"][1:]


def table(terms, true, said):
    """Rows of (term, measure, LCC and RMSE over all systems, LCC of the change of each later one). RMSE without any fit."""
    lines = []
    for term in terms:
        measure = MEASURES[term]
        truth, guess = (np.concatenate([of[name][key] for name in true]) for of, key in ((true, measure), (said, term)))
        first = [name for name in true if name != "noisy"][:1]
        changes = [_lcc(true[name][measure] - true[first[0]][measure], np.subtract(said[name][term], said[first[0]][term]))
                   for name in _later(true)]
        rmse = None if term == "pmsqe" else float(np.sqrt(np.nanmean((truth - guess) ** 2)))  # pmsqe has a scale of its own
        lines.append([term, measure, _lcc(truth, guess), rmse, *changes])
    return lines


def _lcc(a, b):
    known = np.isfinite(a) & np.isfinite(b)
    return float(np.corrcoef(a[known], b[known])[0, 1])


if __name__ == "__main__":
    cli.run(main)
