"""An instance: a trio task that runs one attempt after another and reports how each ended.

Knows how an attempt is begun, timed, stopped and judged by its exception; not which task comes next, nor what a
repository is. It lives in the engine's nursery; whatever happens inside a handler, exactly one event leaves for each start.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import trio

from .core.commands import Start
from .core.events import Event, Failed, Finished, InstanceDied
from .errors import ClaimViolation, GiveUp, JournalFailed, Paused, Transient

SLICE_S: Final = 0.001
MOST_TURNS: Final = 50

Attempt = Callable[[Start], Awaitable[Finished]]


class Actor:
    """One instance. `perform` runs an attempt and gives its `Finished`; `post` takes the event to the machine."""

    __slots__ = (
        "_aborted",
        "_next",
        "_now",
        "_parked",
        "_perform",
        "_post",
        "_retired",
        "_scope",
        "_timeouts",
        "current",
        "doing",
        "name",
    )

    def __init__(
        self,
        name: str,
        perform: Attempt,
        post: Callable[[Event], None],
        timeout_of: Callable[[str], float | None],
        now: Callable[[], float],
    ) -> None:
        self.name = name
        self.current: Start | None = None
        self.doing = ""  # a line for people: what the attempt is at
        self._perform = perform
        self._post = post
        self._timeouts = timeout_of
        self._now = now  # when the last event happened, seconds: as good as a clock here, and a third of its price
        self._aborted = False
        self._next: Start | None = None
        self._parked: trio.lowlevel.Task | None = None
        self._retired = False
        self._scope = trio.CancelScope()

    def assign(self, start: Start) -> None:
        """Give it its next attempt; it has none at the moment."""
        assert self._next is None
        self._next = start
        self._unpark()

    def retire(self) -> None:
        """End it, as soon as it runs nothing."""
        self._retired = True
        self._unpark()

    def abort(self, start_task: str, attempt: int) -> None:
        """Stop the attempt it runs, or is about to run."""
        for start in (self.current, self._next):
            if start is not None and start.task == start_task and start.attempt == attempt:
                if start is self._next:
                    self._next = None
                    self._post(Failed(start_task, attempt, "cancelled before it began", "cancelled"))
                else:
                    self._aborted = True
                    self._scope.cancel()

    def stop_clock(self) -> float:
        """The seconds that the current attempt has left; until `start_clock` none of them go by."""
        left_s = self._scope.deadline - trio.current_time()
        self._scope.deadline = math.inf
        return left_s

    def start_clock(self, left_s: float) -> None:
        """The current attempt has this many seconds left, from now."""
        self._scope.deadline = trio.current_time() + left_s

    async def run(self) -> None:
        """Run attempts until it is retired, or dies. Dying is an event, not an exception of the nursery's."""
        try:
            while not self._retired:
                self._scope, self._aborted = trio.CancelScope(), False
                with self._scope:
                    await self._work()
                if self.current is not None:  # stopped in the middle, by `abort` or by its deadline
                    self._report(self._stopped(self.current))
        except (Exception, SystemExit, GeneratorExit) as error:
            if isinstance(error, JournalFailed):
                raise
            self.current = None
            self._post(InstanceDied(self.name, f"{type(error).__name__}: {error}"))

    async def _work(self) -> None:
        turns, yield_at = 0, self._now() + SLICE_S
        while not self._retired and not self._aborted:
            start = self._next
            if start is None:
                await self._park()
                turns, yield_at = 0, self._now() + SLICE_S
                continue
            self._next = None
            self.current = start
            timeout_s = self._timeouts(start.task)
            if timeout_s is not None:
                self._scope.deadline = trio.current_time() + timeout_s
            try:
                event: Event = await self._perform(start)
            except JournalFailed:
                raise
            except Exception as error:
                event = failure(start, error)
            if timeout_s is not None:
                self._aborted = self._scope.cancel_called
                self._scope.deadline = math.inf
            self._report(event)
            # A handler that never waits must not keep its siblings from starting; a turn of the loop for each attempt
            # would be a third of what a task costs. (The count is for clocks that stand still while code runs.)
            turns += 1
            if turns >= MOST_TURNS or self._now() > yield_at:
                await trio.lowlevel.checkpoint()
                turns, yield_at = 0, self._now() + SLICE_S

    def _report(self, event: Event) -> None:
        self.current = None
        self.doing = ""
        self._post(event)

    def _stopped(self, start: Start) -> Failed:
        if self._scope.deadline < math.inf and trio.current_time() >= self._scope.deadline:
            timeout_s = self._timeouts(start.task)
            return Failed(start.task, start.attempt, f"took longer than {timeout_s:g} s", "timeout")
        return Failed(start.task, start.attempt, "cancelled", "cancelled")

    async def _park(self) -> None:
        self._parked = trio.lowlevel.current_task()

        def give_up(_: object) -> trio.lowlevel.Abort:
            self._parked = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(give_up)

    def _unpark(self) -> None:
        task, self._parked = self._parked, None
        if task is not None:
            trio.lowlevel.reschedule(task)


def failure(start: Start, error: BaseException) -> Failed:
    """The event for a handler's exception. A group counts as its most final member."""
    text = describe(error)
    leaves = list(_leaves(error))
    if any(isinstance(leaf, ClaimViolation) for leaf in leaves):
        return Failed(start.task, start.attempt, text, "claims", fresh=True)
    pauses = [leaf for leaf in leaves if isinstance(leaf, Paused)]
    if pauses:
        return Failed(start.task, start.attempt, text, "paused", hold=all(leaf.hold for leaf in pauses))
    fresh = any(getattr(leaf, "fresh", False) for leaf in leaves)
    result = next((leaf.result for leaf in leaves if hasattr(leaf, "result")), None)
    if any(isinstance(leaf, GiveUp) for leaf in leaves):
        return Failed(start.task, start.attempt, text, "permanent", result=result)
    waits = [leaf.retry_after_s for leaf in leaves if isinstance(leaf, Transient) and leaf.retry_after_s]
    return Failed(start.task, start.attempt, text, "transient", max(waits, default=None), result, fresh)


def describe(error: BaseException) -> str:
    """One line: the exception's words, with its type where the words alone would not tell, and the notes that were added to it."""
    if isinstance(error, BaseExceptionGroup):
        parts = [describe(inner) for inner in error.exceptions]
    elif isinstance(error, GiveUp | Transient | ClaimViolation | Paused):
        parts = [str(error)]
    else:
        parts = [f"{type(error).__name__}: {error}" if str(error) else type(error).__name__]
    return "; ".join([*parts, *getattr(error, "__notes__", ())])


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
