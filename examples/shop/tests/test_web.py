"""The interface, as far as it can be checked without a browser or node."""

import pathlib
import re
import unittest

from services.router import ENDPOINTS, match
from tests import client  # noqa: F401  (registers all endpoints)

SOURCE = pathlib.Path(__file__).parent.parent / "web" / "src"
IMPORT = re.compile(r'^import (?:type )?\{([^}]*)\} from "(\.[^"]*)";', re.MULTILINE)
EXPORT = re.compile(r"^export (?:async )?(?:const|function|class|type|interface) (\w+)", re.MULTILINE)
REQUEST = re.compile(r'\bapi(Get|Post|Put|Delete)(?:<[^(]*>)?\((?:"([^"]+)"|`([^`]+)`)')


def files():
    return sorted(path for path in SOURCE.rglob("*.ts*"))


class WebTest(unittest.TestCase):
    def test_what_is_imported_is_exported(self):
        for path in files():
            for names, module in IMPORT.findall(path.read_text()):
                target = (path.parent / module).resolve()
                found = next(file for ending in (".ts", ".tsx") if (file := target.with_suffix(ending)).is_file())
                for name in filter(None, (one.strip() for one in names.split(","))):
                    with self.subTest(file=path.name, imports=name):
                        self.assertIn(name, EXPORT.findall(found.read_text()))

    def test_what_is_used_of_our_own_is_imported(self):
        for path in files():
            text = path.read_text()
            for name in ("logger", "apiGet", "PropTypes"):
                if re.search(rf"(?<![.\w]){name}[.(<]", text) and f"function {name}" not in text:
                    with self.subTest(file=path.name, uses=name):
                        self.assertRegex(text, rf"import .*\b{name}\b")

    def test_every_request_is_answered_by_a_service(self):
        asked = 0
        for path in files():
            for kind, plain, template in REQUEST.findall(path.read_text()):
                asked += 1
                url = re.sub(r"\$\{[^}]*\}", "x", plain or template)
                known = [pattern for method, pattern in ENDPOINTS if method == kind.upper()]
                with self.subTest(file=path.name, asks=url):
                    self.assertTrue(any(match(pattern, url) is not None for pattern in known))
        self.assertGreaterEqual(asked, 12)

    def test_no_constant_is_assigned_to(self):
        for path in files():
            text = path.read_text()
            for name in re.findall(r"\bconst (\w+) =", text):
                with self.subTest(file=path.name, constant=name):
                    self.assertNotRegex(text, rf"(?m)^\s*{name} (=|\+=|-=) ")

    def test_every_declaration_on_one_line_ends_with_a_semicolon(self):
        for path in files():
            for line in path.read_text().splitlines():
                if re.match(r"\s*(const|let|var) .* = .*[^;{(\[,>]$", line):
                    self.fail(f"{path.name}: {line.strip()}")
