"""Your own speech and noise in folders: S/<split>/<speaker>/*.wav and N/<split>/<type>/*.wav."""

from pathlib import Path

from se_keras.corpora import protocol
from se_keras.errors import UserError
from se_keras.mixtures.manifest import SPLITS


def add_arguments(parser):
    """The flags of `prepare.py folders`."""
    parser.add_argument("--speech", required=True, type=Path, metavar="S", help="S/train|valid|test/<speaker>/*.wav or *.flac")
    parser.add_argument("--noise", required=True, type=Path, metavar="N", help="N/train|valid|test/<noise type>/*.wav or *.flac")
    parser.add_argument("--split", choices=SPLITS, help="the trees hold this split only: S/<speaker>/*, N/<noise type>/*")
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
        roots = {args.split: (args.speech, args.noise)}
        expected = f"expected {args.speech}/<speaker>/*.wav|flac and {args.noise}/<noise type>/*.wav|flac (--split {args.split})"
    else:
        roots = {split: (args.speech / split, args.noise / split) for split in SPLITS}
        expected = (f"expected {args.speech}/<split>/<speaker>/*.wav|flac and {args.noise}/<split>/<noise type>/*.wav|flac with "
                    "<split> = train, valid, test; for a tree of one split, without these folders, say --split test")
    speech = {split: utterances(root, groups(root, expected)) for split, (root, _) in roots.items()}
    noises = {split: groups(root, expected) for split, (_, root) in roots.items()}
    return protocol.Corpus(
        source=f"{args.speech.resolve()} and {args.noise.resolve()}", licence="that of the files in these folders",
        splits=protocol.build(speech, noises, out, protocol.Protocol.from_args(args)))


def groups(root, expected):
    """{folder name: its audio files}, sorted, of the folders right below `root`.

    Args:
        root: S/<split> or N/<split>.
        expected: the layout in words, for errors.

    Raises:
        UserError: `root` is missing, holds no audio, or holds audio outside such a folder.
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
    return found


def utterances(root, by_speaker):
    """`Speech` of the files that `groups` found below `root`."""
    owner = {path: speaker for speaker, files in by_speaker.items() for path in files}
    ids = protocol.speech_ids(list(owner), root)
    return [protocol.Speech(name, path, speaker) for name, (path, speaker) in zip(ids, owner.items(), strict=True)]
