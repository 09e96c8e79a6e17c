"""Turns of conversations as the history keeps them: a few dozen bytes each, not the ten objects that tell of an answer and its cost.

Knows the two events that a conversation has the most of, and which of their fields the history needs; nothing of what they mean.
"""

from __future__ import annotations

from typing import Final

import msgspec

from .events import Answered, Event, Spent, Told

KINDS: Final = frozenset({Answered, Told})

_encode: Final = msgspec.msgpack.Encoder().encode
_told: Final = msgspec.msgpack.Decoder(tuple[str, int, int]).decode
_answered: Final = msgspec.msgpack.Decoder(
    tuple[str, int, int, str, str, tuple[int, int, int, int, float, float]]
).decode


class Turns:
    """One after the other in one piece of memory; each is found by the place that `add` gave it."""

    __slots__ = ("_bytes",)

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, event: Event) -> int:
        """Keep a turn; what was said and done in it is left out. Its place."""
        place = len(self._bytes)
        if isinstance(event, Answered):
            spent = msgspec.structs.astuple(event.spent)
            row = _encode((event.task, event.attempt, event.turn, event.stop, event.model, spent))
        else:
            assert isinstance(event, Told)
            row = _encode((event.task, event.attempt, event.turn))
        self._bytes += len(row).to_bytes(4, "big")
        self._bytes.append(isinstance(event, Answered))
        self._bytes += row
        return place

    def at(self, place: int) -> Event:
        """The turn that is kept there."""
        begin = place + 5
        row = self._bytes[begin : begin + int.from_bytes(self._bytes[place : place + 4], "big")]
        if not self._bytes[place + 4]:
            return Told(*_told(row))
        task, attempt, turn, stop, model, spent = _answered(row)
        return Answered(task, attempt, turn, stop=stop, model=model, spent=Spent(*spent))
