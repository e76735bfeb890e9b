"""A manifest is the data set: one row an utterance, from which the mixture is made again on any machine.

Two forms, read alike: JSON lines (`.jsonl`), held in memory, and Parquet (`.parquet`, `mixtures.parquet`), of any size, read from disk
as rows are asked for. A manifest is named by its `.jsonl`; where that is not there, the `.parquet` beside it is meant.
"""

import json
from pathlib import Path

from se_keras import files
from se_keras.errors import UserError
from se_keras.mixtures import parquet
from se_keras.mixtures.parquet import ParquetRows
from se_keras.mixtures.rows import FIELDS, PATHS, SPLITS, UNKNOWN, Utterance, check_reference, checked, crop, relative_to
from se_keras.signals import shards
from se_keras.signals.audio import SAMPLE_RATE

__all__ = ["FORMS", "SPLITS", "UNKNOWN", "ParquetRows", "Utterance", "check_splits", "crop", "distinct", "find", "read", "seconds",
           "stream", "write"]
FORMS = ("jsonl", "parquet")


def write(path, rows):
    """Write rows, in the form of the suffix, atomically. Paths inside the manifest's folder are written relative to it.

    Args:
        path: of the manifest, `.jsonl` or `.parquet`.
        rows: iterable of `Utterance`; taken one after the other, so that a generator of millions need not be held.

    Raises:
        UserError: as `parquet.write`; the disk is full.
    """
    path = Path(path)
    if path.suffix == ".parquet":
        parquet.write(path, rows)
        return
    relative = relative_to(path.parent.resolve())
    with files.replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for row in rows:
            record = {name: value for name, field in FIELDS.items() if (value := getattr(row, name)) != field.default}
            for name in PATHS:
                if record.get(name) is not None:
                    record[name] = relative(record[name])
            file.write(json.dumps(record) + "\n")


def find(path):
    """The file that holds a manifest: `path`, or the `.parquet` beside it where there is no such `.jsonl`.

    Raises:
        UserError: there is neither, or there are both.
    """
    path = Path(path)
    other = path.with_suffix(".parquet")
    if path.suffix == ".jsonl" and other.is_file():
        if path.is_file():
            raise UserError(f"{path}: {other.name} lies beside it, and only one can be the manifest; delete the other, or run "
                            "data/prepare.py with --force")
        return other
    if not path.is_file():
        raise UserError(f"{path}: no such manifest; make one with data/prepare.py (python data/prepare.py --help)")
    return path


def read(path, reference=True):
    """Read a manifest, paths made absolute.

    Of JSON lines every row is checked and every file seen to exist. Of Parquet so much was checked when it was written; here a row is
    checked as it is asked for, and a missing file is told when it is read.

    Args:
        path: of the manifest (`find`).
        reference: whether every row must have a clean file.

    Returns:
        list of `Utterance`, or `ParquetRows`, a sequence of them.

    Raises:
        UserError: a missing or empty manifest; a malformed line, an unknown or missing field, a doubled id, a missing audio file or a row
            without a clean one, each with its line number; as `ParquetRows`.
    """
    path = find(path)
    if path.suffix == ".parquet":
        return ParquetRows(path, reference)
    rows, seen, exists = [], set(), set()
    for row, where in _lines(path):
        if row.id in seen:
            raise UserError(f"{where}: the id {row.id!r} stands on an earlier line too; ids must be unique")
        if reference:
            check_reference(row, where)
        seen.add(row.id)
        for name, target in ((name, getattr(row, name)) for name in PATHS):
            if target is None or target in exists:
                continue
            exists.add(target)
            if not shards.is_file(target):
                raise UserError(f"{where}: {name} file {target} does not exist; was the corpus moved? run data/prepare.py again")
        rows.append(row)
    if not rows:
        raise UserError(f"{path}: holds no rows; run data/prepare.py again")
    return rows


def stream(path):
    """The rows of a manifest of any size, one after the other, each checked by itself: to write it in the other form, say.

    A Parquet file of whatever origin is taken, if its columns are the fields of a row.

    Raises:
        UserError: a missing manifest; a malformed row, with its number.
    """
    path = Path(path) if Path(path).is_file() else find(path)
    if path.suffix == ".parquet":
        yield from parquet.stream(path)
    else:
        for row, _ in _lines(path):
            yield row


def _lines(path):
    """(row, where it stands) of each line of a JSON-lines file; empty ones are skipped, and counted."""
    folder = path.parent.resolve()
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                where = f"{path}, line {number}"
                yield _parse(line, where, folder), where


def _parse(line, where, folder):
    try:
        record = json.loads(line, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not a JSON object ({error.msg} at column {error.colno})") from None
    except (ValueError, RecursionError) as error:  # a field twice, a number of thousands of digits, brackets without end
        raise UserError(f"{where}: not a row ({error})") from None
    if not isinstance(record, dict):
        raise UserError(f"{where}: expected a JSON object, found {type(record).__name__}")
    return checked(record, where, folder)


def _once(pairs):
    """A JSON object whose keys stand once."""
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError(f"a field stands twice: {', '.join(sorted({key for key, _ in pairs if [k for k, _ in pairs].count(key) > 1}))}")
    return record


def distinct(rows, name):
    """The values that a field has, a set without None.

    Args:
        rows: list of `Utterance`, or `ParquetRows`, of which that column alone is read.
        name: of the field.
    """
    return rows.distinct(name) if isinstance(rows, ParquetRows) else {getattr(row, name) for row in rows} - {None}


def seconds(rows):
    """Length of all utterances together, in seconds.

    Args:
        rows: list of `Utterance`, or `ParquetRows`.
    """
    return sum(int(chunk.sum()) for chunk in rows.samples()) / SAMPLE_RATE if isinstance(rows, ParquetRows) else \
        sum(row.samples for row in rows) / SAMPLE_RATE


def check_splits(splits):
    """See that no speaker and no clean or noise file stands in two splits. Of `UNKNOWN` speakers, files alone tell.

    Args:
        splits: {split name: list of `Utterance`, or `ParquetRows`}.

    Raises:
        UserError: naming the first speaker or file that two splits share.
    """
    for what, field in (("speaker", "speaker"), ("clean file", "clean"), ("noise file", "noise")):
        owner = {}
        for split, rows in splits.items():
            for name in distinct(rows, field) - {UNKNOWN}:
                if owner.setdefault(name, split) != split:
                    raise UserError(f"the {what} {name} is in both {owner[name]} and {split}: results on such a split "
                                    "would be of data seen in training; give every split its own")
