"""One attempt in a repository: where its files are, what it may write, what it gives back, and how that gets onto the line.

Knows workspaces, claims and the line; not which task is next nor when one is done. Without a repository nothing here is used.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from . import claims
from .checks import run_checks, run_command
from .conversation import Conversation
from .core.changes import MODE_EXECUTABLE, MODE_LINK, Changeset
from .core.commands import Start
from .core.ownership import Registry
from .core.task import Handler, Plan, Specialist, Task
from .errors import ClaimViolation, JourneymanError, PathsGone
from .git import Repository
from .journal import Reader
from .lease import Lease
from .line import Answer, Job, Line
from .overlay import Overlay
from .recovery import tidy
from .report import CheckResult
from .workspace import Brief, Workspace
from .worktrees import Pool

_SEARCH_S = 30.0
_LINE_LIMIT, _LINES_LIMIT, _HITS_A_FILE = 500, 300, 50  # of what a search gives: characters, lines, lines a file

Ask = Callable[[Start, str], Awaitable[None]]
Say = Callable[[str, str], None]


@attrs.define
class Attempts:
    """The repository of one run."""

    repository: Repository
    specialists: Mapping[str, Specialist]
    registry: Registry
    line: Line | None = None
    pool: Pool = attrs.field(init=False)
    grow: bool = False

    def __attrs_post_init__(self) -> None:
        self.pool = Pool(self.repository)

    @classmethod
    async def open(cls, path: str | Path, specialists: Mapping[str, Specialist], registry: Registry) -> Attempts:
        """Raises BadInput or RepositoryRefused."""
        repository = await trio.to_thread.run_sync(Repository.open, path)
        return cls(repository, specialists, registry)

    def configure(self, plan: Plan) -> None:
        """Take the plan's rules."""
        self.grow = plan.claims == "grow"
        self.pool.setup = plan.setup
        self.pool.setup_timeout_s = plan.setup_timeout_s

    async def refuse_full_disk(self, plan: Plan, base: str) -> None:
        """Raises RepositoryRefused where a task or a check of a plan needs a worktree that the disk has no room for."""
        if plan.checks or any(self._on_disk(task) for task in plan.tasks):
            await trio.to_thread.run_sync(self.pool.refuse_full_disk, base)

    def _on_disk(self, task: Task) -> bool:
        return task.exec is not None or (not task.way and self.specialists[task.specialist].isolation == "worktree")

    async def begin(self, run: str, base: str, *, alone: bool = True, journal: Reader | None = None) -> Line:
        """Make the run's line, or find it as an earlier process left it. `alone`: no other run of this process is in the
        repository, so what looks left over is; `journal` tells which runs are over."""
        if alone:
            await trio.to_thread.run_sync(tidy, self.repository, journal)
        self.line = await trio.to_thread.run_sync(Line, self.repository, run, base)
        return self.line

    # --- an attempt --------------------------------------------------------------------------------------------

    async def perform(
        self,
        task: Task,
        start: Start,
        results: Mapping[str, Any],
        handler: Handler,
        ask: Ask,
        say: Say,
        conversation: Conversation | None = None,
    ) -> tuple[Any, Changeset]:
        """Run a handler in a workspace at the line's tip (a conversation that goes on: where it began); gives its value and its
        changeset, judged by the claims."""
        assert self.line is not None
        kept = _kept(conversation)
        base = self.line.tip if kept is None else kept.base
        specialist = self.specialists[task.specialist]
        files = self.files_of(task, base)

        def may_write(path: str) -> bool:
            return self._may_write(task, specialist, path)

        async def request(path: str) -> None:
            await ask(start, path)

        if conversation is not None:
            conversation = self._equipped(conversation, task, start, specialist, ask)
        brief = Brief(task, start.attempt, start.instance, results, files, say, conversation=conversation)
        if kept is not None and conversation is not None:
            await self._own_again(task, kept, conversation)
        overlay = Overlay(self.repository, base, task=task.id, may_write=may_write, request=request)
        if kept is not None:
            overlay.restore(kept, conversation.contents if conversation is not None else {})
        if self._on_disk(task):
            async with (
                self.pool.lease(base, task=task.id, may_write=may_write, request=request) as lease,
                self._kept_when_it_fails(task, start, lease),
            ):
                if kept is not None:
                    await trio.to_thread.run_sync(_lay_out, lease, kept, overlay)
                value = await handler(brief, lease)
                changeset = await trio.to_thread.run_sync(lease.last_changeset)
                return value, await self._judged(task, start, specialist, changeset, ask)
        async with self._kept_when_it_fails(task, start, overlay):
            value = await handler(brief, overlay)
            return value, await self._judged(task, start, specialist, overlay.changeset(), ask)

    async def _own_again(self, task: Task, kept: Changeset, conversation: Conversation) -> None:
        """What a conversation that goes on was granted, it has to be granted again: a crash, a pause and a failure give claims back.
        Raises PathsGone when somebody else has one of them for good."""
        for path in kept.paths:
            if not claims.covers(task.writes, path):
                try:
                    await conversation.request(path)
                except ClaimViolation as error:
                    raise PathsGone(f"{path} went to {', '.join(error.holders) or 'another task'} meanwhile") from None

    @asynccontextmanager
    async def _kept_when_it_fails(self, task: Task, start: Start, workspace: Workspace) -> AsyncIterator[None]:
        """What an attempt did before it failed or was stopped stays reachable until the run is collected."""
        assert self.line is not None
        try:
            yield
        except BaseException as error:
            with trio.CancelScope(shield=True):
                try:
                    changeset = await trio.to_thread.run_sync(workspace.changeset)
                    await trio.to_thread.run_sync(self.line.keep, task.id, start.attempt, changeset, _why(error))
                except (JourneymanError, OSError) as unkept:  # the first error is the one that counts
                    error.add_note(f"what it had done could not be kept: {unkept}")
            raise

    def _equipped(
        self, conversation: Conversation, task: Task, start: Start, specialist: Specialist, ask: Ask
    ) -> Conversation:
        async def claim(path: str) -> None:
            if self.registry.covers(task.id, path):
                return
            holders = self._held_by_others(task, path)
            if holders or not (claims.covers(task.writes, path) or self._may_grow(task, specialist, path)):
                raise ClaimViolation(task.id, [path], holders)
            await ask(start, path)  # also for a new file that a glob covers: another task may name it

        async def request(path: str) -> None:
            if not self.registry.covers(task.id, path):
                await ask(start, path)

        async def check(workspace: Workspace, commands: Sequence[str]) -> list[CheckResult]:
            changeset = workspace.changeset()
            async with self.pool.lease(changeset.base) as lease:
                await trio.to_thread.run_sync(_lay_out, lease, changeset, workspace)
                return await run_checks(commands, lease.folder)

        def may_ask(path: str) -> bool:
            return (
                self._may_grow(task, specialist, path) or bool(talk.planned(path)) or claims.covers(task.writes, path)
            )

        async def search(workspace: Workspace, pattern: str, under: str) -> str:
            changeset = workspace.changeset()
            base = self.repository.tree_of(changeset.base)
            tree = await trio.to_thread.run_sync(self.repository.apply, base, changeset.changes)
            await trio.to_thread.run_sync(self.repository.flush)  # for the program to see it
            return await self._grep(tree, pattern, under)

        talk = conversation
        return attrs.evolve(
            conversation,
            may_ask=may_ask,
            search=search,
            claim=claim,
            request=request,
            owners=lambda path: self._held_by_others(task, path),
            check=check,
        )

    async def _grep(self, tree: str, pattern: str, under: str) -> str:
        """Git's own search of a tree, so that what is only in memory is found too, and no pattern can hang us. What git says of a
        bad pattern is the answer."""
        words = [
            "git",
            "--git-dir",
            str(self.repository.git_dir),
            "grep",
            "-nIE",
            "--no-color",
            f"--max-count={_HITS_A_FILE}",
        ]
        words += ["-e", pattern, tree]
        code, said = await run_command([*words, "--", under] if under else words, self.repository.work_tree, _SEARCH_S)
        text = said.decode("utf-8", "replace").replace(f"{tree}:", "")
        lines = [line[:_LINE_LIMIT] for line in text.splitlines()]
        return "" if code == 1 else "\n".join(lines[:_LINES_LIMIT])

    def files_of(self, task: Task, commit: str) -> tuple[str, ...]:
        """The files a task's `writes` cover in a commit, sorted."""
        tree = self.repository.tree_of(commit)
        if all(not claims.is_glob(one) and not one.endswith("/") for one in task.writes):
            return tuple(sorted(one for one in set(task.writes) if self.repository.lookup(tree, one) is not None))
        return claims.expand(task.writes, self.repository.files(tree))

    def size_of(self, task: Task) -> int:
        """Bytes of the files a task writes, as they are in the base."""
        if self.line is None:
            return 0
        tree = self.repository.tree_of(self.line.base)
        found = (self.repository.lookup(tree, path) for path in self.files_of(task, self.line.base))
        return sum(self.repository.blob_size(entry[1]) for entry in found if entry is not None)

    def _may_write(self, task: Task, specialist: Specialist, path: str) -> bool:
        """The gate of `write`: the task's claims and what it was granted since. A path that is anybody's or nobody's passes only
        where claims may grow; the registry has the last word when the changeset is judged."""
        if claims.covers(task.writes, path) or self.registry.covers(task.id, path):
            return True
        return self._may_grow(task, specialist, path) and not self._held_by_others(task, path)

    def _may_grow(self, task: Task, specialist: Specialist, path: str) -> bool:
        if task.writes:
            return self.grow
        return self.grow or claims.covers(specialist.writes, path)

    def _held_by_others(self, task: Task, path: str) -> tuple[str, ...]:
        holders = self.registry.owner(path) + self.registry.readers(path)
        return tuple(dict.fromkeys(holder for holder in holders if holder != task.id))

    async def _judged(
        self, task: Task, start: Start, specialist: Specialist, changeset: Changeset, ask: Ask
    ) -> Changeset:
        """The changeset, if every path is the task's own, or is free and may be claimed on the spot. Raises ClaimViolation."""
        outside = [
            path
            for path in changeset.paths
            if not self.registry.covers(task.id, path) and not self._by_glob(task, path)
        ]
        foreign = [path for path in outside if not self._may_grow(task, specialist, path)]
        if foreign:
            holders = dict.fromkeys(one for path in foreign for one in self._held_by_others(task, path))
            raise ClaimViolation(task.id, foreign, holders)
        for path in outside:
            await ask(start, path)
        return changeset

    def _by_glob(self, task: Task, path: str) -> bool:
        """A new file that a glob of the task's covers and nobody holds."""
        return claims.covers(task.writes, path) and not self._held_by_others(task, path)

    # --- the line ----------------------------------------------------------------------------------------------

    async def merge(self, batch: Sequence[tuple[Task, int, Changeset]]) -> list[Answer]:
        """Take changesets to the line, in one batch."""
        assert self.line is not None
        jobs = [Job(task.id, attempt, changeset, subject(task)) for task, attempt, changeset in batch]
        return await trio.to_thread.run_sync(self.line.merge, jobs)

    async def roll_back(self, tasks: Sequence[str], cause: str) -> Answer:
        """Take tasks' changes off the line again."""
        assert self.line is not None
        return await trio.to_thread.run_sync(self.line.revert, tasks, f"`{cause}` failed.")


