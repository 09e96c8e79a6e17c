"""A stage for conversations: a real repository, a Runtime with the ways, the real SDK, and the loopback Messages API, in one trio loop.

`Stage.run` runs a plan to its end, as `journeyman run` would in this process; each call is a new process as far as anybody can tell
(new machine, new gate, new client). Time is the test's clock.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import attrs
import pytest
import trio
import trio.testing
from conftest import Repo
from messages_api import Api, serve
from messages_faults import Fault
from messages_ledger import Call, bought_twice
from messages_model import Model, Reply, Request, Text, ToolUse
from messages_worker import Worker
from nothing_lost import Checkout, nothing_lost

from runtime import Plan, RunReport, Runtime, Specialist, Task
from runtime.core.task import Claims
from runtime.prices import load_prices
from runtime.runs import Past, load
from specialists import Ways
from specialists.claude import Claude

KEY = "sk-canary-5a1f9"
MODEL = "claude-sonnet-5-5"
PLAIN = Specialist("worker", instances=3, model=MODEL, prompt="You change what your task says.")


def edit(path: str, old: str, new: str) -> str:
    """A goal that the `Worker` model does."""
    return f"Change {path}.\nREPLACE {path} <<{old}>> <<{new}>>"


def task(name: str, path: str = "", goal: str = "", **fields: Any) -> Task:
    """A task that changes one file of its own; `goal` by default turns its 1 into 2."""
    path = path or f"{name}.py"
    fields = {"writes": (path,), **fields}
    return Task(name, "worker", goal=goal or edit(path, "1", "2"), **fields)


class HasCalls(Protocol):
    """A server, or a part of its ledger."""

    @property
    def calls(self) -> Sequence[Call]: ...


def usd(api: HasCalls) -> float:
    """What all calls of the ledger cost, at the prices that a budget is kept with."""
    total = 0.0
    for call in api.calls:
        if call.usage is not None:
            price = load_prices().of(call.model)
            used = call.usage
            prompt = used.input_tokens + used.cache_creation_input_tokens + used.cache_read_input_tokens
            assert price.long_prompt is None or prompt <= price.long_prompt.above_tokens
            weighted = (
                used.input_tokens
                + used.cache_creation_input_tokens * float(price.cache_write_5m_x)
                + used.cache_read_input_tokens * float(price.cache_read_x)
            )
            total += (weighted * float(price.input_usd) + used.output_tokens * float(price.output_usd)) / 1e6
    return total


def tokens(api: Api) -> int:
    """All tokens of the ledger's calls."""
    return sum(
        used.input_tokens + used.cache_creation_input_tokens + used.cache_read_input_tokens + used.output_tokens
        for used in (call.usage for call in api.calls)
        if used is not None
    )


@attrs.define
class Patience:
    """Virtual time beside sockets, threads and processes: `clock` never jumps while a thread of trio's or a child process is at work, or
    while `wait_for` says so. A plain MockClock takes their work for idleness, and jumps to whatever deadline is next."""

    clock: trio.testing.MockClock
    wait_for: Callable[[], bool] = lambda: False

    def __attrs_post_init__(self) -> None:
        jump = self.clock._autojump  # the class is final, so the instance is given another one

        def when_idle() -> None:
            at_work = trio.to_thread.current_default_thread_limiter().borrowed_tokens
            if not at_work and not _has_children() and not self.wait_for():
                jump()

        self.clock._autojump = when_idle


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


