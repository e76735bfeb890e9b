"""The campaign finds what it looks for: cases that fail are counted and listed; its full disk, its bad disk and its late clock are such."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

import campaign
import disks
import pytest
from ledger import Case, Outcome, Place, called, refused_well

from se_keras.errors import UserError


def test_what_fails_is_counted_and_listed_with_its_command(tmp_path, monkeypatch, capsys):
    def attempt(place):
        if place.draw.random() > 2:
            raise AssertionError
        return Outcome()

    def loses(place):
        outcome = Outcome()
        outcome.loses(3, "three are gone")
        return outcome

    def breaks(place):
        raise ZeroDivisionError("of all things")

    kinds = [("kills", attempt), ("kills", loses), ("inputs", breaks), ("inputs", lambda place: Outcome(skipped="too hot"))]
    monkeypatch.setattr(campaign, "chosen", lambda args: [Case(kind, number, "x", each) for number, (kind, each) in enumerate(kinds)])
    (tmp_path / "made.json").write_text("{}")
    assert campaign.main(["--world", str(tmp_path), "--seed", "5", "--out", str(tmp_path / "out.json")]) == 1
    said = capsys.readouterr().out
    assert "three are gone\n  python tests/faults/campaign.py --seed 5 --only kills/1" in said
    assert "ZeroDivisionError: of all things" in said
    assert "not tried: 1 of inputs: too hot" in said
    table = json.loads((tmp_path / "out.json").read_text())["table"]
    assert list(table) == ["kills", "inputs", "all"] and list(table["all"].values()) == [3, 2, 3, 0, 0]
    monkeypatch.setattr(campaign, "chosen", lambda args: [Case("kills", 0, "x", attempt)])
    assert campaign.main(["--world", str(tmp_path)]) == 0


def test_cases_are_as_many_as_asked_for_and_each_is_found_again():
    args = campaign.arguments(["--kills", "100", "--only", "kills", "disks/3", "inputs/400"])
    cases = campaign.chosen(args)
    assert [case.number for case in cases] == [*range(100), 3, 400]
    assert len({case.label for case in cases[:10]}) >= 9  # a slice, too, meets every command
    assert cases[0].draw(1).random() == cases[0].draw(1).random() != cases[1].draw(1).random()


def test_a_refusal_is_one_error_of_two_lines_at_most(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where a trace goes

    def refuses(message):
        def main():
            raise UserError(message)

        return called(main)

    assert refused_well(refuses("no")) and refused_well(refuses("no\nand why"))
    assert not refused_well(refuses("no\nand\nwhy")) and not refused_well(called(lambda: 0)) and not refused_well(called(lambda: 1 / 0))


WORK = """
import sys, time
print(int(time.time()))
open(sys.argv[1], 'rb').read()
for _ in range(3):
    with open(sys.argv[1], 'ab', buffering=0) as file:
        print(file.write(bytes(100)), flush=True)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux") or shutil.which("gcc") is None, reason="the shim needs Linux and gcc")
@pytest.mark.parametrize(("setting", "code"), [({"FAULT_BYTES": 150}, errno.ENOSPC), ({"FAULT_READS": 0}, errno.EIO),
                                               ({"FAULT_CLOCK": 86_400}, 0)], ids=["full", "unreadable", "late"])
def test_the_shim(setting, code, tmp_path):
    place = Place(tmp_path, tmp_path, None)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "file").write_bytes(b"x")
    variables, counts = disks.environment(place, [tmp_path / "below"], **setting)
    done = subprocess.run([sys.executable, "-c", WORK, tmp_path / "below" / "file"], text=True, capture_output=True,
                          env={**os.environ, **variables})
    assert (os.strerror(code) in done.stderr) if code else (done.returncode == 0), done.stderr
    if "FAULT_BYTES" in setting:
        assert done.stdout.split()[1:] == ["100", "50"] and counts()[0] == 300  # the second is cut, as on a disk
    if "FAULT_CLOCK" in setting:
        assert abs(time.time() - int(done.stdout.split()[0]) - 86_400) < 60
