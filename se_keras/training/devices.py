"""Training on several devices and hosts: `--devices`, `--hosts`. Keras on JAX alone has it.

The weights are the same everywhere, each device computes its part of a batch, and the gradients are averaged (`keras.distribution`). All
hosts run the same program in step: each makes the same predictions and measures the same scores. What decides, the values of a
validation, comes from host 0, which alone has the run folder; the others work in a copy of it that is deleted in the end.
"""

import argparse
import atexit
import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from se_keras import backend
from se_keras.errors import UserError
from se_keras.mixtures.feed import Feed

ANSWER_S = 120  # for the coordinator to answer
GATHER_S = 300  # for all hosts to come
SILENT_S = 60  # after which a host without a sign of life counts as lost
_FLAGS = ("devices", "hosts", "host_id", "coordinator")
_NOT_COPIED = {"tensorboard", "worst", "lock", "run.log"}  # of a run folder: what no training goes on from
_SENTENCE = "The same command on every host goes on from the last checkpoint"


@dataclasses.dataclass
class _Together:
    """What this process is a part of.

    Attributes:
        hosts, host: how many, and which this one is.
        devices: of all hosts.
        folder: temporary one of a host that has no run folder.
        whole: whether the batch of now, which does not divide, is computed whole on each device.
    """

    hosts: int = 1
    host: int = 0
    devices: int = 1
    folder: Path | None = None
    whole: bool = False


_now = _Together()


# --- Flags -----------------------------------------------------------------------------------------------------------------------


def devices(text):
    """An argparse type: "all", or a number from 1."""
    if text == "all":
        return text
    if not re.fullmatch(r"\d{1,4}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is neither all nor a number of devices")
    return int(text)


def add_arguments(parser):
    """--devices, --hosts, --host-id and --coordinator; `check` looks at them, `start` obeys."""
    parser.add_argument("--devices", type=devices, metavar="all|N",
                        help="share each batch among the accelerators of this machine, or N of them (KERAS_BACKEND=jax alone)")
    parser.add_argument("--hosts", type=int, metavar="N",
                        help="share it among N machines too: the same command on each, with a --host-id of its own; host 0 has the run")
    parser.add_argument("--host-id", type=int, metavar="ID", help="which of them this one is, from 0")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="host 0, as the others reach it, and a free port there")


def check(args):
    """What of the flags is wrong, before anything is loaded.

    Raises:
        UserError: another backend than JAX, flags that go together and do not, numbers that cannot be, a batch that does not divide.
    """
    given = [name for name in _FLAGS if getattr(args, name) is not None]
    if not given:
        return
    flag = f"--{given[0].replace('_', '-')} {getattr(args, given[0])}"
    if (chosen := os.environ.get("KERAS_BACKEND") or "tensorflow") != "jax":
        raise UserError(f"{flag}: several devices and hosts take Keras on JAX, and KERAS_BACKEND is {chosen}; set KERAS_BACKEND=jax (pip "
                        "install jax), or leave the flag out")
    if args.hosts is None and given != ["devices"]:
        raise UserError(f"{flag} goes with --hosts N, the number of hosts; add it, or leave both out")
    if args.hosts is not None:
        if args.hosts < 2:
            raise UserError(f"--hosts {args.hosts}: expected 2 or more; one host takes no such flag")
        if args.coordinator is None or args.host_id is None:
            raise UserError(f"--hosts {args.hosts} takes --host-id ID, from 0 to {args.hosts - 1}, and --coordinator HOST:PORT, which is "
                            "host 0 and a free port there")
        if not 0 <= args.host_id < args.hosts:
            raise UserError(f"--host-id {args.host_id} is none of 0 to {args.hosts - 1}, of which --hosts {args.hosts} speaks")
        _address(args.coordinator)
        _check_divides(args.batch, args.hosts, f"{args.hosts} hosts")
    if isinstance(args.devices, int):
        count = args.devices * (args.hosts or 1)
        _check_divides(args.batch, count, f"{count} devices")


def _check_divides(batch, parts, what):
    if batch % parts:
        raise UserError(f"--batch {batch} does not divide among {what}; take a multiple of {parts}")


def _address(text):
    """(host, port) of "HOST:PORT".

    Raises:
        UserError: another form.
    """
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(\d{1,5})", text)
    if match is None or not 0 < int(match[2]) < 1 << 16:
        raise UserError(f"--coordinator {text[:80]!r} is no address; expected HOST:PORT, such as 10.0.0.1:1234")
    return match[1].strip("[]"), int(match[2])


