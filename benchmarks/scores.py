"""Labelling: the pool of processes against the plain packages in one process, and a second labelling against the first.

    python benchmarks/scores.py [--utterances 200]

On the test speech of ../shared/data (about 4.4 s an utterance) where it is there, else on synthetic signals of 4 s; white noise
at 5 dB. Run it on a quiet machine. The pool's time holds everything: reading, mixing, hashing and keeping the scores.
"""

import functools
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tabulate import tabulate

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from se_keras import audio, cli, mixing, scores  # noqa: E402
from se_keras.manifest import Utterance  # noqa: E402


def run(utterances=200):
    """Rows of the table: {"benchmark", "unit", "peer", "ours", "ratio", "aim"}; the peer is the plain package in one process."""
    from pesq import pesq
    from pystoi import stoi

    peers = {"pesq_nb": functools.partial(_pesq, pesq, "nb"), "pesq_wb": functools.partial(_pesq, pesq, "wb"),
             "stoi": lambda clean, noisy: stoi(clean, noisy, audio.SAMPLE_RATE)}
    table = []
    with tempfile.TemporaryDirectory() as folder:
        rows = _rows(Path(folder), utterances)
        pairs = [mixing.pair(row) for row in rows]
        for name, peer in peers.items():
            began = time.perf_counter()
            for noisy, clean in pairs:
                peer(clean, noisy)
            plain = utterances / (time.perf_counter() - began)

            with scores.Scorer([name], cache=Path(folder) / name) as scorer:
                warm = [scores.wave_job(rows[0], pairs[0][0] * (2 + number)) for number in range(scorer.workers)]
                scorer.score(warm, progress=False)  # the workers are up; start-up is not what is measured
                first, second = (_rate(scorer, rows) for _ in range(2))
                workers = scorer.workers
            aim = f">= {0.9 * workers:.1f}" if name.startswith("pesq") else ""
            table += [_row(f"{name}: package, pool of {workers}", plain, first, aim),
                      _row(f"{name}: first labelling, second", first, second, ">= 50")]
    return table


def _pesq(pesq, band, clean, noisy):
    return pesq(audio.SAMPLE_RATE, clean, noisy, band)


def _rate(scorer, rows):
    began = time.perf_counter()
    scorer.score([scores.mixture_job(row) for row in rows], progress=False)
    return len(rows) / (time.perf_counter() - began)


def _row(benchmark, peer, ours, aim):
    return {"benchmark": benchmark, "unit": "utt/s", "peer": round(peer, 1), "ours": round(ours, 1), "ratio": round(ours / peer, 2),
            "aim": aim}


def _rows(folder, count):
    speech = sorted((ROOT.parent / "shared/data/speech/test").rglob("*.flac"))
    if not speech:
        from conftest import speech_like

        speech = [folder / f"{number}.wav" for number in range(min(count, 50))]
        for number, path in enumerate(speech):
            audio.write(path, speech_like(4.0, seed=number))
    noise = 0.1 * np.random.default_rng(0).standard_normal(30 * audio.SAMPLE_RATE).astype(np.float32)
    audio.write(folder / "noise.wav", noise)
    noise = audio.read(folder / "noise.wav")
    rows = []
    for number in range(count):
        path = str(speech[number % len(speech)])
        clean = audio.read_cached(path)
        gain = mixing.gain_for_snr(clean, mixing.noise_segment(noise, 1000 * number, len(clean)), 5.0)
        rows.append(Utterance(id=str(number), clean=path, speaker="", noise_type="white", samples=len(clean),
                              noise=str(folder / "noise.wav"), offset=1000 * number, gain=gain))
    return rows


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument("--utterances", type=int, default=200, help="mixtures to label")
    print(tabulate(run(parser.parse_args(argv).utterances), headers="keys"))


if __name__ == "__main__":
    cli.run(main)
