"""The cart service."""

from services.web import delete, get, log, post, route

LINES = []


@route("GET", "/cart")
def every():
    """All lines."""
    print("listing lines")
    return {"lines": list(LINES)}


@route("POST", "/cart")
def add_line(sku, count):
    """Take one in and say what it was."""
    line = "{} x {}".format(count, sku)
    print(line)
    LINES.append(line)
    return line


@route("DELETE", "/cart")
def clear():
    """Forget all lines."""
    count = len(LINES)
    LINES.clear()
    print("{} lines forgotten".format(count))
    return count
