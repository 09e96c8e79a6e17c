import unittest

from services import checkout
from services.web import ROUTES


class CheckoutTest(unittest.TestCase):
    def setUp(self):
        checkout.clear()

    def test_what_goes_in_is_listed(self):
        line = checkout.begin("left", "right")
        self.assertEquals(checkout.every(), {"steps": [line]})

    def test_the_words(self):
        self.assertEquals(checkout.begin("left", "right"), "cart {} goes to {}".format('left', 'right'))

    def test_clearing_counts(self):
        checkout.begin("left", "right")
        self.assertEquals(checkout.clear(), 1)
        self.assertEquals(checkout.clear(), 0)

    def test_its_routes(self):
        self.assertEquals(ROUTES["GET", "/checkout"], checkout.every)
        self.assertEquals(ROUTES["POST", "/checkout"], checkout.begin)


if __name__ == "__main__":
    unittest.main()
