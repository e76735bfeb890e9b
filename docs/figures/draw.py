"""Draws the figures of docs/results.md that need no run: the shipped weights, the tables and a curve's numbers are enough.

    python docs/figures/draw.py --data data/letter    # spectrograms.png, which needs the data; without --data the others alone

quality_net_learning_curve.png: the history of that training was not kept. quality_net_history.csv holds its numbers as they were read
off the figure that was drawn from it: correlations and RMSE to 0.001, which the values in docs/trials.md confirm; losses to 1%.
"""

import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import pandas as pd

import se_keras
from se_keras.mixtures import manifest
from se_keras.report import curves, figures
from se_keras.signals import mixing

HERE = Path(__file__).resolve().parent
UTTERANCE = "533-1066-0004-0000_baby_cry_-6dB"


def ours():
    """{system: {metric: average}} of "The letter's Table I" in docs/results.md."""
    values, metric = {}, None
    section = (HERE.parent / "results.md").read_text(encoding="utf-8").split("## The letter's Table I", 1)[1].split("\n## ", 1)[0]
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) > 8 and re.fullmatch(r"-?\d+\.\d+", cells[7]):
            metric = cells[0] or metric
            values.setdefault(cells[1], {})[metric] = float(cells[7])
    return values


def spectrograms(data, path):
    """Clean, noisy and enhanced speech of one test mixture at -6 dB, the lowest SNR of the test."""
    row = next(row for row in manifest.read(Path(data) / "test.jsonl") if row.id == UTTERANCE)
    noisy, clean = mixing.pair(row)
    waves = {"clean": clean, "noisy": noisy}
    waves |= {name: se_keras.load_system(name).enhance([noisy])[0] for name in ("blstm-mse-augmented", "blstm-qnet", "blstm-hearing")}
    return figures.spectrograms(waves, path, title=f"{row.noise_type.replace('_', ' ')} at {row.snr_db:g} dB")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="DIR", help="the data folder of docs/results.md")
    parser.add_argument("--out", metavar="FOLDER", default=HERE, type=Path, help="folder for the figures")
    given = parser.parse_args(argv)
    history = pd.read_csv(HERE / "quality_net_history.csv")
    drawn = [curves.quality_net_learning_curve(history, given.out / "quality_net_learning_curve.png"),
             figures.beside_the_letter(ours(), given.out / "beside_the_letter.png"),
             figures.pareto(pd.read_csv(HERE / "pareto.csv"), given.out / "pareto.png")]
    if given.data:
        drawn.append(spectrograms(given.data, given.out / "spectrograms.png"))
    for path in drawn:
        print(path)


if __name__ == "__main__":
    main()
