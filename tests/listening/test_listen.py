"""listen.py as a user runs it: from a report to a test, from answers into the report, and what it says of bad input."""

import csv
import importlib.util
import io
import json
import re
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest
import requests
import soundfile as sf
from conftest import ROOT, refused
from scripted import SYSTEMS, Listener, Running, changed, go_through, make, report

import listen
from se_keras.listening import material
from se_keras.listening.store import Store
from se_keras.report import page


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    return report(tmp_path_factory.mktemp("reported") / "report")


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_from_a_report_to_answers_and_into_the_report(tmp_path, capsys, reported):
    folder, path = shutil.copytree(reported, tmp_path / "report"), tmp_path / "test.db"
    server = Running(path, 0, "--report", folder, "--systems", *SYSTEMS)
    assert f"ab test of {', '.join(SYSTEMS)}: 4 trials a listener, 4 utterances\n0 listeners so far" in server.said
    assert server.url == f"http://127.0.0.1:{server.port}" and f"python listen.py results {path}" in server.process.stdout.readline()

    def likes_the_second(turn):  # by what it hears: 3 kHz, not 2
        return next(slot for slot in turn["slots"] if loudest(listener.get(f"/api/audio/{turn['trial']}/{slot}").content) > 2500)

    for scripted in (True, True, False):  # the last one does not say that it is a program, so that there is something to count
        secret = requests.post(f"{server.url}/api/start", json={"agreed": True, "scripted": scripted}, timeout=10).json()["listener"]
        listener = Listener(server.url, secret=secret)
        go_through(listener, likes_the_second)
    server.kill()

    listen.main(["results", str(path), "--report", str(folder), "--out", str(tmp_path / "answers.csv")])
    said = capsys.readouterr().out
    assert "2 of 3 listeners are scripted: they are left out\n1 of 1 listeners are counted\n4 answers to 4 utterances" in said
    assert re.search(rf"{SYSTEMS[0]} +{SYSTEMS[1]} +0 : 0 : 4 +0.0% +0% to 49% +n/e +0% to 0% +0.1250 +n/e", said)
    section = page.read(folder / "index.html")["listening"]
    assert section["rows"][0][:3] == [*SYSTEMS, "0 : 0 : 4"] and "they are left out" in section["about"]
    assert "| hush-mse | hush-qnet |" in (folder / "listening.md").read_text()
    rows = list(csv.DictReader((folder / "listening.csv").open()))
    assert len(rows) == 18 and (tmp_path / "answers.csv").read_text() == (folder / "listening.csv").read_text()
    assert [row["scripted"] for row in rows] == ["1"] * 12 + ["0"] * 6 and secret not in (folder / "listening.csv").read_text()

    listen.main(["results", str(path), "--scripted", "--report", str(folder)])
    assert "this table is a check of the test, no listening result" in page.read(folder / "index.html")["listening"]["about"]
    spoilt(folder, lambda content: content["heard"].pop())
    listen.main(["results", str(path), "--report", str(folder)])
    assert f"The listeners heard other audio than this page plays: of report: {', '.join(SYSTEMS)}" in (
        page.read(folder / "index.html")["listening"]["about"])


def loudest(wav):
    """Frequency in Hz of the strongest tone above the speech."""
    wave, rate = sf.read(io.BytesIO(wav))
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    frequencies = np.fft.rfftfreq(len(wave), 1 / rate)
    return frequencies[np.argmax(np.where(frequencies > 1900, spectrum, 0))]


def test_programs_leave_a_report_as_it_is(tmp_path, capsys, reported):
    path, before = make(tmp_path / "test.db"), contents(reported)
    store = Store(path)
    store.start(scripted=True)
    store.close()
    assert listen.main(["--report", str(reported), "results", str(path)]) == 0  # before the command or behind it
    said = capsys.readouterr().out
    assert "1 of 1 listeners are scripted: no listening result" in said and f"{reported} stays as it is" in said
    assert contents(reported) == before


