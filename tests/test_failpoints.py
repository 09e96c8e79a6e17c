"""A kill at every point between two durable steps: done again, each verb ends as if nothing had happened."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from scene import Scene, Shape
from sessions import DAEMON, PHASES, Course, die_at, die_ending
from zygote import Zygote

from runtime.failpoints import POINTS

RUNTIME = Path(__file__).parent.parent / "runtime"


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Course]:
    """Every phase once, and a snapshot before each."""
    with Zygote() as zygote:
        yield Course.run(Scene.make(tmp_path_factory.mktemp("course"), zygote, Shape(tasks=3, sleep_s=0)))


def test_every_point_is_registered_and_in_the_code() -> None:
    """The register has every point of the code, and the code every point of the register."""
    found = set()
    for path in RUNTIME.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("hit", "failpoints.hit"):
                found.add(ast.unparse(node.args[0]).strip("'"))
    journal = {point for point in POINTS if point.startswith("journal.")} - {
        "journal.make.before",
        "journal.make.after",
    }
    assert found - {"f'journal.{what}.before", "f'journal.{what}.after"} == POINTS - journal


def test_every_point_is_reached(course: Course) -> None:
    """What a person does with a run reaches every registered point, but those that are killed at in the next test."""
    assert set(course.points()) | set(DAEMON) == POINTS


@pytest.mark.parametrize("point", DAEMON)
def test_a_kill_while_a_queued_run_is_ended(tmp_path: Path, point: str) -> None:
    """The process dies while it ends a run that was never begun: ended again, it is ended, and the journal is whole."""
    die_ending(tmp_path / "journal", point)


@pytest.mark.parametrize("point", sorted(POINTS - set(DAEMON)))
def test_a_kill_at_a_point_loses_nothing(course: Course, point: str) -> None:
    """The process dies at the point the first time a verb reaches it; the same verb, done again, ends as if it had not."""
    assert die_at(course, course.points()[point][0], [point]) == 1


@pytest.mark.parametrize("seed", range(4))
def test_kills_inside_recovery_three_deep(course: Course, seed: int) -> None:
    """A kill, a kill while going on after it, and a third one while going on after that."""
    rng = random.Random(seed)
    phase = rng.choice([phase for phase in PHASES if len(course.reached[phase.name]) > 6])
    points = rng.sample(sorted(set(course.reached[phase.name])), 3)
    assert die_at(course, phase, points) >= 1
