"""Weights, models and archives of strangers that hold code, or lead elsewhere: each is refused, and nothing of it runs.

Each hostile file leaves a mark where its code runs. What a flag can name is a function of one's own, and the help says so.
"""

import functools
import json
import os
import pickle
import shutil
import stat
import tarfile
import zipfile
from types import SimpleNamespace

import numpy as np
from conftest import load_script
from ledger import Case, Outcome, called, last_line, refused_well

import se_keras
from se_keras import files
from se_keras.corpora import download

STFT = {"n_fft": 512, "hop_length": 256, "window": "hamming"}


class _Marks:
    """Unpickled, it writes a file."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return open, (self.mark, "w")


def _marking(mark):
    """A Keras model whose Lambda writes a file, and the file gone again."""
    import keras

    code = eval(f"lambda x: (open({str(mark)!r}, 'w').close(), x)[1]")  # no default, no closure: Keras stores the code and no more
    model = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(code)])
    mark.unlink(missing_ok=True)
    return model


def keras_file(folder, mark):
    path = folder / "evil.keras"
    _marking(mark).save(path)
    mark.unlink(missing_ok=True)
    return path


def h5_file(folder, mark, name="evil.h5"):
    path = folder / name
    _marking(mark).save(folder / "saved.h5")
    os.replace(folder / "saved.h5", path)
    mark.unlink(missing_ok=True)
    return path


def _with_config(folder, mark, config):
    """A .keras file whose description is `config`."""
    path = keras_file(folder, mark)
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in (members | {"config.json": json.dumps(config)}).items():
            file.writestr(name, content)
    return path


def _exported(path):
    """A file with the card that export.py would write, opened as an exported model."""
    from se_keras.export import running

    files.write_json(running.card_path(path), {"name": "evil", "form": "wave", "format": "keras", "inputs": {"noisy": [None, None]},
                                               "outputs": {"enhanced": [None, None]}})
    running.load(path)({"noisy": np.zeros((1, 4), np.float32)})


def _described(path):
    """A weights file with a card beside it, opened by name."""
    files.write_json(path.with_name("evil.json"), {"network": "dnn", "arguments": {"units": 8}, "stft": STFT})
    se_keras.load(str(path))


def pickled(path, mark):
    path.write_bytes(pickle.dumps({"state_dict": {"a": _Marks(mark)}}))
    return path


def _torch_archive(path, mark):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps({"a": _Marks(mark)}, protocol=2))
        file.writestr("archive/version", "3\n")
    return path


def _objects(path, mark):
    np.savez(path, a=np.array([_Marks(mark)], dtype=object))
    return path


def _calls(mark):
    return {"module": "subprocess", "class_name": "Popen", "config": {"args": ["touch", str(mark)]}, "registered_name": None}


def _layer_that_calls(mark):
    function = {"module": "os", "class_name": "function", "config": "system", "registered_name": "function"}
    layers = [{"module": "keras.layers", "class_name": "InputLayer", "config": {"batch_shape": [None, 4], "name": "x"}},
              {"module": "keras.layers", "class_name": "Lambda", "config": {"name": "l", "function": function,
                                                                            "arguments": {"command": f"touch {mark}"}}}, _calls(mark)]
    return {"module": "keras", "class_name": "Sequential", "config": {"name": "evil", "layers": layers}, "registered_name": None}


def _card(change):
    """Loads shipped weights by a card that was changed."""
    def load(folder, mark):
        shipped = se_keras.pretrained.find("lstm-ears")
        card = json.loads(shipped[0].read_text()) | change(mark)
        files.write_json(folder / "evil.json", card)
        shutil.copy(shipped[1], folder / "evil.weights.h5")
        se_keras.load_system(str(folder / "evil.weights.h5"))

    return load


LOADED = {  # function(folder, mark): makes the file and loads it as a user would
    ".keras with a Lambda": lambda folder, mark: _exported(keras_file(folder, mark)),
    ".keras that names a program": lambda folder, mark: _exported(_with_config(folder, mark, _calls(mark))),
    ".keras with a layer that names a program": lambda folder, mark: _exported(_with_config(folder, mark, _layer_that_calls(mark))),
    ".keras as a system": lambda folder, mark: se_keras.load_system(keras_file(folder, mark)),
    ".h5 with a Lambda, as exported": lambda folder, mark: _exported(h5_file(folder, mark)),
    ".h5 with a Lambda, as a reference": lambda folder, mark: se_keras.load_reference(h5_file(folder, mark)),
    ".h5 with a Lambda, as weights": lambda folder, mark: _described(h5_file(folder, mark, "evil.weights.h5")),
    "a pickle as weights": lambda folder, mark: _described(pickled(folder / "evil.weights.h5", mark)),
    "a pickle as a reference": lambda folder, mark: se_keras.load_reference(pickled(folder / "evil.h5", mark)),
    ".pth, a pickle": lambda folder, mark: se_keras.torch.load("dccrn", pickled(folder / "evil.pth", mark)),
    ".pth, an archive": lambda folder, mark: se_keras.torch.load("dccrn", _torch_archive(folder / "evil.pth", mark)),
    ".npz with objects": lambda folder, mark: se_keras.torch.load("dccrn", _objects(folder / "evil.npz", mark)),
    "a card whose family is a module": _card(lambda mark: {"family": "os"}),
    "a card whose network is a module": _card(lambda mark: {"network": "..cli"}),
    "a card whose network is a path": _card(lambda mark: {"network": "../../evil"})}


# --- Archives --------------------------------------------------------------------------------------------------------------------


def _member(name, link=""):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777 if link else stat.S_IFREG | 0o644) << 16
    return info, link or "x"


def _unpack(members):
    def unpack(folder, mark):
        with zipfile.ZipFile(folder / "a.zip", "w") as file:
            for info, content in members(folder, mark):
                file.writestr(info, content)
        download.unpack(folder / "a.zip", folder / "inner" / "a")

    return unpack


def _bomb(folder, mark):
    """300 MB of zeros in 0.3 MB, on a disk that is said to have 50 MB."""
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for number in range(3):
            with file.open(f"{number}.wav", "w") as member:
                for _ in range(100):
                    member.write(bytes(1_000_000))
    real = shutil.disk_usage
    shutil.disk_usage = lambda path: SimpleNamespace(total=10 ** 9, used=10 ** 9, free=50_000_000)
    extract, zipfile.ZipFile.extract = zipfile.ZipFile.extract, lambda *arguments: mark.touch()
    try:
        download.unpack(folder / "a.zip", folder / "inner" / "a")
    finally:
        shutil.disk_usage, zipfile.ZipFile.extract = real, extract


def _tar(add):
    """prepare.py shards on tars, the speech's with something hostile in it."""
    def prepare(folder, mark):
        for kind in ("S", "N"):
            (folder / kind / "train").mkdir(parents=True)
            with tarfile.open(folder / kind / "train" / "a.tar", "w") as file:
                add(file, mark)
        load_script("data/prepare.py").main(["shards", "--speech", str(folder / "S"), "--noise", str(folder / "N"), "--out",
                                             str(folder / "data")])

    return prepare


