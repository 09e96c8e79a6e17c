"""README's "With Claude", as its user does it: the command line, processes, and a service that answers on the loopback."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from claude_stage import KEY, edit
from conftest import Repo
from daemon_process import DaemonProcess, ended
from messages_ledger import Call
from messages_process import MessagesProcess
from test_cli import journeyman

from runtime import Plan, Rewrite, RunReport, Task, aio, blocking
from specialists import BUILTIN, Ways

GOAL = "Turn 1 into 2.\nREPLACE {file} <<1>> <<2>>"
FILES = {"a.py": "x = 1\n", "b.py": "y = 1\n"}


@contextmanager
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> Iterator[MessagesProcess]:
    """A service, and an environment that points at it."""
    with MessagesProcess(tmp_path / "ledger", *options) as process:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", process.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        yield process


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MessagesProcess]:
    """One that nothing is wrong with."""
    with service(tmp_path, monkeypatch) as process:
        yield process


def test_a_spent_budget_holds_until_a_larger_one_is_given(repo: Repo, api: MessagesProcess) -> None:
    """`resume` alone asks nothing more of a run whose --budget-usd is spent, and says which flag goes on; with it the run ends well.
    A key that stands in the project's instructions is in no prompt."""
    repo.commit({**FILES, "AGENTS.md": f"The key is {KEY}."})
    done = journeyman("refactor", "--goal", GOAL, "*.py", "--budget-usd", "0.001", "--json", cwd=repo.path)
    assert (done.code, done.json["state"]) == (5, "paused")
    done = journeyman("resume", "r1", cwd=repo.path)
    assert done.code == 5
    assert "resume with a larger one to go on: --budget-usd MORE" in done.err
    assert api.calls == []
    done = journeyman("resume", "r1", "--budget-usd", "5", "--json", cwd=repo.path)
    assert (done.code, done.json["ok"]) == (0, True), done.err
    assert 0 < done.json["cost"]["usd"] < 5
    assert "The key is [redacted]." in str(api.calls[0].body["system"])
    assert not any(KEY in str(call.body) for call in api.calls)


