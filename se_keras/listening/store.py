"""A listening test on disk: one SQLite file with its settings, its audio, its listeners and every answer.

An answer is acknowledged when it is on disk: the file is in WAL mode with synchronous=FULL, so that neither a killed server nor a power
cut takes back what a listener was told is stored.
"""

import contextlib
import datetime
import json
import secrets
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path

from se_keras import files
from se_keras.errors import UserError
from se_keras.listening.design import Design, Trial

VERSION = 1  # of the tables
_APPLICATION = 0x53454C54  # "SELT" in the file's header, where SQLite keeps whose file it is
_TABLES = """
CREATE TABLE test (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE audio (item INTEGER, condition TEXT, wav BLOB NOT NULL, PRIMARY KEY (item, condition));
CREATE TABLE listeners (number INTEGER PRIMARY KEY, secret TEXT NOT NULL UNIQUE, scripted INTEGER NOT NULL, agreed TEXT NOT NULL);
CREATE TABLE trials (listener INTEGER, trial INTEGER, item INTEGER NOT NULL, slots TEXT NOT NULL, phase TEXT NOT NULL,
                     PRIMARY KEY (listener, trial));
CREATE TABLE answers (listener INTEGER, trial INTEGER, answer TEXT NOT NULL, seconds REAL, stored TEXT NOT NULL,
                      PRIMARY KEY (listener, trial), FOREIGN KEY (listener, trial) REFERENCES trials (listener, trial));
"""
SETTINGS = ("kind", "systems", "items", "trials", "seed", "forced", "consent", "title", "fingerprint", "token", "made")


class Conflict(Exception):
    """An answer that cannot be stored: another one is, or it is not its turn."""


@dataclass(frozen=True)
class Listener:
    """Who answers.

    Attributes:
        number: from 0.
        scripted: whether a program says that it is one.
    """

    number: int
    scripted: bool


