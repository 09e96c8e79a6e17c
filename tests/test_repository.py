"""Git, claims, workspaces, the line and landing, against real repositories."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import Repo
from hypothesis import given
from hypothesis import strategies as some

from runtime import claims
from runtime.core.changes import Change, Changeset, path_bytes, path_text
from runtime.errors import BadInput, ClaimViolation, RepositoryRefused
from runtime.git import Repository
from runtime.line import Job, Line
from runtime.overlay import Overlay
from runtime.worktrees import Pool, collect

ODD = {
    "text.txt": b"one\n",
    "crlf.txt": b"a\r\nb\r\n",
    "binary.bin": bytes(range(256)),
    "deep/er/file.py": b"x = 1\n",
    "spaces and (signs).txt": b"s\n",
}


@given(some.binary(min_size=1, max_size=40))
def test_every_file_name_has_a_text_of_its_own(raw: bytes) -> None:
    """A name's text is valid Unicode that JSON can carry, and gives the very bytes back."""
    text = path_text(raw)
    assert path_bytes(text) == raw
    text.encode()


@pytest.mark.parametrize(
    "path",
    [
        "", " ", "/etc/passwd", "~/x", "C:/x", "../x", "a/../../x", "a//b", "./a", "a\\b", "a\nb", "a\0b",
        ".git/config", "a/.git/hooks/x", ".GIT/config", ".git /x", ".git./x", "git~1/x", ".g\u200cit/x",
        ".git::$INDEX_ALLOCATION/x", "x" * 300, "a/" * 3000 + "b",
    ],
)  # fmt: skip
def test_paths_that_are_never_claimed(path: str) -> None:
    """Empty, escaping and absolute paths, and whatever git takes for its own folder on any system, are refused with a reason."""
    assert claims.problem_with(path)


@pytest.mark.parametrize(
    "path", ["a", "a/b.py", "src/", "src/**/*.ts", ".github/x", "a b", "ünï.txt", ".gitignore", "x.git/y"]
)
def test_paths_that_may_be_claimed(path: str) -> None:
    """Ordinary files, folders and globs are accepted."""
    assert claims.problem_with(path) is None


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("a.py", "a.py", True), ("a.py", "b/a.py", False), ("a/", "a/b/c", True), ("a/", "ab", False),
        ("*.py", "x.py", True), ("*.py", "d/x.py", False), ("**/*.py", "x.py", True), ("**/*.py", "a/b/x.py", True),
        ("src/**", "src/.hidden/x", True), ("**/*.{ts,tsx}", "a/b.tsx", True), ("a?c", "abc", True), ("a?c", "a/c", False),
    ],
)  # fmt: skip
def test_what_a_claim_covers(pattern: str, path: str, expected: bool) -> None:
    """`**` spans folders, `*` does not, a folder covers all in it, a plain path only itself."""
    assert claims.covers([pattern], path) is expected


def test_the_tree_is_read_and_written_as_git_does(repo: Repo) -> None:
    """Files, modes, links and names that are not UTF-8 are read as `git ls-tree` shows them, and a changed tree passes fsck."""
    repo.write(ODD)
    os.symlink("text.txt", repo.path / "link")
    os.chmod(repo.path / "deep/er/file.py", 0o755)
    with open(os.path.join(os.fsencode(repo.path), b"caf\xe9.txt"), "wb") as file:
        file.write(b"latin")
    commit = repo.commit({})
    found = Repository.open(repo.path)
    files = found.files(found.tree_of(commit))
    listed = subprocess.run(["git", "ls-tree", "-rz", "HEAD"], cwd=repo.path, capture_output=True, check=True).stdout
    expected = {}
    for row in listed.split(b"\0"):
        if row:
            head, name = row.split(b"\t", 1)
            mode, _, oid = head.split(b" ")
            expected[path_text(name)] = (int(mode, 8), bytes.fromhex(oid.decode()))
    assert files == expected
    blob = found.write_blob(b"new")
    changes = [
        Change("deep/er/file.py"),
        Change("deep/new/n.txt", 0o100755, blob),
        Change("text.txt/now/a/folder", 0o100644, blob),
        Change("text.txt"),
        Change(path_text(b"caf\xe9.txt"), 0o100644, blob),
    ]
    tree = found.apply(found.tree_of(commit), changes)
    new = found.commit(tree, [commit], "changed")
    assert repo.git("fsck", "--strict", "--no-dangling") == ""
    names = repo.git("ls-tree", "-r", "--name-only", new).splitlines()
    assert "deep/er/file.py" not in names
    assert "text.txt/now/a/folder" in names
    told = {change.path for change in found.differences(found.tree_of(commit), tree)}
    assert told == {
        "deep/er/file.py", "deep/new/n.txt", "text.txt", "text.txt/now/a/folder", path_text(b"caf\xe9.txt"),
    }  # fmt: skip


