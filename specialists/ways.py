"""The ways of working, as one handler: a task's own way decides which (rewrite, codemod, exec), else its specialist's.

Knows which way needs what; the work itself is in `edits` (inside worker processes) and `command`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import attrs

from runtime.core.changes import MODE_LINK, MODE_SUBMODULE
from runtime.core.task import Codemod, Handler, Specialist
from runtime.errors import BadInput, GiveUp
from runtime.workspace import Brief, Workspace

from . import edits
from .claude import Claude
from .command import SIZE_CAP_BYTES, Command
from .outcome import FileOutcome, settle
from .own import Code, OwnHandler
from .workers import Workers

_CHUNK: Final = 16  # files a job


@attrs.define
class Ways:
    """An async context around a Runtime. `jobs` worker processes, or batches of a program, at most (as many as cores); `root` is
    where a codemod `file.py:name` is looked for; `look_ahead` also finds out whether another pass would change more;
    `pass_environment` is for commands, as `Command` has it."""

    jobs: int | None = None
    root: str = "."
    size_cap_bytes: int = SIZE_CAP_BYTES
    look_ahead: bool = False
    claude: Claude = attrs.field(factory=Claude)
    pass_environment: Mapping[str, Sequence[str]] = attrs.field(factory=dict)
    workers: Workers = attrs.field(init=False)
    command: Command = attrs.field(init=False)
    _codes: list[Code] = attrs.field(init=False, factory=list)  # of handlers' own

    def __attrs_post_init__(self) -> None:
        self.workers = Workers() if self.jobs is None else Workers(self.jobs)
        self.command = Command(self.size_cap_bytes, self.look_ahead, self.pass_environment, self.workers.count)
        self.root = str(Path(self.root).absolute())

    async def __aenter__(self) -> Ways:
        await self.workers.__aenter__()
        await self.claude.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.claude.__aexit__(kind, error, trace)
            await self.workers.__aexit__(kind, error, trace)
        finally:
            while self._codes:
                self._codes.pop().close()

    def equip(self, specialists: Iterable[Specialist]) -> list[Specialist]:
        """The specialists with a handler that knows all the ways; a specialist's own handler stays its own way, and who has none
        works with Claude. Loads the handlers that a configuration names, as they are now. Raises BadInput."""
        codes: dict[Path, Code] = {}
        found = []
        for one in specialists:
            own = one.handler
            if isinstance(own, OwnHandler):
                if own.root not in codes:
                    codes[own.root] = Code(own.root)
                    self._codes.append(codes[own.root])
                own = own.load(codes[own.root])
            found.append(attrs.evolve(one, handler=self.handler(own or self.claude.handler(one))))
        return found

    def handler(self, own: Handler | None = None) -> Handler:
        """A handler that goes by the task's way; `own` is for tasks without one."""

        async def work(brief: Brief, workspace: Workspace) -> Any:
            way = brief.task.way
            if way == "exec":
                return await self.command.work(brief, workspace)
            if way:
                return await self._edit(brief, workspace, way)
            if own is None:
                raise GiveUp(
                    f"task {brief.task.id!r} names no way (rewrite, codemod or exec), and the specialist "
                    f"{brief.task.specialist!r} has none of its own here"
                )
            return await own(brief, workspace)

        work.on_trio = True  # type: ignore[attr-defined]  # for `runtime.aio`: it is written for the runtime's own loop
        work.talks = getattr(own, "talks", False)  # type: ignore[attr-defined]  # for the engine: see `claude`
        return work

    # --- rewrite and codemod -----------------------------------------------------------------------------------

    async def _edit(self, brief: Brief, workspace: Workspace, kind: str) -> dict[str, Any]:
        outcomes: dict[str, FileOutcome] = {}
        wanted = self._needles(brief)
        jobs: list[tuple[str, bytes]] = []
        for path in brief.files:
            data = self._candidate(path, workspace, wanted, outcomes)
            if data is not None:
                jobs.append((path, data))
        more = 0
        for at in range(0, len(jobs), _CHUNK):
            chunk = jobs[at : at + _CHUNK]
            brief.progress(chunk[0][0] if len(jobs) == 1 else f"{chunk[0][0]} and on, {len(jobs) - at} to go")
            answers = await self.workers.call(kind, self._way(brief, kind), chunk)
            for (path, _), (state, why, new, again) in zip(chunk, answers, strict=True):
                outcomes[path] = FileOutcome(state, why)  # type: ignore[arg-type]  # the worker's words are these
                more += again
                if new is not None:
                    workspace.write(path, new)
        return settle(outcomes, **({"more": more} if more else {}))

    def _way(self, brief: Brief, kind: str) -> dict[str, Any]:
        task = brief.task
        common = {"passes": task.passes, "look_ahead": self.look_ahead}
        if kind == "rewrite":
            assert task.rewrite is not None
            return {**attrs.asdict(task.rewrite), **common}
        assert task.codemod is not None
        return {"name": task.codemod.name, "args": dict(task.codemod.args), "root": self.root, **common}

    def _needles(self, brief: Brief) -> tuple[bytes, ...]:
        task = brief.task
        found = edits.needles(task.rewrite.pattern) if task.rewrite is not None else ()
        return (*found, task.containing.encode()) if task.containing else found

    def _candidate(
        self, path: str, workspace: Workspace, wanted: Sequence[bytes], outcomes: dict[str, FileOutcome]
    ) -> bytes | None:
        """The file's bytes, if it has to be looked at; else its outcome is noted."""
        if workspace.mode(path) in (MODE_LINK, MODE_SUBMODULE):
            outcomes[path] = FileOutcome("skipped", "a symbolic link or a submodule")
            return None
        data = workspace.read(path)
        verdict = prefilter(path, data, wanted, self.size_cap_bytes)
        if verdict is not None:
            outcomes[path] = verdict
            return None
        return data


def prefilter(path: str, data: bytes, wanted: Sequence[bytes], size_cap_bytes: int) -> FileOutcome | None:
    """The outcome of a file that need not be parsed, or None."""
    if len(data) > size_cap_bytes:
        return FileOutcome("skipped", f"{len(data)} bytes; the cap is {size_cap_bytes}")
    if b"\0" in data[:8000]:
        return FileOutcome("skipped", "it is binary")
    for word in wanted:
        if word not in data:
            return FileOutcome("unchanged", f"{word.decode()!r} is not in it")
    return None


def codemod_problem(root: str) -> Callable[[Codemod], str | None]:
    """What `plan.check` asks about codemods: why one cannot be used, or None. Nothing of the repository's is executed."""
    look = cache(partial(edits.look_for_codemod, root=Path(root)))  # many tasks have the same

    def problem(codemod: Codemod) -> str | None:
        try:
            call = look(codemod.name)
        except BadInput as error:
            return str(error)
        return edits.arguments_problem(call, codemod.args)

    return problem
