"""Undo and redo of a run that has ended: along its checkpoints, of one task, and of what was landed.

Knows runs, lines and checks; starts no task. Each step is recorded before it is performed: a kill between the two loses neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import attrs
import trio

from .checks import run_checks
from .core.events import Checked, Closed, LandingKind, Stepped
from .core.record import DONE, Record
from .core.task import Plan
from .errors import BadInput, RepositoryRefused
from .git import Repository
from .landing import land
from .preparation import rules_back
from .report import outcome
from .runs import Held, Opener, held, line_of, may_land
from .worktrees import Pool


class Entangled(RepositoryRefused):
    """A task's change cannot be taken out by itself; the message lists what is entangled with it."""


@attrs.frozen
class Rewound:
    """What an undo or a redo came to. `commit` is the line's tip; `landed` what is on the branch for it, if it was landed."""

    run: str
    state: str
    commit: str
    off: tuple[str, ...] = ()  # tasks whose changes are no longer there
    on: tuple[str, ...] = ()  # tasks whose changes are there again
    landed: tuple[str, ...] = ()
    red: tuple[str, ...] = ()  # checks that are red now


async def undo(
    repository: Repository, run: str, *, everything: bool = False, to: str = "", opener: Opener | None = None
) -> Rewound:
    """One step back: off the branch, if it was landed; else the line goes to the checkpoint before (`to` a named one, or to its base
    with `everything`). Raises BadInput when there is nothing to undo, RepositoryRefused when it would overwrite uncommitted work."""
    async with held(repository, run, opener=opener) as one:
        line = one.line_now
        carried = one.machine.undo.carried
        if carried and not to:
            commits = await _take_off(one, carried)
            if not everything:
                return await _rewound(one, landed=commits)
        if line.tip == line.base and not (carried and everything):
            raise BadInput(f"run {run}: there is nothing to undo: its line is at its base")
        if to and carried:
            raise RepositoryRefused(f"run {run} has landed; undo that first, without --to")
        if to:
            after = _named(one, to)
        elif everything:
            after = line.base
        else:
            after = repository.commit_parts(line.tip)[1][0]
        if after != line.tip:
            return await _step(one, "undo", after)
        return await _rewound(one)


async def redo(repository: Repository, run: str, *, everything: bool = False, opener: Opener | None = None) -> Rewound:
    """What the last undo took, again: one step, or all of them. Raises BadInput when there is nothing to redo."""
    async with held(repository, run, opener=opener) as one:
        if not one.machine.undo.redo:
            raise BadInput(f"run {run}: there is nothing to redo")
        off: dict[str, None] = {}
        on: dict[str, None] = {}
        while True:
            made = await _redo_one(one, everything)
            for task in made.off:
                off[task] = on.pop(task, None)
            for task in made.on:
                on[task] = off.pop(task, None)
            if not everything or not one.machine.undo.redo:
                return attrs.evolve(made, off=tuple(off), on=tuple(on))


async def _redo_one(one: Held, everything: bool) -> Rewound:
    kind, tip = one.machine.undo.redo[-1]
    if kind == "land":
        return await _rewound(one, landed=await _put_on(one, tip))
    line = one.line_now
    between = line.repository.first_parents(tip, line.tip)
    forward = between and line.repository.commit_parts(between[0])[1][:1] == (line.tip,)
    before, carried = line.tip, one.machine.undo.carried == line.tip
    after = between[0] if forward and not everything else tip
    if carried:
        await _may_carry(one, after)
    made = await _step(one, "redo", after)
    if not carried:
        return made
    landed = await _carry(one, before, f"Redo in run {one.entry.run}")
    return attrs.evolve(made, landed=landed)


async def take_back(repository: Repository, run: str, task: str, *, opener: Opener | None = None) -> Rewound:
    """Take one task's change out by its inverse, with the tasks that needed it, and run the checks again. After a landing the
    same comes onto the branch, when no check is red. Raises BadInput, Entangled with the list, RepositoryRefused."""
    async with held(repository, run, opener=opener) as one:
        records = one.machine.records
        if task not in records:
            raise BadInput(f"run {run} has no task {task!r}")
        line = one.line_now
        if line.commit_of(task) is None:
            raise BadInput(f"run {run}: `{task}` has no change on the line, it is {records[task].state}")
        tasks = _with_dependants(records[task])
        inverse = await trio.to_thread.run_sync(line.inverse, tasks, "Undone on request.")
        if inverse.entangled:
            raise Entangled(inverse.refusal)
        if inverse.commit is None:
            raise BadInput(f"run {run}: nothing of what `{task}` changed is in the result any more")
        before, carried = line.tip, one.machine.undo.carried == line.tip
        if carried:
            await _may_carry(one, inverse.commit)
        made = await _step(one, "undo", inverse.commit)
        red = await _check(one)
        landed: tuple[str, ...] = ()
        if carried and not red:
            landed = await _carry(one, before, f"Take back {', '.join(inverse.tasks)}")
        return attrs.evolve(await _rewound(one, landed=landed), off=made.off, red=red)


