"""README's "With Claude", as its user does it: the command line, processes, and a service that answers on the loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from claude_stage import KEY, edit
from conftest import Repo
from messages_process import MessagesProcess
from test_cli import journeyman

GOAL = "Turn 1 into 2.\nREPLACE {file} <<1>> <<2>>"
FILES = {"a.py": "x = 1\n", "b.py": "y = 1\n"}


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MessagesProcess]:
    """A service, and an environment that points at it."""
    with MessagesProcess(tmp_path / "ledger") as process:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", process.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        yield process


def test_a_spent_budget_holds_until_a_larger_one_is_given(repo: Repo, api: MessagesProcess) -> None:
    """`resume` alone asks nothing more of a run whose --budget-usd is spent, and says which flag goes on; with it the run ends well."""
    repo.commit(FILES)
    done = journeyman("refactor", "--goal", GOAL, "*.py", "--budget-usd", "0.001", "--json", cwd=repo.path)
    assert (done.code, done.json["state"]) == (5, "paused")
    done = journeyman("resume", "r1", cwd=repo.path)
    assert done.code == 5
    assert "resume with a larger one to go on: --budget-usd MORE" in done.err
    assert api.calls == []
    done = journeyman("resume", "r1", "--budget-usd", "5", "--json", cwd=repo.path)
    assert (done.code, done.json["ok"]) == (0, True), done.err
    assert 0 < done.json["cost"]["usd"] < 5


def test_a_tasks_spent_budget_is_raised_by_its_name(repo: Repo, api: MessagesProcess, tmp_path: Path) -> None:
    """A task of a plan that has spent its own budget waits alone; `resume --edit TASK.budget_usd=MORE` goes on with it."""
    repo.commit(FILES)
    plan = tmp_path / "plan.toml"
    plan.write_text(
        f'[[task]]\nid = "a"\nspecialist = "service"\nwrites = ["a.py"]\nbudget_tokens = 10\ngoal = """{edit("a.py", "1", "2")}"""\n'
        f'[[task]]\nid = "b"\nspecialist = "service"\nwrites = ["b.py"]\ngoal = """{edit("b.py", "1", "2")}"""\n'
    )
    done = journeyman("run", str(plan), "--yes", "--json", cwd=repo.path)
    assert (done.code, done.json["counts"]) == (5, {"held": 1, "done": 1})
    assert 0 < done.json["utilization"] <= 1
    done = journeyman("resume", "r1", "--budget-usd", "9", cwd=repo.path)
    assert done.code == 5
    assert "--edit 'a.budget_tokens=MORE'" in done.err
    assert "journeyman retry" not in done.err
    for wrong in ("a.goal=x", "z.budget_tokens=3", "a.budget_tokens=many"):
        assert journeyman("resume", "r1", "--edit", wrong, cwd=repo.path).code == 2
    done = journeyman("resume", "r1", "--edit", "a.budget_tokens=100000", "--json", cwd=repo.path)
    assert (done.code, done.json["counts"]) == (0, {"done": 2}), done.err


def test_what_the_service_refuses_is_told_with_its_status(repo: Repo, api: MessagesProcess) -> None:
    """A model that there is not: the task fails at once, with the status, the error's type and the service's own words."""
    repo.commit({**FILES, "journeyman.toml": '[specialists.service]\nmodel = "claude-none"\n'})
    done = journeyman("refactor", "--goal", GOAL, "a.py", "--yes", "--json", cwd=repo.path)
    assert done.code == 3
    assert done.json["tasks"]["a.py"]["error"].startswith("404 not_found_error: ")
    assert len(api.calls) == 1
    listed = journeyman("runs", cwd=repo.path).out
    assert listed.rstrip().endswith("Turn 1 into 2.")
