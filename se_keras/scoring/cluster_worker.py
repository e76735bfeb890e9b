"""What runs in a worker of a Dask cluster: one call at a time, with the files that the client has; `cluster` is the client's side."""

import collections
import functools
import hashlib
import threading
import time
from pathlib import Path

from se_keras import files as whole
from se_keras.errors import UserError

FOLDER_MB = 1024  # of files that were sent to a worker

_turn = threading.Lock()  # one call at a time, whatever the threads: a user's metric may not bear more
_running = {}  # {task: when it began}
_read = {}  # {path: hash of the file when it was last read}
_kept = collections.OrderedDict()  # {path of a file that was sent: its size}, the one used last at the end


def call(task, function, arguments, hashes, sent):
    """A call of the client's, in a worker.

    Args:
        task: its name.
        function, arguments: what is called.
        hashes: {path: sha256} of the files that it reads, as the client has them.
        sent: {sha256: bytes} of some of them.

    Returns:
        ("found", the function's value), or ("lacks", list of sha256 of files that are neither here nor sent).
    """
    with _turn:
        _running[task] = time.monotonic()
        try:
            at, lacking = _locate(hashes, sent)
            if lacking:
                return "lacks", lacking
            with _threads().limit(limits=1):  # sums in the order of the pool's processes, and leaves the cores to other workers
                return "found", function(*arguments, **({"at": at} if at else {}))
        finally:
            del _running[task]


@functools.cache
def _threads():
    """Of the libraries that are loaded by now: `scores.versions` has imported those that measure. To look for them takes milliseconds."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def running():
    """{task: seconds since it began} of the calls in this worker."""
    now = time.monotonic()
    return {task: now - began for task, began in list(_running.items())}


def _locate(hashes, sent):
    """{path: where it lies here} of the files that lie elsewhere, and the hashes of those that are nowhere."""
    from se_keras.signals import audio

    at, lacking = {}, []
    for path, wanted in hashes.items():
        if _hash(path) == wanted:
            if _read.setdefault(path, wanted) != wanted:  # changed since: what is remembered of it is of then
                audio.read_cached.cache_clear()
                _read[path] = wanted
            continue
        kept = _folder() / f"{wanted}{Path(path).suffix}"
        if wanted in sent and not kept.is_file():
            if hashlib.sha256(sent[wanted]).hexdigest() != wanted:
                raise UserError(f"{path}: was changed while it was being scored; run the same command again")
            with whole.replacing(kept) as temporary:
                temporary.write_bytes(sent[wanted])
        if kept.is_file():
            at[path] = str(kept)
            _kept[kept] = kept.stat().st_size
            _kept.move_to_end(kept)
        else:
            lacking.append(wanted)
    while sum(_kept.values()) > FOLDER_MB * 1e6 and str(next(iter(_kept))) not in at.values():
        _kept.popitem(last=False)[0].unlink(missing_ok=True)
    return at, lacking


def _hash(path):
    from se_keras.signals import audio  # late: who only reads an address needs no NumPy

    try:
        return audio.file_hash(path)
    except (OSError, UserError):
        return None


def _folder():
    """Of files that were sent; goes with the worker."""
    from distributed import get_worker

    return Path(get_worker().local_directory) / "se_keras"
