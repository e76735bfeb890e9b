"""Read, resample and write audio: mono float32 in memory, atomic on disk."""

import functools
import hashlib
import io
import os
import re
import shutil
from pathlib import Path

import numpy as np
import soundfile as sf

from se_keras import files
from se_keras.errors import UserError
from se_keras.signals import mp3, ogg, shards

SAMPLE_RATE = 16_000  # Hz; every network and metric of the project works at this rate
_PLACEHOLDER = 0x7FFFFF00  # bytes; a data chunk that claims as many was written by a tool that streams, and cannot know its length
_MP3_EDGES = 3 * 1152  # samples that an mp3 encoder adds and its decoder may take away


def read(path, sample_rate=SAMPLE_RATE):
    """Read a file as mono float32.

    Args:
        path: anything libsndfile reads (wav, flac, ogg, NIST SPHERE ...); a member of a tar as TAR/MEMBER (`signals.shards`).
        sample_rate: Hz. A file at another rate is an error here: corpora resample once (`resample`), at preparation.

    Returns:
        float32 `(samples,)`, full scale at 1.0. Several channels are averaged.

    Raises:
        UserError: missing, unreadable, truncated or empty file, another sample rate, NaN or infinite samples.
    """
    wave, rate = read_any_rate(path)
    if rate != sample_rate:
        raise UserError(f"{path}: sample rate is {rate} Hz, expected {sample_rate} Hz; "
                        "resample it once (data/prepare.py does so for corpora that need it, enhance.py for any file)")
    return wave


def read_any_rate(path, channel=None):
    """`read` without the demand on the rate: `(float32 (samples,), sample rate in Hz)`; `channel`: that one instead of their average."""
    try:
        with sf.SoundFile(_source(path)) as file:
            declared, rate = declared_frames(file, path), file.samplerate
            wave = file.read(dtype="float32", always_2d=True)
            fault = ogg.fault(path) if file.format == "OGG" else ""
    except (sf.LibsndfileError, RuntimeError, TypeError) as error:  # TypeError: raw samples, of whose rate nothing is known
        raise UserError(f"{path}: not a readable audio file ({error})") from None
    if fault:
        raise UserError(f"{path}: {fault}; fetch or export it again")
    if len(wave) == 0:
        raise UserError(f"{path}: holds no samples (zero-length or empty file)")
    if len(wave) < declared:
        raise UserError(f"{path}: truncated, {len(wave)} of {declared} samples can be read; fetch or export it again")
    wave = wave.mean(axis=1) if wave.shape[1] > 1 and channel is None else wave[:, channel or 0]
    if not np.isfinite(wave).all():
        raise UserError(f"{path}: holds {np.count_nonzero(~np.isfinite(wave))} NaN or infinite samples; export it again")
    return wave, rate


def _source(path):
    """What libsndfile opens: the path of a file, the bytes of a member of a tar.

    Raises:
        UserError: there is none.
    """
    if Path(path).is_file():
        return files.checked_name(path)
    with shards.open_bytes(path) as member:
        return io.BytesIO(member.read())


def info(path):
    """soundfile.info of a file, or of a member of a tar."""
    return sf.info(_source(path))


def declared_frames(file, path):
    """Frames that the header promises; for WAV and NIST SPHERE, libsndfile's own count is what a cut file still holds.

    Of an MP3 that lost its count, more frames may be there than libsndfile would decode (`mp3.samples`).
    """
    if file.frames > 1 << 62:  # libsndfile can neither count nor seek in it
        raise UserError(f"{path}: does not say its length (a flac written to a pipe); write it again, to a file")
    if file.format == "MP3":
        there = mp3.samples(path)
        return there if there > file.frames + _MP3_EDGES else file.frames
    if file.format == "NIST":
        with shards.open_bytes(path) as raw:
            found = re.search(rb"sample_count -i (\d+)", raw.read(1024))
        return int(found[1]) if found else file.frames
    found = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    if found and int(found[2]) < int(found[1]) < _PLACEHOLDER:
        return -(-int(found[1]) * file.frames // max(int(found[2]), 1))  # rounded up: a cut inside a sample is one too
    return file.frames


def doubt(path):
    """Why a file that can be read may yet not be all of its recording, in words; "" where nothing says so.

    An Ogg file (Vorbis, Opus) has damaged pages (`ogg.fault`). A WAV file written to a pipe has a placeholder for its length.
    """
    with sf.SoundFile(str(path)) as file:
        container, seconds = file.format, file.frames / file.samplerate
        declared = re.search(r"^data : (\d+) \(should be", file.extra_info, re.MULTILINE)
    if container == "OGG" and (fault := ogg.fault(path) or ogg.open_end(path)):
        return f"{fault}: {seconds:.2f} s are there; compare with the original"
    if declared and int(declared[1]) >= _PLACEHOLDER:
        return f"its header does not say its length: the {seconds:.2f} s that are there were taken"
    return ""


@functools.lru_cache(maxsize=1024)
def read_cached(path):
    """`read`, keeping the last 1,024 files in memory (about 0.3 GB of 4 s utterances); read-only arrays."""
    wave = read(path)
    wave.setflags(write=False)
    return wave


def resample(wave, from_hz, to_hz):
    """float32 `(samples, ...)` at another rate (soxr HQ); the length is `samples * to / from`, rounded to the nearest."""
    if from_hz == to_hz:
        return wave
    import soxr

    return soxr.resample(wave, from_hz, to_hz).astype(np.float32)


def write(path, wave, sample_rate=SAMPLE_RATE, subtype="PCM_16"):
    """Write a wav or flac file (by suffix) under a temporary name, then rename: a reader never sees half a file.

    Raises:
        UserError: libsndfile cannot write it.
    """
    with files.replacing(path) as temporary:
        try:
            sf.write(files.checked_name(temporary), wave, sample_rate, subtype=subtype)
        except sf.LibsndfileError as error:  # of a full disk it says "System error"
            free_mb = shutil.disk_usage(temporary.parent).free / 1e6
            raise UserError(f"{path}: cannot be written ({error} {free_mb:.1f} MB are free); see whether its folder can be written, and has "
                            "room") from None


def file_hash(path):
    """sha256 of the bytes (hex) of a file, or of a member of a tar; remembered while size and modification time stay the same."""
    stat = shards.stat(path)
    return _file_hash(str(path), stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=65_536)
def _file_hash(path, size, mtime_ns):
    with open(path, "rb") if os.path.isfile(path) else shards.open_bytes(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
