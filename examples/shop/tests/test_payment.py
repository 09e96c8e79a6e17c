import unittest

from services import payment
from services.web import ROUTES


class PaymentTest(unittest.TestCase):
    def setUp(self):
        payment.clear()

    def test_what_goes_in_is_listed(self):
        line = payment.charge("left", "right")
        self.assertEquals(payment.every(), {"payments": [line]})

    def test_the_words(self):
        self.assertEquals(payment.charge("left", "right"), "{} on card {}".format('right', 'left'))

    def test_clearing_counts(self):
        payment.charge("left", "right")
        self.assertEquals(payment.clear(), 1)
        self.assertEquals(payment.clear(), 0)

    def test_its_routes(self):
        self.assertEquals(ROUTES["GET", "/payment"], payment.every)
        self.assertEquals(ROUTES["POST", "/payment"], payment.charge)


if __name__ == "__main__":
    unittest.main()
