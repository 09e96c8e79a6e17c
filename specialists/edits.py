"""One file at a time, bytes in and bytes out: ast-grep rewrites, LibCST codemods and functions of the user's own.

Pure of processes and workspaces; it runs inside a worker. Every edit is decoded and parsed before and after, where the language is
known: a file that is broken or oddly encoded is told of and left alone, never passed over and never edited blindly.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import re
import time
import tokenize
import warnings
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

import attrs
from ast_grep_py import SgNode, SgRoot

from runtime.core.task import FIXPOINT, MAX_PASSES
from runtime.errors import BadInput

from .outcome import State
from .own import Code, file_in, imported, located, look_for, signature_of

Edit = Callable[[bytes], bytes | None]
"""A file's bytes to its new ones; None means no change. Raises Skipped or Broken."""

_SHIPPED: Final = "libcst.codemod.commands"
_AHEAD_FREE_S: Final = 0.5
_AHEAD_SHARE: Final = 0.02
# The endings ast-grep itself goes by, by language: https://ast-grep.github.io/reference/languages.html
EXTENSIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "bash": ("bash", "bats", "cgi", "command", "env", "fcgi", "ksh", "sh", "tmux", "tool", "zsh"),
    "c": ("c", "h"),
    "cpp": ("cc", "hpp", "cpp", "c++", "hh", "cxx", "cu", "ino"),
    "csharp": ("cs",),
    "css": ("css", "scss"),
    "elixir": ("ex", "exs"),
    "go": ("go",),
    "haskell": ("hs",),
    "hcl": ("hcl", "nomad", "tf", "tfvars", "workflow"),
    "html": ("html", "htm", "xhtml"),
    "java": ("java",),
    "javascript": ("cjs", "js", "mjs", "jsx"),
    "json": ("json",),
    "kotlin": ("kt", "ktm", "kts"),
    "lua": ("lua",),
    "nix": ("nix",),
    "php": ("php",),
    "python": ("py", "py3", "pyi", "bzl"),
    "ruby": ("rb", "rbw", "gemspec"),
    "rust": ("rs",),
    "scala": ("scala", "sc", "sbt"),
    "solidity": ("sol",),
    "swift": ("swift",),
    "tsx": ("tsx",),
    "typescript": ("ts", "cts", "mts"),
    "yaml": ("yaml", "yml"),
}

_VARIABLE: Final = re.compile(r"\$\$\$([A-Z_][A-Z0-9_]*)|\$([A-Z_][A-Z0-9_]*)")
_ANY_VARIABLE: Final = re.compile(r"\$\$\$[A-Z_0-9]*|\$\$?[A-Z_][A-Z0-9_]*")
_WORD: Final = re.compile(r"[^\W\d]\w*")
_EMPTY_BODIES: Final = ("text", "content", "body")  # kinds that may well be empty: raw_text, heredoc_body, ...
_LOOK_BACK: Final = 512  # characters; as far as ast-grep looks for the start of a line
_GENERATED: Final = "@" + "generated"  # LibCST's mark for files that codemods leave alone


class Skipped(Exception):
    """The file is not for this edit; the message says why."""


class Broken(Exception):
    """The file could not be edited; the message says why. It is left alone."""


# --- parsing before and after ----------------------------------------------------------------------------------


class Damage(NamedTuple):
    """What a tolerant parser could not make sense of: ERROR nodes, the lines they span, tokens it had to think up (MISSING)."""

    errors: int = 0
    lines: int = 0
    missing: int = 0
    first_line: int = 0  # 0: none


def parse_problem(path: str, data: bytes, language: str | None) -> str | None:
    """Why the bytes are not a file of the language that can be edited, or None. Python must compile; of other languages only the
    encoding is looked at, as sound C headers, style sheets and templates have parts that their grammars do not know."""
    if language is None:
        return None
    if language == "python":
        return _python_problem(path, data)
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return f"not valid UTF-8 (byte {error.start})"
    return None


