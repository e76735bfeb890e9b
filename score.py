"""Score recordings against their clean references: what Quality-Nets predict beside what is measured."""

import json
import math
import sys
import textwrap
from collections import Counter
from pathlib import Path

import numpy as np
import scipy.signal
from tabulate import tabulate
from tqdm import tqdm

from se_keras import cli, metrics, models, pretrained
from se_keras.errors import UserError
from se_keras.metrics.pesq import raw_to_nb
from se_keras.signals import audio, streaming
from se_keras.signals.stft import Stft

DESCRIPTION = """Score degraded or enhanced speech, against its clean reference or, by a Quality-Net that needs none, without.

  python score.py --degraded enhanced.wav --reference clean.wav
  python score.py --degraded enhanced/ --reference clean/          folders, paired by file name without suffix
  python score.py --degraded enhanced.wav --reference clean.wav --json
  python score.py --degraded recording.wav                         what the non-intrusive Quality-Net predicts, and nothing else

Two Quality-Nets predict: one the PESQ of P.862, raw (-0.5 to 4.5, narrow band) and mapped to MOS-LQO by P.862.1; the other, that of the
shipped enhancer, a sum of PESQ, COVL and STOI from 0 to 1. Everything else, and what they predict too, is measured. Files are resampled
to 16 kHz and their channels averaged. The degraded signal's level does not matter. What a metric refuses (silence, under a quarter
second) is empty in the table, null in JSON, and its reason is said."""
PREDICTED = "predicted_"  # and the name of what is
ALSO = {"pesq_raw": {"pesq_nb": raw_to_nb}}  # what follows from a prediction
FRAME = Stft().hop_length  # samples that the two lengths may differ by


def main(argv=None):
    parser = cli.parser(DESCRIPTION)
    parser.add_argument("--degraded", required=True, metavar="X", help="an audio file, or a folder of them")
    parser.add_argument("--reference", metavar="Y", help="the clean file, or the folder of clean files; left out, nothing is measured")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--quality-net", nargs="+", metavar="NAME|RUN",
                        help="shipped Quality-Nets, run folders of train.py quality-net, or none: measure only; by default "
                             f"{pretrained.DEFAULT_QUALITY_NET} and {pretrained.BALANCED_QUALITY_NET}, without a reference "
                             f"{pretrained.DEFAULT_NON_INTRUSIVE}")
    args = parser.parse_args(argv)
    pairs = pair_files(args.degraded, args.reference)
    names = quality_nets(args.quality_net, args.reference)
    predictors = [pretrained.load_quality_net(name) for name in names]
    measured = metrics.DEFAULT if args.reference is None else measurable(predictors)

    rows, notes, failed = [], Counter(), []
    for degraded, reference in tqdm(pairs, desc="scoring", disable=len(pairs) == 1 or None):
        try:
            waves = read_pair(degraded, reference, notes)
        except UserError as error:
            failed.append(error)
            continue
        rows.append({"degraded": str(degraded), "reference": reference and str(reference), **score(*waves, predictors, measured)})
    for note, count in notes.items():
        print(f"note: {count} of {(1 if args.reference is None else 2) * len(pairs)} files {note}", file=sys.stderr)
    if rows:
        print(json.dumps(as_json(rows, names), indent=2) if args.json else
              as_table(rows, {predictor.target.text: predictor.target.label for predictor in predictors}))
    for error in failed:
        print(f"error: {error}", file=sys.stderr)
    return 2 if failed else 0


def quality_nets(given, reference):
    """Names of the Quality-Nets to ask, none loaded yet.

    Args:
        given: of the command line; None for the shipped ones.
        reference: path or None.

    Raises:
        UserError: none that needs no reference, where there is no reference; no Quality-Net; two that predict the same; "none" beside
            others.
    """
    if given is None:
        default = [pretrained.DEFAULT_QUALITY_NET, pretrained.BALANCED_QUALITY_NET] if reference else [pretrained.DEFAULT_NON_INTRUSIVE]
        given = [name for name in default if name in pretrained.names()] or default[:1]
    names = [name for name in given if name != "none"]
    if len(given) > 1 and len(names) < len(given):
        raise UserError(f"--quality-net {' '.join(given)}: none means that no Quality-Net is asked; name it alone")
    cards = [pretrained.read_card(name, models.QUALITY_NETWORKS) for name in names]
    if reference is None and not (cards and all(card["network"] == "quality_net_2018" for card in cards)):
        raise UserError("--reference is missing: the metrics, and most Quality-Nets, compare with the clean speech; name the clean file or "
                        "folder, or a Quality-Net that needs none (train.py quality-net --model quality_net_2018)")
    predicts = {}
    for name, card in zip(names, cards, strict=True):
        target = pretrained.read_target(card).text
        for what in (target, *ALSO.get(target, {})):
            if what in predicts:
                raise UserError(f"{predicts[what]} and {name} both predict {what}; name one of them")
            predicts[what] = name
    return names


