"""What comes after the tasks: formatting, the checks, finding the task that turned one red, landing.

Knows the line and worktrees; takes no part in scheduling. Everything it does to the result it reports as an event.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs
import trio

from .attempts import Attempts
from .checks import CHECK_TIMEOUT_S, run_checks, run_command, words_of
from .core.changes import Change, path_bytes
from .core.events import Checked, Dropped, Event
from .core.machine import Machine
from .core.record import DONE
from .core.task import Plan
from .errors import RepositoryRefused
from .report import CheckResult

_FORMATTING: Final = "Format the changed files"
_ARGV_BYTES: Final = 1_000_000  # systems take two million, the environment counted


def _argvs(files: Sequence[str]) -> Iterator[list[str]]:
    """All of them at once, or in as few parts as an argv can take."""
    part: list[str] = []
    size = 0
    for file in files:
        size += len(path_bytes(file)) + 1
        if part and size > _ARGV_BYTES:
            yield part
            part, size = [], len(path_bytes(file)) + 1
        part.append(file)
    if part:
        yield part


@attrs.define
class Finish:
    """The end of one run."""

    attempts: Attempts

    async def run(self, plan: Plan, machine: Machine, post: Callable[[Event], None]) -> None:
        """Format the changed files, then check the merged result."""
        line = self.attempts.line
        assert line is not None
        if plan.format and line.tip != line.base:
            red = await self._format(plan.format)
            if red is not None:  # then nothing is worth checking, and nothing lands
                post(Checked(line.tip, (attrs.asdict(red),)))
                return
        checks = self._checks(plan, machine)
        if checks and (machine.checked is None or machine.checked.commit != line.tip):
            results = await self._checks_at(checks, line.tip)
            post(Checked(line.tip, tuple(attrs.asdict(one) for one in results)))

    def _checks(self, plan: Plan, machine: Machine) -> list[str]:
        """The plan's checks, then those that belong to the work of the specialists that took part."""
        names = dict.fromkeys(record.task.specialist for record in machine.records.values())
        return list(
            dict.fromkeys((*plan.checks, *(one for name in names for one in self.attempts.specialists[name].checks)))
        )

    async def _checks_at(self, commands: Sequence[str], commit: str) -> list[CheckResult]:
        """What the commands say of a commit; where no worktree can be had for them (its `setup` fails), that is what is red."""
        try:
            async with self.attempts.pool.lease(commit) as lease:
                return await run_checks(commands, lease.folder)
        except RepositoryRefused as error:
            return [CheckResult("a worktree for the checks", False, 0.0, None, str(error))]

    async def _format(self, commands: Sequence[str]) -> CheckResult | None:
        """Run the commands over the changed files; the result of the one that failed, told like a red check."""
        line = self.attempts.line
        assert line is not None
        async with self.attempts.pool.lease(line.tip) as lease:
            changed = self._changed(line.tip)
            red = await self._formatted(commands, lease.folder, changed)
            if red is not None:
                return red
            changeset = await trio.to_thread.run_sync(lease.changeset)
        wanted = [change for change in changeset.changes if change.path in changed]
        await trio.to_thread.run_sync(lambda: line.add(wanted, _FORMATTING))
        return None

    def _changed(self, commit: str) -> list[str]:
        """The files that a commit of the line has other than its base."""
        line = self.attempts.line
        assert line is not None
        old, new = line.repository.tree_of(line.base), line.repository.tree_of(commit)
        return [change.path for change in line.repository.differences(old, new) if change.oid is not None]

    async def _formatted(self, commands: Sequence[str], folder: Path, changed: Sequence[str]) -> CheckResult | None:
        for command, files in ((command, files) for command in commands for files in _argvs(changed)):
            words = words_of(command)
            at = words.index("{files}") if "{files}" in words else len(words)
            words[at : at + 1] = [os.fsdecode(path_bytes(file)) for file in files]
            began = trio.current_time()
            code, said = await run_command(words, folder, CHECK_TIMEOUT_S)
            if code != 0:
                seconds = round(trio.current_time() - began, 3)
                return CheckResult(command, False, seconds, code, said.decode("utf-8", "replace"))
        return None

    def _unformat(self) -> None:
        """Take the formatting off the line's end, so that what lies below it can be taken back."""
        line = self.attempts.line
        assert line is not None
        last = next(reversed(line.commits()), None)
        if last is None or last.subject != _FORMATTING:
            return
        parent = line.repository.commit_parts(last.id)[1][0]
        undo = line.repository.differences(line.repository.tree_of(last.id), line.repository.tree_of(parent))
        line.add(undo, "Take the formatting back")

    # --- bisection ---------------------------------------------------------------------------------------------

    async def bisect(
        self, plan: Plan, machine: Machine, post: Callable[[Event], None], *, drop: bool = False
    ) -> str | None:
        """The task whose commit turned a check red, by halving the line; with `drop` it is taken off with its dependants, and the
        checks run again, until they are green. None when nothing is red, or the base is red already."""
        line = self.attempts.line
        assert line is not None
        first: str | None = None
        while machine.checked is not None:
            red = next((one for one in machine.checked.results if not one["ok"]), None)
            if red is None:
                return first
            culprit = await self._find(red["command"], plan.format)
            if culprit is None:
                return first
            first = first or culprit
            if not drop:
                return first
            tasks = self._with_dependants(machine, culprit)
            await trio.to_thread.run_sync(self._unformat)
            answer = await self.attempts.roll_back(tasks, culprit)
            if not answer.error:
                post(Dropped(culprit, red["command"], tuple(tasks), answer.commit))
            if plan.format and line.tip != line.base:
                await self._format(plan.format)
            if answer.error:
                return first
            results = await self._checks_at(self._checks(plan, machine), line.tip)
            post(Checked(line.tip, tuple(attrs.asdict(one) for one in results)))
        return first

    async def _find(self, command: str, formats: Sequence[str]) -> str | None:
        """The task whose commit turned a check red, of those that are still on the line."""
        line = self.attempts.line
        assert line is not None
        commits = [commit for commit in line.commits() if commit.task and line.commit_of(commit.task) == commit.id]
        if not commits or not await self._green(command, line.base, formats):
            return None
        low, high = -1, len(commits) - 1  # green at low, red at high
        while high - low > 1:
            middle = (low + high) // 2
            at = await trio.to_thread.run_sync(self._only, [commit.id for commit in commits[: middle + 1]])
            if await self._green(command, at, formats):
                low = middle
            else:
                high = middle
        return commits[high].task

    def _only(self, commits: Sequence[str]) -> str:
        """A commit, on no ref, of the base with what some commits of the line changed: what was taken back is not in it."""
        line = self.attempts.line
        assert line is not None
        repository = line.repository
        changes: dict[str, Change] = {}
        for one in commits:
            parent = repository.commit_parts(one)[1][0]
            for change in repository.differences(repository.tree_of(parent), repository.tree_of(one)):
                changes[change.path] = change
        tree = repository.apply(repository.tree_of(line.base), changes.values())
        commit = repository.commit(tree, [line.base], "Look for what turned a check red")
        repository.flush()  # for `git worktree` to see it
        return commit

    async def _green(self, command: str, commit: str, formats: Sequence[str]) -> bool:
        """Whether the check passes on a commit, formatted as the end of the line is."""
        async with self.attempts.pool.lease(commit) as lease:
            await self._formatted(formats, lease.folder, self._changed(commit))
            return (await run_checks([command], lease.folder))[0].ok

    def _with_dependants(self, machine: Machine, task: str) -> list[str]:
        found = [machine.records[task]]
        for record in found:  # grows while it is walked
            found.extend(behind for behind in record.needed_by or () if behind not in found)
        return [record.task.id for record in found if record.state == DONE]
