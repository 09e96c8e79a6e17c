"""Orders after the checkout."""

from services import stock, store
from services.errors import Invalid, NotFound
from services.legacy import route
from services.log import log
from services.money import euros

NEXT = {"open": "paid", "paid": "sent", "sent": "delivered"}


@route("GET", "/orders/{order}")
def show_order(order):
    """An order with its amount in words."""
    found = find(order)
    return {**found, "amount": euros(found["cents"]), "title": "{} ({})".format(order, found["state"])}


@route("DELETE", "/orders/{order}")
def cancel_order(order):
    """Cancel an order that has not been sent; what it took goes back on the shelves."""
    found = find(order)
    if found["state"] not in ("open", "paid"):
        log.warning("too late to cancel")
        raise Invalid("{} is {} already".format(order, found["state"]))
    stock.put_back(found["lines"])
    found["state"] = "cancelled"
    print("{} cancelled".format(order))
    return found["state"]


def advance(order):
    """Move an order on to its next state and say which that is."""
    found = find(order)
    if found["state"] not in NEXT:
        raise Invalid("{} cannot go on from {}".format(order, found["state"]))
    before, found["state"] = found["state"], NEXT[found["state"]]
    print("{}: {} -> {}".format(order, before, found["state"]))
    return found["state"]


def find(order):
    """The order of a name. Raises NotFound."""
    if order not in store.ORDERS:
        raise NotFound("there is no order {}".format(order))
    return store.ORDERS[order]
