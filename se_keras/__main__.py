"""python -m se_keras: what there is, by name."""

import textwrap

from tabulate import tabulate

from se_keras import cli, losses, metrics, models, pretrained

SCRIPTS = ("data/prepare.py", "train.py", "finetune.py", "test.py", "enhance.py", "score.py", "listen.py", "export.py")
SHOWN = ("pesq_raw", "pesq_wb", "stoi")


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.parse_args(argv)
    rows = []
    for path in sorted(pretrained.WEIGHTS.glob("*.json")):
        card = pretrained.read_card(str(path))  # by its path: a folder here may have its name
        means = {name: scores["mean"] for name, scores in card.get("scores", {}).items() if isinstance(scores, dict) and "mean" in scores}
        said = ", ".join(f"{name} {means[name]:.3f}" for name in SHOWN if name in means)
        rows.append([path.stem, card["network"], said])
    print("Trained weights, a name for every script:\n")
    print(tabulate(rows, ("name", "network", "on its test mixtures")))
    for title, names in (("Enhancers to train (train.py enhancer --model)", models.ENHANCERS),
                         ("Presets (--preset)", cli.presets()), ("Terms of a loss (--loss)", losses.KNOWN.split(", ")),
                         ("Metrics (test.py --metrics)", metrics.NAMES), ("Scripts (--help explains each)", SCRIPTS)):
        print(f"\n{title}:\n" + textwrap.fill(", ".join(names), 100, initial_indent="  ", subsequent_indent="  "))


if __name__ == "__main__":
    cli.run(main)
