"""A project's configuration: `journeyman.toml`, or `[tool.journeyman]` in `pyproject.toml`, over a user's own file.

Knows fields and types; specialists' handlers are named, not loaded. Credentials and endpoints are never taken from a repository:
whoever can change a file there could read or redirect them. A user's own file may hold them; they are left to whoever needs them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from .errors import BadInput
from .limits import Limits
from .planfile import cannot_be_kept, fits, kind_of, no_such_field

_WHOLE: Final = "a whole number"
_NUMBER: Final = "a number"
_TEXT: Final = "text"
_TEXTS: Final = "a list of texts"
_TABLE: Final = "a table"
_MOST: Final = 1000  # instances; the runtime takes no more
_MOST_TOKENS: Final = 1_000_000
_LEAST_STALL_S: Final = 1.0  # a silence is noticed half a second early
_SIZE_LIMIT_BYTES: Final = 1024 * 1024

_FIELDS: Final[Mapping[str, str]] = {
    "instances": _WHOLE,
    "max_instances": _WHOLE,
    "checks": _TEXTS,
    "setup": _TEXT,
    "setup_timeout_s": _NUMBER,
    "claims": _TEXT,
    "on_failure": _TEXT,
    "exclude": _TEXTS,
    "format": _TEXTS,
    "limits": _TABLE,
    "specialists": _TABLE,
}
_LIMITS: Final[Mapping[str, str]] = {
    "requests_per_min": _NUMBER,
    "input_tokens_per_min": _NUMBER,
    "output_tokens_per_min": _NUMBER,
    "concurrency": _WHOLE,
    "stall_s": _NUMBER,
}
_SPECIALIST: Final[Mapping[str, str]] = {
    "instances": _WHOLE,
    "min_instances": _WHOLE,
    "helps": _TEXTS,
    "writes": _TEXTS,
    "prompt": _TEXT,
    "checks": _TEXTS,
    "handler": _TEXT,
    "isolation": _TEXT,
    "model": _TEXT,
    "effort": _TEXT,
    "max_tokens": _WHOLE,
    "max_turns": _WHOLE,
    "stall_s": _NUMBER,
    "tools": _TEXTS,
}
_PERSONAL: Final[Mapping[str, str]] = {**_FIELDS, "pass_environment": _TABLE}
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "claims": ("strict", "grow"),
    "on_failure": ("isolate", "rollback-scope", "rollback-level", "stop"),
    "isolation": ("overlay", "worktree"),
    "effort": ("low", "medium", "high", "xhigh", "max"),  # as the SDK's output_config has them
}
_SECRET: Final = re.compile(
    r"key|token|secret|password|credential|^auth(?!or)|url|endpoint|proxy|^env|environment|anthropic", re.IGNORECASE
)
_VARIABLE: Final = re.compile(r"[A-Za-z_]\w*")
_HANDLER: Final = re.compile(r"(?:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*|[^:\0]+\.py):[A-Za-z_]\w*")


@attrs.frozen
class Config:
    """What a project sets; absent fields are None or empty. `specialists` is `{name: {field: value}}`, checked.

    `setup_timeout_s` is seconds. `limits` and `stall_s` (seconds; None: the default) are what `[limits]` allows calls to a model.
    `source` names the file it came from, empty when there was none; `notes` are sentences a person should be told.
    `pass_environment`, which only a user's own file can have, names the variables that a program of `exec` is given of our
    environment: `{the first word of its argv: names}`.
    """

    instances: int | None = None
    max_instances: int = 20
    checks: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    setup: str = ""
    setup_timeout_s: float = 600.0
    claims: str = "strict"
    on_failure: str = "isolate"
    exclude: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    format: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    limits: Limits = attrs.field(factory=Limits)
    stall_s: float | None = None
    specialists: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    pass_environment: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    source: str = ""
    notes: tuple[str, ...] = ()


def load_config(root: Path, user_config: Path | None = None) -> Config:
    """The configuration in a repository's top folder, over the one in the file `user_config` if that exists.

    The repository's fields win, for each specialist field by field; of `[limits]` the smaller number holds. Raises BadInput with
    every problem of both files.
    """
    problems: list[str] = []
    fields: dict[str, Any] = {}
    if user_config is not None and user_config.is_file():
        fields = _read(user_config, (), problems, personal=True)
    own, shared = root / "journeyman.toml", root / "pyproject.toml"
    notes: tuple[str, ...] = ()
    source = ""
    if own.is_file():
        source = str(own)
        project = _read(own, (), problems)
        if shared.is_file() and _has_section(shared):
            notes = (f"{own} is used; [tool.journeyman] in {shared} is not",)
    else:
        project = _read(shared, ("tool", "journeyman"), problems) if shared.is_file() else {}
        source = f"{shared}: tool.journeyman" if project else ""
    return _config(fields, project, problems, source=source, notes=notes)


def load_own(user_config: Path) -> Config:
    """What a user's own file says by itself, for what belongs to no repository. Raises BadInput."""
    problems: list[str] = []
    fields = _read(user_config, (), problems, personal=True) if user_config.is_file() else {}
    return _config(fields, {}, problems)


