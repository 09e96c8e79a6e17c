"""The runtime as an embedding program uses it, without a repository, in virtual time."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import trio

import runtime.aio
import runtime.blocking
from runtime import GiveUp, Plan, Runtime, Specialist, Task, TaskFailed
from runtime.core.commands import Start
from runtime.errors import BadInput, BadPlan, Transient


async def quick(brief: Any, workspace: Any) -> str:
    assert workspace is None
    return str(brief.task.id).upper()


async def test_the_contracts_own_example(autojump_clock: trio.testing.MockClock) -> None:
    """The contract's lines run as they are written: a plan, a ticket, live events, results of what came before."""

    async def handler(brief: Any, workspace: Any) -> dict[str, Any]:
        await trio.sleep(1)
        return {"any": brief.task.id, "before": dict(brief.results)}

    async with Runtime([Specialist("interface", handler, instances=3)]) as rt:
        report = await rt.run(
            Plan(
                [
                    Task("types", "interface", payload={"x": 1}, writes=("types/user.ts",)),
                    Task("card", "interface", writes=("src/UserCard.tsx",), after=("types",), estimate_s=40),
                ]
            )
        )
        assert report.ok
        assert report.tasks["card"].result == {"any": "card", "before": {"types": {"any": "types", "before": {}}}}
        assert report.makespan_s == pytest.approx(2)
        assert report.bound_s == pytest.approx(2)
        assert report.bound_by == "path"
        ticket = await rt.submit(Task("later", "interface"))
        assert (await ticket.result())["any"] == "later"
        seen = [notice async for notice in _first(rt, 5)]
        assert [notice.seq for notice in seen] == sorted(notice.seq for notice in seen)


async def _first(rt: Runtime, count: int) -> Any:
    async for notice in rt.events():
        yield notice
        count -= 1
        if not count:
            return


async def test_what_may_pass_is_tried_again_and_what_cannot_is_not(autojump_clock: trio.testing.MockClock) -> None:
    """An exception is tried again with growing waits up to `attempts`, `Transient` not before its time, `GiveUp` never."""
    tries: dict[str, list[float]] = {}

    async def handler(brief: Any, workspace: Any) -> None:
        tries.setdefault(brief.task.id, []).append(trio.current_time())
        if brief.task.id == "flaky" and brief.attempt < 3:
            raise ValueError("not yet")
        if brief.task.id == "limited" and brief.attempt == 1:
            raise Transient("slow down", 90)
        if brief.task.id == "hopeless":
            raise GiveUp("no use")
        if brief.task.id == "broken":
            raise RuntimeError("always")

    async with Runtime([Specialist("a", handler, instances=4)]) as rt:
        names = ("flaky", "limited", "hopeless", "broken")
        report = await rt.run(Plan([*(Task(name, "a") for name in names), Task("after", "a", after=("broken",))]))
    states = {name: (task.state, task.attempts) for name, task in report.tasks.items()}
    assert states == {
        "flaky": ("done", 3),
        "limited": ("done", 2),
        "hopeless": ("failed", 1),
        "broken": ("failed", 3),
        "after": ("skipped", 0),
    }
    assert tries["limited"][1] - tries["limited"][0] >= 90
    first, second = (tries["broken"][n + 1] - tries["broken"][n] for n in (0, 1))
    assert 0.25 <= first <= 0.5
    assert 0.5 <= second <= 1.0
    assert report.tasks["broken"].error == "RuntimeError: always"
    assert not report.ok


async def test_a_timeout_ends_an_attempt(autojump_clock: trio.testing.MockClock) -> None:
    """A task that takes longer than `timeout_s` is stopped, tried again, and fails with its limit named."""

    async def handler(brief: Any, workspace: Any) -> None:
        await trio.sleep_forever()

    async with Runtime([Specialist("a", handler)]) as rt:
        report = await rt.run(Plan([Task("t", "a", timeout_s=7, attempts=2)]))
    assert report.tasks["t"].state == "failed"
    assert report.tasks["t"].attempts == 2
    assert "longer than 7 s" in (report.tasks["t"].error or "")


