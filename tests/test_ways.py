"""The ways of working: rewrites, codemods and commands, against the tools they stand for."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import libcst.codemod
import pytest
import trio
from conftest import Repo

from runtime import Codemod, Plan, Rewrite, RunReport, Runtime, Task
from runtime.errors import BadInput
from specialists import BUILTIN, Ways, by_path, codemod_problem
from specialists import edits as edit
from specialists.own import Code

BIN = Path(sys.executable).parent

REWRITES = [
    ("python", "print($A)", "log.info($A)", "def f():\n    print(1)\n    print(\n        a,\n    )\nprint(print(2))\n"),
    ("python", "foo($$$ARGS)", "bar(\n    $$$ARGS\n)", "def f():\n        foo(1,\n            2)\n\nfoo()\nfoo([\n  1,\n\n  2])\n"),
    ("python", "$X = $Y", "$Y\n$X: int = (\n        $Y)", "class A:\n    def f(self):\n        x = [\n            1,\n          2,\n        ]\n"),
    ("python", "print($A)", "é($A)", "x='ü'; print('é\\n')\nprint(\"\"\"a\n  b\n\"\"\")\n"),
    ("typescript", "console.log($$$A)", "logger.debug($$$A)", "function f() {\n  console.log('a', {\n    b: 1,\n  });\n  console.log();\n}\n"),
    ("tsx", "var $A = $B", "const $A = $B", "var x = <div>\n  <p/>\n</div>;\nfunction a(){ var y = 1; var z = 2 }\n"),
    ("go", "fmt.Println($A)", "log.Print($A)", "package m\nfunc f() {\n\tfmt.Println(1)\n}\n"),
    ("python", "old($A, $B)", "new($B, $A)", "old(old(1, 2), 3)\r\nx = old(a,\r\n  b)\r\n"),
]  # fmt: skip


@pytest.mark.parametrize(("language", "pattern", "replace", "source"), REWRITES)
def test_a_rewrite_is_the_programs(language: str, pattern: str, replace: str, source: str, tmp_path: Path) -> None:
    """Our rewrite gives the very text that the ast-grep program writes with `--update-all`."""
    file = tmp_path / f"a.{edit.EXTENSIONS[language][0]}"
    file.write_bytes(source.encode())
    words = [BIN / "ast-grep", "run", "-p", pattern, "-r", replace, "-l", language, "--update-all", str(tmp_path)]
    assert subprocess.run(words, capture_output=True, check=False).returncode in (0, 1)  # 1: nothing matches
    assert edit.rewrite_text(source, pattern, replace, language).encode() == file.read_bytes()


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("print($A)", ["print"]),
        ("$A.assertEquals($$$B)", ["assertEquals"]),
        ("$A + $B", []),
        ("foo(bar, $X)", ["foo", "bar"]),
        ("café(bar)", ["bar"]),  # other bytes in a file of another encoding
    ],
)
def test_what_a_match_must_contain(pattern: str, words: list[str]) -> None:
    """The words by which files are passed over come from the pattern, its variables left out."""
    assert edit.needles(pattern) == tuple(word.encode() for word in words)


@pytest.mark.parametrize(
    ("data", "state", "why"),
    [
        (b"print(1)\n", "changed", ""),
        (b"\xef\xbb\xbfprint(1)\r\n", "changed", ""),
        (b"# -*- coding: latin-1 -*-\nprint('\xe9')\n", "changed", ""),
        (b"print('\xe9')\n", "failed", "UTF-8"),
        (b"print(1\n", "skipped", "does not parse"),
        (b"def f(:\n    print(1)\n", "failed", "does not parse"),
        (b"x = 1\n", "unchanged", ""),
    ],
)
def test_oddly_encoded_and_broken_files_are_told_of(data: bytes, state: str, why: str) -> None:
    """A file is decoded as it says, its encoding, mark and line ends kept; what cannot be decoded or parsed is left alone."""
    rewriter = edit.rewriter("a.py", "print($A)", "log($A)", "python")
    found, words, new, _ = edit.apply("a.py", data, rewriter, "python", 1)
    assert (found, why in words) == (state, True), words
    if state == "changed":
        assert new == data.replace(b"print", b"log")


@pytest.mark.parametrize(
    ("language", "source", "good", "bad"),
    [
        ("c", "BEGIN_DECLS\nextern int f(int a) THROW attr((x));\nint g(void) { return old(1); }\n", "new(1)", "new(1"),
        ("css", "a { *zoom: 1; }\nb { color: old(1); }\n", "new(1)", "new(1))}"),
        ("tsx", "const a = <p>&;</p>\nfunction g() { return old(1) }\n", "new(1)", "new(1"),
        ("c", "int g(void) { return old(1); }\n", "new(1)", "new(1"),
        ("html", "<p>old(1)</p><script></script>\n", "<script></script>", "<a <b <"),
    ],
)
def test_a_file_may_not_parse_worse_than_before(language: str, source: str, good: str, bad: str) -> None:
    """Where a grammar does not know all of a sound file, an edit elsewhere in it is made; one that breaks it is refused."""

    def to(text: str) -> edit.Edit:
        return lambda data: data.replace(b"old(1)", text.encode())

    name = f"a.{edit.EXTENSIONS[language][0]}"
    state, why, new, _ = edit.apply(name, source.encode(), to(good), language, 1)
    assert (state, why) == ("changed", "")
    assert new == source.replace("old(1)", good).encode()
    state, why, new, _ = edit.apply(name, source.encode(), to(bad), language, 1)
    assert (state, new) == ("failed", None)
    assert f"does not parse as {language}" in why


def test_a_file_of_no_known_language_is_only_bytes() -> None:
    """A user's own function may change files of any encoding where no language is known."""
    assert edit.apply("a.po", b"caf\xe9\n", lambda data: data.upper(), None, 1)[2] == b"CAF\xe9\n"


