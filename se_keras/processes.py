"""Worker processes: fresh interpreters that import neither the calling script nor TensorFlow, and that Ctrl-C leaves to their parent."""

import contextlib
import multiprocessing.context
import signal
import sys
import types


class _WorkerProcess(multiprocessing.context.SpawnProcess):
    """A fresh interpreter that does not run the parent's script again.

    multiprocessing imports the parent's __main__ in each child, for functions defined there. None of ours is, and a script may
    well import TensorFlow or lack its `if __name__ == "__main__"`: while a child starts, an empty module stands in its place.
    It inherits that SIGINT is blocked, so that Ctrl-C, which is the parent's to handle, makes no trace of a half-imported child.
    """

    @staticmethod
    def _Popen(process):
        main, sys.modules["__main__"] = sys.modules["__main__"], types.ModuleType("__main__")
        try:
            with _blocked(signal.SIGINT):
                return multiprocessing.context.SpawnProcess._Popen(process)
        finally:
            sys.modules["__main__"] = main


@contextlib.contextmanager
def _blocked(number):
    """A signal that arrives meanwhile waits for the end of the block; nothing where the system has no such mask."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class WorkerContext(multiprocessing.context.SpawnContext):
    """The `mp_context` of a `concurrent.futures.ProcessPoolExecutor` whose functions are those of importable modules."""

    Process = _WorkerProcess


def end(pool):
    """Kill the processes of a `ProcessPoolExecutor`, whatever they are at."""
    for process in list((pool._processes or {}).values()):
        process.kill()