async def test_an_instance_that_dies_is_replaced(autojump_clock: trio.testing.MockClock) -> None:
    """SystemExit out of a handler kills its instance only: the task is tried again on another, the rest goes on."""

    async def handler(brief: Any, workspace: Any) -> str:
        await trio.sleep(1)
        if brief.task.id == "t1" and brief.attempt == 1:
            sys.exit(3)
        return str(brief.instance)

    async with Runtime([Specialist("a", handler, instances=2)]) as rt:
        report = await rt.run(Plan([Task(f"t{number}", "a") for number in range(6)]))
    assert report.ok
    assert report.tasks["t1"].attempts == 2
    assert len({one.name for one in report.instances}) == 3


async def test_an_idle_crew_helps_another(autojump_clock: trio.testing.MockClock) -> None:
    """An instance with nothing of its own to do takes the overflow of the specialist it helps, and the report says so."""

    async def handler(brief: Any, workspace: Any) -> None:
        await trio.sleep(10)

    crews = [Specialist("a", handler, instances=1, helps=("b",)), Specialist("b", handler, instances=1)]
    async with Runtime(crews) as rt:
        report = await rt.run(Plan([Task("mine", "a"), *(Task(f"b{number}", "b") for number in range(3))]))
    assert report.makespan_s == pytest.approx(20)
    helped = [task for task in report.tasks.values() if task.specialist == "b" and task.instance == "a-1"]
    assert helped
    assert all(task.stolen for task in helped)


async def test_claims_exclude_and_order_without_a_repository(autojump_clock: trio.testing.MockClock) -> None:
    """Two tasks that write one name never run together, the first given goes first, and if it fails the second still runs."""
    inside: set[str] = set()

    async def handler(brief: Any, workspace: Any) -> None:
        assert not inside & set(brief.task.writes)
        inside.update(brief.task.writes)
        await trio.sleep(1)
        inside.difference_update(brief.task.writes)
        if brief.task.id == "one":
            raise GiveUp("broken")

    async with Runtime([Specialist("a", handler, instances=3)]) as rt:
        report = await rt.run(Plan([Task("one", "a", writes=("db",)), Task("two", "a", writes=("db", "x"))]))
    assert {name: task.state for name, task in report.tasks.items()} == {"one": "failed", "two": "done"}
    assert report.bound_by == "claims"


async def test_sequential_runs_one_at_a_time(autojump_clock: trio.testing.MockClock) -> None:
    """With `sequential` at most one attempt runs at any time, over all specialists."""
    most = running = 0

    async def handler(brief: Any, workspace: Any) -> None:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await trio.sleep(1)
        running -= 1

    async with Runtime([Specialist("a", handler), Specialist("b", handler)], sequential=True) as rt:
        report = await rt.run(Plan([Task(f"{crew}{n}", crew) for n in range(3) for crew in "ab"]))
    assert report.ok
    assert most == 1
    assert report.makespan_s == pytest.approx(6)


async def test_a_crew_grows_and_shrinks(autojump_clock: trio.testing.MockClock) -> None:
    """min(N, cap) instances start; what is idle for `idle_s` goes, down to the least."""

    async def handler(brief: Any, workspace: Any) -> None:
        await trio.sleep(1)

    async with Runtime([Specialist("a", handler, instances=4, min_instances=2)], idle_s=5) as rt:
        await rt.run(Plan([Task(f"t{number}", "a") for number in range(8)]))
        assert rt.statistics()["instances"] == 4
        await trio.sleep(6)
        assert rt.statistics()["instances"] == 2


