"""Which utterance meets which noise at which SNR: the letter's protocol, and what every corpus shares."""

import argparse
import dataclasses
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from se_keras.errors import UserError
from se_keras.mixtures.manifest import SPLITS, Utterance
from se_keras.signals import audio, mixing, shards

SUFFIXES = (".wav", ".flac")
TRIES = 20  # draws of a noise segment before it is placed by hand
FRAME = 256  # samples at 16 kHz by which the two files of a ready-made pair may differ
LOUDEST = 100  # dB of SNR either way: what is further down is below the last bit of 16
FLOOR = 1e-4  # a segment 40 dB below its file's mean power is a pause: amplified to the SNR, it would be the recorder's hiss


def seed(text):
    """An argparse type: a whole number of 32 bits."""
    value = int(text)
    if not 0 <= value < 1 << 32:
        raise argparse.ArgumentTypeError(f"{value} is not from 0 to {(1 << 32) - 1}")
    return value


def seconds(text):
    """An argparse type: a length of above 0 and up to an hour."""
    return _between(text, 3600)


def hours(text):
    """An argparse type: a length of above 0 and up to ten thousand hours."""
    return _between(text, 10_000)


def _between(text, most):
    value = float(text)
    if not 0 < value <= most:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and up to {most}")
    return value


@dataclass(frozen=True)
class Protocol:
    """SNRs in dB a split and the seed of every draw; the defaults are the letter's (Fu et al. 2020, section IV).

    Attributes:
        snr_train, snr_valid, snr_test: dB.
        seed: of every draw.
        one_noise: splits in which an utterance meets one noise segment, at every SNR; in the others it meets every noise type, at every
            SNR in another segment.
    """

    snr_train: tuple = (-8.0, -4.0, 0.0, 4.0, 8.0)
    snr_valid: tuple = (-10.0, -5.0, 0.0, 5.0, 10.0)
    snr_test: tuple = (-6.0, 0.0, 6.0, 12.0, 18.0)
    seed: int = 0
    one_noise: tuple = ("valid",)

    def __post_init__(self):
        for split in SPLITS:
            snrs = self.snrs(split)
            if not snrs or not all(-LOUDEST <= snr <= LOUDEST for snr in snrs) or len(set(snrs)) < len(snrs):
                raise UserError(f"--snr-{split}: {' '.join(f'{snr:g}' for snr in snrs)}; expected finite dB values, each once, "
                                f"from -{LOUDEST} to {LOUDEST}")

    def snrs(self, split):
        """SNRs of a split in dB."""
        return getattr(self, f"snr_{split}")

    @staticmethod
    def add_arguments(parser, **defaults):
        """Add `--snr-train`, `--snr-valid`, `--snr-test` and `--seed`; `defaults` stand in for the letter's."""
        values = dataclasses.asdict(Protocol(**defaults))
        for split in SPLITS:
            parser.add_argument(f"--snr-{split}", type=float, nargs="+", metavar="DB", default=list(values[f"snr_{split}"]),
                                help=f"SNRs of the {split} mixtures in dB")
        parser.add_argument("--seed", type=seed, default=values["seed"], help="seed of every random choice")

    @classmethod
    def from_args(cls, args):
        """The protocol that the flags ask for."""
        return cls(**{f"snr_{split}": tuple(getattr(args, f"snr_{split}")) for split in SPLITS}, seed=args.seed)


@dataclass(frozen=True)
class Speech:
    """A clean file before it meets noise: `id` is unique in its split, `path` a `Path`."""

    id: str
    path: Path
    speaker: str


@dataclass
class Corpus:
    """What an adapter returns.

    Attributes:
        source: where the data come from.
        licence: under which they may be used.
        splits: {split: rows}, a list or, of `build(..., lazily=True)`, an iterable that can be gone through once.
        notes: anything else that corpus.json should say, {name: value}.
        overlap: what the test shares with training on purpose, in words; "" where it shares nothing, and everywhere else that is an error.
    """

    source: str
    licence: str
    splits: dict
    notes: dict = field(default_factory=dict)
    overlap: str = ""


