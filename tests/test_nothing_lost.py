"""Killed at any moment and resumed, a run ends as if nothing had happened."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from nothing_lost import git, leftovers, processes_at
from scene import Scene, Shape, kill_at_random
from zygote import Zygote

ROOT = Path(__file__).parent.parent
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


@pytest.mark.parametrize("point", ["journal.flush.after:2", "line.move.before", "line.move.after", "line.move.after:3"])
def test_a_killed_run_that_is_cancelled_leaves_no_task_open(scene: Scene, point: str) -> None:
    """Cancelled instead of resumed (and that killed too), every task of a killed run is in one final state: done is what is on the line, a change that was on its
    way there too, and nothing else is started for it. `retry` then does what is left, and the run ends as if undisturbed."""
    stage = scene.stage()
    assert stage.command("run", str(scene.folder / "plan.toml"), JOURNEYMAN_FAILPOINT=point).code == -9
    while processes_at(stage.repo, stage.cache):  # its children end by themselves
        pass
    assert stage.command("cancel", "r1", JOURNEYMAN_FAILPOINT="journal.flush.after:2").code == -9
    assert stage.command("cancel", "r1").code == 0
    states = {name: task["state"] for name, task in stage.command("show", "r1").json["tasks"].items()}
    assert set(states.values()) <= {"done", "cancelled", "skipped"}
    told = git(stage.repo, "log", "--format=%(trailers:key=Journeyman-Task,valueonly)", "HEAD..refs/journeyman/r1/line")
    assert {name for name, state in states.items() if state == "done"} == set(told.split())
    assert not list(leftovers(stage.repo, stage.cache))
    assert stage.command("retry", "r1").code == 0
    stage.judge()
    stage.strike()


def test_run_resume_goes_on_with_the_same_plan(scene: Scene, tmp_path: Path) -> None:
    """`run PLAN --resume`, given again after each kill, is one run, and ends as if undisturbed; of another plan, or of one that has ended, it
    is a new run."""
    stage = scene.stage()
    words = ["run", str(scene.folder / "plan.toml"), "--resume"]
    for point in ("journal.flush.after:3", "line.move.before", "line.move.after"):
        assert stage.command(*words, JOURNEYMAN_FAILPOINT=point).code == -9
    ended = stage.command(*words)
    assert (ended.code, ended.json["run"]) == (0, "r1")
    stage.judge()
    assert stage.command(*words, JOURNEYMAN_FAILPOINT="line.move.before").code == -9
    (tmp_path / "other.toml").write_text((scene.folder / "plan.toml").read_text().replace("echo new", "echo newer"))
    assert stage.command("run", str(tmp_path / "other.toml"), "--resume").json["run"] == "r3"
    assert stage.command(*words).json["run"] == "r2"
    assert stage.command(*words).json["run"] == "r4"
    assert stage.command(*words, "--dry-run").code == 2
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


SUBMITTER = """
import sys, trio
from runtime import Runtime, Specialist, Task
async def work(brief, workspace):
    await trio.sleep(0.001 * (hash(brief.task.id) % 7))
    return brief.task.payload
async def main():
    async with Runtime([Specialist("a", work, instances=3)], journal=sys.argv[1]) as rt:
        for number in range(100_000):
            await rt.submit(Task(f"t{number}", "a", payload=number))
            print(f"t{number}", flush=True)
trio.run(main)
"""
RESUMER = """
import json, sys, trio
from runtime import Runtime, Specialist
async def work(brief, workspace):
    return brief.task.payload
async def main():
    async with Runtime([Specialist("a", work, instances=3)], journal=sys.argv[1]) as rt:
        report = await rt.resume(sys.argv[2])
        print(json.dumps({name: [task.state, task.result] for name, task in report.tasks.items()}))
trio.run(main)
"""


@pytest.mark.parametrize("told", [1, 37, 150])
def test_every_acknowledged_submission_is_there_after_a_kill(tmp_path: Path, told: int) -> None:
    """Tasks are submitted one by one and each acknowledgement is noted outside; after kill -9 another process has all of them, and
    each comes to its one end with its own result."""
    journal = tmp_path / "j.db"
    process = subprocess.Popen(
        [sys.executable, "-c", SUBMITTER, str(journal)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    acknowledged = [process.stdout.readline().strip() for _ in range(told)]
    process.kill()
    acknowledged += process.stdout.read().split()  # what it had said before it died
    process.stdout.close()
    process.wait()
    done = subprocess.run(
        [sys.executable, "-c", RESUMER, str(journal), "r1"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    tasks = json.loads(done.stdout)
    assert set(acknowledged) <= set(tasks)
    assert all(tasks[name] == ["done", int(name[1:])] for name in tasks)
