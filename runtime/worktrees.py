"""Leased worktrees: a workspace on disk, made once, used again and again, cleaned in between.

Knows worktrees and what an attempt did in one; not which task. They live under the user's cache folder, one pool a repository.
What git cannot do at the same time (`worktree add`, `remove`) goes through one lock, in this process and between processes.
A warm lease touches only what differs from the commit it was left at, because a lease records what every file looked like.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shlex
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs
import pygit2
import trio

from . import claims
from .core.changes import (
    MODE_EXECUTABLE,
    MODE_FILE,
    MODE_LINK,
    MODE_SUBMODULE,
    Change,
    Changeset,
    path_bytes,
    path_text,
)
from .errors import ClaimViolation, RepositoryRefused
from .git import GitFailed, Repository, run_git
from .workspace import MayWrite, Request

Stat = tuple[int, int, int, int]  # (mtime ns, size, inode, mode)

_RACY_NS: Final = 20_000_000  # a file written this shortly before it was recorded may change again unseen: it is read
_SPARE_BYTES: Final = 200 * 1024 * 1024
_PLAIN: Final = ("-c", "core.autocrlf=false", "-c", "core.symlinks=true", "-c", "core.fileMode=true")


def cache_folder() -> Path:
    """Where worktrees are kept: the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "journeyman"


def pool_folder(repository: Repository) -> Path:
    """The folder of one repository's worktrees."""
    return cache_folder() / hashlib.sha256(os.fsencode(repository.common_dir)).hexdigest()[:16]