def test_an_edit_that_breaks_a_file_is_refused() -> None:
    """A replacement that does not parse any more leaves the file as it was."""
    rewriter = edit.rewriter("a.py", "print($A)", "log($A", "python")
    state, why, new, _ = edit.apply("a.py", b"print(1)\n", rewriter, "python", 1)
    assert state == "failed"
    assert new is None
    assert "broke it" in why


def test_passes_go_on_until_nothing_changes() -> None:
    """One pass by default, telling that another would change more; `fixpoint` goes to the end, at ten at most."""
    rewriter = edit.rewriter("a.py", "f(g($A))", "g(f($A))", "python")
    data = b"f(g(g(g(1))))\n"
    assert edit.apply("a.py", data, rewriter, "python", 1, ahead=edit.Ahead())[2:] == (b"g(f(g(g(1))))\n", True)
    assert edit.apply("a.py", data, rewriter, "python", 0, ahead=edit.Ahead())[2:] == (b"g(g(g(f(1))))\n", False)


def test_looking_ahead_costs_little_of_a_slow_edit() -> None:
    """What took half a second of looks and a fiftieth of the edits' own time is looked at no more; until then every file is."""
    ahead = edit.Ahead()
    looked = [edit.Ahead().look(bytes.upper, b"a", took_s) for took_s in (0.01, 0.5, 0.6)]
    assert looked == [True, True, False]
    assert [edit.Ahead(20.0, before).look(bytes.upper, b"a", 0.3) for before in (0.0, 0.6, 0.7)] == [True, True, False]
    calls = 0

    def grow(data: bytes) -> bytes:
        nonlocal calls
        calls += 1
        return data + b"x"

    assert edit.apply("a.txt", b"a", grow, None, 1, ahead=ahead) == ("changed", "", b"ax", True)
    assert (calls, ahead.edited_s > 0, ahead.looked_s > 0) == (2, True, True)
    ahead.looked_s += 60
    assert edit.apply("a.txt", b"a", grow, None, 1, ahead=ahead) == ("changed", "", b"ax", False)
    assert calls == 3


