"""A run that another process performs, as its journal tells of it while it goes on. Knows the journal; no HTTP.

The journal of another process sets no event here, so it is looked at: every `LOOK_S`, in a thread, once for all who watch the run.
"""

from __future__ import annotations

from typing import Final

import attrs
import trio

from ..handles import Notice, notices
from ..runs import Followed

LOOK_S: Final = 0.3


@attrs.define(eq=False)
class Elsewhere:
    """One such run. `goes_on` until nobody is at it any more; it is over for good then, and one that is taken up again is another."""

    _followed: Followed
    goes_on: bool = True
    _due: float = 0.0  # when it is looked again
    _door: trio.Lock = attrs.field(factory=trio.Lock)  # around its machine, which a thread changes

    async def batch(self, start: int) -> list[Notice]:
        """All notices from sequence number `start` on; waits for the first. Empty: it does not go on. Raises JournalDamaged."""
        while True:
            async with self._door:
                if self.goes_on and trio.current_time() >= self._due:
                    self.goes_on = await trio.to_thread.run_sync(self._followed.look)
                    self._due = trio.current_time() + LOOK_S
                found = notices(self._followed.machine, start)
            if found or not self.goes_on:
                return found
            await trio.sleep_until(self._due)
