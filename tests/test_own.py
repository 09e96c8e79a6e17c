"""Code of a project's own: found without being executed, and loaded for one run of one repository, whatever others have."""

from __future__ import annotations

import ast
import gc
import inspect
import json
import sys
import threading
import types
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import BadInput
from specialists.own import Code, file_in, located, look_for, signature_of


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture
def codes() -> Iterator[Any]:
    """Makes a repository's `Code`, and closes it at the end."""
    made: list[Code] = []

    def make(root: Path) -> Code:
        made.append(Code(root))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("place", ["myh", "myh.py", "pack.myh"])
def test_repositories_do_not_get_each_others_modules_nor_old_ones(tmp_path: Path, codes: Any, place: str) -> None:
    """Of one name, each repository has its own module and helpers, as they are at the time: also when only one letter was changed, in the
    same second. What was loaded before stays as it was, nothing stays under its plain name, and nothing is written."""
    names = {"myh.py", "pack/__init__.py", "pack/myh.py", "helperino.py"}
    text = "import helperino\n\ndef work():\n    return helperino.WORD\n"
    roots = []
    for word in ("a", "b"):
        files = {name: text if "myh" in name else "" for name in names}
        roots.append(_write(tmp_path / word, {**files, "helperino.py": f"WORD = {word!r}\n"}))
    first, second = (codes(root).load(place) for root in roots)
    assert (first.work(), second.work()) == ("a", "b")
    _write(roots[0], {"helperino.py": "WORD = 'c'\n"})
    assert codes(roots[0]).load(place).work() == "c"
    assert (first.work(), second.work()) == ("a", "b")
    assert not {"myh", "pack", "pack.myh", "helperino"} & sys.modules.keys()
    assert {str(path.relative_to(roots[0])) for path in roots[0].rglob("*") if path.is_file()} == names


