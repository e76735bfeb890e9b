"""The page of an exported enhancer, in a real browser: what it gives is what ONNX Runtime gives here; it plays; nothing is fetched."""

import contextlib
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import ROOT, speech_like

from se_keras.errors import UserError
from se_keras.export import running, web

onnx = pytest.importorskip("onnx", reason="needs onnx: pip install -r requirements-extras.txt")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
RUNTIME = Path(os.environ.get("ONNXRUNTIME_WEB") or ROOT / "tests" / "node_modules" / "onnxruntime-web")
ATTACK = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"


def save(folder, name, form, formulas, states=()):
    """An ONNX file of {output: (operator, inputs)} with its card; a number among the inputs is a constant."""
    shape = [1, None] if form == "wave" else [1, 256]
    nodes, constants = [], []
    for output, (operator, *inputs) in formulas.items():
        for value in (each for each in inputs if not isinstance(each, str)):
            constants.append(onnx.helper.make_tensor(str(value), onnx.TensorProto.FLOAT, [], [value]))
        nodes.append(onnx.helper.make_node(operator, [str(each) for each in inputs], [output]))
    inputs = ["noisy"] if form == "wave" else ["block", *states]
    outputs = ["enhanced", *(f"next_{state}" for state in states)]
    signature = [[onnx.helper.make_tensor_value_info(each, onnx.TensorProto.FLOAT, shape) for each in names] for names in (inputs, outputs)]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "tiny", *signature, constants), ir_version=10,
                                   opset_imports=[onnx.helper.make_opsetid("", 18)])
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    card = {"name": ATTACK, "form": form, "format": "onnx", "weights": "float32", "file": ATTACK, "sample_rate": 16_000, "licence": "MIT",
            "inputs": dict.fromkeys(inputs, shape), "outputs": dict.fromkeys(outputs, shape)}
    running.card_path(path).write_text(json.dumps({**card, "block": 256, "delay": 256, "latency_s": 0.032} if form == "step" else card))
    return path


def save_wave(folder):
    """A gain of a half."""
    return save(folder, "wave", "wave", {"enhanced": ("Mul", "noisy", 0.5)})


def save_step(folder):
    """A gain of a half, one block late, and a trace of all blocks before: of states that are mixed up or lost, the samples tell."""
    return save(folder, "step", "step", {
        "half": ("Mul", "before", 0.5), "trace": ("Mul", "memory", 0.25), "enhanced": ("Add", "half", "trace"),
        "next_before": ("Identity", "block"), "faded": ("Mul", "memory", 0.75), "next_memory": ("Add", "faded", "block")},
        states=("before", "memory"))


@pytest.fixture
def stand_in(tmp_path):
    """A folder that looks like onnxruntime-web."""
    folder = tmp_path / "onnxruntime-web"
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"name": "onnxruntime-web", "version": "1.30.5"}))
    for name in ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"):
        (folder / "dist" / name).write_bytes(b"x")
    return folder


# --- Without a browser -----------------------------------------------------------------------------------------------------------


def test_the_page_is_one_file_and_names_are_no_markup(tmp_path, stand_in):
    path = web.write(tmp_path / "page.html", save_wave(tmp_path), stand_in)
    page = path.read_text()
    assert "<!--" not in page.split("</style>")[0] and ATTACK not in page and "alert(2)" in page  # within the card, escaped
    assert "src=\"http" not in page and "connect-src" not in page and "default-src 'none'" in page
    assert page == web.write(tmp_path / "again.html", save_wave(tmp_path), stand_in).read_text()


