import unittest

from services import accounts, store  # noqa: F401
from services.errors import Invalid
from services.legacy import call


class AccountsTest(unittest.TestCase):
    def setUp(self):
        store.reset()

    def test_an_address_is_kept_in_small_letters(self):
        told = call("POST", "/accounts", {"email": " Ada@Example.org ", "name": "Ada"})
        self.assertEquals(told, "Ada <ada@example.org>")

    def test_one_account_an_address(self):
        call("POST", "/accounts", {"email": "ada@example.org", "name": "Ada"})
        with self.assertRaisesRegex(Invalid, "ada@example.org has an account already"):
            call("POST", "/accounts", {"email": "ADA@example.org", "name": "Ada again"})

    def test_what_is_no_address(self):
        with self.assertRaisesRegex(Invalid, "'ada' is no address"):
            call("POST", "/accounts", {"email": "ada", "name": "Ada"})
