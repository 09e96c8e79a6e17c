import unittest

from services import reviews, store  # noqa: F401
from services.errors import Invalid, NotFound
from services.legacy import call


class ReviewsTest(unittest.TestCase):
    def setUp(self):
        store.reset()

    def test_no_reviews_yet(self):
        self.assertEquals(call("GET", "/products/tea/reviews"), {"reviews": [], "mean": "0.0", "stars": ""})

    def test_the_mean_of_the_stars(self):
        for stars in (5, 4, 4):
            call("POST", "/products/tea/reviews", {"stars": stars, "words": "good"})
        told = call("GET", "/products/tea/reviews")
        self.assertEquals(told["mean"], "4.3")
        self.assertEquals(told["stars"], "****")

    def test_six_stars_are_too_many(self):
        with self.assertRaisesRegex(Invalid, "6 is no number of stars"):
            call("POST", "/products/tea/reviews", {"stars": 6, "words": "!"})

    def test_a_product_that_is_not_there(self):
        with self.assertRaises(NotFound):
            call("POST", "/products/spoon/reviews", {"stars": 3, "words": "?"})