def test_codemods_are_found_by_their_names(tmp_path: Path) -> None:
    """LibCST's own commands, the user's own file, and clear words for what there is not."""
    (tmp_path / "own.py").write_text("def up(path, data):\n    return data.upper()\n")
    code = Code(tmp_path)
    assert edit.find_codemod("convert_format_to_fstring.ConvertFormatStringCommand", code)
    assert edit.find_codemod("convert_format_string_command.ConvertFormatStringCommand", code)
    assert edit.find_codemod("own.py:up", code)("a", b"x") == b"X"
    for name, words in (
        ("nope.Nope", "no codemod"),
        ("own.py:down", "no 'down'"),
        ("gone.py:x", "no file gone.py"),
        ("x", "module.Class"),
    ):
        with pytest.raises(BadInput, match=words):
            edit.find_codemod(name, code)


def test_a_codemod_of_the_repositorys_own_package_is_imported(tmp_path: Path) -> None:
    """`package.module.name` under the root, with what it imports from beside it; what cannot be imported is named, not raised."""
    package = tmp_path / "owntools"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "words.py").write_text("WORD = b'up'\n")
    (package / "mods.py").write_text("from owntools.words import WORD\n\ndef up(path, data):\n    return WORD\n")
    (package / "broken.py").write_text("def f(:\n")
    (package / "leaves.py").write_text("raise SystemExit(1)\n")
    before, code = list(sys.path), Code(tmp_path)
    assert edit.find_codemod("owntools.mods.up", code)("a", b"x") == b"up"
    for name, words in (
        ("owntools.broken.f", "SyntaxError"),
        ("owntools.leaves.f", "SystemExit"),
        (".x.y", "no codemod"),
    ):
        with pytest.raises(BadInput, match=words):
            edit.find_codemod(name, code)
    assert sys.path == before


def test_looking_for_a_codemod_executes_nothing_of_the_repositorys(tmp_path: Path) -> None:
    """A plan is judged by what stands in the file or the module: that there is such a name, and what it takes."""
    marker = tmp_path / "executed"
    text = (
        f"open({str(marker)!r}, 'w').close()\nimport no_such_thing\n\ndef up(path, data, *, word='x'):\n    return data\n\n"
        "class Up(no_such_thing.Command):\n    def __init__(self, context, size): ...\n\nlow = up\n"
    )
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/__init__.py").write_text(text)
    (tmp_path / "tools/mods.py").write_text(text)
    (tmp_path.parent / "evil.py").write_text(text)
    problem = codemod_problem(str(tmp_path))
    for start in ("tools/mods.py:", "tools.mods."):
        for name, arguments, words in (
            ("up", {}, None),
            ("up", {"word": 1}, None),
            ("up", {"nosuch": 1}, "args: .*'nosuch'"),
            ("Up", {"size": 1}, None),
            ("Up", {}, "args: .*'size'"),
            ("low", {"whatever": 1}, None),
            ("down", {}, "there is no 'down' in tools"),
        ):
            told = problem(Codemod(start + name, arguments))
            assert told == words or re.match(words or "$", told or ""), (start + name, told)
    for name in ("../evil.py:up", f"{tmp_path.parent}/evil.py:up", f"{tmp_path}/tools/mods.py:up"):
        assert "is outside the repository; name a file inside it" in (problem(Codemod(name)) or "")
    assert not marker.exists()


async def test_a_codemod_outside_the_repository_is_not_executed(repo: Repo) -> None:
    """Also one that a run of an older version has taken in: its task fails, saying what to do."""
    marker = repo.path.parent / "executed"
    repo.commit(SOURCES)
    (repo.path.parent / "evil.py").write_text(f"open({str(marker)!r}, 'w').close()\ndef f(path, data): ...\n")
    names = ("../evil.py:f", f"{repo.path.parent}/evil.py:f")
    report = await _run(
        repo,
        [
            Task(name, "service", writes=(path,), codemod=Codemod(name))
            for name, path in zip(names, SOURCES, strict=False)
        ],
    )
    assert all("outside the repository" in (report.tasks[name].error or "") for name in names)
    assert not marker.exists()


