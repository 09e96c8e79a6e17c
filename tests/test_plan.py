"""What a plan is told about itself: its mistakes, its collisions, its order, and whether running it in parallel pays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from itertools import combinations
from math import inf, nan
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.core.events import Order
from runtime.core.plan import check, conflicts, cycles, levels, order, predict, priorities, problems
from runtime.core.task import Codemod, Plan, Rewrite, Specialist, Task

SPECIALISTS = {name: Specialist(name) for name in ("ui", "api")}
NAMES = ("a", "b", "d/", "d/x", "d/y", "d/e/", "d/e/z", "f/", "f/g", "dd")


def keys(task: Task) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return task.writes, task.reads


@st.composite
def graphs(draw: st.DrawFn, claims: bool = True) -> tuple[Task, ...]:
    """Tasks without a cycle, in any order in the plan, with overlapping claims."""
    size = draw(st.integers(1, 9))
    names = st.lists(st.sampled_from(NAMES), max_size=3, unique=True)
    tasks = [
        Task(
            f"t{at}",
            draw(st.sampled_from(("ui", "api"))),
            after=draw(st.lists(st.sampled_from([f"t{n}" for n in range(at)]), max_size=2, unique=True)) if at else (),
            writes=draw(names) if claims else (),
            reads=draw(names) if claims else (),
            estimate_s=draw(st.integers(1, 9)),
        )
        for at in range(size)
    ]
    return tuple(draw(st.permutations(tasks)))


def edges(tasks: Sequence[Task], orders: Sequence[Order]) -> dict[str, set[str]]:
    """{task: what it waits for}, the plain way."""
    found = {task.id: set(task.after) for task in tasks}
    for one in orders:
        found[one.then].add(one.first)
    return found


def ancestors(before: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """{task: all that come before it}, by the standard library's sorter."""
    found: dict[str, set[str]] = {}
    for name in TopologicalSorter(before).static_order():
        found[name] = set(before[name]).union(*(found[one] for one in before[name]))
    return found


def overlap(one: str, other: str) -> bool:
    return one == other or (
        (one.endswith("/") and other.startswith(one)) or (other.endswith("/") and one.startswith(other))
    )


def clash(one: Task, other: Task) -> bool:
    def touches(writes: Sequence[str], uses: Sequence[str]) -> bool:
        return any(overlap(a, b) for a in writes for b in uses)

    return touches(one.writes, (*other.writes, *other.reads)) or touches(other.writes, (*one.writes, *one.reads))


# --- order -----------------------------------------------------------------------------------------------------


@given(graphs())
def test_a_task_stands_behind_what_it_waits_for(tasks: tuple[Task, ...]) -> None:
    """In `order`, and a level below in `levels`; every task once, and in a level as in the plan."""
    orders = conflicts(tasks, keys)
    place = {task.id: at for at, task in enumerate(order(tasks, orders))}
    level = {name: at for at, row in enumerate(levels(tasks, orders)) for name in row}
    assert place.keys() == level.keys() == {task.id for task in tasks}
    for name, before in edges(tasks, orders).items():
        assert all(place[one] < place[name] for one in before)
        assert level[name] == max((level[one] + 1 for one in before), default=0)
    for row in levels(tasks, orders):
        assert row == [task.id for task in tasks if task.id in row]


@given(graphs())
def test_every_two_tasks_that_collide_end_up_ordered(tasks: tuple[Task, ...]) -> None:
    """After the added orders every overlapping pair has an order between them, and there is still no cycle."""
    orders = conflicts(tasks, keys)
    before = ancestors(edges(tasks, orders))  # raises CycleError
    for one, other in combinations(tasks, 2):
        if clash(one, other):
            assert one.id in before[other.id] or other.id in before[one.id], (one, other)


