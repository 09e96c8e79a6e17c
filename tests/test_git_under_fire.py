"""Git as other people use it beside a run: what they do meanwhile, the repositories they have, what a crash leaves behind."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from conftest import Repo, land

from runtime import GiveUp, Runtime, Specialist, Task, packs
from runtime.checkout import branch_to_land_on
from runtime.core.changes import Change, Changeset
from runtime.core.task import Plan
from runtime.errors import RepositoryRefused
from runtime.git import Repository
from runtime.line import Job, Line
from runtime.worktrees import Pool, collect

ROOT = Path(__file__).parent.parent
FILES = {f"pkg{number % 5}/m{number}.txt": f"{number}\n" for number in range(20)}


def _job(found: Repository, base: str, task: str, files: dict[str, bytes], attempt: int = 1) -> Job:
    changes = [Change(path, 0o100644, found.write_blob(data), None) for path, data in sorted(files.items())]
    return Job(task, attempt, Changeset(base, tuple(changes)), f"Do {task}")


def _clean(repo: Repo) -> None:
    """Git finds nothing wrong, and no lock is left."""
    said = subprocess.run(
        ["git", "fsck", "--strict", "--no-dangling"], cwd=repo.path, capture_output=True, text=True, check=False
    )
    assert (said.returncode, said.stdout) == (0, ""), said.stderr
    # Held, not there, is what counts
    assert [lock.name for lock in (repo.path / ".git").rglob("*.lock")] in ([], ["journal.lock"])


# --- beside a run ----------------------------------------------------------------------------------------------


@contextmanager
def _outside(repo: Repo, *commands: list[str]) -> Iterator[threading.Event]:
    """Commands of git that somebody runs meanwhile, each in a loop of its own; the event is set when each has run once."""
    stop, all_ran = threading.Event(), threading.Event()
    counts = [0] * len(commands)

    def loop(number: int, words: list[str]) -> None:
        while not stop.is_set():
            subprocess.run(["git", *words], cwd=repo.path, capture_output=True, check=False)
            counts[number] += 1
            if all(counts):
                all_ran.set()

    threads = [threading.Thread(target=loop, args=(number, words)) for number, words in enumerate(commands)]
    for thread in threads:
        thread.start()
    try:
        yield all_ran
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("isolation", ["overlay", "worktree"])
async def test_git_in_loops_beside_a_run(repo: Repo, tmp_path: Path, isolation: str) -> None:
    """`gc --prune=now`, `prune`, `pack-refs`, `fetch`, `worktree add`, `remove` and `prune` in loops: every task is done once, every
    object is there, and what failed on the way is kept too."""
    base = repo.commit(FILES)
    subprocess.run(["git", "clone", "-q", "--bare", str(repo.path), str(tmp_path / "origin")], check=True)
    repo.git("remote", "add", "origin", str(tmp_path / "origin"))

    async def work(brief, workspace):  # type: ignore[no-untyped-def]
        (path,) = brief.files
        workspace.write(path, workspace.read(path) + b"changed\n")
        await trio.sleep(0.01)
        if brief.attempt == 1 and path.endswith("7.txt"):
            raise OSError("not this time")
        workspace.write(f"{path}.new", f"new {path}\n")

    crew = [Specialist("s", work, instances=6, isolation=isolation)]  # type: ignore[arg-type]
    tasks = [Task(path, "s", writes=(path, f"{path}.new")) for path in FILES]
    loops = (
        ["gc", "-q", "--prune=now"],
        ["prune"],
        ["pack-refs", "--all"],
        ["fetch", "-q", "origin"],
        ["worktree", "prune"],
        ["worktree", "add", "-f", "--detach", str(tmp_path / "theirs")],
        ["worktree", "remove", "-f", "-f", str(tmp_path / "theirs")],
    )
    with _outside(repo, *loops) as all_ran:
        async with Runtime(crew, repo=repo.path, backoff_s=0.01) as runtime:
            report = await runtime.run(Plan(tasks))
            assert report.ok, {name: task.error for name, task in report.tasks.items() if task.error}
            await trio.to_thread.run_sync(all_ran.wait)
    assert repo.git("rev-list", "--count", f"{base}..{report.commit}") == str(len(FILES))
    for path, text in FILES.items():
        assert repo.show(report.commit, path).decode() == f"{text}changed\n"  # type: ignore[arg-type]
        assert repo.show(report.commit, f"{path}.new").decode() == f"new {path}\n"  # type: ignore[arg-type]
    kept = repo.git("for-each-ref", "--format=%(refname)", f"refs/journeyman/{report.run}/attempts").splitlines()
    assert len(kept) == sum(path.endswith("7.txt") for path in FILES)
    assert not list((repo.path / ".git/objects/pack").glob("*.keep"))
    repo.git("gc", "-q", "--prune=now")
    assert repo.git("cat-file", "-t", f"{kept[0]}^{{tree}}") == "tree"
    collect(Repository.open(repo.path))
    _clean(repo)


def test_refs_are_made_while_git_takes_empty_folders_away(repo: Repo) -> None:
    """`git pack-refs` removes the folder of a ref it has packed, also the one that was made for the next ref a moment ago."""
    base = repo.commit(FILES)
    found = Repository.open(repo.path)
    names = [f"refs/journeyman/r1/attempts/t{number}/1" for number in range(300)]
    with _outside(repo, ["pack-refs", "--all"], ["pack-refs", "--all"], ["gc", "-q"]):
        for name in names:
            found.move_ref(name, base, found.ref(name))
    made = repo.git("for-each-ref", "--format=%(refname)", "refs/journeyman").splitlines()
    assert sorted(made) == sorted(names)


async def test_what_could_not_be_kept_of_a_failed_attempt_is_told(repo: Repo) -> None:
    """Something that stands where the attempt's ref goes: the task's error says what failed, and that its work is not kept."""
    repo.commit(FILES)

    async def work(brief, workspace):  # type: ignore[no-untyped-def]
        (run,) = (repo.path / ".git/refs/journeyman").iterdir()
        (run / "attempts").write_text("in the way")
        workspace.write(brief.files[0], "half done\n")
        raise GiveUp("this cannot be")

    async with Runtime([Specialist("s", work)], repo=repo.path) as runtime:
        report = await runtime.run(Plan([Task("t", "s", writes=("pkg0/m0.txt",))]))
    assert re.fullmatch(r"this cannot be; what it had done could not be kept: refs/.*", report.tasks["t"].error)


# --- durable in git --------------------------------------------------------------------------------------------


def test_objects_outlive_a_collection_until_their_run_has_ended(repo: Repo) -> None:
    """What no ref names yet survives `git gc --prune=now` and our own process; once the run is released, git may collect it."""
    base = repo.commit(FILES)
    first = Repository.open(repo.path)
    Line(first, "r1", base)
    oid = first.write_blob(b"bought for money\n")
    first.flush()
    repo.git("gc", "-q", "--prune=now")
    second = Repository.open(repo.path)
    assert second.read_blob(bytes.fromhex(oid)) == b"bought for money\n"
    second.packs.release("r2")
    repo.git("gc", "-q", "--prune=now")
    assert repo.git("cat-file", "-t", oid) == "blob"
    second.packs.release("r1")
    repo.git("gc", "-q", "--prune=now")
    with pytest.raises(subprocess.CalledProcessError):
        repo.git("cat-file", "-t", oid)
    _clean(repo)


async def test_packs_of_a_run_that_died_at_its_very_end_are_given_to_git_by_the_next(repo: Repo) -> None:
    """Killed when its end was recorded and its packs were still kept: nothing goes on with that run, so the next one lets them go."""
    repo.commit(FILES)

    async def work(brief, workspace):  # type: ignore[no-untyped-def]
        workspace.write(brief.files[0], f"{brief.task.id}\n")

    kept = {}
    for name in ("a", "b"):
        async with Runtime([Specialist("s", work)], repo=repo.path) as runtime:
            report = await runtime.run(Plan([Task(name, "s", writes=("pkg0/m0.txt",))]))
        packs_there = sorted((repo.path / ".git/objects/pack").glob("pack-*.pack"))
        assert packs_there
        assert not Repository.open(repo.path).packs.kept(), name
        packs_there[0].with_suffix(".keep").write_text(f"journeyman {report.run}\n")
        kept[name] = Repository.open(repo.path).packs.kept()
        assert list(kept[name]) == [report.run]


def test_many_small_packs_become_few(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a run flushes, the packs stay few, git can read and check all of them, and in the end there is one."""
    monkeypatch.setattr(packs, "TIER", 4)
    base = repo.commit(FILES)
    found = Repository.open(repo.path)
    line = Line(found, "r1", base)
    before = repo.git("count-objects")
    for number in range(4 * 4 * 4 + 4 + 2):
        (answer,) = line.merge([_job(found, base, f"t{number}", {f"new/{number}": b"%d\n" % number})])
        assert not answer.error
    there = list((repo.path / ".git/objects/pack").glob("pack-*.pack"))
    assert len(there) == 1 + 1 + 2
    for pack in there:
        repo.git("verify-pack", str(pack))
    assert repo.git("rev-list", "--count", f"{base}..{line.tip}") == "70"
    assert len(found.files(line.tree)) == len(FILES) + 70
    found.packs.release("r1")
    assert [one.suffix for one in sorted((repo.path / ".git/objects/pack").iterdir())] == [".idx", ".pack"]
    assert repo.git("count-objects") == before
    _clean(repo)


