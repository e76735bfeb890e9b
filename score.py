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
from se_keras.corpora.protocol import FRAME
from se_keras.errors import UserError
from se_keras.metrics.pesq import raw_to_nb
from se_keras.signals import audio, streaming

DESCRIPTION = """Score degraded or enhanced speech, against its clean reference or, by a Quality-Net that needs none, without.

  python score.py --degraded enhanced.wav --reference clean.wav
  python score.py --degraded enhanced/ --reference clean/          folders, paired by file name without suffix
  python score.py --degraded enhanced.wav --reference clean.wav --json
  python score.py --degraded recording.wav                         what the non-intrusive Quality-Net predicts, and nothing else

Two judges predict: a Quality-Net with ears the PESQ of P.862, raw (-0.5 to 4.5, narrow band) and mapped to MOS-LQO by P.862.1; the
hearing model PESQ wb (P.862.2). Everything else, and what they predict too, is measured. Files are resampled to 16 kHz and their
channels averaged. The degraded signal's level does not matter. What a metric refuses (silence, under a quarter
second) is empty in the table, null in JSON, and its reason is said; where nothing at all could be scored the exit code is 2."""
PREDICTED = "predicted_"  # and the name of what is
UNHEARD = "predicted_without_reference_"  # the same by a network that has not heard the reference, where there is one
ALSO = {"pesq_raw": {"pesq_nb": raw_to_nb}}  # what follows from a prediction
SHORTEST = audio.SAMPLE_RATE // 4  # samples that PESQ asks for: of fewer there is nothing to predict either
WIDTH, NARROWEST_NAME = 100, 12  # columns of the table of several pairs; what is left of a file's name at least
NAMES = {"pesq_raw": "PESQ raw"}  # as people call it, where the metric's own label is longer


def main(argv=None):
    parser = cli.parser(DESCRIPTION)
    parser.add_argument("--degraded", required=True, metavar="X", help="an audio file, or a folder of them")
    parser.add_argument("--reference", metavar="Y", help="the clean file, or the folder of clean files; left out, nothing is measured")
    cli.add_trust_argument(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--quality-net", nargs="+", metavar="NAME|RUN",
                        help="shipped Quality-Nets, run folders of train.py quality-net, or none: measure only; by default "
                             f"{' and '.join(pretrained.DEFAULT_JUDGES)}, without a reference "
                             f"{pretrained.DEFAULT_NON_INTRUSIVE}")
    args = parser.parse_args(argv)
    pretrained.trust_cards(args.trust_card)
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
        biases = known_biases(names) if args.reference is None else {}
        print(json.dumps(as_json(rows, names, biases), indent=2) if args.json else
              "\n".join([as_table(rows, [predictor.target for predictor in predictors]), *(in_words(*item) for item in biases.items())]))
        if not any(scored(row) for row in rows):
            failed.append(f"not one score could be {'predicted' if args.reference is None else 'measured'}: {rows[0]['error']}")
    for error in failed:
        print(f"error: {error}", file=sys.stderr)
    return 2 if failed else 0


def quality_nets(given, reference):
    """Names of the Quality-Nets to ask, none loaded yet.

    Args:
        given: of the command line; None for the shipped ones.
        reference: path or None.

    Raises:
        UserError: none that needs no reference, where there is no reference; no Quality-Net; two of one kind (those that hear the
            reference, those that do not) that predict the same; "none" beside others.
    """
    if given is None:
        given = pretrained.DEFAULT_JUDGES if reference else [pretrained.DEFAULT_NON_INTRUSIVE]
    names = [name for name in given if name != "none"]
    if len(given) > 1 and len(names) < len(given):
        raise UserError(f"--quality-net {' '.join(given)}: none means that no Quality-Net is asked; name it alone")
    cards = [pretrained.read_card(name, models.QUALITY_NETWORKS) for name in names]
    if reference is None and not (cards and all(card["network"] == "quality_net_2018" for card in cards)):
        raise UserError("--reference is missing: the metrics, and most Quality-Nets, compare with the clean speech; name the clean file or "
                        "folder, or a Quality-Net that needs none (train.py quality-net --model quality_net_2018)")
    predicts = {}
    for name, card in zip(names, cards, strict=True):
        target, hears = pretrained.read_target(card).text, card["network"] != "quality_net_2018"
        for what in (target, *ALSO.get(target, {})):
            if (what, hears) in predicts:
                raise UserError(f"{predicts[what, hears]} and {name} both predict {what}; name one of them")
            predicts[what, hears] = name
    return names


