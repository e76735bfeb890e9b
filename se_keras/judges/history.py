"""What Quality-Net keeps on disk of its rounds: pairs that were scored, to be learned again, and pairs whose scores are on their way.

One file a round, of the pairs' manifest rows and estimates; the mixtures are made again when they are wanted. Files are written at once,
and a round that is taken again, after a kill, writes the same file again.
"""

import dataclasses
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from se_keras import files
from se_keras.errors import UserError
from se_keras.judges import diet
from se_keras.mixtures import manifest

VALUES = "mask_"  # an estimate's array in a file: its name is from when all were masks


@dataclass(frozen=True)
class Entry:
    """A pair of an earlier round: what the enhancer of then made of it, and its score."""

    round: int
    pair: diet.Pair
    score: float
    path: Path
    place: int
    estimate_type: type

    def estimate(self):
        """The estimate (`enhancers.base`), kept in 16 bits."""
        with _open(self.path) as stored:
            return self.estimate_type(stored[f"{VALUES}{self.place}"].astype(np.float32))


def _open(path):
    """The arrays of a round's file.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        return np.load(path)
    except (OSError, ValueError, zipfile.BadZipFile) as error:  # ValueError: no archive at all
        what = "missing" if isinstance(error, FileNotFoundError) else "damaged"
        raise UserError(f"{path} is {what}, and without it the run cannot go on; name another --out") from None


class _Folder:
    """A folder of rounds.

    Args:
        folder: created where absent.
        estimate_type: class of the estimates (`Enhancer.estimate_type`).
        rows: manifest rows, from which a pair takes the paths of its files: the corpus may lie elsewhere by now.
    """

    def __init__(self, folder, estimate_type, rows=()):
        self.folder, self.estimate_type = Path(folder), estimate_type
        self._paths = {row.id: {"clean": row.clean, "noise": row.noise, "noisy": row.noisy} for row in rows}
        self.folder.mkdir(parents=True, exist_ok=True)

    def _path(self, number):
        return self.folder / f"round_{number:05d}.npz"

    def _rounds(self):
        """(number, path) of each round, the newest first."""
        return [(int(path.stem.removeprefix("round_")), path) for path in sorted(self.folder.glob("round_*.npz"), reverse=True)]

    def _write(self, number, pairs, estimates, more, dtype=np.float32):
        """Estimates that are None are left out; `more` is a dict a pair."""
        entries = [{**dataclasses.asdict(pair), **said} for pair, said in zip(pairs, more, strict=True)]
        arrays = {f"{VALUES}{place}": estimate.values.astype(dtype) for place, estimate in enumerate(estimates) if estimate is not None}
        with files.replacing(self._path(number)) as temporary, open(temporary, "wb") as file:
            np.savez(file, entries=np.array(json.dumps(entries)), **arrays)

    def _read(self, stored):
        """(pair, what else was said of it) of each pair of an open file."""
        for said in json.loads(str(stored["entries"])):
            row = said.pop("row")
            row = manifest.Utterance(**{**row, **self._paths.get(row["id"], {})})
            yield diet.Pair(row, said.pop("kind"), said.pop("enhancer", 0), said.pop("variant")), said  # older files name no enhancer


class History(_Folder):
    """Scored pairs of earlier rounds, the oldest deleted where there are too many. Of a round the processed pairs are kept.

    Args:
        folder: created where absent.
        most_pairs: the bound; the newest round is kept whatever it holds.
        estimate_type, rows: as `_Folder`.
    """

    def __init__(self, folder, most_pairs, estimate_type, rows=()):
        super().__init__(folder, estimate_type, rows)
        self.most_pairs = most_pairs

    def add(self, number, pairs, estimates, scores):
        """Keep the processed pairs of round `number` that have a score."""
        kept = [i for i, pair in enumerate(pairs) if pair.processed and np.isfinite(scores[i])]
        more = [{"score": float(scores[i])} for i in kept]
        self._write(number, [pairs[i] for i in kept], [estimates[i] for i in kept], more, np.float16)

    def before(self, number):
        """`Entry`s of the rounds before `number`, the newest ones that fit into the bound; older files are deleted.

        Raises:
            UserError: the round before it is not there, or a file is damaged.
        """
        kept, full = [], False
        if number:
            _open(self._path(number - 1)).close()
        for of, path in self._rounds():
            if of >= number:  # of rounds that a kill has undone, or that are not to be learned yet
                continue
            with _open(path) as stored:
                pairs = list(self._read(stored))
            full = full or bool(kept) and len(kept) + len(pairs) > self.most_pairs
            if full:
                path.unlink()
                continue
            kept += [Entry(of, pair, said["score"], path, place, self.estimate_type) for place, (pair, said) in enumerate(pairs)]
        return kept


class Awaited(_Folder):
    """Pairs whose scores are still being measured, with all that measuring them takes: a kill in between costs nothing."""

    def add(self, number, pairs, estimates, recipes, back):
        """Keep all pairs of round `number`, and delete the rounds more than `back` before it.

        Args:
            number: of the round.
            pairs: list of `diet.Pair`.
            estimates: estimate of each, or None where it has none.
            recipes: `diet.pair_recipe` of each.
            back: how many rounds before it may still be asked for.
        """
        self._write(number, pairs, estimates, [{"recipe": recipe} for recipe in recipes])
        for of, path in self._rounds():
            if of < number - back:
                path.unlink()

    def get(self, number):
        """(pairs, estimates, recipes) of round `number`, as they were added, bit for bit.

        Raises:
            UserError: it is not there, or damaged.
        """
        with _open(self._path(number)) as stored:
            pairs, said = zip(*self._read(stored), strict=True)
            estimates = [self.estimate_type(stored[f"{VALUES}{place}"]) if pair.processed else None for place, pair in enumerate(pairs)]
        return list(pairs), estimates, [more["recipe"] for more in said]
