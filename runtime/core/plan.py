"""What is wrong with a plan, which of its tasks collide, and what order that gives them.

Unaware of files: claims come as keys that are already resolved (`a/b.py`, or a directory `a/` that overlaps with everything in
it). Problems are sentences, all of a plan's at once; a conflict becomes an `Order`, which only orders.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import attrs

from .events import Order
from .task import MAX_PASSES, Codemod, Plan, Rewrite, Specialist, Task

KeysOf = Callable[[Task], tuple[Sequence[str], Sequence[str]]]
"""A task's resolved claims: (names it writes, names it reads)."""

_ID_LIMIT = 200
_POLICIES = ("isolate", "rollback-scope", "rollback-level", "stop")
_CLAIMS = ("strict", "grow")


# --- what is wrong ---------------------------------------------------------------------------------------------


def check(
    plan: Plan,
    specialists: Mapping[str, Specialist],
    *,
    origin: str = "",
    known_tasks: Collection[str] = frozenset(),
    languages: Collection[str] | None = None,
    path_problem: Callable[[str], str | None] | None = None,
    codemod_problem: Callable[[Codemod], str | None] | None = None,
) -> list[str]:
    """Every problem of the plan, a line each, naming origin, task and field; empty when it can be run.

    `known_tasks` may be named in `after` beside the plan's own. `languages`, `path_problem` and `codemod_problem` are what
    the edge knows; without one, that is not checked.
    """
    prefix = f"{origin}: " if origin else ""
    problems = [prefix + text for text in _plan_problems(plan)]
    ids: set[str] = set()
    sound = True
    for task in plan.tasks:
        if not isinstance(task, Task):
            problems.append(f"{prefix}tasks: {task!r} is not a Task")
            sound = False
            continue
        where = f"{prefix}task {task.id!r}: "
        problem = _id_problem(task.id, ids)
        if problem:
            problems.append(where + problem)
        if isinstance(task.id, str):
            ids.add(task.id)
        if task.specialist not in specialists:
            problems.append(where + "specialist: " + _unknown("specialist", task.specialist, specialists))
        problems.extend(where + text for text in _task_problems(task, languages, path_problem, codemod_problem))
    if sound:
        problems.extend(prefix + text for text in _graph_problems(plan.tasks, ids, known_tasks))
    return problems


def _unknown(what: str, name: object, known: Iterable[str]) -> str:
    names = sorted(known)
    close = get_close_matches(str(name), names, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names) or 'none'}"
    return f"there is no {what} {name!r}; {hint}"


def _plan_problems(plan: Plan) -> Iterator[str]:
    if not plan.tasks:
        yield "plan: there is no task in it"
    if not isinstance(plan.base, str) or not plan.base.strip():
        yield "plan: base: it must name a commit"
    elif plan.base.startswith("-"):
        yield f"plan: base: {plan.base!r} looks like an option, not a commit"
    if plan.claims not in _CLAIMS:
        yield f"plan: claims: {plan.claims!r} is not one of {', '.join(_CLAIMS)}"
    if plan.on_failure not in _POLICIES:
        yield f"plan: on_failure: {plan.on_failure!r} is not one of {', '.join(_POLICIES)}"
    if plan.max_failures is not None:
        yield from _whole("plan: max_failures", plan.max_failures, 1)
    yield from _seconds("plan: setup_timeout_s", plan.setup_timeout_s)
    for field in ("checks", "format"):
        for command in getattr(plan, field):
            if not isinstance(command, str) or not command.strip():
                yield f"plan: {field}: {command!r} is not a command"


def _id_problem(name: object, seen: set[str]) -> str | None:
    if not isinstance(name, str):
        return f"id: it must be text, not {type(name).__name__}"
    if not name:
        return "id: it is empty"
    if name in seen:
        return "id: it is used twice"
    if len(name) > _ID_LIMIT:
        return f"id: it has {len(name)} characters; at most {_ID_LIMIT}"
    if not name.isprintable() or name != name.strip():
        return "id: it has control characters, or spaces at an end"
    return None


