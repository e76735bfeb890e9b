"""Test sets of the DNS Challenges (Microsoft): synthesised pairs by file id, or real recordings without a reference."""

import re
from pathlib import Path

from se_keras.corpora import dns, download, protocol
from se_keras.errors import UserError
from se_keras.mixtures.manifest import UNKNOWN

URL = "https://dnschallengepublic.blob.core.windows.net/dns5archive"
ARCHIVES = ("V5_dev_testset", "V5_BlindTestSet")  # recordings of DNS 5
LAYOUT = "expected noisy/*.wav at any depth, and clean/*.wav beside it where there are references, paired by *_fileid_<n>.wav"


def add_arguments(parser):
    """The flags of `prepare.py dns-test`."""
    parser.add_argument("--root", required=True, type=Path,
                        help="folder that holds noisy/ at any depth, and clean/ beside it where there are references")
    download.add_arguments(parser, URL, "2.9 GB")
    parser.add_argument("--archives", nargs="+", choices=ARCHIVES, default=[ARCHIVES[0]], help="what --download fetches")


def settings(args):
    """What the data depend on."""
    return {"root": str(args.root.resolve())}


def prepare(args, out):
    """Download where asked to, check, resample to 16 kHz once, and list pairs or recordings: test data, all of them.

    Raises:
        UserError: no noisy folder, some with references and some without, half a pair, names without a file id, several sample rates,
            lengths that differ, a file that cannot be used, or a failed download.
    """
    if args.download:
        download.archives(args.archives, args.base_url, args.root, out / "downloads.json", lambda name: args.root.name == name)
    folders, with_reference = find_folders(args.root)
    found = {}  # id: (noisy file, clean file or None, track)
    for folder in folders:
        track = "-".join(folder.parent.relative_to(args.root).parts)
        pairs = find_pairs(folder) if with_reference else find_recordings(folder)
        found.update({f"{track}-{name}" if track else name: (*pair, track or UNKNOWN) for name, pair in pairs.items()})
    checked = protocol.check([path for noisy, clean, _ in found.values() for path in (noisy, clean) if path is not None], speech=True,
                             desc="checking files")
    protocol.check_rate(checked)
    for noisy, clean, _ in found.values():
        if clean is not None:
            protocol.check_lengths(clean, noisy, checked)
    usable = protocol.at_16_khz(checked, {path: out / "wav16k" / path.relative_to(args.root).with_suffix(".wav") for path in checked})
    if not with_reference:
        print("notice: recordings without a clean reference: test.py --metrics dnsmos_ovrl dnsmos_sig dnsmos_bak, and no other metric")
    return protocol.Corpus(
        source=f"a test set of the DNS Challenges, {dns.URL}: {args.root.resolve()}", licence="see the page of its challenge",
        splits={"test": [protocol.ready_made(name, clean and usable[clean], usable[noisy], dns.speaker_of(noisy), track, snr_of(noisy))
                         for name, (noisy, clean, track) in found.items()]})


def find_folders(root):
    """(folders called noisy, whether they have clean/ beside them).

    Raises:
        UserError: there is none, or some have references and some have none.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; {LAYOUT}; --download fetches the recordings of DNS 5")
    folders = sorted(path for path in root.rglob("noisy") if path.is_dir())
    if empty := [str(path) for path in folders if not protocol.audio_files(path)] or ([] if folders else [f"{root}/noisy"]):
        raise UserError(f"{root}: {len(empty)} of {max(len(folders), 1)} noisy folders are missing or hold no audio files "
                        f"({protocol.few(empty)}); {LAYOUT}; --download fetches the recordings of DNS 5")
    paired = [path for path in folders if (path.parent / "clean").is_dir()]
    if paired and len(paired) < len(folders):
        lone = next(path for path in folders if path not in paired)
        raise UserError(f"{root}: {len(paired)} of {len(folders)} noisy folders have clean/ beside them, {lone} has not; pairs, and "
                        "recordings without a reference, are measured by other metrics: name the folder of one kind with --root")
    return folders, bool(paired)


def find_recordings(folder):
    """{id: (file, None)} of a folder without references."""
    files = protocol.audio_files(folder)
    return {name: (path, None) for name, path in zip(protocol.speech_ids(files, folder), files, strict=True)}


def find_pairs(noisy):
    """{"fileid_<n>": (noisy file, clean file)}, by number.

    Raises:
        UserError: a name without a number, a number twice, a file without its counterpart; how many there are, and the first.
    """
    folders = {"noisy": noisy, "clean": noisy.parent / "clean"}
    found = {kind: by_file_id(folder) for kind, folder in folders.items()}
    for kind, other in (("noisy", "clean"), ("clean", "noisy")):
        if lone := [found[kind][number].name for number in sorted(found[kind].keys() - found[other].keys())]:
            raise UserError(f"{folders[kind]}: {len(lone)} of {len(found[kind])} files have no counterpart in {folders[other]} "
                            f"({protocol.few(lone)}); {LAYOUT}")
    return {f"fileid_{number}": (found["noisy"][number], found["clean"][number]) for number in sorted(found["noisy"])}


def by_file_id(folder):
    """{number: file} of a folder of *_fileid_<number>.wav."""
    files = {path: re.search(r"fileid_(\d+)$", path.stem) for path in protocol.audio_files(folder)}
    if others := [path.name for path, match in files.items() if not match]:
        raise UserError(f"{folder}: {len(others)} of {len(files)} files are not named *_fileid_<n>.wav ({protocol.few(others)}); {LAYOUT}")
    found = {}
    for path, match in files.items():
        if found.setdefault(int(match[1]), path) is not path:
            raise UserError(f"{found[int(match[1])]} and {path} have one file id, by which pairs are found; remove one")
    return found


def snr_of(path):
    """The SNR in dB that a synthesised name tells (..._snr5_...); None where it tells none."""
    match = re.search(r"_snr(-?\d+)_", path.stem)
    return float(match[1]) if match else None