def measurable(predictors):
    """Names of the metrics to measure: `metrics.DEFAULT`, and what the Quality-Nets predict; what cannot be had is said and left out."""
    names = dict.fromkeys(metrics.DEFAULT)
    for name in (name for predictor in predictors for name in predictor.target.metrics):
        try:
            metrics.get(name)
            names[name] = None
        except UserError as error:
            print(f"note: {name} is predicted, and not measured: {error}", file=sys.stderr)
    return tuple(names)


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
        if doubt := audio.doubt(path):
            print(f"note: {path}: {doubt}", file=sys.stderr)
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


def score(degraded, reference, predictors, measured=metrics.DEFAULT):
    """Predicted and measured scores of a pair: {name: float or None}, and "error": the reasons for every None, or None.

    Args:
        degraded, reference: float32 `(samples,)`; the reference may be None, and then nothing is measured.
        predictors: list of `surrogate.QualityPredictor`.
        measured: names of metrics. Where they hold all terms of a weighted sum that is predicted, it stands there too, by its text.
    """
    if reference is None:
        row = {"error": None if degraded.any() else "the degraded signal is digital silence"}
    else:
        row = metrics.evaluate(measured, reference, degraded)
        for target in (predictor.target for predictor in predictors):
            if len(target.terms) > 1 and set(target.metrics) <= set(measured):
                value = float(target.to_score(row))
                row[target.text] = value if math.isfinite(value) else None
    predicted = {}
    for predictor in predictors:
        predicted |= predict(degraded, reference, predictor)
    return {**predicted, **row}


def predict(degraded, reference, predictor):
    """Predicted scores of a pair: {name: float, or None where one of its signals is silent}."""
    value, needed = None, [degraded] if reference is None else [degraded, reference]
    if all(wave.any() for wave in needed):
        matched = match_level(degraded, reference) if predictor.needs_reference else degraded
        value = float(predictor.predict_waves([(matched, reference)])[0])
    target = predictor.target.text
    also = {name: None if value is None else follow(value) for name, follow in ALSO.get(target, {}).items()}
    return {PREDICTED + name: found for name, found in {target: value, **also}.items()}


def match_level(degraded, reference):
    """`degraded` times the gain that makes the reference in it as loud as the reference.

    A recording may come at any level, but Quality-Net has learned from mixtures, in which the speech is as loud as its
    reference. The gain is <s, s> / max |<s, x>| over all delays, so a delay does not matter, nor the sign.
    """
    peak = np.abs(scipy.signal.correlate(degraded.astype(np.float64), reference.astype(np.float64), method="fft")).max()
    return degraded * np.float32(np.sum(np.square(reference, dtype=np.float64)) / peak)


def means(rows):
    """Mean over the rows that have the score, for every score."""
    names = [name for name in rows[0] if name not in ("degraded", "reference", "error")]
    values = {name: [row[name] for row in rows if row[name] is not None and math.isfinite(row[name])] for name in names}
    return {name: float(np.mean(found)) if found else None for name, found in values.items()}


def as_json(rows, quality_nets):
    """What --json prints: infinite scores (SI-SDR of identical signals) become null, which JSON can say."""
    def finite(value):
        return None if isinstance(value, float) and not math.isfinite(value) else value

    pairs = [{name: finite(value) for name, value in row.items()} for row in rows]
    return {"quality_net": quality_nets, "pairs": pairs, "mean": means(rows)}


def as_table(rows, labels):
    """A single pair: a line a score, predicted beside measured. Several: a line a pair, and the mean. The reasons for empty cells below.

    Args:
        rows: of `score`, and their names.
        labels: {name: what it is called} where `metrics.label` does not know it.
    """
    def label(name):
        return labels.get(name) or metrics.label(name)

    names = [Path(row["degraded"]).name for row in rows]
    if len(set(names)) < len(names):  # one name in several folders
        names = [row["degraded"] for row in rows]
    given = [name for name in rows[0] if name not in ("degraded", "reference", "error")]
    measured = [name for name in given if not name.startswith(PREDICTED)]
    scores = list(dict.fromkeys(measured + [name.removeprefix(PREDICTED) for name in given]))
    if len(rows) == 1:
        lines = [[label(score), rows[0].get(PREDICTED + score), rows[0].get(score)] for score in scores]
        headers = [names[0], "predicted", "measured"]
    else:
        columns = [name for score in scores for name in (PREDICTED + score, score) if name in rows[0]]
        lines = [[name, *(row[column] for column in columns)] for name, row in [*zip(names, rows, strict=True), ("mean", means(rows))]]
        headers = ["degraded", *("\n".join([*textwrap.wrap(label(column.removeprefix(PREDICTED)), 9),
                                            *["predicted"] * column.startswith(PREDICTED)]) for column in columns)]
    reasons = [f"{name}: {row['error']}" for name, row in zip(names, rows, strict=True) if row["error"]]
    return "\n".join([tabulate(lines, headers=headers, floatfmt=".3f"), *reasons])


if __name__ == "__main__":
    cli.run(main)
