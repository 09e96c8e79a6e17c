import unittest

from services import search
from services.web import ROUTES


class SearchTest(unittest.TestCase):
    def setUp(self):
        search.clear()

    def test_what_goes_in_is_listed(self):
        line = search.index("left", "right")
        self.assertEquals(search.every(), {"hits": [line]})

    def test_the_words(self):
        self.assertEquals(search.index("left", "right"), "{} finds {}".format('left', 'right'))

    def test_clearing_counts(self):
        search.index("left", "right")
        self.assertEquals(search.clear(), 1)
        self.assertEquals(search.clear(), 0)

    def test_its_routes(self):
        self.assertEquals(ROUTES["GET", "/search"], search.every)
        self.assertEquals(ROUTES["POST", "/search"], search.index)


if __name__ == "__main__":
    unittest.main()