def test_a_folder_that_is_no_tested_runtime(tmp_path, stand_in):
    assert web.check(stand_in) == "1.30.5"
    with pytest.raises(UserError, match=r"not a folder of onnxruntime-web; npm install onnxruntime-web@1\.30"):
        web.check(tmp_path)
    (stand_in / "dist" / "ort-wasm-simd-threaded.wasm").unlink()
    with pytest.raises(UserError, match="ort-wasm-simd-threaded.wasm is missing"):
        web.check(stand_in)
    for content, said in (({"name": "onnxruntime-web", "version": "1.3.0"}, r"1\.3\.0, and the page is tested with 1\.30\.x"),
                          ({"name": "onnxruntime-node", "version": "1.30.0"}, "not a folder"), ([], "not a folder")):
        (stand_in / "package.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match=said):
            web.check(stand_in)


def test_a_model_that_the_page_cannot_run(tmp_path, stand_in):
    path, page = save_wave(tmp_path), tmp_path / "page.html"
    card = running.card_path(path)
    content = json.loads(card.read_text())

    def refused(said, model=path):
        with pytest.raises(UserError, match=said):
            web.write(page, model, stand_in)
        assert not page.exists()

    refused("no such file", tmp_path / "other.onnx")
    for changed, said in (({"form": "network"}, "the form network"),
                          ({"inputs": {"degraded": [1, None]}, "outputs": {"score": [1, 1]}}, "of degraded; the page takes an enhancer"),
                          ({"inputs": {"noisy": [1, None], "more": [1]}}, "its card says more, noisy")):
        card.write_text(json.dumps({**content, **changed}))
        refused(said)
    card.write_text(json.dumps(content))
    path.write_bytes(b"no model")
    refused("not an ONNX file")
    card.unlink()
    refused("missing")


# --- In a browser ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install -r tests/requirements.txt")
    if CHROMIUM is None:
        pytest.skip("needs Chromium; on Debian: apt install chromium")
    if not RUNTIME.is_dir():
        pytest.skip("needs onnxruntime-web: npm install --prefix tests --no-save onnxruntime-web@1.30.0, or its folder as ONNXRUNTIME_WEB")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=[
            "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream"])  # its microphone beeps twice a second
        yield launched
        launched.close()


@contextlib.contextmanager
def tab_of(browser, path):
    """A page when its model is there; afterwards nothing may have been fetched, complained, or run that came as a name."""
    tab, complaints, requests = browser.new_page(), [], []
    tab.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("dialog", lambda dialog: (complaints.append(f"dialog {dialog.message}"), dialog.dismiss()))
    tab.on("request", lambda request: requests.append(request.url) if not request.url.startswith(("data:", "blob:")) else None)
    tab.goto(path.as_uri())
    tab.wait_for_selector("body[data-ready]")
    yield tab
    assert complaints == [] and requests == [path.as_uri()]
    tab.close()


@pytest.fixture(scope="module")
def pages(browser, tmp_path_factory):
    """{form: (page, model)}."""
    folder = tmp_path_factory.mktemp("web")
    models = {"wave": save_wave(folder), "step": save_step(folder)}
    return {form: (web.write(folder / f"{form}.html", model, RUNTIME), model) for form, model in models.items()}


def wav(samples, sample_rate=16_000):
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def give(tab, name, content):
    tab.set_input_files("#file", {"name": name, "mimeType": "audio/wav", "buffer": content})
    tab.wait_for_selector(f"#player[data-loaded={json.dumps(name)}], #failure:not([hidden])")


def heard(tab, version):
    return np.array(tab.evaluate("version => Array.from(player.buffers.get(version).getChannelData(0))", version), np.float32)


