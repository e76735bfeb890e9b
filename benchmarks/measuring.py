"""What the benchmarks share: a process of its own for every case, turns that alternate, the rows of the table."""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tabulate import tabulate

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = ("what", "unit", "ours", "peer", "ratio", "stock Keras", "aim", "remark")
SHOWN = ("what", "unit", "ours", "before", "peer", "ratio", "ratio before", "stock Keras", "aim", "remark")  # with former figures


def spawn(module, cores, **arguments):
    """Run `module.child(**arguments)`, a generator of dicts, in a process of its own.

    It may use `cores` cores and no GPU, whatever library it measures. What it allocates is its own, and a crash in a library
    ends it alone: oneDNN's bfloat16 products, for one, end in a segmentation fault on virtual machines that announce AMX and
    hide what AMX needs.

    Returns:
        (records, failure): what it yielded before it ended, and None or, in words, why it did not end well.
    """
    count = str(cores)
    environment = {**os.environ, "OMP_NUM_THREADS": count, "TF_NUM_INTRAOP_THREADS": count, "TF_NUM_INTEROP_THREADS": count,
                   "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run([sys.executable, "-m", "benchmarks.child", module, count, json.dumps(arguments)], cwd=ROOT,
                          env=environment, capture_output=True, text=True)
    records = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode == 0:
        return records, None
    if done.returncode < 0:
        return records, f"crashed ({signal.Signals(-done.returncode).name})"
    return records, f"failed ({(done.stderr.strip().splitlines() or ['no message'])[-1]})"


def alternate(turns, rounds):
    """Let contenders take turns, A B C A B C, so that whatever else the machine does meets all of them.

    Args:
        turns: {name: () -> (utterances done, seconds taken)}.
        rounds: turns of each.

    Yields:
        {"contender": name, "rate": utterances a second}, one a turn.
    """
    for _ in range(rounds):
        for name, turn in turns.items():
            done, seconds = turn()
            yield {"contender": name, "rate": done / seconds}


def repeat(step, utterances, seconds):
    """A turn for `alternate`: step(), of so many utterances, again and again for `seconds`, and at least twice."""
    began, done = time.perf_counter(), 0
    while done < 2 or time.perf_counter() - began < seconds:
        step()
        done += 1
    return done * utterances, time.perf_counter() - began


def rates(records):
    """{contender: (median rate over its turns, largest minus smallest over the median)}."""
    found = {}
    for record in records:
        if "rate" in record:
            found.setdefault(record["contender"], []).append(record["rate"])
    return {name: (statistics.median(values), (max(values) - min(values)) / statistics.median(values))
            for name, values in found.items()}


def row(what, unit, ours=None, peer=None, stock=None, aim="", remark=""):
    """A row of the table.

    Args:
        what: what is measured.
        unit: of ours, peer and stock.
        ours: this project's number; None where there is none, which `remark` then explains.
        peer: the number of what it is compared with, which `remark` names; None for nothing.
        stock: the same network with nothing but Keras's own layers, where that is another network.
        aim: what the number should be.
        remark: names the peer, says what went wrong.
    """
    ratio = ours / peer if ours is not None and peer else None
    return dict(zip(COLUMNS, (what, unit, *map(_rounded, (ours, peer, ratio, stock)), aim, remark), strict=True))


def _rounded(value):
    """Three significant digits: more than the machine's noise leaves true."""
    return None if value is None else float(f"{value:.3g}")


def table(rows):
    """The rows as a Markdown table that also reads well on a terminal; columns that are empty throughout are left out.

    Args:
        rows: of `row`; "before" and "ratio before" beside its columns where there are former figures.
    """
    columns = [name for name in SHOWN if any(entry.get(name) not in (None, "") for entry in rows)]
    cells = [["" if entry.get(name) is None else f"{entry[name]:g}" if isinstance(entry[name], float) else entry[name]
              for name in columns] for entry in rows]
    align = ["left" if name in ("what", "unit", "aim", "remark") else "right" for name in columns]
    return tabulate(cells, headers=columns, tablefmt="github", colalign=align, disable_numparse=True)


def progress(text):
    """Say on the error stream what is measured now: the table has standard output to itself."""
    print(text, file=sys.stderr, flush=True)
