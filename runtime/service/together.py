"""One reading for everybody who asks at the same time. Knows how to call a function in a thread, not what it reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import attrs
import trio

T = TypeVar("T")


@attrs.define(eq=False)
class _Reading(Generic[T]):
    over: trio.Event = attrs.field(factory=trio.Event)
    found: list[T] = attrs.field(factory=list)  # empty: whoever was to read has failed or left


@attrs.define(eq=False)
class Together(Generic[T]):
    """`read` in a thread, one call at a time. Whoever asks is given what a call found that began after they asked: so nothing that was
    there before is missed, and a crowd costs as much as two."""

    read: Callable[[], T]
    _next: _Reading[T] | None = None  # it has not begun: who comes now may still share it
    _door: trio.Lock = attrs.field(factory=trio.Lock)

    async def get(self) -> T:
        """Raises what `read` raises, to one of those who wait; the next one tries it again."""
        while self._next is not None:
            shared = self._next
            # All at once: a lock that goes from hand to hand takes a turn of the loop for each
            await shared.over.wait()
            if shared.found:
                return shared.found[0]
        mine = self._next = _Reading()
        try:
            async with self._door:
                self._next = None
                mine.found.append(await trio.to_thread.run_sync(self.read))
        finally:
            if self._next is mine:
                self._next = None
            mine.over.set()
        return mine.found[0]
