"""The queue of runs and the gate of attempts: together where they can, one after the other where they must, fair between clients."""

from __future__ import annotations

import random
from functools import partial

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.service.gate import AttemptGate
from runtime.service.queue import EVERYTHING, Queue

PATHS = ("a.py", "b.py", "src/", "src/x.py", "src/y/", "src/y/z.py", EVERYTHING)


def _overlap(one: str, other: str) -> bool:
    return (
        EVERYTHING in (one, other)
        or one == other
        or one.startswith(f"{other.rstrip('/')}/")
        or other.startswith(f"{one.rstrip('/')}/")
    )


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.sets(st.sampled_from(PATHS), max_size=3),
            st.sets(st.sampled_from(PATHS), max_size=2),
        ),
        max_size=14,
    ),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
def test_no_two_active_runs_want_the_same_and_all_get_their_turn(runs: list, most: int, rng: random.Random) -> None:
    """Whatever is submitted and in whatever order runs end: active ones never overlap where one writes, there are never more than
    allowed, whoever waits is told for whom, and in the end every run has had its turn."""
    queue = Queue(most=most, ahead=most)
    claims = {}
    active: set[str] = set()
    turns: list[str] = []

    def go_on() -> None:
        for run in queue.start():
            for other in active:
                for mine in claims[run][0]:
                    assert not any(_overlap(mine, theirs) for theirs in (*claims[other][0], *claims[other][1]))
                for mine in claims[run][1]:
                    assert not any(_overlap(mine, theirs) for theirs in claims[other][0])
            active.add(run)
            turns.append(run)
        queue.check()
        assert len(active) <= most
        for run in set(queue.order()) - active:
            waits = queue.waits(run)
            assert waits is not None
            assert waits.reason
            assert waits.runs
            assert set(waits.runs) <= set(queue.order())

    for number, (client, writes, reads) in enumerate(runs):
        claims[f"r{number}"] = (sorted(writes), sorted(reads - writes))
        queue.add(f"r{number}", client, *claims[f"r{number}"])
        go_on()
        if active and rng.random() < 0.4:
            over = rng.choice(sorted(active))
            active.discard(over)
            queue.remove(over)
            go_on()
    while active:
        over = rng.choice(sorted(active))
        active.discard(over)
        queue.remove(over)
        go_on()
    assert sorted(turns) == sorted(claims)
    assert queue.order() == []


def test_a_client_with_many_runs_does_not_keep_another_out() -> None:
    """Behind a client with 100 runs on one file, another's single run has its turn after `ahead` of them, not after all."""
    queue = Queue(most=4, ahead=4)
    for number in range(100):
        queue.add(f"a{number}", "a", ["x"], [])
    queue.add("b", "b", ["x"], [])
    turns = []
    while line := queue.start():
        turns += line
        queue.remove(line[0])
    assert turns.index("b") == 4
    assert len(turns) == 101


def test_a_run_that_reads_waits_for_one_that_writes_and_not_for_one_that_reads() -> None:
    """Readers share; the reason names the run and the path."""
    queue = Queue()
    queue.add("r1", "a", [], ["src/x.py"])
    queue.add("r2", "a", [], ["src/"])
    queue.add("r3", "a", ["src/x.py"], [])
    assert queue.start() == ["r1", "r2"]
    waits = queue.waits("r3")
    assert waits is not None
    assert (waits.runs, waits.path) == (("r1", "r2"), "src/x.py")
    assert waits.reason == "waits for r1, r2: it needs src/x.py too"
    queue.remove("r1")
    assert queue.start() == []
    queue.remove("r2")
    assert queue.start() == ["r3"]
    assert queue.waits("r3") is None


async def _hold(gate: AttemptGate, client: str, order: list[str], seconds: float) -> None:
    async with gate.enter(client):
        order.append(client)
        await trio.sleep(seconds)


async def test_the_gate_gives_each_client_its_share(autojump_clock: trio.testing.MockClock) -> None:
    """With two places, a client that comes late with 4 attempts does not wait for the 40 of the one before it."""
    gate = AttemptGate(2)
    order: list[str] = []
    async with trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(_hold, gate, "many", order, 1.0)
        await trio.testing.wait_all_tasks_blocked()
        assert (gate.busy, gate.waiting) == (2, 38)
        for _ in range(4):
            nursery.start_soon(_hold, gate, "few", order, 1.0)
    assert len(order) == 44
    assert [place for place, client in enumerate(order) if client == "few"][-1] <= 10
    assert (gate.busy, gate.waiting) == (0, 0)
    assert trio.current_time() == pytest.approx(22.0)


async def test_whoever_leaves_the_gate_early_leaves_no_hole(autojump_clock: trio.testing.MockClock) -> None:
    """Cancelled while it waits, or in the moment of its turn, an attempt keeps no place; a larger cap takes effect at once."""
    gate = AttemptGate(1)
    order: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_hold, gate, "a", order, 5.0)
        await trio.testing.wait_all_tasks_blocked()
        for after_s in (1.0, 5.0):
            scope = trio.CancelScope(deadline=trio.current_time() + after_s)

            async def bounded(scope: trio.CancelScope) -> None:
                with scope:
                    await _hold(gate, "b", order, 1.0)

            nursery.start_soon(bounded, scope)
        nursery.start_soon(partial(_hold, gate, "c", order, 1.0))
        await trio.sleep(2.0)
        gate.resize(2)
        await trio.testing.wait_all_tasks_blocked()
        assert gate.busy == 2
    assert (gate.busy, gate.waiting) == (0, 0)
    assert order[0] == "a"