def _task_problems(
    task: Task,
    languages: Collection[str] | None,
    path_problem: Callable[[str], str | None] | None,
    codemod_problem: Callable[[Codemod], str | None] | None,
) -> Iterator[str]:
    if task.estimate_s is not None:
        yield from _seconds("estimate_s", task.estimate_s)
    if task.timeout_s is not None:
        yield from _seconds("timeout_s", task.timeout_s)
    if task.attempts.__class__ is not int or task.attempts < 1:
        yield from _whole("attempts", task.attempts, 1)
    if task.passes.__class__ is not int or not 0 <= task.passes <= MAX_PASSES:
        yield from _whole("passes", task.passes, 0, MAX_PASSES)
    if task.writes or task.reads:
        yield from _path_problems(task, path_problem)
    if task.exec is not None or task.rewrite is not None or task.codemod is not None:
        yield from _way_problems(task, languages, codemod_problem)
    for field in ("goal", "scope", "containing"):
        value = getattr(task, field)
        if value.__class__ is not str:
            yield f"{field}: it must be text, not {type(value).__name__}"


def _path_problems(task: Task, path_problem: Callable[[str], str | None] | None) -> Iterator[str]:
    for field in ("writes", "reads"):
        for path in getattr(task, field):
            if not isinstance(path, str):
                yield f"{field}: {path!r} is not a path"
            elif not path:
                yield f"{field}: a path is empty"
            elif path_problem is not None:
                problem = path_problem(path)
                if problem:
                    yield f"{field}: {path!r}: {problem}"


def _way_problems(
    task: Task,
    languages: Collection[str] | None,
    codemod_problem: Callable[[Codemod], str | None] | None,
) -> Iterator[str]:
    ways = [name for name in ("rewrite", "codemod", "exec") if getattr(task, name) is not None]
    if len(ways) > 1:
        yield f"{' and '.join(ways)}: a task has one way at most"
    if task.exec is not None:
        if not task.exec or not all(isinstance(part, str) for part in task.exec):
            yield "exec: it must be a list of words, the program first"
        elif not task.exec[0].strip():
            yield "exec: the program's name is empty"
        elif any("\0" in part for part in task.exec):
            yield "exec: a word has a NUL character in it"
    if task.rewrite is not None:
        yield from _rewrite_problems(task.rewrite, languages)
    if task.codemod is not None:
        if not isinstance(task.codemod, Codemod) or not task.codemod.name:
            yield "codemod: name: it is empty"
        elif codemod_problem is not None:
            problem = codemod_problem(task.codemod)
            if problem:
                yield f"codemod: {problem}"


def _rewrite_problems(rewrite: Rewrite, languages: Collection[str] | None) -> Iterator[str]:
    if not isinstance(rewrite, Rewrite):
        yield f"rewrite: it must have pattern, replace and language, not be {rewrite!r}"
        return
    if not isinstance(rewrite.pattern, str) or not rewrite.pattern.strip():
        yield "rewrite: pattern: it is empty"
    if not isinstance(rewrite.replace, str):
        yield "rewrite: replace: it must be text"
    if languages is not None and rewrite.language not in languages:
        yield "rewrite: language: " + _unknown("language", rewrite.language, languages)


def _seconds(field: str, value: Any) -> Iterator[str]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        yield f"{field}: {value!r} is not a number of seconds"
    elif not math.isfinite(value):
        yield f"{field}: {value!r} is not finite"
    elif value <= 0:
        yield f"{field}: {value!r} is not more than 0 seconds"


def _whole(field: str, value: Any, least: int, most: int | None = None) -> Iterator[str]:
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        bounds = f"{least} or more" if most is None else f"from {least} to {most}"
        yield f"{field}: {value!r} is not a whole number of {bounds}"


def _graph_problems(tasks: Sequence[Task], ids: set[str], known: Collection[str]) -> Iterator[str]:
    linked = False
    for task in tasks:
        for name in task.after:
            linked = True
            if name == task.id:
                yield f"task {task.id!r}: after: it comes after itself"
            elif name not in ids and name not in known:
                yield f"task {task.id!r}: after: " + _unknown("task", name, ids)
    if linked:
        circle = cycle(tasks)
        if circle:
            yield f"plan: after: these wait for each other: {' -> '.join(circle)}"


