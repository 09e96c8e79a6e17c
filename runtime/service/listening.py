"""Sockets: a Unix one for this user, a TCP one on loopback, each served by Hypercorn on trio until told to stop.

Knows connections, not requests. Hypercorn's own connection shields its writes from cancellation, has no limit for a client that
does not read, lingers after one that left, and answers an upgrade to HTTP/2 by itself; so its protocol is driven from here: a
client that takes nothing for `SEND_LIMIT_S` is dropped, one that sends no whole head for `IDLE_S` too, and there are at most
`MOST_CONNECTIONS`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import socket
import stat
from pathlib import Path
from typing import Any, Final

import attrs
import h11
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from ..errors import BadInput
from .guard import Application
from .plain import Exchange, parse

SEND_LIMIT_S: Final = 30.0
IDLE_S: Final = 5
MOST_CONNECTIONS: Final = 1000
_BACKLOG: Final = 512
_PIECE_BYTES: Final = 2**16


def unix_socket(path: Path) -> socket.socket:
    """Listen on a Unix socket that only this user may open. The caller holds the daemon's lock, so one that is there is left over.

    Raises BadInput when something else is at the path.
    """
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise BadInput(f"--socket: {path} is there and is no socket; name another place")
        path.unlink()
    except FileNotFoundError:
        pass
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # from its first moment on: chmod would come too late
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise BadInput(f"--socket: {path}: {error.strerror}") from None
    finally:
        os.umask(before)
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


def tcp_socket(port: int) -> socket.socket:
    """Listen on the loopback address; port 0 takes any that is free. Raises BadInput when the port is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise BadInput(f"--tcp: port {port}: {error.strerror}") from None
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


class _Protocol(H11Protocol):
    """Hypercorn's HTTP/1.1, without its way out to HTTP/2 (that would answer 101 before the guard is asked), and with the head of an
    answer sent together with its body."""

    head = b""

    @property
    def at_rest(self) -> bool:
        """Whether nothing is under way, and nothing has come of a next request."""
        states = self.connection.our_state, self.connection.their_state
        return self.stream is None and states == (h11.IDLE, h11.IDLE) and not self.connection.trailing_data[0]

    async def _check_protocol(self, event: Any) -> None:
        """Whatever else is asked for is a request like any other, and the guard's to refuse."""

    async def _send_h11_event(self, event: Any) -> None:
        try:
            data = self.connection.send(event) or b""
        except h11.LocalProtocolError:
            if self.connection.their_state != h11.ERROR:
                raise
            return
        if isinstance(event, h11.Response) and any(name == b"content-length" for name, _ in event.headers):
            self.head = data
            return
        data, self.head = self.head + data, b""
        if data:
            await self.send(RawData(data=data))


