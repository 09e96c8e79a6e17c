"""The shop's own codemods: functions of a path and the file's bytes that give the new bytes, or None for no change.

Nothing here knows who calls it. Python files are edited by the positions of the syntax tree, so that comments and
layout stay as they are; the TypeScript ones are simple enough for regular expressions.
"""

import ast
import posixpath
import re

METHODS = {"GET": "get", "POST": "post", "PUT": "put", "DELETE": "delete"}
OLD_ROUTE = b"from services.legacy import route\n"
OLD_CALL = b"from services.legacy import call\n"


def endpoints(path, data):
    """`@route("GET", "/x")` -> `@get("/x")`, and the import that goes with it."""
    edits, used = [], set()
    for node in ast.walk(ast.parse(data)):
        for mark in getattr(node, "decorator_list", ()):
            method = _method(mark, "route")
            if method:
                edits.append((mark, b"%s(" % method.encode()))
                used.add(method)
    if not used:
        return None
    new = _first_argument_dropped(data, edits)
    names = ", ".join(sorted(used)).encode()
    return _sorted_imports(new.replace(OLD_ROUTE, b"from services.router import %s\n" % names))


def client_calls(path, data):
    """`call("GET", "/x")` -> `client.get("/x")` in a test, and the import that goes with it."""
    edits = [
        (node, b"client.%s(" % method.encode())
        for node in ast.walk(ast.parse(data))
        if isinstance(node, ast.Call) and (method := _method(node, "call"))
    ]
    if not edits:
        return None
    return _sorted_imports(_first_argument_dropped(data, edits).replace(OLD_CALL, b"from tests import client\n"))


def use_logger(path, data):
    """`console.log(` -> `logger.debug(` in TypeScript, importing the logger where that is not done yet."""
    new = data.replace(b"console.log(", b"logger.debug(")
    if new == data or b"import { logger }" in data:
        return None if new == data else new
    module = _relative(path, "web/src/logger").encode()
    return _after_last_import(new, b'import { logger } from "%s";\n' % module)


def prop_types(path, data):
    """`React.PropTypes.string` -> `PropTypes.string`, imported from the package that it has moved to."""
    if b"React.PropTypes" not in data:
        return None
    new = data.replace(b"React.PropTypes", b"PropTypes")
    return new.replace(b'from "react";\n', b'from "react";\nimport PropTypes from "prop-types";\n', 1)


def _method(node, name):
    """The new function's name when `node` calls `name` with an HTTP method first."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name and node.args):
        return None
    first = node.args[0]
    return METHODS.get(first.value) if isinstance(first, ast.Constant) else None


def _first_argument_dropped(data, edits):
    """Each call begins with the new text instead of its name and first argument."""
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node, text in sorted(edits, key=lambda edit: (edit[0].lineno, edit[0].col_offset), reverse=True):
        begin = starts[node.lineno - 1] + node.col_offset
        second = node.args[1]
        end = starts[second.lineno - 1] + second.col_offset
        data = data[:begin] + text + data[end:]
    return data


def _sorted_imports(data):
    """The block of one-line imports from our own packages, in order again."""
    block = re.compile(rb"(?:^from (?:services|tests)[. ].*\n)+", re.MULTILINE)
    return block.sub(lambda found: b"".join(sorted(found[0].splitlines(keepends=True))), data, count=1)


def _relative(path, module):
    """How a file imports another module of the interface."""
    way = posixpath.relpath(module, posixpath.dirname(path))
    return way if way.startswith(".") else "./" + way


def _after_last_import(data, line):
    """The line put below the file's imports; above its code where there are none."""
    last = [found.end() for found in re.finditer(rb"^import .*;\n", data, re.MULTILINE)]
    if last:
        return data[: last[-1]] + line + data[last[-1] :]
    code = re.search(rb"^(?!//|\n)", data, re.MULTILINE)
    at = code.start() if code else 0
    return data[:at] + line + b"\n" + data[at:]
