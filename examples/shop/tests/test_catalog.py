import unittest

from services import catalog, store  # noqa: F401
from services.errors import Invalid, NotFound
from services.legacy import call


class CatalogTest(unittest.TestCase):
    def setUp(self):
        store.reset()

    def test_products_come_by_title(self):
        titles = [product["title"] for product in call("GET", "/products")]
        self.assertEquals(titles, ["Enamel cup", "Green tea", "Iron pot"])

    def test_a_product_has_its_price_in_words(self):
        self.assertEquals(call("GET", "/products/pot")["price"], "64.00 EUR")

    def test_a_product_that_is_not_there(self):
        with self.assertRaisesRegex(NotFound, "there is no product spoon"):
            call("GET", "/products/spoon")

    def test_a_new_product_starts_without_stock(self):
        sku = call("POST", "/products", {"sku": "spoon", "title": "Spoon", "cents": 300})
        self.assertEquals(sku, "spoon")
        self.assertEquals(store.STOCK["spoon"], 0)

    def test_a_price_is_more_than_nothing(self):
        with self.assertRaisesRegex(Invalid, "0 for spoon is no price"):
            call("POST", "/products", {"sku": "spoon", "title": "Spoon", "cents": 0})
