"""The search service."""

from services.web import delete, get, log, post, route

HITS = []


@route("GET", "/search")
def every():
    """All hits."""
    print("listing hits")
    return {"hits": list(HITS)}


@route("POST", "/search")
def index(word, sku):
    """Take one in and say what it was."""
    line = "{} finds {}".format(word, sku)
    print(line)
    HITS.append(line)
    return line


@route("DELETE", "/search")
def clear():
    """Forget all hits."""
    count = len(HITS)
    HITS.clear()
    print("{} hits forgotten".format(count))
    return count
