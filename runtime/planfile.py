"""Plan files: TOML, JSON or YAML, the same fields; and the three-field JSON array. A file becomes a `Plan` or all its errors.

Knows syntax, fields and types; what is wrong with the plan as a graph is `core.plan`'s, told together with the rest by the
`check` a caller hands in. Every problem names the file, the task, the field and, where it can be found, the line. A file is not
trusted: its size, its depth and what YAML's aliases make of it are bounded.
"""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Final

import attrs
import yaml

from .core.plan import Problem, called
from .core.task import FIXPOINT, Codemod, Plan, Rewrite, Task
from .errors import BadPlan

SIZE_LIMIT_BYTES: Final = 20 * 1024 * 1024
_DEPTH_LIMIT: Final = 100
_NODES_LIMIT: Final = 2_000_000  # values in a YAML file, each counted as often as an alias repeats it
_LINES_LIMIT_BYTES: Final = 1024 * 1024  # above it, a JSON file is not parsed a second time to find lines
_WIDEST_INT: Final = 2**63  # what the journal's encoding can carry
_SECTIONS: Final = ("plan", "task")
_TEXT: Final = "text"
_NUMBER: Final = "a number"
_WHOLE: Final = "a whole number"
_PASSES: Final = 'a whole number or "fixpoint"'
_YES_NO: Final = "true or false"
_TEXTS: Final = "a list of texts"
_WHOLES: Final = "a list of whole numbers"
_TABLE: Final = "a table"
_ANYTHING: Final = "anything"

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
    "budget_usd": _NUMBER,
    "budget_tokens": _WHOLE,
    "contracts": _TEXT,
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
    "payload": _ANYTHING,
    "rewrite": _TABLE,
    "codemod": _TABLE,
    "exec": _TEXTS,
    "containing": _TEXT,
    "passes": _PASSES,
    "ok_exit": _WHOLES,
    "check": _TEXTS,
    "fix_rounds": _WHOLE,
    "budget_usd": _NUMBER,
    "budget_tokens": _WHOLE,
}
_WAY_FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "rewrite": {"pattern": _TEXT, "replace": _TEXT, "language": _TEXT},
    "codemod": {"name": _TEXT, "args": _TABLE},
}
_ARRAY_FIELDS: Final[Mapping[str, str]] = {"id": _TEXT, "prompt": _TEXT, "files": _TEXTS}

Chooser = Callable[[Sequence[str]], str]
"""The name of the specialist for a task that names none, by the files it writes."""

Check = Callable[[Plan], Iterable[Problem]]
"""What else is wrong with a plan; usually `core.plan.problems` with everything it needs."""

Path_ = tuple[str | int, ...]  # where a value stands in the file: ("task", 3, "writes")


def load(
    path: str | Path, choose: Chooser | None = None, *, form: str | None = None, check: Check | None = None
) -> Plan:
    """The plan in a file. `form` overrides what the file's name ends in. Raises BadPlan with every problem.

    With `check`, its problems are told together with the file's own, those of one field only once.
    """
    where = Path(path)
    text = _text_of(where)
    return loads(text, form or where.suffix.lower().lstrip("."), str(where), choose, check=check)


def loads(
    text: str, form: str, origin: str = "plan", choose: Chooser | None = None, *, check: Check | None = None
) -> Plan:
    """The plan in a text; `form` is `toml`, `json`, `yaml` or `yml`. Raises BadPlan with every problem."""
    readers = {"toml": _read_toml, "json": _read_json, "yaml": _read_yaml, "yml": _read_yaml}
    if form not in readers:
        raise BadPlan(
            f"{origin}: a plan file ends in .toml, .json or .yaml, not in {'.' + form if form else 'nothing'}"
        )
    if not text.strip():
        raise BadPlan(f"{origin}: it is empty")
    source = readers[form](text, origin)
    if source.data is None:
        raise BadPlan(f"{origin}: it is empty")
    reader = _Reader(choose)
    plan = reader.plan(source.data)
    found = [Problem(_dotted(place), "it is given twice", *_whose(source.data, place)) for place in source.twice]
    found += reader.problems
    if check is not None:
        found += [problem for problem in check(plan) if not reader.spoilt(problem)]
    if found:
        raise BadPlan(_told(found, source, origin))
    return plan


