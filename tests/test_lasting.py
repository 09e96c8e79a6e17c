"""What makes a daemon safe to leave running: nothing that a run takes is kept when it has ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Repo

from runtime.git import Repository

ROOT = Path(__file__).parent.parent


def packs(repo: Repo) -> int:
    """How many packs the repository has."""
    return len(list((repo.path / ".git/objects/pack").glob("*.pack")))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="there is no /proc to count open files in")
def test_a_process_that_lasts_holds_few_packs_open(repo: Repo) -> None:
    """Repositories that come and go, each reading a new pack while the last one is open still, leave no more open than was said."""
    code = (
        "import os, sys\n"
        "from runtime.git import Repository, keep_few_open\n"
        "keep_few_open(4)\n"
        "last = None\n"
        "for blob in sys.argv[1:]:\n"
        "    now = Repository.open('.')\n"
        "    assert now.objects[blob].data\n"
        "    last = now\n"
        "found = [os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{fd}')]\n"
        "print(sum('.pack' in one for one in found))\n"
    )
    repo.commit({"a": "1\n"})
    blobs = []
    for number in range(12):
        blobs.append(repo.git("hash-object", "-w", "--stdin", stdin=f"{number}\n".encode()))
        repo.git("pack-objects", "-q", ".git/objects/pack/pack", stdin=f"{blobs[-1]}\n".encode())
    repo.git("prune-packed")
    done = subprocess.run(
        [sys.executable, "-c", code, *blobs],
        cwd=repo.path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 4


def test_many_packs_become_one_as_git_would_do_it(repo: Repo) -> None:
    """More packs than git's own limit are put together, nothing is lost by it; a user who has switched that off is obeyed, and what a
    run keeps is left alone."""
    repo.commit({"a": "1\n"})
    repository = Repository.open(repo.path)
    repository.packs.run = "r1"

    def grow(number: int) -> list[str]:
        made = []
        for index in range(number):
            made.append(str(repository.objects.create_blob(f"{os.urandom(8).hex()} {index}\n".encode())))
            repo.git("update-ref", f"refs/keep/{made[-1]}", made[-1])
            repo.git("pack-objects", "-q", ".git/objects/pack/pack", stdin=f"{made[-1]}\n".encode())
        return made

    blobs = grow(55)
    kept = repository.packs.write(3, b"named by nothing yet\n").hex()
    repository.flush()
    repo.git("config", "gc.auto", "0")
    repository.fresh().collect()
    assert packs(repo) == 56
    repo.git("config", "--unset", "gc.auto")
    repository.fresh().collect()
    assert packs(repo) <= 3
    for blob in (*blobs, kept):
        assert repo.git("cat-file", "-t", blob) == "blob"
    repo.git("fsck", "--strict")


def test_locks_are_looked_for_while_a_collection_takes_folders_away(repo: Repo) -> None:
    """Whoever takes the journal while refs are being packed is not disturbed by folders that go."""
    commit = repo.commit({"a": "1\n"})
    for number in range(50):
        repo.git("update-ref", f"refs/journeyman/r{number}/line", commit)
    repository = Repository.open(repo.path)
    repo.git("pack-refs", "--all", "--prune")
    (repo.path / ".git/refs/journeyman/r3").mkdir(parents=True, exist_ok=True)
    lock = repo.path / ".git/refs/journeyman/r3/line.lock"
    lock.touch()
    os.utime(lock, (1, 1))
    repository.remove_left_locks()
    assert not lock.exists()
