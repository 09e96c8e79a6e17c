"""The live view is a pure fold: what it shows follows from the notices, and fits the terminal."""

from __future__ import annotations

import pytest
import trio.testing

from runtime import Plan, Runtime, Specialist, Task
from runtime.core import commands as cmd
from runtime.core import events as ev
from runtime.errors import ClaimViolation
from runtime.handles import Notice
from runtime.progress import Progress, because


async def _notices() -> list[Notice]:
    async def handler(brief, workspace):  # type: ignore[no-untyped-def]
        await trio.sleep(len(brief.task.id) ** 3 % 17)  # uneven, so that there is something to steal
        if brief.task.id.startswith("bad"):
            raise ValueError("no")
        return

    crew = [Specialist("interface", handler, helps=("test",)), Specialist("test", handler, instances=2)]
    async with Runtime(crew, backoff_s=0.1) as rt:
        tasks = [Task(f"task-{'x' * n}", "interface" if n % 3 else "test") for n in range(25)]
        await rt.run(Plan([*tasks, Task("bad", "test"), Task("behind", "test", after=("bad",))]))
        return rt.notices()


@pytest.mark.parametrize("width", [20, 40, 80, 200])
async def test_the_view_fits_at_every_moment(width: int, autojump_clock: trio.testing.MockClock) -> None:
    """After every notice of a run with failures and steals the view has no line that is too long and no line too many, and done + running
    + waiting + failed is the number of tasks."""
    progress = Progress()
    for notice in await _notices():
        progress.take(notice)
        lines = progress.render(notice.at_s, width, {"interface-1": "at its work " * 10}, rows=12)
        assert all(len(line) <= width for line in lines), lines
        assert len(lines) <= 12
        assert sum(progress.counts().values()) == len(progress.estimates)
    assert progress.steals > 0
    assert progress.states["bad"] == "failed"
    assert progress.states["behind"] == "skipped"


def test_what_has_not_begun_shows_nothing() -> None:
    """A run that is refused before it has a task leaves no empty bar above the refusal."""
    assert Progress().render(0.0, 80) == []


def test_a_reason_is_one_that_can_be_read() -> None:
    """Three hundred paths in why a task failed are cut in a line for people, and the task is not named twice."""
    error = ClaimViolation("t", [f"src/__pycache__/module_{number}.pyc" for number in range(300)])
    assert because("t", str(error)).startswith(
        "task 't' changed paths outside its claims: src/__pycache__/module_0.pyc, "
    )
    assert len(because("t", str(error))) <= 600
    assert because("a.py", "a.py: exit code 1") == "exit code 1"


def test_what_was_bought_is_shown_as_it_is_spent() -> None:
    """Dollars and tokens of answers, and of answers that were lost, are in the view; without any there is no word of money."""
    progress = Progress()
    progress.take(Notice(0, 0.5, ev.Submitted("g1", (Task("t", "interface"),))))
    assert "$" not in "".join(progress.render(0.0, 80))
    progress.take(Notice(1, 1.0, ev.Answered("t", 1, 1, spent=ev.Spent(input=10, cache_read=90, output=20, usd=0.25))))
    progress.take(Notice(2, 2.0, ev.Charged("t", 1, ev.Spent(input=30, usd=0.5), "broken off")))
    assert "$0.75, 150 tokens, 90 of them cached" in progress.render(3.0, 80)[1]


def test_the_instances_of_a_dead_process_are_shown_no_more() -> None:
    """After a crash and a resume the view has the new process's instances alone, and nothing runs until it is started again."""
    progress = Progress()
    told = [
        ev.Submitted("g1", (Task("t", "interface"),)),
        cmd.Spawn("interface-1", "interface"),
        cmd.Start("t", 1, "interface-1"),
        ev.Resumed(crashed=True),
        cmd.Spawn("interface-2", "interface"),
    ]
    for number, item in enumerate(told):
        progress.take(Notice(number, float(number), item))
    assert list(progress.lanes) == ["interface-2"]
    assert progress.counts()["running"] == 0
    progress.take(Notice(5, 5.0, ev.Resumed(crashed=False)))
    assert list(progress.lanes) == ["interface-2"]
