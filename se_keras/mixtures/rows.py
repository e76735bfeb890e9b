"""A row of a manifest, and what makes one valid."""

import dataclasses
import functools
import math
from dataclasses import dataclass
from pathlib import Path

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


FIELDS = {field.name: field for field in dataclasses.fields(Utterance)}
_REQUIRED = [name for name, field in FIELDS.items() if field.default is dataclasses.MISSING]
PATHS = ("clean", "noise", "noisy")
MOST = 1 << 40  # samples: two years at 16 kHz


def _text(value):
    return isinstance(value, str) and value != "" and "\0" not in value and (
        value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value))  # millions of rows have five texts each


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


def checked(record, where, folder):
    """The `Utterance` that a record stands for, its paths made absolute.

    Args:
        record: {field: value}; changed.
        where: file and line or row, for the error.
        folder: of the manifest; paths are relative to it.

    Raises:
        UserError: a missing or unknown field, or a value that one cannot have.
    """
    missing = [name for name in _REQUIRED if name not in record]
    unknown = sorted(set(record) - set(FIELDS))
    if missing or unknown:
        found = (f"lacks {', '.join(missing)}" if missing else "") + (" and " if missing and unknown else "") + \
                (f"has unknown fields {', '.join(unknown)}" if unknown else "")
        raise UserError(f"{where}: the row {found}; expected the fields {', '.join(FIELDS)}")
    if (record.get("noise") is None) == (record.get("noisy") is None):
        raise UserError(f"{where}: expected either `noise` (a mixture to make) or `noisy` (a ready-made pair)")
    for name, value in record.items():
        expected, valid = _VALID[name]
        absent = value is None and (FIELDS[name].default is None or name == "clean" and record.get("noisy") is not None)
        if not (valid(value) or absent):
            raise UserError(f"{where}: {name} is {value!r}, expected {expected}")
    for name in PATHS:
        if record.get(name) is not None:
            record[name] = str(folder / record[name])
    row = Utterance(**record)
    if row.start + (row.length or 1) > row.samples:
        raise UserError(f"{where}: start {row.start} and length {row.length} reach past the {row.samples} samples of the utterance")
    return row


def check_reference(row, where):
    """See that a row has a clean file.

    Raises:
        UserError: it has none.
    """
    if row.clean is None:
        raise UserError(f"{where}: {row.id} has no clean reference; such recordings can be tested (test.py), but "
                        "nothing can be learned from them")


def relative_to(folder):
    """A function of a path to what a manifest in `folder`, resolved, calls it: relative to the folder where it lies inside, else in full.

    It remembers paths: resolving one asks the disk about each folder of it, and millions of rows name the same files.
    """
    @functools.lru_cache(maxsize=65_536)
    def relative(path):
        target = Path(path).resolve()
        return str(target.relative_to(folder) if target.is_relative_to(folder) else target)

    return relative
