"""What the shop remembers. In memory: a real shop would have a database behind the same names."""

import itertools

PRODUCTS = {}  # {sku: {"sku", "title", "cents"}}
STOCK = {}  # {sku: how many are left}
CARTS = {}  # {cart: {sku: how many}}
ORDERS = {}  # {order: {"order", "lines", "cents", "state", "country"}}
PAYMENTS = {}  # {payment: {"payment", "order", "cents"}}
REVIEWS = {}  # {sku: [{"stars", "words"}]}
ACCOUNTS = {}  # {email: {"email", "name"}}

_numbers = {}  # {kind: a counter}


def next_id(kind):
    """The next free name of a kind: `order-1`, `order-2`, ..."""
    counter = _numbers.setdefault(kind, itertools.count(1))
    return "{}-{}".format(kind, next(counter))


def reset():
    """Forget everything, then put three products on the shelves."""
    for table in (PRODUCTS, STOCK, CARTS, ORDERS, PAYMENTS, REVIEWS, ACCOUNTS, _numbers):
        table.clear()
    for sku, title, cents, left in (
        ("tea", "Green tea", 450, 10),
        ("cup", "Enamel cup", 1200, 3),
        ("pot", "Iron pot", 6400, 1),
    ):
        PRODUCTS[sku] = {"sku": sku, "title": title, "cents": cents}
        STOCK[sku] = left
