"""Calls of a function on the workers of a Dask cluster that runs already: `--workers dask://HOST:PORT`.

The client chooses the worker of each call, and gives it one to do and one to go on with. So it knows what a worker was at when it was
lost, can try that call elsewhere, and never asks a worker whose versions are others. A worker does one call at a time, as a process of
`pool.Pool` does: cores are filled by workers of one thread each (`dask worker --nworkers 8 --nthreads 1`).
"""

import asyncio
import collections
import concurrent.futures
import importlib.util
import itertools
import logging
import pickle
import socket
import sys
import time
import uuid

from se_keras import addresses
from se_keras.errors import UserError
from se_keras.scoring import cluster_worker
from se_keras.scoring.pool import Lost

PREFIX = "dask://"
RETRIES = 2  # of a call whose worker was lost
AHEAD = 2  # calls that a worker has at a time: the second begins while the first one's answer is on its way
CONNECT_S = 10.0  # for the scheduler
WAIT_S = 30.0  # for a worker, where there is none
LOOK_S = 0.5  # between looks at which workers there are
HANG_S = 300.0  # after which a call hangs
ANSWER_S = 30.0  # for a worker to say what it is at, and which versions it has
_OURS = "se_keras-"  # begins the names of our tasks


# --- The address -----------------------------------------------------------------------------------------------------------------


def parse(text):
    """(host, port) of "dask://HOST:PORT".

    Raises:
        UserError: another form.
    """
    found = addresses.split(text.removeprefix(PREFIX).removesuffix("/")) if text.startswith(PREFIX) else None
    if found is None:
        raise UserError(f"{text[:80]!r} is no address of a Dask scheduler; expected {PREFIX}HOST:PORT, such as {PREFIX}10.0.0.1:8786")
    return found


def check(text):
    """See that `text` is an address, and that what speaks to schedulers is installed.

    Raises:
        UserError: it is not.
    """
    parse(text)
    if importlib.util.find_spec("distributed") is None:
        raise UserError(f"{text} needs distributed, which is not installed; pip install -r requirements-extras.txt")


class _Later:
    """A call that is made where it is unpickled. The scheduler, which unpickles tasks, sees bytes, and need not know this package."""

    def __init__(self, function, *arguments):
        self._function, self._arguments = function, arguments

    def __reduce__(self):
        return self._function, self._arguments


# --- In the client ---------------------------------------------------------------------------------------------------------------


class _Worker:
    """A worker that may be used.

    Attributes:
        address: of the worker.
        line: names of the tasks that it has; it is at the first.
        gone: future that is done when the worker is lost, with why, and the name of the task that it was at.
        blind: whether it has lacked a file.
        sent: hashes of files that it was sent.
    """

    def __init__(self, address, gone):
        self.address, self.line, self.gone, self.blind, self.sent = address, [], gone, False, set()


class _Gone(Exception):
    """The worker of a call is lost.

    Attributes:
        why: "died" or "hung".
        at_it: whether the worker was at this call, not at one before it.
    """

    def __init__(self, why, at_it):
        super().__init__(why)
        self.why, self.at_it = why, at_it