def test_the_same_objects_again_are_the_same_pack(repo: Repo) -> None:
    """Objects that a run has written need no second pack; another run may write the very same ones, and each keeps them for itself."""
    base = repo.commit(FILES)
    for run in ("r1", "r2"):
        found = Repository.open(repo.path)
        Line(found, run, base)
        for _ in range(2):
            found.write_blob(b"the same\n")
            found.flush()
        assert found.packs.written == 1
        Line(found, run, base)
    assert {run: len(kept) for run, kept in found.packs.kept().items()} == {"r1": 1, "r2": 1}
    found.packs.release("r2")
    assert list(found.packs.kept()) == ["r1"]
    _clean(repo)


def test_a_pack_half_written_is_cleaned_away_by_the_next_run(repo: Repo) -> None:
    """What a kill inside a flush leaves is no pack to git, and is removed; a pack of somebody else's is not touched."""
    repo.commit(FILES)
    repo.git("gc", "-q")
    theirs = sorted((repo.path / ".git/objects/pack").iterdir())
    (repo.path / ".git/objects/pack/journeyman-4194999-00.pack.new").write_bytes(b"PACK")
    _clean(repo)
    Repository.open(repo.path).packs.clean()
    assert sorted((repo.path / ".git/objects/pack").iterdir()) == theirs


