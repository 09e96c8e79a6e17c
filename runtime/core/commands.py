"""What the machine asks the edge to do. Never journaled: after a crash they follow again from the events.

The edge performs a command and ends by sending one event (`Start` ends in `Finished` or `Failed`, `Merge` in `Merged`
or `Failed`, ...). `Settled` and `Concluded` only tell.
"""

from __future__ import annotations

import msgspec


class Command(msgspec.Struct, omit_defaults=True, tag_field="type", gc=False):
    """What the commands have in common: they are shown to watchers beside the events, under a `type` of their own."""


class Spawn(Command, tag="spawn"):
    """Start the actor of a new instance."""

    instance: str
    specialist: str


class Retire(Command, tag="retire"):
    """End an idle instance's actor."""

    instance: str


class Start(Command, tag="started"):
    """Run an attempt on an instance. `stolen_from` is the instance whose deque the task was in, or empty."""

    task: str
    attempt: int
    instance: str
    stolen_from: str = ""


class Abort(Command, tag="abort"):
    """Stop a running attempt; it ends in `Failed` of kind `cancelled`."""

    task: str
    attempt: int
    why: str = ""


class Merge(Command, tag="merge"):
    """Put the attempt's changeset on the line."""

    task: str
    attempt: int


class Grant(Command, tag="granted"):
    """The path that a running attempt asked for is its own now."""

    task: str
    attempt: int
    path: str


class Refuse(Command, tag="refused"):
    """The path cannot be had: `holders` own it."""

    task: str
    attempt: int
    path: str
    holders: tuple[str, ...] = ()


class Rollback(Command, tag="rollback"):
    """Take the tasks' changes off the line again, because `cause` failed."""

    tasks: tuple[str, ...]
    cause: str = ""


class Backoff(Command, tag="backoff"):
    """Told, not asked: the task will be tried again in `delay_s` seconds."""

    task: str
    attempt: int
    delay_s: float
    error: str = ""


class Settled(Command, tag="settled"):
    """Told, not asked: the task has reached its final state."""

    task: str
    state: str
    error: str = ""


class Concluded(Command, tag="concluded"):
    """Told, not asked: every task of a submitted group has settled."""

    group: str
