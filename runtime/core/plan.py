"""What is wrong with a plan, which of its tasks collide, what order that gives them, and what the plan will do.

Unaware of files: claims come as keys that are already resolved (`a/b.py`, or a directory `a/` that overlaps with everything in
it). Unaware of time too: seconds are estimates that somebody hands in. Problems are all of a plan's at once; a conflict becomes
an `Order`, which only orders. Nothing here recurses, so a chain of a hundred thousand tasks is like any other plan.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from heapq import heappop, heappush
from itertools import pairwise
from typing import Any, Final, NamedTuple

import attrs

from .events import Order
from .task import MAX_PASSES, Codemod, Plan, Rewrite, Specialist, Task

Names = Sequence[str]
KeysOf = Callable[[Task], tuple[Names, Names]]
"""A task's resolved claims: (names it writes, names it reads)."""

_Wrong = Iterator[tuple[str, str]]  # (field, what is wrong with it)

_ID_LIMIT: Final = 200
_SECONDS_LIMIT: Final = 1e9  # thirty years: whatever is longer is a slip, and a sum of them stays finite
_ROUNDS_LIMIT: Final = 20
_CYCLES_SHOWN: Final = 10
_POLICIES: Final = ("isolate", "rollback-scope", "rollback-level", "stop")
_CLAIMS: Final = ("strict", "grow")
# ast-grep's; one that begins with _ is not kept
_VARIABLE: Final = re.compile(r"\$\$\$[A-Z][A-Z0-9_]*|\$[A-Z][A-Z0-9_]*")


# --- what is wrong ---------------------------------------------------------------------------------------------


@attrs.frozen
class Problem:
    """One thing that is wrong: with the task at place `task` (0, 1, ...), or with the plan where that is None."""

    field: str
    text: str
    task: int | None = None
    name: str = ""  # what the task is called in messages, e.g. `task 'card'`

    def told(self, origin: str = "", line: int | None = None) -> str:
        """One line: origin, line, task, field, what is wrong."""
        place = f"{origin}:{line}" if line else origin
        return ": ".join(part for part in (place, self.name or "plan", self.field, self.text) if part)


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
    found = problems(
        plan,
        specialists,
        known_tasks=known_tasks,
        languages=languages,
        path_problem=path_problem,
        codemod_problem=codemod_problem,
    )
    return [problem.told(origin) for problem in found]


def problems(
    plan: Plan,
    specialists: Mapping[str, Specialist],
    *,
    known_tasks: Collection[str] = frozenset(),
    languages: Collection[str] | None = None,
    path_problem: Callable[[str], str | None] | None = None,
    codemod_problem: Callable[[Codemod], str | None] | None = None,
) -> Iterator[Problem]:
    """The same as `check`, as values: for a reader that knows on which line a field stands."""
    for field, text in _plan_problems(plan):
        yield Problem(field, text)
    ids: dict[str, int] = {}  # {task id: its place}
    for at, task in enumerate(plan.tasks):
        if not isinstance(task, Task):
            yield Problem("", f"{task!r} is not a Task", at, f"task {at + 1}")
            continue
        wrong = _id_problem(task.id, ids)
        if wrong:
            yield Problem("id", wrong, at, called(task.id, at))
        if isinstance(task.id, str):
            ids.setdefault(task.id, at)
        if not isinstance(task.specialist, str) or task.specialist not in specialists:
            yield Problem("specialist", unknown("specialist", task.specialist, specialists), at, called(task.id, at))
        for field, text in _task_problems(task, languages, path_problem, codemod_problem):
            yield Problem(field, text, at, called(task.id, at))
    yield from _graph_problems(plan.tasks, ids, known_tasks)


def called(name: object, at: int) -> str:
    """What messages call the task at place `at`: by its id if it has one, else by its number from 1."""
    return f"task {name!r}" if isinstance(name, str) and name else f"task {at + 1}"


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """The sentence for a name that is not among the known ones, with the nearest of them."""
    names = sorted(known)
    close = get_close_matches(str(name), names, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names) or 'none'}"
    return f"there is no {what} {name!r}; {hint}"


