import unittest

from services import cart, checkout, store  # noqa: F401
from services.errors import Invalid, OutOfStock
from services.legacy import call


class CheckoutTest(unittest.TestCase):
    def setUp(self):
        store.reset()

    def test_a_cart_becomes_an_order(self):
        call("POST", "/carts/c1/lines", {"sku": "cup", "count": 2})
        order = call("POST", "/checkout/c1", {"country": "DE"})
        self.assertEquals(order, "order-1")
        self.assertEquals(store.ORDERS[order]["cents"], 2400 + 490)
        self.assertEquals(store.STOCK["cup"], 1)
        self.assertEquals(store.CARTS, {})

    def test_a_voucher(self):
        call("POST", "/carts/c1/lines", {"sku": "cup", "count": 1})
        order = call("POST", "/checkout/c1", {"country": "AT", "voucher": "TEATIME"})
        self.assertEquals(store.ORDERS[order]["cents"], 1020 + 890)

    def test_an_empty_cart(self):
        with self.assertRaisesRegex(Invalid, "the cart c9 is empty"):
            call("POST", "/checkout/c9", {"country": "DE"})

    def test_what_is_not_there_stays_in_the_cart(self):
        call("POST", "/carts/c1/lines", {"sku": "pot", "count": 2})
        with self.assertRaises(OutOfStock):
            call("POST", "/checkout/c1", {"country": "DE"})
        self.assertEquals(store.CARTS["c1"], {"pot": 2})