def test_audio_is_level_matched_and_the_anchor_has_no_treble(reported):
    content = page.read(reported / "index.html")
    audio = material.gather(content, "mushra", ["noisy", *SYSTEMS], "here")
    assert list(audio) == [item["id"] for item in content["heard"]] and list(audio["u0"]) == ["reference", "anchor", "noisy", *SYSTEMS]
    waves = {name: sf.read(io.BytesIO(wav))[0] for name, wav in audio["u0"].items()}
    assert len({len(wav) for wav in audio["u0"].values()}) == 1 and len(waves["reference"]) == 12_800
    speech = waves["reference"]
    for name, wave in waves.items():
        assert 20 * np.log10(wave @ speech / (speech @ speech)) == pytest.approx(0, abs=0.1), name
    treble = {name: np.abs(np.fft.rfft(wave * np.hanning(12_800)))[12_800 * 4100 // 16_000:] for name, wave in waves.items()}
    assert 20 * np.log10(np.linalg.norm(treble["anchor"]) / np.linalg.norm(treble["reference"])) < -30  # what 16 bits leave


def test_the_anchors_filter_is_the_recommendations():
    """BS.1534-3: within 0.1 dB up to 3.5 kHz, 25 dB at 4 kHz, 50 dB at 4.5 kHz; here an impulse shows it."""
    impulse = np.zeros(4001, np.float32)
    impulse[2000] = 1
    filtered = material.anchor(impulse)
    assert np.argmax(filtered) == 2000  # no delay
    level_db = 20 * np.log10(np.abs(np.fft.rfft(filtered, 64_000)) + 1e-9)  # a bin is 0.25 Hz
    assert np.abs(level_db[:4 * 3500]).max() < 0.1 and level_db[4 * 4000:].max() < -25 and level_db[4 * 4500:].max() < -50


# --- Bad input -----------------------------------------------------------------------------------------------------------------------


def spoilt(folder, change):
    """A report whose page holds something else."""
    content = page.read(folder / "index.html")
    change(content)
    text = (folder / "index.html").read_text()
    script = json.dumps(content).replace("<", "\\u003c")
    text = re.sub(r'(id="data">).*?(</script>)', lambda found: found[1] + script + found[2], text, count=1, flags=re.DOTALL)
    (folder / "index.html").write_text(text)


def test_reports_that_cannot_be_listened_to(tmp_path, capsys, reported):
    (tmp_path / "old").mkdir()
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "index.html").write_text("<html>a page</html>")
    report(tmp_path / "mute", hear=False)
    parts, real, noise = (shutil.copytree(reported, tmp_path / name) for name in ("parts", "real", "noise"))
    spoilt(parts, lambda content: content["heard"][1]["audio"].pop(SYSTEMS[1]))
    spoilt(real, lambda content: [item["audio"].pop("clean") for item in content["heard"]])
    spoilt(noise, lambda content: content["heard"][2]["audio"].update({SYSTEMS[0]: "bm8gYXVkaW8="}))
    before = contents(tmp_path)
    cases = [("none", SYSTEMS, [], "none/index.html: no such file; test.py writes it"),
             ("old", SYSTEMS, [], "old/index.html: no such file"),
             ("web", SYSTEMS, [], "web/index.html: not the page of a report"), ("mute", SYSTEMS, [], "mute/index.html: holds no audio"),
             ("parts", SYSTEMS, [], f"{SYSTEMS[1]} is heard in 3 of its 4 utterances"),
             ("parts", (SYSTEMS[0], "loud"), [], f"'loud'; known: noisy, {', '.join(SYSTEMS)}, clean"),
             ("real", SYSTEMS, ["--kind", "mushra"], "4 of 4 utterances have no clean speech, mushra's reference; use --kind ab"),
             ("noise", SYSTEMS, [], f", {SYSTEMS[0]}: its audio cannot be decoded"),
             ("parts", SYSTEMS[:1], [], "1 system; ab compares pairs: name 2 to 8"),
             ("real", (SYSTEMS[0], SYSTEMS[0]), [], f"{SYSTEMS[0]} is listed twice"),
             ("mute", ("clean", "noisy"), ["--kind", "mushra", "--forced"], "--forced: mushra has no such answer")]
    for folder, systems, more, message in cases:
        said = refused(capsys, listen, "--report", tmp_path / folder, "--systems", *systems, "--out", tmp_path / "test.db", *more)
        assert message in said, (folder, said)
    assert "mushra has the clean speech as its reference already" in refused(
        capsys, listen, "--report", reported, "--systems", "clean", "--kind", "mushra", "--out", tmp_path / "test.db")
    assert contents(tmp_path) == before


def test_flags_that_make_no_test(tmp_path, capsys, reported):
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "latin.txt").write_bytes("Zustimmung für alle".encode("latin-1"))
    good = ["--report", reported, "--systems", *SYSTEMS, "--out", tmp_path / "test.db"]
    before = contents(tmp_path)
    for more, message in ((["--trials", 5], "--trials 5: there are 4 to ask about"), (["--trials", 0], "0 is not at least 1"),
                          (["--consent", tmp_path / "none.txt"], "none.txt: cannot be read"),
                          (["--consent", tmp_path / "empty.txt"], "empty.txt: holds 0 characters"),
                          (["--consent", tmp_path / "latin.txt"], "latin.txt: not a text in UTF-8"),
                          (["--token", "short"], "--token: expected 8 to 200"), (["--token", "with spaces in it"], "--token: expected"),
                          (["--port", 70_000], "--port 70000: ports end at 65535"), (["--kind", "abba"], "invalid choice: 'abba'"),
                          (["--host", "203.0.113.1", "--port", 0], "203.0.113.1, port 0: cannot be used"),
                          (["--host", "no.such.host.invalid"], "no.such.host.invalid, port 8765: cannot be used"),
                          (["--sytems", "a"], "did you mean --systems?")):
        said = refused(capsys, listen, *good, *more)
        assert message in said, said
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refused(capsys, listen, *good, "--port", port)
        assert f"127.0.0.1, port {port}: cannot be used (Address already in use); name another --port" in said
    said = refused(capsys, listen, "--out", tmp_path / "test.db")
    assert "test.db: is not there yet; a new test takes --report REPORT and --systems" in said
    assert "--out is expected" in refused(capsys, listen, *good[:-2])
    assert "/proc" in refused(capsys, listen, *good[:-1], "/proc/test.db", "--port", 0)
    assert contents(tmp_path) == before


