"""A leased worktree is at each lease what a fresh checkout of its commit is, whatever came before."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from claude_stage import Patience
from conftest import Repo
from trio.testing import MockClock, wait_all_tasks_blocked

from runtime import Plan, Rewrite, Task
from runtime.blocking import Runtime
from runtime.errors import RepositoryRefused
from runtime.git import Repository
from runtime.worktrees import Pool, let_go
from specialists import BUILTIN, Ways

NAMES = (
    "a",
    "b.txt",
    "d",
    "d/x",
    "d/y.txt",
    "d/e",
    "d/e/z",
    "e",
    "e/f",
    "*",
    ":(glob)a",
    "[b].txt",
    "-q",
    "ü",
    "sp ace",
)
ATTRIBUTES = ("", "*.txt text eol=crlf\n", "*.txt text eol=lf\n", "a ident\n")


def _disk(folder: Path) -> dict[str, tuple[str, bytes]]:
    """{path: (kind, bytes)} of all that is in a folder but git's own."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in (*files, *(one for one in folders if os.path.islink(os.path.join(place, one)))):
            where = Path(place, name)
            path = str(where.relative_to(folder))
            if path != ".git":
                mode = where.lstat().st_mode
                kind = "link" if stat.S_ISLNK(mode) else "program" if mode & 0o100 else "file"
                found[path] = kind, os.readlink(where).encode() if kind == "link" else where.read_bytes()
    return found


def _empty_folders(folder: Path) -> list[str]:
    return [place for place, folders, files in os.walk(folder) if not folders and not files and ".git" not in place]


def _put(where: Path, rng: random.Random) -> None:
    """A file, a program or a link there, whatever is in its way."""
    for above in (*where.parents, where):
        if (above.is_file() or above.is_symlink()) and above != where.anchor:
            above.unlink()
    if where.is_dir():
        subprocess.run(["rm", "-rf", where], check=True)
    where.parent.mkdir(parents=True, exist_ok=True)
    if rng.random() < 0.2:
        where.symlink_to(rng.choice(("a", "d", "/nowhere")))
        return
    where.write_bytes(rng.choice((b"1\n", b"2\n", b"$Id$\n", b"x\r\ny\r\n", bytes([rng.randrange(256)]))))
    if rng.random() < 0.2:
        where.chmod(0o755)


def _commits(repo: Repo, rng: random.Random, count: int) -> list[str]:
    """Commits that add, change, remove, and put files where folders were and folders where files were."""
    made = []
    for _ in range(count):
        for name in rng.sample(NAMES, rng.randint(1, 4)):
            _put(repo.path / name, rng)
        for name in rng.sample(NAMES, rng.randint(0, 2)):
            if (repo.path / name).is_file():
                (repo.path / name).unlink()
        if rng.random() < 0.3:
            (repo.path / ".gitattributes").write_text(rng.choice(ATTRIBUTES))
        repo.git("add", "-A")
        repo.git("commit", "-q", "--allow-empty", "-m", "c")
        made.append(repo.git("rev-parse", "HEAD"))
    return made


