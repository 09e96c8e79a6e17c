"""What a customer is about to buy."""

from services import pricing, store
from services.errors import Invalid, NotFound
from services.legacy import route
from services.log import log
from services.money import euros

MOST = 20


@route("GET", "/carts/{cart}")
def show_cart(cart):
    """The lines of a cart and what they cost."""
    lines = store.CARTS.get(cart, {})
    shown = [describe(sku, count) for sku, count in lines.items()]
    return {"lines": shown, "total": euros(pricing.total_cents(lines))}


@route("POST", "/carts/{cart}/lines")
def add_line(cart, body):
    """Put so many of a product into a cart; it is made when it is new."""
    sku, count = body["sku"], body["count"]
    if sku not in store.PRODUCTS:
        raise NotFound("there is no product {}".format(sku))
    lines = store.CARTS.setdefault(cart, {})
    if not 0 < lines.get(sku, 0) + count <= MOST:
        log.warning("somebody tried an odd number")
        raise Invalid("{} is too few or too many of {}".format(count, sku))
    lines[sku] = lines.get(sku, 0) + count
    print("cart {}: {} x {}".format(cart, lines[sku], sku))
    return lines[sku]


@route("DELETE", "/carts/{cart}")
def empty_cart(cart):
    """Forget a cart; says how many lines it had."""
    lines = store.CARTS.pop(cart, {})
    print("cart {} emptied".format(cart))
    return len(lines)


def describe(sku, count):
    """One line in words."""
    discount = pricing.explain(count)
    words = "{} x {} = {}".format(count, store.PRODUCTS[sku]["title"], euros(pricing.line_cents(sku, count)))
    return "{} ({})".format(words, discount) if discount else words
