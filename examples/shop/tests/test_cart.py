import unittest

from services import cart, store  # noqa: F401
from services.errors import Invalid, NotFound
from services.legacy import call


class CartTest(unittest.TestCase):
    def setUp(self):
        store.reset()

    def test_lines_add_up(self):
        call("POST", "/carts/c1/lines", {"sku": "tea", "count": 2})
        self.assertEquals(call("POST", "/carts/c1/lines", {"sku": "tea", "count": 1}), 3)
        told = call("GET", "/carts/c1")
        self.assertEquals(told, {"lines": ["3 x Green tea = 13.50 EUR"], "total": "13.50 EUR"})

    def test_a_discount_is_told(self):
        call("POST", "/carts/c1/lines", {"sku": "tea", "count": 10})
        self.assertEquals(call("GET", "/carts/c1")["lines"], ["10 x Green tea = 40.50 EUR (10.0 % off for 10)"])

    def test_too_many(self):
        with self.assertRaisesRegex(Invalid, "21 is too few or too many of tea"):
            call("POST", "/carts/c1/lines", {"sku": "tea", "count": 21})

    def test_a_product_that_is_not_there(self):
        with self.assertRaises(NotFound):
            call("POST", "/carts/c1/lines", {"sku": "spoon", "count": 1})

    def test_emptying_says_how_many_lines(self):
        call("POST", "/carts/c1/lines", {"sku": "tea", "count": 2})
        call("POST", "/carts/c1/lines", {"sku": "cup", "count": 1})
        self.assertEquals(call("DELETE", "/carts/c1"), 2)
        self.assertEquals(call("DELETE", "/carts/c1"), 0)