@attrs.define
class Stage:
    """One repository, one server. `specialists` are equipped with the ways for each run."""

    repo: Repo
    api: Api
    patience: Patience
    specialists: Sequence[Specialist] = (PLAIN,)
    claude: Callable[[], Claude] = Claude
    runtime: Runtime | None = None
    before: Checkout = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.before = Checkout.of(self.repo.path)

    async def run(self, what: Plan | Iterable[Task], *, claims: Claims = "strict", **options: Any) -> RunReport:
        """Run a plan, or tasks."""
        plan = what if isinstance(what, Plan) else Plan(what, claims=claims)
        async with self._open(**options) as runtime:
            return await runtime.run(plan)

    async def resume(self, run: str, edits: Mapping[str, Mapping[str, Any]] | None = None, **options: Any) -> RunReport:
        """Go on with a run, as another process."""
        async with self._open(**options) as runtime:
            return await runtime.resume(run, edits)

    async def retry(self, run: str, edits: Mapping[str, Mapping[str, Any]] | None = None, **options: Any) -> RunReport:
        """Try again what failed in a run, as another process."""
        async with self._open(**options) as runtime:
            return await runtime.retry(run, edits)

    @asynccontextmanager
    async def _open(self, **options: Any) -> AsyncIterator[Runtime]:
        ways = Ways(claude=self.claude())
        async with ways, Runtime(ways.equip(self.specialists), repo=self.repo.path, **options) as runtime:
            self.runtime = runtime
            self.patience.wait_for = lambda: _is_writing(runtime)
            yield runtime
        self.patience.wait_for = lambda: False

    def past(self, run: str) -> Past:
        """The run as its journal has it."""
        from runtime.git import Repository

        return load(Repository.open(self.repo.path), run)

    def text(self, report: RunReport, path: str) -> str:
        """A file on the run's line."""
        assert report.commit is not None
        return self.repo.show(report.commit, path).decode()

    def commits(self, report: RunReport) -> list[str]:
        """The tasks that have a commit on the line, oldest first."""
        said = self.repo.git(
            "log",
            "--reverse",
            "--format=%(trailers:key=Journeyman-Task,valueonly,separator=)",
            f"{report.base}..{report.commit}",
        )
        return said.split()

    def changed(self, report: RunReport) -> list[str]:
        """The paths in which the line differs from the base."""
        return self.repo.git("diff", "--name-only", "--no-renames", report.base or "", report.commit or "").split()

    def assert_nothing_lost(self, report: RunReport) -> None:
        """See `nothing_lost`; no good answer was bought twice, and the line has a commit of each task that is done."""
        assert report.commit is not None
        nothing_lost(
            self.repo.path,
            report.run,
            before=self.before,
            tree=self.repo.git("rev-parse", f"{report.commit}^{{tree}}"),
            acknowledged=set(report.tasks),
            cache=Path(os.environ["XDG_CACHE_HOME"]),
            states={name: one.state for name, one in report.tasks.items()},
        )
        assert {one.state for one in report.tasks.values()} <= {"done", "failed", "skipped", "cancelled"}
        assert sorted(self.commits(report)) == sorted(name for name, one in report.tasks.items() if one.commit)
        assert not bought_twice(self.api.calls)


def _is_writing(runtime: Runtime) -> bool:
    journal = runtime._journal
    return journal is not None and journal.written < journal.appended


@asynccontextmanager
async def stage(
    repo: Repo,
    clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    model: Model | None = None,
    *,
    faults: Iterable[Fault] = (),
    specialists: Sequence[Specialist] = (PLAIN,),
    claude: Callable[[], Claude] = Claude,
    **options: Any,
) -> AsyncIterator[Stage]:
    """A stage whose server is up, with the environment that leads there."""
    async with serve(model or Worker(), faults=faults, **options) as api:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        yield Stage(repo, api, Patience(clock), specialists, claude)


def calls(*blocks: tuple[str, dict[str, Any]]) -> Reply:
    """A reply of tool calls."""
    return Reply([ToolUse(name, given) for name, given in blocks])


def said(text: str) -> Reply:
    """A reply of words."""
    return Reply([Text(text)])


def opening_of(call: Call) -> str:
    """The task as the model is told it."""
    return "".join(block["text"] for block in call.body["messages"][0]["content"])


def told(call: Call) -> list[tuple[str, bool]]:
    """What the tools have answered by a call: text, and whether it is an error."""
    return list(Request(call.number, call.body).results())


def results(request: Request) -> list[tuple[str, bool]]:
    """What the tools have answered so far: text, and whether it is an error."""
    return list(request.results())
