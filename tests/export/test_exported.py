"""Exported files: run by their own runtimes they say what Keras says; else nothing is kept, and a line says why."""

import importlib.util
import io
import json
import types

import keras
import numpy as np
import pytest
from conftest import load_script, noise, refused, save_with_card, speech_like
from test_forms import make

import se_keras
from se_keras import backend, models, pretrained
from se_keras.enhancers import cost
from se_keras.enhancers.live import StreamingEnhancer
from se_keras.errors import UserError
from se_keras.export import checking, formats, forms, making, running
from se_keras.judges.surrogate import QualityPredictor
from se_keras.models.layers import register
from se_keras.signals import audio
from se_keras.signals.stft import Stft

export = load_script("export.py")
CARD = {"name": "tiny", "licence": "MIT"}
NEEDED = {name: pytest.mark.skipif(any(importlib.util.find_spec(package) is None for package in formats.NEEDS.get(name, ())),
                                   reason=f"needs {', '.join(formats.NEEDS.get(name, ()))}: pip install -r requirements-extras.txt")
          for name in formats.SUFFIXES}
pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="converters are TensorFlow's")


@pytest.fixture(autouse=True)
def one_short_length(monkeypatch):
    """Each length traces the models anew; `test_a_shipped_model_on_real_speech` takes another one."""
    monkeypatch.setattr(checking, "LENGTHS_S", (0.1003,))


@pytest.fixture(scope="module")
def lstm():
    return make("lstm", Stft(256, 128))


@pytest.fixture(scope="module")
def step(lstm, tmp_path_factory):
    """A step in an ONNX file."""
    pytest.importorskip("tf2onnx", reason="needs tf2onnx: pip install -r requirements-extras.txt")
    path = tmp_path_factory.mktemp("step") / "tiny-step.onnx"
    making.make(forms.of_enhancer(lstm, "step"), path, "onnx", "float32", CARD, lstm)
    return path


@pytest.mark.parametrize("name", [pytest.param(name, marks=NEEDED[name]) for name in formats.SUFFIXES])
@pytest.mark.parametrize("kind", ["wave", "step"])
def test_every_format_holds_waves_and_steps(lstm, kind, name, tmp_path):
    path = tmp_path / f"tiny{formats.SUFFIXES[name]}"
    about = making.make(forms.of_enhancer(lstm, kind), path, name, "float32", CARD, lstm)
    assert about["difference"] < 1e-5 and about == running.read_card(path)
    assert (about["name"], about["form"], about["format"], about["licence"], about["sample_rate"]) == ("tiny", kind, name, "MIT", 16_000)
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([path.name, f"{path.name}.json"])
    system, wave = se_keras.load_system(str(path)), speech_like(0.7, 2)
    assert cost.measure(system)["parameters"] == lstm.network.count_params()
    np.testing.assert_allclose(system.enhance([wave])[0], lstm.enhance([wave])[0], atol=1e-5)


@pytest.mark.parametrize(("network", "name"), [pytest.param("dccrn", "litert", marks=NEEDED["litert"]),
                                               pytest.param("blstm", "onnx", marks=NEEDED["onnx"]),
                                               pytest.param("unet_ibm", "onnx", marks=NEEDED["onnx"])])
def test_every_family_comes_out(network, name, tmp_path):
    enhancer = make(network)
    about = making.make(forms.of_enhancer(enhancer, "wave"), tmp_path / "tiny", name, "float32", CARD, enhancer)
    assert about["difference"] < 1e-5


@pytest.mark.parametrize("name", [pytest.param(name, marks=NEEDED[name]) for name in ("onnx", "litert")])
def test_a_quality_net_comes_out(name, tmp_path):
    keras.utils.set_random_seed(0)
    judge = QualityPredictor(models.build("quality_net", filters=[[3, 5], [4, 9]]))
    about = making.make(forms.of_quality_net(judge, "wave"), tmp_path / "judge", name, "float32", CARD, judge)
    assert about["difference"] < 1e-5
    clean = speech_like(1.0, 3)
    score = running.load(tmp_path / "judge")({"degraded": clean[None] + 0.1, "clean": clean[None]})["score"]
    assert score == pytest.approx(judge.predict_waves([(clean + np.float32(0.1), clean)])[0], abs=1e-4)


@NEEDED["onnx"]
def test_a_shipped_model_on_real_speech(shared, tmp_path):
    enhancer, _ = pretrained.load_enhancer("lstm-ears")
    wave = audio.read(min((shared / "data" / "speech" / "test").rglob("*.flac")))[:48_001]
    wave = wave + 0.3 * noise(4.0)[:len(wave)]
    for kind in ("wave", "step"):
        path = tmp_path / f"{kind}.onnx"
        making.make(forms.of_enhancer(enhancer, kind), path, "onnx", "float32", CARD, enhancer)
        np.testing.assert_allclose(running.ExportedSystem(path).enhance([wave])[0], enhancer.enhance([wave])[0], atol=1e-4)


