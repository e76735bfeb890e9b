"""Audio in tar shards (WebDataset's layout), read where it lies: `SHARD.tar/MEMBER` names a file in a tar as a path does one in a folder.

A shard's members are found through an index, offset and size of each, that is made once and kept beside the shard. Only plain tars can be
read so: in a compressed one nothing can be found without unpacking all that stands before it.
"""

import functools
import io
import json
import os
import re
import tarfile
from pathlib import Path

from se_keras import files
from se_keras.errors import UserError

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_WITHIN = re.compile(r"\.tar/", re.IGNORECASE)
_BLOCK = tarfile.BLOCKSIZE
_OPEN = 64  # indexes held in memory: of shards of a thousand members, 10 MB


def split(path):
    """(path of the tar, name of the member) of a path that goes on into a tar file; None for any other."""
    path = str(path)
    for end in _WITHIN.finditer(path):
        tar, member = path[:end.end() - 1], path[end.end():]
        if member and os.path.isfile(tar):  # folders may be called so, too
            return tar, member
    return None


def is_file(path):
    """Whether a path is a file, or a member of a tar that is there.

    Raises:
        UserError: the tar cannot be used (`members`).
    """
    return os.path.isfile(path) or ((found := split(path)) is not None and found[1] in members(found[0]))


def open_bytes(path):
    """A file, or a member of a tar, as a binary file object to read.

    Raises:
        UserError: there is no such file or member, or the tar cannot be used (`members`).
    """
    found = split(path)
    if found is None:
        if not os.path.isfile(path):
            raise UserError(f"{path}: no such file")
        return open(path, "rb")
    tar, member = found
    known = members(tar)
    if member not in known:
        raise UserError(f"{tar}: holds no {member} among its {len(known):,} members; was the shard made anew? run data/prepare.py again")
    offset, size = known[member]
    with open(tar, "rb") as file:
        file.seek(offset)
        return io.BytesIO(file.read(size))


def stat(path):
    """os.stat of a file; of a member, that of its tar."""
    found = split(path)
    return os.stat(path if found is None else found[0])


def members(tar):
    """The files in a tar: {name: (offset, size) in bytes}, in the tar's order, from its index; the index is made where it is not there.

    Args:
        tar: path. Beside it `.NAME.index.json` is written; where the folder cannot be written, each process makes the index for itself.

    Raises:
        UserError: no tar file, a compressed one, one that is cut short or joined of several; a member that is a link or a device, whose
            name is absolute, holds "..", is not UTF-8, or stands twice.
    """
    found = os.stat(tar)
    return _members(str(tar), found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=_OPEN)
def _members(tar, size, mtime_ns):
    path = Path(tar).with_name(f".{Path(tar).name}.index.json")
    key = {"size": size, "mtime_ns": mtime_ns}
    if (kept := _read(path, key)) is not None:
        return kept
    found = _scan(tar, size)
    if os.access(path.parent, os.W_OK):  # two processes at a time write the same
        try:
            files.write_text(path, json.dumps({**key, "members": found}) + "\n")
        except (OSError, UserError):  # a full disk, the other process: the next one makes it again
            pass
    return found


def _read(path, key):
    """The members that an index names; None where there is none, or one of another state of the tar."""
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if {name: index[name] for name in key} != key:
            return None
        found = {name: (int(offset), int(size)) for name, (offset, size) in index["members"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return found if all(0 <= offset and 0 <= size and offset + size <= key["size"] for offset, size in found.values()) else None


def check_plain(path):
    """See that a shard is no compressed tar.

    Raises:
        UserError: it is one, by its name or its first bytes.
    """
    with open(path, "rb") as file:
        first = file.read(6)
    kind = next((kind for magic, kind in _MAGIC.items() if first.startswith(magic)), None)
    if kind or str(path).lower().endswith(COMPRESSED):
        raise UserError(f"{path}: a compressed tar{f' ({kind})' if kind else ''}, in which nothing can be found without unpacking all that "
                        "stands before it; make it a plain .tar (gunzip, unxz ...): flac hardly grows")


def _scan(tar, size):
    check_plain(tar)
    found = {}
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                _add(found, member, tar, size)
            end = archive.offset
    except UserError:
        raise
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise UserError(f"{tar}: not a tar, or one that is cut short ({error}); fetch or write it again") from None
    _check_end(tar, size, end, len(found))
    return found


def _add(found, member, tar, size):
    """Enter a member into {name: (offset, size)}; folders are left out.

    Raises:
        UserError: one that is refused, or whose end is missing.
    """
    name = member.name[2:] if member.name.startswith("./") else member.name
    wrong = ("is a link" if member.issym() or member.islnk() else "is a device" if member.isdev() else
             "is sparse" if member.issparse() else "is no file" if not (member.isfile() or member.isdir()) else
             "has an absolute name" if name.startswith("/") else 'has a ".." in its name' if ".." in name.split("/") else
             "has a name that is not UTF-8" if any("\ud800" <= letter <= "\udfff" for letter in name) else
             "stands there twice" if name in found else "")
    if wrong:
        raise UserError(f"{tar}: its member {member.name!r} {wrong}; expected plain files with relative names, each once: write the shard "
                        "anew")
    if member.isfile():
        if member.offset_data + member.size > size:
            raise UserError(f"{tar}: cut short in its member {name}: {max(size - member.offset_data, 0):,} of {member.size:,} bytes are "
                            "there; fetch or write it again")
        found[name] = (member.offset_data, member.size)


def _check_end(tar, size, end, count):
    """See that a tar ends with the two empty blocks that mark its end, and that nothing but empty blocks follows.

    Raises:
        UserError: it does not.
    """
    with open(tar, "rb") as file:
        file.seek(end)
        mark = file.read(_BLOCK)
        more = any(file.read(1 << 20).strip(b"\0") for _ in range(-(-max(size - end - _BLOCK, 0) // (1 << 20))))
    if len(mark) < _BLOCK or mark.strip(b"\0"):
        raise UserError(f"{tar}: cut short after {count:,} members (its end mark is missing); fetch or write it again")
    if more:
        raise UserError(f"{tar}: goes on after its end mark ({count:,} members stand before it): are two tars joined? keep them apart")
