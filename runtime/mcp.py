"""Journeyman's tools for models, over the Model Context Protocol: plan, refactor, run, watch, look, land; and delegations.

A client of the daemon's REST, whether that is this very process (`/mcp` on the daemon), another one (`journeyman mcp` beside a
daemon) or one that is started for it. Knows the protocol through the official SDK; decides nothing about runs.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote

import attrs
import httpx2
import trio
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ToolError
from mcp.server.transport_security import TransportSecuritySettings

from .core.task import Plan, Task
from .git import Repository, run_git
from .planfile import dump
from .report import OPEN, OVER
from .service.client import PATIENCE_S
from .service.guard import Application, Receive, Scope, Send

_MOST_LISTED: Final = 50  # tasks in an answer to a model
_INSTRUCTIONS: Final = (
    "Runs specialists over one git repository in parallel. A plan is tasks with the files each may write; a refactor is "
    "one task a file. "
    "Nothing touches the checkout until `land`. Call `plan` first: it costs nothing."
)


@attrs.define
class Rest:
    """The daemon's REST, for tools. `inside` asks in this process and may register repositories; `outside` may not."""

    inside: httpx2.AsyncClient
    outside: httpx2.AsyncClient
    default: str = ""  # the path of the repository that is meant when none is named

    def of(self, ctx: Context[Any, Any]) -> httpx2.AsyncClient:
        """The one for a request: what came over TCP may not do what needs the Unix socket."""
        request = ctx.request_context.request
        socket = request is None or getattr(request, "scope", {}).get("journeyman.socket", False)
        return self.inside if socket else self.outside

    async def ask(
        self, ctx: Context[Any, Any], method: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None,
        *, waits: bool = False,
    ) -> Any:  # fmt: skip
        """One request; `waits`: however long it takes. Raises ToolError with the problem's words."""
        client = self.of(ctx)
        patience = None if waits else client.timeout
        answer = await client.request(method, path, json=body, params=query, timeout=patience)
        if answer.status_code >= 400:
            told = answer.json()
            raise ToolError(f"{told['code']}: {told['detail']}")
        return answer.json() if answer.headers["content-type"].startswith("application/json") else answer.text

    async def runs(self, ctx: Context[Any, Any], repository: str) -> str:
        """The address of a repository's runs; it is named by its path or its id. Raises ToolError."""
        wanted = repository or self.default
        if not wanted:
            raise ToolError("repository: name one, by its absolute path or its id")
        if not wanted.startswith("/"):
            return f"/v1/repositories/{quote(wanted, safe='')}/runs"
        for one in await self.ask(ctx, "GET", "/v1/repositories"):
            if one["path"] == wanted and not one["away"]:
                return f"/v1/repositories/{one['id']}/runs"
        made = await self.ask(ctx, "POST", "/v1/repositories", {"path": wanted})
        return f"/v1/repositories/{made['id']}/runs"


class Inside:
    """An application as its own process asks it: without a guard, as if over the Unix socket or not."""

    def __init__(self, app: Application, *, socket: bool) -> None:
        self.app = app
        self.socket = socket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["journeyman.socket"] = self.socket
        scope["journeyman.port"] = None
        await self.app(scope, receive, send)


def rest_inside(app: Application, default: str = "") -> Rest:
    """The REST of an application in this process."""

    def client(socket: bool) -> httpx2.AsyncClient:
        transport = httpx2.ASGITransport(app=Inside(app, socket=socket))
        return httpx2.AsyncClient(transport=transport, base_url="http://localhost", timeout=None)

    return Rest(client(True), client(False), default)


def rest_over(socket: Path, default: str = "") -> Rest:
    """The REST of the daemon that listens on a Unix socket."""
    client = httpx2.AsyncClient(
        transport=httpx2.AsyncHTTPTransport(uds=str(socket)), base_url="http://localhost", timeout=PATIENCE_S
    )
    return Rest(client, client, default)


@asynccontextmanager
async def mounted(app: Application) -> AsyncIterator[Application]:
    """`/mcp` for a daemon: the ASGI application, served while the block lasts. The guard has checked who asks."""
    server = build(rest_inside(app))
    server.streamable_http_app(transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False))
    manager = server.session_manager

    class Endpoint:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await manager.handle_request(scope, receive, send)

    async with manager.run():
        yield Endpoint()


