"""Done is judged: what a model says is no evidence; its changes and the task's checks are."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from claude_stage import KEY, PLAIN, calls, edit, opening_of, stage, task
from conftest import Repo
from messages_model import Reply, Request, Scripted
from trio.testing import MockClock

READ = calls(("read", {"file_path": "a.py"}))
EDIT = calls(("edit", {"file_path": "a.py", "old_string": "1", "new_string": "2"}))
NOTHING = calls(("nothing_to_do", {"reason": "it is 1 already"}))
CHECK = "{python} test_a.py"


@pytest.fixture
def shop(repo: Repo) -> Repo:
    """A repository with a file and a check of it, which is red."""
    repo.commit({"a.py": "a = 1\n", "test_a.py": "from a import a\nprint(f'{a=}')\nassert a == 3\n"})
    return repo


def last_words(call: Any) -> str:
    """The text that a model was told last."""
    return "".join(block.get("text", "") for block in call.body["messages"][-1]["content"])


async def test_an_empty_change_is_asked_about_once_and_is_then_an_error(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that says it is done and has changed nothing is told so once; then the attempt fails as EmptyChange, and at last the task."""
    async with stage(
        shop, patient_clock, monkeypatch, Scripted(["All done!", "I have changed a.py as you asked."])
    ) as there:
        report = await there.run([task("a")])
        assert (report.state, report.tasks["a"].attempts) == ("failed", 3)
        assert report.tasks["a"].error == (
            "the model ended its turn with nothing changed: I have changed a.py as you asked."
        )
        assert len(there.api.calls) == 6
        assert "Nothing has changed" in last_words(there.api.calls[1])
        assert ": the one before failed" in opening_of(there.api.calls[2])
        there.assert_nothing_lost(report)