class Cluster:
    """Calls of one function on the workers of a Dask cluster; `pool.Pool` says what an executor has.

    Workers may join and leave. One whose versions are others than the client's is refused, in a line on the error stream. A call whose
    worker dies, or that has not ended after `HANG_S`, is tried elsewhere, twice, and is then `Lost`. A worker that hangs is started
    anew, where it has a nanny and nobody else's tasks. Files that a worker lacks are sent to it by their content.

    Args:
        address: "dask://HOST:PORT" of the scheduler.
        function: of an importable module. Where a file lies elsewhere, it is given `at`, {path: where it lies}, beside its arguments.
        stamp: picklable function without arguments to {name: version}; a worker must give what it gives here.
        arrived: function of what came back, called in a thread of the client's as soon as it comes; its value is the call's.

    Raises:
        UserError: another form of address, distributed is not installed, nobody answers, no worker that may be used.
    """

    def __init__(self, address, function, stamp, arrived=lambda value: value):
        check(address)
        self.address, self._function, self._stamp, self._arrived = address, function, stamp, arrived
        self._expected = stamp()
        self._names = (f"{_OURS}{uuid.uuid4().hex[:12]}-{number}" for number in itertools.count())
        self._workers, self._refused, self._left, self._asked = {}, {}, set(), set()  # by address; the last two have hung, are being asked
        self._room = [collections.OrderedDict() for _ in range(AHEAD)]  # workers with so many tasks, in the order in which they came to it
        self._waiting, self._retried = collections.deque(), collections.deque()  # (future of a worker, task, addresses to be avoided)
        self._futures = set()  # of calls that are not done
        self._without_since, self._broken, self._watching = None, None, None
        self._client = _connect(address)
        self._loop = self._client.loop.asyncio_loop
        try:
            self._wait_for_workers()
        except BaseException:
            self.kill()
            raise

    @property
    def workers(self):
        """Workers that may be used now, and at least one."""
        return max(len(self._workers), 1)

    def submit(self, *arguments, files=()):
        """Begin `function(*arguments)`, which reads `files`. The future's `result` may raise `Lost`, or `UserError` without workers."""
        future = asyncio.run_coroutine_threadsafe(self._run(arguments, files), self._loop)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return future

    def close(self):
        """Leave the cluster; calls that are not done are dropped."""
        for future in list(self._futures):
            future.cancel()
        if self._watching is not None:
            self._watching.cancel()
        self._client.close(timeout=5)

    kill = close  # what a worker is at cannot be ended from here, and its answer goes nowhere

    def _wait_for_workers(self):
        self._watching = asyncio.run_coroutine_threadsafe(self._watch(), self._loop)
        began, said = time.monotonic(), False
        while not self._workers:
            waited = time.monotonic() - began
            if self._broken is not None:
                raise self._broken
            if self._refused and not self._asked and waited > 2 * LOOK_S:
                raise UserError(f"{self.address}: none of its workers can be used; {next(iter(self._refused.values()))}")
            if waited > WAIT_S and self._asked:
                raise UserError(f"{self.address}: its {len(self._asked)} workers do not answer, waited {WAIT_S:.0f} s; are they busy?")
            if waited > WAIT_S:
                raise UserError(f"{self.address}: has no workers, waited {WAIT_S:.0f} s; start some: dask worker {_tcp(self.address)} "
                                "--nworkers N --nthreads 1")
            if waited > 2 and not said:
                said = True
                _say(f"{self.address}: waiting for workers")
            time.sleep(0.02)

    # What follows runs in the thread of the client's event loop, and there alone.

    async def _run(self, arguments, files):
        """The value of a call, from whichever worker gives it."""
        from se_keras.signals import audio

        try:
            hashes = {path: audio.file_hash(path) for path in files}
        except OSError as error:
            raise UserError(f"{error.filename} cannot be read ({error.strerror}); was the corpus moved?") from None
        lost, avoided = [], set()
        while len(lost) <= RETRIES:
            if self._broken is not None:
                raise self._broken
            task = next(self._names)
            worker = await self._place(task, avoided)
            try:
                return self._arrived(await self._answer(worker, task, arguments, hashes))
            except _Gone as gone:
                avoided.add(worker.address)
                if gone.at_it:
                    lost.append(gone.why)
            finally:
                worker.line.remove(task)
                self._stand(worker)
                self._match()
        raise Lost(f"lost on every worker that had it: {', '.join(dict.fromkeys(lost))}", lasting=False)

    async def _place(self, task, avoided):
        """A worker with room, in whose line the task then stands; another than those avoided, where there is one."""
        queue, found = (self._retried if avoided else self._waiting), self._loop.create_future()
        queue.append((found, task, avoided))
        self._match()
        try:
            return await found
        except asyncio.CancelledError:
            if found.done() and not found.cancelled():
                found.result().line.remove(task)
            raise

    def _match(self):
        """Give those that wait the workers that have room. Those that only one worker is left to do not keep back the others."""
        for queue in (self._retried, self._waiting):
            for _ in range(len(queue)):
                found, task, avoided = queue[0]
                worker = None if found.done() else self._roomiest(avoided)
                if worker is None and not found.done():
                    if queue is self._waiting:
                        break
                    queue.rotate(-1)
                    continue
                queue.popleft()
                if worker is not None:
                    worker.line.append(task)
                    self._stand(worker)
                    found.set_result(worker)

    def _roomiest(self, avoided):
        if not avoided or all(address in avoided for address in self._workers):
            return next((next(iter(room)) for room in self._room if room), None)
        return next((worker for room in self._room for worker in room if worker.address not in avoided), None)

    def _stand(self, worker):
        """Put a worker where those stand that have as many tasks."""
        for room in self._room:
            room.pop(worker, None)
        if not worker.gone.done() and len(worker.line) < AHEAD:
            self._room[len(worker.line)][worker] = None

    async def _answer(self, worker, task, arguments, hashes):
        """A worker's value of a call; it is sent the files that it lacks.

        Raises:
            _Gone: the worker is lost.
        """
        paths = {wanted: path for path, wanted in hashes.items()}
        wanted = [each for each in paths if each not in worker.sent] if worker.blind else []
        for turn in range(3):
            sent = {each: _bytes(paths[each]) for each in wanted}
            asked = pickle.dumps(_Later(cluster_worker.call, task, self._function, arguments, hashes, sent), pickle.HIGHEST_PROTOCOL)
            kind, found = await self._unless_gone(worker, task, self._ask(worker, f"{task}-{turn}", asked))
            worker.sent.update(wanted)
            if kind == "found":
                return found
            worker.blind, wanted = True, found
        raise UserError(f"{worker.address}: keeps no files that it is sent; has its disk room?")

    async def _ask(self, worker, key, asked):
        """What comes of a pickled `_Later` in a worker."""
        future = self._client.submit(pickle.loads, asked, key=key, workers=[worker.address], pure=False)
        try:
            return await future
        finally:
            future.release()

    async def _unless_gone(self, worker, task, asking):
        """The value of a coroutine that asks a worker.

        Raises:
            _Gone: the worker died or hung meanwhile.
            UserError: the cluster is gone.
        """
        from distributed import KilledWorker
        from distributed.comm import CommClosedError

        asking, patience, error = asyncio.ensure_future(asking), HANG_S, None
        try:
            while True:
                await asyncio.wait({asking, worker.gone}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                if asking.done() or worker.gone.done():
                    break
                patience = await self._patience(worker, task)
            if asking.done():
                return asking.result()
        except (KilledWorker, concurrent.futures.CancelledError, OSError) as caught:
            error = caught
            await asyncio.wait({worker.gone}, timeout=10 * LOOK_S)  # soon it is known whether the worker is gone, or all of it
        finally:
            asking.cancel()
        if self._broken is not None:
            raise self._broken
        if not worker.gone.done() and isinstance(error, OSError) and not isinstance(error, CommClosedError):
            raise error  # the function's own
        why, at = worker.gone.result() if worker.gone.done() else ("died", worker.line[0])
        raise _Gone(why, at == task)

    async def _patience(self, worker, task):
        """Seconds for which a call may go on; a worker that is at it for too long, or does not answer, is left.

        Raises:
            _Gone: the worker is busy with somebody else's tasks.
        """
        try:
            found = await asyncio.wait_for(self._client.run(cluster_worker.running, workers=[worker.address], on_error="return"), ANSWER_S)
            at, seconds = task, found[worker.address].get(task, 0.0)
            if not found[worker.address]:
                raise _Gone("busy", False)
        except (OSError, KeyError, AttributeError):
            at, seconds = worker.line[0], HANG_S
        if seconds >= HANG_S and not worker.gone.done():
            self._lose(worker, "hung", at)
            self._left.add(worker.address)
            _say(f"{worker.address}: hangs, and is left")
            asyncio.ensure_future(self._start_anew(worker.address))
        return max(HANG_S - seconds, 0.1)

    async def _start_anew(self, address):
        """Have a worker's nanny start it anew, where nobody else has tasks on it."""
        try:
            tasks = (await self._client.processing(workers=[address])).get(address, ())
            if all(str(task).startswith(_OURS) for task in tasks):
                await self._client.restart_workers([address], timeout=ANSWER_S, raise_for_error=False)
        except (OSError, ValueError, KeyError):  # it has no nanny, or is gone by itself
            pass

    def _lose(self, worker, why, at):
        """Take a worker out; its calls learn why, and which task it was at."""
        del self._workers[worker.address]
        worker.gone.set_result((why, at))
        self._stand(worker)

    async def _watch(self):
        """Look which workers there are, again and again."""
        answered = time.monotonic()
        while True:
            looking = asyncio.ensure_future(self._client.nthreads())
            while not looking.done():
                await asyncio.wait({looking}, timeout=LOOK_S)
                if self._client.status != "running" or time.monotonic() - answered > ANSWER_S + WAIT_S:
                    looking.cancel()
                    self._break("the scheduler is gone")
                    return
            if looking.exception() is None:
                answered = time.monotonic()
                self._look(looking.result())
            await asyncio.sleep(LOOK_S)

    def _look(self, there):
        """Take in which workers there are, {address: threads}."""
        for address in set(self._workers) - set(there):
            worker = self._workers[address]
            self._lose(worker, "died", worker.line[0] if worker.line else None)
        self._left &= set(there)
        self._refused = {address: why for address, why in self._refused.items() if address in there}
        for address in set(there) - set(self._workers) - set(self._refused) - self._left - self._asked:
            self._asked.add(address)
            asyncio.ensure_future(self._admit(address))
        if self._workers or self._asked or not self._futures:
            self._without_since = None
            return
        self._without_since = self._without_since or time.monotonic()
        if time.monotonic() - self._without_since > WAIT_S:
            self._break(f"no worker is left that can be used, waited {WAIT_S:.0f} s")

    async def _admit(self, address):
        """Ask a worker for its versions, and use or refuse it."""
        try:
            found = (await asyncio.wait_for(self._client.run(self._stamp, workers=[address], on_error="return"), ANSWER_S))[address]
        except (OSError, KeyError):
            found = OSError()
        finally:
            self._asked.discard(address)
        if isinstance(found, OSError):  # gone again, or asked again at the next look
            return
        if isinstance(found, Exception):
            other = f"it cannot say its versions ({type(found).__name__}: {found})"
        else:
            other = next((f"it has {name} {found.get(name, 'not')}, expected {version}" for name, version in self._expected.items()
                          if found.get(name) != version), None)
        if other is not None:
            self._refused[address] = f"{address} is refused: {other}"
            _say(self._refused[address])
            return
        worker = self._workers[address] = _Worker(address, self._loop.create_future())
        self._stand(worker)
        self._match()

    def _break(self, why):
        """Nothing can go on: every call learns it."""
        self._broken = UserError(f"{self.address}: {why}; what was scored is kept, and the same command goes on from there")
        for queue in (self._waiting, self._retried):
            for found, _, _ in queue:
                if not found.done():
                    found.set_exception(self._broken)
            queue.clear()
        for worker in list(self._workers.values()):
            self._lose(worker, "died", None)


def _connect(address):
    """A `distributed.Client` of the scheduler at "dask://HOST:PORT".

    Raises:
        UserError: nobody answers, or somebody else.
    """
    host, port = parse(address)
    try:
        with socket.create_connection((host.strip("[]"), port), CONNECT_S) as connection:
            first = _first(connection)
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that cannot be
        said = getattr(error, "strerror", None) or error
        raise UserError(f"{address}: nobody answers ({said}); is the scheduler up? start one there with: dask scheduler "
                        f"--port {port}") from None
    if not 0 < int.from_bytes(first, "little") < 1 << 24:  # the length of a scheduler's greeting; a `Client` would wait for it for ever
        raise UserError(f"{address}: what answers there is no Dask scheduler, or one that speaks TLS")
    import dask
    import distributed

    for name in ("distributed", "distributed.client"):  # what goes wrong is told here, in a line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 GB"})  # a long recording is no graph
    try:
        return distributed.Client(_tcp(address), timeout=CONNECT_S, set_as_default=False, name="se_keras")
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{address}: the scheduler there cannot be used ({(str(error).splitlines() or [''])[0][:120]})") from None


def _first(connection):
    """The first bytes, at most 8, that somebody says unasked; none where nobody does in time."""
    try:
        return connection.recv(8, socket.MSG_WAITALL)
    except TimeoutError:
        return b""


def _bytes(path):
    """Those of a file, or of a member of a tar."""
    from se_keras.signals import shards

    with shards.open_bytes(path) as file:
        return file.read()


def _tcp(address):
    return "tcp://" + address.removeprefix(PREFIX).rstrip("/")


def _say(text):
    print(f"note: {text}", file=sys.stderr, flush=True)
