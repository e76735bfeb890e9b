"""Loading Keras without the pages of notices that TensorFlow's C++ side writes to the terminal; what it computes on."""

import contextlib
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

from se_keras.errors import UserError, check_choice

BACKENDS = ("tensorflow", "jax", "torch")  # that Keras can train on


def load():
    """Import Keras (TensorFlow by default, or what KERAS_BACKEND names), its start-up notices kept off the terminal.

    They are written to the file descriptor itself before any log level counts, so the descriptor is turned aside for the
    import; where the import fails, they are shown. Set TF_CPP_MIN_LOG_LEVEL=0 to see them always.

    Raises:
        UserError: another KERAS_BACKEND than `BACKENDS`, or one that is not installed.
    """
    if "keras" in sys.modules:
        return
    os.environ["KERAS_BACKEND"] = chosen = os.environ.get("KERAS_BACKEND") or "tensorflow"
    check_choice("KERAS_BACKEND", chosen, BACKENDS)
    if importlib.util.find_spec(chosen) is None:
        raise UserError(f"KERAS_BACKEND asks for {chosen}, which is not installed: pip install {chosen}, or leave KERAS_BACKEND out")
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with aside(shown_on_error=True):
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.config.list_physical_devices()  # looks for GPUs, and says at length that there is none
        elif importlib.util.find_spec("tensorflow") is not None:
            import tensorflow  # noqa: F401  Keras does so later, whatever the backend, and its notices would come then


@contextlib.contextmanager
def aside(shown_on_error=False):
    """While the block lasts, what any code writes to standard error goes nowhere, what C++ writes to the descriptor itself included.

    Args:
        shown_on_error: where the block fails, it is written after all.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        terminal = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield
        except BaseException:
            if shown_on_error:
                os.dup2(terminal, 2)
                file.seek(0)
                sys.stderr.write(file.read().decode(errors="replace"))
            raise
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)


_portable = False  # within `portable`


@contextlib.contextmanager
def portable():
    """While the block lasts, layers are traced as Keras has them, not by what is faster on a CPU: converters know Keras's operations."""
    global _portable
    before, _portable = _portable, True
    try:
        yield
    finally:
        _portable = before


def on_cpu():
    """Whether Keras computes on a CPU: there, some layers go another way than on an accelerator; on PyTorch they never do."""
    import keras

    if _portable:
        return False
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return not tf.config.list_physical_devices("GPU")
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() == "cpu"
    return False


def is_traced_by_jax(tensor):
    """Whether JAX is compiling or differentiating the function that `tensor` came into; never on another backend."""
    if "jax" not in sys.modules or os.environ.get("KERAS_BACKEND") != "jax":
        return False
    import jax

    return isinstance(tensor, jax.core.Tracer)


def frame_multiple():
    """What numbers of frames are padded to a multiple of: 16; on JAX 128, since it compiles a network anew for each shape."""
    return 128 if os.environ.get("KERAS_BACKEND") == "jax" else 16


def available_cores():
    """Cores that this process may use, which in a container or under taskset are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@contextlib.contextmanager
def one_core():
    """All threads of this process on one core while the block lasts, those of TensorFlow and of BLAS among them.

    Yields:
        bool: whether they are. Only Linux lets a process say so; elsewhere nothing changes.
    """
    threads = Path("/proc/self/task")
    if not hasattr(os, "sched_setaffinity") or not threads.is_dir():
        yield False
        return
    allowed = os.sched_getaffinity(0)
    before = {thread: os.sched_getaffinity(int(thread.name)) for thread in threads.iterdir()}
    try:
        _set_cores(threads, {}, {sorted(allowed)[os.getpid() % len(allowed)]})
        yield True
    finally:
        _set_cores(threads, before, allowed)  # threads that began meanwhile began on the one core


def _set_cores(threads, cores, default):
    for thread in threads.iterdir():
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(int(thread.name), cores.get(thread, default))