async def test_a_nudge_can_help(shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that works once it is told that nothing has changed is done in its first attempt."""
    async with stage(shop, patient_clock, monkeypatch, Scripted(["Done.", EDIT, "Now it is."])) as there:
        report = await there.run([task("a")])
        assert (report.state, report.tasks["a"].attempts) == ("done", 1)
        assert report.tasks["a"].result == {"summary": "Now it is.", "turns": 3}
        there.assert_nothing_lost(report)


async def test_nothing_to_do_is_reported_as_such(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that needs no change is done, without a commit, and its value is the reason."""
    async with stage(shop, patient_clock, monkeypatch, Scripted([READ, NOTHING, "Nothing to do."])) as there:
        report = await there.run([task("a")])
        assert report.ok
        assert report.tasks["a"].result == {"nothing_to_do": "it is 1 already"}
        assert report.tasks["a"].commit is None
        assert report.commit == report.base
        there.assert_nothing_lost(report)


async def test_nothing_to_do_is_refused_beside_changes_and_forgotten_with_them(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has changed something cannot say that there is nothing to do; who says so and then works has worked."""
    async with stage(shop, patient_clock, monkeypatch, Scripted([NOTHING, EDIT, NOTHING, "Done."])) as there:
        report = await there.run([task("a")])
        assert report.ok
        assert report.tasks["a"].result == {"summary": "Done.", "turns": 4}
        said = list(Request(0, there.api.calls[3].body).results())[-1]
        assert said == ("you have changed files; take the changes back first, or finish the task", True)


async def test_a_change_that_is_taken_back_is_no_change(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that are written again as they were are not a change."""
    script = [calls(("write", {"file_path": "a.py", "content": "a = 1\n"})), "Done.", "Really."]
    async with stage(shop, patient_clock, monkeypatch, Scripted(script)) as there:
        report = await there.run([task("a", attempts=1)])
        assert (report.state, report.tasks["a"].commit) == ("failed", None)


@pytest.mark.parametrize(("rounds", "state"), [(0, "failed"), (1, "done"), (2, "done")])
async def test_a_red_check_goes_back_with_its_output(
    rounds: int, state: str, shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task whose check is red goes back to the model with what the check said, `fix_rounds` times at most."""
    goal = f"{edit('a.py', 'a = 1', 'a = 2')}\nLATER\n{edit('a.py', 'a = 2', 'a = 3')}"
    async with stage(shop, patient_clock, monkeypatch) as there:
        report = await there.run([task("a", goal=goal, check=(CHECK,), fix_rounds=rounds, attempts=1)])
        assert report.tasks["a"].state == state
        there.assert_nothing_lost(report)
        if state == "failed":
            assert report.tasks["a"].error == f"still red: {CHECK}"
            assert "a=2" in report.tasks["a"].result["red"][CHECK]
            assert there.changed(report) == []
        else:
            assert there.text(report, "a.py") == "a = 3\n"
            back = next(words for words in map(last_words, there.api.calls) if "check is red" in words)
            assert f"{CHECK}: red (exit code 1)\na=2\n" in back


async def test_a_check_that_stays_red_ends_the_attempt(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `fix_rounds` the attempt has failed as ChecksRed, whatever the model says; the next begins anew on the files as they were."""
    async with stage(
        shop, patient_clock, monkeypatch, Scripted([EDIT, "Green now.", "Green now.", "Green now."])
    ) as there:
        report = await there.run([task("a", check=(CHECK,), attempts=2)])
        assert (report.state, report.tasks["a"].attempts, len(there.api.calls)) == ("failed", 2, 8)
        assert f"still red: {CHECK}" in opening_of(there.api.calls[4])
        assert there.changed(report) == []
        there.assert_nothing_lost(report)


async def test_a_model_can_run_the_checks_by_name_and_nothing_else(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`run_check` runs what plan, specialist and task declare, on the files as they are in the conversation; any other name is an error."""
    script = [
        calls(*(("run_check", {"name": name}) for name in (CHECK, "rm -rf /", "{python} -c 1", "ls", "ls -l"))),
        calls(("edit", {"file_path": "a.py", "old_string": "1", "new_string": "3"}), ("run_check", {"name": CHECK})),
        "Done.",
    ]
    helped = attrs.evolve(PLAIN, checks=("ls",))
    async with stage(shop, patient_clock, monkeypatch, Scripted(script), specialists=[helped]) as there:
        report = await there.run([task("a", check=(CHECK,))])
        assert report.ok
        said = list(Request(0, there.api.calls[2].body).results())
        assert [is_error for _, is_error in said] == [False, True, True, False, True, False, False]
        assert said[0][0].startswith(f"{CHECK}: red (exit code 1)\na=1\n")
        assert said[1][0] == f"there is no check 'rm -rf /'; there are: {CHECK}, ls"
        assert said[3][0] == "ls: green\na.py\ntest_a.py"
        assert said[6][0] == f"{CHECK}: green\na=3"


@pytest.mark.parametrize("before", [6000, 6000 - len(KEY) // 2])
async def test_a_key_is_no_half_key_where_a_checks_output_is_cut(
    before: int, shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a long output the model is told beginning and end: a key that a check prints where it is cut is told in no part, neither to
    the model that runs it nor to the one whose check is red."""
    code = f"print('y' * {before} + 'KEY' + 'z' * {12_000 - before} + 'KEY' + 'y' * {6000 - len(KEY) // 2})\nraise SystemExit(1)\n"
    shop.commit({"test_a.py": code.replace("KEY", KEY)})
    script = [calls(("run_check", {"name": CHECK})), EDIT, *["Done."] * 3]
    async with stage(shop, patient_clock, monkeypatch, Scripted(script)) as there:
        report = await there.run([task("a", check=(CHECK,), attempts=1)])
        assert report.tasks["a"].error == f"still red: {CHECK}"
        ((shown, _), *_) = Request(0, there.api.calls[1].body).results()
        assert "yyyyy" in shown
        for words in (shown, last_words(there.api.calls[3])):
            assert "characters left out" in words
            assert KEY[:4] not in words
            assert KEY[-4:] not in words


async def test_a_conversation_without_end_is_ended(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`max_turns` of the specialist end an attempt, and the task once its attempts are used up."""
    short = attrs.evolve(PLAIN, max_turns=4)
    async with stage(shop, patient_clock, monkeypatch, Scripted([READ] * 9), specialists=[short]) as there:
        report = await there.run([task("a", attempts=2)])
        assert (report.state, report.tasks["a"].attempts, len(there.api.calls)) == ("failed", 2, 8)
        assert report.tasks["a"].error == "4 turns, and no end; the limit is the specialist's max_turns"


async def test_an_answer_that_is_too_long_is_an_error_of_its_own(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that ends at `max_tokens` is never taken for a whole one, nor its half-made call done."""
    long = calls(("write", {"file_path": "a.py", "content": "a = 2\n" * 400}))
    brief = attrs.evolve(PLAIN, max_tokens=100)
    async with stage(shop, patient_clock, monkeypatch, Scripted([long]), specialists=[brief]) as there:
        report = await there.run([task("a", attempts=2)])
        assert (report.state, len(there.api.calls)) == ("failed", 2)
        assert report.tasks["a"].error == "the answer ended at its limit (max_tokens) in turn 1"
        assert there.changed(report) == []


async def test_a_task_without_a_repository_gives_words(
    patient_clock: MockClock, repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a repository there are no tools: the answer is the task's value."""
    from runtime import Plan, Runtime, Task
    from specialists import Ways

    async with stage(repo, patient_clock, monkeypatch, Scripted([Reply("Forty-two.")])) as there:
        ways = Ways()
        async with ways, Runtime(ways.equip([PLAIN])) as runtime:
            report = await runtime.run(Plan([Task("a", "worker", goal="How many?")]))
        assert report.tasks["a"].result == {"text": "Forty-two."}
        assert there.api.calls[0].body.get("tools", []) == []
