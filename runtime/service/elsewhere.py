"""A run that another process performs, as its journal tells of it while it goes on. Knows the journal; no HTTP.

The journal of another process sets no event here, so it is looked at: every `LOOK_S`, in a thread, once for all who watch the run.
"""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from typing import Final

import attrs
import trio

from .. import runs as past_runs
from ..core.machine import Machine
from ..git import Repository
from ..handles import Notice, notices
from ..journal import Reader
from ..record_codec import decode

LOOK_S: Final = 0.3


@attrs.define(eq=False)
class Elsewhere:
    """One such run. `goes_on` until nobody is at it any more; it is over for good then, and one that is taken up again is another."""

    repository: Repository
    run: str
    goes_on: bool = True
    _machine: Machine = attrs.field(factory=Machine)
    _read: int = 0  # records, of which the machine knows
    _due: float = 0.0  # when it is looked again
    _door: trio.Lock = attrs.field(factory=trio.Lock)  # around the machine, which a thread changes

    async def batch(self, start: int) -> list[Notice]:
        """All notices from sequence number `start` on; waits for the first. Empty: it does not go on. Raises JournalDamaged."""
        while True:
            async with self._door:
                if self.goes_on and trio.current_time() >= self._due:
                    self.goes_on = await trio.to_thread.run_sync(self._look)
                    self._due = trio.current_time() + LOOK_S
                found = notices(self._machine, start)
            if found or not self.goes_on:
                return found
            await trio.sleep_until(self._due)

    def _look(self) -> bool:
        entry = past_runs.entry_of(self.repository, self.run)  # before its records: nothing of its end is missed
        if entry is None:
            return False
        with closing(Reader(past_runs.journal_path(self.repository))) as reader:
            if reader.length(self.run) > self._read:
                for at_s, event in map(decode, islice(reader.records(self.run), self._read, None)):
                    self._machine.handle(event, at_s)
                    self._read += 1
        return entry.state == "running"
