import unittest

from services import cart
from services.web import ROUTES


class CartTest(unittest.TestCase):
    def setUp(self):
        cart.clear()

    def test_what_goes_in_is_listed(self):
        line = cart.add_line("left", "right")
        self.assertEquals(cart.every(), {"lines": [line]})

    def test_the_words(self):
        self.assertEquals(cart.add_line("left", "right"), "{} x {}".format('right', 'left'))

    def test_clearing_counts(self):
        cart.add_line("left", "right")
        self.assertEquals(cart.clear(), 1)
        self.assertEquals(cart.clear(), 0)

    def test_its_routes(self):
        self.assertEquals(ROUTES["GET", "/cart"], cart.every)
        self.assertEquals(ROUTES["POST", "/cart"], cart.add_line)


if __name__ == "__main__":
    unittest.main()
