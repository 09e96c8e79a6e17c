"""What `tools/endpoints.py` wrote is what the services say today."""

import pathlib
import re
import unittest

from services.router import ENDPOINTS
from tests import client  # noqa: F401  (registers all endpoints)

ROOT = pathlib.Path(__file__).parent.parent


class GeneratedTest(unittest.TestCase):
    def test_the_table_has_every_endpoint(self):
        told = re.findall(r"^\| `(\w+) (\S+)`", (ROOT / "docs" / "endpoints.md").read_text(), re.MULTILINE)
        self.assertEqual(sorted(told), sorted(ENDPOINTS))

    def test_the_type_has_every_path(self):
        told = re.findall(r"^  \| `(.*)`", (ROOT / "web" / "src" / "routes.ts").read_text(), re.MULTILINE)
        self.assertEqual(set(told), {re.sub(r"\{\w+\}", "${string}", path) for _, path in ENDPOINTS})
