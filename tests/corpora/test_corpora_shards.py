"""Corpora in tar shards: the same rows and samples as from the unpacked files, splits by speaker, and every error in a line."""

import io
import json
import tarfile

import numpy as np
import pytest
from conftest import noise, prepare, speech_like

from se_keras.corpora import protocol
from se_keras.errors import UserError
from se_keras.mixtures import manifest
from se_keras.signals import audio, mixing, shards

SNRS = ["--snr-train", "0", "--snr-valid", "0", "--snr-test", "0"]


def write_tar(path, files):
    """A tar of {name: bytes, or JSON of an object}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            content = content if isinstance(content, bytes) else json.dumps(content).encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def packed(tree, tmp_path_factory):
    """The tiny tree in tars: S/<split>/0.tar with <speaker>/<name>.wav, N likewise."""
    root = tmp_path_factory.mktemp("packed")
    for kind in "SN":
        for split in manifest.SPLITS:
            folder = tree / kind / split
            write_tar(root / kind / split / "0.tar", {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.wav")})
    return root


def made(corpus, root, out, *flags):
    """`prepare.py` of a corpus with S/ and N/; the rows by split."""
    prepare.main([corpus, "--speech", str(root / "S"), "--noise", str(root / "N"), "--out", str(out), *SNRS, *flags])
    return {split: manifest.read(out / f"{split}.jsonl") for split in manifest.SPLITS}


def wav(seed, rate=16_000, of=speech_like):
    file = io.BytesIO()
    audio.sf.write(file, of(0.5, seed), rate, format="WAV")
    return file.getvalue()


@pytest.mark.parametrize("form", manifest.FORMS)
def test_shards_give_the_rows_and_samples_of_their_files(tree, packed, tmp_path, form):
    """Ids, draws, gains, fingerprint and every bit of the mixtures; the rows name members, and nothing is unpacked."""
    plain = made("folders", tree, tmp_path / "plain")
    rows = made("shards", packed, tmp_path / "out", "--format", form)
    assert json.loads((tmp_path / "out/corpus.json").read_text())["fingerprint"] == json.loads(
        (tmp_path / "plain/corpus.json").read_text())["fingerprint"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(["corpus.json", *(f"{s}.{form}" for s in manifest.SPLITS)])
    for split in manifest.SPLITS:
        assert [(row.id, row.speaker, row.noise_type, row.gain) for row in rows[split]] == [
            (row.id, row.speaker, row.noise_type, row.gain) for row in plain[split]]
        assert rows[split][0].clean.startswith(str(packed / "S" / split / "0.tar") + "/")
        for one, other in zip(rows[split], plain[split], strict=True):
            for a, b in zip(mixing.pair(one), mixing.pair(other), strict=True):
                assert a.tobytes() == b.tobytes()
    assert (packed / "S/train/.0.tar.index.json").is_file()


def test_json_and_names_say_who_speaks(tmp_path):
    """KEY.json before the folder; with --speaker-from name, KEY up to its first _ or -."""
    speech = {f"x/{speaker}-{number}": (wav(10 * speaker + number), {"speaker": 100 + speaker})
              for speaker in range(6) for number in range(2)}
    write_tar(tmp_path / "S/a.tar", {f"{key}.{suffix}": content for key, pair in speech.items()
                                     for suffix, content in zip(("wav", "json"), pair, strict=True)})
    write_tar(tmp_path / "N/a.tar", {f"hum/{seed}.wav": wav(seed, of=noise) for seed in range(4)})
    rows = made("shards", tmp_path, tmp_path / "json", "--held-out", "0.2")
    speakers = {split: {row.speaker for row in of} for split, of in rows.items()}
    assert {split: len(names) for split, names in speakers.items()} == {"train": 4, "valid": 1, "test": 1}  # a fifth of 6 each, rounded
    assert set.union(*speakers.values()) == {str(100 + speaker) for speaker in range(6)}
    assert {split: len({row.noise for row in of}) for split, of in rows.items()} == {"train": 2, "valid": 1, "test": 1}
    named = made("shards", tmp_path, tmp_path / "name", "--speaker-from", "name")
    assert {row.speaker for of in named.values() for row in of} == set("012345")


def test_another_rate_is_resampled_once_beside_the_manifest(packed, tmp_path):
    for split in manifest.SPLITS:
        tar = packed / "N" / split / "0.tar"
        write_tar(tmp_path / "N" / split / "0.tar", {name: shards.open_bytes(f"{tar}/{name}").read() for name in shards.members(tar)})
        write_tar(tmp_path / "S" / split / "0.tar", {f"{split}/u.wav": wav(len(split) + ord(split[1]), rate=8_000)})
    rows = made("shards", tmp_path, tmp_path / "out")
    assert rows["train"][0].clean == str(tmp_path / "out/wav16k/speech/train/train/u.wav") and rows["train"][0].samples == 16_000


def damaged(root, what):
    """A corpus of shards with one thing wrong, and the flags."""
    for split in manifest.SPLITS:
        write_tar(root / "S" / split / "0.tar", {f"{split}/u.wav": wav(ord(split[1]))})
        write_tar(root / "N" / split / "0.tar", {f"{split}_hum/n.wav": wav(ord(split[1]), of=noise)})
    tar = root / "S/train/0.tar"
    good = {"train/u.wav": wav(1)}
    if what == "no folder":
        (root / "S").rename(root / "T")
    elif what == "no tar":
        tar.unlink()
    elif what == "beside":
        write_tar(root / "S/x.tar", good)
    elif what == "compressed":
        (root / "S/train/1.tar.gz").write_bytes(b"\x1f\x8b rest")
    elif what == "compressed by another name":
        tar.write_bytes(b"\x1f\x8b rest")
    elif what == "cut":
        tar.write_bytes(tar.read_bytes()[:9000])
    elif what == "no end":
        content = tar.read_bytes()
        tar.write_bytes(content[:512 + -(-len(good["train/u.wav"]) // 512) * 512])
    elif what == "joined":
        tar.write_bytes(tar.read_bytes() * 2)
    elif what == "no tar at all":
        tar.write_bytes(b"text" * 500)
    elif what == "dots":
        write_tar(tar, {"train/../../u.wav": wav(1)})
    elif what == "absolute":
        write_tar(tar, {"/etc/u.wav": wav(1)})
    elif what in ("link", "device"):
        with tarfile.open(tar, "a") as file:
            member = tarfile.TarInfo("train/v.wav")
            member.type, member.linkname = (tarfile.SYMTYPE, "u.wav") if what == "link" else (tarfile.CHRTYPE, "")
            file.addfile(member)
    elif what == "twice":
        with tarfile.open(tar, "a") as file:
            member = tarfile.TarInfo("train/u.wav")
            file.addfile(member, io.BytesIO())
    elif what == "two of a key":
        write_tar(tar, good | {"train/u.flac": b"x"})
    elif what == "a dot in a key":
        write_tar(tar, good | {"train/dr.x_01.wav": wav(2)})
    elif what == "no audio":
        write_tar(tar, {"train/u.txt": b"x"})
    elif what == "no speaker":
        write_tar(tar, {"u.wav": wav(1)})
    elif what == "bad json":
        write_tar(tar, good | {"train/u.json": b"{"})
    elif what == "json elsewhere":
        write_tar(tar, good | {"train/u.json": {"speaker": "../../x"}})
    elif what == "bad audio":
        write_tar(tar, {"train/u.wav": b"RIFF"})
    elif what == "one speaker twice":
        write_tar(root / "S/test/0.tar", {"train/other.wav": wav(5)})
    return root


WRONG = {
    "no folder": "S: no such folder; expected .*/S/train.valid.test/..tar, or", "no tar": "S/train: holds no .tar; expected",
    "beside": "S/x.tar: lies beside the folders train, valid, test", "compressed": r"1.tar.gz: a compressed tar \(gzip\), in which nothing",
    "compressed by another name": r"0.tar: a compressed tar \(gzip\)",
    "cut": "0.tar: cut short in its member train/u.wav: 8,488 of 16,044 bytes",
    "no end": "0.tar: cut short after 1 members .its end mark is missing.", "joined": "0.tar: goes on after its end mark .1 members",
    "no tar at all": "0.tar: not a tar", "dots": "0.tar: its member .* has a \"..\" in its name", "absolute": "has an absolute name",
    "link": "'train/v.wav' is a link; expected plain files", "device": "'train/v.wav' is a device",
    "twice": "'train/u.wav' stands there twice",
    "two of a key": "u.wav and train/u.flac share the key train/u", "no audio": "holds no KEY.flac or KEY.wav among its 1 files",
    "a dot in a key": "train/dr.x_01.wav has a dot in its KEY, which ends at the first one",
    "no speaker": '0.tar/u: nothing says its speaker; expected "speaker" in u.json', "bad json": "u.json: no JSON object",
    "json elsewhere": "speaker is '../../x'; expected a name without /", "bad audio": "0.tar/train/u.wav: not a readable audio file",
    "one speaker twice": "the speaker train is in both train and test",
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_told(tmp_path, what):
    with pytest.raises(UserError, match=WRONG[what]) as caught:
        made("shards", damaged(tmp_path, what), tmp_path / "out")
    assert len(str(caught.value).splitlines()) == 1 and not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(("speakers", "each"), [(3, 1), (4, 1), (5, 2), (10, 4)])
def test_what_is_held_out_leaves_something_to_train_on(tmp_path, speakers, each):
    write_tar(tmp_path / "S/a.tar", {f"{speaker}/u.wav": wav(speaker) for speaker in range(speakers)})
    write_tar(tmp_path / "N/a.tar", {f"hum/{number}.wav": wav(9 + number, of=noise) for number in range(4)})
    rows = made("shards", tmp_path, tmp_path / "out", "--held-out", "0.4")
    count = {split: len({row.speaker for row in rows[split]}) for split in rows}
    assert count == {"train": speakers - 2 * each, "valid": each, "test": each}


def test_too_few_speakers_cannot_be_divided(tmp_path):
    write_tar(tmp_path / "S/a.tar", {f"{speaker}/u.wav": wav(speaker) for speaker in range(2)})
    write_tar(tmp_path / "N/a.tar", {"hum/n.wav": wav(9, of=noise)})
    with pytest.raises(UserError, match="S: 2 speakers cannot be divided among train, valid and test; expected three or more"):
        made("shards", tmp_path, tmp_path / "out")


def test_parquet_keeps_nothing_of_a_preparation_that_failed(tree, packed, tmp_path):
    """A speaker in two splits is found after the rows were written; what stood in the folder before still does."""
    made("shards", packed, tmp_path / "out", "--format", "parquet")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(UserError, match="the speaker train is in both train and test"):
        made("shards", damaged(tmp_path / "bad", "one speaker twice"), tmp_path / "out", "--format", "parquet", "--force")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_the_other_form_is_made_on_demand(packed, tmp_path, capsys):
    rows = made("shards", packed, tmp_path / "out", "--format", "parquet")
    made("shards", packed, tmp_path / "out")
    assert "is there already" in capsys.readouterr().out and not (tmp_path / "out/train.jsonl").exists()
    again = made("shards", packed, tmp_path / "out", "--format", "jsonl")
    assert isinstance(again["train"], list) and again["train"] == list(rows["train"]) and not (tmp_path / "out/train.parquet").exists()


def test_lazily_built_rows_are_those_of_a_list(tree, tmp_path):
    speech = {"train": [protocol.Speech(path.stem, path, "s") for path in sorted((tree / "S/train").rglob("*.wav"))]}
    noises = {"train": {"hum": sorted((tree / "N/train").rglob("*.wav"))}}
    lists, lazy = (protocol.build(speech, noises, tmp_path, protocol.Protocol(), lazily)["train"] for lazily in (False, True))
    assert isinstance(lists, list) and not isinstance(lazy, list) and list(lazy) == lists and list(lazy) == []
    assert np.isfinite([row.gain for row in lists]).all()


# --- Members and their index -----------------------------------------------------------------------------------------------------


@pytest.fixture
def tar(tmp_path):
    """A tar of two utterances, one in a folder."""
    return write_tar(tmp_path / "a.tar", {"u.wav": wav(1), "x/v.wav": wav(2)})


def test_a_member_is_the_file_that_it_was(tar, tmp_path):
    """Wave, header, hash; WAV, FLAC and NIST SPHERE, whose length stands in the header's text."""
    wave = speech_like(0.5, 3)
    for name, options in (("a.flac", {}), ("A.WAV", {"format": "NIST"}), ("b.wav", {"subtype": "FLOAT"})):
        path = tmp_path / name
        audio.sf.write(path, wave, 16_000, **options)
        packed = write_tar(tmp_path / f"{name}.tar", {f"./d/{name}": path.read_bytes()}) / "d" / name  # GNU tar writes ./ before names
        assert audio.read(packed).tobytes() == audio.read(path).tobytes() and audio.file_hash(packed) == audio.file_hash(path)
        assert audio.info(packed).frames == 8000
    with pytest.raises(UserError, match="truncated|not a readable audio file"):
        audio.read(write_tar(tmp_path / "cut.tar", {"b.wav": path.read_bytes()[:9000]}) / "b.wav")


