"""The short form of the gate, so that no class of fault stops working unseen; `python tests/gate.py` is the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CLASSES = (
    "simulation",
    "group",
    "git",
    "landing",
    "sigterm",
    "strace",
    "fsize",
    "emfile",
    "full",
    "readonly",
    "clock",
    "two",
    "torn",
)
"""All but the kills and failpoints, which have tests of their own."""


@pytest.mark.slow
def test_a_little_of_each_fault_loses_nothing() -> None:
    """One or two faults of each class: the gate ends with exit 0, and its table says that nothing was lost."""
    words = [word for name in CLASSES for word in ("--only", name)]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("gate.py")), "--short", *words],
        cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split("|") for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == len(CLASSES)
    assert {row[5].strip() for row in rows} == {"0"}
