import unittest

from services import stock, store
from services.errors import Invalid, OutOfStock
from services.legacy import call


class StockTest(unittest.TestCase):
    def setUp(self):
        store.reset()

    def test_few_are_low(self):
        self.assertEquals(call("GET", "/stock/pot"), {"sku": "pot", "left": 1, "low": True})
        self.assertEquals(call("GET", "/stock/tea")["low"], False)

    def test_counting_the_shelf(self):
        self.assertEquals(call("PUT", "/stock/pot", {"left": 7}), 7)
        self.assertEquals(store.STOCK["pot"], 7)

    def test_less_than_nothing_cannot_be(self):
        with self.assertRaisesRegex(Invalid, "-1 of pot cannot be"):
            call("PUT", "/stock/pot", {"left": -1})

    def test_all_lines_are_taken_or_none(self):
        with self.assertRaisesRegex(OutOfStock, "2 of pot wanted, 1 left"):
            stock.take({"tea": 1, "pot": 2})
        self.assertEquals(store.STOCK["tea"], 10)
