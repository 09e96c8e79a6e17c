"""The way `exec`: any program on files, in a worktree.

Knows argvs, exit codes and file contents; not what the program does. `{file}` runs it once a file, `{files}` in batches that are
sized by what they were measured to cost; a batch that fails is split until the file it fails on is alone. What a file became is
judged by its bytes, never by what the program says.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from runtime.checks import run_command
from runtime.core.changes import MODE_LINK, MODE_SUBMODULE
from runtime.core.task import FIXPOINT, MAX_PASSES
from runtime.errors import GiveUp
from runtime.workspace import Brief, Workspace

from .outcome import FileOutcome, settle

BATCH_S: Final = 1.5  # what a batch should take
FIRST_BATCH: Final = 8
_ARGV_BYTES: Final = 100_000
SIZE_CAP_BYTES: Final = 1_000_000
_TIMEOUT_S: Final = 3600.0


@attrs.define
class Pace:
    """Seconds a file and seconds a start of one program, from the batches that ran; shared by all its tasks."""

    per_file_s: float = 0.0
    batches: int = 0

    def size(self) -> int:
        """How many files the next batch should have."""
        if not self.batches:
            return FIRST_BATCH
        return max(1, min(2000, int(BATCH_S / max(self.per_file_s, 1e-4))))

    def learn(self, files: int, seconds: float) -> None:
        """Take in a batch that ran; later ones count more, as the start-up's share shrinks with size."""
        now = seconds / files
        self.per_file_s = now if not self.batches else 0.3 * self.per_file_s + 0.7 * now
        self.batches += 1


@attrs.define
class Command:
    """Runs the argvs of tasks. `size_cap_bytes`: a larger file is skipped."""

    size_cap_bytes: int = SIZE_CAP_BYTES
    paces: dict[tuple[str, ...], Pace] = attrs.field(factory=dict)  # {argv: pace}

    async def work(self, brief: Brief, workspace: Workspace) -> dict[str, Any]:
        """The handler of tasks with `exec`. Raises FilesFailed, GiveUp when there is no such program."""
        argv = brief.task.exec
        assert argv is not None
        if workspace.path is None:
            raise GiveUp("exec needs files on disk")
        outcomes: dict[str, FileOutcome] = {}
        files = [path for path in brief.files if self._fits(path, workspace, outcomes)]
        attempt = _Attempt(brief, workspace, workspace.path, [_own(word) for word in argv], outcomes)
        if "{files}" in argv:
            pace = self.paces.setdefault(argv, Pace())
            await self._in_batches(attempt, files, pace)
        elif any("{file}" in word for word in argv):
            for number, path in enumerate(files, 1):
                brief.progress(f"{argv[0]} {path} ({number} of {len(files)})")
                await attempt.run([path], one_by_one=True)
        else:
            await attempt.run(files, whole=True)
        more = await self._more_passes(attempt, argv, files) if brief.task.passes != 1 else {}
        return settle(outcomes, **more)

    async def _more_passes(self, attempt: _Attempt, argv: Sequence[str], files: list[str]) -> dict[str, Any]:
        limit = brief_passes(attempt.brief)
        done = 1
        while done < limit:
            before = {path: attempt.digest(path) for path in files}
            again = [path for path in files if attempt.outcomes[path].state == "changed"]
            if not again:
                break
            for path in again:
                await attempt.run([path], one_by_one="{files}" not in argv)
            done += 1
            if all(attempt.digest(path) == before[path] for path in files):
                break
        return {"passes": done}

    def _fits(self, path: str, workspace: Workspace, outcomes: dict[str, FileOutcome]) -> bool:
        mode = workspace.mode(path)
        if mode in (MODE_LINK, MODE_SUBMODULE):
            outcomes[path] = FileOutcome("skipped", "a symbolic link or a submodule")
        elif mode is None:
            outcomes[path] = FileOutcome("skipped", "it is not there")
        else:
            assert workspace.path is not None
            size = (workspace.path / path).stat().st_size
            if size <= self.size_cap_bytes:
                return True
            outcomes[path] = FileOutcome("skipped", f"{size} bytes; the cap is {self.size_cap_bytes}")
        return False

    async def _in_batches(self, attempt: _Attempt, files: list[str], pace: Pace) -> None:
        at = 0
        while at < len(files):
            batch = _cut(files[at : at + pace.size()])
            at += len(batch)
            attempt.brief.progress(f"{attempt.argv[0]} on {len(batch)} files, {len(files) - at} to go")
            began = trio.current_time()
            await attempt.run(batch)
            pace.learn(len(batch), trio.current_time() - began)


def brief_passes(brief: Brief) -> int:
    """How many passes a task may take."""
    return MAX_PASSES if brief.task.passes == FIXPOINT else brief.task.passes


def _own(word: str) -> str:
    return sys.executable if word == "{python}" else word


def _cut(files: Sequence[str]) -> list[str]:
    """As many of the files as fit into an argv."""
    taken: list[str] = []
    size = 0
    for path in files:
        size += len(path.encode("utf-8", "surrogateescape")) + 1
        if taken and size > _ARGV_BYTES:
            break
        taken.append(path)
    return taken


@attrs.define
class _Attempt:
    """One attempt's runs of the program, and what each file became."""

    brief: Brief
    workspace: Workspace
    folder: Path
    argv: list[str]
    outcomes: dict[str, FileOutcome]

    def digest(self, path: str) -> bytes:
        return hashlib.sha256(self.workspace.read(path)).digest() if self.workspace.exists(path) else b""

    async def run(self, files: list[str], *, one_by_one: bool = False, whole: bool = False) -> None:
        """Run the program on files; halve them when it fails, until the one it fails on is alone."""
        before = {path: self.workspace.read(path) for path in files}
        code, said = await run_command(self._words(files, whole), self.folder, _TIMEOUT_S)
        if code is None and b"No such file" in said:
            raise GiveUp(f"there is no such program: {self.argv[0]}")
        if code in self.brief.task.ok_exit:
            for path in files:
                self._judge(path, before[path])
            return
        for path in files:
            self._restore(path, before[path])
        if whole:
            raise GiveUp(self._why(code, said))
        if len(files) == 1:
            self.outcomes[files[0]] = FileOutcome("failed", self._why(code, said))
            return
        middle = len(files) // 2
        await self.run(files[:middle])
        await self.run(files[middle:])

    def _words(self, files: list[str], whole: bool) -> list[str]:
        words: list[str] = []
        for word in self.argv:
            if word == "{files}":
                words += files
            elif "{file}" in word and not whole:
                words.append(word.replace("{file}", files[0]))
            else:
                words.append(word)
        return words

    def _judge(self, path: str, before: bytes) -> None:
        known = self.outcomes.get(path)
        if not self.workspace.exists(path):
            self.outcomes[path] = FileOutcome("changed", "deleted")
        elif self.workspace.read(path) != before:
            self.outcomes[path] = FileOutcome("changed")
        elif known is None:
            self.outcomes[path] = FileOutcome("unchanged")

    def _restore(self, path: str, before: bytes) -> None:
        if not self.workspace.exists(path) or self.workspace.read(path) != before:
            (self.folder / path).write_bytes(before)

    def _why(self, code: int | None, said: bytes) -> str:
        lines = said.decode("utf-8", "replace").strip().splitlines()
        tail = " | ".join(line.strip() for line in lines[-3:])[-400:]
        return (
            f"{self.argv[0]}: "
            + (f"exit code {code}" if code is not None else "did not end")
            + (f": {tail}" if tail else "")
        )
