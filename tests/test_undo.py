"""Checkpoints, undo and redo: what was done can be taken back and brought again, step by step, by task, on the line and after landing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from conftest import Repo
from zygote import Started, Zygote

PLAN = """
[plan]
name = "three"
checks = ["sh -c 'test ! -e red'"]
[[task]]
id = "one"
specialist = "service"
writes = ["one.txt", "shared.txt"]
exec = ["sh", "-c", "echo 1 >> one.txt; sed -i.b s/a/A/ shared.txt; rm shared.txt.b"]
[[task]]
id = "two"
specialist = "service"
after = ["one"]
writes = ["two.txt"]
exec = ["sh", "-c", "echo 2 > two.txt"]
[[task]]
id = "three"
specialist = "test"
after = ["one"]
writes = ["three.txt", "shared.txt"]
exec = ["sh", "-c", "rm three.txt; echo z >> shared.txt"]
[[task]]
id = "four"
specialist = "test"
writes = ["four.txt"]
exec = ["sh", "-c", "mv red.txt red 2>/dev/null; echo 4 > four.txt"]
"""
FILES = {"one.txt": "1\n", "three.txt": "3\n", "shared.txt": "a\nb\nc\nd\ne\nf\ng\n", "kept.txt": "k\n"}


@attrs.define
class Case:
    """A repository with one finished run."""

    repo: Repo
    folder: Path
    zygote: Zygote
    result: str = ""

    def __call__(self, *words: str, code: int = 0) -> Any:
        """Run the command line; its document."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("JOURNEYMAN")}
        done: Started = self.zygote.run([*words, "--json"], self.repo.path, environment, self.folder)
        assert done.code == code, done.said + done.out.read_text()
        return done.json

    def tree(self) -> str:
        return self.repo.git("rev-parse", "refs/journeyman/r1/line^{tree}")

    def states(self) -> dict[str, str]:
        return {name: task["state"] for name, task in self("show", "r1")["tasks"].items()}


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as one:
        yield one


@pytest.fixture
def case(repo: Repo, zygote: Zygote, tmp_path: Path) -> Case:
    """One plan of four tasks, done."""
    repo.commit(FILES)
    (tmp_path / "plan.toml").write_text(PLAN)
    found = Case(repo, tmp_path, zygote)
    found("run", str(tmp_path / "plan.toml"))
    found.result = found.tree()
    return found


def test_undo_and_redo_step_over_every_tasks_commit(case: Case) -> None:
    """Undo goes back one task's commit at a time to the base, redo forward again to the result; the states of the tasks go with it,
    and the checkout is never touched."""
    base = case.repo.git("rev-parse", "main")
    trees, taken = [case.result], []
    for _ in range(4):
        told = case("undo", "r1")
        taken += told["off"]
        assert case.tree() not in trees
        trees.append(case.tree())
        assert case.states()[taken[-1]] == "cancelled"
    assert sorted(taken) == ["four", "one", "three", "two"]
    assert case.repo.git("rev-parse", "refs/journeyman/r1/line") == base
    assert "nothing to undo" in case("undo", "r1", code=2)["error"]["message"]
    assert case("runs")[0]["state"] == "cancelled"
    for task in reversed(taken):
        trees.pop()
        assert case("redo", "r1")["on"] == [task]
        assert case.tree() == trees[-1]
    assert case("runs")[0]["state"] == "done"
    assert set(case.states().values()) == {"done"}
    assert "nothing to redo" in case("redo", "r1", code=2)["error"]["message"]
    assert case.repo.git("status", "--porcelain") == ""
    assert case.repo.git("rev-parse", "main") == base


def test_everything_is_undone_and_redone_at_once(case: Case) -> None:
    """`undo --all` is the base, `redo --all` the result; what was left stays reachable in between."""
    tip = case.repo.git("rev-parse", "refs/journeyman/r1/line")
    assert sorted(case("undo", "r1", "--all")["off"]) == ["four", "one", "three", "two"]
    assert case.tree() == case.repo.git("rev-parse", "main^{tree}")
    assert case.repo.git("for-each-ref", "--contains", tip, "refs/journeyman/r1/undone") != ""
    assert case("redo", "r1", "--all")["commit"] == tip


