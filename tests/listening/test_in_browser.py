"""The listening test in a real browser: consent, training, keys, switching in step, going on, a server that goes away."""

import shutil
import threading

import pytest
from scripted import SYSTEMS, Listener, Running, go_through, make, report, running

from se_keras.listening.store import Store
from se_keras.report import page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
READY = "#trial[data-ready]:not([hidden])"


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


@pytest.fixture
def opened(browser):
    """A function that opens an address; nothing may complain but of what a test does on purpose, and nothing may be asked of others."""
    tabs, complaints, requests = [], [], []

    def open_(url):
        tab = browser.new_context().new_page()
        tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url) if not request.url.startswith(("data:", "blob:")) else None)
        tab.goto(url)
        tabs.append(tab)
        return tab

    yield open_
    known = ("ERR_CONNECTION", "ERR_EMPTY_RESPONSE", "status of 409")  # a server that is away; an answer that another window gave
    assert [text for text in complaints if not any(part in text for part in known)] == []
    assert all(url.startswith("http://127.0.0.1:") for url in requests)
    assert not [url for url in requests for name in SYSTEMS if name in url]
    for tab in tabs:
        tab.context.close()


def begin(tab):
    """Agree, and go to the first trial of the training."""
    tab.wait_for_selector("body[data-shown=welcome]")
    assert tab.is_disabled("#start")
    tab.check("#agree")
    tab.click("#start")
    tab.wait_for_selector("body[data-shown=pause]")
    tab.keyboard.press("Enter")
    tab.wait_for_selector(READY)


def hear(tab):
    """Play, and switch through all versions until each counts as heard."""
    tab.keyboard.press("Space")
    for version in tab.evaluate("test.question.versions"):
        tab.keyboard.press(version)
        tab.wait_for_selector(f"#versions button[data-version={version}][aria-pressed=true]")
        tab.evaluate("version => new Promise(done => { const look = () => test.question.heard.get(version) > 0.3 ? done() : "
                     "requestAnimationFrame(look); look(); })", version)


def on(tab):
    """Enter, and what comes: the next trial, after a pause where there is one, or the end."""
    tab.keyboard.press("Enter")
    tab.wait_for_selector(f"body[data-shown=pause], body[data-shown=end], {READY}")
    if tab.get_attribute("body", "data-shown") == "pause":
        tab.keyboard.press("Enter")
        tab.wait_for_selector(f"body[data-shown=end], {READY}")
    return tab.get_attribute("body", "data-shown")


def answers(path):
    store = Store(path)
    found = store.answers(), store.listeners()
    store.close()
    return found


def test_eight_at_once_two_of_them_in_browsers(tmp_path, opened):
    """Everyone ends, and every answer is the one that was given: over HTTP a side for each listener, in the browser by keys."""
    path = make(tmp_path / "test.db", items=3, trials=1, seconds=1.0)
    with running(path) as server:
        threads = [threading.Thread(target=go_through, args=(Listener(server.url), lambda turn: "none")) for _ in range(6)]
        tabs = [opened(f"{server.url}/?scripted=1") for _ in range(2)]
        for thread in threads:
            thread.start()
        for tab in tabs:
            begin(tab)
        assert tabs[0].url != tabs[1].url and "#" in tabs[0].url
        for turn in range(3):
            for tab, key in zip(tabs, "12", strict=True):
                hear(tab)
                assert tab.is_disabled("#next") and tab.text_content("#missing") == "Still to be answered"
                tab.keyboard.press("0")
                tab.keyboard.press(key)
                assert tab.is_enabled("#next")
                assert on(tab) == ("end" if turn == 2 else "trial")
        for thread in threads:
            thread.join()
    rows, listeners = answers(path)
    assert len(listeners) == 8 and all(each["answered"] == each["trials"] == 3 and each["scripted"] for each in listeners)
    assert [row["answer"] for row in rows] == ["none"] * 18 + ["A"] * 3 + ["B"] * 3
    assert all(row["seconds"] > 0.6 for row in rows[18:])


def test_a_switch_keeps_the_moment_and_sounds_as_the_slot(tmp_path, opened):
    """The tones are 1 kHz and 2 kHz; which is A, the plan knows and the browser does not."""
    path = make(tmp_path / "test.db", seconds=3.0)
    with running(path) as server:
        tab = opened(f"{server.url}/?scripted=1")
        begin(tab)
        store = Store(path)
        slots = store.design.plan(0)[0].slots
        store.close()
        tab.click("#play")
        expected = {"A": 1000 * (SYSTEMS.index(slots[0]) + 1), "B": 1000 * (SYSTEMS.index(slots[1]) + 1)}
        for slot in "ABA":
            before = tab.evaluate("test.question.player.position")
            tab.keyboard.press(slot)
            after = tab.evaluate("test.question.player.position")
            assert before <= after < before + 0.5 and abs(loudest(tab) - expected[slot]) < 30
        tab.keyboard.press("Space")
        assert tab.evaluate("!test.question.player.playing") and tab.text_content("#play") in ("Play", "Pause")
        tab.keyboard.press("Enter")  # nothing is answered: nothing happens
        assert tab.is_visible(READY) and tab.text_content("#progress") == "Training 1 of 2"


def loudest(tab):
    """Frequency in Hz of what sounds now."""
    return tab.evaluate("""async () => {
        const player = test.question.player, analyser = new AnalyserNode(player.context, {fftSize: 2048, smoothingTimeConstant: 0});
        player.master.connect(analyser);
        await new Promise(done => setTimeout(done, 200));
        const levels = new Float32Array(analyser.frequencyBinCount);
        analyser.getFloatFrequencyData(levels);
        return levels.indexOf(Math.max(...levels)) * player.context.sampleRate / analyser.fftSize;
    }""")