class Lease:
    """A worktree, handed to one attempt. See `workspace.Workspace`."""

    def __init__(self, repository: Repository, folder: Path, admin: Path) -> None:
        self.folder = folder
        self.base = ""
        self._repository = repository
        self._admin = admin  # the worktree's own folder inside the repository's
        self._tree = ""
        self._seen: dict[bytes, Stat | None] = {}  # {path: what it looked like}; None = read it to know
        self._kept: frozenset[bytes] = frozenset()  # ignored files that setup or .worktreeinclude put there
        self._task = ""
        self._may_write: MayWrite = lambda path: True
        self._request: Request | None = None

    # --- what a handler uses -----------------------------------------------------------------------------------

    @property
    def path(self) -> Path | None:
        return self.folder

    def _at(self, path: str) -> bytes:
        if claims.problem_with(path):
            raise ClaimViolation(self._task, [path])
        return os.path.join(os.fsencode(self.folder), path_bytes(path))

    def read(self, path: str) -> bytes:
        where = self._at(path)
        if os.path.islink(where):
            return os.readlink(where)
        with open(where, "rb") as file:
            return file.read()

    def read_text(self, path: str) -> str:
        return self.read(path).decode()

    def write(self, path: str, data: bytes | str, *, executable: bool | None = None) -> None:
        where = self._at(path)
        if not self._may_write(path):
            raise ClaimViolation(self._task, [path])
        os.makedirs(os.path.dirname(where), exist_ok=True)
        if os.path.islink(where):
            os.unlink(where)
        with open(where, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
        if executable is not None:
            os.chmod(where, 0o755 if executable else 0o644)

    def delete(self, path: str) -> None:
        where = self._at(path)
        if not self._may_write(path):
            raise ClaimViolation(self._task, [path])
        os.unlink(where)

    def exists(self, path: str) -> bool:
        return os.path.lexists(self._at(path))

    def mode(self, path: str) -> int | None:
        with contextlib.suppress(FileNotFoundError):
            return _git_mode(os.lstat(self._at(path)).st_mode)
        return None

    def list(self, pattern: str = "**") -> list[str]:
        ignored = self._kept
        found = (path_text(name) for name, _ in self._walk() if name not in ignored)
        return sorted(path for path in found if claims.matches(pattern, path))

    async def request(self, path: str) -> None:
        if self._request is None:
            raise ClaimViolation(self._task, [path])
        await self._request(path)

    # --- what the pool does ------------------------------------------------------------------------------------

    def lend(self, task: str, may_write: MayWrite, request: Request | None) -> None:
        """Set whose it is for now."""
        self._task, self._may_write, self._request = task, may_write, request

    def _git(self, *arguments: str, stdin: bytes | None = None) -> bytes:
        """Git in this worktree, by its real admin folder: the `.git` file in it may have been rewritten."""
        return run_git(
            [*_PLAIN, f"--git-dir={self._admin}", f"--work-tree={self.folder}", *arguments], stdin, self.folder
        )

    def populate(self, commit: str) -> None:
        """Bring every file to a commit, whatever was there before, and look at all of them once."""
        for lock in ("index.lock", "HEAD.lock"):
            with contextlib.suppress(FileNotFoundError):
                (self._admin / lock).unlink()  # ours by construction: nobody else works in a leased worktree
        self._restore_pointer()
        self._git("read-tree", "--reset", "-u", commit)
        self._move_head(commit)
        self._tree = self._repository.tree_of(commit)
        self.base = commit
        self._seen = {path_bytes(path): None for path in self._repository.files(self._tree)}
        self._remove_strangers()
        self._record(self._seen)

    def move(self, commit: str) -> None:
        """Bring a clean worktree from its commit to another: only what differs is touched."""
        tree = self._repository.tree_of(commit)
        changes = self._repository.differences(self._tree, tree)
        if changes:
            self._git("read-tree", "-m", "-u", self._tree, tree)
        self._move_head(commit)
        self._tree, self.base = tree, commit
        touched: dict[bytes, Stat | None] = {}
        for change in changes:
            name = path_bytes(change.path)
            if change.oid is None:
                self._seen.pop(name, None)
            else:
                touched[name] = None
        self._seen.update(touched)
        self._record(touched)

    def _move_head(self, commit: str) -> None:
        (self._admin / "HEAD").write_text(f"{commit}\n")

    def _restore_pointer(self) -> None:
        pointer = self.folder / ".git"
        said = f"gitdir: {self._admin}\n"
        if pointer.is_symlink() or not pointer.is_file() or pointer.read_text(errors="replace") != said:
            if pointer.is_dir() and not pointer.is_symlink():
                shutil.rmtree(pointer)
            else:
                pointer.unlink(missing_ok=True)
            pointer.write_text(said)

    def keep_extras(self) -> None:
        """From now on the untracked files that are there stay: setup and `.worktreeinclude` put them there."""
        self._kept = frozenset(name for name, _ in self._walk() if name not in self._seen)

    def changeset(self) -> Changeset:
        """Compare the disk with what was recorded; new files count unless they are ignored."""
        found: dict[bytes, os.stat_result] = dict(self._walk())
        suspects = [name for name, now in found.items() if self._differs(name, now)]
        gone = [name for name in self._seen if name not in found and not self._is_submodule(name)]
        new = [name for name in suspects if name not in self._seen]
        ignored = self._ignored(new)
        changes = [change for name in suspects if name not in ignored for change in self._change(name, found[name])]
        for name in gone:
            entry = self._repository.lookup(self._tree, path_text(name))
            changes.append(Change(path_text(name), None, None, entry[1].hex() if entry else None))
        return Changeset(self.base, tuple(sorted(changes, key=lambda change: change.path)))

    def _differs(self, name: bytes, now: os.stat_result) -> bool:
        if name in self._kept:
            return False
        return self._seen.get(name) != _stat(now)

    def _change(self, name: bytes, now: os.stat_result) -> Iterator[Change]:
        path = path_text(name)
        where = os.path.join(os.fsencode(self.folder), name)
        mode = _git_mode(now.st_mode)
        if mode == MODE_LINK:
            oid = self._repository.write_blob(os.readlink(where))
        else:
            oid = self._store(name, where)
        entry = self._repository.lookup(self._tree, path)
        was = entry[1].hex() if entry is not None else None
        if entry is None or was != oid or entry[0] != mode:
            yield Change(path, mode, oid, was)

    def _store(self, name: bytes, where: bytes) -> str:
        """The blob that git itself would store, filters of `.gitattributes` included."""
        if self._filters(name):
            done = self._git(
                "hash-object", "-w", "--stdin-paths", stdin=b"./" + name + b"\n" if b"\n" not in name else b""
            )
            return done.decode().strip()
        with open(where, "rb") as file:
            return self._repository.write_blob(file.read())

    def _filters(self, name: bytes) -> bool:
        objects = self._repository.objects
        try:
            path = name.decode()
        except UnicodeDecodeError:
            return False
        return any(objects.get_attr(path, attribute) for attribute in ("text", "eol", "filter", "crlf", "ident"))

    def _is_submodule(self, name: bytes) -> bool:
        entry = self._repository.lookup(self._tree, path_text(name))
        return entry is not None and entry[0] == MODE_SUBMODULE

    def _ignored(self, names: Sequence[bytes]) -> set[bytes]:
        if not names:
            return set()
        try:
            said = self._git("check-ignore", "--no-index", "-z", "--stdin", stdin=b"\0".join(names) + b"\0")
        except GitFailed as error:
            if "exit code 1" in str(error):  # none of them is
                return set()
            raise
        return {name for name in said.split(b"\0") if name}

    def reset(self) -> None:
        """Undo what an attempt did: give tracked files their bytes back, remove what it left."""
        self._restore_pointer()
        found = dict(self._walk())
        root = os.fsencode(self.folder)
        touched = [name for name, now in found.items() if self._differs(name, now)]
        touched += [name for name in self._seen if name not in found]
        for name in touched:
            where = os.path.join(root, name)
            if name not in self._seen and os.path.lexists(where):
                os.unlink(where)
        again = [name for name in touched if name in self._seen and not self._is_submodule(name)]
        if again:
            for name in again:
                self._put_back(root, name)
            self._git("read-tree", "--reset", "-u", self.base)
            self._record(dict.fromkeys(again))
        self._remove_empty_folders()

    def _put_back(self, root: bytes, name: bytes) -> None:
        """Out of the way: `read-tree --reset -u` writes what is missing, but trusts a file whose times it knows."""
        where = os.path.join(root, name)
        if os.path.isdir(where) and not os.path.islink(where):
            shutil.rmtree(where)
        elif os.path.lexists(where):
            os.unlink(where)

    def _remove_strangers(self) -> None:
        root = os.fsencode(self.folder)
        for name, _ in list(self._walk()):
            if name not in self._seen and name not in self._kept:
                os.unlink(os.path.join(root, name))
        self._remove_empty_folders()

    def _remove_empty_folders(self) -> None:
        for folder, _, _ in os.walk(os.fsencode(self.folder), topdown=False):
            if folder != os.fsencode(self.folder):
                with contextlib.suppress(OSError):  # not empty: most are not
                    os.rmdir(folder)

    def _walk(self) -> Iterator[tuple[bytes, os.stat_result]]:
        """Every file, with what it looks like; git's own and submodules' folders left out."""
        root = os.fsencode(self.folder)
        stack = [b""]
        while stack:
            prefix = stack.pop()
            with os.scandir(os.path.join(root, prefix)) as entries:
                for entry in entries:
                    name = prefix + entry.name
                    if entry.is_dir(follow_symlinks=False):
                        if entry.name != b".git" and not (name in self._seen and self._is_submodule(name)):
                            stack.append(name + b"/")
                    elif name != b".git":
                        yield name, entry.stat(follow_symlinks=False)

    def _record(self, names: dict[bytes, Stat | None]) -> None:
        root = os.fsencode(self.folder)
        now_ns = time.time_ns()
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                seen = os.lstat(os.path.join(root, name))
                self._seen[name] = None if now_ns - seen.st_mtime_ns < _RACY_NS else _stat(seen)


def _stat(seen: os.stat_result) -> Stat:
    return seen.st_mtime_ns, seen.st_size, seen.st_ino, seen.st_mode


def _git_mode(mode: int) -> int:
    if stat.S_ISLNK(mode):
        return MODE_LINK
    return MODE_EXECUTABLE if mode & 0o100 else MODE_FILE


@attrs.define
class Pool:
    """The worktrees of one repository. Only for the process that holds the repository's journal."""

    repository: Repository
    setup: str = ""
    setup_timeout_s: float = 600.0
    _idle: list[Lease] = attrs.field(factory=list)
    _all: list[Lease] = attrs.field(factory=list)
    _lock: trio.Lock = attrs.field(factory=trio.Lock)
    _next: int = 0

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
        clean = False
        try:
            yield lease
            clean = True
        finally:
            with trio.CancelScope(shield=True):
                await self._give_back(lease, clean)

    async def _take(self, commit: str) -> Lease:
        # The one whose files are nearest would be best; the last one used is, nearly always.
        while self._idle:
            lease = self._idle.pop()
            try:
                await trio.to_thread.run_sync(lease.move, commit)
            except (GitFailed, OSError):
                await trio.to_thread.run_sync(lease.populate, commit)
            return lease
        return await self._make(commit)

    async def _give_back(self, lease: Lease, clean: bool) -> None:
        try:
            await trio.to_thread.run_sync(lease.reset)
        except (GitFailed, OSError):
            await trio.to_thread.run_sync(lease.populate, lease.base)
        lease.lend("", lambda path: True, None)
        self._idle.append(lease)

    async def _make(self, commit: str) -> Lease:
        self._next += 1
        folder = self.folder / f"w{self._next}"
        await trio.to_thread.run_sync(self._refuse_full_disk, commit)
        async with self._lock:  # git cannot add two at once; filling them with files it can
            lease = await trio.to_thread.run_sync(self._add, folder, commit)
        self._all.append(lease)
        await trio.to_thread.run_sync(lease.populate, commit)
        await trio.to_thread.run_sync(self._include, lease)
        if self.setup:
            await self._set_up(lease)
        lease.keep_extras()
        return lease

    def _add(self, folder: Path, commit: str) -> Lease:
        """`git worktree add`, or the one that an earlier process left there, repaired."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        with self._exclusively():
            admin = self._admin_of(folder)
            if admin is None or not folder.is_dir():
                self._remove(folder, admin)
                self.repository.run("worktree", "add", "--no-checkout", "--detach", "-f", str(folder), commit)
                admin = self._admin_of(folder)
                if admin is None:
                    raise RepositoryRefused(f"git made no worktree at {folder}")
        (admin / "locked").unlink(missing_ok=True)
        return Lease(self.repository, folder, admin)

    def _refuse_full_disk(self, commit: str) -> None:
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
        for record in (self.repository.common_dir / "worktrees").glob("*/gitdir"):
            if record.read_text(errors="replace").strip() == str(folder / ".git"):
                return record.parent
        return None

    def _remove(self, folder: Path, admin: Path | None) -> None:
        if admin is not None:
            with contextlib.suppress(GitFailed):  # half made: its record is removed by hand below
                self.repository.run("worktree", "remove", "-f", "-f", str(folder))
            shutil.rmtree(admin, ignore_errors=True)
        if folder.exists():
            shutil.rmtree(folder)

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
        words = shlex.split(self.setup)
        try:
            process = await trio.lowlevel.open_process(
                words,
                cwd=lease.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise RepositoryRefused(f"setup: {words[0]}: {error.strerror}") from None
        said = bytearray()
        try:
            with trio.fail_after(self.setup_timeout_s):
                assert process.stdout is not None
                async with process.stdout:
                    async for chunk in process.stdout:
                        said += chunk
                        del said[:-8000]
                code = await process.wait()
        except trio.TooSlowError:
            raise RepositoryRefused(f"setup: `{self.setup}` took longer than {self.setup_timeout_s:g} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with trio.CancelScope(shield=True):
                await process.wait()
        if code:
            tail = said.decode("utf-8", "replace").strip()[-500:]
            raise RepositoryRefused(f"setup: `{self.setup}` ended with exit code {code}: {tail}")


def collect(repository: Repository) -> list[Path]:
    """Remove all worktrees of a repository's pool; only for the holder of its journal. Returns what was removed."""
    folder = pool_folder(repository)
    pool = Pool(repository)
    removed = []
    if folder.is_dir():
        for place in sorted(folder.iterdir()):
            pool._remove(place, pool._admin_of(place))
            removed.append(place)
        folder.rmdir()
        folder.with_name(f"{folder.name}.lock").unlink(missing_ok=True)
    with contextlib.suppress(pygit2.GitError, GitFailed):  # a half-made record elsewhere is the user's own
        repository.run("worktree", "prune")
    return removed
