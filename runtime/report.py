"""What came of a run: a frozen view of the machine, made when a run ends or whenever somebody asks.

Knows no files and no git; everything is counted from the machine's records. The lower bound tells how far the makespan is from
what no schedule could beat: the largest of the work over the instances, the longest path of the graph, and the work that one
claimed path makes sequential.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property
from typing import Any, Final, Literal

import attrs

from .core.events import NOTHING, Spent
from .core.machine import Machine
from .core.record import CANCELLED, DONE, FAILED, FINAL, SKIPPED, Record
from .pictures import Bar, lanes, meter, table, whole

BoundBy = Literal["work", "path", "claims", "rate"]

OVER: Final = ("done", "partial", "failed", "cancelled")  # what `outcome` says of a run that has nothing left to do
OPEN: Final = ("interrupted", "paused")  # states of a run that nobody is at and that can go on


@attrs.frozen
class CheckResult:
    """One check command on the merged result. `output` is the tail of what it printed."""

    command: str
    ok: bool
    seconds: float
    exit: int | None = None
    output: str = ""


@attrs.frozen
class TaskReport:
    """One task. Times are seconds since the run was opened, None when it never started or never ended. `now` is where the machine has
    it: the same as `state`, or for one that has not ended what it waits in (`held`, `ready`, ...)."""

    id: str
    specialist: str
    state: str
    result: Any
    error: str | None
    instance: str | None
    attempts: int
    stolen: bool
    stolen_from: str
    started_s: float | None
    finished_s: float | None
    commit: str | None
    spent: Spent = NOTHING
    now: str = ""


@attrs.frozen
class InstanceReport:
    """One instance: how many attempts it ran, how many of them it stole, for how many seconds it was busy."""

    name: str
    specialist: str
    tasks: int
    steals: int
    busy_s: float


class TaskReports(Mapping[str, TaskReport]):
    """`{task id: TaskReport}` over the machine's records, each made when it is looked at."""

    def __init__(self, records: Mapping[str, Record]) -> None:
        self._records = records

    def __getitem__(self, task: str) -> TaskReport:
        record = self._records[task]
        state = record.state if record.state in FINAL else CANCELLED
        error = record.error if record.state in FINAL else record.error or "the run ended before it did"
        return TaskReport(
            id=task,
            specialist=record.task.specialist,
            state=state,
            result=record.result,
            error=error,
            instance=record.ran_on or None,
            attempts=record.attempt,
            stolen=bool(record.stolen_from),
            stolen_from=record.stolen_from,
            started_s=record.started_s,
            finished_s=record.finished_s,
            commit=record.commit,
            spent=record.spent or NOTHING,
            now=record.state,
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)


@attrs.frozen
class RunReport:
    """The result of a run. `line` is the ref that holds it and `commit` its last commit (or the landed one)."""

    run: str
    ok: bool
    state: str  # done, partial, failed, cancelled, interrupted or paused
    tasks: Mapping[str, TaskReport]
    makespan_s: float
    steals: int
    utilization: float
    _bound: Callable[[], tuple[float, BoundBy]] = attrs.field(repr=False, eq=False)
    instances: tuple[InstanceReport, ...] = ()
    commit: str | None = None
    line: str | None = None
    base: str | None = None
    checks: tuple[CheckResult, ...] = ()
    landed: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()  # tasks that a bisection took off the line
    counts: Mapping[str, int] = attrs.field(factory=dict)  # {state: how many tasks}
    spent: Spent = NOTHING  # on models: tokens, US dollars, and what the cache saved
    spent_by_specialist: Mapping[str, Spent] = attrs.field(factory=dict)  # absent = nothing
    paused: str = ""  # why, when the state is "paused"

    @cached_property
    def bound(self) -> tuple[float, BoundBy]:
        """(seconds, what binds); counted when it is first asked for, as it walks the whole graph."""
        return self._bound()

    @property
    def bound_s(self) -> float:
        """The lower bound on the makespan, seconds."""
        return self.bound[0]

    @property
    def bound_by(self) -> BoundBy:
        """What binds: `work`, `path`, `claims` or `rate`."""
        return self.bound[1]

    @property
    def slowest_check(self) -> str | None:
        """The command of the check that took longest."""
        return max(self.checks, key=lambda check: check.seconds).command if self.checks else None

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """How a notebook shows it: a picture of its lanes with a table of its tasks, and the same in words."""
        counts = ", ".join(f"{number} {state}" for state, number in self.counts.items()) or "no tasks"
        figures = [counts, f"{self.makespan_s:.2f} s, at least {self.bound_s:.2f} s ({self.bound_by})"]
        figures += [f"{self.utilization:.0%} busy", f"{self.steals} stolen"]
        figures += [f"{self.spent.usd:.4f} USD"] if self.spent.tokens else []
        figures += [f"{'green' if check.ok else 'RED'}: {check.command}" for check in self.checks]
        name = f"Run {self.run}" if self.run != "run" else "Run"  # which is every run's name without a repository
        tasks = self.tasks.values()
        bars = [
            Bar(task.instance, task.id, task.started_s, task.finished_s, task.state, task.stolen_from)
            for task in tasks
            if task.instance and task.started_s is not None and task.finished_s is not None
        ]
        rows = [(task.id, task.state, task.instance or "", str(task.attempts), task.error or "") for task in tasks]
        shares = {"done": self.counts.get(DONE, 0), "failed": self.counts.get(FAILED, 0)}
        shares["lost"] = len(rows) - sum(shares.values())
        below = table(
            rows, ("task", "state", "instance", "attempts", "error"), f"{len(rows)} tasks", unfolded=not self.ok
        )
        html = whole(name, self.state, figures, meter(shares, len(rows)), lanes(bars), below)
        wrong = [f"  {row[1]} {row[0]}: {row[4]}" for row in rows if row[1] != DONE]
        return {
            "text/plain": "\n".join([f"{name} {self.state}: {'; '.join(figures)}", *wrong]),
            "text/html": html,
        }