def _kept(conversation: Conversation | None) -> Changeset | None:
    """The workspace as the last turn left it."""
    if conversation is None or not conversation.turns:
        return None
    return conversation.turns[-1].state


def _lay_out(lease: Lease, changeset: Changeset, workspace: Workspace) -> None:
    """Make a worktree's files those of a workspace in memory."""
    for change in changeset.changes:
        if change.oid is None:
            lease.delete(change.path)
    for change in changeset.changes:
        if change.oid is not None and change.mode == MODE_LINK:
            lease.symlink(change.path, workspace.read(change.path))
        elif change.oid is not None:
            lease.write(change.path, workspace.read(change.path), executable=change.mode == MODE_EXECUTABLE)


def _why(error: BaseException) -> str:
    return "It was stopped." if isinstance(error, trio.Cancelled) else f"It failed: {error}"


def subject(task: Task) -> str:
    """The commit message of a task: its goal, or what its way says."""
    if task.goal.strip():
        return task.goal
    if task.rewrite is not None:
        what = f"Rewrite {task.rewrite.pattern} to {task.rewrite.replace}"
    elif task.codemod is not None:
        what = f"Apply {task.codemod.name}"
    elif task.exec is not None:
        what = f"Run {' '.join(task.exec)}"
    else:
        what = f"{task.specialist}: {task.id}"
    where = f" in {task.writes[0]}" if len(task.writes) == 1 else ""
    return " ".join(f"{what}{where}".split())