def test_a_checkpoint_has_a_name_to_go_back_to(case: Case) -> None:
    """A named checkpoint, a task and a commit are places to undo to; a name is never given to another commit."""
    case("undo", "r1")
    ref = case("checkpoint", "r1", "--name", "here")["ref"]
    here = case.tree()
    case("redo", "r1")
    assert "is there already" in case("checkpoint", "r1", "--name", "here", code=2)["error"]["message"]
    case("checkpoint", "r1", "--name", "no such..name", code=2)
    case.repo.git("pack-refs", "--all")
    assert "no name inside another" in case("checkpoint", "r1", "--name", "here/too", code=2)["error"]["message"]
    assert case.repo.git("rev-parse", f"{ref}^{{tree}}") == here
    case("undo", "r1", "--to", "here")
    assert case.tree() == here
    case("undo", "r1", "--to", "one")
    assert case.states()["one"] == "done"
    assert "has no checkpoint 'two'" in case("undo", "r1", "--to", "two", code=2)["error"]["message"]


def test_one_task_is_taken_back_with_what_was_built_on_it(case: Case) -> None:
    """`undo RUN TASK` takes out a task's change and its dependants', keeps the others', runs the checks again, and is redone."""
    told = case("undo", "r1", "one")
    assert sorted(told["off"]) == ["one", "three", "two"]
    assert case.states() == {"one": "cancelled", "two": "cancelled", "three": "cancelled", "four": "done"}
    assert case.repo.show("refs/journeyman/r1/line", "shared.txt") == FILES["shared.txt"].encode()
    assert case.repo.show("refs/journeyman/r1/line", "four.txt") == b"4\n"
    assert case("show", "r1")["checks"][0]["ok"]
    assert case("redo", "r1")["on"] != []
    assert case.tree() == case.result
    assert "has no change on the line" not in str(case("undo", "r1", "three"))
    assert "has no change on the line" in case("undo", "r1", "three", code=2)["error"]["message"]
    assert "no task 'nine'" in case("undo", "r1", "nine", code=2)["error"]["message"]


def test_a_change_in_another_place_of_the_same_file_is_kept(case: Case) -> None:
    """Two tasks changed different lines of one file: the later one's is taken out, the earlier one's stays."""
    case("undo", "r1", "three")
    assert case.repo.show("refs/journeyman/r1/line", "shared.txt").startswith(b"A\nb")
    assert b"z" not in case.repo.show("refs/journeyman/r1/line", "shared.txt")
    assert case.repo.show("refs/journeyman/r1/line", "three.txt") == b"3\n"


ENTANGLED = """
[[task]]
id = "first"
specialist = "service"
writes = ["one.txt", "two.txt"]
exec = ["sh", "-c", "echo first > one.txt; echo first > two.txt"]
[[task]]
id = "second"
specialist = "service"
writes = ["one.txt"]
exec = ["sh", "-c", "echo second > one.txt"]
[[task]]
id = "third"
specialist = "test"
writes = ["two.txt"]
exec = ["sh", "-c", "echo third > two.txt"]
"""


def test_what_is_entangled_is_refused_with_the_list(repo: Repo, zygote: Zygote, tmp_path: Path) -> None:
    """A task whose lines were changed again is refused with every path and who changed it; nothing moves."""
    repo.commit(FILES)
    (tmp_path / "plan.toml").write_text(ENTANGLED)
    case = Case(repo, tmp_path, zygote)
    case("run", str(tmp_path / "plan.toml"))
    before = case.tree()
    message = case("undo", "r1", "first", code=6)["error"]["message"]
    assert "one.txt was changed after it by `second`" in message
    assert "two.txt was changed after it by `third`" in message
    assert case.tree() == before
    case("undo", "r1", "second")
    case("undo", "r1", "third")
    case("undo", "r1", "first")
    assert case.repo.show("refs/journeyman/r1/line", "one.txt") == b"1\n"


