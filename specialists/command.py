"""The way `exec`: any program on files, in a worktree.

Knows argvs, exit codes and file contents; not what the program does. `{file}` runs it once a file, `{files}` in batches that are
sized by what they were measured to cost, several at once; a batch that fails is split until the file it fails on is alone. What a
file became is judged by its bytes, never by what the program says.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from runtime.checks import run_command
from runtime.core.changes import MODE_EXECUTABLE, MODE_LINK, MODE_SUBMODULE, path_bytes
from runtime.core.task import FIXPOINT, MAX_PASSES
from runtime.errors import GiveUp
from runtime.workspace import Brief, Workspace

from . import edits
from .outcome import FileOutcome, settle

BATCH_S: Final = 1.5  # what a batch should take
FIRST_BATCH: Final = 8  # files
MOST_FILES: Final = 2000
_ARGV_BYTES: Final = 100_000
SIZE_CAP_BYTES: Final = 1_000_000
_TIMEOUT_S: Final = 3600.0
_LOOK_AHEAD_FILES: Final = 16
_LOOK_AHEAD_S: Final = 2.0  # a longer pass is not made once more only to know


@attrs.define
class Pace:
    """Seconds that one program takes for a unit of work (see `weight`), from the batches that ran; shared by all its tasks."""

    per_unit_s: float = 0.0
    batches: int = 0

    def room(self) -> float:
        """How many units the next batch should have, once a batch has run."""
        return BATCH_S / max(self.per_unit_s, 1e-5)

    def learn(self, units: float, seconds: float) -> None:
        """Take in a batch that ran; later ones count more, as the start-up's share shrinks with size."""
        now = seconds / units
        self.per_unit_s = now if not self.batches else 0.3 * self.per_unit_s + 0.7 * now
        self.batches += 1


def weight(size: int) -> float:
    """Units of work that a file of so many bytes is taken for: one for being a file at all, and one more for every 4 KiB."""
    return 1 + size / 4096


