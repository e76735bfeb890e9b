"""Manifests in Parquet: the rows of JSON lines, read as they are asked for; an order that nobody holds; what is damaged is told."""

import builtins
import dataclasses
import itertools
import json
import threading
import tracemalloc

import numpy as np
import pytest
from conftest import speech_like

from se_keras.corpora import contents
from se_keras.errors import UserError
from se_keras.mixtures import manifest, parquet
from se_keras.mixtures.augment import noise_files
from se_keras.mixtures.feed import Feed
from se_keras.mixtures.permutation import permuted
from se_keras.scoring import evaluation
from se_keras.signals import audio
from se_keras.signals.stft import Stft

pa = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402

MANY = 20_000
CONFIG = Stft(64, 32)  # 33 bins: small arrays


def made(folder, count):
    """Rows of a big corpus, whose files are three: lengths, SNRs (some absent), noise types, offsets and gains of all kinds."""
    rng = np.random.default_rng(0)
    for number in range(count):
        yield manifest.Utterance(f"u{number}", str(folder / f"c{number % 3}.wav"), f"s{number // 50}", f"type{number % 4}",
                                 int(4000 + 400 * (number % 3)), None if number % 11 == 0 else float(number % 5),
                                 str(folder / "n.wav"), int(rng.integers(1 << 39)), float(rng.lognormal(sigma=5)))


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """(folder, rows as a list, the same as `ParquetRows`), 20,000 of them in row groups of 2,048; the folder holds the three files."""
    folder = tmp_path_factory.mktemp("big")
    for number in range(3):
        audio.write(folder / f"c{number}.wav", speech_like((4000 + 400 * number) / 16_000, number))
    audio.write(folder / "n.wav", speech_like(0.3, 9))
    rows = list(made(folder, MANY))
    manifest.write(folder / "train.parquet", iter(rows))
    return folder, rows, manifest.read(folder / "train.jsonl")  # named as the scripts do


def rewritten(path, change):
    """The table of a Parquet file, changed by hand, in its place; the mark of its origin stays."""
    kept = {name: value for name, value in pq.read_metadata(path).metadata.items() if name != b"ARROW:schema"}
    pq.write_table(change(pq.read_table(path)).replace_schema_metadata(kept), path)
    return path


# --- Rows ------------------------------------------------------------------------------------------------------------------------


def test_rows_come_back_exactly(big):
    folder, rows, read = big
    assert isinstance(read, manifest.ParquetRows) and len(read) == MANY and list(read) == rows
    for number in (0, 1, 2047, 2048, 9_999, MANY - 1, -1, -MANY):
        assert read[number] == rows[number]
    assert read[np.int64(77)] == rows[77] and read[2040:2060:3] == rows[2040:2060:3] and read[5:5] == []
    for number in (MANY, -MANY - 1):
        with pytest.raises(IndexError):
            read[number]


def test_both_forms_hold_the_same_rows(big, tmp_path):
    """JSON lines, Parquet, and each made from the other as a stream; relative paths, recordings, pieces."""
    folder, rows, _ = big
    pair = dataclasses.replace(rows[1], id="pair", noise=None, offset=0, gain=1.0, noisy=str(folder / "c2.wav"))
    some = [*rows[:50], pair, dataclasses.replace(pair, id="recording", clean=None),
            dataclasses.replace(rows[2], id="cut", start=9, length=70)]
    for form in manifest.FORMS:
        manifest.write(folder / f"some.{form}", some)
    for form, other in itertools.permutations(manifest.FORMS):
        manifest.write(folder / f"again.{other}", manifest.stream(folder / f"some.{form}"))
        assert list(manifest.read(folder / f"again.{other}", reference=False)) == some
        (folder / f"again.{other}").unlink()
    assert pq.read_table(folder / "some.parquet")["clean"][0].as_py() == "c0.wav"
    assert parquet.ParquetRows(folder / "some.parquet", reference=False).used_samples().tolist() == [row.used_samples for row in some]
    assert {path.name for path in folder.iterdir() if "again" in path.name} == set()
    for form in manifest.FORMS:
        (folder / f"some.{form}").unlink()


