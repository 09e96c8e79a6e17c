"""Git, claims, workspaces, the line and landing, against real repositories."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import attrs
import pytest
from conftest import Repo, land
from hypothesis import given
from hypothesis import strategies as some

from runtime import claims
from runtime.core.changes import Change, Changeset, path_bytes, path_text
from runtime.errors import BadInput, ClaimViolation, JourneymanError, RepositoryRefused
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
    found.flush()
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


async def test_a_setup_command_gets_no_key_and_has_a_limit(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that sets a worktree up is given what checks are given, no key among it, and is stopped with all that it started."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "canary-value")
    commit = repo.commit({"a": "1"})
    pool = Pool(Repository.open(repo.path), setup="sh -c 'env > stamp'")
    async with pool.lease(commit) as lease:
        assert b"canary" not in (lease.folder / "stamp").read_bytes()
    slow = Pool(Repository.open(repo.path), setup="sleep 60", setup_timeout_s=0.2)
    with pytest.raises(RepositoryRefused, match=r"setup: `sleep 60` did not end in 0\.2 s"):
        async with slow.lease(commit):
            pass  # never reached


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


def test_a_step_of_undo_or_redo_knows_what_it_changes(repo: Repo) -> None:
    """Between any two checkpoints, also across changes that were taken back or made anew, the tasks that are off and on again are those
    in which the two results differ; a new `Line`, which has looked at nothing yet, says the same."""
    base = repo.commit(ODD)
    found = Repository.open(repo.path)
    line = Line(found, "r1", base)
    tips: dict[str, dict[str, str]] = {base: {}}  # {tip: {task: its commit} there}
    for name in ("a", "b", "-a", "c", "a", "-b", "d"):
        there = dict(tips[line.tip])
        if name.startswith("-"):
            assert line.revert([name[1:]]).error == ""
            del there[name[1:]]
        else:
            job = _job(found, line.tip, name, {name: f"{len(tips)}".encode()})
            there[name] = line.merge([attrs.evolve(job, attempt=len(tips))])[0].commit or ""
        tips[line.tip] = there
    found.flush()
    for before, old in tips.items():
        for after, new in tips.items():
            fresh = Line(Repository.open(repo.path), "r1", base)
            off, on = fresh.between(before, after)
            assert set(off) == old.keys() - new.keys()
            assert on == {task: commit for task, commit in new.items() if old.get(task) != commit}


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
    (commit,) = land(line, "Land it")
    assert repo.git("rev-parse", "main") == commit
    assert repo.git("rev-parse", "main^") == base
    assert (repo.path / "text.txt").read_bytes() == b"A\n"
    assert not (repo.path / "binary.bin").exists()
    assert repo.git("status", "--porcelain").splitlines() == [" M other.txt", "A  staged.txt"]


def test_landing_keeps_commits_or_cuts_them(repo: Repo) -> None:
    """`keep_commits` lands the line's own commits; `parts` lands one for each part, adding up to the same tree."""
    _, line, base = _landable(repo)
    commits = land(line, "x", keep_commits=True)
    assert list(commits) == repo.git("rev-list", "--reverse", f"{base}..main").splitlines()
    assert len(commits) == 2
    tree = repo.git("rev-parse", "main^{tree}")
    repo.git("reset", "-q", "--hard", base)
    commits = land(line, "Cut", parts=lambda path: path.split("/")[0] if "/" in path else ".")
    assert len(commits) == 2
    assert repo.git("rev-parse", "main^{tree}") == tree


def test_landing_on_a_branch_that_moved(repo: Repo) -> None:
    """A branch that moved elsewhere is merged with; one that changed the same lines is refused with the paths."""
    _, line, _ = _landable(repo)
    moved = repo.commit({"other.txt": "theirs\n"}, "moved")
    (commit,) = land(line, "Land")
    assert repo.git("rev-parse", f"{commit}^") == moved
    assert (repo.path / "other.txt").read_text() == "theirs\n"
    repo.git("reset", "-q", "--hard", "HEAD~2")
    repo.commit({"text.txt": "conflict\n"}, "conflict")
    with pytest.raises(RepositoryRefused, match=r"conflict: text\.txt"):
        land(line, "Land")


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
        land(line, "Land")
    assert (repo.git("rev-parse", "main"), repo.git("status", "--porcelain")) == before


