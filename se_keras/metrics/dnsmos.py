"""DNSMOS P.835 and P.808: networks of Microsoft that guess what listeners would say, without a reference.

Measured by the `speechmos` package (MIT licence, its networks within), an extra: requirements-extras.txt. It repeats a clip
until it is 9.01 s long, and averages over windows of that length, a second apart.

Reddy, Gopal and Cutler, "DNSMOS P.835", ICASSP 2022; "DNSMOS", ICASSP 2021 (P.808).
"""

import functools
import importlib.resources

import numpy as np

from se_keras.metrics.base import validate_wave

SAMPLE_RATE = 16_000  # Hz


def ovrl(reference, degraded):
    """Overall quality of P.835, 1 to 5, of a 16 kHz signal `(samples,)`, full scale at 1.0. The reference is ignored: it may be None.

    A signal that is louder than full scale is brought to it by one gain; besides that, level matters.

    Raises:
        MetricError: what `validate_wave` refuses in the degraded signal.
    """
    return _opinions(degraded)["ovrl_mos"]


def sig(reference, degraded):
    """Quality of the speech itself, P.835; otherwise as `ovrl`."""
    return _opinions(degraded)["sig_mos"]


def bak(reference, degraded):
    """Unobtrusiveness of the background, P.835; otherwise as `ovrl`."""
    return _opinions(degraded)["bak_mos"]


def p808(reference, degraded):
    """Overall quality of P.808; otherwise as `ovrl`."""
    return _opinions(degraded)["p808_mos"]


def _opinions(degraded):
    validate_wave("degraded", degraded)
    degraded = np.asarray(degraded, np.float32)
    return _run((degraded / max(np.abs(degraded).max(), 1)).tobytes())


@functools.lru_cache(maxsize=1)
def _run(wave):
    """The four opinions of float32 samples, as bytes: asked for one after the other, they cost one run."""
    opinions = _networks()(np.frombuffer(wave, np.float32), SAMPLE_RATE, is_personalized_MOS=False)
    return {name: float(value) for name, value in opinions.items()}


@functools.cache
def _networks():
    """The package's scorer, its networks on one thread: the scoring processes fill the cores."""
    import onnxruntime
    from speechmos.dnsmos import DNSMOS

    class OneThread(DNSMOS):
        def __init__(self, folder):
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            self.onnx_sess, self.p808_onnx_sess = (
                onnxruntime.InferenceSession(folder / name, options, providers=["CPUExecutionProvider"])
                for name in ("sig_bak_ovr.onnx", "model_v8.onnx"))

    return OneThread(importlib.resources.files("speechmos") / "dnsmos_models")
