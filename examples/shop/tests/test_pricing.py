import unittest

from services import pricing, store
from services.errors import Invalid


class PricingTest(unittest.TestCase):
    def setUp(self):
        store.reset()

    def test_few_cost_the_full_price(self):
        self.assertEquals(pricing.line_cents("tea", 4), 1800)

    def test_many_are_cheaper(self):
        self.assertEquals(pricing.line_cents("tea", 5), 2138)
        self.assertEquals(pricing.line_cents("tea", 10), 4050)

    def test_a_voucher_comes_off_the_whole(self):
        self.assertEquals(pricing.total_cents({"tea": 1, "cup": 1}, "WELCOME"), 1485)

    def test_an_invented_voucher_is_refused(self):
        with self.assertRaisesRegex(Invalid, "the voucher 'FREE' is not known"):
            pricing.total_cents({"tea": 1}, "FREE")

    def test_the_discount_in_words(self):
        self.assertEquals(pricing.explain(1), "")
        self.assertEquals(pricing.explain(12), "10.0 % off for 12")
