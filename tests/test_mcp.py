"""The tools for models, driven by the SDK's own client: over standard input and output, and over HTTP on the daemon."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio
from claude_stage import KEY
from conftest import Repo
from daemon_process import FILES, DaemonProcess, events, rewriting, waiting
from mcp import StdioServerParameters
from mcp.client.client import Client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from messages_api import serve
from messages_model import Reply, Request, ToolUse

# The SDK's HTTP client drops its event streams half read, which trio tells of when they are collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")

TOOLS = {
    "plan", "run", "refactor", "pause", "resume", "retry", "land", "undo", "redo", "cancel", "status", "diff",
    "autonomous_build_and_deploy", "get_delegation_result", "list_delegations", "cancel_delegation",
}  # fmt: skip


@asynccontextmanager
async def over_stdio(cwd: Path, **environment: str) -> AsyncIterator[Client]:
    """`journeyman mcp` as a process."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("JOURNEYMAN")}
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "runtime", "mcp"],
        env={**known, "XDG_STATE_HOME": str(cwd.parent / "alone"), **environment},
        cwd=cwd,
    )
    with open(os.devnull, "w") as quiet:
        async with Client(stdio_client(server, errlog=quiet)) as client:
            yield client


@asynccontextmanager
async def over_http(daemon: DaemonProcess, token: str = "") -> AsyncIterator[Client]:
    """`/mcp` on a daemon: over its socket, or with a token over TCP."""
    if token:
        http = httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}, timeout=60)
        url = f"http://127.0.0.1:{daemon.port}/mcp"
    else:
        http = httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(uds=str(daemon.socket)), timeout=60)
        url = "http://localhost/mcp"
    async with http, Client(streamable_http_client(url, http_client=http)) as client:
        yield client


async def told(client: Client, tool: str, **arguments: Any) -> Any:
    """A tool's answer."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content


async def refused(client: Client, tool: str, **arguments: Any) -> str:
    """Why a tool refused."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    return " ".join(getattr(one, "text", "") for one in result.content)


async def _whole_job(client: Client, repo: Repo) -> None:
    where = str(repo.path)
    assert {tool.name for tool in (await client.list_tools()).tools} == TOOLS
    foretold = await told(client, "plan", repository=where, plan=rewriting(0, 1))
    assert (foretold["tasks"], foretold["levels"]) == (2, [["t0", "t1"]])
    seen: list[tuple[float, float | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total))

    result = await client.call_tool("run", {"repository": where, "plan": rewriting(0, 1)}, progress_callback=note)
    ran = result.structured_content
    assert ran is not None
    assert (ran["state"], ran["ok"], ran["tasks"], ran["not_done"]) == ("done", True, 2, {})
    assert seen
    assert seen[-1] == (2, 2)
    assert "+log(1)" in (await told(client, "diff", repository=where, run=ran["run"]))["result"]
    assert (await told(client, "status", repository=where, run=ran["run"], task="t1"))["state"] == "done"
    wish = {
        "paths": ["src/m2.py", "src/m3.py"], "pattern": "print($A)", "replacement": "say($A)", "language": "python",
        "checks": ["git --version"], "key": "say",
    }  # fmt: skip
    changed = await told(client, "refactor", repository=where, **wish)
    assert changed["counts"] == {"done": 2}
    landed = await told(client, "land", repository=where, run=changed["run"], message="Say it")
    assert repo.git("rev-parse", "HEAD") == landed["commit"]
    assert (await told(client, "refactor", repository=where, **wish))["run"] == changed["run"]
    assert repo.show("HEAD", "src/m2.py") == b"say(2)\n"
    assert (await told(client, "undo", repository=where, run=changed["run"]))["ok"]
    assert repo.show("HEAD", "src/m2.py") == b"print(2)\n"
    assert (await told(client, "redo", repository=where, run=changed["run"]))["landed"]
    assert repo.show("HEAD", "src/m2.py") == b"say(2)\n"
    uri = f"journeyman://{ran['repository']}/runs/{ran['run']}"
    report = (await client.read_resource(f"{uri}/report")).contents[0]
    assert '"state": "done"' in report.text
    assert "+log(0)" in (await client.read_resource(f"{uri}/diff")).contents[0].text
    listed = await told(client, "list_delegations")
    assert [one["status"] for one in listed["delegations"]] == ["completed", "completed"]
    bad = {"task": [{"id": "a", "specialist": "cook"}]}
    assert "bad-plan" in await refused(client, "run", repository=where, plan=bad)
    assert "no-such-run" in await refused(client, "diff", repository=where, run="r99")


