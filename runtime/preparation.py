"""From a plan to what the machine is given: checked, claims resolved, conflicts ordered, lengths estimated.

Knows plans and, when there is one, the files of the base commit; starts nothing and writes nothing. Everything that is wrong is
told at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import msgspec

from . import claims
from .core import plan as plans
from .core.estimate import MODEL_WAY, Estimator, Seen
from .core.events import Keys, Opened, Order
from .core.record import DONE, Record
from .core.task import Codemod, Plan, Specialist, Task
from .errors import BadInput, BadPlan
from .git import Entry, Repository
from .journal import Reader

ESTIMATES = "estimates"  # the key of what was learned in the journal's memory
_MOST_INSTANCES = 1000
_RULES = (
    "name",
    "base",
    "checks",
    "claims",
    "on_failure",
    "together",
    "max_failures",
    "setup",
    "setup_timeout_s",
    "format",
    "budget_usd",
    "budget_tokens",
    "contracts",
)


@attrs.frozen
class Prepared:
    """A plan as the machine takes it; `estimates` and `keys` have one item a task, or none at all."""

    tasks: tuple[Task, ...]
    base: str = ""
    estimates: tuple[float, ...] = ()
    keys: tuple[Keys, ...] = ()
    orders: tuple[Order, ...] = ()


def checked_specialists(specialists: Iterable[Specialist], max_instances: int) -> list[Specialist]:
    """The specialists, if they can be run. Raises BadInput with everything that is wrong with them."""
    found = list(specialists)
    problems = []
    names = [one.name for one in found]
    if not found:
        problems.append("a Runtime needs at least one specialist")
    if isinstance(max_instances, bool) or not isinstance(max_instances, int) or max_instances < 1:
        problems.append(f"max_instances: {max_instances!r} is not a whole number of 1 or more")
    for one in found:
        where = f"specialist {one.name!r}"
        if not isinstance(one.name, str) or not one.name.strip():
            problems.append(f"{where}: name: it must be a word")
        elif names.count(one.name) > 1:
            problems.append(f"{where}: name: there are two of them")
        if not callable(one.handler):
            problems.append(f"{where}: handler: it must be an async function (brief, workspace), not {one.handler!r}")
        for field in ("instances", "min_instances"):
            value = getattr(one, field)
            least = 1 if field == "instances" else 0
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MOST_INSTANCES:
                problems.append(f"{where}: {field}: {value!r} is not a whole number from {least} to {_MOST_INSTANCES}")
        problems.extend(f"{where}: helps: there is no specialist {name!r}" for name in one.helps if name not in names)
    if problems:
        raise BadInput(dict.fromkeys(problems))
    return found


def learned(journal: Path | None) -> Estimator:
    """What the runs of a journal have taught of how long tasks take; nothing without one. Raises JournalDamaged, JournalForeign."""
    if journal is None:
        return Estimator()
    try:
        with closing(Reader(journal)) as reader:
            kept = reader.recall(ESTIMATES)
    except FileNotFoundError:
        return Estimator()
    return Estimator() if kept is None else Estimator(msgspec.msgpack.decode(kept, type=dict[str, Seen]))


def prepare(
    plan: Plan,
    specialists: Mapping[str, Specialist],
    repository: Repository | None,
    estimator: Estimator,
    open_tasks: Collection[str] = (),
    earlier: Mapping[str, Record] | None = None,
    *,
    languages: Collection[str] | None = None,
    codemod_problem: Callable[[Codemod], str | None] | None = None,
    origin: str = "",
) -> Prepared:
    """Raises BadPlan with every problem of the plan, or BadInput for a base that is no commit."""
    problems = plans.check(
        plan,
        specialists,
        origin=origin,
        known_tasks=frozenset(earlier or ()),
        languages=languages,
        path_problem=claims.problem_with if repository is not None else None,
        codemod_problem=codemod_problem,
    )
    problems.extend(
        f"{origin + ': ' if origin else ''}task {task.id!r}: id: a task of this name is still open"
        for task in plan.tasks
        if open_tasks and task.id in open_tasks
    )
    if problems:
        raise BadPlan(problems)
    if repository is None:
        return _without_files(plan, estimator)
    base = repository.resolve(plan.base)
    repository.refuse_unusable(base)
    files = repository.files(repository.tree_of(base))
    keys = tuple(Keys(claims.lock_keys(task.writes, files), claims.lock_keys(task.reads, files)) for task in plan.tasks)
    by_task = {task.id: key for task, key in zip(plan.tasks, keys, strict=True)}
    estimates = tuple(
        task.estimate_s
        or estimator.predict(task.specialist, way_of(task, specialists[task.specialist]), _size(repository, files, key))
        for task, key in zip(plan.tasks, keys, strict=True)
    )
    orders = plans.conflicts(plan.tasks, lambda task: (by_task[task.id].writes, by_task[task.id].reads))
    return Prepared(plan.tasks, base, estimates, keys, orders)


def way_of(task: Task, specialist: Specialist) -> str:
    """How it is done, as far as that tells how long it takes."""
    by_model = specialist.handler is None or getattr(specialist.handler, "talks", False)
    return task.way or (MODEL_WAY if by_model else "")


def _size(repository: Repository, files: Mapping[str, Entry], keys: Keys) -> int:
    return sum(repository.blob_size(files[path][1]) for path in keys.writes if path in files)


def _without_files(plan: Plan, estimator: Estimator) -> Prepared:
    tasks = plan.tasks
    known: dict[tuple[str, str], float] = {}
    estimates = []
    claiming = False
    for task in tasks:
        estimate = task.estimate_s
        if estimate is None:
            kin = (task.specialist, task.way)
            estimate = known.get(kin)
            if estimate is None:
                estimate = known[kin] = estimator.predict(task.specialist, task.way, 0)
        estimates.append(estimate)
        claiming = claiming or bool(task.writes or task.reads)
    orders = plans.conflicts(tasks, lambda task: (task.writes, task.reads)) if claiming else ()
    return Prepared(tasks, "", tuple(estimates), (), orders)


def rules(plan: Plan) -> dict[str, Any]:
    """The plan without its tasks, as the journal keeps it."""
    kept: dict[str, Any] = {name: getattr(plan, name) for name in _RULES}
    return kept


def within(plan: Plan, usd: float | None, tokens: int | None) -> Plan:
    """The plan with the budgets that its runtime was given, which go before its own: US dollars and tokens, None for neither."""
    return attrs.evolve(
        plan,
        budget_usd=plan.budget_usd if usd is None else usd,
        budget_tokens=plan.budget_tokens if tokens is None else tokens,
    )


def rebudgeted(records: Mapping[str, Record], edits: Mapping[str, Mapping[str, Any]]) -> list[Task]:
    """The tasks that `edits` give another budget: `{task: {budget_usd or budget_tokens: amount}}`. Raises BadInput."""
    problems = [f"edits: the run has no task {name!r}" for name in edits if name not in records]
    problems += [
        f"edits: {name}.{field}: {value!r} is no budget; a run that goes on can be given other budgets only, amounts above 0"
        for name, fields in edits.items()
        for field, value in fields.items()
        if field not in ("budget_usd", "budget_tokens") or not isinstance(value, int | float) or not 0 < value < 2**53
    ]
    if problems:
        raise BadInput(problems)
    return [attrs.evolve(records[name].task, **fields) for name, fields in edits.items()]


def again(records: Mapping[str, Record], task: str = "") -> list[Task]:
    """What a retry tries again: all that is not done. With `task`, that one, what it comes after and is not done either, and what
    can follow then. Raises BadInput."""
    left = {name: record.task for name, record in records.items() if record.state != DONE}
    if not task:
        if not left:
            raise BadInput("every task is done, there is nothing to try again")
        return list(left.values())
    if task not in records:
        raise BadInput(f"there is no task {task!r}")
    if task not in left:
        raise BadInput(f"task {task!r} is done, there is nothing to try again")
    chosen = {task}
    line = [task]
    for name in line:  # grows while it is walked
        before = [other for other in left[name].after if other in left and other not in chosen]
        chosen.update(before)
        line += before
    while more := {
        name
        for name, one in left.items()
        if name not in chosen
        and any(other in chosen for other in one.after)
        and chosen.issuperset(left.keys() & one.after)
    }:
        chosen |= more
    return [one for name, one in left.items() if name in chosen]


def rules_back(opened: Opened) -> Plan:
    """The plan's rules as `rules` kept them, without tasks."""
    known = {name: value for name, value in opened.plan.items() if name in _RULES}
    return msgspec.convert({"tasks": (), **known}, Plan)
