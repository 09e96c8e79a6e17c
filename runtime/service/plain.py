"""The short way for plain requests: a whole GET or HEAD without a body, in one piece, is read by one expression and answered in one
write. Nine in ten requests are such, and a run's own steps share the thread with them: it takes a third of the time.

Knows the few bytes of HTTP/1.1 that it accepts, printable ASCII and nothing that frames a body or changes the connection; whatever
it does not know it leaves to the whole parser (`listening`). What is allowed is not decided here but by the guard, as for all others.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote

import attrs

from .guard import Application, Message, Scope

_REQUEST: Final = re.compile(
    rb"(GET|HEAD) (/[!-~]*) HTTP/1\.1\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ -~\t]*\r\n){1,50})\r\n"
)
_LONGEST: Final = 16 * 1024
_SHORT: Final = 1024
_WHOLE: Final = frozenset(
    {b"connection", b"content-length", b"expect", b"http2-settings", b"keep-alive", b"te", b"trailer"}
    | {b"transfer-encoding", b"upgrade"}
)

Read = Callable[[], Awaitable[bytes]]
Write = Callable[[bytes], Awaitable[None]]


def parse(data: bytes) -> Scope | None:
    """A request as ASGI has it, when these bytes are one plain request and nothing else; None: let the whole parser judge."""
    scope = _parsed(data) if len(data) <= _SHORT else _parse(data)
    return None if scope is None else {**scope, "state": {}, "extensions": {}}


def _parse(data: bytes) -> Scope | None:
    found = _REQUEST.fullmatch(data) if len(data) <= _LONGEST else None
    if found is None:
        return None
    method, target, block = found.groups()
    parts = (line.partition(b":") for line in block.split(b"\r\n")[:-1])
    headers = tuple((name.lower(), value.strip(b" \t")) for name, _, value in parts)
    for name, value in headers:
        if name in _WHOLE and (name, value.lower()) != (b"connection", b"keep-alive"):
            return None
    path, _, query = target.partition(b"?")
    return {
        "type": "http",
        "asgi": {"spec_version": "2.1", "version": "3.0"},
        "http_version": "1.1",
        "method": method.decode(),
        "scheme": "http",
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "client": None,
        "server": None,
    }


_parsed: Final = lru_cache(512)(
    _parse
)  # a client that looks again says the same again; what is kept is at most a megabyte or two


@attrs.define(eq=False)
class Exchange:
    """One plain request's answer. `read` gives what the client sends meanwhile, b"" when it is gone."""

    scope: Scope
    read: Read
    write: Write
    keep: bool = True  # the connection, for a next request
    more: bytearray = attrs.field(factory=bytearray)  # what came meanwhile: the next request's beginning
    _asked: bool = False
    _head: bytes = b""
    _chunked: bool = False
    _done: bool = False

    async def run(self, app: Application) -> None:
        """Have the application answer. An exception of it is told to the client as far as that is still possible, and goes on."""
        try:
            await app(self.scope, self._receive, self._send)
        except Exception:
            if not self._head and not self._done:
                await self.write(b"HTTP/1.1 500 \r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self.keep = False
            raise
        self.keep = self.keep and self._done

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        while (data := await self.read()) and len(self.more) <= _LONGEST:
            self.more += data
        self.keep = False
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begin(message)
            return
        body = b"" if self.scope["method"] == "HEAD" else bytes(message.get("body", b""))
        last = not message.get("more_body", False)
        if self._chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body += b"0\r\n\r\n" if last else b""
        data, self._head, self._done = self._head + body, b"", last
        if data:
            await self.write(data)

    def _begin(self, message: Message) -> None:
        headers: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
        names = {name for name, _ in headers}
        self.keep = (b"connection", b"close") not in headers
        if b"content-length" not in names and self.scope["method"] != "HEAD":
            self._chunked = True
            headers.append((b"transfer-encoding", b"chunked"))
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        date = _date(int(time.time()))
        self._head = b"HTTP/1.1 %d %b\r\n%bdate: %b\r\n\r\n" % (
            message["status"],
            _words(message["status"]),
            lines,
            date,
        )


@lru_cache(1)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()


@lru_cache
def _words(status: int) -> bytes:
    return HTTPStatus(status).phrase.encode()
