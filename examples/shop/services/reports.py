"""What the owner reads on Monday morning: sales by product and country, and what has to be ordered."""

from collections import Counter

from services import pricing, stock, store
from services.log import log
from services.money import euros, percent

BAR = 24
COUNTED = ("paid", "sent", "delivered")


def weekly():
    """The whole report."""
    sold = [order for order in store.ORDERS.values() if order["state"] in COUNTED]
    if not sold:
        log.warning("a week without sales")
    sections = [summary(sold), by_product(sold), by_country(sold), best_reviewed(), to_order()]
    print("weekly report over {} orders".format(len(sold)))
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def summary(sold):
    """A few figures."""
    taken = sum(order["cents"] for order in sold)
    mean = taken // len(sold) if sold else 0
    cancelled = sum(order["state"] == "cancelled" for order in store.ORDERS.values())
    return [
        "SUMMARY",
        "orders     {:>6}".format(len(sold)),
        "taken      {}".format(euros(taken)),
        "mean order {}".format(euros(mean)),
        "cancelled  {:>6} ({})".format(cancelled, percent(cancelled / max(1, len(store.ORDERS)))),
    ]


def by_product(sold):
    """How many of each product, the most sold first, as bars."""
    counts = Counter()
    for order in sold:
        counts.update(order["lines"])
    most = max(counts.values(), default=1)
    rows = ["BY PRODUCT"]
    for sku, count in counts.most_common():
        title = store.PRODUCTS[sku]["title"]
        rows.append("{:<12} {:>4} {}".format(title, count, "#" * (count * BAR // most)))
    return rows


def by_country(sold):
    """What each country brought in, with its share."""
    cents = Counter()
    for order in sold:
        cents[order["country"]] += order["cents"]
    taken = sum(cents.values()) or 1
    rows = ["BY COUNTRY"]
    for country, amount in cents.most_common():
        rows.append("{} {:>16} {:>8}".format(country, euros(amount), percent(amount / taken)))
    return rows


def best_reviewed():
    """The products that customers like, by the mean of their stars."""
    means = {
        sku: sum(review["stars"] for review in reviews) / len(reviews)
        for sku, reviews in store.REVIEWS.items()
        if reviews
    }
    rows = ["LIKED BEST"]
    for sku, mean in sorted(means.items(), key=lambda item: -item[1]):
        rows.append("{:<12} {:.1f} of 5 ({} reviews)".format(sku, mean, len(store.REVIEWS[sku])))
    return rows


def to_order():
    """What is running out, and what filling the shelf again would cost at our prices."""
    rows = ["TO ORDER"]
    for sku, left in sorted(store.STOCK.items()):
        if left <= stock.LOW:
            missing = 10 - left
            cost = euros(pricing.line_cents(sku, missing))
            rows.append("{:<12} {:>3} left, {:>3} for {}".format(sku, left, missing, cost))
    return rows
