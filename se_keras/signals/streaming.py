"""Enhance a file of any length, rate and number of channels in bounded memory: read, processed and written as a stream."""

import contextlib
import io
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from se_keras import files
from se_keras.errors import UserError
from se_keras.signals import audio, blocks
from se_keras.signals.audio import SAMPLE_RATE

BLOCK_S = 5  # seconds read, resampled and written at a time
PIECE_S, OVERLAP_S = 30, 2
FULL_SCALE = 1 - 2 ** -15  # the largest 16-bit sample
PCM_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
FORMATS = {f".{name.lower()}": name for name in sf.available_formats() if name != "RAW"} | {
    ".aif": "AIFF", ".aifc": "AIFF", ".oga": "OGG", ".opus": "OGG", ".sph": "NIST", ".snd": "AU"}  # suffix -> container
_UNKNOWN_FRAMES = 2 ** 62  # libsndfile's count where a stream does not say its length


@dataclass(frozen=True)
class Report:
    """What became of a file.

    Attributes:
        duration_s: its length in seconds.
        sample_rate: its rate in Hz, the output's too.
        channels: its channels, the output's too.
        gain: linear factor on the whole output, below 1 where it would have clipped.
        dropped_above_8k: True where its rate could hold content above 8 kHz, which the output does not.
        doubt: why the source may not be all of a recording (`audio.doubt`), "" where nothing says so.
    """

    duration_s: float
    sample_rate: int
    channels: int
    gain: float
    dropped_above_8k: bool
    doubt: str = ""


def enhance_file(system, source, target, piece_s=PIECE_S, overlap_s=OVERLAP_S, progress=None):
    """Enhance `source` into `target`: same rate, channels and length, not a sample late.

    Files of up to 2 * `piece_s` seconds are enhanced whole, as `test.py` does; longer ones in pieces of `piece_s` seconds that
    overlap by `overlap_s` and are cross-faded there, so that a bidirectional network has context at every joint. Memory does not
    grow with the length: the output waits as float32 in an unnamed file beside the target, then is written, scaled by one gain
    where it would clip. `target` appears at the end, whole, or not at all.

    Args:
        system: what has `enhance(list of float32 (samples,) at 16 kHz) -> list of the same lengths`; channels come as a list.
        source: any file libsndfile reads, at any rate.
        target: its suffix names the format; the sample type is the source's where that format can hold it (mp3 only in .mp3).
        piece_s: seconds in a piece.
        overlap_s: seconds that neighbouring pieces share; less than half a piece.
        progress: called with the seconds of audio newly done, or None.

    Returns:
        A `Report`.

    Raises:
        UserError: a source that is missing, unreadable, empty, truncated or holds NaN; a target that is the source, has an
            unknown suffix or cannot be written; pieces shorter than two overlaps.
    """
    source, target = Path(source), Path(target)
    check_pieces(piece_s, overlap_s)
    check_target(source, target)
    with open_source(source) as file:
        rate, channels = file.samplerate, file.channels
        written = _written_as(target, file)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=target.parent) as waiting:
                total, peak = _enhance_into(waiting, system, file, source, piece_s, overlap_s, progress)
                clips = peak > 1 and written["subtype"] not in ("FLOAT", "DOUBLE")
                gain = FULL_SCALE / peak if clips else 1.0
                _write(target, waiting, rate, channels, written, gain)
        except (OSError, sf.LibsndfileError) as error:
            raise UserError(f"{target}: cannot be written ({getattr(error, 'strerror', None) or error}); "
                            "free some space or name another place") from None
    return Report(total / rate, rate, channels, gain, rate > SAMPLE_RATE, audio.doubt(source))


def check_pieces(piece_s, overlap_s=OVERLAP_S):
    """See that pieces of `piece_s` seconds that overlap by `overlap_s` leave something between two overlaps; else UserError."""
    if not 0 <= 2 * overlap_s < piece_s < float("inf"):
        raise UserError(f"pieces of {piece_s:g} s that overlap by {overlap_s:g} s: a piece must be longer than two overlaps")


def is_audio(path):
    """True for a file, not hidden, whose suffix names an audio format."""
    return path.suffix.lower() in FORMATS and not path.name.startswith(".") and path.is_file()


