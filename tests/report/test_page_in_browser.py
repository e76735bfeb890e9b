"""The report page in a real browser: it sounds, a switch keeps the moment, tables sort, nothing is fetched, nothing complains."""

import contextlib
import shutil

import numpy as np
import pytest
from conftest import speech_like
from test_page import ATTACK, score_rows

from se_keras.report import page, tables

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SYSTEMS = ("noisy", "mse", ATTACK)


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install -r tests/requirements.txt")
    if CHROMIUM is None:
        pytest.skip("needs Chromium; on Debian: apt install chromium")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu",
                                                                              "--disable-background-networking"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def report_page(tmp_path_factory):
    """A page of six utterances: "mse" is a tone at 1 kHz and the last system one at 3 kHz, so that one hears which one plays."""
    scores = score_rows(SYSTEMS)
    t = np.arange(3 * 16_000) / 16_000
    clean = speech_like(3.0, seed=5)
    waves = {"clean": clean, "noisy": clean, "mse": 0.3 * np.sin(2 * np.pi * 1000 * t), ATTACK: 0.3 * np.sin(2 * np.pi * 3000 * t)}
    waves = {name: wave.astype(np.float32) for name, wave in waves.items()}
    history = {"update": [0, 5], "predicted": [2.0, 2.4], "true": [2.0, 2.2], "best": 5, "label": "PESQ"}
    path = tmp_path_factory.mktemp("page") / "index.html"
    return page.write(path, ATTACK, tables.summarise(scores), scores, lambda ids: dict.fromkeys(ids, waves), history)


@contextlib.contextmanager
def tab_of(browser, path):
    """A page when it is ready; afterwards nothing may have been fetched, complained, or run that came as a name."""
    tab, complaints, requests = browser.new_page(), [], []
    tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("dialog", lambda dialog: (complaints.append(f"dialog {dialog.message}"), dialog.dismiss()))
    tab.on("request", lambda request: requests.append(request.url) if not request.url.startswith(("data:", "blob:")) else None)
    tab.goto(path.as_uri())
    tab.wait_for_selector("#player[data-loaded]")
    yield tab
    assert complaints == [] and requests == [path.as_uri()]
    tab.close()


@pytest.fixture
def opened(browser, report_page):
    with tab_of(browser, report_page) as tab:
        yield tab


def loudest(tab):
    """Frequency in Hz of what sounds now."""
    return tab.evaluate("""async () => {
        const player = report.browser.player, analyser = new AnalyserNode(player.context, {fftSize: 2048, smoothingTimeConstant: 0});
        player.master.connect(analyser);
        await new Promise(done => setTimeout(done, 300));
        const levels = new Float32Array(analyser.frequencyBinCount);
        analyser.getFloatFrequencyData(levels);
        return levels.indexOf(Math.max(...levels)) * player.context.sampleRate / analyser.fftSize;
    }""")


def position(tab):
    return tab.evaluate("report.browser.player.position")


def test_it_sounds_and_a_switch_keeps_the_moment(opened):
    opened.keyboard.press("3")
    opened.click("#play")
    opened.wait_for_function("report.browser.player.position > 0.2")
    assert abs(loudest(opened) - 1000) < 30
    before = position(opened)
    opened.get_by_role("button", name="4 ").click()
    after = position(opened)
    assert before <= after < before + 1.0 and abs(loudest(opened) - 3000) < 30
    opened.keyboard.press("Space")
    paused = position(opened)
    assert not opened.evaluate("report.browser.player.playing") and paused > after
    opened.wait_for_timeout(100)
    assert position(opened) == paused
    box = opened.locator(".spectrogram canvas").nth(1)
    box.click(position={"x": box.bounding_box()["width"] / 2, "y": 20})
    assert abs(position(opened) - 1.5) < 0.05
    assert opened.evaluate("report.browser.player.version") == "noisy"


def test_playing_goes_on_with_the_utterance_that_is_opened(opened):
    """Two arrows at once while it plays: the last one opened plays, and nothing of the others."""
    opened.click("#play")
    opened.wait_for_function("report.browser.player.position > 0.1")
    opened.evaluate("() => { for (const id of ['u3', 'u0']) report.browser.open(id); }")
    opened.wait_for_selector("#player[data-loaded=u0]")
    opened.wait_for_function("report.browser.player.playing && report.browser.player.position > 0.1")
    assert opened.text_content("#playing") == "u0" and opened.evaluate("report.browser.player.sources.size") == 4
    opened.evaluate("() => { report.browser.player.stop(); report.browser.open('u5'); report.browser.toggle(); }")  # Play too early
    opened.wait_for_function("report.browser.player.playing && report.browser.current === 'u5'")


