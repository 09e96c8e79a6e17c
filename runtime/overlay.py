"""A workspace in memory: reads from the base tree, keeps writes to itself, needs no disk.

Knows one repository and one commit; not who else works. Making one costs nothing: trees are read when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from . import claims
from .core.changes import MODE_EXECUTABLE, MODE_FILE, MODE_LINK, MODE_SUBMODULE, Change, Changeset
from .errors import ClaimViolation
from .git import Repository, blob_id
from .workspace import MayWrite, Request

# Bytes of a file that `state` gives along; what is larger is an object of the repository's
TOLD_LIMIT: Final = 64 * 1024


class Overlay:
    """See `workspace.Workspace`."""

    path: Path | None = None

    def __init__(
        self,
        repository: Repository,
        base: str,
        *,
        task: str = "",
        may_write: MayWrite = lambda path: True,
        request: Request | None = None,
    ) -> None:
        self.base = base
        self._repository = repository
        self._tree = repository.tree_of(base)
        self._task = task
        self._may_write = may_write
        self._request = request
        self._written: dict[str, tuple[int, bytes] | None] = {}  # {path: (mode, bytes)}; None = deleted
        self._folders: set[str] = set()  # every folder that a written file is in
        self._ids: dict[str, tuple[bytes, str]] = {}  # {path: (bytes, their id)}
        self._changed: tuple[Change, ...] | None = ()  # None: to be found out; it may be asked for after every turn
        self._told: set[str] = set()  # ids of contents that `state` gave
        self._stored: set[str] = set()  # ids of contents that are in the repository

    def restore(self, changeset: Changeset, contents: Mapping[str, bytes]) -> None:
        """Be as another overlay on this base was when it gave this changeset, with these contents and those before it."""
        assert changeset.base == self.base
        for change in changeset.changes:
            if change.oid is None or change.mode is None:
                self._written[change.path] = None
                self._changed = None
            elif change.oid in contents:
                self._put(change.path, change.mode, contents[change.oid])
                self._told.add(change.oid)
            else:
                self._put(change.path, change.mode, self._repository.read_blob(bytes.fromhex(change.oid)))
                self._stored.add(change.oid)

    def read(self, path: str) -> bytes:
        if path in self._written:
            written = self._written[path]
            if written is None:
                raise FileNotFoundError(path)
            return written[1]
        entry = self._repository.lookup(self._tree, path)
        if entry is not None and entry[0] != MODE_SUBMODULE:
            return self._repository.read_blob(entry[1])
        if entry is not None or self._files_in(path):
            raise IsADirectoryError(path)
        raise FileNotFoundError(path)

    def read_text(self, path: str) -> str:
        return self.read(path).decode()

    def write(self, path: str, data: bytes | str, *, executable: bool | None = None) -> None:
        before = self._room_for(path)
        mode = MODE_EXECUTABLE if before == MODE_EXECUTABLE else MODE_FILE  # a link gives way to a file, as on disk
        if executable is not None:
            mode = MODE_EXECUTABLE if executable else MODE_FILE
        self._put(path, mode, data.encode() if isinstance(data, str) else bytes(data))

    def symlink(self, path: str, target: str | bytes) -> None:
        """Make or replace a symbolic link."""
        self._room_for(path)
        self._put(path, MODE_LINK, target.encode() if isinstance(target, str) else target)

    def _put(self, path: str, mode: int, data: bytes) -> None:
        self._written[path] = (mode, data)
        self._changed = None
        folder = path.rpartition("/")[0]
        while folder and folder not in self._folders:
            self._folders.add(folder)
            folder = folder.rpartition("/")[0]

    def delete(self, path: str) -> None:
        self._gate(path)
        if not self.exists(path):
            raise FileNotFoundError(path)
        self._written[path] = None
        self._changed = None

    def exists(self, path: str) -> bool:
        return self.mode(path) is not None

    def mode(self, path: str) -> int | None:
        if path in self._written:
            written = self._written[path]
            return written[0] if written is not None else None
        entry = self._repository.lookup(self._tree, path)
        return entry[0] if entry is not None else None

    def list(self, pattern: str = "**") -> list[str]:
        entries = self._repository.files(self._tree).items()
        files = {path for path, entry in entries if entry[0] != MODE_SUBMODULE}
        files.update(path for path, written in self._written.items() if written is not None)
        files.difference_update(path for path, written in self._written.items() if written is None)
        return sorted(path for path in files if claims.matches(pattern, path))

    async def request(self, path: str) -> None:
        if self._request is None:
            raise ClaimViolation(self._task, [path])
        await self._request(path)

    def changeset(self) -> Changeset:
        changes = self._changes()
        for change in changes:
            self._store(change)
        return Changeset(self.base, changes)

    def state(self, may_tell: Callable[[bytes], bool]) -> tuple[Changeset, dict[str, bytes]]:
        changes = self._changes()
        contents = {}
        # As `core.record.Talk` forgets
        self._told.intersection_update([change.oid for change in changes if change.oid is not None])
        for change in changes:
            oid = change.oid
            if oid is None or oid == change.was or oid in self._told or oid in self._stored:
                continue
            data = self._data(change)
            if len(data) <= TOLD_LIMIT and may_tell(data):
                contents[oid] = data
                self._told.add(oid)
            else:
                self._store(change)
        return Changeset(self.base, changes), contents

    def _changes(self) -> tuple[Change, ...]:
        if self._changed is None:
            changes = []
            for path in sorted(self._written):
                written = self._written[path]
                entry = self._repository.lookup(self._tree, path)
                was = entry[1].hex() if entry is not None else None
                if written is None:
                    if was is not None:
                        changes.append(Change(path, None, None, was))
                    continue
                oid = self._id(path, written[1])
                if entry is None or was != oid or entry[0] != written[0]:
                    changes.append(Change(path, written[0], oid, was))
            self._changed = tuple(changes)
        return self._changed

    def _room_for(self, path: str) -> int | None:
        """The mode of what a write would replace. Raises what a disk would where a file is in the way of a folder, or a folder
        of a file, and ClaimViolation outside the claims."""
        self._gate(path)
        if path.endswith("/"):
            raise IsADirectoryError(path)
        if self._file_above(path) is not None:
            raise NotADirectoryError(self._file_above(path))
        before = self.mode(path)
        if before == MODE_SUBMODULE or (before is None and self._files_in(path)):
            raise IsADirectoryError(path)
        return before

    def _file_above(self, path: str) -> str | None:
        """The file that is where the path would need a folder."""
        folder = path.rpartition("/")[0]
        while folder:
            if folder in self._written:
                if self._written[folder] is not None:
                    return folder
            elif self._repository.lookup(self._tree, folder) is not None:
                return folder
            folder = folder.rpartition("/")[0]
        return None

    def _files_in(self, folder: str) -> bool:
        """Whether there is a file in what would be this folder."""
        inside = f"{folder}/"
        if folder in self._folders and any(
            written is not None and path.startswith(inside) for path, written in self._written.items()
        ):
            return True
        return self._repository.is_folder(self._tree, folder) and any(
            path not in self._written for path in self._repository.files(self._tree, inside)
        )

    def _id(self, path: str, data: bytes) -> str:
        known = self._ids.get(path)
        if known is None or known[0] is not data:
            known = self._ids[path] = (data, blob_id(data))
        return known[1]

    def _data(self, change: Change) -> bytes:
        written = self._written[change.path]
        assert written is not None
        return written[1]

    def _store(self, change: Change) -> None:
        """Have the repository keep what a file is now, where it does not already."""
        if change.oid is not None and change.oid != change.was and change.oid not in self._stored:
            self._repository.write_blob(self._data(change))
            self._stored.add(change.oid)

    def _gate(self, path: str) -> None:
        if claims.problem_with(path) or not self._may_write(path):
            raise ClaimViolation(self._task, [path])