# --- what git trees can hold -----------------------------------------------------------------------------------

AWKWARD = [
    b"new\nline",
    b'"quoted"',
    b"-dash",
    b"caf\xe9",
    b"tab\there",
    b"back\\slash",
    b"d/" * 60 + b"deep",
    b" lead",
    b"end ",
]


def _put(root: Path, name: bytes, data: bytes) -> None:
    where = os.path.join(os.fsencode(root), name)
    os.makedirs(os.path.dirname(where), exist_ok=True)
    with open(where, "wb") as file:
        file.write(data)


def _tree_on_disk(folder: Path) -> dict[bytes, tuple[int, bytes]]:
    """{path: (mode bits that git keeps, bytes)} of everything in a folder but git's own."""
    found = {}
    root = os.fsencode(folder)
    for at, folders, names in os.walk(root):
        folders[:] = [one for one in folders if one != b".git"]
        for name in names:
            where = os.path.join(at, name)
            seen = os.lstat(where)
            if name == b".git":
                continue
            if os.path.islink(where):
                found[os.path.relpath(where, root)] = (0o120000, os.readlink(where))
            else:
                with open(where, "rb") as file:
                    found[os.path.relpath(where, root)] = (seen.st_mode & 0o100, file.read())
    return found


@pytest.mark.parametrize("kind", ["overlay", "worktree"])
async def test_a_file_becomes_a_folder_and_a_folder_a_file(repo: Repo, kind: str) -> None:
    """Both survive the workspace, the line, its taking back and the landing, cut in parts or not, and leave what git has itself."""
    base = repo.commit({"file": "f\n", "folder/a": "a\n", "folder/b/c": "c\n", "else": "e\n"})
    found = Repository.open(repo.path)
    line = Line(found, "r1", base)

    def change(workspace: Any) -> None:
        workspace.delete("file")
        workspace.write("file/now/inside", "i\n")
        workspace.delete("folder/a")
        workspace.delete("folder/b/c")
        if kind == "worktree":
            os.rmdir(workspace.folder / "folder/b")
            os.rmdir(workspace.folder / "folder")
        workspace.write("folder", "was a folder\n")

    if kind == "overlay":
        overlay = Overlay(found, base)
        change(overlay)
        changeset = overlay.changeset()
    else:
        async with Pool(found).lease(base) as lease:
            change(lease)
            changeset = lease.changeset()
    assert line.merge([Job("t", 1, changeset, "Swap")])[0].error == ""
    names = repo.git("ls-tree", "-r", "--name-only", line.tip).splitlines()
    assert names == ["else", "file/now/inside", "folder"]
    tip = line.tip
    assert line.revert(["t"]).error == ""
    assert line.tree == found.tree_of(base)
    again = Line(found, "r2", base)
    again.merge([Job("t", 1, changeset, "Swap")])
    land(again, "Land", parts=lambda path: path)
    assert repo.git("rev-parse", "HEAD^{tree}") == repo.git("rev-parse", f"{tip}^{{tree}}")
    assert repo.git("status", "--porcelain") == ""
    assert sorted(_tree_on_disk(repo.path)) == [b"else", b"file/now/inside", b"folder"]
    for commit in repo.git("rev-list", f"{base}..HEAD").splitlines():
        repo.git("ls-tree", "-r", commit)
    repo.git("fsck", "--strict", "--no-dangling")


def test_an_overlay_refuses_what_a_disk_would(repo: Repo) -> None:
    """A file in a file, a file over a folder that is not empty, and reading a folder or a submodule are errors, not lost files."""
    repo.commit({"file": "f", "folder/a": "a"})
    repo.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},module")
    repo.git("commit", "-qm", "module")
    base = repo.git("rev-parse", "HEAD")
    overlay = Overlay(Repository.open(repo.path), base)
    with pytest.raises(NotADirectoryError):
        overlay.write("file/x", "x")
    for path in ("folder", "module"):
        with pytest.raises(IsADirectoryError):
            overlay.write(path, "x")
        with pytest.raises(IsADirectoryError):
            overlay.read(path)
    overlay.write("made/x", "x")
    with pytest.raises(IsADirectoryError):
        overlay.write("made", "x")
    assert overlay.list() == ["file", "folder/a", "made/x"]