def dump(plan: Plan) -> dict[str, Any]:
    """The plan as a file would have it, fields at their defaults left out: `loads(json.dumps(dump(plan)), "json") == plan`.

    True as far as JSON can carry what tasks have for a payload.
    """
    rules = _without_defaults(plan, _PLAN_FIELDS)
    return {
        **({"plan": rules} if rules else {}),
        "task": [_without_defaults(task, _TASK_FIELDS) for task in plan.tasks],
    }


def _without_defaults(value: Plan | Task, known: Mapping[str, str]) -> dict[str, Any]:
    defaults = {field.name: field.default for field in attrs.fields(type(value))}
    found = {}
    for name in known:
        item = getattr(value, name)
        if item == defaults[name] and type(item) is type(defaults[name]):
            continue
        if isinstance(item, Rewrite | Codemod):
            item = {key: part for key, part in attrs.asdict(item, recurse=False).items() if key != "args" or part}
        elif name == "passes" and item == FIXPOINT:
            item = "fixpoint"
        found[name] = list(item) if isinstance(item, tuple) and name != "payload" else item
    return found


# --- syntax ----------------------------------------------------------------------------------------------------


@attrs.frozen
class _Source:
    """What a text says, what it says twice, and where: `line_of(place)` is None where that is not known."""

    data: Any
    line_of: Callable[[Path_], int | None]
    twice: tuple[Path_, ...] = ()


def _text_of(where: Path) -> str:
    try:
        if where.is_dir():
            raise BadPlan(f"{where}: it is a folder, not a plan file")
        with where.open("rb") as file:  # not by its size: it may be a pipe
            raw = file.read(SIZE_LIMIT_BYTES + 1)
    except FileNotFoundError:
        raise BadPlan(f"{where}: there is no such file") from None
    except OSError as error:
        raise BadPlan(f"{where}: it cannot be read: {error.strerror}") from None
    except ValueError:
        raise BadPlan(f"{os.fspath(where)!r}: that cannot be a file's name") from None
    if len(raw) > SIZE_LIMIT_BYTES:
        raise BadPlan(f"{where}: it has more than {SIZE_LIMIT_BYTES // 2**20} MiB; a plan file is smaller")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise BadPlan(f"{where}:{line}: it is not UTF-8 (byte {error.start})") from None


def _read_toml(text: str, origin: str) -> _Source:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        said = f": {text.splitlines()[int(line[1]) - 1].strip()[:80]}" if line else ""
        raise BadPlan(f"{origin}{':' + line[1] if line else ''}: not TOML: {error}{said}") from None
    except (ValueError, RecursionError) as error:
        raise BadPlan(f"{origin}: not TOML: {_short(error)}") from None
    lines = cache(lambda: _toml_lines(text, data))
    return _Source(data, lambda place: _nearest(lines(), place))


def _nearest(lines: Mapping[Path_, int], place: Path_) -> int | None:
    return next((lines[place[:end]] for end in range(len(place), 0, -1) if place[:end] in lines), None)


