"""Stands before the application: whoever may not ask, or asks in a way that is not to be trusted, gets a problem and nothing
else.

An ASGI application around another one; knows HTTP and who may ask, not what is asked for. One for each listener, because the
two know different things: over the Unix socket the kernel has checked the user, over TCP anybody on the machine may knock,
browsers included, and a page of somebody else's may send a browser here under a name of its own (DNS rebinding). So over TCP:
the Host must be one of ours, an Origin ours too, no request from another site, a token or a session on every request. There is
no CORS at all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final

import attrs
import msgspec
import trio

from .links import Links
from .problems import Problem, document

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_LIMIT_BYTES: Final = 8 * 1024 * 1024
BODY_LIMIT_S: Final = 30.0
_SAFE: Final = frozenset({"GET", "HEAD"})
_MOST_PASSED: Final = 512
_SHORT: Final = 1024  # bytes of a request's head; longer ones are judged each time
_OPEN: Final = "/open/"  # the one-time link: its code is its own authentication
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        b"form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    ),
)


def cookie_name(port: int) -> str:
    """The session's cookie. Cookies know no ports, so its name has it: two daemons do not log each other's browsers out."""
    return f"journeyman-{port}"


@attrs.define
class Guard:
    """`port` is the TCP listener's, None for the Unix socket's."""

    app: Application
    links: Links
    port: int | None = None
    body_limit_s: float = BODY_LIMIT_S
    # Over the socket, what the head of a request says is all there is to judge: {(target, headers): the headers by name}
    _passed: dict[tuple[bytes, tuple[tuple[bytes, bytes], ...]], dict[str, list[str]]] = attrs.field(factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a problem, or pass the request on with its body read."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            return

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message.get("headers", ())}
                message["headers"] = [
                    *message.get("headers", ()),
                    *((name, value) for name, value in _HEADERS if name not in own),
                ]
            await send(message)

        try:
            headers = self._judged(scope)
            scope["journeyman.socket"] = self.port is None
            scope["journeyman.port"] = self.port
            body = await self._body(scope, headers, receive)
        except Problem as problem:
            await answer(problem, scope, sealed)
            return
        scope["journeyman.empty"] = not body
        await self.app(scope, _replay(body, receive), sealed)

    def _judged(self, scope: Scope) -> Mapping[str, list[str]]:
        """The headers of a request that may be answered. Raises Problem. Who looks again says the same again: over the Unix socket it
        is judged once, as neither time nor a token is part of that judgement."""
        if self.port is not None or scope["method"] not in _SAFE or not isinstance(scope["headers"], tuple):
            headers = _headers(scope)
            self._check(scope, headers)
            return headers
        key = scope["raw_path"], scope["headers"]
        known = self._passed.get(key)
        if known is None:
            known = _headers(scope)
            self._check(scope, known)
            if len(self._passed) >= _MOST_PASSED:
                self._passed.pop(next(iter(self._passed)))
            if sum(len(name) + len(value) for name, value in scope["headers"]) + len(scope["raw_path"]) <= _SHORT:
                self._passed[key] = known
        return known

    # --- the checks, in the order of what can be trusted least ---------------------------------------------------

    def _check(self, scope: Scope, headers: Mapping[str, list[str]]) -> None:
        if scope["http_version"] != "1.1":
            raise Problem("http-version")
        self._check_shape(scope, headers)
        self._check_host(headers)
        self._check_origin(scope, headers)
        if self.port is not None and not scope["path"].startswith(_OPEN):
            self._check_caller(scope, headers)

    def _check_shape(self, scope: Scope, headers: Mapping[str, list[str]]) -> None:
        raw = bytes(scope.get("raw_path", b"/"))
        if not raw.startswith(b"/") or raw.startswith(b"//") or b"\\" in raw:
            raise Problem("bad-request", "the request's target must be a path")
        if any(ord(char) < 32 or ord(char) == 127 for char in scope["path"]) or "\ufffd" in scope["path"]:
            raise Problem("bad-request", "the path has a control character in it, or is not UTF-8")
        if ".." in scope["path"].split("/"):
            raise Problem("bad-request", "the path leads upwards")
        if "transfer-encoding" in headers and "content-length" in headers:
            raise Problem("bad-request", "Content-Length and Transfer-Encoding exclude each other")
        for name in ("host", "authorization", "origin", "content-type", "content-length", "cookie", "idempotency-key"):
            if len(headers.get(name, ())) > 1:
                raise Problem("bad-request", f"the header {name} is given twice")
        if "content-encoding" in headers:
            raise Problem("unsupported-content-type", "an encoded body is not read here")
        if "upgrade" in headers or "http2-settings" in headers:
            raise Problem("bad-request", "there is no other protocol here")

    def _check_host(self, headers: Mapping[str, list[str]]) -> None:
        host = _one(headers, "host")
        good = ("localhost", "journeyman") if self.port is None else self._hosts()
        if host not in good:
            raise Problem("bad-host", f"the Host must be {' or '.join(good)}")

    def _hosts(self) -> tuple[str, ...]:
        return f"127.0.0.1:{self.port}", f"localhost:{self.port}"

    def _check_origin(self, scope: Scope, headers: Mapping[str, list[str]]) -> None:
        origin = headers.get("origin")
        if origin is not None and (self.port is None or origin[0] not in {f"http://{one}" for one in self._hosts()}):
            raise Problem("cross-origin", "the Origin is not this page")
        if origin is not None and origin[0] != f"http://{_one(headers, 'host')}":
            raise Problem("cross-origin", "the Origin is not this page")
        site = headers.get("sec-fetch-site", ["same-origin"])
        if site != ["same-origin"] and not (site == ["none"] and scope["method"] in _SAFE):
            raise Problem("cross-origin", "the request comes from another site")

    def _check_caller(self, scope: Scope, headers: Mapping[str, list[str]]) -> None:
        given = headers.get("authorization")
        if given is not None:
            kind, _, token = given[0].partition(" ")
            if kind.lower() == "bearer" and self.links.is_token(token.strip()):
                return
            raise Problem("unauthorized", "the bearer token is not this daemon's")
        if self.links.is_session(self._session(headers)):
            if scope["method"] in _SAFE or "origin" in headers:
                return
            raise Problem("cross-origin", "a page that changes something says its Origin")
        raise Problem(
            "unauthorized", "give the token (Authorization: Bearer ...), or open a link of `journeyman serve --link`"
        )

    def _session(self, headers: Mapping[str, list[str]]) -> str:
        assert self.port is not None
        try:
            jar = SimpleCookie(_one(headers, "cookie"))
        except CookieError:
            return ""
        found = jar.get(cookie_name(self.port))
        return found.value if found is not None else ""

    # --- the body ----------------------------------------------------------------------------------------------

    async def _body(self, scope: Scope, headers: Mapping[str, list[str]], receive: Receive) -> bytes:
        """The whole body, bounded in size and in time. Raises Problem."""
        length = _one(headers, "content-length") or "0"
        if not (length.isascii() and length.isdigit()):
            raise Problem("bad-request", "the Content-Length is no number")
        if len(length) > 15 or int(length) > BODY_LIMIT_BYTES:
            raise Problem("too-large", f"a body has at most {BODY_LIMIT_BYTES} bytes")
        if scope["method"] in _SAFE and length == "0" and "transfer-encoding" not in headers:
            return b""
        body = bytearray()
        with trio.move_on_after(self.body_limit_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Problem("bad-request", "the connection ended before the body did")
                body += message.get("body", b"")
                if len(body) > BODY_LIMIT_BYTES:
                    raise Problem("too-large", f"a body has at most {BODY_LIMIT_BYTES} bytes")
                if not message.get("more_body", False):
                    return bytes(body)
        raise Problem("too-slow", f"the body must be here within {self.body_limit_s:g} s")


def _headers(scope: Scope) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _one(headers: Mapping[str, list[str]], name: str) -> str:
    return headers.get(name, [""])[0]


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return message

    return again


async def answer(problem: Problem, scope: Scope, send: Send) -> None:
    """Send a problem as the whole response."""
    body = b"" if scope["method"] == "HEAD" else msgspec.json.encode(document(problem, scope["path"]))
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(msgspec.json.encode(document(problem, scope["path"])))).encode()),
    ]
    if problem.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="journeyman"'))
    if problem.code in ("too-large", "too-slow", "bad-request"):
        headers.append((b"connection", b"close"))  # what is left of the request is not to be taken for the next one
    if problem.status == 503:
        headers.append((b"retry-after", b"5"))
    if problem.status == 405:
        headers.append((b"allow", ", ".join(problem.more["allow"]).encode()))
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
