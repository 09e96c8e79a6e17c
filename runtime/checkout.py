"""The user's checkout: looked at before a run, and changed in one place, by a landing, under the lock that git itself uses.

Knows files, index and what the user may be in the middle of; not what lands. While `Checkout.locked` holds `index.lock` no git of the
user's changes index or branch by a checkout, a commit or a rebase. Git works on a copy of the index meanwhile, which takes the
index's place when all files are written; so a kill leaves the index whole, and our lock, which says that it is ours and whose
holder's death the kernel tells us. A landing that was cut off is taken up again: files that already are what it would write
are no uncommitted work.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from .aside import SUFFIX, Aside, remove_unfinished
from .core.changes import MODE_EXECUTABLE, MODE_LINK, MODE_SUBMODULE, Change, path_bytes, path_text
from .errors import RepositoryRefused
from .failpoints import hit
from .git import GitFailed, Repository, blob_id
from .packs import flush_folder

_MARK: Final = b"held by journeyman; private index: "
_WHOLE: Final = ("-c", "core.splitIndex=false")  # the copy stands for itself
_UNDER_WAY: Final = {
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase",
    "MERGE_HEAD": "a merge",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "sequencer": "a cherry-pick or a revert of several commits",
    "BISECT_LOG": "a bisection",
}


def under_way(repository: Repository) -> str | None:
    """What the user is in the middle of ("a rebase"), or None."""
    return next((what for name, what in _UNDER_WAY.items() if (repository.git_dir / name).exists()), None)


def branch_to_land_on(repository: Repository) -> tuple[str, str]:
    """(the branch that is checked out, its commit). Raises RepositoryRefused when nothing can land on it as things are; what only
    shows when the result is known is not looked at."""
    branch = repository.head_branch()
    if branch is None:
        busy = under_way(repository)
        doing = f" ({busy} is under way; finish or abort it first)" if busy else ""
        raise RepositoryRefused(f"HEAD is detached; check out the branch that the result should land on{doing}")
    busy = under_way(repository)
    if busy:
        raise RepositoryRefused(f"{busy} is under way in this work tree; finish or abort it first")
    head = repository.ref(branch)
    if head is None:
        raise RepositoryRefused(f"{branch} has no commit yet; make a first one with: git commit")
    unmerged = repository.run("ls-files", "--unmerged", "-z").split(b"\0")
    if unmerged != [b""]:
        names = sorted({path_text(row.partition(b"\t")[2]) for row in unmerged if row})
        raise RepositoryRefused(
            f"the index has unresolved conflicts; resolve and commit them first: {', '.join(names)}"
        )
    return branch, head


class Checkout:
    """The checkout while its index is locked by us; see `locked`."""

    def __init__(self, repository: Repository, private: Path, lock: int) -> None:
        self._repository = repository
        self._private = private
        self._lock = lock
        self._aside: Aside | None = None  # what was there before `switch`

    @classmethod
    @contextlib.contextmanager
    def locked(cls, repository: Repository) -> Iterator[Checkout]:
        """Hold the index's lock. Raises RepositoryRefused when another git has it; a lock of ours whose holder is dead is removed."""
        place = repository.git_dir / "index.lock"
        private = repository.common_dir / "journeyman" / f"index-{secrets.token_hex(8)}"
        mark = private.with_suffix(".lock")
        with contextlib.ExitStack() as stack:
            try:
                private.parent.mkdir(exist_ok=True)
                file = stack.enter_context(open(mark, "xb"))
                _lock(file, mark, place, private)
            except FileExistsError:
                raise RepositoryRefused(
                    f"{place} exists: another git is at work in this work tree; if none is, remove that file"
                ) from None
            except OSError as error:
                raise RepositoryRefused(f"{place}: {error.strerror}; nothing was changed") from error
            checkout = cls(repository, private, file.fileno())
            try:
                _mend(repository)
                yield checkout
            except BaseException:
                checkout._put_back()
                raise
            else:
                checkout._strike()
            finally:
                place.unlink(missing_ok=True)
                _remove_private(private)

    # --- what would be lost ------------------------------------------------------------------------------------

    def refuse_overwriting(self, changes: Sequence[Change]) -> list[Change]:
        """Those of the changes that are in the work tree already, as a landing that was cut off left them. Raises
        RepositoryRefused when making the others would overwrite uncommitted work."""
        repository = self._repository
        dirty = repository.dirty()
        by_path = {change.path: change for change in changes}
        suspects = [change for change in changes if change.path in dirty]
        others = repository.untracked_at(changes)
        suspects += [by_path[path] for path in sorted(others & by_path.keys()) if path not in dirty]
        there = self._there_already(suspects)
        done = {change.path for change in there}
        lost = [change.path for change in suspects if change.path not in done] + sorted(others - by_path.keys())
        if lost:
            raise RepositoryRefused(
                "landing would overwrite uncommitted work; commit or stash it first: " + ", ".join(dict.fromkeys(lost))
            )
        return there

    def _there_already(self, changes: Sequence[Change]) -> list[Change]:
        if not changes:
            return []
        repository = self._repository
        names = [path_bytes(change.path) for change in changes]
        rows = repository.run("--literal-pathspecs", "ls-files", "--stage", "-z", "--", *names).split(b"\0")
        index = {row.partition(b"\t")[2]: row.split(b" ")[1].decode() for row in rows if row}
        files = [name for name in names if b"\n" not in name and self._is_file(name)]
        said = repository.run("hash-object", "--stdin-paths", stdin=b"".join(b"./" + name + b"\n" for name in files))
        on_disk = dict(zip(files, said.decode().split(), strict=True))
        return [
            change
            for change, name in zip(changes, names, strict=True)
            if index.get(name) in (change.was, change.oid) and self._is_as(change, name, on_disk.get(name))
        ]

    def _where(self, name: bytes) -> bytes:
        return os.path.join(os.fsencode(self._repository.work_tree), name)

    def _is_file(self, name: bytes) -> bool:
        with contextlib.suppress(OSError):
            return stat.S_ISREG(os.lstat(self._where(name)).st_mode)
        return False

    def _is_as(self, change: Change, name: bytes, oid: str | None) -> bool:
        """Whether the work tree has what a change leaves at its path."""
        where = self._where(name)
        if change.oid is None:  # a folder in its place is what other changes make there
            return not os.path.lexists(where) or (os.path.isdir(where) and not os.path.islink(where))
        if change.mode == MODE_LINK:
            return os.path.islink(where) and blob_id(os.readlink(where)) == change.oid
        if change.mode == MODE_SUBMODULE or oid != change.oid:
            return False
        return not self._repository.keeps_modes() or bool(os.lstat(where).st_mode & 0o100) == (
            change.mode == MODE_EXECUTABLE
        )

    # --- the change --------------------------------------------------------------------------------------------

    def switch(self, old: str, new: str, changes: Sequence[Change], done: Collection[Change] = ()) -> None:
        """Take index and files from tree `old` to tree `new`, only where they differ (`changes`); other changes stay. `done` are
        in the work tree already. Whatever is raised, here or before the lock is let go, index and files are put back. Raises
        RepositoryRefused when git cannot, or the disk is full."""
        repository = self._repository
        index = repository.git_dir / "index"
        ours = {change.path for change in done}
        others = [change for change in changes if change.path not in ours]
        try:
            with contextlib.suppress(FileNotFoundError):
                shutil.copy2(index, self._private)
            self._aside = Aside.keep(self._private.with_suffix(SUFFIX), repository.work_tree, index, others)
            if done:
                self._git("update-index", "-z", "--index-info", stdin=b"".join(map(_index_line, done)))
            self._refresh()  # files that were put back are the same ones, with other times
            try:
                self._git("read-tree", "-m", "-u", old, new)
            except GitFailed as error:
                raise self._told(error, others) from error
            self._refresh()
            with open(self._private, "rb") as file:
                os.fsync(file.fileno())
            hit("checkout.index.before")
            os.rename(self._private, index)
            hit("checkout.index.after")
            flush_folder(index.parent)
        except OSError as error:
            raise RepositoryRefused(f"{error.filename or index}: {error.strerror}; nothing was changed") from error

    def _told(self, error: GitFailed, changes: Sequence[Change]) -> RepositoryRefused:
        """What git could not do, with the reason that it leaves out."""
        repository = self._repository
        lines = str(error).splitlines()
        said = "; ".join(lines[:3]) + (f"; and {len(lines) - 3} more" if len(lines) > 3 else "")
        needed = sum(
            repository.blob_size(bytes.fromhex(one.oid)) for one in changes if one.oid and one.mode != MODE_SUBMODULE
        )
        free = shutil.disk_usage(repository.work_tree).free
        if free < needed:
            said += f"; there is no space left for it ({free // 1024} KiB free): make room, then land again"
        return RepositoryRefused(f"{said}. Nothing was changed")

    def _refresh(self) -> None:
        with contextlib.suppress(GitFailed):  # it says so when something of the user's differs
            self._git("update-index", "-q", "--refresh")

    def _put_back(self) -> None:
        if self._aside is not None:
            self._aside.put_back()
            self._strike()

    def _strike(self) -> None:
        if self._aside is not None:
            self._aside.strike()

    def _git(self, *arguments: str | bytes, stdin: bytes | None = None) -> bytes:
        return self._repository.run(
            *_WHOLE,
            *arguments,
            stdin=stdin,
            smudge_lfs=True,
            more={"GIT_INDEX_FILE": str(self._private)},
            holding=(self._lock,),  # if we die, the lock is held until git has ended
        )


