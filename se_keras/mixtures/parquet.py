"""Manifests of millions of rows: Parquet files, written as a stream, of which a row is read from disk when it is asked for.

In memory stand the file's footer (5 bytes a row), a few row groups and, in training, the lengths (4 bytes a row). Rows are read by
pyarrow, an extra (requirements-extras.txt); nothing else of the project needs it.
"""

import array
import bisect
import collections
import contextlib
import hashlib
import itertools
import json
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from se_keras import files
from se_keras.errors import UserError
from se_keras.mixtures.rows import FIELDS, PATHS, check_reference, checked, relative_to

GROUP = 2048  # rows that are read together to get one: more of them and a row takes longer, fewer and the footer grows
_KEPT = 8  # row groups held, 0.5 MB each
_MARK = b"se_keras.manifest"  # in the footer of what `write` has made: {rows, recordings, cropped}
_AGAIN = "run data/prepare.py again"
_64_BITS = (1 << 64) - 1
_CHUNK = 65_536  # rows of a column that is read as a whole
_NUMBERS = {"snr_db": "double", "gain": "double", **dict.fromkeys(("samples", "offset", "start", "length"), "int64")}
_TYPES = {name: _NUMBERS.get(name, "string") for name in FIELDS}  # of the columns
_VARIED = ("id", "gain", "offset")  # columns in which few values come twice


