"""What the tests of listening share: small tests on disk, a server in a process of its own, listeners that are programs."""

import contextlib
import io
import re
import signal
import sqlite3
import subprocess
import sys

import numpy as np
import pandas as pd
import requests
import soundfile as sf
from conftest import ROOT, speech_like

from se_keras.listening import store
from se_keras.report import page, tables

SYSTEMS = ("hush-mse", "hush-qnet")  # names that no page, script or header holds by itself


def tone(frequency_hz, seconds=0.1):
    """Bytes of a WAV file."""
    t = np.arange(int(seconds * 16_000)) / 16_000
    buffer = io.BytesIO()
    sf.write(buffer, 0.3 * np.sin(2 * np.pi * frequency_hz * t), 16_000, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def make(path, kind="ab", systems=SYSTEMS, items=6, trials=4, seconds=0.1, **settings):
    """A test on disk; each condition is a tone: 1 kHz, 2 kHz and so on."""
    conditions = [*systems, *(["reference", "anchor"] if kind == "mushra" else [])]
    sound = {name: tone(1000 * (number + 1), seconds) for number, name in enumerate(conditions)}
    names = [f"u{number}" for number in range(items)]
    store.create(path, {"kind": kind, "systems": list(systems), "items": names, "trials": trials, "seed": 0, "forced": False,
                        "consent": "You agree.", "title": f"report: {', '.join(systems)}", "fingerprint": "0", "token": None, **settings},
                 dict.fromkeys(names, sound))
    return path


def changed(path, pragma):
    """A database after a statement."""
    with sqlite3.connect(path) as database:
        database.execute(pragma)
    database.close()
    return path


class Running:
    """listen.py on a test that is there, in a process of its own."""

    def __init__(self, path, port=0, *arguments):
        self.process = subprocess.Popen([sys.executable, ROOT / "listen.py", "--out", path, "--port", str(port), *arguments],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.said = ""
        for line in self.process.stdout:
            self.said += line
            if found := re.match(r"link for listeners: (http://\S+?:(\d+)/)(?:#(\S+))?$", line):
                self.url, self.port, self.token = found[1].rstrip("/"), int(found[2]), found[3]
                return
        raise AssertionError(self.said + self.process.stderr.read())

    def kill(self, how=signal.SIGKILL):
        """End it; its exit code, and what it said on standard error."""
        self.process.send_signal(how)
        _, errors = self.process.communicate(timeout=20)
        return self.process.returncode, errors


@contextlib.contextmanager
def running(path, *arguments):
    server = Running(path, 0, *arguments)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()


class Listener:
    """One that answers over HTTP, as the page does, and says that it is a program."""

    def __init__(self, url, token=None, secret=None):
        self.url, self.session = url, requests.Session()
        self.secret = secret or self.post("/api/start", {"agreed": True, "scripted": True}, token).json()["listener"]

    def headers(self, token=None):
        named = token or getattr(self, "secret", None)
        return {"authorization": f"Bearer {named}"} if named else {}

    def get(self, path):
        return self.session.get(self.url + path, headers=self.headers(), timeout=20)

    def post(self, path, body, token=None):
        return self.session.post(self.url + path, json=body, headers=self.headers(token), timeout=20)

    def next(self):
        return self.get("/api/next").json()

    def answer(self, turn, answer):
        return self.post("/api/answer", {"trial": turn["trial"], "answer": answer, "seconds": 1.5})


def go_through(listener, choose, hear=True):
    """Answer every trial; the answers that were acknowledged, {trial: answer}."""
    acknowledged, turn = {}, listener.next()
    while turn["phase"] != "end":
        if hear:
            for slot in turn["slots"]:
                assert listener.get(f"/api/audio/{turn['trial']}/{slot}").status_code == 200
        answer = choose(turn)
        got = listener.answer(turn, answer)
        assert got.status_code == 201, got.text
        acknowledged[turn["trial"]] = answer
        turn = got.json()["next"]
    return acknowledged


def report(folder, systems=SYSTEMS, utterances=4, hear=True):
    """A report's page with sound: "noisy" and each system are tones under the speech, which is the clean wave."""
    scores = pd.DataFrame([{"id": f"u{u}", "system": system, "speaker": "s", "noise_type": "white", "snr_db": 0.0, "clean": f"u{u}",
                            "stoi": 0.5 + number / 10, "error": ""} for number, system in enumerate(("noisy", *systems))
                           for u in range(utterances)])
    t, treble = np.arange(12_800) / 16_000, 0.02 * np.random.default_rng(5).standard_normal(12_800).astype(np.float32)
    clean = speech_like(0.8, seed=5) + treble
    waves = {"clean": clean, **{name: (clean + 0.1 * np.sin(2 * np.pi * 1000 * (number + 1) * t)).astype(np.float32)
                                for number, name in enumerate(("noisy", *systems))}}
    folder.mkdir(parents=True, exist_ok=True)
    page.write(folder / "index.html", f"report: {', '.join(systems)}", tables.summarise(scores), scores,
               (lambda ids: dict.fromkeys(ids, waves)) if hear else None)
    return folder
