"""The server of a listening test, as a process of its own: nothing is lost, nothing is told, nothing else gets in."""

import os
import random
import signal
import socket
import threading
import time

import pytest
import requests
from scripted import SYSTEMS, Listener, Running, go_through, make, running

from se_keras.listening.store import Store

KILLS = int(os.environ.get("SE_KERAS_KILLS", "6"))  # 20 before a release
LISTENERS = 8


def stored(path):
    """{(listener's number, trial): answer} on disk."""
    store = Store(path)
    found = {(row["listener"], row["trial"]): row["answer"] for row in store.answers()}
    store.close()
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(make(tmp_path_factory.mktemp("listening") / "test.db")) as started:
        yield started


@pytest.fixture(scope="module")
def invited(tmp_path_factory):
    with running(make(tmp_path_factory.mktemp("invited") / "test.db"), "--token", "only-for-you-1") as started:
        yield started


def raw(server, request, whole=True):
    """The answer to bytes as they are: (status, all of it)."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request)
        answer = connection.recv(65_536)
        while whole and b"\r\n\r\n" not in answer:
            answer += connection.recv(65_536)
    return int(answer.split()[1]), answer


# --- Nothing is lost -----------------------------------------------------------------------------------------------------------------


def test_eight_at_once_lose_nothing(tmp_path):
    path = make(tmp_path / "test.db", items=14, trials=12)
    acknowledged, lock = {}, threading.Lock()

    def listen(number):
        draw = random.Random(number)
        given = go_through(Listener(server.url), lambda turn: draw.choice(["A", "B", "none"]), hear=number < 2)
        with lock:
            acknowledged[number] = given

    with running(path) as server:
        threads = [threading.Thread(target=listen, args=(number,)) for number in range(LISTENERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [len(given) for given in acknowledged.values()] == [19] * LISTENERS  # 2 of training, 12, 5 repeats
    found = stored(path)
    assert len(found) == 19 * LISTENERS
    by_listener = [{trial: answer for (number, trial), answer in found.items() if number == listener} for listener in range(LISTENERS)]
    assert sorted(by_listener, key=str) == sorted(acknowledged.values(), key=str)


def test_kill_9_loses_no_acknowledged_answer(tmp_path):
    """Killed at random moments under eight listeners; each sends its answer again until it is acknowledged, as the page does."""
    path = make(tmp_path / "test.db", items=1202, trials=1200, seconds=0.001)
    server, done, acknowledged = Running(path), threading.Event(), {}
    address = {"url": server.url}

    def listen(number):
        listener = Listener(address["url"])
        given, turn, draw = acknowledged.setdefault(listener.secret, {}), listener.next(), random.Random(number)
        while not done.is_set() and turn["phase"] != "end":
            answer = draw.choice(["A", "B", "none"])
            while not done.is_set():
                try:
                    got = listener.answer(turn, answer)
                except requests.RequestException:
                    time.sleep(0.04)
                    continue
                assert got.status_code in (200, 201), got.text
                given[turn["trial"]] = answer
                turn = got.json()["next"]
                break

    threads = [threading.Thread(target=listen, args=(number,)) for number in range(LISTENERS)]
    for thread in threads:
        thread.start()
    draw, killed_at = random.Random(), []
    for _ in range(KILLS):
        before = sum(map(len, list(acknowledged.values())))
        while sum(map(len, list(acknowledged.values()))) < before + 8:  # it serves
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.1))
        server.kill()
        killed_at.append(sum(map(len, list(acknowledged.values()))))
        server = Running(path, server.port)
    done.set()
    for thread in threads:
        thread.join()
    server.kill()
    store = Store(path)
    numbers = {secret: store.listener(secret).number for secret in acknowledged}
    store.close()
    found = stored(path)
    lost = [(secret, trial) for secret, given in acknowledged.items() for trial, answer in given.items()
            if found.get((numbers[secret], trial)) != answer]
    total = sum(map(len, acknowledged.values()))
    print(f"{KILLS} kills, after {killed_at} answers; {total} acknowledged, {len(found)} stored, {len(lost)} lost")
    assert lost == [] and len(acknowledged) == LISTENERS
    assert len(found) - total <= LISTENERS  # stored, but the word of it was lost: one a listener at most


def test_a_listener_goes_on_by_its_link_and_ctrl_c_ends_the_server_in_peace(tmp_path):
    path = make(tmp_path / "test.db")
    with running(path) as server:
        listener = Listener(server.url)
        listener.answer(listener.next(), "A")
        code, errors = server.kill(signal.SIGINT)
        assert code == 0 and "Traceback" not in errors
    with running(path) as server:
        assert "1 listeners so far, 0 of them finished" in server.said
        again = Listener(server.url, secret=listener.secret)
        assert again.next() == {"phase": "training", "trial": 1, "number": 2, "of": 2, "slots": ["A", "B"]}
        assert again.get("/api/test").json()["known"] is True
        go_through(again, lambda turn: "B")
        assert again.next() == {"phase": "end"}
    assert list(stored(path).values()) == ["A"] + ["B"] * 5


# --- Nothing is told -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, answer", [("ab", lambda turn: "A"), ("abx", lambda turn: "B"),
                                          ("mushra", lambda turn: dict.fromkeys(turn["slots"], 50))])
def test_no_answer_of_the_server_names_a_system_or_an_utterance(kind, answer, tmp_path):
    """All that a listener's browser gets, errors too; all slots of a trial have as many bytes, so that no length tells them apart."""
    traffic = []
    with running(make(tmp_path / "test.db", kind)) as server:
        listener = Listener(server.url)
        listener.session.hooks["response"] = lambda got, **_: traffic.append(got)
        for path in ("/", "/page.js", "/page.css", "/api/test", "/api/audio/0/Z", "/nothing"):
            listener.get(path)
        listener.post("/api/answer", {"trial": 0, "answer": SYSTEMS[0]})
        listener.post("/api/answer", {"trial": 99, "answer": "A"})
        turn = listener.next()
        slots = [*turn["slots"], *(["R"] if kind == "mushra" else [])]
        heard = {slot: listener.get(f"/api/audio/0/{slot}") for slot in slots}
        go_through(listener, answer)
    assert len({len(got.content) for got in heard.values()}) == 1
    names = {name.lower(): {value.lower() for value in (heard[slot].headers[name] for slot in slots)} for name in heard["A"].headers}
    assert {name for name, values in names.items() if len(values) > 1} <= {"date"}
    assert len(traffic) > 20
    for got in traffic:
        told = (got.content + str(got.headers).encode() + got.url.encode()).lower()
        for name in (*SYSTEMS, "hush", "anchor", "report:", "u0", "u5"):
            assert name.encode() not in told, (got.url, name)
    if kind == "mushra":
        assert heard["R"].content in [heard[slot].content for slot in turn["slots"]]  # the hidden reference is the reference
    if kind == "abx":
        assert heard["X"].content in (heard["A"].content, heard["B"].content) and heard["A"].content != heard["B"].content


