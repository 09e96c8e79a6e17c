"""A run's events as Server-Sent Events: from any sequence number, live, with a heartbeat, until the run ends.

An event and the commands that followed from it have one sequence number; the `id:` line comes with the last of them, so that a
client that reconnects with `Last-Event-ID` has each of them once. After the last event comes one of type `end`.

Who cannot read a stream asks for the news, again and again.

Many may watch one run: what is told is encoded once for all of them, and each is told every `GATHER_S` at most, of all by then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import attrs
import msgspec
import trio

from ..handles import Notice, notices
from .documents import event_rows, news_document
from .guard import Receive, Scope, Send
from .problems import Problem
from .served import Served

T = TypeVar("T")

HEARTBEAT_S: Final = 15.0
GATHER_S: Final = 0.02
_MOST_KEPT: Final = 16
_BEGINNING: Final = 2  # the sequence number with the plan's tasks


@attrs.define
class Encoded:
    """Notices as the bytes of a stream; the last batches are kept, because whoever watches the same run asks for the same ones."""

    # {(repository, run, first sequence number, its time, the last one, its time): ...}
    _kept: dict[tuple[str, str, int, float, int, float], bytes] = attrs.field(factory=dict)

    def of(self, repository: str, run: str, batch: Sequence[Notice]) -> bytes:
        """The bytes. A run's beginning is apart: it has the whole plan, and each who comes while the run goes on has another end."""
        cut = next((at for at, notice in enumerate(batch) if notice.seq > _BEGINNING), len(batch))
        parts = (batch[:cut], batch[cut:])
        return b"".join(self._of(repository, run, part) for part in parts if part)

    def _of(self, repository: str, run: str, batch: Sequence[Notice]) -> bytes:
        first, last = batch[0], batch[-1]
        key = (repository, run, first.seq, first.at_s, last.seq, last.at_s)
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = _encoded(batch)
            if len(self._kept) > _MOST_KEPT:
                self._kept.pop(next(iter(self._kept)))
        return kept


@attrs.define
class EventStream:
    """An ASGI application for one request."""

    served: Served
    run: str
    start: int
    heartbeat_s: float = HEARTBEAT_S
    encoded: Encoded = attrs.field(factory=Encoded)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, then the end."""
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_gone, receive, nursery.cancel_scope)
            await self._send_all(send)
            nursery.cancel_scope.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _until_gone(self, receive: Receive, scope: trio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async def _send_all(self, send: Send) -> None:
        start, live = self.start, self.served.live.get(self.run)
        if live is None:
            past = await self.served.status(self.run)
            if past.state == "running":
                start = await self._tell(send, self.served.elsewhere(self.run).batch, start)
            elif past.machine is not None and (found := notices(past.machine, start)):
                await _part(send, self.encoded.of(self.served.id, self.run, found))
                start = found[-1].seq + 1
            live = self.served.live.get(self.run)  # it may have been taken up here meanwhile
        if live is not None:
            if not live.opened.is_set():
                waits = self.served.queue.waits(self.run)
                told = {"state": "queued", "waits": attrs.asdict(waits) if waits is not None else None}
                await _part(send, _event("queued", msgspec.json.encode(told)))
                await self._beating(send, live.opened.wait)
            if live.runtime is not None:
                await self._tell(send, live.runtime.batch, start)
            await self._beating(send, live.over.wait)
        try:
            status = await self.served.status(self.run)
            told = {"run": self.run, "state": status.state, "error": status.error or None}
        except Problem as problem:
            told = {"run": self.run, "state": "unknown", "error": problem.detail}
        await _part(send, _event("end", msgspec.json.encode(told)))

    async def _tell(self, send: Send, source: Callable[[int], Awaitable[list[Notice]]], start: int) -> int:
        """Send what a source has, until that has nothing more. Returns the sequence number behind the last one."""
        while batch := await self._beating(send, partial(source, start)):
            next_at = trio.current_time() + GATHER_S
            await _part(send, self.encoded.of(self.served.id, self.run, batch))
            start = batch[-1].seq + 1
            await trio.sleep_until(next_at)
        return start

    async def _beating(self, send: Send, wait: Callable[[], Awaitable[T]]) -> T:
        """Wait, and say every `heartbeat_s` that it goes on."""
        while True:
            with trio.move_on_after(self.heartbeat_s):
                return await wait()
            await _part(send, b": heartbeat\n\n")


async def news(served: Served, run: str, start: int, within_s: float) -> dict[str, Any]:
    """How far a run is, as soon as something has happened behind sequence number `start` - 1, or after `within_s` seconds."""
    live = served.live.get(run)
    found: list[Notice] = []
    with trio.move_on_after(within_s):
        if live is None:
            if (await served.entry(run)).state == "running":
                found = await served.elsewhere(run).batch(start)
        else:
            await live.opened.wait()
            if live.runtime is not None:
                found = await live.runtime.batch(start)
                if not found:
                    await live.over.wait()
    return news_document(await served.status(run), found, start)


async def _part(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


def _encoded(batch: Sequence[Notice]) -> bytes:
    rows = event_rows(batch)
    return b"".join(
        _event(kind, data, seq if number + 1 == len(rows) or rows[number + 1][0] != seq else None)
        for number, (seq, kind, data) in enumerate(rows)
    )


def _event(kind: str, data: bytes, seq: int | None = None) -> bytes:
    head = f"id: {seq}\n" if seq is not None else ""
    return f"{head}event: {kind}\ndata: ".encode() + data + b"\n\n"
