"""What callers of a runtime hold: a ticket to wait for a task, an answer from the machine, an iterator over what happens, its notices.

Knows the runtime only as functions to call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import trio

from .core import commands as cmd
from .core.events import CancelRequested, Event, Resumed, Retried, Submitted
from .core.machine import Machine
from .core.record import DONE
from .core.task import said
from .errors import TaskFailed


class Gap:
    """A time in which something is not yet as it says, as a `with` block; others may ask for it and wait for its end."""

    def __init__(self) -> None:
        self._over: trio.Event | None = None

    def __enter__(self) -> None:
        self._over = trio.Event()

    def __exit__(self, *error: object) -> None:
        assert self._over is not None
        self._over.set()
        self._over = None

    def __bool__(self) -> bool:
        return self._over is not None

    async def over(self) -> None:
        """Wait for its end, if it has begun."""
        if self._over is not None:
            await self._over.wait()


async def first_of(*events: trio.Event) -> None:
    """Wait until one of them is set."""
    async with trio.open_nursery() as nursery:

        async def one(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        for event in events:
            nursery.start_soon(one, event)


class Notice(msgspec.Struct, frozen=True):
    """One thing that happened, for watchers: its place in the run's sequence (1, 2, ...), when (seconds since the run was
    opened), and the event, or the command that followed from it."""

    seq: int
    at_s: float
    event: Event | cmd.Command

    def row(self) -> dict[str, Any]:
        """As `--events` and the daemon's stream tell it, to be encoded as JSON. What is as if nothing had been said about it is left
        out, of tasks too: a hundred who watch a run of 500 tasks are told of them all in the moment in which the first ones start."""
        event = self.event
        tasks = event.tasks if isinstance(event, Submitted | Retried | Resumed) else ()
        short = msgspec.structs.replace(event, tasks=()) if tasks else event
        found = {"seq": self.seq, "at_s": round(self.at_s, 6), **msgspec.to_builtins(short)}
        if tasks:
            found["tasks"] = [said(one) for one in tasks]
        return found


def notices(machine: Machine, start: int = 1) -> list[Notice]:
    """All notices of a machine's history, rebuilt or live, from sequence number `start` on."""
    found = []
    for seq, (at_s, event, commands) in enumerate(machine.history.since(start), start):
        found.append(Notice(seq, at_s, event))
        found.extend(Notice(seq, at_s, command) for command in commands)
    return found


class Ticket:
    """A submitted task, to wait for."""

    def __init__(self, task: str, settled: Callable[[], Awaitable[Any]], post: Callable[[Event], None]) -> None:
        self.task = task
        self._settled = settled
        self._post = post

    async def result(self) -> Any:
        """The handler's value. Raises TaskFailed when the task failed, was skipped or cancelled."""
        record = await self._settled()
        if record.state != DONE:
            raise TaskFailed(self.task, record.state, record.error or "")
        return record.result

    def cancel(self, why: str = "cancelled") -> None:
        """Stop it, wherever it is."""
        self._post(CancelRequested(self.task, why))


class Events:
    """An async iterator of notices. Not a generator: it may be left at any point without being closed."""

    def __init__(self, batch: Callable[[int], Awaitable[list[Notice]]], start: int) -> None:
        self._batch = batch
        self._next = start
        self._buffer: deque[Notice] = deque()

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Notice:
        if not self._buffer:
            self._buffer.extend(await self._batch(self._next))
            if not self._buffer:
                raise StopAsyncIteration
            self._next = self._buffer[-1].seq + 1
        return self._buffer.popleft()


class Answer:
    """A question to the machine, waited for by the attempt that asked."""

    __slots__ = ("_command", "_given")

    def __init__(self) -> None:
        self._given = trio.Event()
        self._command: cmd.Grant | cmd.Refuse | None = None

    def give(self, command: cmd.Grant | cmd.Refuse) -> None:
        """The machine has said."""
        self._command = command
        self._given.set()

    async def wait(self) -> cmd.Grant | cmd.Refuse:
        """Until it has."""
        await self._given.wait()
        assert self._command is not None
        return self._command
