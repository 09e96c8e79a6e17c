"""Plan files: TOML, JSON or YAML, the same fields; and the three-field JSON array. A file becomes a `Plan` or all its errors.

Knows syntax, fields and types; what is wrong with the plan as a graph is `core.plan`'s. Every problem names the file, the task, the
field and, where the format tells, the line.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import attrs
import yaml

from .core.task import Codemod, Plan, Rewrite, Task
from .errors import BadPlan

SIZE_LIMIT_BYTES: Final = 20 * 1024 * 1024
_ALIAS_LIMIT: Final = 100
_SECTIONS: Final = ("plan", "task")
_TEXT: Final = "text"
_NUMBER: Final = "a number"
_WHOLE: Final = "a whole number"
_YES_NO: Final = "true or false"
_TEXTS: Final = "a list of texts"
_WHOLES: Final = "a list of whole numbers"
_TABLE: Final = "a table"

_PLAN_FIELDS: Final[Mapping[str, str]] = {
    "name": _TEXT,
    "base": _TEXT,
    "checks": _TEXTS,
    "claims": _TEXT,
    "on_failure": _TEXT,
    "together": _YES_NO,
    "max_failures": _WHOLE,
    "setup": _TEXT,
    "setup_timeout_s": _NUMBER,
    "format": _TEXTS,
}
_TASK_FIELDS: Final[Mapping[str, str]] = {
    "id": _TEXT,
    "specialist": _TEXT,
    "goal": _TEXT,
    "writes": _TEXTS,
    "reads": _TEXTS,
    "after": _TEXTS,
    "scope": _TEXT,
    "estimate_s": _NUMBER,
    "timeout_s": _NUMBER,
    "attempts": _WHOLE,
    "payload": "anything",
    "rewrite": _TABLE,
    "codemod": _TABLE,
    "exec": _TEXTS,
    "containing": _TEXT,
    "passes": _WHOLE,
    "ok_exit": _WHOLES,
}
_WAY_FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "rewrite": {"pattern": _TEXT, "replace": _TEXT, "language": _TEXT},
    "codemod": {"name": _TEXT, "args": _TABLE},
}
_ARRAY_FIELDS: Final[Mapping[str, str]] = {"id": _TEXT, "prompt": _TEXT, "files": _TEXTS}

Chooser = Callable[[Sequence[str]], str]
"""The name of the specialist for a task that names none, by the files it writes."""


def load(path: str | Path, choose: Chooser | None = None) -> Plan:
    """The plan in a file. Raises BadPlan with every problem."""
    where = Path(path)
    try:
        if where.is_dir():
            raise BadPlan(f"{where}: it is a folder, not a plan file")
        if where.stat().st_size > SIZE_LIMIT_BYTES:
            raise BadPlan(f"{where}: it has more than {SIZE_LIMIT_BYTES // 2**20} MiB; a plan file is smaller")
        raw = where.read_bytes()
    except FileNotFoundError:
        raise BadPlan(f"{where}: there is no such file") from None
    except OSError as error:
        raise BadPlan(f"{where}: it cannot be read: {error.strerror}") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise BadPlan(f"{where}:{line}: it is not UTF-8 (byte {error.start})") from None
    return loads(text, where.suffix.lower().lstrip("."), str(where), choose)


def loads(text: str, form: str, origin: str = "plan", choose: Chooser | None = None) -> Plan:
    """The plan in a text; `form` is `toml`, `json`, `yaml` or `yml`. Raises BadPlan with every problem."""
    readers = {"toml": _read_toml, "json": _read_json, "yaml": _read_yaml, "yml": _read_yaml}
    if form not in readers:
        raise BadPlan(
            f"{origin}: a plan file ends in .toml, .json or .yaml, not in {'.' + form if form else 'nothing'}"
        )
    if not text.strip():
        raise BadPlan(f"{origin}: it is empty")
    return _Reader(origin, text, choose).plan(readers[form](text, origin))


# --- syntax ----------------------------------------------------------------------------------------------------


def _read_toml(text: str, origin: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        raise BadPlan(f"{origin}{':' + line[1] if line else ''}: not TOML: {error}") from None
    except RecursionError:
        raise BadPlan(f"{origin}: not TOML: it is nested too deep") from None


def _read_json(text: str, origin: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise BadPlan(f"{origin}: field {name!r} is given twice in one object")
            found[name] = value
        return found

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise BadPlan(f"{origin}:{error.lineno}: not JSON: {error.msg}, column {error.colno}") from None
    except RecursionError:
        raise BadPlan(f"{origin}: not JSON: it is nested too deep") from None


class _Yaml(yaml.SafeLoader):
    """PyYAML's safe loader, which takes a key that is given twice in silence; this one does not."""

    aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            self.aliases += 1
            if self.aliases > _ALIAS_LIMIT:
                raise yaml.constructor.ConstructorError(None, None, f"more than {_ALIAS_LIMIT} aliases", None)
        return super().compose_node(parent, index)  # type: ignore[no-any-return,no-untyped-call,unused-ignore]

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            name = getattr(key, "value", None)
            if isinstance(name, str) and name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"field {name!r} is given twice", key.start_mark)
            seen.add(name if isinstance(name, str) else None)
        return super().construct_mapping(node, deep)


def _read_yaml(text: str, origin: str) -> Any:
    try:
        return yaml.load(text, _Yaml)  # a subclass of the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise BadPlan(f"{origin}{line}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise BadPlan(f"{origin}: not YAML: {error}") from None
    except RecursionError:
        raise BadPlan(f"{origin}: not YAML: it is nested too deep") from None


# --- fields ----------------------------------------------------------------------------------------------------


