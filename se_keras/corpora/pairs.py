"""Ready-made pairs of your own: a folder of noisy files and one of clean files, paired by file name without suffix."""

import re
from collections import Counter
from pathlib import Path

from se_keras.corpora import protocol
from se_keras.errors import UserError
from se_keras.mixtures.manifest import SPLITS, UNKNOWN

LAYOUT = "expected NOISY/*.wav|flac and CLEAN/*.wav|flac of the same names, or NOISY/train|valid|test/* and CLEAN/train|valid|test/*"


def add_arguments(parser):
    """The flags of `prepare.py pairs`."""
    parser.add_argument("--noisy", required=True, type=Path, metavar="NOISY",
                        help="noisy files, *.wav or *.flac at any depth, in NOISY/train|valid|test where these folders are there")
    parser.add_argument("--clean", required=True, type=Path, metavar="CLEAN", help="clean files of the same names, likewise")
    parser.add_argument("--split", choices=SPLITS, help="make this split's manifest alone: of its folders where they are there, else of "
                                                        "all pairs; without split folders, test where not given")
    parser.add_argument("--speaker-from", choices=("folder", "name"), default="folder",
                        help="who speaks: folder, the uppermost one below NOISY (or its split); name, the file name up to its first _ or -")


def settings(args):
    """What the data depend on."""
    return {"noisy": str(args.noisy.resolve()), "clean": str(args.clean.resolve()), "split": args.split, "speaker_from": args.speaker_from}


def prepare(args, out):
    """Check, resample to 16 kHz once, and list the pairs.

    Raises:
        UserError: a missing or empty folder, half a pair, lengths that differ, a file that cannot be used, speakers that cannot be told
            apart where there are several splits.
    """
    splits = {split: find_pairs(*roots) for split, roots in find_splits(args.noisy, args.clean, args.split).items()}
    targets = {path: out / "wav16k" / kind / split / f"{name}.wav" for split, pairs in splits.items() for name, pair in pairs.items()
               for kind, path in zip(("noisy", "clean"), pair, strict=True)}
    checked = protocol.check(targets, speech=True, desc="checking pairs")
    for pairs in splits.values():
        for noisy, clean in pairs.values():
            protocol.check_lengths(clean, noisy, checked)
    speakers = {noisy: speaker_of(noisy, args.noisy, args.speaker_from) for pairs in splits.values() for noisy, _ in pairs.values()}
    if UNKNOWN in speakers.values():
        if len(splits) > 1:
            first = next(path for path, speaker in speakers.items() if speaker == UNKNOWN)
            raise UserError(f"{first}: lies in no speaker's folder, and a speaker must not stand in two splits; expected "
                            f"NOISY/<split>/<speaker>/*, or --speaker-from name where file names begin with the speaker")
        print(f"notice: {Counter(speakers.values())[UNKNOWN]} of {len(speakers)} pairs do not say who speaks (--speaker-from); they count "
              "as one speaker")
    usable = protocol.at_16_khz(checked, targets)
    return protocol.Corpus(
        source=f"{args.noisy.resolve()} and {args.clean.resolve()}", licence="that of the files in these folders",
        splits={split: [protocol.ready_made(name, usable[clean], usable[noisy], speakers[noisy]) for name, (noisy, clean) in pairs.items()]
                for split, pairs in splits.items()})


def find_splits(noisy, clean, split=None):
    """{split: (folder of noisy files, folder of clean files)}.

    Args:
        noisy, clean: NOISY and CLEAN.
        split: the only one that is wanted; None for all that are there, and for "test" where there are no split folders.

    Raises:
        UserError: a folder is missing, both are one, a split is in only one of them, files lie beside split folders.
    """
    for root in (noisy, clean):
        if not root.is_dir():
            raise UserError(f"{root}: no such folder; {LAYOUT}")
    if noisy.resolve() == clean.resolve():
        raise UserError(f"{noisy}: given as --noisy and as --clean; {LAYOUT}")
    there = {root: [name for name in SPLITS if (root / name).is_dir()] for root in (noisy, clean)}
    if there[noisy] != there[clean]:
        raise UserError(f"{noisy} holds the splits {', '.join(there[noisy]) or 'none'}, {clean} {', '.join(there[clean]) or 'none'}; "
                        "expected the same in both")
    if not there[noisy]:
        return {split or "test": (noisy, clean)}
    for root in (noisy, clean):
        if beside := [path for path in protocol.audio_files(root) if path.relative_to(root).parts[0] not in SPLITS]:
            raise UserError(f"{beside[0]}: lies beside the folders {', '.join(there[root])}; {LAYOUT}")
    if split and split not in there[noisy]:
        raise UserError(f"{noisy}: holds the splits {', '.join(there[noisy])} and no {split} (--split {split}); name one that is there")
    return {name: (noisy / name, clean / name) for name in ([split] if split else there[noisy])}


def find_pairs(noisy, clean):
    """{id: (noisy file, clean file)}, sorted: the id is the file name without suffix, or where two in a folder share one, the path
    below it, joined by "-".

    Raises:
        UserError: a folder without audio, two files of one name, a file without its counterpart.
    """
    files = {root: protocol.audio_files(root) for root in (noisy, clean)}
    for root, found in files.items():
        if not found:
            raise UserError(f"{root}: holds no audio files; {LAYOUT}")
    unique = all(len({path.stem for path in found}) == len(found) for found in files.values())
    by_name = {}
    for root, found in files.items():
        names = [path.stem for path in found] if unique else protocol.path_ids(found, root)
        by_name[root] = dict(zip(names, found, strict=True))
    for root, other in ((noisy, clean), (clean, noisy)):
        if lone := sorted(set(by_name[root]) - set(by_name[other])):
            raise UserError(f"{by_name[root][lone[0]]}: has no counterpart in {other} ({len(lone)} of {len(files[root])} files have none); "
                            "a pair has one name, its suffix aside")
    return {name: (by_name[noisy][name], by_name[clean][name]) for name in sorted(by_name[noisy])}


def speaker_of(path, root, rule):
    """Who speaks in a noisy file.

    Args:
        path: the file.
        root: NOISY.
        rule: "folder": the uppermost folder below `root`, split folders aside, `UNKNOWN` where there is none; "name": the file name up to
            its first "_" or "-".
    """
    if rule == "name":
        return re.split("[_-]", path.stem)[0] or UNKNOWN
    folders = path.relative_to(root).parts[:-1]
    folders = folders[1:] if folders and folders[0] in SPLITS else folders
    return folders[0] if folders else UNKNOWN
