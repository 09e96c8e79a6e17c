"""A plan played in virtual time before anything is spent: `core.simulate`, `rehearsal` and `plan --simulate`."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import pytest
from conftest import Repo
from test_cli import journeyman

from runtime.config import Config
from runtime.core.events import CrewSpec, Opened, Submitted
from runtime.core.machine import Machine
from runtime.core.simulate import Chances, play
from runtime.core.task import Plan, Specialist, Task
from runtime.git import Repository
from runtime.outlook import outlook
from runtime.rehearsal import Rehearsal, rehearse
from runtime.runs import journal_path
from runtime.terminal import Place

CERTAIN = Chances(sigma=0.0, fails=0.0)
LENGTHS = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0, 5.0, 3.0, 5.0, 8.0]


def _played(seed: int, chances: Chances | None, instances: int = 3) -> Machine:
    tasks = tuple(Task(f"t{number}", "ui") for number in range(len(LENGTHS)))
    return play(Opened("s", (CrewSpec("ui", instances),)), Submitted("g", tasks, tuple(LENGTHS)), seed, chances)


async def _handler(brief: object, workspace: object) -> None: ...


def _rehearsed(
    repo: Repo, *tasks: Task, seeds: int = 20, max_instances: int = 20, helps: tuple[str, ...] = ()
) -> Rehearsal:
    repo.commit({"a.py": "1\n", "shared.py": "2\n"})
    specialists = [Specialist("ui", _handler, helps=helps), Specialist("api", _handler)]
    place = Place(Repository.open(repo.path), Config(), specialists)
    return rehearse(outlook(Plan(tasks), place), specialists, max_instances, seeds)


def test_lengths_are_lognormal_around_the_estimate_and_some_attempts_fail() -> None:
    """Over many draws the mean length is the estimate, the spread of the logarithm sigma, and the share that fails as told."""
    chances = Chances(sigma=0.6, fails=0.05)
    draws = [chances.draw(seed, "task", 1) for seed in range(20_000)]
    assert statistics.mean(length for length, _ in draws) == pytest.approx(1.0, abs=0.03)
    assert statistics.stdev(math.log(length) for length, _ in draws) == pytest.approx(0.6, abs=0.02)
    failing = [after for _, after in draws if after is not None]
    assert len(failing) / len(draws) == pytest.approx(0.05, abs=0.01)
    assert all(0 < after < 1 for after in failing)


def test_a_seed_is_a_run() -> None:
    """The same seed gives the same events at the same times; another seed another run."""
    one, two, other = (_played(seed, None).history for seed in (7, 7, 8))
    assert one == two
    assert one != other


def test_every_task_is_done_whatever_fails() -> None:
    """Attempts fail and are tried again within what a task may have, the machine keeps its invariants, and all is done."""
    for seed in range(20):
        machine = _played(seed, Chances(fails=0.6))
        machine.check()
        assert {record.state for record in machine.records.values()} == {"done"}
        assert max(record.attempt for record in machine.records.values()) in (2, 3)


def test_without_chance_a_run_takes_its_estimates() -> None:
    """With no spread and no failure one instance takes the sum of the estimates, and as many as tasks the longest."""
    assert max(record.finished_s or 0 for record in _played(1, CERTAIN, 1).records.values()) == pytest.approx(
        sum(LENGTHS)
    )
    assert max(record.finished_s or 0 for record in _played(1, CERTAIN, 12).records.values()) == max(LENGTHS)


def test_more_instances_never_make_it_much_worse(repo: Repo) -> None:
    """Row by row the mean falls (or rises by a scheduling anomaly's few percent), never below the bound; the 90th percentile is no
    less than the mean; enough is the first within five percent of the best."""
    tasks = [
        Task(
            f"t{n}",
            ("ui", "api")[n % 2],
            goal="x",
            exec=("true",),
            estimate_s=length,
            after=[f"t{n // 3}"] if n > 4 else [],
        )
        for n, length in enumerate(LENGTHS * 2)
    ]
    told = _rehearsed(repo, *tasks)
    for row, following in zip(told.rows, told.rows[1:], strict=False):
        assert following.mean_s <= row.mean_s * 1.03
    assert all(row.bound_s <= row.mean_s <= row.p90_s for row in told.rows)
    best_s = min(row.mean_s for row in told.rows)
    assert told.rows[told.enough - 1].mean_s <= best_s * 1.05
    assert all(row.mean_s > best_s * 1.05 for row in told.rows[: told.enough - 1])
    assert told.rows[2].instances == told.configured.instances
    assert told.rows[2] == told.configured
    assert told.rows[-1].spare
    assert told == _rehearsed(repo, *tasks)


def test_a_chain_gains_nothing(repo: Repo) -> None:
    """Tasks one behind the other take as long with one instance as with many, one is enough, and the chain is named."""
    chain = [Task(f"t{n}", "ui", exec=("true",), estimate_s=10, after=[f"t{n - 1}"] if n else []) for n in range(6)]
    told = _rehearsed(repo, *chain)
    assert told.enough == 1
    assert told.rows[-1].mean_s == pytest.approx(told.rows[0].mean_s)
    assert told.rows[-1].bound_by == "path"
    assert told.rows[-1].bottleneck == "the chain t0 -> t1 -> ... -> t5"


@pytest.mark.parametrize(
    ("tasks", "max_instances", "bound_by", "bottleneck"),
    [
        ([("api", 5.0, ())] * 12 + [("ui", 1.0, ())] * 3, 20, "work", "the work of api"),
        ([("ui", 5.0, ("shared.py",))] * 4 + [("api", 1.0, ())] * 3, 20, "claims", "claims of shared.py"),
        ([("api", 5.0, ())] * 12 + [("ui", 5.0, ())] * 12, 2, "work", "max_instances = 2"),
    ],
)
def test_what_binds_is_named(
    repo: Repo, tasks: list[tuple[str, float, tuple[str, ...]]], max_instances: int, bound_by: str, bottleneck: str
) -> None:
    """The crew with too much work, the path that everybody wants, the cap on all instances: as the project is configured."""
    plan = [
        Task(f"t{n}", name, exec=("true",), estimate_s=length, writes=writes)
        for n, (name, length, writes) in enumerate(tasks)
    ]
    row = _rehearsed(repo, *plan, max_instances=max_instances).configured
    assert (row.bound_by, row.bottleneck) == (bound_by, bottleneck)


PLAN = """
[[task]]
id = "one"
specialist = "interface"
writes = ["a.py"]
exec = ["touch", "a.py"]

[[task]]
id = "two"
specialist = "interface"
writes = ["b.py"]
exec = ["touch", "b.py"]
"""


def test_plan_simulate_is_a_table_and_a_document_and_changes_nothing(repo: Repo, tmp_path: Path) -> None:
    """A table for people, a document with --json, the same each time; no run, ref or journal comes of it; --seeds alone is refused."""
    repo.commit({"a.py": "1\n", "b.py": "2\n"})
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN)
    first, second = (
        journeyman("plan", str(plan), "--simulate", "--seeds", "9", "--json", cwd=repo.path) for _ in range(2)
    )
    assert first.code == 0, first.err
    assert first.json == second.json
    told = first.json["simulation"]
    assert told["seeds"] == 9
    assert [row["instances_each"] for row in told["rows"]] == [1, 2]
    assert told["enough_instances"] == 2
    assert told["configured"]["instances"] == {"interface": 3}
    assert first.json["estimates"] == {"plan": 0, "learned": 0, "guess": 2}
    words = journeyman("plan", str(plan), "--simulate", cwd=repo.path).out
    assert "what binds" in words
    assert "<- enough" in words
    refused = journeyman("plan", str(plan), "--seeds", "9", cwd=repo.path)
    assert refused.code == 2
    assert "--simulate" in refused.err
    assert not (repo.path / ".git/journeyman").exists()
    assert not repo.git("for-each-ref", "refs/journeyman")


def test_a_plan_is_foretold_from_what_earlier_runs_took(repo: Repo, tmp_path: Path) -> None:
    """After a run the prediction comes from the lengths it had, which the journal keeps; reading them writes nothing."""
    repo.commit({"a.py": "1\n", "b.py": "2\n"})
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN)
    before = journeyman("plan", str(plan), "--json", cwd=repo.path).json
    assert journeyman("run", str(plan), "--json", cwd=repo.path).code == 0
    path = journal_path(Repository.open(repo.path))
    kept = path.read_bytes()
    after = journeyman("plan", str(plan), "--json", cwd=repo.path).json
    assert after["estimates"] == {"plan": 0, "learned": 2, "guess": 0}
    assert 0 < after["sequential_s"] != before["sequential_s"]
    assert path.read_bytes() == kept
