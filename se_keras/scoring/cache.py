"""Where scores are kept: one SQLite file, in which every finished score survives whatever happens next."""

import collections
import contextlib
import json
import os
import sqlite3
import sys
import threading
import time
import zlib
from pathlib import Path

from se_keras.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Cache:
    """Outcomes on disk, (key, stamp) -> value or reason: one SQLite file, shared by any number of threads and processes on one machine.

    Every `put` is a transaction of its own, so a process killed at any moment leaves what it had finished, and no more. A file that
    is cut or otherwise damaged is moved aside, said on standard error, and begun anew; a row whose checksum is wrong is not known.

    Args:
        folder: created where absent; holds scores.sqlite.

    Raises:
        UserError: the folder cannot be written, or its file is another database.
    """

    def __init__(self, folder):
        self.path = Path(folder) / "scores.sqlite"
        self._lock = threading.Lock()  # a transaction is its thread's alone
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            found = self.path.stat().st_ino if self.path.exists() else None
            try:
                self._open()
            except sqlite3.DatabaseError as error:
                if not _is_damaged(error):
                    raise
                self._database.close()
                self._move_aside(found, error)
                self._open()
        except (OSError, sqlite3.Error) as error:
            raise UserError(f"{self.path}: cannot be used as a score cache ({error}); name another folder or delete it") from None

    def _open(self):
        self._database = sqlite3.connect(self.path, timeout=60, isolation_level=None, check_same_thread=False)
        self._database.text_factory = lambda text: text.decode(errors="replace")  # of changed bytes: their checksum tells
        (said, *_), *_ = self._database.execute("PRAGMA quick_check(1)")  # reads the whole file: 0.1 s for 15,000 mixtures
        if said != "ok":
            damage = sqlite3.DatabaseError(said.replace("\n", " "))
            damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise damage
        tables = [name for name, in self._database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        if tables and "scores" not in tables:
            raise UserError(f"{self.path}: is no score cache (it holds the tables {', '.join(tables)}); name another folder")
        self._write_ahead()
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.execute("CREATE TABLE IF NOT EXISTS scores (key TEXT, stamp TEXT, value REAL, reason TEXT, checksum INTEGER, "
                               "PRIMARY KEY (key, stamp)) WITHOUT ROWID")
        columns = [name for _, name, *_ in self._database.execute("PRAGMA table_info(scores)")]
        if columns[:4] != ["key", "stamp", "value", "reason"]:
            raise UserError(f"{self.path}: is no score cache (its table has {', '.join(columns)}); name another folder")
        if "checksum" not in columns:
            with contextlib.suppress(sqlite3.OperationalError):  # another process was faster
                self._database.execute("ALTER TABLE scores ADD COLUMN checksum INTEGER")  # no checksum: a row of an earlier version

    def _write_ahead(self):
        """Readers and one writer at a time do not wait for each other. The switch does not wait for a lock by itself."""
        for attempt in range(100):
            try:
                self._database.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or attempt == 99:
                    raise
                time.sleep(0.05)

    def _move_aside(self, found, error):
        """The file, and what SQLite keeps beside it, under other names; nothing if another process has just done it."""
        with open(self.path.with_name(f".{self.path.name}.lock"), "w") as lock:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.path.exists() or self.path.stat().st_ino != found:
                return
            aside = self.path.with_name(f"{self.path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
            for suffix in ("-wal", "-shm", ""):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{self.path}{suffix}", f"{aside}{suffix}")
        print(f"{self.path}: is damaged ({error}); moved to {aside.name}, and its scores are measured again", file=sys.stderr)

    def get(self, keys, stamps):
        """{key: {stamp: (value, reason)}} of what is known of many keys, in one query.

        Raises:
            UserError: the file was damaged meanwhile, or can no longer be read.
        """
        found = collections.defaultdict(dict)
        try:
            with self._lock:
                rows = self._database.execute(
                    "SELECT key, stamp, value, reason, checksum FROM scores WHERE key IN (SELECT value FROM json_each(?)) "
                    "AND stamp IN (SELECT value FROM json_each(?))", (json.dumps(list(keys)), json.dumps(list(stamps)))).fetchall()
        except sqlite3.Error as error:
            said = f"is damaged ({error}); run the same command again, which moves it aside and measures its scores again"
            raise UserError(f"{self.path}: {said if _is_damaged(error) else f'cannot be read ({error}); run the same command again'}") from None
        for *row, checksum in rows:
            key, stamp, value, reason = row
            if checksum is None or checksum == _checksum(*row):
                found[key][stamp] = (value, reason)
        return found

    def put(self, keys, outcomes):
        """Keep {stamp: (value, reason)} under every one of `keys`.

        Raises:
            UserError: the disk is full or the file can no longer be written.
        """
        rows = [(key, stamp, None if value is None else float(value), reason)
                for key in keys for stamp, (value, reason) in outcomes.items()]
        try:
            with self._lock, self._transaction():
                self._database.executemany("INSERT OR REPLACE INTO scores (key, stamp, value, reason, checksum) VALUES (?, ?, ?, ?, ?)",
                                           [(*row, _checksum(*row)) for row in rows])
        except sqlite3.Error as error:
            raise UserError(f"{self.path}: a score cannot be kept ({error})") from None

    @contextlib.contextmanager
    def _transaction(self):
        self._database.execute("BEGIN IMMEDIATE")
        with self._database:
            yield

    def close(self):
        self._database.close()


def _is_damaged(error):
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED  # the low byte: which of its pages, stands above


def _checksum(*row):
    """CRC-32 of a row: SQLite has none, and takes changed bytes inside a value for the value."""
    return zlib.crc32(repr(row).encode(errors="replace"))