def edit_problem(path: str, before: bytes, after: bytes, language: str | None) -> str | None:
    """What an edit broke in a file that was sound (`parse_problem`), or None: a file may not parse worse than it did."""
    wrong = parse_problem(path, after, language)
    if wrong is not None or language is None or language == "python":
        return wrong
    new = damage(after.decode("utf-8-sig"), language)
    if not (new.errors or new.missing):
        return None
    old = damage(before.decode("utf-8-sig"), language)
    grown = max(0, after.count(b"\n") - before.count(b"\n"))
    if new.errors <= old.errors and new.missing <= old.missing and new.lines <= old.lines + grown:
        return None
    worse = ", worse than before" if old.errors or old.missing else ""
    return f"does not parse as {language}{worse}: line {new.first_line}"


def verdict(path: str, before: bytes, after: bytes, language: str | None) -> tuple[State, str]:
    """(state, why) of a file that somebody else's program has had: a repair of a broken file counts, and breaking a sound one is a
    failure. An unchanged file that is broken is told of: the program may have passed over it in silence."""
    broken = parse_problem(path, before, language)
    if after == before:
        return ("unchanged", "") if broken is None else ("skipped", broken)
    wrong = edit_problem(path, before, after, language)
    if wrong is None:
        return "changed", ""
    return (
        "failed",
        f"{'the edit broke it, so' if broken is None else 'it was and is broken, and'} it is left as it was: {wrong}",
    )


