"""Your own speech and noise in folders: S/<split>/<speaker>/*.wav and N/<split>/<type>/*.wav."""

from pathlib import Path

from se_keras.corpora import protocol
from se_keras.errors import UserError
from se_keras.mixtures.manifest import SPLITS


def add_arguments(parser):
    """The flags of `prepare.py folders`."""
    parser.add_argument("--speech", required=True, type=Path, metavar="S", help="S/train|valid|test/<speaker>/*.wav or *.flac")
    parser.add_argument("--noise", required=True, type=Path, metavar="N", help="N/train|valid|test/<noise type>/*.wav or *.flac")
    parser.add_argument("--split", choices=SPLITS, help="make this split's manifest alone: of S/<split> where it is there, else of "
                                                        "S/<speaker>/*, which then all belong to it; N likewise")
    protocol.Protocol.add_arguments(parser)


def settings(args):
    """What the data depend on."""
    return {"speech": str(args.speech.resolve()), "noise": str(args.noise.resolve()), "split": args.split}


def prepare(args, out):
    """Check, resample where needed, and mix.

    Raises:
        UserError: a missing or empty folder, or a file that cannot be used.
    """
    if args.split:
        roots = {args.split: tuple(root_of(root, args.split) for root in (args.speech, args.noise))}
        expected = (f"expected {args.speech}/<speaker>/*.wav|flac and {args.noise}/<noise type>/*.wav|flac, or both below a folder "
                    f"{args.split}/ (--split {args.split})")
    else:
        roots = {split: (args.speech / split, args.noise / split) for split in SPLITS}
        expected = (f"expected {args.speech}/<split>/<speaker>/*.wav|flac and {args.noise}/<split>/<noise type>/*.wav|flac with "
                    "<split> = train, valid, test; --split test makes a test manifest and nothing to train on: all of a tree "
                    "without these folders becomes test data")
    speech = {split: utterances(root, groups(root, expected)) for split, (root, _) in roots.items()}
    noises = {split: groups(root, expected) for split, (_, root) in roots.items()}
    return protocol.Corpus(
        source=f"{args.speech.resolve()} and {args.noise.resolve()}", licence="that of the files in these folders",
        splits=protocol.build(speech, noises, out, protocol.Protocol.from_args(args), lazily=protocol.lazily(args)))


def root_of(tree, split):
    """Where a tree holds the data of one split: `tree`/`split` where that is there, else the tree itself.

    Raises:
        UserError: beside folders named like splits the tree holds others, so that no reading takes in all of it.
    """
    if not (tree / split).is_dir():
        return tree
    others = sorted(path.name for path in tree.iterdir() if path.is_dir() and path.name not in SPLITS and not path.name.startswith("."))
    if others:
        raise UserError(f"{tree}: holds {split}/ beside {', '.join(others[:5])}{' ...' if len(others) > 5 else ''}; with "
                        f"--split {split} expected either {split}/ (and other splits), or speakers (noise types) alone; move one of them")
    return tree / split


def groups(root, expected):
    """{folder name: its audio files}, sorted, of the folders right below `root`.

    Args:
        root: S/<split> or N/<split>.
        expected: the layout in words, for errors.

    Raises:
        UserError: `root` is missing, holds no audio, or holds audio outside such a folder or in one named like a split.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; {expected}")
    files = protocol.audio_files(root)
    if not files:
        raise UserError(f"{root}: holds no audio files; {expected}")
    found = {}
    for path in files:
        if path.parent == root:
            raise UserError(f"{path}: lies outside a folder of its own group; {expected}")
        found.setdefault(path.relative_to(root).parts[0], []).append(path)
    if named := [name for name in found if name.lower() in SPLITS]:
        raise UserError(f"{root / named[0]}: named like a split where a speaker or a noise type is expected, so training data might "
                        f"get into a test; {expected}")
    return found


def utterances(root, by_speaker):
    """`Speech` of the files that `groups` found below `root`."""
    owner = {path: speaker for speaker, files in by_speaker.items() for path in files}
    ids = protocol.speech_ids(list(owner), root)
    return [protocol.Speech(name, path, speaker) for name, (path, speaker) in zip(ids, owner.items(), strict=True)]