def known_biases(names):
    """{Quality-Net: how much too high it predicts on average, {kind of speech: float}} of those whose cards say so.

    A card has the systems apart; here all that enhance are one kind.
    """
    found = {}
    for name in names:
        bias = pretrained.read_card(name).get("bias", {})
        enhanced = [value for system, value in bias.items() if system not in ("data", "noisy")]
        kinds = {"noisy": bias.get("noisy"), "enhanced": sum(enhanced) / len(enhanced) if enhanced else None}
        if known := {kind: value for kind, value in kinds.items() if value is not None}:
            found[name] = known
    return found


def in_words(name, bias):
    """A bias as a sentence."""
    said = " and ".join(f"{kind} speech {abs(value):.2f} too {'low' if value < 0 else 'high'}" for kind, value in bias.items())
    return textwrap.fill(f"{name}: on validation it predicts {said} on average, single recordings further off either way", WIDTH)


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
        row = {"error": "the degraded signal is digital silence" if not degraded.any() else
                        "shorter than 1/4 s" if len(degraded) < SHORTEST else None}
    else:
        row = metrics.evaluate(measured, reference, degraded)
        for target in (predictor.target for predictor in predictors):
            if len(target.terms) > 1 and set(target.metrics) <= set(measured):
                value = float(target.to_score(row))
                row[target.text] = value if math.isfinite(value) else None
    error = row.pop("error")
    for predictor in predictors:
        row |= predict(degraded, reference, predictor)
    return {**row, "error": error}


def predict(degraded, reference, predictor):
    """Predicted scores of a pair: {name: float, or None where one of its signals is silent or too short}.

    The name is `PREDICTED` and what is predicted; `UNHEARD` and that where there is a reference that the network does not hear.
    """
    value, needed = None, [degraded] if reference is None else [degraded, reference]
    if all(wave.any() and len(wave) >= SHORTEST for wave in needed):
        matched = match_level(degraded, reference) if predictor.needs_reference else degraded
        value = float(predictor.predict_waves([(matched, reference)])[0])
    target = predictor.target.text
    also = {name: None if value is None else follow(value) for name, follow in ALSO.get(target, {}).items()}
    prefix = PREDICTED if reference is None or predictor.needs_reference else UNHEARD
    return {prefix + name: found for name, found in {target: value, **also}.items()}


def scored(row):
    """Whether a row of `score` holds a score: a measured one, or, where nothing is measured, a predicted one."""
    names = [name for name in row if name not in ("degraded", "reference", "error")]
    return any(row[name] is not None for name in [name for name in names if kind_of(name) == ""] or names)


def kind_of(name):
    """`UNHEARD`, `PREDICTED` or, of what is measured, ""."""
    return next((prefix for prefix in (UNHEARD, PREDICTED) if name.startswith(prefix)), "")


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


def as_json(rows, quality_nets, biases):
    """What --json prints; infinite scores (SI-SDR of identical signals) become null, which JSON can say."""
    def finite(value):
        return None if isinstance(value, float) and not math.isfinite(value) else value

    pairs = [{name: finite(value) for name, value in row.items()} for row in rows]
    return {"quality_net": quality_nets, **({"bias": biases} if biases else {}), "pairs": pairs, "mean": means(rows)}


