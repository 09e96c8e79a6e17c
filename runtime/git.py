"""The only file that talks to git: objects and refs through libgit2, the rest through the `git` program.

Knows repositories, trees and refs; not what a run is. Every call of the program is kept from the user's hooks, monitors and
environment, and names its folders itself, so that a rewritten `.git` file redirects nothing. Trees are read and written as raw
bytes: names that are not UTF-8 pass through unharmed.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import pygit2

from .core.changes import MODE_SUBMODULE, Change, path_bytes, path_text
from .errors import BadInput, RepositoryRefused
from .failpoints import hit
from .packs import BLOB, COMMIT, TREE, Packs, flush_folder, object_id

Entry = tuple[int, bytes]
"""(mode, raw object id) of one name in a tree; mode 0o40000 is a folder."""

_TREE: Final = 0o040000
OURS: Final = "refs/journeyman/"
_LOCK_PATIENCE_S: Final = 2.0  # git's own programs hold a ref's lock for milliseconds
_LOCK_POLL_S: Final = 0.02
_APP_LEVEL: Final = 7  # libgit2's name for settings of the program that uses it
_ENTRIES_KEPT: Final = 40_000  # of trees, in each of two generations; some 200 bytes each
_RAW_ENTRY: Final = re.compile(rb"(\d+) ([^\0]+)\0(.{20})", re.DOTALL)
_LEAST_GIT: Final = (2, 38)
_KEPT_ENVIRONMENT: Final = (
    "PATH",
    "HOME",
    "SUDO_UID",  # whose repositories root may use besides its own
    "XDG_CONFIG_HOME",
    "TMPDIR",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
)
_MANY_PACKS: Final = 50  # git's own limit, unless `gc.autoPackLimit` says another
_NEUTRAL: Final = (
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "gc.auto=0",
    "-c",
    "maintenance.auto=false",
    "-c",
    "submodule.recurse=false",
    "-c",
    "worktree.useRelativePaths=false",
)


def environment(*, smudge_lfs: bool = False) -> dict[str, str]:
    """What the `git` program is given: no `GIT_*` of the caller's that could redirect it, no optional locks, no prompts. Files
    kept by Git LFS stay pointers unless `smudge_lfs`."""
    kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    return {
        **kept,
        "LC_ALL": "C",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        **({} if smudge_lfs else {"GIT_LFS_SKIP_SMUDGE": "1"}),
        "GIT_NO_REPLACE_OBJECTS": "1",
    }


class GitFailed(RepositoryRefused):
    """The `git` program said no; the message has its words."""


def keep_few_open(most: int) -> None:
    """For a process that lasts, of its own: hold at most so many packs open. Without it every pack that was ever read stays open, gone
    or not, because repositories that are open at the same time share them and hand them on to the next."""
    pygit2.settings.mwindow_file_limit = most


def run_git(
    arguments: Sequence[str | bytes],
    stdin: bytes | None = None,
    cwd: Path | None = None,
    *,
    smudge_lfs: bool = False,
    more: Mapping[str, str] | None = None,
    holding: Sequence[int] = (),
) -> bytes:
    """The `git` program, neutralised. Raises GitFailed with its words, RepositoryRefused when there is none."""
    try:
        done = subprocess.run(
            ["git", *_NEUTRAL, *arguments],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            env={**environment(smudge_lfs=smudge_lfs), **(more or {})},
            cwd=cwd,
            check=False,
            pass_fds=holding,
        )
    except (FileNotFoundError, NotADirectoryError):
        if cwd is not None and not cwd.is_dir():
            raise GitFailed(f"{cwd} is gone") from None
        raise RepositoryRefused("the program `git` is not to be found; install git 2.38 or newer") from None
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace").strip()
        plain = [one for at, one in enumerate(arguments) if at == 0 or arguments[at - 1] != "-c"]
        verb = next((str(one) for one in plain if not str(one).startswith("-")), "git")
        raise GitFailed(f"git {verb}: {words or f'exit code {done.returncode}'}")
    return done.stdout


def blob_id(data: bytes) -> str:
    """The id that bytes would be stored under."""
    return object_id(BLOB, data).hex()


def git_version() -> tuple[int, ...]:
    """The program's version. Raises RepositoryRefused when there is none."""
    found = re.search(rb"(\d+)\.(\d+)(?:\.(\d+))?", run_git(["--version"]))
    return tuple(int(part) for part in found.groups() if part) if found else ()


