"""A manifest is the data set: one JSON line an utterance, from which the mixture is made again on any machine."""

import dataclasses
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

from se_keras import files
from se_keras.errors import UserError

SPLITS = ("train", "valid", "test")
UNKNOWN = "unknown"  # a speaker whom nothing names


@dataclass(frozen=True)
class Utterance:
    """One row: a mixture to be made (`noise` given) or a ready-made pair (`noisy` given).

    Attributes:
        id: unique in its manifest.
        clean: path of the clean file, 16 kHz; None for a recording (`noisy` given) of which there is none: it can be tested by metrics
            that need no reference, and by nothing else.
        speaker: the speaker's name, or `UNKNOWN`; splits are by speaker.
        noise_type: name of the kind of noise, such as "babble".
        snr_db: signal-to-noise ratio in dB over the whole utterance; None where a pair does not say.
        noise: path of the noise file.
        offset: first noise sample used; past its end the noise starts again from its first sample.
        gain: linear factor on the noise that gives `snr_db`.
        noisy: path of a ready-made noisy file, instead of noise, offset and gain.
        samples: length of the utterance in samples at 16 kHz.
        start: first sample used, where only a piece of the mixture is wanted (`crop`).
        length: samples used from `start`; None for all.
    """

    id: str
    clean: str | None
    speaker: str
    noise_type: str
    samples: int
    snr_db: float | None = None
    noise: str | None = None
    offset: int = 0
    gain: float = 1.0
    noisy: str | None = None
    start: int = 0
    length: int | None = None

    @property
    def used_samples(self):
        """Length in samples of what the row stands for, after cropping."""
        return self.samples - self.start if self.length is None else self.length


def crop(row, max_samples, rng):
    """`row` cut to a random piece of at most `max_samples` samples (drawn from `rng`, a numpy Generator)."""
    if max_samples is None or row.used_samples <= max_samples:
        return row
    start = row.start + int(rng.integers(row.used_samples - max_samples + 1))
    return dataclasses.replace(row, start=start, length=int(max_samples))


_FIELDS = {field.name: field for field in dataclasses.fields(Utterance)}
_REQUIRED = [name for name, field in _FIELDS.items() if field.default is dataclasses.MISSING]
_PATHS = ("clean", "noise", "noisy")


MOST = 1 << 40  # samples: two years at 16 kHz


def _text(value):
    return isinstance(value, str) and value != "" and "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e30 and math.isfinite(value)


def _count(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST


# What a field of a row must be, in words for the error and as a check.
_VALID = {
    **dict.fromkeys(("id", "clean", "speaker", "noise_type", "noise", "noisy"), ("a text", _text)),
    "snr_db": ("a finite number", _number),
    "gain": ("a finite number from 0", lambda value: _number(value) and value >= 0),
    **dict.fromkeys(("offset", "start"), ("a whole number from 0", _count)),
    **dict.fromkeys(("samples", "length"), ("a whole number above 0", lambda value: _count(value) and value > 0)),
}


def write(path, rows):
    """Write rows to a `.jsonl` file, atomically. Paths inside the manifest's folder are written relative to it."""
    path = Path(path)
    folder = path.parent.resolve()
    with files.replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for row in rows:
            record = {name: value for name, value in dataclasses.asdict(row).items() if value != _FIELDS[name].default}
            for name in _PATHS:
                if record.get(name) is not None:
                    target = Path(record[name]).resolve()
                    record[name] = str(target.relative_to(folder) if target.is_relative_to(folder) else target)
            file.write(json.dumps(record) + "\n")


def read(path, reference=True):
    """Read a manifest: a list of `Utterance`, paths made absolute, every file seen to exist.

    Args:
        path: of the manifest.
        reference: whether every row must have a clean file.

    Raises:
        UserError: a missing or empty manifest; a malformed line, an unknown or missing field, a doubled id, a missing
            audio file or a row without a clean one, each with its line number.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such manifest; make one with data/prepare.py (python data/prepare.py --help)")
    folder, rows, seen, exists = path.parent.resolve(), [], set(), {}
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            row = _parse(line, f"{path}, line {number}", folder)
            if row.id in seen:
                raise UserError(f"{path}, line {number}: the id {row.id!r} stands on an earlier line too; ids must be unique")
            if reference and row.clean is None:
                raise UserError(f"{path}, line {number}: {row.id} has no clean reference; such recordings can be tested (test.py), but "
                                "nothing can be learned from them")
            seen.add(row.id)
            for name in _PATHS:
                target = getattr(row, name)
                if target is not None and not exists.setdefault(target, os.path.isfile(target)):
                    raise UserError(f"{path}, line {number}: {name} file {target} does not exist; "
                                    "was the corpus moved? run data/prepare.py again")
            rows.append(row)
    if not rows:
        raise UserError(f"{path}: holds no rows; run data/prepare.py again")
    return rows


def _parse(line, where, folder):
    try:
        record = json.loads(line, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not a JSON object ({error.msg} at column {error.colno})") from None
    except (ValueError, RecursionError) as error:  # a field twice, a number of thousands of digits, brackets without end
        raise UserError(f"{where}: not a row ({error})") from None
    if not isinstance(record, dict):
        raise UserError(f"{where}: expected a JSON object, found {type(record).__name__}")
    missing = [name for name in _REQUIRED if name not in record]
    unknown = sorted(set(record) - set(_FIELDS))
    if missing or unknown:
        found = (f"lacks {', '.join(missing)}" if missing else "") + (" and " if missing and unknown else "") + \
                (f"has unknown fields {', '.join(unknown)}" if unknown else "")
        raise UserError(f"{where}: the row {found}; expected the fields {', '.join(_FIELDS)}")
    if (record.get("noise") is None) == (record.get("noisy") is None):
        raise UserError(f"{where}: expected either `noise` (a mixture to make) or `noisy` (a ready-made pair)")
    for name, value in record.items():
        expected, valid = _VALID[name]
        absent = value is None and (_FIELDS[name].default is None or name == "clean" and record.get("noisy") is not None)
        if not (valid(value) or absent):
            raise UserError(f"{where}: {name} is {value!r}, expected {expected}")
    for name in _PATHS:
        if record.get(name) is not None:
            record[name] = str(folder / record[name])
    row = Utterance(**record)
    if row.start + (row.length or 1) > row.samples:
        raise UserError(f"{where}: start {row.start} and length {row.length} reach past the {row.samples} samples of the utterance")
    return row


def _once(pairs):
    """A JSON object whose keys stand once."""
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError(f"a field stands twice: {', '.join(sorted({key for key, _ in pairs if [k for k, _ in pairs].count(key) > 1}))}")
    return record


def check_splits(splits):
    """See that no speaker and no clean or noise file stands in two splits. Of `UNKNOWN` speakers, files alone tell.

    Args:
        splits: {split name: list of rows}.

    Raises:
        UserError: naming the first speaker or file that two splits share.
    """
    for what, of in (("speaker", lambda row: row.speaker), ("clean file", lambda row: row.clean),
                     ("noise file", lambda row: row.noise)):
        owner = {}
        for split, rows in splits.items():
            for name in {of(row) for row in rows} - {None, UNKNOWN}:
                if owner.setdefault(name, split) != split:
                    raise UserError(f"the {what} {name} is in both {owner[name]} and {split}: results on such a split "
                                    "would be of data seen in training; give every split its own")
