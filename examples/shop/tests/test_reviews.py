import unittest

from services import reviews
from services.web import ROUTES


class ReviewsTest(unittest.TestCase):
    def setUp(self):
        reviews.clear()

    def test_what_goes_in_is_listed(self):
        line = reviews.write("left", "right")
        self.assertEquals(reviews.every(), {"reviews": [line]})

    def test_the_words(self):
        self.assertEquals(reviews.write("left", "right"), "{} stars for {}".format('right', 'left'))

    def test_clearing_counts(self):
        reviews.write("left", "right")
        self.assertEquals(reviews.clear(), 1)
        self.assertEquals(reviews.clear(), 0)

    def test_its_routes(self):
        self.assertEquals(ROUTES["GET", "/reviews"], reviews.every)
        self.assertEquals(ROUTES["POST", "/reviews"], reviews.write)


if __name__ == "__main__":
    unittest.main()