def test_headers_keep_the_browser_strict(server):
    for path in ("/", "/api/test", "/api/next", "/nothing"):
        headers = requests.get(server.url + path, timeout=10).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store") and "server" not in headers
    page = requests.get(server.url, timeout=10).text
    assert "http" not in page.replace("<!doctype html>", "") and "style=" not in page and "<script>" not in page


# --- Nothing else gets in ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [
    "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc%2fpasswd", "/page.js/../store.py", "//etc/passwd",
    "/assets/page.html", "/test.db", "/api/audio/0/../../../test.db", "/api/audio/0/..%2f..%2ftest.db", "/api/audio/0/%00",
    "/api/audio/-1/A", "/api/audio/99999999999999999999999/A", "/api/audio/0/a", "/api/audio/0/AA",
    "/api/audio/0/R", "/api/audio/x/A", "/api/audio/7.5/A", "/api/audio/6/A"])
def test_no_path_leads_anywhere_else(path, server):
    secret = Listener(server.url).secret
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {secret}\r\nConnection: close\r\n\r\n"
    status, answer = raw(server, head.encode())
    assert status == 404 and b"root:" not in answer and b"RIFF" not in answer


def test_ids_of_others_and_of_nobody(server):
    one, two = Listener(server.url), Listener(server.url)
    one.answer(one.next(), "A")
    assert two.next()["trial"] == 0  # the same numbers mean another's trials
    got = two.post("/api/answer", {"trial": 1, "answer": "A"})  # which one has reached, and two has not
    assert got.status_code == 409 and "trial 0 is to be answered first" in got.json()["error"]
    for named, status in ((None, 401), ("nobody", 403), (one.secret + "x", 403), ("' OR 1=1 --", 403), ("\u00e9", 403)):
        headers = {"authorization": f"Bearer {named}".encode("latin-1")} if named else {}
        for path in ("/api/next", "/api/audio/0/A"):
            assert requests.get(server.url + path, headers=headers, timeout=10).status_code == status
        got = requests.post(f"{server.url}/api/answer", json={"trial": 0, "answer": "A"}, headers=headers, timeout=10)
        assert got.status_code == status and "Traceback" not in got.text
    assert requests.get(f"{server.url}/api/next", headers={"authorization": f"Basic {one.secret}"}, timeout=10).status_code == 401


