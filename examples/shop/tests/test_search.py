import unittest

from services import search, store  # noqa: F401
from services.legacy import call


class SearchTest(unittest.TestCase):
    def setUp(self):
        store.reset()
        store.PRODUCTS["teapot"] = {"sku": "teapot", "title": "Pot for tea", "cents": 2500}

    def test_the_name_counts_more_than_the_title(self):
        self.assertEquals(call("GET", "/search/cup"), ["cup"])
        self.assertEquals(call("GET", "/search/pot"), ["teapot", "pot"])

    def test_all_words_have_to_be_there(self):
        self.assertEquals(call("GET", "/search/pot+iron"), ["pot"])

    def test_case_does_not_matter(self):
        self.assertEquals(call("GET", "/search/ENAMEL"), ["cup"])

    def test_nothing_found(self):
        self.assertEquals(call("GET", "/search/spoon"), [])