async def _run(repo: Repo, tasks: list[Task], **options: Any) -> RunReport:
    async with (
        Ways(2, str(repo.path)) as ways,
        Runtime(ways.equip(BUILTIN), repo=repo.path, backoff_s=0.01, **options) as rt,
    ):
        return await rt.run(Plan(tasks))


SOURCES = {
    "src/a.py": 'def a(x):\n    return "{} and {}".format(x, x)\n',
    "src/b.py": 'print("b {}".format(1))\n',
    "src/c.py": "c = 1\n",
}


async def test_a_codemod_is_libcsts(repo: Repo, tmp_path: Path) -> None:
    """Files come out byte for byte as LibCST's own tool writes them, one commit a changed file."""
    repo.commit(SOURCES)
    name = "convert_format_to_fstring.ConvertFormatStringCommand"
    tasks = [Task(path, "service", writes=(path,), codemod=Codemod(name)) for path in SOURCES]
    report = await _run(repo, tasks)
    assert report.ok
    assert [report.tasks[path].result["files"][path]["state"] for path in SOURCES] == [
        "changed",
        "changed",
        "unchanged",
    ]
    other = Repo(tmp_path / "other")
    other.commit(SOURCES)
    subprocess.run(
        [sys.executable, "-m", "libcst.tool", "codemod", "--no-format", name, "src"],
        cwd=other.path,
        check=True,
        capture_output=True,
    )
    for path in SOURCES:
        assert repo.show(report.commit or "", path) == (other.path / path).read_bytes()
    assert len(repo.git("rev-list", f"main..{report.commit}").splitlines()) == 2


TWICE = """
import libcst
from libcst.codemod import Codemod, VisitorBasedCodemodCommand
from libcst.metadata import MetadataWrapper, PositionProvider


class Lines(libcst.CSTTransformer):
    METADATA_DEPENDENCIES = (PositionProvider,)

    def leave_Integer(self, node, updated):
        return updated.with_changes(value=str(self.get_metadata(PositionProvider, node).start.line))


class Twice(Codemod):  # each statement twice, the very same node; then the number of its line instead of each number

    def transform_module_impl(self, tree):
        return MetadataWrapper(tree.with_changes(body=[*tree.body, *tree.body])).visit(Lines())


class Again(VisitorBasedCodemodCommand):  # goes on until nothing changes

    def should_allow_multiple_passes(self):
        return True

    def leave_Integer(self, node, updated):
        return updated.with_changes(value=str(min(int(node.value) + 1, 9)))
"""


@pytest.mark.parametrize(
    "name",
    [
        "mods.py:Twice",
        "mods.py:Again",
        "convert_percent_format_to_fstring.ConvertPercentFormatStringCommand",
        "remove_unused_imports.RemoveUnusedImportsCommand",
        "convert_type_comments.ConvertTypeComments",
    ],
)
def test_a_tree_from_the_parser_need_not_be_copied(name: str, tmp_path: Path) -> None:
    """What comes out is what LibCST makes of a copy, also where a command puts a node into the tree twice or goes over it again."""
    (tmp_path / "mods.py").write_text(TWICE)
    command = edit.find_codemod(name, Code(tmp_path))
    own = sorted(Path(inspect.getfile(libcst.codemod)).parent.glob("commands/*.py"))[:6]
    changed = 0
    for data in [b"import os\nx = 1\ny = 'a %s' % x  # type: str\nz = 4\n", *(one.read_bytes() for one in own)]:
        plain = command(libcst.codemod.CodemodContext()).transform_module(libcst.parse_module(data)).bytes
        ours = edit.codemodder("a.py", command, {}, str(tmp_path))(data)
        assert (data if ours is None else ours) == plain
        changed += ours is not None
    assert changed


