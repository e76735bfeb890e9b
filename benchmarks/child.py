"""`python -m benchmarks.child MODULE CORES ARGUMENTS`: MODULE.child(**ARGUMENTS), its records as JSON lines; see `measuring.spawn`."""

import importlib
import json
import os
import sys

from se_keras import cli


def main(module, cores, arguments):
    cli.quiet()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:int(cores)])
    for record in importlib.import_module(module).child(**json.loads(arguments)):
        print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
