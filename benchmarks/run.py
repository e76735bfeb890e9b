#!/usr/bin/env python
"""All benchmarks in one run, as one table."""

import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import measuring  # noqa: E402  (the path above lets the script run from anywhere)
from se_keras import cli  # noqa: E402
from se_keras.backend import available_cores  # noqa: E402
from se_keras.errors import UserError  # noqa: E402

DESCRIPTION = """Speed and memory, side by side with peers, as a Markdown table: about 40 minutes on a quiet machine.

  python benchmarks/run.py                          everything
  python benchmarks/run.py --only enhancing scores  some of it
  python benchmarks/run.py --quick                  does it all work? (its numbers are rough, and not kept)

Every case runs in a process of its own, on so many cores and without a GPU; contenders of a case take turns in it."""
TOPICS = ("training_steps", "hearing", "scores", "pipeline", "enhancing", "exported", "big_data", "cluster")
RESULTS = Path(__file__).resolve().parent / "results.json"


def main(argv=None):
    parser = cli.parser(DESCRIPTION)
    parser.add_argument("--only", nargs="+", choices=TOPICS, default=list(TOPICS), metavar="TOPIC", help=", ".join(TOPICS))
    parser.add_argument("--quick", action="store_true", help="few and short turns")
    parser.add_argument("--cores", type=cli.positive_int, default=2, help="cores of the networks; scores use all there are")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="JSON", help="where the numbers are kept, by topic")
    args = parser.parse_args(argv)
    if "training_steps" in args.only and importlib.util.find_spec("torch") is None:
        raise UserError("training_steps compares with PyTorch, which is not installed: "
                        "pip install -r benchmarks/requirements.txt, or name other topics with --only")
    cores = min(args.cores, available_cores())
    measured = describe(cores)
    if measured["load"] > 0.5:
        measuring.progress(f"the machine is not quiet (load {measured['load']:.1f}): numbers will be too low")

    rows, (former, machines) = [], before(args.results, args.only)
    for topic in args.only:
        found = importlib.import_module(f"benchmarks.{topic}").run(args.quick, cores)
        rows += [{**row, **former.get(row["what"], {})} for row in found]
        if not args.quick:
            keep(args.results, topic, measured, found)
    print(f"{measured['date']}, {measured['processor']}, {cores} cores; "
          + ", ".join(f"{name} {version}" for name, version in measured["versions"].items() if version) + "\n")
    print(measuring.table(rows))
    if machines:
        print(f"\nbefore: {'; '.join(machines)}")


def describe(cores):
    """What the numbers depend on."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.is_file() else None
    return {"date": time.strftime("%Y-%m-%d"), "processor": model[1] if model else platform.processor() or platform.machine(),
            "cores": cores, "load": os.getloadavg()[0],
            "versions": {name: _version(name) for name in ("tensorflow", "keras", "torch", "numpy", "pesq", "pystoi")}}


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def before(path, topics):
    """The former figures of topics, {what: {"before", "ratio before"}}, and when and where they were measured, as texts."""
    results = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    kept = [results[topic] for topic in topics if topic in results]
    figures = {row["what"]: {"before": row["ours"], "ratio before": row["ratio"]} for topic in kept for row in topic["rows"]}
    return figures, sorted({f"{topic['measured']['date']}, {topic['measured']['processor']}" for topic in kept})


def keep(path, topic, measured, rows):
    """Put a topic's rows in the file of results, in the place of its older ones."""
    results = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    results[topic] = {"measured": measured, "rows": rows}
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    cli.run(main)
