"""How many of each product are left."""

from services import store
from services.errors import Invalid, OutOfStock
from services.legacy import route
from services.log import log

LOW = 2


@route("GET", "/stock/{sku}")
def show_stock(sku):
    """How many are left, and whether that is few."""
    left = store.STOCK.get(sku, 0)
    return {"sku": sku, "left": left, "low": left <= LOW}


@route("PUT", "/stock/{sku}")
def set_stock(sku, body):
    """Somebody has counted the shelf."""
    if body["left"] < 0:
        raise Invalid("{} of {} cannot be".format(body["left"], sku))
    print("{}: {} counted, {} expected".format(sku, body["left"], store.STOCK.get(sku, 0)))
    store.STOCK[sku] = body["left"]
    return body["left"]


def take(lines):
    """Take all of an order's lines off the shelves, or none. Raises OutOfStock."""
    for sku, count in lines.items():
        left = store.STOCK.get(sku, 0)
        if left < count:
            raise OutOfStock("{} of {} wanted, {} left".format(count, sku, left))
    for sku, count in lines.items():
        store.STOCK[sku] -= count
        if store.STOCK[sku] <= LOW:
            log.warning("time to order more of something")


def put_back(lines):
    """Return an order's lines to the shelves."""
    for sku, count in lines.items():
        store.STOCK[sku] = store.STOCK.get(sku, 0) + count
