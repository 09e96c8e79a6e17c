"""Pauses: a spent quota and a spent budget end a run as `paused`, cost no attempt, and `resume` goes on from the last turn."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs
import pytest
import trio
from claude_stage import PLAIN, calls, edit, said, stage, task, tokens, usd
from conftest import Repo
from messages_faults import CATALOGUE, Fault, plan_limit
from messages_ledger import bought_twice
from messages_model import Reply, Request
from messages_worker import Worker
from trio.testing import MockClock

from runtime import Plan
from runtime.errors import BadInput
from runtime.execution import EXIT_PAUSED, exit_code
from runtime.limits import Gate
from specialists.claude import Claude

TWENTY = [f"f{number:02}" for number in range(20)]
CREW = attrs.evolve(PLAIN, instances=20, max_tokens=2_000)


@pytest.fixture
def shop(repo: Repo) -> Repo:
    """A repository with twenty files, and instructions that are long enough to be cached."""
    repo.commit({"AGENTS.md": "Be kind to the reader. " * 1000, **{f"{name}.py": "x = 1\n" for name in TWENTY}})
    return repo


def slowly(request: Any) -> Reply:
    """The worker, at a pace at which twenty work at the same time."""
    return attrs.evolve(Worker()(request), first_s=2.0)


@pytest.mark.parametrize("name", ["429-spend-limit", "429-plan-limit", "400-credit"])
async def test_a_quota_that_is_spent_in_the_middle_pauses_the_run(
    name: str, shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is in the middle of an answer gets it, and then waits for the resume with the rest; after it each goes on from its last turn,
    and what was paid for is not paid again."""
    faults = [Fault(range(12, 10_000), CATALOGUE[name])]
    async with stage(shop, patient_clock, monkeypatch, slowly, faults=faults, specialists=[CREW]) as there:
        report = await there.run([task(name, attempts=1) for name in TWENTY])
        assert (report.state, exit_code(report)) == ("paused", EXIT_PAUSED)
        assert {one.state for one in there.past(report.run).machine.records.values()} <= {"held", "ready", "done"}
        answered = [call for call in there.api.calls if call.outcome == "done"]
        assert len(answered) == 11
        there.api.faults.clear()
        report = await there.resume(report.run)
        assert report.ok, [one.error for one in report.tasks.values() if one.error]
        assert len([call for call in there.api.calls if call.outcome == "done"]) == 60
        there.assert_nothing_lost(report)


