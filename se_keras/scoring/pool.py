"""Calls of a function in processes of this machine: one of the two executors behind `scores.Scorer`; `cluster` is the other.

What an executor has: `workers`, `submit(*arguments, files=())` to a future with `done()` and `result()`, `close()`, and `kill()`.
A call whose worker is lost is tried again; one that is lost again and again raises `Lost`.
"""

import contextlib
import ctypes
import multiprocessing
import multiprocessing.connection
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from se_keras.backend import available_cores
from se_keras.processes import WorkerContext, end

DIED = "the process that measured it died, twice"
_NO_START = "the scoring processes cannot be started; what they say stands above"


class Lost(Exception):
    """A call that ends no worker gave an answer to; the message is the reason, the same text for every call with the same fault.

    Attributes:
        lasting: whether another run would lose it too.
    """

    def __init__(self, reason, lasting):
        super().__init__(reason)
        self.lasting = lasting


class Pool:
    """Processes that call one function. They start with the first call.

    Args:
        function: of an importable module.
        workers: processes; None for one a core.
        start: function of an importable module that each process calls first, with `arguments`.
        arguments: of `start`.
    """

    def __init__(self, function, workers=None, start=None, arguments=()):
        self.workers = workers or available_cores()
        self._function, self._start = function, (start, *arguments)
        self._pools = {}  # "all" and, once a process has died, "alone"

    def submit(self, *arguments, files=()):
        """Begin `function(*arguments)`; `files` that it reads are those of this machine. The future's `result` may raise `Lost`."""
        return _Call(self, arguments)

    def close(self):
        """End the processes; calls that have not begun are dropped, and those under way waited for."""
        try:
            for pool in self._pools.values():
                pool.shutdown(cancel_futures=True)
        except BaseException:
            self.kill()
            raise
        self._pools.clear()

    def kill(self):
        """End the processes at once: what one of them is at may never end."""
        for pool in self._pools.values():
            end(pool)

    def _submit(self, pool, function, *arguments):
        """The future of a call in a pool, "all" or "alone", which is started where there is none, or only a broken one."""
        for _ in range(2):
            if pool not in self._pools:
                workers = self.workers if pool == "all" else 1
                self._pools[pool] = ProcessPoolExecutor(workers, WorkerContext(), _start_process, self._start)
            try:
                return self._pools[pool].submit(function, *arguments)
            except BrokenProcessPool:
                self._pools.pop(pool).shutdown(wait=False)
        raise RuntimeError(_NO_START)

    def _begin(self, arguments, pool="all"):
        return self._submit(pool, self._function, *arguments)

    def _again(self, arguments):
        """A call that was lost as a process died, with no other beside it: if that dies too, this call kills it.

        A process killed by hand costs nothing, and a call that kills its process is told.
        """
        try:
            self._submit("alone", os.getpid).result()
        except BrokenProcessPool:
            raise RuntimeError(_NO_START) from None
        try:
            return self._begin(arguments, "alone").result()
        except BrokenProcessPool:
            raise Lost(DIED, lasting=True) from None


class _Call:
    """The future of a call, which is made again where its process dies."""

    def __init__(self, pool, arguments):
        self._pool, self._arguments = pool, arguments
        self._future = pool._begin(arguments)

    def done(self):
        return self._future.done()

    def result(self):
        try:
            return self._future.result()
        except BrokenProcessPool:
            return self._pool._again(self._arguments)


def _start_process(start, *arguments):
    from threadpoolctl import threadpool_limits

    threading.Thread(target=_die_with_parent, daemon=True).start()
    _keep_memory()
    if start is not None:
        start(*arguments)
    threadpool_limits(1)  # of the libraries that are loaded by now; one thread a process: the pool itself fills the cores


def _keep_memory():
    """Have glibc keep what is freed: PESQ asks for the same megabytes anew for each pair, and fetching them costs it 2% of its time."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
        libc.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD: its maximum


def _die_with_parent():
    """A worker whose parent was killed would wait for its next job for ever."""
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
