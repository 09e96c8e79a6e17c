"""Keys stay where they belong."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from runtime import secrets


@pytest.mark.skipif(not os.path.exists("/proc/self/environ"), reason="there is no /proc here to hide anything in")
def test_what_is_hidden_is_gone_from_proc_and_still_there_for_us() -> None:
    """After `hide` a child finds no key in its parent's /proc entry, and the parent still has it."""
    program = (
        "import os, subprocess; from runtime import secrets; secrets.hide(); "
        "seen = subprocess.run(['cat', f'/proc/{os.getpid()}/environ'], capture_output=True).stdout; "
        "print(b'canary-value' in seen, b'HARMLESS=yes' in seen, os.environ['ANTHROPIC_API_KEY'])"
    )
    environment = {**os.environ, "ANTHROPIC_API_KEY": "canary-value", "HARMLESS": "yes"}
    told = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False", "True", "canary-value"]


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("ANTHROPIC_API_KEY", "sk-canary-1", True),
        ("ANTHROPIC_AUTH_TOKEN", "canary-token", True),
        ("DB_PASSWORD", "correct horse", True),
        ("AWS_SECRET_ACCESS_KEY", "abcdefghijkl", True),
        ("PATH", "/usr/bin:/bin", False),
        ("API_KEY", "short", False),
        ("SSH_AUTH_SOCK", "/", False),
    ],
)
def test_a_secret_is_known_by_its_name(name: str, value: str, secret: bool) -> None:
    """What is redacted is the value of a variable whose name says that it is secret, unless it is too short to be one, or a path."""
    assert (secrets.values({name: value}) == (value,)) == secret


def test_redacting_takes_the_longest_first() -> None:
    """A key that another one begins with leaves nothing of the longer one behind."""
    known = secrets.values({"A_KEY": "canary-key", "B_KEY": "canary-key-and-more"})
    assert secrets.redacted("x canary-key-and-more y canary-key z", known) == "x [redacted] y [redacted] z"
