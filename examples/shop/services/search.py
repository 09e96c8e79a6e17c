"""Finding products by what somebody typed."""

from services import store
from services.legacy import route
from services.log import log

WEIGHTS = {"sku": 3, "title": 2}


@route("GET", "/search/{words}")
def search(words):
    """Products that have all the words (joined by `+`), the best first."""
    wanted = words.lower().split("+")
    scored = [(score(product, wanted), product["sku"]) for product in store.PRODUCTS.values()]
    found = [sku for points, sku in sorted(scored, reverse=True) if points]
    if not found:
        log.warning("nothing found")
    print("{} products for {!r}".format(len(found), words))
    return found


def score(product, wanted):
    """Points of one product; 0 unless every word is somewhere in it."""
    points = 0
    for word in wanted:
        hits = [weight for field, weight in WEIGHTS.items() if word in product[field].lower()]
        if not hits:
            return 0
        points += max(hits)
    return points
