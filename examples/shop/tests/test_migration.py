"""The migration is over when nothing deprecated is left anywhere. Red until then; it says what is left, and where."""

import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).parent.parent
DEPRECATED = {
    "services/*.py": (r"@route\(", r"^\s+print\(", r"\.format\(", r"services\.legacy"),
    "tests/test_*.py": (r"\.assertEquals\(", r"(?<!\w)call\(", r"services\.legacy"),
    "web/src/**/*.ts*": (r"\bfetchJSON\b", r"\bvar \w", r"\bconsole\.log\(", r"\bReact\.PropTypes\b"),
}


class MigrationTest(unittest.TestCase):
    def test_nothing_deprecated_is_left(self):
        left = []
        for pattern, words in DEPRECATED.items():
            for path in sorted(ROOT.glob(pattern)):
                if path.name == "test_migration.py":
                    continue
                text = path.read_text()
                left += [f"{path.relative_to(ROOT)}: {word}" for word in words if re.search(word, text, re.MULTILINE)]
        self.assertEqual(left, [])

    def test_the_old_router_is_gone(self):
        self.assertFalse((ROOT / "services" / "legacy.py").exists())
