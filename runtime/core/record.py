"""One task's place in the run: the value behind the machine's one map, `records[task id]`.

A plain record. Who may change it, and to what, is the machine's business; `TRANSITIONS` is the whole of it as a table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from .changes import Changeset
from .events import Answered, Keys, Spent, Told
from .task import Task

if TYPE_CHECKING:
    from .deques import Crew, Instance

WAITING: Final = "waiting"  # for tasks it comes after
CLAIMING: Final = "claiming"  # in line for its paths
READY: Final = "ready"  # holds its claims, lies in a deque (or in its crew's backlog)
RUNNING: Final = "running"  # an attempt is on an instance
MERGING: Final = "merging"  # its changeset is on the way to the line
BACKOFF: Final = "backoff"  # between two attempts
HELD: Final = "held"  # a budget or a quota is spent: it waits for a resume
ROLLING: Final = "rolling back"  # was done; its change is being taken off the line
DONE: Final = "done"
FAILED: Final = "failed"
SKIPPED: Final = "skipped"
CANCELLED: Final = "cancelled"

FINAL: Final = frozenset({DONE, FAILED, SKIPPED, CANCELLED})
HOLDS_CLAIMS: Final = frozenset({READY, RUNNING, MERGING})

TRANSITIONS: Final[dict[str, frozenset[str]]] = {
    WAITING: frozenset({CLAIMING, READY, SKIPPED, CANCELLED}),
    CLAIMING: frozenset({READY, SKIPPED, CANCELLED}),
    READY: frozenset({RUNNING, CANCELLED}),
    RUNNING: frozenset({MERGING, DONE, FAILED, BACKOFF, HELD, CANCELLED, CLAIMING, READY}),
    MERGING: frozenset({DONE, FAILED, BACKOFF, CANCELLED, ROLLING}),
    BACKOFF: frozenset({CLAIMING, READY, CANCELLED}),
    HELD: frozenset({CLAIMING, READY, CANCELLED}),
    ROLLING: frozenset({DONE, CANCELLED}),
    DONE: frozenset({ROLLING, CANCELLED}),
    FAILED: frozenset({WAITING, CLAIMING, READY}),  # only by `Retried`
    SKIPPED: frozenset({WAITING, CLAIMING, READY}),
    CANCELLED: frozenset({WAITING, CLAIMING, READY, DONE}),  # done again by redo
}


class Talk:
    """A conversation so far: its turns, and by blob id the contents that its last state names and no repository has."""

    __slots__ = ("contents", "turns")

    def __init__(self) -> None:
        self.turns: list[Answered | Told] = []
        self.contents: dict[str, bytes] = {}

    def take(self, turn: Answered | Told) -> None:
        """One more turn. What a file was before is not needed any more: a conversation holds no more than its files are."""
        if turn.state is not None:
            known = {**self.contents, **(turn.contents or {})}
            self.contents = {one.oid: known[one.oid] for one in turn.state.changes if one.oid in known}
        self.turns.append(msgspec.structs.replace(turn, contents=None) if turn.contents else turn)


class Record:
    """The state of one task. Slots, because a run may have a hundred thousand of them."""

    __slots__ = (
        "attempt",
        "began_s",
        "busy_s",
        "cancelling",
        "changeset",
        "commit",
        "crashes",
        "crew",
        "error",
        "estimate_s",
        "finished_s",
        "group",
        "instance",
        "keys",
        "last_attempt",
        "level",
        "missing",
        "needed_by",
        "ordered_by",
        "priority",
        "ran_on",
        "reserved",
        "result",
        "seq",
        "spent",
        "started_s",
        "state",
        "stolen_from",
        "talk",
        "task",
    )

    def __init__(self, task: Task, crew: Crew, seq: int, group: str, estimate_s: float, keys: Keys | None) -> None:
        self.task = task
        self.crew = crew
        self.seq = seq
        self.group = group
        self.estimate_s = estimate_s
        self.keys = keys
        self.state: str = WAITING
        self.missing = 0  # tasks it still waits for
        self.needed_by: list[Record] | None = None  # skipped when this one is not done; None = nobody
        self.ordered_by: list[Record] | None = None  # only wait for its end
        self.priority = estimate_s  # the longest remaining path, seconds, its own estimate included
        self.level = 0
        self.attempt = 0  # of the current or last start; 0 = never started
        self.last_attempt = task.attempts  # no start beyond this number
        self.busy_s = 0.0  # on instances, all attempts; merging and waiting left out
        self.crashes = 0  # starts that ended with the whole process
        self.instance: Instance | None = None
        self.ran_on = ""  # the name of the instance of its last attempt
        self.stolen_from = ""  # whose deque that attempt was taken from, when it was not that instance's own
        self.began_s: float | None = None  # when its first attempt started, after a retry of the run too
        self.started_s: float | None = None  # when its current or last attempt started
        self.finished_s: float | None = None
        self.result: Any = None
        self.error: str | None = None
        self.changeset: Changeset | None = None  # while it is on the way to the line
        self.commit: str | None = None
        self.talk: Talk | None = None  # the conversation so far, to go on from
        self.spent: Spent | None = None  # on models, all attempts
        self.reserved: Spent | None = None  # the most that the call under way can cost, where it was told before
        self.cancelling = ""  # why, when a running attempt has been told to stop

    @property
    def turns(self) -> list[Answered | Told] | None:
        """Of the conversation so far; None when there is none."""
        return None if self.talk is None else self.talk.turns

    def __repr__(self) -> str:
        return f"<Record {self.task.id} {self.state} attempt {self.attempt}>"