def build(rest: Rest) -> MCPServer[Any]:
    """The server with its tools and resources."""
    server: MCPServer[Any] = MCPServer("journeyman", version=version("journeyman"), instructions=_INSTRUCTIONS)
    _add_runs(server, rest)
    _add_looking(server, rest)
    _add_delegations(server, rest)
    _add_resources(server, rest)
    return server


# --- runs --------------------------------------------------------------------------------------------------------


def _add_runs(server: MCPServer[Any], rest: Rest) -> None:
    @server.tool()
    async def plan(
        ctx: Context, plan: dict[str, Any] | str, repository: str = "", format: str = "json"
    ) -> dict[str, Any]:
        """What a plan will do, before anything is done: levels, claims, conflicts and their order, predicted time and cost,
        whether running in parallel pays. `plan` is a plan file's content: {"plan": {...}, "task": [{"id", "specialist",
        "writes", "goal" or "rewrite"/"codemod"/"exec", "after"}]}, or its text with `format` toml or yaml.
        """
        runs = await rest.runs(ctx, repository)
        told = await rest.ask(ctx, "POST", f"{runs.removesuffix('/runs')}/outlook", {"plan": plan, "format": format})
        return dict(told)

    @server.tool()
    async def run(
        ctx: Context, plan: dict[str, Any] | str, repository: str = "", format: str = "json", wait: bool = True,
        land: bool = False, instances: int | None = None, budget_usd: float | None = None, key: str = "",
    ) -> dict[str, Any]:  # fmt: skip
        """Run a plan (see `plan` for its form). With `wait` it answers when the run has ended, and reports progress on the way;
        else at once with the run's name. `land` brings a green result onto the branch. The same `key` and plan never run twice.
        """
        runs = await rest.runs(ctx, repository)
        body = {"plan": plan, "format": format, "settings": _settings(land, instances, budget_usd), "client": "mcp"}
        return await _hand_over(rest, ctx, runs, runs, body, wait, key)

    @server.tool()
    async def refactor(
        ctx: Context, paths: list[str], repository: str = "", pattern: str = "", replacement: str = "", language: str = "",
        codemod: str = "", exec: list[str] | None = None, goal: str = "", checks: list[str] | None = None, batch: int | None = None,
        exclude: list[str] | None = None, wait: bool = True, land: bool = False, instances: int | None = None,
        budget_usd: float | None = None, key: str = "",
    ) -> dict[str, Any]:  # fmt: skip
        """One change over many files, one task a file: a structural rewrite (`pattern`, `replacement`, `language`), a LibCST
        `codemod`, a program (`exec`, an argv with {file}), or a `goal` in words for Claude. `paths` are files, folders or globs
        of tracked files. The same `key` and arguments never run twice.
        """
        rewrite = {"pattern": pattern, "replace": replacement, "language": language} if pattern else None
        wish = {
            "paths": paths, "rewrite": rewrite, "codemod": {"name": codemod} if codemod else None, "exec": exec, "goal": goal,
            "checks": checks or [], "batch": batch, "exclude": exclude or [],
        }  # fmt: skip
        runs = await rest.runs(ctx, repository)
        body = {"refactor": wish, "settings": _settings(land, instances, budget_usd), "client": "mcp"}
        return await _hand_over(rest, ctx, runs, f"{runs.removesuffix('/runs')}/refactors", body, wait, key)

    @server.tool()
    async def land(
        ctx: Context, run: str, repository: str = "", message: str = "", keep_commits: bool = False
    ) -> dict[str, Any]:
        """Bring a run's result onto the branch that is checked out, as one commit. Refused while a check is red."""
        runs = await rest.runs(ctx, repository)
        body = {"message": message, "keep_commits": keep_commits}
        return dict(await rest.ask(ctx, "POST", f"{runs}/{quote(run, safe='')}/land", body))

    @server.tool()
    async def undo(
        ctx: Context, run: str, repository: str = "", task: str = "", everything: bool = False
    ) -> dict[str, Any]:
        """Take a run's last step back; with `task`, only that task's change. What has landed comes off the branch by a
        reverting commit."""
        runs = await rest.runs(ctx, repository)
        body = {"task": task, "everything": everything}
        return dict(await rest.ask(ctx, "POST", f"{runs}/{quote(run, safe='')}/undo", body))

    @server.tool()
    async def redo(ctx: Context, run: str, repository: str = "", everything: bool = False) -> dict[str, Any]:
        """Bring back what the last undo took."""
        runs = await rest.runs(ctx, repository)
        return dict(await rest.ask(ctx, "POST", f"{runs}/{quote(run, safe='')}/redo", {"everything": everything}))

    @server.tool()
    async def cancel(ctx: Context, run: str, repository: str = "", task: str = "") -> dict[str, Any]:
        """End a run, or one task of it. What is done is kept."""
        runs = await rest.runs(ctx, repository)
        return dict(await rest.ask(ctx, "POST", f"{runs}/{quote(run, safe='')}/cancel", {"task": task}))

    @server.tool()
    async def pause(ctx: Context, run: str, repository: str = "") -> dict[str, Any]:
        """Start nothing more of a run; answers when what goes on has ended. `resume` goes on with it."""
        runs = await rest.runs(ctx, repository)
        return dict(await rest.ask(ctx, "POST", f"{runs}/{quote(run, safe='')}/pause", {}, waits=True))

    @server.tool()
    async def resume(
        ctx: Context, run: str, repository: str = "", budget_usd: float | None = None, budget_tokens: int | None = None,
        wait: bool = True,
    ) -> dict[str, Any]:  # fmt: skip
        """Go on with a run that is paused or was interrupted, from where it was. One that paused because its budget is spent needs a
        larger one, for the whole run."""
        more = {"budget_usd": budget_usd, "budget_tokens": budget_tokens}
        return await _again(rest, ctx, repository, run, "resume", more, wait)

    @server.tool()
    async def retry(ctx: Context, run: str, repository: str = "", task: str = "", wait: bool = True) -> dict[str, Any]:
        """Try again what failed in a run, and what was skipped for it; or one `task` of that, with what belongs to it."""
        return await _again(rest, ctx, repository, run, "retry", {"task": task}, wait)