def test_a_landed_run_is_taken_off_by_a_reverting_commit(case: Case) -> None:
    """After `land`, undo makes a commit that takes the result off again and keeps what came later; redo lands it again."""
    case("land", "r1")
    landed = case.repo.git("rev-parse", "HEAD")
    case.repo.commit({"later.txt": "later\n"}, "later")
    told = case("undo", "r1")
    assert case.repo.git("rev-parse", "HEAD") == told["landed"][-1]
    assert case.repo.git("rev-parse", "HEAD~2") == landed
    assert case.repo.git("show", "HEAD:one.txt") == "1"
    assert (case.repo.path / "one.txt").read_text() == "1\n"
    assert (case.repo.path / "later.txt").exists()
    assert case.repo.git("status", "--porcelain") == ""
    assert case.tree() == case.result
    case("redo", "r1")
    assert case.repo.git("show", "HEAD:one.txt") == "1\n1"
    assert case.repo.git("status", "--porcelain") == ""
    assert "has landed already" in case("land", "r1", code=6)["error"]["message"]
    case("undo", "r1", "--all")
    assert case.repo.git("show", "HEAD:one.txt") == "1"
    assert case.states()["one"] == "cancelled"
    case("redo", "r1", "--all")
    assert case.repo.git("show", "HEAD:one.txt") == "1\n1"


def test_after_landing_one_task_is_taken_off_the_branch(case: Case) -> None:
    """`undo RUN TASK` of a landed run takes the task's change off the branch too, and redo brings it again."""
    case("land", "r1")
    case("undo", "r1", "two")
    assert not (case.repo.path / "two.txt").exists()
    assert (case.repo.path / "four.txt").exists()
    assert case.repo.git("status", "--porcelain") == ""
    case("redo", "r1")
    assert (case.repo.path / "two.txt").read_text() == "2\n"


def test_undo_never_overwrites_uncommitted_work(case: Case) -> None:
    """A landed file that was edited since is not overwritten: exit 6 names it, and branch, file and line stay as they are."""
    case("land", "r1")
    head = case.repo.git("rev-parse", "HEAD")
    case.repo.write({"one.txt": "mine\n"})
    assert "one.txt" in case("undo", "r1", code=6)["error"]["message"]
    assert "one.txt" in case("undo", "r1", "one", code=6)["error"]["message"]
    assert case.repo.git("rev-parse", "HEAD") == head
    assert (case.repo.path / "one.txt").read_text() == "mine\n"
    assert case.tree() == case.result


def test_what_was_undone_is_tried_again(case: Case) -> None:
    """`retry` after an undo does the undone tasks anew; what was undone before is then no longer there to be redone."""
    case("undo", "r1", "one")
    again = case("retry", "r1")
    assert again["ok"]
    assert case.tree() == case.result
    assert "nothing to redo" in case("redo", "r1", code=2)["error"]["message"]


def test_what_the_line_got_after_landing_is_landed_too(case: Case) -> None:
    """A run that changed after it had landed lands once more: only the difference, as a commit of its own."""
    case("undo", "r1", "two")
    case("land", "r1")
    assert not (case.repo.path / "two.txt").exists()
    case("retry", "r1")
    case("land", "r1")
    assert (case.repo.path / "two.txt").read_text() == "2\n"
    assert case.repo.git("diff", "--name-only", "HEAD~1", "HEAD") == "two.txt"


def test_a_red_check_after_an_undo_is_told(repo: Repo, zygote: Zygote, tmp_path: Path) -> None:
    """When a check is red without the task, exit 4 says which; after a landing the branch then stays as it is."""
    repo.commit(FILES)
    (tmp_path / "plan.toml").write_text(PLAN.replace("test ! -e red", "test -e two.txt"))
    case = Case(repo, tmp_path, zygote)
    case("run", str(tmp_path / "plan.toml"))
    case("land", "r1")
    head = repo.git("rev-parse", "HEAD")
    assert case("undo", "r1", "two", code=4)["red"] == ["sh -c 'test -e two.txt'"]
    assert repo.git("rev-parse", "HEAD") == head
    assert "check is red" in case("land", "r1", code=4)["error"]["message"]
    assert case("redo", "r1")["on"] == ["two"]
    assert case.states()["two"] == "done"
