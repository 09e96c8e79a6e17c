"""The runtime for asyncio programs: the same verbs, awaitable on the host's loop.

The runtime itself lives in a trio loop on a thread of its own, entered and left beside the host's loop so that neither waits for
the other. A handler that is a coroutine function runs on the host's loop, as its author expects; an ordinary function runs in a
worker thread; one marked by `on_trio` (the shipped ways of working are) runs on the runtime's own loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

import attrs
import trio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from . import engine, handles
from .blocking import in_thread
from .core.task import Handler, Plan, Specialist, Task
from .report import RunReport

__all__ = ["Runtime", "Ticket", "on_trio"]

T = TypeVar("T")


def on_trio(handler: Handler) -> Handler:
    """Mark a coroutine function as one that is written for trio, not for the host's loop."""
    handler.on_trio = True  # type: ignore[attr-defined]  # functions take attributes; Callable does not say so
    return handler


def _on_host(handler: Handler, loop: asyncio.AbstractEventLoop) -> Handler:
    """A coroutine function of the host's as one that trio can await. Cancelling goes through to the host's task."""

    async def handle(brief: Any, workspace: Any) -> Any:
        done = trio.Event()
        token = trio.lowlevel.current_trio_token()
        future = asyncio.run_coroutine_threadsafe(_as_coroutine(handler(brief, workspace)), loop)

        def tell(_: object) -> None:
            with contextlib.suppress(trio.RunFinishedError):  # the runtime was torn down meanwhile: nobody waits
                token.run_sync_soon(done.set)

        future.add_done_callback(tell)
        try:
            await done.wait()
        except trio.Cancelled:
            future.cancel()
            with trio.CancelScope(shield=True):
                await done.wait()
            raise
        return future.result()

    return handle


async def _as_coroutine(awaitable: Awaitable[T]) -> T:
    return await awaitable


def _adapted(specialist: Specialist, loop: asyncio.AbstractEventLoop) -> Specialist:
    handler: Any = specialist.handler
    if handler is None or getattr(handler, "on_trio", False):
        return specialist
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None)):  # noqa: B004  # not asked whether, but how
        return attrs.evolve(specialist, handler=_on_host(handler, loop))
    return attrs.evolve(specialist, handler=in_thread(handler))


class Ticket:
    """A submitted task, to wait for."""

    def __init__(self, portal: BlockingPortal, ticket: handles.Ticket) -> None:
        self._portal = portal
        self._ticket = ticket

    @property
    def task(self) -> str:
        """The task's id."""
        return self._ticket.task

    async def result(self) -> Any:
        """The handler's value. Raises TaskFailed. Cancelling the wait leaves the task alone."""
        return await asyncio.wrap_future(self._portal.start_task_soon(self._ticket.result))

    async def cancel(self, why: str = "cancelled") -> None:
        """Stop it, wherever it is."""
        await asyncio.wrap_future(self._portal.start_task_soon(self._ticket.cancel, why))


