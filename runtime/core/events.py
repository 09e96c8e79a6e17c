"""Everything that can happen to a run: the only input of the machine, and what the journal keeps.

An event is a fact that the edge reports. It travels (journal, `--events`, HTTP), so it is a tagged msgspec Struct whose
fields are only ever added, with defaults. Unaware of what the machine does with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from .changes import Changeset
from .task import OnFailure, Task

FailureKind = Literal["transient", "permanent", "timeout", "claims", "cancelled", "conflict", "paused"]
"""`conflict` is the line's: the changeset did not fit the tip. All others are the attempt's; `paused` costs it nothing: a budget or a
quota is spent, and the task waits for a resume."""

LandingKind = Literal["land", "undo", "change"]

StealPolicy = Literal["front", "back", "half", "never"]


class Event(msgspec.Struct, omit_defaults=True, tag_field="type"):
    """What the tagged union `AnyEvent` has in common: the wire's `type` field."""


class CrewSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the machine needs to know of a specialist."""

    name: str
    cap: int = 3
    least: int = 1
    helps: tuple[str, ...] = ()


class Order(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """`then` starts after `first` has ended, however it ended: both want `path`."""

    first: str
    then: str
    path: str = ""
    kind: str = "write"  # "write": both write it; "read": one reads what the other writes
    reader: str = ""  # of kind "read": which of the two reads it; empty in journals from before it was kept

    @property
    def reason(self) -> str:
        """Why, as a sentence for people."""
        waits = f"`{self.then}` waits for `{self.first}`"
        if self.kind == "write":
            return f"{waits}: both write {self.path}"
        if not self.reader:
            return f"{waits}: one writes what the other reads, {self.path}"
        writer = self.first if self.reader == self.then else self.then
        return f"{waits}: `{self.reader}` reads what `{writer}` writes: {self.path}"


class Keys(msgspec.Struct, frozen=True, omit_defaults=True):
    """A task's claims, resolved against the base: what the ownership registry grants."""

    writes: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()


class Opened(Event, tag="opened"):
    """A run begins. `merges`: there is a repository, so a changeset has to be merged before its task is done."""

    run: str = ""
    crews: tuple[CrewSpec, ...] = ()
    max_instances: int = 20
    merges: bool = False
    idle_s: float = 5.0
    backoff_s: float = 0.5
    backoff_cap_s: float = 60.0
    steal: StealPolicy = "front"
    base: str = ""
    wall_s: float = 0.0  # seconds since the epoch, for people; the machine never looks at it
    grow: bool = False  # a changeset may claim a free path on the spot
    name: str = ""
    plan: dict[str, Any] = msgspec.field(default_factory=dict)  # what a later process needs: checks, format, ...
    rules: int = 0  # of the machine: a replay has to decide as the run did

    def within(self, usd: float | None, tokens: int | None) -> Opened:
        """The same with other budgets, US dollars and tokens; None keeps the one there is."""
        given = {"budget_usd": usd, "budget_tokens": tokens}
        plan = {**self.plan, **{name: value for name, value in given.items() if value is not None}}
        return msgspec.structs.replace(self, plan=plan)


class Submitted(Event, tag="submitted"):
    """Tasks are handed over, checked. `estimates` (seconds) and `keys`, where given, have one item a task. `asked_by` is the task
    whose wish for another's path it is."""

    group: str
    tasks: tuple[Task, ...]
    estimates: tuple[float, ...] = ()
    keys: tuple[Keys, ...] = ()
    orders: tuple[Order, ...] = ()
    on_failure: OnFailure = "isolate"
    max_failures: int | None = None
    asked_by: str = ""


class Finished(Event, tag="finished", gc=False):
    """An attempt came to its end; `changeset` is None where nothing is to be merged."""

    task: str
    attempt: int
    result: Any = None
    changeset: Changeset | None = None


class Failed(Event, tag="failed", gc=False):
    """An attempt failed. `retry_after_s` is the least wait that the cause asked for. `fresh`: what its conversation said led
    nowhere, so the next attempt begins a new one. `hold`: with kind `paused`, only this task waits, not the whole run."""

    task: str
    attempt: int
    error: str
    kind: FailureKind = "transient"
    retry_after_s: float | None = None
    result: Any = None  # what there is to keep of it, e.g. the state of each file
    fresh: bool = False
    hold: bool = False