def failures_in(result: Any) -> dict[str, str]:
    """{path: why} of the files that a task's result says have failed; the ways tell of each file."""
    files = result.get("files") if isinstance(result, dict) else None
    rows = files.items() if isinstance(files, dict) else ()
    return {path: row.get("why", "") for path, row in rows if isinstance(row, dict) and row.get("state") == "failed"}


def failed_files(report: RunReport) -> dict[str, str]:
    """{path: why} of the files that failed in tasks that are done all the same: a batch goes on without them."""
    done = (task for task in report.tasks.values() if task.state == DONE)
    return {path: why for task in done for path, why in failures_in(task.result).items()}


def lower_bound(
    machine: Machine, records: Mapping[str, Record] | None = None, rate_s: float = 0.0
) -> tuple[float, BoundBy]:
    """(seconds, what binds) from the attempts as they went, all or those of `records`; 0 when nothing ended. `rate_s` is the least
    that the service's rates allowed."""
    ended = {
        name: (record, _length(record))
        for name, record in (machine.records if records is None else records).items()
        if record.finished_s is not None and record.began_s is not None
    }
    bounds: list[tuple[float, BoundBy]] = [
        (_by_work(machine, ended), "work"),
        (_by_claims(ended), "claims"),
        (rate_s, "rate"),
        (_by_path(machine, ended), "path"),  # behind the claims: an order that was added for one is in the path too
    ]
    return max(bounds, key=lambda bound: bound[0])


def _length(record: Record) -> float:
    """Seconds that a task's attempts took of its place in any order: on instances, and for one that is done up to the line. What it
    waited between two attempts is nobody's work: others had its claims."""
    if record.state == DONE and record.finished_s is not None and record.started_s is not None:
        return max(record.busy_s, record.finished_s - record.started_s)
    return record.busy_s


Ended = dict[str, tuple[Record, float]]  # {task id: (record, seconds)}


def _by_work(machine: Machine, ended: Ended) -> float:
    busy: dict[str, float] = {}
    tasks: dict[str, int] = {}
    for record, _ in ended.values():
        crew = record.task.specialist
        busy[crew] = busy.get(crew, 0.0) + record.busy_s
        tasks[crew] = tasks.get(crew, 0) + 1
    crews = machine.dispatch.crews
    places = sum(min(crews[name].spec.cap, tasks[name]) for name in busy)
    bound = sum(busy.values()) / max(1, min(places, machine.opened.max_instances))
    if any(crews[name].helpers for name in busy):
        helped = sum(crew.spec.cap for crew in crews.values())
        bound = sum(busy.values()) / max(1, min(helped, machine.opened.max_instances))
    for name, seconds in busy.items():
        if not crews[name].helpers:
            bound = max(bound, seconds / max(1, min(crews[name].spec.cap, tasks[name])))
    return bound


