"""Every kind of bad plan in the corpus gets its one clear error. The plans and what is said about them are data."""

from __future__ import annotations

import tomllib
from functools import partial
from pathlib import Path

import pytest
from conftest import Repo

from runtime.claims import problem_with
from runtime.core.estimate import Estimator
from runtime.core.plan import problems
from runtime.core.task import Codemod, Plan, Specialist
from runtime.errors import BadInput, BadPlan
from runtime.git import Repository
from runtime.planfile import load
from runtime.preparation import prepare
from specialists.edits import known_languages
from specialists.ways import codemod_problem

CORPUS = Path(__file__).parent / "corpus" / "bad_plans"
EXPECTED: dict[str, list[str]] = tomllib.loads((CORPUS / "expected.toml").read_text("utf-8"))
SPECIALISTS = {name: Specialist(name) for name in ("interface", "service", "test")}
NEEDS_REPOSITORY = "base-no-commit.toml"


check = partial(
    problems,
    specialists=SPECIALISTS,
    languages=known_languages(),
    path_problem=problem_with,
    codemod_problem=codemod_problem("."),
)


@pytest.mark.parametrize("name", sorted(set(EXPECTED) - {NEEDS_REPOSITORY}))
def test_a_bad_plan_is_told_what_is_wrong_with_it(name: str) -> None:
    """Each part of the expected error is there; each line names the file; the exit code is 2."""
    with pytest.raises(BadPlan) as caught:
        load(CORPUS / name, check=check)
    told = str(caught.value).replace(str(CORPUS / name), name)
    assert [part for part in EXPECTED[name] if part not in told] == [], told
    assert all(line.startswith(name) for line in told.splitlines()), told
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", sorted(set(EXPECTED) - {NEEDS_REPOSITORY, "everything-at-once.toml"}))
def test_one_mistake_is_told_once(name: str) -> None:
    """What follows from a mistake that was told already is not told as another one."""
    with pytest.raises(BadPlan) as caught:
        load(CORPUS / name, check=check)
    assert len(caught.value.problems) <= len(EXPECTED[name])


def test_a_base_that_is_no_commit_is_refused(repo: Repo) -> None:
    """Only a repository can tell; it does before anything starts, and with exit code 2."""
    plan = load(CORPUS / NEEDS_REPOSITORY, check=check)
    with pytest.raises(BadInput, match="no-such-branch") as caught:
        prepare(plan, SPECIALISTS, Repository.open(repo.path), Estimator(), origin=NEEDS_REPOSITORY)
    assert caught.value.exit_code == 2


def test_every_bad_plan_is_expected_to_say_something() -> None:
    """The corpus and its table name the same files, thirty kinds at the very least."""
    assert {path.name for path in CORPUS.iterdir()} - {"expected.toml"} == set(EXPECTED)
    assert len(EXPECTED) >= 30
    assert all(EXPECTED.values())


def test_a_plan_without_mistakes_passes_the_same_check(tmp_path: Path) -> None:
    """The check of this file refuses bad plans, not plans."""
    good = tmp_path / "good.toml"
    good.write_text(
        '[plan]\nbase = "HEAD"\n\n[[task]]\nid = "card"\nspecialist = "interface"\nwrites = ["src/**/*.tsx", "docs/"]\n'
        'codemod = { name = "noop.NOOPCommand" }\n'
    )
    plan = load(good, check=check)
    assert isinstance(plan, Plan)
    assert plan.tasks[0].codemod == Codemod("noop.NOOPCommand")
