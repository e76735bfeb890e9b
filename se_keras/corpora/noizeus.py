"""NOIZEUS (Hu and Loizou): 30 sentences in eight noises at four SNRs, ready-made pairs at 8 kHz."""

import re
from pathlib import Path

from se_keras.corpora import download, protocol
from se_keras.errors import UserError
from se_keras.mixtures.manifest import SPLITS

URL = "https://ecs.utdallas.edu/loizou/speech/noizeus"
NOISES = ("airport", "babble", "car", "exhibition", "restaurant", "station", "street", "train")
SNRS = (0, 5, 10, 15)  # dB
SENTENCES = 30
ARCHIVES = ("clean", *(f"{noise}_{snr_db}dB" for noise in NOISES for snr_db in SNRS))
BLOCK = 5  # consecutive sentences that are taken for one speaker's: six speakers, three of them women, said five each
APART = {"train": range(1, 16), "valid": range(16, 21), "test": range(21, 31)}  # numbers of the sentences
HELD_OUT = range(26, 31)  # sentences of the original split that choose the best weights
TEST_SNR_DB = 15  # of the original split
OVERLAP = (f"{SENTENCES - len(HELD_OUT)} of the {SENTENCES} test sentences are trained on, in the same noises at other SNRs, as in the "
           "published split; a score says little of sentences unheard")
LAYOUT = "expected spNN.wav and spNN_<noise>_sn<SNR>.wav, at any depth; --download fetches what is missing"


def add_arguments(parser):
    """The flags of `prepare.py noizeus`."""
    parser.add_argument("--root", required=True, type=Path, help="folder that holds the 30 clean and 960 noisy files, at any depth")
    parser.add_argument("--split", choices=("apart", "original", "test"), default="apart",
                        help="apart: no sentence, and no block of five, in two splits; original: trained at 0, 5 and 10 dB and tested at "
                             "15 dB on sentences seen in training, as a published comparison does (its scores flatter); test: all pairs "
                             "are test data, for systems trained elsewhere")
    download.add_arguments(parser, URL, "33 archives, 40 MB unpacked")


def settings(args):
    """What the data depend on."""
    return {"root": str(args.root.resolve()), "split": args.split}


def prepare(args, out):
    """Download where asked to, check, resample to 16 kHz once, and list the pairs.

    Raises:
        UserError: no or half a corpus, names that are not the corpus's, several sample rates, lengths that differ, a file that cannot
            be used, or a failed download.
    """
    if args.download:
        download.archives(ARCHIVES, args.base_url, args.root, out / "downloads.json", lambda name: is_there(args.root, name))
    clean, noisy = find_files(args.root)
    files = [*clean.values(), *noisy.values()]
    checked = protocol.check(files, speech=True, desc="checking pairs")
    protocol.check_rate(checked)
    for (sentence, _, _), path in noisy.items():
        protocol.check_lengths(clean[sentence], path, checked)
    usable = protocol.at_16_khz(checked, {path: out / "wav16k" / kind / f"{path.stem.lower()}.wav"
                                          for kind, found in (("clean", clean), ("noisy", noisy)) for path in found.values()})
    if len(noisy) != SENTENCES * len(NOISES) * len(SNRS):
        print(f"notice: {args.root} holds {len(noisy)} of the {SENTENCES * len(NOISES) * len(SNRS)} noisy files of the published corpus")

    splits = {split: [] for split in (SPLITS if args.split != "test" else ("test",))}
    for (sentence, noise, snr_db), path in noisy.items():
        splits[split_of(sentence, snr_db, args.split)].append(protocol.ready_made(
            path.stem.lower(), usable[clean[sentence]], usable[path], speaker_of(sentence), noise, float(snr_db)))
    if empty := [split for split, rows in splits.items() if not rows]:
        raise UserError(f"{args.root}: no pair is left for {' and '.join(empty)} (--split {args.split}); {LAYOUT}")
    return protocol.Corpus(
        source=f"NOIZEUS, {URL}/; Hu and Loizou, Speech Communication 49 (2007)",
        licence="free for research, as its page says; no licence is named", splits=splits,
        overlap=OVERLAP if args.split == "original" else "")


def find_files(root):
    """({sentence: clean file}, {(sentence, noise, SNR in dB): noisy file}), both sorted by name.

    Raises:
        UserError: no such folder, no files; names that are not the corpus's, a name twice, noisy files without a clean one.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; {LAYOUT}")
    clean, noisy, others = {}, {}, []
    for path in sorted(protocol.audio_files(root), key=lambda path: path.name.lower()):
        found = re.fullmatch(r"sp(\d\d)(?:_([a-z]+)_sn(\d+))?", path.stem.lower())
        if not found or not 1 <= int(found[1]) <= SENTENCES:
            others.append(path)
            continue
        files, key = (noisy, (int(found[1]), found[2], int(found[3]))) if found[2] else (clean, int(found[1]))
        if key in files:
            raise UserError(f"{path} and {files[key]} have one name, by which pairs are found; remove one")
        files[key] = path
    if others:
        names = protocol.few([path.name for path in others])
        raise UserError(f"{root}: {len(others)} files are not named as in NOIZEUS ({names}); {LAYOUT}")
    if missing := [f"{len(files)} {kind}" for kind, files in (("clean", clean), ("noisy", noisy)) if not files]:
        raise UserError(f"{root}: holds {' and '.join(missing)} files; {LAYOUT}")
    if lone := [path.name for (sentence, _, _), path in noisy.items() if sentence not in clean]:
        raise UserError(f"{root}: {len(lone)} of {len(noisy)} noisy files have no clean file spNN.wav ({protocol.few(lone)}); {LAYOUT}")
    return clean, noisy


def is_there(root, archive):
    """Whether `root` holds a file of an archive already."""
    noise, _, snr = archive.removesuffix("dB").partition("_")
    pattern = f"sp??_{noise}_sn{snr}.wav" if snr else "sp??.wav"
    return any(root.rglob(pattern))


def split_of(sentence, snr_db, how):
    """The split of a pair: "train", "valid" or "test".

    Args:
        sentence: number, 1 to 30.
        snr_db: SNR in dB.
        how: "apart", "original" or "test", as --split.
    """
    if how == "apart":
        return next(split for split, sentences in APART.items() if sentence in sentences)
    if how == "test" or snr_db == TEST_SNR_DB:
        return "test"
    return "valid" if sentence in HELD_OUT else "train"


def speaker_of(sentence):
    """A name for who says a sentence: the block of five that it stands in, such as "sp01-05"."""
    first = (sentence - 1) // BLOCK * BLOCK + 1
    return f"sp{first:02d}-{first + BLOCK - 1:02d}"
