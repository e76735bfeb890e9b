"""A page that runs an exported enhancer in a browser by ONNX Runtime Web: drop a recording, hear it enhanced."""

import base64
import functools
import gzip
import json
from pathlib import Path

from se_keras import files, pages
from se_keras.errors import UserError
from se_keras.export import running

TESTED = "1.30"  # of onnxruntime-web
_ASSETS = Path(__file__).with_name("assets")
_REPORT = Path(__file__).parents[1] / "report" / "assets"  # the look and the player; importing the report would take a second
_SCRIPT, _WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"  # the variant that runs on any processor, in one module
_SIGNALS = {"wave": ("noisy", "enhanced"), "step": ("block", "enhanced")}


def check(runtime):
    """See, before any work, that a folder holds an ONNX Runtime Web that the page is tested with.

    Args:
        runtime: folder node_modules/onnxruntime-web, as npm installs it.

    Returns:
        Its version.

    Raises:
        UserError: another folder, or another version than `TESTED`.
    """
    runtime, install = Path(runtime), f"npm install onnxruntime-web@{TESTED}, and name its folder, node_modules/onnxruntime-web"
    try:
        package = json.loads((runtime / "package.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        package = None
    if not isinstance(package, dict) or package.get("name") != "onnxruntime-web":
        raise UserError(f"{runtime}: not a folder of onnxruntime-web; {install}")
    version = str(package.get("version"))
    if not version.startswith(f"{TESTED}."):
        raise UserError(f"{runtime}: onnxruntime-web {version}, and the page is tested with {TESTED}.x; {install}")
    missing = [name for name in (_SCRIPT, _WASM) if not (runtime / "dist" / name).is_file()]
    if missing:
        raise UserError(f"{runtime}: dist/{missing[0]} is missing; {install}")
    return version


def write(path, model_path, runtime):
    """Write the page, atomically.

    It is one file that opens from disk, offline, and asks nothing of any network: its Content-Security-Policy allows none. Names are put
    in as text, never as markup. Runtime and model lie in it as base64 of gzip: 5 MB of runtime, and 1.1 to 1.3 times the model, so 12 MB
    for lstm-ears.

    Args:
        path: of the page.
        model_path: ONNX file of an enhancer in the wave or the step form, its card beside it (`running.card_path`).
        runtime: as `check` takes it.

    Returns:
        path.

    Raises:
        UserError: as `check` and `running.read_card`; not an ONNX file, one of another form, or one that its card is not of.
    """
    version, card = check(runtime), _checked_card(model_path)
    dist = Path(runtime) / "dist"
    texts = {"STYLE": _text(_REPORT / "page.css") + _text(_ASSETS / "live.css"),
             "CARD": pages.script({**card, "runtime": version}),
             "RUNTIME": _packed(dist / _SCRIPT), "WASM": _packed_once(dist / _WASM, version), "MODEL": _packed(model_path),
             "ENGINE": _text(_ASSETS / "engine.js"), "WORKLET": _text(_ASSETS / "microphone.js"),
             "SCRIPT": _text(_REPORT / "player.js") + _text(_ASSETS / "live.js")}
    files.write_text(path, pages.filled(_text(_ASSETS / "live.html"), texts))
    return path


def _checked_card(model_path):
    card = running.read_card(model_path)
    expected = _SIGNALS.get(card["form"])
    if expected is None or expected[0] not in card["inputs"] or expected[1] not in card["outputs"]:
        raise UserError(f"{model_path}: the form {card['form']}, of {', '.join(card['inputs'])}; the page takes an enhancer in the wave or "
                        "the step form")
    inputs, outputs = _names(model_path)
    if (inputs, outputs) != (set(card["inputs"]), set(card["outputs"])):
        raise UserError(f"{model_path}: takes {', '.join(sorted(inputs))}, and its card says {', '.join(sorted(card['inputs']))}; export "
                        "the model again")
    return card


def _names(model_path):
    """Names of an ONNX file's inputs, and of its outputs."""
    try:
        import onnx
    except ImportError:
        raise UserError("the page needs onnx, which reads the model: pip install onnx") from None
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(model_path, load_external_data=False).graph
    except DecodeError:
        raise UserError(f"{model_path}: not an ONNX file; export the model with --format onnx") from None
    return {value.name for value in graph.input}, {value.name for value in graph.output}


def _text(path):
    return path.read_text(encoding="utf-8")


@functools.lru_cache(maxsize=1)  # half a second, and an export of several forms writes several pages
def _packed_once(path, version):
    return _packed(path)


def _packed(path):
    return base64.b64encode(gzip.compress(Path(path).read_bytes(), 6, mtime=0)).decode("ascii")