class Runtime:
    """`runtime.Runtime` for asyncio; an async context manager. Takes the same arguments."""

    def __init__(self, specialists: Iterable[Specialist], **options: Any) -> None:
        self._specialists = list(specialists)
        self._options = options
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None
        self._runtime: engine.Runtime | None = None

    async def __aenter__(self) -> Runtime:
        loop = asyncio.get_running_loop()
        runtime = engine.Runtime([_adapted(one, loop) for one in self._specialists], **self._options)

        def enter() -> ExitStack:
            with ExitStack() as stack:
                self._portal = stack.enter_context(start_blocking_portal(backend="trio"))
                stack.enter_context(self._portal.wrap_async_context_manager(runtime))
                return stack.pop_all()

        self._stack = await asyncio.to_thread(enter)
        self._runtime = runtime
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        # In a thread: handlers on the host's loop must be able to end while the runtime waits for them. Shielded: a second
        # cancellation must not leave the runtime's thread behind.
        leaving = asyncio.ensure_future(asyncio.to_thread(self._stack.__exit__, kind, error, trace))
        try:
            return await asyncio.shield(leaving)
        except asyncio.CancelledError:
            await leaving
            raise
        finally:
            self._portal = self._runtime = None

    async def _call(self, verb: Callable[..., Any], *arguments: Any) -> Any:
        if self._portal is None:
            raise RuntimeError("the Runtime is not open: use it in an `async with` block")
        return await asyncio.wrap_future(self._portal.start_task_soon(verb, *arguments))

    def _open(self) -> engine.Runtime:
        if self._runtime is None:
            raise RuntimeError("the Runtime is not open: use it in an `async with` block")
        return self._runtime

    async def run(self, plan: Plan) -> RunReport:
        """Run a plan to its end; cancelling this cancels its tasks. Raises BadPlan or RepositoryRefused."""
        report: RunReport = await self._call(self._open().run, plan)
        return report

    async def submit(self, task: Task) -> Ticket:
        """Hand over one task; it is in the journal when this returns."""
        ticket = await self._call(self._open().submit, task)
        assert self._portal is not None
        return Ticket(self._portal, ticket)

    async def resume(
        self, run: str, edits: Mapping[str, Mapping[str, Any]] | None = None, *, outside: bool = False
    ) -> RunReport:
        """Go on with a run that did not end; `edits` are other budgets of its tasks."""
        report: RunReport = await self._call(partial(self._open().resume, run, edits, outside=outside))
        return report

    async def retry(
        self, run: str, edits: Mapping[str, Mapping[str, Any]] | None = None, *, task: str = ""
    ) -> RunReport:
        """Try again what failed in an ended run, or only `task` with what belongs to it."""
        report: RunReport = await self._call(partial(self._open().retry, run, edits, task=task))
        return report

    async def report(self, group: str | None = None) -> RunReport:
        """The report as things stand, of one submitted group or of everything."""
        report: RunReport = await self._call(self._open().report, group)
        return report

    async def bisect(self, plan: Plan, *, drop: bool = False) -> str | None:
        """After `run` with a red check: the task whose commit turned it red; with `drop` it is taken off, with its dependants."""
        found: str | None = await self._call(partial(self._open().bisect, plan, drop=drop))
        return found

    async def land(
        self, message: str, *, keep_commits: bool = False, parts: Callable[[str], str] | None = None
    ) -> tuple[str, ...]:
        """Bring the run's result onto the branch that is checked out; the commits, last its new tip. Raises RepositoryRefused."""
        commits: tuple[str, ...] = await self._call(
            partial(self._open().land, message, keep_commits=keep_commits, parts=parts)
        )
        return commits

    async def drain(self, why: str = "interrupted") -> None:
        """Start nothing more; `run` returns when what runs has ended."""
        await self._call(self._open().drain, why)

    async def set_budget(self, budget_usd: float | None = None, budget_tokens: int | None = None) -> None:
        """Give the run that goes on another budget, in US dollars and tokens; None leaves one as it is. Raises BadInput."""
        await self._call(self._open().set_budget, budget_usd, budget_tokens)

    async def cancel(self, task: str = "", why: str = "cancelled") -> None:
        """Cancel one task, or all."""
        await self._call(self._open().cancel, task, why)

    async def statistics(self) -> Mapping[str, int]:
        """Live counts."""
        counts: Mapping[str, int] = await self._call(self._open().statistics)
        return counts

    async def notices(self, start: int = 1) -> list[handles.Notice]:
        """What has happened so far, from a sequence number on."""
        found: list[handles.Notice] = await self._call(self._open().notices, start)
        return found

    async def events(self, start: int = 1) -> AsyncIterator[handles.Notice]:
        """Everything from sequence number `start` on, then live, until the runtime closes."""
        seq = max(start, 1)
        runtime, portal = self._open(), self._portal
        assert portal is not None
        while True:
            try:
                notices = await asyncio.wrap_future(portal.start_task_soon(runtime.batch, seq))
            except RuntimeError:
                if not runtime.closed:
                    raise
                notices = []  # it closed while the caller was busy with the last ones
            for notice in notices or (runtime.notices(seq) if runtime.closed else ()):
                yield notice
            if not notices:
                return
            seq = notices[-1].seq + 1
