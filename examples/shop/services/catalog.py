"""The catalog service."""

from services.web import delete, get, log, post, route

ITEMS = []


@route("GET", "/catalog")
def every():
    """All items."""
    print("listing items")
    return {"items": list(ITEMS)}


@route("POST", "/catalog")
def add_item(sku, title):
    """Take one in and say what it was."""
    line = "{}: {}".format(sku, title)
    print(line)
    ITEMS.append(line)
    return line


@route("DELETE", "/catalog")
def clear():
    """Forget all items."""
    count = len(ITEMS)
    ITEMS.clear()
    print("{} items forgotten".format(count))
    return count
