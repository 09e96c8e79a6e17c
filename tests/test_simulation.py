"""The machine in a seeded world where everything goes wrong: see `simulation.World`."""

from __future__ import annotations

import pytest
from simulation import Faults, World

from runtime.report import build

SEEDS = 1000
COMMITTED = (5, 6, 12, 250, 1050, 1539, 1808, 2068, 2328, 2646, 2975)
"""Seeds that once found something; replayed for ever."""


@pytest.mark.parametrize("first", range(0, SEEDS, 100))
def test_every_invariant_holds_after_every_step(first: int) -> None:
    """A thousand seeded runs with failures, cancellations, deaths and crashes keep every invariant at every step and end
    with each acknowledged task in one final state, each commit made once."""
    for seed in range(first, first + 100):
        World(seed).play()


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_no_run_beats_its_lower_bound(first: int) -> None:
    """Through retries, cancellations, crashes, claims that grow and runs tried again, the bound is at most the makespan, of a
    whole run and of each group, and no instance is busier than all the time."""
    for seed in range(first, first + 100):
        machine = World(seed, Faults(fail=0.3, cancel=0.03, crash=0.02)).play()
        for group in (None, *machine.groups):
            found = build(machine, group=group)
            assert found.bound_s <= found.makespan_s + 1e-9, f"seed {seed}, {group}: {found.bound_by}"
            assert 0 <= found.utilization <= 1 + 1e-9, f"seed {seed}, {group}"


@pytest.mark.parametrize("seed", COMMITTED)
def test_seeds_that_failed_once_stay_mended(seed: int) -> None:
    """A seed that found a defect is kept and passes."""
    World(seed).play()


@pytest.mark.parametrize("seed", range(40))
def test_without_faults_everything_is_done(seed: int) -> None:
    """In a world where nothing fails, every task of every random plan is done, each in one attempt."""
    world = World(seed, Faults(0, 0, 0, 0, 0, 0, 0, 0))
    machine = world.play()
    assert {record.state for record in machine.records.values()} == {"done"}
    assert {record.attempt for record in machine.records.values()} == {1}


@pytest.mark.parametrize("seed", range(40))
def test_crash_upon_crash_loses_nothing(seed: int) -> None:
    """With a crash every few steps, and crashes while recovering, nothing acknowledged is lost and nothing committed twice."""
    world = World(seed, Faults(crash=0.15))
    world.play()


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_a_conversation_goes_on_from_its_last_turn(first: int) -> None:
    """Half of the tasks talk to a model: through quotas, broken answers, crashes while an answer comes and while recovering, every
    answer that was used is known to whoever goes on, none is bought twice, and what it all cost is told to the cent."""
    answers = 0
    for seed in range(first, first + 50):
        world = World(seed, Faults.of(seed))
        world.play()
        answers += world.answers
    assert answers > 200


@pytest.mark.parametrize("seed", range(20))
def test_the_same_seed_gives_the_same_run(seed: int) -> None:
    """Two plays of one seed write the same journal, byte for byte."""
    one, two = World(seed), World(seed)
    one.play()
    two.play()
    assert one.journal == two.journal
