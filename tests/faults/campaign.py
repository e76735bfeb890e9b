"""Faults by the hundred, seeded: kills, full disks, read errors, rivals, clocks, damaged databases, malformed inputs, hostile files.

    make faults                                              the whole campaign, a quarter of an hour on two quiet cores
    python tests/faults/campaign.py --kills 5 --inputs 30    a slice of it
    python tests/faults/campaign.py --only kills inputs/17   kinds, or single cases of them, again

One table at the end: what was tried, what survived, finished work lost, stack traces, results that are silently wrong. The aim is
everything survived, 0, 0, 0; where it is missed the exit code is 1, and each such case is listed with the command that repeats it.
"""

import argparse
import collections
import concurrent.futures
import concurrent.futures.process
import dataclasses
import importlib
import json
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from ledger import Outcome, Place, run
from tabulate import tabulate
from tqdm import tqdm

KINDS = {"kills": 100, "disks": 20, "reads": 10, "rivals": 6, "clocks": 4, "databases": 10, "inputs": 300, "properties": None,
         "strangers": None}  # how many
HOMES = {"reads": "disks", "clocks": "disks"}  # modules that have another name than their kind
COLUMNS = ("tried", "survived", "finished work lost", "stack traces", "silently wrong")


def arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of every draw (default 0)")
    for kind, count in KINDS.items():
        if count is not None:
            parser.add_argument(f"--{kind}", type=int, default=count, metavar="N", help=f"how many of this kind (default {count})")
    parser.add_argument("--only", nargs="+", metavar="KIND[/NUMBER]", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--world", type=Path, metavar="DIR", help="where the small corpus and its runs are made, and found again the next "
                        "time; where not given, a temporary folder")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="N", help="cases at a time (default: one a core)")
    parser.add_argument("--out", type=Path, metavar="JSON", help="every case and what came of it")
    args = parser.parse_args(argv)
    if unknown := [each for each in args.only or () if not re.fullmatch(rf"({'|'.join(KINDS)})(/\d+)?", each)]:
        parser.error(f"--only {unknown[0]}: expected {', '.join(KINDS)}, or one case such as kills/17")
    return args


def chosen(args):
    """The cases that the command line asks for, in order."""
    asked = args.only or list(KINDS)
    found = []
    for kind in dict.fromkeys(each.split("/")[0] for each in asked):
        numbers = set() if kind in asked else {int(each.split("/")[1]) for each in asked if each.startswith(f"{kind}/")}
        count = getattr(args, kind, None)
        if numbers and count is not None:
            count = max(count, *(number + 1 for number in numbers))
        module = importlib.import_module(HOMES.get(kind, kind))
        found += [case for case in module.cases(kind, count) if not numbers or case.number in numbers]
    return found


def attempt(case, world, seed):
    """One case in a folder of its own, which goes with it; what the case itself did not foresee is no survival."""
    with tempfile.TemporaryDirectory(prefix="se_keras-fault-") as folder:
        began, tempfile.tempdir = time.monotonic(), folder
        try:
            outcome = case.attempt(Place(world, Path(folder), case.draw(seed)))
        except Exception as error:  # of the campaign, or of the project where no command stands around it
            outcome = Outcome()
            outcome.fails(f"{type(error).__name__}: {error}")
        finally:
            tempfile.tempdir = None
        return outcome, time.monotonic() - began


cases = []  # of this campaign: a process that is forked has them too


def _attempt_of(number, *of):
    return attempt(cases[number], *of)


def table(results):
    """A line a kind, and the sum: {kind: {column: number}}."""
    lines = collections.defaultdict(lambda: dict.fromkeys(COLUMNS, 0))
    for case, outcome, _ in results:
        if outcome.skipped:
            continue
        for kind in (case.kind, "all"):
            for column, value in zip(COLUMNS, (1, outcome.survived, outcome.lost, outcome.traces, outcome.wrong), strict=True):
                lines[kind][column] += int(value)
    lines["all"] = lines.pop("all", dict.fromkeys(COLUMNS, 0))  # the sum comes last
    return dict(lines)


def main(argv=None):
    args = arguments(argv)
    world = args.world or Path(tempfile.mkdtemp(prefix="se_keras-world-"))
    began, results, interrupted = time.monotonic(), [], False
    try:
        if not (world / "made.json").is_file():
            print(f"making the small corpus and its runs in {world}", flush=True)
            if (done := run("tests/faults/world.py", [world.resolve()], world.parent / f"{world.name}-log")).code != 0:
                sys.exit(f"the small corpus cannot be made: {done.said[-2000:]}")
        cases[:] = chosen(args)
        if not cases:
            sys.exit(f"--only {' '.join(args.only)}: no such case")
        forking = multiprocessing.get_context("fork")  # cases are functions of all kinds: they are inherited, not sent
        with (concurrent.futures.ProcessPoolExecutor(args.jobs, forking) as pool,
              tqdm(total=len(cases), unit="fault", dynamic_ncols=True, miniters=1, mininterval=0.5) as bar):
            pending = {pool.submit(_attempt_of, number, world.resolve(), args.seed): case for number, case in enumerate(cases)}
            try:
                for each in concurrent.futures.as_completed(pending):
                    case = pending[each]
                    bar.set_description(f"{case.kind}/{case.number} {case.label}"[:44])
                    bar.update()
                    results.append((case, *each.result()))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    except KeyboardInterrupt:
        interrupted = True
        print("\ninterrupted: the table is of what was tried until here")
    except concurrent.futures.process.BrokenProcessPool:
        interrupted = True
        print("\na process of the campaign was killed, by too little memory perhaps: the table is of what was tried until here")
    finally:
        if args.world is None:
            shutil.rmtree(world, ignore_errors=True)
        shutil.rmtree(world.parent / f"{world.name}-log", ignore_errors=True)

    results.sort(key=lambda result: cases.index(result[0]))
    counts = table(results)
    missed = [(case, outcome) for case, outcome, _ in results if not outcome.passed]
    skipped = collections.Counter((case.kind, outcome.skipped) for case, outcome, _ in results if outcome.skipped)
    print("\n" + tabulate([[kind, *line.values()] for kind, line in counts.items()], ("faults", *COLUMNS)))
    print(f"seed {args.seed}, {time.monotonic() - began:.0f} s, {os.cpu_count()} cores")
    for (kind, why), count in skipped.items():
        print(f"not tried: {count} of {kind}: {why}")
    for case, outcome in missed:
        print(f"\n{case.kind}/{case.number} {case.label}: {'; '.join(outcome.notes)}\n  python tests/faults/campaign.py --seed {args.seed} "
              f"--only {case.kind}/{case.number}")
    if args.out:
        args.out.write_text(json.dumps({"seed": args.seed, "table": counts, "cases": [
            {"kind": case.kind, "number": case.number, "label": case.label, "seconds": round(seconds, 2), **dataclasses.asdict(outcome)}
            for case, outcome, seconds in results]}, indent=1) + "\n", encoding="utf-8")
    return 130 if interrupted else 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