# --- Beginning and end -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def together(args):
    """What a script does with several hosts goes inside: should one be lost, or fail, the others end too, and say so.

    The program forks here, before anything is loaded: should JAX end the training process, as it does when the coordinator is lost, the
    parent still says what happened.

    Args:
        args: with the flags of `add_arguments`, checked (`check`).

    Raises:
        UserError: another host was lost.
    """
    if args.hosts is None:
        yield
        return
    if args.host_id:
        _now.folder = Path(tempfile.mkdtemp(prefix="se_keras-"))
    _supervise(args)
    try:
        yield
        if _now.hosts > 1:
            _barrier("end")
            import jax

            jax.distributed.shutdown()
    except BaseException as error:
        lost = _is_loss(error)
        code = 2 if lost or isinstance(error, UserError) else 130 if isinstance(error, KeyboardInterrupt) else 1
        atexit.register(_leave, code)  # before JAX's own end, which would wait for the other hosts
        if lost:
            said = str(error).strip().splitlines()[0][:160]
            raise UserError(f"another host has ended, or cannot be reached any more ({said})\n{_SENTENCE}") from None
        raise
    finally:
        if _now.folder is not None:
            shutil.rmtree(_now.folder, ignore_errors=True)


def _is_loss(error):
    """Whether an exception of JAX's means that another host is gone: it has no type of its own."""
    return (isinstance(error, (ValueError, RuntimeError)) and not isinstance(error, UserError)
            and re.search(r"Gloo|NCCL|^(UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|CANCELLED|INTERNAL):", str(error)) is not None)


def _leave(code):
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def _supervise(args):
    """The rest of the program runs in a child; the parent waits, ends as the child does, and speaks where it was ended without a word."""
    if not hasattr(os, "fork"):
        return
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    parent, child = os.getpid(), os.fork()
    if child == 0:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal gives it to both, and the child saves a checkpoint
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if _now.folder is not None:
        shutil.rmtree(_now.folder, ignore_errors=True)
    if code < 0:
        why = "another host has ended, or cannot be reached any more; JAX's own account stands above"
        print(f"\nerror: {why if code == -signal.SIGABRT else f'host {args.host_id} was ended by {signal.Signals(-code).name}'}\n"
              f"{_SENTENCE}", file=sys.stderr)
        code = 1
    _leave(code)


def _end_with(parent):
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def start(args):
    """Load Keras (`backend.load`), on the devices and with the hosts that the flags name; before any network is built.

    On a host other than 0, `args.out` becomes a temporary copy of host 0's run folder.

    Args:
        args: with the flags of `add_arguments`, `batch` and `out`.

    Raises:
        UserError: fewer devices than asked for, a batch that does not divide among them, a port that is taken, a coordinator that does
            not answer, hosts that do not come, hosts with other arguments or data.
    """
    if args.devices is None and args.hosts is None:
        backend.load()
        return
    if args.hosts is not None:
        _join(args)
    backend.load()
    import jax
    import keras

    chosen = _chosen(jax, args)
    _now.devices = len(chosen)
    keras.distribution.set_distribution(_distribution(chosen))
    if args.hosts is not None:
        _agree(args)
        _copy_run(args)
    print(f"{_now.devices} devices ({', '.join(sorted({device.device_kind for device in chosen}))})"
          + (f" of {_now.hosts} hosts, of which this is {_now.host}" if _now.hosts > 1 else "") + " share each batch")
    if _now.host:
        print("host 0 has the run and says how it goes")
        sys.stdout = open(os.devnull, "w")


def _chosen(jax, args):
    """The devices that take part: `--devices` of each host."""
    local = jax.local_devices()
    wanted = len(local) if args.devices in (None, "all") else args.devices
    if wanted > len(local):
        raise UserError(f"--devices {wanted}: there {'is' if len(local) == 1 else 'are'} {len(local)} ({local[0].platform}) here; lower "
                        "it, or say all")
    chosen = [device for host in range(_now.hosts) for device in [d for d in jax.devices() if d.process_index == host][:wanted]]
    _check_divides(args.batch, len(chosen), f"{len(chosen)} devices")
    return chosen


def _distribution(chosen):
    import keras

    class DataParallel(keras.distribution.DataParallel):
        """A batch that does not divide, as an epoch's last may be, is computed whole on each device: to the same result."""

        def get_data_layout(self, data_shape):
            if _now.whole if _now.hosts > 1 else not divides(data_shape[0]):
                return keras.distribution.TensorLayout([None] * len(data_shape), self.device_mesh)
            return super().get_data_layout(data_shape)

    return DataParallel(devices=chosen)


def _join(args):
    host, port = _address(args.coordinator)
    if args.host_id == 0:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError as error:
                raise UserError(f"--coordinator {args.coordinator}: port {port} cannot be listened on here ({error.strerror}); name "
                                "another on every host") from None
    else:
        _reach(host, port, args.coordinator)
    import jax

    try:
        with backend.aside(shown_on_error=True):
            jax.distributed.initialize(args.coordinator, args.hosts, args.host_id, initialization_timeout=GATHER_S,
                                       heartbeat_timeout_seconds=SILENT_S)
    except RuntimeError as error:
        said = str(error).strip().splitlines()[0][:160]
        raise UserError(f"--hosts {args.hosts}: not all of them came within {GATHER_S} s ({said}); start the same command on each, with "
                        "its own --host-id") from None
    _now.hosts, _now.host = args.hosts, args.host_id