async def test_draining_keeps_what_runs_and_starts_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """After `drain`, running attempts end and are kept, the rest is reported as not done, and the state is interrupted."""

    async def handler(brief: Any, workspace: Any) -> None:
        await trio.sleep(10)

    async with Runtime([Specialist("a", handler, instances=2)]) as rt, trio.open_nursery() as nursery:

        async def stop() -> None:
            await trio.sleep(15)
            rt.drain()

        nursery.start_soon(stop)
        report = await rt.run(Plan([Task(f"t{number}", "a") for number in range(8)]))
        assert report.counts["done"] == 4
        assert report.state == "interrupted"
        assert report.tasks["t7"].state == "cancelled"


async def test_cancelling_the_caller_cancels_its_tasks(autojump_clock: trio.testing.MockClock) -> None:
    """A plan whose `run` is cancelled has its tasks cancelled; the runtime goes on with others."""

    async def handler(brief: Any, workspace: Any) -> None:
        await trio.sleep(100)

    async with Runtime([Specialist("a", handler), Specialist("q", quick)]) as rt:
        with trio.move_on_after(1):
            await rt.run(Plan([Task(f"t{number}", "a") for number in range(5)]))
        await trio.testing.wait_all_tasks_blocked()
        assert {record.state for record in rt.machine.records.values()} == {"cancelled"}
        assert (await rt.run(Plan([Task("next", "q")]))).ok


async def test_rollback_and_stop_policies(autojump_clock: trio.testing.MockClock) -> None:
    """`rollback-scope` takes back a failed task's scope and nothing else; `stop` starts nothing after the first failure."""

    async def handler(brief: Any, workspace: Any) -> None:
        await trio.sleep(brief.task.payload)
        if brief.task.id == "bad":
            raise GiveUp("no")

    tasks = [
        Task("early", "a", scope="s", payload=1),
        Task("bad", "a", scope="s", payload=2),
        Task("other", "a", scope="t", payload=1),
        Task("late", "a", scope="s", after=("bad",), payload=1),
    ]
    async with Runtime([Specialist("a", handler)]) as rt:
        report = await rt.run(Plan(tasks, on_failure="rollback-scope"))
    states = {name: task.state for name, task in report.tasks.items()}
    assert states == {"early": "cancelled", "bad": "failed", "other": "done", "late": "cancelled"}
    many = [Task("bad", "a", payload=1, estimate_s=9), *(Task(f"t{number}", "a", payload=5) for number in range(9))]
    async with Runtime([Specialist("a", handler)]) as rt:
        report = await rt.run(Plan(many, on_failure="stop"))
    assert report.counts["cancelled"] >= 7