async def test_a_quota_that_is_still_spent_pauses_again_and_again(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five resumes before the quota is back: no attempt is used up, nothing is asked twice, and then it goes on."""
    async with stage(shop, patient_clock, monkeypatch, faults=[Fault(range(2, 8), plan_limit())]) as there:
        report = await there.run([task("f00", attempts=1)])
        for _ in range(5):
            assert report.state == "paused"
            report = await there.resume(report.run)
        report = await there.resume(report.run)
        assert report.ok
        assert Counter(call.status for call in there.api.calls) == {200: 3, 429: 6}
        there.assert_nothing_lost(report)


async def test_a_spent_quota_is_asked_again_by_the_next_run_of_the_same_process(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs with one gate, as a daemon's: each that begins or goes on finds out with one call, whatever the last was told, and pauses
    when the quota is still spent; once it is not, all of them come to their ends."""
    gate = Gate()
    async with stage(
        shop, patient_clock, monkeypatch, slowly, specialists=[CREW], claude=lambda: Claude(gate)
    ) as there:
        there.api.faults.append(Fault(range(1, 10_000), CATALOGUE["400-credit"]))
        first = await there.run([task("f00", attempts=1)])
        second = await there.run([task(name, attempts=1) for name in TWENTY[1:]])
        first = await there.resume(first.run)
        assert (first.state, second.state, len(there.api.calls)) == ("paused", "paused", 3)
        there.api.faults.clear()
        second = await there.resume(second.run)
        first = await there.resume(first.run)
        assert (first.ok, second.ok, patient_clock.current_time() < 60) == (True, True, True)
        there.assert_nothing_lost(second)


@pytest.mark.parametrize("unit", ["usd", "tokens"])
async def test_the_ledger_never_passes_the_budget_with_twenty_at_once(
    unit: str, shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty instances at once, a budget that a few of their calls use up, resumed with a larger one until all are done: by the server's
    ledger, at the same prices, it is never passed; it is used; and no answer is bought twice."""
    count = usd if unit == "usd" else tokens
    async with stage(shop, patient_clock, monkeypatch, slowly, specialists=[CREW]) as there:
        budget, step = (0.12, 0.02) if unit == "usd" else (60_000, 60_000)
        report = await there.run([task(name, attempts=1) for name in TWENTY], **{f"budget_{unit}": budget})
        pauses = 0
        while report.state == "paused":
            assert exit_code(report) == EXIT_PAUSED
            assert count(there.api) <= budget
            assert f"the budget of the run is {'$' if unit == 'usd' else ''}{budget}" in (report.paused or "")
            assert not bought_twice(there.api.calls)
            pauses += 1
            budget = round(budget + step, 4)
            report = await there.resume(report.run, **{f"budget_{unit}": budget})
        assert report.ok, [one.error for one in report.tasks.values() if one.error]
        assert count(there.api) <= budget
        assert pauses >= 2
        assert len(there.api.calls) == 60
        assert getattr(report.spent, unit) == pytest.approx(count(there.api))
        there.assert_nothing_lost(report)


async def test_a_budget_is_raised_while_the_run_goes_on(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A budget that the run would pause at, as above, is raised in the middle of it: it ends, calls that waited for room are made, and the
    journal has the new budget. Afterwards, and for an amount that is none, it is refused."""
    under_way = trio.Event()

    def model(request: Any) -> Reply:
        under_way.set()
        return slowly(request)

    async with stage(shop, patient_clock, monkeypatch, model, specialists=[CREW]) as there:

        async def raise_it() -> None:
            await under_way.wait()
            assert there.runtime is not None
            with pytest.raises(BadInput, match="budget_usd: -1 is not an amount"):
                await there.runtime.set_budget(-1)
            await there.runtime.set_budget(1.0)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(raise_it)
            report = await there.run([task(name, attempts=1) for name in TWENTY], budget_usd=0.12)
        assert report.ok, report.paused
        assert usd(there.api) <= 1.0
        assert there.past(report.run).machine.opened.plan["budget_usd"] == 1.0
        there.assert_nothing_lost(report)
        assert there.runtime is not None
        with pytest.raises(BadInput, match="no run goes on"):
            await there.runtime.set_budget(2.0)


@pytest.mark.parametrize("name", ["reset-at-3", "reset-at-0", "silence-300-at-0", "reset-before-headers"])
async def test_broken_streams_count_against_the_budget(
    name: str, shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers that break off are paid for, and counted, also before anything of them has come: the ledger stays below the budget when
    every second call is broken, and below what the report says."""
    faults = [Fault(range(1, 10_000, 2), CATALOGUE[name])]
    async with stage(shop, patient_clock, monkeypatch, slowly, faults=faults, specialists=[CREW]) as there:
        report = await there.run([task(name) for name in TWENTY], budget_usd=0.15)
        assert report.state == "paused"
        assert 0.0 < usd(there.api) <= report.spent.usd + 1e-9 <= 0.15 + 1e-9
        assert not bought_twice(there.api.calls)


async def test_a_part_holds_for_a_retry_and_for_a_wish(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part that is given with a retry holds from then on, and one that is taken away no more; a task that another wished for has the part
    of the task that it is made after."""
    async with stage(shop, patient_clock, monkeypatch, faults=[Fault((1, 2), CATALOGUE["401"])]) as there:
        report = await there.run([task("f00")])
        report = await there.retry(report.run, {"f00": {"budget_tokens": 10_000_000}})
        assert (report.state, len(there.api.calls)) == ("failed", 2)
        report = await there.retry(report.run, {"f00": {"budget_tokens": 10}})
        assert (report.state, len(there.api.calls)) == ("paused", 2)
        assert "the budget of task 'f00' is 10 tokens" in (report.paused or "")

    def model(request: Request) -> Reply:
        me = next(
            name for name in ("f00+1", "f01+1", "f00", "f01") if f"# Task `{name}`" in str(request.body["messages"][0])
        )
        asked, other = len(request.body["messages"]), {"f00": "f01", "f01": "f00"}.get(me)
        if other and asked == 1:
            return attrs.evolve(
                calls(("edit", {"file_path": f"{me}.py", "old_string": "1", "new_string": "2"})), first_s=3.0
            )
        if other and asked == 3:
            return attrs.evolve(calls(("request_file", {"path": f"{other}.py", "why": "add y"})), first_s=3.0)
        return said("done") if other else calls(("read", {"file_path": "f05.py"}))

    async with stage(shop, patient_clock, monkeypatch, model) as there:
        report = await there.run([task(name, budget_tokens=60_000) for name in ("f00", "f01")])
        assert report.state == "paused"
        spent = {name: record.spent for name, record in there.past(report.run).machine.records.items()}
        wished = [name for name in spent if "+" in name]
        assert wished
        assert all(0 < spent[name].tokens <= 60_000 for name in wished)


@pytest.mark.parametrize("unit", ["usd", "tokens"])
async def test_a_tasks_own_budget_holds_only_the_task(
    unit: str, shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that has spent its part waits; the others go on to their ends, and then the run is paused. With a larger part it goes on."""
    shop.commit({"AGENTS.md": "Be kind.", **{f"{name}.py": "x = 1\n" + "# more\n" * 150 for name in TWENTY}})
    part: dict[str, Any] = {"budget_usd": 0.044} if unit == "usd" else {"budget_tokens": 30_000}
    goal = "\n".join(f"READ {name}.py" for name in TWENTY) + "\n" + edit("f00.py", "1", "2")
    async with stage(shop, patient_clock, monkeypatch, slowly, specialists=[CREW]) as there:
        greedy = task("f00", goal=goal, attempts=1, **part)
        report = await there.run([greedy, *(task(name) for name in TWENTY[1:])])
        assert (report.state, exit_code(report)) == ("paused", EXIT_PAUSED)
        states = {name: record.state for name, record in there.past(report.run).machine.records.items()}
        assert states == {"f00": "held", **dict.fromkeys(TWENTY[1:], "done")}
        assert "the budget of task 'f00' is" in report.paused
        of_it = [call for call in there.api.calls if "# Task `f00`" in str(call.body["messages"][0])]
        assert 2 <= len(of_it) < 22
        assert not bought_twice(there.api.calls)


async def test_a_plans_budget_is_kept_and_a_runs_own_goes_before_it(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A budget in the plan holds for the run and for its resumes; one that is given to the run replaces it."""
    async with stage(shop, patient_clock, monkeypatch, slowly, specialists=[CREW]) as there:
        plan = Plan([task(name) for name in TWENTY], budget_tokens=40_000)
        report = await there.run(plan)
        assert report.state == "paused"
        before = len(there.api.calls)
        report = await there.resume(report.run)
        assert report.state == "paused"
        assert len(there.api.calls) == before
        report = await there.resume(report.run, budget_tokens=10_000_000)
        assert report.ok
        there.assert_nothing_lost(report)


async def test_a_budget_given_with_a_resume_holds_for_the_next_one(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a resume was given, for the run and for a task, is in the journal: when that resume ends early, the next one needs no word of
    it, and it is no less of a limit than the first was."""
    greedy = task("f00", budget_tokens=10)
    async with stage(shop, patient_clock, monkeypatch, specialists=[CREW]) as there:
        report = await there.run(Plan([greedy, task("f01")], budget_tokens=10))
        assert (report.state, len(there.api.calls)) == ("paused", 0)
        there.api.faults.append(Fault(range(1, 10_000), CATALOGUE["429-spend-limit"]))
        report = await there.resume(report.run, {"f00": {"budget_tokens": 200_000}}, budget_tokens=300_000)
        assert report.state == "paused"
        there.api.faults.clear()
        kept = there.past(report.run).machine
        assert kept.opened.plan["budget_tokens"] == 300_000
        assert kept.records["f00"].task.budget_tokens == 200_000
        report = await there.resume(report.run)
        assert report.ok, report.paused
        there.assert_nothing_lost(report)


async def test_an_answer_that_was_cut_short_for_the_budget_is_asked_again_after_it(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Near the budget's end an answer gets less room; one that does not fit pauses the run, and after the resume its turn is asked again
    with all the room it needs, its earlier turns kept."""
    shop.commit({"AGENTS.md": "Be kind."})
    long = "\n".join(f"line = {number}" for number in range(3000))
    goal = f"READ f01.py\nWRITE f00.py <<{long}>>"
    wide = attrs.evolve(PLAIN, max_tokens=64_000)
    async with stage(shop, patient_clock, monkeypatch, specialists=[wide]) as there:
        report = await there.run([task("f00", goal=goal, attempts=1)], budget_tokens=56_000)
        assert report.state == "paused", report.tasks["f00"].error
        assert "room for a short answer only" in report.paused
        report = await there.resume(report.run, budget_tokens=1_000_000)
        assert report.ok, report.tasks["f00"].error
        assert there.text(report, "f00.py") == long
        assert [(len(call.body["messages"]), call.body["max_tokens"]) for call in there.api.calls] == [
            (1, 8_192),
            (3, 8_192),
            (3, 64_000),
            (5, 64_000),
        ]
        there.assert_nothing_lost(report)
