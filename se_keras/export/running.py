"""An exported file at work, without Keras: NumPy arrays in, NumPy arrays out, on one thread.

    from se_keras.export import running
    stream = running.ExportedStream("exported/lstm-ears-step.onnx")
    finished = stream.process(block)           # any number of samples; stream.flush() at the end
    enhanced = running.load("exported/lstm-ears.onnx")({"noisy": wave[None]})["enhanced"][0]
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from se_keras.errors import UserError
from se_keras.export import formats
from se_keras.signals import blocks


def card_path(path):
    """Where the card of an exported file lies: beside it, its name and .json."""
    path = Path(path)
    return path.with_name(f"{path.name}.json")


def read_card(path):
    """The card of an exported file, as `export.py` writes it.

    Raises:
        UserError: no such file, no card beside it, or not a card of this project.
    """
    if not Path(path).exists():
        raise UserError(f"{path}: no such file; make one with export.py (python export.py --help)")
    card = card_path(path)
    try:
        content = json.loads(card.read_text(encoding="utf-8"))
    except OSError:
        raise UserError(f"{card}: missing; it says what {Path(path).name} takes and gives, and export.py writes it beside") from None
    except ValueError as error:
        raise UserError(f"{card}: not JSON ({error}); export the model again") from None
    if not _is_card(content):
        raise UserError(f"{card}: not a card of an exported model; export it again")
    return content


def _is_card(content):
    """Whether JSON is what `making.make` writes."""
    if not isinstance(content, dict) or not all(isinstance(content.get(key), str) for key in ("name", "form", "format")):
        return False
    shapes = [content.get(key) for key in ("inputs", "outputs")]
    if not all(isinstance(each, dict) and all(isinstance(shape, list) for shape in each.values()) for each in shapes):
        return False
    step = [content.get(key) for key in ("block", "delay", "latency_s")]
    return content["form"] != "step" or (all(type(value) in (int, float) and value > 0 for value in step) and "enhanced" in shapes[1]
                                         and shapes[0].get("block") == [1, content["block"]]
                                         and all(f"next_{name}" in shapes[1] for name in shapes[0] if name != "block"))


def load(path):
    """An exported file as a function, {input: float32 array} -> {output: array}; shapes as `forms` has them.

    Raises:
        UserError: as `read_card`; or its runtime is not installed.
    """
    return formats.run(path, read_card(path)["format"])


class ExportedStream:
    """A step in a file as a stream: the interface and the samples of `enhancers.live.StreamingEnhancer`.

    Args:
        path: of a file in the step form.
        card: of the file; read from beside it where it is None.

    Attributes:
        block: samples that the file takes at a time, which a stream is best fed by.
        lag: samples that are missing after `process`, where it is fed whole blocks.
        latency_s: algorithmic latency in seconds.

    Raises:
        UserError: as `load`; or a file of another form.
    """

    def __init__(self, path, card=None):
        card = card or read_card(path)
        if card["form"] != "step":
            raise UserError(f"{path}: the form {card['form']}; a stream takes the step form (export.py --form step)")
        self._run = formats.run(path, card["format"])
        self._shapes = {name: shape for name, shape in card["inputs"].items() if name != "block"}
        self.block, self.lag, self.latency_s = card["block"], card["delay"], card["latency_s"]
        self.reset()

    def reset(self):
        """Begin a new recording."""
        self._states = {name: np.zeros(shape, np.float32) for name, shape in self._shapes.items()}
        self._waiting, self._skip = np.zeros(0, np.float32), self.lag
        self._received = self._returned = 0

    def process(self, block):
        """As `StreamingEnhancer.process`; what does not fill a block of the file waits for the next call."""
        block = blocks.checked(block)
        self._received += len(block)
        return self._advance(block)

    def flush(self):
        """As `StreamingEnhancer.flush`."""
        missing = self._received - self._returned
        zeros = -(-(missing + self._skip) // self.block) * self.block if missing else 0
        rest = self._advance(np.zeros(zeros, np.float32))[:missing]
        self.reset()
        return rest

    def _advance(self, samples):
        self._waiting = np.concatenate([self._waiting, samples])
        whole = len(self._waiting) // self.block * self.block
        full, self._waiting = self._waiting[:whole].reshape(-1, 1, self.block), self._waiting[whole:]
        enhanced = [np.zeros(0, np.float32)]
        for block in full:
            outputs = self._run({"block": block, **self._states})
            enhanced.append(outputs["enhanced"][0])
            self._states = {name: outputs[f"next_{name}"] for name in self._states}
        wave = np.concatenate(enhanced)
        skipped = min(self._skip, len(wave))
        self._skip -= skipped
        self._returned += len(wave) - skipped
        return wave[skipped:]


class ExportedSystem:
    """An exported enhancer as a system (`enhancers.base`): what `test.py` and `enhance.py` take beside the models by name.

    Args:
        path: of a file in the wave or the step form.

    Attributes:
        name: of the file.
        fingerprint: sha256 of the file, or of all files of a SavedModel.
        parameters: numbers in the weights of the network that it was made of.
        stream: `ExportedStream` of a step; None of a wave form.

    Raises:
        UserError: as `load`; or a file of a Quality-Net, or of a bare network.
    """

    def __init__(self, path):
        path, card = Path(path), read_card(path)
        if "enhanced" not in card["outputs"]:
            raise UserError(f"{path}: a {card['name']} in the form {card['form']}, which enhances no waves; an enhancer's wave or step "
                            "form is expected here")
        self.name, self.fingerprint, self.parameters = path.name, _sha256(path), card.get("parameters", 0)
        self.stream = ExportedStream(path, card) if card["form"] == "step" else None
        self._run = None if self.stream else formats.run(path, card["format"])

    def enhance(self, waves):
        """Enhance waves, float32 `(samples,)` each, at 16 kHz; same lengths out."""
        if self.stream:
            return [self._through(wave) for wave in waves]
        return [self._run({"noisy": np.asarray(wave, np.float32)[None]})["enhanced"][0] for wave in waves]

    def _through(self, wave):
        self.stream.reset()  # whatever it was used for before
        return np.concatenate([self.stream.process(wave), self.stream.flush()])


def is_exported(name):
    """Whether a name is that of an exported file: one of a format's suffix, or a folder that holds a SavedModel."""
    path = Path(name)
    return path.suffix in set(formats.SUFFIXES.values()) - {""} or (path / "saved_model.pb").is_file()


def _sha256(path):
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()
