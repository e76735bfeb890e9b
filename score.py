"""Score recordings against their clean references: Quality-Net's predicted PESQ beside the true metrics."""

import json
import math
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import scipy.signal
from tabulate import tabulate
from tqdm import tqdm

from se_keras import audio, cli, metrics, models, pretrained, streaming
from se_keras.errors import UserError
from se_keras.metrics.pesq import raw_to_nb
from se_keras.stft import Stft

DESCRIPTION = """Score degraded or enhanced speech, against its clean reference or, by a Quality-Net that needs none, without.

  python score.py --degraded enhanced.wav --reference clean.wav
  python score.py --degraded enhanced/ --reference clean/          folders, paired by file name without suffix
  python score.py --degraded enhanced.wav --reference clean.wav --json
  python score.py --degraded recording.wav                         what the non-intrusive Quality-Net predicts, and nothing else

Predicted PESQ comes from Quality-Net, on the raw scale of P.862 (-0.5 to 4.5, narrow band) and mapped to MOS-LQO by P.862.1 (of
one that was trained for another target: that); the metrics beside it are measured. Files are resampled to 16 kHz and their channels
averaged. The degraded signal's level does not matter. What has no score (silence, under a quarter second) is empty
in the table, null in JSON, and its reason is said."""
HEADERS = {"predicted_pesq_raw": "PESQ raw\npredicted", "predicted_pesq_nb": "PESQ nb\npredicted", "pesq_raw": "PESQ raw",
           "pesq_nb": "PESQ nb", "pesq_wb": "PESQ wb", "stoi": "STOI", "estoi": "ESTOI", "si_sdr": "SI-SDR\ndB"}
FRAME = Stft().hop_length  # samples that the two lengths may differ by


def main(argv=None):
    parser = cli.parser(DESCRIPTION)
    parser.add_argument("--degraded", required=True, metavar="X", help="an audio file, or a folder of them")
    parser.add_argument("--reference", metavar="Y", help="the clean file, or the folder of clean files; left out, nothing is measured")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--quality-net", metavar="NAME|RUN",
                        help="a shipped Quality-Net, a run folder of train.py quality-net, or none: measure only; by default "
                             f"{pretrained.DEFAULT_QUALITY_NET}, without a reference {pretrained.DEFAULT_NON_INTRUSIVE}")
    args = parser.parse_args(argv)
    if args.quality_net is None:
        without = args.reference is None and pretrained.DEFAULT_NON_INTRUSIVE in pretrained.names()
        args.quality_net = pretrained.DEFAULT_NON_INTRUSIVE if without else pretrained.DEFAULT_QUALITY_NET
    pairs = pair_files(args.degraded, args.reference)
    if args.reference is None and (args.quality_net == "none" or
                                   pretrained.read_card(args.quality_net, models.QUALITY_NETWORKS)["network"] != "quality_net_2018"):
        raise UserError("--reference is missing: the metrics, and most Quality-Nets, compare with the clean speech; name the clean file or "
                        "folder, or a Quality-Net that needs none (train.py quality-net --model quality_net_2018)")
    predictor = None if args.quality_net == "none" else pretrained.load_quality_net(args.quality_net)

    rows, notes, failed = [], Counter(), []
    for degraded, reference in tqdm(pairs, desc="scoring", disable=len(pairs) == 1 or None):
        try:
            waves = read_pair(degraded, reference, notes)
        except UserError as error:
            failed.append(error)
            continue
        rows.append({"degraded": str(degraded), "reference": reference and str(reference), **score(*waves, predictor)})
    for note, count in notes.items():
        print(f"note: {count} of {(1 if args.reference is None else 2) * len(pairs)} files {note}", file=sys.stderr)
    if rows:
        print(json.dumps(as_json(rows, args.quality_net), indent=2) if args.json else as_table(rows))
    for error in failed:
        print(f"error: {error}", file=sys.stderr)
    return 2 if failed else 0


def pair_files(degraded, reference):
    """Pairs of (degraded, reference) paths: two files, or two folders paired by file name without suffix; None for no reference.

    Raises:
        UserError: a missing file or folder, a file against a folder, a folder without audio, a name that stands twice in a
            folder, degraded files without a reference in the other folder.
    """
    degraded, reference = Path(degraded), reference and Path(reference)
    for path in filter(None, (degraded, reference)):
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
    if reference is None:
        return [(path, None) for path in ([degraded] if degraded.is_file() else audio_files(degraded))]
    if degraded.is_dir() != reference.is_dir():
        raise UserError(f"{degraded} and {reference}: one is a file and one a folder; name two files or two folders")
    if degraded.is_file():
        return [(degraded, reference)]
    ours, theirs = by_stem(degraded), by_stem(reference)
    if lone := sorted(set(ours) - set(theirs)):
        raise UserError(f"{reference}: holds no reference for {len(lone)} of {len(ours)} files of {degraded}: "
                        f"{', '.join(lone[:5])}{' ...' if len(lone) > 5 else ''}; a pair has one name, its suffix aside")
    return [(path, theirs[stem]) for stem, path in ours.items()]


