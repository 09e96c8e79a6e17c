"""Taking money for orders."""

from services import orders, store
from services.errors import Invalid, NotFound
from services.legacy import route
from services.log import log
from services.money import euros


@route("POST", "/payments")
def pay(body):
    """Pay an order. `body` has order, card and cents; the amount has to be exact."""
    order = orders.find(body["order"])
    if body["cents"] != order["cents"]:
        log.warning("a payment of the wrong amount")
        raise Invalid("{} given, {} due".format(euros(body["cents"]), euros(order["cents"])))
    payment = store.next_id("payment")
    store.PAYMENTS[payment] = {"payment": payment, "order": body["order"], "cents": body["cents"]}
    orders.advance(body["order"])
    print("{}: {} from card {}".format(payment, euros(body["cents"]), masked(body["card"])))
    return payment


@route("GET", "/payments/{payment}")
def show_payment(payment):
    """One payment."""
    if payment not in store.PAYMENTS:
        raise NotFound("there is no payment {}".format(payment))
    return store.PAYMENTS[payment]


def masked(card):
    """A card's number as it may be shown: only the last four digits."""
    return "{}{}".format("*" * (len(card) - 4), card[-4:])
