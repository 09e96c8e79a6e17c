import unittest

from services import orders
from services.web import ROUTES


class OrdersTest(unittest.TestCase):
    def setUp(self):
        orders.clear()

    def test_what_goes_in_is_listed(self):
        line = orders.place("left", "right")
        self.assertEquals(orders.every(), {"orders": [line]})

    def test_the_words(self):
        self.assertEquals(orders.place("left", "right"), "order {} of {}".format('left', 'right'))

    def test_clearing_counts(self):
        orders.place("left", "right")
        self.assertEquals(orders.clear(), 1)
        self.assertEquals(orders.clear(), 0)

    def test_its_routes(self):
        self.assertEquals(ROUTES["GET", "/orders"], orders.every)
        self.assertEquals(ROUTES["POST", "/orders"], orders.place)


if __name__ == "__main__":
    unittest.main()
