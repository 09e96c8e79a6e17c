"""A landing that dies in the middle of a file, or of the branch's ref: what it was at is mended, what somebody did since is not touched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Repo
from nothing_lost import leftovers
from zygote import Started, Zygote

from runtime.git import Repository
from runtime.runs import load

LONG = "a line of text\n" * 400
FILES = {"cut.txt": "cut\n", "gone.txt": "gone\n", "edited.txt": "edited\n"}


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as one:
        yield one


class Landable:
    """A run that has ended, and verbs for it; `cut off` is a landing that dies at a failpoint."""

    def __init__(self, repo: Repo, folder: Path, zygote: Zygote) -> None:
        self.repo, self.folder, self.zygote = repo, folder, zygote
        repo.commit(FILES)
        tasks = ", ".join(f'"{name}.txt"' for name in ("cut", "gone", "edited", "new/half"))
        script = (
            "mkdir -p new; for file in cut gone edited new/half; do yes 'a line of text' | head -400 > $file.txt; done"
        )
        (folder / "plan.toml").write_text(
            f'[[task]]\nid = "grow"\nspecialist = "service"\nwrites = [{tasks}]\nexec = ["sh", "-c", "{script}"]\n'
        )
        assert self("run", str(folder / "plan.toml")).code == 0

    def __call__(self, *words: str, **more: str) -> Started:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("JOURNEYMAN")}
        return self.zygote.run([*words, "--json"], self.repo.path, {**kept, **more}, self.folder)

    def die_landing(self, point: str) -> None:
        assert self("land", "r1", JOURNEYMAN_FAILPOINT=point).code == -9

    @property
    def landed(self) -> bool:
        return self.repo.git("rev-parse", "main^{tree}") == self.repo.git("rev-parse", "refs/journeyman/r1/line^{tree}")


@pytest.fixture
def landable(repo: Repo, zygote: Zygote, tmp_path: Path) -> Landable:
    return Landable(repo, tmp_path, zygote)


def test_files_that_git_was_in_the_middle_of_are_put_back(landable: Landable) -> None:
    """The beginning of a file, a file that is gone, and the beginning of a new one, as a killed git leaves them, are no uncommitted work:
    the next landing writes them. What somebody wrote meanwhile is: refused by its name, kept, and landed over when it is committed."""
    repo = landable.repo
    landable.die_landing("checkout.aside.after")
    repo.write({"cut.txt": LONG[:100], "new/half.txt": "", "edited.txt": "by hand\n"})
    (repo.path / "gone.txt").unlink()
    refused = landable("land", "r1")
    assert refused.code == 6
    assert "edited.txt" in refused.said
    assert not any(name in refused.said for name in ("cut.txt", "gone.txt", "half.txt"))
    assert (repo.path / "edited.txt").read_text() == "by hand\n"
    repo.git("checkout", "-q", "edited.txt")
    assert landable("land", "r1").code == 0
    assert landable.landed
    assert repo.git("status", "--porcelain") == ""
    assert (repo.path / "cut.txt").read_text() == LONG
    assert not list(leftovers(repo.path, Path(os.environ["XDG_CACHE_HOME"])))


@pytest.mark.parametrize("said", ["", "the commit"])
def test_the_lock_of_the_branch_that_a_landing_died_with_is_removed(landable: Landable, said: str) -> None:
    """The branch's lock, empty or with the landing's commit in it, is ours when a landing died just before: the next one goes on."""
    repo = landable.repo
    landable.die_landing("land.move.before")
    begun = load(Repository.open(repo.path), "r1").machine.undo.landing
    assert begun is not None
    lock = repo.path / ".git/refs/heads/main.lock"
    lock.write_text(f"{begun.commits[-1]}\n" if said else "")
    os.utime(lock, (0, 0))
    assert landable("land", "r1").code == 0
    assert landable.landed
    assert repo.git("rev-parse", "main") == begun.commits[-1]
    assert not lock.exists()


def test_a_lock_of_the_branch_that_is_going_elsewhere_is_left(landable: Landable) -> None:
    """With another commit in it the lock is another git's: the landing waits, is refused with its name, and changes nothing."""
    repo = landable.repo
    landable.die_landing("land.move.before")
    lock = repo.path / ".git/refs/heads/main.lock"
    lock.write_text(f"{repo.git('rev-parse', 'HEAD')}\n")
    refused = landable("land", "r1")
    assert refused.code == 6
    assert str(lock) in refused.said
    assert lock.exists()
    assert not landable.landed
