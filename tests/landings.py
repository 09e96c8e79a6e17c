"""Landings that are cut off: killed with the git inside of them, or with a disk that fills up half way.

One finished run of large files, made once; each fault is done to a copy. What has to hold: while it cannot land, the checkout is as it
was or `land` says what is in the way; nothing of the user's is ever lost; and `land`, given again, ends as if nothing had happened.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from pathlib import Path

import attrs
from nothing_lost import Checkout, git, integrity, leftovers
from zygote import Started, Zygote

FILES = 60
_GROW = 'cat "$1" "$1" "$1" "$1" "$1" "$1" > "$1.more"; mv "$1.more" "$1"; cp "$1" "new/$1"'
_OVER = "has landed already"


@attrs.define
class Landings:
    """A run that has ended and not landed: each of its files is to become six times as large, and is to have a new one beside it."""

    folder: Path
    zygotes: list[Zygote]
    tree: str = ""
    status: str = ""
    _count: int = 0

    @classmethod
    def make(cls, folder: Path, zygotes: list[Zygote]) -> Landings:
        """Prepare it."""
        found = cls(folder, zygotes)
        repo = folder / "template"
        (repo / "new").mkdir(parents=True)
        for number in range(FILES):
            (repo / f"f{number}.txt").write_text(f"{number} is a line of text\n" * 150)
        for name in ("kept.txt", "new/kept.txt"):
            (repo / name).write_text("kept\n")
        for words in (["init", "-q", "-b", "main"], ["config", "user.name", "Ada"], ["config", "user.email", "a@b.c"], ["add", "-A"], ["commit", "-q", "-m", "base"]):  # fmt: skip
            git(repo, *words)
        rows = "".join(
            f'[[task]]\nid = "t{first}"\nspecialist = "service"\nwrites = ["f{first}*.txt", "new/f{first}*.txt"]\n'
            f'exec = ["sh", "-c", \'for file in f{first}*.txt; do set -- $file; {_GROW}; done\']\n'
            for first in range(10)
        )
        (folder / "plan.toml").write_text(rows)
        done = found.command(repo, "run", str(folder / "plan.toml"))
        assert done.code == 0, done.said + done.out.read_text()
        assert found.command(repo, "gc").code == 0
        (repo / "kept.txt").write_text("the user is at this\n")
        (repo / "mine.txt").write_text("untracked\n")
        found.tree = git(repo, "rev-parse", "refs/journeyman/r1/line^{tree}")
        found.status = git(repo, "status", "--porcelain")
        return found

    def start(self, repo: Path, *words: str, lane: int = 0) -> Started:
        """A verb in a repository, as a process group of its own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "JOURNEYMAN_"))}
        more = {"XDG_CACHE_HOME": str(self.folder / "cache"), "GIT_CONFIG_GLOBAL": os.devnull}
        return self.zygotes[lane].start(
            [*words, "--json"], repo, {**kept, **more}, self.folder, prefix=f"{repo.name}{lane}"
        )

    def command(self, repo: Path, *words: str, lane: int = 0) -> Started:
        """The same, to its end."""
        started = self.start(repo, *words, lane=lane)
        started.wait(60)
        return started

    def copy(self, place: Path) -> Path:
        """A fresh copy."""
        shutil.copytree(self.folder / "template", place, symlinks=True)
        git(place, "status")  # the index knows the copies' times
        return place

    def kill(self, rng: random.Random, lane: int) -> int:
        """Kill a landing and its git while files are written; how often something died. Then land."""
        self._count += 1
        repo = self.copy(self.folder / f"killed{self._count}.{lane}")
        started = self.start(repo, "land", "r1", lane=lane)
        until = time.monotonic() + 20
        while not list((repo / ".git/journeyman").glob("index-*.files/list")) and time.monotonic() < until:
            if started.wait(0.0005) is not None:
                break
        deaths = int(started.wait(rng.uniform(0, 0.05)) is None)
        if deaths:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
            started.wait()
        self.land(repo, lane)
        shutil.rmtree(repo)
        return deaths

    def fill(self, place: Path, free_kib: int) -> bool:
        """Land with so much room on the file system that `place` is, then with enough; whether the first landing was refused."""
        repo = self.copy(place / "repo")
        before = Checkout.of(repo)
        filler = place / "filler"
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        os.truncate(filler, max(0, filler.stat().st_size - free_kib * 1024))
        done = self.command(repo, "land", "r1")
        if done.code:
            assert done.code in (6, 130), f"{free_kib} KiB free: exit {done.code}: {done.said}"
            assert "space" in done.said or "full" in done.said, f"{free_kib} KiB free: {done.said}"
            changed = before.differences(Checkout.of(repo))
            assert not changed, f"{free_kib} KiB free: refused, and the checkout changed: {changed[:5]}"
        filler.unlink()
        self.land(repo)
        return bool(done.code)

    def land(self, repo: Path, lane: int = 0) -> None:
        """Land, and judge."""
        done = self.command(repo, "land", "r1", lane=lane)
        assert done.code == 0 or _OVER in done.said, f"{repo}: exit {done.code}: {done.said}"
        wrong = [*leftovers(repo, self.folder / "cache"), *integrity(repo)]
        if git(repo, "rev-parse", "main^{tree}") != self.tree:
            wrong.append("the branch has another tree than the result")
        if git(repo, "status", "--porcelain") != self.status:
            wrong.append(f"the work tree: {git(repo, 'status', '--porcelain')[:200]!r}")
        if (repo / "kept.txt").read_text() != "the user is at this\n":
            wrong.append("the user's work is overwritten")
        assert not wrong, f"{repo}: {'; '.join(wrong)}"