def test_databases_that_are_no_test_or_another(tmp_path, capsys, reported):
    path = make(tmp_path / "test.db")
    (tmp_path / "text.db").write_text("no database " * 99)
    before = contents(tmp_path)
    for name, message in (("none.db", "no such file; python listen.py --report REPORT"), ("text.db", "not a listening test's database"),
                          (".", "is a folder")):
        assert message in refused(capsys, listen, "results", tmp_path / name)
    assert "not a listening test's database" in refused(capsys, listen, "--out", tmp_path / "text.db", "--port", 0)
    for more, message in ((["--kind", "abx"], "(--kind ab)"), (["--systems", "a", "b"], f"(--systems {' '.join(SYSTEMS)})"),
                          (["--trials", 3, "--seed", 1], "(--trials 4, --seed 0)"), (["--forced"], "(--forced False)"),
                          (["--report", reported], "(--report with other audio)"),
                          (["--consent", tmp_path / "text.db"], "(--consent of another text)")):
        said = refused(capsys, listen, "--out", path, "--port", 0, *more)
        assert f"test.db: holds another test than the flags ask for {message}; leave the flags out to go on with it" in said, said
    assert {name: data for name, data in contents(tmp_path).items() if not re.search("-(wal|shm)$", name.name)} == before
    changed(path, "PRAGMA user_version = 7")
    for arguments in (["results", path], ["--out", path, "--port", 0]):
        assert "of version 7, this listen.py reads version 1" in refused(capsys, listen, *arguments)


def test_a_table_goes_into_a_report_of_its_systems_only(tmp_path, capsys):
    other, path = report(tmp_path / "other", ("x", "y"), 2), make(tmp_path / "test.db", trials=1)
    store = Store(path)
    listener = store.listener(store.start())
    for number in range(3):
        store.answer(listener, number, "A")
    store.close()
    before = contents(other)
    assert f"unknown system of {other / 'index.html'} '{SYSTEMS[0]}'" in refused(capsys, listen, "results", path, "--report", other)
    assert "index.html: no such file" in refused(capsys, listen, "results", path, "--report", tmp_path / "none")
    assert contents(other) == before and not (tmp_path / "none").exists()


@pytest.mark.parametrize("missing, arguments", [("starlette", ["--out", "{}/test.db", "--port", 0]), ("uvicorn", ["--out", "{}/test.db"]),
                                                ("statsmodels", ["results", "{}/test.db"])])
def test_what_is_not_installed_is_named(missing, arguments, tmp_path, capsys, monkeypatch):
    make(tmp_path / "test.db")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == missing else find(name, *more))
    said = refused(capsys, listen, *(str(argument).format(tmp_path) for argument in arguments))
    assert f"listening tests need {missing}, which is not installed: pip install {missing}, or pip install -r requirements-extras" in said


def test_going_on_loads_nothing_heavy(tmp_path):
    """So that a server that died is back in a blink."""
    code = ("import sys; sys.argv = ['listen.py', '--out', sys.argv[1], '--port', '0']\nfrom se_keras.listening import server\n"
            "server.serve = lambda *_: None\nimport listen; listen.main()\n"
            "assert not {'numpy', 'scipy', 'pandas', 'plotly', 'soundfile', 'tensorflow', 'statsmodels'} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", code, make(tmp_path / "test.db")], cwd=ROOT, check=True, capture_output=True)
