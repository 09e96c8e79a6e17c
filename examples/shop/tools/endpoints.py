"""Writes down the endpoints that the services register: for people (Markdown) or for the interface (TypeScript).

    python tools/endpoints.py --markdown docs/endpoints.md
    python tools/endpoints.py --typescript web/src/routes.ts

It reads the source and imports nothing. Only the new decorators count: an endpoint that is still registered with the
old `route` is an error, because it would be missing from what is written.
"""

import ast
import pathlib
import re
import sys

METHODS = ("get", "post", "put", "delete")


def main(kind, target):
    """Write the file of one kind; the exit code."""
    rows, old = read(pathlib.Path("services"))
    if old:
        print("\n".join(f"{place}: still registered with route()" for place in old), file=sys.stderr)
        return 1
    text = {"--markdown": markdown, "--typescript": typescript}[kind](rows)
    pathlib.Path(target).write_text(text, encoding="utf-8")
    return 0


def read(folder):
    """Rows (path, method, file, function, first line of its docstring), sorted; and where `route` is still used."""
    rows, old = [], []
    for file in sorted(folder.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_bytes())):
            for mark in getattr(node, "decorator_list", ()):
                name = mark.func.id if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) else ""
                if name in METHODS:
                    words = (ast.get_docstring(node) or "").partition("\n")[0]
                    rows.append((mark.args[0].value, name.upper(), file.stem, node.name, words))
                elif name == "route":
                    old.append(f"{file}:{mark.lineno}")
    return sorted(rows), old


def markdown(rows):
    """A table."""
    lines = ["# Endpoints", "", "Written by `tools/endpoints.py`; do not edit.", ""]
    lines += ["| request | service | what it does |", "|---|---|---|"]
    lines += [f"| `{method} {path}` | {module} | {words} |" for path, method, module, _, words in rows]
    return "\n".join(lines) + "\n"


def typescript(rows):
    """The paths that may be asked for, as a type."""
    paths = sorted({re.sub(r"\{\w+\}", "${string}", path) for path, *_ in rows})
    lines = ["// The paths that the services answer. Written by tools/endpoints.py; do not edit.", "export type Route ="]
    lines += [f"  | `{path}`" for path in paths]
    return "\n".join(lines) + ";\n"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
