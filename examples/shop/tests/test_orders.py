import unittest

from services import orders, store
from services.errors import Invalid, NotFound
from services.legacy import call


class OrdersTest(unittest.TestCase):
    def setUp(self):
        store.reset()
        store.ORDERS["order-1"] = {
            "order": "order-1",
            "lines": {"tea": 2},
            "cents": 1390,
            "state": "open",
            "country": "DE",
        }

    def test_an_order_in_words(self):
        told = call("GET", "/orders/order-1")
        self.assertEquals(told["amount"], "13.90 EUR")
        self.assertEquals(told["title"], "order-1 (open)")

    def test_states_follow_each_other(self):
        self.assertEquals([orders.advance("order-1") for _ in range(3)], ["paid", "sent", "delivered"])
        with self.assertRaisesRegex(Invalid, "order-1 cannot go on from delivered"):
            orders.advance("order-1")

    def test_cancelling_puts_things_back(self):
        self.assertEquals(call("DELETE", "/orders/order-1"), "cancelled")
        self.assertEquals(store.STOCK["tea"], 12)

    def test_too_late_to_cancel(self):
        store.ORDERS["order-1"]["state"] = "sent"
        with self.assertRaisesRegex(Invalid, "order-1 is sent already"):
            call("DELETE", "/orders/order-1")

    def test_an_order_that_is_not_there(self):
        with self.assertRaisesRegex(NotFound, "there is no order order-7"):
            call("GET", "/orders/order-7")
