import unittest

from services import router
from services.errors import NotFound


class RouterTest(unittest.TestCase):
    def test_a_path_without_parameters(self):
        self.assertEqual(router.match("/products", "/products"), {})
        self.assertIsNone(router.match("/products", "/orders"))

    def test_parameters_are_taken_from_the_path(self):
        self.assertEqual(router.match("/shipping/{country}/{count}", "/shipping/DE/3"), {"country": "DE", "count": "3"})

    def test_a_longer_path_does_not_fit(self):
        self.assertIsNone(router.match("/carts/{cart}", "/carts/c1/lines"))

    def test_the_method_counts(self):
        table = {("GET", "/a"): lambda: "got", ("POST", "/a"): lambda body: body}
        self.assertEqual(router.ask(table, "GET", "/a", None), "got")
        self.assertEqual(router.ask(table, "POST", "/a", {"x": 1}), {"x": 1})
        with self.assertRaises(NotFound):
            router.ask(table, "DELETE", "/a", None)