@NEEDED["litert"]
def test_smaller_weights_make_a_smaller_file_that_is_near(tmp_path):
    enhancer = make("lstm", units=64, dense_units=64)
    form = forms.of_enhancer(enhancer, "step")
    kinds = ("float32", "float16", "int8")
    off = {each: making.make(form, tmp_path / each, "litert", each, CARD, enhancer)["difference"] for each in kinds}
    size = {each: (tmp_path / each).stat().st_size for each in off}
    assert size["int8"] < 0.35 * size["float32"] and size["float16"] < 0.6 * size["float32"]
    assert off["float32"] < off["float16"] < 1e-3 < off["int8"] < 0.02


@pytest.mark.parametrize("sizes", [[1], [128], [5000], [0, 7, 300]], ids=str)
def test_an_exported_step_streams_blocks_of_any_size(lstm, step, sizes):
    wave, stream = speech_like(0.4, 3)[:3001], running.ExportedStream(step)
    for _ in range(2):  # flush begins a new recording
        out, at, number = [], 0, 0
        while at < len(wave):
            out.append(stream.process(wave[at:at + sizes[number % len(sizes)]]))
            at, number = at + sizes[number % len(sizes)], number + 1
        np.testing.assert_allclose(np.concatenate([*out, stream.flush()]), lstm.enhance([wave])[0], atol=1e-5)
    assert stream.latency_s == StreamingEnhancer(lstm).latency_s and len(stream.flush()) == 0


def test_devices_feed_a_step_by_its_blocks(step):
    stream, given = running.ExportedStream(step), 0
    for number in range(1, 8):  # `recipes.live.devices` begins with as many samples of silence as may be missing
        given += len(stream.process(noise(1.0)[:stream.block]))
        assert given == number * stream.block - stream.lag


def test_a_system_enhances_anew_whatever_its_stream_was_used_for(lstm, step):
    wave, system = speech_like(0.2, 3), running.ExportedSystem(step)
    system.stream.process(wave)
    np.testing.assert_allclose(system.enhance([wave])[0], lstm.enhance([wave])[0], atol=1e-5)


# --- What goes wrong -------------------------------------------------------------------------------------------------------------


