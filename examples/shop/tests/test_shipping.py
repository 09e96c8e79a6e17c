import unittest

from services import shipping
from services.errors import Invalid
from services.legacy import call


class ShippingTest(unittest.TestCase):
    def test_a_quote(self):
        self.assertEquals(
            call("GET", "/shipping/FR/3"),
            {"zone": "neighbour", "price": "8.90 EUR", "when": "in 4 days"},
        )

    def test_more_things_cost_more(self):
        self.assertEquals(shipping.postage_cents("DE", 5, 0), 490)
        self.assertEquals(shipping.postage_cents("DE", 6, 0), 735)
        self.assertEquals(shipping.postage_cents("DE", 11, 0), 980)

    def test_a_large_order_is_sent_for_nothing(self):
        self.assertEquals(shipping.postage_cents("PT", 3, 10_000), 0)

    def test_where_we_do_not_send(self):
        with self.assertRaisesRegex(Invalid, "we do not send to XX"):
            call("GET", "/shipping/XX/1")