async def _again(
    rest: Rest, ctx: Context[Any, Any], repository: str, run: str, verb: str, body: dict[str, Any], wait: bool
) -> dict[str, Any]:
    address = f"{await rest.runs(ctx, repository)}/{quote(run, safe='')}"
    await rest.ask(ctx, "POST", f"{address}/{verb}", body)
    if wait:
        await _follow(rest, ctx, address)
    return _brief(await rest.ask(ctx, "GET", address))


def _settings(land: bool, instances: int | None, budget_usd: float | None) -> dict[str, Any]:
    return {"land": land, "instances": instances, "budget_usd": budget_usd}


async def _hand_over(
    rest: Rest, ctx: Context[Any, Any], runs: str, address: str, body: dict[str, Any], wait: bool, key: str
) -> dict[str, Any]:
    client = rest.of(ctx)
    answer = await client.post(address, json=body, headers={"idempotency-key": key} if key else {})
    told = answer.json()
    if answer.status_code >= 400:
        raise ToolError(f"{told['code']}: {told['detail']}")
    if wait:
        await _follow(rest, ctx, f"{runs}/{told['run']}")
        told = await rest.ask(ctx, "GET", f"{runs}/{told['run']}")
    return _brief(told)


async def _follow(rest: Rest, ctx: Context[Any, Any], run: str) -> None:
    """Report progress until the run has ended."""
    start, before = 1, -1
    told: dict[str, Any] = {"state": ""}
    while told["state"] not in (*OVER, *OPEN):
        told = await rest.ask(ctx, "GET", f"{run}/news", None, {"from": start})
        start = told["seq"] + 1
        words = told["waits"] or "; ".join(told["news"][-3:]) or told["state"]
        if told["done"] > before:  # the specification wants each figure to be larger than the last
            await ctx.report_progress(told["done"], max(1, told["total"]), words)
            before = told["done"]