async def test_over_standard_input_without_a_daemon(repo: Repo) -> None:
    """Plan, run with progress, diff, refactor, land, resources: all of it in a process of its own that needs no daemon."""
    repo.commit(FILES)
    async with over_stdio(repo.path) as client:
        await _whole_job(client, repo)
        assert (await told(client, "status"))["runs"][0]["run"] == "r1"  # the repository around it is meant
    async with over_stdio(repo.path) as client:  # and the next one knows what the last did
        assert len((await told(client, "list_delegations"))["delegations"]) == 2


async def test_over_the_daemons_socket(daemon: DaemonProcess, repo: Repo) -> None:
    """The same over streamable HTTP on the daemon's Unix socket."""
    repo.commit(FILES)
    async with over_http(daemon) as client:
        await _whole_job(client, repo)


async def test_a_run_is_paused_and_resumed(daemon: DaemonProcess, repo: Repo, tmp_path: Path) -> None:
    """A paused run stays where it is until `resume`, which takes another budget and answers at the run's end; one that has ended is not
    gone on with."""
    repo.commit(FILES)
    where, runs, go = str(repo.path), daemon.register(repo), tmp_path / "go"
    held = {"task": [*waiting(go, 0)["task"], {**rewriting(1)["task"][0], "after": ["w0"]}]}
    async with over_http(daemon) as client:
        run = (await told(client, "run", repository=where, plan=held, wait=False))["run"]
        paused: list[Any] = []

        async def pause() -> None:
            paused.append(await told(client, "pause", repository=where, run=run))

        def see(kind: str) -> None:
            with daemon.client() as watcher:
                next(one for one in events(watcher, f"{runs}/{run}/events") if one[0] == kind)

        await trio.to_thread.run_sync(see, "started")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pause)
            await trio.to_thread.run_sync(see, "drain-requested")
            go.touch()
        assert paused == [{"run": run, "state": "paused"}]
        assert "bad-input" in await refused(client, "resume", repository=where, run=run, budget_usd=-1)
        went_on = await told(client, "resume", repository=where, run=run, budget_usd=2)
        assert (went_on["state"], went_on["counts"]) == ("done", {"done": 2})
        assert "wrong-state" in await refused(client, "resume", repository=where, run=run)


async def test_standard_input_beside_a_daemon_is_the_daemons(daemon: DaemonProcess, repo: Repo, tmp_path: Path) -> None:
    """With a daemon there is one queue: a run that was started over standard input is seen, and ended, over the socket."""
    repo.commit(FILES)
    runs = daemon.register(repo)
    async with over_stdio(repo.path, JOURNEYMAN_SOCKET=str(daemon.socket)) as client:
        started = await told(client, "run", plan=waiting(tmp_path / "go", 0), wait=False)
        assert started["state"] in ("queued", "running")
        waits = await told(client, "run", plan=waiting(tmp_path / "go", 0), wait=False)
        assert waits["waits"]["runs"] == ["r1"]
    with daemon.client() as http:
        assert http.post(f"{runs}/r1/cancel").json()["state"] == "cancelled"
        assert http.post(f"{runs}/r2/cancel").json()["state"] == "cancelled"
    (tmp_path / "go").touch()


