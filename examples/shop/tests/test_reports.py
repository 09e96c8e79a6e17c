import unittest

from services import cart, checkout, payments, reports, reviews, store  # noqa: F401
from services.legacy import call

EXPECTED = """\
SUMMARY
orders          2
taken      43.80 EUR
mean order 21.90 EUR
cancelled       0 (0.0 %)

BY PRODUCT
Green tea       4 ########################
Enamel cup      1 ######

BY COUNTRY
FR        22.40 EUR   51.1 %
DE        21.40 EUR   48.9 %

LIKED BEST
tea          4.5 of 5 (2 reviews)

TO ORDER
cup            2 left,   8 for 91.20 EUR
pot            1 left,   9 for 547.20 EUR
"""


class ReportsTest(unittest.TestCase):
    def setUp(self):
        store.reset()

    def buy(self, cart, country, **counts):
        for sku, count in counts.items():
            call("POST", "/carts/" + cart + "/lines", {"sku": sku, "count": count})
        order = call("POST", "/checkout/" + cart, {"country": country})
        due = store.ORDERS[order]["cents"]
        call("POST", "/payments", {"order": order, "card": "4111111111111111", "cents": due})

    def test_the_weekly_report(self):
        self.buy("c1", "FR", tea=3)
        self.buy("c2", "DE", tea=1, cup=1)
        for stars in (5, 4):
            call("POST", "/products/tea/reviews", {"stars": stars, "words": "good"})
        self.assertEquals(reports.weekly(), EXPECTED)

    def test_a_week_without_sales(self):
        told = reports.weekly()
        self.assertIn("orders          0\n", told)
        self.assertIn("mean order 0.00 EUR\n", told)