def test_repositories_that_cannot_be_used_are_refused(tmp_path: Path, repo: Repo) -> None:
    """No repository, a bare one, no commit, and a base that is none or an option: each has its own words."""
    (tmp_path / "plain").mkdir()
    with pytest.raises(BadInput, match="no git repository"):
        Repository.open(tmp_path / "plain")
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "bare")], check=True)
    with pytest.raises(RepositoryRefused, match="bare"):
        Repository.open(tmp_path / "bare")
    empty = Repository.open(repo.path)
    with pytest.raises(RepositoryRefused, match="no commit yet"):
        empty.resolve("HEAD")
    repo.commit({"a": "1"})
    with pytest.raises(BadInput, match="no commit"):
        Repository.open(repo.path).resolve("nothing")
    with pytest.raises(BadInput, match="option"):
        Repository.open(repo.path).resolve("--all")


def test_an_overlay_gives_what_was_written(repo: Repo) -> None:
    """Writes stay in memory, modes are kept, an unchanged write is no change, and outside the claims nothing is written."""
    commit = repo.commit(ODD)
    found = Repository.open(repo.path)
    overlay = Overlay(found, commit, task="t", may_write=lambda path: path != "text.txt")
    overlay.write("crlf.txt", overlay.read("crlf.txt"))
    overlay.write("new/x.sh", "#!\n", executable=True)
    overlay.delete("binary.bin")
    with pytest.raises(ClaimViolation):
        overlay.write("text.txt", "no")
    with pytest.raises(ClaimViolation):
        overlay.write("../out", "no")
    with pytest.raises(FileNotFoundError):
        overlay.read("binary.bin")
    changes = {change.path: change.mode for change in overlay.changeset().changes}
    assert changes == {"binary.bin": None, "new/x.sh": 0o100755}
    assert overlay.list("**/*.sh") == ["new/x.sh"]
    assert repo.git("status", "--porcelain") == ""


async def test_a_leased_worktree_is_clean_each_time(repo: Repo) -> None:
    """Whatever an attempt does in its worktree, the changeset tells it, and the next lease starts clean at its own commit."""
    repo.write({".gitignore": "*.log\n"})
    first = repo.commit(ODD)
    second = repo.commit({"text.txt": "two\n", "added": "a"}, "second")
    found = Repository.open(repo.path)
    pool = Pool(found)
    async with pool.lease(first) as lease:
        assert lease.changeset().changes == ()
        (lease.folder / "text.txt").write_text("changed")
        (lease.folder / "junk.log").write_text("ignored")
        (lease.folder / "made.txt").write_text("new")
        os.unlink(lease.folder / "binary.bin")
        os.chmod(lease.folder / "deep/er/file.py", 0o755)
        (lease.folder / ".git").write_text("gitdir: /nowhere\n")
        told = {change.path: change.mode for change in lease.changeset().changes}
    assert told == {"text.txt": 0o100644, "made.txt": 0o100644, "binary.bin": None, "deep/er/file.py": 0o100755}
    async with pool.lease(second) as lease:
        assert lease.changeset().changes == ()
        assert lease.read("text.txt") == b"two\n"
        assert lease.read("crlf.txt") == b"a\r\nb\r\n"
        assert not lease.exists("made.txt")
        assert not lease.exists("junk.log")
    assert repo.git("status", "--porcelain") == ""
    assert collect(found)
    assert len(repo.git("worktree", "list").splitlines()) == 1