def _outlasted(lock: Path) -> bool:
    """Whether a lock on a ref of ours is left over: the same file all through a wait that is long for git. Nobody but the holder of
    the journal moves these refs; `git pack-refs` locks each, for milliseconds."""
    try:
        first = lock.lstat()
        while time.time() - first.st_mtime < _LOCK_PATIENCE_S and lock.lstat().st_ino == first.st_ino:
            time.sleep(_LOCK_POLL_S)
        return lock.lstat() == first
    except FileNotFoundError:
        return False


def _is_to_go(lock: Path, commit: str) -> bool:
    """Whether the lock of a ref may be that of who was about to bring it to a commit."""
    try:
        return bool(commit) and lock.read_text(errors="replace").strip() in ("", commit)
    except FileNotFoundError:
        return False


def _folded(name: bytes) -> bytes:
    """A name as a file system sees it that ignores case."""
    return name.decode("utf-8", "surrogateescape").casefold().encode("utf-8", "surrogateescape")


def _is_real_folder(where: bytes) -> bool:
    return os.path.isdir(where) and not os.path.islink(where)


def _ask(folder: Path, *questions: str) -> list[str]:
    """What `git rev-parse` answers, one for each question."""
    said = run_git(["rev-parse", *questions], cwd=folder).decode("utf-8", "surrogateescape")
    if said.count("\n") == len(questions):
        return said.split("\n")[:-1]
    # A path has a newline in it: ask for each alone.
    return [run_git(["rev-parse", one], cwd=folder).decode("utf-8", "surrogateescape")[:-1] for one in questions]