def _disturb(folder: Path, rng: random.Random) -> None:
    """What an attempt may do: write, remove, replace, stage."""
    for name in rng.sample(NAMES, rng.randint(0, 4)):
        _put(folder / name, rng)
    for name in rng.sample(NAMES, rng.randint(0, 3)):
        if (folder / name).is_file():
            (folder / name).unlink()
    if rng.random() < 0.3:
        subprocess.run(["git", "add", "-A"], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize("seed", range(24))
async def test_a_lease_is_a_fresh_checkout(seed: int, repo: Repo, tmp_path: Path) -> None:
    """Moved between random commits and disturbed in between, a worktree has at each lease the files, kinds and bytes of `git worktree
    add`, no folder that is empty, nothing that git calls changed, and an empty changeset; what was done in it is told."""
    rng = random.Random(seed)
    commits = _commits(repo, rng, 6)
    pool = Pool(Repository.open(repo.path))
    for turn in range(8):
        commit = rng.choice(commits)
        fresh = tmp_path / f"fresh{turn}"
        repo.git("worktree", "add", "-q", "--detach", str(fresh), commit)
        async with pool.lease(commit) as lease:
            assert _disk(lease.folder) == _disk(fresh)
            assert _empty_folders(lease.folder) == []
            status = subprocess.run(["git", "status", "--porcelain"], cwd=lease.folder, check=True, capture_output=True)
            assert status.stdout == b""
            assert lease.changeset().changes == ()
            _disturb(lease.folder, rng)
            told = {change.path for change in lease.last_changeset().changes}
            now, was = _disk(lease.folder), _disk(fresh)
            assert told <= {path for path in now.keys() | was.keys() if now.get(path) != was.get(path)}
            assert now.keys() ^ was.keys() <= told


async def test_an_attempt_costs_two_git_programs_and_one_look_at_the_files(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt that changes a file, which the next one gets as it was made: git says once how the file is stored and writes it once,
    at the next lease; each folder of the worktree is listed once. At a commit without the change it has its old bytes again."""
    commits = [repo.commit({"a": f"{number}\n", "d/x": "1\n"}) for number in range(4)]
    programs = tmp_path / "programs"
    programs.mkdir()
    told = tmp_path / "told"
    (programs / "git").write_text(f'#!/bin/sh\necho "$*" >> {told}\nexec {shutil.which("git")} "$@"\n')
    (programs / "git").chmod(0o755)
    pool = Pool(Repository.open(repo.path))
    async with pool.lease(commits[0]) as lease:
        (lease.folder / "a").write_text("1\n")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    listed: list[str | int] = []
    scandir = os.scandir

    def counting(path: Any) -> Iterator[os.DirEntry[Any]]:
        listed.append(path if isinstance(path, int) else os.path.basename(os.fsdecode(path).rstrip("/")))
        return scandir(path)

    async def attempt(at: str, text: str) -> tuple[int, int]:
        told.write_text("")
        listed.clear()
        async with pool.lease(at) as lease:
            (lease.folder / "a").write_text(text)
            lease.last_changeset()
        return len(told.read_text().splitlines()), listed.count("d")

    monkeypatch.setattr(os, "scandir", counting)
    assert await attempt(commits[1], "2\n") == (2, 1)
    assert await attempt(commits[2], "3\n") == (2, 1)
    assert await attempt(commits[2], "4\n") == (2, 1)
    async with pool.lease(commits[2]) as lease:
        assert (lease.folder / "a").read_text() == "2\n"


async def test_a_short_attempt_is_waited_for(repo: Repo, patient_clock: MockClock) -> None:
    """While all worktrees are out, the next attempt gets the first that comes back: no other is made, and no time passes."""
    Patience(patient_clock)
    commit = repo.commit({"a": "1\n"})
    pool = Pool(Repository.open(repo.path), patience_s=60)
    folders = []

    async def attempt() -> None:
        async with pool.lease(commit) as lease:
            folders.append(lease.folder)

    began = trio.current_time()
    async with trio.open_nursery() as nursery, pool.lease(commit) as first:
        nursery.start_soon(attempt)
        nursery.start_soon(attempt)
        await wait_all_tasks_blocked()
    assert folders == [first.folder] * 2
    assert trio.current_time() == began


async def test_a_long_attempt_is_not_waited_for(repo: Repo, patient_clock: MockClock) -> None:
    """All who wait share one patience; when it is used up another worktree is made for one of them, and the rest waits anew. An attempt
    that asks for a second worktree while it has one does not wait for itself for ever."""
    Patience(patient_clock)
    commit = repo.commit({"a": "1\n"})
    pool = Pool(Repository.open(repo.path), patience_s=60)
    got: list[tuple[float, Path]] = []
    async with trio.open_nursery() as nursery, pool.lease(commit) as first:
        began = trio.current_time()

        async def attempt() -> None:
            async with pool.lease(commit) as lease:
                got.append((trio.current_time() - began, lease.folder))
                await trio.sleep_forever()

        nursery.start_soon(attempt)
        nursery.start_soon(attempt)
        async with pool.lease(commit) as third:
            await trio.sleep(200)
            assert len({first.folder, third.folder, *(where for _, where in got)}) == 4
        nursery.cancel_scope.cancel()
    assert max(at for at, _ in got) <= 3 * 60


def test_a_full_disk_is_refused_before_anything_starts(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A plan that needs a worktree is refused with what it needs and what there is, and leaves no run; one that works in memory runs."""
    repo.commit({"a.py": "print(1)\n"})
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=1024 * 1024))
    task = Task("t", "service", writes=("a.py",), exec=("true", "{file}"))
    with (
        Runtime(BUILTIN, repo=repo.path, ways=Ways()) as runtime,
        pytest.raises(RepositoryRefused, match=r"200 MiB to spare, but .* has only 1 MiB free; make room"),
    ):
        runtime.run(Plan([task]))
    assert not (repo.path / ".git/journeyman/journal.db").exists()
    with Runtime(BUILTIN, repo=repo.path, ways=Ways()) as runtime:
        in_memory = Task("t", "service", writes=("a.py",), rewrite=Rewrite("print($A)", "log($A)", "python"))
        assert runtime.run(Plan([in_memory])).ok


async def test_a_worktree_that_git_had_only_begun_is_taken_away(repo: Repo) -> None:
    """`git worktree add` writes a commit of zeros before the real one: what a kill between the two leaves is gone when the journal's next
    holder has tidied up, and `git fsck` has nothing to say; one that is whole stays."""
    commit = repo.commit({"a": "1\n"})
    pool = Pool(Repository.open(repo.path))
    async with pool.lease(commit):
        pass
    pool.close()
    records = repo.path / ".git/worktrees"
    (whole,) = records.iterdir()
    half = pool.folder / f"{pool.folder.name}-2"
    repo.git("worktree", "add", "--no-checkout", "--detach", "-f", str(half), commit)
    (records / half.name / "HEAD").write_text("0" * 40 + "\n")
    let_go(Repository.open(repo.path))
    assert [*records.iterdir()] == [whole]
    assert not half.exists()
    assert "nothing" not in repo.git("fsck")
