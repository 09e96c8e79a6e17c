"""What the journal keeps of runs that were handed over: their submissions, what is recorded of them, which are open.

Reads a journal's file, one question at a time; writes nothing, and knows no live run.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import msgspec

from ..core.events import Landed, Resumed, Retried, Stepped, Submitted
from ..core.machine import Machine
from ..execution import exit_code
from ..journal import Reader
from ..record_codec import decode
from ..report import OPEN, OVER, RunReport
from ..runs import RunEntry
from ..submission import ENDED, QUEUED, Ended, Mode, Submission, decode_ended, decode_submission
from .problems import Problem
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


def as_it_is(ended: Ended, state: str, machine: Machine | None, report: RunReport | None) -> Ended:
    """What was noted of a run's end, without what does not hold any more: it has been landed, undone or gone on with since."""
    if ended.records is None or state == "collected":
        return ended
    since = machine.history.since(ended.records + 1) if machine is not None else ()
    if state == ended.state and not any(
        isinstance(event, Landed | Stepped | Resumed | Retried) for _, event, _ in since
    ):
        return ended
    code = exit_code(report) if report is not None and state in (*OPEN, *OVER) else None
    return msgspec.structs.replace(ended, error="", culprit=None, exit=code)


def refuse_ended(entry: RunEntry, mode: Mode) -> None:
    """Raises Problem when a run cannot be gone on with, or tried again, as the journal lists it."""
    if entry.state == "collected":
        raise Problem("wrong-state", f"run {entry.run} was collected; its records are gone")
    if mode == "resume" and entry.state not in OPEN:
        raise Problem("wrong-state", f"run {entry.run} is {entry.state}; only what was paused or interrupted goes on")
    if mode == "retry" and entry.state in OPEN:
        raise Problem("wrong-state", f"run {entry.run} has not ended; resume it")
    if mode == "retry" and entry.state == "done":
        raise Problem("wrong-state", f"run {entry.run}: every task is done, there is nothing to try again")


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
