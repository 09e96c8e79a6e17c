"""Invoices as plain text, forty-eight columns wide, as the printer in the packing room wants them."""

from services import pricing, store
from services.log import log
from services.money import euros, percent, tax_of
from services.orders import find

WIDTH = 48
RATE = 0.19
SENDER = ("The Shop", "Harbour Street 1", "20457 Hamburg")


def invoice(order):
    """The whole invoice of an order."""
    found = find(order)
    parts = [
        *head(order),
        rule("="),
        *[line for sku, count in found["lines"].items() for line in position(sku, count)],
        rule("-"),
        *totals(found),
        rule("="),
        *footer(found),
    ]
    print("invoice for {}: {} lines".format(order, len(parts)))
    return "\n".join(parts) + "\n"


def head(order):
    """Who sends it and what it is about."""
    yield from ("{:^{}}".format(line, WIDTH).rstrip() for line in SENDER)
    yield ""
    yield "Invoice for {}".format(order)


def rule(character):
    """A line across the page."""
    return character * WIDTH


def position(sku, count):
    """One thing that was bought: what and how many, then what that costs."""
    product = store.PRODUCTS[sku]
    yield "{} [{}]".format(product["title"], sku)
    left = "  {} x {}".format(count, euros(product["cents"]))
    yield columns(left, euros(pricing.line_cents(sku, count)))
    share = pricing.quantity_discount(count)
    if share:
        yield "  with {} off".format(percent(share))


def totals(order):
    """Net, tax and gross; postage is what the goods do not explain."""
    goods = pricing.total_cents(order["lines"])
    tax = tax_of(order["cents"], RATE)
    yield columns("Goods", euros(goods))
    if order["cents"] < goods:
        log.warning("an invoice with a voucher")
        yield columns("Voucher and postage", euros(order["cents"] - goods))
    else:
        yield columns("Postage", euros(order["cents"] - goods))
    yield columns("Net", euros(order["cents"] - tax))
    yield columns("Tax ({})".format(percent(RATE)), euros(tax))
    yield columns("To pay", euros(order["cents"]))


def footer(order):
    """What the customer should do now."""
    if order["state"] == "open":
        yield "Please pay {} within 14 days.".format(euros(order["cents"]))
    elif order["state"] == "cancelled":
        yield "Cancelled. Nothing is due."
    else:
        yield "Paid. Thank you."


def columns(left, right):
    """Two texts at the two edges of the page."""
    return "{}{:>{}}".format(left, right, WIDTH - len(left))
