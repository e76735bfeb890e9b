"""TIMIT (LDC93S1) by the letter's protocol, with G. Hu's 100 nonspeech sounds as training and validation noises."""

import csv
import re
from pathlib import Path

from se_keras.corpora import folders, protocol
from se_keras.errors import UserError

NOISE_TYPES = Path(__file__).with_name("hu_noise_types.csv")
LAYOUT = "expected TIMIT/{TRAIN,TEST}/DR*/<speaker>/*.WAV below it (in any case; NIST SPHERE or RIFF)"


def add_arguments(parser):
    """The flags of `prepare.py timit`."""
    parser.add_argument("--root", required=True, type=Path, help="folder that holds TIMIT/TRAIN and TIMIT/TEST, or these two")
    parser.add_argument("--noise", required=True, type=Path, metavar="HU100", help="folder of n1.wav ... n100.wav")
    parser.add_argument("--test-noise", required=True, type=Path, metavar="N",
                        help="N/<noise type>/*.wav for the test, such as engine, white, street, baby_cry (the letter: no source)")
    parser.add_argument("--noise-types", type=Path, default=NOISE_TYPES, metavar="CSV",
                        help="number, type and split of each of Hu's sounds")
    parser.add_argument("--train-utterances", type=int, default=300, help="drawn from TRAIN")
    parser.add_argument("--valid-utterances", type=int, default=100, help="drawn from TRAIN, of other speakers")
    parser.add_argument("--test-utterances", type=int, default=100, help="drawn from TEST")
    parser.add_argument("--with-sa", action="store_true", help="use the two SA sentences too, which every speaker says")
    protocol.Protocol.add_arguments(parser)


def settings(args):
    """What the data depend on."""
    paths = {name: str(getattr(args, name).resolve()) for name in ("root", "noise", "test_noise", "noise_types")}
    return paths | {name: getattr(args, name) for name in ("train_utterances", "valid_utterances", "test_utterances", "with_sa")}


def prepare(args, out):
    """Draw utterances by speaker, sort Hu's sounds by type, resample and mix.

    Raises:
        UserError: a missing part of a corpus, too few utterances, or a file that cannot be used.
    """
    rules = protocol.Protocol.from_args(args)
    noises = hu_noises(args.noise, args.noise_types)
    noises["test"] = folders.groups(args.test_noise, f"expected {args.test_noise}/<noise type>/*.wav|flac")
    counts = args.train_utterances, args.valid_utterances
    train, valid = draw(sentences(args.root, "TRAIN", args.with_sa), counts, rules.seed, args.root)
    test, = draw(sentences(args.root, "TEST", args.with_sa), (args.test_utterances,), rules.seed, args.root)
    return protocol.Corpus(
        source="TIMIT, https://catalog.ldc.upenn.edu/LDC93S1, doi 10.35111/17gk-bn40; noises: G. Hu, 100 nonspeech environmental "
               f"sounds, and {args.test_noise.resolve()}",
        licence="TIMIT: LDC user agreement, not to be redistributed; Hu's sounds: see their page; test noises: those of the folder",
        splits=protocol.build({"train": train, "valid": valid, "test": test}, noises, out, rules))


def sentences(root, part, with_sa):
    """{speaker: its `Speech`} of TRAIN or TEST, sorted.

    Raises:
        UserError: the folder is not there or empty.
    """
    folder = next((found for base in (root, _child(root, "TIMIT")) if base and (found := _child(base, part))), None)
    if folder is None:
        raise UserError(f"{root}: holds no {part} folder; {LAYOUT}")
    speakers, seen = {}, set()
    for path in protocol.audio_files(folder):
        # Some copies hold SA1.WAV (SPHERE) and SA1.WAV.wav (RIFF) side by side: one sentence, taken once.
        sentence, speaker = path.name.split(".")[0].upper(), path.parent.name.upper()
        name = f"{speaker}-{sentence}"
        if name not in seen and (with_sa or not sentence.startswith("SA")):
            seen.add(name)
            speakers.setdefault(speaker, []).append(protocol.Speech(name, path, speaker))
    if not speakers:
        raise UserError(f"{folder}: holds no sentences; {LAYOUT}")
    return speakers


def _child(folder, name):
    """The folder `name`, in any case, right below `folder`; None where there is none."""
    if not folder.is_dir():
        return None
    return next((path for path in sorted(folder.iterdir()) if path.name.upper() == name and path.is_dir()), None)


def draw(speakers, counts, seed, root):
    """Lists of random utterances, of `counts` lengths, no speaker in two of them.

    Raises:
        UserError: the corpus holds too few.
    """
    rest = [one for name in sorted(speakers) for one in speakers[name]]
    rest = [rest[i] for i in protocol.rng_for(seed, "timit", *counts).permutation(len(rest))]
    chosen = []
    for count in counts:
        if count < 1 or len(rest) < count:
            raise UserError(f"{root}: {count} utterances of speakers not used elsewhere are asked for, {len(rest)} are left; "
                            "change --train-utterances, --valid-utterances or --test-utterances")
        chosen.append(sorted(rest[:count], key=lambda one: one.id))
        used = {one.speaker for one in chosen[-1]}
        rest = [one for one in rest if one.speaker not in used]
    return chosen


def hu_noises(folder, table):
    """{split: {noise type: files}} of Hu's sounds, by the number in each name.

    Args:
        folder: where n1.wav ... n100.wav lie, at any depth.
        table: CSV with the columns number, type, split.

    Raises:
        UserError: a bad table, or a sound that the table names and the folder does not hold.
    """
    found = {int(match[1]): path for path in protocol.audio_files(folder)
             if (match := re.fullmatch(r"n0*(\d+)", path.stem, re.IGNORECASE))}
    if not table.is_file():
        raise UserError(f"{table}: no such file; expected a CSV with the columns number, type, split")
    noises, missing = {"train": {}, "valid": {}}, []
    with open(table, newline="", encoding="utf-8") as file:
        for line, row in enumerate(csv.DictReader(file), start=2):
            if set(row) != {"number", "type", "split"} or row["split"] not in noises or not row["number"].isdigit():
                raise UserError(f"{table}, line {line}: expected number,type,split with split train or valid, "
                                f"found {','.join(map(str, row.values()))}")
            number = int(row["number"])
            if number not in found:
                missing.append(f"n{number}.wav")
            else:
                noises[row["split"]].setdefault(row["type"], []).append(found[number])
    if missing:
        raise UserError(f"{folder}: lacks {len(missing)} of the sounds in {table.name} ({', '.join(missing[:3])} ...); expected "
                        "Hu's n1.wav ... n100.wav; where some are left out on purpose, give --noise-types a table without them")
    if not all(noises.values()):
        raise UserError(f"{table}: names no sound for {' and '.join(split for split in noises if not noises[split])}")
    return noises
