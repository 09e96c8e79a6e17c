"""What an attempt that talks to a model needs of its run: its turns kept, its money counted, its paths asked for, its checks run.

A port: the engine fills it in, `specialists.claude` uses it. Knows no model and no wire format; blocks are whatever the API gave.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import attrs

from .budget import Budget
from .core.changes import Changeset
from .core.events import Answered, Charged, Event, Reserved, Spent, Told
from .report import CheckResult
from .workspace import Workspace

Check = Callable[[Workspace, Sequence[str]], Awaitable[list[CheckResult]]]
State = tuple[Changeset | None, dict[str, bytes]]
"""What `Workspace.state` gives, or `(None, {})` without a workspace."""
Search = Callable[[Workspace, str, str], Awaitable[str]]


@attrs.define
class Conversation:
    """One attempt's. `turns` is what an earlier attempt said, to go on from (empty: begin), and `contents` what it wrote, by blob id,
    where the repository does not have it; `previous_error` why the last one failed; `allowed_checks` the commands that may be run;
    `contracts` what the plan tells every specialist."""

    task: str
    attempt: int
    turns: tuple[Answered | Told, ...] = ()
    contents: Mapping[str, bytes] = attrs.field(factory=dict, repr=False)
    previous_error: str = ""
    allowed_checks: tuple[str, ...] = ()
    contracts: str = ""
    budget: Budget = attrs.field(factory=Budget)
    reserved: bool = False  # whether the call under way was told of beforehand
    _post: Callable[[Event], None] = attrs.field(default=lambda event: None, repr=False)
    _durable: Callable[[], Awaitable[None]] | None = attrs.field(default=None, repr=False)
    _claim: Callable[[str], Awaitable[None]] | None = attrs.field(default=None, repr=False)
    _request: Callable[[str], Awaitable[None]] | None = attrs.field(default=None, repr=False)
    _owners: Callable[[str], tuple[str, ...]] = attrs.field(default=lambda path: (), repr=False)
    _planned: Callable[[str], tuple[str, ...]] = attrs.field(default=lambda path: (), repr=False)
    _may_ask: Callable[[str], bool] = attrs.field(default=lambda path: True, repr=False)
    _search: Search | None = attrs.field(default=None, repr=False)
    _hand_over: Callable[[str, str], str | None] | None = attrs.field(default=None, repr=False)
    _check: Check | None = attrs.field(default=None, repr=False)

    async def answered(
        self,
        turn: int,
        content: list[dict[str, Any]],
        *,
        stop: str,
        model: str,
        spent: Spent,
        state: State,
        opening: list[dict[str, Any]],
    ) -> None:
        """Keep an answer; it is durable when this returns, so its tools may run. One that cannot be kept is counted all the same."""
        changeset, contents = state
        try:
            self._post(
                Answered(self.task, self.attempt, turn, content, stop, model, spent, changeset, opening, contents)
            )
        except Exception as error:
            self.charged(spent, f"the answer could not be kept: {error}")
            raise
        if self._durable is not None:
            await self._durable()

    async def reserve(self, most: Spent) -> None:
        """Before a call that can cost `most` is sent: where there is a budget, keep that, durably, so that a call counts whose process
        is killed."""
        self.reserved = self.budget.binds(self.task)
        if self.reserved:
            self._post(Reserved(self.task, self.attempt, most))
            if self._durable is not None:
                await self._durable()

    def refused(self) -> None:
        """The call cost nothing."""
        if self.reserved:
            self._post(Reserved(self.task, self.attempt))

    def told(self, turn: int, content: list[dict[str, Any]], state: State) -> None:
        """Keep what the model is told next. Not waited for: were it lost, the tools would run again on the state before them."""
        self._post(Told(self.task, self.attempt, turn, content, *state))

    def charged(self, spent: Spent, why: str) -> None:
        """Count money that went for nothing."""
        self._post(Charged(self.task, self.attempt, spent, why))

    async def claim(self, path: str) -> None:
        """Make a path the task's own, if it is or if it is free and may be. Raises ClaimViolation, with the holders, at once."""
        if self._claim is not None:
            await self._claim(path)

    async def request(self, path: str) -> None:
        """Ask for a path and wait for it where that is possible. Raises ClaimViolation with the holders where it is not."""
        if self._request is not None:
            await self._request(path)

    def owners(self, path: str) -> tuple[str, ...]:
        """The other tasks that hold a path."""
        return self._owners(path)

    def planned(self, path: str) -> tuple[str, ...]:
        """The other tasks of the run whose claims cover a path, whether they hold it now or not."""
        return self._planned(path)

    def may_ask(self, path: str) -> bool:
        """Whether a request for a path is of any use: where claims are strict, only what another task claims can be asked for."""
        return self._may_ask(path)

    async def search(self, workspace: Workspace, pattern: str, under: str) -> str:
        """The lines that an extended regular expression matches, `path:line:text` each; empty when there are none."""
        assert self._search is not None, "without a repository there is nothing to search"
        return await self._search(workspace, pattern, under)

    def hand_over(self, path: str, why: str) -> str | None:
        """Make the wish for a path a task of its owner's specialist, for after the owner; its id, or None when that cannot be."""
        return self._hand_over(path, why) if self._hand_over is not None else None

    async def check(self, workspace: Workspace, commands: Sequence[str]) -> list[CheckResult]:
        """Run commands on the workspace as it is now, in a worktree of their own."""
        assert self._check is not None, "without a repository there is nothing to check"
        return await self._check(workspace, commands)