@attrs.define
class _Reader:
    """One file's way to a plan; gathers problems on it."""

    origin: str
    text: str
    choose: Chooser | None
    problems: list[str] = attrs.field(factory=list)

    def plan(self, data: Any) -> Plan:
        tasks: list[Task] = []
        fields: dict[str, Any] = {}
        if isinstance(data, list):
            tasks = self._array(data)
        elif isinstance(data, dict):
            self._unknown(data, _SECTIONS, "", None)
            fields = self._fields(data.get("plan", {}), _PLAN_FIELDS, "plan", None)
            rows = data.get("task", [])
            if not isinstance(rows, list):
                self._say(f"task: it must be a list of tables ([[task]]), not {kind_of(rows)}")
                rows = []
            tasks = [task for number, row in enumerate(rows, 1) if (task := self._task(row, number)) is not None]
        else:
            self._say(f"it must be a table with `plan` and `task`, or an array of tasks, not {kind_of(data)}")
        if self.problems:
            raise BadPlan(self.problems)
        return Plan(tasks, **fields)

    def _array(self, rows: list[Any]) -> list[Task]:
        tasks = []
        for number, row in enumerate(rows, 1):
            where = f"item {number}"
            fields = self._fields(row, _ARRAY_FIELDS, where, None)
            missing = [name for name in _ARRAY_FIELDS if name not in fields]
            if isinstance(row, dict):
                for name in missing:
                    if name not in row:
                        self._say(f"{where}: {name}: it is missing")
            if not missing:
                files = tuple(fields["files"])
                specialist = self.choose(files) if self.choose is not None else "service"
                tasks.append(Task(fields["id"], specialist, goal=fields["prompt"], writes=files))
        return tasks

    def _task(self, row: Any, number: int) -> Task | None:
        name = row.get("id") if isinstance(row, dict) else None
        where = f"task {name!r}" if isinstance(name, str) and name else f"task {number}"
        line = self._line_of(name)
        fields = self._fields(row, _TASK_FIELDS, where, line)
        if not isinstance(row, dict):
            return None
        if "id" not in row:
            self._say(f"{where}: id: it is missing", line)
        for way in _WAY_FIELDS:
            if way in fields:
                fields[way] = self._way(fields[way], way, where, line)
        if "specialist" not in row and self.choose is not None:
            fields.setdefault("specialist", self.choose(fields.get("writes", ())))
        elif "specialist" not in row:
            self._say(f"{where}: specialist: it is missing", line)
        if "id" not in fields or "specialist" not in fields:
            return None
        return Task(**fields)

    def _way(self, table: Mapping[str, Any], way: str, where: str, line: int | None) -> Rewrite | Codemod | None:
        known = _WAY_FIELDS[way]
        fields = self._fields(table, known, f"{where}: {way}", line)
        optional = ("args",)
        for name in known:
            if name not in table and name not in optional:
                self._say(f"{where}: {way}: {name}: it is missing", line)
        if any(name not in fields for name in known if name not in optional):
            return None
        return Rewrite(**fields) if way == "rewrite" else Codemod(**fields)

    def _fields(self, table: Any, known: Mapping[str, str], where: str, line: int | None) -> dict[str, Any]:
        """The fields that are as they should be; the others are told of."""
        if not isinstance(table, dict):
            self._say(f"{where}: it must be a table, not {kind_of(table)}", line)
            return {}
        self._unknown(table, known, where, line)
        found = {}
        for name, value in table.items():
            want = known.get(name)
            if want is None:
                continue
            if not fits(value, want):
                self._say(f"{where}: {name}: it must be {want}, not {kind_of(value)}", line)
            elif isinstance(value, float) and not math.isfinite(value):
                self._say(f"{where}: {name}: {value!r} is not finite", line)
            else:
                found[name] = value
        return found

    def _unknown(
        self, table: Mapping[Any, Any], known: Sequence[str] | Mapping[str, str], where: str, line: int | None
    ) -> None:
        for name in table:
            if name not in known:
                close = get_close_matches(str(name), list(known), 1)
                hint = f"did you mean {close[0]!r}?" if close else f"known are: {', '.join(known)}"
                self._say(f"{where + ': ' if where else ''}there is no field {name!r}; {hint}", line)

    def _line_of(self, name: Any) -> int | None:
        """The line of a task's id, found as text: good enough to point at."""
        if not isinstance(name, str) or not name:
            return None
        found = re.search(rf"""^.*\bid["']?\s*[=:]\s*["']?{re.escape(name)}["']?\s*[,}}]?""", self.text, re.MULTILINE)
        return self.text.count("\n", 0, found.start()) + 1 if found else None

    def _say(self, words: str, line: int | None = None) -> None:
        self.problems.append(f"{self.origin}{f':{line}' if line else ''}: {words}")


def fits(value: Any, want: str) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    whole = isinstance(value, int) and not isinstance(value, bool)
    checks: dict[str, Callable[[], bool]] = {
        _TEXT: lambda: isinstance(value, str),
        _NUMBER: lambda: number,
        _WHOLE: lambda: whole,
        _YES_NO: lambda: isinstance(value, bool),
        _TABLE: lambda: isinstance(value, dict),
        _TEXTS: lambda: isinstance(value, list) and all(isinstance(one, str) for one in value),
        _WHOLES: lambda: (
            isinstance(value, list) and all(isinstance(one, int) and not isinstance(one, bool) for one in value)
        ),
    }
    return want not in checks or checks[want]()


def kind_of(value: Any) -> str:
    names = {str: "text", bool: "true/false", int: "a number", float: "a number", list: "a list", dict: "a table"}
    if isinstance(value, list):
        odd = next((one for one in value if not isinstance(one, str)), None)
        return "a list" if odd is None else f"a list with {kind_of(odd)} in it"
    return "nothing" if value is None else names.get(type(value), type(value).__name__)