async def test_a_killed_worker_costs_a_retry_and_no_file(repo: Repo) -> None:
    """A codemod whose process is shot is tried again in another; every file ends as it should."""
    (repo.path / "tools").mkdir()
    marker = repo.path.parent / "shot"
    repo.commit(
        {
            **{f"m{number}.py": "x = 1\n" for number in range(6)},
            "tools/mod.py": "import os, pathlib, signal\n\ndef edit(path, data):\n"
            f"    marker = pathlib.Path({str(marker)!r})\n"
            "    if path == 'm3.py' and not marker.exists():\n        marker.touch(); os.kill(os.getpid(), signal.SIGKILL)\n"
            "    return data + b'y = 2\\n'\n",
        }
    )
    tasks = [Task(f"m{n}", "service", writes=(f"m{n}.py",), codemod=Codemod("tools/mod.py:edit")) for n in range(6)]
    report = await _run(repo, tasks)
    assert report.ok
    assert marker.exists()
    assert report.tasks["m3"].attempts == 2
    for number in range(6):
        assert repo.show(report.commit or "", f"m{number}.py") == b"x = 1\ny = 2\n"


async def test_a_command_is_judged_by_the_bytes_it_leaves(repo: Repo) -> None:
    """Batches go through the program; the file it fails on is found and restored, the others are kept; the environment has no
    keys in it."""
    os.environ["ANTHROPIC_API_KEY"] = "canary"
    try:
        script = (
            "import os, sys\nassert 'ANTHROPIC_API_KEY' not in os.environ\n"
            "for name in sys.argv[1:]:\n    text = open(name).read()\n    open(name, 'w').write(text + 'touched')\n"
            "    if 'bad' in text: sys.exit(3)\n"
        )
        files = {f"d/f{number}.txt": "good\n" for number in range(11)} | {"d/f5.txt": "bad\n"}
        repo.commit({**files, "tool.py": script})
        task = Task("t", "service", writes=("d/",), exec=(sys.executable, "tool.py", "{files}"))
        report = await _run(repo, [task])
    finally:
        del os.environ["ANTHROPIC_API_KEY"]
    states = {path: row["state"] for path, row in report.tasks["t"].result["files"].items()}
    assert states == {**dict.fromkeys(files, "changed"), "d/f5.txt": "failed"}
    assert repo.show(report.commit or "", "d/f5.txt") == b"bad\n"
    assert repo.show(report.commit or "", "d/f6.txt") == b"good\ntouched"


async def test_a_program_that_fails_leaves_every_file_as_it_was(repo: Repo) -> None:
    """Its mode too, never through a link that it put in the file's place; and what it did to modes and links is told of."""
    outside = repo.path.parent / "outside"
    outside.write_text("mine")
    names = ["rm", "link", "folder", "fifo", "mode", "fine", "linked"]
    script = (
        'for f in "$@"; do case $f in\n'
        "rm.sh) rm $f; exit 1;;\n"
        f"link.sh) ln -sf {outside} $f; exit 1;;\n"
        "folder.sh) rm $f; mkdir $f; echo 1 > $f/x; exit 1;;\n"
        "fifo.sh) rm $f; mkfifo $f;;\n"
        "mode.sh) chmod -x $f; exit 1;;\n"
        "fine.sh) chmod -x $f;;\n"
        "linked.sh) ln -sf rm.sh $f;;\n"
        "esac; done\n"
    )
    (repo.path / "tool").write_text(script)
    for name in names:
        (repo.path / f"{name}.sh").write_text("echo\n")
        (repo.path / f"{name}.sh").chmod(0o755)
    repo.git("add", "-A")
    repo.git("commit", "-qm", "files")
    report = await _run(repo, [Task("t", "service", writes=("*.sh",), exec=("sh", "tool", "{files}"))])
    rows = report.tasks["t"].result["files"]
    assert {path: row["state"] for path, row in rows.items()} == {
        **{f"{name}.sh": "failed" for name in names}, "fine.sh": "changed", "linked.sh": "changed",
    }  # fmt: skip
    assert outside.read_text() == "mine"
    told = repo.git("diff", "--summary", "HEAD", report.commit or "").splitlines()
    assert [line.split() for line in told] == [
        ["mode", "change", "100755", "=>", "100644", "fine.sh"], ["mode", "change", "100755", "=>", "120000", "linked.sh"],
    ]  # fmt: skip


