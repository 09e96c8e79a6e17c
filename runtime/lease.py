"""One leased worktree: files on disk for one attempt, and the changeset of what was done to them.

Knows one worktree, not the pool it is of, nor which task has it. Moving it to another commit, and cleaning it, touch only what
differs, because it records what every file looked like.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence, Sequence
from pathlib import Path
from typing import Final

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
from .errors import ClaimViolation, JourneymanError
from .failpoints import hit
from .git import GitFailed, Repository, blob_id, run_git
from .workspace import MayWrite, Request

Stat = tuple[int, int, int, int]  # (mtime ns, size, inode, mode)

_RACY_NS: Final = 20_000_000  # a file written this shortly before it was recorded may change again unseen: it is read
_PLAIN: Final = (
    "-c",
    "core.autocrlf=false",
    "-c",
    "core.symlinks=true",
    "-c",
    "core.fileMode=true",
    "-c",
    "core.sparseCheckout=false",  # the user may see a part of the tree; an attempt gets all of it
)
_Walked = tuple[dict[bytes, os.stat_result], list[bytes]]  # files with what they look like, and the folders
_FEW: Final = 200  # paths that git is given by name; it compares each with every file of the index
_ADMIN: Final = {"HEAD", "ORIG_HEAD", "commondir", "gitdir", "index", "locked", "logs"}
_ATTRIBUTES: Final = ("text", "eol", "crlf", "filter", "ident", "working-tree-encoding")  # what changes a file's bytes
_KINDS: Final = {stat.S_IFIFO: "a fifo", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


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
        self._modules: set[bytes] = set()  # those of `_seen` that are submodules
        self._owed: list[bytes] = []  # tracked files that `reset` took away and `move` writes: often at another commit
        self._index: Stat = (0, 0, 0, 0)  # what the index looked like when we last wrote it
        self._last_walk: _Walked | None = None  # after the attempt's end: nobody has written since
        self._task = ""
        self._may_write: MayWrite = lambda path: True
        self._request: Request | None = None

    # --- what a handler uses -----------------------------------------------------------------------------------

    @property
    def path(self) -> Path | None:
        return self.folder

    @contextlib.contextmanager
    def _place(self, path: str, *, make: bool = False) -> Iterator[tuple[int, bytes]]:
        """(the open folder a path is in, its name there). No symbolic link is followed on the way, so that nothing leads out of
        the workspace. Raises NotADirectoryError where one is in the way, FileNotFoundError."""
        parts = path_bytes(path).split(b"/")
        if any(part in (b"", b".", b"..", b".git") for part in parts):
            raise ClaimViolation(self._task, [path])
        at = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for part in parts[:-1]:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, dir_fd=at)
                try:
                    below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
                except OSError as error:
                    if error.errno in (errno.ELOOP, errno.ENOTDIR):
                        raise NotADirectoryError(
                            errno.ENOTDIR, "a file or a link is where a folder must be", path
                        ) from None
                    raise
                os.close(at)
                at = below
            yield at, parts[-1]
        finally:
            os.close(at)

    def _look(self, path: str) -> os.stat_result | None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), self._place(path) as (at, name):
            return os.lstat(name, dir_fd=at)
        return None

    def read(self, path: str) -> bytes:
        with self._place(path) as (at, name):
            if stat.S_ISLNK(os.lstat(name, dir_fd=at).st_mode):
                return os.readlink(name, dir_fd=at)
            # Not waiting: a fifo that a command made has no other end.
            with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise OSError(errno.EINVAL, "it is neither a file nor a link", path)
                return file.read()

    def read_text(self, path: str) -> str:
        return self.read(path).decode()

    def write(self, path: str, data: bytes | str, *, executable: bool | None = None) -> None:
        self._gate(path)
        with self._place(path, make=True) as (at, name):
            with contextlib.suppress(FileNotFoundError):
                there = os.lstat(name, dir_fd=at)
                if not stat.S_ISDIR(there.st_mode) and (not stat.S_ISREG(there.st_mode) or there.st_nlink > 1):
                    os.unlink(name, dir_fd=at)  # what is behind a link or at a fifo's other end is not ours to write
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
            with open(os.open(name, flags, 0o666, dir_fd=at), "wb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
                if executable is not None:
                    os.fchmod(file.fileno(), 0o755 if executable else 0o644)

    def symlink(self, path: str, target: str | bytes) -> None:
        """Make or replace a symbolic link."""
        self._gate(path)
        with self._place(path, make=True) as (at, name):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=at)
            os.symlink(target, name, dir_fd=at)  # type: ignore[arg-type,unused-ignore]  # a target of bytes is as good

    def delete(self, path: str) -> None:
        self._gate(path)
        with self._place(path) as (at, name):
            os.unlink(name, dir_fd=at)

    def exists(self, path: str) -> bool:
        return self.mode(path) is not None

    def mode(self, path: str) -> int | None:
        seen = self._look(path)
        if seen is not None and stat.S_ISDIR(seen.st_mode):
            return MODE_SUBMODULE if self._is_submodule(path_bytes(path)) else None
        return _git_mode(seen.st_mode) if seen is not None and _keepable(seen) else None

    def _gate(self, path: str) -> None:
        if claims.problem_with(path) or not self._may_write(path):
            raise ClaimViolation(self._task, [path])

    def list(self, pattern: str = "**") -> list[str]:
        ignored = self._kept
        found = (path_text(name) for name, seen in self._walk() if name not in ignored and _keepable(seen))
        return sorted(path for path in found if claims.matches(pattern, path))

    async def request(self, path: str) -> None:
        if self._request is None:
            raise ClaimViolation(self._task, [path])
        await self._request(path)

    # --- what the pool does ------------------------------------------------------------------------------------

    def lend(self, task: str, may_write: MayWrite, request: Request | None) -> None:
        """Set whose it is for now."""
        self._task, self._may_write, self._request = task, may_write, request
        self._last_walk = None

    def _git(self, *arguments: str | bytes, stdin: bytes | None = None, more: Mapping[str, str] | None = None) -> bytes:
        """Git in this worktree, by its real admin folder: the `.git` file in it may have been rewritten."""
        return run_git(
            [*_PLAIN, f"--git-dir={self._admin}", f"--work-tree={self.folder}", *arguments],
            stdin,
            self.folder,
            more=more,
        )

    def populate(self, commit: str) -> None:
        """Bring every file to a commit, whatever was there before, and look at all of them once."""
        self._tidy_admin()
        self._restore_pointer()
        self._tree = self._repository.tree_of(commit)
        files = self._repository.files(self._tree)
        self._owed = []
        self._seen = {path_bytes(path): None for path in files}
        self._modules = {path_bytes(path) for path, entry in files.items() if entry[0] == MODE_SUBMODULE}
        self._remove_strangers()  # first: git would go by a `.gitattributes` that is not of this commit
        everything = ("-c", "checkout.workers=0", "read-tree", "--reset", "-u", commit)  # as many as cores
        try:
            self._git(*everything)
        except GitFailed:  # an index cut short by a crash; all that it says is read again below
            (self._admin / "index").unlink(missing_ok=True)
            self._git(*everything)
        self._at_commit(commit)
        self._record(self._seen)

    def _tidy_admin(self) -> None:
        """Remove what a killed git, or a command that used git, left in the worktree's own folder in the repository: locks, a
        rebase under way, settings. Ours by construction: nobody else works in a leased worktree."""
        for entry in os.scandir(self._admin):
            if entry.name not in _ADMIN:
                remove_all(entry.path)

    def _at_commit(self, commit: str) -> None:
        """Note the commit that files and index are at now."""
        head = self._admin / "HEAD"
        said = f"{commit}\n".encode()
        if not head.is_file() or head.is_symlink() or head.read_bytes() != said:
            fresh = self._admin / "HEAD.new"  # whole or not at all: `git fsck` looks at it too
            fresh.unlink(missing_ok=True)
            fresh.write_bytes(said)
            hit("worktree.head.before")
            fresh.replace(head)
            hit("worktree.head.after")
        self.base = commit
        self._index = _stat(os.lstat(self._admin / "index"))

    def move(self, commit: str) -> None:
        """Bring a worktree that was reset from its commit to another: only what differs is touched, and what `reset` took away."""
        tree = self._repository.tree_of(commit)
        changes = self._repository.differences(self._tree, tree)
        if any(change.path.rpartition("/")[2] == ".gitattributes" for change in changes):
            (self._admin / "index").unlink(missing_ok=True)  # files that did not change are written in another way too
            self.populate(commit)
            return
        self._check_out(commit, tree, changes)
        touched: dict[bytes, Stat | None] = dict.fromkeys(self._owed)
        self._owed = []
        self._tree = tree
        self._at_commit(commit)
        for change in changes:
            name = path_bytes(change.path)
            self._modules.discard(name)
            if change.oid is None:
                self._seen.pop(name, None)
                touched.pop(name, None)
            else:
                touched[name] = None
            if change.mode == MODE_SUBMODULE:
                self._modules.add(name)
        self._seen.update(touched)
        self._record(touched)

    def _check_out(self, commit: str, tree: str, changes: Sequence[Change]) -> None:
        """Files and index from one tree to another, and the files that are owed. `read-tree -m` opens every folder of both trees, most
        of its time (95 ms for Django's 3,246); a few files are named instead (10 ms), where nothing goes away."""
        plain = all(
            change.oid is not None and change.mode != MODE_SUBMODULE and path_bytes(change.path) not in self._modules
            for change in changes
        )
        names = {*self._owed, *(path_bytes(change.path) for change in changes)}
        if changes and plain and len(names) <= _FEW:
            words = ("checkout", "-q", commit, "--pathspec-from-file=-", "--pathspec-file-nul")
            self._git(*words, stdin=b"\0".join(names) + b"\0", more={"GIT_LITERAL_PATHSPECS": "1"})
            return
        if self._owed:
            self._git("checkout-index", "-q", "-f", "-u", "-z", "--stdin", stdin=b"\0".join(self._owed) + b"\0")
        if changes:
            self._git("read-tree", "-m", "-u", self._tree, tree)

    def _restore_pointer(self) -> None:
        pointer = self.folder / ".git"
        said = b"gitdir: " + os.fsencode(self._admin) + b"\n"
        if pointer.is_symlink() or not pointer.is_file() or pointer.read_bytes() != said:
            remove_all(pointer)
            pointer.write_bytes(said)

    def hold(self, held: bool) -> None:
        """While it is leased nobody's `git worktree prune` may take it, even when a command removes its `.git` file."""
        hit("worktree.mark.before")
        if held:
            (self._admin / "locked").write_text("leased by journeyman\n")
        else:
            (self._admin / "locked").unlink(missing_ok=True)
        hit("worktree.mark.after")

    def keep_extras(self) -> None:
        """From now on the untracked files that are there stay: setup and `.worktreeinclude` put them there."""
        self._kept = frozenset(name for name, _ in self._walk() if name not in self._seen)

    def changeset(self) -> Changeset:
        """Compare the disk with what was recorded; new files count unless they are ignored, or are none that git keeps (a fifo, a
        socket). Raises ClaimViolation for a path that git takes for its own, JourneymanError where such a thing replaced a
        tracked file."""
        return self._changeset(self._walk())

    def state(self, may_tell: Callable[[bytes], bool]) -> tuple[Changeset, dict[str, bytes]]:
        return self.changeset(), {}

    def last_changeset(self) -> Changeset:
        """`changeset`, once the attempt has ended: what it saw is what `reset` cleans by, so that nobody looks at every file twice."""
        folders: list[bytes] = []
        found = dict(self._walk(folders))
        changeset = self._changeset(found.items())
        self._last_walk = found, folders
        return changeset

    def _changeset(self, walked: Iterable[tuple[bytes, os.stat_result]]) -> Changeset:
        found: dict[bytes, os.stat_result] = {}
        for name, now in walked:
            if _keepable(now):
                found[name] = now
            elif name in self._seen and not self._is_submodule(name):
                raise JourneymanError(f"{path_text(name)} was a file and is {_KINDS[stat.S_IFMT(now.st_mode)]} now")
        suspects = [name for name, now in found.items() if self._differs(name, now)]
        gone = [name for name in self._seen if name not in found and not self._is_submodule(name)]
        ignored = self._ignored([name for name in suspects if name not in self._seen])
        changed = [name for name in suspects if name not in ignored]
        stolen = [path for path in map(path_text, changed) if claims.in_git_folder(path)]
        if stolen:
            raise ClaimViolation(self._task, stolen)
        filtered = self._filtered([name for name in changed if stat.S_ISREG(found[name].st_mode)])
        changes = [change for name in changed for change in self._change(name, found[name], filtered.get(name))]
        for name in gone:
            entry = self._repository.lookup(self._tree, path_text(name))
            changes.append(Change(path_text(name), None, None, entry[1].hex() if entry else None))
        return Changeset(self.base, tuple(sorted(changes, key=lambda change: change.path)))

    def _differs(self, name: bytes, now: os.stat_result) -> bool:
        if name in self._kept:
            return False
        return self._seen.get(name) != _stat(now)

    def _change(self, name: bytes, now: os.stat_result, oid: str | None) -> Iterator[Change]:
        path = path_text(name)
        where = os.path.join(os.fsencode(self.folder), name)
        mode = _git_mode(now.st_mode)
        entry = self._repository.lookup(self._tree, path)
        was = entry[1].hex() if entry is not None else None
        if oid is None:
            if mode == MODE_LINK:
                data = os.readlink(where)
            else:
                with open(where, "rb") as file:
                    data = file.read()
            oid = blob_id(data)
            if was != oid:
                self._repository.write_blob(data)
        if entry is None or was != oid or entry[0] != mode:
            yield Change(path, mode, oid, was)

    def _filtered(self, names: Sequence[bytes]) -> dict[bytes, str]:
        """{file: the blob that git itself would store} of those whose attributes make that another than the bytes on disk."""
        if not names:
            return {}
        said = self._git("check-attr", "-z", "--stdin", *_ATTRIBUTES, stdin=b"\0".join(names) + b"\0").split(b"\0")
        told = {said[at] for at in range(0, len(said) - 2, 3) if said[at + 2] not in (b"unspecified", b"unset")}
        found = [name for name in names if name in told]
        if not found:
            return {}
        plain = [name for name in found if b"\n" not in name]
        asked = [("--", b"./" + name) for name in found if b"\n" in name]
        stored: dict[bytes, str] = {}
        # Git has no way to filter without storing. What it stores goes where no `git prune` looks, and from there into our pack.
        with tempfile.TemporaryDirectory(prefix="journeyman-") as place:
            apart = {
                "GIT_OBJECT_DIRECTORY": place,
                "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(self._repository.common_dir / "objects"),
            }
            if plain:
                lines = b"".join(b"./" + name + b"\n" for name in plain)
                oids = self._git("hash-object", "-w", "--stdin-paths", stdin=lines, more=apart).split()
                stored.update((name, oid.decode()) for name, oid in zip(plain, oids, strict=True))
            for words in asked:
                stored[words[1][2:]] = self._git("hash-object", "-w", *words, more=apart).decode().strip()
            for oid in set(stored.values()):
                loose = Path(place, oid[:2], oid[2:])
                if loose.exists():  # else the repository had it before
                    self._repository.write_blob(zlib.decompress(loose.read_bytes()).partition(b"\0")[2])
        return stored

    def _is_submodule(self, name: bytes) -> bool:
        return name in self._modules

    def _ignored(self, names: Sequence[bytes]) -> set[bytes]:
        if not names:
            return set()
        listed = b"".join(b"./" + name + b"\0" for name in names)  # a file may be called `:(glob)`
        try:
            said = self._git("check-ignore", "--no-index", "-z", "--stdin", stdin=listed)
        except GitFailed as error:
            if "exit code 1" in str(error):  # none of them is
                return set()
            raise
        return {name[2:] for name in said.split(b"\0") if name}

    def reset(self) -> None:
        """Undo what an attempt did: remove what it left. Tracked files that it changed are taken away; `move` writes them, as the next
        attempt mostly wants them as this one made them, and to write them twice is to run git twice."""
        self._tidy_admin()
        self._restore_pointer()
        if self._last_walk is not None:
            found, folders = self._last_walk
            self._last_walk = None
        else:
            folders = []
            found = dict(self._walk(folders))
        root = os.fsencode(self.folder)
        touched = [name for name, now in found.items() if self._differs(name, now)]
        touched += [name for name in self._seen if name not in found]
        for name in touched:
            where = os.path.join(root, name)
            if name not in self._seen and os.path.lexists(where):
                os.unlink(where)
        again = [name for name in touched if name in self._seen and not self._is_submodule(name)]
        for name in again:
            # Out of the way: git writes what is missing, but trusts a file whose times it knows.
            remove_all(os.path.join(root, name))
        modules = []
        for name in self._modules:  # a submodule's folder is empty in a worktree of ours
            if not os.path.isdir(os.path.join(root, name)) or os.listdir(os.path.join(root, name)):
                remove_all(os.path.join(root, name))
                modules.append(name)
        if modules or self._index != _stat(os.lstat(self._admin / "index")):  # a command may have used git
            self._git("read-tree", "--reset", "-u", self.base)
            self._record(dict.fromkeys([*again, *modules]))
        else:
            self._owed = again
        self._at_commit(self.base)
        self._remove_empty(folders)

    def _remove_strangers(self) -> None:
        root = os.fsencode(self.folder)
        folders: list[bytes] = []
        for name, _ in list(self._walk(folders)):
            if name not in self._seen and name not in self._kept:
                os.unlink(os.path.join(root, name))
        self._remove_empty(folders)

    def _remove_empty(self, folders: Iterable[bytes]) -> None:
        """Of these folders, those that no tracked file is in and nothing else either. Most have one: they are not even tried, as there
        are thousands, after every attempt."""
        needed: set[bytes] = set()
        for name in self._seen:
            folder = name.rpartition(b"/")[0]
            while folder and folder not in needed:
                needed.add(folder)
                folder = folder.rpartition(b"/")[0]
        root = os.fsencode(self.folder)
        for folder in sorted((one for one in folders if one not in needed), key=len, reverse=True):
            with contextlib.suppress(OSError):  # not empty: something that is kept is in it
                os.rmdir(os.path.join(root, folder))

    def _walk(self, folders: MutableSequence[bytes] | None = None) -> Iterator[tuple[bytes, os.stat_result]]:
        """Every file, with what it looks like; git's own and submodules' folders left out. The folders themselves go to `folders`."""
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
                            if folders is not None:
                                folders.append(name)
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


def _keepable(seen: os.stat_result) -> bool:
    """Whether git can keep it: a file or a link."""
    return stat.S_ISREG(seen.st_mode) or stat.S_ISLNK(seen.st_mode)


def remove_all(where: str | bytes | Path) -> None:
    """Remove whatever is there, folders that a command made unreadable too."""
    place = os.fsencode(where)
    if os.path.isdir(place) and not os.path.islink(place):
        os.chmod(place, 0o700)
        for folder, _, _ in os.walk(place):  # top down: each is opened up before what is in it is listed
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        os.chmod(entry.path, 0o700)
        shutil.rmtree(place)
    else:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(place)


def _git_mode(mode: int) -> int:
    if stat.S_ISLNK(mode):
        return MODE_LINK
    return MODE_EXECUTABLE if mode & 0o100 else MODE_FILE
