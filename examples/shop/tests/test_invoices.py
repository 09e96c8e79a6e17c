import unittest

from services import cart, checkout, invoices, orders, store  # noqa: F401
from services.legacy import call

EXPECTED = """\
                    The Shop
                Harbour Street 1
                 20457 Hamburg

Invoice for order-1
================================================
Green tea [tea]
  5 x 4.50 EUR                         21.38 EUR
  with 5.0 % off
Enamel cup [cup]
  1 x 12.00 EUR                        12.00 EUR
------------------------------------------------
Goods                                  33.38 EUR
Postage                                 7.35 EUR
Net                                    34.23 EUR
Tax (19.0 %)                            6.50 EUR
To pay                                 40.73 EUR
================================================
Please pay 40.73 EUR within 14 days.
"""


class InvoicesTest(unittest.TestCase):
    def setUp(self):
        store.reset()
        call("POST", "/carts/c1/lines", {"sku": "tea", "count": 5})
        call("POST", "/carts/c1/lines", {"sku": "cup", "count": 1})
        self.order = call("POST", "/checkout/c1", {"country": "DE"})

    def test_the_whole_page(self):
        self.assertEquals(invoices.invoice(self.order), EXPECTED)

    def test_nothing_is_due_for_a_cancelled_order(self):
        call("DELETE", "/orders/" + self.order)
        self.assertTrue(invoices.invoice(self.order).endswith("Cancelled. Nothing is due.\n"))

    def test_a_paid_order_says_thank_you(self):
        orders.advance(self.order)
        self.assertTrue(invoices.invoice(self.order).endswith("Paid. Thank you.\n"))

    def test_no_line_is_wider_than_the_page(self):
        widths = [len(line) for line in invoices.invoice(self.order).splitlines()]
        self.assertEquals(max(widths), invoices.WIDTH)
