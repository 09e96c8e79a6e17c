"""Wishes: what a task wants done in another task's file becomes a task of the owner's, behind the owner's own.

Looks at a machine, changes nothing: who asks posts the event.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import attrs

from . import claims
from .core.events import Keys, Submitted
from .core.machine import Machine

_NOT_INHERITED: Mapping[str, Any] = MappingProxyType(  # of an owner's task, what a wish for its path is without
    {"payload": None, "check": (), "estimate_s": None, "rewrite": None, "codemod": None, "exec": None}
)


def planned(machine: Machine, task: str, path: str) -> tuple[str, ...]:
    """The other tasks of the run whose claims cover a path."""
    records = machine.records.values()
    return tuple(one.task.id for one in records if one.task.id != task and claims.covers(one.task.writes, path))


def hand_over(machine: Machine, task: str, path: str, why: str) -> Submitted | str | None:
    """The event that makes a wish for another task's path a task of its own, after the owner's and by its specialist, for a model; the
    id of the task when the same wish is one already (after a crash it is made again); None when it cannot be.

    One wish deep: a task that was wished for cannot wish, so a run ends.
    """
    records = machine.records
    made = [event for _, event, _ in machine.history if isinstance(event, Submitted) and event.asked_by]
    if any(event.tasks[0].id == task for event in made):
        return None
    words = f"{why.strip()}\n\n(`{task}` asked for this: {path} was "
    for event in made:
        known = event.tasks[0]
        if event.asked_by == task and known.writes == (path,) and known.goal.startswith(words):
            return known.id
    owners = [one for one in machine.registry.owner(path) if one != task]
    if not owners:
        return None
    owner = records[owners[0]].task
    name = next(f"{owner.id}+{n}" for n in range(1, len(records) + 2) if f"{owner.id}+{n}" not in records)
    goal = f"{words}`{owner.id}`'s.)"
    wish = attrs.evolve(owner, id=name, goal=goal, writes=(path,), after=(owner.id,), **_NOT_INHERITED)
    estimates = (records[owner.id].estimate_s,)
    return Submitted(records[task].group, (wish,), keys=(Keys((path,), ()),), estimates=estimates, asked_by=task)