async def test_a_program_gets_the_variables_that_it_is_to_have(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name alone: another program gets nothing, and a key that a program says when it fails is kept nowhere."""
    monkeypatch.setenv("AGENT_KEY", "canary-0123456789")
    repo.commit({"a.txt": "a", "b.txt": "b", "c.txt": "c"})
    script = 'test -n "$AGENT_KEY" && echo has >> "$1"; echo "bad key: $AGENT_KEY"; exit "$2"'
    tasks = [
        Task("has", "service", writes=("a.txt",), exec=("sh", "-c", script, "sh", "{file}", "0")),
        Task("says", "service", writes=("b.txt",), exec=("sh", "-c", script, "sh", "{file}", "3")),
        Task("not", "service", writes=("c.txt",), exec=("/bin/sh", "-c", script, "sh", "{file}", "0")),
    ]
    async with (
        Ways(pass_environment={"sh": ["AGENT_KEY", "NO_SUCH_VARIABLE"]}) as ways,
        Runtime(ways.equip(BUILTIN), repo=repo.path) as rt,
    ):
        report = await rt.run(Plan(tasks))
    assert repo.show(report.commit or "", "a.txt") == b"ahas\n"
    assert report.tasks["not"].result["files"]["c.txt"]["state"] == "unchanged"
    assert "bad key: [redacted]" in report.tasks["says"].error
    kept = b"".join(path.read_bytes() for path in (repo.path / ".git" / "journeyman").iterdir() if path.is_file())
    assert b"canary-0123456789" not in kept


async def test_a_program_may_repair_a_file_but_not_break_one(repo: Repo) -> None:
    """What a program leaves is parsed, before and after: a broken file it mends is changed, one it breaks or leaves broken is put
    back and told of, and so is one that it passes over though it is broken."""
    files = {
        "sound.py": "print(1)\n", "broken.py": "def f(:\n    print(1)\n", "two.py": "print 1\n", "passed.py": "def g(:\n",
        "odd.txt": "print(\n", "a.c": "EXTERN f(int a) attr((x));\nint b(void) { print(1); }\n",
    }  # fmt: skip
    script = (
        "import sys, pathlib\nfor name in sys.argv[1:]:\n    p = pathlib.Path(name); t = p.read_text()\n"
        "    p.write_text(t.replace('print(1)', 'log(1').replace('print 1', 'print(1)').replace('print(\\n', 'log(\\n'))\n"
    )
    repo.commit({**files, "tool.txt": script})
    task = Task("t", "service", writes=tuple(files), exec=(sys.executable, "tool.txt", "{files}"))
    report = await _run(repo, [task])
    states = {path: (row["state"], row.get("why", "")) for path, row in report.tasks["t"].result["files"].items()}
    assert {path: state for path, (state, _) in states.items()} == {
        "sound.py": "failed", "broken.py": "failed", "two.py": "changed", "passed.py": "skipped", "odd.txt": "changed",
        "a.c": "failed",
    }  # fmt: skip
    assert "broke it" in states["sound.py"][1]
    assert "was and is broken" in states["broken.py"][1]
    assert "does not parse" in states["passed.py"][1]
    assert repo.show(report.commit or "", "sound.py") == b"print(1)\n"
    assert repo.show(report.commit or "", "two.py") == b"print(1)\n"


@pytest.mark.parametrize("files", ["{file}", "{files}"])
async def test_a_commands_passes_go_on_until_nothing_changes(repo: Repo, files: str) -> None:
    """One pass tells how many files another would change and changes none of them; `fixpoint` goes on, in batches too; a file that
    fails in a later pass is put back to where it began."""
    script = (
        "import sys, pathlib\nfor name in sys.argv[1:]:\n    p = pathlib.Path(name); t = p.read_text()\n"
        "    if t.startswith('ab'): sys.exit(1)\n    p.write_text(t.replace('a', '', 1))\n"
    )
    repo.commit({"x.txt": "aaa", "y.txt": "a", "z.txt": "aab", "n.txt": "", "tool": script})
    for passes, contents, more, failed in ((1, ("aa", "", "ab"), 1, 0), (0, ("", "", "aab"), 0, 1)):
        task = Task("t", "service", writes=("*.txt",), exec=(sys.executable, "tool", files), passes=passes)
        async with (
            Ways(2, str(repo.path), look_ahead=True) as ways,
            Runtime(ways.equip(BUILTIN), repo=repo.path, backoff_s=0.01) as rt,
        ):
            report = await rt.run(Plan([task]))
        result = report.tasks["t"].result
        assert result.get("more", 0) == more
        assert sum(row["state"] == "failed" for row in result["files"].values()) == failed
        found = tuple(repo.show(report.commit or "", name).decode() for name in ("x.txt", "y.txt", "z.txt"))
        assert found == contents


async def test_a_command_obeys_containing_and_takes_any_name(repo: Repo) -> None:
    """Files without the text are not given to it; a name that is not UTF-8 reaches it with its own bytes."""
    name = os.fsdecode(b"by\xfftes.txt")
    repo.commit({name: "yes\n", "b.txt": "no\n", "spa ce.txt": "yes\n"})
    script = "import os, sys; [open(os.fsencode(one), 'a').write('touched') for one in sys.argv[1:]]"
    task = Task("t", "service", writes=("*.txt",), exec=(sys.executable, "-c", script, "{files}"), containing="yes")
    report = await _run(repo, [task])
    states = sorted(row["state"] for row in report.tasks["t"].result["files"].values())
    assert states == ["changed", "changed", "unchanged"]
    assert repo.show(report.commit or "", name) == b"yes\ntouched"


async def test_commands_that_stray_or_are_missing_fail(repo: Repo) -> None:
    """A program that writes outside the claims is refused with the paths; one that does not exist is named."""
    repo.commit({"a.txt": "a", "b.txt": "b"})
    stray = Task("stray", "service", writes=("a.txt",), exec=(sys.executable, "-c", "open('b.txt', 'w').write('x')"))
    gone = Task("gone", "service", writes=("b.txt",), exec=("no-such-program", "{file}"))
    report = await _run(repo, [stray, gone])
    assert "outside its claims" in (report.tasks["stray"].error or "")
    assert "b.txt" in (report.tasks["stray"].error or "")
    assert "no such program" in (report.tasks["gone"].error or "")
    assert report.commit == report.base


async def test_no_child_outlives_a_cancelled_command(repo: Repo) -> None:
    """A program that is stopped takes the children it left in the background with it."""
    repo.commit({"a.txt": "a"})
    mark = repo.path.parent / "pid"
    code = (
        "import subprocess, sys, pathlib, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        f"pathlib.Path({str(mark)!r}).write_text(str(p.pid)); time.sleep(60)"
    )
    task = Task("t", "service", writes=("a.txt",), exec=(sys.executable, "-c", code), timeout_s=2.0, attempts=1)
    report = await _run(repo, [task])
    assert "longer than 2 s" in (report.tasks["t"].error or "")
    pid = int(mark.read_text())
    with trio.fail_after(5):
        while _alive(pid):
            await trio.lowlevel.checkpoint()


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_rewrite_through_the_runtime_is_the_same_with_any_number_of_instances(repo: Repo) -> None:
    """One, two and eight instances give the same tree."""
    repo.commit({f"p{number}.py": f"print({number})\n" for number in range(12)})
    trees = set()
    for count in (1, 2, 8):
        tasks = [
            Task(f"t{n}", "service", writes=(f"p{n}.py",), rewrite=Rewrite("print($A)", "log($A)", "python"))
            for n in range(12)
        ]
        report = await _run(repo, tasks, max_instances=count)
        trees.add(repo.git("rev-parse", f"{report.commit}^{{tree}}"))
    assert len(trees) == 1


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("src/components/Card.tsx", "interface"), ("api/users.py", "service"), ("tests/test_users.py", "test"),
        ("src/Card.test.tsx", "test"), ("lib/x_test.go", "test"), ("styles/a.css", "interface"), ("Makefile", "service"),
    ],
)  # fmt: skip
def test_specialists_are_chosen_by_path(path: str, name: str) -> None:
    """Tests before the interface before services."""
    assert by_path(path) == name
