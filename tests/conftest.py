"""Fixtures shared by the suite: where ../shared lies, seeded speech-like signals, a tiny corpus on disk."""

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if "PYTEST_XDIST_WORKER" in os.environ:  # as many workers as cores: threads of their own would only get in each other's way
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")

import numpy as np
import pytest

from se_keras import cli
from se_keras.signals import audio

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs with Ctrl-C ignored, and children inherit that

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
GOLDEN = ROOT / "tests" / "golden"


LONGEST = ("test_presets", "test_scripts", "test_families", "test_enhancer_presets", "test_rounds", "test_voicebank_in_full",
           "test_corpora_dns_test", "test_corpora_dns", "test_binary_mask", "test_loop", "test_progressive", "test_metrics_dnsmos",
           "test_old_runs")


def pytest_collection_modifyitems(items):
    """The files that take longest come first: the cores then end together. (`--no-loadscope-reorder` keeps the order.)"""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="session")
def golden():
    """tests/golden: values of independent public implementations; its README says of which."""
    return GOLDEN


@pytest.fixture(scope="session")
def shared():
    """../shared with what may not be copied: real speech and noise, and golden values of it. Tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared: real speech, which may not be copied into the repository")
    return SHARED


@pytest.fixture(scope="session", params=["synth1", "real15"])
def golden_signals(request):
    """(folder of golden values, signals {clean, noisy, enh} float32, their name): a synthetic one, and real speech where it is there."""
    name = request.param
    folder = GOLDEN if name == "synth1" else request.getfixturevalue("shared") / "golden"
    with np.load(folder / "signals.npz") as signals:
        return folder, {kind: signals[f"{name}_{kind}"] for kind in ("clean", "noisy", "enh")}, name


def speech_like(seconds=2.0, seed=0, sample_rate=16_000):
    """A seeded stand-in for speech: a gliding harmonic series with syllables at 4 Hz and pauses; float32 in [-0.7, 0.7]."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * sample_rate)) / sample_rate
    f0 = 100 + 80 * rng.random() + 20 * np.sin(2 * np.pi * (0.5 + rng.random()) * t)
    phase = 2 * np.pi * np.cumsum(f0) / sample_rate
    wave = sum(np.sin(k * phase) / k * (1 + np.cos(k * 0.3 * np.sin(2 * np.pi * 1.3 * t))) for k in range(1, 25))
    syllables = np.clip(np.sin(2 * np.pi * 4 * t + rng.random()), 0, None) ** 0.5 * (np.sin(2 * np.pi * 0.7 * t) > -0.8)
    wave = wave * syllables + 0.001 * rng.standard_normal(len(t))
    return (0.7 * wave / np.abs(wave).max()).astype(np.float32)


def save_with_card(path, network, name, arguments, config, **card):
    """A network's weights as PATH.weights.h5 with its card beside, as the project ships them; the weights file's path."""
    from se_keras import files, models

    network.save_weights(f"{path}.weights.h5")
    files.write_json(f"{path}.json", {"name": Path(path).name, "network": name, "arguments": models.resolve(name, arguments),
                                      "stft": config.to_config(), **card})
    return Path(f"{path}.weights.h5")