def test_a_changeset_does_not_bury_what_came_to_the_line_meanwhile(repo: Repo) -> None:
    """A folder that got a file, or a file where a folder is needed, is a misfit that names the path; nothing is lost for it."""
    base = repo.commit({"a": "1\n", "d/x": "x\n"})
    found = Repository.open(repo.path)
    line = Line(found, "r1", base)
    line.merge([_job(found, base, "new", {"d/y": b"y\n", "n": b"n\n"})])
    over = line.merge([_job(found, base, "over", {"d/x": None, "d": b"file\n"})])[0]
    assert "d/y is in the way" in over.error
    under = line.merge([_job(found, base, "under", {"n/below": b"b\n"})])[0]
    assert "n is in the way" in under.error
    line.merge([_job(found, line.tip, "bit", {})])
    flipped = Changeset(base, (Change("a", 0o100755, found.lookup(found.tree_of(base), "a")[1].hex(), None),))  # type: ignore[index]
    assert line.merge([Job("flip", 1, flipped, "x")])[0].error == ""
    content = _job(found, base, "content", {"a": b"2\n"})
    assert "a has changed" in line.merge([content])[0].error


async def test_awkward_names_and_kinds_survive_every_step(repo: Repo) -> None:
    """Newlines, quotes, dashes, bytes that are no UTF-8, deep folders, empty files, links out of the repository, a bit alone: what
    a worktree's command wrote is what lands, byte for byte."""
    for name in AWKWARD:
        _put(repo.path, name, b"old\n")
    repo.write(
        {"empty": "", "script": "#!\n", "README": "r\n", ".gitattributes": "*.crlf text eol=crlf\n", "x.crlf": "a\r\n"}
    )
    base = repo.commit({})
    found = Repository.open(repo.path)
    line = Line(found, "r1", base)
    async with Pool(found).lease(base) as lease:
        for name in AWKWARD:
            assert lease.read(path_text(name)) == b"old\n"
            _put(lease.folder, name, b"new " + name)
            _put(lease.folder, name + b".made", b"")
        _put(lease.folder, b"new\nline.crlf", b"x\r\ny\r\n")
        _put(lease.folder, b"x.crlf", b"b\r\n")
        os.symlink("/etc/passwd", lease.folder / "outside")
        os.chmod(lease.folder / "script", 0o755)
        os.rename(lease.folder / "README", lease.folder / "readme")
        os.truncate(lease.folder / "empty", 0)
        changeset = lease.changeset()
        expected = _tree_on_disk(lease.folder)
    assert {path_text(b"new\nline.crlf"), "script", "outside", "README", "readme"} <= set(changeset.paths)
    assert "empty" not in changeset.paths
    assert line.merge([Job("t", 1, changeset, "x")])[0].error == ""
    assert repo.show(line.tip, "x.crlf") == b"b\n"
    land(line, "Land")
    assert repo.git("status", "--porcelain") == ""
    assert _tree_on_disk(repo.path) == expected
    assert not repo.git("diff", "--name-only", line.tip, "HEAD")
    repo.git("fsck", "--strict", "--no-dangling")


def test_a_tree_deeper_than_the_stack(repo: Repo) -> None:
    """A path of a thousand folders is read, listed, changed and compared."""
    base = repo.commit({"top": "t"})
    found = Repository.open(repo.path)
    deep = "d/" * 1500 + "file"
    tree = found.apply(found.tree_of(base), [Change(deep, 0o100644, found.write_blob(b"x"))])
    assert list(found.files(tree)) == [deep, "top"]
    assert [change.path for change in found.differences(found.tree_of(base), tree)] == [deep]
    assert found.apply(tree, [Change(deep)]) == found.tree_of(base)


async def test_what_git_takes_for_its_own_never_gets_into_a_changeset(repo: Repo) -> None:
    """A command that writes `.GIT/config` or `git~1` is refused with the path, whatever its claims."""
    base = repo.commit({"a": "1"})
    async with Pool(Repository.open(repo.path)).lease(base, task="t") as lease:
        for name in (".GIT/config", "sub/.git /x", "git~1/y"):
            _put(lease.folder, name.encode(), b"x")
        with pytest.raises(ClaimViolation) as refused:
            lease.changeset()
        assert sorted(refused.value.paths) == [".GIT/config", "git~1/y", "sub/.git /x"]


