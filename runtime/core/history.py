"""What a machine was told and what it commanded, in order. Knows sequence numbers (1, 2, ...), not what the events mean."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from .commands import Command
from .events import Event
from .turns import KINDS, Turns

Entry = tuple[float, Event, list[Command]]
"""(when, seconds since the run was opened; the event; the commands that it caused)"""


class History:
    """All entries, of which the first is number 1.

    Laid out flat, in lists of what the garbage collector need not look at: a tuple and a list for each entry would be twice as many
    objects as the tasks themselves, and a tenth of the time of a task that does nothing. Numbers are in arrays: each as an object of
    its own was a tenth of what a task leaves behind. Turns of conversations, half of it, are kept apart.
    """

    __slots__ = ("_commands", "_ends", "_events", "_times", "_turns")

    def __init__(self) -> None:
        self._times = array("d")
        self._events: list[Event | int] = []  # a number: where that turn is
        self._commands: list[Command] = []
        self._ends = array("q")  # where the commands of each entry end
        self._turns = Turns()

    def add(self, now: float, event: Event, commands: list[Command]) -> None:
        """The next entry."""
        self._times.append(now)
        self._events.append(self._turns.add(event) if type(event) in KINDS else event)
        self._commands += commands
        self._ends.append(len(self._commands))

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
        for at in range(number - 1, len(self._ends)):
            first = self._ends[at - 1] if at else 0
            event = self._events[at]
            told = self._turns.at(event) if isinstance(event, int) else event
            yield self._times[at], told, self._commands[first : self._ends[at]]
