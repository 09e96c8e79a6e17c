"""Agent files as specialists: `.claude/agents/*.md`, a front matter with name, description, tools and model above a prompt.

The format is Claude Code's (https://docs.claude.com/en/docs/claude-code/sub-agents). Tools are cut down to ours: there is no free
shell, whatever the file asks for. Knows files and fields; runs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from specialists.claude import newest_model

from .core.task import Specialist
from .errors import BadInput

FOLDER: Final = ".claude/agents"
_FRONT: Final = re.compile(r"\A---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)(.*)\Z", re.DOTALL | re.MULTILINE)
_NAME: Final = re.compile(r"[A-Za-z][\w.-]{0,99}")
_FAMILIES: Final = ("opus", "sonnet", "haiku", "fable", "mythos")
_ALWAYS: Final = ("request_file", "nothing_to_do", "run_check")
_TOOLS: Final[Mapping[str, tuple[str, ...]]] = {
    "read": ("read",),
    "write": ("write", "delete"),
    "edit": ("edit",),
    "multiedit": ("edit",),
    "glob": ("glob",),
    "ls": ("glob",),
    "grep": ("grep",),
}
"""Theirs -> ours. What is not in it (Bash, WebFetch, MCP servers' tools, ...) we do not have; only `run_check` runs anything."""


def load_agents(root: Path) -> list[Specialist]:
    """The specialists that a repository's agent files describe; they write what a task names, and are never chosen by a path. Raises
    BadInput with every problem, file by file."""
    folder = root / FOLDER
    found: dict[str, Specialist] = {}
    problems: list[str] = []
    for path in sorted(folder.glob("*.md")) if folder.is_dir() else ():
        where = f"{FOLDER}/{path.name}"
        try:
            one = _agent(path, where)
        except BadInput as error:
            problems += error.problems
            continue
        if one is None:
            continue
        if one.name in found:
            problems.append(f"{where}: name: there are two agents of the name {one.name!r}")
        found[one.name] = one
    if problems:
        raise BadInput(problems)
    return list(found.values())


def _agent(path: Path, where: str) -> Specialist | None:
    """The agent of a file; None for one that only lies beside them, as a README does."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{where}: it cannot be read: {error}") from None
    parts = _FRONT.match(text)
    if parts is None and text.lstrip().startswith("---"):
        raise BadInput(
            f"{where}: its front matter must begin in the first line and end: ---, name: ..., description: ..., ---"
        )
    if parts is None:
        return None
    fields = _fields(parts[1], where)
    name = fields.get("name", path.stem)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadInput(f"{where}: name: {name!r} is no name for a specialist (letters, digits, . _ -)")
    description = fields.get("description", "")
    if not isinstance(description, str):
        raise BadInput(f"{where}: description: it must be text")
    prompt = parts[2].strip()
    if not prompt and not description.strip():
        raise BadInput(f"{where}: it has neither a description nor a prompt")
    return Specialist(
        name,
        prompt=prompt or description.strip(),
        tools=_tools(fields.get("tools"), where),
        model=_model(fields.get("model"), where),
    )


def _fields(text: str, where: str) -> dict[str, Any]:
    try:
        fields = yaml.safe_load(text)
    except yaml.YAMLError:
        # Many such files have descriptions with colons in them, which is no YAML; a line a field is what people mean.
        rows = [line.partition(":") for line in text.splitlines() if re.match(r"\w+\s*:", line)]
        fields = {name.strip(): value.strip() for name, _, value in rows}
    if not isinstance(fields, dict):
        raise BadInput(f"{where}: its front matter must be fields, as name: reviewer")
    return fields


def _tools(value: object, where: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadInput(f"{where}: tools: they must be names with commas between them, or a list of names")
    wanted = [re.sub(r"\(.*\)", "", name).strip().lower() for name in names]
    return tuple(dict.fromkeys([*(ours for name in wanted for ours in _TOOLS.get(name, ())), *_ALWAYS]))


def _model(value: object, where: str) -> str:
    if value is None or value == "inherit":
        return ""
    if not isinstance(value, str) or not re.fullmatch(r"[\w.:@\[\]-]{1,100}", value):
        raise BadInput(f"{where}: model: {value!r} is no model's name")
    return newest_model(value) if value in _FAMILIES else value
