"""`runtime/API.md`, made from the docstrings: `python tests/api_reference.py` writes it. Knows no name by itself but those of the modules."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "runtime/API.md"
MODULES = ("runtime", "runtime.blocking", "runtime.aio", "specialists")


def text() -> str:
    """The whole reference."""
    lines = [
        "# Public names",
        "",
        "Made from the docstrings by `python tests/api_reference.py`. What is not listed here may change without notice.",
    ]
    for name in MODULES:
        module = importlib.import_module(name)
        lines += ["", f"## `{name}`", "", _said(module)]
        for public in sorted(module.__all__):
            lines += ["", *_told(public, getattr(module, public))]
    return "\n".join(lines) + "\n"


def _told(name: str, value: Any) -> Iterator[str]:
    yield f"### `{name}`"
    yield ""
    if not callable(value):
        yield f"A {type(value).__name__}."
        return
    error = inspect.isclass(value) and issubclass(value, BaseException)
    if not error:
        yield from ("```python", f"{name}{_signature(value)}", "```", "")
    yield _said(value)
    if not inspect.isclass(value) or error:
        return
    rows = [row for member in vars(value) if not member.startswith("_") for row in _member(member, vars(value)[member])]
    if rows:
        yield ""
        yield from rows


def _member(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, property) or type(value).__name__ == "cached_property":
        yield f"- `.{name}` – {_said(getattr(value, 'fget', None) or value)}"
    elif inspect.isfunction(value) and value.__doc__:
        before = "await " if inspect.iscoroutinefunction(value) else ""
        yield f"- `{before}.{name}{_signature(value)}` – {_said(value)}"


def _signature(value: Any) -> str:
    try:
        signature = inspect.signature(value)
    except ValueError:  # something built in
        return "(...)"
    words, starred = [], False
    for one in signature.parameters.values():
        if one.name == "self":
            continue
        if one.kind is one.KEYWORD_ONLY and not starred:
            words.append("*")
        starred = starred or one.kind in (one.KEYWORD_ONLY, one.VAR_POSITIONAL)
        before = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        words.append(before + one.name + _kind(one.annotation) + _default(one.default))
    back = "" if inspect.isclass(value) else _kind(signature.return_annotation).replace(": ", " -> ", 1)
    return f"({', '.join(words)}){back}"


def _kind(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    return f": {annotation.strip(chr(39)) if isinstance(annotation, str) else inspect.formatannotation(annotation)}"


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return ""
    plain = value is None or isinstance(value, (str, int, float, bool)) or value == ()
    return f" = {value!r}" if plain else " = ..."


def _said(value: Any) -> str:
    return " ".join((inspect.getdoc(value) or "").split())


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    TARGET.write_text(text())