def test_the_first_answer_stays(server):
    listener = Listener(server.url)
    turn = listener.next()
    statuses = [listener.answer(turn, answer).status_code for answer in ("A", "A", "B", "none")]
    assert statuses == [201, 200, 409, 409] and listener.next()["trial"] == 1
    results, turn = [], listener.next()

    def send(answer):
        results.append(Listener(server.url, secret=listener.secret).answer(turn, answer).status_code)

    threads = [threading.Thread(target=send, args=(answer,)) for answer in "AB" * 6]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [200] * 5 + [201] + [409] * 6 and listener.next()["trial"] == 2


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"3", b"null", b'{"trial": 0}', b'{"answer": "A"}', b'{"trial": "0", "answer": "A"}',
    b'{"trial": true, "answer": "A"}', b'{"trial": 0, "answer": "C"}', b'{"trial": 0, "answer": 1}', b'{"trial": 0, "answer": {"A": 5}}',
    b'{"trial": 0, "answer": "A", "x": 1}', b'{"trial": 0, "answer": "A", "seconds": -1}', b'{"trial": 0, "answer": "A", "seconds": NaN}',
    b'{"trial": 0, "answer": "A", "seconds": "1"}',
    b'{"trial": 0, "answer": "A", "seconds": 1' + b"0" * 400 + b"}", b'{"trial": 0, "answer": "A", "seconds": 1e400}', b"[" * 9000,
    b'\xff{"trial": 0}', b'{"trial": 1' + b"0" * 5000 + b', "answer": "A"}'])
def test_values_are_checked(body, server):
    listener = Listener(server.url)
    headers = {**listener.headers(), "content-type": "application/json"}
    got = requests.post(f"{server.url}/api/answer", data=body, headers=headers, timeout=10)
    assert got.status_code == 400 and set(got.json()) == {"error"} and listener.next()["trial"] == 0


@pytest.mark.parametrize("trial", [-1, 6, 10 ** 30])
def test_trials_that_there_are_not(trial, server):
    assert Listener(server.url).post("/api/answer", {"trial": trial, "answer": "A"}).status_code == 404