def _pyarrow(path):
    """pyarrow and pyarrow.parquet.

    Raises:
        UserError: they are not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(f"{path}: Parquet takes pyarrow, which is not installed: pip install -r requirements-extras.txt") from None
    return pyarrow, pyarrow.parquet


def check_installed(path):
    """See that Parquet can be read and written, before any work.

    Raises:
        UserError: pyarrow is missing.
    """
    _pyarrow(path)


def write(path, rows):
    """Write rows to a `.parquet` file, atomically, as they come: in memory stand a row group and 8 bytes a row, by which ids are compared.

    Args:
        path: of the manifest; paths inside its folder are written relative to it.
        rows: iterable of `Utterance`.

    Raises:
        UserError: pyarrow is missing; an id that stands twice; a value that a column cannot hold.
    """
    pa, pq = _pyarrow(path)
    path = Path(path)
    relative = relative_to(path.parent.resolve())
    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in _TYPES.items()])
    ids, recordings, cropped, rows = array.array("Q"), 0, False, iter(rows)
    with files.replacing(path) as temporary, open(temporary, "wb") as file:
        writer = pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=[name for name in _TYPES if name not in _VARIED],
                                  write_statistics=False, write_page_checksum=True)
        try:
            while group := list(itertools.islice(rows, GROUP)):
                columns = {name: [getattr(row, name) for row in group] for name in _TYPES}
                ids.extend(hash(name) & _64_BITS for name in columns["id"])
                recordings += columns["clean"].count(None)
                cropped = cropped or any(columns["start"]) or any(length is not None for length in columns["length"])
                for name in PATHS:
                    columns[name] = [target and relative(target) for target in columns[name]]
                writer.write_table(_table(pa, columns, schema, path))
            mark = {"rows": len(ids), "recordings": recordings, "cropped": cropped}
            writer.add_key_value_metadata({_MARK: json.dumps(mark).encode()})
            writer.close()
        except BaseException:
            with contextlib.suppress(Exception):
                writer.close()  # or it complains, later, of a file that is closed
            raise
        file.flush()
        if len(twice := _twice(ids)):
            _check_ids(path, temporary, set(twice.tolist()))


def _table(pa, columns, schema, path):
    """Columns as a pyarrow.Table.

    Raises:
        UserError: a value that its column cannot hold.
    """
    try:
        return pa.table(columns, schema)
    except (pa.ArrowException, TypeError, UnicodeEncodeError) as error:
        raise UserError(f"{path}: of the {len(columns['id']):,} rows from {columns['id'][0]!r} on, one holds what none may "
                        f"({_first_line(error)}); data/README.md says what a row is") from None


def _twice(hashes):
    """The values that stand twice in an array of uint64, which is sorted in place."""
    hashes = np.frombuffer(hashes, np.uint64) if hashes else np.zeros(0, np.uint64)
    hashes.sort()
    return np.unique(hashes[1:][hashes[1:] == hashes[:-1]])


def _check_ids(path, written, doubtful):
    """See whether ids of one hash are one id.

    Raises:
        UserError: two are.
    """
    seen = {}
    for number, name in enumerate(itertools.chain.from_iterable(chunk.to_pylist() for chunk in _column(_open(written), "id", written))):
        if hash(name) & _64_BITS in doubtful and seen.setdefault(name, number) != number:
            raise UserError(f"{path}: the id {name!r} stands in rows {seen[name]:,} and {number:,}; ids must be unique")


def stream(path):
    """Rows of a Parquet file of whatever origin, one after the other, each checked.

    Raises:
        UserError: as `ParquetRows`, but for a file without the mark of one that `write` made.
    """
    number = 0
    for batch in _batches(path, _open(path)):
        yield from _utterances(batch, path, number, Path(path).parent.resolve())
        number += len(batch)


class ParquetRows(Sequence):
    """The rows of a Parquet manifest as a sequence of `Utterance`; a slice is a list. Threads may read at a time.

    Args:
        path: of the file.
        reference: whether every row must have a clean file.

    Raises:
        UserError: pyarrow is missing; no Parquet file, or one that is cut short; other columns than a row's fields; one that `write` did
            not make, whose rows nobody has checked; no rows; a row without a clean file where it must have one.
    """

    def __init__(self, path, reference=True):
        self.path, self.folder, self.reference = Path(path), Path(path).parent.resolve(), reference
        file = _open(path)
        self._metadata, self._of_thread = file.metadata, threading.local()
        self._of_thread.file = file
        self._lock, self._held = threading.Lock(), collections.OrderedDict()
        mark = _mark(file.metadata)
        if mark is None:
            raise UserError(f"{path}: was not written by data/prepare.py, so its rows are unchecked; write it anew, in Python: from "
                            f"se_keras.mixtures import manifest; manifest.write('NEW.parquet', manifest.stream({str(path)!r}))")
        if mark["rows"] == 0:
            raise UserError(f"{path}: holds no rows; {_AGAIN}")
        if reference and mark["recordings"]:
            raise UserError(f"{path}: {mark['recordings']:,} of {mark['rows']:,} rows have no clean reference; such recordings can be "
                            "tested (test.py), but nothing can be learned from them")
        self._cropped = mark["cropped"]
        self._ends = list(itertools.accumulate(file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)))
        self._lengths = None

    def __len__(self):
        return self._ends[-1]

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]  # negative ones count from the end; IndexError past it
        group = bisect.bisect_right(self._ends, number)
        first = self._ends[group - 1] if group else 0
        table = self._group(group)
        record = {name: table.column(place)[number - first].as_py() for place, name in enumerate(table.column_names)}
        return self._row(record, number)

    def __iter__(self):
        number = 0
        for batch in _batches(self.path, self._file()):
            for row in _utterances(batch, self.path, number, self.folder):
                if self.reference:
                    check_reference(row, f"{self.path}, row {number}")
                yield row
            number += len(batch)

    def _row(self, record, number):
        where = f"{self.path}, row {number}"
        row = checked(record, where, self.folder)
        if self.reference:
            check_reference(row, where)
        return row

    def _file(self):
        """The thread's own reader; all share one footer."""
        if not hasattr(self._of_thread, "file"):
            self._of_thread.file = _open(self.path, self._metadata)
        return self._of_thread.file

    def _group(self, group):
        """A row group as a pyarrow.Table, the last few kept."""
        with self._lock:
            if group in self._held:
                self._held.move_to_end(group)
                return self._held[group]
        with _reading(self.path):
            table = self._file().read_row_group(group, use_threads=False)
        with self._lock:
            self._held[group] = table
            while len(self._held) > _KEPT:
                self._held.popitem(last=False)
        return table

    def distinct(self, name):
        """The values that a column has, a set without None; paths are absolute."""
        found, coded = set(), _TYPES[name] == "string" and name not in _VARIED
        file = _open(self.path, self._metadata, [name]) if coded else self._file()
        for chunk in _column(file, name, self.path):  # each row group has a dictionary of its values: these alone become Python's
            found.update((chunk.dictionary if coded else chunk.unique()).to_pylist())
        found.discard(None)
        return {str(self.folder / target) for target in found} if name in PATHS else found

    def samples(self):
        """Length of each utterance in samples, a chunk of rows at a time: yields int64 arrays."""
        for chunk in _column(self._file(), "samples", self.path):
            yield chunk.to_numpy()

    def used_samples(self):
        """Length of what each row stands for, as `Utterance.used_samples`: int32 `(rows,)`, read once and kept.

        Raises:
            UserError: one that int32 cannot hold, 37 hours.
        """
        if self._lengths is None:
            found, at = np.empty(len(self), np.int32), 0
            names = ["samples", "start", "length"] if self._cropped else ["samples"]  # of rows that are whole utterances, one column tells
            for batch in _batches(self.path, self._file(), names, _CHUNK):
                used = batch.column(0).to_numpy()
                if self._cropped:
                    length = batch.column(2).fill_null(-1).to_numpy()
                    used = np.where(length < 0, used - batch.column(1).to_numpy(), length)
                if used.max() > np.iinfo(np.int32).max:
                    raise UserError(f"{self.path}, row {at + used.argmax()}: is {used.max():,} samples long; expected less than "
                                    "2,147,483,648 (37 hours): cut it")
                found[at:at + len(used)] = used
                at += len(used)
            self._lengths = found
        return self._lengths

    def subset(self, limit):
        """At most `limit` rows, those that `scoring.evaluation.subset` takes of the same rows as a list; all of them: this sequence.

        It reads three columns and holds 40 bytes a row meanwhile.
        """
        if limit is None or limit >= len(self):
            return self
        snrs, kinds, hashes = np.empty(len(self)), np.empty(len(self), np.int32), np.empty(len(self), np.uint64)
        rank, at = {name: place for place, name in enumerate(sorted(self.distinct("noise_type")))}, 0
        for batch in _batches(self.path, self._file(), ["snr_db", "noise_type", "id"], _CHUNK):
            place, names = slice(at, at + len(batch)), batch.column(1).dictionary_encode()
            snrs[place] = batch.column(0).fill_null(np.inf).to_numpy()  # rows without an SNR come last
            kinds[place] = np.array([rank[name] for name in names.dictionary.to_pylist()], np.int32)[names.indices.to_numpy()]
            hashes[place] = [int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) for name in batch.column(2).to_pylist()]
            at += len(batch)
        ordered = np.lexsort((hashes, kinds, snrs))
        return [self[number] for number in sorted(ordered[(2 * place + 1) * len(self) // (2 * limit)] for place in range(limit))]


# --- Reading, with what goes wrong in words -----------------------------------------------------------------------------------------


class _reading:
    """A context in which what pyarrow says of a damaged file becomes a `UserError`."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        import pyarrow

        if kind is not None and issubclass(kind, (OSError, pyarrow.ArrowException)):
            raise UserError(f"{self.path}: damaged or cut short ({_first_line(error)}); {_AGAIN}") from None


def _first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def _open(path, metadata=None, coded=None):
    """A Parquet file whose columns are the fields of a row, as pyarrow's reader; `coded` columns come as dictionary and places in it.

    Raises:
        UserError: it is none.
    """
    _, pq = _pyarrow(path)
    try:
        file = pq.ParquetFile(path, metadata=metadata, read_dictionary=coded, page_checksum_verification=True)
    except (OSError, ValueError) as error:  # pyarrow.ArrowInvalid is a ValueError
        raise UserError(f"{path}: cut short, or no Parquet file at all ({_first_line(error)}); {_AGAIN}") from None
    names, known = file.schema_arrow.names, [*FIELDS]
    if sorted(names) != sorted(known):
        missing, unknown = ([name for name in one if name not in other] for one, other in ((known, names), (names, known)))
        raise UserError(f"{path}: its columns are no manifest's (missing: {', '.join(missing) or 'none'}; unknown: "
                        f"{', '.join(unknown) or 'none'}); expected {', '.join(known)}")
    return file


def _mark(metadata):
    """What `write` has put into the footer, {rows, recordings, cropped}; None where it did not, or the rows are not those any more."""
    try:
        mark = json.loads((metadata.metadata or {})[_MARK])
        schema = metadata.schema.to_arrow_schema()
        types = dict(zip(schema.names, map(str, schema.types), strict=True))
        mark = {name: int(mark[name]) for name in ("rows", "recordings", "cropped")}
        return mark if mark["rows"] == metadata.num_rows and types == _TYPES else None
    except (KeyError, TypeError, ValueError):
        return None


def _batches(path, file, columns=None, rows=None):
    """Record batches of a file, in order, of so many rows; None: of `GROUP`.

    Raises:
        UserError: the file is damaged.
    """
    batches, number = file.iter_batches(rows or GROUP, columns=columns, use_threads=False), 0
    while True:
        with _reading(path):
            batch = next(batches, None)
        if batch is None:
            break
        number += len(batch)
        if len(batch):
            yield batch if columns is None else batch.select(columns)
    if number != file.metadata.num_rows:
        raise UserError(f"{path}: damaged: {number:,} of {file.metadata.num_rows:,} rows can be read; {_AGAIN}")


def _column(file, name, path):
    """The values of a column, a pyarrow array a chunk of rows."""
    return (batch.column(0) for batch in _batches(path, file, [name], _CHUNK))


def _utterances(batch, path, first, folder):
    """The `Utterance`s of a record batch, whose first row has a number, each checked."""
    names = batch.schema.names
    for number, values in enumerate(zip(*(column.to_pylist() for column in batch.columns), strict=True), start=first):
        yield checked(dict(zip(names, values, strict=True)), f"{path}, row {number}", folder)
