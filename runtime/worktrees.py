"""Leased worktrees: workspaces on disk, made once, used again and again, cleaned in between.

Knows the pool of a repository; what is in one worktree is `lease`'s. They live under the user's cache folder, one pool a repository.
What git cannot do at the same time (`worktree add`, `remove`) goes through one lock, in this process and between processes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import attrs
import trio

from .checks import run_command, words_of
from .core.changes import MODE_SUBMODULE
from .errors import RepositoryRefused
from .failpoints import hit
from .git import GitFailed, Repository
from .lease import Lease, remove_all
from .workspace import MayWrite, Request

_SPARE_BYTES: Final = 200 * 1024 * 1024


def cache_folder() -> Path:
    """Where worktrees are kept: the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME")
    # Resolved, because git writes down the real path of a worktree, and ours are found again by it.
    return ((Path(base) if base else Path.home() / ".cache") / "journeyman").resolve()


def pool_folder(repository: Repository) -> Path:
    """The folder of one repository's worktrees."""
    return cache_folder() / hashlib.sha256(os.fsencode(repository.common_dir)).hexdigest()[:16]


def _pointer_of(record: Path) -> Path | None:
    """Where git's record of a worktree says that its `.git` file is; None when it does not say."""
    try:
        said = (record / "gitdir").read_bytes().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return record / os.fsdecode(said) if said else None


def _is_whole(record: Path) -> bool:
    """Whether git's record of a worktree was written to its end: `git worktree add` writes a commit of zeros first, of which
    `git fsck` complains."""
    written = all(
        (record / name).is_file() and (record / name).stat().st_size for name in ("HEAD", "commondir", "gitdir")
    )
    return written and bool((record / "HEAD").read_bytes().strip(b"0\n"))


