"""Several hosts in one training, from the first to the last word: they find each other, agree, and end together.

All hosts run the same program in step: each makes the same predictions and measures the same scores. What decides, the values of a
validation, comes from host 0, which alone has the run folder; the others work in a copy of it that is deleted in the end.
"""

import atexit
import contextlib
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

from se_keras import addresses, backend
from se_keras.errors import UserError
from se_keras.training import sharing

ANSWER_S = 120  # for the coordinator to answer
GATHER_S = 300  # for all hosts to come
SILENT_S = 60  # after which a host without a sign of life counts as lost
_NOT_COPIED = {"tensorboard", "worst", "lock", "run.log"}  # of a run folder: what no training goes on from
_SENTENCE = "The same command on every host goes on from the last checkpoint"


def address(text):
    """(host, port) of "HOST:PORT".

    Raises:
        UserError: another form.
    """
    found = addresses.split(text)
    if found is None:
        raise UserError(f"--coordinator {text[:80]!r} is no address; expected HOST:PORT, such as 10.0.0.1:1234")
    return found[0].strip("[]"), found[1]


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
        sharing.now.folder = Path(tempfile.mkdtemp(prefix="se_keras-"))
    _supervise(args)
    try:
        yield
        if sharing.now.hosts > 1:
            sharing.barrier("end")
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
        if sharing.now.folder is not None:
            shutil.rmtree(sharing.now.folder, ignore_errors=True)


def _is_loss(error):
    """Whether an exception of JAX's means that another host is gone: it has no type of its own."""
    return (isinstance(error, (ValueError, RuntimeError)) and not isinstance(error, UserError)
            and re.search(r"Gloo|NCCL|[Cc]oordination|^(UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED):", str(error)) is not None)


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
    if sharing.now.folder is not None:
        shutil.rmtree(sharing.now.folder, ignore_errors=True)
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


def join(args):
    host, port = address(args.coordinator)
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
    sharing.now.hosts, sharing.now.host = args.hosts, args.host_id


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
        except UnicodeError as error:
            raise UserError(f"--coordinator {name}: {host} is no name of a host ({error})") from None
        except OSError as error:
            if time.monotonic() > until:
                raise UserError(f"--coordinator {name} does not answer ({error.strerror or error}), waited for {wait_s:g} s; start host 0, "
                                "and see that this address is reached from here") from None
        time.sleep(0.2)


def agree(args, weights):
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
    digests.append(hashlib.sha256(json.dumps(weights, sort_keys=True).encode()))
    digests = [digest.hexdigest() for digest in digests]
    same = [digest == other for digest, other in zip(digests, json.loads(sharing.from_first_host(json.dumps(digests))), strict=True)]
    if not sharing.all_of(all(same)):
        what = ("was given other flags than host 0" if not same[0] else f"has other rows in {args.data} than host 0" if not same[1] else
                f"has other weights than host 0 under the names {', '.join(weights)}")
        raise UserError(f"host {sharing.now.host} {what}; give all hosts the same" if not all(same) else
                        "another host was given other flags, data or weights than this one; give all hosts the same")


def copy_run(args):
    """Host 0's run folder, to go on from, as `args.out` of the others."""
    if sharing.now.host:
        args.out = str(sharing.now.folder / Path(args.out).name)
    folder = Path(args.out)
    names = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")
             and not _NOT_COPIED & set(path.relative_to(folder).parts)]
    for name in json.loads(sharing.from_first_host(json.dumps(names))):
        content = sharing.bytes_of_first_host((folder / name).read_bytes() if sharing.now.host == 0 else b"")
        if sharing.now.host:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
