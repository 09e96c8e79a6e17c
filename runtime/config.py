"""The project's configuration: `journeyman.toml`, or `[tool.journeyman]` in `pyproject.toml`.

Knows fields and types; specialists' handlers are named, not loaded. Credentials and endpoints are never taken from a repository:
whoever can change a file there could redirect or read them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from .errors import BadInput
from .planfile import fits, kind_of

_FIELDS: Final[Mapping[str, str]] = {
    "instances": "a whole number",
    "max_instances": "a whole number",
    "checks": "a list of texts",
    "setup": "text",
    "setup_timeout_s": "a number",
    "claims": "text",
    "on_failure": "text",
    "exclude": "a list of texts",
    "format": "a list of texts",
    "specialists": "a table",
}
_SPECIALIST: Final[Mapping[str, str]] = {
    "instances": "a whole number",
    "min_instances": "a whole number",
    "helps": "a list of texts",
    "writes": "a list of texts",
    "prompt": "text",
    "checks": "a list of texts",
    "handler": "text",
    "isolation": "text",
}
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "claims": ("strict", "grow"),
    "on_failure": ("isolate", "rollback-scope", "rollback-level", "stop"),
    "isolation": ("overlay", "worktree"),
}
_SECRET: Final = re.compile(
    r"key|token|secret|password|credential|base_url|endpoint|proxy|^env$|anthropic", re.IGNORECASE
)


@attrs.frozen
class Config:
    """What a project sets; absent fields are None or empty. `specialists` is `{name: {field: value}}`, checked."""

    instances: int | None = None
    max_instances: int = 20
    checks: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    setup: str = ""
    setup_timeout_s: float = 600.0
    claims: str = "strict"
    on_failure: str = "isolate"
    exclude: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    format: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    specialists: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    source: str = ""


def load_config(root: Path) -> Config:
    """The configuration in a repository's top folder. Raises BadInput with every problem."""
    own, shared = root / "journeyman.toml", root / "pyproject.toml"
    if own.is_file():
        return _checked(_parse(own), str(own))
    if shared.is_file():
        table = _parse(shared).get("tool", {}).get("journeyman")
        if table is not None:
            return _checked(table, f"{shared}: tool.journeyman")
    return Config()


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path}: not TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: it cannot be read: {error}") from None


def _checked(table: Any, origin: str) -> Config:
    problems: list[str] = []
    fields = _fields(table, _FIELDS, origin, problems)
    specialists = {}
    for name, row in fields.pop("specialists", {}).items():
        specialists[name] = _fields(row, _SPECIALIST, f"{origin}: specialists.{name}", problems)
    if problems:
        raise BadInput(problems)
    return Config(**fields, specialists=specialists, source=origin)


def _fields(table: Any, known: Mapping[str, str], where: str, problems: list[str]) -> dict[str, Any]:
    if not isinstance(table, dict):
        problems.append(f"{where}: it must be a table, not {kind_of(table)}")
        return {}
    found = {}
    for name, value in table.items():
        if name not in known and _SECRET.search(name):
            problems.append(
                f"{where}: {name}: credentials and endpoints are taken from your environment only, never from a repository"
            )
        elif name not in known:
            problems.append(f"{where}: there is no field {name!r}; known are: {', '.join(known)}")
        elif not fits(value, known[name]):
            problems.append(f"{where}: {name}: it must be {known[name]}, not {kind_of(value)}")
        elif name in _CHOICES and value not in _CHOICES[name]:
            problems.append(f"{where}: {name}: {value!r} is not one of {', '.join(_CHOICES[name])}")
        elif known[name] == "a whole number" and value < (0 if name == "min_instances" else 1):
            problems.append(f"{where}: {name}: {value} is too small")
        elif known[name] == "a number" and not 0 < value < float("inf"):
            problems.append(f"{where}: {name}: {value} is not a number of seconds above 0")
        else:
            found[name] = value
    return found