def _toml_lines(text: str, data: dict[str, Any]) -> dict[Path_, int]:
    """By headers and keys at the beginning of lines; none of the tasks' when that is not how they are written."""
    lines: dict[Path_, int] = {}
    section: Path_ = ()
    tasks = 0
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*(\[\[?)\s*([\w.-]+)\s*\]", line)
        key = None if header else re.match(r"""\s*["']?([\w-]+)["']?\s*[.=]""", line)
        if header:
            first, *rest = header[2].split(".")
            section = (first, *rest)
            if first == "task":
                tasks += header[1] == "[[" and not rest
                section = ("task", tasks - 1, *rest)
            lines.setdefault(section, number)
        elif key:
            lines.setdefault((*section, key[1]), number)
    rows = data.get("task", [])
    if not isinstance(rows, list) or tasks != len(rows):
        return {place: line for place, line in lines.items() if place[0] != "task"}
    return lines


def _read_json(text: str, origin: str) -> _Source:
    twice = False

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal twice
        found = dict(pairs)
        twice = twice or len(found) < len(pairs)
        return found

    try:
        data = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise BadPlan(f"{origin}:{error.lineno}: not JSON: {error.msg}, column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise BadPlan(f"{origin}: not JSON: {_short(error)}") from None
    node = cache(lambda: _json_node(text))
    found = tuple(_twice(node())) if twice else ()
    if twice and not found:
        raise BadPlan(f"{origin}: not JSON: a field is given twice in one object")
    return _Source(data, lambda place: _node_line(node(), place), found)


def _json_node(text: str) -> yaml.Node | None:
    """JSON read as YAML, which nearly all of it is: its nodes know their lines."""
    if len(text) > _LINES_LIMIT_BYTES:
        return None
    try:
        return _compose(text)
    except yaml.YAMLError:
        return None


def _read_yaml(text: str, origin: str) -> _Source:
    try:
        node = _compose(text)
        if node is None:
            return _Source(None, lambda _: None)
        twice = tuple(_twice(node))  # before merges (`<<`) are resolved, which adds to the nodes
        data = yaml.constructor.SafeConstructor().construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        problem = error.problem or error.context or ""
        deep = "nesting depth" in problem  # as libyaml has a limit of its own since PyYAML 6.0.4
        raise BadPlan(f"{origin}{line}: not YAML: {'it is nested too deep' if deep else problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadPlan(f"{origin}: not YAML: {_short(error)}") from None
    return _Source(data, lambda place: _node_line(node, place), twice)


def _short(error: Exception) -> str:
    return "it is nested too deep" if isinstance(error, RecursionError) else " ".join(str(error).split())


def _compose(text: str) -> yaml.Node | None:
    """YAML's nodes, safe to walk: no circles, not too deep, and not too many however often aliases repeat them."""
    # Five times quicker, but its composer crashes on great depth
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    for event in yaml.parse(text, loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEPTH_LIMIT:
            raise _yaml_error(f"it is nested too deep, more than {_DEPTH_LIMIT} levels", event.start_mark)
    node: yaml.Node | None = yaml.compose(text, loader)
    if node is not None:
        _bounded(node, {}, 0)
    return node


def _bounded(node: yaml.Node, sizes: dict[int, int], depth: int) -> int:
    """How many values a node stands for. `sizes` is {id of a node: that}; 0 while it is being counted."""
    if depth > _DEPTH_LIMIT:
        raise _yaml_error(f"it is nested too deep, more than {_DEPTH_LIMIT} levels", node.start_mark)
    known = sizes.get(id(node))
    if known == 0:
        raise _yaml_error("an alias stands inside what it repeats", node.start_mark)
    if known is None:
        sizes[id(node)] = 0
        known = 1 + sum(_bounded(part, sizes, depth + 1) for part in _parts(node))
        sizes[id(node)] = known
    if known > _NODES_LIMIT:
        raise _yaml_error(f"its aliases make more than {_NODES_LIMIT} values of it", node.start_mark)
    return known


def _yaml_error(words: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=words, problem_mark=mark)


def _parts(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _twice(root: yaml.Node | None) -> Iterator[Path_]:
    """The place of every field that is given again; what aliases repeat is looked at once."""
    stack: list[tuple[yaml.Node | None, Path_]] = [(root, ())]
    looked_at: set[int] = set()
    while stack:
        node, place = stack.pop()
        if id(node) in looked_at:
            continue
        looked_at.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            stack.extend((part, (*place, at)) for at, part in enumerate(node.value))
        elif isinstance(node, yaml.MappingNode):
            seen = set()
            for key, value in node.value:
                name = str(key.value)
                if (key.tag, name) in seen:
                    yield (*place, name)
                seen.add((key.tag, name))
                stack.append((value, (*place, name)))


def _node_line(node: yaml.Node | None, place: Path_) -> int | None:
    """The line of the value at `place`, or of the last of its parents that there is; of a field given twice, the last."""
    line = None
    for step in place:
        if isinstance(node, yaml.MappingNode):
            pairs = [(key, value) for key, value in node.value if str(key.value) == step]
            if not pairs:
                break
            key, node = pairs[-1]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            break
    return line


# --- fields ----------------------------------------------------------------------------------------------------


@attrs.define
class _Reader:
    """One file's way to a plan; gathers problems on it. What is wrong is left out of the plan, and remembered as spoilt."""

    choose: Chooser | None
    problems: list[Problem] = attrs.field(factory=list)
    _spoilt: set[tuple[int | None, str]] = attrs.field(factory=set)  # {(task's place, field)}; field "" = all of it

    def plan(self, data: Any) -> Plan:
        """The plan as far as it can be read."""
        if isinstance(data, list):
            return Plan([self._item(row, at) for at, row in enumerate(data)])
        if not isinstance(data, dict):
            self._say("", f"it must be a table with `plan` and `task`, or an array of tasks, not {kind_of(data)}")
            return Plan(())
        self._unknown(data, _SECTIONS, "", None, "")
        rules = data.get("plan", {})
        if not isinstance(rules, dict):
            self.problems.append(Problem("", f"it must be a table, not {kind_of(rules)}"))
            rules = {}
        fields = self._fields(rules, _PLAN_FIELDS, "", None, "")
        rows = data.get("task", [])
        if not isinstance(rows, list):
            self._say("task", f"it must be a list of tables ([[task]]), not {kind_of(rows)}")
            self._spoilt.add((None, ""))
            rows = []
        tasks = [self._task(row, at) for at, row in enumerate(rows)]
        return Plan(tasks, **fields)

    def spoilt(self, problem: Problem) -> bool:
        """Whether a problem of the plan as it was read is but the consequence of one that was told."""
        whole = (problem.task, "")
        return (problem.task, problem.field) in self._spoilt or (problem.task is not None and whole in self._spoilt)

    def _item(self, row: Any, at: int) -> Task:
        name = _name_of(row, at)
        fields = self._fields(row, _ARRAY_FIELDS, "", at, name)
        self._missing(row, _ARRAY_FIELDS, at, name)
        files = tuple(fields.get("files", ()))
        specialist = self.choose(files) if self.choose is not None else "service"
        return Task(fields.get("id", ""), specialist, goal=fields.get("prompt", ""), writes=files)

    def _task(self, row: Any, at: int) -> Task:
        name = _name_of(row, at)
        fields = self._fields(row, _TASK_FIELDS, "", at, name)
        for way in _WAY_FIELDS:
            if way in fields:
                fields[way] = self._way(fields[way], way, at, name)
        if fields.get("passes") == "fixpoint":
            fields["passes"] = FIXPOINT
        if self.choose is not None and isinstance(row, dict) and "specialist" not in row:
            fields["specialist"] = self.choose(tuple(fields.get("writes", ())))
        self._missing({**row, **fields} if isinstance(row, dict) else row, ("id", "specialist"), at, name)
        return Task(**{"id": "", "specialist": "", **fields})

    def _way(self, table: Mapping[str, Any], way: str, at: int, name: str) -> Rewrite | Codemod | None:
        before = len(self.problems)
        fields = self._fields(table, _WAY_FIELDS[way], way, at, name)
        self._missing(table, [field for field in _WAY_FIELDS[way] if field != "args"], at, name, way)
        if len(self.problems) > before:
            self._spoilt.add((at, way))
            return None
        return Rewrite(**fields) if way == "rewrite" else Codemod(**fields)

    def _missing(self, row: Any, wanted: Iterable[str], at: int, name: str, inside: str = "") -> None:
        if isinstance(row, dict):
            for field in wanted:
                if field not in row:
                    self._say(f"{inside}.{field}" if inside else field, "it is missing", at, name)

    def _fields(self, table: Any, known: Mapping[str, str], inside: str, at: int | None, name: str) -> dict[str, Any]:
        """The fields that are as they should be; the others are told of."""
        if not isinstance(table, dict):
            self._say(inside, f"it must be a table, not {kind_of(table)}", at, name)
            return {}
        self._unknown(table, known, inside, at, name)
        found = {}
        for field, value in table.items():
            want = known.get(field) if isinstance(field, str) else None
            if want is None:
                continue
            wrong = None if fits(value, want) else f"it must be {want}, not {kind_of(value)}"
            wrong = wrong or cannot_be_kept(value)
            if wrong:
                self._say(f"{inside}.{field}" if inside else field, wrong, at, name)
            else:
                found[field] = value
        return found

    def _unknown(self, table: Mapping[Any, Any], known: Iterable[str], inside: str, at: int | None, name: str) -> None:
        for field in table:
            if field not in known:
                where = f"{inside}.{field}" if inside else str(field)
                self._say(where, no_such_field(field, known), at, name)

    def _say(self, field: str, text: str, at: int | None = None, name: str = "") -> None:
        self._spoilt.add((at, field))
        self.problems.append(Problem(field, text, at, name))


def _name_of(row: Any, at: int) -> str:
    return called(row.get("id") if isinstance(row, dict) else None, at)


def _whose(data: Any, place: Path_) -> tuple[int | None, str]:
    """(place of the task, its name) in which a value stands; (None, "") outside of them."""
    rows, rest = (data, place) if isinstance(data, list) else (data.get("task"), place[1:])
    inside = isinstance(data, list) or place[:1] == ("task",)
    if not inside or not rest or not isinstance(rest[0], int) or not isinstance(rows, list):
        return None, ""
    return rest[0], _name_of(rows[rest[0]], rest[0])


def _dotted(place: Path_) -> str:
    names = [str(step) for step in place if isinstance(step, str)]
    return ".".join(names[1:] if len(names) > 1 and names[0] in _SECTIONS else names)


def _told(found: Iterable[Problem], source: _Source, origin: str) -> list[str]:
    """Each problem as a line. The text is searched for lines only now that something is wrong."""
    said: dict[str, None] = {}
    for problem in found:
        steps = tuple(problem.field.split(" ")[0].split(".")) if problem.field else ()
        if problem.task is None:
            places: list[Path_] = [("plan", *steps), steps]
        else:
            row: Path_ = (problem.task,) if isinstance(source.data, list) else ("task", problem.task)
            places = [(*row, *steps)]
        if steps == () and problem.task is None:
            places = []
        line = next((line for place in places if (line := source.line_of(place)) is not None), None)
        said[problem.told(origin, line)] = None
    return list(said)


def no_such_field(name: object, known: Iterable[str]) -> str:
    """The sentence for an unknown field, with the nearest known one."""
    names = list(known)
    close = get_close_matches(str(name), names, 1)
    return f"there is no such field; {f'did you mean {close[0]!r}?' if close else 'known are: ' + ', '.join(names)}"


def fits(value: Any, want: str) -> bool:
    """Whether a value read from a file is what a field takes; true and false are no numbers."""
    if want == _TEXT:
        return isinstance(value, str)
    if want == _NUMBER:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if want == _WHOLE:
        return isinstance(value, int) and not isinstance(value, bool)
    if want == _PASSES:
        return value == "fixpoint" or fits(value, _WHOLE)
    if want == _YES_NO:
        return isinstance(value, bool)
    if want == _TABLE:
        return isinstance(value, dict) and all(isinstance(key, str) for key in value)
    if want in (_TEXTS, _WHOLES):
        each = _TEXT if want == _TEXTS else _WHOLE
        return isinstance(value, list) and all(fits(one, each) for one in value)
    return want == _ANYTHING


def cannot_be_kept(value: Any) -> str | None:
    """Why the journal could not carry a value, or JSON not show it; None when they can."""
    stack = [(value, 0)]
    while stack:
        one, depth = stack.pop()
        if depth > _DEPTH_LIMIT:
            return f"it is nested too deep, more than {_DEPTH_LIMIT} levels"
        if isinstance(one, float) and not math.isfinite(one):
            return f"{one!r} is not finite"
        if isinstance(one, int) and not -_WIDEST_INT <= one < _WIDEST_INT:
            return "a number in it has more than 64 bits"
        if isinstance(one, str) and not one.isascii() and any("\ud800" <= char <= "\udfff" for char in one):
            return "it has half of a surrogate pair in it, which is no character"
        if isinstance(one, dict):
            stack.extend((part, depth + 1) for pair in one.items() for part in pair)
        elif isinstance(one, list | tuple | set):
            stack.extend((part, depth + 1) for part in one)
    return None


def kind_of(value: Any) -> str:
    """What people call a value's type."""
    names = {str: "text", bool: "true/false", int: "a number", float: "a number", list: "a list", dict: "a table"}
    if isinstance(value, list):
        odd = next((one for one in value if not isinstance(one, str)), None)
        return f"a list with {kind_of(odd)} in it" if any(not isinstance(one, str) for one in value) else "a list"
    return "nothing" if value is None else names.get(type(value), type(value).__name__)
