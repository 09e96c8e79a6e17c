"""Checks that calls between the services fit: the name exists, and the arguments suit its parameters.

    python tools/signatures.py services/cart.py services/checkout.py
    python tools/signatures.py services

A small stand-in for a type checker. It reads the files it is given and those they import; it runs none of them.
"""

import ast
import functools
import pathlib
import sys


@functools.cache
def functions(module):
    """{name: its parameters} of the functions that a module of ours defines; None when it is not ours."""
    file = pathlib.Path(*module.split(".")).with_suffix(".py")
    if not file.is_file():
        return None
    return {node.name: node.args for node in ast.parse(file.read_bytes()).body if isinstance(node, ast.FunctionDef)}


def problems(file):
    """One line for each call that does not fit."""
    tree = ast.parse(file.read_bytes())
    modules, names = {}, dict(functions(".".join(file.with_suffix("").parts)))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if functions(inner) is not None:
                    modules[alias.asname or alias.name] = inner
                elif (functions(node.module) or {}).get(alias.name):
                    names[alias.asname or alias.name] = functions(node.module)[alias.name]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in names:
            yield from misfit(file, node, node.func.id, names[node.func.id])
        elif isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", None) in modules:
            module = modules[node.func.value.id]
            if node.func.attr not in functions(module):
                yield f"{file}:{node.lineno}: {module} has no function {node.func.attr}"
            else:
                yield from misfit(file, node, node.func.attr, functions(module)[node.func.attr])


def misfit(file, call, name, parameters):
    """What is wrong with the arguments of one call."""
    if any(isinstance(one, ast.Starred) for one in call.args) or any(one.arg is None for one in call.keywords):
        return
    known = [one.arg for one in (*parameters.posonlyargs, *parameters.args, *parameters.kwonlyargs)]
    needed = known[: len(parameters.args) - len(parameters.defaults)]
    given = known[: len(call.args)] + [one.arg for one in call.keywords]
    if len(call.args) > len(parameters.args) or len(set(given)) < len(given):
        yield f"{file}:{call.lineno}: too many arguments for {name}"
    for unknown in sorted(set(given) - set(known)):
        yield f"{file}:{call.lineno}: {name} has no parameter {unknown}"
    for missing in [one for one in needed if one not in given]:
        yield f"{file}:{call.lineno}: {name} needs {missing}"


if __name__ == "__main__":
    given = [pathlib.Path(word) for word in sys.argv[1:]]
    files = [file for one in given for file in (sorted(one.glob("*.py")) if one.is_dir() else [one])]
    found = [line for file in files for line in problems(file)]
    for line in found:
        print(line)
    sys.exit(bool(found))