def _plan_problems(plan: Plan) -> _Wrong:
    if not plan.tasks:
        yield "", "there is no task in it"
    if not isinstance(plan.base, str) or not plan.base.strip():
        yield "base", "it must name a commit"
    elif plan.base.startswith("-"):
        yield "base", f"{plan.base!r} looks like an option, not a commit"
    elif not plan.base.isprintable():
        yield "base", f"{plan.base!r} has control characters"
    if plan.claims not in _CLAIMS:
        yield "claims", f"{plan.claims!r} is not one of {', '.join(_CLAIMS)}"
    if plan.on_failure not in _POLICIES:
        yield "on_failure", f"{plan.on_failure!r} is not one of {', '.join(_POLICIES)}"
    if plan.max_failures is not None:
        yield from _whole("max_failures", plan.max_failures, 1)
    if not isinstance(plan.together, bool):
        yield "together", f"it must be true or false, not {plan.together!r}"
    yield from _seconds("setup_timeout_s", plan.setup_timeout_s)
    yield from budgets(plan.budget_usd, plan.budget_tokens)
    for field in ("name", "setup", "contracts"):
        yield from _text(field, getattr(plan, field))
    yield from _commands("checks", plan.checks)
    yield from _commands("format", plan.format)


def _id_problem(name: object, seen: Collection[str]) -> str | None:
    if not isinstance(name, str):
        return f"it must be text, not {type(name).__name__}"
    if not name:
        return "it is empty"
    if name in seen:
        return "it is used twice"
    if len(name) > _ID_LIMIT:
        return f"it has {len(name)} characters; at most {_ID_LIMIT}"
    if not name.isprintable() or name != name.strip():
        return "it has control characters, or spaces at an end"  # it becomes a commit's trailer: one line
    return None


def _task_problems(
    task: Task,
    languages: Collection[str] | None,
    path_problem: Callable[[str], str | None] | None,
    codemod_problem: Callable[[Codemod], str | None] | None,
) -> _Wrong:
    if task.estimate_s is not None:
        yield from _seconds("estimate_s", task.estimate_s)
    if task.timeout_s is not None:
        yield from _seconds("timeout_s", task.timeout_s)
    if task.attempts.__class__ is not int or task.attempts < 1:
        yield from _whole("attempts", task.attempts, 1)
    if task.passes.__class__ is not int or not 0 <= task.passes <= MAX_PASSES:
        yield from _whole("passes", task.passes, 0, MAX_PASSES)
    if task.ok_exit != (0,):
        for code in task.ok_exit:
            yield from _whole("ok_exit", code, 0, 255)
    if task.fix_rounds.__class__ is not int or not 0 <= task.fix_rounds <= _ROUNDS_LIMIT:
        yield from _whole("fix_rounds", task.fix_rounds, 0, _ROUNDS_LIMIT)
    if task.budget_usd is not None or task.budget_tokens is not None:
        yield from budgets(task.budget_usd, task.budget_tokens)
    if task.check:
        yield from _commands("check", task.check)
        if task.way:
            yield (
                "check",
                "it belongs to tasks for a model; what a rewrite, codemod or exec did is checked by the plan's `checks`",
            )
    if task.writes or task.reads:
        yield from _path_problems(task, path_problem)
    if task.exec is not None or task.rewrite is not None or task.codemod is not None:
        yield from _way_problems(task, languages, codemod_problem)
    if task.goal != "":
        yield from _text("goal", task.goal)
    if task.scope != "":
        yield from _text("scope", task.scope)
    if task.containing != "":
        yield from _text("containing", task.containing)


def _text(field: str, value: object) -> _Wrong:
    if not isinstance(value, str):
        yield field, f"it must be text, not {type(value).__name__}"
    elif "\0" in value:
        yield field, "it has a NUL character in it"
    elif not _encodes(value):
        yield field, "it has half of a surrogate pair in it, which is no character"