@attrs.define
class Command:
    """Runs the argvs of tasks. `size_cap_bytes`: a larger file is skipped. `look_ahead`: also find out whether another pass would
    change more, where a pass is short. `pass_environment` names the variables that a program is given of our environment
    besides what all children are: `{the first word of an argv: names}`. `at_once`: so many batches at most of all tasks together, in
    one worktree as pre-commit runs them, where a task writes nothing but the files it names; else one after the other."""

    size_cap_bytes: int = SIZE_CAP_BYTES
    look_ahead: bool = False
    pass_environment: Mapping[str, Sequence[str]] = attrs.field(factory=dict)
    at_once: int = 1
    _turns: trio.CapacityLimiter = attrs.field(init=False)
    paces: dict[tuple[str, ...], Pace] = attrs.field(factory=dict)  # {argv: pace}
    unfinished: set[tuple[str, ...]] = attrs.field(factory=set)  # argvs of which another pass would change more

    def __attrs_post_init__(self) -> None:
        self._turns = trio.CapacityLimiter(self.at_once)

    async def work(self, brief: Brief, workspace: Workspace) -> dict[str, Any]:
        """The handler of tasks with `exec`. Raises FilesFailed, GiveUp when there is no such program."""
        argv = brief.task.exec
        assert argv is not None
        if workspace.path is None:
            raise GiveUp("exec needs files on disk")
        outcomes: dict[str, FileOutcome] = {}
        files = [path for path in brief.files if self._fits(brief, path, workspace, outcomes)]
        names = self.pass_environment.get(argv[0], ())
        passed = {name: os.environ[name] for name in names if name in os.environ}
        attempt = _Attempt(brief, workspace, workspace.path, [_own(word) for word in argv], outcomes, passed)
        if attempt.whole:
            await attempt.run(files)
            return settle(outcomes)
        began = trio.current_time()
        await self._pass(attempt, files)
        took_s = trio.current_time() - began
        for _ in range(1, MAX_PASSES if brief.task.passes == FIXPOINT else brief.task.passes):
            again = [path for path in files if outcomes[path].state == "changed"]
            before = {path: attempt.now(path) for path in again}
            began = trio.current_time()
            await self._pass(attempt, [path for path, seen in before.items() if seen is not None and seen.is_file])
            took_s = trio.current_time() - began
            if all(attempt.now(path) == before[path] for path in again):
                return settle(outcomes)
        wanted = self.look_ahead and took_s < _LOOK_AHEAD_S and argv not in self.unfinished
        more = await self._another(attempt, files) if wanted else 0
        return settle(outcomes, **({"more": more} if more else {}))

    async def _pass(self, attempt: _Attempt, files: list[str]) -> None:
        """The program over all of the files, in batches where it takes many."""
        argv = attempt.brief.task.exec
        assert argv is not None
        if attempt.in_batches:
            await self._in_batches(attempt, files, self.paces.setdefault(argv, Pace()))
            return
        for number, path in enumerate(files, 1):
            attempt.brief.progress(f"{argv[0]} {path} ({number} of {len(files)})")
            await attempt.run([path])

    async def _another(self, attempt: _Attempt, files: list[str]) -> int:
        """How many files one more pass would change, of some. They are put back as they were. Once one program is known to leave
        work for another pass, its other tasks are not asked: that it does is what has to be said, not for how many files."""
        changed = [path for path in files if attempt.outcomes[path].state == "changed"][:_LOOK_AHEAD_FILES]
        before = {path: seen for path in changed if (seen := attempt.now(path)) is not None and seen.is_file}
        if not before:
            return 0
        outcomes = dict(attempt.outcomes)
        attempt.originals.update(before)  # where a file goes back to that fails
        await self._pass(attempt, list(before))
        attempt.outcomes.update(outcomes)
        found = sum(attempt.restore(path, seen) for path, seen in before.items())
        if found and attempt.brief.task.exec is not None:
            self.unfinished.add(attempt.brief.task.exec)
        return found

    def _fits(self, brief: Brief, path: str, workspace: Workspace, outcomes: dict[str, FileOutcome]) -> bool:
        mode = workspace.mode(path)
        if mode in (MODE_LINK, MODE_SUBMODULE):
            outcomes[path] = FileOutcome("skipped", "a symbolic link or a submodule")
        elif mode is None:
            outcomes[path] = FileOutcome("skipped", "it is not there")
        else:
            assert workspace.path is not None
            size = (workspace.path / _on_disk(path)).stat().st_size
            wanted = brief.task.containing
            if size > self.size_cap_bytes:
                outcomes[path] = FileOutcome("skipped", f"{size} bytes; the cap is {self.size_cap_bytes}")
            elif wanted and wanted.encode() not in workspace.read(path):
                outcomes[path] = FileOutcome("unchanged", f"{wanted!r} is not in it")
            else:
                return True
        return False

    async def _in_batches(self, attempt: _Attempt, files: list[str], pace: Pace) -> None:
        apart = {*attempt.brief.task.writes} <= {*attempt.brief.files}  # what two batches write is never the same
        lanes = self.at_once if apart else 1
        left = deque(files)
        units = {path: weight((attempt.folder / _on_disk(path)).stat().st_size) for path in files}
        failed: list[GiveUp] = []
        last = 0.0  # units in the last batches, one a lane, so that they end together

        async def lane() -> None:
            nonlocal last
            while True:
                async with self._turns:
                    if not left or failed:  # the other lanes took the rest meanwhile
                        return
                    remain = sum(units[path] for path in left)
                    rounds = max(1, round(remain / (pace.room() * lanes))) if pace.batches else 0
                    if rounds == 1 and not last:
                        last = remain / lanes
                    batch = _cut(left, units, last or (remain / rounds / lanes if rounds else math.inf), rounds > 0)
                    attempt.brief.progress(f"{attempt.argv[0]} on {len(batch)} files, {len(left)} to go")
                    began = trio.current_time()
                    try:
                        await attempt.run(batch)
                    except GiveUp as error:
                        failed.append(error)
                        return
                    pace.learn(sum(units[path] for path in batch), trio.current_time() - began)

        async with trio.open_nursery() as nursery:
            for _ in range(lanes):
                nursery.start_soon(lane)
        if failed:
            raise failed[0]


def _on_disk(path: str) -> str:
    """A path as the file system and an argv have it: a name that is no UTF-8 with its own bytes."""
    return os.fsdecode(path_bytes(path))


def _own(word: str) -> str:
    return sys.executable if word == "{python}" else word


def _cut(left: deque[str], units: Mapping[str, float], room: float, known: bool) -> list[str]:
    """Take the files of the next batch: about so many units, as many as fit into an argv, and few while the program's pace is not
    known."""
    batch: list[str] = []
    weighs = size = 0.0
    while left and weighs < room and len(batch) < (MOST_FILES if known else FIRST_BATCH):
        size += len(path_bytes(left[0])) + 1
        if batch and size > _ARGV_BYTES:
            break
        batch.append(left.popleft())
        weighs += units[batch[-1]]
    return batch


@attrs.frozen
class _Seen:
    """A file or a link as it was found: its git mode and its bytes (a link's target)."""

    mode: int
    data: bytes

    @property
    def is_file(self) -> bool:
        """Whether it is a file: what a program is run on, and what can be put back."""
        return self.mode != MODE_LINK