def _brief(told: dict[str, Any]) -> dict[str, Any]:
    """A run's document as a model should read it: everything that went wrong, and of what went well the count."""
    wrong = {name: task for name, task in told["tasks"].items() if task["state"] not in ("done", "waiting", "ready")}
    listed = dict(list(wrong.items())[:_MOST_LISTED])
    kept = (
        "run", "repository", "state", "ok", "title", "base", "commit", "line", "landed", "counts", "makespan_s", "bound_s",
        "utilization", "steals", "cost", "checks", "waits", "error", "culprit",
    )  # fmt: skip
    return {
        **{name: told[name] for name in kept},
        "tasks": len(told["tasks"]),
        "not_done": {name: {"state": task["state"], "error": task["error"]} for name, task in listed.items()},
        "not_listed": len(wrong) - len(listed),
    }


# --- looking -----------------------------------------------------------------------------------------------------


def _add_looking(server: MCPServer[Any], rest: Rest) -> None:
    @server.tool()
    async def status(ctx: Context, run: str = "", repository: str = "", task: str = "") -> dict[str, Any]:
        """A run as it stands; with `task`, everything that happened to it; without `run`, the last runs."""
        runs = await rest.runs(ctx, repository)
        if not run:
            return {"runs": await rest.ask(ctx, "GET", runs, None, {"limit": _MOST_LISTED})}
        if task:
            path = f"{runs}/{quote(run, safe='')}/tasks/{quote(task, safe='/')}"
            return dict(await rest.ask(ctx, "GET", path))
        return _brief(await rest.ask(ctx, "GET", f"{runs}/{quote(run, safe='')}"))

    @server.tool()
    async def diff(ctx: Context, run: str, repository: str = "", task: str = "", stat: bool = False) -> str:
        """A run's result, or one task's change, as a unified diff; with `stat`, a summary."""
        runs = await rest.runs(ctx, repository)
        query = {"stat": json.dumps(stat), **({"task": task} if task else {})}
        return str(await rest.ask(ctx, "GET", f"{runs}/{quote(run, safe='')}/diff", None, query))


def _add_resources(server: MCPServer[Any], rest: Rest) -> None:
    async def read(ctx: Context[Any, Any], path: str) -> Any:
        try:
            return await rest.ask(ctx, "GET", path)
        except ToolError as error:
            raise ResourceError(str(error)) from None

    @server.resource("journeyman://{repository}/runs/{run}/report", mime_type="application/json")
    async def report(repository: str, run: str, ctx: Context) -> str:
        """A run's whole document."""
        told = await read(ctx, f"/v1/repositories/{quote(repository, safe='')}/runs/{quote(run, safe='')}")
        return json.dumps(told, indent=1)

    @server.resource("journeyman://{repository}/runs/{run}/diff", mime_type="text/x-diff")
    async def result(repository: str, run: str, ctx: Context) -> str:
        """A run's result as a unified diff."""
        return str(await read(ctx, f"/v1/repositories/{quote(repository, safe='')}/runs/{quote(run, safe='')}/diff"))


# --- delegations ---------------------------------------------------------------------------------------------------

_AREAS: Final = (("service", ()), ("interface", ()), ("test", ("service", "interface")))
"""(specialist, the specialists whose work it comes after)"""