def rng_for(*key):
    """A numpy Generator that depends on `key` (seed, split, id ...) alone, not on the order of the rows."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def audio_files(folder):
    """The .wav and .flac files (any case) anywhere below `folder`, sorted; hidden ones are left out."""
    return sorted(path for path in Path(folder).rglob("*")
                  if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file())


def speech_ids(paths, root):
    """Ids of clean files: their stems, or, where two share a stem, their paths below `root` joined by "-".

    Raises:
        UserError: two files that differ in nothing but the suffix.
    """
    stems = [path.stem for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    return path_ids(paths, root)


def path_ids(paths, root):
    """Ids of files by their paths below `root`: without suffix, joined by "-".

    Raises:
        UserError: two files that differ in nothing but the suffix.
    """
    ids, owner = ["-".join(path.relative_to(root).with_suffix("").parts) for path in paths], {}
    for name, path in zip(ids, paths, strict=True):
        if owner.setdefault(name, path) is not path:
            raise UserError(f"{path} and {owner[name]} would have the same id {name!r}; remove or rename one")
    return ids


def check(paths, speech, desc):
    """Read every file once before anything is written.

    Args:
        paths: files of any sample rate.
        speech: whether digital silence is an error (a noise file may be silent: other files or offsets are drawn).

    Returns:
        {path: (sample rate in Hz, samples)}.

    Raises:
        UserError: an unreadable, truncated, zero-length, NaN or (speech) silent file.
    """
    found = {}
    for path in tqdm(paths, desc=desc, unit="file", disable=None):
        wave, rate = audio.read_any_rate(path)
        if speech and not wave.any():
            raise UserError(f"{path}: is digital silence, of which no SNR can be made; remove the file")
        found[path] = rate, len(wave)
    return found


def check_rate(checked):
    """See that the files of a corpus have one sample rate.

    Args:
        checked: {path: (sample rate in Hz, samples)}, from `check`.

    Raises:
        UserError: they have several, with a count and a file of each.
    """
    by_rate = {}
    for path, (rate, _) in checked.items():
        by_rate.setdefault(rate, []).append(path)
    if len(by_rate) > 1:
        said = ", ".join(f"{len(paths)} at {rate} Hz ({paths[0]})" for rate, paths in sorted(by_rate.items()))
        raise UserError(f"{len(checked)} files of several sample rates: {said}; expected one rate in a corpus: was a part resampled, or "
                        "does something else lie among them?")


def few(names, most=3):
    """The first names of a list, for errors: "a, b, c ..."."""
    return ", ".join(map(str, names[:most])) + (" ..." if len(names) > most else "")


def check_lengths(clean, noisy, checked):
    """See that the two files of a ready-made pair are equally long, within `FRAME` samples at 16 kHz.

    Args:
        clean, noisy: paths.
        checked: {path: (sample rate in Hz, samples)}, from `check`.

    Raises:
        UserError: they are not.
    """
    lengths = [round(samples * audio.SAMPLE_RATE / rate) for rate, samples in (checked[clean], checked[noisy])]
    if abs(lengths[0] - lengths[1]) > FRAME:
        raise UserError(f"{clean} and {noisy} hold {lengths[0]} and {lengths[1]} samples at 16 kHz, more than {FRAME} "
                        "apart: they are no pair; fetch or cut them again")


def ready_made(name, clean, noisy, speaker, noise_type="unknown", snr_db=None):
    """The row of a ready-made pair of 16 kHz files, cut to the shorter one; of a recording without a reference, `clean` is None."""
    return Utterance(id=name, clean=clean and str(clean), noisy=str(noisy), speaker=speaker, noise_type=noise_type, snr_db=snr_db,
                     samples=min(audio.info(path).frames for path in (clean, noisy) if path is not None))


def at_16_khz(checked, targets):
    """Paths of 16 kHz files: those that are so already as they are, the others resampled once to `targets`.

    Args:
        checked: {source path: (sample rate in Hz, samples)}, from `check`.
        targets: {source path: path of the resampled copy}. A copy no older than its source is used again.

    Returns:
        {source path: path}.
    """
    there = {path: path for path, (rate, _) in checked.items() if rate == audio.SAMPLE_RATE}
    others = [path for path in checked if path not in there]
    for path in tqdm(others, desc="resampling to 16 kHz", unit="file", disable=None if others else True):
        target = there[path] = targets[path]
        if not target.is_file() or target.stat().st_mtime_ns < shards.stat(path).st_mtime_ns:
            wave = audio.resample(*audio.read_any_rate(path), audio.SAMPLE_RATE)
            write(target, wave)
    return there


def write(path, wave):
    """Write a 16 kHz file of 16 bits; one that exceeds full scale is kept in float, not clipped."""
    audio.write(path, wave, subtype="PCM_16" if np.abs(wave).max() < 1 else "FLOAT")


def build(speech, noises, out, protocol, lazily=False):
    """Rows of every split from files at any sample rate: check, resample to out/wav16k where needed, mix.

    Args:
        speech: {split: list of `Speech`}.
        noises: {split: {noise type: noise files}}.
        out: the data folder.
        protocol: a `Protocol`.
        lazily: whether rows are mixed as they are asked for, once, so that millions of them need not be held.

    Returns:
        {split: list, or generator, of `Utterance`}.
    """
    checked = check([one.path for split in speech for one in speech[split]], speech=True, desc="checking speech")
    checked |= check([path for by_type in noises.values() for files in by_type.values() for path in files], speech=False,
                     desc="checking noise")
    targets = {one.path: out / "wav16k" / "speech" / split / one.speaker / f"{one.id}.wav"
               for split, utterances in speech.items() for one in utterances}
    for split, by_type in noises.items():
        for kind, files in by_type.items():
            root = os.path.commonpath([path.parent for path in files])
            targets.update({path: out / "wav16k" / "noise" / split / kind / f"{name}.wav"
                            for path, name in zip(files, speech_ids(files, root), strict=True)})
    usable = at_16_khz(checked, targets)
    rows = {split: mixed(split, [dataclasses.replace(one, path=usable[one.path]) for one in speech[split]],
                         {kind: [usable[path] for path in files] for kind, files in noises[split].items()}, protocol)
            for split in speech}
    return rows if lazily else {split: list(made) for split, made in rows.items()}


def lazily(args):
    """Whether the manifests are to be written as a stream (--format parquet), so that an adapter need not hold the rows."""
    return getattr(args, "format", None) == "parquet"


def draw(files, samples, rng):
    """Draw a noise segment: a file, and an offset in it.

    A file longer than `samples` is cut without a wrap, a shorter one looped from any of its samples. Segments of digital
    silence, or 40 dB below the mean power of their file, are drawn again; where that does not help, the loudest sample of a
    file is taken in.

    Returns:
        `(path, offset, float32 (samples,))`, or None where every file is digital silence.
    """
    for _ in range(TRIES):
        path = files[int(rng.integers(len(files)))]
        noise = audio.read_cached(str(path))
        offset = int(rng.integers(len(noise) - samples + 1 if len(noise) >= samples else len(noise)))
        segment = mixing.noise_segment(noise, offset, samples)
        if np.mean(np.square(segment, dtype=np.float64)) > FLOOR * np.mean(np.square(noise, dtype=np.float64)):
            return path, offset, segment
    for index in rng.permutation(len(files)):
        noise = audio.read_cached(str(files[index]))
        if noise.any():
            offset = int(np.clip(np.abs(noise).argmax() - samples // 2, 0, max(len(noise) - samples, 0)))
            return files[index], offset, mixing.noise_segment(noise, offset, samples)
    return None


def mixtures(split, speech, noises, protocol):
    """`mixed` as a list."""
    return list(mixed(split, speech, noises, protocol))


def mixed(split, speech, noises, protocol):
    """The rows of a split, made as they are asked for.

    Every utterance x every noise type x every SNR, the file drawn within its type for each row; in `protocol.one_noise`, one noise
    segment an utterance, at every SNR. Each draw depends on the seed, the split and the row's id alone.

    Args:
        speech: list of `Speech` at 16 kHz.
        noises: {noise type: list of 16 kHz files}.

    Yields:
        `Utterance`s, in the order of `speech`, of the sorted noise types and of the SNRs.

    Raises:
        UserError: silent speech, or a noise type in whose files nothing but silence is found.
    """
    types = sorted(noises)
    for utterance in tqdm(speech, desc=f"{split}: mixing", unit="utterance", disable=None):
        clean = audio.read(utterance.path)
        for kind, snr_db, (path, offset, segment) in _draws(split, utterance, len(clean), types, noises, protocol):
            yield Utterance(
                id=f"{utterance.id}_{kind}_{snr_db:g}dB", clean=str(utterance.path), speaker=utterance.speaker, noise_type=kind,
                samples=len(clean), snr_db=snr_db, noise=str(path), offset=offset, gain=mixing.gain_for_snr(clean, segment, snr_db))


def _draws(split, utterance, samples, types, noises, protocol):
    """Yield (noise type, SNR, drawn segment) for one utterance."""

    def segment(kind, rng):
        drawn = draw(noises[kind], samples, rng)
        if drawn is None:
            raise UserError(f"noise type {kind} of {split}: {len(noises[kind])} of {len(noises[kind])} files are digital silence "
                            f"({noises[kind][0]} ...); replace them or remove that folder")
        return drawn

    snrs = protocol.snrs(split)
    if split in protocol.one_noise:
        rng = rng_for(protocol.seed, split, utterance.id)
        kind = types[int(rng.integers(len(types)))]
        drawn = segment(kind, rng)
        yield from ((kind, snr_db, drawn) for snr_db in snrs)
    else:
        for kind in types:
            for snr_db in snrs:
                yield kind, snr_db, segment(kind, rng_for(protocol.seed, split, utterance.id, kind, f"{snr_db:g}"))