@attrs.define
class _Attempt:
    """One attempt's runs of the program, and what each file became."""

    brief: Brief
    workspace: Workspace
    folder: Path
    argv: list[str]
    outcomes: dict[str, FileOutcome]
    passed: Mapping[str, str]
    originals: dict[str, _Seen] = attrs.field(factory=dict)  # {file: what it was before the first pass}

    @property
    def in_batches(self) -> bool:
        """Whether the program takes many files at once."""
        return "{files}" in self.argv

    @property
    def whole(self) -> bool:
        """Whether it finds its files by itself."""
        return not self.in_batches and not any("{file}" in word for word in self.argv)

    def now(self, path: str) -> _Seen | None:
        """A file or a link as it is now; None when there is none, but nothing or a folder, a fifo, ..."""
        mode = self.workspace.mode(path)
        return None if mode in (None, MODE_SUBMODULE) else _Seen(mode, self.workspace.read(path))

    async def run(self, files: list[str]) -> None:
        """Run the program on files; halve them when it fails, until the one it fails on is alone."""
        before = {path: seen for path in files if (seen := self.now(path)) is not None}
        for path in files:
            if path in before:
                self.originals.setdefault(path, before[path])
            else:  # the program took it away when it ran on another
                self.outcomes[path] = FileOutcome("changed", "deleted")
        files = list(before)
        if not files and not self.whole:
            return
        code, said = await run_command(self._words(files), self.folder, _TIMEOUT_S, self.passed)
        if code is None and b"No such file" in said:
            raise GiveUp(f"there is no such program: {self.argv[0]}")
        if code in self.brief.task.ok_exit:
            await self._judge(before)
            return
        touched = [self.restore(path, seen) for path, seen in before.items()]
        why = self._why(code, said)
        if any(touched) and code is not None:
            why += f" (what it changed is put back; if {code} is no failure, put it into --ok-exit or ok_exit)"
        if self.whole:
            raise GiveUp(why)
        if len(files) == 1:
            self._fail(files[0], why)
            return
        middle = len(files) // 2
        await self.run(files[:middle])
        await self.run(files[middle:])

    def _words(self, files: list[str]) -> list[str]:
        words: list[str] = []
        for word in self.argv:
            if word == "{files}":
                words += map(_on_disk, files)
            elif "{file}" in word:
                words.append(word.replace("{file}", _on_disk(files[0])))
            else:
                words.append(word)
        return words

    async def _judge(self, before: dict[str, _Seen]) -> None:
        """What each file became: by its bytes and its mode, and whether it parses as well as it did."""
        after = {path: self.now(path) for path in before}
        rows = [
            (path, was.data, new.data)
            for path, was in before.items()
            if (new := after[path]) is not None and new.is_file
        ]
        found = await trio.to_thread.run_sync(lambda: [edits.verdict(*row, edits.language_of(row[0])) for row in rows])
        for (path, _, _), (state, why) in zip(rows, found, strict=True):
            new = after[path]
            if state == "failed":
                self._fail(path, why)
            elif state == "changed":
                self.outcomes[path] = FileOutcome(state, why)
            elif new is not None and new.mode != before[path].mode:
                executable = "executable now" if new.mode == MODE_EXECUTABLE else "no longer executable"
                self.outcomes[path] = FileOutcome("changed", executable)
            elif path not in self.outcomes:
                self.outcomes[path] = FileOutcome(state, why)
        for path, new in after.items():
            if new is None and self._is_something(path):
                self._fail(path, f"{self.argv[0]} left neither a file nor a link in its place")
            elif new is None:
                self.outcomes[path] = FileOutcome("changed", "deleted")
            elif not new.is_file:
                self.outcomes[path] = FileOutcome("changed", "a symbolic link now")

    def _fail(self, path: str, why: str) -> None:
        self.restore(path, self.originals[path])
        self.outcomes[path] = FileOutcome("failed", why)

    def restore(self, path: str, seen: _Seen) -> bool:
        """Put a file back as it was, never through a link that is there instead; whether that was needed."""
        if self.now(path) == seen:
            return False
        place = self._place(path)
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        self.workspace.write(path, seen.data, executable=seen.mode == MODE_EXECUTABLE)
        return True

    def _is_something(self, path: str) -> bool:
        return os.path.lexists(self._place(path))

    def _place(self, path: str) -> Path:
        return self.folder / _on_disk(path)

    def _why(self, code: int | None, said: bytes) -> str:
        lines = said.decode("utf-8", "replace").strip().splitlines()
        tail = " | ".join(line.strip() for line in lines[-3:])[-400:]
        return (
            f"{self.argv[0]}: "
            + (f"exit code {code}" if code is not None else "did not end")
            + (f": {tail}" if tail else "")
        )
