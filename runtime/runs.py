"""Runs that are in a repository's journal: looking at them, landing them, cancelling and collecting them.

Rebuilds a machine from records to look at it; starts no task. What changes something takes the journal's lock first.
"""

from __future__ import annotations

import gc as garbage
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import attrs
import trio

from .attempts import subject
from .core.commands import Command, Merge, Rollback
from .core.events import (
    CancelRequested,
    Closed,
    DrainRequested,
    Event,
    Failed,
    Merged,
    Opened,
    Resumed,
    RolledBack,
    Submitted,
)
from .core.machine import Machine
from .core.record import DONE, FINAL
from .core.task import Plan, Task
from .errors import BadInput, RepositoryRefused
from .git import Repository
from .journal import Journal, Lock, Reader, RunRow
from .landing import land as perform
from .line import REFS, Job, Line, line_ref, runs_with_refs
from .planfile import loads
from .record_codec import decode, encode
from .recovery import settle, tidy
from .report import OPEN, OVER, RunReport, build, failed_files
from .submission import QUEUED, decode_submission
from .worktrees import collect

Opener = Callable[[], Journal]
"""Opens the repository's journal for one more run."""

_CANCEL_WAIT_S = 30.0


@attrs.frozen
class RunEntry:
    """A run as `journeyman runs` lists it."""

    run: str
    state: str  # running, done, partial, paused, interrupted, failed, cancelled or collected
    ok: bool
    started_at: float  # seconds since the epoch
    title: str = ""


def journal_path(repository: Repository) -> Path:
    """Where a repository's journal is."""
    return repository.common_dir / "journeyman" / "journal.db"


def entries(repository: Repository) -> list[RunEntry]:
    """All runs, oldest first. Raises JournalDamaged, JournalForeign."""
    path = journal_path(repository)
    lock = Lock(path.with_suffix(".lock"))
    live = lock.runs() if lock.held() else ()
    try:
        with closing(Reader(path)) as reader:
            return [_entry(row, live) for row in reader.runs()]
    except FileNotFoundError:
        return []


def _entry(row: RunRow, live: Collection[str]) -> RunEntry:
    state = "running" if row.name in live else "interrupted" if row.state == "open" else row.state
    return RunEntry(row.name, state, state == "done", row.started_at, row.title)


def entry_of(repository: Repository, run: str) -> RunEntry | None:
    """One run, or None. Raises JournalDamaged, JournalForeign."""
    path = journal_path(repository)
    lock = Lock(path.with_suffix(".lock"))
    live = lock.runs() if lock.held() else ()
    try:
        with closing(Reader(path)) as reader:
            row = reader.row(run)
    except FileNotFoundError:
        return None
    return None if row is None else _entry(row, live)


def length(repository: Repository, run: str) -> int:
    """How many records a run has. Raises FileNotFoundError, JournalDamaged, JournalForeign."""
    with closing(Reader(journal_path(repository))) as reader:
        return reader.length(run)


def find(repository: Repository, run: str) -> RunEntry:
    """One run. Raises BadInput with what there is."""
    found = entry_of(repository, run)
    if found is None:
        known = entries(repository)
        names = ", ".join(one.run for one in known[-5:]) or "none yet"
        raise BadInput(f"there is no run {run!r}; the last ones are: {names}")
    return found


@attrs.define
class Past:
    """A run rebuilt from its records."""

    repository: Repository
    entry: RunEntry
    machine: Machine
    last_s: float  # when its last event happened, seconds since it was opened

    def line(self) -> Line:
        """Its line. Raises RepositoryRefused when its refs have been collected."""
        return _line(self.repository, self.machine.opened)

    def report(self) -> RunReport:
        """Its report."""
        run = self.entry.run
        ref = f"{REFS}{run}/line"
        state = None if self.entry.state in ("running", "collected") else self.entry.state
        return build(self.machine, line=ref, commit=self.repository.ref(ref), state=state)


def has_open(repository: Repository, run: str) -> bool:
    """Whether tasks of a run have not ended. Raises as `load`."""
    return any(record.state not in FINAL for record in load(repository, run).machine.records.values())


def _line(repository: Repository, opened: Opened) -> Line:
    if repository.ref(line_ref(opened.run)) is None:
        raise RepositoryRefused(f"the line of run {opened.run} is gone; it was collected")
    return Line(repository, opened.run, opened.base)