def _config(below: dict[str, Any], above: dict[str, Any], problems: list[str], **about: Any) -> Config:
    if problems:
        raise BadInput(problems)
    specialists = _merged(below.pop("specialists", {}), above.pop("specialists", {}))
    limits = _smaller(below.pop("limits", {}), above.pop("limits", {}))
    stall_s = limits.pop("stall_s", None)
    return Config(**{**below, **above}, limits=Limits(**limits), stall_s=stall_s, specialists=specialists, **about)


def _merged(
    below: Mapping[str, Mapping[str, Any]], above: Mapping[str, Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    return {name: {**below.get(name, {}), **above.get(name, {})} for name in (*below, *above)}


def _smaller(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {name: min(said[name] for said in (one, other) if name in said) for name in {**one, **other}}


def _has_section(path: Path) -> bool:
    """Whether a pyproject.toml that is not used would have been; what else is in it, or wrong with it, is not ours."""
    try:
        return "journeyman" in tomllib.loads(path.read_text("utf-8")).get("tool", {})
    except (OSError, ValueError, RecursionError, AttributeError):
        return False


def _read(path: Path, inside: tuple[str, ...], problems: list[str], *, personal: bool = False) -> dict[str, Any]:
    """The sound fields of a file's table; what is wrong goes to `problems`."""
    try:
        with path.open("rb") as file:
            raw = file.read(_SIZE_LIMIT_BYTES + 1)
        text = raw.decode("utf-8-sig")
        table: Any = tomllib.loads(text) if len(raw) <= _SIZE_LIMIT_BYTES else None
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        problems.append(f"{path}{f':{line[1]}' if line else ''}: not TOML: {error}")
        return {}
    except UnicodeDecodeError as error:
        line_number = raw[: error.start].count(b"\n") + 1
        problems.append(f"{path}:{line_number}: it is not UTF-8 (byte {error.start})")
        return {}
    except (OSError, ValueError, RecursionError) as error:
        problems.append(f"{path}: it cannot be read: {error}")
        return {}
    if table is None:
        problems.append(f"{path}: it has more than {_SIZE_LIMIT_BYTES // 2**20} MiB; a configuration is smaller")
        return {}
    for name in inside:
        table = table.get(name, {}) if isinstance(table, dict) else {}
    return _Checker(str(path), text, inside, personal, problems).fields(table)


@attrs.define
class _Checker:
    """Tells what is wrong with one file's table, with the lines of its fields where they stand at the beginning of one."""

    origin: str
    text: str
    inside: tuple[str, ...]
    personal: bool  # the user's own file: credentials may stand in it, and are not looked at
    problems: list[str]

    def fields(self, table: Any) -> dict[str, Any]:
        found = self._table(table, _PERSONAL if self.personal else _FIELDS, self.inside)
        if "pass_environment" in found:
            found["pass_environment"] = self._passed(found["pass_environment"])
        if "limits" in found:
            found["limits"] = self._table(found["limits"], _LIMITS, (*self.inside, "limits"))
        rows = found.get("specialists", {})
        sound = {}
        for name, row in rows.items():
            if name != name.strip() or not name or not name.isprintable():
                self._say((*self.inside, "specialists"), f"{name!r} is no name for a specialist")
            sound[name] = self._table(row, _SPECIALIST, (*self.inside, "specialists", name))
        if rows:
            found["specialists"] = sound
        return found

    def _table(self, table: Any, known: Mapping[str, str], inside: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(table, dict):
            self._say(inside, f"it must be a table, not {kind_of(table)}")
            return {}
        found = {}
        for name, value in table.items():
            wrong = _unknown(name, known) if name not in known else _wrong(name, value, known[name])
            if self.personal and _is_secret(name, known):
                continue
            if wrong is None:
                found[name] = value
            else:
                self._say((*inside, name), wrong)
        return found

    def _passed(self, table: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
        sound = {}
        for program, names in table.items():
            if fits(names, _TEXTS) and all(_VARIABLE.fullmatch(name) for name in names):
                sound[program] = tuple(names)
            else:
                self._say(
                    (*self.inside, "pass_environment", program),
                    f'it must be a list of variables\' names, as in claude = ["ANTHROPIC_API_KEY"], not {kind_of(names)}',
                )
        return sound

    def _say(self, place: tuple[str, ...], words: str) -> None:
        line = self._line(place)
        field = ".".join(place) or "all of it"
        self.problems.append(f"{self.origin}{f':{line}' if line else ''}: {field}: {words}")

    def _line(self, place: tuple[str, ...]) -> int | None:
        section: tuple[str, ...] = ()
        for number, line in enumerate(self.text.splitlines(), 1):
            header = re.match(r"""\s*\[\s*([^\[\]#]+?)\s*\]""", line)
            key = None if header else re.match(r"""\s*["']?([\w.-]+)["']?\s*=""", line)
            if header:
                section = tuple(part.strip(" \"'") for part in header[1].split("."))
            if (header and section == place) or (key and (*section, *key[1].split(".")) == place):
                return number
        return None


def _is_secret(name: str, known: Mapping[str, str]) -> bool:
    return name not in known and known is not _LIMITS and _SECRET.search(name) is not None  # limits are of tokens


def _unknown(name: str, known: Mapping[str, str]) -> str:
    if _is_secret(name, known):
        return "credentials and endpoints are taken from your own environment only, never from a repository"
    return no_such_field(name, known)


def _wrong(name: str, value: Any, want: str) -> str | None:
    """What is wrong with a field's value, or None."""
    if not fits(value, want):
        return f"it must be {want}, not {kind_of(value)}"
    wrong = cannot_be_kept(value) if want != _TABLE else None  # a table is looked at field by field
    if wrong:
        return wrong
    if name in _CHOICES and value not in _CHOICES[name]:
        return f"{value!r} is not one of {', '.join(_CHOICES[name])}"
    least = 0 if name == "min_instances" else 1
    most = _MOST_TOKENS if name == "max_tokens" else _MOST
    if want == _WHOLE and not least <= value <= most:
        return f"{value} is not from {least} to {most}"
    if name == "stall_s" and value < _LEAST_STALL_S:
        return f"{value} is not a number of seconds from {_LEAST_STALL_S:g} on"
    if want == _NUMBER and value <= 0:
        return f"{value} is not a number {'of seconds ' if name.endswith('_s') else ''}above 0"
    if want == _TEXTS and not all(one.strip() for one in value):
        return "one of them is empty"
    if name == "handler" and not _HANDLER.fullmatch(value):
        return f"{value!r} is not of the form module:function or file.py:function"
    return None