def create(path, settings, audio):
    """A new database, whole or not there.

    Args:
        path: of the file; nothing may be there.
        settings: {name: JSON value}, of `SETTINGS`, "made" aside; "items" is the list of utterance ids, "token" what a new listener must
            name, or None.
        audio: {utterance id: {condition: WAV bytes}} (`material.gather`).

    Raises:
        UserError: a file is there, a log of a database that is gone is there, or the disk is full.
    """
    path = Path(path)
    if path.exists():
        raise UserError(f"{path}: is there already; name another file")
    if (log := path.with_name(f"{path.name}-wal")).exists():
        raise UserError(f"{log}: is left of a database that is gone, and may hold its last answers; move it away, or name another file")
    settings = {**settings, "made": _now()}
    with files.replacing(path) as temporary:
        for left in (temporary, temporary.with_name(f"{temporary.name}-journal")):  # by one that was killed
            left.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(temporary, isolation_level=None)) as database:
            try:
                database.executescript(f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {VERSION}; BEGIN; {_TABLES}")
                database.executemany("INSERT INTO test VALUES (?, ?)", [(name, json.dumps(settings[name])) for name in SETTINGS])
                database.executemany("INSERT INTO audio VALUES (?, ?, ?)",
                                     [(item, condition, wav) for item, name in enumerate(settings["items"])
                                      for condition, wav in audio[name].items()])
                database.execute("COMMIT")
                database.execute("PRAGMA journal_mode = WAL")  # the file keeps it
            except sqlite3.OperationalError as error:
                raise UserError(f"{path}: cannot be written ({error}); free some space, or name another file") from None


class Store:
    """A database that is open; may be used by several threads at once.

    Args:
        path: of a file that `create` made.

    Raises:
        UserError: no such file, no database, another program's, of another version, or one that cannot be read.
    """

    def __init__(self, path):
        self.path = Path(path)
        if self.path.is_dir():
            raise UserError(f"{path}: is a folder; name the file of a listening test")
        if not self.path.is_file():
            raise UserError(f"{path}: no such file; python listen.py --report REPORT --systems A B --out {path} makes it")
        self._lock = threading.RLock()
        try:
            self._database = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=10)
            application, version = (self._value(f"PRAGMA {name}") for name in ("application_id", "user_version"))
        except sqlite3.DatabaseError as error:
            raise UserError(f"{path}: not a listening test's database, or a damaged one ({error}); name the file that "
                            "listen.py --out made") from None
        if application != _APPLICATION:
            self.close()
            raise UserError(f"{path}: a database, but not a listening test's; name the file that listen.py --out made")
        if version != VERSION:
            self.close()
            raise UserError(f"{path}: of version {version}, this listen.py reads version {VERSION}; use the release that made it")
        try:
            self._database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
            rows = self._database.execute("SELECT key, value FROM test").fetchall()
            if (found := self._value("PRAGMA quick_check(1)")) != "ok":  # a page in the middle may be damaged
                raise sqlite3.DatabaseError(found)
        except sqlite3.DatabaseError as error:
            self.close()
            raise UserError(f"{path}: cannot be read and written, or is damaged ({' '.join(str(error).split())[:200]}); copy of it what "
                            "can be had (sqlite3 DB .recover), or name another file") from None
        self.settings = {key: json.loads(value) for key, value in rows}
        self.design = Design(self.settings["kind"], tuple(self.settings["systems"]), len(self.settings["items"]), self.settings["trials"],
                             self.settings["seed"])

    def close(self):
        with self._lock:
            self._database.close()

    def keep_token(self, token):
        """What a new listener must name from now on; None for nothing."""
        with self._writing() as database:
            database.execute("UPDATE test SET value = ? WHERE key = 'token'", (json.dumps(token),))
        self.settings["token"] = token

    def start(self, scripted=False):
        """A new listener, who has just agreed; its secret, which opens its trials and nobody else's."""
        secret = secrets.token_urlsafe(24)
        with self._writing() as database:
            number = self._value("SELECT COALESCE(MAX(number) + 1, 0) FROM listeners")
            database.execute("INSERT INTO listeners VALUES (?, ?, ?, ?)", (number, secret, int(scripted), _now()))
            database.executemany("INSERT INTO trials VALUES (?, ?, ?, ?, ?)",
                                 [(number, place, trial.item, json.dumps(trial.slots), trial.phase)
                                  for place, trial in enumerate(self.design.plan(number))])
        return secret

    def listener(self, secret):
        """The `Listener` of a secret; None where there is none."""
        with self._lock:
            row = self._database.execute("SELECT number, scripted FROM listeners WHERE secret = ?", (secret,)).fetchone()
        return row and Listener(row[0], bool(row[1]))

    def trial(self, listener, number):
        """A listener's `Trial` by its number; None where there is none."""
        with self._lock:
            row = self._database.execute("SELECT item, slots, phase FROM trials WHERE listener = ? AND trial = ?",
                                         (listener.number, number)).fetchone()
        return row and Trial(row[0], tuple(json.loads(row[1])), row[2])

    def turn(self, listener):
        """(number of the first trial that is not answered, number of all)."""
        with self._lock:
            return self._database.execute("SELECT (SELECT COUNT(*) FROM answers WHERE listener = ?1), (SELECT COUNT(*) FROM trials "
                                          "WHERE listener = ?1)", (listener.number,)).fetchone()

    def wav(self, item, condition):
        """Bytes of a WAV file."""
        with self._lock:
            return self._value("SELECT wav FROM audio WHERE item = ? AND condition = ?", (item, condition))

    def answer(self, listener, number, answer, seconds=None):
        """Store an answer; when this returns it is on disk.

        Args:
            listener: a `Listener`.
            number: of its trial.
            answer: JSON value, checked.
            seconds: that it took, as the browser says.

        Returns:
            True; False where the same answer was stored before: a request that is sent again does no harm.

        Raises:
            Conflict: another answer is stored, or earlier trials are not answered.
        """
        text = json.dumps(answer, sort_keys=True)
        with self._writing() as database:
            stored = database.execute("SELECT answer FROM answers WHERE listener = ? AND trial = ?", (listener.number, number)).fetchone()
            if stored:
                if stored[0] != text:
                    raise Conflict("this trial has another answer, which stays")
                return False
            if number != (turn := self.turn(listener)[0]):
                raise Conflict(f"trial {turn} is to be answered first")
            database.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?)", (listener.number, number, text, seconds, _now()))
        return True

    def listeners(self):
        """All of them: dicts of number, scripted, agreed, answered, trials."""
        return self._rows("SELECT number, scripted, agreed, (SELECT COUNT(*) FROM answers WHERE listener = number) AS answered, "
                          "(SELECT COUNT(*) FROM trials WHERE listener = number) AS trials FROM listeners ORDER BY number")

    def answers(self):
        """All of them: dicts of listener, trial, phase, item (the utterance's id), slots, answer, seconds, stored."""
        rows = self._rows("SELECT listener, trial, phase, item, slots, answer, seconds, stored FROM answers JOIN trials USING (listener, "
                          "trial) ORDER BY listener, trial")
        return [{**row, "item": self.settings["items"][row["item"]], "slots": json.loads(row["slots"]),
                 "answer": json.loads(row["answer"])} for row in rows]

    def _rows(self, query):
        with self._lock:
            found = self._database.execute(query)
            names = [column[0] for column in found.description]
            return [dict(zip(names, row, strict=True)) for row in found]

    def _value(self, query, values=()):
        row = self._database.execute(query, values).fetchone()
        return row and row[0]

    @contextlib.contextmanager
    def _writing(self):
        """A transaction that is whole or not there, of this process or of another one on the same file."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:  # a full disk may have ended it
                    self._database.execute("ROLLBACK")
                raise


def _now():
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