def line_of(repository: Repository, run: str) -> Line:
    """A run's line, without rebuilding the run. Raises BadInput, JournalDamaged, RepositoryRefused."""
    find(repository, run)
    with closing(Reader(journal_path(repository))) as reader:
        opened = next((event for _, event in map(decode, reader.records(run)) if isinstance(event, Opened)), None)
    if opened is None:
        raise BadInput(_no_records(run))
    return _line(repository, opened)


def _no_records(run: str) -> str:
    return f"run {run} has no records any more; it was collected, or ended before it began"


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector: everything that is made in here stays, and to look through it again and again is a third of the
    time of a rebuild. As it was afterwards, also where several threads are at it."""
    if not garbage.isenabled():
        yield
        return
    garbage.disable()
    try:
        yield
    finally:
        garbage.enable()


def load(repository: Repository, run: str) -> Past:
    """Rebuild a run. Raises BadInput, JournalDamaged."""
    entry = find(repository, run)
    machine = Machine()
    last = 0.0
    with closing(Reader(journal_path(repository))) as reader, _uncollected():
        for last, event in map(decode, reader.records(run)):
            machine.handle(event, last)
    return _past(repository, entry, machine, last)


def _past(repository: Repository, entry: RunEntry, machine: Machine, last_s: float) -> Past:
    if not machine.opened.run:
        raise BadInput(_no_records(entry.run))
    return Past(repository, entry, machine, last_s)


@attrs.define(eq=False)
class Followed:
    """A run that another process may be at, rebuilt as its records come."""

    repository: Repository
    run: str
    machine: Machine = attrs.field(factory=Machine)
    _read: int = 0  # records, of which the machine knows
    _last_s: float = 0.0

    def look(self) -> bool:
        """Take in what is new; whether somebody is still at it. Raises JournalDamaged, JournalForeign."""
        entry = entry_of(self.repository, self.run)  # before its records: nothing of its end is missed
        if entry is None:
            return False
        with closing(Reader(journal_path(self.repository))) as reader:
            if reader.length(self.run) > self._read:
                for at_s, event in map(decode, islice(reader.records(self.run), self._read, None)):
                    self.machine.handle(event, at_s)
                    self._read, self._last_s = self._read + 1, at_s
        return entry.state == "running"

    def past(self) -> Past:
        """The run as it was when it was last looked at. Raises BadInput."""
        return _past(self.repository, find(self.repository, self.run), self.machine, self._last_s)


def unfinished(repository: Repository, tasks: Collection[Task]) -> str:
    """The newest run of just these tasks that was interrupted or paused; empty when there is none. Raises JournalDamaged."""
    wanted = {task.id: task for task in tasks}
    for one in reversed(entries(repository)):
        if one.state in OPEN and submitted_plan(repository, one.run) is None:
            try:
                records = load(repository, one.run).machine.records
            except BadInput:  # it was killed before it began
                continue
            if {name: record.task for name, record in records.items()} == wanted:
                return one.run
    return ""


def submitted_plan(repository: Repository, run: str) -> Plan | None:
    """The plan of a run that was handed over to a daemon and not begun by it; None for any other run. Raises BadPlan."""
    try:
        with closing(Reader(journal_path(repository))) as reader:
            kept = reader.recall(QUEUED + run)
            begun = any(isinstance(event, Submitted) for _, event in map(decode, reader.records(run)))
    except FileNotFoundError:
        return None
    if kept is None or begun:
        return None
    plan = decode_submission(kept).plan
    return loads(json.dumps(plan), "json", run) if plan else None


@attrs.define
class Held(Past):
    """A run that is held for a change: this process has the journal's lock, and what a dead one left half done is at its end."""

    line_now: Line
    journal: Journal

    async def record(self, event: Event) -> None:
        """Make an event durable, and take it in."""
        self.last_s += 0.001
        self.machine.handle(event, self.last_s)
        self.journal.append(encode(self.last_s, event))
        if isinstance(event, Closed):
            self.journal.close_run(event.state)
        await self.journal.durable()