@attrs.define
class Pool:
    """One run's worktrees of a repository. Only for the process that holds the repository's journal."""

    repository: Repository
    setup: str = ""
    setup_timeout_s: float = 600.0
    patience_s: float | None = (
        None  # how long all who wait for a worktree wait together; None: twice what the last took to make
    )
    _idle: list[Lease] = attrs.field(factory=list)
    _lock: trio.Lock = attrs.field(factory=trio.Lock)
    _held: list[int] = attrs.field(factory=list)  # open files whose locks say that a worktree is ours
    _out: int = 0  # worktrees that somebody has
    _making: int = 0
    _news: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)  # one was given back, or made
    _make_s: float = 0.0  # what the last one took to make
    _waited_s: float = 0.0  # how long attempts have waited for one since then, all of them together

    @property
    def folder(self) -> Path:
        return pool_folder(self.repository)

    @contextlib.asynccontextmanager
    async def lease(
        self,
        commit: str,
        *,
        task: str = "",
        may_write: MayWrite = lambda path: True,
        request: Request | None = None,
    ) -> AsyncIterator[Lease]:
        """A clean worktree at a commit, given back at the end. Raises RepositoryRefused when the disk is too full or the
        setup command fails."""
        lease = await self._take(commit)
        lease.lend(task, may_write, request)
        try:
            yield lease
        finally:
            with trio.CancelScope(shield=True):
                await self._give_back(lease)

    async def _take(self, commit: str) -> Lease:
        while True:
            lease = await self._reuse(commit)
            if lease is None and not await self._wait():
                lease = await self._make(commit)
            if lease is not None:
                return lease

    async def _reuse(self, commit: str) -> Lease | None:
        # The one whose files are nearest would be best; the last one used is, nearly always.
        while self._idle:
            lease = self._idle.pop()
            self._out += 1
            try:
                await trio.to_thread.run_sync(lease.move, commit)
            except (GitFailed, OSError):
                if not await self._repaired(lease, commit):
                    self._out -= 1
                    continue
            except trio.Cancelled:  # before it began
                self._out -= 1
                self._idle.append(lease)
                raise
            lease.hold(True)
            return lease
        return None

    async def _wait(self) -> bool:
        """Wait for a worktree that somebody has, as long as that is no dearer than to make another: attempts of half a second are done
        before a large tree is written once more. All who wait together wait twice as long as the last one took to make, as in the
        ski rental problem (Karlin and others, "Competitive snoopy caching", 1988): at worst work starts that much later. False when
        one is to be made. No waiting with a setup command, which tells of work that is worth a worktree of its own."""
        budget_s = (2 * self._make_s if self.patience_s is None else self.patience_s) - self._waited_s
        if self.setup or (not self._making and (not self._out or budget_s <= 0)):
            return False
        if self._making:
            await self._news.park()
            return True
        began = trio.current_time()
        with trio.move_on_after(budget_s / (len(self._news) + 1)):
            await self._news.park()
        self._waited_s += trio.current_time() - began
        return True

    async def _give_back(self, lease: Lease) -> None:
        try:
            await trio.to_thread.run_sync(lease.reset)
        except (GitFailed, OSError):
            if not await self._repaired(lease, lease.base):
                return
        finally:
            self._out -= 1
            self._news.unpark_all()
        lease.lend("", lambda path: True, None)
        lease.hold(False)
        self._idle.append(lease)

    async def _repaired(self, lease: Lease, commit: str) -> bool:
        """Fill a broken worktree anew; one that cannot be is removed, and the next attempt gets another."""
        try:
            await trio.to_thread.run_sync(lease.populate, commit)
        except (GitFailed, OSError):
            async with self._lock:
                await trio.to_thread.run_sync(self._discard, lease.folder)
            return False
        return True

    def _discard(self, folder: Path) -> None:
        with self._exclusively():
            self._remove(folder, self._admin_of(folder))

    async def _make(self, commit: str) -> Lease:
        self._making += 1
        try:
            folder = await trio.to_thread.run_sync(self._choose)
            await trio.to_thread.run_sync(self.refuse_full_disk, commit)
            # Git cannot add two at once. Filling them it could, but three of Django's size took 4.2 s at the same time and 2.2 s one
            # after the other (file systems take turns in making files), and the first can be used after a third of that.
            async with self._lock:
                began = trio.current_time()
                lease = await trio.to_thread.run_sync(self._add, folder, commit)
                await trio.to_thread.run_sync(lease.populate, commit)
                self._make_s, self._waited_s = trio.current_time() - began, 0.0
            await trio.to_thread.run_sync(self._include, lease)
            if self.setup:
                await self._set_up(lease)
        finally:
            self._making -= 1
            self._news.unpark_all()
        lease.keep_extras()
        self._out += 1
        return lease

    def _choose(self) -> Path:
        """The first worktree that no pool has, of this run or of another; the kernel frees those of a dead process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            name = f"{self.folder.name}-{number}"
            fd = self._seize(name)
            if fd is not None:
                self._held.append(fd)
                return self.folder / name
        raise AssertionError("unreachable")

    def _seize(self, name: str) -> int | None:
        """The lock of a worktree, as the open file that holds it; None when a live pool has it."""
        fd = os.open(self.folder / f"{name}.held", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd

    def close(self) -> None:
        """Leave the worktrees to other pools."""
        self._idle.clear()
        while self._held:
            os.close(self._held.pop())

    def _add(self, folder: Path, commit: str) -> Lease:
        """`git worktree add`, or the one that an earlier process left there, repaired. Held until it is given back."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        with self._exclusively():
            self._remove_half_made()
            admin = self._admin_of(folder)
            if admin is None or not folder.is_dir() or not _is_whole(admin):
                self._remove(folder, admin)
                hit("worktree.add.before")
                self.repository.run("worktree", "add", "--no-checkout", "--detach", "-f", str(folder), commit)
                hit("worktree.add.after")
                admin = self._admin_of(folder)
                if admin is None:
                    raise RepositoryRefused(f"git made no worktree at {folder}")
            lease = Lease(self.repository, folder, admin)
            lease.hold(True)
        return lease

    def _remove_half_made(self) -> None:
        """What a kill inside `git worktree add` left in the repository: a locked record that points nowhere, which git itself
        never removes. Ours by its name, which has the pool's hash, and dead because we hold the pool's lock."""
        for record in (self.repository.common_dir / "worktrees").glob(f"{self.folder.name}-*"):
            pointer = _pointer_of(record)
            if pointer is None or not pointer.parent.is_dir():
                remove_all(record)

    def refuse_full_disk(self, commit: str) -> None:
        """Raises RepositoryRefused when there is no room for another worktree, or to work in those that are there."""
        files = self.repository.files(self.repository.tree_of(commit))
        need = sum(self.repository.blob_size(oid) for mode, oid in files.values() if mode != MODE_SUBMODULE)
        place = self.folder
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        if free < need + _SPARE_BYTES:
            raise RepositoryRefused(
                f"a worktree needs {need // 2**20} MiB and {_SPARE_BYTES // 2**20} MiB to spare, "
                f"but {place} has only {free // 2**20} MiB free; make room, or set XDG_CACHE_HOME"
            )

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        with open(self.folder.parent / f"{self.folder.name}.lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _admin_of(self, folder: Path) -> Path | None:
        """The repository's own record of a worktree, found by where it points."""
        for record in (self.repository.common_dir / "worktrees").glob("*"):
            if _pointer_of(record) == folder / ".git":
                return record
        return None

    def _remove(self, folder: Path, admin: Path | None) -> None:
        hit("worktree.remove.before")
        if admin is not None:
            remove_all(admin)
        remove_all(folder)
        hit("worktree.remove.after")

    def _include(self, lease: Lease) -> None:
        """Copy what `.worktreeinclude` names of the user's ignored files: `.env`, `node_modules`, ..."""
        listing = self.repository.work_tree / ".worktreeinclude"
        if not listing.is_file():
            return
        raw = self.repository.run("ls-files", "--others", "--ignored", f"--exclude-from={listing}", "-z", "--directory")
        for name in raw.split(b"\0"):
            if not name:
                continue
            source = os.path.join(os.fsencode(self.repository.work_tree), name)
            target = os.path.join(os.fsencode(lease.folder), name.rstrip(b"/"))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if name.endswith(b"/"):
                shutil.copytree(os.fsdecode(source), os.fsdecode(target), symlinks=True, dirs_exist_ok=True)
            else:
                shutil.copy2(source, target, follow_symlinks=False)

    async def _set_up(self, lease: Lease) -> None:
        code, said = await run_command(words_of(self.setup), lease.folder, self.setup_timeout_s)
        if code != 0:
            tail = said.decode("utf-8", "replace").strip()[-500:]
            how = (
                f"ended with exit code {code}"
                if code is not None
                else f"did not end in {self.setup_timeout_s:g} s, or at all"
            )
            raise RepositoryRefused(f"setup: `{self.setup}` {how}: {tail}")


def let_go(repository: Repository) -> None:
    """Give free what a dead process held: half-made worktrees, and the marks of leases. Only for the holder of the journal."""
    pool = Pool(repository)
    records = list((repository.common_dir / "worktrees").glob(f"{pool.folder.name}-*"))
    if not records:
        return
    pool.folder.mkdir(parents=True, exist_ok=True)
    with pool._exclusively():
        pool._remove_half_made()
        for record in records:
            fd = pool._seize(record.name)
            if fd is not None:
                for left in ("locked", "HEAD.new", "HEAD.lock", "index.lock"):
                    (record / left).unlink(missing_ok=True)
                if record.is_dir() and not _is_whole(record):
                    pool._remove(pool.folder / record.name, record)
                os.close(fd)


def collect(repository: Repository) -> list[Path]:
    """Remove all worktrees of a repository's pool; only for the holder of its journal. Returns what was removed."""
    folder = pool_folder(repository)
    pool = Pool(repository)
    removed = []
    if folder.is_dir():
        with pool._exclusively():
            for mark in folder.glob("*.held"):
                mark.unlink()
            for place in sorted(folder.iterdir()):
                pool._remove(place, pool._admin_of(place))
                removed.append(place)
            pool._remove_half_made()
        folder.rmdir()
        with contextlib.suppress(OSError):  # the user has worktrees too
            (repository.common_dir / "worktrees").rmdir()
        folder.with_name(f"{folder.name}.lock").unlink(missing_ok=True)
    return removed