def _python_problem(path: str, data: bytes) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the file's own warnings are its author's business
            compile(data, path, "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
    except SyntaxError as error:
        return f"does not parse: {error.msg}" + (f", line {error.lineno}" if error.lineno else "")
    except (ValueError, RecursionError, MemoryError) as error:
        return f"does not parse: {error or type(error).__name__}"
    return None


def damage(text: str, language: str) -> Damage:
    """How badly a text parses. A MISSING node is a leaf without any text; empty bodies of strings and scripts are none."""
    root = SgRoot(text, language).root()
    spans = [node.range() for node in root.find_all(kind="ERROR")]
    missing = [
        node.range()
        for node in root.find_all({"rule": {"regex": "^$"}})
        if node.is_leaf() and node.parent() is not None and not node.kind().endswith(_EMPTY_BODIES)
    ]
    lines = {line for span in spans for line in range(span.start.line, span.end.line + 1)}
    first = min((span.start.line + 1 for span in (*spans, *missing)), default=0)
    return Damage(len(spans), len(lines), len(missing), first)


def language_of(path: str) -> str | None:
    """The language of a file's ending, or None."""
    ending = path.rpartition("/")[2].rpartition(".")[2].lower()
    return next((language for language, endings in EXTENSIONS.items() if ending in endings), None)


# --- rewrite ---------------------------------------------------------------------------------------------------


def needles(pattern: str) -> tuple[bytes, ...]:
    """Words that any match of an ast-grep pattern must have in it: a file without one need not be parsed. Only words that are the
    same bytes in every encoding that a file may have."""
    bare = _ANY_VARIABLE.sub(" ", pattern)
    return tuple(dict.fromkeys(word.encode() for word in _WORD.findall(bare) if word.isascii()))


def pattern_problem(pattern: str, language: str) -> str | None:
    """What may be wrong with a pattern that has matched nothing: alone it need not parse, but then it often matches less."""
    found = damage(_ANY_VARIABLE.sub("A", pattern), language)
    return f"the pattern {pattern!r} is no {language} by itself, so it may match nothing" if found.errors else None


def rewriter(path: str, pattern: str, replace: str, language: str) -> Edit:
    """The edit that `ast-grep run -p pattern -r replace -l language --update-all` makes."""

    def edit(data: bytes) -> bytes | None:
        if not any(path.lower().endswith(f".{ending}") for ending in EXTENSIONS[language]):
            raise Skipped(f"not a {language} file")
        encoding, text = _decode(data, language)
        new = rewrite_text(text, pattern, replace, language)
        return None if new == text else new.encode(encoding)

    return edit


def rewrite_text(text: str, pattern: str, replace: str, language: str) -> str:
    """All matches replaced, the outermost where they overlap."""
    parts: list[str] = []
    done = 0
    for match in SgRoot(text, language).root().find_all(pattern=pattern):
        span = match.range()
        start, end = span.start.index, span.end.index
        if start < done:
            continue
        parts += (text[done:start], _fill(text, match, replace, start))
        done = end
    return text if not parts else "".join((*parts, text[done:]))


def _decode(data: bytes, language: str) -> tuple[str, str]:
    """(encoding to write it back with, text). Raises Broken."""
    encoding = "utf-8"
    if language == "python":
        try:
            encoding = tokenize.detect_encoding(io.BytesIO(data).readline)[0]
        except (SyntaxError, LookupError) as error:
            raise Broken(f"not valid UTF-8, and no encoding that Python knows is declared ({error})") from None
    if encoding == "utf-8" and data.startswith(b"\xef\xbb\xbf"):
        encoding = "utf-8-sig"
    try:
        return encoding, data.decode(encoding)
    except UnicodeDecodeError as error:
        raise Broken(f"not valid {encoding.upper()} (byte {error.start})") from None


def _fill(text: str, match: SgNode, template: str, start: int) -> str:
    """The template with its variables filled in, its lines indented as ast-grep does: each captured text keeps its shape
    relative to where its variable stands, and the whole goes as deep as the line it replaces."""

    def value(found: re.Match[str]) -> str:
        several, single = found.groups()
        span = _span(match, several, single)
        if span is None:
            return ""
        captured = text[span[0] : span[1]]
        if "\n" not in captured:
            return captured
        return _shift(captured, _indent(template, found.start()) - _indent(text, span[0]))

    return _shift(_VARIABLE.sub(value, template), _indent(text, start))


def _span(match: SgNode, several: str | None, single: str | None) -> tuple[int, int] | None:
    if single is not None:
        node = match.get_match(single)
        return None if node is None else (node.range().start.index, node.range().end.index)
    assert several is not None
    nodes = match.get_multiple_matches(several)
    return (nodes[0].range().start.index, nodes[-1].range().end.index) if nodes else None


def _indent(text: str, at: int) -> int:
    """How many spaces the line around `at` begins with, as ast-grep counts them."""
    begin = max(0, at - _LOOK_BACK)
    line = text.rfind("\n", begin, at)
    if line < 0 and begin > 0:
        return 0
    head = text[line + 1 : at]
    return len(head) - len(head.lstrip(" "))


def _shift(text: str, by: int) -> str:
    """Every line but the first deeper by so many spaces, or less deep where it has that many."""
    if not by or "\n" not in text:
        return text
    first, *rest = text.split("\n")
    if by > 0:
        return "\n".join((first, *(" " * by + line for line in rest)))
    return "\n".join((first, *(line.removeprefix(" " * -by) for line in rest)))


def known_languages() -> tuple[str, ...]:
    """The languages a rewrite can name."""
    return tuple(EXTENSIONS)


# --- codemod ---------------------------------------------------------------------------------------------------


def find_codemod(name: str, code: Code) -> Any:
    """The codemod of a name, loaded: `module.Class` of LibCST's own commands or of anything importable, or `file.py:name` below the
    root of `code`. Raises BadInput with what there is instead."""
    place, attribute = _placed(name, code.root)
    return _checked(name, place, code.load(place), attribute)


def _checked(name: str, place: str, module: ModuleType, attribute: str) -> Any:
    found = getattr(module, attribute, None)
    if found is None:
        raise BadInput(f"there is no {attribute!r} in {place}")
    if not callable(found):
        raise BadInput(f"{name}: it is neither a LibCST command nor a function (path, bytes)")
    return found


def _placed(name: str, root: Path) -> tuple[str, str]:
    """(module or file, what is meant in it). Raises BadInput."""
    if ":" in name:
        file, _, attribute = name.rpartition(":")
        file_in(root, file)
        return file, attribute
    module, _, attribute = name.rpartition(".")
    if not module:
        raise BadInput(f"{name!r} is no codemod; write module.Class, or file.py:name")
    for place in (f"{_SHIPPED}.{module}", module):
        if located(place, root) is not None:
            return place, attribute
    # LibCST has renamed modules, never commands: a command of its own is found by its class alone.
    same = [one for one in shipped_codemods() if one.endswith(f".{attribute}")]
    if len(same) == 1:
        return _placed(same[0], root)
    close = get_close_matches(name, shipped_codemods(), 3, 0.4)
    hint = f"did you mean {' or '.join(close)}?" if close else "LibCST's own are listed by: python -m libcst.tool list"
    raise BadInput(f"there is no codemod {name!r}; {hint}")


class Call(NamedTuple):
    """How a codemod is called: what it takes (None: that cannot be told), and how many of these are ours to give."""

    takes: inspect.Signature | None
    ours: int


def look_for_codemod(name: str, root: Path) -> Call:
    """How the codemod of a name is called, as far as can be told without executing any code but LibCST's. Raises BadInput where there
    is none."""
    place, attribute = _placed(name, root)
    if place.startswith(f"{_SHIPPED}."):
        return Call(inspect.signature(_checked(name, place, imported(place), attribute)), 1)
    found = look_for(place, attribute, root)
    return Call(None if found is None else signature_of(found), 1 if isinstance(found, ast.ClassDef) else 2)


def arguments_problem(call: Call, arguments: Mapping[str, Any]) -> str | None:
    """Why a codemod cannot be called with these arguments, as far as its signature tells, or None."""
    try:
        if call.takes is not None:
            call.takes.bind(*(None,) * call.ours, **arguments)
    except TypeError as error:
        return f"args: {error}"
    return None


@lru_cache(maxsize=1)
def shipped_codemods() -> tuple[str, ...]:
    """The names of LibCST's own commands."""
    import libcst.codemod.commands as commands

    found = []
    for file in sorted(Path(next(iter(commands.__path__))).glob("*.py")):
        for name in re.findall(r"^class (\w+)\(.*Codemod", file.read_text(), re.MULTILINE):
            found.append(f"{file.stem}.{name}")
    return tuple(found)


def codemodder(path: str, found: Any, arguments: Mapping[str, Any], root: str) -> Edit:
    """The edit that a codemod (`find_codemod`) makes: for a LibCST command the very bytes its own tool writes without a formatter."""
    if inspect.isclass(found):
        return _libcst_edit(path, found, arguments, root)

    def edit(data: bytes) -> bytes | None:
        new: bytes | None = found(path, data, **arguments)
        if new is not None and not isinstance(new, bytes):
            raise Broken(f"the codemod gave {type(new).__name__}, not bytes or None")
        return None if new == data else new

    return edit


def _libcst_edit(path: str, command: Any, arguments: Mapping[str, Any], root: str) -> Edit:
    # Imported here: it takes a quarter of a second, which a rewrite need not wait for.
    import libcst
    from libcst.codemod import Codemod as CodemodCommand
    from libcst.codemod import CodemodContext, SkipFile
    from libcst.helpers import calculate_module_and_package

    if not issubclass(command, CodemodCommand):
        raise BadInput(f"{command.__name__} is a class, but no LibCST command")
    where = str(Path(root, path))

    def edit(data: bytes) -> bytes | None:
        if _GENERATED.encode() in data:
            raise Skipped("it is generated")
        try:
            tree = libcst.parse_module(data)
        except libcst.ParserSyntaxError as error:
            raise Broken(f"does not parse: {error.message}, line {error.raw_line}") from None
        except (UnicodeDecodeError, SyntaxError, LookupError) as error:
            raise Broken(f"its encoding cannot be told: {error}") from None
        names = calculate_module_and_package(root, where)
        context = CodemodContext(filename=where, full_module_name=names.name, full_package_name=names.package)
        try:
            codemod = command(context, **arguments)
            # One that goes on until nothing changes compares whole trees, which also tells their classes apart.
            new = codemod.transform_module(tree if codemod.should_allow_multiple_passes() else _parsed(tree)).bytes
        except SkipFile as error:
            raise Skipped(str(error) or "the codemod skips it") from None
        return None if new == data else new

    return edit


@lru_cache(maxsize=1)
def _parsed_module() -> Any:
    import libcst

    class Module(libcst.Module):  # of the same name: a visitor finds its methods by it
        def deep_clone(self) -> Any:
            return self if "_parsed" in vars(self) else super().deep_clone()

    return Module


def _parsed(tree: Any) -> Any:
    """The same tree, but copied only once it has been changed.

    A command copies its tree before it looks at it, so that no node is there twice: a sixth of its time. What comes from the parser
    has none twice (LibCST's documentation of `MetadataWrapper`, `unsafe_skip_copy`). A changed tree is another object, copied as ever.
    """
    module = _parsed_module()(**{field.name: getattr(tree, field.name) for field in dataclasses.fields(tree)})
    object.__setattr__(module, "_parsed", True)  # a node is frozen
    return module


# --- passes ----------------------------------------------------------------------------------------------------


@attrs.define
class Ahead:
    """What looking ahead may take: for whole files of a cheap edit it is nothing, for all of a slow codemod's it would be as much
    again as the work itself. So it is free for a while, and a fiftieth of the time of the edits from then on. Times in seconds."""

    edited_s: float = 0.0
    looked_s: float = 0.0

    def look(self, edit: Edit, data: bytes, took_s: float) -> bool:
        """Whether one more pass would change this; not known, so False, where a pass that takes `took_s` is beyond it."""
        if self.looked_s + took_s > _AHEAD_FREE_S + self.edited_s * _AHEAD_SHARE:
            return False
        began = time.perf_counter()
        more = edit(data) is not None
        self.looked_s += time.perf_counter() - began
        return more


def apply(
    path: str, data: bytes, edit: Edit, language: str | None, passes: int, *, ahead: Ahead | None = None
) -> tuple[State, str, bytes | None, bool]:
    """(state, why, new bytes, whether another pass would change more) of one file.

    `passes` edits, or with `FIXPOINT` as many as change something, ten at most. With `ahead` it finds out about one more
    where the last pass changed something, as far as that may take its time.
    """
    try:
        new, more = _passes(data, edit, passes, ahead)
    except Skipped as error:
        return "skipped", str(error), None, False
    except Broken as error:
        return "failed", str(error), None, False
    except Exception as error:
        before = parse_problem(path, data, language)
        return "failed", before or f"{type(error).__name__}: {error}", None, False
    state, why = verdict(path, data, new, language)
    if state == "changed":  # by an edit of ours, which saw the whole file: it does not repair what it could not read
        why = parse_problem(path, data, language) or ""
        state = "failed" if why else "changed"
    return (state, why, new, more) if state == "changed" else (state, why, None, False)


def _passes(data: bytes, edit: Edit, passes: int, ahead: Ahead | None) -> tuple[bytes, bool]:
    took_s = 0.0
    for _ in range(MAX_PASSES if passes == FIXPOINT else passes):
        began = time.perf_counter()
        new = edit(data)
        took_s = time.perf_counter() - began
        if ahead is not None:
            ahead.edited_s += took_s
        if new is None:
            return data, False
        data = new
    return data, ahead is not None and ahead.look(edit, data, took_s)
