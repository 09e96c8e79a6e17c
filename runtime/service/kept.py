"""What the journal keeps of runs that were handed over: their submissions, what is recorded of them, which are open.

Reads a journal's file, one question at a time; writes nothing, and knows no live run.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from ..core.events import Submitted
from ..journal import Reader
from ..record_codec import decode
from ..submission import ENDED, QUEUED, Submission, decode_ended, decode_submission
from .reading import Claims


def recalled(journal: Path, key: str) -> bytes | None:
    """What was noted under a key."""
    with closing(Reader(journal)) as reader:
        return reader.recall(key)


def submission_of(journal: Path, run: str) -> Submission:
    """What is kept of a run's submission; one of our own making for a run that the command line started."""
    with closing(Reader(journal)) as reader:
        kept = reader.recall(QUEUED + run)
        ended = reader.recall(ENDED + run)
    if kept is not None:
        return decode_submission(kept)
    return Submission(decode_ended(ended).client)


def recorded(journal: Path, run: str) -> tuple[bool, Claims]:
    """Whether a run's tasks are in its records, and what they claim."""
    writes: dict[str, None] = {}
    reads: dict[str, None] = {}
    started = False
    with closing(Reader(journal)) as reader:
        for _, event in map(decode, reader.records(run)):
            if isinstance(event, Submitted):
                started = True
                for keys in event.keys:
                    writes.update(dict.fromkeys(keys.writes))
                    reads.update(dict.fromkeys(keys.reads))
    return started, (tuple(writes), tuple(reads))


def left_open(journal: Path) -> dict[str, Submission]:
    """{run: submission} of what a daemon took in and that has not ended, in order. There may be no journal yet."""
    if not journal.exists():
        return {}
    with closing(Reader(journal)) as reader:
        kept = reader.recalled(QUEUED)
        states = {row.name: row.state for row in reader.runs()}
    # What has ended meanwhile ran without a daemon: `journeyman resume`.
    found = {
        run: decode_submission(raw)
        for key, raw in kept.items()
        if states.get(run := key.removeprefix(QUEUED)) in ("open", "interrupted")
    }
    return dict(sorted(found.items(), key=lambda item: int(item[0][1:])))
