"""Nothing lost: the one judgement that every fault test ends with, made from outside of what is judged.

`nothing_lost` looks at a repository after a run was disturbed and brought to its end, and says everything that is not as it would be
without the disturbance: acknowledged tasks, the tree, one commit a task, the user's checkout, leftovers, git's and SQLite's own checks.
It raises one AssertionError that lists all of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import attrs

from runtime.git import Repository
from runtime.runs import load
from runtime.worktrees import pool_folder

_LINE = "refs/journeyman/{run}/line"
_OURS = "journeyman"
_LOOKS = 150  # each takes some ten milliseconds


def git(repo: Path, *words: str) -> str:
    """The `git` program in a repository; its output without the last newline."""
    done = subprocess.run(["git", *words], cwd=repo, capture_output=True, check=True)
    return done.stdout.decode("utf-8", "surrogateescape").rstrip("\n")


@attrs.frozen
class Checkout:
    """Everything of the user's that a run must leave alone, as it is now: {what: what it holds}."""

    held: Mapping[str, str]

    @classmethod
    def of(cls, repo: Path) -> Checkout:
        """Look at it: files with modes, index, HEAD, configuration, hooks, and every ref that is not ours."""
        held = {f"file {name}": what for name, what in _files(repo, skip=".git")}
        for name in ("HEAD", "index", "config", "info", "hooks"):
            held.update({f".git/{name}{under}": what for under, what in _looked_at(repo / ".git" / name)})
        for line in git(repo, "for-each-ref", "--format=%(refname) %(objectname)").splitlines():
            if not line.startswith("refs/journeyman/"):
                held[f"ref {line.split()[0]}"] = line.split()[1]
        return cls(held)

    def differences(self, other: Checkout) -> list[str]:
        """What is not the same in another one."""
        names = sorted(self.held.keys() | other.held.keys())
        return [name for name in names if self.held.get(name) != other.held.get(name)]


def _looked_at(path: Path) -> Iterator[tuple[str, str]]:
    if path.is_dir():
        for name, what in _files(path):
            yield f"/{name}", what
    elif path.exists():
        yield "", _look(path)


def _files(folder: Path, skip: str = "") -> Iterator[tuple[str, str]]:
    for place, folders, files in os.walk(folder):
        if skip in folders:
            folders.remove(skip)
        for name in files:
            path = Path(place, name)
            yield str(path.relative_to(folder)), _look(path)


def _look(path: Path) -> str:
    if path.is_symlink():
        return f"-> {os.readlink(path)}"
    return f"{path.stat().st_mode:o} {hashlib.sha256(path.read_bytes()).hexdigest()}"


def nothing_lost(
    repo: Path,
    run: str,
    *,
    before: Checkout,
    tree: str,
    acknowledged: Collection[str],
    cache: Path,
    states: Mapping[str, str] | None = None,
) -> None:
    """Assert that the run ended as if nothing had happened.

    `before` is the checkout before the run began, `tree` the tree of an undisturbed run's line, `acknowledged` the tasks that were
    acknowledged by a log outside of the system, `cache` the cache folder that the run was given. `states` are the final states of an undisturbed run, by default all done.
    """
    lost = [
        *_tasks(repo, run, acknowledged, states or dict.fromkeys(acknowledged, "done")),
        *_line(repo, run, tree, acknowledged),
        *(f"the user's checkout changed: {name}" for name in before.differences(Checkout.of(repo))),
        *leftovers(repo, cache),
        *integrity(repo),
    ]
    assert not lost, f"{repo}, run {run}: " + "; ".join(lost)


def _tasks(repo: Path, run: str, acknowledged: Collection[str], states: Mapping[str, str]) -> Iterator[str]:
    past = load(Repository.open(repo), run)
    records = past.machine.records
    past.machine.check()
    for task in sorted(set(acknowledged) | set(records)):
        if task not in records:
            yield f"task {task} was acknowledged and is gone"
        elif task not in acknowledged:
            yield f"task {task} is there and was never acknowledged"
        elif records[task].state != states[task]:
            yield f"task {task} is {records[task].state}, not {states[task]}: {records[task].error}"


