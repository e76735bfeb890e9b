"""What the rows of a corpus hold: counts for a table, recordings that stand in two splits, a fingerprint of all."""

import dataclasses
import functools
import hashlib
import json

from se_keras.errors import UserError
from se_keras.mixtures import manifest
from se_keras.mixtures.manifest import SPLITS, Utterance
from se_keras.mixtures.rows import PATHS
from se_keras.signals import audio


def counts(rows):
    """What a table says of a split: {rows, utterances, speakers, noise types, noise files, hours}.

    Args:
        rows: list of `Utterance`, or `manifest.ParquetRows`.
    """
    names = {name: manifest.distinct(rows, name) for name in ("clean", "speaker", "noise_type", "noise")}
    return {"rows": len(rows), "utterances": len(names["clean"]) or len(manifest.distinct(rows, "noisy")),
            "speakers": len(names["speaker"]), "noise_types": len(names["noise_type"]), "noise_files": len(names["noise"]),
            "hours": round(manifest.seconds(rows) / 3600, 3)}


def check_contents(splits):
    """See that no recording stands in two splits under two names.

    Args:
        splits: {split: list of `Utterance`, or `manifest.ParquetRows`}.

    Raises:
        UserError: naming two files of different splits with the same bytes.
    """
    owner = {}
    for split, rows in splits.items():
        for path in sorted(manifest.distinct(rows, "clean") | manifest.distinct(rows, "noise")):
            other_split, other = owner.setdefault(audio.file_hash(path), (split, path))
            if other_split != split:
                raise UserError(f"{other} ({other_split}) and {path} ({split}) are the same recording: results on such a split "
                                "would be of data seen in training; keep it in one of them")


class Fingerprint:
    """sha256 over rows as they pass, with the contents of the files in place of their paths: the same wherever the data lie, and in
    whatever form the manifest is."""

    def __init__(self):
        self._digest = hashlib.sha256()
        self._hash_of = functools.lru_cache(maxsize=65_536)(audio.file_hash)  # which asks the disk; millions of rows name the same files

    def over(self, split, rows):
        """The rows of a split again, one after the other. Splits come in the order of `SPLITS`."""
        for row in rows:
            record = {name: getattr(row, name) for name in _FIELDS}
            for name in PATHS:
                record[name] = record[name] and self._hash_of(record[name])
            self._digest.update(json.dumps([split, record]).encode())
            yield row

    def hex(self):
        """That of the rows that have passed."""
        return self._digest.hexdigest()


_FIELDS = [field.name for field in dataclasses.fields(Utterance)]


def fingerprint(splits):
    """`Fingerprint` of {split: rows}."""
    made = Fingerprint()
    for split in SPLITS:
        for _ in made.over(split, splits.get(split, ())):
            pass
    return made.hex()