MERGE = """
import sys
from runtime.core.changes import Change, Changeset
from runtime.git import Repository
from runtime.line import Job, Line
found = Repository.open(sys.argv[1])
base = found.resolve("HEAD")
line = Line(found, "r1", base)
print("BEGIN", file=sys.stderr, flush=True)
line.merge([Job("t", 1, Changeset(base, (Change("new", 0o100644, found.write_blob(b"x"), None),)), "m")])
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace to see the flushes")
def test_what_a_ref_names_is_flushed_before_the_ref_and_the_ref_before_we_go_on(repo: Repo, tmp_path: Path) -> None:
    """Pack, index and their folder are flushed before the line's lock file, that before it is renamed, its folder after."""
    repo.commit(FILES)
    log = tmp_path / "log"
    words = [
        "strace",
        "-f",
        "-y",
        "-o",
        str(log),
        "-e",
        "trace=fsync,fdatasync,rename,renameat,renameat2,link,linkat,write",
    ]
    done = subprocess.run(
        [*words, sys.executable, "-c", MERGE, str(repo.path)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    if done.returncode and "ptrace" in done.stderr:
        pytest.skip("strace is not allowed here")
    assert done.returncode == 0, done.stderr
    calls = log.read_text().partition("BEGIN")[2].splitlines()

    def at(*words: str) -> int:
        return next(number for number, call in enumerate(calls) if all(word in call for word in words))

    order = [
        at("fsync(", ".pack.new"),
        at("fsync(", ".idx.new"),
        at("rename", ".pack.new"),
        at("rename", ".idx.new"),
        at("fsync(", "objects/pack>"),
        at("fsync(", "line.lock"),
        at("rename", "line.lock"),
        at("fsync(", "refs/journeyman/r1>"),
    ]
    assert order == sorted(order)


# --- locks -----------------------------------------------------------------------------------------------------


def test_a_lock_left_over_on_a_ref_of_ours_is_removed(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill inside a ref's move leaves its lock: the line goes on after a wait that no live git needs."""
    base = repo.commit(FILES)
    found = Repository.open(repo.path)
    line = Line(found, "r1", base)
    (repo.path / ".git/refs/journeyman/r1/line.lock").write_bytes(b"")
    assert line.merge([_job(found, base, "t", {"a": b"1"})])[0].error == ""
    assert repo.git("rev-parse", "refs/journeyman/r1/line") == line.tip
    _clean(repo)


def test_a_lock_of_somebody_elses_is_waited_for_and_never_removed(repo: Repo) -> None:
    """A lock that goes in time is waited for; one on the user's branch that stays refuses the landing, and stays."""
    base = repo.commit(FILES)
    found = Repository.open(repo.path)
    line = Line(found, "r1", base)
    line.merge([_job(found, base, "t", {"a": b"1"})])
    lock = repo.path / ".git/refs/heads/main.lock"
    lock.write_bytes(b"")
    with pytest.raises(RepositoryRefused, match=r"main\.lock"):
        land(line, "Land")
    assert lock.exists()
    assert repo.git("rev-parse", "main") == base
    assert repo.git("status", "--porcelain") == ""
    timer = threading.Timer(0.3, lock.unlink)
    timer.start()
    (landed,) = land(line, "Land")
    timer.join()
    assert repo.git("rev-parse", "main") == landed
    index = repo.path / ".git/index.lock"
    again = Line(found, "r2", landed)
    again.merge([_job(found, landed, "t", {"b": b"1"})])
    index.write_bytes(b"")
    with pytest.raises(RepositoryRefused, match=r"index\.lock"):
        land(again, "Land")
    assert index.exists()
    assert repo.git("rev-parse", "main") == landed


def test_the_line_moves_only_from_where_it_was(repo: Repo) -> None:
    """Somebody who moves the line's ref is noticed, and nothing is put over what they put there."""
    base = repo.commit(FILES)
    found = Repository.open(repo.path)
    line = Line(found, "r1", base)
    theirs = repo.git("commit-tree", "-m", "theirs", f"{base}^{{tree}}")
    repo.git("update-ref", "refs/journeyman/r1/line", theirs)
    with pytest.raises(RepositoryRefused, match="somebody else moved it"):
        line.merge([_job(found, base, "t", {"a": b"1"})])
    assert repo.git("rev-parse", "refs/journeyman/r1/line") == theirs


# --- landing ---------------------------------------------------------------------------------------------------


def _landable(repo: Repo, files: dict[str, bytes | None] | None = None, run: str = "r1") -> Line:
    base = repo.commit(FILES | {"mine.txt": "m\n"})
    found = Repository.open(repo.path)
    line = Line(found, run, base)
    wanted: dict[str, bytes | None] = files or {
        "pkg0/m0.txt": b"changed\n",
        "pkg9/new.txt": b"new\n",
        "pkg1/m1.txt": None,
    }
    changes = [
        Change(path) if data is None else Change(path, 0o100644, found.write_blob(data))
        for path, data in wanted.items()
    ]
    (answer,) = line.merge([Job("t", 1, Changeset(base, tuple(changes)), "x")])
    assert not answer.error
    return line


def _state(repo: Repo) -> dict[str, object]:
    """What a landing that is refused must not have changed."""
    files = {
        str(path.relative_to(repo.path)): path.read_bytes()
        for path in repo.path.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }
    return {
        "files": files,
        "index": repo.git("ls-files", "--stage"),
        "status": repo.git("status", "--porcelain"),
        "refs": repo.git("for-each-ref"),
        "HEAD": (repo.path / ".git/HEAD").read_text(),
    }


LAND = """
import os, signal, sys
from runtime import checkout
from runtime.git import Repository
from runtime.line import Line
found = Repository.open(sys.argv[1])
line = Line(found, "r1", sys.argv[2])
if sys.argv[3] == "ref":
    Repository.move_ref = lambda self, name, *rest, **more: os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[3] == "recorded":
    line.landing("Land").perform()
    os.kill(os.getpid(), signal.SIGKILL)
line.landing("Land").perform()
"""


@pytest.mark.parametrize("where", ["inside git", "ref", "recorded"])
def test_a_landing_that_is_killed_goes_on(repo: Repo, tmp_path: Path, where: str) -> None:
    """Killed while git writes the files, before the branch moves, or before it is recorded: landing again ends as if nothing had
    been, one commit, other work untouched, and our lock on the index is taken away."""
    repo.git("config", "filter.slow.smudge", f"{tmp_path}/smudge")
    (tmp_path / "smudge").write_text(
        f"#!/bin/sh\n[ -e {tmp_path}/armed ] && rm {tmp_path}/armed && kill -9 $(ps -o ppid= -p $PPID) $PPID\ncat\n"
    )
    (tmp_path / "smudge").chmod(0o755)
    repo.commit({".gitattributes": "pkg9/* filter=slow\n"})
    line = _landable(repo)
    repo.write({"mine.txt": "my work\n", "untracked": "u"})
    if where == "inside git":
        (tmp_path / "armed").touch()
    words = [sys.executable, "-c", LAND, str(repo.path), line.base, where]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    assert (repo.path / ".git/index.lock").exists() == (where != "recorded")
    (commit, *rest) = land(Line(Repository.open(repo.path), "r1", line.base), "Land")
    assert not rest
    assert repo.git("rev-parse", "main") == commit
    assert repo.git("rev-parse", "main^") == line.base
    assert repo.git("rev-parse", "main^{tree}") == line.tree
    assert repo.git("status", "--porcelain").splitlines() == [" M mine.txt", "?? untracked"]
    assert (repo.path / "pkg9/new.txt").read_bytes() == b"new\n"
    assert not list((repo.path / ".git/journeyman").glob("index-*"))
    _clean(repo)


def test_a_landing_that_git_gives_up_on_changes_nothing(repo: Repo) -> None:
    """A filter that fails half way: files, index and branch are as they were; when it works again the landing does too."""
    for way in ("clean", "smudge"):
        repo.git("config", f"filter.bad.{way}", "cat")
    repo.git("config", "filter.bad.required", "true")
    repo.commit({".gitattributes": "pkg3/* filter=bad\n"})
    line = _landable(
        repo,
        {"pkg0/m0.txt": b"changed\n", "a/b/new": b"n\n", "pkg3/m3.txt": b"bad\n", "pkg4/m4.txt": None, "z": b"z\n"},
    )
    repo.write({"mine.txt": "my work\n"})
    repo.git("config", "filter.bad.smudge", "false")
    before = _state(repo)
    with pytest.raises(RepositoryRefused, match=r"pkg3/m3\.txt"):
        land(line, "Land")
    assert _state(repo) == before
    assert not (repo.path / "a").exists()
    _clean(repo)
    repo.git("config", "filter.bad.smudge", "cat")
    land(line, "Land")
    assert repo.git("status", "--porcelain").splitlines() == [" M mine.txt"]


def test_a_landing_is_in_the_reflog(repo: Repo) -> None:
    """`git reset --keep @{1}` takes a landing back, as it does any other commit."""
    line = _landable(repo)
    land(line, "Land")
    assert "journeyman: land r1" in repo.git("reflog", "-1", "main")
    repo.git("reset", "-q", "--keep", "@{1}")
    assert repo.git("rev-parse", "HEAD") == line.base
    assert repo.git("status", "--porcelain") == ""


def test_the_users_git_waits_while_a_landing_writes(repo: Repo, tmp_path: Path) -> None:
    """A `git commit` in the middle of a landing is refused by git itself, and no work is mixed or lost."""
    repo.git("config", "filter.user.smudge", f"{tmp_path}/smudge")
    (tmp_path / "smudge").write_text(
        f"#!/bin/sh\ncd {repo.path} && unset GIT_DIR GIT_INDEX_FILE GIT_WORK_TREE\n"
        f"git commit -qam theirs > {tmp_path}/said 2>&1; echo $? >> {tmp_path}/said; cat\n"
    )
    (tmp_path / "smudge").chmod(0o755)
    repo.commit({".gitattributes": "pkg9/* filter=user\n"})
    line = _landable(repo)
    repo.write({"mine.txt": "my work\n"})
    (commit,) = land(line, "Land")
    assert "index.lock" in (tmp_path / "said").read_text()
    assert repo.git("rev-parse", "main") == commit
    assert repo.git("status", "--porcelain").splitlines() == [" M mine.txt"]


@pytest.mark.parametrize(
    ("doing", "words"),
    [
        (("rebase", "other"), "a rebase is under way"),
        (("merge", "other"), "a merge is under way"),
        (("cherry-pick", "other"), "a cherry-pick is under way"),
        (("revert", "--no-edit", "HEAD~1"), "a revert is under way"),
        (("bisect", "start"), "a bisection is under way"),
        (("checkout", "-q", "--detach"), "HEAD is detached"),
        (("stash", "pop"), "unresolved conflicts.*f"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_the_user_is_in_the_middle_of_refuses_a_landing(repo: Repo, doing: tuple[str, ...], words: str) -> None:
    """The reason is told before a run that is to land begins, and by the landing; nothing has changed then."""
    line = _in_the_middle(repo, doing)
    before = _state(repo)
    with pytest.raises(RepositoryRefused, match=words):
        branch_to_land_on(line.repository)
    with pytest.raises(RepositoryRefused, match=words):
        land(line, "Land")
    assert _state(repo) == before


def _in_the_middle(repo: Repo, doing: tuple[str, ...]) -> Line:
    """A line ready to land, and a checkout in the middle of what a command began."""
    base = repo.commit({"f": "1\n", "g": "print(1)\n"})
    repo.commit({"f": "2\n"})
    repo.git("checkout", "-qb", "other", "HEAD~1")
    repo.commit({"f": "other\n"})
    repo.git("checkout", "-q", "main")
    if doing[0] == "stash":
        repo.write({"f": "stashed\n"})
        repo.git("stash", "-q")
    repo.commit({"f": "3\n"})
    subprocess.run(["git", *doing], cwd=repo.path, capture_output=True, check=False)
    found = Repository.open(repo.path)
    line = Line(found, "r9", base)
    line.merge([_job(found, base, "t", {"new": b"n\n"})])
    return line


def test_a_run_that_could_not_land_is_not_begun(repo: Repo) -> None:
    """In the middle of a rebase `--land` is refused with exit 6 and nothing is started; without it the run works beside the rebase."""
    _in_the_middle(repo, ("rebase", "other"))
    before = _state(repo)
    refactor = ["refactor", "--rewrite", "print($A)", "say($A)", "--language", "python", "g", "--json"]
    done = _journeyman(repo, *refactor, "--land")
    assert done.returncode == 6, done.stderr
    assert "rebase is under way" in done.stderr
    assert _state(repo) == before
    assert not (repo.path / ".git/journeyman/journal.db").exists()
    done = _journeyman(repo, *refactor)
    assert done.returncode == 0, done.stderr
    after = _state(repo)
    assert {name: after[name] for name in ("files", "index", "status", "HEAD")} == {
        name: before[name] for name in ("files", "index", "status", "HEAD")
    }


def _journeyman(repo: Repo, *words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "runtime", *words, "--repo", str(repo.path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_the_user_works_on_meanwhile(repo: Repo) -> None:
    """The user commits, amends, rebases and edits between the run and its landing: what does not touch is merged with, what does is
    refused by name."""
    line = _landable(repo)
    repo.commit({"mine.txt": "committed\n"}, "theirs")
    repo.git("commit", "-q", "--amend", "-m", "amended")
    repo.write({"pkg0/m0.txt": "edited\n"})
    with pytest.raises(RepositoryRefused, match=r"uncommitted work.*pkg0/m0\.txt"):
        land(line, "Land")
    repo.git("checkout", "-q", "pkg0/m0.txt")
    (commit,) = land(line, "Land")
    assert repo.git("log", "-1", "--format=%s", f"{commit}^") == "amended"
    assert (repo.path / "mine.txt").read_text() == "committed\n"
    assert (repo.path / "pkg0/m0.txt").read_text() == "changed\n"
    repo.git("fsck", "--strict", "--no-dangling")
    repo.git("gc", "-q", "--prune=now")
    _clean(repo)


# --- the repositories that people have -------------------------------------------------------------------------


def _clone(repo: Repo, place: Path, *options: str) -> Path:
    subprocess.run(["git", "clone", "-q", *options, f"file://{repo.path}", str(place)], check=True, capture_output=True)
    return place


def _run_in(place: Path, *words: str) -> None:
    subprocess.run(["git", "-c", "protocol.file.allow=always", *words], cwd=place, check=True, capture_output=True)


def _shallow(repo: Repo, place: Path) -> Path:
    return _clone(repo, place, "--depth", "1")


def _shared(repo: Repo, place: Path) -> Path:
    subprocess.run(["git", "clone", "-q", "--shared", str(repo.path), str(place)], check=True)
    return place


def _linked(repo: Repo, place: Path) -> Path:
    repo.git("worktree", "add", "-q", "-b", "side", str(place))
    return place


def _linked_to_bare(repo: Repo, place: Path) -> Path:
    _clone(repo, place / "bare", "--bare")
    _run_in(place / "bare", "worktree", "add", "-q", str(place / "tree"), "main")
    return place / "tree"


def _separate(repo: Repo, place: Path) -> Path:
    return _clone(repo, place, "--separate-git-dir", f"{place}.git")


def _with_submodule(repo: Repo, place: Path) -> Path:
    _clone(repo, place)
    _run_in(place, "submodule", "--quiet", "add", str(repo.path), "module")
    _run_in(place, "commit", "-qm", "module")
    return place


def _submodule_itself(repo: Repo, place: Path) -> Path:
    return _with_submodule(repo, place) / "module"


def _line_in_its_name(repo: Repo, place: Path) -> Path:
    return _clone(repo, place / "new\nline" / "there")


def _no_utf8_in_its_name(repo: Repo, place: Path) -> Path:
    name = os.fsdecode(os.path.join(os.fsencode(place), b"caf\xe9"))
    os.makedirs(name)
    subprocess.run(["git", "clone", "-q", str(repo.path), name], check=True)
    return Path(name)


def _split_index(repo: Repo, place: Path) -> Path:
    _clone(repo, place)
    for name in ("core.splitIndex", "core.untrackedCache", "feature.manyFiles"):
        _run_in(place, "config", name, "true")
    _run_in(place, "update-index", "--split-index", "--untracked-cache", "--index-version", "4")
    return place


def _sparse_index(repo: Repo, place: Path) -> Path:
    _clone(repo, place)
    _run_in(place, "sparse-checkout", "set", "--cone", "--sparse-index", "pkg0", "pkg9")
    return place


def _packed_and_indexed(repo: Repo, place: Path) -> Path:
    _clone(repo, place)
    _run_in(place, "pack-refs", "--all")
    _run_in(place, "repack", "-adq", "--write-bitmap-index")
    _run_in(place, "multi-pack-index", "write")
    _run_in(place, "commit-graph", "write", "--reachable")
    return place


def _collisions_in_case(repo: Repo, place: Path) -> Path:
    _clone(repo, place)
    (place / "Pkg0").mkdir()
    (place / "Pkg0/M0.TXT").write_text("another\n")
    _run_in(place, "add", "-A")
    _run_in(place, "commit", "-qm", "case")
    return place


@pytest.mark.parametrize(
    "make",
    [
        _shallow, _shared, _linked, _linked_to_bare, _separate, _with_submodule, _submodule_itself, _line_in_its_name,
        _no_utf8_in_its_name, _split_index, _sparse_index, _packed_and_indexed, _collisions_in_case,
    ],
)  # fmt: skip
async def test_repositories_that_work(repo: Repo, tmp_path: Path, make: Callable[[Repo, Path], Path]) -> None:
    """From a worktree's changeset to the landed commit, and collected: git finds nothing wrong and nothing is left."""
    repo.commit(FILES)
    repo.commit(FILES | {"second": "2\n"})
    where = make(repo, tmp_path / "it")
    if make is _collisions_in_case and (where / "pkg0/M0.TXT").exists():
        pytest.skip("this file system takes both for one name; see the refusal below")
    found = Repository.open(where)
    base = found.resolve("HEAD")
    found.refuse_unusable(base)
    branch_to_land_on(found)
    line = Line(found, "r1", base)
    pool = Pool(found)
    async with pool.lease(base) as lease:
        assert lease.changeset().changes == ()
        lease.write("pkg0/m0.txt", "changed\n")
        lease.write("pkg9/new.txt", "new\n")
        lease.delete("pkg1/m1.txt")
        (answer,) = line.merge([Job("t", 1, lease.changeset(), "Do it")])
    assert not answer.error
    pool.close()
    (commit,) = land(line, "Land")
    found.packs.release("r1")

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=where, check=True, capture_output=True, text=True).stdout.rstrip()

    assert git("rev-parse", "HEAD") == commit
    assert git("status", "--porcelain") == ""
    assert git("rev-parse", "HEAD^") == base
    assert (where / "pkg0/m0.txt").read_text() == "changed\n"
    assert (where / "pkg9/new.txt").read_text() == "new\n"
    assert not (where / "pkg1/m1.txt").exists()
    collect(found)
    git("fsck", "--strict", "--no-dangling")
    git("gc", "-q", "--prune=now")
    assert git("rev-parse", "refs/journeyman/r1/line") == line.tip
    assert not list(found.git_dir.glob("*.lock"))


def _sha256(repo: Repo, place: Path) -> Path:
    subprocess.run(["git", "init", "-q", "--object-format=sha256", str(place)], check=True)
    return place


def _bare(repo: Repo, place: Path) -> Path:
    return _clone(repo, place, "--bare")


def _unborn(repo: Repo, place: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(place)], check=True)
    return place


def _partial(repo: Repo, place: Path) -> Path:
    repo.git("config", "uploadpack.allowFilter", "true")
    return _clone(repo, place, "--filter=blob:none", "--no-checkout")


def _somebody_elses(repo: Repo, place: Path) -> Path:
    if os.geteuid() != 0:
        pytest.skip("only root can give a repository away")
    _clone(repo, place)
    for path in (place, place / ".git"):
        os.chown(path, 4321, 4321)
    return place


def _unknown_extension(repo: Repo, place: Path) -> Path:
    _clone(repo, place)
    _run_in(place, "config", "core.repositoryFormatVersion", "1")
    _run_in(place, "config", "extensions.refStorage", "reftable")
    return place


def _on_a_file_system_that_ignores_case(repo: Repo, place: Path) -> Path:
    _collisions_in_case(repo, place)
    _run_in(place, "config", "core.ignoreCase", "true")
    return place


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_sha256, "sha256 object names"),
        (_bare, "bare repository"),
        (_unborn, "no commit yet"),
        (_partial, "partial clone.*git fetch --refetch --no-filter"),
        (_somebody_elses, "belongs to another user.*safe.directory"),
        (_unknown_extension, "refstorage|reftable"),
        (_on_a_file_system_that_ignores_case, r"Pkg0/M0\.TXT and pkg0/m0\.txt are one name"),
    ],
)
def test_repositories_that_are_refused_before_anything_starts(
    repo: Repo, tmp_path: Path, make: Callable[[Repo, Path], Path], words: str
) -> None:
    """Each with its reason and exit 6, one line and no traceback; no journal, ref or worktree is made."""
    repo.commit(FILES)
    where = make(repo, tmp_path / "it")
    done = subprocess.run(
        [sys.executable, "-m", "runtime", "refactor", "--exec", "true", "{file}", ";", "pkg0/**", "--repo", str(where)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert re.search(words, done.stderr), done.stderr
    assert done.returncode == 6, done.stderr
    assert not list(where.rglob("journal.db"))
    assert not list(where.rglob("refs/journeyman"))


def test_what_a_partial_clone_is_told_to_do_helps(repo: Repo, tmp_path: Path) -> None:
    """After the command that the refusal names, the repository is usable."""
    repo.commit(FILES)
    where = _partial(repo, tmp_path / "it")
    found = Repository.open(where)
    with pytest.raises(RepositoryRefused, match="partial clone"):
        found.refuse_unusable(found.resolve("HEAD"))
    _run_in(where, "fetch", "--refetch", "--no-filter")
    found = Repository.open(where)
    found.refuse_unusable(found.resolve("HEAD"))
    assert found.read_blob(next(iter(found.files(found.tree_of(found.resolve("HEAD"))).values()))[1])
