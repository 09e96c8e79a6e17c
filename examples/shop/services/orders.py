"""The orders service."""

from services.web import delete, get, log, post, route

ORDERS = []


@route("GET", "/orders")
def every():
    """All orders."""
    print("listing orders")
    return {"orders": list(ORDERS)}


@route("POST", "/orders")
def place(number, total):
    """Take one in and say what it was."""
    line = "order {} of {}".format(number, total)
    print(line)
    ORDERS.append(line)
    return line


@route("DELETE", "/orders")
def clear():
    """Forget all orders."""
    count = len(ORDERS)
    ORDERS.clear()
    print("{} orders forgotten".format(count))
    return count
