"""Where scores are kept: one SQLite file, in which every finished score survives whatever happens next."""

import collections
import contextlib
import json
import sqlite3
import threading
import time
from pathlib import Path

from se_keras.errors import UserError


class Cache:
    """Outcomes on disk, (key, stamp) -> value or reason: one SQLite file, shared by any number of threads and processes on one machine.

    Every `put` is a transaction of its own, so a process killed at any moment leaves what it had finished, and no more.

    Args:
        folder: created where absent; holds scores.sqlite.

    Raises:
        UserError: the folder cannot be written, or its file is something else.
    """

    def __init__(self, folder):
        self.path = Path(folder) / "scores.sqlite"
        self._lock = threading.Lock()  # a transaction is its thread's alone
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self.path, timeout=60, isolation_level=None, check_same_thread=False)
            self._write_ahead()
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute("CREATE TABLE IF NOT EXISTS scores (key TEXT, stamp TEXT, value REAL, reason TEXT, "
                                   "PRIMARY KEY (key, stamp)) WITHOUT ROWID")
        except (OSError, sqlite3.Error) as error:
            raise UserError(f"{self.path}: cannot be used as a score cache ({error}); name another folder or delete it") from None

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

    def get(self, keys, stamps):
        """{key: {stamp: (value, reason)}} of what is known of many keys, in one query.

        Raises:
            UserError: the file is damaged.
        """
        found = collections.defaultdict(dict)
        try:
            with self._lock:
                rows = self._database.execute(
                    "SELECT * FROM scores WHERE key IN (SELECT value FROM json_each(?)) AND stamp IN (SELECT value FROM json_each(?))",
                    (json.dumps(list(keys)), json.dumps(list(stamps)))).fetchall()
        except sqlite3.DatabaseError as error:
            raise UserError(f"{self.path}: is damaged ({error}); delete it, and its scores are measured again") from None
        for key, stamp, value, reason in rows:
            found[key][stamp] = (value, reason)
        return found

    def put(self, keys, outcomes):
        """Keep {stamp: (value, reason)} under every one of `keys`.

        Raises:
            UserError: the disk is full or the file can no longer be written.
        """
        try:
            with self._lock, self._transaction():
                self._database.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?)",
                                           [(key, stamp, *outcome) for key in keys for stamp, outcome in outcomes.items()])
        except sqlite3.Error as error:
            raise UserError(f"{self.path}: a score cannot be kept ({error})") from None

    @contextlib.contextmanager
    def _transaction(self):
        self._database.execute("BEGIN IMMEDIATE")
        with self._database:
            yield

    def close(self):
        self._database.close()
