"""The shapes of what REST answers, for its OpenAPI document: whoever makes a client from that has types for all of it.

Knows no HTTP and no runs. `documents` makes the two large ones, a run and its graph, piece by piece and already encoded; a test holds
what is served to what stands here.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ..report import BoundBy, CheckResult, InstanceReport
from .queue import Waits

RunState = Literal[
    "queued", "running", "done", "partial", "paused", "interrupted", "failed", "cancelled", "collected"
]  # fmt: skip
TaskState = Literal[
    "waiting", "claiming", "ready", "running", "merging", "backoff", "held", "rolling back", "done", "failed", "skipped", "cancelled"
]  # fmt: skip


class Health(msgspec.Struct):
    """Whether the daemon serves."""

    ok: bool
    state: Literal["serving", "draining"]
    version: str
    repositories: int
    runs: int  # that are queued or go on
    attempts: int  # under way


class Account(msgspec.Struct):
    """How the one gate stands before all calls to the model."""

    waiting: int
    in_flight: int
    concurrency: int
    answered: int
    refused: dict[str, int]
    waited_s: dict[str, float]
    limits_per_min: dict[str, dict[str, float]]


class LimitsNow(msgspec.Struct):
    """What is allowed at once: attempts over all runs, and active runs in a repository."""

    instances: int
    runs: int
    account: Account


class Link(msgspec.Struct):
    """A one-time link to the page: its path, and for how many seconds it is good."""

    path: str
    good_s: float


class RepositoryRow(msgspec.Struct):
    """A registered repository; `runs` are those that are queued or go on. `away`: why it is not served, though it is on the list; null
    when it is."""

    id: str
    name: str
    path: str
    runs: int
    away: str | None = None


class QueueRow(msgspec.Struct):
    """A place in the queue: `active`, or what it waits for."""

    run: str
    active: bool
    runs: list[str]
    path: str
    reason: str


class RepositoryNow(RepositoryRow, kw_only=True):
    """A repository with its queue, in order."""

    queue: list[QueueRow]


class RunRow(msgspec.Struct):
    """A run as a list has it. `started_at` is in seconds since the epoch."""

    run: str
    state: RunState
    ok: bool
    started_at: float
    title: str


class Cost(msgspec.Struct):
    """What was bought from a model: US dollars and tokens."""

    usd: float
    saved_usd: float
    tokens_in: int
    tokens_cached: int
    tokens_out: int


class TaskRow(msgspec.Struct):
    """One task of a run. Times are seconds since the run began; `cost` is there when something was bought."""

    state: TaskState
    specialist: str
    instance: str | None
    attempts: int
    stolen: bool
    stolen_from: str | None
    started_s: float | None
    finished_s: float | None
    commit: str | None
    error: str | None
    cost: Cost | msgspec.UnsetType = msgspec.UNSET


class Budget(msgspec.Struct):
    """What a run may spend; null: no limit."""

    usd: float | None
    tokens: int | None


class Run(msgspec.Struct):
    """A run as it stands. `exit` is the exit code of the command that had done the same; times are in seconds."""

    run: str
    repository: str
    state: RunState
    ok: bool
    title: str
    client: str
    submitted_at: float
    waits: Waits | None
    error: str | None
    culprit: str | None
    exit: int | None
    budget: Budget
    redo: bool
    on_branch: bool
    base: str | None
    commit: str | None
    line: str | None
    landed: list[str]
    makespan_s: float
    bound_s: float
    bound_by: BoundBy
    utilization: float
    steals: int
    counts: dict[str, int]
    dropped: list[str]
    paused: str | None
    cost: Cost
    cost_by_specialist: dict[str, Cost]
    tasks: dict[str, TaskRow]
    instances: list[InstanceReport]
    checks: list[CheckResult]
    slowest_check: str | None


class GraphTask(msgspec.Struct):
    """A task in the graph; `waits_for` are tasks, the first in line for its files among them."""

    id: str
    specialist: str
    state: TaskState
    level: int
    after: list[str]
    writes: list[str]
    reads: list[str]
    goal: str
    instance: str | None
    stolen_from: str | None
    waits_for: list[str]
    error: str | None


class GraphOrder(msgspec.Struct):
    """`then` starts after `first` has ended: both want the same file."""

    first: str
    then: str


class Graph(msgspec.Struct):
    """The tasks with what they wait for."""

    tasks: list[GraphTask]
    orders: list[GraphOrder]


class TaskStory(TaskRow, kw_only=True):
    """A task with its result, and everything that happened to it, as the events tell it."""

    id: str
    goal: str
    result: Any
    story: list[dict[str, Any]]


class News(msgspec.Struct):
    """How far a run is, and what happened since the number that was asked for."""

    run: str
    state: RunState
    seq: int
    done: int
    total: int
    waits: str | None
    news: list[str]


class RunNow(msgspec.Struct):
    """What a run is after a request to change it."""

    run: str
    state: RunState


class Landed(msgspec.Struct):
    """The commits on the branch; `commit` is the last of them."""

    run: str
    ok: bool
    commit: str
    landed: list[str]


class Rewound(msgspec.Struct):
    """What an undo or a redo came to: the line's tip, the tasks whose changes are `off` or `on` again, what is on the branch for it,
    and the checks that are red now."""

    run: str
    ok: bool
    state: RunState
    commit: str
    off: list[str]
    on: list[str]
    landed: list[str]
    red: list[str]


class Checkpoint(msgspec.Struct):
    """A line's commit under a name."""

    run: str
    ref: str
    commit: str


class TaskClaims(msgspec.Struct):
    """The paths that a task wants."""

    writes: list[str]
    reads: list[str]


class Conflict(msgspec.Struct):
    """Two tasks that want one path, and which of them is first."""

    first: str
    then: str
    path: str
    reason: str


class Outlook(msgspec.Struct):
    """What a plan would do. Lengths are in seconds."""

    name: str
    base: str
    tasks: int
    levels: list[list[str]]
    claims: dict[str, TaskClaims]
    conflicts: list[Conflict]
    instances: dict[str, int]
    predicted_makespan_s: float
    sequential_s: float
    path_s: float
    estimates: dict[str, int]
    predicted_cost_usd: float
    pays: bool
    verdict: str
    checks: list[str]
