"""What comes after the tasks: formatting, the checks, finding the task that turned one red, landing.

Knows the line and worktrees; takes no part in scheduling. Everything it does to the result it reports as an event.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import attrs
import trio

from .attempts import Attempts
from .core.events import Checked, Dropped, Event
from .core.machine import Machine
from .core.record import DONE
from .core.task import Plan
from .errors import BadInput
from .report import CheckResult

CHECK_TIMEOUT_S: Final = 1800.0
_TAIL_BYTES: Final = 20_000
_GRACE_S: Final = 5.0
_PASSED_ON: Final = (
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "VIRTUAL_ENV",
    "USER",
    "LOGNAME",
    "SHELL",
    "TERM",
    "XDG_CACHE_HOME",
)


def child_environment() -> dict[str, str]:
    """What a child process is given: an allow-list, so that no key of the user's reaches it."""
    kept = {name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith("LC_")}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1"}


def words_of(command: str) -> list[str]:
    """A command as an argv; `{python}` is the interpreter that runs us. Raises BadInput."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise BadInput(f"command {command!r}: {error}") from None
    return [sys.executable if word == "{python}" else word for word in words]


async def run_command(words: Sequence[str], folder: Path, timeout_s: float) -> tuple[int | None, bytes]:
    """(exit code, the tail of its output); None when it took too long or could not be started. Its whole process group ends
    with it."""
    try:
        process = await trio.lowlevel.open_process(
            list(words),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=child_environment(),
        )
    except OSError as error:
        return None, f"{words[0]}: {error.strerror or error}".encode()
    said = bytearray()
    code: int | None = None
    try:
        with trio.move_on_after(timeout_s) as limit:
            assert process.stdout is not None
            async with process.stdout:
                async for chunk in process.stdout:
                    said += chunk
                    del said[:-_TAIL_BYTES]
            code = await process.wait()
        if limit.cancelled_caught:
            said += f"\n(stopped after {timeout_s:g} s)".encode()
    finally:
        await _end_group(process)
    return code, bytes(said)


async def _end_group(process: trio.Process) -> None:
    """SIGTERM to the whole group, then SIGKILL: nothing that a command left in the background outlives it."""
    with trio.CancelScope(shield=True):
        with contextlib.suppress(ProcessLookupError):
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGTERM)
                with trio.move_on_after(_GRACE_S):
                    await process.wait()
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def run_checks(commands: Sequence[str], folder: Path, timeout_s: float = CHECK_TIMEOUT_S) -> list[CheckResult]:
    """All checks at the same time in one folder; the results in the order of the commands."""
    results: dict[int, CheckResult] = {}

    async def one(number: int, command: str) -> None:
        began = trio.current_time()
        code, said = await run_command(words_of(command), folder, timeout_s)
        seconds = trio.current_time() - began
        results[number] = CheckResult(command, code == 0, round(seconds, 3), code, said.decode("utf-8", "replace"))

    async with trio.open_nursery() as nursery:
        for number, command in enumerate(commands):
            nursery.start_soon(one, number, command)
    return [results[number] for number in range(len(commands))]


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