class _Connection:
    """One client: what it sends goes to the protocol, what the protocol sends goes to it, within limits of time. `plain` is the socket
    under the stream."""

    def __init__(
        self, app: Application, config: Config, context: WorkerContext, stream: trio.SocketStream, plain: socket.socket
    ) -> None:
        self.app = app
        self.plain = plain
        self.config = config
        self.context = context
        self.stream = stream
        self.sending = trio.Lock()
        self.group = TaskGroup()
        self.reading = trio.CancelScope()
        self.read_until = trio.current_time() + IDLE_S  # when it is over, unless a request is under way
        self.protocol: _Protocol | None = None  # made when the first request comes that is not plain

    async def run(self) -> None:
        """Until the client is gone, or has been idle for too long, or does not read."""
        try:
            async with self.group:
                await self._read()
        finally:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self.stream)

    async def _read(self) -> None:
        more = b""  # what came while a plain request was answered
        while True:
            data, more = more, b""
            if not data:
                with trio.CancelScope(deadline=self.read_until) as self.reading:
                    data = await self._receive()
            at_rest = self.protocol is None or self.protocol.at_rest
            if data and at_rest and (scope := parse(data)) is not None:
                exchange = Exchange(scope, self._receive, self._send)
                self.read_until = math.inf
                await exchange.run(self.app)
                self.read_until, more = trio.current_time() + IDLE_S, bytes(exchange.more)
                if exchange.keep and not self.context.terminated.is_set():
                    continue
                await self._end()
                return
            if data or (self.protocol is not None and not self.reading.cancelled_caught):
                await self._whole().handle(RawData(data))
            if not data:
                await self._tell_closed()
                return

    def _whole(self) -> _Protocol:
        """The whole parser."""
        if self.protocol is None:
            app = ASGIWrapper(self.app)  # type: ignore[arg-type]  # its scopes are TypedDicts, ours plain mappings
            state = ConnectionState({})
            self.protocol = _Protocol(app, self.config, self.context, self.group, state, False, None, None, self.send)
        return self.protocol

    async def _tell_closed(self) -> None:
        if self.protocol is not None:
            await self.protocol.handle(Closed())

    async def _receive(self) -> bytes:
        """What the client sends next; nothing when it is gone."""
        try:
            return bytes(await self.stream.receive_some(_PIECE_BYTES))
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            return b""

    async def send(self, event: Event) -> None:
        """What the protocol has for us."""
        if isinstance(event, RawData):
            await self._send(event.data)
        elif isinstance(event, Closed):
            await self._end()
        elif isinstance(event, Updated):
            self.read_until = trio.current_time() + IDLE_S if event.idle else math.inf
            self.reading.deadline = self.read_until

    async def _send(self, data: bytes) -> None:
        if not self.sending.locked():
            sent = self._send_at_once(data)
            if sent == len(data):
                return
            data = data[sent:]
        async with self.sending:
            with trio.move_on_after(SEND_LIMIT_S) as limit:
                try:
                    await self.stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    await self._tell_closed()
        if limit.cancelled_caught:  # it does not read
            await trio.aclose_forcefully(self.stream)
            await self._tell_closed()

    def _send_at_once(self, data: bytes) -> int:
        """How many bytes the kernel takes without a wait: mostly all of an answer, for a quarter of what a wait costs that is over
        before it begins."""
        try:
            return self.plain.send(data)
        except OSError:  # it has no room, or the client is gone: whoever waits for it is told which
            return 0

    async def _end(self) -> None:
        """Have what was sent arrive, and tell that no more comes; the reader ends by that."""
        async with self.sending:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
                await self.stream.send_eof()  # the client may be quicker
        await self.stream.aclose()
        await self._tell_closed()

    def leave(self) -> None:
        """End now, if no request is under way."""
        if self.read_until < math.inf:
            self.reading.cancel()


@attrs.define(eq=False)
class Listening:
    """One listener with its application. `serve` runs until it is cancelled or `stop` is set."""

    listener: socket.socket
    app: Application
    log: logging.Logger
    connections: set[_Connection] = attrs.field(factory=set)

    async def serve(self, stop: trio.Event, grace_s: float = 3.0) -> None:
        """Accept until `stop`, then give requests that are under way `grace_s` seconds."""
        config = Config()
        config.errorlog = self.log
        config.accesslog = None
        config.include_server_header = False
        config.h11_max_incomplete_size = 32 * 1024
        context = WorkerContext(None)

        async def handle(stream: trio.SocketStream, plain: socket.socket) -> None:
            if len(self.connections) >= MOST_CONNECTIONS:
                await trio.aclose_forcefully(stream)
                return
            connection = _Connection(self.app, config, context, stream, plain)
            self.connections.add(connection)
            try:
                await connection.run()
            except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # the client is gone; there is nobody to tell
            except* Exception as group:
                self.log.error("a connection broke: %r", group.exceptions)
            finally:
                self.connections.discard(connection)

        accepting = _Accepting(self.listener)
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accept:
                accept.start_soon(accepting.forever, handle, connections)
                await stop.wait()
                accept.cancel_scope.cancel()
            await context.terminated.set()
            for connection in self.connections:
                connection.leave()
            connections.cancel_scope.deadline = trio.current_time() + grace_s


@attrs.define(eq=False)
class _Accepting:
    listener: socket.socket

    async def forever(self, handle: Any, nursery: trio.Nursery) -> None:
        """Accept connections, all that have come at once: a crowd is not to wait for a turn of the loop each. Where the process has no
        file descriptors left, wait rather than die of it."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self.listener)
                for _ in range(_BACKLOG):
                    try:
                        accepted, _address = self.listener.accept()
                    except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                        break
                    except OSError as error:
                        if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                            raise
                        await trio.sleep(0.1)
                        break
                    accepted.setblocking(False)
                    stream = trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
                    nursery.start_soon(handle, stream, accepted)
        finally:
            self.listener.close()