def open_source(path):
    """A `soundfile.SoundFile` to read from.

    Raises:
        UserError: no such file, not a readable audio file, or one without samples.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    try:
        file = sf.SoundFile(files.checked_name(path))
    except (sf.LibsndfileError, TypeError) as error:
        raise UserError(f"{path}: not a readable audio file ({str(error) or 'damaged or truncated'})") from None
    declared = audio.declared_frames(file, path)
    if file.frames and declared <= file.frames:
        return file
    file.close()
    raise UserError(f"{path}: truncated, {file.frames} of {declared} samples can be read; fetch or export it again"
                    if declared else f"{path}: holds no samples (zero-length or empty file)")


def check_target(source, target):
    """See that `target` is not `source`, under whatever name, and has a suffix that names a format.

    Raises:
        UserError: either is not so, or `target` is a folder.
    """
    source, target = Path(source), Path(target)
    if target.suffix.lower() not in FORMATS:
        raise UserError(f"{target}: the suffix names no audio format that can be written; take .wav or .flac")
    if target.is_dir():
        raise UserError(f"{target}: is a folder; name a file")
    if target.exists() and source.exists() and os.path.samefile(source, target):
        raise UserError(f"{target}: input and output are the same file; name another output")


def _written_as(target, file):
    """Container and sample type of the output: the source's sample type where the container holds it, else its usual one.

    Tried on an empty file in memory, so that what cannot be written is known before the work and not after it.
    """
    container, subtype = FORMATS[target.suffix.lower()], file.subtype
    if target.suffix.lower() == ".opus":
        subtype = "OPUS"
    elif not sf.check_format(container, subtype) or subtype.startswith("MPEG") and container != "MP3":  # WAV may hold it, unwritten
        subtype = sf.default_subtype(container)
    if container == "WAV" and 4 * file.frames * file.channels >= 2 ** 32 and file.frames < _UNKNOWN_FRAMES:
        container = "RF64"  # the 64-bit form of wav: the plain header counts bytes in 32 bits
    try:
        sf.SoundFile(io.BytesIO(), "w", file.samplerate, file.channels, subtype, format=container).close()
    except (sf.LibsndfileError, ValueError):
        raise UserError(f"{target}: {container} cannot hold {file.channels} channels at {file.samplerate} Hz; "
                        "take .wav or .flac") from None
    return {"format": container, "subtype": subtype}


def _enhance_into(waiting, system, file, source, piece_s, overlap_s, progress):
    """Stream `file` through `system` into `waiting` as raw float32; returns (frames, largest absolute sample)."""
    rate, channels = file.samplerate, file.channels
    read = _Reader(file, source)
    forward = _resampled(read, rate, SAMPLE_RATE, channels)
    pieces = _pieces(system, forward, int(piece_s * SAMPLE_RATE), int(overlap_s * SAMPLE_RATE))
    done, peak = 0, 0.0
    for block in _resampled(pieces, SAMPLE_RATE, rate, channels):
        block = block[:read.frames - done]  # the last block may carry a sample of the resampler's rounding too many ...
        if not len(block):
            continue
        done += len(block)
        peak = max(peak, float(np.abs(block).max(initial=0)))
        waiting.write(np.ascontiguousarray(block))
        if progress:
            progress(len(block) / rate)
    waiting.write(bytes(4 * channels * (read.frames - done)))  # ... or too few
    waiting.seek(0)
    return read.frames, peak


class _Reader:
    """Iterates over a file's blocks, float32 `(samples, channels)`; `frames` counts what was read."""

    def __init__(self, file, source):
        self.file, self.source, self.frames = file, source, 0

    def __iter__(self):
        declared = self.file.frames
        while True:
            try:
                block = self.file.read(BLOCK_S * self.file.samplerate, dtype="float32", always_2d=True)
            except sf.LibsndfileError as error:
                raise UserError(f"{self.source}: damaged or truncated after {self.frames / self.file.samplerate:.0f} s ({error}); "
                                "fetch or export it again") from None
            if not len(block):
                break
            if not np.isfinite(block).all():
                raise UserError(f"{self.source}: holds NaN or infinite samples after {self.frames / self.file.samplerate:.0f} s; "
                                "export it again")
            self.frames += len(block)
            yield block
        if self.frames < declared and declared < _UNKNOWN_FRAMES:
            raise UserError(f"{self.source}: truncated, {self.frames} of {declared} samples can be read; fetch or export it again")


def _resampled(parts, from_hz, to_hz, channels):
    """Blocks at another rate, aligned with the input: soxr takes its filter's delay out of the stream itself."""
    if from_hz == to_hz:
        yield from parts
        return
    stream = soxr.ResampleStream(from_hz, to_hz, channels, dtype="float32")
    for block in parts:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros((0, channels), np.float32), last=True)


def _pieces(system, stream, piece, overlap):
    """Enhanced blocks of a stream of float32 `(samples, channels)` at 16 kHz, piece by piece.

    A piece is taken as soon as more than two pieces wait, so the last is never short: `piece` to 2 * `piece` samples, or the
    whole of a short file.
    """
    waiting, tail = [], ()  # blocks not yet enhanced; the last enhanced piece's end, which the next one is faded into
    samples = 0
    for block in stream:
        waiting.append(block)
        samples += len(block)
        while samples > 2 * piece:
            wave = np.concatenate(waiting)
            enhanced = blocks.faded(tail, _enhance(system, wave[:piece]))
            yield enhanced[:piece - overlap]
            tail = enhanced[piece - overlap:]
            waiting, samples = [wave[piece - overlap:]], samples - (piece - overlap)
    if samples:
        yield blocks.faded(tail, _enhance(system, np.concatenate(waiting)))


def _enhance(system, wave):
    """`(samples, channels)` through the system, channels as a list."""
    return np.stack(blocks.enhanced(system, list(np.ascontiguousarray(wave.T))), axis=-1)


def _write(target, waiting, rate, channels, written, gain):
    """Write raw float32 from `waiting`, times `gain`, under a temporary name; rename at the end."""
    temporary = target.with_name(f".{target.name}.partial")  # what a kill leaves is overwritten by the next
    try:
        with sf.SoundFile(files.checked_name(temporary), "w", samplerate=rate, channels=channels, **written) as out:
            while data := waiting.read(4 * channels * BLOCK_S * rate):
                block = np.frombuffer(data, np.float32).reshape(-1, channels)
                out.write(_quantised(block if gain == 1 else block * np.float32(gain), written["subtype"]))
        os.replace(temporary, target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _quantised(block, subtype):
    """Integers for PCM, rounded to nearest: libsndfile rounds down in some containers, so a copy of a copy would drift."""
    if subtype not in PCM_BITS:
        return block
    steps = 2.0 ** (PCM_BITS[subtype] - 1)
    return (np.clip(np.rint(block * np.float64(steps)), -steps, steps - 1) * (2 ** 31 / steps)).astype(np.int32)
