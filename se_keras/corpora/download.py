"""Archives from the web: fetched where a folder lacks them, gone on with where it stopped, recorded, unpacked."""

import hashlib
import json
import os
import shutil
import stat
import time
import zipfile
import zlib

import requests
from tqdm import tqdm

from se_keras import files
from se_keras.errors import UserError

ATTEMPTS = 5


def add_arguments(parser, url, size):
    """Add `--download` and `--base-url`; `size` says in words what is fetched."""
    parser.add_argument("--download", action="store_true", help=f"fetch what --root lacks ({size}); goes on where it stopped")
    parser.add_argument("--base-url", default=url, help="where the archives lie")


def archives(names, base_url, root, record, is_there):
    """Fetch and unpack the archives whose contents `root` lacks; their sha256 is printed and kept in `record`.

    Args:
        names: of the archives, without .zip.
        base_url: where they lie.
        root: folder; the files of NAME.zip come to lie in `root`/NAME.
        record: path of a JSON file: {archive: address, size, sha256}.
        is_there: name -> whether the contents of an archive are there already, unpacked by hand perhaps.

    Raises:
        UserError: a download that fails, or an archive that is damaged or would write outside `root`.
    """
    base_url = base_url.rstrip("/")
    root.mkdir(parents=True, exist_ok=True)
    known = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    for name in names:
        if (root / name).is_dir() or is_there(name):
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
        known[archive.name] = {"url": url, "bytes": archive.stat().st_size, "sha256": checksum}
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
        if response.status_code in (206, 416) and not resumed:
            if not had:
                raise UserError(f"{url}: the server answers {response.status_code} {response.reason}, and no part of the file was asked "
                                "for; see --base-url")
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
        UserError: a damaged archive, one with a path that leads elsewhere, or one that the disk cannot hold.
    """
    temporary = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as file:
            temporary.mkdir(parents=True)
            needed, free = sum(member.file_size for member in file.infolist()), shutil.disk_usage(temporary).free
            if needed > free:
                raise UserError(f"{archive}: unpacks to {needed / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free; not unpacked")
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