async def test_a_worktree_is_set_up_with_what_the_user_names(repo: Repo) -> None:
    """`.worktreeinclude` brings ignored files along, `setup` runs once, and both survive the cleaning between leases."""
    commit = repo.commit({".gitignore": ".env\nmods/\nstamp\n", ".worktreeinclude": ".env\nmods/\n", "a": "1"})
    repo.write({".env": "KEY=1", "mods/m.js": "m"})
    pool = Pool(Repository.open(repo.path), setup="touch stamp")
    for _ in range(2):
        async with pool.lease(commit) as lease:
            assert lease.read(".env") == b"KEY=1"
            assert lease.read("mods/m.js") == b"m"
            assert lease.exists("stamp")
            assert lease.changeset().changes == ()
            (lease.folder / "extra").write_text("x")
    pool = Pool(Repository.open(repo.path), setup="false")
    with pytest.raises(RepositoryRefused, match="exit code 1"):
        async with pool.lease(commit):
            pass


def _job(found: Repository, base: str, task: str, files: dict[str, bytes | None], attempt: int = 1) -> Job:
    changes = []
    for path, data in files.items():
        entry = found.lookup(found.tree_of(base), path)
        was = entry[1].hex() if entry else None
        changes.append(
            Change(path, None, None, was) if data is None else Change(path, 0o100644, found.write_blob(data), was)
        )
    return Job(task, attempt, Changeset(base, tuple(changes)), f"Do {task}")


def test_a_changeset_becomes_one_commit_once(repo: Repo) -> None:
    """Each task is one commit with its trailers; merging it again finds it; one that no longer fits is refused by path; a new
    `Line` on the same run knows what is there."""
    base = repo.commit(ODD)
    found = Repository.open(repo.path)
    line = Line(found, "r1", base)
    answers = line.merge([_job(found, base, "a", {"text.txt": b"A\n"}), _job(found, base, "b", {"n.txt": b"N\n"})])
    assert [answer.error for answer in answers] == ["", ""]
    assert line.merge([_job(found, base, "a", {"text.txt": b"A\n"})])[0].commit == answers[0].commit
    misfit = line.merge([_job(found, base, "c", {"text.txt": b"C\n"})])[0]
    assert "text.txt has changed" in misfit.error
    assert line.merge([_job(found, base, "d", {})])[0].commit is None
    again = Line(found, "r1", base)
    assert again.tip == line.tip == repo.git("rev-parse", "refs/journeyman/r1/line")
    assert again.commit_of("a") == answers[0].commit
    body = repo.git("log", "--format=%B", f"{base}..{line.tip}")
    assert body.count("Journeyman-Run: r1") == 2
    assert "Journeyman-Task: b" in body
    assert repo.git("status", "--porcelain") == ""


def test_a_task_is_taken_back_by_its_inverse(repo: Repo) -> None:
    """Reverting gives the tree without the task; it is refused, naming what is entangled, when a later task changed the path."""
    base = repo.commit(ODD)
    found = Repository.open(repo.path)
    line = Line(found, "r1", base)
    line.merge([_job(found, base, "a", {"text.txt": b"A\n"}), _job(found, base, "b", {"new": b"N", "crlf.txt": None})])
    tree_with_a = found.apply(found.tree_of(base), [Change("text.txt", 0o100644, found.write_blob(b"A\n"))])
    assert line.revert(["b"]).error == ""
    assert line.tree == tree_with_a
    line.merge([_job(found, line.tip, "c", {"text.txt": b"AC\n"})])
    assert "text.txt was changed after it" in line.revert(["a"]).error
    assert line.revert(["a", "c"]).error == ""
    assert line.tree == found.tree_of(base)


