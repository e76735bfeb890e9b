"""Test sets of the DNS Challenges: pairs by file id, recordings without a reference, their test end to end, and every error."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import soundfile as sf
from conftest import load_script, noise, prepare, refused, speech_like, zipped

import train
from se_keras.corpora import dns_test
from se_keras.errors import UserError
from se_keras.mixtures import manifest
from se_keras.scoring import scores
from se_keras.signals import audio, mixing

script = load_script("test.py")


def make_pairs(root, rate=16_000):
    """DNS 1's synthetic test set: no_reverb/{noisy,clean} and with_reverb/{noisy,clean}, paired by file id."""
    for number, track in enumerate(("no_reverb", "with_reverb")):
        for kind in ("noisy", "clean"):
            (root / track / kind).mkdir(parents=True)
        for fileid, snr_db in ((0, 5), (10, -3), (2, 18)):
            clean = 0.5 * audio.resample(speech_like(0.6, 10 * number + fileid), 16_000, rate)
            sf.write(root / track / "clean" / f"clean_fileid_{fileid}.wav", clean, rate)
            noisy = mixing.mix(clean, noise(0.6, fileid, rate), snr_db)
            sf.write(root / track / "noisy" / f"clnsp{fileid}_amMeH4u6AO4_snr{snr_db}_tl-23_fileid_{fileid}.wav", noisy, rate)
    return root


def make_recordings(root, rate=48_000):
    """DNS 5's development test set: two tracks of noisy/ and enrol/, and no reference."""
    for number, track in enumerate(("Track1_Headset", "Track2_Speakerphone")):
        for folder, names in (("noisy", ("ms_headset_1", "ms_headset_2")), ("enrol", ("ms_enrol_1",))):
            (root / track / folder).mkdir(parents=True)
            for seed, name in enumerate(names):
                wave = 0.3 * speech_like(1.0, 5 * number + seed) + noise(1.0, seed)
                sf.write(root / track / folder / f"{name}.wav", audio.resample(wave, 16_000, rate), rate)
    return root


def run_dns_test(root, out, *flags):
    prepare.main(["dns-test", "--root", str(root), "--out", str(out), *flags])
    return manifest.read(out / "test.jsonl", reference=False)


@pytest.fixture
def dnsmos():
    pytest.importorskip("speechmos", reason="needs requirements-extras.txt")
    pytest.importorskip("onnxruntime", reason="needs requirements-extras.txt")


@pytest.fixture
def pairs(tmp_path):
    return make_pairs(tmp_path / "root")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """The data folder of four recordings."""
    root = tmp_path_factory.mktemp("recordings")
    run_dns_test(make_recordings(root / "V5_dev_testset"), root / "dns-real")
    return root / "dns-real"


def test_pairs_by_file_id(pairs, tmp_path):
    rows = run_dns_test(pairs, tmp_path / "out")
    assert [row.id for row in rows] == [f"{track}-fileid_{n}" for track in ("no_reverb", "with_reverb") for n in (0, 2, 10)]
    assert [(row.noise_type, row.snr_db) for row in rows[:3]] == [("no_reverb", 5), ("no_reverb", 18), ("no_reverb", -3)]
    for row in rows:
        noisy, clean = mixing.pair(row)
        assert 10 * np.log10(np.sum(clean**2) / np.sum((noisy - clean) ** 2)) == pytest.approx(row.snr_db, abs=0.1)
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["corpus.json", "test.jsonl"]


def test_pairs_of_one_folder_and_readers_in_names(pairs, tmp_path):
    noisy = pairs / "no_reverb" / "noisy"
    for path in noisy.iterdir():
        path.rename(noisy / f"book_02972_chp_0050_reader_02616_19_door_{path.stem.split('_', 1)[1]}.wav")
    rows = run_dns_test(pairs / "no_reverb", tmp_path / "out")
    assert [(row.id, row.speaker, row.noise_type) for row in rows] == [(f"fileid_{n}", "reader_02616", "unknown") for n in (0, 2, 10)]


def test_recordings_have_no_reference(recordings):
    rows = manifest.read(recordings / "test.jsonl", reference=False)
    assert [row.id for row in rows] == [f"{track}-ms_headset_{n}" for track in ("Track1_Headset", "Track2_Speakerphone") for n in (1, 2)]
    assert {(row.clean, row.speaker, row.snr_db) for row in rows} == {(None, "unknown", None)}
    noisy, clean = mixing.pair(rows[0])
    assert clean is None and len(noisy) == 16_000
    assert len(mixing.pair(manifest.crop(rows[0], 4_000, np.random.default_rng(0)))[0]) == 4_000
    counts = json.loads((recordings / "corpus.json").read_text())["counts"]
    assert counts.keys() == {"test"} and counts["test"]["utterances"] == 4
    assert [json.loads(line)["clean"] for line in (recordings / "test.jsonl").read_text().splitlines()] == [None] * 4