def _line(repo: Path, run: str, tree: str, acknowledged: Collection[str]) -> Iterator[str]:
    ref = _LINE.format(run=run)
    now = git(repo, "rev-parse", f"{ref}^{{tree}}")
    if now != tree:
        changed = git(repo, "diff", "--stat=100", tree, now)
        yield f"the line's tree is {now}, an undisturbed run's {tree}: {changed}"
    told = git(repo, "log", "--first-parent", "--format=%(trailers:key=Journeyman-Task,valueonly)", f"HEAD..{ref}")
    for task, count in Counter(line for line in told.splitlines() if line).items():
        if count != 1:
            yield f"task {task} has {count} commits"
        if task not in acknowledged:
            yield f"task {task} has a commit and was never acknowledged"


def leftovers(repo: Path, cache: Path) -> Iterator[str]:
    """What a run must not leave behind: locks, half-made worktrees, temporary files and refs, processes."""
    repository = Repository.open(repo)
    common = repository.common_dir
    pool = cache / _OURS / pool_folder(repository).name
    for path in common.rglob("*"):
        name = str(path.relative_to(common))
        if path.name.endswith(".lock") and name != f"{_OURS}/journal.lock":
            yield f"a lock is left: {name}"
        elif path.name == "locked" and "worktrees" in path.parts:
            yield f"a worktree is locked: {name}"
        elif path.name.startswith(("tmp_obj", "tmp_object", "tmp_pack", ".tmp-")) or path.suffix == ".new":
            yield f"a temporary file is left: {name}"
        elif path.name.startswith("index-") and path.parent.name == _OURS:
            yield f"something of a landing is left: {name}"
        elif path.suffix == ".keep":
            yield f"a pack is still kept from git's collection: {name}"
    yield from _worktrees(repo, pool)
    for ref in git(repo, "for-each-ref", "--format=%(refname)").splitlines():
        if ref.startswith("refs/journeyman/") and ref.split("/")[3] not in (
            "line",
            "checkpoints",
            "undone",
            "attempts",
        ):
            yield f"a temporary ref is left: {ref}"
    for line in _processes_that_stay(repo, pool):
        yield f"a process is left: {line}"


def _worktrees(repo: Path, pool: Path) -> Iterator[str]:
    known = set()
    for block in git(repo, "worktree", "list", "--porcelain").split("\n\n"):
        fields = dict(line.partition(" ")[::2] for line in block.splitlines())
        place = Path(fields["worktree"])
        known.add(place)
        if place == repo.resolve():
            continue
        if place.parent != pool:
            yield f"a worktree outside of the pool is left: {place}"
        for bad in ("prunable", "locked"):
            if bad in fields:
                yield f"worktree {place} is {bad}: {fields[bad]}"
    for folder in pool.iterdir() if pool.is_dir() else ():
        if folder not in known and folder.suffix != ".held":  # the file that a lease is locked by
            yield f"a folder that is no worktree is left: {folder}"


def _processes_that_stay(*places: Path) -> list[str]:
    """What is still there after a while: the children of a killed process end by themselves, a worker when it has been imported."""
    for _ in range(_LOOKS):
        found = processes_at(*places)
        if not found:
            break
    return found


def processes_at(*places: Path) -> list[str]:
    """Live processes that work in one of the places or name it in their arguments (Linux; elsewhere only the arguments)."""
    wanted = [str(place) for place in places]
    listed = subprocess.run(["ps", "-ww", "-eo", "pid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    found = []
    for line in listed.splitlines():
        pid, stat, args = line.split(None, 2)
        if stat.startswith("Z") or int(pid) == os.getpid():
            continue
        where = ""
        with contextlib.suppress(OSError):  # it ended, is another user's, lets nobody look, or there is no /proc
            where = os.readlink(f"/proc/{pid}/cwd")
        if any(place in args or (where + "/").startswith(place + "/") for place in wanted):
            found.append(f"{pid} {args}")
    return found


def integrity(repo: Path) -> Iterator[str]:
    """What git and SQLite find wrong with what they keep."""
    checked = subprocess.run(
        ["git", "fsck", "--full", "--no-dangling", "--no-progress"],
        cwd=repo,
        capture_output=True,
        text=True,
        check=False,
    )
    said = (checked.stdout + checked.stderr).strip()
    if checked.returncode or said:
        yield f"git fsck: {said or checked.returncode}"
    connection = sqlite3.connect(repo / ".git" / "journeyman" / "journal.db")
    try:
        for (word,) in connection.execute("PRAGMA integrity_check"):
            if word != "ok":
                yield f"integrity_check: {word}"
    finally:
        connection.close()
