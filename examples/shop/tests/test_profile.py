import unittest

from services import profile
from services.web import ROUTES


class ProfileTest(unittest.TestCase):
    def setUp(self):
        profile.clear()

    def test_what_goes_in_is_listed(self):
        line = profile.change("left", "right")
        self.assertEquals(profile.every(), {"fields": [line]})

    def test_the_words(self):
        self.assertEquals(profile.change("left", "right"), "{} is {}".format('left', 'right'))

    def test_clearing_counts(self):
        profile.change("left", "right")
        self.assertEquals(profile.clear(), 1)
        self.assertEquals(profile.clear(), 0)

    def test_its_routes(self):
        self.assertEquals(ROUTES["GET", "/profile"], profile.every)
        self.assertEquals(ROUTES["POST", "/profile"], profile.change)


if __name__ == "__main__":
    unittest.main()
