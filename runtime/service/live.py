"""A run as the daemon knows it: while it is queued or goes on, and as it is told of. Values; they do nothing by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import attrs
import msgspec
import trio

from ..core.machine import Machine
from ..core.record import FINAL
from ..engine import Runtime
from ..journal import Journal
from ..report import RunReport
from ..submission import Settings, Submission
from .queue import Waits
from .reading import Claims


class Log(Protocol):
    """Structured: an event's name and fields."""

    def __call__(self, event: str, **fields: Any) -> None: ...


@attrs.define(eq=False)
class Live:
    """A run that was handed over and has not ended: queued, or going on."""

    run: str
    submission: Submission
    claims: Claims
    title: str = ""
    runtime: Runtime | None = None  # set when it has started
    journal: Journal | None = None  # the runtime's
    wish: str = ""  # "cancel", "pause" or "drain": what it was told to do
    turn: trio.Event = attrs.field(factory=trio.Event)  # it may start
    opened: trio.Event = attrs.field(factory=trio.Event)  # `runtime` is there, or it is over
    over: trio.Event = attrs.field(factory=trio.Event)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    noting: trio.Lock = attrs.field(factory=trio.Lock)  # around what is written of its submission
    noted: bool = False  # how it ended is written

    @property
    def machine(self) -> Machine | None:
        """Its machine, once there is something in it."""
        runtime = self.runtime
        return runtime.machine if runtime is not None and runtime.machine.opened.run else None

    @property
    def open(self) -> bool:
        """Whether anything of it is still to be done, as far as its machine knows; one that has none has not begun."""
        machine = self.machine
        return machine is None or any(record.state not in FINAL for record in machine.records.values())

    def on_hold(self, state: str) -> Submission:
        """Its submission as it is kept while the run has stopped in this state."""
        whose = self.submission
        mode = "resume" if self.machine is not None else whose.mode
        return msgspec.structs.replace(whose, held=state == "paused", mode=mode)

    async def begun(self) -> None:
        """Wait until its tasks are there, or it is over."""
        await self.opened.wait()
        start = 1
        while self.runtime is not None and not self.runtime.machine.records:
            notices = await self.runtime.batch(start)
            if not notices:
                return
            start = notices[-1].seq + 1


class Came(NamedTuple):
    """What a run came to, beside its records."""

    state: str
    error: str = ""  # what went wrong beside its tasks
    culprit: str | None = None  # the task that turned a check red
    exit: int | None = None  # the exit code of the command that had done the same


@attrs.frozen
class Status:
    """A run as it stands. `report` is None while nothing of it has been recorded."""

    run: str
    state: str  # queued, running, done, partial, paused, interrupted, failed, cancelled or collected
    title: str
    started_at: float  # seconds since the epoch, of the submission
    client: str
    report: RunReport | None
    machine: Machine | None
    waits: Waits | None = None
    error: str = ""
    culprit: str | None = None
    exit: int | None = None
    settings: Settings = attrs.field(factory=Settings)
    rules: Mapping[str, Any] = attrs.field(
        factory=dict
    )  # its plan's, as a plan file has them, while there is no machine
