"""Loose git objects, written by us: under a temporary name that tells whose it is, and flushed before a ref points at them.

Knows git's format of a loose object and nothing of what is in one. libgit2 would leave nameless temporary files behind when the
process dies in the middle, and would not flush. Names begin with `tmp_obj_`, so that git's own `prune` takes them away too.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import zlib
from collections.abc import Iterator
from hashlib import sha1
from pathlib import Path
from typing import Final

from . import failpoints

_TEMPORARY: Final = "tmp_obj_journeyman_"
_FAST: Final = 1  # git's own level for loose objects


class ObjectStore:
    """The objects folder of one repository. `write` may be called from several threads at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = itertools.count()
        self._unflushed: list[str] = []  # paths of objects, in the order in which they were written

    def write(self, kind: str, data: bytes) -> str:
        """Store an object of a kind (`blob`, `tree`, `commit`); returns its id. Raises OSError when the disk is full."""
        body = b"%s %d\0%s" % (kind.encode(), len(data), data)
        oid = sha1(body, usedforsecurity=False).hexdigest()
        place = f"{self.folder}/{oid[:2]}"
        path = f"{place}/{oid[2:]}"
        if not os.path.exists(path):
            temporary = f"{self.folder}/{_TEMPORARY}{os.getpid()}_{next(self._count)}"
            try:
                self._put(temporary, zlib.compress(body, _FAST))
                os.makedirs(place, exist_ok=True)
                failpoints.hit("object.rename.before")
                os.rename(temporary, path)
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
            failpoints.hit("object.rename.after")
        self._unflushed.append(path)
        return oid

    def _put(self, path: str, data: bytes) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
        finally:
            os.close(fd)

    def flush(self) -> None:
        """Make durable what was written since the last time, folders included. Raises OSError."""
        paths = self._unflushed[:]  # the list stays the same object: another thread may be about to append to it
        del self._unflushed[: len(paths)]
        for path in (*dict.fromkeys(paths), *dict.fromkeys(os.path.dirname(path) for path in paths)):
            with contextlib.suppress(FileNotFoundError):  # git has packed it meanwhile, and git flushes packs
                flush(path)

    def leftovers(self) -> Iterator[Path]:
        """Temporary files of processes that are dead."""
        for path in self.folder.glob(f"{_TEMPORARY}*"):
            pid = path.name.removeprefix(_TEMPORARY).partition("_")[0]
            if pid.isdigit() and int(pid) != os.getpid() and not _alive(int(pid)):
                yield path


def flush(path: str | Path) -> None:
    """Make a file, or the names in a folder, durable. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
