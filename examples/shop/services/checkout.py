"""The checkout service."""

from services.web import delete, get, log, post, route

STEPS = []


@route("GET", "/checkout")
def every():
    """All steps."""
    print("listing steps")
    return {"steps": list(STEPS)}


@route("POST", "/checkout")
def begin(cart, address):
    """Take one in and say what it was."""
    line = "cart {} goes to {}".format(cart, address)
    print(line)
    STEPS.append(line)
    return line


@route("DELETE", "/checkout")
def clear():
    """Forget all steps."""
    count = len(STEPS)
    STEPS.clear()
    print("{} steps forgotten".format(count))
    return count
