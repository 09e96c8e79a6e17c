"""What a history has most of, folded: a few hundred events together, as compressed bytes.

A run of thousands of tasks keeps all that happened to them. One that talked to a model leaves ten turns, each of a dozen objects, and
what its attempt changed is half a dozen more: as objects that was two thirds of what a task leaves behind. Knows how such events
become bytes and are found again, not what they mean.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Final, TypeGuard

import msgspec

from .events import Answered, Event, Finished, Reserved, Told

AT_ONCE: Final = 256  # events; what came last is what watchers read, and is not folded yet
_LEVEL: Final = 1  # of compression: they are much alike, and a higher level takes twice the time for a tenth less

Kept = Answered | Told | Reserved | Finished
Row = tuple[int, Kept]
"""(the entry's place in the history, event)"""

KINDS: Final = frozenset({Answered, Told, Reserved, Finished})
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Row]).decode


def is_folded(event: Event) -> TypeGuard[Kept]:
    """Whether there are many of it and much in it. A result that is an event itself is nobody's, and could not be told from one."""
    return type(event) in KINDS and (
        not isinstance(event, Finished) or (event.changeset is not None and not isinstance(event.result, Event))
    )


def bare(event: Kept) -> Kept:
    """As it is folded: without a result, which may be anything. What was said is in the journal alone: the machine has left it out."""
    if isinstance(event, Finished) and event.result is not None:
        return Finished(event.task, event.attempt, None, event.changeset)
    return event


class Folded:
    """One fold after the other: each has what was folded between its first entry and the next one's."""

    __slots__ = ("firsts", "folds")

    def __init__(self) -> None:
        self.firsts: list[int] = []  # the place of each fold's first entry
        self.folds: list[bytes] = []

    def add(self, rows: Sequence[Row]) -> None:
        """One more fold, of entries behind all that are there."""
        self.firsts.append(rows[0][0])
        self.folds.append(zlib.compress(_encode(rows), _LEVEL))


class Reader:
    """Gives back events of entries that were folded; asked for them in their order, it opens each fold once."""

    __slots__ = ("_at", "_folded", "_open")

    def __init__(self, folded: Folded) -> None:
        self._folded = folded
        self._at = -1
        self._open: Mapping[int, Kept] = {}

    def __call__(self, place: int) -> Kept:
        """The event of the entry at a place."""
        at = bisect_right(self._folded.firsts, place) - 1
        if at != self._at:
            self._at, self._open = at, dict(_decode(zlib.decompress(self._folded.folds[at])))
        return self._open[place]
