"""One reading for everybody who asks at the same time. Knows how to call a function in a thread, not what it reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import attrs
import trio

T = TypeVar("T")


@attrs.define(eq=False)
class _Reading(Generic[T]):
    found: list[T] = attrs.field(factory=list)  # empty: not read yet


@attrs.define(eq=False)
class Together(Generic[T]):
    """`read` in a thread, one call at a time. Whoever asks is given what a call found that began after they asked: so nothing that was
    there before is missed, and a crowd costs as much as two."""

    read: Callable[[], T]
    _next: _Reading[T] | None = None
    _door: trio.Lock = attrs.field(factory=trio.Lock)

    async def get(self) -> T:
        """Raises what `read` raises, to one of those who wait; the next one tries it again."""
        mine = self._next = self._next or _Reading()
        async with self._door:
            if not mine.found:
                if self._next is mine:
                    self._next = None
                mine.found.append(await trio.to_thread.run_sync(self.read))
        return mine.found[0]