class Spent(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What was bought from a model: tokens, and US dollars. `saved_usd` is what reading from the cache saved."""

    input: int = 0
    cache_write: int = 0
    cache_read: int = 0
    output: int = 0
    usd: float = 0.0
    saved_usd: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.input + other.input,
            self.cache_write + other.cache_write,
            self.cache_read + other.cache_read,
            self.output + other.output,
            self.usd + other.usd,
            self.saved_usd + other.saved_usd,
        )

    @property
    def tokens(self) -> int:
        """All of them, as a budget counts them."""
        return self.input + self.cache_write + self.cache_read + self.output


NOTHING: Final = Spent()


class Answered(Event, tag="answered"):
    """A model's answer, durable before its tools run. `opening` is the conversation's first message (with turn 1 only), `state`
    the workspace it belongs to, `content` the answer's blocks as the API gave them. `contents` has, by blob id, what `state` names
    and neither the repository has nor an earlier turn's `contents` had when its `state` named it too."""

    task: str
    attempt: int
    turn: int
    content: Sequence[dict[str, Any]] = ()
    stop: str = ""
    model: str = ""
    spent: Spent = NOTHING
    state: Changeset | None = None
    opening: Sequence[dict[str, Any]] = ()
    contents: dict[str, bytes] | None = None


class Told(Event, tag="told"):
    """What the model is told next: the results of its tools, or what is still wrong; `state` is the workspace by then, `contents` as
    in `Answered`."""

    task: str
    attempt: int
    turn: int
    content: Sequence[dict[str, Any]] = ()
    state: Changeset | None = None
    contents: dict[str, bytes] | None = None


class Reserved(Event, tag="reserved"):
    """A call is about to be made that can cost `most`: where there is a budget, durable before it is sent, so that what a process had
    under way when it was killed is counted. What is told of the attempt next (`Answered`, `Charged`, its end) is what came of it;
    nothing: it was refused."""

    task: str
    attempt: int
    most: Spent = NOTHING


class Charged(Event, tag="charged"):
    """Money went for an answer that cannot be used: it broke off, or its tool input does not parse."""

    task: str
    attempt: int
    spent: Spent = NOTHING
    why: str = ""


class Merged(Event, tag="merged", gc=False):
    """The attempt's changeset is on the line; `commit` is None when it changed nothing."""

    task: str
    attempt: int
    commit: str | None = None


class Asked(Event, tag="asked"):
    """A running attempt wants to write one more path."""

    task: str
    attempt: int
    path: str


class InstanceDied(Event, tag="instance-died"):
    """An instance's actor ended by itself: its task is tried again, its deque is dealt out, it is replaced."""

    instance: str
    error: str = ""


class CancelRequested(Event, tag="cancel-requested"):
    """`task` is to be cancelled; empty: all of them."""

    task: str = ""
    why: str = "cancelled"


class DrainRequested(Event, tag="drain-requested"):
    """Start nothing more; what runs may end."""

    why: str = "interrupted"


class Resumed(Event, tag="resumed"):
    """Another process goes on with the run, a drained one starts again, or one that goes on is given another budget. What ran in a
    process that `crashed` is counted as an attempt and tried again.
    `outside`: the process may have been ended by somebody, so no task is given up for it. The run's budgets where it was given others
    (None: it keeps what it has), and `tasks` that were, as they are now: all of it holds from here on, for later resumes too."""

    crashed: bool = True
    outside: bool = False
    budget_usd: float | None = None
    budget_tokens: int | None = None
    tasks: tuple[Task, ...] = ()


class Retried(Event, tag="retried"):
    """Tasks that failed, were skipped or cancelled are to be tried again, as they are now."""

    group: str
    tasks: tuple[Task, ...] = ()


class RolledBack(Event, tag="rolled-back"):
    """The inverse of the tasks' changes is on the line, or `error` says why it cannot be."""

    tasks: tuple[str, ...]
    commit: str | None = None
    error: str = ""


class Tick(Event, tag="tick"):
    """The machine's deadline has come."""


class Checked(Event, tag="checked"):
    """The checks ran on the line's tip. Each item: command, ok, seconds, output's tail."""

    commit: str
    results: tuple[dict[str, Any], ...] = ()


class Dropped(Event, tag="dropped"):
    """A bisection took these tasks off the line: `culprit` turned `check` red, the rest depend on it."""

    culprit: str
    check: str
    tasks: tuple[str, ...] = ()
    commit: str | None = None


class LandingBegun(Event, tag="landing"):
    """The user's branch is about to go from `head` to the last of the commits: recorded before anything of the user's is touched, so
    that whoever comes after a crash can bring it to its end. Without commits: it was refused, and nothing was touched. `what` and
    `tip` are as in `Landed`."""

    branch: str
    head: str
    commits: tuple[str, ...]
    what: LandingKind = "land"
    tip: str = ""


class Landed(Event, tag="landed"):
    """The user's branch has been moved. `what`: "land" brought the result of the line's `tip` onto it; "undo" took that off again
    by a reverting commit; "change" brought one step of undo or redo onto it, so that it has the result of `tip` now."""

    commits: tuple[str, ...]
    branch: str = ""
    what: LandingKind = "land"
    tip: str = ""


class Stepped(Event, tag="stepped"):
    """The line goes from one checkpoint (commit `before`) to another (`after`): recorded before its ref moves. `off` are the tasks
    whose changes are no longer on it, `on` those that are again, with their commits."""

    how: Literal["undo", "redo"]
    before: str
    after: str
    off: tuple[str, ...] = ()
    on: dict[str, str] = msgspec.field(default_factory=dict)


class Closed(Event, tag="closed"):
    """The run ended in this state: done, partial, failed, cancelled, interrupted or paused."""

    state: str


AnyEvent = (
    Opened
    | Submitted
    | Finished
    | Failed
    | Answered
    | Told
    | Reserved
    | Charged
    | Merged
    | Asked
    | InstanceDied
    | CancelRequested
    | DrainRequested
    | Resumed
    | Retried
    | RolledBack
    | Tick
    | Checked
    | Dropped
    | LandingBegun
    | Landed
    | Stepped
    | Closed
)
