"""Enhancing a file: times real time, and the peak memory of a process that does nothing else."""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile as sf

from benchmarks import measuring
from se_keras.signals.audio import SAMPLE_RATE

LENGTHS = {"10 s": 10, "10 min": 600, "1 h": 3600}
QUICK = {"10 s": 10, "1 min": 60}


def run(quick, cores):
    """Rows of the table, two a length."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, duration_s in (QUICK if quick else LENGTHS).items():
            measuring.progress(f"enhancing {name}")
            source, target = (Path(folder) / f"{which}-{duration_s}.wav" for which in ("noisy", "enhanced"))
            write_speech(source, duration_s)
            began = time.perf_counter()
            records, failure = measuring.spawn(__name__, cores, source=str(source), target=str(target))
            whole_s = time.perf_counter() - began
            found = records[-1] if records else {"rate": None, "peak_mb": None}
            remark = failure or f"{found['system']}; {whole_s:.0f} s with start-up"
            rows += [measuring.row(f"enhancing {name}, speed", "x real time", found["rate"], aim=">= 100", remark=remark),
                     measuring.row(f"enhancing {name}, peak memory", "MB", found["peak_mb"], aim="< 1500", remark=failure or "")]
            source.unlink()
            target.unlink(missing_ok=True)
    return rows


def write_speech(path, duration_s):
    """A wav of 16 kHz: ten seconds of synthetic speech in noise, over and over."""
    from tests.conftest import speech_like

    piece = speech_like(10.0) + 0.05 * np.random.default_rng(0).standard_normal(10 * SAMPLE_RATE).astype(np.float32)
    with sf.SoundFile(str(path), "w", SAMPLE_RATE, 1) as file:
        for start in range(0, duration_s, 10):
            file.write(piece[:(duration_s - start) * SAMPLE_RATE])


def child(source, target):
    """In a process of its own: enhance one file as enhance.py does, with the default enhancer."""
    from se_keras.signals import streaming

    system = _system()
    for warm_up_s in (2, 3):  # the network is traced once for one shape and once for all shapes
        system.enhance([np.zeros(warm_up_s * SAMPLE_RATE, np.float32)])
    began = time.perf_counter()
    report = streaming.enhance_file(system, source, target)
    yield {"system": system.name, "rate": report.duration_s / (time.perf_counter() - began), "peak_mb": peak_mb()}


def _system():
    """The shipped enhancer; where none is shipped, its network untrained, which takes the same time."""
    from se_keras import models, pretrained
    from se_keras.enhancers.magnitude_mask import MaskEnhancer

    if pretrained.DEFAULT_ENHANCER in pretrained.names():
        return pretrained.load_system(pretrained.DEFAULT_ENHANCER)
    return MaskEnhancer(models.build("blstm"), name="untrained blstm (none is shipped)")


def peak_mb():
    """Peak resident memory of this process in MB. (Linux's ru_maxrss would count the parent's at the moment of the fork too.)"""
    status = Path("/proc/self/status")
    if status.is_file():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