def _landable(repo: Repo) -> tuple[Repository, Line, str]:
    base = repo.commit({**ODD, "other.txt": "o\n"})
    found = Repository.open(repo.path)
    line = Line(found, "r1", base)
    line.merge(
        [
            _job(found, base, "a", {"text.txt": b"A\n"}),
            _job(found, base, "b", {"deep/new.py": b"N\n", "binary.bin": None}),
        ]
    )
    return found, line, base


def test_landing_is_one_commit_and_leaves_other_work_alone(repo: Repo) -> None:
    """The squashed commit is the branch's new tip, the files are there, and changes elsewhere, staged or not, stay."""
    _, line, base = _landable(repo)
    repo.write({"other.txt": "mine\n", "staged.txt": "s"})
    repo.git("add", "staged.txt")
    (commit,) = line.land("Land it")
    assert repo.git("rev-parse", "main") == commit
    assert repo.git("rev-parse", "main^") == base
    assert (repo.path / "text.txt").read_bytes() == b"A\n"
    assert not (repo.path / "binary.bin").exists()
    assert repo.git("status", "--porcelain").splitlines() == [" M other.txt", "A  staged.txt"]


def test_landing_keeps_commits_or_cuts_them(repo: Repo) -> None:
    """`keep_commits` lands the line's own commits; `parts` lands one for each part, adding up to the same tree."""
    _, line, base = _landable(repo)
    commits = line.land("x", keep_commits=True)
    assert list(commits) == repo.git("rev-list", "--reverse", f"{base}..main").splitlines()
    assert len(commits) == 2
    tree = repo.git("rev-parse", "main^{tree}")
    repo.git("reset", "-q", "--hard", base)
    commits = line.land("Cut", parts=lambda path: path.split("/")[0] if "/" in path else ".")
    assert len(commits) == 2
    assert repo.git("rev-parse", "main^{tree}") == tree


def test_landing_on_a_branch_that_moved(repo: Repo) -> None:
    """A branch that moved elsewhere is merged with; one that changed the same lines is refused with the paths."""
    _, line, _ = _landable(repo)
    moved = repo.commit({"other.txt": "theirs\n"}, "moved")
    (commit,) = line.land("Land")
    assert repo.git("rev-parse", f"{commit}^") == moved
    assert (repo.path / "other.txt").read_text() == "theirs\n"
    repo.git("reset", "-q", "--hard", "HEAD~2")
    repo.commit({"text.txt": "conflict\n"}, "conflict")
    with pytest.raises(RepositoryRefused, match=r"conflict: text\.txt"):
        line.land("Land")


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda repo: repo.write({"text.txt": "dirty"}), "uncommitted work.*text.txt"),
        (lambda repo: repo.write({"deep/new.py": "untracked"}), "uncommitted work.*deep/new.py"),
        (lambda repo: repo.git("checkout", "-q", "--detach"), "detached"),
        (
            lambda repo: (repo.path / ".git/MERGE_HEAD").write_text(repo.git("rev-parse", "HEAD")),
            "a merge is under way",
        ),
    ],
)
def test_landing_is_refused(repo: Repo, prepare: Any, words: str) -> None:
    """Uncommitted work in the way, a detached HEAD or a merge under way refuse the landing; nothing has changed then."""
    _, line, _ = _landable(repo)
    prepare(repo)
    before = (repo.git("rev-parse", "main"), repo.git("status", "--porcelain"))
    with pytest.raises(RepositoryRefused, match=words):
        line.land("Land")
    assert (repo.git("rev-parse", "main"), repo.git("status", "--porcelain")) == before
