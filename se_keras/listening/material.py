"""A report's audio as a listening test plays it: one level, one length, WAV files that differ in nothing but their sound."""

import base64
import binascii
import hashlib
import io

import numpy as np
import scipy.signal
import soundfile as sf

from se_keras.errors import UserError, check_choice
from se_keras.listening.design import ANCHOR, REFERENCE
from se_keras.report import listening
from se_keras.signals.audio import SAMPLE_RATE

CUTOFF_HZ = 3500  # of the anchor (BS.1534-3)
_STOP_HZ, _STOP_DB = 4000, 60  # where the anchor's filter has fallen by as much; BS.1534-3 asks for 25 dB at 4 kHz, 50 dB at 4.5 kHz


def gather(content, kind, systems, place):
    """The audio of a test.

    Args:
        content: of `se_keras.report.page.read`.
        kind: of `se_keras.listening.KINDS`.
        systems: names in the report; "clean" is one too, but of MUSHRA, whose reference it is.
        place: the page's path, for messages.

    Returns:
        {utterance id: {condition: bytes of a WAV file, 16 bits, 16 kHz}}: the systems, of MUSHRA `REFERENCE` and `ANCHOR` too. All
        conditions of an utterance have one speech level (`report.listening.matched`) and as many bytes.

    Raises:
        UserError: a page without audio, an unknown system, a system that not every utterance has, MUSHRA without clean speech, audio that
            cannot be decoded.
    """
    heard = {item["id"]: item["audio"] for item in content["heard"]}
    if not heard:
        raise UserError(f"{place}: holds no audio; a listening test needs a report whose page plays: run test.py again")
    check_systems(content, systems, place)
    for system in systems:
        if kind == "mushra" and system == "clean":
            raise UserError("--systems clean: mushra has the clean speech as its reference already; leave it out")
        there = sum(system in audio for audio in heard.values())
        if there < len(heard):
            raise UserError(f"{place}: {system} is heard in {there} of its {len(heard)} utterances; each must be there of all systems: "
                            f"make a report of these alone (test.py --systems {' '.join(systems)})")
    if kind == "mushra" and (without := sum("clean" not in audio for audio in heard.values())):
        raise UserError(f"{place}: {without} of {len(heard)} utterances have no clean speech, mushra's reference; use --kind ab")
    return {name: _conditions(audio, kind, systems, f"{place}: {name}") for name, audio in heard.items()}


def check_systems(content, systems, place):
    """See that a report has these systems.

    Args:
        content, systems, place: as of `gather`.

    Raises:
        UserError: it has not.
    """
    known = list(dict.fromkeys([*content["systems"], *(name for item in content["heard"] for name in item["audio"])]))
    for system in systems:
        check_choice(f"system of {place}", system, known)


def fingerprint(content):
    """SHA-256 of all that a page plays, as hexadecimal digits: another report, or the same made anew, has another."""
    digest = hashlib.sha256()
    for item in content["heard"]:
        for name, audio in item["audio"].items():
            for part in (item["id"], name, audio):
                digest.update(part.encode() + b"\0")
    return digest.hexdigest()


def _conditions(audio, kind, systems, place):
    wanted = dict.fromkeys((*(["clean"] if "clean" in audio else []), *systems))
    waves = {name: _decoded(audio[name], f"{place}, {name}") for name in wanted}
    shortest = min(map(len, waves.values()))
    waves = {name: wave[:shortest] for name, wave in waves.items()}
    if kind == "mushra":
        waves[ANCHOR] = anchor(waves["clean"])
    waves = listening.matched(waves, "clean" if "clean" in waves else None)
    names = {REFERENCE: "clean", ANCHOR: ANCHOR} if kind == "mushra" else {}
    return {condition: _wav(waves[name]) for condition, name in {**names, **{name: name for name in systems}}.items()}


def anchor(wave):
    """MUSHRA's low anchor: the reference, low-passed at 3.5 kHz, without delay.

    Args:
        wave: float32 `(samples,)` at 16 kHz.

    Returns:
        float32 `(samples,)`.

    Reference: ITU-R BS.1534-3, "Method for the subjective assessment of intermediate quality level of audio systems" (2015).
    """
    taps, beta = scipy.signal.kaiserord(_STOP_DB, (_STOP_HZ - CUTOFF_HZ) / (SAMPLE_RATE / 2))
    taps |= 1  # odd: the delay is whole samples, which "same" takes away
    filtered = scipy.signal.firwin(taps, (CUTOFF_HZ + _STOP_HZ) / 2, window=("kaiser", beta), fs=SAMPLE_RATE)
    padded = np.pad(wave.astype(np.float64), taps)
    return scipy.signal.fftconvolve(padded, filtered, "same")[taps:-taps].astype(np.float32)


def _decoded(text, place):
    try:
        wave, rate = sf.read(io.BytesIO(base64.b64decode(text, validate=True)), dtype="float32")
    except (binascii.Error, ValueError, sf.LibsndfileError, RuntimeError):
        raise UserError(f"{place}: its audio cannot be decoded; run test.py again") from None
    if rate != SAMPLE_RATE or wave.ndim != 1 or not len(wave):
        raise UserError(f"{place}: {wave.shape} samples at {rate} Hz; expected mono at {SAMPLE_RATE} Hz: run test.py again")
    return wave


def _wav(wave):
    buffer = io.BytesIO()
    sf.write(buffer, wave, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return buffer.getvalue()
