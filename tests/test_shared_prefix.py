"""What all prompts begin with is paid for once: by the first that gets an answer, whoever's it is; the others read it from the cache."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from claude_stage import MODEL, edit, stage
from conftest import Repo
from messages_faults import CATALOGUE, Fault
from messages_model import Reply
from messages_worker import Worker
from trio.testing import MockClock

from runtime import Specialist, Task
from specialists.prompt import Prefix, Prefixes, prefixes

SHARED = "Be kind to the reader. " * 1000
TEN = [f"f{number}" for number in range(10)]


@pytest.fixture
def shop(repo: Repo) -> Repo:
    """A repository with ten files and long instructions."""
    repo.commit({"AGENTS.md": SHARED, **{f"{name}.py": "x = 1\n" for name in TEN}})
    return repo


def slowly(request: Any) -> Reply:
    """The worker, at a pace at which ten work at the same time."""
    return attrs.evolve(Worker()(request), first_s=2.0)


def crew(name: str, charter: str) -> Specialist:
    """Ten instances with a charter of their own."""
    return Specialist(name, instances=10, model=MODEL, prompt=charter)


def tasks(*crews: str) -> list[Task]:
    """Ten tasks, dealt over the crews."""
    return [
        Task(name, crews[number % len(crews)], writes=(f"{name}.py",), goal=edit(f"{name}.py", "1", "2"))
        for number, name in enumerate(TEN)
    ]


def written(api: Any) -> list[int]:
    """Tokens that each call of a first turn wrote to the cache."""
    first = [call for call in api.calls if call.usage is not None and len(call.body["messages"]) == 1]
    return [call.usage.cache_creation_input_tokens for call in first]


@pytest.mark.parametrize("fault", [None, "500", "429-retry-1", "400", "reset-before-headers", "silence-300-at-0"])
async def test_three_specialists_pay_once_for_what_they_share(
    fault: str | None, shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten tasks at once, of three specialists with short charters: the instructions are written to the cache by one call, also when
    whoever goes ahead gets no answer."""
    three = [crew("a", "You are a."), crew("b", "You are b."), crew("c", "You are c.")]
    faults = [Fault({1}, CATALOGUE[fault])] if fault else []
    async with stage(shop, patient_clock, monkeypatch, slowly, faults=faults, specialists=three) as there:
        report = await there.run(tasks("a", "b", "c"))
        assert len([one for one in report.tasks.values() if one.state == "done"]) == (9 if fault == "400" else 10)
        shared = len(SHARED) // 4
        assert sorted(count > shared for count in written(there.api)) == [False] * (8 if fault == "400" else 9) + [True]


async def test_a_long_charter_is_waited_for_too(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two specialists with long charters: the instructions are written once, each charter once."""
    two = [crew("a", "Mind the gap. " * 800), crew("b", "Keep to the left. " * 800)]
    async with stage(shop, patient_clock, monkeypatch, slowly, specialists=two) as there:
        report = await there.run(tasks("a", "b"))
        assert report.ok
        counts = sorted(written(there.api), reverse=True)
        assert counts[0] > len(SHARED) // 4 > counts[1] > 1000 > counts[2]


async def test_who_is_cancelled_in_line_holds_nobody_up(autojump_clock: MockClock) -> None:
    """Ahead with one beginning, waiting for the second, and cancelled there: the next in line goes ahead."""
    ledge = Prefixes()
    one, two = Prefix("one", 1), Prefix("two", 2)
    held = await ledge.wait([two])
    with trio.move_on_after(1) as limit:
        await ledge.wait([one, two])
    assert limit.cancelled_caught
    assert list(await ledge.wait([one])) == ["one"]
    ledge.gave_up(held)
    assert list(await ledge.wait([two])) == ["two"]


def test_what_is_too_short_to_be_cached_is_not_waited_for() -> None:
    """Neither a short prompt, nor a short charter behind a long beginning."""
    block = {"type": "text", "text": "x" * 100}
    assert prefixes(MODEL, (), [block]) == ()
    long = {"type": "text", "text": "x" * 10_000}
    assert [one.characters > 10_000 for one in prefixes(MODEL, (), [long, block])] == [True]
    assert len(prefixes(MODEL, (), [long, long])) == 2
