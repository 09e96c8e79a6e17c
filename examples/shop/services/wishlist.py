"""The wishlist service."""

from services.web import delete, get, log, post, route

WISHES = []


@route("GET", "/wishlist")
def every():
    """All wishes."""
    print("listing wishes")
    return {"wishes": list(WISHES)}


@route("POST", "/wishlist")
def wish(who, sku):
    """Take one in and say what it was."""
    line = "{} wishes for {}".format(who, sku)
    print(line)
    WISHES.append(line)
    return line


@route("DELETE", "/wishlist")
def clear():
    """Forget all wishes."""
    count = len(WISHES)
    WISHES.clear()
    print("{} wishes forgotten".format(count))
    return count
