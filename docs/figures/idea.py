"""Draws idea.png: clean and noisy speech, the enhancer, Quality-Net, the score, and the gradient back.

    python docs/figures/idea.py
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

BLUE, ORANGE, GREY, RED = "#0072B2", "#E69F00", "#555555", "#B03A00"  # told apart by colour-blind eyes too


def box(axes, x, y, width, height, title, below, colour, dashed=False):
    """A box around (x, y) with a title and a line below it."""
    axes.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0.02,rounding_size=0.12", linewidth=2,
                                  edgecolor=colour, facecolor=f"{colour}22", linestyle="--" if dashed else "-"))
    axes.text(x, y + 0.17, title, ha="center", va="center", fontsize=13, weight="bold", color=colour)
    axes.text(x, y - 0.24, below, ha="center", va="center", fontsize=10, color=GREY)


def arrow(axes, start, end, colour=GREY, curve=0.0, dashed=False):
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2, "linestyle": "--" if dashed else "-",
                                              "connectionstyle": f"arc3,rad={curve}", "shrinkA": 0, "shrinkB": 0, "mutation_scale": 16})


def draw(path):
    figure, axes = plt.subplots(figsize=(10, 3.6), dpi=110)
    axes.set_xlim(0, 10)
    axes.set_ylim(0, 3.6)
    axes.axis("off")
    axes.text(0.75, 1.3, "noisy\nspeech", ha="center", va="center", fontsize=12)
    axes.text(0.75, 2.85, "clean\nspeech", ha="center", va="center", fontsize=12)
    box(axes, 2.9, 1.3, 1.9, 1.0, "enhancer", "learns", BLUE)
    box(axes, 6.3, 2.0, 2.1, 1.2, "Quality-Net", "predicts PESQ; frozen", ORANGE, dashed=True)
    axes.text(8.95, 2.0, "predicted\nscore Q", ha="center", va="center", fontsize=12, weight="bold")
    arrow(axes, (1.25, 1.3), (1.9, 1.3))
    arrow(axes, (3.9, 1.3), (5.2, 1.8))
    axes.text(4.55, 1.18, "enhanced", ha="center", fontsize=10, color=GREY)
    arrow(axes, (1.25, 2.85), (5.2, 2.3))
    arrow(axes, (7.4, 2.0), (8.35, 2.0))
    arrow(axes, (8.9, 1.55), (2.9, 0.75), RED, curve=-0.22, dashed=True)
    axes.text(6.3, 0.12, "gradient of (1 - Q)² back into the enhancer: PESQ itself has none", ha="center", va="bottom", fontsize=11,
              color=RED)
    figure.savefig(path, bbox_inches="tight", facecolor="white")
    plt.close(figure)


if __name__ == "__main__":
    draw(Path(__file__).with_name("idea.png"))