@given(graphs())
def test_no_order_is_added_without_need(tasks: tuple[Task, ...]) -> None:
    """An added order joins two tasks that collide, names what both want, and does not follow from all the others."""
    orders = conflicts(tasks, keys)
    of = {task.id: task for task in tasks}
    for one in orders:
        first, then = of[one.first], of[one.then]
        assert clash(first, then)
        assert all(any(overlap(one.path, name) for name in (*t.writes, *t.reads)) for t in (first, then))
        without = ancestors(edges(tasks, [other for other in orders if other is not one]))
        assert one.first not in without[one.then]
        if one.kind == "read":
            reads, writes = (first, then) if one.reader == one.first else (then, first)
            assert any(overlap(one.path, name) for name in reads.reads)
            assert any(overlap(one.path, name) for name in writes.writes)
            assert {reads.id, writes.id} == {one.first, one.then}


@given(graphs())
def test_conflicts_are_the_same_every_time(tasks: tuple[Task, ...]) -> None:
    """The orders depend on nothing but the plan."""
    assert conflicts(tasks, keys) == conflicts(tasks, keys)


def test_an_added_order_says_why() -> None:
    """Who waits for whom, and for which path."""
    tasks = (Task("card", "ui", writes=("src/App.tsx",)), Task("nav", "ui", writes=("src/App.tsx",)))
    (one,) = conflicts(tasks, keys)
    assert one.reason == "`nav` waits for `card`: both write src/App.tsx"
    writer, reader = Task("card", "ui", writes=("src/",)), Task("nav", "ui", reads=("src/App.tsx",))
    (one,) = conflicts((writer, reader), keys)
    assert one.reason == "`nav` waits for `card`: `nav` reads what `card` writes: src/App.tsx"
    (one,) = conflicts((reader, writer), keys)
    assert one.reason == "`card` waits for `nav`: `nav` reads what `card` writes: src/App.tsx"


def test_an_order_of_an_older_journal_is_still_read() -> None:
    """Who reads was not kept once: such an order decodes, and its reason leaves it open."""
    old = msgspec.msgpack.encode({"first": "card", "then": "nav", "path": "src/App.tsx", "kind": "read"})
    one = msgspec.msgpack.decode(old, type=Order)
    assert one.reason == "`nav` waits for `card`: one writes what the other reads, src/App.tsx"


CASES: list[tuple[str, list[Task], list[tuple[str, str, str, str]]]] = [
    (
        "a folder and a file in it",
        [Task("all", "ui", writes=("src/",)), Task("one", "ui", writes=("src/a.ts",))],
        [("all", "one", "src/a.ts", "write")],
    ),
    (
        "names that only begin alike",
        [
            Task("all", "ui", writes=("src/",)),
            Task("one", "ui", writes=("src2/a.ts",)),
            Task("x", "ui", writes=("sr",)),
        ],
        [],
    ),
    (
        "readers share",
        [Task("one", "ui", reads=("a",)), Task("two", "ui", reads=("a",))],
        [],
    ),
    (
        "readers stand between two writers",
        [
            Task("w1", "ui", writes=("a",)),
            Task("r1", "ui", reads=("a",)),
            Task("r2", "ui", reads=("a",)),
            Task("w2", "ui", writes=("a",)),
        ],
        [("w1", "r1", "a", "read"), ("w1", "r2", "a", "read"), ("r2", "w2", "a", "read"), ("r1", "w2", "a", "read")],
    ),
    (
        "ordered already, through a third",
        [
            Task("a", "ui", writes=("f",)),
            Task("b", "ui", after=("a",)),
            Task("c", "ui", writes=("f",), after=("b",)),
        ],
        [],
    ),
    (
        "against the plan's order where dependencies want it",
        [Task("late", "ui", writes=("f",), after=("mid",)), Task("mid", "ui"), Task("soon", "ui", writes=("f",))],
        [("soon", "late", "f", "write")],
    ),
    (
        "a write counts more than a read of the same two",
        [Task("a", "ui", writes=("f",), reads=("g",)), Task("b", "ui", writes=("f", "g"))],
        [("a", "b", "f", "write")],
    ),
]