async def test_fifos_and_sockets_never_hang_a_read(repo: Repo) -> None:
    """What git cannot keep is left out when it is new, reported when it replaced a file, refused by `read`, and gone afterwards."""
    base = repo.commit({"a": "1", "b": "2"})
    pool = Pool(Repository.open(repo.path))
    async with pool.lease(base) as lease:
        os.mkfifo(lease.folder / "pipe")
        os.mkfifo(lease.folder / "folder.fifo")
        os.mknod(lease.folder / "socket", stat.S_IFSOCK | 0o600)
        assert lease.changeset().changes == ()
        assert lease.list() == ["a", "b"]
        assert not lease.exists("pipe")
        with pytest.raises(OSError, match="neither a file nor a link"):
            lease.read("pipe")
        lease.write("pipe", "now a file")
        assert [change.path for change in lease.changeset().changes] == ["pipe"]
        os.unlink(lease.folder / "a")
        os.mkfifo(lease.folder / "a")
        with pytest.raises(JourneymanError, match="a was a file and is a fifo now"):
            lease.changeset()
    async with pool.lease(base) as lease:
        assert lease.changeset().changes == ()
        assert sorted(os.listdir(lease.folder)) == [".git", "a", "b"]
        assert lease.read("a") == b"1"


async def test_nothing_is_written_through_a_link(repo: Repo, tmp_path: Path) -> None:
    """Links to files and folders outside, and a hard link, are replaced or refused: what they point at stays as it was."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("s")
    os.symlink(outside, repo.path / "folder")
    os.symlink(outside / "secret", repo.path / "link")
    base = repo.commit({"a": "1"})
    pool = Pool(Repository.open(repo.path))
    async with pool.lease(base) as lease:
        for act in (
            lambda: lease.write("folder/secret", "x"),
            lambda: lease.read("folder/secret"),
            lambda: lease.delete("folder/secret"),
        ):
            with pytest.raises(NotADirectoryError):
                act()
        assert not lease.exists("folder/secret")
        lease.write("link", "mine")
        os.unlink(lease.folder / "a")
        os.link(outside / "secret", lease.folder / "a")
        lease.write("a", "mine")
        changed = {change.path: change.mode for change in lease.changeset().changes}
        assert changed == {"link": 0o100644, "a": 0o100644}
    assert (outside / "secret").read_text() == "s"
    assert os.listdir(outside) == ["secret"]
    overlay = Overlay(Repository.open(repo.path), base)
    overlay.write("link", "mine")
    assert overlay.mode("link") == 0o100644


async def test_a_worktree_forgets_what_commands_did_with_git(repo: Repo) -> None:
    """Staged files, a commit, a rebase left under way, locks, settings, a submodule's files, unreadable folders: the next lease has
    none of it, and the user's repository neither."""
    repo.commit({"a": "1\n", "b": "2\n"})
    repo.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},module")
    repo.git("commit", "-qm", "module")
    base = repo.git("rev-parse", "HEAD")
    pool = Pool(Repository.open(repo.path))
    async with pool.lease(base) as lease:

        def git(*words: str, folder: Path = lease.folder) -> None:
            subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)

        (lease.folder / "staged").write_text("s")
        git("add", "-f", "staged")
        git("commit", "-qm", "by an agent")
        git("rm", "-q", "--cached", "b")
        admin = Path(
            subprocess.run(
                ["git", "rev-parse", "--absolute-git-dir"], cwd=lease.folder, check=True, capture_output=True, text=True
            ).stdout.strip()
        )
        (admin / "index.lock").write_text("")
        (admin / "MERGE_HEAD").write_text(base)
        (admin / "rebase-merge").mkdir()
        (lease.folder / "module").mkdir(exist_ok=True)
        (lease.folder / "module/x").write_text("x")
        (lease.folder / "shut").mkdir()
        (lease.folder / "shut/x").write_text("x")
        os.chmod(lease.folder / "shut", 0)
    async with pool.lease(base) as lease:
        status = subprocess.run(
            ["git", "status", "--porcelain", "--ignored"], cwd=lease.folder, check=True, capture_output=True, text=True
        )
        assert status.stdout == ""
        assert lease.changeset().changes == ()
        assert not {"index.lock", "MERGE_HEAD", "rebase-merge"} & set(os.listdir(admin))
        assert not (lease.folder / "module/x").exists()
    assert repo.git("rev-parse", "HEAD") == base