def test_an_answer_waits_for_a_server_that_is_away_and_a_link_goes_on(tmp_path, opened):
    path = make(tmp_path / "test.db", kind="abx", items=4, trials=2, seconds=1.0)
    server = Running(path)
    tab = opened(f"{server.url}/?scripted=1")
    begin(tab)
    hear(tab)
    tab.keyboard.press("2")
    server.kill()
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#failure:not([hidden])")
    assert "What you answered is kept here" in tab.text_content("#failure") and answers(path)[0] == []
    server = Running(path, server.port)
    tab.wait_for_selector(READY)
    assert not tab.is_visible("#failure") and [row["answer"] for row in answers(path)[0]] == ["B"]
    again = opened(tab.url)  # the listener's own link, in another browser
    again.wait_for_selector("body[data-shown=pause]")
    assert again.text_content("#pause-title") == "Welcome back"
    again.keyboard.press("Enter")
    again.wait_for_selector(READY)
    assert again.text_content("#progress") == "Training 2 of 2"
    hear(again)
    again.keyboard.press("1")
    assert on(again) == "trial" and again.text_content("#progress") == "Trial 1 of 2"
    server.kill()
    assert [row["answer"] for row in answers(path)[0]] == ["B", "A"]


def test_mushra_by_keys_and_by_sliders(tmp_path, opened):
    path = make(tmp_path / "test.db", kind="mushra", items=3, trials=1, seconds=1.0)
    with running(path) as server:
        tab = opened(f"{server.url}/?scripted=1")
        begin(tab)
        hear(tab)
        assert tab.text_content("#missing") == "Still to be rated: A, B, C, D"
        tab.keyboard.press("A")
        tab.keyboard.press("ArrowUp")
        tab.keyboard.press("Shift+ArrowUp")
        tab.keyboard.press("B")
        tab.keyboard.press("Home")
        tab.keyboard.press("ArrowDown")  # no further than 0
        for slot, share in (("C", 0.25), ("D", 0.99)):
            box = tab.locator(f".rating[data-version={slot}] input").bounding_box()
            tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + (1 - share) * box["height"])
        assert tab.is_enabled("#next") and tab.evaluate("test.question.player.version") == "D"
        assert [tab.text_content(f".rating[data-version={slot}] output") for slot in "AB"] == ["61", "0"]
        on(tab)
    stored = answers(path)[0][0]["answer"]
    assert (stored["A"], stored["B"]) == (61, 0) and 20 <= stored["C"] <= 30 and stored["D"] >= 97


def test_links_that_are_none(tmp_path, browser):
    with running(make(tmp_path / "test.db"), "--token", "only-for-you-1") as server:
        for link, said in (("/", "This test is by invitation"), ("/#nobody", "This link is none of this test's")):
            tab = browser.new_page()
            tab.goto(server.url + link)
            tab.wait_for_selector("#failure:not([hidden])")
            assert said in tab.text_content("#failure") and not tab.is_visible("#welcome")
            tab.close()
    with running(make(tmp_path / "open.db")) as server:  # without a token a listener's link that is cut short begins nothing either
        tab = browser.new_page()
        tab.goto(f"{server.url}/#cut-short")
        tab.wait_for_selector("#failure:not([hidden])")
        assert "This link belongs to no listener" in tab.text_content("#failure")
        tab.close()
    with running(tmp_path / "test.db") as server:
        tab = browser.new_page()
        tab.goto(f"{server.url}/#{server.token}")
        tab.wait_for_selector("body[data-shown=welcome]")
        assert tab.text_content("#consent") == "You agree." and "4 that do" in tab.text_content("#length")
        tab.close()


def test_the_table_stands_in_the_report(tmp_path, browser, monkeypatch):
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "const Plotly = {react() {}, newPlot() {}};")  # its 5 MB are not the point
    folder = report(tmp_path / "report", utterances=2)
    assert '<section id="listening-test" hidden>' in (folder / "index.html").read_text(encoding="utf-8")
    page.add_listening(folder / "index.html", {"about": "8 of 8 listeners are scripted: ...", "headers": ["A", "Preference"],
                                               "rows": [["<b>mse</b>", "60%"]]})
    tab = browser.new_page()
    tab.goto((folder / "index.html").as_uri())
    assert tab.is_visible("#listening-test") and tab.locator("#listening-table td").all_text_contents() == ["<b>mse</b>", "60%"]
    assert "scripted" in tab.text_content("#listening-about") and tab.locator("#utterances li").count() == 2
    tab.close()


def test_two_windows_of_one_listener(tmp_path, opened):
    """The first answer stays, and the other window goes on from there."""
    path = make(tmp_path / "test.db", items=3, trials=1, seconds=1.0)
    with running(path) as server:
        one = opened(f"{server.url}/?scripted=1")
        begin(one)
        two = opened(one.url)
        two.wait_for_selector("body[data-shown=pause]")
        two.keyboard.press("Enter")
        two.wait_for_selector(READY)
        for tab, key in ((one, "1"), (two, "2")):
            hear(tab)
            tab.keyboard.press(key)
            assert on(tab) == "trial" and tab.text_content("#progress") == "Training 2 of 2"
    assert [row["answer"] for row in answers(path)[0]] == ["A"]