def test_an_index_is_made_once_and_again_when_the_shard_changes(tar, monkeypatch):
    index, scans, scan = tar.with_name(".a.tar.index.json"), [], shards._scan
    monkeypatch.setattr(shards, "_scan", lambda *arguments: scans.append(1) or scan(*arguments))
    first = shards.members(tar)
    assert list(first) == ["u.wav", "x/v.wav"] and index.is_file()
    shards._members.cache_clear()  # as in another process
    assert shards.members(tar) == first and len(scans) == 1
    write_tar(tar, {"w.wav": wav(3)})
    assert list(shards.members(tar)) == ["w.wav"] and len(scans) == 2
    for damage in ("", "{", "[1]", '{"size": 1}', json.dumps({**json.loads(index.read_text()), "members": {"w.wav": [0, 1 << 40]}})):
        index.write_text(damage)
        shards._members.cache_clear()
        assert list(shards.members(tar)) == ["w.wav"]
    assert len(scans) == 7


def test_where_nothing_can_be_written_an_index_is_held(tar, monkeypatch):
    monkeypatch.setattr(shards.os, "access", lambda *_: False)
    assert len(shards.members(tar)) == 2 and not list(tar.parent.glob(".*"))
    monkeypatch.undo()
    shards._members.cache_clear()
    monkeypatch.setattr(shards.files, "write_text", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    assert len(shards.members(tar)) == 2


def test_what_is_not_there_is_told(tar, tmp_path):
    assert shards.is_file(tar / "u.wav") and shards.is_file(tar / "x/v.wav") and shards.is_file(tar)
    assert not any(map(shards.is_file, (tar / "no.wav", tar / "x", f"{tar}/", tmp_path / "no.tar/u.wav")))
    with pytest.raises(UserError, match="a.tar: holds no no.wav among its 2 members; was the shard made anew"):
        audio.read(tar / "no.wav")
    with pytest.raises(UserError, match="no.tar/u.wav: no such file"):
        audio.read(tmp_path / "no.tar/u.wav")
    row = manifest.Utterance("u", str(tar / "u.wav"), "s", "hum", 8000, 0.0, str(tar / "gone.wav"))
    manifest.write(tmp_path / "train.jsonl", [row])
    assert '"clean": "a.tar/u.wav"' in (tmp_path / "train.jsonl").read_text()
    with pytest.raises(UserError, match="train.jsonl, line 1: noise file .*a.tar/gone.wav does not exist"):
        manifest.read(tmp_path / "train.jsonl")


def test_a_folder_may_be_called_like_a_tar(tar, tmp_path):
    audio.write(tmp_path / "b.tar/u.wav", speech_like(0.5))
    assert len(audio.read(tmp_path / "b.tar/u.wav")) == 8000 and shards.split(tmp_path / "b.tar/u.wav") is None
    (tmp_path / "b.tar/A.TAR").write_bytes(tar.read_bytes())
    assert shards.split(tmp_path / "b.tar/A.TAR/x/v.wav") == (str(tmp_path / "b.tar/A.TAR"), "x/v.wav")