@register
class AsTheConverterWouldHaveIt(keras.layers.Layer):
    """Another factor for a converter than for Keras: what silently goes wrong in one."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return x * (self.factor if backend._portable else 1.0)


@pytest.mark.parametrize(("factor", "said"), [(1.0003, "is .* from Keras, more than 0.0001"),
                                              (float("nan"), "numbers that are not finite")])
def test_a_file_that_says_something_else_is_not_kept(lstm, factor, said, tmp_path):
    form = forms.of_enhancer(lstm, "wave")
    wrong = keras.Model(form.model.input, {"enhanced": AsTheConverterWouldHaveIt(factor)(form.model.output["enhanced"])}, name="wrong")
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "saved_model.pb").write_bytes(b"an earlier one")
    with pytest.raises(UserError, match=said):
        making.make(forms.Form("wave", wrong), tmp_path / "tiny", "saved-model", "float32", CARD, lstm)
    assert [each.name for each in tmp_path.iterdir()] == ["tiny"]
    assert (tmp_path / "tiny" / "saved_model.pb").read_bytes() == b"an earlier one"


def test_a_converter_that_fails_leaves_nothing(lstm, monkeypatch, tmp_path):
    def fail(model, weights, path):
        path.write_bytes(b"half")
        raise RuntimeError("TensorListReserve requires element_shape\nand so on")

    monkeypatch.setattr(formats, "_keras", fail)
    with pytest.raises(UserError, match="lstm_wave cannot be converted to keras: TensorListReserve requires element_shape$"):
        making.make(forms.of_enhancer(lstm, "wave"), tmp_path / "tiny.keras", "keras", "float32", CARD, lstm)
    assert list(tmp_path.iterdir()) == []


def test_the_script_writes_what_there_is_and_says_what_it_measured(lstm, capsys, tmp_path):
    run = save_with_card(tmp_path / "mine", lstm.network, "lstm", {"bins": 129, "units": 6, "dense_units": 5}, lstm.config)
    export.main([str(run), "--format", "saved-model", "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == ["mine", "mine-step", "mine-step.json", "mine.json"]
    assert "mine-step" in said and "from Keras" in said
    export.main([str(run), "--format", "keras", "--form", "network", "--out", str(tmp_path / "out")])
    network = keras.models.load_model(tmp_path / "out" / "mine-network.keras")
    for one, other in zip(network.get_weights(), lstm.network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_bad_arguments_are_refused_before_any_work(capsys, monkeypatch, tmp_path):
    out = tmp_path / "out"
    assert "no such model" in refused(capsys, export, "nothing", "--format", "keras", "--out", out)
    assert "invalid choice: 'pickle'" in refused(capsys, export, "lstm-ears", "--format", "pickle", "--out", out)
    assert "--weights float16: onnx takes float32" in refused(capsys, export, "lstm-ears", "--format", "onnx", "--weights", "float16",
                                                                    "--out", out)
    assert "--web takes --format onnx, and" in refused(capsys, export, "lstm-ears", "--format", "onnx", "--form", "network", "--web",
                                                       tmp_path, "--out", out)
    assert "not a folder of onnxruntime-web" in refused(capsys, export, "lstm-ears", "--format", "onnx", "--web", tmp_path, "--out", out)
    assert "an enhancer is expected here" in refused(capsys, export, "quality-net", "--format", "onnx", "--web", tmp_path, "--out", out)
    assert "--web takes --format onnx" in refused(capsys, export, "lstm-ears", "--format", "keras", "--web", tmp_path, "--out", out)
    assert "has no streaming step; lstm-ears has one" in refused(capsys, export, "dnn-mse", "--format", "keras", "--form", "step",
                                                                 "--out", out)
    assert not out.exists()
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused(capsys, export, "dnn-mse", "--format", "keras", "--out", tmp_path / "file")
    (out / "dnn-mse.keras").mkdir(parents=True)
    assert "is no earlier keras file" in refused(capsys, export, "dnn-mse", "--format", "keras", "--out", out)
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    for name, packages in (("onnx", "onnx tf2onnx onnxruntime"), ("litert", "ai-edge-litert")):
        assert f"pip install {packages} " in refused(capsys, export, "dnn-mse", "--format", name, "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_files_that_are_not_exported_ones_say_so(step, tmp_path):
    def said(call, path):
        with pytest.raises(UserError) as error:
            call(path)
        return str(error.value)

    copy = tmp_path / "alone.onnx"
    assert "no such file" in said(se_keras.load_system, copy)
    copy.write_bytes(step.read_bytes())
    assert "alone.onnx.json: missing" in said(se_keras.load_system, copy)
    running.card_path(copy).write_text("{")
    assert "not JSON" in said(se_keras.load_system, copy)
    running.card_path(copy).write_text("{}")
    assert "not a card of an exported model" in said(se_keras.load_system, copy)
    card = json.loads(running.card_path(step).read_text())
    for lie in ({"inputs": 3}, {"block": 64}, {"delay": 0}, {"latency_s": None}, {"form": 1}, {"outputs": {"enhanced": [1, 128]}}):
        running.card_path(copy).write_text(json.dumps(card | lie))
        assert "not a card of an exported model" in said(se_keras.load_system, copy), lie
    running.card_path(copy).write_text(json.dumps(card | {"form": "wave"}))
    assert "a stream takes the step form" in said(running.ExportedStream, copy)
    for damaged in (b"", step.read_bytes()[:3000], b"no model"):
        copy.write_bytes(damaged)
        running.card_path(copy).write_text(json.dumps(card))
        assert "cannot be read as onnx" in said(se_keras.load_system, copy)
    running.card_path(copy).write_text(json.dumps(card | {"form": "wave", "outputs": {"score": [1, 1]}}))
    assert "enhances no waves" in said(se_keras.load_system, copy)
    with pytest.raises(UserError, match="one row of finite samples"):
        running.ExportedStream(step).process(np.zeros((2, 3)))


def test_enhance_streams_an_exported_step_from_a_pipe(lstm, step, monkeypatch, capsys):
    enhance, wave = load_script("enhance.py"), speech_like(0.4, 3)
    pipe = types.SimpleNamespace(buffer=io.BytesIO((wave * 32767).astype("<i2").tobytes()))
    out = types.SimpleNamespace(buffer=io.BytesIO())
    with monkeypatch.context() as patched:
        patched.setattr("sys.stdin", pipe)
        patched.setattr("sys.stdout", out)
        assert enhance.main(["--live", "pipe", "--enhancer", str(step)]) == 0
    heard = np.frombuffer(out.buffer.getvalue(), "<i2") / 32767
    np.testing.assert_allclose(heard, lstm.enhance([wave])[0], atol=1e-4)
    assert "latency 16 ms" in capsys.readouterr().err
