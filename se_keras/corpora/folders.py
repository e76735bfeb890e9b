"""Your own speech and noise in folders: S/<split>/<speaker>/*.wav and N/<split>/<type>/*.wav."""

from pathlib import Path

from se_keras.corpora import protocol
from se_keras.errors import UserError
from se_keras.manifest import SPLITS

LAYOUT = ("expected {speech}/<speaker>/*.wav|flac and {noise}/<noise type>/*.wav|flac, with {splits}; "
          "for a tree of one split, without those folders, say --split test")


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
    splits = (args.split,) if args.split else SPLITS
    roots = {split: (args.speech, args.noise) if args.split else (args.speech / split, args.noise / split) for split in splits}
    speech = {split: groups(roots[split][0], "speaker", args) for split in splits}
    noises = {split: groups(roots[split][1], "noise type", args) for split in splits}
    return protocol.Corpus(
        source=f"{args.speech.resolve()} and {args.noise.resolve()}", licence="that of the files in these folders",
        splits=mix_groups(speech, noises, {split: roots[split][0] for split in splits}, out, protocol.Protocol.from_args(args)))


def mix_groups(speech, noises, roots, out, rules):
    """Rows of every split from grouped files at any sample rate.

    Args:
        speech: {split: {speaker: clean files}}.
        noises: {split: {noise type: noise files}}.
        roots: {split: folder below which the clean files lie}, for their ids.
        out: the data folder; resampled copies go to out/wav16k.
        rules: a `Protocol`.
    """
    clean_files = [path for by_speaker in speech.values() for files in by_speaker.values() for path in files]
    noise_files = [path for by_type in noises.values() for files in by_type.values() for path in files]
    clean_rates = protocol.check(clean_files, speech=True, desc="checking speech")
    noise_rates = protocol.check(noise_files, speech=False, desc="checking noise")

    targets = {}
    for what, by_split in (("speech", speech), ("noise", noises)):
        for split, by_group in by_split.items():
            for group, files in by_group.items():
                targets.update({path: out / "wav16k" / what / split / group / f"{name}.wav"
                                for path, name in zip(files, protocol.speech_ids(files, files[0].parent.parent), strict=True)})
    usable = protocol.at_16_khz({**clean_rates, **noise_rates}, targets, desc="resampling to 16 kHz")

    rows = {}
    for split, by_speaker in speech.items():
        owner = {path: speaker for speaker, files in by_speaker.items() for path in files}
        ids = protocol.speech_ids(list(owner), roots[split])
        utterances = [protocol.Speech(name, str(usable[path]), owner[path]) for name, path in zip(ids, owner, strict=True)]
        by_type = {kind: [usable[path] for path in files] for kind, files in noises[split].items()}
        rows[split] = protocol.mixtures(split, utterances, by_type, rules)
    return rows


def groups(root, what, args):
    """{folder name: its audio files}, sorted, of the folders right below `root`.

    Raises:
        UserError: `root` is missing, holds no audio, or holds audio outside such a folder.
    """
    expected = LAYOUT.format(speech=args.speech / "<split>", noise=args.noise / "<split>", splits="<split> = train, valid, test")
    if args.split:
        expected = f"expected {args.speech}/<speaker>/*.wav|flac and {args.noise}/<noise type>/*.wav|flac (--split {args.split})"
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; {expected}")
    if loose := [path for path in protocol.audio_files(root) if path.parent == root]:
        raise UserError(f"{loose[0]}: lies outside a folder of its {what}; {expected}")
    found = {folder.name: files for folder in sorted(root.iterdir()) if folder.is_dir() and (files := protocol.audio_files(folder))}
    if not found:
        raise UserError(f"{root}: holds no audio files; {expected}")
    return found
