"""A run's events as the bytes of a stream, whoever comes when."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from runtime import Brief, Plan, Runtime, Specialist, Task
from runtime.core.events import Resumed, Retried, Submitted
from runtime.core.task import Codemod, Rewrite
from runtime.handles import Notice
from runtime.service.stream import Encoded
from runtime.workspace import Workspace


async def _nothing(brief: Brief, workspace: Workspace) -> Any:
    return None


async def test_whoever_comes_when_is_told_the_same() -> None:
    """The bytes from the first event up to any are the beginning of the whole, of the same run and instances of other watchers or none;
    each sequence number is told once, with the last event or command that has it."""
    async with Runtime([Specialist("a", _nothing, instances=20)]) as rt:
        await rt.run(Plan([Task(f"t{number}", "a") for number in range(30)]))
        notices = rt.notices()
    numbers = sorted({notice.seq for notice in notices})
    shared = Encoded()
    whole = Encoded().of("here", "r1", notices)
    for last in numbers:
        batch = [notice for notice in notices if notice.seq <= last]
        assert whole.startswith(shared.of("here", "r1", batch))
        rest = [notice for notice in notices if notice.seq > last]
        if rest:
            assert whole == shared.of("here", "r1", batch) + shared.of("here", "r1", rest)
    assert [int(one) for one in re.findall(rb"(?m)^id: (\d+)$", whole)] == numbers
    assert whole.count(b"\ndata: ") == len(notices)


_NAMES = st.text("abc/", min_size=1, max_size=5)
_TASKS = st.builds(
    Task,
    _NAMES,
    _NAMES,
    payload=st.none() | st.booleans() | st.just(0) | st.lists(st.integers(), max_size=2),
    goal=st.just("") | _NAMES,
    writes=st.lists(_NAMES, max_size=2),
    after=st.lists(_NAMES, max_size=2),
    estimate_s=st.none() | st.just(0.0) | st.just(2.5),
    attempts=st.sampled_from([1, 3]),
    rewrite=st.none() | st.just(Rewrite("a", "b", "python")),
    codemod=st.none() | st.just(Codemod("a.B")) | st.just(Codemod("a.B", {"x": 1})),
    exec=st.none() | st.lists(_NAMES, max_size=2),
    ok_exit=st.sampled_from([(0,), (), (0, 1)]),
    budget_tokens=st.none() | st.just(0),
)


@given(st.lists(_TASKS, max_size=3))
def test_what_is_left_out_of_a_task_is_what_nobody_said(tasks: list[Task]) -> None:
    """Whoever reads a row of the stream has the tasks as they were handed over; what a plan file need not say is not in it."""
    for event in (Submitted("g1", tuple(tasks)), Retried("g1", tuple(tasks)), Resumed(tasks=tuple(tasks))):
        row = Notice(2, 0.1234567, event).row()
        told = msgspec.json.decode(msgspec.json.encode(row))
        assert (told["seq"], told["at_s"], told["type"]) == (2, 0.123457, type(event).__struct_config__.tag)
        assert msgspec.convert(told, type(event)).tasks == event.tasks
    bare = Notice(1, 0.0, Submitted("g1", (Task("a", "b"),))).row()
    assert bare["tasks"] == [{"id": "a", "specialist": "b"}]