async def test_the_journal_is_replayed_to_the_same_states(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """A run journalled to a file is tried again from another Runtime: what was done stays done, what failed runs anew."""
    broken = True
    runs: list[str] = []

    async def handler(brief: Any, workspace: Any) -> str:
        runs.append(brief.task.id)
        if brief.task.id == "b" and broken:
            raise GiveUp("broken")
        return str(brief.task.id)

    journal = tmp_path / "journal.db"
    crew = [Specialist("a", handler)]
    async with Runtime(crew, journal=journal) as rt:
        report = await rt.run(Plan([Task("a", "a"), Task("b", "a"), Task("c", "a", after=("b",))]))
        assert {name: task.state for name, task in report.tasks.items()} == {"a": "done", "b": "failed", "c": "skipped"}
        name = rt.run_id
    broken = False
    async with Runtime(crew, journal=journal) as rt:
        report = await rt.retry(name)
        assert report.ok
        assert report.tasks["a"].result == "a"
    assert sorted(runs[:2]) == ["a", "b"]
    assert runs[2:] == ["b", "c"]


async def test_a_value_that_cannot_be_kept_fails_its_task_only() -> None:
    """A handler's value that has no encoding is that task's failure, in words, and is not tried again; keys may be numbers."""

    async def handler(brief: Any, workspace: Any) -> object:
        return {1: "one"} if brief.task.id == "numbers" else object()

    async with Runtime([Specialist("a", handler)]) as rt:
        report = await rt.run(Plan([Task("t", "a"), Task("numbers", "a")]))
    assert report.tasks["t"].attempts == 1
    assert report.tasks["numbers"].result == {1: "one"}
    assert "cannot be encoded" in (report.tasks["t"].error or "")


@pytest.mark.parametrize(
    ("specialists", "words"),
    [
        ([], "at least one specialist"),
        ([Specialist("a")], "handler"),
        ([Specialist("a", quick), Specialist("a", quick)], "two of them"),
        ([Specialist("a", quick, instances=0)], "instances: 0"),
        ([Specialist("a", quick, helps=("b",))], "no specialist 'b'"),
    ],
)
def test_specialists_that_make_no_sense_are_refused(specialists: list[Specialist], words: str) -> None:
    """What is wrong with the specialists is said before anything is started."""
    with pytest.raises(BadInput, match=words):
        Runtime(specialists)


async def test_a_bad_plan_is_refused_whole() -> None:
    """All problems of a plan are told at once, and nothing of it runs."""
    async with Runtime([Specialist("a", quick)]) as rt:
        with pytest.raises(BadPlan) as caught:
            await rt.run(Plan([Task("x", "b"), Task("x", "a"), Task("y", "a", after=("z",), timeout_s=-1)]))
        assert len(caught.value.problems) == 4
        assert not rt.machine.records


def test_blocking_from_plain_python() -> None:
    """The blocking façade runs ordinary functions in threads and trio handlers on its own loop, from code without any."""

    def ordinary(brief: Any, workspace: Any) -> str:
        return threading.current_thread().name

    def fails(brief: Any, workspace: Any) -> None:
        raise GiveUp("no")

    crew = [Specialist("s", ordinary), Specialist("t", quick), Specialist("f", fails)]
    with runtime.blocking.Runtime(crew) as rt:
        report = rt.run(Plan([Task("one", "s"), Task("two", "t", after=("one",))]))
        assert report.ok
        assert report.tasks["one"].result != threading.current_thread().name
        assert rt.submit(Task("three", "t")).result(timeout_s=10) == "THREE"
        with pytest.raises(TaskFailed, match="no"):
            rt.submit(Task("four", "f")).result()
        assert any(isinstance(notice.event, Start) for notice in rt._runtime.notices())


def test_aio_from_a_running_loop() -> None:
    """The asyncio façade runs the host's coroutines on the host's loop; cancelling goes through to them and back."""
    cancelled: list[str] = []

    async def main() -> None:
        host = asyncio.get_running_loop()

        async def mine(brief: Any, workspace: Any) -> bool:
            await asyncio.sleep(0)
            return asyncio.get_running_loop() is host

        async def forever(brief: Any, workspace: Any) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(brief.task.id)
                raise

        async with runtime.aio.Runtime([Specialist("m", mine), Specialist("f", forever)]) as rt:
            report = await rt.run(Plan([Task(f"t{number}", "m") for number in range(5)]))
            assert all(task.result is True for task in report.tasks.values())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(rt.run(Plan([Task("stuck", "f")])), 0.3)
            assert await (await rt.submit(Task("after", "m"))).result() is True
        assert asyncio.get_running_loop() is host

    asyncio.run(main())
    assert cancelled == ["stuck"]


async def test_what_tasks_took_is_known_to_the_next_run(autojump_clock: trio.testing.MockClock, tmp_path: Path) -> None:
    """Without estimates the second run expects of a specialist's tasks what they took in the first, and begins with the longest."""

    async def handler(brief: Any, workspace: Any) -> None:
        await trio.sleep(20 if brief.task.specialist == "slow" else 2)

    crew = [Specialist("quick", handler), Specialist("slow", handler)]
    tasks = [Task("a", "quick"), Task("b", "slow")]
    for expected in ((1.0, 1.0), (2.0, 20.0)):
        async with Runtime(crew, journal=tmp_path / "j.db") as rt:
            await rt.run(Plan(tasks))
            assert tuple(rt.machine.records[name].estimate_s for name in "ab") == pytest.approx(expected)
