"""What a machine was told and what it commanded, in order. Knows sequence numbers (1, 2, ...), not what the events mean."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any

import msgspec

from .commands import Command
from .events import Event, Finished
from .folded import AT_ONCE, KINDS, Folded, Reader, Row, bare, is_folded

Entry = tuple[float, Event, list[Command]]
"""(when, seconds since the run was opened; the event; the commands that it caused)"""


class History:
    """All entries, of which the first is number 1.

    Laid out flat, in lists of what the garbage collector need not look at: a tuple and a list for each entry would be twice as many
    objects as the tasks themselves, and a tenth of the time of a task that does nothing. Numbers are in arrays: each as an object of
    its own was a tenth of what a task leaves behind. What there is most of is folded, a few hundred at a time.
    """

    __slots__ = ("_commands", "_ends", "_events", "_folded", "_times", "_young")

    def __init__(self) -> None:
        self._times = array("d")
        self._events: list[Any] = []  # where one was folded, the result of a `Finished`, which is no event, or None
        self._commands: list[Command] = []
        self._ends = array("I")  # where the commands of each entry end
        self._young: list[Row] = []  # what is folded next
        self._folded = Folded()

    def add(self, now: float, event: Event, commands: list[Command]) -> None:
        """The next entry."""
        if type(event) in KINDS and is_folded(event):  # what most runs have most of need not be asked
            self._young.append((len(self._events), bare(event)))
        self._events.append(event)
        self._times.append(now)
        self._commands += commands
        self._ends.append(len(self._commands))
        if len(self._young) == AT_ONCE:
            self._fold()

    def _fold(self) -> None:
        self._folded.add(self._young)
        for at, event in self._young:
            self._events[at] = self._events[at].result if isinstance(event, Finished) else None
        self._young = []

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[Entry]:
        return self.since(1)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def items(self) -> Iterator[tuple[float, Event | Command]]:
        """Events and commands in one line."""
        for at, event, commands in self:
            yield at, event
            for command in commands:
                yield at, command

    def since(self, number: int) -> Iterator[Entry]:
        """The entries from a number on, as far as there are any when it is called for the last."""
        reader = Reader(self._folded)
        for at in range(number - 1, len(self._ends)):
            first = self._ends[at - 1] if at else 0
            event = self._events[at]
            if not isinstance(event, Event):
                result, event = event, reader(at)
                if result is not None:
                    event = msgspec.structs.replace(event, result=result)
            yield self._times[at], event, self._commands[first : self._ends[at]]
