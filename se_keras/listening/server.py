"""The web server of a listening test: one page, and what it asks for. No answer of its names a system.

A listener is known by a secret in the Authorization header, so that no address holds anything that is worth guessing.
"""

import hmac
import json
import socket
import sqlite3
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from se_keras.errors import UserError
from se_keras.listening import design
from se_keras.listening.store import Conflict

LOCAL = ("127.0.0.1", "localhost")  # names of this machine, and ::1: where it is reached by them alone, any other is refused
MOST_BODY = 16_384  # bytes of a request; an answer takes 200
_MOST_SECONDS = 1e6  # of one answer
_MOST_TRIALS = 100_000  # above every trial's number, and within SQLite's
_HEADERS = {"content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'", "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer", "cross-origin-resource-policy": "same-origin", "cache-control": "no-store"}
_ASSETS = Path(__file__).with_name("assets")
_PLAYER = Path(__file__).parents[1] / "report" / "assets" / "player.js"  # the report's own; importing the report would take a second


def application(store, local=True):
    """The ASGI application of a test.

    Args:
        store: a `store.Store`. Where its settings name a token, a new listener must name it too.
        local: whether it is reached under a name of this machine only; any other name in a request's Host is then refused, as a page of
            somebody else's would use by DNS rebinding.
    """
    page = _Test(store)
    fixed = {"/": (_ASSETS / "page.html", "text/html"), "/page.css": (_ASSETS / "page.css", "text/css")}
    texts = {path: (file.read_text(encoding="utf-8"), kind) for path, (file, kind) in fixed.items()}
    texts["/page.js"] = ("".join(file.read_text(encoding="utf-8") for file in (_PLAYER, _ASSETS / "page.js")), "text/javascript")
    routes = [Route(path, _fixed(text, kind)) for path, (text, kind) in texts.items()]
    routes += [Route("/api/test", page.about), Route("/api/next", page.next), Route("/api/audio/{trial:int}/{slot}", page.audio),
               Route("/api/start", page.start, methods=["POST"]), Route("/api/answer", page.answer, methods=["POST"])]
    hosts = [Middleware(TrustedHostMiddleware, allowed_hosts=[*LOCAL, "[::1]"])] if local else []
    return Starlette(routes=routes, middleware=[Middleware(_Guard), *hosts],
                     exception_handlers={HTTPException: _refused, sqlite3.OperationalError: _not_stored, sqlite3.DatabaseError: _damaged})


def bound(host, port):
    """A socket that listens, before anything else is done.

    Raises:
        UserError: the port is in use, may not be used, or the address is none of this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # or a restart would wait for the connections before it
            listening.bind(address)
            listening.listen(128)
        except OSError:
            listening.close()
            raise
    except OSError as error:  # of names, too
        raise UserError(f"{host}, port {port}: cannot be used ({error.strerror or error}); name another --port (0: any that is free) "
                        "or --host") from None
    return listening


def is_local(host):
    """Whether an address is this machine's own, which no other reaches."""
    return host in LOCAL or host == "::1"


def serve(store, listening, local=True):
    """Serve until Ctrl-C or a signal ends it.

    Args:
        store, local: as of `application`.
        listening: of `bound`.
    """
    config = uvicorn.Config(application(store, local), log_level="warning", access_log=False, server_header=False, proxy_headers=False,
                            lifespan="off", ws="none", http="h11", timeout_graceful_shutdown=3, limit_concurrency=500)
    uvicorn.Server(config).run(sockets=[listening])