def test_columns_say_what_rows_do(big):
    _, rows, read = big
    for name in ("clean", "noise", "speaker", "noise_type", "noisy"):
        assert manifest.distinct(read, name) == manifest.distinct(rows, name)
    assert noise_files(read) == noise_files(rows) and manifest.seconds(read) == manifest.seconds(rows)
    assert contents.counts(read) == contents.counts(rows)
    lengths = read.used_samples()
    assert lengths.dtype == np.int32 and lengths.tolist() == [row.used_samples for row in rows]
    manifest.check_splits({"train": read, "valid": [dataclasses.replace(rows[0], speaker="v", clean="v.wav", noise="v.wav")]})
    with pytest.raises(UserError, match="the speaker s7 is in both train and valid"):
        manifest.check_splits({"train": read, "valid": [dataclasses.replace(rows[0], speaker="s7")]})


@pytest.mark.parametrize("limit", [1, 37, 500])
def test_a_subset_is_that_of_the_list(big, limit):
    assert evaluation.subset(big[2], limit) == evaluation.subset(big[1], limit)


def test_a_subset_without_limit_holds_nothing(big):
    assert evaluation.subset(big[2], None) is big[2] and evaluation.subset(big[2], MANY) is big[2]


def test_the_fingerprint_passes_with_the_rows(big):
    folder, rows, _ = big
    passing = contents.Fingerprint()
    manifest.write(folder / "passed.parquet", passing.over("train", made(folder, 3000)))
    assert passing.hex() == contents.fingerprint({"train": rows[:3000]}) == contents.fingerprint(
        {"train": manifest.read(folder / "passed.parquet")})
    (folder / "passed.parquet").unlink()
    assert passing.hex() != contents.fingerprint({"train": rows[1:3001]})


def test_writing_and_reading_hold_few_rows(big, monkeypatch):
    """What Python counts grows with a row group, and not with the rows: of 1,000 and of 5,000 it is the same."""
    monkeypatch.setattr(parquet, "GROUP", 250)
    peaks = []
    for count in (1000, 5000):
        tracemalloc.start()
        manifest.write(big[0] / "stream.parquet", made(big[0], count))
        read = manifest.read(big[0] / "stream.parquet")
        assert sum(1 for _ in read) == count and read[count - 1].id == f"u{count - 1}"
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    (big[0] / "stream.parquet").unlink()
    assert peaks[1] < peaks[0] + 0.3e6 and peaks[0] < 3e6


def test_threads_read_at_a_time(big):
    _, rows, read = big
    wrong = []

    def some(seed):
        for number in np.random.default_rng(seed).integers(MANY, size=40):
            if read[number] != rows[number]:
                wrong.append(number)

    threads = [threading.Thread(target=some, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- The order -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 17, 1000, 4097])
def test_a_permutation_is_one(size):
    for key in ((0,), (3, 1), (3, 2)):
        assert sorted(permuted(size, np.arange(size), *key)) == list(range(size))


def test_a_permutation_is_a_pure_function_of_its_key():
    """These values stand for all that were trained on: another function would be another order of old runs."""
    assert permuted(10, np.arange(10), 0, 0).tolist() == [9, 5, 8, 7, 6, 4, 0, 2, 3, 1]
    assert permuted(10_000_000, [0, 1, 9_999_999], 0, 0).tolist() == [7_721_910, 1_125_091, 105_062]
    assert permuted(10_000_000, 1, 0, 0) == 1_125_091 and permuted(10_000_000, 1, 0, 1) != 1_125_091


def test_a_permutation_looks_drawn_at_random():
    """Of 100,000 numbers in random order, neighbours follow each other up or down about twice, and place and number do not go together."""
    order = permuted(100_000, np.arange(100_000), 5, 3)
    assert (np.abs(np.diff(order)) == 1).sum() < 12 and abs(np.corrcoef(order, np.arange(100_000))[0, 1]) < 0.015


