"""Evaluation: one row an utterance and system, nothing done twice, and no row lost to an interruption."""

import dataclasses
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, load_script, speech_like

from se_keras import pretrained
from se_keras.errors import UserError
from se_keras.judges import targets
from se_keras.mixtures import manifest
from se_keras.report import tables
from se_keras.scoring import evaluation, scores
from se_keras.signals import audio, mixing


class Halved:
    """Takes away half of what it is told is noise: knows the clean speech, counts the waves it is given."""

    def __init__(self, rows, name="halved"):
        self.name = self.fingerprint = name
        self.batches = []
        self._clean = {noisy.tobytes(): clean for noisy, clean in map(mixing.pair, rows)}

    def enhance(self, waves):
        self.batches.append([len(wave) for wave in waves])
        return [(wave + self._clean[wave.tobytes()]) / 2 for wave in waves]


@dataclasses.dataclass
class Noisy:
    name: str = "noisy"
    fingerprint: str = scores.NOISY

    def enhance(self, waves):
        raise AssertionError("the mixture needs no enhancing")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Six mixtures of three clean files of different length, at 0 and 10 dB of white noise."""
    root = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(3)
    audio.write(root / "white.wav", 0.1 * rng.standard_normal(32_000).astype(np.float32))
    noise = audio.read(root / "white.wav")
    made = []
    for number in range(3):
        path = root / f"clean{number}.wav"
        audio.write(path, speech_like(0.8 + 0.2 * number, seed=number))
        clean = audio.read(path)
        for snr_db in (0.0, 10.0):
            gain = mixing.gain_for_snr(clean, noise[:len(clean)], snr_db)
            made.append(manifest.Utterance(f"u{number}_{snr_db:g}", str(path), f"speaker{number // 2}", "white", len(clean), snr_db,
                                           str(root / "white.wav"), gain=gain))
    return made


@pytest.fixture
def scorer(tmp_path):
    with scores.Scorer(["si_sdr"], cache=tmp_path / "scores", workers=1) as scorer:
        yield scorer


def test_rows_scores_and_columns(rows, scorer, tmp_path):
    system = Halved(rows)
    table = evaluation.evaluate(rows, [Noisy(), system], scorer, tmp_path / "out" / "scores.csv", batch_size=4, progress=False)

    assert list(table.columns) == ["id", "system", "speaker", "noise_type", "snr_db", "clean", "si_sdr", "target", "predicted", "error"]
    assert list(table["id"]) == 2 * [row.id for row in rows]  # the manifest's order, though enhanced by length
    assert list(table["clean"][:6]) == [f"speaker{n // 2}/clean{n}" for n in (0, 0, 1, 1, 2, 2)]
    noisy, halved = table[table["system"] == "noisy"], table[table["system"] == "halved"]
    # White noise hardly correlates with speech: SI-SDR is near the SNR, and half the noise is 6.02 dB more.
    np.testing.assert_allclose(noisy["si_sdr"], noisy["snr_db"], atol=0.5)
    np.testing.assert_allclose(halved["si_sdr"].to_numpy() - noisy["si_sdr"].to_numpy(), 6.02, atol=0.5)
    assert system.batches == [[19_200, 19_200, 16_000, 16_000], [12_800, 12_800]]

    read = tables.read_scores(tmp_path / "out" / "scores.csv")
    assert read.to_dict("list").keys() == table.to_dict("list").keys()
    np.testing.assert_array_equal(read["si_sdr"], table["si_sdr"])  # written to the last digit
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scores.csv"]  # nothing temporary stays


def test_second_run_neither_enhances_nor_scores(rows, scorer, tmp_path, monkeypatch):
    first = evaluation.evaluate(rows, [Noisy(), Halved(rows)], scorer, tmp_path / "scores.csv", progress=False)
    again = Halved(rows)
    monkeypatch.setattr(mixing, "pair", lambda row: pytest.fail("made audio again"))
    monkeypatch.setattr(scorer, "_begin", lambda job: pytest.fail("scored again"))
    second = evaluation.evaluate(rows, [Noisy(), again], scorer, tmp_path / "scores.csv", progress=False)
    assert again.batches == []
    np.testing.assert_array_equal(first["si_sdr"], second["si_sdr"])


def test_other_weights_are_another_system(rows, scorer, tmp_path):
    evaluation.evaluate(rows, [Halved(rows)], scorer, tmp_path / "scores.csv", progress=False)
    changed = Halved(rows)
    changed.fingerprint = "other weights"
    evaluation.evaluate(rows, [changed], scorer, tmp_path / "scores.csv", progress=False)
    assert sum(map(len, changed.batches)) == len(rows)


def test_interrupted_run_goes_on(rows, scorer, tmp_path):
    class Interrupted(Halved):
        def enhance(self, waves):
            if len(self.batches) == 2:
                raise KeyboardInterrupt
            return super().enhance(waves)

    with pytest.raises(KeyboardInterrupt):
        evaluation.evaluate(rows, [Interrupted(rows)], scorer, tmp_path / "scores.csv", batch_size=1, progress=False)
    assert not (tmp_path / "scores.csv").exists()
    scorer.submit(scores.mixture_job(rows[0])).result()  # the one worker has finished what was handed in before
    rest = Halved(rows)
    table = evaluation.evaluate(rows, [rest], scorer, tmp_path / "scores.csv", batch_size=1, progress=False)
    assert len(rest.batches) == len(rows) - 2
    assert table["si_sdr"].notna().all()


def test_predictions_stand_beside_scores(rows, scorer, tmp_path):
    calls = []

    class Predictor:
        target = targets.parse("si_sdr")

        def __call__(self, system, asked):
            calls.append((system.name, len(asked)))
            return [None if row.snr_db == 0 else 2.5 for row in asked]

    table = evaluation.evaluate(rows, [Noisy(), Halved(rows)], scorer, tmp_path / "scores.csv", predictor=Predictor(), progress=False)
    assert calls == [("noisy", 6), ("halved", 6)]
    np.testing.assert_allclose(table["target"], table["si_sdr"].clip(-10, 30), atol=1e-5)  # in its unit, as far as the score reaches
    assert set(table.loc[table["snr_db"] == 10, "predicted"]) == {2.5}
    assert table.loc[table["snr_db"] == 0, "predicted"].isna().all()


class Silent(Halved):
    """Returns digital silence for the shortest utterance, which no metric scores."""

    def enhance(self, waves):
        return [0 * wave if len(wave) == 12_800 else wave for wave in waves]


def test_refused_pair_is_a_row_with_its_reason(rows, scorer, tmp_path):
    table = evaluation.evaluate(rows, [Noisy(), Silent(rows, "silent")], scorer, tmp_path / "scores.csv", progress=False)
    refused = table[table["si_sdr"].isna()]
    assert list(refused["id"]) == ["u0_0", "u0_10"] and set(refused["system"]) == {"silent"}
    assert refused["error"].str.contains("silence").all()
    assert (table.loc[table["si_sdr"].notna(), "error"] == "").all()


def test_on_error_fail_stops(rows, tmp_path):
    with (scores.Scorer(["si_sdr"], tmp_path / "scores", 1, "fail") as scorer, pytest.raises(UserError, match="u0_.*silence")):
        evaluation.evaluate(rows, [Silent(rows, "silent")], scorer, tmp_path / "scores.csv", progress=False)
    assert not (tmp_path / "scores.csv").exists()


def protocol(utterances=100):
    """Rows as a test manifest orders them: utterances x 4 noise types x 5 SNRs."""
    return [manifest.Utterance(f"{u}_{noise}_{snr}", f"{u}.wav", f"s{u // 10}", noise, 16_000, float(snr), "n.wav")
            for u in range(utterances) for noise in "abcd" for snr in (-6, 0, 6, 12, 18)]


@pytest.mark.parametrize("limit", [20, 100, 333])
def test_subset_keeps_the_shares(limit):
    rows = protocol()
    chosen = evaluation.subset(rows, limit)
    assert len(chosen) == limit == len({row.id for row in chosen})
    assert [row.id for row in chosen] == [row.id for row in rows if row in chosen]  # in the manifest's order
    shares = Counter((row.noise_type, row.snr_db) for row in chosen)
    assert len(shares) == 20 and max(shares.values()) - min(shares.values()) <= 1
    # As from a random draw, not the same few utterances in every condition: 20 of 100 names hold about 18 distinct ones.
    assert len({Path(row.clean) for row in chosen}) > 0.55 * min(limit, 100)


def test_subset_is_stable_and_bounded():
    rows = protocol(10)
    assert evaluation.subset(rows, 30) == evaluation.subset(list(rows), 30)
    assert evaluation.subset(rows, None) == evaluation.subset(rows, 1000) == rows


# --- test.py ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def script():
    """test.py as a module."""
    return load_script("test.py")


@pytest.fixture
def data(rows, tmp_path):
    """A data folder with a test manifest of six mixtures."""
    manifest.write(tmp_path / "data" / "test.jsonl", rows)
    return tmp_path / "data"


def test_script_writes_the_report(script, data, tmp_path, capsys):
    out = tmp_path / "report"
    arguments = ["--data", str(data), "--systems", "noisy", "wiener", "--out", str(out), "--workers", "1",
                 "--metrics", "pesq_raw", "si_sdr"]
    script.main(arguments)
    printed = capsys.readouterr().out
    assert printed.rstrip().endswith(f"report: {out}; open {out / 'index.html'} to look and listen")
    assert "PESQ (raw P.862)" in printed and "wiener - noisy" in printed and "subset" not in printed
    assert sorted(path.name for path in out.iterdir()) == [
        "figures", "index.html", "leaderboard.csv", "leaderboard.md", "scores.csv", "summary.json", "table.md"]
    assert sorted(path.name for path in (out / "figures").iterdir()) == ["gain.png", "labels.png", "spectrograms.png",
                                                                         "spectrograms_hard.png"]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["utterances"] == 6 and summary["speakers"] == 2 and summary["systems"] == ["noisy", "wiener"]
    assert "pesq 0." in summary["metrics"]["pesq_raw"]["version"]
    table = tables.read_scores(out / "scores.csv")
    assert len(table) == 12 and table["error"].eq("").all()

    written = (out / "scores.csv").read_bytes(), (out / "summary.json").read_bytes()
    script.main([*arguments, "--limit", "4"])
    assert "a subset: 4 of 6 utterances" in capsys.readouterr().out
    assert "a subset: 4 of 6 utterances" in (out / "table.md").read_text()
    assert len(tables.read_scores(out / "scores.csv")) == 8
    script.main(arguments)
    assert written == ((out / "scores.csv").read_bytes(), (out / "summary.json").read_bytes())  # the same every time


def test_script_sorts(script, data, tmp_path, capsys):
    """Best first, in what is printed and in the leaderboard; and every system's cost."""
    out = tmp_path / "report"
    script.main(["--data", str(data), "--systems", "noisy", "wiener", "--out", str(out), "--workers", "1", "--metrics", "si_sdr",
                 "--sort", "si_sdr"])
    printed = capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text())
    mean = {system: entry["mean"] for system, entry in summary["averages"]["si_sdr"].items()}
    listed = [line.split(",")[1] for line in (out / "leaderboard.csv").read_text().splitlines()[1:]]
    assert summary["systems"] == sorted(mean, key=mean.get, reverse=True) == listed
    assert re.search(".*".join(summary["systems"]), printed, re.DOTALL)
    assert summary["cost"]["wiener"]["rtf"] > 0 and summary["cost"]["noisy"]["latency_ms"] == 0
    assert re.search(r"wiener +0 +[\d.e-]+ +32 ms", printed)


