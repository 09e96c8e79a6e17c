"""Reads a file the slow and thorough way and reports what it imports and never uses: the check of one file."""

import ast
import sys

for path in sys.argv[1:]:
    tree = ast.parse(open(path, encoding="utf-8").read(), path)
    names = {
        (alias.asname or alias.name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    unused = sorted(names - used)
    if unused:
        print(f"{path}: unused: {', '.join(unused)}")