def _index_line(change: Change) -> bytes:
    oid = change.oid or "0" * 40
    return b"%o %s\t%s\0" % (change.mode or 0, oid.encode(), path_bytes(change.path))


def _lock(file: BinaryIO, mark: Path, place: Path, private: Path) -> None:
    """Make `place` a name of a file that is locked already: it is never seen unheld while we live. Raises FileExistsError."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(_MARK + os.fsencode(private.name) + b"\n")
        file.flush()
        hit("checkout.lock.before")
        try:
            os.link(mark, place)
        except FileExistsError:
            _remove_if_dead(place, private.parent)
            os.link(mark, place)
        hit("checkout.lock.after")
    finally:
        mark.unlink()


def let_go(repository: Repository) -> None:
    """Remove an `index.lock` that a dead process of ours left, and what it had set aside. For whoever has found that what it was taken
    for is done."""
    _remove_if_dead(repository.git_dir / "index.lock", repository.common_dir / "journeyman")
    for left in _left(repository):
        left.strike()


def _left(repository: Repository) -> Iterator[Aside]:
    return Aside.left(repository.common_dir / "journeyman", repository.work_tree, repository.git_dir / "index")


def _mend(repository: Repository) -> None:
    """Put the files back that a landing was in the middle of when git was killed with it."""

    def content(blob: str, name: bytes) -> bytes:
        return repository.run("cat-file", "--filters", b"--path=" + name, blob, smudge_lfs=True)

    for left in _left(repository):
        left.mend(content)
        left.strike()


def sweep(repository: Repository) -> None:
    """Remove what a process that died just before it had the index's lock left beside the journal."""
    folder = repository.common_dir / "journeyman"
    remove_unfinished(folder)
    for mark in folder.glob("index-*.lock"):
        with contextlib.suppress(FileNotFoundError, BlockingIOError), open(mark, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mark.unlink()


def _remove_if_dead(lock: Path, folder: Path) -> None:
    """Remove an `index.lock` that says it is ours and that no process holds any more, with the copy of the index it names."""
    with contextlib.suppress(FileNotFoundError), open(lock, "rb") as file:
        said = file.read(4096)
        if not said.startswith(_MARK):
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        name = os.fsdecode(said.removeprefix(_MARK).strip())
        if os.path.basename(name) == name and name.startswith("index-"):
            _remove_private(folder / name)
        lock.unlink(missing_ok=True)


def _remove_private(index: Path) -> None:
    for left in (index, index.with_name(f"{index.name}.lock")):
        left.unlink(missing_ok=True)