@pytest.mark.parametrize(("tasks", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_conflicts_table(tasks: list[Task], expected: list[tuple[str, str, str, str]]) -> None:
    """Which claims collide, who goes first, over what."""
    assert [(one.first, one.then, one.path, one.kind) for one in conflicts(tasks, keys)] == expected


def test_a_long_line_for_one_file_costs_one_order_a_task() -> None:
    """Ten thousand writers of one file make a chain, not a square."""
    tasks = [Task(f"t{at}", "ui", writes=("f",)) for at in range(10_000)]
    orders = conflicts(tasks, keys)
    assert [(one.first, one.then) for one in orders] == [(f"t{at}", f"t{at + 1}") for at in range(9_999)]
    assert len(levels(tasks, orders)) == 10_000


def test_tasks_that_write_in_a_folder_they_all_read_make_a_chain() -> None:
    """Each reads what the others write: the orders that follow from the chain are left out."""
    tasks = [Task(f"t{at}", "ui", writes=(f"src/{at}",), reads=("src/",)) for at in range(300)]
    assert len(conflicts(tasks, keys)) == 299


# --- what is wrong ---------------------------------------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"id": 7}, "task 1: id: it must be text, not int"),
    ({"id": ""}, "task 1: id: it is empty"),
    ({"id": "a\0b"}, "id: it has control characters"),
    ({"specialist": None}, "specialist: there is no specialist None"),
    ({"specialist": ["ui"]}, "specialist: there is no specialist ['ui']"),
    ({"specialist": "uii"}, "task 'a': specialist: there is no specialist 'uii'; did you mean 'ui'?"),
    ({"after": (3,)}, "task 'a': after: 3 is not a task's id"),
    ({"after": (["b"],)}, "task 'a': after: ['b'] is not a task's id"),
    ({"estimate_s": nan}, "task 'a': estimate_s: nan is not finite"),
    ({"estimate_s": True}, "estimate_s: True is not a number of seconds"),
    ({"estimate_s": "4"}, "estimate_s: '4' is not a number of seconds"),
    ({"timeout_s": inf}, "timeout_s: inf is not finite"),
    ({"timeout_s": 10**400}, "timeout_s: it is more than 1000000000 seconds"),
    ({"timeout_s": 0}, "timeout_s: 0 is not more than 0 seconds"),
    ({"attempts": True}, "attempts: True is not a whole number of 1 or more"),
    ({"attempts": 1.0}, "attempts: 1.0 is not a whole number of 1 or more"),
    ({"passes": -1}, "passes: -1 is not a whole number of from 0 to 10"),
    ({"ok_exit": ("0",)}, "ok_exit: '0' is not a whole number of from 0 to 255"),
    ({"writes": (b"a",)}, "writes: b'a' is not a path"),
    ({"writes": ("",)}, "writes: a path is empty"),
    ({"reads": ("\ud800",)}, "half of a surrogate pair"),
    ({"goal": None}, "goal: it must be text, not NoneType"),
    ({"goal": "a\0b"}, "goal: it has a NUL character in it"),
    ({"scope": 3}, "scope: it must be text, not int"),
    ({"exec": ()}, "exec: it is empty"),
    ({"exec": ("ruff", 3)}, "exec: it must be a list of words"),
    ({"exec": ("ruff\0",)}, "exec: a word has a NUL character in it"),
    ({"codemod": "m.C"}, "codemod: it must have a name, not be 'm.C'"),
    ({"codemod": Codemod("")}, "codemod: name: it is empty"),
    ({"rewrite": "a -> b"}, "rewrite: it must have pattern, replace and language"),
    ({"rewrite": Rewrite("", "b", "python")}, "rewrite: pattern: it is empty"),
    ({"rewrite": Rewrite("a", "b", "pyton")}, "language: there is no language 'pyton'; did you mean 'python'?"),
    ({"rewrite": Rewrite("a", "b", "python"), "exec": ("a",)}, "rewrite and exec: a task has one way at most"),
]


@pytest.mark.parametrize(("fields", "expected"), WRONG, ids=[str(sorted(fields)) for fields, _ in WRONG])
def test_a_wrong_field_from_python_is_one_clear_line(fields: dict[str, Any], expected: str) -> None:
    """Types are not checked by Python, so they are checked here, without a traceback of our own."""
    plan = Plan((Task(**{"id": "a", "specialist": "ui", **fields}),))
    told = check(plan, SPECIALISTS, languages=("python",))
    assert len(told) == 1
    assert expected in told[0]


def test_what_the_edge_knows_is_asked_of_it() -> None:
    """Paths and codemods are judged by whoever knows files; `known_tasks` may be depended on."""
    plan = Plan((Task("a", "ui", writes=("x",), codemod=Codemod("m.C"), after=("earlier",)),))
    told = check(
        plan,
        SPECIALISTS,
        origin="p.toml",
        known_tasks={"earlier"},
        path_problem=lambda path: "no",
        codemod_problem=lambda codemod: "what?",
    )
    assert told == ["p.toml: task 'a': writes: 'x': no", "p.toml: task 'a': codemod: what?"]


def test_something_that_is_no_task_is_named_by_its_place() -> None:
    """The rest of the plan is still checked."""
    plan = Plan((Task("a", "ui"), "b", Task("a", "ui")))  # type: ignore[arg-type]
    assert check(plan, SPECIALISTS) == ["task 2: 'b' is not a Task", "task 'a': id: it is used twice"]


def test_problems_carry_the_place_of_their_task() -> None:
    """So that a reader of files can tell the line."""
    plan = Plan((Task("a", "ui"), Task("b", "ui", attempts=0)), base="-x")
    assert [(one.task, one.field) for one in problems(plan, SPECIALISTS)] == [(None, "base"), (1, "attempts")]


def test_circles_are_told_in_the_direction_of_work() -> None:
    """`a -> b` when b waits for a; every circle that shares no task, whatever hangs on it."""
    tasks = [
        Task("a", "ui", after=("c",)),
        Task("b", "ui", after=("a",)),
        Task("c", "ui", after=("b", "free")),
        Task("free", "ui"),
        Task("behind", "ui", after=("a",)),
        Task("x", "ui", after=("y", "a", "x")),
        Task("y", "ui", after=("x",)),
    ]
    assert cycles(tasks) == [["a", "b", "c", "a"], ["x", "y", "x"]]


def test_a_circle_of_a_hundred_thousand_tasks_is_found() -> None:
    """Nothing recurses."""
    tasks = [Task(f"t{at}", "ui", after=(f"t{at - 1 if at else 99_999}",)) for at in range(100_000)]
    (circle,) = cycles(tasks)
    assert len(circle) == 100_001


@given(graphs(claims=False))
def test_a_graph_without_a_circle_has_none(tasks: tuple[Task, ...]) -> None:
    """`cycles` does not see things, and a sound plan has no problem."""
    assert cycles(tasks) == []
    assert check(Plan(tasks), SPECIALISTS) == []


# --- what it will do -------------------------------------------------------------------------------------------


@given(graphs())
def test_priorities_are_the_longest_remaining_paths(tasks: tuple[Task, ...]) -> None:
    """Against the plain recursion."""
    orders = conflicts(tasks, keys)
    before = edges(tasks, orders)
    of = {task.id: task for task in tasks}

    def longest(name: str) -> float:
        rest = [longest(other) for other, waits_for in before.items() if name in waits_for]
        return (of[name].estimate_s or 0.0) + max(rest, default=0.0)

    assert priorities(tasks, orders, lambda task: task.estimate_s or 0.0) == {name: longest(name) for name in of}


@given(graphs(), st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_a_prediction_keeps_to_the_bounds(tasks: tuple[Task, ...], cap: int, most: int, helping: bool) -> None:
    """Never under the longest path or the work shared out; never over Graham's bound or, without a crew idle by rule, the sum."""
    orders = conflicts(tasks, keys)
    estimates = {task.id: task.estimate_s or 0.0 for task in tasks}
    helps = {"ui": ("api",)} if helping else {}
    foretold = predict(tasks, orders, estimates, {"ui": cap, "api": cap}, most, helps)
    work = sum(estimates.values())
    places = min(most, sum(foretold.instances.values()))
    assert foretold.sequential_s == work
    assert max(foretold.path_s, work / places) <= foretold.makespan_s + 1e-9
    assert foretold.makespan_s <= work
    assert sum(estimates[name] for name in foretold.path) == foretold.path_s
    assert 0 < foretold.utilization <= 1 + 1e-9
    if places == 1:
        assert foretold.makespan_s == work


def foretell(tasks: Sequence[Task], cap: int = 3, each_s: float = 10.0) -> tuple[bool, str]:
    found = predict(tasks, conflicts(tasks, keys), {task.id: each_s for task in tasks}, {"ui": cap, "api": cap}, 20)
    return found.pays, found.why


def test_a_wide_plan_pays() -> None:
    """With the numbers that say so."""
    pays, why = foretell([Task(f"t{at}", "ui") for at in range(9)])
    assert pays
    assert why == "about 30.0 s instead of 90.0 s on 3 instances, 3.0 times faster"


def test_why_a_plan_will_not_pay() -> None:
    """Too few, too short, one chain, all in one file, one instance: each is told with its numbers."""
    chain = [Task(f"t{at}", "ui", after=(f"t{at - 1}",) if at else ()) for at in range(8)]
    one_file = [Task(f"t{at}", "ui", writes=("src/App.tsx",)) for at in range(5)]
    folder = [Task(f"t{at}", "ui", writes=(f"src/{at}",), reads=("src/",)) for at in range(4)]
    wide = [Task(f"t{at}", "ui") for at in range(9)]
    assert foretell(wide[:1]) == (False, "too few: there is one task, nothing can run beside it")
    assert foretell(wide, each_s=0.1) == (
        False,
        "too short: all of it takes about 0.9 s, less than it costs to share out",
    )
    assert foretell(chain) == (False, "one chain: 80.0 of 80.0 s lie on t0 -> t1 -> t2 -> ... -> t6 -> t7")
    assert foretell(one_file) == (
        False,
        "all in one file: 5 of 5 tasks want src/App.tsx and go one after the other, 50.0 of 50.0 s",
    )
    assert foretell(folder) == (
        False,
        "claims overlap (src/0 and others): 4 of 4 tasks go one after the other, 40.0 of 40.0 s",
    )
    assert foretell(wide, cap=1) == (False, "one instance: nothing runs at the same time")


def test_an_idle_crew_that_helps_is_counted_on() -> None:
    """Six tasks of one specialist, one of the other whose idle instances may help: sooner than without."""
    tasks = [Task(f"t{at}", "api") for at in range(6)] + [Task("nav", "ui"), Task("card", "ui")]
    estimates = dict.fromkeys((task.id for task in tasks), 10.0)
    caps = {"ui": 2, "api": 1}
    alone = predict(tasks, (), estimates, caps, 20)
    helped = predict(tasks, (), estimates, caps, 20, {"ui": ("api",)})
    assert (alone.makespan_s, helped.makespan_s) == (60.0, 30.0)


def test_a_plan_of_twenty_thousand_tasks_is_foretold() -> None:
    """No step of it is quadratic, and nothing recurses: a chain as long as the plan among them."""
    tasks = [Task(f"t{at}", "ui", after=(f"t{at - 1}",) if at else ()) for at in range(10_000)]
    tasks += [Task(f"w{at}", "api") for at in range(10_000)]
    foretold = predict(tasks, (), dict.fromkeys((task.id for task in tasks), 1.0), {"api": 3}, 20)
    assert foretold.makespan_s == 10_000.0
