"""Each example runs as its reader would run it, and says what it should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("embed_trio.py", "27 letters; done"),
        ("embed_asyncio.py", "page 5 done"),
        ("embed_blocking.py", "f44e64e7"),
        ("own_specialist.py", "done 1 # SPDX-License-Identifier: Apache-2.0"),
        ("batch_refactor.py", "{'files': 20, 'changed': 10, 'unchanged': 10, 'skipped': 0, 'failed': 0} 0"),
    ],
)
def test_examples_run(name: str, words: str, tmp_path: Path) -> None:
    """The example ends well and prints its result."""
    done = subprocess.run([sys.executable, EXAMPLES / name], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert words in done.stdout