def test_script_names_identical_systems(script, data, tmp_path, monkeypatch, capsys):
    """Two names for the same weights: told apart by nothing, so it is said."""
    systems = {"noisy": Noisy(), "copy": Noisy("copy")}
    monkeypatch.setattr(pretrained, "load_system", systems.__getitem__)
    monkeypatch.setattr(Noisy, "enhance", lambda self, waves: waves)
    script.main(["--data", str(data), "--systems", "noisy", "copy", "--out", str(tmp_path / "report"), "--metrics", "si_sdr",
                 "--workers", "1"])
    assert "noisy and copy are identical: the same weights\n" in capsys.readouterr().out
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert summary["identical"] == [{"systems": ["noisy", "copy"], "why": "the same weights"}]


def test_script_runs_without_tensorflow(data, tmp_path):
    """Classical systems need no network: a table of them costs no TensorFlow."""
    arguments = ["test.py", "--data", str(data), "--out", str(tmp_path / "report"), "--metrics", "si_sdr", "--workers", "1"]
    code = (f"import sys, runpy\nsys.argv = {arguments}\ntry:\n    runpy.run_path('test.py', run_name='__main__')\n"
            "except SystemExit as end:\n    sys.exit(end.code or 'tensorflow' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "SI-SDR (dB)" in done.stdout


BAD = {
    "no data folder": (["--data", "nowhere"], "there is no folder nowhere; make one with data/prepare.py"),
    "unknown metric": (["--metrics", "pesqq"], "unknown metric 'pesqq'; known: pesq_raw"),
    "unknown system": (["--systems", "noisy", "blstmm"], "blstmm: no such model; shipped:"),
    "system twice": (["--systems", "noisy", "wiener", "noisy"], "noisy is listed twice"),
    "no manifest": (["--split", "valid"], "valid.jsonl: no such manifest"),
    "unwritable": (["--out", "/proc/report"], "/proc/report: cannot be written"),
    "unknown Quality-Net": (["--quality-net", "qq"], "qq: no such model"),
    "unknown judge": (["--judges", "hearing_nb", "qq"], "qq: no such model"),
    "unknown order": (["--metrics", "si_sdr", "stoi", "--sort", "pesq_raw"],
                      "unknown --sort 'pesq_raw'; known: si_sdr, stoi, params, macs, rtf, latency"),
    "judge twice": (["--judges", "hearing_nb", "hearing_nb"], "--judges: hearing_nb is listed twice; list each once"),
}


@pytest.mark.parametrize("name", BAD)
def test_script_refuses_before_any_work(name, script, data, tmp_path, monkeypatch):
    arguments, message = BAD[name]
    monkeypatch.setattr(evaluation, "evaluate", lambda *arguments: pytest.fail("work began"))
    with pytest.raises(UserError, match=re.escape(message)):
        script.main(["--data", str(data), "--systems", "noisy", "--out", str(tmp_path / "report"), *arguments])
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("flag", ["--limit", "--workers", "--batch"])
def test_counts_from_one(flag, script, capsys):
    with pytest.raises(SystemExit) as end:
        script.arguments(["--data", "d", "--out", "r", flag, "0"])
    assert end.value.code == 2 and f"argument {flag}: 0 is not at least 1" in capsys.readouterr().err


def test_script_exit_code(tmp_path):
    done = subprocess.run([sys.executable, ROOT / "test.py", "--data", "nowhere", "--out", tmp_path / "r"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("error: --data") and done.stderr.count("\n") == 1


def test_names_are_told_apart(script):
    assert script.distinct_names(["noisy", "mse"], ["noisy", "runs/mse"]) == ["noisy", "mse"]
    assert script.distinct_names(["blstm", "blstm"], ["runs/a/blstm", "runs/b/blstm"]) == ["a/blstm", "b/blstm"]
    assert script.distinct_names(["blstm", "blstm"], ["runs/first", "runs/second"]) == ["first", "second"]  # named by their cards
    assert script.distinct_names(["clean", "mse"], ["runs/clean", "runs/mse"]) == ["runs/clean", "mse"]  # not the reference
    assert script.distinct_names(["noisy", "noisy"], ["noisy", "runs/noisy"]) == ["noisy", "runs/noisy"]
    assert script.distinct_names(["b", "b", "c"], ["x/b.weights.h5", "y/b.weights.h5", "c"]) == ["x/b", "y/b", "c"]
    with pytest.raises(UserError, match="runs/a is listed twice"):
        script.distinct_names(["b", "b"], ["runs/a", "runs/a/"])


def test_which_pairs_are_tested(script):
    assert script.comparisons(["noisy", "wiener", "dnn", "mse", "quality"]) == [
        ("quality", "mse"), ("mse", "dnn"), ("quality", "dnn"),
        ("wiener", "noisy"), ("dnn", "noisy"), ("mse", "noisy"), ("quality", "noisy")]
    assert script.comparisons(["mse", "quality"]) == [("quality", "mse")]
    assert script.comparisons(["wiener", "noisy"]) == [("wiener", "noisy")]
    assert script.comparisons(["noisy"]) == []
