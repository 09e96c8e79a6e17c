"""A cart becomes an order."""

from services import pricing, shipping, stock, store
from services.errors import Invalid
from services.legacy import route
from services.log import log
from services.money import euros


@route("POST", "/checkout/{cart}")
def check_out(cart, body):
    """Order what is in a cart. `body` has the country and perhaps a voucher; says the order's name."""
    lines = store.CARTS.get(cart)
    if not lines:
        log.warning("checkout of an empty cart")
        raise Invalid("the cart {} is empty".format(cart))
    goods = pricing.total_cents(lines, body.get("voucher"))
    postage = shipping.postage_cents(body["country"], sum(lines.values()), goods)
    stock.take(lines)
    order = store.next_id("order")
    store.ORDERS[order] = {
        "order": order,
        "lines": dict(lines),
        "cents": goods + postage,
        "state": "open",
        "country": body["country"],
    }
    del store.CARTS[cart]
    print("{}: {} and {} postage".format(order, euros(goods), euros(postage)))
    return order
