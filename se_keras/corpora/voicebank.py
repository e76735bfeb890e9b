"""Voice Bank + DEMAND (Valentini-Botinhao): ready-made pairs of 28 training and 2 test speakers."""

import hashlib
import json
import os
import shutil
import stat
import time
import zipfile
import zlib
from pathlib import Path

import requests
from tqdm import tqdm

from se_keras import files
from se_keras.corpora import protocol
from se_keras.errors import UserError

URL = "https://datashare.ed.ac.uk/bitstream/handle/10283/2791"
FOLDERS = {"train": ("clean_trainset_28spk_wav", "noisy_trainset_28spk_wav"), "test": ("clean_testset_wav", "noisy_testset_wav")}
LOGS = {"train": "log_trainset_28spk.txt", "test": "log_testset.txt"}
ARCHIVES = (*FOLDERS["test"], *FOLDERS["train"], "logfiles")
PUBLISHED = {"train": 11_572, "test": 824}  # pairs in the published corpus
HELD_OUT = ("p226", "p287")  # validation speakers; SpeechBrain's recipe holds out the same two
LAYOUT = "expected {clean,noisy}_{trainset_28spk,testset}_wav (or ..._wav_16k) with pXXX_NNN.wav files"
ATTEMPTS = 5


def add_arguments(parser):
    """The flags of `prepare.py voicebank`."""
    parser.add_argument("--root", required=True, type=Path, help="folder that holds clean_trainset_28spk_wav and the three others")
    parser.add_argument("--download", action="store_true", help="fetch what --root lacks (5.3 GB); goes on where it stopped")
    parser.add_argument("--base-url", default=URL, help="where the archives lie")


def settings(args):
    """What the data depend on."""
    return {"root": str(args.root.resolve())}


def prepare(args, out):
    """Download where asked to, check, resample to 16 kHz once, and list the pairs.

    Raises:
        UserError: a missing folder, half a pair, lengths that differ, a file that cannot be used, or a failed download.
    """
    if args.download:
        download(args.base_url.rstrip("/"), args.root, out / "downloads.json")
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


def download(base_url, root, record):
    """Fetch and unpack the archives whose folders `root` lacks; their sha256 is printed and kept in `record`.

    Raises:
        UserError: a download that fails, or an archive that is damaged or would write outside `root`.
    """
    root.mkdir(parents=True, exist_ok=True)
    known = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    for name in ARCHIVES:
        if (root / name).is_dir() or find_folder(root, name):
            continue
        archive, url = root / f"{name}.zip", f"{base_url}/{name}.zip"
        if archive.is_file() and _is_page(archive):
            print(f"{archive}: is a web page, no archive; it is fetched again")
            archive.unlink()
        if not archive.is_file():
            fetch(url, archive)
            if _is_page(archive):
                archive.unlink()
                raise UserError(f"{url}: the server sent a web page instead of the archive; try again later, or see --base-url")
        with open(archive, "rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        print(f"{archive.name}: {archive.stat().st_size} bytes, sha256 {checksum}")
        known[archive.name] = {"url": f"{base_url}/{archive.name}", "bytes": archive.stat().st_size, "sha256": checksum}
        files.write_json(record, known)
        unpack(archive, root / name)


def _is_page(path):
    """Whether a file is an HTML page: what some servers answer instead of an error."""
    with open(path, "rb") as file:
        return file.read(512).lstrip().startswith(b"<")


def fetch(url, path):
    """Download `url` to `path`. What an interrupted call left in PATH.part is gone on from, where the server knows Range.

    Raises:
        UserError: the server refuses, or the connection broke `ATTEMPTS` times without progress.
    """
    part = path.with_name(f"{path.name}.part")
    failures = 0
    while True:
        had = part.stat().st_size if part.is_file() else 0
        try:
            if _transfer(url, part, had):
                os.replace(part, path)
                return
            reason = "the connection ended early"
        except requests.RequestException as error:
            reason = error
        progressed = part.is_file() and part.stat().st_size > had
        failures = 0 if progressed else failures + 1
        if failures >= ATTEMPTS:
            raise UserError(f"{url}: cannot be fetched ({reason}); run the same command again, it goes on from what is there")
        time.sleep(min(failures, 3))


def _transfer(url, part, had):
    """One connection: append to `part` from byte `had` on. True when the file is complete."""
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={had}-"} if had else {})
    with requests.get(url, headers=headers, stream=True, timeout=30) as response:
        length = response.headers.get("Content-Range", "").rpartition("/")[2]
        resumed = response.status_code == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {had}-")
        if response.status_code == 416 and length == str(had):
            return True  # everything had arrived, only the renaming had not
        if response.status_code == 416 or response.status_code == 206 and not resumed:
            part.unlink()  # not the file that was begun: start over
            return False
        if 400 <= response.status_code < 500:
            raise UserError(f"{url}: the server answers {response.status_code} {response.reason}; see --base-url")
        response.raise_for_status()
        said = length if resumed else response.headers.get("Content-Length", "0")
        total = int(said) if said.isdecimal() else 0  # a server that does not know, or says nonsense
        if shutil.disk_usage(part.parent).free + had < total:
            raise UserError(f"{part.parent}: too little space is left for {url} ({total / 1e6:.0f} MB)")
        with open(part, "ab" if resumed else "wb") as file, tqdm(
                desc=part.name.removesuffix(".part"), total=total or None, initial=had if resumed else 0, unit="B", unit_scale=True,
                disable=None) as bar:
            for chunk in response.iter_content(1 << 16):  # what is lost of a chunk when the connection breaks
                file.write(chunk)
                bar.update(len(chunk))
    return not total or part.stat().st_size == total


def unpack(archive, folder):
    """Unzip `archive` so that its files lie in `folder`, which appears when all of them are there.

    Raises:
        UserError: a damaged archive, or one with a path that leads elsewhere.
    """
    temporary = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as file:
            for member in tqdm(file.infolist(), desc=f"unpacking {archive.name}", unit="file", disable=None):
                if not (temporary / member.filename).resolve().is_relative_to(temporary.resolve()):
                    raise UserError(f"{archive}: holds the path {member.filename!r}, which leads out of its folder; not unpacked")
                if member.flag_bits & 1 or stat.S_ISLNK(member.external_attr >> 16):
                    what = "encrypted" if member.flag_bits & 1 else "a link"
                    raise UserError(f"{archive}: {member.filename!r} is {what}; not unpacked")
                file.extract(member, temporary)
        inner = temporary / folder.name
        os.replace(inner if inner.is_dir() else temporary, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:  # RuntimeError: a way of packing that it lacks
        if isinstance(error, UserError):
            raise
        raise UserError(f"{archive}: is damaged ({error}); delete it and run the same command again") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