def cycle(tasks: Sequence[Task]) -> list[str]:
    """The ids along one circle of `after`, its first again at its end; empty when there is none (self-loops aside)."""
    after = {task.id: [name for name in task.after if name != task.id] for task in tasks}
    done: set[str] = set()
    for root in after:
        trail: list[str] = []
        on_trail: dict[str, int] = {}
        stack: list[tuple[str, Iterator[str]]] = [(root, iter(after[root]))] if root not in done else []
        if stack:
            on_trail[root] = 0
            trail.append(root)
        while stack:
            name, rest = stack[-1]
            nearest = next((one for one in rest if one in after and one not in done), None)
            if nearest is None:
                stack.pop()
                done.add(name)
                trail.pop()
                del on_trail[name]
            elif nearest in on_trail:
                return [*reversed([*trail[on_trail[nearest] :], nearest])]
            else:
                on_trail[nearest] = len(trail)
                trail.append(nearest)
                stack.append((nearest, iter(after[nearest])))
    return []


# --- order -----------------------------------------------------------------------------------------------------


def order(tasks: Sequence[Task], orders: Iterable[Order] = ()) -> list[Task]:
    """The tasks so that each stands behind what it waits for; otherwise as in the plan. There must be no cycle."""
    behind, left = _edges(tasks, orders)
    number = {task.id: at for at, task in enumerate(tasks)}
    found = [task for task in tasks if not left[task.id]]
    for task in found:  # grows while it is walked
        for name in behind.get(task.id, ()):
            left[name] -= 1
            if not left[name]:
                found.append(tasks[number[name]])
    return found


def _edges(tasks: Sequence[Task], orders: Iterable[Order]) -> tuple[dict[str, list[str]], dict[str, int]]:
    left = {task.id: 0 for task in tasks}
    behind: dict[str, list[str]] = {}
    for task in tasks:
        for name in task.after:
            if name in left:
                behind.setdefault(name, []).append(task.id)
                left[task.id] += 1
    for one in orders:
        behind.setdefault(one.first, []).append(one.then)
        left[one.then] += 1
    return behind, left


def levels(tasks: Sequence[Task], orders: Sequence[Order] = ()) -> list[list[str]]:
    """Ids by level: a task is one level below the lowest of those it waits for."""
    behind, _ = _edges(tasks, orders)
    level = {task.id: 0 for task in tasks}
    rows: list[list[str]] = []
    for task in order(tasks, orders):
        own = level[task.id]
        for name in behind.get(task.id, ()):
            level[name] = max(level[name], own + 1)
        while len(rows) <= own:
            rows.append([])
        rows[own].append(task.id)
    return rows


def conflicts(tasks: Sequence[Task], keys: KeysOf) -> tuple[Order, ...]:
    """An order for every two tasks without one whose claims overlap, unless both only read.

    Who stands first in topological order goes first, so that no cycle can come of it. Pairs that are ordered already,
    through others too, get none.
    """
    claims = {task.id: keys(task) for task in tasks}
    if not any(writes for writes, _ in claims.values()):
        return ()
    line = order(tasks)
    place = {task.id: at for at, task in enumerate(line)}
    users = _users(line, claims)
    reach = _Reach({task.id: [name for name in task.after if name in place] for task in tasks}, place)
    pairs: dict[tuple[str, str], Order] = {}
    for name, uses in users:
        for first, then, kind in _clashes(uses):
            if (first, then) not in pairs:
                pairs[first, then] = Order(first, then, name, kind)
    found = []
    for first, then in sorted(pairs, key=lambda pair: (place[pair[1]], -place[pair[0]])):
        if not reach.before(first, then):
            reach.add(first, then)
            found.append(pairs[first, then])
    return tuple(found)


Use = tuple[str, bool]  # (task id, whether it writes)


def _users(
    line: Sequence[Task], claims: Mapping[str, tuple[Sequence[str], Sequence[str]]]
) -> list[tuple[str, list[Use]]]:
    """For each claimed name the tasks that use it or a directory around it, in topological order; only where that is
    more than one task."""
    direct: dict[str, list[Use]] = {}
    folders: set[str] = set()
    for task in line:
        writes, reads = claims[task.id]
        for name in dict.fromkeys((*writes, *reads)):
            direct.setdefault(name, []).append((task.id, name in writes))
            if name.endswith("/"):
                folders.add(name)
    found = []
    place = {task.id: at for at, task in enumerate(line)} if folders else {}
    for name, uses in direct.items():
        around = [folder for folder in _above(name) if folder in folders] if folders else []
        if around:
            merged = dict(sorted((use for folder in around for use in direct[folder]), key=lambda use: use[1]))
            for user, writing in uses:
                merged[user] = merged.get(user, False) or writing
            uses = sorted(merged.items(), key=lambda use: place[use[0]])
        if len(uses) > 1:
            found.append((name, uses))
    return found


