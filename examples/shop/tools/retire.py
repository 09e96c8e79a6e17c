"""Deletes a module that nothing imports any more; refuses, with the list, while something does.

    python tools/retire.py services/legacy.py
"""

import ast
import pathlib
import sys


def importers(module):
    """The files that import the module."""
    package, _, name = module.rpartition(".")
    for file in sorted((*pathlib.Path("services").glob("*.py"), *pathlib.Path("tests").glob("*.py"))):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import) and any(alias.name == module for alias in node.names):
                yield file
            elif isinstance(node, ast.ImportFrom) and (
                node.module == module or (node.module == package and any(alias.name == name for alias in node.names))
            ):
                yield file


if __name__ == "__main__":
    target = pathlib.Path(sys.argv[1])
    left = sorted(set(importers(".".join(target.with_suffix("").parts))))
    if left:
        sys.exit(f"{target} is still imported by {', '.join(map(str, left))}")
    target.unlink()
