"""The migration is over when nothing deprecated is left anywhere."""

import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).parent.parent
DEPRECATED = {
    "services/*.py": (r"@route\(", r"(?m)^\s+print\(", r"\.format\("),
    "tests/test_*.py": (r"self\.assertEquals\(",),
    "web/src/**/*.ts*": (r"\bfetchJSON\b", r"\bvar \w", r"\bconsole\.log\("),
}


class MigrationTest(unittest.TestCase):
    def test_nothing_deprecated_is_left(self):
        left = []
        for pattern, words in DEPRECATED.items():
            for path in sorted(ROOT.glob(pattern)):
                if path.name == "test_migration.py":
                    continue
                text = path.read_text()
                left += [f"{path.relative_to(ROOT)}: {word}" for word in words if re.search(word, text)]
        self.assertEqual(left, [])


if __name__ == "__main__":
    unittest.main()