class _Guard:
    """Around everything: headers that keep a browser strict, no bodies that are too large, no requests of other sites' pages."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return

        async def sending(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*((name, value) for name, value in message["headers"] if name.decode() not in _HEADERS),
                                      *((name.encode(), value.encode()) for name, value in _HEADERS.items())]
            await send(message)

        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 12 or int(length) > MOST_BODY:
            await _json(413, f"a request may have {MOST_BODY} bytes", close=True)(scope, receive, sending)
        elif headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site") and scope["path"].startswith("/api/"):
            await _json(403, "asked by a page of another site")(scope, receive, sending)
        else:
            await self.app(scope, receive, sending)


class _Test:
    """What the page asks for."""

    def __init__(self, store):
        self.store, self.settings, self.design = store, store.settings, store.design

    async def about(self, request):
        """What a listener may know before it begins."""
        secret = _secret(request)
        known = secret is not None and await run_in_threadpool(self.store.listener, secret) is not None
        if not known:
            self._check_token(secret)
        return JSONResponse({"kind": self.design.kind, "consent": self.settings["consent"], "forced": self.settings["forced"],
                             "trials": self.design.trials + self.design.repeats, "training": design.TRAINING, "known": known})

    async def start(self, request):
        """A new listener, who agrees."""
        self._check_token(_secret(request))
        given = await _given(request, {"agreed": bool, "scripted": bool})
        if given.get("agreed") is not True:
            raise HTTPException(400, "a listener agrees first")
        return JSONResponse({"listener": await run_in_threadpool(self.store.start, given.get("scripted", False))}, 201)

    async def next(self, request):
        """The first trial that is not answered."""
        listener = await self._listener(request)
        return JSONResponse(await run_in_threadpool(self._next, listener))

    async def audio(self, request):
        """What plays in a slot of a trial."""
        listener, slot = await self._listener(request), request.path_params["slot"]
        trial = await run_in_threadpool(self._trial, listener, request.path_params["trial"])
        playing = dict(zip(design.letters(self.design.kind, len(trial.slots)), trial.slots, strict=True))
        if self.design.kind == "mushra":
            playing[design.OPEN_REFERENCE] = design.REFERENCE
        if slot not in playing:
            raise HTTPException(404, "no such slot")
        return Response(await run_in_threadpool(self.store.wav, trial.item, playing[slot]), media_type="audio/wav")

    async def answer(self, request):
        """Store an answer, and say what comes next."""
        listener = await self._listener(request)
        given = await _given(request, {"trial": int, "answer": (str, dict), "seconds": (int, float)}, ("trial", "answer"))
        trial = await run_in_threadpool(self._trial, listener, given["trial"])
        seconds = given.get("seconds")
        try:
            design.check_answer(self.design.kind, trial, given["answer"], self.settings["forced"])
            if seconds is not None and not 0 <= seconds < _MOST_SECONDS:  # NaN neither
                raise ValueError("expected seconds from 0")
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        try:
            new = await run_in_threadpool(self.store.answer, listener, given["trial"], given["answer"], seconds)
        except Conflict as error:
            raise HTTPException(409, str(error)) from None
        return JSONResponse({"stored": True, "next": await run_in_threadpool(self._next, listener)}, 201 if new else 200)

    def _next(self, listener):
        number, every = self.store.turn(listener)
        if number == every:
            return {"phase": "end"}
        trial = self.store.trial(listener, number)
        training = trial.phase == "training"
        first, of = (0, design.TRAINING) if training else (design.TRAINING, every - design.TRAINING)
        return {"phase": "training" if training else "test", "trial": number, "number": number - first + 1, "of": of,  # no word of repeats
                "slots": design.letters(self.design.kind, len(trial.slots))}

    def _trial(self, listener, number):
        trial = self.store.trial(listener, number) if 0 <= number < _MOST_TRIALS else None
        if trial is None:
            raise HTTPException(404, "no such trial")
        return trial

    async def _listener(self, request):
        secret = _secret(request)
        if secret is None:
            raise HTTPException(401, "no listener is named; open the link that you were given")
        listener = await run_in_threadpool(self.store.listener, secret)
        if listener is None:
            raise HTTPException(403, "this link belongs to no listener of this test")
        return listener

    def _check_token(self, secret):
        if (token := self.settings["token"]) is None:
            if secret is not None:  # a listener's own link, mistyped: going on as somebody new is not what is meant
                raise HTTPException(403, "this link belongs to no listener of this test; open all of it, or leave out what follows #")
            return
        if secret is None:
            raise HTTPException(401, "this test is by invitation; open the whole link that you were given")
        if not hmac.compare_digest(secret.encode(), token.encode()):
            raise HTTPException(403, "this link is none of this test's; open the whole link that you were given")


def _secret(request):
    """What follows "Bearer" in the request's Authorization; None where there is nothing."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret if scheme.lower() == "bearer" and secret else None


async def _given(request, types, needed=()):
    """A request's JSON object, its keys and their types checked; a body without a length is read no further than it may be."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "expected application/json")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BODY:
            raise HTTPException(413, f"a request may have {MOST_BODY} bytes")
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(400, "not JSON") from None
    if not isinstance(given, dict) or not set(needed) <= set(given) <= set(types) or not all(
            isinstance(value, types[name]) and (types[name] is bool or not isinstance(value, bool)) for name, value in given.items()):
        raise HTTPException(400, f"expected an object of {', '.join(types)}")
    return given


def _fixed(text, kind):
    async def endpoint(request):
        return Response(text, media_type=kind)

    return endpoint


def _json(status, said, close=False):
    return JSONResponse({"error": said}, status, headers={"connection": "close"} if close else None)


async def _refused(request, error):
    return _json(error.status_code, error.detail, close=error.status_code == 413)


async def _damaged(request, error):
    return _json(410, "this test's file is damaged; tell whoever gave you the link")  # the page tries again after 5xx alone


async def _not_stored(request, error):
    return _json(503, "nothing was stored; try again")  # a full disk, or another process that holds the file
