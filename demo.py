#!/usr/bin/env python
"""The whole job on a generated corpus, by the commands that a user would type; `make demo` runs it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from se_keras import cli, files

DESCRIPTION = """The whole job on a generated corpus, from nothing, in 4 to 7 minutes on two cores: prepare, train, fine-tune, test.

Every step is a command, printed before it runs. Run again, what is there is used and what was interrupted goes on.
The settings stand in configs/demo.toml."""
ROOT = Path(__file__).resolve().parent
STOI_DROP = 0.005  # of the fine-tuned enhancer below the MSE one, at most


def main(argv=None):
    parser = cli.parser(DESCRIPTION)
    parser.add_argument("--data", default="data/demo", metavar="DIR", help="where the corpus goes")
    parser.add_argument("--out", default="runs/demo", metavar="DIR", help="where the runs and the report go")
    args = parser.parse_args(argv)
    files.check_writable(args.out, need_mb=500)
    began, took = time.monotonic(), {}
    stages = plan(args.data, Path(args.out))
    for number, (title, *command) in enumerate(stages, start=1):
        print(f"\n[{number}/{len(stages)}] {title}\n$ python {' '.join(command)}", flush=True)
        started = time.monotonic()
        if code := run(command):
            print(f"\ndemo.py stopped at step {number} of {len(stages)}; run it again and it goes on from there", file=sys.stderr)
            return code
        took[title] = time.monotonic() - started

    report = Path(stages[-1][-1])
    print("\n" + verdict(json.loads((report / "summary.json").read_text(encoding="utf-8"))))
    print("\n" + "\n".join(f"{seconds:6.0f} s  {title}" for title, seconds in took.items()))
    print(f"{time.monotonic() - began:6.0f} s  in all\n\nreport: {report} (table.md, leaderboard.md, scores.csv, summary.json, figures/)\n"
          f"open {report / 'index.html'} in a browser: tables, charts, and every system to listen to")
    return 0


def plan(data, out):
    """The steps: a list of (title, script, argument ...). The last argument of the last step is the report folder."""
    mse, quality_net, tuned, report = (out / name for name in ("blstm-mse", "quality-net", "blstm-qnet", "report"))
    stages = [
        ("generate speech and noise, and mix", "data/prepare.py", "demo", "--out", data),
        ("train the enhancer with MSE", "train.py", "enhancer", "--preset", "demo", "--data", data, "--out", mse),
        ("score it on the validation mixtures", "test.py", "--data", data, "--split", "valid", "--systems", "noisy", mse,
         "--out", out / "validation"),
        ("train Quality-Net, which hears through a model of the ear", "train.py", "quality-net", "--preset", "demo", "--data", data,
         "--enhancer", mse, "--out", quality_net),
        ("fine-tune the enhancer through Quality-Net", "finetune.py", "--preset", "demo", "--data", data, "--enhancer", mse,
         "--quality-net", quality_net, "--out", tuned),
        ("test on unseen voices and noises", "test.py", "--data", data, "--systems", "noisy", mse, tuned, "--quality-net", quality_net,
         "--out", report)]
    return [tuple(map(str, stage)) for stage in stages]


def run(command):
    """Run one of the project's scripts with this Python; its exit code."""
    script, *arguments = command
    process = subprocess.Popen([sys.executable, str(ROOT / script), *arguments], env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()  # Ctrl-C reached the script too: it saves its checkpoint first
        raise


def verdict(summary):
    """Whether Quality-Net > MSE > noisy in PESQ, as the letter found, and whether STOI held, in words."""
    noisy, mse, tuned = summary["systems"]
    lines = []
    for metric, name in (("pesq_raw", "PESQ raw"), ("pesq_wb", "PESQ wb")):
        mean = {system: summary["averages"][metric][system]["mean"] for system in (tuned, mse, noisy)}
        found = ", ".join(f"{system} {value:.3f}" for system, value in mean.items())
        expected = mean[tuned] > mean[mse] > mean[noisy]
        lines.append(f"{name}: {'as expected' if expected else 'NOT as expected'}, Quality-Net > MSE > noisy"
                     f"{'' if expected else ' does not hold in this run'} ({found})")
    stoi = {system: summary["averages"]["stoi"][system]["mean"] for system in (tuned, mse)}
    held = stoi[tuned] >= stoi[mse] - STOI_DROP
    lines.append(f"STOI: {'held' if held else 'NOT held'}, Quality-Net {'at most' if held else 'more than'} {STOI_DROP:g} below MSE "
                 f"({tuned} {stoi[tuned]:.3f}, {mse} {stoi[mse]:.3f})")
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(main)
