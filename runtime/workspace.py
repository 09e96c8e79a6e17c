"""What a handler is given: the brief, and the workspace where its files are.

The interface of both kinds of workspace, in memory (`overlay`) and on disk (`worktrees`). Knows nothing of how either works.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import attrs

from .core.changes import Changeset
from .core.task import Specialist, Task

if TYPE_CHECKING:
    from .conversation import Conversation


@attrs.define
class Brief:
    """What an attempt is asked to do.

    `results` holds the values of the tasks named in `task.after`; `files` the task's `writes`, expanded to the files that
    exist in its base; `instance` is the name of the instance it runs on, like "interface-2"; `conversation` is for handlers that
    talk to a model (those with an attribute `talks` that is true).
    """

    task: Task
    attempt: int
    instance: str
    results: Mapping[str, Any]
    files: tuple[str, ...] = ()
    conversation: Conversation | None = attrs.field(default=None, kw_only=True, repr=False)
    _say: Callable[[str, str], None] = attrs.field(default=lambda instance, words: None, repr=False)

    def progress(self, words: str) -> None:
        """A line for whoever watches: what this attempt is at."""
        self._say(self.instance, words)


class Equipment(AbstractAsyncContextManager[Any], Protocol):
    """Ways of working that specialists can be given, such as `specialists.Ways`; in use while a runtime is open."""

    def equip(self, specialists: Iterable[Specialist]) -> Sequence[Specialist]:
        """The specialists with a handler that knows the ways."""


@runtime_checkable
class Workspace(Protocol):
    """The files of one attempt. Paths are relative to the repository, with `/`."""

    base: str
    """The commit the files come from."""

    @property
    def path(self) -> Path | None:
        """The folder, when the workspace is on disk."""

    def read(self, path: str) -> bytes:
        """A file's bytes (a symlink's target). Raises FileNotFoundError."""

    def read_text(self, path: str) -> str:
        """A file as UTF-8 text. Raises FileNotFoundError, UnicodeDecodeError."""

    def write(self, path: str, data: bytes | str, *, executable: bool | None = None) -> None:
        """Make or replace a file; None keeps its mode. Raises ClaimViolation outside the task's claims."""

    def delete(self, path: str) -> None:
        """Remove a file. Raises FileNotFoundError, ClaimViolation."""

    def exists(self, path: str) -> bool:
        """Whether the file is there."""

    def list(self, pattern: str = "**") -> list[str]:
        """The files that a glob matches, sorted."""

    def mode(self, path: str) -> int | None:
        """The file's git mode (0o100644, 0o100755, 0o120000), or None."""

    async def request(self, path: str) -> None:
        """Ask for one more path to write; waits for it. Raises ClaimViolation with the holders when it cannot be had."""

    def changeset(self) -> Changeset:
        """What has changed against the base; contents are stored in the repository."""

    def state(self, may_tell: Callable[[bytes], bool]) -> tuple[Changeset, dict[str, bytes]]:
        """What has changed, as `changeset`, to be written down after each turn: an object of the repository's for each edit would cost
        more than all else. Contents that neither it nor an earlier `state` has come along, {blob id: bytes}, if `may_tell`; the
        repository keeps the others."""


MayWrite = Callable[[str], bool]
Request = Callable[[str], Awaitable[None]]
