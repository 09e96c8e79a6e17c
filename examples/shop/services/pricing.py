"""From lines to an amount: discounts by quantity and by voucher."""

from services import store
from services.errors import Invalid
from services.money import percent

STEPS = ((10, 0.10), (5, 0.05))  # (from how many of one product, discount)
VOUCHERS = {"WELCOME": 0.10, "TEATIME": 0.15}


def quantity_discount(count):
    """The share that is taken off for buying many of one product."""
    return next((share for least, share in STEPS if count >= least), 0.0)


def line_cents(sku, count):
    """What so many of a product cost."""
    full = store.PRODUCTS[sku]["cents"] * count
    return round(full * (1 - quantity_discount(count)))


def total_cents(lines, voucher=None):
    """What all lines cost together. Raises Invalid for a voucher that is not known."""
    total = sum(line_cents(sku, count) for sku, count in lines.items())
    if voucher is None:
        return total
    if voucher not in VOUCHERS:
        raise Invalid("the voucher {!r} is not known".format(voucher))
    return round(total * (1 - VOUCHERS[voucher]))


def explain(count):
    """The discount in words, for the cart."""
    share = quantity_discount(count)
    return "{} off for {}".format(percent(share), count) if share else ""
