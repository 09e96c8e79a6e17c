"""The reviews service."""

from services.web import delete, get, log, post, route

REVIEWS = []


@route("GET", "/reviews")
def every():
    """All reviews."""
    print("listing reviews")
    return {"reviews": list(REVIEWS)}


@route("POST", "/reviews")
def write(sku, stars):
    """Take one in and say what it was."""
    line = "{} stars for {}".format(stars, sku)
    print(line)
    REVIEWS.append(line)
    return line


@route("DELETE", "/reviews")
def clear():
    """Forget all reviews."""
    count = len(REVIEWS)
    REVIEWS.clear()
    print("{} reviews forgotten".format(count))
    return count
