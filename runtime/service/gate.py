"""The cap on attempts over all runs of the daemon: whoever has least gets the next place. Knows clients, not tasks."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio


@attrs.define
class AttemptGate:
    """`most` attempts at once. The next free place goes to the client with the fewest; of several, to the one that was served
    longest ago. One client's attempts come in the order in which they asked."""

    most: int = 20
    _held: dict[str, int] = attrs.field(factory=dict)  # {client: places}; absent = none
    _lines: OrderedDict[str, deque[trio.Event]] = attrs.field(factory=OrderedDict)  # least recently served first

    @property
    def busy(self) -> int:
        """How many attempts are going on."""
        return sum(self._held.values())

    @property
    def waiting(self) -> int:
        """How many attempts wait for a place."""
        return sum(map(len, self._lines.values()))

    @asynccontextmanager
    async def enter(self, client: str) -> AsyncIterator[None]:
        """Wait for a place and hold it."""
        await self._wait(client)
        try:
            yield
        finally:
            self._give_back(client)

    async def _wait(self, client: str) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        turn = trio.Event()
        self._lines.setdefault(client, deque()).append(turn)
        self._serve()
        try:
            await turn.wait()
        except trio.Cancelled:
            if turn.is_set():  # given and cancelled in the same moment
                self._give_back(client)
            else:
                self._lines[client].remove(turn)
                self._tidy(client)
            raise

    def resize(self, most: int) -> None:
        """Change the cap; what is going on goes on."""
        self.most = most
        self._serve()

    def _give_back(self, client: str) -> None:
        self._held[client] -= 1
        if not self._held[client]:
            del self._held[client]
        self._serve()

    def _serve(self) -> None:
        while self._lines and self.busy < self.most:
            client = min(self._lines, key=lambda one: self._held.get(one, 0))  # the first of equals: longest ago
            turn = self._lines[client].popleft()
            self._lines.move_to_end(client)
            self._tidy(client)
            self._held[client] = self._held.get(client, 0) + 1
            turn.set()

    def _tidy(self, client: str) -> None:
        if not self._lines[client]:
            del self._lines[client]
