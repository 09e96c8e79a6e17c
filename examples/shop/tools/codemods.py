"""Codemods of the shop's own: functions of a path and its bytes that give the new bytes, or None."""

import re

ROUTE = re.compile(rb'@route\("(GET|POST|DELETE)", ')


def endpoints(path, data):
    """`@route("GET", "/x")` becomes `@get("/x")`; the import of `route` goes."""
    new = ROUTE.sub(lambda found: b"@" + found[1].lower() + b"(", data)
    return new.replace(b", post, route", b", post")


def logger(path, data):
    """`console.log` becomes the logger's, which is imported where it was not."""
    new = data.replace(b"console.log(", b"logger.debug(").replace(b"  var ", b"  const ")
    if b"logger.debug(" in new and b"import { logger }" not in new:
        new = new.replace(b"services.\n", b"services.\nimport { logger } from \"./logger\";\n\n", 1)
    return new


def page(path, data):
    """A page: the new name of the api's function, no `var`, no console."""
    new = logger(path, data).replace(b"fetchJSON", b"apiGet")
    return new.replace(b"const live = true", b"let live = true")