def _above(name: str) -> Iterator[str]:
    at = name.rfind("/", 0, len(name) - 1)
    while at >= 0:
        yield name[: at + 1]
        at = name.rfind("/", 0, at)


def _clashes(uses: list[Use]) -> Iterator[tuple[str, str, str]]:
    """(first, then, kind) along one name: every writer against the last writer and the readers since."""
    writer: str | None = None
    readers: list[str] = []
    for task, writing in uses:
        if writing:
            if writer is not None:
                yield writer, task, "write"
            for reader in readers:
                yield reader, task, "read"
            writer, readers = task, []
        else:
            if writer is not None:
                yield writer, task, "read"
            readers.append(task)


class _Reach:
    """Whether one task already comes before another, looked up backwards and only as far as can matter."""

    def __init__(self, after: dict[str, list[str]], place: Mapping[str, int]) -> None:
        self._after = after
        self._place = place

    def before(self, first: str, then: str) -> bool:
        floor = self._place[first]
        seen = {then}
        stack = [then]
        while stack:
            for name in self._after[stack.pop()]:
                if name == first:
                    return True
                if name not in seen and self._place[name] > floor:
                    seen.add(name)
                    stack.append(name)
        return False

    def add(self, first: str, then: str) -> None:
        self._after[then].append(first)


# --- what it will do -------------------------------------------------------------------------------------------


@attrs.frozen
class Prediction:
    """A plan's run, foretold from estimates: seconds in all, one after the other, and along the longest path."""

    makespan_s: float
    sequential_s: float
    path_s: float
    instances: Mapping[str, int]  # {specialist: how many would run}
    pays: bool
    why: str


def predict(
    tasks: Sequence[Task],
    orders: Sequence[Order],
    estimates: Mapping[str, float],
    caps: Mapping[str, int],
    max_instances: int,
) -> Prediction:
    """List scheduling by longest remaining path over min(N, cap) instances a specialist."""
    behind, left = _edges(tasks, orders)
    longest: dict[str, float] = {}
    line = order(tasks, orders)
    for task in reversed(line):
        longest[task.id] = estimates[task.id] + max((longest[name] for name in behind.get(task.id, ())), default=0.0)
    crews: dict[str, int] = {}
    for task in tasks:
        crews[task.specialist] = crews.get(task.specialist, 0) + 1
    instances = {name: min(count, caps.get(name, 3)) for name, count in crews.items()}
    by_id = {task.id: task for task in tasks}
    free = dict(instances)
    places = max_instances
    ready = [(-longest[task.id], at, task.id) for at, task in enumerate(tasks) if not left[task.id]]
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        ready.sort()
        for item in list(ready):
            crew = by_id[item[2]].specialist
            if free[crew] and places:
                free[crew] -= 1
                places -= 1
                ready.remove(item)
                insort(running, (now + estimates[item[2]], item[2]))
        now, name = running.pop(0)
        free[by_id[name].specialist] += 1
        places += 1
        for other in behind.get(name, ()):
            left[other] -= 1
            if not left[other]:
                ready.append((-longest[other], len(ready), other))
    sequential = sum(estimates.values())
    path = max(longest.values(), default=0.0)
    pays, why = _verdict(len(tasks), now, sequential, path, sum(instances.values()))
    return Prediction(now, sequential, path, instances, pays, why)


def _verdict(count: int, makespan_s: float, sequential_s: float, path_s: float, instances: int) -> tuple[bool, str]:
    gain = sequential_s / makespan_s if makespan_s else 1.0
    if count < 2:
        return False, "there is one task: nothing can run beside it"
    if sequential_s < 2.0:
        return False, f"all of it takes about {sequential_s:.1f} s: too short for instances to pay"
    if path_s > 0.9 * sequential_s:
        return False, f"it is one chain: {path_s:.1f} of {sequential_s:.1f} s wait for each other"
    if gain < 1.2:
        return False, f"{gain:.1f} times faster at best: claims or dependencies keep the tasks apart"
    return (
        True,
        f"about {makespan_s:.1f} s instead of {sequential_s:.1f} s on {instances} instances, {gain:.1f} times faster",
    )