def by_stem(folder):
    """{file name without suffix: path} of the audio files in a folder and its subfolders."""
    found = {}
    for path in audio_files(folder):
        if path.stem in found:
            raise UserError(f"{found[path.stem]} and {path} have one name, by which pairs are found; rename one")
        found[path.stem] = path
    return found


def audio_files(folder):
    """The audio files in a folder and its subfolders, sorted.

    Raises:
        UserError: there is none.
    """
    found = sorted(filter(streaming.is_audio, folder.rglob("*")))
    if not found:
        raise UserError(f"{folder}: a folder without audio files ({', '.join(sorted(streaming.FORMATS))})")
    return found


def read_pair(degraded, reference, notes):
    """The two waves, float32 `(samples,)` at 16 kHz, of one length, the second None where there is no reference; `notes` counts the
    files to which something was done.

    Raises:
        UserError: an unreadable file, or lengths that differ by more than a frame.
    """
    waves = []
    for path in filter(None, (degraded, reference)):
        wave, rate = audio.read_any_rate(path)
        waves.append(audio.resample(wave, rate, audio.SAMPLE_RATE))
        if rate != audio.SAMPLE_RATE:
            notes[f"resampled from {rate} to {audio.SAMPLE_RATE} Hz, the rate of every score here"] += 1
    if reference is None:
        return [*waves, None]
    lengths = [len(wave) for wave in waves]
    if abs(lengths[0] - lengths[1]) > FRAME:
        raise UserError(f"{degraded} holds {lengths[0]} samples at 16 kHz and {reference} {lengths[1]}, expected the same "
                        f"within {FRAME}; is it the same recording? cut both to one length")
    if lengths[0] != lengths[1]:
        notes["cut to the length of the other one of its pair"] += 1
    return [wave[:min(lengths)] for wave in waves]


def score(degraded, reference, predictor):
    """Predicted and measured scores of a pair: {name: float or None}, and "error": the reasons for every None, or None."""
    if reference is None:
        row = {"error": None if degraded.any() else "the degraded signal is digital silence"}
    else:
        row = metrics.evaluate(metrics.DEFAULT, reference, degraded)
    return row if predictor is None else {**predict(degraded, reference, predictor), **row}


def predict(degraded, reference, predictor):
    """Predicted scores of a pair: {name: float, or None where one of its signals is silent}."""
    value, needed = None, [degraded] if reference is None else [degraded, reference]
    if all(wave.any() for wave in needed):
        matched = match_level(degraded, reference) if predictor.needs_reference else degraded
        value = float(predictor.predict_waves([(matched, reference)])[0])
    predicted = {f"predicted_{predictor.target.text}": value}
    if predictor.target.text == "pesq_raw":
        predicted["predicted_pesq_nb"] = None if value is None else raw_to_nb(value)
    return predicted


def match_level(degraded, reference):
    """`degraded` times the gain that makes the reference in it as loud as the reference.

    A recording may come at any level, but Quality-Net has learned from mixtures, in which the speech is as loud as its
    reference. The gain is <s, s> / max |<s, x>| over all delays, so a delay does not matter, nor the sign.
    """
    peak = np.abs(scipy.signal.correlate(degraded.astype(np.float64), reference.astype(np.float64), method="fft")).max()
    return degraded * np.float32(np.sum(np.square(reference, dtype=np.float64)) / peak)


def means(rows):
    """Mean over the rows that have the score, for every score."""
    names = [name for name in rows[0] if name in HEADERS or name.startswith("predicted_")]
    values = {name: [row[name] for row in rows if row[name] is not None and math.isfinite(row[name])] for name in names}
    return {name: float(np.mean(found)) if found else None for name, found in values.items()}


def as_json(rows, quality_net):
    """What --json prints: infinite scores (SI-SDR of identical signals) become null, which JSON can say."""
    def finite(value):
        return None if isinstance(value, float) and not math.isfinite(value) else value

    pairs = [{name: finite(value) for name, value in row.items()} for row in rows]
    return {"quality_net": quality_net, "pairs": pairs, "mean": means(rows)}


def as_table(rows):
    """One line a pair, the mean under several, the reasons for empty cells below."""
    mean = means(rows)
    names = [Path(row["degraded"]).name for row in rows]
    if len(set(names)) < len(names):  # one name in several folders
        names = [row["degraded"] for row in rows]
    lines = [[name, *(row[score] for score in mean)] for name, row in zip(names, rows, strict=True)]
    if len(rows) > 1:
        lines += [["mean", *mean.values()]]
    headers = ["degraded", *(HEADERS.get(name, f"{name.removeprefix('predicted_')}\npredicted") for name in mean)]
    reasons = [f"{name}: {row['error']}" for name, row in zip(names, rows, strict=True) if row["error"]]
    return "\n".join([tabulate(lines, headers=headers, floatfmt=".3f"), *reasons])


if __name__ == "__main__":
    cli.run(main)