def test_recordings_can_be_written_for_listening(recordings, tmp_path):
    root = recordings.parent / "V5_dev_testset"
    run_dns_test(root, tmp_path / "out", "--write-wavs")
    assert {path.parent.name for path in (tmp_path / "out" / "wavs").rglob("*.wav")} == {"noisy"}


def test_a_recording_is_scored_by_what_needs_no_reference(dnsmos, recordings, tmp_path, monkeypatch):
    """DNSMOS of a noisy file, kept by its recipe, and of the same half as loud."""
    rows = manifest.read(recordings / "test.jsonl", reference=False)[:2]
    with scores.Scorer(["dnsmos_ovrl"], cache=tmp_path, workers=1) as scorer:
        first, second = scorer.score([scores.mixture_job(rows[0]), scores.wave_job(rows[0], 0.5 * mixing.pair(rows[0])[0])], progress=False)
        assert first["error"] is None and 1 <= first["dnsmos_ovrl"] <= 5 and first != second
        monkeypatch.setattr(scorer, "_begin", lambda job: pytest.fail("scored again"))
        assert scorer.score([scores.mixture_job(rows[0])], progress=False) == [first]
    assert scores.content(None, np.ones(3)) != scores.content(np.zeros(0), np.ones(3)) != scores.content(np.ones(3), np.ones(3))


def test_recordings_end_to_end(dnsmos, recordings, tmp_path, capsys):
    chosen = ["dnsmos_ovrl", "dnsmos_sig", "dnsmos_bak"]
    script.main(["--data", str(recordings), "--systems", "noisy", "blstm-hearing", "--metrics", *chosen, "--out", str(tmp_path / "report"),
                 "--workers", "1"])
    assert "Scored on" in (said := capsys.readouterr().out) and "recordings without a clean reference" in said
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert list(summary["averages"]) == chosen and summary["averages"]["dnsmos_ovrl"]["blstm-hearing"]["utterances"] == 4
    assert "4 utterances of 1 speakers" in (tmp_path / "report" / "table.md").read_text()
    assert {"spectrograms.png", "gain.png"} <= {path.name for path in (tmp_path / "report" / "figures").iterdir()}
    table = (tmp_path / "report" / "scores.csv").read_text().splitlines()
    assert len(table) == 9 and "unknown/Track1_Headset-ms_headset_1" in table[1]


@pytest.mark.parametrize("flags, message", [
    ([], "pesq_raw, pesq_nb, pesq_wb, stoi, estoi, si_sdr need a clean reference; .*dns-real has none; use --metrics dnsmos_ovrl "
         "dnsmos_sig dnsmos_bak dnsmos_p808"),
    (["--metrics", "pesq_raw", "dnsmos_ovrl"], "pesq_raw needs a clean reference; .*dns-real has none; use --metrics dnsmos_ovrl"),
    (["--metrics", "dnsmos_ovrl", "--quality-net", "quality-net-nr"], "quality-net-nr: judges are compared .*dns-real has none; leave"),
    (["--metrics", "dnsmos_ovrl", "--judges", "hearing_wb"], "hearing_wb: judges are compared with scores against a clean reference")])
def test_what_needs_a_reference_is_refused_before_any_work(dnsmos, recordings, tmp_path, capsys, flags, message):
    said = refused(capsys, script, "--data", recordings, "--out", tmp_path / "report", *flags)
    assert re.search(message, said), said
    assert not (tmp_path / "report").exists()


def test_nothing_is_trained_on_recordings(recordings, rows, tmp_path, capsys):
    for split in ("train", "valid"):
        shutil.copy(recordings / "test.jsonl", tmp_path / f"{split}.jsonl")
    lines = [json.loads(line) for line in (recordings / "test.jsonl").read_text().splitlines()]
    (tmp_path / "train.jsonl").write_text("\n".join(json.dumps(line | {"noisy": str(recordings / line["noisy"])}) for line in lines))
    assert "train.jsonl, line 1: Track1_Headset-ms_headset_1 has no clean reference; such recordings can be tested" in refused(
        capsys, train, "enhancer", "--data", tmp_path, "--out", tmp_path / "run")
    manifest.write(tmp_path / "mixture.jsonl", [dataclasses.replace(rows[0], clean=None)])
    with pytest.raises(UserError, match="mixture.jsonl, line 1: clean is None, expected a text"):  # a mixture cannot do without
        manifest.read(tmp_path / "mixture.jsonl", reference=False)