async def test_over_tcp_only_with_the_token(tmp_path: Path, repo: Repo) -> None:
    """Over TCP the tools need the daemon's token, and a repository that is not registered stays out of reach."""
    repo.commit(FILES)
    daemon = DaemonProcess(tmp_path, "--tcp", "0")
    try:
        with pytest.raises(BaseExceptionGroup):
            async with over_http(daemon, "wrong" * 8):
                pass
        async with over_http(daemon, daemon.token) as client:
            assert "socket-only" in await refused(client, "status", repository=str(repo.path))
            assert "socket-only" in await refused(
                client, "autonomous_build_and_deploy", task="x", working_directory=str(tmp_path / "new")
            )
            daemon.register(repo)
            assert (await told(client, "status", repository=str(repo.path))) == {"runs": []}
    finally:
        daemon.close()
    assert not (tmp_path / "new").exists()


async def test_a_delegation_without_a_key_says_so(repo: Repo, tmp_path: Path) -> None:
    """The delegation's arguments are taken as their users know them; without a key for Claude nothing is started, and it is said."""
    async with over_stdio(repo.path, ANTHROPIC_API_KEY="", ANTHROPIC_AUTH_TOKEN="") as client:
        new = tmp_path / "weather"
        arguments = {"task": "Build a weather page", "working_directory": str(new), "use_parallel": True}
        said = await refused(
            client, "autonomous_build_and_deploy", **arguments, max_test_iterations=3, timeout_minutes=90
        )
        assert "ANTHROPIC_API_KEY" in said
        assert (new / ".git").is_dir()
        assert "github_repo_name" in await refused(
            client, "autonomous_build_and_deploy", **arguments, github_repo_name="x"
        )
        assert "task_id" in await refused(client, "get_delegation_result", task_id="nonsense")
        assert (await told(client, "list_delegations"))["delegations"] == []
        with trio.fail_after(10):
            assert "no-such" in await refused(client, "cancel_delegation", task_id="none-1/r1")


PLACES = {"service": "services/weather.py", "interface": "web/src/Weather.tsx", "test": "tests/test_weather.py"}


def _builder(request: Request) -> Reply:
    """A model that writes one file for each specialist's task, and ends."""
    name = re.search(r"# Task `(.+?)`", request.conversation)
    assert name is not None
    if request.turn:
        return Reply(f"Built {name[1]}.")
    comment = "//" if name[1] == "interface" else "#"
    return Reply([ToolUse("write", {"file_path": PLACES[name[1]], "content": f"{comment} weather\n"})])


async def test_a_delegation_from_an_empty_folder_to_the_landed_files(repo: Repo, tmp_path: Path) -> None:
    """A delegation makes its repository, works in the background with one task a component, tells how it stands, shows its diff, and lands."""
    repo.commit(FILES)
    new = tmp_path / "weather"
    async with (
        serve(_builder) as api,
        over_stdio(repo.path, ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL=api.url) as client,
    ):
        begun = await told(
            client, "autonomous_build_and_deploy", task="Build a weather page", working_directory=str(new)
        )
        assert begun["status"] == "running"
        with trio.fail_after(60):
            while (now := await told(client, "get_delegation_result", task_id=begun["task_id"]))["status"] == "running":
                await trio.lowlevel.checkpoint()
        assert (now["status"], now["counts"], now["not_done"]) == ("completed", {"done": 3}, {})
        whole = await told(client, "get_delegation_result", task_id=begun["task_id"], include_full_output=True)
        for path in PLACES.values():
            assert f"+++ b/{path}" in whole["diff"]
        (listed,) = (await told(client, "list_delegations"))["delegations"]
        assert (listed["task_id"], listed["task"], listed["working_directory"]) == (
            begun["task_id"],
            "Build a weather page",
            str(new),
        )
        landed = await told(client, "land", repository=str(new), run=now["run"])
        assert landed["ok"]
    assert (new / "services/weather.py").read_text() == "# weather\n"
    assert (new / "web/src/Weather.tsx").read_text() == "// weather\n"
