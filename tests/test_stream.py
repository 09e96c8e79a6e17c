"""A run's events as the bytes of a stream, whoever comes when."""

from __future__ import annotations

import re
from typing import Any

from runtime import Brief, Plan, Runtime, Specialist, Task
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