def test_large_bodies_are_refused_before_they_are_read(server):
    listener = Listener(server.url)
    head = ("POST /api/answer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {listener.secret}\r\n")
    assert raw(server, f"{head}Content-Length: 10000000\r\n\r\n".encode())[0] == 413  # not one byte of them was sent
    body = b'{"trial": 0, "answer": "A"' + b" " * 10_000_000 + b"}"
    headers = {**listener.headers(), "content-type": "application/json"}
    try:
        assert listener.session.post(f"{server.url}/api/answer", data=body, headers=headers, timeout=10).status_code == 413
    except requests.ConnectionError:
        pass  # it hung up while they came
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    assert raw(server, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + 2 * chunk)[0] == 413  # without a length
    assert raw(server, f"{head}Content-Length: -5\r\n\r\n".encode())[0] in (400, 413)
    assert raw(server, b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n")[0] in (400, 414)
    assert listener.next()["trial"] == 0 and requests.get(f"{server.url}/api/test", timeout=10).status_code == 200


def test_methods_and_types(server):
    listener = Listener(server.url)
    for path in ("/api/answer", "/api/start"):
        assert listener.get(path).status_code == 405
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):  # what a form of another site could send
            headers = {**(listener.headers() if path == "/api/answer" else {}), "content-type": kind}
            got = requests.post(server.url + path, data=b'{"agreed": true}', headers=headers, timeout=10)
            assert got.status_code == 415
    for method in ("PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"):
        got = requests.request(method, f"{server.url}/api/answer", timeout=10)
        assert got.status_code == 405 and "access-control-allow-origin" not in got.headers
    assert requests.post(f"{server.url}/api/start", json={"agreed": False}, timeout=10).status_code == 400
    assert requests.post(f"{server.url}/api/start", json={}, timeout=10).status_code == 400
    got = requests.post(f"{server.url}/api/start", json={"agreed": True}, headers=listener.headers(), timeout=10)
    assert got.status_code == 403  # who has a link of its own goes on by it


def test_names_and_pages_of_others(server):
    """DNS rebinding makes another site's page reach this machine, but under that site's name."""
    for host, status in (("127.0.0.1", 200), (f"localhost:{server.port}", 200), ("evil.example", 400), (f"evil.example:{server.port}", 400),
                         ("127.0.0.1.evil.example", 400), ("", 400)):
        assert raw(server, f"GET /api/test HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())[0] == status, host
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        assert requests.get(f"{server.url}/api/test", headers={"sec-fetch-site": site}, timeout=10).status_code == status


def test_who_has_no_token_does_not_begin(invited):
    assert invited.token == "only-for-you-1"
    for token, status in ((None, 401), ("only-for-you-2", 403), ("only-for-you-1 ", 201), ("only-for-you-1", 201)):
        headers = {"authorization": f"Bearer {token}"} if token else {}
        got = requests.post(f"{invited.url}/api/start", json={"agreed": True, "scripted": True}, headers=headers, timeout=10)
        assert got.status_code == status
        assert requests.get(f"{invited.url}/api/test", headers=headers, timeout=10).status_code == (200 if status == 201 else status)
    listener = Listener(invited.url, invited.token)
    assert listener.get("/api/test").json()["known"] is True and listener.next()["trial"] == 0
    assert requests.get(f"{invited.url}/api/next", headers={"authorization": f"Bearer {invited.token}"}, timeout=10).status_code == 403


def test_an_address_of_others_takes_a_token(tmp_path):
    path = make(tmp_path / "test.db")
    with running(path, "--host", "0.0.0.0") as server:
        assert server.token and "plain HTTP" in server.said
        assert requests.get(f"http://127.0.0.1:{server.port}/api/test", timeout=10).status_code == 401
        headers = {"host": "lab.example", "authorization": f"Bearer {server.token}"}
        assert requests.get(f"http://127.0.0.1:{server.port}/api/test", headers=headers, timeout=10).status_code == 200
        token = server.token
    with running(path) as server:
        assert server.token == token  # links that were given out go on


def test_scripted_listeners_are_marked(tmp_path):
    with running(make(tmp_path / "test.db")) as server:
        Listener(server.url)
        requests.post(f"{server.url}/api/start", json={"agreed": True}, timeout=10)
    store = Store(tmp_path / "test.db")
    assert [each["scripted"] for each in store.listeners()] == [1, 0] and all(each["agreed"] for each in store.listeners())
    store.close()
