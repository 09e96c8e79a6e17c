"""What a landing is about to write over, kept beside the journal until the landing is done: put back when it cannot be done, and used
by whoever comes after a kill, when git died with us in the middle of a file.

Knows files of one work tree, what they are to become, and its index as one more file; not branches or locks. All is put back by
renames, which a full disk allows. Nothing here is flushed: after a power cut the originals are in the repository, as they were clean.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs

from .core.changes import Change, path_bytes
from .failpoints import hit

SUFFIX: Final = ".files"
_INDEX: Final = "index"
_LIST: Final = "list"  # written when every copy is there, and before anything of the user's is touched


@attrs.frozen
class _Place:
    """One path: the number of its copy, whether anything was there to copy, and the blob that it is to become, if any."""

    name: bytes
    copy: bytes
    was_there: bool
    becomes: bytes

    def put_back(self, where: bytes) -> None:
        """As it was: unless it has been put back already."""
        if self.was_there and not os.path.lexists(self.copy):
            return
        if self.was_there:
            os.makedirs(os.path.dirname(where), exist_ok=True)
            try:
                os.replace(self.copy, where)
            except OSError:  # another file system
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(where)
                shutil.copy2(self.copy, where, follow_symlinks=False)
        elif os.path.lexists(where) and not _is_folder(where):
            os.unlink(where)
            with contextlib.suppress(OSError):  # not empty
                os.removedirs(os.path.dirname(where))


class Aside:
    """The files that one landing writes, in a folder of its own."""

    def __init__(self, folder: Path, work_tree: Path, index: Path, places: Sequence[_Place]) -> None:
        """Use `keep` or `left`."""
        self._folder = folder
        self._root = os.fsencode(work_tree)
        self._index = index
        self._places = places

    @classmethod
    def keep(cls, folder: Path, work_tree: Path, index: Path, changes: Sequence[Change]) -> Aside:
        """Copy what the changes will write over; copies, because a filter that fails may fail for these too. Raises OSError, with
        nothing kept."""
        try:
            folder.mkdir()
            return cls(folder, work_tree, index, _copied(folder, work_tree, index, changes))
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    @classmethod
    def left(cls, parent: Path, work_tree: Path, index: Path) -> Iterator[Aside]:
        """Those of dead landings in the work tree of an index. Only for the holder of its lock."""
        for folder in sorted(parent.glob(f"index-*{SUFFIX}")):
            with contextlib.suppress(FileNotFoundError):  # it died before it had touched anything
                whose, *rows = (folder / _LIST).read_bytes().split(b"\0")
                if whose == os.fsencode(index):
                    yield cls(folder, work_tree, index, [_place(folder, *one) for one in enumerate(rows)])

    def put_back(self) -> None:
        """Everything as it was."""
        for place in sorted(self._places, key=lambda one: one.was_there):  # first what is new: it may be in the way
            place.put_back(os.path.join(self._root, place.name))
        with contextlib.suppress(FileNotFoundError):  # it was not there
            os.replace(self._folder / _INDEX, self._index)

    def mend(self, content: Callable[[str, bytes], bytes]) -> None:
        """What git was in the middle of as it was: a file that is gone, or is a beginning of what it was to be, as `content` gives it
        for a blob and its path. Whatever else is there may be somebody's work, or is complete."""
        for place in self._places:
            where = os.path.join(self._root, place.name)
            if place.becomes and self._is_cut_off(place, where, content):
                place.put_back(where)

    def _is_cut_off(self, place: _Place, where: bytes, content: Callable[[str, bytes], bytes]) -> bool:
        if not os.path.lexists(where):
            return place.was_there
        if os.path.islink(where) or not os.path.isfile(where):
            return False
        found = _bytes(where)
        if (
            place.was_there
            and not os.path.islink(place.copy)
            and os.path.lexists(place.copy)
            and found == _bytes(place.copy)
        ):
            return False
        whole = content(place.becomes.decode(), place.name)
        return len(found) < len(whole) and whole.startswith(found)

    def strike(self) -> None:
        """It is not needed any more."""
        shutil.rmtree(self._folder, ignore_errors=True)


def remove_unfinished(parent: Path) -> None:
    """Remove what a process left that died before it had everything aside. Only where no landing is under way."""
    for folder in parent.glob(f"index-*{SUFFIX}"):
        if not (folder / _LIST).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _copied(folder: Path, work_tree: Path, index: Path, changes: Sequence[Change]) -> list[_Place]:
    root, places, rows = os.fsencode(work_tree), [], [os.fsencode(index)]
    with contextlib.suppress(FileNotFoundError):
        shutil.copy2(index, folder / _INDEX)
    for number, change in enumerate(changes):
        name = path_bytes(change.path)
        where, copy = os.path.join(root, name), os.path.join(os.fsencode(folder), b"%d" % number)
        there = os.path.islink(where) or os.path.isfile(where)
        if there:
            shutil.copy2(where, copy, follow_symlinks=False)
        places.append(_Place(name, copy, there, (change.oid or "").encode()))
        rows.append(b"%d %s %s" % (there, places[-1].becomes, name))
    hit("checkout.aside.before")
    (folder / "unfinished").write_bytes(b"\0".join(rows))
    os.rename(folder / "unfinished", folder / _LIST)
    hit("checkout.aside.after")
    return places


def _place(folder: Path, number: int, row: bytes) -> _Place:
    there, becomes, name = row.split(b" ", 2)
    return _Place(name, os.path.join(os.fsencode(folder), b"%d" % number), there == b"1", becomes)


def _bytes(where: bytes) -> bytes:
    with open(where, "rb") as file:
        return file.read()


def _is_folder(where: bytes) -> bool:
    return os.path.isdir(where) and not os.path.islink(where)