def test_imports_inside_functions_are_the_repositorys_too(tmp_path: Path, codes: Any) -> None:
    """However it is written, an import that is reached at run time finds the repository's module, once, in any thread."""
    text = (
        "def work():\n    import late\n    import pack.deep as deep\n    import pack.deep\n    from pack import deep as again\n"
        "    from pack.near import near\n    assert pack.deep is deep is again and near() is deep\n    return late.WORD + deep.WORD\n"
    )
    packed = {
        "pack/deep.py": "WORD = 'deep'\n",
        "pack/near.py": "def near():\n    from . import deep\n    return deep\n",
    }
    root = _write(tmp_path, {"main.py": text, "late.py": "WORD = 'late '\n", **packed})
    module = codes(root).load("main.py")
    told: list[str] = []
    threads = [threading.Thread(target=lambda: told.append(module.work())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == ["late deep"] * 4


def test_two_loadings_at_the_same_time_do_not_mix(tmp_path: Path, codes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that are both in the middle of a module have the modules of their own repositories."""
    meeting: Any = types.ModuleType("meeting")
    meeting.barrier = threading.Barrier(2, timeout=30)
    monkeypatch.setitem(sys.modules, "meeting", meeting)
    text = "import meeting\nmeeting.barrier.wait()\nimport helperino\nmeeting.barrier.wait()\nWORD = helperino.WORD\n"
    told: dict[str, str] = {}

    def load(word: str) -> None:
        root = _write(tmp_path / word, {"main.py": text, "helperino.py": f"WORD = {word!r}\n"})
        told[word] = codes(root).load("main").WORD

    threads = [threading.Thread(target=load, args=(word,)) for word in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == {"a": "a", "b": "b"}


def test_what_is_installed_is_not_shadowed(tmp_path: Path, codes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of an installed module's name is not taken in its place, whether that is in use already or not; one of a name that only
    the folder of this process has is, as that folder is no place of installed modules."""
    (tmp_path / "here").mkdir()
    _write(tmp_path / "here", {"mine.py": "WORD = 'of another repository'\n"})
    _write(tmp_path / "there", {"fluent.py": "WORD = 'installed'\n"})
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend(tmp_path / "there")
    monkeypatch.syspath_prepend(tmp_path / "here")
    names = ("json", "fluent", "mine")
    files = {f"{name}.py": "WORD = 'of the repository'\n" for name in names}
    root = _write(tmp_path / "root", {**files, "main.py": "import fluent, json, mine\n"})
    main = codes(root).load("main")
    assert main.json is json
    assert [main.fluent.WORD, main.mine.WORD] == ["installed", "of the repository"]
    del sys.modules["fluent"]


def test_a_module_is_as_complete_as_any(tmp_path: Path, codes: Any) -> None:
    """What looks a class's module up by its name finds it: data classes whose annotations are texts, and pickles."""
    text = (
        "from __future__ import annotations\nimport dataclasses, pickle\n\n@dataclasses.dataclass\nclass Row:\n    at: int\n\n"
        "def again():\n    return pickle.loads(pickle.dumps(Row(3))) == Row(3)\n"
    )
    assert codes(_write(tmp_path, {"tools/rows.py": text})).load("tools/rows.py").again()


def test_nothing_stays_of_a_run_that_has_ended(tmp_path: Path) -> None:
    """A daemon that loads code for months holds only what is in use."""
    root = _write(tmp_path, {"main.py": "import other\n", "other.py": "import main\n"})
    before = set(sys.modules)
    code = Code(root)
    module = weakref.ref(code.load("main"))
    assert module() is not None
    code.close()
    del code
    gc.collect()
    assert module() is None
    assert set(sys.modules) == before


def test_what_cannot_be_loaded_is_told(tmp_path: Path, codes: Any) -> None:
    """In the words of the one error there is, whatever the module did; and it can be mended."""
    root = _write(tmp_path, {"leaves.py": "raise SystemExit(1)\n", "lacks.py": "import no_such_thing\n"})
    code = codes(root)
    for place, words in (
        ("leaves.py", "leaves.py cannot be imported: SystemExit: 1"),
        ("lacks", "lacks cannot be imported: ModuleNotFoundError: No module named 'no_such_thing'"),
        ("gone.py", "there is no file gone.py"),
        ("gone", "there is no module gone"),
    ):
        with pytest.raises(BadInput, match=words):
            code.load(place)
    _write(root, {"lacks.py": "WORD = 1\n"})
    assert code.load("lacks").WORD == 1


@pytest.mark.parametrize(
    "name", ["../evil.py", "sub/../../evil.py", "{}/evil.py", "{}/repo/ok.py", "link.py", "out/evil.py"]
)
def test_a_file_elsewhere_is_refused(tmp_path: Path, codes: Any, name: str) -> None:
    """By `..`, as an absolute path, or through a link to a file or a folder: it is not executed, and the error says what to do."""
    marker = tmp_path / "executed"
    evil = f"open({str(marker)!r}, 'w').close()\ndef f(path, data): ...\n"
    _write(tmp_path, {"evil.py": evil, "repo/ok.py": evil, "repo/sub/x.py": ""})
    root = tmp_path / "repo"
    (root / "link.py").symlink_to(tmp_path / "evil.py")
    (root / "out").symlink_to(tmp_path)
    name = name.format(tmp_path)
    for ask in (lambda: file_in(root, name), lambda: look_for(name, "f", root), lambda: codes(root).load(name)):
        with pytest.raises(BadInput, match="is outside the repository; name a file inside it by its path from the top"):
            ask()
    assert not marker.exists()


def test_a_module_elsewhere_is_refused(tmp_path: Path, codes: Any) -> None:
    """A link out of the repository does not make a module its own; one inside it is fine, and so is `..` that stays inside."""
    _write(tmp_path, {"evil.py": "def f(): ...\n", "repo/sub/x.py": "def f(): ...\n"})
    root = tmp_path / "repo"
    (root / "link.py").symlink_to(tmp_path / "evil.py")
    (root / "inner").symlink_to(root / "sub")
    for ask in (lambda: located("link", root), lambda: codes(root).load("link")):
        with pytest.raises(BadInput, match="link is outside the repository"):
            ask()
    assert codes(root).load("inner.x").f() is None
    assert codes(root).load("sub/../sub/x.py").f() is None


MODULE = """
import this_is_not_there
from elsewhere import borrowed as lent, other
raise SystemExit("executed")

async def work(brief, workspace): ...
def plain(path, data, *rest, word="x", must): ...
class Made:
    def __init__(self, context, size=3): ...
class Bare: ...
@lent
def wrapped(): ...
if other:
    async def either(): ...
else:
    async def either(): ...
try:
    one, (two, [three]) = 1, (2, [3])
except ValueError as error:
    pass
with open("x") as file:
    values = [each for each in file]
"""


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("work", ast.AsyncFunctionDef), ("plain", ast.FunctionDef), ("Made", ast.ClassDef), ("Bare", ast.ClassDef),
        *((name, type(None)) for name in ("lent", "other", "wrapped", "either", "one", "two", "three", "file", "values")),
        *((name, None) for name in ("each", "borrowed", "elsewhere", "context", "gone", "")),
    ],
)  # fmt: skip
def test_a_name_is_looked_for_without_executing_anything(tmp_path: Path, name: str, found: Any) -> None:
    """A definition is found where there is one, something unknown where it is bound in another way, and else an error; in a file and
    in a module, none of whose packages is executed."""
    _write(tmp_path, {"tools/mods.py": MODULE, "tools/__init__.py": "raise SystemExit('executed')\n"})
    for place in ("tools/mods.py", "tools.mods"):
        if found is None:
            with pytest.raises(BadInput, match=f"there is no {name!r} in {place}"):
                look_for(place, name, tmp_path)
        else:
            assert isinstance(look_for(place, name, tmp_path), found)


def test_what_a_definition_takes_is_read_from_it(tmp_path: Path, codes: Any) -> None:
    """As `inspect.signature` would tell it of what is loaded."""
    text = (
        "def f(a, b=1, /, c=2, *d, e, g=3, **h): ...\nclass F:\n    def __init__(self, a, *, b=1): ...\nclass G: ...\n"
    )
    module = codes(_write(tmp_path, {"m.py": text})).load("m")
    for name in ("f", "F"):
        definition = look_for("m", name, tmp_path)
        assert definition is not None
        told = signature_of(definition)
        real = inspect.signature(getattr(module, name))
        assert told is not None
        assert [(one.name, one.kind, one.default is one.empty) for one in told.parameters.values()] == [
            (one.name, one.kind, one.default is one.empty) for one in real.parameters.values()
        ]
    bare = look_for("m", "G", tmp_path)
    assert bare is not None
    assert signature_of(bare) is None


@pytest.mark.parametrize("data", [b"def f(:\n", b"x = '\xff'\n", b"\0", b"(" * 5000])
def test_a_file_that_is_no_python_is_told(tmp_path: Path, data: bytes) -> None:
    """As an import of it would be."""
    (tmp_path / "m.py").write_bytes(data)
    for place in ("m.py", "m"):
        with pytest.raises(BadInput, match=f"{place} cannot be imported: "):
            look_for(place, "f", tmp_path)
