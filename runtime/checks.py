"""Commands and checks: an argv in a folder, with an environment that no key gets into, a process group of its own and a limit.

Knows processes; not what a command is for, nor where the folder came from. Each command leads a session of its own, with a watcher in
its group that waits for the end of a pipe which only this process holds: when we die, however that happens, the pipe ends
and the watcher kills the group. A process that outlived its attempt would write into the worktree of the next one.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import trio

from . import secrets
from .errors import BadInput
from .report import CheckResult

CHECK_TIMEOUT_S: Final = 1800.0
_TAIL_BYTES: Final = 20_000
_GRACE_S: Final = 5.0
_LAST_WORDS_S: Final = 1.0
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
_WATCHED: Final = 'exec 3<&0; { read -r _ <&3; kill -9 0; } >/dev/null 2>&1 & exec "$@" </dev/null 3<&-'
"""The watcher is forked before the command takes the shell's place, so there is no moment without it; process id and exit code
are the command's own."""


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


async def run_command(
    words: Sequence[str], folder: Path, timeout_s: float, passed: Mapping[str, str] | None = None
) -> tuple[int | None, bytes]:
    """(exit code, the tail of its output, without secrets); None when it took too long or could not be started. Its whole process
    group ends with it, and with us. `passed` is what its environment has besides `child_environment`."""
    missing = _missing(words[0], folder)
    if missing:
        return None, missing.encode()
    try:
        process = await trio.lowlevel.open_process(
            ["/bin/sh", "-c", _WATCHED, "sh", *words],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**child_environment(), **(passed or {})},
        )
    except OSError as error:
        return None, f"{words[0]}: {error.strerror or error}".encode()
    said = bytearray()
    secret = secrets.values({**os.environ, **(passed or {})})
    # What is kept until the end, so that no key is cut before it is seen
    room = _TAIL_BYTES + max((len(os.fsencode(value)) for value in secret), default=0)
    code: int | None = None
    heard = trio.Event()

    async def listen() -> None:
        assert process.stdout is not None
        async with process.stdout:
            async for chunk in process.stdout:
                said.extend(chunk)
                del said[:-room]
        heard.set()

    try:
        with trio.move_on_after(timeout_s) as limit:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen)
                code = await process.wait()
                with trio.move_on_after(_LAST_WORDS_S):  # what it left in the background may hold the pipe for ever
                    await heard.wait()
                nursery.cancel_scope.cancel()
    finally:
        await _end_group(process)
    stopped = f"\n(stopped after {timeout_s:g} s)" if limit.cancelled_caught and code is None else ""
    return code, secrets.redacted_tail(said, _TAIL_BYTES, secret) + stopped.encode()


def _missing(program: str, folder: Path) -> str:
    """Why a program cannot be started, in the system's words; the shell that starts it would have its own."""
    if "/" in program:
        where = folder / program
        if not where.exists():
            return f"{program}: {os.strerror(2)}"
        return "" if os.access(where, os.X_OK) and where.is_file() else f"{program}: {os.strerror(13)}"
    return "" if shutil.which(program) else f"{program}: {os.strerror(2)}"


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
        assert process.stdin is not None
        await process.stdin.aclose()


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