def _by_path(machine: Machine, ended: Ended) -> float:
    left: dict[str, int] = {}
    behind: dict[str, list[str]] = {}
    for name, (record, _) in ended.items():
        for other in (*(record.needed_by or ()), *(record.ordered_by or ())):
            # When the first of two that were only ordered is tried again after the second's end, nothing waited for that.
            if other.task.id in ended and (record.finished_s or 0.0) <= (other.began_s or 0.0):
                behind.setdefault(name, []).append(other.task.id)
                left[other.task.id] = left.get(other.task.id, 0) + 1
    length = {name: seconds for name, (_, seconds) in ended.items()}
    line = [name for name in ended if not left.get(name)]
    for name in line:  # grows while it is walked
        for other in behind.get(name, ()):
            length[other] = max(length[other], length[name] + ended[other][1])
            left[other] -= 1
            if not left[other]:
                line.append(other)
    return max(length.values(), default=0.0)


def _by_claims(ended: Ended) -> float:
    held: dict[str, list[float]] = {}
    for record, seconds in ended.values():
        if record.keys is not None:
            for path in record.keys.writes:
                held.setdefault(path, []).append(seconds)
    # Alone, nobody waits for it
    return max((math.fsum(turns) for turns in held.values() if len(turns) > 1), default=0.0)


def outcome(states: Collection[str], checks_ok: bool) -> str:
    """The run's state from its tasks': what `runs` lists and the exit code follows."""
    states = set(states)
    if states - FINAL:
        return "interrupted"
    if states <= {DONE}:
        return "done" if checks_ok else "failed"
    if CANCELLED in states and not states & {FAILED, SKIPPED} and DONE not in states:
        return "cancelled"
    return "partial" if DONE in states else "failed"


def build(
    machine: Machine,
    *,
    group: str | None = None,
    line: str | None = None,
    commit: str | None = None,
    state: str | None = None,
    rate_s: float = 0.0,
) -> RunReport:
    """The report of the machine as it stands, of all its tasks or of one submitted group's."""
    records = machine.records
    if group is not None and len(machine.groups) > 1:
        records = {record.task.id: record for record in machine.groups[group].tasks}
    checks = tuple(CheckResult(**result) for result in machine.checked.results) if machine.checked else ()
    checks_ok = all(check.ok for check in checks)
    counts: dict[str, int] = {}
    last_end = busy_s = open_s = 0.0
    steals = 0
    first = None
    for record in records.values():
        counts[record.state] = counts.get(record.state, 0) + 1
        if record.finished_s is not None and record.finished_s > last_end:
            last_end = record.finished_s
        if record.began_s is not None and (first is None or record.began_s < first):
            first = record.began_s
        busy_s += record.busy_s
        open_s += record.busy_s if record.finished_s is None else 0.0
        steals += bool(record.stolen_from)
    by_specialist: dict[str, Spent] = {}
    for record in records.values():
        if record.spent is not None:
            name = record.task.specialist
            by_specialist[name] = by_specialist.get(name, Spent()) + record.spent
    makespan_s = last_end - first if first is not None and last_end > first else 0.0
    dispatch = machine.dispatch
    if open_s and first is not None:  # what is open has been worked on until now
        makespan_s = max(makespan_s, dispatch.now - first)
    landed = tuple(commit for event in machine.landed for commit in event.commits)
    return RunReport(
        run=machine.opened.run,
        ok=set(counts) <= {DONE} and checks_ok,
        state=state or ("paused" if machine.paused and set(counts) - FINAL else outcome(counts, checks_ok)),
        tasks=TaskReports(records),
        makespan_s=makespan_s,
        steals=steals if len(records) < len(machine.records) else dispatch.steals,
        utilization=busy_s / (dispatch.peak * makespan_s) if dispatch.peak and makespan_s else 0.0,
        bound=lambda: lower_bound(machine, records, rate_s),
        instances=tuple(
            InstanceReport(one.name, one.crew.spec.name, one.tasks, one.steals, one.busy_s) for one in dispatch.everyone
        ),
        commit=landed[-1] if landed else commit,
        line=line,
        base=machine.opened.base or None,
        checks=checks,
        landed=landed,
        dropped=tuple(task for event in machine.dropped for task in event.tasks),
        counts=counts,
        spent=sum(by_specialist.values(), Spent()),
        spent_by_specialist=by_specialist,
        paused=machine.paused,
    )
