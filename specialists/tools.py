"""The tools a model may call: files of one attempt's workspace behind the gate of its claims, checks by name, and a way to say no.

Names and fields are those of the SDK's `agent_toolset` (read, write, edit, glob, grep); its functions need a folder on disk, ours work
on the workspace, which may be in memory. Knows no API: a tool takes what the model sent, checked, and gives text or ToolError.
"""

from __future__ import annotations

import fnmatch
import re
import tomllib
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import cache
from typing import Annotated, Any, Final

import attrs
import msgspec

from runtime import secrets
from runtime.claims import problem_with
from runtime.conversation import Conversation
from runtime.core.changes import MODE_LINK, MODE_SUBMODULE
from runtime.errors import ClaimViolation
from runtime.workspace import Brief, Workspace

_NO_SEARCH: Final = "fatal: "  # how git begins when it cannot search; a hit begins with its path and a line's number
READ_LIMIT: Final = 256 * 1024  # characters of a file that a model is given at once
RESULTS_LIMIT: Final = 200
OUTPUT_LIMIT: Final = 12_000  # characters of a check's output that a model is shown

PROTECTED: Final = (
    # hooks, of git and of whoever comes into a folder
    ".git*",
    ".husky",
    ".hooks",
    ".pre-commit-config.yaml",
    ".pre-commit-hooks.yaml",
    "lefthook*.y*ml",
    ".overcommit.yml",
    ".simple-git-hooks.*",
    ".lintstagedrc*",
    ".trunk",
    ".envrc",
    ".direnv",
    # CI (.gitlab-ci.yml is above)
    ".ci",
    ".circleci",
    ".buildkite",
    ".semaphore",
    ".teamcity",
    ".tekton",
    ".builds",
    ".build.yml",
    ".travis.yml",
    ".drone.yml",
    ".cirrus.yml",
    ".woodpecker*",
    ".appveyor.yml",
    "appveyor.yml",
    "azure-pipelines*.y*ml",
    "bitbucket-pipelines.y*ml",
    "bitrise.yml",
    "buildspec.y*ml",
    "cloudbuild.y*ml",
    "codefresh.yml",
    "jenkinsfile*",
    # editors
    ".devcontainer",
    ".vscode",
    "*.code-workspace",
    ".vs",
    ".idea",
    ".run",
    ".fleet",
    ".zed",
    "*.sublime-project",
    ".dir-locals.el",
    ".exrc",
    ".vimrc",
    ".nvim.lua",
    ".editorconfig",
    # agents, ours among them
    ".claude*",
    ".cursor*",
    ".codex",
    ".aider*",
    ".gemini",
    ".windsurf*",
    ".clinerules*",
    ".roo",
    ".kiro",
    ".junie",
    ".continue",
    ".amazonq",
    ".goosehints",
    ".opencode",
    "opencode.json",
    ".crush.json",
    ".mcp.json",
    "mcp.json",
    "claude*.md",
    "agents*.md",
    "gemini.md",
    "journeyman.toml",
)
"""Names that no model changes unless a task claims the path by name: hooks, CI, settings of editors and of agents. A part of the path
that matches is enough, in any case."""

_PROTECTED: Final = re.compile("|".join(map(fnmatch.translate, PROTECTED)))

_Path = Annotated[str, msgspec.Meta(min_length=1, max_length=4096, description="relative to the repository, with /")]


class Read(msgspec.Struct, forbid_unknown_fields=True):
    """Read a file, or the lines [first, last] of it (from 1; -1 is the end)."""

    file_path: _Path
    view_range: tuple[int, int] | None = None


class Write(msgspec.Struct, forbid_unknown_fields=True):
    """Make a file, or replace one whole."""

    file_path: _Path
    content: str


class Edit(msgspec.Struct, forbid_unknown_fields=True):
    """Replace text in a file by exact match. Without replace_all, old_string must occur exactly once."""

    file_path: _Path
    old_string: str
    new_string: str
    replace_all: bool = False


class Delete(msgspec.Struct, forbid_unknown_fields=True):
    """Remove a file."""

    file_path: _Path


class Glob(msgspec.Struct, forbid_unknown_fields=True):
    """List files that match a glob; ** spans folders."""

    pattern: str
    path: str = ""