def test_every_row_once_an_epoch_in_another_order_and_bucketed(big):
    _, rows, read = big
    given = Feed(read, 128, CONFIG)
    assert given.batches_per_epoch == 157
    epochs = [given.order(epoch) for epoch in range(2)]
    assert all(sorted(np.concatenate(epoch).tolist()) == list(range(MANY)) for epoch in epochs)
    assert sorted({len(batch) for batch in epochs[0]}) == [32, 128]
    assert not np.array_equal(np.concatenate(epochs[0]), np.concatenate(epochs[1]))
    lengths = read.used_samples()
    assert np.mean([len(set(lengths[batch])) for batch in epochs[0]]) < 1.2  # of three lengths, random batches hold all three
    assert len({number // 50 for number in epochs[0][0]}) > 90  # speakers of 400, from everywhere
    assert [batch.tolist() for batch in epochs[1]][:3] == [given.indices(157 + within).tolist() for within in range(3)]


def test_the_last_batch_of_an_epoch_holds_what_is_left(big):
    folder = big[0]
    manifest.write(folder / "few.parquet", made(folder, 103))
    given = Feed(manifest.read(folder / "few.parquet"), 4, CONFIG, seed=2)
    order = given.order(0)
    (folder / "few.parquet").unlink()
    assert given.batches_per_epoch == 26 and sorted(np.concatenate(order).tolist()) == list(range(103))
    assert sorted(map(len, order)) == [3] + [4] * 25


def test_training_goes_on_with_the_same_batches(big):
    """Batch k from a feed that has made all before it, from a new one that begins there, and through tf.data."""
    folder, rows, read = big
    sounding = [dataclasses.replace(row, gain=0.5, offset=17) for row in rows[:64]]
    manifest.write(folder / "sounding.parquet", sounding)
    whole, later = (Feed(manifest.read(folder / "sounding.parquet"), 8, CONFIG, seed=4, crop_s=0.2) for _ in range(2))
    expected = list(whole.numpy_batches(0, 10))  # over an epoch of 8
    for start in (7, 9):
        for got in (later.numpy_batches(start, 10), later.batches(start, 10)):
            for one, other in zip(got, expected[start:], strict=True):
                assert all(np.array_equal(one[name], other[name]) for name in other)
    (folder / "sounding.parquet").unlink()


# --- What is wrong ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(big, tmp_path):
    """A Parquet manifest of 100 rows of its own."""
    folder, rows, _ = big
    manifest.write(tmp_path / "train.parquet", rows[:100])
    return tmp_path / "train.parquet"


def test_a_file_that_is_cut_short_is_told(small):
    content = small.read_bytes()
    for cut in (0, 3, 1000, len(content) - 1):
        small.write_bytes(content[:cut])
        with pytest.raises(UserError, match="train.parquet: cut short, or no Parquet file at all .*; run data/prepare.py again"):
            manifest.read(small)


def test_damage_within_a_file_is_told_with_the_rows_that_it_meets(small):
    content = bytearray(small.read_bytes())
    content[60:80] = b"x" * 20  # of the ids
    small.write_bytes(content)
    read = manifest.read(small)  # the footer is whole
    for look in (lambda: read[50], lambda: list(read), lambda: read.distinct("id")):
        with pytest.raises(UserError, match="train.parquet: damaged or cut short .*; run data/prepare.py again"):
            look()


CHANGES = {
    "columns": (lambda table: table.drop_columns(["speaker"]).rename_columns({"gain": "level"}),
                r"its columns are no manifest's \(missing: speaker, gain; unknown: level\); expected id, clean"),
    "types": (lambda table: table.set_column(4, "samples", table["samples"].cast(pa.string())), "was not written by data/prepare.py"),
    "rows": (lambda table: table.slice(0, 50), "was not written by data/prepare.py, so its rows are unchecked; write it anew"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_file_from_elsewhere_is_told(small, case):
    change, message = CHANGES[case]
    with pytest.raises(UserError, match=f"train.parquet: {message}"):
        manifest.read(rewritten(small, change))


def test_a_file_from_elsewhere_is_written_anew_row_by_row(small, tmp_path):
    expected = manifest.read(small)[:50]
    manifest.write(tmp_path / "new.parquet", manifest.stream(rewritten(small, lambda table: table.slice(0, 50))))
    assert list(manifest.read(tmp_path / "new.parquet")) == expected
    rewritten(small, lambda table: table.set_column(4, "samples", pa.array([-3] * len(table))))
    with pytest.raises(UserError, match="train.parquet, row 0: samples is -3, expected a whole number above 0"):
        manifest.write(tmp_path / "worse.parquet", manifest.stream(small))
    assert not (tmp_path / "worse.parquet").exists()


def test_a_value_changed_by_hand_is_told_when_its_row_is_asked_for(small):
    gains = pa.array([1.0] * 60 + [float("nan")] * 40)
    read = manifest.read(rewritten(small, lambda table: table.set_column(8, "gain", gains)))
    assert read[59].gain == 1
    with pytest.raises(UserError, match="train.parquet, row 60: gain is nan, expected a finite number from 0"):
        read[60]


def test_a_doubled_id_is_told_with_both_rows(big, tmp_path):
    rows = big[1][:5000]
    with pytest.raises(UserError, match="train.parquet: the id 'u7' stands in rows 7 and 4,001; ids must be unique"):
        manifest.write(tmp_path / "train.parquet", (dataclasses.replace(row, id="u7") if row.id == "u4001" else row for row in rows))
    assert list(tmp_path.iterdir()) == []


def test_two_ids_of_one_hash_are_two_ids(big, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "hash", lambda name: 5, raising=False)
    manifest.write(tmp_path / "train.parquet", big[1][:300])
    assert len(manifest.read(tmp_path / "train.parquet")) == 300


def test_values_that_no_row_may_hold_are_told(big, tmp_path):
    with pytest.raises(UserError, match="of the 2 rows from 'u0' on, one holds what none may"):
        manifest.write(tmp_path / "train.parquet", [big[1][0], dataclasses.replace(big[1][1], samples="many")])
    with pytest.raises(UserError, match="row 1: is 3,000,000,000 samples long; expected less than 2,147,483,648 .37 hours."):
        manifest.write(tmp_path / "train.parquet", [big[1][0], dataclasses.replace(big[1][1], samples=3_000_000_000)])
        manifest.read(tmp_path / "train.parquet").used_samples()


def test_no_rows_and_no_reference_are_told(big, tmp_path):
    manifest.write(tmp_path / "train.parquet", [])
    with pytest.raises(UserError, match="train.parquet: holds no rows; run data/prepare.py again"):
        manifest.read(tmp_path / "train.parquet")
    recording = dataclasses.replace(big[1][1], noise=None, offset=0, gain=1.0, noisy=big[1][1].clean, clean=None)
    manifest.write(tmp_path / "test.parquet", [recording])
    assert list(manifest.read(tmp_path / "test.jsonl", reference=False)) == [recording]
    with pytest.raises(UserError, match="1 of 1 rows have no clean reference; such recordings can be tested .test.py., but"):
        manifest.read(tmp_path / "test.jsonl")


def test_both_forms_side_by_side_are_told(small):
    small.with_suffix(".jsonl").write_text("{}")
    with pytest.raises(UserError, match="train.jsonl: train.parquet lies beside it, and only one can be the manifest; delete the other"):
        manifest.read(small.with_suffix(".jsonl"))


def test_without_pyarrow_json_lines_work_and_parquet_is_told(small, tree, tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **more):
        if name.split(".")[0] == "pyarrow":
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match="train.parquet: Parquet takes pyarrow, which is not installed: pip install -r requirements-extras"):
        manifest.read(small.with_suffix(".jsonl"))
    from conftest import prepare

    flags = ["folders", "--speech", str(tree / "S"), "--noise", str(tree / "N"), "--snr-train", "0"]
    with pytest.raises(UserError, match="Parquet takes pyarrow"):
        prepare.main([*flags, "--out", str(tmp_path / "out"), "--format", "parquet"])
    assert not (tmp_path / "out").exists()
    prepare.main([*flags, "--out", str(tmp_path / "out")])
    assert json.loads((tmp_path / "out/corpus.json").read_text())["counts"]["train"]["rows"] == len(
        manifest.read(tmp_path / "out/train.jsonl"))


def test_the_benchmark_measures_what_it_says(tmp_path, monkeypatch):
    """benchmarks/big_data.py on 600 rows of a few files, without a network."""
    from benchmarks import big_data

    monkeypatch.setattr(big_data, "NOISES", 2)
    big_data.make_audio(tmp_path, 3)
    for packed in (False, True):
        for what, names in (("prepare", 2), ("open", 3), ("resume", 3)):
            records = list(big_data.child(what, str(tmp_path), 600, "parquet", packed))
            assert len(records) == names and all(record["value"] > 0 for record in records)
    rows = [manifest.read(big_data.place(tmp_path, 600, "parquet", packed) / "train.jsonl") for packed in (False, True)]
    assert rows[0][77].id == rows[1][77].id == "u0000001_noise5_0dB" and "shards/speech-000.tar/" in rows[1][77].clean