@asynccontextmanager
async def held(
    repository: Repository, run: str, *, ended: bool = True, opener: Opener | None = None
) -> AsyncIterator[Held]:
    """Hold a run for a change. Raises BadInput when there is none, RunHeld when another process is at work, RepositoryRefused when
    (`ended`) it has not come to its end."""
    find(repository, run)
    journal = opener() if opener is not None else Journal(journal_path(repository))
    journal.prepare = repository.flush  # what a record names is on the disk before it
    try:
        past = load(repository, run)
        open_tasks = any(record.state not in FINAL for record in past.machine.records.values())
        if ended and open_tasks:
            raise RepositoryRefused(
                f"run {run} has not ended; go on with it (journeyman resume {run}) or cancel it first"
            )
        line = past.line()
        journal.reopen(run)
        one = Held(repository, past.entry, past.machine, past.last_s, line, journal)
        if opener is None:  # nobody else of ours is in the repository: what looks left over is
            await trio.to_thread.run_sync(tidy, repository, journal)
        for event in await trio.to_thread.run_sync(lambda: list(settle(line, past.machine.undo))):
            await one.record(event)
        try:
            yield one
        finally:
            if all(record.state in FINAL for record in one.machine.records.values()):
                repository.packs.release(run)  # whatever counts is named by a ref
    finally:
        journal.close()


async def land(
    repository: Repository,
    run: str,
    *,
    message: str = "",
    keep_commits: bool = False,
    parts: Callable[[str], str] | None = None,
    opener: Opener | None = None,
) -> tuple[str, ...]:
    """Bring a run's result onto the branch that is checked out. Raises RepositoryRefused."""
    begun = load(repository, run).machine.undo.landing
    async with held(repository, run, ended=False, opener=opener) as past:
        landed = past.machine.landed
        if landed and begun is not None and past.machine.undo.landing is None:
            return landed[-1].commits  # a landing that was killed, and is at its end now
        line, carried = past.line_now, past.machine.undo.carried
        if landed and carried in ("", line.tip):
            raise RepositoryRefused(f"run {run} has landed already, as {landed[-1].commits[-1]}")
        may_land(past)
        subject = message or landing_message(past.machine)
        if landed:  # the line has changed since: what has is brought too
            trees = [repository.tree_of(commit) for commit in (carried, line.tip)]
            landing = await trio.to_thread.run_sync(line.bringing, trees[0], trees[1], subject)
            if landing is None:
                raise RepositoryRefused(f"the branch already has everything that run {run} changed")
        else:
            make = partial(line.landing, subject, keep_commits=keep_commits, parts=parts)
            landing = await trio.to_thread.run_sync(make)
        await perform(landing, "change" if landed else "land", line.tip, past.record)
        return landing.commits


def may_land(past: Past) -> None:
    """Raises ChecksRed, or NotTogether, when the result may not be landed as it is."""
    run = past.entry.run
    red = [one["command"] for one in past.machine.checked.results if not one["ok"]] if past.machine.checked else []
    if red:
        raise ChecksRed(f"run {run} is not landed: the check is red: {'; '.join(red)}")
    missing = _undone(past) if past.machine.opened.plan.get("together") else []
    if missing:
        listed = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
        raise NotTogether(f"run {run} lands all of it or nothing (--together), and these are not done: {listed}")


class ChecksRed(RepositoryRefused):
    """A check is red, so nothing lands."""

    exit_code = 4


class NotTogether(RepositoryRefused):
    """The run was to land all together, and a part of it is missing."""

    exit_code = 3


def _undone(past: Past) -> list[str]:
    tasks = [name for name, record in past.machine.records.items() if record.state != DONE]
    return tasks + sorted(failed_files(past.report()))


def landing_message(machine: Machine) -> str:
    """The squashed commit's message: the plan's name or the one goal, and what the tasks did."""
    done = [record.task for record in machine.records.values() if record.commit is not None]
    goals = list(dict.fromkeys(task.goal.strip().split("\n")[0] for task in done if task.goal.strip()))
    name = machine.opened.name
    names = done[0].id if len(done) == 1 else f"{len(done)} tasks"
    head = name or (goals[0] if len(goals) == 1 else f"Change made by Journeyman: {names}")
    body = "\n".join(f"- {goal}" for goal in goals[:50]) if len(goals) > 1 else ""
    return f"{head}\n\n{body}".strip()


