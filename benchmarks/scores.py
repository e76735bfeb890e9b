"""Labelling: the pool of processes against the plain packages in one process, and a second labelling against the first.

On the test speech of ../shared/data (about 4.4 s an utterance) where it is there, else on synthetic signals of 4 s; white noise
at 5 dB. The pool's time holds everything: reading, mixing, hashing and keeping the scores.
"""

import functools
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import measuring
from se_keras.mixtures.manifest import Utterance
from se_keras.scoring import scores
from se_keras.signals import audio, mixing


def run(quick, _):
    """Rows of the table: the peer is the plain package in one process, then the first labelling. The pool takes all cores."""
    from pesq import pesq
    from pystoi import stoi

    utterances = 20 if quick else 200
    peers = {"pesq_nb": functools.partial(_pesq, pesq, "nb"), "pesq_wb": functools.partial(_pesq, pesq, "wb"),
             "stoi": lambda clean, noisy: stoi(clean, noisy, audio.SAMPLE_RATE)}
    table = []
    with tempfile.TemporaryDirectory() as folder:
        rows = _rows(Path(folder), utterances)
        pairs = [mixing.pair(row) for row in rows]
        for name, peer in peers.items():
            measuring.progress(f"labelling: {name}")
            began = time.perf_counter()
            for noisy, clean in pairs:
                peer(clean, noisy)
            plain = utterances / (time.perf_counter() - began)

            with scores.Scorer([name], cache=Path(folder) / name) as scorer:
                warm = [scores.wave_job(rows[0], pairs[0][0] * (2 + number)) for number in range(scorer.workers)]
                scorer.score(warm, progress=False)  # the workers are up; start-up is not what is measured
                first, second = (_rate(scorer, rows) for _ in range(2))
                workers = scorer.workers
            aim = f"ratio >= {0.9 * workers:.1f}" if name.startswith("pesq") else ""
            package = name.split("_")[0].replace("stoi", "pystoi")
            table += [measuring.row(f"labelling with {name}, {workers} processes", "utt/s", first, plain, aim=aim,
                                    remark=f"peer: the {package} package in one process"),
                      measuring.row(f"labelling with {name} a second time", "utt/s", second, first, aim="ratio >= 50",
                                    remark="peer: the first time")]
    return table


def _pesq(pesq, band, clean, noisy):
    return pesq(audio.SAMPLE_RATE, clean, noisy, band)


def _rate(scorer, rows):
    began = time.perf_counter()
    scorer.score([scores.mixture_job(row) for row in rows], progress=False)
    return len(rows) / (time.perf_counter() - began)


def _rows(folder, count):
    speech = sorted((measuring.ROOT.parent / "shared/data/speech/test").rglob("*.flac"))
    if not speech:
        from tests.conftest import speech_like

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