class Repository:
    """One repository, seen from one of its work trees."""

    def __init__(self, work_tree: Path, git_dir: Path, common_dir: Path) -> None:
        """Use `Repository.open`."""
        self.work_tree = work_tree
        self.git_dir = git_dir
        self.common_dir = common_dir
        self.packs = Packs(common_dir / "objects" / "pack")
        self.objects = self._opened()
        self._trees: dict[bytes, dict[bytes, Entry]] = {}  # {raw id: entries by name}, those asked for of late
        self._older_trees: dict[bytes, dict[bytes, Entry]] = {}  # the same, of a while ago
        self._entries = 0  # in `_trees`

    @classmethod
    def open(cls, path: str | Path) -> Repository:
        """The repository around a path. Raises BadInput when there is none, RepositoryRefused when it cannot be used."""
        where = Path(path)
        try:
            there = where.exists()
        except OSError as error:  # too long for a path, or in a folder that may not be looked into
            raise BadInput(f"{str(path)[:200]}: {error.strerror}") from None
        if not there:
            raise BadInput(f"{where}: there is no such folder")
        if git_version() < _LEAST_GIT:
            found = ".".join(map(str, git_version()))
            raise RepositoryRefused(f"git {found} is too old; Journeyman needs 2.38 or newer")
        folder = where if where.is_dir() else where.parent
        try:
            bare, git_dir, common, form = _ask(
                folder, "--is-bare-repository", "--absolute-git-dir", "--git-common-dir", "--show-object-format"
            )
        except GitFailed as error:
            if "not a git repository" in str(error):
                raise BadInput(f"{where}: there is no git repository here or above; make one with: git init") from None
            if "dubious ownership" in str(error):
                raise RepositoryRefused(
                    f"{where} belongs to another user, and git refuses it; if you trust it: "
                    f"git config --global --add safe.directory {shlex.quote(str(where.resolve()))}"
                ) from None
            raise
        if bare == "true":
            raise RepositoryRefused(f"{where} is a bare repository; Journeyman needs one with a work tree")
        if form != "sha1":
            raise RepositoryRefused(f"{where} uses {form} object names, which Journeyman cannot read yet")
        (top,) = _ask(folder, "--show-toplevel")
        return cls(Path(top), Path(git_dir), (folder / common).resolve())

    @property
    def tree_name(self) -> str:
        """Which of the repository's work trees this is: empty for the main one, git's own name for one of `git worktree add`."""
        return "" if self.git_dir.resolve() == self.common_dir else self.git_dir.name

    def fresh(self) -> Repository:
        """The same repository, opened anew: one that is kept for long holds every pack open that it has seen, those that are gone too.
        Raises RepositoryRefused."""
        return Repository(self.work_tree, self.git_dir, self.common_dir)

    def collect(self) -> None:
        """What any verb of git does in the end, and ours do not: put many packs together when they are too many (`gc.autoPackLimit`),
        unless the user has switched that off. What a run has not named yet is kept by its packs' `.keep`. Raises GitFailed."""
        if len(list((self.common_dir / "objects" / "pack").glob("*.pack"))) <= _MANY_PACKS:
            return
        given = self.objects.config
        if "gc.auto" in given and given.get_int("gc.auto") == 0:
            return
        self.run(
            "-c",
            f"gc.auto={given.get_int('gc.auto') if 'gc.auto' in given else 6700}",
            "-c",
            "gc.autoDetach=false",
            "gc",
            "--auto",
            "--quiet",
        )

    def _opened(self) -> pygit2.Repository:
        try:
            found = pygit2.Repository(os.fsencode(self.git_dir))
            # Only for this repository of ours: pygit2's own switch for it is one for the whole process.
            pygit2.Config.add_file(found.config, Path(__file__).with_name("durable.gitconfig"), _APP_LEVEL, force=True)
        except pygit2.GitError as error:
            raise RepositoryRefused(f"{self.work_tree}: the repository cannot be read: {error}") from error
        return found

    def flush(self) -> None:
        """All objects written so far are on the disk, durably. Raises OSError."""
        if self.packs.flush():
            self.objects = self._opened()  # or packs that are gone would be held open

    def run(
        self,
        *arguments: str | bytes,
        stdin: bytes | None = None,
        smudge_lfs: bool = False,
        more: Mapping[str, str] | None = None,
        holding: Sequence[int] = (),
    ) -> bytes:
        """The `git` program in the user's work tree, with `more` in its environment and the open files `holding` kept open in it.
        Raises GitFailed with its words."""
        return run_git(
            [f"--git-dir={self.git_dir}", f"--work-tree={self.work_tree}", *arguments],
            stdin,
            self.work_tree,
            smudge_lfs=smudge_lfs,
            more=more,
            holding=holding,
        )

    # --- commits and refs --------------------------------------------------------------------------------------

    def resolve(self, name: str) -> str:
        """The id of the commit a name stands for. Raises BadInput."""
        if name.startswith("-"):
            raise BadInput(f"base: {name!r} looks like an option, not a commit")
        try:
            return str(self.objects.revparse_single(name).peel(pygit2.Commit).id)
        except (KeyError, ValueError, pygit2.GitError):
            if name == "HEAD" and self.objects.head_is_unborn:
                raise RepositoryRefused("the repository has no commit yet; make a first one with: git commit") from None
            raise BadInput(f"base: {name!r} is no commit of this repository") from None

    def head_branch(self) -> str | None:
        """The full name of the branch that is checked out, or None when HEAD is detached."""
        head = self.objects.lookup_reference("HEAD")
        target = head.target
        return target if isinstance(target, str) else None

    def ref(self, name: str) -> str | None:
        """The commit a ref points at, or None when it does not exist."""
        try:
            # The one object of that name: pygit2 (1.21) keeps a reference to each that it is given, for ever
            return str(self.objects.lookup_reference(sys.intern(name)).peel(pygit2.Commit).id)
        except KeyError:
            return None

    def is_ref_name(self, name: str) -> bool:
        """Whether git takes this for the full name of a ref."""
        return bool(pygit2.reference_is_valid_name(name))

    def refs(self, prefix: str) -> dict[str, str]:
        """{ref: commit id} of all refs whose names begin like this."""
        listed = self.run("for-each-ref", "--format=%(refname) %(objectname)", prefix.rstrip("/")).decode()
        return dict(line.rsplit(" ", 1) for line in listed.splitlines())

    def move_ref(self, name: str, new: str, old: str | None, why: str = "", *, again: bool = False) -> None:
        """Compare and swap, durably, what the ref names included. `again`: a process of ours died that was to do just this. Raises
        RepositoryRefused when the ref is not at `old` (None: when it exists), or somebody holds its lock."""
        try:
            self.flush()
            self._with_lock(name, lambda: self._swap(name, new, old, why), new if again else "")
        except (KeyError, ValueError, OSError, pygit2.GitError) as error:
            raise RepositoryRefused(f"{name} could not be moved: {error}") from error
        if old is None:  # libgit2 flushes the folder of the file, not those that it made for it
            folder = (self.common_dir / name).parent
            while folder != self.common_dir:
                with suppress(FileNotFoundError):  # `git pack-refs` has taken the ref, and then the folder
                    flush_folder(folder)
                folder = folder.parent

    def _swap(self, name: str, new: str, old: str | None, why: str) -> None:
        # Under its lock. libgit2's other ways read the whole list of packed refs, and keep it: a megabyte for 10,000 of them, in
        # each repository that is open.
        with self.objects.transaction() as change:
            change.lock_ref(name)
            at = self.ref(name)
            if at != old:
                where = f"is at {at}" if at else "is not there"
                meant = f"not at {old}" if old else "and was to be made"
                raise RepositoryRefused(f"{name} {where}, {meant}: somebody else moved it")
            change.set_target(name, new, message=why or None)

    def _with_lock(self, name: str, act: Callable[[], None], new: str = "") -> None:
        """Do what takes a ref's lock; wait for others' (`git pack-refs` takes them all), and remove one that is left over on a ref
        of ours. On any other ref only one that says nothing yet, or that the ref is to go to `new`, where a dead process of ours was
        about to bring it."""
        lock = self.common_dir / f"{name}.lock"
        began = time.monotonic()
        while True:
            try:
                act()
            except (pygit2.GitError, OSError) as error:  # pygit2 raises either, by libgit2's class of it
                waited = time.monotonic() - began > _LOCK_PATIENCE_S
                if not waited and "No such file or directory" in str(error):
                    time.sleep(_LOCK_POLL_S)  # `git pack-refs` took away the empty folder that was made for the lock
                    continue
                if not lock.exists() and "lock" not in str(error):
                    raise
                if (name.startswith(OURS) or _is_to_go(lock, new)) and _outlasted(lock):
                    lock.unlink(missing_ok=True)
                elif waited:
                    raise RepositoryRefused(
                        f"{name} is locked ({lock}): another git is at it; if none is, remove that file"
                    ) from error
                else:
                    time.sleep(_LOCK_POLL_S)
            else:
                return

    def remove_left_locks(self) -> None:
        """Remove the locks that a kill left on refs of ours. Only for the holder of the journal."""
        # Not by globbing: a collection takes folders away meanwhile
        for folder, _, names in os.walk(self.common_dir / OURS):
            for lock in (Path(folder, name) for name in names if name.endswith(".lock")):
                if _outlasted(lock):
                    lock.unlink(missing_ok=True)

    def delete_ref(self, name: str) -> None:
        """Remove a ref, if it is there. Raises RepositoryRefused when somebody holds its lock."""
        if self.ref(name) is not None:
            hit("ref.delete.before")
            self._with_lock(name, lambda: self.objects.references.delete(name))
            hit("ref.delete.after")

    def refuse_unusable(self, commit: str) -> None:
        """Raises RepositoryRefused when attempts could not work on a commit here: objects that a partial clone has left out, or
        names that this file system takes for one."""
        config = self.objects.config
        if any(entry.name.startswith("remote.") and entry.name.endswith(".promisor") for entry in config):
            words = ("rev-list", "--objects", "--no-walk", "--missing=print", commit)
            missing = sum(row.startswith(b"?") for row in self.run(*words).splitlines())
            if missing:
                raise RepositoryRefused(
                    f"{missing} objects of {commit[:12]} are not here, because this is a partial clone; "
                    "fetch them with: git fetch --refetch --no-filter"
                )
        if self.ignores_case():
            seen: dict[bytes, str] = {}
            for path in self.files(self.tree_of(commit)):
                other = seen.setdefault(_folded(path_bytes(path)), path)
                if other != path:
                    raise RepositoryRefused(f"{other} and {path} are one name on this file system: rename one of them")

    def commit_parts(self, commit: str) -> tuple[str, tuple[str, ...], str]:
        """(tree id, parent ids, message)."""
        head, _, message = self._read(bytes.fromhex(commit))[1].partition(b"\n\n")
        lines = [line.split(b" ", 1) for line in head.split(b"\n")]
        parents = tuple(line[1].decode() for line in lines if line[0] == b"parent")
        return lines[0][1].decode(), parents, message.decode("utf-8", "replace")

    def _read(self, oid: bytes) -> tuple[int, bytes]:
        """(kind, bytes) of an object, on the disk already or not. Raises KeyError."""
        found = self.packs.read(oid)
        return found if found is not None else self.objects.read(oid.hex())

    def tree_of(self, commit: str) -> str:
        """The id of a commit's tree."""
        return self.commit_parts(commit)[0]

    def first_parents(self, tip: str, base: str) -> list[str]:
        """Commits from just behind `base` to `tip`, oldest first, along first parents."""
        found = []
        at = tip
        while at != base:
            found.append(at)
            parents = self.commit_parts(at)[1]
            if not parents:
                break
            at = parents[0]
        return found[::-1]

    def commit(self, tree: str, parents: Iterable[str], message: str, author: tuple[str, str] | None = None) -> str:
        """Write a commit object; `author` is (name, address), by default who the user's configuration says."""
        name, address = author or self.identity()
        when = int(time.time())
        offset = time.localtime(when).tm_gmtoff // 60
        zone = f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02d}{abs(offset) % 60:02d}"
        signature = f"{name} <{address}> {when} {zone}"
        lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents)]
        lines += [f"author {signature}", f"committer {signature}", "", message.replace("\0", "").rstrip("\n") + "\n"]
        return self.packs.write(COMMIT, "\n".join(lines).encode("utf-8", "replace")).hex()

    def identity(self) -> tuple[str, str]:
        """(name, address) of the user's configuration, or ours when it has none."""
        config = self.objects.config
        name = config["user.name"] if "user.name" in config else ""  # noqa: SIM401  # no mapping: it has no `get`
        address = config["user.email"] if "user.email" in config else ""  # noqa: SIM401  # as above
        clean = re.compile(r"[<>\n\0]")
        return clean.sub("", name or "") or "Journeyman", clean.sub("", address or "") or "journeyman@localhost"

    # --- trees and blobs ---------------------------------------------------------------------------------------

    def tree(self, oid: bytes) -> dict[bytes, Entry]:
        """A tree's entries by name. Kept for a while; treat it as frozen."""
        found = self._trees.get(oid)
        if found is None:
            found = self._older_trees.get(oid)
            if found is None:
                _, raw = self._read(oid)
                found = {name: (int(mode, 8), blob) for mode, name, blob in _RAW_ENTRY.findall(raw)}
            self._keep(oid, found)
        return found

    def _keep(self, oid: bytes, entries: dict[bytes, Entry]) -> None:
        """Two generations, bounded by what they hold and not by how many they are: a run makes a new root with each commit, and a
        folder may have thousands of names. Any thread may come by; at worst a tree is parsed twice."""
        if oid in self._trees:
            return
        self._entries += len(entries)
        if self._entries > _ENTRIES_KEPT:
            self._older_trees, self._trees, self._entries = self._trees, {}, len(entries)
        self._trees[oid] = entries

    def lookup(self, tree: str, path: str) -> Entry | None:
        """A path's entry in a tree, or None. A folder counts as None."""
        folder, _, name = path_bytes(path).rpartition(b"/")
        found = self._folder(tree, folder).get(name)
        return None if found is None or found[0] == _TREE else found

    def is_folder(self, tree: str, path: str) -> bool:
        """Whether a path is a folder of a tree."""
        folder, _, name = path_bytes(path).rpartition(b"/")
        return self._folder(tree, folder).get(name, (0,))[0] == _TREE

    def files(self, tree: str, under: str = "") -> dict[str, Entry]:
        """{path: (mode, raw id)} of everything in a tree, or in one of its folders (`under`, ending in `/`), sorted."""
        start = path_bytes(under)
        found: dict[str, Entry] = {}
        for name, entry in self._folder(tree, start.rstrip(b"/")).items():
            if entry[0] == _TREE:
                found.update((path_text(path), one) for path, one in self._walk(entry[1], start + name + b"/"))
            else:
                found[path_text(start + name)] = entry
        return found

    def _walk(self, tree: bytes, prefix: bytes) -> Iterator[tuple[bytes, Entry]]:
        """Every file of a tree in git's order. Not recursive: a tree may be deeper than the interpreter's stack."""
        stack = [(prefix, iter(self.tree(tree).items()))]
        while stack:
            prefix, entries = stack[-1]
            for name, entry in entries:
                if entry[0] == _TREE:
                    below = prefix + name + b"/"
                    stack.append((below, iter(self.tree(entry[1]).items())))
                    break
                yield prefix + name, entry
            else:
                stack.pop()

    def read_blob(self, oid: bytes) -> bytes:
        """A blob's bytes."""
        return self._read(oid)[1]

    def blob_size(self, oid: bytes) -> int:
        """A blob's size in bytes, without reading it."""
        new = self.packs.read(oid)
        size: int = len(new[1]) if new is not None else self.objects.odb.read_header(oid.hex())[1]
        return size

    def write_blob(self, data: bytes) -> str:
        """Store bytes; returns the object id. On the disk after the next `flush`."""
        return self.packs.write(BLOB, data).hex()

    def apply(self, tree: str, changes: Iterable[Change]) -> str:
        """The tree with the changes made; only the folders they touch are written anew. A file may become a folder and a folder
        a file where the changes delete what was there. Raises ValueError where they do not, and a name would be both."""
        folders: dict[bytes, dict[bytes, Entry | None]] = {b"": {}}  # {folder: {name: what it becomes}}; None = deleted
        for change in changes:
            folder, _, name = path_bytes(change.path).rpartition(b"/")
            entry = None if change.oid is None else (change.mode or 0, bytes.fromhex(change.oid))
            folders.setdefault(folder, {})[name] = entry
            while folder and (folder := folder.rpartition(b"/")[0]) not in folders:
                folders[folder] = {}
        below: dict[bytes, dict[bytes, bytes | None]] = {}  # {folder: {a folder in it: its new tree}}; None = empty now
        written: bytes | None = None
        for folder in sorted(folders, key=lambda one: one.count(b"/") + bool(one), reverse=True):
            written = self._folder_with(tree, folder, folders[folder], below.pop(folder, {}))
            parent, _, name = folder.rpartition(b"/")
            if folder:
                below.setdefault(parent, {})[name] = written
        return (written or self.packs.write(TREE, b"")).hex()

    def _folder_with(
        self, tree: str, folder: bytes, told: Mapping[bytes, Entry | None], below: Mapping[bytes, bytes | None]
    ) -> bytes | None:
        """One folder of `apply`, written; None when nothing is left in it."""
        entries = dict(self._folder(tree, folder))
        for name, entry in told.items():
            if entry is None and entries.get(name, (_TREE,))[0] != _TREE:
                del entries[name]
        for name, written in below.items():
            if entries.get(name, (_TREE,))[0] != _TREE:
                raise ValueError(f"{path_text(folder + b'/' + name)} is a file, and files are to come into it")
            if written is None:
                entries.pop(name, None)
            else:
                entries[name] = (_TREE, written)
        for name, entry in told.items():
            if entry is not None:
                if entries.get(name, (0,))[0] == _TREE:
                    raise ValueError(
                        f"{path_text(folder + b'/' + name)} is a folder with files in it, and is to be a file"
                    )
                entries[name] = entry
        if not entries:
            return None
        # Git sorts a folder as if its name ended in a slash.
        line = sorted(entries.items(), key=lambda item: item[0] + b"/" if item[1][0] == _TREE else item[0])
        raw = b"".join(b"%o %s\0%s" % (mode, name, oid) for name, (mode, oid) in line)
        written = self.packs.write(TREE, raw)
        # Its entries are those of the tree before, but for a few: read anew they would all be copies
        self._keep(written, dict(line))
        return written

    def _folder(self, tree: str, folder: bytes) -> Mapping[bytes, Entry]:
        """The entries of a folder in a tree; none when there is no such folder."""
        at = bytes.fromhex(tree)
        for part in folder.split(b"/") if folder else ():
            found = self.tree(at).get(part)
            if found is None or found[0] != _TREE:
                return {}
            at = found[1]
        return self.tree(at)

    def in_the_way(self, tree: str, changes: Sequence[Change]) -> str | None:
        """The first path of a tree that `changes` leave in place and that cannot stay: a file where they need a folder, or a
        file in a folder that they make a file. None when they can be applied."""
        deleted = {path_bytes(change.path) for change in changes if change.oid is None}
        for change in changes:
            if change.oid is None:
                continue
            name = path_bytes(change.path)
            folder, _, last = name.rpartition(b"/")
            if self._folder(tree, folder).get(last, (0,))[0] == _TREE:
                for inside, _ in self._walk(self._folder(tree, folder)[last][1], name + b"/"):
                    if inside not in deleted:
                        return path_text(inside)
            while folder:
                above, _, last = folder.rpartition(b"/")
                entry = self._folder(tree, above).get(last)
                if entry is not None:
                    if entry[0] != _TREE and folder not in deleted:
                        return path_text(folder)
                    break
                folder = above
        return None

    def differences(self, old: str, new: str) -> tuple[Change, ...]:
        """What turns one tree into another, sorted by path; each change has the id that was there."""
        found: list[Change] = []
        pairs: list[tuple[bytes | None, bytes | None, bytes]] = [(bytes.fromhex(old), bytes.fromhex(new), b"")]
        while pairs:
            was_tree, now_tree, prefix = pairs.pop()
            if was_tree != now_tree:
                pairs.extend(self._differ(was_tree, now_tree, prefix, found))
        return tuple(sorted(found, key=lambda change: change.path))

    def _differ(
        self, old: bytes | None, new: bytes | None, prefix: bytes, found: list[Change]
    ) -> Iterator[tuple[bytes | None, bytes | None, bytes]]:
        """Take the differing files of one folder into `found`; gives the folders in it that are left to compare."""
        before = self.tree(old) if old is not None else {}
        after = self.tree(new) if new is not None else {}
        for name in before.keys() | after.keys():
            was, now = before.get(name), after.get(name)
            if was == now:
                continue
            was_tree = was[1] if was is not None and was[0] == _TREE else None
            now_tree = now[1] if now is not None and now[0] == _TREE else None
            if was_tree is not None or now_tree is not None:
                yield was_tree, now_tree, prefix + name + b"/"
            was_oid = was[1].hex() if was is not None and was_tree is None else None
            if now is not None and now_tree is None:
                found.append(Change(path_text(prefix + name), now[0], now[1].hex(), was_oid))
            elif was_oid is not None:
                found.append(Change(path_text(prefix + name), None, None, was_oid))

    def merge_trees(self, base: str, ours: str, theirs: str) -> tuple[str | None, tuple[str, ...]]:
        """(merged tree, ()) or (None, the paths that conflict): git's three-way merge, of contents too."""
        self.flush()
        index = self.objects.merge_trees(base, ours, theirs)
        if index.conflicts is not None:
            paths = {side.path for sides in index.conflicts for side in sides if side is not None}
            return None, tuple(sorted(paths))
        merged = str(index.write_tree(self.objects))
        self._adopt(merged, ours, theirs)
        return merged, ()

    def _adopt(self, tree: str, *known: str) -> None:
        """Take what libgit2 wrote by itself, loose, along into the next pack: all of a tree that is not in a known one."""
        todo = [(bytes.fromhex(tree), tuple(bytes.fromhex(one) for one in known))]
        while todo:
            oid, others = todo.pop()
            self.packs.write(*self._read(oid))
            there = [self.tree(other) for other in others]
            for name, entry in self.tree(oid).items():
                theirs = [other[name] for other in there if name in other]
                if entry in theirs or entry[0] == MODE_SUBMODULE:
                    continue
                if entry[0] == _TREE:
                    todo.append((entry[1], tuple(one[1] for one in theirs if one[0] == _TREE)))
                else:
                    self.packs.write(*self._read(entry[1]))

    # --- the user's checkout: looked at here, changed only by `checkout` -----------------------------------------------

    def dirty(self) -> set[str]:
        """Tracked paths with staged or unstaged changes."""
        raw = self.run(
            "status", "--porcelain=v1", "-z", "--untracked-files=no", "--no-renames", "--ignore-submodules=all"
        )
        return {path_text(item[3:]) for item in raw.split(b"\0") if len(item) > 3}

    def untracked_at(self, changes: Collection[Change]) -> set[str]:
        """What is in the work tree, and not tracked, where the changes would put a file that was not there: the path itself, a
        file where they need a folder, or files in a folder of that name."""
        root = os.fsencode(self.work_tree)
        fold = _folded if self.ignores_case() else bytes
        gone = {fold(path_bytes(change.path)) for change in changes if change.oid is None}
        found = set()
        folders = []
        for change in changes:
            name = path_bytes(change.path)
            if change.oid is None or change.was is not None:
                continue
            if _is_real_folder(os.path.join(root, name)):
                folders.append(name)
                continue
            while name and fold(name) not in gone and not os.path.lexists(os.path.join(root, name)):
                name = name.rpartition(b"/")[0]
            if name and fold(name) not in gone and not _is_real_folder(os.path.join(root, name)):
                found.add(path_text(name))
        if folders:
            raw = self.run("--literal-pathspecs", "ls-files", "--others", "-z", "--", *folders)
            found |= {path_text(name) for name in raw.split(b"\0") if name}
        return found

    def ignores_case(self) -> bool:
        """Whether the user's work tree is on a file system that takes `A` and `a` for one name."""
        config = self.objects.config
        return "core.ignorecase" in config and config.get_bool("core.ignorecase")

    def keeps_modes(self) -> bool:
        """Whether the user's work tree shows which files may be executed."""
        config = self.objects.config
        return "core.filemode" not in config or config.get_bool("core.filemode")

    def is_ancestor(self, commit: str, name: str) -> bool:
        """Whether a commit is, or is behind, the one that a ref points at."""
        at = self.ref(name)
        return at is not None and (at == commit or self.objects.descendant_of(at, commit))

    def diff_text(
        self, old: str, new: str, paths: Sequence[str] = (), *, color: bool = False, stat: bool = False
    ) -> bytes:
        """A unified diff between two commits or trees."""
        options = ["--no-ext-diff", "--no-textconv", "--color=always" if color else "--no-color", "--find-renames"]
        if stat:
            options.append("--stat=100")
        names = [path_bytes(path) for path in paths]
        return self.run("--literal-pathspecs", "diff", *options, old, new, "--", *names)
