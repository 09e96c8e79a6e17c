"""Killed at any moment and resumed, a run ends as if nothing had happened."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from scene import Scene, Shape, kill_at_random
from zygote import Zygote

POISON = """
[[task]]
id = "poison"
specialist = "service"
writes = ["f0.txt"]
exec = ["sh", "-c", "kill -9 $PPID; sleep 5"]
[[task]]
id = "other"
specialist = "test"
writes = ["f1.txt"]
exec = ["sh", "-c", "sleep 0.2; echo x >> f1.txt"]
"""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One scene for all kills."""
    with Zygote() as zygote:
        yield Scene.make(tmp_path_factory.mktemp("scene"), zygote, Shape(rewrites=1))


@pytest.mark.parametrize("seed", range(6))
def test_kill_9_at_a_random_moment_loses_nothing(scene: Scene, seed: int) -> None:
    """`journeyman run` killed at random moments, its resumptions too, ends with the tree of an undisturbed run, each task
    committed once, the checkout as it was and nothing left behind."""
    stage = scene.stage()
    kill_at_random(stage, random.Random(seed), most=2)
    stage.judge()
    stage.strike()


def test_twenty_kills_of_one_run_lose_nothing(scene: Scene) -> None:
    """One run killed twenty times over, before anything of it can end, is not blamed on its tasks: resumed, it ends as if undisturbed."""
    stage = scene.stage()
    while not stage.kill_after(scene.length_s / 3) or not stage.run_name():
        pass
    for number in range(19):
        stage.kill_after(scene.length_s * (0.2 + number % 3 / 20))
    stage.run_on()
    stage.judge()
    stage.strike()


def test_a_task_that_kills_its_process_three_times_is_given_up(scene: Scene, tmp_path: Path) -> None:
    """`kill -9 $PPID` in a task: the run dies, and again when resumed; at the third time it is failed, and the rest is done."""
    stage = scene.stage()
    plan = tmp_path / "plan.toml"
    plan.write_text(POISON)
    words = ["run", str(plan)]
    codes = []
    for _ in range(6):
        ended = stage.command(*words)
        codes.append(ended.code)
        if ended.code != -9:
            break
        words = ["resume", "r1"]
    assert codes == [-9, -9, -9, 3], ended.said
    tasks = ended.json["tasks"]
    assert tasks["poison"]["state"] == "failed"
    assert "3 times when the process died" in tasks["poison"]["error"]
    assert tasks["other"]["state"] == "done"
    stage.strike()
