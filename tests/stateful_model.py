"""What a run is supposed to do, as simply as it can be said: the model that `test_stateful` holds the machine against.

One word a task, changed by each event. The model does not schedule: which ready task starts where it reads from the commands, and
asserts that it may. Everything else (who is done, skipped, tried again, held, what is kept of a conversation) it works out itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from runtime.core.commands import Abort, Backoff, Command, Grant, Refuse, Retire, Rollback, Settled, Spawn, Start
from runtime.core.events import (
    Answered,
    Asked,
    CancelRequested,
    DrainRequested,
    Event,
    Failed,
    Finished,
    InstanceDied,
    Merged,
    Opened,
    Resumed,
    Retried,
    RolledBack,
    Stepped,
    Submitted,
    Tick,
    Told,
)

FINAL = frozenset({"done", "failed", "skipped", "cancelled"})
MAY_PASS = frozenset({"transient", "timeout", "conflict"})
WORDS = {"waiting": "open", "claiming": "open", "ready": "open"}
"""{the machine's state: the model's word}; absent = the same. Between them lies scheduling, which the model does not know."""


@attrs.define
class Row:
    """One task. `allowed` is the number of its last attempt."""

    specialist: str
    after: tuple[str, ...]
    firsts: tuple[str, ...]  # tasks that an order puts before it
    writes: tuple[str, ...]
    reads: tuple[str, ...]
    allowed: int
    group: str
    unit: str  # what is taken back together, where the group's policy says so
    level: int = 0
    state: str = "open"
    attempt: int = 0
    instance: str = ""
    cancelling: bool = False
    crashes: int = 0
    due_s: float = 0.0
    extra: set[str] = attrs.field(factory=set)  # paths it got by asking
    asking: bool = False
    turns: list[Any] | None = None
    commit: str | None = None


def overlap(one: str, other: str) -> bool:
    """Whether two names share a file; one that ends in `/` is all that is inside."""
    return (
        one == other or (one.endswith("/") and other.startswith(one)) or (other.endswith("/") and one.startswith(other))
    )


@attrs.define
class Model:
    """A fold over (event, time, what the machine commanded)."""

    rows: dict[str, Row] = attrs.field(factory=dict)
    helps: dict[str, tuple[str, ...]] = attrs.field(factory=dict)
    alive: dict[str, str] = attrs.field(factory=dict)  # {instance: its crew}
    draining: bool = False
    got_on: bool = False  # an attempt ended since the process last died
    alone: bool = False  # one of those that ran at the last death is suspect: one at a time
    # {group: failures until nothing more of it is started}; None = any
    stops: dict[str, int | None] = attrs.field(factory=dict)
    # {group: "scope" or "level"}; absent = nothing is taken back
    takes_back: dict[str, str] = attrs.field(factory=dict)
    failures: dict[str, int] = attrs.field(factory=dict)  # {group: how many}
    poisoned: set[tuple[str, str]] = attrs.field(factory=set)  # {(group, unit)} in which something failed
    # Tasks with commits that the line is to take out, each lot at once
    rolling: list[set[str]] = attrs.field(factory=list)
    redo: list[str] = attrs.field(factory=list)  # tips to go back to, the next one last
    rewound: bool = False  # a step was taken: what is done no longer tells what its dependants may be

    def apply(self, event: Event, now: float, commands: Iterable[Command]) -> None:
        """One event, and what the machine made of it. Raises AssertionError when it may not command that."""
        getattr(self, f"_{type(event).__name__.lower()}")(event, now)
        for command in commands:
            self._command(command, now)
        if not self.draining and self.any("held") and not self.any("running", "merging", "backoff", "rolling back"):
            self.draining = True  # nothing will happen before a resume

    def tasks(self, *states: str) -> list[str]:
        """The tasks in these states, in the order of submission."""
        return [name for name, row in self.rows.items() if row.state in states]

    def any(self, *states: str) -> bool:
        return any(row.state in states for row in self.rows.values())

    def spoilers(self) -> list[str]:
        """Running tasks whose failure takes others back."""
        return [name for name in self.tasks("running") if self.rows[name].group in self.takes_back]

    def mates(self, task: str) -> list[str]:
        """Those that run beside a task and would be taken back with it."""
        row = self.rows[task]
        others = [(name, self.rows[name]) for name in self.tasks("running") if name != task]
        return [name for name, other in others if (other.group, other.unit) == (row.group, row.unit)]

    @property
    def over(self) -> bool:
        """Whether every task has ended."""
        return all(row.state in FINAL for row in self.rows.values())

    # --- events ------------------------------------------------------------------------------------------------

    def _opened(self, event: Opened, now: float) -> None:
        self.helps = {crew.name: crew.helps for crew in event.crews}

    def _submitted(self, event: Submitted, now: float) -> None:
        self.stops[event.group] = 1 if event.on_failure == "stop" else event.max_failures
        if event.on_failure.startswith("rollback"):
            self.takes_back[event.group] = event.on_failure.removeprefix("rollback-")
        for task, keys in zip(event.tasks, event.keys, strict=True):
            firsts = tuple(order.first for order in event.orders if order.then == task.id)
            own = [self.rows[name] for name in (*task.after, *firsts) if self.rows[name].group == event.group]
            level = max((one.level + 1 for one in own), default=0)
            unit = f"{level}" if event.on_failure == "rollback-level" else task.scope or f"task {task.id}"
            row = Row(
                task.specialist, task.after, firsts, keys.writes, keys.reads, task.attempts, event.group, unit, level
            )
            self.rows[task.id] = row
            if any(self.rows[name].state in FINAL - {"done"} for name in task.after):
                self._end(task.id, "skipped")

    def _current(self, task: str, attempt: int, state: str) -> Row | None:
        row = self.rows.get(task)
        return row if row is not None and row.state == state and row.attempt == attempt else None

    def _finished(self, event: Finished, now: float) -> None:
        row = self._current(event.task, event.attempt, "running")
        if row is None:
            return
        self.got_on = True
        if row.cancelling:
            self._end(event.task, "cancelled")
        elif event.changeset is not None and event.changeset.changes:
            row.state, row.instance, row.asking = "merging", "", False
        else:
            self._end(event.task, "done")

    def _merged(self, event: Merged, now: float) -> None:
        row = self._current(event.task, event.attempt, "merging")
        if row is not None:
            row.commit = event.commit
            self.redo.clear()
            if row.cancelling:  # what it was built on was taken back meanwhile
                self._take_back([event.task])
            else:
                self._end(event.task, "done")

    def _failed(self, event: Failed, now: float) -> None:
        row = self._current(event.task, event.attempt, "merging" if event.kind == "conflict" else "running")
        if row is None:
            return
        self.got_on = True
        if event.fresh or event.kind == "conflict":
            row.turns = None
        if row.cancelling or event.kind == "cancelled":
            self._end(event.task, "cancelled")
        elif event.kind == "paused":
            row.allowed += 1
            self._leave(row, "held")
            self.draining = self.draining or not event.hold
        else:
            self._again(event.task, event.kind in MAY_PASS)

    def _instancedied(self, event: InstanceDied, now: float) -> None:
        if event.instance not in self.alive:
            return
        del self.alive[event.instance]
        for name in self.tasks("running"):
            if self.rows[name].instance == event.instance:
                if self.rows[name].cancelling:
                    self._end(name, "cancelled")
                else:
                    self._again(name, True)

    def _again(self, task: str, may_pass: bool) -> None:
        row = self.rows[task]
        if may_pass and row.attempt < row.allowed:
            self._leave(row, "backoff")
        else:
            self._end(task, "failed")

    def _answered(self, event: Answered, now: float) -> None:
        row = self._current(event.task, event.attempt, "running")
        if row is not None:
            row.turns = [*(row.turns or ()), event] if event.turn > 1 else [event]

    def _told(self, event: Told, now: float) -> None:
        row = self._current(event.task, event.attempt, "running")
        if row is not None:
            row.turns = [*(row.turns or ()), event]

    def _asked(self, event: Asked, now: float) -> None:
        row = self._current(event.task, event.attempt, "running")
        if row is not None:
            row.asking = True

    def _cancelrequested(self, event: CancelRequested, now: float) -> None:
        for name in [event.task] if event.task else list(self.rows):
            self._cancel(name)

    def _cancel(self, task: str) -> None:
        row = self.rows[task]
        if row.state == "running":
            row.cancelling = True
        elif row.state not in FINAL and row.state not in ("merging", "rolling back"):
            self._end(task, "cancelled")

    def _drainrequested(self, event: DrainRequested, now: float) -> None:
        self.draining = True

    def _resumed(self, event: Resumed, now: float) -> None:
        self.draining = False
        if event.crashed:
            self.alive.clear()
            lost = self.tasks("running")
            for name in lost:
                row = self.rows[name]
                innocent = self.got_on and row.crashes < 2
                row.crashes = min(2 if event.outside else 3, 1 if innocent else row.crashes + 1)
            self.alone = any(self.rows[name].crashes == 2 for name in lost)
            for name in lost:
                row = self.rows[name]
                if row.cancelling:
                    self._end(name, "cancelled")
                elif row.crashes >= 3:
                    self._end(name, "failed")
                else:
                    row.allowed = max(row.allowed, row.attempt + 1)
                    self._leave(row, "open")
            self.got_on = False
        for name in self.tasks("held"):
            self.rows[name].state = "open"

    def _retried(self, event: Retried, now: float) -> None:
        for task in event.tasks:
            row = self.rows[task.id]
            row.group, row.state, row.allowed = event.group, "open", row.attempt + task.attempts
            row.cancelling, row.crashes, row.turns = False, 0, None

    def _tick(self, event: Tick, now: float) -> None:
        for name in self.tasks("backoff"):
            if self.rows[name].due_s <= now and not self.draining:
                self.rows[name].state = "open"

    def _stepped(self, event: Stepped, now: float) -> None:
        self.rewound = True
        if event.how == "undo":
            self.redo.append(event.before)
        elif self.redo and self.redo[-1] == event.after:
            self.redo.pop()
        for name in event.off:
            self.rows[name].state, self.rows[name].commit = "cancelled", None
        for name, commit in event.on.items():
            self.rows[name].state, self.rows[name].commit = "done", commit

    def _rolledback(self, event: RolledBack, now: float) -> None:
        self.redo.clear()
        for name in [task for task in event.tasks if self.rows[task].state == "rolling back"]:
            if event.error:
                self.rows[name].state = "done"
                self.rewound = True  # what was cancelled for it is not skipped
            else:
                self.rows[name].commit = None
                self._gone(name)

    # --- what follows ------------------------------------------------------------------------------------------

    def _leave(self, row: Row, state: str) -> None:
        row.state, row.instance, row.asking = state, "", False
        row.extra.clear()

    def _end(self, task: str, state: str) -> None:
        """A task has ended; who comes after one that is not done, and waits, is skipped with it."""
        row = self.rows[task]
        self._leave(row, state)
        row.turns = None
        if state == "failed":
            self._policy(row)
        if state == "done" and (row.group, row.unit) in self.poisoned:
            self._take_back([task])
        elif state != "done":
            self._skip_behind(task)

    def _skip_behind(self, task: str) -> None:
        for name, row in self.rows.items():
            if task in row.after and row.state == "open":
                self._end(name, "skipped")

    def _policy(self, failed: Row) -> None:
        """What the failure of a task means for its group."""
        group = failed.group
        self.failures[group] = self.failures.get(group, 0) + 1
        if group in self.takes_back:
            self.poisoned.add((group, failed.unit))
            unit = [name for name, row in self.rows.items() if (row.group, row.unit) == (group, failed.unit)]
            for name in unit:
                if self.rows[name].state != "done":
                    self._cancel(name)
            self._take_back([name for name in unit if self.rows[name].state == "done"])
        if self.failures[group] == self.stops.get(group):
            for name, row in self.rows.items():
                if row.group == group and row.state in ("open", "backoff", "held"):
                    self._end(name, "cancelled")

    def _take_back(self, tasks: list[str]) -> None:
        """Tasks that are done, or have just come onto the line, and what is done behind them; nobody goes on behind them."""
        for task in tasks:  # grows while it is walked
            for name, row in self.rows.items():
                if task in row.after and name not in tasks:
                    if row.state == "done":
                        tasks.append(name)
                    elif row.state == "merging":
                        row.cancelling = True
                    else:
                        self._cancel(name)
        for task in tasks:
            self.rows[task].state = "rolling back"
        for task in tasks:
            if self.rows[task].commit is None:  # there is nothing on the line to take out
                self._gone(task)

    def _gone(self, task: str) -> None:
        self._leave(self.rows[task], "cancelled")
        self._skip_behind(task)

    def _command(self, command: Command, now: float) -> None:
        if isinstance(command, Start):
            self._start(command)
        elif isinstance(command, Spawn):
            assert command.instance not in self.alive, "an instance is made twice"
            self.alive[command.instance] = command.specialist
        elif isinstance(command, Retire):
            assert command.instance not in {row.instance for row in self.rows.values()}, "a busy instance is let go"
            del self.alive[command.instance]
        elif isinstance(command, Abort):
            assert self.rows[command.task].cancelling, "stopped, and nobody asked for it"
        elif isinstance(command, Backoff):
            self.rows[command.task].due_s = now + command.delay_s
        elif isinstance(command, Rollback):
            assert {self.rows[task].state for task in command.tasks} == {"rolling back"}, (
                f"{command}: nothing failed there"
            )
        elif isinstance(command, Settled) and not self.takes_back:  # what is taken back is told of as done first
            assert self.rows[command.task].state == command.state, f"{command}: the model has {self.rows[command.task]}"
        elif isinstance(command, Grant):
            row = self.rows[command.task]
            # Else it died with the process, in this very step
            if row.state == "running" and row.attempt == command.attempt:
                row.asking = False
                row.extra.add(command.path)
        elif isinstance(command, Refuse):
            self.rows[command.task].asking = False
            assert all(self.rows[name].state not in FINAL for name in command.holders), "refused for one that has ended"

    def _start(self, start: Start) -> None:
        row = self.rows[start.task]
        assert row.state == "open", f"{start}: it is {row.state}"
        assert not self.draining, f"{start} while draining"
        assert all(self.rows[name].state == "done" for name in row.after), f"{start} before what it needs is done"
        over = FINAL | {"rolling back"}  # it has ended; that its change goes again is a conflict at most
        assert all(self.rows[name].state in over for name in row.firsts), f"{start} out of order"
        assert start.attempt == row.attempt + 1, f"{start} after attempt {row.attempt}"
        assert start.attempt <= row.allowed, f"{start}: it had {row.allowed}"
        crew = self.alive[start.instance]
        assert crew == row.specialist or row.specialist in self.helps[crew], f"{start} on a stranger"
        assert all(other.instance != start.instance for other in self.rows.values()), f"{start}: the instance is busy"
        row.state, row.attempt, row.instance = "running", start.attempt, start.instance

    # --- between two events ------------------------------------------------------------------------------------

    def check(self) -> None:
        """What must hold whatever happened."""
        working = [row for row in self.rows.values() if row.state in ("running", "merging")]
        for number, one in enumerate(working):
            for other in working[number + 1 :]:
                assert not list(_clashes(one, other)), f"{one} beside {other}"
        assert len(self.tasks("running")) <= 1 or not self.alone, "beside a suspect, who did it will not be known"
        if not self.rewound:
            for row in self.rows.values():
                doomed = any(self.rows[name].state in FINAL - {"done"} for name in row.after)
                assert (row.state == "skipped") <= doomed, f"{row} is skipped, and all that it needs is done"
                gone = row.cancelling or row.state in ("skipped", "failed", "cancelled", "rolling back")
                assert doomed <= gone, f"{row} can never be done, and is not skipped"
        if not (self.draining or self.any("running", "merging", "backoff", "rolling back")):
            assert self.over, (
                f"nothing will happen any more, and these are open: {[(name, row) for name, row in self.rows.items() if row.state not in FINAL]}"
            )


def _clashes(one: Row, other: Row) -> Iterator[tuple[str, str]]:
    for writer, reader in ((one, other), (other, one)):
        for path in (*writer.writes, *writer.extra):
            for name in (*reader.writes, *reader.extra, *reader.reads):
                if overlap(path, name):
                    yield path, name