def _encodes(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def _path_problems(task: Task, path_problem: Callable[[str], str | None] | None) -> _Wrong:
    for field, paths in (("writes", task.writes), ("reads", task.reads)):
        for path in paths:
            if not isinstance(path, str):
                yield field, f"{path!r} is not a path"
            elif not path:
                yield field, "a path is empty"
            elif not _encodes(path):
                yield field, f"{path!r}: it has half of a surrogate pair in it, which is no character"
            elif path_problem is not None:
                wrong = path_problem(path)
                if wrong:
                    yield field, f"{path!r}: {wrong}"


def _way_problems(
    task: Task, languages: Collection[str] | None, codemod_problem: Callable[[Codemod], str | None] | None
) -> _Wrong:
    ways = [name for name in ("rewrite", "codemod", "exec") if getattr(task, name) is not None]
    if len(ways) > 1:
        yield " and ".join(ways), "a task has one way at most"
    if task.exec is not None:
        if not task.exec:
            yield "exec", "it is empty; it must be a list of words, the program first"
        elif not all(isinstance(word, str) for word in task.exec):
            yield "exec", "it must be a list of words, the program first"
        elif not task.exec[0].strip():
            yield "exec", "the program's name is empty"
        elif any("\0" in word for word in task.exec):
            yield "exec", "a word has a NUL character in it"
    if task.rewrite is not None:
        yield from _rewrite_problems(task.rewrite, languages)
    if task.codemod is not None:
        if not isinstance(task.codemod, Codemod):
            yield "codemod", f"it must have a name, not be {task.codemod!r}"
        elif not isinstance(task.codemod.name, str) or not task.codemod.name.strip():
            yield "codemod", "name: it is empty"
        elif codemod_problem is not None:
            wrong = codemod_problem(task.codemod)
            if wrong:
                yield "codemod", wrong


def _rewrite_problems(rewrite: Rewrite, languages: Collection[str] | None) -> _Wrong:
    if not isinstance(rewrite, Rewrite):
        yield "rewrite", f"it must have pattern, replace and language, not be {rewrite!r}"
        return
    if not isinstance(rewrite.pattern, str) or not rewrite.pattern.strip():
        yield "rewrite", "pattern: it is empty"
    if not isinstance(rewrite.replace, str):
        yield "rewrite", "replace: it must be text"
    elif isinstance(rewrite.pattern, str) and rewrite.pattern.strip():
        free = set(_VARIABLE.findall(rewrite.replace)) - set(_VARIABLE.findall(rewrite.pattern))
        for name in sorted(free):
            yield "rewrite", f"replace: {name} is not in the pattern, so nothing could be put in its place"
    if not isinstance(rewrite.language, str) or (languages is not None and rewrite.language not in languages):
        yield "rewrite", "language: " + unknown("language", rewrite.language, languages or ())


def _seconds(field: str, value: Any) -> _Wrong:
    if isinstance(value, bool) or not isinstance(value, int | float):
        yield field, f"{value!r} is not a number of seconds"
    elif isinstance(value, float) and not math.isfinite(value):
        yield field, f"{value!r} is not finite"
    elif value <= 0:
        yield field, f"{value!r} is not more than 0 seconds"
    elif value > _SECONDS_LIMIT:
        yield field, f"it is more than {_SECONDS_LIMIT:.0f} seconds"


def _commands(field: str, commands: Iterable[object]) -> _Wrong:
    for command in commands:
        if not isinstance(command, str) or not command.strip() or "\0" in command:
            yield field, f"{command!r} is not a command"


def budgets(usd: object, tokens: object) -> _Wrong:
    """(field, what is wrong) with a budget of US dollars and tokens; None is no limit."""
    if usd is not None and (isinstance(usd, bool) or not isinstance(usd, int | float) or not 0 < usd < math.inf):
        yield "budget_usd", f"{usd!r} is not an amount of US dollars above 0"
    if tokens is not None:
        yield from _whole("budget_tokens", tokens, 1)


def _whole(field: str, value: Any, least: int, most: int | None = None) -> _Wrong:
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        bounds = f"{least} or more" if most is None else f"from {least} to {most}"
        yield field, f"{value!r} is not a whole number of {bounds}"


def _graph_problems(tasks: Sequence[Task], ids: Mapping[str, int], known: Collection[str]) -> Iterator[Problem]:
    linked = []  # tasks with an `after` that can be followed
    for at, task in enumerate(tasks):
        if not isinstance(task, Task) or not task.after:
            continue
        for name in task.after:
            if not isinstance(name, str):
                yield Problem("after", f"{name!r} is not a task's id", at, called(task.id, at))
            elif name == task.id:
                yield Problem("after", "it comes after itself", at, called(task.id, at))
            elif name not in ids and name not in known:
                yield Problem("after", unknown("task", name, ids), at, called(task.id, at))
        if isinstance(task.id, str):
            linked.append(task)
    for circle in cycles(linked) if linked else ():
        at = ids[circle[0]]
        yield Problem("after", f"these wait for each other: {' -> '.join(circle)}", at, called(circle[0], at))


def cycles(tasks: Sequence[Task]) -> list[list[str]]:
    """The ids along each circle of `after`, its first again at its end; in each, a task stands behind what it waits for.

    Circles that share a task are told one at a time, and no more than ten; a task that comes after itself is not one.
    """
    after = {task.id: [one for one in task.after if isinstance(one, str) and one != task.id] for task in tasks}
    found: list[list[str]] = []
    while len(found) < _CYCLES_SHOWN and (stuck := _stuck(after)):
        trail: dict[str, None] = {}
        name = next(iter(stuck))
        while name not in trail:
            trail[name] = None
            name = next(one for one in after[name] if one in stuck)
        names = list(trail)
        circle = names[names.index(name) :]
        found.append([name, *reversed(circle)])
        for one in circle:
            del after[one]
    return found


def _stuck(after: Mapping[str, Names]) -> dict[str, None]:
    """The tasks that can never start: those on a circle and behind one, in plan order."""
    left = {task: sum(name in after for name in names) for task, names in after.items()}
    behind: dict[str, list[str]] = {}
    for task, names in after.items():
        for name in names:
            behind.setdefault(name, []).append(task)
    free = [task for task, count in left.items() if not count]
    for task in free:  # grows while it is walked
        for name in behind.get(task, ()):
            left[name] -= 1
            if not left[name]:
                free.append(name)
    return {task: None for task, count in left.items() if count}


# --- order -----------------------------------------------------------------------------------------------------


def order(tasks: Sequence[Task], orders: Iterable[Order] = ()) -> list[Task]:
    """The tasks so that each stands behind what it waits for: by level, and in a level as in the plan. There is no cycle."""
    return [task for row in _rows(tasks, orders) for task in row]


def levels(tasks: Sequence[Task], orders: Iterable[Order] = ()) -> list[list[str]]:
    """Ids by level: a task is one level below the lowest of those it waits for."""
    return [[task.id for task in row] for row in _rows(tasks, orders)]


def _rows(tasks: Sequence[Task], orders: Iterable[Order]) -> list[list[Task]]:
    behind, left = _edges(tasks, orders)
    if not behind:
        return [list(tasks)] if tasks else []
    level = dict.fromkeys(left, 0)
    free = [name for name, count in left.items() if not count]
    for name in free:  # grows while it is walked
        for other in behind.get(name, ()):
            level[other] = max(level[other], level[name] + 1)
            left[other] -= 1
            if not left[other]:
                free.append(other)
    rows: list[list[Task]] = [[] for _ in range(max(level.values()) + 1)]
    for task in tasks:
        rows[level[task.id]].append(task)
    return rows


def _edges(tasks: Sequence[Task], orders: Iterable[Order]) -> tuple[dict[str, list[str]], dict[str, int]]:
    """({task: those that wait for it}, {task: how many it waits for}); tasks that are not in the plan do not count."""
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


def conflicts(tasks: Sequence[Task], keys: KeysOf) -> tuple[Order, ...]:
    """An order for every two tasks without one whose claims overlap, unless both only read.

    Who stands first in `order` goes first, so that no cycle can come of it. Pairs that are ordered already, through others too,
    get none; the search for that is bounded over the whole plan, and when it gives up, an order is added that was not needed.
    """
    claims = [keys(task) for task in tasks]
    contended, folders = _contended(claims)
    if not contended:
        return ()
    of = {task.id: claim for task, claim in zip(tasks, claims, strict=True)}
    line = order(tasks)
    reach = _Reach(line)
    sweep = _Sweep(folders)
    found = []
    for at, task in enumerate(line):
        writes, reads = of[task.id]
        uses = {name: False for name in reads if name in contended}
        uses.update((name, True) for name in writes if name in contended)
        clashes: dict[int, tuple[str, str, str]] = {}  # {place of the first: (name, kind, who reads it)}
        for name, writing in uses.items():
            for first, path, kind in sweep.use(at, name, writing):
                if first not in clashes or (kind == "write" and clashes[first][1] == "read"):
                    reader = line[first].id if writing else task.id
                    clashes[first] = path, kind, "" if kind == "write" else reader
        for first in reach.unordered(at, clashes) if clashes else ():
            found.append(Order(line[first].id, task.id, *clashes[first]))
    return tuple(found)


def _contended(claims: Sequence[tuple[Names, Names]]) -> tuple[set[str], set[str]]:
    """(Names that overlap with a name of another task's, the directories among all names): the rest needs no look."""
    seen: set[str] = set()
    contended: set[str] = set()
    for writes, reads in claims:
        names = {*writes, *reads} if reads else set(writes)
        if not seen.isdisjoint(names):
            contended |= seen & names
        seen |= names
    folders = {name for name in seen if name.endswith("/")}
    for name in seen if folders else ():
        around = folders.intersection(_above(name))
        if around:
            contended.add(name)
            contended |= around
    return contended, folders


def _above(name: str) -> Iterator[str]:
    """The directories a name lies in: `a/b/c` -> `a/b/`, `a/`."""
    at = name.rfind("/", 0, len(name) - 1)
    while at >= 0:
        yield name[: at + 1]
        at = name.rfind("/", 0, at)


class _Sweep:
    """Walks the uses of names in topological order and tells whom each must come after: the last writer of any name that
    overlaps, and when it writes, the readers since. Whoever came before those is ordered through them."""

    def __init__(self, folders: Collection[str]) -> None:
        self._folders = folders
        self._writer: dict[str, int] = {}  # {name: place of its last writer}
        self._readers: dict[str, list[int]] = {}  # {name: places of its readers since a writer of it or around it}
        self._inside: dict[str, dict[str, None]] = {}  # {directory: names in it that are above}

    def use(self, at: int, name: str, writing: bool) -> Iterator[tuple[int, str, str]]:
        """(place of the first, the name both want, kind) for the use of a name by the task at place `at`."""
        around = [folder for folder in _above(name) if folder in self._folders] if self._folders else []
        kind = "write" if writing else "read"
        last = max(self._writer.get(one, -1) for one in (name, *around))
        if 0 <= last < at:
            yield last, name, kind
        if writing:
            for one in (name, *around):
                yield from ((reader, name, "read") for reader in self._readers.get(one, ()) if last < reader < at)
        for one in self._inside.get(name, ()):
            writer = self._writer.get(one, -1)
            if 0 <= writer < at:
                yield writer, one, kind
            if writing:
                yield from ((reader, one, "read") for reader in self._readers.get(one, ()) if reader < at)
        self._note(at, name, writing, around)

    def _note(self, at: int, name: str, writing: bool, around: Names) -> None:
        if writing:
            for one in self._inside.pop(name, ()):  # all ordered before this writer now
                self._writer.pop(one, None)
                self._readers.pop(one, None)
            self._writer[name] = at
            self._readers.pop(name, None)
        else:
            self._readers.setdefault(name, []).append(at)
        for folder in around:
            self._inside.setdefault(folder, {})[name] = None


class _Reach:
    """Whether one task already comes before another, looked up backwards and only as far as can matter."""

    def __init__(self, line: Sequence[Task]) -> None:
        place = {task.id: at for at, task in enumerate(line)}
        self._before = [[place[name] for name in task.after if name in place] for task in line]
        self._steps_left = 100_000 + 20 * len(line)  # of the whole search: more is not worth an order saved

    def unordered(self, at: int, firsts: Iterable[int]) -> list[int]:
        """Those of `firsts` that do not come before `at` yet, nearest first; from now on they do."""
        seen = set(self._before[at])
        heap: list[int] = []
        for one in seen:
            heappush(heap, -one)
        found = []
        for first in sorted(firsts, reverse=True):
            while heap and -heap[0] > first and self._steps_left:
                self._steps_left -= 1
                for one in self._before[-heappop(heap)]:
                    if one not in seen:
                        seen.add(one)
                        heappush(heap, -one)
            if first not in seen:
                found.append(first)
                seen.add(first)
                heappush(heap, -first)
        self._before[at].extend(found)
        return found


# --- what it will do -------------------------------------------------------------------------------------------

_TOO_SHORT_S: Final = 2.0  # below it, starting and merging costs as much as is gained
_LEAST_GAIN: Final = 1.2
_CHAIN_SHARE: Final = 0.9


class Verdict(NamedTuple):
    """Whether running in parallel pays, and the reason with its numbers."""

    pays: bool
    why: str


@attrs.frozen
class Prediction:
    """A plan's run, foretold from estimates: seconds in all, one after the other, and along the longest path."""

    makespan_s: float
    sequential_s: float
    path_s: float
    instances: Mapping[str, int]  # {specialist: how many would run}
    pays: bool
    why: str
    path: tuple[str, ...] = ()  # ids along the longest path
    utilization: float = 0.0  # busy seconds / (instances that can run at once x makespan)


def priorities(tasks: Sequence[Task], orders: Sequence[Order], estimate: Callable[[Task], float]) -> dict[str, float]:
    """{task id: seconds of the longest path that begins with it, its own included}."""
    behind, _ = _edges(tasks, orders)
    longest: dict[str, float] = {}
    for task in reversed(order(tasks, orders)):
        rest = max((longest[name] for name in behind.get(task.id, ())), default=0.0)
        longest[task.id] = estimate(task) + rest
    return longest


def predict(
    tasks: Sequence[Task],
    orders: Sequence[Order],
    estimates: Mapping[str, float],
    caps: Mapping[str, int],
    max_instances: int,
    helps: Mapping[str, Collection[str]] | None = None,
) -> Prediction:
    """List scheduling by longest remaining path over min(N, cap) instances a specialist, `max_instances` in all.

    `estimates` is {task id: seconds}, `caps` {specialist: most instances}, `helps` {specialist: whom its idle instances help}.
    """
    longest = priorities(tasks, orders, lambda task: estimates[task.id])
    crews = Counter(task.specialist for task in tasks)
    instances = {name: min(count, caps.get(name, 3)) for name, count in crews.items()}
    places = min(sum(instances.values()), max_instances)
    makespan_s = _Simulation(tasks, orders, estimates, longest, instances, places, helps or {}).run()
    sequential_s = math.fsum(estimates[task.id] for task in tasks)
    path = _longest_path(tasks, orders, longest)
    path_s = max(longest.values(), default=0.0)
    pays, why = verdict(orders, len(tasks), makespan_s, sequential_s, path, path_s, places)
    busy = sequential_s / (places * makespan_s) if makespan_s else 0.0
    return Prediction(makespan_s, sequential_s, path_s, instances, pays, why, path, busy)


class _Simulation:
    """The run in virtual time: who is free takes the longest of its own crew's ready tasks, else of a crew it helps."""

    def __init__(
        self,
        tasks: Sequence[Task],
        orders: Sequence[Order],
        estimates: Mapping[str, float],
        longest: Mapping[str, float],
        instances: Mapping[str, int],
        places: int,
        helps: Mapping[str, Collection[str]],
    ) -> None:
        self._behind, self._left = _edges(tasks, orders)
        self._number = {task.id: at for at, task in enumerate(tasks)}
        self._tasks = tasks
        self._estimates = estimates
        self._longest = longest
        self._free = dict(instances)
        self._places = places
        self._helps = helps
        self._ready: dict[str, list[tuple[float, int]]] = {name: [] for name in instances}  # heaps, longest first
        self._running: list[tuple[float, int, str]] = []  # heap of (end, task's number, crew of the instance)

    def run(self) -> float:
        """The makespan, seconds."""
        now_s = 0.0
        for task in self._tasks:
            if not self._left[task.id]:
                self._offer(task)
        while self._start(now_s):
            now_s = self._running[0][0]
            while self._running and self._running[0][0] <= now_s:
                self._end()
        return now_s

    def _offer(self, task: Task) -> None:
        heappush(self._ready[task.specialist], (-self._longest[task.id], self._number[task.id]))

    def _start(self, now_s: float) -> bool:
        """Start what can be started; whether anything runs."""
        while self._places and (choice := self._choice()):
            _, (_, number), crew, target = choice
            heappop(self._ready[target])
            self._free[crew] -= 1
            self._places -= 1
            heappush(self._running, (now_s + self._estimates[self._tasks[number].id], number, crew))
        return bool(self._running)

    def _choice(self) -> tuple[bool, tuple[float, int], str, str] | None:
        """(whether it helps, head of the deque, crew of the instance, crew of the task); own work goes first."""
        found = []
        for crew, free in self._free.items():
            if free:
                names = (crew, *(name for name in self._helps.get(crew, ()) if name in self._ready))
                target = next((name for name in names if self._ready[name]), None)
                if target is not None:
                    found.append((target != crew, self._ready[target][0], crew, target))
        return min(found, default=None)

    def _end(self) -> None:
        _, number, crew = heappop(self._running)
        self._free[crew] += 1
        self._places += 1
        for name in self._behind.get(self._tasks[number].id, ()):
            self._left[name] -= 1
            if not self._left[name]:
                self._offer(self._tasks[self._number[name]])


def _longest_path(tasks: Sequence[Task], orders: Sequence[Order], longest: Mapping[str, float]) -> tuple[str, ...]:
    if not tasks:
        return ()
    behind, _ = _edges(tasks, orders)
    path = [max((task.id for task in tasks), key=longest.__getitem__)]
    while rest := behind.get(path[-1]):
        path.append(max(rest, key=longest.__getitem__))
    return tuple(path)


def verdict(
    orders: Sequence[Order],
    count: int,
    makespan_s: float,
    sequential_s: float,
    path: Sequence[str],
    path_s: float,
    places: int,
) -> Verdict:
    """Whether `count` tasks gain by running on `places` instances, from what was predicted of them."""
    gain = sequential_s / makespan_s if makespan_s else 1.0
    if count < 2:
        return Verdict(False, "too few: there is one task, nothing can run beside it")
    if sequential_s < _TOO_SHORT_S:
        return Verdict(False, f"too short: all of it takes about {sequential_s:.1f} s, less than it costs to share out")
    if gain < _LEAST_GAIN and places < 2:
        return Verdict(False, "one instance: nothing runs at the same time")
    if path_s > _CHAIN_SHARE * sequential_s or gain < _LEAST_GAIN:
        return Verdict(False, _what_binds(orders, count, sequential_s, path, path_s, gain))
    return Verdict(
        True,
        f"about {makespan_s:.1f} s instead of {sequential_s:.1f} s on {places} instances, {gain:.1f} times faster",
    )


def _what_binds(
    orders: Sequence[Order], count: int, sequential_s: float, path: Sequence[str], path_s: float, gain: float
) -> str:
    wanted = {(one.first, one.then): one.path for one in orders}
    links = list(pairwise(path))
    shared = Counter(wanted[link] for link in links if link in wanted)
    part = f"{path_s:.1f} of {sequential_s:.1f} s"
    if path_s <= _CHAIN_SHARE * sequential_s:
        return f"{gain:.1f} times faster at best: the longest path alone takes {part}"
    if shared and 2 * shared.total() > len(links):
        name, times = shared.most_common(1)[0]
        if len(shared) == 1 and times == len(links):
            return f"all in one file: {len(path)} of {count} tasks want {name} and go one after the other, {part}"
        return f"claims overlap ({name} and others): {len(path)} of {count} tasks go one after the other, {part}"
    names = path if len(path) <= 6 else [*path[:3], "...", *path[-2:]]
    return f"one chain: {part} lie on {' -> '.join(names)}"
