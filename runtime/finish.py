"""What comes after the tasks: formatting, the checks, finding the task that turned one red, landing.

Knows the line and worktrees; takes no part in scheduling. Everything it does to the result it reports as an event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import trio

from .attempts import Attempts
from .checks import CHECK_TIMEOUT_S, run_checks, run_command, words_of
from .core.events import Checked, Dropped, Event
from .core.machine import Machine
from .core.record import DONE
from .core.task import Plan
from .errors import BadInput
from .report import CheckResult


@attrs.define
class Finish:
    """The end of one run."""

    attempts: Attempts

    async def run(self, plan: Plan, machine: Machine, post: Callable[[Event], None]) -> None:
        """Format the changed files, then check the merged result."""
        line = self.attempts.line
        assert line is not None
        if plan.format and line.tip != line.base:
            await self._format(plan.format)
        if plan.checks and (machine.checked is None or machine.checked.commit != line.tip):
            results = await self._checks_at(plan.checks, line.tip)
            post(Checked(line.tip, tuple(attrs.asdict(one) for one in results)))

    async def _checks_at(self, commands: Sequence[str], commit: str) -> list[CheckResult]:
        async with self.attempts.pool.lease(commit) as lease:
            return await run_checks(commands, lease.folder)

    async def _format(self, commands: Sequence[str]) -> None:
        line = self.attempts.line
        assert line is not None
        changed = [change.path for change in line.changes() if change.oid is not None]
        async with self.attempts.pool.lease(line.tip) as lease:
            for command in commands:
                words = words_of(command)
                if "{files}" in words:
                    at = words.index("{files}")
                    words[at : at + 1] = changed
                else:
                    words += changed
                code, said = await run_command(words, lease.folder, CHECK_TIMEOUT_S)
                if code != 0:
                    tail = said.decode("utf-8", "replace").strip()[-500:]
                    raise BadInput(f"format: `{command}` ended with exit code {code}: {tail}")
            changeset = await trio.to_thread.run_sync(lease.changeset)
        wanted = [change for change in changeset.changes if change.path in changed]
        await trio.to_thread.run_sync(lambda: line.add(wanted, "Format the changed files"))

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
            culprit = await self._find(red["command"])
            if culprit is None:
                return first
            first = first or culprit
            if not drop:
                return first
            tasks = self._with_dependants(machine, culprit)
            answer = await self.attempts.roll_back(tasks, culprit)
            if answer.error:
                return first
            post(Dropped(culprit, red["command"], tuple(tasks), answer.commit))
            results = await self._checks_at(plan.checks, line.tip)
            post(Checked(line.tip, tuple(attrs.asdict(one) for one in results)))
        return first

    async def _find(self, command: str) -> str | None:
        line = self.attempts.line
        assert line is not None
        commits = line.commits()
        if not commits or not await self._green(command, line.base):
            return None
        low, high = -1, len(commits) - 1  # green at low, red at high
        while high - low > 1:
            middle = (low + high) // 2
            if await self._green(command, commits[middle].id):
                low = middle
            else:
                high = middle
        return commits[high].task or None

    async def _green(self, command: str, commit: str) -> bool:
        return (await self._checks_at([command], commit))[0].ok

    def _with_dependants(self, machine: Machine, task: str) -> list[str]:
        found = [machine.records[task]]
        for record in found:  # grows while it is walked
            found.extend(behind for behind in record.needed_by or () if behind not in found)
        return [record.task.id for record in found if record.state == DONE]