def _reach(host, port, name, wait_s=None):
    """Wait until somebody listens there.

    Raises:
        UserError: nobody does in `ANSWER_S` seconds.
    """
    wait_s = ANSWER_S if wait_s is None else wait_s
    until = time.monotonic() + wait_s
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise UserError(f"--coordinator {name} does not answer ({error.strerror or error}), waited for {wait_s:g} s; start host 0, "
                                "and see that this address is reached from here") from None
        time.sleep(0.2)


def _agree(args):
    """See that all hosts were given the same.

    Raises:
        UserError: one was not.
    """
    mine = {name: value for name, value in vars(args).items() if name not in ("host_id", "coordinator", "out", "data", "workers")}
    digests = [hashlib.sha256(json.dumps(mine, sort_keys=True, default=str).encode())]
    digests.append(hashlib.sha256())
    for path in sorted(Path(args.data).glob("*.*")):
        if path.name.split(".")[0] in ("train", "valid"):  # the manifests, whatever their format
            digests[1].update(path.name.encode() + path.read_bytes())
    digests = [digest.hexdigest() for digest in digests]
    same = [digest == other for digest, other in zip(digests, json.loads(from_first_host(json.dumps(digests))), strict=True)]
    if not _all_of(all(same)):
        what = "was given other flags than host 0" if not same[0] else f"has other rows in {args.data} than host 0"
        raise UserError(f"host {_now.host} {what}; give all hosts the same" if not all(same) else
                        "another host was given other flags or other data than this one; give all hosts the same")


def _copy_run(args):
    """Host 0's run folder, to go on from, as `args.out` of the others."""
    if _now.host:
        args.out = str(_now.folder / Path(args.out).name)
    folder = Path(args.out)
    names = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")
             and not _NOT_COPIED & set(path.relative_to(folder).parts)]
    for name in json.loads(from_first_host(json.dumps(names))):
        content = _bytes_of_first_host((folder / name).read_bytes() if _now.host == 0 else b"")
        if _now.host:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)


# --- On the way ------------------------------------------------------------------------------------------------------------------


def divides(batch):
    """Whether a batch of so many divides among the devices."""
    return batch % _now.devices == 0


def train_on_batch(model, x, y, size):
    """`model.train_on_batch` as a dict of floats.

    Args:
        model: compiled keras.Model.
        x, y: this host's part of a batch (`own`).
        size: () -> utterances in the whole batch.
    """
    _now.whole = _now.hosts > 1 and not divides(size())
    return {name: float(value) for name, value in model.train_on_batch(x, y, return_dict=True).items()}


def own(arrays):
    """This host's part of a batch, of a structure of arrays over it; all of it where it does not divide."""
    if _now.hosts == 1:
        return arrays
    import keras

    size = len(keras.tree.flatten(arrays)[0])
    part = slice(_now.host * size // _now.hosts, (_now.host + 1) * size // _now.hosts) if divides(size) else slice(None)
    return keras.tree.map_structure(lambda array: array[part], arrays)


def batches(feed, start, stop):
    """This host's part of the batches of a feed, `feed.batches(start, stop)`. Of a `Feed`, the other hosts' part is not made."""
    if _now.hosts == 1:
        yield from feed.batches(start, stop)
    elif isinstance(feed, Feed):
        mine = _OwnRows(**{field.name: getattr(feed, field.name) for field in dataclasses.fields(Feed)})
        for k in range(start, stop):
            yield mine.batch(k)
    else:
        for batch in feed.batches(start, stop):
            yield own(batch)


class _OwnRows(Feed):
    """A `Feed` whose batches hold this host's rows, padded to the longest of all hosts."""

    def indices(self, k):
        return own(super().indices(k))

    def batch(self, k):
        batch = super().batch(k)
        frames = batch["frame_mask"].shape[1]
        more = _largest_of_all(frames) - frames
        return {name: np.pad(array, [(0, 0), (0, more)] + [(0, 0)] * (array.ndim - 2)) if name in ("noisy", "clean", "frame_mask")
                else array for name, array in batch.items()}


def from_first_host(text):
    """A text as host 0 has it."""
    return text if _now.hosts == 1 else _bytes_of_first_host(text.encode()).decode()


def wait_for_all():
    """Return when all hosts have come here."""
    if _now.hosts > 1:
        _barrier("on the way")


def _barrier(name):
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices(name)


def _bytes_of_first_host(content):
    from jax.experimental import multihost_utils

    size = int(multihost_utils.broadcast_one_to_all(np.array(len(content), np.int32)))
    padded = np.zeros(1 << max(size - 1, 0).bit_length(), np.uint8)  # of few lengths: JAX compiles for each
    padded[:size] = np.frombuffer(content, np.uint8) if _now.host == 0 else 0
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(padded))[:size])


def _largest_of_all(number):
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.array([number], np.int32))))


def _all_of(true):
    from jax.experimental import multihost_utils

    return bool(np.all(multihost_utils.process_allgather(np.array([true], np.int32))))