def test_a_spent_quota_closes_the_daemon_for_nobody(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the daemon, whose runs share a gate: a run that pauses at a spent quota is resumed, finds it still spent with one call, and pauses
    again, long before the time it was told; then it is back, another run ends well and a last resume ends the first. No restart."""
    repo.commit(FILES)
    goal = GOAL.replace("{file}", "a.py"), GOAL.replace("{file}", "b.py")
    plans = [
        {"task": [{"id": path, "specialist": "service", "writes": [path], "goal": words}]}
        for path, words in zip(FILES, goal, strict=True)
    ]
    faults = ["--fault", "1=429-plan-limit", "--fault", "2=429-plan-limit"]
    with service(tmp_path, monkeypatch, *faults) as api:
        daemon = DaemonProcess(tmp_path)
        try:
            runs = daemon.register(repo)
            with daemon.client() as client:
                for plan, states in ((plans[0], ["paused", "paused"]), (plans[1], ["done"])):
                    made = client.post(runs, json={"plan": plan, "settings": {"yes": True}})
                    assert made.status_code == 201, made.text
                    address = made.headers["location"]
                    assert ended(client, address)["state"] == states[0]
                    for state in states[1:]:
                        assert client.post(f"{address}/resume", json={}).status_code < 300
                        assert ended(client, address)["state"] == state
                assert [call.status for call in api.calls][:3] == [429, 429, 200]
                assert client.post(f"{runs}/r1/resume", json={}).status_code < 300
                assert ended(client, f"{runs}/r1")["ok"]
        finally:
            daemon.close()


def one_at_a_time(calls: Sequence[Call]) -> bool:
    """Whether each call began after the one before can have ended: no answer of this service begins before `SLOW_S` are over."""
    begun = sorted(call.at_s for call in calls)
    return all(later - earlier >= 0.9 * SLOW_S for earlier, later in pairwise(begun))


def own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """The user's own file says this."""
    where = tmp_path / "config" / "journeyman" / "config.toml"
    where.parent.mkdir(parents=True)
    where.write_text(text)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


MANY = {f"m{number}.py": "x = 1\n" for number in range(4)}
SLOW_S = 0.1


@pytest.mark.parametrize(("at_once", "alone"), [(1, True), (50, False)])
def test_the_configurations_limits_hold_on_the_command_line(
    at_once: int, alone: bool, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`[limits]` of the repository over the user's own, of which the smaller number holds: with a concurrency of one the service never has
    two calls at once, and more with fifty. A stream that is silent for `stall_s` is asked again. What is wrong is told, and nothing is asked."""
    repo.commit({**MANY, "journeyman.toml": f"[limits]\nconcurrency = {at_once}\nstall_s = 100\n"})
    own_configuration(tmp_path, monkeypatch, "[limits]\nconcurrency = 30\nstall_s = 1\n")
    options = ["--first-s", str(SLOW_S), "--fault", "2=silence-300-at-3"]
    with service(tmp_path, monkeypatch, *options) as api:
        done = journeyman("refactor", "--goal", GOAL, "m*.py", "--yes", "--json", cwd=repo.path)
        assert (done.code, done.json["ok"]) == (0, True), done.err
        calls = api.calls
        assert (len(calls), one_at_a_time(calls)) == (13, alone)
        assert [call.outcome for call in calls if call.fault] == ["client left at event 3"]
        repo.write({"journeyman.toml": "[limits]\nconcurrency = 0\n"})
        done = journeyman("resume", "r1", cwd=repo.path)
        assert (done.code, "journeyman.toml:2: limits.concurrency: 0 is not from 1 to 1000" in done.err) == (2, True)


def test_the_users_own_limits_hold_for_all_of_the_daemon(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs at once behind the daemon's one gate: a concurrency of one in the user's own configuration is kept by both together, whatever
    the repository says of it; how long a stream may be silent is the repository's to say. A file that is wrong is told at the start."""
    repo.commit({**MANY, "journeyman.toml": "[limits]\nconcurrency = 50\nstall_s = 1\n"})
    own_configuration(tmp_path, monkeypatch, "[limits]\nconcurrency = 1\n")
    options = ["--first-s", str(SLOW_S), "--fault", "2=silence-300-at-3"]
    with service(tmp_path, monkeypatch, *options) as api:
        daemon = DaemonProcess(tmp_path)
        try:
            runs = daemon.register(repo)
            with daemon.client() as client:
                made = []
                for paths in (["m0.py", "m1.py"], ["m2.py", "m3.py"]):
                    tasks = [
                        {"id": one, "specialist": "service", "writes": [one], "goal": GOAL.replace("{file}", one)}
                        for one in paths
                    ]
                    answer = client.post(runs, json={"plan": {"task": tasks}, "settings": {"yes": True}})
                    assert answer.status_code == 201, answer.text
                    made.append(answer.headers["location"])
                assert [ended(client, address)["ok"] for address in made] == [True, True]
            assert (len(api.calls), one_at_a_time(api.calls)) == (13, True)
            daemon.stop()
            (tmp_path / "config/journeyman/config.toml").write_text("[limits]\nconcurrency = 0\n")
            done = daemon.journeyman("serve", cwd=daemon.folder)
            assert (done.returncode, "limits.concurrency: 0 is not from 1 to 1000" in done.stderr) == (2, True)
        finally:
            daemon.close()


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
    assert journeyman("resume", "r1", "--edit", "a.goal=x", cwd=repo.path).code == 2
    done = journeyman("resume", "r1", "--edit", "a.budget_tokens=100000", "--json", cwd=repo.path)
    assert (done.code, done.json["counts"]) == (0, {"done": 2}), done.err


def test_what_the_service_refuses_is_told_with_its_status(repo: Repo, api: MessagesProcess) -> None:
    """A model that there is not: the task fails at once, with the status, the error's type and the service's own words; with a budget
    of money, which needs a price, nothing is started."""
    repo.commit({**FILES, "journeyman.toml": '[specialists.service]\nmodel = "claude-none"\n'})
    done = journeyman("refactor", "--goal", GOAL, "a.py", "--yes", "--json", cwd=repo.path)
    assert done.code == 3
    assert done.json["tasks"]["a.py"]["error"].startswith("404 not_found_error: ")
    assert len(api.calls) == 1
    done = journeyman("refactor", "--goal", GOAL, "a.py", "--budget-usd", "1", cwd=repo.path)
    assert done.code == 2
    assert "claude-none: its price is not known" in done.err
    listed = journeyman("runs", cwd=repo.path).out
    assert listed.rstrip().endswith("Turn 1 into 2.")


def test_the_example_of_an_embedding_program_works_with_claude(repo: Repo, api: MessagesProcess) -> None:
    """`examples/embed_claude.py` as its reader runs it: done with a key, paused without one, and its words say so."""
    repo.commit(FILES)
    goal = "turn 1 into 2.\nREPLACE a.py <<1>> <<2>>"
    words = [sys.executable, str(Path(__file__).parent.parent / "examples" / "embed_claude.py"), goal, "a.py"]
    done = subprocess.run(words, cwd=repo.path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "a.py done" in done.stdout
    assert repo.show("refs/journeyman/r1/line", "a.py") == b"x = 2\n"
    assert repo.git("status", "--porcelain") == ""


def test_an_embedding_program_without_a_key_is_told_what_is_missing(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without any credentials the run is paused, and says which variable to set; a resume with a key can go on."""
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    repo.commit(FILES)
    with blocking.Runtime(BUILTIN, repo=repo.path, ways=Ways()) as rt:
        report = rt.run(Plan([Task("a", "service", goal="x", writes=("a.py",))]))
    assert report.state == "paused"
    assert "ANTHROPIC_API_KEY" in report.paused


def _plan() -> Plan:
    rewrite = Rewrite("y = $A", "z = $A", "python")
    return Plan(
        [
            Task("a", "service", goal=edit("a.py", "1", "2"), writes=("a.py",)),
            Task("b", "service", rewrite=rewrite, writes=("b.py",)),
        ]
    )


def _blocking(repo: Repo, ways: Ways) -> RunReport:
    with blocking.Runtime(BUILTIN, repo=repo.path, ways=ways) as rt:
        return rt.run(_plan())


def _asyncio(repo: Repo, ways: Ways) -> RunReport:
    async def main() -> RunReport:
        async with aio.Runtime(BUILTIN, repo=repo.path, ways=ways) as rt:
            return await rt.run(_plan())

    return asyncio.run(main())


@pytest.mark.parametrize("go", [_blocking, _asyncio])
def test_all_ways_work_from_plain_code_and_from_asyncio(repo: Repo, api: MessagesProcess, go: object) -> None:
    """`ways=` is all that it takes: Claude and a rewrite in one plan, and afterwards neither client nor worker process is left."""
    repo.commit(FILES)
    ways = Ways(1)
    report = go(repo, ways)  # type: ignore[operator]
    assert report.ok, [one.error for one in report.tasks.values()]
    assert repo.show(report.commit, "b.py") == b"z = 1\n"
    assert ways.claude.client is not None
    assert ways.claude.client.is_closed()
    assert ways.workers.started == 1
    assert not ways.workers._live
