"""A run's events as Server-Sent Events: from any sequence number, live, with a heartbeat, until the run ends.

An event and the commands that followed from it have one sequence number; the `id:` line comes with the last of them, so that a
client that reconnects with `Last-Event-ID` has each of them once. After the last event comes one of type `end`.
"""

from __future__ import annotations

from typing import Final

import attrs
import msgspec
import trio

from .documents import event_rows
from .guard import Receive, Scope, Send
from .problems import Problem
from .served import Served

HEARTBEAT_S: Final = 15.0


@attrs.define
class EventStream:
    """An ASGI application for one request."""

    served: Served
    run: str
    start: int
    heartbeat_s: float = HEARTBEAT_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, then the end."""
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_gone, receive, nursery.cancel_scope)
            outgoing, incoming = trio.open_memory_channel[bytes](0)
            nursery.start_soon(self._produce, outgoing)
            while True:
                part = b": heartbeat\n\n"
                with trio.move_on_after(self.heartbeat_s):
                    try:
                        part = await incoming.receive()
                    except trio.EndOfChannel:
                        break
                await send({"type": "http.response.body", "body": part, "more_body": True})
            nursery.cancel_scope.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _until_gone(self, receive: Receive, scope: trio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async def _produce(self, outgoing: trio.MemorySendChannel[bytes]) -> None:
        async with outgoing:
            async for batch in self.served.batches(self.run, self.start):
                if not batch:
                    waits = self.served.queue.waits(self.run)
                    told = {"state": "queued", "waits": attrs.asdict(waits) if waits is not None else None}
                    await outgoing.send(_event("queued", msgspec.json.encode(told)))
                    continue
                rows = event_rows(batch)
                parts = [
                    _event(kind, data, seq if number + 1 == len(rows) or rows[number + 1][0] != seq else None)
                    for number, (seq, kind, data) in enumerate(rows)
                ]
                await outgoing.send(b"".join(parts))
            live = self.served.live.get(self.run)
            if live is not None:
                await live.over.wait()
            try:
                status = await self.served.status(self.run)
                told = {"run": self.run, "state": status.state, "error": status.error or None}
            except Problem as problem:
                told = {"run": self.run, "state": "unknown", "error": problem.detail}
            await outgoing.send(_event("end", msgspec.json.encode(told)))


def _event(kind: str, data: bytes, seq: int | None = None) -> bytes:
    head = f"id: {seq}\n" if seq is not None else ""
    return f"{head}event: {kind}\ndata: ".encode() + data + b"\n\n"
