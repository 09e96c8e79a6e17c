"""A model writes what its task claims and nothing else, whatever path it tries; what is another's it can ask for."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from claude_stage import KEY, PLAIN, Stage, calls, edit, stage, task, told
from conftest import Repo
from messages_model import Reply, Request, Scripted
from trio.testing import MockClock

from specialists.tools import is_protected

WHOLE = {"a.py": "a = 1\n", "b.py": "b = 1\n", "c.py": "c = 1\n", "sub/d.py": "d = 1\n"}


@pytest.fixture
def shop(repo: Repo) -> Repo:
    """A repository with a few files."""
    repo.commit(WHOLE)
    return repo


def write(path: str, content: str = "2\n") -> tuple[str, dict[str, Any]]:
    """A call that writes a file."""
    return ("write", {"file_path": path, "content": content})


def change(path: str, old: str, new: str) -> tuple[str, dict[str, Any]]:
    """A call that edits a file."""
    return ("edit", {"file_path": path, "old_string": old, "new_string": new})


def said(there: Stage, name: str) -> list[tuple[str, bool]]:
    """What the tools have answered in a task's conversation."""
    return told([call for call in there.api.calls if f"# Task `{name}`" in str(call.body["messages"][0])][-1])


async def test_the_tasks_own_paths_are_written(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths, folders and globs of `writes`, files that are there and files that are not: all of it without asking."""
    mine = ("a.py", "new.py", "folder/", "sub/*.py")
    paths = ("a.py", "./new.py", "folder/deep/x.txt", "sub/d.py", "sub/e.py")
    async with stage(shop, patient_clock, monkeypatch, Scripted([calls(*map(write, paths)), "Done."])) as there:
        report = await there.run([task("a", writes=mine)])
        assert report.ok
        assert [is_error for _, is_error in said(there, "a")] == [False] * 5
        assert there.changed(report) == ["a.py", "folder/deep/x.txt", "new.py", "sub/d.py", "sub/e.py"]
        there.assert_nothing_lost(report)


@pytest.mark.parametrize("claims", ["strict", "grow"])
async def test_a_free_path_is_claimed_on_the_spot_where_claims_may_grow(
    claims: Any, shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that nobody claims: with `grow` it becomes the task's own, with `strict` the call is an error that says what is."""
    script = Scripted([calls(write("a.py"), write("b.py"), write("far/new.py")), "Done."])
    async with stage(shop, patient_clock, monkeypatch, script) as there:
        report = await there.run([task("a")], claims=claims)
        assert report.ok
        if claims == "grow":
            assert there.changed(report) == ["a.py", "b.py", "far/new.py"]
        else:
            assert there.changed(report) == ["a.py"]
            assert said(there, "a")[1] == ("b.py is outside your task's claims (a.py); nothing was written", True)
        there.assert_nothing_lost(report)


@pytest.mark.parametrize("claims", ["strict", "grow"])
@pytest.mark.parametrize("tool", ["write", "edit", "delete"])
async def test_another_tasks_path_is_an_error_that_names_its_owner(
    tool: str, claims: Any, shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its owner runs or has yet to start: nothing is written, and the model is told whom to ask."""
    given = {
        "write": {"file_path": "b.py", "content": "x"},
        "edit": {"file_path": "b.py", "old_string": "1", "new_string": "9"},
        "delete": {"file_path": "b.py"},
    }[tool]
    model = by_task(
        {"a": [calls((tool, given), write("a.py")), "Done."], "b": [calls(write("b.py", "b = 2\n")), "Done."]}
    )
    slow = lambda request: attrs.evolve(model(request), first_s=5.0 if "Task `b`" in request.conversation else 0.0)  # noqa: E731
    async with stage(shop, patient_clock, monkeypatch, slow) as there:
        report = await there.run([task("a"), task("b")], claims=claims)
        assert report.ok
        words = "b.py belongs to task `b`; nothing was written. request_file(path, why) asks for it"
        assert said(there, "a")[0] == (words, True)
        assert there.text(report, "b.py") == "b = 2\n"
        there.assert_nothing_lost(report)


def by_task(scripts: dict[str, list[Reply | str]]) -> Scripted:
    """A script for each task."""
    return Scripted({f"# Task `{name}`\n": script for name, script in scripts.items()})


def ask(path: str, why: str) -> tuple[str, dict[str, Any]]:
    """A call that asks for a file."""
    return ("request_file", {"path": path, "why": why})


async def test_a_file_whose_owner_has_yet_to_start_is_had_at_once(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`request_file` of a free path makes it the task's own; its owner waits for it, and sees what was done."""
    model = by_task(
        {
            "a": [calls(ask("b.py", "one line more"), write("b.py", "b = 1\nmore = 1\n"), write("a.py")), "Done."],
            "b": [calls(("edit", {"file_path": "b.py", "old_string": "b = 1", "new_string": "b = 2"})), "Done."],
        }
    )
    async with stage(shop, patient_clock, monkeypatch, model) as there:
        report = await there.run([task("a"), task("b", after=("a",))])
        assert report.ok
        assert said(there, "a")[0][0].startswith("b.py is yours now")
        assert there.text(report, "b.py") == "b = 2\nmore = 1\n"
        there.assert_nothing_lost(report)


async def test_a_file_that_is_being_changed_is_waited_for(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`request_file` of a running task's path waits for its end; the file is then read and changed as its owner left it."""
    model = by_task(
        {
            "a": [
                calls(ask("b.py", "mine too")),
                calls(("read", {"file_path": "b.py"})),
                calls(write("a.py")),
                "Done.",
            ],
            "b": [calls(write("b.py", "b = 2\n")), "Done."],
        }
    )
    slow = lambda request: attrs.evolve(model(request), first_s=20.0 if "Task `b`" in request.conversation else 0.0)  # noqa: E731
    async with stage(shop, patient_clock, monkeypatch, slow) as there:
        report = await there.run([task("a"), task("b")])
        assert report.ok
        assert report.tasks["a"].finished_s >= report.tasks["b"].finished_s >= 40
        assert said(there, "a")[0][0].startswith("b.py is yours now")
        there.assert_nothing_lost(report)


async def test_two_tasks_that_want_each_others_file_both_end(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where both would wait for ever one of the wishes becomes a task of its own, after the owner's and by its specialist: no deadlock,
    and nothing of it is lost."""
    model = by_task(
        {
            "a": [calls(ask("b.py", "for a")), calls(write("a.py", "a = 2\n")), "Done."],
            "b": [
                calls(("read", {"file_path": "b.py"})),
                calls(ask("a.py", edit("a.py", "a = 2", "a = 3"))),
                calls(write("b.py", "b = 2\n")),
                "Done.",
            ],
            "a+1": [calls(("edit", {"file_path": "a.py", "old_string": "a = 2", "new_string": "a = 3"})), "Done."],
        }
    )

    def slow(request: Request) -> Reply:
        """Slow from `b`'s second turn on: its first may go ahead of `a`'s, which then waits for its answer to begin."""
        late = "Task `b`" in request.conversation and len(request.messages) > 1
        return attrs.evolve(model(request), first_s=20.0 if late else 0.0)

    other = attrs.evolve(PLAIN, name="other", prompt="You are another.")
    async with stage(shop, patient_clock, monkeypatch, slow, specialists=[PLAIN, other]) as there:
        report = await there.run([task("a"), attrs.evolve(task("b"), specialist="other")])
        assert report.ok, [one.error for one in report.tasks.values()]
        assert list(report.tasks) == ["a", "b", "a+1"]
        assert report.tasks["b"].result["handed_over"] == ["a+1"]
        assert said(there, "b")[1][0].startswith("a.py is `a`'s: your wish was handed over as task `a+1`")
        assert there.text(report, "a.py") == "a = 3\n"
        there.assert_nothing_lost(report)


async def test_what_nobody_claims_cannot_be_asked_for_where_claims_are_strict(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request is no way around strict claims: it is for what other tasks of the plan claim."""
    async with stage(
        shop,
        patient_clock,
        monkeypatch,
        Scripted([calls(ask("c.py", "I want it"), write("c.py"), write("a.py")), "Done."]),
    ) as there:
        report = await there.run([task("a")])
        assert [is_error for _, is_error in said(there, "a")] == [True, True, False]
        assert there.changed(report) == ["a.py"]


PROTECTED = (
    ".git/config",
    ".git/hooks/pre-commit",
    ".GIT/config",
    "sub/.git/config",
    ".git\u200c/config",
    "GIT~1/config",
    ".git ./config",
    ".gitattributes",
    ".gitmodules",
    ".github/workflows/ci.yml",
    ".GitHub/workflows/ci.yml",
    ".gitlab-ci.yml",
    ".husky/pre-commit",
    ".vscode/settings.json",
    ".idea/workspace.xml",
    ".claude/settings.json",
    ".cursorrules",
    ".mcp.json",
    ".envrc",
    ".pre-commit-config.yaml",
    "CLAUDE.md",
    "sub/AGENTS.md",
    "Jenkinsfile",
    ".circleci/config.yml",
    "journeyman.toml",
)
TRICKS = (
    "../outside.txt",
    "sub/../../outside.txt",
    "sub/../a.py",
    "/etc/outside.txt",
    "~/outside.txt",
    "C:/outside.txt",
    "sub\\..\\..\\outside.txt",
    "a.py/inside",
    "sub",
    "sub/",
    "link",
    "door/outside.txt",
    "sub//d.py",
    "a.py\u0000.txt",
    "a.py\n",
    "x" * 300,
    " ",
)


SETTINGS = [
    ".husky/pre-commit",
    ".githooks/post-merge",
    ".hooks/pre-push",
    "lefthook.yml",
    ".overcommit.yml",
    ".simple-git-hooks.json",
    ".simple-git-hooks.cjs",
    ".lintstagedrc",
    ".lintstagedrc.yaml",
    ".trunk/trunk.yaml",
    ".envrc",
    ".pre-commit-config.yaml",
    ".gitlab-ci.yml",
    ".github/workflows/ci.yml",
    ".ci/run",
    "appveyor.yml",
    ".appveyor.yml",
    ".cirrus.yml",
    ".semaphore/semaphore.yml",
    ".teamcity/settings.kts",
    "cloudbuild.yaml",
    "cloudbuild.yml",
    "buildspec.yml",
    "buildspec.yaml",
    ".tekton/push.yaml",
    "codefresh.yml",
    "bitrise.yml",
    ".build.yml",
    ".builds/debian.yml",
    ".circleci/config.yml",
    "Jenkinsfile",
    "azure-pipelines.yml",
    ".travis.yml",
    ".dir-locals.el",
    ".exrc",
    ".vimrc",
    ".nvim.lua",
    ".zed/tasks.json",
    "shop.code-workspace",
    "shop.sublime-project",
    ".fleet/run.json",
    ".run/all.run.xml",
    ".vs/launch.vs.json",
    ".editorconfig",
    ".vscode/tasks.json",
    ".idea/workspace.xml",
    ".devcontainer/devcontainer.json",
    ".clinerules",
    ".clinerules/style.md",
    ".roo/mcp.json",
    ".kiro/settings/mcp.json",
    ".junie/guidelines.md",
    ".continue/config.yaml",
    ".amazonq/rules/a.md",
    ".goosehints",
    ".opencode/agent/a.md",
    "opencode.json",
    ".crush.json",
    "mcp.json",
    ".mcp.json",
    ".claude/settings.json",
    ".cursorrules",
    "CLAUDE.md",
    "AGENTS.md",
    "GEMINI.md",
    "journeyman.toml",
]
OPEN = [
    "ci/run.py",
    "hooks/run.py",
    "src/ci.py",
    "run.py",
    "src/run/build.py",
    "build.yml",
    "builds/a.yml",
    "editorconfig.py",
    "vs/a.py",
    "fleet/ship.py",
    "zed.c",
    "continue.py",
    "kiro.md",
    "roo.js",
    "trunk/a.py",
    "docs/opencode.md",
    "semaphore.c",
    "src/mcp.py",
    "code-workspace/a.ts",
    "vimrc.md",
    ".env.example",
    ".eslintrc.json",
    "pyproject.toml",
    "package.json",
    "Makefile",
]


@pytest.mark.parametrize("path", SETTINGS)
def test_what_runs_by_itself_is_protected(path: str) -> None:
    """Hooks, CI, settings of editors and of agents, at the top or in a folder, however they are written: what runs when somebody commits,
    pushes, opens a folder or asks an agent."""
    assert all(is_protected(one) for one in (path, path.upper(), f"packages/web/{path}"))


@pytest.mark.parametrize("path", OPEN)
def test_what_is_only_called_alike_is_not_protected(path: str) -> None:
    """A program's own files keep their names."""
    assert not is_protected(path)


@pytest.mark.parametrize("isolation", ["overlay", "worktree"])
@pytest.mark.parametrize("claims", ["strict", "grow"])
async def test_hooks_ci_and_settings_are_never_written_and_no_path_leads_out(
    claims: Any, isolation: Any, shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the claims cover: a task that may write everything writes no hook, no CI file and no settings of editors and agents, and
    no trick with a path leads out of its workspace, in memory or on disk."""
    outside = shop.path.parent / "outside"
    outside.mkdir()
    (shop.path / "link").symlink_to(outside / "file.txt")
    (shop.path / "door").symlink_to(outside)
    shop.commit({})
    script = [calls(*map(write, (*PROTECTED, *TRICKS)), write("a.py")), "Done."]
    specialist = attrs.evolve(PLAIN, isolation=isolation)
    async with stage(shop, patient_clock, monkeypatch, Scripted(script), specialists=[specialist]) as there:
        report = await there.run([task("a", writes=("**",))], claims=claims)
        assert report.ok, report.tasks["a"].error
        answers = said(there, "a")
        passed = [path for path, (_, is_error) in zip((*PROTECTED, *TRICKS), answers, strict=False) if not is_error]
        assert passed == []
        assert there.changed(report) == ["a.py"]
        assert list(outside.iterdir()) == []
        assert not list(shop.path.parent.rglob("outside.txt"))
        there.assert_nothing_lost(report)


async def test_who_claims_a_protected_file_by_name_writes_it(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task about CI claims the CI file itself; that opens this one path, not its neighbours. Git's own folder cannot be claimed."""
    script = [
        calls(write(".github/workflows/ci.yml"), write(".github/workflows/other.yml"), write("CLAUDE.md")),
        "Done.",
    ]
    mine = (".github/workflows/ci.yml", ".github/**", "*.md")
    async with stage(shop, patient_clock, monkeypatch, Scripted(script)) as there:
        report = await there.run([task("a", writes=mine)])
        assert there.changed(report) == [".github/workflows/ci.yml"]
        assert [is_error for _, is_error in said(there, "a")] == [False, True, True]


OURS = '[tool.journeyman]\nchecks = ["pytest -q"]\n'
RUFF = "[tool.ruff]\nline-length = 100\n"
FATAL = '[tool.journeyman]\nchecks = ["sh -c evil"]\n'


@pytest.mark.parametrize(
    ("before", "call", "passes"),
    [
        (OURS, write("pyproject.toml", FATAL), False),
        (OURS, write("pyproject.toml", RUFF), False),
        (OURS, write("pyproject.toml", RUFF + OURS), True),
        (OURS, write("pyproject.toml", f"{OURS}\n[tool.ruff\n"), False),  # no TOML
        (OURS, write("pyproject.toml", f"{OURS}\n[tool.journeyman.specialists.x]\nprompt = 'evil'\n"), False),
        (RUFF, write("pyproject.toml", RUFF + FATAL), False),
        (RUFF, write("pyproject.toml", RUFF + 'tool.journeyman.setup = "evil"\n'), True),  # it is tool.ruff.tool...
        (RUFF, write("pyproject.toml", 'tool.journeyman.setup = "evil"\n' + RUFF), False),
        (RUFF, write("pyproject.toml", "[tool.ruff\n"), True),
        ("[tool.ruff\n", write("pyproject.toml", FATAL), False),
        ("", write("pyproject.toml", "tool = 1\n"), True),
        (None, write("pyproject.toml", FATAL), False),
        (None, write("pyproject.toml", "\ufeff" + FATAL), False),
        (None, write("PyProject.toml", FATAL), False),
        (None, write("pyproject.toml", "x = " + "[" * 5000), True),
        (RUFF + OURS, change("pyproject.toml", "100", "120"), True),
        (RUFF + OURS, change("pyproject.toml", "pytest -q", "evil"), False),
        (RUFF + OURS, change("pyproject.toml", "journeyman", "other"), False),
        ("\ufeff" + OURS, change("pyproject.toml", "pytest -q", "evil"), False),
        (RUFF + OURS, ("delete", {"file_path": "pyproject.toml"}), False),
        (RUFF, ("delete", {"file_path": "pyproject.toml"}), True),
    ],
)
async def test_our_own_settings_in_a_pyproject_are_protected(
    before: str | None, call: Any, passes: bool, shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checks and the setup of [tool.journeyman] are commands: a model changes the rest of the file, but never what that table says,
    nor makes it unreadable, by whichever tool."""
    shop.commit({} if before is None else {"pyproject.toml": before})
    async with stage(shop, patient_clock, monkeypatch, Scripted([calls(call, write("a.py")), "Done."])) as there:
        report = await there.run([task("a", writes=("**",))])
        assert report.ok
        words, is_error = said(there, "a")[0]
        assert is_error != passes
        assert passes or "[tool.journeyman]" in words
        assert (there.changed(report) == ["a.py"]) != passes
        there.assert_nothing_lost(report)


async def test_who_claims_the_pyproject_by_name_changes_our_settings(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task about the project's checks claims the file itself."""
    shop.commit({"pyproject.toml": OURS})
    script = [calls(change("pyproject.toml", "pytest -q", "pytest"), write("pyproject.toml", RUFF)), "Done."]
    async with stage(shop, patient_clock, monkeypatch, Scripted(script)) as there:
        report = await there.run([task("a", writes=("pyproject.toml",))])
        assert [is_error for _, is_error in said(there, "a")] == [False, False]
        assert there.text(report, "pyproject.toml") == RUFF


async def test_a_glob_does_not_reach_what_another_task_claims_by_name(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new file that one task's glob covers and another names: the second's, at the moment of the call and not when all is paid for."""
    model = by_task(
        {
            "a": [calls(write("sub/new.py"), write("sub/other.py")), "Done."],
            "b": [calls(write("sub/new.py", "b's\n")), "Done."],
        }
    )
    slow = lambda request: attrs.evolve(model(request), first_s=9.0 if "Task `b`" in request.conversation else 1.0)  # noqa: E731
    async with stage(shop, patient_clock, monkeypatch, slow) as there:
        report = await there.run([task("b", writes=("sub/new.py",)), task("a", writes=("sub/*.py",))])
        assert report.ok, [one.error for one in report.tasks.values()]
        assert there.text(report, "sub/new.py") == "b's\n"
        there.assert_nothing_lost(report)


async def test_what_is_read_is_the_workspace(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`read`, `glob` and `grep` see the task's own changes, whole or in part, and nothing that is not in the repository."""
    (shop.path / "secret.txt").write_text("untracked")
    (shop.path / "door").symlink_to("/etc")
    shop.git("add", "door")
    shop.git("commit", "-qm", "door")
    reads = [
        ("read", {"file_path": "a.py"}),
        ("read", {"file_path": "a.py", "view_range": [2, -1]}),
        ("glob", {"pattern": "**/*.py"}),
        ("grep", {"pattern": "^second"}),
        ("grep", {"pattern": "d = 1", "path": "sub"}),
        ("grep", {"pattern": "("}),
        ("read", {"file_path": "secret.txt"}),
        ("read", {"file_path": "door/passwd"}),
        ("read", {"file_path": "door"}),
        ("read", {"file_path": "../../etc/passwd"}),
        ("read", {"file_path": ".git/config"}),
        ("grep", {"pattern": "root", "path": "../"}),
        ("grep", {"pattern": "-e", "path": "--no-index"}),
        ("glob", {"pattern": "*", "path": "../.."}),
    ]
    script = [calls(write("a.py", "first = 1\nsecond = 2\n"), write("sub/new.py")), calls(*reads), "Done."]
    async with stage(shop, patient_clock, monkeypatch, Scripted(script)) as there:
        report = await there.run([task("a", writes=("a.py", "sub/"))])
        assert report.ok
        answers = said(there, "a")[2:]
        assert [text for text, _ in answers[:5]] == [
            "first = 1\nsecond = 2\n",
            "second = 2\n",
            "a.py\nb.py\nc.py\nsub/d.py\nsub/new.py",
            "a.py:2:second = 2",
            "sub/d.py:1:d = 1",
        ]
        assert [is_error for _, is_error in answers[5:]] == [True] * 7 + [False] * 2
        assert answers[12][0] == "no matches"
        assert answers[13][0] == "a.py\nb.py\nc.py\ndoor"
        everything = str([call.body for call in there.api.calls])
        assert "root:" not in everything
        assert "[core]" not in everything
        assert "untracked" not in everything


async def test_a_key_is_no_half_key_where_a_line_is_cut(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search shows the beginning of a long line: a key that stands where it is cut is not shown in part, wherever it begins."""
    shop.commit({f"{number:02}": "x" * (497 - number) + KEY + "\n" for number in range(len(KEY) + 1)})
    script = [calls(("grep", {"pattern": "^x"})), calls(write("a.py")), "Done."]
    async with stage(shop, patient_clock, monkeypatch, Scripted(script)) as there:
        report = await there.run([task("a")])
        assert report.ok
        ((found, _), _) = said(there, "a")
        assert "xxx[redacted]" in found
        assert KEY[:2] not in found
        there.assert_nothing_lost(report)


async def test_a_specialists_tools_are_all_it_has(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A specialist that may only read and edit is offered no more, and a call of another tool is an error."""
    few = attrs.evolve(PLAIN, tools=("read", "edit"))
    script = [calls(write("a.py"), ("edit", {"file_path": "a.py", "old_string": "1", "new_string": "2"})), "Done."]
    async with stage(shop, patient_clock, monkeypatch, Scripted(script), specialists=[few]) as there:
        report = await there.run([task("a")])
        assert [tool["name"] for tool in there.api.calls[0].body["tools"]] == ["read", "edit", "nothing_to_do"]
        assert said(there, "a")[0] == ("there is no tool 'write'; there are: read, edit, nothing_to_do", True)
        assert there.changed(report) == ["a.py"]