def _link_in_tar(file, mark):
    info = tarfile.TarInfo("speaker/a.wav")
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    file.addfile(info)


ARCHIVES = {
    ".. in a zip": _unpack(lambda folder, mark: [_member(f"../../{mark.name}")]),
    "an absolute path in a zip": _unpack(lambda folder, mark: [_member(str(mark))]),
    "a link in a zip": _unpack(lambda folder, mark: [_member("a/link", "/etc/passwd")]),
    "through a link in a zip": _unpack(lambda folder, mark: [_member("a", str(folder)), _member("a/mark")]),
    "a bomb": _bomb,
    "a link in a tar": _tar(_link_in_tar)}


# --- Flags -----------------------------------------------------------------------------------------------------------------------

SAYS = "is the only code that a flag can name"
HELP = {"test.py": ([], ["functions of your own", SAYS]), "train.py": (["quality-net"], ["function of your own", SAYS]),
        "score.py": ([], [SAYS]), "finetune.py": ([], [SAYS])}  # {script: (command, what its help says)}


def _help(script, place):
    """The help says which code a flag can name."""
    outcome = Outcome()
    command, wanted = HELP[script]
    done = called(lambda: load_script(script).main([*command, "--help"]))
    said = " ".join(done.out.split())
    for text in wanted:
        if text not in said:
            outcome.misleads(f"{script} --help: {text!r} is not said")
    return outcome


def _flag(arguments, place):
    """A value that looks like code is no code where a name is expected."""
    outcome, mark = Outcome(), place.folder / "mark"
    script, *rest = [each.replace("{mark}", str(mark)).replace("{world}", str(place.world)) for each in arguments]
    done = called(lambda: load_script(script).main(rest))
    if mark.exists():
        outcome.misleads(f"{' '.join(arguments)}: it ran")
    if not refused_well(done) and "usage" not in done.err:
        outcome.fails(f"{' '.join(arguments)}: exit code {done.code}: {last_line(done.said)}")
    outcome.read(done.said)
    return outcome


CODE = "__import__('os').system('touch {mark}')"
DATA = ("--data", "{world}/data", "--out", "/nowhere")
FLAGS = [("train.py", "enhancer", *DATA, "--loss", f"mse:{CODE}"), ("train.py", "enhancer", *DATA, "--model", CODE),
         ("train.py", "enhancer", *DATA, "--model-args", f'{{"units": "{CODE}"}}'), ("test.py", *DATA, "--systems", CODE),
         ("test.py", *DATA, "--metrics", f"{CODE}:f[0,1]"), ("finetune.py", *DATA, "--turns", f'{{"round": "{CODE}"}}'),
         ("enhance.py", "{world}/in/r0.wav", "--out", "/nowhere/x.wav", "--enhancer", CODE)]


def hostile(load, place):
    """Load a hostile file: it is refused in words, and its mark is not there."""
    outcome, mark = Outcome(), place.folder / "mark"
    done = called(lambda: load(place.folder, mark))
    if mark.exists():
        outcome.misleads("code or content of a stranger got out of its file")
    if done.code != 2 or "error: " not in done.err:
        outcome.fails(f"exit code {done.code}: {last_line(done.err)}")
    outcome.read(done.said)
    return outcome


def cases(kind, count=None):
    tried = [*((label, functools.partial(hostile, load)) for label, load in (LOADED | ARCHIVES).items()),
             *((f"help of {script}", functools.partial(_help, script)) for script in HELP),
             *((f"code in {arguments[-2]}", functools.partial(_flag, arguments)) for arguments in FLAGS)]
    for number, (label, attempt) in enumerate(tried[:count]):
        yield Case(kind, number, label, attempt)