class Grep(msgspec.Struct, forbid_unknown_fields=True):
    """Search the files for a regular expression (extended syntax); optionally below one file or folder."""

    pattern: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
    path: str = ""


class RunCheck(msgspec.Struct, forbid_unknown_fields=True):
    """Run one of the checks that your task lists, by its whole name, on the files as they are now. No other command can be run."""

    name: str


class RequestFile(msgspec.Struct, forbid_unknown_fields=True):
    """Ask for a file that belongs to another task: you get it at once, or after a wait, or your wish is handed to its owner."""

    path: _Path
    why: Annotated[
        str, msgspec.Meta(min_length=1, max_length=4000, description="what should be changed in it, and why")
    ]


class NothingToDo(msgspec.Struct, forbid_unknown_fields=True):
    """Say that your task needs no change, and why. End your turn after it."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=4000)]


KINDS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "read": Read,
    "write": Write,
    "edit": Edit,
    "delete": Delete,
    "glob": Glob,
    "grep": Grep,
    "run_check": RunCheck,
    "request_file": RequestFile,
    "nothing_to_do": NothingToDo,
}


class ToolError(Exception):
    """The call could not be done; the words are for the model."""


class MalformedInput(ToolError):
    """The input is none that the tool can take."""


@cache
def definitions(names: frozenset[str]) -> tuple[dict[str, Any], ...]:
    """The tools as the API takes them, always in the same order: they are the beginning of every prompt."""
    return tuple(
        {"name": name, "description": " ".join((kind.__doc__ or "").split()), "input_schema": _schema(kind)}
        for name, kind in KINDS.items()
        if name in names
    )


def _schema(kind: type[msgspec.Struct]) -> dict[str, Any]:
    _, components = msgspec.json.schema_components([kind])
    schema = dict(components[kind.__name__])
    schema.pop("title", None)
    schema.pop("description", None)
    return schema


def offered(allowed: Collection[str] | None) -> frozenset[str]:
    """The names of the tools for a specialist: all, or those it is allowed; the last word is always its own to say."""
    return frozenset(KINDS) if allowed is None else frozenset(allowed) & frozenset(KINDS) | {"nothing_to_do"}


def is_protected(path: str) -> bool:
    """Whether a path has a part that no model changes unasked."""
    return any(_PROTECTED.match(part) for part in path.lower().split("/"))


def _own_settings(text: str) -> object:
    """What a pyproject.toml sets for us, read as `runtime.config` does. Raises ValueError or RecursionError where it is no TOML."""
    tools = tomllib.loads(text.removeprefix("\ufeff")).get("tool")
    return tools.get("journeyman") if isinstance(tools, dict) else None


@attrs.define
class Desk:
    """One attempt's tools. `nothing` is why there is nothing to do, once the model said so; `touched` counts changes; what is `secret`
    is cut nowhere, so that whoever tells a tool's answer finds it whole."""

    brief: Brief
    workspace: Workspace
    conversation: Conversation
    names: frozenset[str]
    secret: tuple[str, ...] = attrs.field(default=(), kw_only=True, repr=False)
    nothing: str = ""
    touched: int = 0
    wishes: list[str] = attrs.field(factory=list)

    async def call(self, name: str, given: object) -> str:
        """Do one call. Raises ToolError with words for the model."""
        kind = KINDS.get(name)
        if kind is None or name not in self.names:
            raise MalformedInput(
                f"there is no tool {name!r}; there are: {', '.join(n for n in KINDS if n in self.names)}"
            )
        try:
            asked = msgspec.convert(given, kind)
        except msgspec.ValidationError as error:
            raise MalformedInput(f"{name}: {error}") from None
        act: Callable[[Any], Awaitable[str]] = getattr(self, f"_{name}")
        return await act(asked)

    def recall(self, name: str, given: Mapping[str, Any], said: str) -> None:
        """Be as after a call that an earlier process did: the workspace has what it changed, here is the rest."""
        if name == "nothing_to_do":
            self.nothing = str(given.get("reason", ""))
        elif name in ("write", "edit"):
            self.nothing = ""
        elif found := _HANDED_OVER.search(said):
            self.wishes.append(found[1])

    # --- looking -----------------------------------------------------------------------------------------------

    async def _read(self, asked: Read) -> str:
        path = self._path(asked.file_path)
        text = self._text(path)
        if asked.view_range is not None:
            first, last = asked.view_range
            lines = text.split("\n")
            there = lines[max(0, first - 1) : last if last > 0 else len(lines)]
            if not there:
                raise ToolError(f"{path} has {len(lines)} lines; there are none from {first} to {last}")
            text = "\n".join(there)
            if len(text) > READ_LIMIT:
                raise ToolError(
                    f"these lines of {path} have {len(text)} characters; read fewer, or find what you need with grep"
                )
        if len(text) > READ_LIMIT:
            count = text.count("\n") + 1
            raise ToolError(f"{path} has {len(text)} characters in {count} lines; read it in parts with view_range")
        return text

    async def _glob(self, asked: Glob) -> str:
        pattern = f"{asked.path.strip('/')}/{asked.pattern}" if asked.path.strip("/.") else asked.pattern
        found = self.workspace.list(pattern)
        more = f"\n({len(found) - RESULTS_LIMIT} more)" if len(found) > RESULTS_LIMIT else ""
        return "\n".join(found[:RESULTS_LIMIT]) + more if found else "no matches"

    async def _grep(self, asked: Grep) -> str:
        under = asked.path.strip("/")
        found = await self.conversation.search(self.workspace, asked.pattern, self._path(under) if under else "")
        if found.startswith(_NO_SEARCH):
            raise ToolError(found.removeprefix(_NO_SEARCH))
        return found or "no matches"

    def _text(self, path: str) -> str:
        if self.workspace.mode(path) in (MODE_LINK, MODE_SUBMODULE):
            raise ToolError(f"{path} is a symbolic link or a submodule")
        try:
            return self.workspace.read_text(path)
        except FileNotFoundError:
            raise ToolError(f"there is no file {path}") from None
        except OSError:
            raise ToolError(f"{path} is a folder") from None
        except UnicodeDecodeError:
            raise ToolError(f"{path} is not UTF-8 text") from None

    # --- changing ----------------------------------------------------------------------------------------------

    async def _write(self, asked: Write) -> str:
        path = await self._own(asked.file_path)
        if self.workspace.mode(path) in (MODE_LINK, MODE_SUBMODULE):
            raise ToolError(f"{path} is a symbolic link or a submodule")
        self._refuse_own_settings(path, asked.content)
        self._put(path, asked.content)
        return f"wrote {len(asked.content)} characters to {path}"

    async def _edit(self, asked: Edit) -> str:
        path = await self._own(asked.file_path)
        text = self._text(path)
        count = text.count(asked.old_string) if asked.old_string else 0
        if not count:
            raise ToolError(f"old_string is not in {path}")
        if count > 1 and not asked.replace_all:
            raise ToolError(f"old_string is {count} times in {path}; give more of its surroundings, or replace_all")
        text = text.replace(asked.old_string, asked.new_string)
        self._refuse_own_settings(path, text)
        self._put(path, text)
        return f"edited {path} ({count} replacement{'s' if count > 1 else ''})"

    async def _delete(self, asked: Delete) -> str:
        path = await self._own(asked.file_path)
        self._refuse_own_settings(path, "")
        try:
            self.workspace.delete(path)
        except FileNotFoundError:
            raise ToolError(f"there is no file {path}") from None
        self.touched += 1
        return f"deleted {path}"

    def _put(self, path: str, text: str) -> None:
        try:
            self.workspace.write(path, text)
        except ClaimViolation as error:
            raise ToolError(str(error)) from None
        except UnicodeEncodeError:
            raise ToolError(f"{path}: the text has characters that UTF-8 cannot carry") from None
        except OSError:
            raise ToolError(
                f"{path}: a file is where a folder would have to be, or a folder where the file would"
            ) from None
        self.touched += 1
        self.nothing = ""

    def _path(self, given: str) -> str:
        path = given.removeprefix("./")
        problem = problem_with(path) or ("it names a folder" if path.endswith("/") else None)
        if problem:
            raise ToolError(f"{given}: {problem}")
        return path

    async def _own(self, given: str) -> str:
        """The path, which is the task's own from here on. The gate of everything that changes a file."""
        path = self._path(given)
        self._refuse_protected(path)
        try:
            await self.conversation.claim(path)
        except ClaimViolation as error:
            raise ToolError(self._not_yours(path, error.holders or self.conversation.planned(path))) from None
        return path

    def _not_yours(self, path: str, holders: Collection[str]) -> str:
        if holders:
            whose = ", ".join(f"`{one}`" for one in holders)
            return f"{path} belongs to task {whose}; nothing was written. request_file(path, why) asks for it"
        yours = ", ".join(self.brief.task.writes[:20]) or "what your specialist's work covers"
        return f"{path} is outside your task's claims ({yours}); nothing was written"

    def _refuse_protected(self, path: str) -> None:
        if is_protected(path) and path not in self.brief.task.writes:
            raise ToolError(
                f"{path}: hooks, CI and settings of editors and agents are changed only by a task that claims them by name"
            )

    def _refuse_own_settings(self, path: str, text: str) -> None:
        """A pyproject.toml is the project's, but what it has for us are commands, as in a journeyman.toml."""
        if path.lower().rpartition("/")[2] != "pyproject.toml" or path in self.brief.task.writes:
            return
        try:
            before = _own_settings(self.workspace.read_text(path))
        except (OSError, ValueError, RecursionError):  # what is none, or cannot be read, sets nothing
            before = None
        try:
            after, why = _own_settings(text), "that table would be another"
        except (ValueError, RecursionError) as error:
            after, why = None, f"the file would be no TOML: {error}"
        if after != before:
            raise ToolError(
                f"{path}: [tool.journeyman] says which commands are run, and is changed only by a task that claims {path} by name "
                f"({why}); nothing was written"
            )

    # --- asking ------------------------------------------------------------------------------------------------

    async def _request_file(self, asked: RequestFile) -> str:
        path = self._path(asked.path)
        self._refuse_protected(path)
        if not self.conversation.may_ask(path):
            raise ToolError(self._not_yours(path, ()))
        self.brief.progress(f"waits for {path}")
        try:
            await self.conversation.request(path)
        except ClaimViolation as error:
            holders = error.holders or self.conversation.owners(path)
            wish = self.conversation.hand_over(path, asked.why)
            whose = ", ".join(f"`{one}`" for one in holders) or "another task"
            if wish is None:
                raise ToolError(f"{path} is {whose}'s, and cannot be had in this run; do without it") from None
            self.wishes.append(wish)
            return f"{path} is {whose}'s: {_handed_over(wish)}, which runs after it. Go on without the file"
        return f"{path} is yours now. It may have changed since you read it: read it again"

    async def _run_check(self, asked: RunCheck) -> str:
        allowed = self.conversation.allowed_checks
        if asked.name not in allowed:
            raise ToolError(f"there is no check {asked.name!r}; there are: {', '.join(allowed) or 'none'}")
        self.brief.progress(f"runs {asked.name}")
        found = await self.conversation.check(self.workspace, [asked.name])
        return told_of(found[0].command, found[0].ok, found[0].exit, found[0].output, self.secret)

    async def _nothing_to_do(self, asked: NothingToDo) -> str:
        if self.touched and self.workspace.changeset().changes:
            raise ToolError("you have changed files; take the changes back first, or finish the task")
        self.nothing = asked.reason
        return "noted; end your turn now"


def _handed_over(wish: str) -> str:
    return f"your wish was handed over as task `{wish}`"


_HANDED_OVER: Final = re.compile(_handed_over("(.+?)"))


def told_of(command: str, ok: bool, code: int | None, output: str, secret: tuple[str, ...] = ()) -> str:
    """A check's outcome in words for a model, its output without what is secret and cut in the middle with a note."""
    text = secrets.redacted(output, secret).strip()
    if len(text) > OUTPUT_LIMIT:
        half = OUTPUT_LIMIT // 2
        text = f"{text[:half]}\n[... {len(text) - OUTPUT_LIMIT} characters left out ...]\n{text[-half:]}"
    state = (
        "green"
        if ok
        else f"red (exit code {code})"
        if code is not None
        else "red (it could not be run, or took too long)"
    )
    return f"{command}: {state}\n{text}"