def as_table(rows, targets=()):
    """A single pair: a line a score, predicted beside measured. Several: a line a pair, and the mean. The reasons for empty cells below.

    Measured scores stand before predicted ones. The table is at most `WIDTH` columns wide: long names lose their middle, and of several
    pairs what does not fit beside goes below.

    Args:
        rows: of `score`, and their names.
        targets: `targets.Target` of each Quality-Net, whose weighted sums are explained.
    """
    names = [Path(row["degraded"]).name for row in rows]
    if len(set(names)) < len(names):  # one name in several folders
        names = [row["degraded"] for row in rows]
    columns = [name for prefix in ("", PREDICTED, UNHEARD) for name in rows[0]
               if name not in ("degraded", "reference", "error") and kind_of(name) == prefix]
    sums = {target.text: target for target in targets if len(target.terms) > 1}
    sums = {text: f"sum {number}" if len(sums) > 1 else "sum" for number, text in enumerate(sums, start=1)}
    explained = [f"{sums[target.text]}: {weighted(target)}" for target in targets if target.text in sums]
    said = {"": "measured", PREDICTED: "predicted", UNHEARD: "predicted without reference"}
    if len(rows) == 1:
        kinds = [prefix for prefix in said if any(kind_of(name) == prefix for name in columns)]
        room = min(50, WIDTH - 2 - sum(len(said[prefix]) + 4 for prefix in kinds))  # tabulate pads a header by 2, and a column by 2
        lines = [[shortened(sums.get(score) or called(score), room), *(rows[0].get(prefix + score) for prefix in kinds)]
                 for score in dict.fromkeys(name.removeprefix(kind_of(name)) for name in columns)]
        tables = [tabulate(lines, headers=[shortened(names[0], room), *map(said.get, kinds)], floatfmt=".3f")]
    else:
        def header(name):
            score = name.removeprefix(kind_of(name))
            above = {"": [], PREDICTED: ["predicted"], UNHEARD: ["predicted", "without ref."]}[kind_of(name)]
            return above + textwrap.wrap(sums.get(score) or called(score), 12 if above else 6)

        tables = several([*zip(names, rows, strict=True), ("mean", means(rows))], {name: header(name) for name in columns})
    reasons = [f"{name}: {row['error']}" for name, row in zip(names, rows, strict=True) if row["error"]]
    return "\n".join(["\n\n".join(tables), *explained, *reasons])


def several(rows, headers):
    """Tables of pairs down and scores across, each at most `WIDTH` wide: a list of texts, one where all scores fit side by side.

    Args:
        rows: [(name, {score: float or None})], the mean last; names that differ only where they are cut are numbered.
        headers: {score: lines of its header}.
    """
    deep = max(map(len, headers.values()))
    columns = {score: [""] * (deep - len(lines)) + lines + ["" if row[score] is None else f"{row[score]:.2f}" for _, row in rows]
               for score, lines in headers.items()}
    widths = {score: max(map(len, column)) for score, column in columns.items()}
    tables = [[]]
    for score, width in widths.items():
        if tables[-1] and NARROWEST_NAME + sum(2 + widths[other] for other in tables[-1]) + 2 + width > WIDTH:
            tables.append([])
        tables[-1].append(score)
    room = max(NARROWEST_NAME, WIDTH - max(sum(2 + widths[score] for score in scores) for scores in tables))
    short = [shortened(name, room) for name, _ in rows]
    if len(set(short)) < len(short):
        short = [shortened(f"{number} {name}", room) for number, (name, _) in enumerate(rows[:-1], start=1)] + short[-1:]
    names = [""] * (deep - 1) + ["degraded"] + short
    wide = max(map(len, names))
    texts = []
    for scores in tables:
        aligned = [[name.ljust(wide) for name in names], *([cell.rjust(widths[score]) for cell in columns[score]] for score in scores)]
        lines = ["  ".join(cells) for cells in zip(*aligned, strict=True)]
        lines.insert(deep, "  ".join("-" * width for width in (wide, *(widths[score] for score in scores))))
        texts.append("\n".join(line.rstrip() for line in lines))
    return texts


def called(name):
    """A metric as people call it."""
    return NAMES.get(name) or metrics.label(name)


def weighted(target):
    """A weighted sum in words, such as "0.7 PESQ wb + 0.3 STOI, 0 to 1"."""
    return " + ".join(f"{term.weight:.3g} {called(term.metric)}" for term in target.terms) + ", 0 to 1"


def shortened(name, width):
    """A name that is longer than `width` without its middle."""
    return name if len(name) <= width else f"{name[:(width - 2) // 2]}...{name[len(name) - (width - 3 - (width - 2) // 2):]}"


if __name__ == "__main__":
    cli.run(main)
