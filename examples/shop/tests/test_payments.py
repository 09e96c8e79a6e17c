import unittest

from services import payments, store
from services.errors import Invalid, NotFound
from services.legacy import call


class PaymentsTest(unittest.TestCase):
    def setUp(self):
        store.reset()
        store.ORDERS["order-1"] = {"order": "order-1", "lines": {}, "cents": 1390, "state": "open", "country": "DE"}

    def test_paying_moves_the_order_on(self):
        payment = call("POST", "/payments", {"order": "order-1", "card": "4111111111111111", "cents": 1390})
        self.assertEquals(call("GET", "/payments/" + payment)["cents"], 1390)
        self.assertEquals(store.ORDERS["order-1"]["state"], "paid")

    def test_the_amount_has_to_be_exact(self):
        with self.assertRaisesRegex(Invalid, "10.00 EUR given, 13.90 EUR due"):
            call("POST", "/payments", {"order": "order-1", "card": "4111111111111111", "cents": 1000})
        self.assertEquals(store.PAYMENTS, {})

    def test_a_card_is_masked(self):
        self.assertEquals(payments.masked("4111111111111234"), "************1234")

    def test_a_payment_that_is_not_there(self):
        with self.assertRaises(NotFound):
            call("GET", "/payments/payment-9")