def load_script(path):
    """A script of the project as a module: `import test` would be Python's own, and data/ is no package."""
    spec = importlib.util.spec_from_file_location(f"{Path(path).stem}_script", ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


prepare = load_script("data/prepare.py")


def noise(seconds, seed=0, rate=16_000):
    """Seeded white noise at -20 dB of full scale, float32."""
    return (0.1 * np.random.default_rng(seed).standard_normal(int(seconds * rate))).astype(np.float32)


def write_recordings(folder):
    """noisy.wav and its clean.wav in a folder, 1.5 s each."""
    clean = 0.5 * speech_like(1.5, seed=90)
    audio.write(folder / "clean.wav", clean)
    audio.write(folder / "noisy.wav", clean + 0.2 * noise(1.5))


# The scripts' settings on the tiny corpus.
PREPARE = ["--snr-train", "0", "5", "--snr-valid", "0", "10", "--snr-test", "0", "10"]
ENHANCER = ["--model", "dnn", "--model-args", '{"units": 8}', "--epochs", "2", "--batch", "4", "--crop", "1"]
QUALITY_NET = ["--model-args", '{"filters": [[2, 5], [2, 7]], "compression": "log"}', "--updates", "6", "--validate-every", "3",
               "--crop", "1", "--workers", "1"]
FINETUNE = ["--iterations", "3", "--validate-every", "3", "--batch", "2", "--workers", "1"]


def refused(capsys, script, *arguments):
    """The message of a script that must refuse: exit code 2, at most two lines, no trace."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: script.main([str(argument) for argument in arguments]))
    message = capsys.readouterr().err
    lines = [line for line in message.splitlines() if line.startswith("error: ") or "error:" in line or "Traceback" in line]
    assert end.value.code == 2, message
    assert len(lines) == 1 and len(message[message.index("error:"):].strip().splitlines()) <= 2, message
    return lines[0]


def make_tree(root, seconds=1.2, speakers=(2, 1, 1), utterances=2):
    """A tiny S/ and N/ tree for the `folders` corpus under `root`: speech by `speech_like`, noises white and hum."""
    rng = np.random.default_rng(7)
    seed = 0
    for split, count in zip(("train", "valid", "test"), speakers, strict=True):
        for speaker in range(count):
            for number in range(utterances):
                seed += 1
                path = root / "S" / split / f"{split}-{speaker}" / f"{split}{speaker}-{number}.wav"
                audio.write(path, speech_like(seconds + 0.1 * number, seed))
        for kind in (("white", "hum") if split != "valid" else ("pinkish",)):
            noise = 0.1 * rng.standard_normal(int(0.8 * 16_000)).astype(np.float32)
            if kind == "hum":
                noise += 0.2 * np.sin(2 * np.pi * 120 * np.arange(len(noise)) / 16_000).astype(np.float32)
            audio.write(root / "N" / split / f"{split}_{kind}" / f"{split}-{kind}.wav", noise)
    return root


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """`make_tree` once a session: root with S/ and N/."""
    return make_tree(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def rows(tree, tmp_path_factory):
    """The training rows of the tiny corpus, prepared once a session."""
    import subprocess
    import sys

    from se_keras.mixtures import manifest

    out = tmp_path_factory.mktemp("data")
    subprocess.run([sys.executable, ROOT / "data" / "prepare.py", "folders", "--speech", tree / "S", "--noise", tree / "N", "--out", out],
                   check=True, capture_output=True)
    return manifest.read(out / "train.jsonl")


@pytest.fixture(scope="session")
def enhancer():
    """A small mask network with random weights, as a system."""
    import keras

    from se_keras import models
    from se_keras.enhancers.magnitude_mask import MaskEnhancer

    keras.utils.set_random_seed(0)
    return MaskEnhancer(models.build("dnn", units=8))


@pytest.fixture(scope="session")
def trained(tree, tmp_path_factory):
    """What the scripts leave on the tiny corpus, made here and now: data/, mse/, quality-net/, tuned/, noisy.wav, clean.wav."""
    import finetune
    import train

    root = tmp_path_factory.mktemp("trained")
    data, mse, quality_net = (str(root / name) for name in ("data", "mse", "quality-net"))
    write_recordings(root)
    prepare.main(["folders", "--speech", str(tree / "S"), "--noise", str(tree / "N"), "--out", data, *PREPARE])
    train.main(["enhancer", "--data", data, "--out", mse, *ENHANCER])
    train.main(["quality-net", "--data", data, "--enhancer", mse, "--out", quality_net, *QUALITY_NET])
    finetune.main(["--data", data, "--enhancer", mse, "--quality-net", quality_net, "--out", str(root / "tuned"), *FINETUNE])
    return root


def run_without_tensorflow(script, *arguments):
    """A script in a process of its own, with a TensorFlow that cannot be imported: nothing here may ask for it."""
    code = ("import sys, runpy; sys.modules['tensorflow'] = None; sys.argv = sys.argv[1:]; "
            "runpy.run_path(sys.argv[0], run_name='__main__')")
    return subprocess.run([sys.executable, "-c", code, ROOT / f"{script}.py", *map(str, arguments)], cwd=ROOT, capture_output=True,
                          text=True, timeout=120)


def tensorflow():
    """TensorFlow, for a test that differentiates by it; on another backend the test skips."""
    import keras

    if keras.backend.backend() != "tensorflow":
        pytest.skip("differentiates by TensorFlow itself")
    import tensorflow

    return tensorflow


def value_and_gradient(function, x):
    """(function(x), the gradient of its sum), NumPy arrays, by the backend's own differentiation: TensorFlow's or JAX's."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        value, back = jax.vjp(function, jax.numpy.asarray(x))
        gradient, = back(jax.numpy.ones_like(value))
    else:
        import tensorflow as tf

        variable = tf.Variable(x)
        with tf.GradientTape() as tape:
            value = function(variable.value())
        gradient = tape.gradient(value, variable)
    return np.asarray(value), np.asarray(gradient)


def noisy_speech(seconds=2.0, seed=0, level=0.05):
    wave = speech_like(seconds, seed)
    return wave + (level * np.random.default_rng(seed).standard_normal(len(wave))).astype(np.float32)


class Server(ThreadingHTTPServer):
    """Serves `files` {name: bytes}; notes the Range headers; may ignore Range, or break off once after `break_after` bytes."""

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.ranges, self.with_range, self.break_after = files, [], True, None
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body, wanted = self.server.files.get(self.path.lstrip("/")), self.headers.get("Range")
        self.server.ranges.append(wanted)
        if body is None:
            self.send_error(404, "Not Found")
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.with_range else 0
        if start and start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end, self.server.break_after = self.server.break_after, None
        self.wfile.write(body[start:end])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    """A server that runs while a test does."""
    with Server({}) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.shutdown()


def zipped(folder, path):
    """A folder as the archive `path`, its own name uppermost within; the bytes."""
    with zipfile.ZipFile(path, "w") as file:
        for one in sorted(folder.rglob("*")):
            file.write(one, f"{folder.name}/{one.relative_to(folder)}")
    return path.read_bytes()
