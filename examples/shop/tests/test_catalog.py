import unittest

from services import catalog
from services.web import ROUTES


class CatalogTest(unittest.TestCase):
    def setUp(self):
        catalog.clear()

    def test_what_goes_in_is_listed(self):
        line = catalog.add_item("left", "right")
        self.assertEquals(catalog.every(), {"items": [line]})

    def test_the_words(self):
        self.assertEquals(catalog.add_item("left", "right"), "{}: {}".format('left', 'right'))

    def test_clearing_counts(self):
        catalog.add_item("left", "right")
        self.assertEquals(catalog.clear(), 1)
        self.assertEquals(catalog.clear(), 0)

    def test_its_routes(self):
        self.assertEquals(ROUTES["GET", "/catalog"], catalog.every)
        self.assertEquals(ROUTES["POST", "/catalog"], catalog.add_item)


if __name__ == "__main__":
    unittest.main()