def _with_dependants(record: Record) -> list[str]:
    found = [record]
    for one in found:  # grows while it is walked
        found.extend(behind for behind in one.needed_by or () if behind not in found and behind.state == DONE)
    return [one.task.id for one in found]


async def _step(one: Held, how: Literal["undo", "redo"], after: str) -> Rewound:
    line = one.line_now
    before = line.tip
    off, on = line.between(before, after)
    await trio.to_thread.run_sync(line.keep_undone)
    await one.record(Stepped(how, before, after, off, on))
    await trio.to_thread.run_sync(line.step, after)
    return attrs.evolve(await _rewound(one), off=off, on=tuple(on))


async def _rewound(one: Held, *, landed: Sequence[str] = ()) -> Rewound:
    """Close the run in the state that it is in now."""
    states = [record.state for record in one.machine.records.values()]
    checks = one.machine.checked.results if one.machine.checked else ()
    state = outcome(states, all(check["ok"] for check in checks))
    await one.record(Closed(state))
    return Rewound(one.entry.run, state, one.line_now.tip, landed=tuple(landed))


# --- the branch ------------------------------------------------------------------------------------------------


async def _bring(one: Held, old: str, new: str, subject: str, what: LandingKind, tip: str) -> tuple[str, ...]:
    line = one.line_now
    trees = [line.repository.tree_of(commit) for commit in (old, new)]
    landing = await trio.to_thread.run_sync(line.bringing, trees[0], trees[1], subject)
    if landing is None:
        raise RepositoryRefused(
            f"the branch that is checked out has nothing of run {one.entry.run} that this would change"
        )
    await land(landing, what, tip, one.record)
    return landing.commits


async def _may_carry(one: Held, after: str) -> None:
    """Raises RepositoryRefused when the branch cannot follow the line to a checkpoint."""
    line = one.line_now
    trees = [line.repository.tree_of(commit) for commit in (line.tip, after)]
    await trio.to_thread.run_sync(line.brought, trees[0], trees[1])


async def _take_off(one: Held, carried: str) -> tuple[str, ...]:
    return await _bring(one, carried, one.line_now.base, f"Revert run {one.entry.run}", "undo", "")


async def _put_on(one: Held, tip: str) -> tuple[str, ...]:
    may_land(one)
    return await _bring(one, one.line_now.base, tip, f"Land run {one.entry.run} again", "land", tip)


async def _carry(one: Held, before: str, subject: str) -> tuple[str, ...]:
    return await _bring(one, before, one.line_now.tip, subject, "change", one.line_now.tip)


# --- checks and names ------------------------------------------------------------------------------------------


async def _check(one: Held) -> tuple[str, ...]:
    """Run the plan's checks at the line's tip; the commands that are red."""
    plan: Plan = rules_back(one.machine.opened)
    line = one.line_now
    if plan.checks and one.machine.checked is None:
        pool = Pool(line.repository, plan.setup, plan.setup_timeout_s)
        async with pool.lease(line.tip) as lease:
            results = await run_checks(plan.checks, lease.folder)
        await one.record(Checked(line.tip, tuple(attrs.asdict(result) for result in results)))
    told = one.machine.checked.results if one.machine.checked else ()
    return tuple(result["command"] for result in told if not result["ok"])


def _named(one: Held, name: str) -> str:
    """The commit of a checkpoint on the line: one made on demand, a task's, or a commit's own name."""
    line = one.line_now
    commits = [line.base, *(commit.id for commit in line.commits())]
    known = line.checkpoints()
    found = known.get(name) or line.commit_of(name) or next((one for one in commits if one.startswith(name)), "")
    if found not in commits:
        names = ", ".join(known) or "none was made by name"
        raise BadInput(
            f"run {one.entry.run} has no checkpoint {name!r} on its line; by name: {names}; tasks and commits do too"
        )
    return found


def checkpoint(repository: Repository, run: str, name: str = "") -> tuple[str, str]:
    """Keep the line as it is now under a ref of its own, also while the run goes on: (ref, commit). Raises BadInput for a bad name."""
    line = line_of(repository, run)
    return line.checkpoint(name or str(len(line.commits()))), line.tip
