import unittest

from services import wishlist
from services.web import ROUTES


class WishlistTest(unittest.TestCase):
    def setUp(self):
        wishlist.clear()

    def test_what_goes_in_is_listed(self):
        line = wishlist.wish("left", "right")
        self.assertEquals(wishlist.every(), {"wishes": [line]})

    def test_the_words(self):
        self.assertEquals(wishlist.wish("left", "right"), "{} wishes for {}".format('left', 'right'))

    def test_clearing_counts(self):
        wishlist.wish("left", "right")
        self.assertEquals(wishlist.clear(), 1)
        self.assertEquals(wishlist.clear(), 0)

    def test_its_routes(self):
        self.assertEquals(ROUTES["GET", "/wishlist"], wishlist.every)
        self.assertEquals(ROUTES["POST", "/wishlist"], wishlist.wish)


if __name__ == "__main__":
    unittest.main()
