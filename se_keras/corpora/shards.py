"""Your own speech and noise in tar shards (WebDataset's layout), read without unpacking: S/<split>/*.tar and N/<split>/*.tar."""

import argparse
import json
from pathlib import Path

from se_keras.corpora import protocol
from se_keras.errors import UserError
from se_keras.mixtures.manifest import SPLITS
from se_keras.signals import shards

LAYOUT = "expected {root}/train|valid|test/*.tar, or {root}/*.tar, of which --held-out divides the {groups}"
WAYS = ("json", "folder", "name")


def share(text):
    """An argparse type: a share above 0 and up to 0.4."""
    value = float(text)
    if not 0 < value <= 0.4:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and up to 0.4")
    return value


def add_arguments(parser):
    """The flags of `prepare.py shards`."""
    parser.add_argument("--speech", required=True, type=Path, metavar="S",
                        help="S/train|valid|test/*.tar, or S/*.tar: KEY.flac or KEY.wav, and KEY.json where that says who speaks")
    parser.add_argument("--noise", required=True, type=Path, metavar="N", help="N/train|valid|test/*.tar, or N/*.tar, likewise")
    parser.add_argument("--speaker-from", choices=WAYS,
                        help="who speaks: json, \"speaker\" in KEY.json; folder, the uppermost one within the tar; name, KEY up to its "
                             "first _ or -; where not given, json, else folder")
    parser.add_argument("--type-from", choices=WAYS, help="the type of a noise, \"noise_type\" in KEY.json, likewise")
    parser.add_argument("--held-out", type=share, default=0.05, metavar="SHARE",
                        help="of shards that lie in no split's folder: share of the speakers, and of the noise files, that validation "
                             "gets, and the test as many")
    protocol.Protocol.add_arguments(parser)


def settings(args):
    """What the data depend on."""
    return {"speech": str(args.speech.resolve()), "noise": str(args.noise.resolve()), "speaker_from": args.speaker_from,
            "type_from": args.type_from, "held_out": args.held_out}


def prepare(args, out):
    """Index the shards, check each file in them, resample where needed, and mix.

    Raises:
        UserError: no shards, one that cannot be read without unpacking (`shards.members`), a file whose group nothing tells or that
            cannot be used, a split that gets nothing.
    """
    speech = by_split(args.speech, "speaker", args.speaker_from)
    noise = by_split(args.noise, "noise_type", args.type_from)
    spoken, noises = {}, {}
    for split, found in divided(speech, args, "speech", lambda path, speaker: speaker).items():
        names = protocol.speech_ids(list(found), args.speech)
        spoken[split] = [protocol.Speech(name, path, speaker) for name, (path, speaker) in zip(names, found.items(), strict=True)]
    for split, found in divided(noise, args, "noise", lambda path, kind: path).items():
        noises[split] = {}
        for path, kind in found.items():
            noises[split].setdefault(kind, []).append(path)
    return protocol.Corpus(
        source=f"{args.speech.resolve()} and {args.noise.resolve()}", licence="that of the files in these shards",
        splits=protocol.build(spoken, noises, out, protocol.Protocol.from_args(args), lazily=protocol.lazily(args)))