def test_some_rows_without_reference_are_counted(recordings, pairs, tmp_path, capsys):
    run_dns_test(pairs, tmp_path / "data")
    both = [*manifest.read(tmp_path / "data" / "test.jsonl"), *manifest.read(recordings / "test.jsonl", reference=False)]
    manifest.write(tmp_path / "data" / "test.jsonl", both)
    assert "si_sdr needs a clean reference; 4 of 10 rows of" in refused(capsys, script, "--data", tmp_path / "data", "--metrics", "si_sdr",
                                                                         "--out", tmp_path / "report")


def test_download_fetches_the_recordings(server, tmp_path):
    published = make_recordings(tmp_path / "published" / "V5_dev_testset")
    server.files["V5_dev_testset.zip"] = zipped(published, tmp_path / "V5_dev_testset.zip")
    rows = run_dns_test(tmp_path / "root", tmp_path / "out", "--download", "--base-url", server.url)
    assert rows[0].id == "V5_dev_testset-Track1_Headset-ms_headset_1"
    assert list(json.loads((tmp_path / "out" / "downloads.json").read_text())) == ["V5_dev_testset.zip"]
    run_dns_test(tmp_path / "root", tmp_path / "other", "--download", "--base-url", server.url)
    assert len(server.ranges) == 1
    with pytest.raises(UserError, match="V5_BlindTestSet.zip: the server answers 404"):
        run_dns_test(tmp_path / "root", tmp_path / "third", "--download", "--base-url", server.url, "--archives", "V5_BlindTestSet")


def spoil(kind, root):
    noisy, clean = root / "no_reverb" / "noisy", root / "no_reverb" / "clean"
    first = noisy / "clnsp0_amMeH4u6AO4_snr5_tl-23_fileid_0.wav"
    if kind == "missing":
        shutil.rmtree(root)
    elif kind == "no noisy":
        for track in ("no_reverb", "with_reverb"):
            shutil.rmtree(root / track / "noisy")
    elif kind == "empty":
        for path in noisy.iterdir():
            path.unlink()
    elif kind == "half with reference":
        shutil.rmtree(clean)
    elif kind == "unpaired noisy":
        for fileid in (0, 2):
            (clean / f"clean_fileid_{fileid}.wav").unlink()
    elif kind == "unpaired clean":
        first.unlink()
    elif kind == "other names":
        first.rename(noisy / "speech.wav")
    elif kind == "twice":
        shutil.copy(first, noisy / "other_fileid_0.wav")
    elif kind == "rates":
        sf.write(first, audio.resample(audio.read(first), 16_000, 8_000), 8_000)
    elif kind == "length":
        sf.write(first, audio.read(first)[:-400], 16_000)
    elif kind == "silent":
        sf.write(first, np.zeros(9_600), 16_000)


@pytest.mark.parametrize("kind, message", [
    ("missing", "root: no such folder; expected noisy/.*--download"),
    ("no noisy", r"1 of 1 noisy folders are missing or hold no audio files \(.*root/noisy\)"),
    ("empty", r"1 of 2 noisy folders are missing or hold no audio files \(.*no_reverb/noisy\)"),
    ("half with reference", "1 of 2 noisy folders have clean/ beside them, .*no_reverb/noisy has not; .* name the folder of one kind"),
    ("unpaired noisy", r"noisy: 2 of 3 files have no counterpart in .*clean \(clnsp0_.*fileid_0.wav, clnsp2_.*fileid_2.wav\)"),
    ("unpaired clean", r"clean: 1 of 3 files have no counterpart in .*noisy \(clean_fileid_0.wav\)"),
    ("other names", r"noisy: 1 of 3 files are not named \*_fileid_<n>.wav \(speech.wav\)"),
    ("twice", "have one file id, by which pairs are found"),
    ("rates", r"12 files of several sample rates: 1 at 8000 Hz .*, 11 at 16000 Hz"), ("length", "hold 9600 and 9200 samples"),
    ("silent", "fileid_0.wav: is digital silence")])
def test_what_is_no_test_set_is_told_before_anything_is_written(pairs, tmp_path, kind, message):
    spoil(kind, pairs)
    with pytest.raises(UserError, match=message):
        run_dns_test(pairs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_published_archives():
    assert dns_test.ARCHIVES == ("V5_dev_testset", "V5_BlindTestSet") and dns_test.URL.endswith("/dns5archive")
