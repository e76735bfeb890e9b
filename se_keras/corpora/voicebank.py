"""Voice Bank + DEMAND (Valentini-Botinhao): ready-made pairs of 28 training and 2 test speakers."""

from pathlib import Path

from se_keras.corpora import download, protocol
from se_keras.errors import UserError

URL = "https://datashare.ed.ac.uk/bitstream/handle/10283/2791"
FOLDERS = {"train": ("clean_trainset_28spk_wav", "noisy_trainset_28spk_wav"), "test": ("clean_testset_wav", "noisy_testset_wav")}
LOGS = {"train": "log_trainset_28spk.txt", "test": "log_testset.txt"}
ARCHIVES = (*FOLDERS["test"], *FOLDERS["train"], "logfiles")
PUBLISHED = {"train": 11_572, "test": 824}  # pairs in the published corpus
HELD_OUT = ("p226", "p287")  # validation speakers; SpeechBrain's recipe holds out the same two
LAYOUT = "expected {clean,noisy}_{trainset_28spk,testset}_wav (or ..._wav_16k) with pXXX_NNN.wav files"


def add_arguments(parser):
    """The flags of `prepare.py voicebank`."""
    parser.add_argument("--root", required=True, type=Path, help="folder that holds clean_trainset_28spk_wav and the three others")
    download.add_arguments(parser, URL, "5.3 GB")


def settings(args):
    """What the data depend on."""
    return {"root": str(args.root.resolve())}


def prepare(args, out):
    """Download where asked to, check, resample to 16 kHz once, and list the pairs.

    Raises:
        UserError: a missing folder, half a pair, lengths that differ, a file that cannot be used, or a failed download.
    """
    if args.download:
        download.archives(ARCHIVES, args.base_url, args.root, out / "downloads.json", lambda name: find_folder(args.root, name))
    pairs = {part: find_pairs(args.root, part) for part in FOLDERS}
    files = [path for part in pairs.values() for pair in part for path in pair]
    checked = protocol.check(files, speech=True, desc="checking pairs")
    for part in pairs.values():
        for clean, noisy in part:
            protocol.check_lengths(clean, noisy, checked)
    usable = protocol.at_16_khz(checked, {path: out / "wav16k" / path.parent.name / path.name for path in checked})

    splits = {"train": [], "valid": [], "test": []}
    for part, found in pairs.items():
        conditions = read_log(args.root, LOGS[part])
        for clean, noisy in found:
            speaker = clean.stem.split("_")[0]
            noise_type, snr_db = conditions.get(clean.stem, ("unknown", None))
            split = "valid" if part == "train" and speaker in HELD_OUT else part
            splits[split].append(protocol.ready_made(clean.stem, usable[clean], usable[noisy], speaker, noise_type, snr_db))
        if len(found) != PUBLISHED[part]:
            print(f"notice: the {part} folders hold {len(found)} of the {PUBLISHED[part]} pairs of the published corpus")
    if empty := [split for split, rows in splits.items() if not rows]:
        raise UserError(f"{args.root}: no pair is left for {' and '.join(empty)}; expected the speakers {' and '.join(HELD_OUT)} "
                        "(validation) and others in trainset_28spk")
    return protocol.Corpus(source="Voice Bank + DEMAND, https://datashare.ed.ac.uk/handle/10283/2791, doi 10.7488/ds/2117",
                           licence="CC BY 4.0", splits=splits)


def find_pairs(root, part):
    """[(clean file, noisy file)] by base name, sorted.

    Raises:
        UserError: a folder is missing, or a file has no counterpart.
    """
    found = [find_folder(root, name) for name in FOLDERS[part]]
    if None in found:
        raise UserError(f"{root}: holds no {FOLDERS[part][found.index(None)]} with wav files; {LAYOUT}; "
                        "--download fetches what is missing")
    clean, noisy = ({path.name: path for path in protocol.audio_files(folder)} for folder in found)
    if single := sorted(clean.keys() ^ noisy.keys()):
        path = clean.get(single[0]) or noisy[single[0]]
        raise UserError(f"{path}: has no counterpart in {FOLDERS[part][single[0] in clean]} ({len(single)} such files); {LAYOUT}")
    return [(clean[name], noisy[name]) for name in sorted(clean)]


def find_folder(root, name):
    """The folder NAME_16k or NAME that holds wav files, at any depth below `root`; None where there is none."""
    for wanted in (f"{name}_16k", name):
        for path in sorted(root.rglob(wanted)):
            if path.is_dir() and any(file.suffix.lower() == ".wav" for file in path.iterdir()):
                return path
    return None


def read_log(root, name):
    """{base name: (noise type, SNR in dB)} from a log file of the corpus, empty where there is none.

    Raises:
        UserError: a line that is not "name noise snr".
    """
    conditions = {}
    for path in sorted(root.rglob(name))[:1]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if line.strip():
                try:
                    utterance, noise_type, snr_db = line.split()
                    conditions[utterance.removesuffix(".wav")] = noise_type, float(snr_db)
                except ValueError:
                    raise UserError(f'{path}, line {number}: expected "name noise snr", found {line!r}') from None
    return conditions
