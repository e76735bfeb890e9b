"""The small world that a campaign damages copies of: a corpus, trained runs, recordings, kept scores. Made once, in a process of its own.

    python tests/faults/world.py FOLDER
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "listening")]

from conftest import ENHANCER, FINETUNE, PREPARE, QUALITY_NET, load_script, make_tree, noise, prepare, speech_like  # noqa: E402

from se_keras.signals import audio  # noqa: E402

RECORDINGS, RECORDING_S = 8, 6.0  # that enhance.py is killed over: long enough that a kill meets one half done
PAIRS, PAIR_S = 6, 1.5  # that score.py compares
SCORE = ["--systems", "noisy", "--metrics", "pesq_raw", "stoi", "si_sdr", "--workers", "1"]


def make(root):
    """Fill a folder: S/, N/, data/ (with its scores), mse/, quality-net/, in/, clean/, degraded/. Nothing where it is there already.

    Args:
        root: folder; `made.json` in it says that it is whole.
    """
    root = Path(root)
    if (root / "made.json").is_file():
        return
    shutil.rmtree(root, ignore_errors=True)
    import train

    make_tree(root)
    data, mse = root / "data", root / "mse"
    prepare.main(["folders", "--speech", str(root / "S"), "--noise", str(root / "N"), "--out", str(data), *PREPARE])
    train.main(["enhancer", "--data", str(data), "--out", str(mse), *ENHANCER])
    train.main(["quality-net", "--data", str(data), "--enhancer", str(mse), "--out", str(root / "quality-net"), *QUALITY_NET])
    load_script("test.py").main(["--data", str(data), "--out", str(root / "report"), *SCORE])
    for number in range(RECORDINGS):
        wave = 0.5 * speech_like(RECORDING_S, seed=100 + number)
        audio.write(root / "in" / f"r{number}.wav", wave + 0.3 * noise(RECORDING_S, seed=number))
    for number in range(PAIRS):
        clean = 0.5 * speech_like(PAIR_S, seed=200 + number)
        audio.write(root / "clean" / f"p{number}.wav", clean)
        audio.write(root / "degraded" / f"p{number}.wav", clean + 0.2 * noise(PAIR_S, seed=number))
    (root / "made.json").write_text(json.dumps({"enhancer": ENHANCER, "finetune": FINETUNE, "numpy": np.__version__}))


if __name__ == "__main__":
    make(sys.argv[1])