def test_a_goal_cannot_pass_for_a_trailer(repo: Repo) -> None:
    """Lines in a goal or an id that look like ours are text: each commit stays the one of its own task and attempt."""
    base = repo.commit({"a": "1"})
    found = Repository.open(repo.path)
    line = Line(found, "r1", base)
    spoof = "Do it\n\nJourneyman-Run: r9\nJourneyman-Task: other\nJourneyman-Attempt: many\nJourneyman-Reverts: real"
    line.merge([Job("real", 1, _job(found, base, "x", {"r": b"r"}).changeset, "Real")])
    odd = "t\nJourneyman-Task: other\n\n% ü"
    (answer,) = line.merge([Job(odd, 2, _job(found, base, "x", {"a": b"2"}).changeset, spoof)])
    again = Line(found, "r1", base)
    assert again.commit_of(odd) == answer.commit
    assert again.commit_of("other") is None
    assert again.commit_of("real") is not None
    assert [(one.task, one.attempt, one.reverts) for one in again.commits()] == [("real", 1, ()), (odd, 2, ())]


async def test_the_cache_folder_and_the_repository_may_be_links(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Worktrees are found again, reused and collected through a symbolic link to the cache folder or to the repository."""
    base = repo.commit({"a": "1"})
    (tmp_path / "real cache").mkdir()
    os.symlink(tmp_path / "real cache", tmp_path / "cache")
    os.symlink(repo.path, tmp_path / "way in")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    places = set()
    for _ in range(2):
        pool = Pool(Repository.open(tmp_path / "way in"))
        async with pool.lease(base) as lease:
            lease.write("b", "2")
            assert [change.path for change in lease.changeset().changes] == ["b"]
            places.add(lease.folder)
        pool.close()
    assert len(places) == 1
    assert collect(Repository.open(repo.path))
    assert len(repo.git("worktree", "list").splitlines()) == 1
    assert not (repo.path / ".git/worktrees").exists()


async def test_an_attempt_sees_all_of_a_sparse_checkout(repo: Repo) -> None:
    """In a sparse repository attempts work on the whole tree, and landing neither deletes nor writes what is not checked out."""
    base = repo.commit({"in/a": "a\n", "out/b": "b\n", "out/c": "c\n", "top": "t\n"})
    repo.git("sparse-checkout", "set", "--cone", "in")
    assert not (repo.path / "out").exists()
    found = Repository.open(repo.path)
    line = Line(found, "r1", base)
    async with Pool(found).lease(base) as lease:
        assert lease.read("out/b") == b"b\n"
        assert lease.changeset().changes == ()
        lease.write("out/b", "B\n")
        lease.write("out/new", "n\n")
        lease.write("in/a", "A\n")
        assert subprocess.run(
            ["git", "status", "--porcelain"], cwd=lease.folder, capture_output=True, check=True, text=True
        ).stdout.splitlines() == [" M in/a", " M out/b", "?? out/new"]
        line.merge([Job("t", 1, lease.changeset(), "x")])
    land(line, "Land")
    assert repo.git("status", "--porcelain") == ""
    assert (repo.path / "in/a").read_text() == "A\n"
    assert not (repo.path / "out").exists()
    names = repo.git("ls-tree", "-r", "--name-only", "HEAD").splitlines()
    assert names == ["in/a", "out/b", "out/c", "out/new", "top"]
    assert repo.show("HEAD", "out/b") == b"B\n"


@pytest.mark.parametrize("autocrlf", ["true", "input", "false"])
def test_landing_writes_what_a_checkout_would(repo: Repo, tmp_path: Path, autocrlf: str) -> None:
    """With `core.autocrlf`, `eol`, and a clean and smudge filter the landed files are those of a fresh `git checkout`."""
    repo.git("config", "core.autocrlf", autocrlf)
    repo.git("config", "filter.shout.clean", "tr A-Z a-z")
    repo.git("config", "filter.shout.smudge", "tr a-z A-Z")
    repo.git("config", "filter.shout.required", "true")
    attributes = "*.dos text eol=crlf\n*.unix text eol=lf\n*.loud filter=shout\n*.bin -text\n"
    files = dict.fromkeys(("x.dos", "x.unix", "x.loud", "x.bin", "plain"), b"one\ntwo\n")
    base = repo.commit({".gitattributes": attributes, **files})
    found = Repository.open(repo.path)
    line = Line(found, "r1", base)
    changed = dict.fromkeys(files, b"one\ntwo\nthree\n") | {"new.dos": b"n\n", "new.loud": b"n\n", "new": b"n\n"}
    line.merge([_job(found, base, "t", changed)])
    land(line, "Land")
    assert repo.git("status", "--porcelain") == ""
    theirs = tmp_path / "theirs"
    repo.git("worktree", "add", "-q", "--detach", str(theirs), "HEAD")
    ours, fresh = _tree_on_disk(repo.path), _tree_on_disk(theirs)
    assert {name: ours[name.encode()] for name in changed} == {name: fresh[name.encode()] for name in changed}
    assert (repo.path / "x.loud").read_bytes().replace(b"\r\n", b"\n") == b"ONE\nTWO\nTHREE\n"
    assert (repo.path / "x.dos").read_bytes() == b"one\r\ntwo\r\nthree\r\n"


async def test_files_kept_elsewhere_stay_pointers_until_they_land(repo: Repo, tmp_path: Path) -> None:
    """Files of Git LFS are pointers in a workspace, and landing writes their contents as the user's own checkout does."""
    store = tmp_path / "store"
    store.mkdir()
    (tmp_path / "smudge").write_text(
        f'#!/bin/sh\nif [ -n "$GIT_LFS_SKIP_SMUDGE" ]; then cat; else cat {store}/"$(cat)"; fi\n'
    )
    (tmp_path / "clean").write_text(
        f'#!/bin/sh\ncat > {store}/in\nif grep -qx "[0-9][0-9]*" {store}/in; then cat {store}/in; exit; fi\n'
        f'sum=$(cksum < {store}/in | cut -d" " -f1)\nmv {store}/in {store}/$sum\necho $sum\n'
    )
    for name in ("smudge", "clean"):
        os.chmod(tmp_path / name, 0o755)
        repo.git("config", f"filter.lfs.{name}", str(tmp_path / name))
    base = repo.commit({".gitattributes": "*.big filter=lfs\n", "a.big": "content\n"})
    pointer = repo.show("HEAD", "a.big")
    assert pointer.strip().isdigit()
    found = Repository.open(repo.path)
    line = Line(found, "r1", base)
    async with Pool(found).lease(base) as lease:
        assert lease.read("a.big") == pointer
        assert lease.changeset().changes == ()
        lease.write("new.big", "more\n")
        line.merge([Job("t", 1, lease.changeset(), "x")])
    assert repo.show(line.tip, "new.big").strip().isdigit()
    land(line, "Land")
    assert (repo.path / "new.big").read_text() == "more\n"
    assert repo.git("status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("put", "named"),
    [
        ("deep/new.py/mine", "deep/new.py/mine"),
        ("folder", "folder"),
    ],
)
def test_landing_never_removes_untracked_files_of_another_kind(repo: Repo, put: str, named: str) -> None:
    """A folder of the user's where a file would come, and a file where a folder would, are refused by name and stay, ignored or
    not."""
    base = repo.commit({"deep/x": "x", ".gitignore": "mine\n"})
    found = Repository.open(repo.path)
    line = Line(found, "r1", base)
    line.merge([_job(found, base, "a", {"deep/new.py": b"N\n", "folder/file": b"F\n"})])
    repo.write({put: "mine"})
    with pytest.raises(RepositoryRefused, match=f"uncommitted work.*{named}"):
        land(line, "Land")
    assert (repo.path / put).read_text() == "mine"
    assert repo.git("rev-parse", "HEAD") == base