async def cancel(repository: Repository, run: str, opener: Opener | None = None) -> str:
    """End a run: tell the process that runs it to stop, wait for that, and close what is open. Returns the final state.

    `opener` gives the journal to the one process that holds it already, and runs nothing in it under this name.
    """
    entry = find(repository, run)
    lock = Lock(journal_path(repository).with_suffix(".lock"))
    if entry.state == "running":
        pid, _ = lock.holder()
        if lock.held_by_daemon():
            raise RepositoryRefused(
                f"run {run} goes on in a daemon (process {pid}) that listens on another socket; name it with --socket"
            )
        os.kill(pid, signal.SIGINT)
        deadline = time.monotonic() + _CANCEL_WAIT_S
        while lock.held() and time.monotonic() < deadline:  # noqa: ASYNC110  # another process's lock sets no event
            await trio.sleep(0.05)
        if lock.held():
            os.kill(pid, signal.SIGINT)  # a second one ends it at once
            while lock.held():  # noqa: ASYNC110  # as above
                await trio.sleep(0.05)
    if submitted_plan(repository, run) is not None:  # it was never begun
        journal = opener() if opener is not None else Journal(journal_path(repository))
        try:
            journal.end(run, "cancelled")
        finally:
            journal.close()
        return "cancelled"
    past = load(repository, run)
    over = all(record.state in FINAL for record in past.machine.records.values())
    if over and past.entry.state not in OPEN:
        return past.entry.state
    async with held(repository, run, ended=False, opener=opener) as past:
        if over:  # a retry that did not begin is taken back, or its checks are
            state = past.machine.closed if past.machine.closed in OVER else "cancelled"
            await past.record(Closed(state))
            return state
        why = "cancelled by `journeyman cancel`"
        await past.record(CancelRequested("", why))  # before anything of it is alive again: nothing is started
        await past.record(Resumed(crashed=True))
        await past.record(DrainRequested(why))
        for command in past.machine.resume():
            await _bring_to_end(past, command)
        await past.record(CancelRequested("", why))  # what did not fit on the line is not tried again
        await past.record(Closed("cancelled"))
    return "cancelled"


async def _bring_to_end(past: Held, command: Command) -> None:
    """Something of the line's that was under way when the process died: it may be there already, and is once in any case."""
    line = past.line_now
    if isinstance(command, Merge):
        record = past.machine.records[command.task]
        assert record.changeset is not None
        job = Job(command.task, command.attempt, record.changeset, subject(record.task))
        (answer,) = await trio.to_thread.run_sync(line.merge, [job])
        if answer.error:
            await past.record(Failed(command.task, command.attempt, answer.error, "conflict"))
        else:
            await past.record(Merged(command.task, command.attempt, answer.commit))
    elif isinstance(command, Rollback):
        answer = await trio.to_thread.run_sync(line.revert, command.tasks, f"`{command.cause}` failed.")
        await past.record(RolledBack(command.tasks, answer.commit, answer.error))


@attrs.frozen
class Collected:
    """What `gc` removed."""

    worktrees: tuple[str, ...]
    refs: tuple[str, ...]
    runs: tuple[str, ...]


def gc(repository: Repository, *, everything: bool = False, dry_run: bool = False) -> Collected:
    """Remove idle worktrees, and the refs and records of runs that have landed or changed nothing; with `everything`, of all
    runs that have ended. Raises RunHeld while a run is going on."""
    known = {one.run: one for one in entries(repository)}
    by_run = runs_with_refs(repository)
    gone = []
    for run, entry in known.items():
        if entry.state in ("running", "collected", *OPEN):
            continue
        past = load(repository, run)
        line = f"{REFS}{run}/line"
        idle = repository.ref(line) in (None, past.machine.opened.base) and by_run.get(run, [line]) == [line]
        if everything or past.machine.landed or idle:
            gone.append(run)
    refs = [ref for run, names in by_run.items() if run in gone or run not in known for ref in names]
    if dry_run:
        return Collected((), tuple(refs), tuple(gone))
    path = journal_path(repository)
    if not path.exists():
        return Collected(tuple(map(str, collect(repository))), (), ())
    lock = Lock(path.with_suffix(".lock"))
    lock.acquire()
    try:
        worktrees = collect(repository)
        for ref in refs:
            repository.delete_ref(ref)
        for run in repository.packs.kept():
            if run in gone or run not in known:
                repository.packs.release(run)
        repository.packs.clean()
    finally:
        lock.release()
    if gone:
        journal = Journal(path)
        try:
            for run in gone:
                journal.forget(run)
        finally:
            journal.close()
    return Collected(tuple(map(str, worktrees)), tuple(refs), tuple(gone))