def test_what_cannot_be_decoded_is_said_and_plays_nothing(opened):
    opened.evaluate("() => { report.browser.items.get('u1').audio.mse = btoa('no audio'); report.browser.open('u1'); }")
    opened.wait_for_selector("#failure:not([hidden])")
    assert "does not decode" in opened.text_content("#failure") and opened.evaluate("report.browser.player.buffers.size") == 0
    opened.evaluate("report.browser.open('u2')")
    opened.wait_for_selector("#player[data-loaded=u2]")
    assert not opened.is_visible("#failure")


def test_tables_sort(opened):
    def systems():
        return opened.locator("#systems tbody td:first-child").all_text_contents()

    assert systems() == list(SYSTEMS)
    opened.click("#systems th:nth-child(2) button")  # raw PESQ: the best first
    assert systems() == list(SYSTEMS)[::-1] and opened.get_attribute("#systems th:nth-child(2)", "aria-sort") == "descending"
    opened.click("#systems th:nth-child(2) button")
    assert systems() == list(SYSTEMS)


def test_utterances_filter_and_sort(opened):
    def listed():
        return opened.eval_on_selector_all("#utterances li", "lines => lines.map(line => line.dataset.id)")

    assert listed()[:3] == ["u5", "u3", "u0"] and opened.text_content("#playing") == "u5"
    opened.select_option("#sort-by", "gain pesq_raw")
    assert listed() == ["u5", "u4", "u3", "u2", "u1", "u0"]
    opened.select_option("#sort-by", "gap Quality-Net")
    assert listed()[0] == "u4"
    opened.select_option("#filter-snr", "6 dB")
    assert sorted(listed()) == ["u1", "u3", "u5"]
    opened.select_option("#filter-noise", "white")
    assert listed() == ["u3"]
    opened.click("#utterances li")
    opened.wait_for_selector("#player[data-loaded=u3]")
    assert opened.locator("#scores tbody tr").count() == 3 and "typical pesq_raw" in opened.text_content("#why")


def test_spectrograms_show_what_sounds(opened):
    """The tone of 1 kHz is the brightest row of its picture, an eighth of the way up."""
    rows = opened.evaluate("""() => {
        const canvas = document.querySelector('.spectrogram[data-version=mse] canvas');
        const pixels = canvas.getContext('2d').getImageData(canvas.width / 2 | 0, 0, 1, canvas.height).data;
        return Array.from({length: canvas.height}, (_, row) => pixels[4 * row] + pixels[4 * row + 1] + pixels[4 * row + 2]);
    }""")
    assert abs(len(rows) - 1 - int(np.argmax(rows)) - 1000 / 8000 * len(rows)) <= 1


def test_charts_are_drawn(opened):
    for chart in ("#gain-snr", "#gain-noise", "#judge-chart", "#history-chart"):
        assert opened.locator(f"{chart} .main-svg").count() > 0, chart
    opened.select_option("#gain-metric", "si_sdr")
    assert "SI-SDR" in opened.text_content("#gain-snr .ytitle")
    assert ATTACK in opened.text_content("#gain-snr .legend")  # as it is written


def test_recordings_that_nothing_scored_are_only_heard(browser, tmp_path):
    """Two recordings, the enhanced one a tone of 2 kHz: no tables, no charts, and Plotly is not in the page."""
    tone = (0.3 * np.sin(2 * np.pi * 2000 * np.arange(16_000) / 16_000)).astype(np.float32)
    versions = {"noisy": speech_like(1.0, seed=6), "enhanced": tone}
    path = tmp_path / "compare.html"
    held = page.write_recordings(path, "Noisy and enhanced", {"a.wav": versions, ATTACK: versions}, "About all.", {ATTACK: "About one."})
    assert held == ["a.wav", ATTACK] and path.stat().st_size < 300_000
    with tab_of(browser, path) as tab:
        assert [each.get_attribute("id") for each in tab.locator("section").all() if each.is_visible()] == ["listen"]
        assert tab.text_content("#note") == "About all." and not tab.is_visible("#scores") and not tab.is_visible("#sort-by")
        tab.keyboard.press("2")
        tab.click("#play")
        tab.wait_for_function("report.browser.player.position > 0.05")
        assert abs(loudest(tab) - 2000) < 30
        tab.keyboard.press("ArrowDown")
        tab.wait_for_function("name => document.getElementById('player').dataset.loaded === name", arg=ATTACK)  # decoded and drawn
        assert tab.text_content("#why") == "About one." and tab.text_content("#playing") == ATTACK
        assert tab.locator(".spectrogram").count() == 2