def by_split(root, field, way):
    """The audio files of the shards below a folder, and the group of each.

    Args:
        root: S or N.
        field: "speaker" or "noise_type".
        way: of `WAYS`, or None.

    Returns:
        {split: {path: group}}; {None: {path: group}} where the shards lie in no split's folder.

    Raises:
        UserError: as `prepare`.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; {_layout(root, field)}")
    there = [split for split in SPLITS if (root / split).is_dir()]
    tars = {split: _tars(root / split) for split in there} if there else {None: _tars(root)}
    if there and (loose := _tars(root, deep=False)):
        raise UserError(f"{loose[0]}: lies beside the folders {', '.join(there)}; {_layout(root, field)}")
    if missing := [split or "" for split, of in tars.items() if not of] + [split for split in SPLITS if there and split not in there]:
        raise UserError(f"{root / missing[0]}: holds no .tar; {_layout(root, field)}")
    found = {split: {path: group for tar in of for path, group in files_of(tar, field, way)} for split, of in tars.items()}
    return {split: {path: group for path, group in sorted(files.items())} for split, files in found.items()}


def _layout(root, field):
    return LAYOUT.format(root=root, groups={"speaker": "speakers", "noise_type": "noise files"}[field])


def _tars(folder, deep=True):
    """The .tar files of a folder, sorted.

    Raises:
        UserError: a compressed one lies there.
    """
    found = sorted(path for path in (folder.rglob("*") if deep else folder.glob("*")) if path.is_file() and not path.name.startswith("."))
    for path in found:
        if path.name.lower().endswith(shards.COMPRESSED):
            shards.check_plain(path)
    return [path for path in found if path.suffix.lower() == ".tar"]


def files_of(tar, field, way):
    """(path, group) of each audio file in a shard. Files of one KEY, the name up to the first dot after the last slash, are one utterance.

    Raises:
        UserError: a KEY with several audio files, or with a dot; one whose group nothing tells; no audio at all.
    """
    keys = {}
    for name in shards.members(tar):
        folder, slash, last = name.rpartition("/")
        key, _, suffix = last.partition(".")
        if not last.startswith("."):
            keys.setdefault(f"{folder}{slash}{key}", {})[f".{suffix.lower()}"] = name
    found = {}
    for key, members in keys.items():
        heard = [name for suffix, name in members.items() if suffix in protocol.SUFFIXES]
        if len(heard) > 1:
            raise UserError(f"{tar}: {heard[0]} and {heard[1]} share the key {key}; expected one audio file a key: write the shard anew")
        if heard:
            found[Path(tar) / heard[0]] = _group(tar, key, members, field, way)
    passed = [name for members in keys.values() for suffix, name in members.items()
              if Path(name).suffix.lower() in protocol.SUFFIXES and suffix not in protocol.SUFFIXES]
    if passed:
        raise UserError(f"{tar}: {passed[0]} has a dot in its KEY, which ends at the first one (WebDataset); rename it in the shard")
    if not found:
        raise UserError(f"{tar}: holds no KEY.flac or KEY.wav among its {sum(map(len, keys.values())):,} files; is it a shard of audio?")
    return found.items()


def _group(tar, key, members, field, way):
    """Who speaks, or what type a noise is.

    Raises:
        UserError: nothing says so.
    """
    if way in ("json", None) and ".json" in members:
        with shards.open_bytes(f"{tar}/{members['.json']}") as file:
            try:
                said = json.load(file)
                value = said.get(field)
            except (ValueError, RecursionError, AttributeError) as error:
                raise UserError(f"{tar}/{members['.json']}: no JSON object ({error}); write the shard anew") from None
        if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value).strip():
            if "/" in str(value) or str(value) in (".", ".."):  # resampled copies lie in folders of these names
                raise UserError(f"{tar}/{members['.json']}: {field} is {value!r}; expected a name without /: write the shard anew")
            return str(value)
    folder, _, name = key.rpartition("/")
    if way in ("folder", None) and folder:
        return folder.split("/")[0]
    if way == "name" and (first := name.replace("_", "-").split("-")[0]) and first != name:
        return first
    flag = {"speaker": "--speaker-from", "noise_type": "--type-from"}[field]
    raise UserError(f"{tar}/{key}: nothing says its {field.replace('_', ' ')}; expected \"{field}\" in {key}.json, a folder named after it "
                    f"within the tar, or {flag} name where keys begin with it")


def divided(found, args, what, of):
    """Splits of files: those of their folders, or drawn by `--held-out`, all files of one group together.

    Args:
        found: from `by_split`.
        args: of the script.
        what: "speech" or "noise".
        of: (path, group) -> what stays together.

    Returns:
        {split: {path: group}}.

    Raises:
        UserError: a split that gets nothing.
    """
    if None not in found:
        return found
    files = found[None]
    kept = sorted({str(of(path, group)) for path, group in files.items()})
    order = protocol.rng_for(args.seed, what, "held out").permutation(len(kept))
    each = min(max(1, round(args.held_out * len(kept))), (len(kept) - 1) // 2)  # one at least is left to train on
    if len(kept) < 3:
        root, groups = (args.speech, "speakers") if what == "speech" else (args.noise, "noise files")
        raise UserError(f"{root}: {len(kept)} {groups} cannot be divided among train, valid and test; expected three or more, or folders "
                        "train, valid and test")
    split_of = {kept[number]: "valid" if place < each else "test" if place < 2 * each else "train" for place, number in enumerate(order)}
    return {split: {path: group for path, group in files.items() if split_of[str(of(path, group))] == split} for split in SPLITS}
