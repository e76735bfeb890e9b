"""Utterances to listen to: which of a report's, at what level, in how many bytes."""

import base64
import hashlib
import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import soundfile as sf

from se_keras import backend
from se_keras.report import judges, tables
from se_keras.signals.audio import SAMPLE_RATE

_COMPRESSION = 0.84  # libsndfile's scale for Opus: about 48 kb/s, where speech of 16 kHz in noise is hard to tell from the original
_MOST_GAIN = 10 ** (12 / 20)  # by which one version is raised or lowered: a system that lost the speech stays quiet
_PEAK = 0.99


def choose(scores, system, baseline="noisy", distances=()):
    """Utterances of a report in the order in which they are worth hearing, each with the rules that chose it.

    First, of every metric, the ones in which `system` gains most over `baseline`, its median, and least; of every judge the one of
    `system` that it overrates most. Then all others, one of each SNR and noise type in turn, in an order that depends on their ids alone.

    Args:
        scores: score rows (`tables.read_scores`).
        system, baseline: names in them.
        distances: metrics and judges of which less is better.

    Returns:
        {id: list of rules in words}, of every utterance; the list is empty where no rule chose it.
    """
    chosen = {}
    for metric in tables.metric_names(scores):
        table, _ = tables.paired(scores, metric)
        if table.empty or system == baseline:
            continue
        gain = (table[system] - table[baseline]).sort_values(kind="stable")
        if metric in distances:
            gain = -gain[::-1]
        for rule, place in (("best", -1), ("typical", len(gain) // 2), ("worst", 0)):
            chosen.setdefault(gain.index[place], []).append(f"{rule} {metric}")
    own = scores[scores["system"] == system].set_index("id")
    for judge, (true, predicted) in judge_columns(scores).items():
        gap = (own[predicted] - own[true]).astype(float).dropna() * (-1 if judge in distances else 1)
        if len(gap):
            chosen.setdefault(gap.idxmax(), []).append(f"most overrated by {judge}")
    utterances = scores.drop_duplicates("id")
    order = sorted(zip(tables.snr_labels(utterances["snr_db"]), utterances["noise_type"], utterances["id"], strict=True),
                   key=lambda row: hashlib.sha256(row[2].encode()).digest())
    seen, turns = {}, []
    for level, noise, name in order:
        turn = seen[level, noise] = seen.get((level, noise), 0) + 1
        turns.append((turn, name))
    return chosen | {name: [] for _, name in sorted(turns, key=lambda pair: pair[0]) if name not in chosen}


def judge_columns(scores):
    """{judge: (column of the truth, column of its predictions)} of score rows; that of --quality-net is called "Quality-Net"."""
    named = [name.removeprefix("predicted[").removesuffix("]") for name in scores.columns if name.startswith("predicted[")]
    found = {name: judges.columns(name) for name in named}
    if "predicted" in scores and scores["predicted"].notna().any():
        found = {"Quality-Net": ("target", "predicted"), **found}
    return found


def matched(waves, reference=None):
    """The versions of one utterance at one speech level, and none of them clipped.

    A version's speech is its projection on the clean wave; it is brought to the clean wave's level by at most 12 dB. Where there is no
    clean wave, all get the root mean square of the first. Then one gain for all keeps the highest peak below full scale.

    Args:
        waves: {name: float32 `(samples,)`} of one length.
        reference: name of the clean wave among them; None where there is none.

    Returns:
        {name: float32 `(samples,)`}.
    """
    first = waves[reference or next(iter(waves))].astype(np.float64)
    result = {}
    for name, wave in waves.items():
        level = wave @ first if reference else np.sqrt((wave.astype(np.float64) ** 2).sum() * (first ** 2).sum())
        gain = first @ first / level if level > 0 else 1.0
        result[name] = wave * np.clip(gain, 1 / _MOST_GAIN, _MOST_GAIN)
    peak = max(np.abs(wave).max(initial=0.0) for wave in result.values())
    common = min(1.0, _PEAK / peak) if peak > 0 else 1.0
    return {name: (common * wave).astype(np.float32) for name, wave in result.items()}


def opus(wave):
    """Bytes of an Ogg Opus file of about 48 kb/s.

    Args:
        wave: float32 `(samples,)` at 16 kHz, in [-1, 1].
    """
    buffer = io.BytesIO()
    sf.write(buffer, wave, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=_COMPRESSION)
    return buffer.getvalue()


def encoded(heard, budget, reference="clean"):
    """Utterances as a page holds them, as many as fit.

    Args:
        heard: {id: {name: float32 `(samples,)`}}.
        budget: characters of base64 at most.
        reference: of `matched`, where an utterance has such a version.

    Returns:
        {id: {name: base64 of `opus`}}, in the order of `heard`, without those for which the budget does not last.
    """
    kept = {}
    with ThreadPoolExecutor(backend.available_cores()) as pool:  # the encoder runs outside Python's lock, at some 20 times real time
        for name, waves in heard.items():
            versions = matched(waves, reference if reference in waves else None)
            files = pool.map(opus, versions.values())
            texts = {version: base64.b64encode(file).decode() for version, file in zip(versions, files, strict=True)}
            if (size := sum(map(len, texts.values()))) <= budget:
                kept[name] = texts
                budget -= size
    return kept
