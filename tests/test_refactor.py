"""A batch is cut into tasks whose goals say what is to be done with which file."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from conftest import Repo

from runtime.git import Repository
from runtime.refactor import How, batch, parts
from specialists import BUILTIN


@pytest.mark.parametrize(
    ("words", "size", "goals"),
    [
        ("Add types.", None, ["Add types in a.py", "Add types in b.py"]),
        (
            "Convert {file} to hooks, as c.py is.",
            None,
            ["Convert a.py to hooks, as c.py is.", "Convert b.py to hooks, as c.py is."],
        ),
        (
            "Add types.\n\nAll of them.",
            None,
            ["Add types.\n\nAll of them.\n\na.py", "Add types.\n\nAll of them.\n\nb.py"],
        ),
        ("Make {files} agree.", 2, ["Make a.py, b.py agree."]),
        ("Add types.", 2, ["Add types."]),
    ],
)
def test_a_goal_names_its_files(tmp_path: Path, words: str, size: int | None, goals: list[str]) -> None:
    """`{file}` and `{files}` stand for a task's files wherever the words want them; otherwise a single file is named at the end."""
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("x = 1\n")
    for line in (["init", "-q"], ["add", "-A"], ["-c", "user.name=n", "-c", "user.email=e@x", "commit", "-qm", "one"]):
        subprocess.run(["git", *line], cwd=tmp_path, check=True)
    made = batch(Repository.open(tmp_path), ["*.py"], How(goal=words), BUILTIN, size=size)
    assert [task.goal for task in made.plan.tasks] == goals


OWNERS = """
# who looks after what
*            @all
*.md         @docs @writers
/build/logs/ @ops      # anchored
docs/*       @docs
apps/        @apps
/apps/free
src/**/x.py  @x
"""


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("a.py", "@all"), ("src/deep/a.py", "@all"), ("src/README.md", "@docs @writers"), ("build/logs/a/b.txt", "@ops"),
        ("x/build/logs/a.txt", "@all"), ("docs/a.txt", "@docs"), ("docs/deep/a.txt", "@all"), ("lib/apps/a.py", "@apps"),
        ("apps/free/a.py", "nobody"), ("apps/free2/a.py", "@apps"), ("src/a/b/x.py", "@x"), ("src/x.py", "@x"),
    ],
)  # fmt: skip
def test_a_file_belongs_to_its_owners(repo: Repo, path: str, owner: str) -> None:
    """The last line of CODEOWNERS that matches counts, as GitHub reads it; one without an owner takes it away."""
    repo.commit({".github/CODEOWNERS": OWNERS})
    assert parts("owner", Repository.open(repo.path), BUILTIN)(path) == owner
