"""Malformed inputs by a generator, through the scripts in this process: refused in a line or two, or right all the same.

A result is silently wrong where the exit code is 0, nothing was said, and it is not what the whole input gives, though the input could
have told: by its length, a checksum of its format, a type, or a card. What no format can tell (a bit of a wav's samples) is not counted.
"""

import contextlib
import copy
import functools
import http.server
import json
import re
import shutil
import signal
import threading

import numpy as np
import pandas as pd
import soundfile as sf
from conftest import noise, speech_like, zipped
from ledger import Case, Outcome, called, last_line, refused_well
from world import ENHANCER

import enhance
import finetune
import train
from se_keras import cli
from se_keras.corpora import download
from se_keras.mixtures import manifest
from se_keras.signals import mixing

TIMEOUT_S = 60
SAID = r"missing|never marked|does not say|damaged|truncated"  # of a notice beside a result
HEADERS = {"wav": 44, "flac": 90, "mp3": 200, "ogg": 120}  # bytes that count as the header
CHECKED = ("flac", "ogg")  # formats with checksums over the samples
MP3_FRAMES = 2 * 1152  # what the codec may add or drop at an end


class Hang(BaseException):
    """Not an Exception, or a script would answer it."""


@contextlib.contextmanager
def limited():
    """At most `TIMEOUT_S` seconds, then `Hang`."""
    def ring(*_):
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(TIMEOUT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def tried(function, outcome, what):
    """Call a script; whether it gave a result, `Done`, or None where it refused, as it should or not."""
    try:
        with limited():
            done = called(function)
    except Hang:
        outcome.fails(f"{what}: hangs for {TIMEOUT_S} s")
        return None
    if done.code == 0:
        return done
    outcome.read(done.said)
    if not refused_well(done):
        outcome.fails(f"{what}: exit code {done.code}: {last_line(done.err)}")
    return None


# --- Damage ----------------------------------------------------------------------------------------------------------------------


def damaged(draw, content, low=0, high=None):
    """Bytes with one damage between `low` and `high`, and its kind: (bytes, "cut at 17")."""
    high = min(len(content), len(content) if high is None else high)
    at = draw.randrange(min(low, high - 1), high)
    run = min(draw.choice((1, 4, 64, 512)), high - at)
    how = draw.choice(("cut", "flipped", "zeroed", "scrambled", "inserted", "deleted"))
    whole = bytearray(content)
    if how == "cut":
        del whole[at:]
    elif how == "flipped":
        whole[at] ^= 1 << draw.randrange(8)
    elif how == "zeroed":
        whole[at:at + run] = bytes(run)
    elif how == "scrambled":
        whole[at:at + run] = draw.randbytes(run)
    elif how == "inserted":
        whole[at:at] = draw.randbytes(run)
    else:
        del whole[at:at + run]
    return bytes(whole), f"{how} at {at} of {len(content)}"


def odd(draw):
    """A value that JSON can say, or nearly, and nobody expects."""
    return draw.choice((None, True, False, -1, 0, 1.5, 10 ** 13, -(10 ** 400), float("nan"), float("inf"), 1e308, "", "a\0b", "\ud800", "1",
                        "../" * 9, [], [[]], {}, {"a": 1}, "x" * 10_000, [1] * 1000, list(range(9)), "/dev/zero", {"": None}))


def changed(draw, record, depth=2):
    """A copy of a JSON object with one value changed, dropped or added, and what: (object, "samples = -1")."""
    record = copy.deepcopy(record)
    inner, path = record, []
    while depth and (deeper := [key for key, value in inner.items() if isinstance(value, dict) and value]) and draw.random() < 0.5:
        path.append(draw.choice(deeper))
        inner, depth = inner[path[-1]], depth - 1
    key = draw.choice(sorted(inner))
    how = draw.random()
    if how < 0.15:
        del inner[key]
        return record, f"{'.'.join([*path, key])} dropped"
    if how < 0.25:
        key = f"{key}_"
    inner[key] = odd(draw)
    return record, f"{'.'.join([*path, key])} = {str(inner[key])[:40]!r}"


def text_of(draw, record):
    """JSON of a changed object; at times its bytes are damaged too: (bytes, what)."""
    if draw.random() < 0.3:
        return damaged(draw, json.dumps(record).encode())
    value, what = changed(draw, record)
    return json.dumps(value).encode(), what


# --- Audio -----------------------------------------------------------------------------------------------------------------------


def recording(world, form):
    """A recording of 2 s in a format, and what the classical filter makes of it: paths, made once."""
    folder = world / "reference" / "inputs"
    source, enhanced = folder / f"noisy.{form}", folder / f"{form}-enhanced.wav"
    if not enhanced.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        sf.write(source, 0.5 * speech_like(2.0, seed=300) + 0.2 * noise(2.0), 16_000)
        if called(lambda: enhance.main([str(source), "--out", str(enhanced), "--enhancer", "wiener"])).code != 0:
            raise RuntimeError(f"{source} cannot be enhanced")
    return source, enhanced


def audio(form, part, place):
    """A recording damaged in its header or its body."""
    outcome, target = Outcome(), place.folder / "out.wav"
    source, reference = recording(place.world, form)
    whole, edge = source.read_bytes(), HEADERS[form]
    bad = place.folder / f"bad.{form}"
    content, what = damaged(place.draw, whole, *((0, edge) if part == "header" else (edge, None)))
    bad.write_bytes(content)
    done = tried(lambda: enhance.main([str(bad), "--out", str(target), "--enhancer", "wiener"]), outcome, f"{form} {what}")
    if done is None:
        if target.exists():
            outcome.misleads(f"{form} {what}: refused, and yet an output is there")
        return outcome
    found, wanted = sf.read(target, always_2d=True)[0], sf.read(reference, always_2d=True)[0]
    if not np.isfinite(found).all():
        outcome.misleads(f"{form} {what}: the output is not finite")
    if part == "header" and form != "mp3" or re.search(SAID, done.said):  # a changed header is another file; mp3 has headers throughout
        return outcome
    if form in CHECKED and (found.shape != wanted.shape or np.abs(found - wanted).max() > 1e-3):
        outcome.misleads(f"{form} {what}: {len(found)} of {len(wanted)} samples, not those of the whole file, and nothing is said")
    elif form not in CHECKED and len(found) < len(wanted) - (MP3_FRAMES if form == "mp3" else 0):
        outcome.misleads(f"{form} {what}: {len(found)} of {len(wanted)} samples, and nothing is said")
    return outcome


# --- Manifests, cards, weights, runs ---------------------------------------------------------------------------------------------


def rows(place):
    """A manifest with one line changed, read and mixed as training would."""
    outcome, lines = Outcome(), (place.world / "data" / "train.jsonl").read_text().splitlines()
    at = place.draw.randrange(len(lines))
    content, what = text_of(place.draw, json.loads(lines[at]))
    path = place.folder / "train.jsonl"
    path.write_bytes("\n".join(lines[:at]).encode() + b"\n" + content + b"\n" + "\n".join(lines[at + 1:]).encode())

    def mix():
        for row in manifest.read(path):
            mixing.check_gain(row)
            if not all(np.isfinite(wave).all() for wave in mixing.pair(row)):
                outcome.misleads(f"line {at + 1}: {what}: the mixture is not finite")

    tried(mix, outcome, f"line {at + 1}: {what}")
    return outcome


def _enhanced(place, folder, outcome, what):
    """What a run folder's enhancer makes of a recording; None where it is refused."""
    target = place.folder / "out.wav"
    done = tried(lambda: enhance.main([str(place.world / "degraded" / "p0.wav"), "--out", str(target), "--enhancer", str(folder)]), outcome,
                 what)
    return None if done is None else sf.read(target)[0]


@functools.cache
def _reference(world):
    """The same by the sound run folder."""
    target = world / "reference" / "inputs" / "mse.wav"
    target.parent.mkdir(parents=True, exist_ok=True)
    done = called(lambda: enhance.main([str(world / "degraded" / "p0.wav"), "--out", str(target), "--enhancer", str(world / "mse")]))
    if done.code != 0:
        raise RuntimeError(done.said)
    return sf.read(target)[0]


def card(place):
    """The description of a model, changed."""
    outcome, folder = Outcome(), place.copy("mse")
    content, what = text_of(place.draw, json.loads((folder / "config.json").read_text()))
    (folder / "config.json").write_bytes(content)
    found, wanted = _enhanced(place, folder, outcome, f"card, {what}"), _reference(place.world)
    meant = re.match(r"(network|arguments|stft|family)\b", what)  # another value of these is another model
    if found is not None and (len(found) != len(wanted) or not np.isfinite(found).all() or
                              not meant and np.abs(found - wanted).max() > 1e-3):
        outcome.misleads(f"card, {what}: another output, and nothing is said")
    return outcome


def weights(place):
    """The weights of a run folder, damaged."""
    outcome, folder = Outcome(), place.copy("mse")
    path = folder / "best.weights.h5"
    content, what = damaged(place.draw, path.read_bytes())
    path.write_bytes(content)
    found, wanted = _enhanced(place, folder, outcome, f"weights {what}"), _reference(place.world)
    if found is not None and (len(found) != len(wanted) or not np.allclose(found, wanted, atol=1e-4)):
        outcome.misleads(f"weights {what}: another output, and nothing is said")
    return outcome


def run_folder(place):
    """A run folder with a damaged file, gone on with."""
    outcome, folder = Outcome(), place.copy("mse")
    path = folder / place.draw.choice(("checkpoint.npz", "history.csv", "config.json", "last.weights.h5"))
    content, what = damaged(place.draw, path.read_bytes())
    path.write_bytes(content)
    before = pd.read_csv(place.world / "mse" / "history.csv")
    command = ["enhancer", "--data", str(place.world / "data"), "--out", str(folder), *ENHANCER, "--epochs", "3"]
    done = tried(lambda: train.main(command), outcome, f"{path.name} {what}")
    if done is not None:
        after = pd.read_csv(folder / "history.csv")
        if not np.allclose(after["valid_loss"][:len(before)], before["valid_loss"], rtol=1e-6):
            outcome.misleads(f"{path.name} {what}: the history is another one, and nothing is said")
    return outcome


# --- Flags -----------------------------------------------------------------------------------------------------------------------


def preset(place):
    """A TOML preset, damaged, or with a value that nobody expects."""
    outcome, path = Outcome(), place.folder / "mine.toml"
    whole = (cli.CONFIGS / "demo.toml").read_bytes()
    if place.draw.random() < 0.5:
        content, what = damaged(place.draw, whole)
    else:
        lines = whole.decode().splitlines()
        at = place.draw.choice([number for number, line in enumerate(lines) if re.match(r"[\w-]+ = ", line)])
        value = place.draw.choice(("-1", "nan", "inf", "[]", "{}", "''", "[[1]]", "1979-05-27", "true", "'x'", "9" * 500, '"\\u0000"',
                                   "1e400", "{a = {b = []}}", "0x10"))
        lines[at] = f"{lines[at].split(' = ')[0]} = {value}"
        content, what = "\n".join(lines).encode(), lines[at][:60]
    path.write_bytes(content)
    script, command = place.draw.choice(((train, ["enhancer"]), (train, ["quality-net"]), (finetune, [])))
    tried(lambda: script.arguments([*command, "--preset", str(path)]) and None, outcome, f"preset {what}")
    return outcome


def json_flag(place):
    """A JSON flag that is odd; what is accepted is used, for one epoch at most."""
    outcome = Outcome()
    flag, usual = place.draw.choice((("--turns", {"round": 7, "sample": 3, "lag": 1, "history_share": 0.2}),
                                     ("--model-args", {"units": 8, "context": 2}), ("--stft", {"n_fft": 512, "hop_length": 256}),
                                     ("--augment", {"snr_db": [-5, 15], "speed": 0.1, "second": 0.2})))
    content, what = text_of(place.draw, usual)
    text = content.decode(errors="surrogateescape")
    if flag == "--turns":
        tried(lambda: finetune.arguments(["--update", "replay", flag, text]) and None, outcome, f"{flag} {what}")
        return outcome
    command = ["enhancer", "--data", str(place.world / "data"), "--out", str(place.folder / "run"), "--model", "dnn", "--epochs", "1",
               "--batch", "8", "--crop", "0.5", "--validation-rows", "1", "--workers", "1",
               *([] if flag == "--model-args" else ["--model-args", '{"units": 4}']), flag, text]
    tried(lambda: train.main(command), outcome, f"{flag} {what}")
    return outcome


# --- Downloads -------------------------------------------------------------------------------------------------------------------

LIES = ("too long", "too short", "a page", "404", "500", "416", "unasked range", "wrong range", "nonsense length", "itself", "nothing",
        "broken chunks", "no HTTP", "damaged", "damaged", "another's bytes")


class _Liar(http.server.BaseHTTPRequestHandler):
    """Serves `server.body`, and says something else of it."""

    def do_GET(self):
        lie, body = self.server.lie, self.server.body
        if lie == "no HTTP":
            self.wfile.write(self.server.noise)
            return
        code = {"404": 404, "500": 500, "416": 416, "unasked range": 206, "wrong range": 206, "itself": 302}.get(lie, 200)
        self.send_response(code)
        headers = {"Content-Length": str(len(body))}
        if lie == "a page":
            body = b"<!DOCTYPE html><p>sign in"
            headers = {"Content-Length": str(len(body)), "Content-Type": "text/html"}
        elif lie == "another's bytes":
            body = self.server.noise
            headers = {"Content-Length": str(len(body))}
        elif lie in ("nothing", "416", "404", "500"):
            body, headers = b"", {"Content-Length": "0"}
        elif lie == "too long":
            headers = {"Content-Length": str(len(body) + 1000)}
        elif lie == "too short":
            headers = {"Content-Length": str(len(body) // 2)}
        elif lie == "unasked range":
            headers |= {"Content-Range": f"bytes 5-{len(body)}/{len(body) + 5}"}
        elif lie == "wrong range":
            headers |= {"Content-Range": "bytes nothing"}
        elif lie == "nonsense length":
            headers = {"Content-Length": "many"}
        elif lie == "itself":
            headers |= {"Location": self.path}
        elif lie == "broken chunks":
            body, headers = b"fff\r\n" + body[:50], {"Transfer-Encoding": "chunked"}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def lying_download(place):
    """An archive from a server that lies."""
    outcome, lie = Outcome(), place.draw.choice(LIES)
    (place.folder / "inner").mkdir()
    for number in range(3):
        (place.folder / "inner" / f"{number}.txt").write_bytes(place.draw.randbytes(500))
    body, what = zipped(place.folder / "inner", place.folder / "inner.zip"), lie
    if lie == "damaged":
        body, how = damaged(place.draw, body)
        what = f"{lie}, {how}"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Liar)
    server.lie, server.body, server.noise = lie, body, place.draw.randbytes(2000)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    sleep, download.time.sleep = download.time.sleep, lambda seconds: None  # between attempts
    root = place.folder / "root"
    try:
        done = tried(lambda: download.archives(["inner"], f"http://127.0.0.1:{server.server_port}", root, place.folder / "record.json",
                                               lambda name: False), outcome, f"download: {what}")
    finally:
        download.time.sleep = sleep
        server.shutdown()
        server.server_close()
    if done is not None:
        got = {path.name: path.read_bytes() for path in (root / "inner").rglob("*.txt")}
        if got != {path.name: path.read_bytes() for path in (place.folder / "inner").glob("*.txt")}:
            outcome.misleads(f"download: {what}: other files than the server's, and nothing is said")
    elif (root / "inner").exists():
        outcome.misleads(f"download: {what}: refused, and yet unpacked")
    shutil.rmtree(root, ignore_errors=True)
    return outcome


KINDS = {**{f"{form} {part}": (7, functools.partial(audio, form, part)) for form in HEADERS for part in ("header", "body")},
         "manifest": (11, rows), "card": (8, card), "weights": (6, weights), "run folder": (3, run_folder), "preset": (8, preset),
         "JSON flag": (5, json_flag), "download": (9, lying_download)}  # (share, attempt)


def cases(kind, count):
    """Inputs spread over the kinds by their shares, in an order in which few, too, meet many kinds."""
    given, shares = dict.fromkeys(KINDS, 0), sum(share for share, _ in KINDS.values())
    for number in range(count):
        name = max(KINDS, key=lambda name, number=number: KINDS[name][0] * (number + 1) - shares * given[name])
        given[name] += 1
        yield Case(kind, number, name, KINDS[name][1])