def test_a_recording_is_enhanced_plays_and_is_downloaded(browser, pages):
    path, model = pages["wave"]
    left, right = speech_like(1.0, seed=1)[:15_000], speech_like(1.0, seed=2)[:15_000]
    with tab_of(browser, path) as tab:
        assert ATTACK in tab.title() and ATTACK in tab.text_content("#title") and not tab.is_visible("#microphone")
        give(tab, "stereo.wav", wav(np.stack([left, right], axis=1)))
        noisy = heard(tab, "noisy")
        np.testing.assert_allclose(noisy, (left + right) / 2, atol=1e-4)  # 16 bits
        np.testing.assert_allclose(heard(tab, "enhanced"), running.load(model)({"noisy": noisy[None]})["enhanced"][0], atol=1e-6)
        assert "real-time factor" in tab.text_content("#status") and tab.locator(".spectrogram").count() == 2

        tab.keyboard.press("Space")
        tab.wait_for_timeout(150)
        before = tab.evaluate("player.position")
        tab.keyboard.press("1")
        after = tab.evaluate("player.position")
        assert 0 < before <= after < before + 0.5 and tab.evaluate("[player.version, player.playing]") == ["noisy", True]
        tab.keyboard.press("Space")
        paused = tab.evaluate("player.position")
        assert not tab.evaluate("player.playing") and tab.text_content("#clock") != "" and paused >= after
        box = tab.locator(".spectrogram canvas").nth(1)
        box.click(position={"x": box.bounding_box()["width"] / 2, "y": 20})
        assert tab.evaluate("player.version") == "enhanced" and abs(tab.evaluate("player.position") - len(noisy) / 32_000) < 0.02

        with tab.expect_download() as download:
            tab.click("#download")
        samples, rate = soundfile.read(download.value.path())
        assert download.value.suggested_filename == "stereo-enhanced.wav" and rate == 16_000
        np.testing.assert_allclose(samples, heard(tab, "enhanced"), atol=1e-4)

        give(tab, f"{ATTACK}.wav", b"no audio")
        assert ATTACK in tab.text_content("#failure") and "no audio in it" in tab.text_content("#failure")
        tab.evaluate("OfflineAudioContext.prototype.decodeAudioData = async () => ({duration: 900})")
        give(tab, "long.wav", b"")
        tab.wait_for_selector("#failure >> text=lasts 15.0 minutes, and this page takes 10")
        assert tab.evaluate("player.buffers.size") == 2  # what was there stays


def test_the_step_keeps_its_states_in_recordings_and_live(browser, pages):
    """Samples as those of `ExportedStream`: of a recording at 48 kHz that ends within a block, and of the microphone."""
    path, model = pages["step"]

    def expected(noisy):
        stream = running.ExportedStream(model)
        return np.concatenate([stream.process(noisy), stream.flush()])

    with tab_of(browser, path) as tab:
        give(tab, ATTACK, wav(speech_like(3.0, seed=3)[:45_000], 48_000))
        noisy = heard(tab, "noisy")
        assert len(noisy) == 15_000 and tab.text_content("#playing") == ATTACK
        np.testing.assert_allclose(heard(tab, "enhanced"), expected(noisy), atol=1e-5)

        tab.evaluate("""() => {
            const devices = navigator.mediaDevices, real = devices.getUserMedia.bind(devices);
            devices.getUserMedia = async () => {
                devices.getUserMedia = real;
                throw new DOMException('Permission denied', 'NotAllowedError');
            };
        }""")
        tab.click("#microphone")
        tab.wait_for_selector("#failure >> text=The microphone cannot be used: Permission denied")
        assert tab.evaluate("player.buffers.size") == 2  # what was there stays
        tab.click("#microphone")
        tab.wait_for_selector("#player[data-loaded=live]")
        assert not tab.is_visible("#failure")
        peak = tab.evaluate("""async () => {
            const analyser = new AnalyserNode(live.context, {fftSize: 16384});
            live.node.connect(analyser);
            await new Promise(done => setTimeout(done, 700));
            const samples = new Float32Array(analyser.fftSize);
            analyser.getFloatTimeDomainData(samples);
            return Math.max(...samples);
        }""")
        assert peak > 0.1  # something sounds
        tab.click("#microphone")
        tab.wait_for_selector("#player[data-loaded=Microphone]")
        noisy = heard(tab, "noisy")
        assert len(noisy) > 8_000 and np.abs(noisy).max() > 0.2
        np.testing.assert_allclose(heard(tab, "enhanced"), expected(noisy), atol=1e-5)