def _add_delegations(server: MCPServer[Any], rest: Rest) -> None:
    @server.tool()
    async def autonomous_build_and_deploy(
        ctx: Context, task: str, working_directory: str, github_repo_name: str | None = None, existing_repo: str | None = None,
        mode: Literal["new_project", "fix_bugs", "add_feature", "enhance", "upgrade_deps", "refactor"] = "new_project",
        enable_test_loop: bool = True, max_test_iterations: int = 3, timeout_minutes: float = 90.0, use_parallel: bool = True,
        incremental: bool = False, force_rebuild: bool = False, budget_usd: float = 10.0,
    ) -> dict[str, Any]:  # fmt: skip
        """Have specialists work on a task in a folder: one task for services, one for the interface, one for tests that comes
        after both. Runs in the background; the answer has a `task_id` for `get_delegation_result`. The result is on a line of
        its own until `land`: nothing is deployed. In an empty folder `new_project` makes a repository. It spends at most
        `budget_usd` US dollars, and pauses there.
        """
        if github_repo_name or existing_repo:
            raise ToolError("github_repo_name, existing_repo: publishing is not built in; land the result and push it")
        if not task.strip():
            raise ToolError("task: it is empty")
        if not 1 <= max_test_iterations <= 20 or not 0 < timeout_minutes <= 24 * 60:
            raise ToolError("max_test_iterations is from 1 to 20, timeout_minutes above 0 and at most 1440")
        folder = Path(working_directory)
        if not folder.is_absolute():
            raise ToolError("working_directory: it must be absolute")
        if mode == "new_project" and rest.of(ctx) is rest.inside:
            await trio.to_thread.run_sync(_make_repository, folder)
        runs = await rest.runs(ctx, str(folder))
        attempts = max_test_iterations if enable_test_loop else 1
        plan = Plan(
            [
                Task(name, name, goal=task, after=after, attempts=attempts, timeout_s=timeout_minutes * 60)
                for name, after in _AREAS
            ],
            name=task.strip().splitlines()[0][:80],
        )
        settings = {"sequential": not use_parallel, "budget_usd": budget_usd}
        body = {"plan": dump(plan), "settings": settings, "client": "delegation"}
        told = await _hand_over(rest, ctx, runs, runs, body, False, "")
        return {"task_id": f"{told['repository']}/{told['run']}", "status": _delegation_state(told), "task": task}

    @server.tool()
    async def get_delegation_result(ctx: Context, task_id: str, include_full_output: bool = False) -> dict[str, Any]:
        """How a delegation stands: `status` is running, completed, failed or cancelled; with `include_full_output` its diff
        too.
        """
        run = _delegation(task_id)
        told = await rest.ask(ctx, "GET", run)
        answer = {"task_id": task_id, "status": _delegation_state(told), **_brief(told)}
        if include_full_output:
            answer["diff"] = await rest.ask(ctx, "GET", f"{run}/diff")
        return answer

    @server.tool()
    async def list_delegations(ctx: Context) -> dict[str, Any]:
        """All runs of all repositories, the newest last."""
        found = []
        for repository in await rest.ask(ctx, "GET", "/v1/repositories"):
            if repository["away"]:
                continue
            for one in await rest.ask(
                ctx, "GET", f"/v1/repositories/{repository['id']}/runs", None, {"limit": _MOST_LISTED}
            ):
                found.append(
                    {
                        "task_id": f"{repository['id']}/{one['run']}",
                        "status": _delegation_state(one),
                        "task": one["title"],
                        "started_at": one["started_at"],
                        "working_directory": repository["path"],
                    }
                )
        return {"delegations": sorted(found, key=lambda one: one["started_at"])}

    @server.tool()
    async def cancel_delegation(ctx: Context, task_id: str) -> dict[str, Any]:
        """End a delegation. What is done is kept on its line."""
        told = await rest.ask(ctx, "POST", f"{_delegation(task_id)}/cancel", {})
        return {"task_id": task_id, "status": _delegation_state(told)}


def _delegation(task_id: str) -> str:
    repository, _, run = task_id.partition("/")
    if not repository or not run:
        raise ToolError(f"task_id: {task_id[:100]!r} is not one of `list_delegations`")
    return f"/v1/repositories/{quote(repository, safe='')}/runs/{quote(run, safe='')}"


def _delegation_state(told: dict[str, Any]) -> str:
    state = str(told["state"])
    as_is = ("running", "cancelled", *OPEN)
    return state if state in as_is else {"done": "completed", "queued": "running"}.get(state, "failed")


def _make_repository(folder: Path) -> None:
    """A repository with an empty first commit, where there is nothing yet. Raises ToolError where there is something else."""
    if folder.exists() and any(folder.iterdir()):
        return
    folder.mkdir(parents=True, exist_ok=True)
    run_git(["init", "-q"], cwd=folder)
    repository = Repository.open(folder)
    name, address = repository.identity()
    author = ["-c", f"user.name={name}", "-c", f"user.email={address}"]
    run_git([*author, "commit", "-q", "--allow-empty", "-m", "An empty project"], cwd=folder)
