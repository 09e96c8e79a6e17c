"""The runtime for code that is not asynchronous: scripts, notebooks, Django commands.

The same verbs as `runtime.Runtime`, each waiting for its end. The runtime lives in a trio loop on a thread of its own; nothing of
the caller's is touched. A handler may be an ordinary function, which then runs in a worker thread, or an `async` one for trio.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any

import attrs
import trio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from . import engine, handles
from .core.task import Handler, Plan, Specialist, Task
from .report import RunReport

__all__ = ["Runtime", "Ticket"]


def in_thread(handler: Callable[[Any, Any], Any]) -> Handler:
    """An ordinary function as a handler: called in a worker thread, which a cancelled attempt waits for."""

    async def handle(brief: Any, workspace: Any) -> Any:
        return await trio.to_thread.run_sync(handler, brief, workspace)

    return handle


def adapted(specialist: Specialist) -> Specialist:
    """The specialist with a handler that trio can await."""
    handler: Any = specialist.handler
    if handler is None or inspect.iscoroutinefunction(handler) or _awaits(handler):
        return specialist
    return attrs.evolve(specialist, handler=in_thread(handler))


def _awaits(handler: Any) -> bool:
    """Whether an object that is called like a function is an async one."""
    return inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004  # not asked whether, but how


class Ticket:
    """A submitted task, to wait for."""

    def __init__(self, portal: BlockingPortal, ticket: handles.Ticket) -> None:
        self._portal = portal
        self._ticket = ticket

    @property
    def task(self) -> str:
        """The task's id."""
        return self._ticket.task

    def result(self, timeout_s: float | None = None) -> Any:
        """The handler's value. Raises TaskFailed, or TimeoutError after `timeout_s` seconds (the task goes on)."""
        future = self._portal.start_task_soon(self._ticket.result)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise

    def cancel(self, why: str = "cancelled") -> None:
        """Stop it, wherever it is."""
        self._portal.call(self._ticket.cancel, why)


class Runtime:
    """`runtime.Runtime` behind blocking calls; a context manager. Takes the same arguments."""

    def __init__(self, specialists: Iterable[Specialist], **options: Any) -> None:
        self._runtime = engine.Runtime([adapted(one) for one in specialists], **options)
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None

    def __enter__(self) -> Runtime:
        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal(backend="trio"))
            stack.enter_context(self._portal.wrap_async_context_manager(self._runtime))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            return self._stack.__exit__(kind, error, trace)
        finally:
            self._portal = None

    def _open(self) -> BlockingPortal:
        if self._portal is None:
            raise RuntimeError("the Runtime is not open: use it in a `with` block")
        return self._portal

    def run(self, plan: Plan) -> RunReport:
        """Run a plan to its end. Raises BadPlan or RepositoryRefused before anything is started."""
        return self._open().call(self._runtime.run, plan)

    def submit(self, task: Task) -> Ticket:
        """Hand over one task; it is in the journal when this returns."""
        return Ticket(self._open(), self._open().call(self._runtime.submit, task))

    def resume(
        self, run: str, edits: Mapping[str, Mapping[str, Any]] | None = None, *, outside: bool = False
    ) -> RunReport:
        """Go on with a run that did not end; `edits` are other budgets of its tasks."""
        report: RunReport = self._open().call(partial(self._runtime.resume, run, edits, outside=outside))
        return report

    def retry(self, run: str, edits: Mapping[str, Mapping[str, Any]] | None = None, *, task: str = "") -> RunReport:
        """Try again what failed in an ended run, or only `task` with what belongs to it."""
        report: RunReport = self._open().call(partial(self._runtime.retry, run, edits, task=task))
        return report

    def report(self, group: str | None = None) -> RunReport:
        """The report as things stand, of one submitted group or of everything."""
        return self._open().call(self._runtime.report, group)

    def bisect(self, plan: Plan, *, drop: bool = False) -> str | None:
        """After `run` with a red check: the task whose commit turned it red; with `drop` it is taken off, with its dependants."""
        return self._open().call(partial(self._runtime.bisect, plan, drop=drop))

    def land(
        self, message: str, *, keep_commits: bool = False, parts: Callable[[str], str] | None = None
    ) -> tuple[str, ...]:
        """Bring the run's result onto the branch that is checked out; the commits, last its new tip. Raises RepositoryRefused."""
        return self._open().call(partial(self._runtime.land, message, keep_commits=keep_commits, parts=parts))

    def drain(self, why: str = "interrupted") -> None:
        """Start nothing more; `run`, in whichever thread, returns when what runs has ended."""
        self._open().call(self._runtime.drain, why)

    def set_budget(self, budget_usd: float | None = None, budget_tokens: int | None = None) -> None:
        """Give the run that goes on another budget, in US dollars and tokens; None leaves one as it is. Raises BadInput."""
        self._open().call(self._runtime.set_budget, budget_usd, budget_tokens)

    def cancel(self, task: str = "", why: str = "cancelled") -> None:
        """Cancel one task, or all."""
        self._open().call(self._runtime.cancel, task, why)

    def statistics(self) -> Mapping[str, int]:
        """Live counts."""
        return self._open().call(self._runtime.statistics)

    def notices(self, start: int = 1) -> list[handles.Notice]:
        """All notices there are from sequence number `start` on, without waiting."""
        return self._open().call(self._runtime.notices, start)

    def events(self, start: int = 1) -> Iterator[handles.Notice]:
        """Everything from sequence number `start` on, then live, until the runtime closes."""
        seq = max(start, 1)
        portal = self._open()
        while True:
            try:
                notices = portal.call(self._runtime.batch, seq)
            except (RuntimeError, CancelledError):
                if not self._runtime.closed:
                    raise
                notices = []  # it closed while the caller was busy with the last ones
            if not notices:
                yield from self._runtime.notices(seq) if self._runtime.closed else ()
                return
            yield from notices
            seq = notices[-1].seq + 1
