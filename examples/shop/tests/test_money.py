import unittest

from services.money import euros, percent, tax_of


class MoneyTest(unittest.TestCase):
    def test_cents_have_two_digits(self):
        self.assertEquals(euros(5), "0.05 EUR")
        self.assertEquals(euros(450), "4.50 EUR")

    def test_thousands_are_grouped(self):
        self.assertEquals(euros(123456), "1,234.56 EUR")

    def test_a_debt_has_one_sign(self):
        self.assertEquals(euros(-250), "-2.50 EUR")

    def test_shares(self):
        self.assertEquals(percent(0.195), "19.5 %")

    def test_the_tax_in_a_gross_amount(self):
        self.assertEquals(tax_of(11900, 0.19), 1900)
