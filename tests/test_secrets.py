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
        ("GIT_AUTHOR_NAME", "Ada Lovelace", False),
        ("PROXY_AUTHORIZATION", "canary-proxy", True),
        ("ID_TOKEN", "canary" * 200, True),  # too long to be asked of the file system
    ],
)
def test_a_secret_is_known_by_its_name(name: str, value: str, secret: bool) -> None:
    """What is redacted is the value of a variable whose name says that it is secret, unless it is too short to be one, or a path."""
    assert (secrets.values({name: value}) == (value,)) == secret


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("ANTHROPIC_CUSTOM_HEADERS", "X-Gateway-Auth: gw-secret-123456", ["gw-secret-123456"]),
        ("ANTHROPIC_CUSTOM_HEADERS", "X-One:first-secret\nX-Two : second-secret \n", ["first-secret", "second-secret"]),
        ("ANTHROPIC_CUSTOM_HEADERS", "Authorization: Bearer gw-secret-123456", ["gw-secret-123456"]),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-one=first-secret,x-two=second-secret", ["first-secret", "second-secret"]),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20gw-secret-123456", ["gw-secret-123456"]),
        ("GATEWAY_AUTH", "Bearer gw-secret-123456", ["gw-secret-123456"]),
    ],
)
def test_what_a_header_holds_is_a_secret_without_its_name(name: str, value: str, secret: list[str]) -> None:
    """A header's value is known wherever it stands alone: in a program's source, behind another name, without `Bearer`."""
    known = secrets.values({name: value})
    assert [secrets.redacted(f"x = {one!r}", known) for one in secret] == ["x = '[redacted]'"] * len(secret)


def test_a_header_that_says_nothing_secret_is_left_alone() -> None:
    """What any program says of itself is not looked for in everybody's files, nor what is too short."""
    said = "Accept: application/json\nUser-Agent: our-gateway\nanthropic-beta: interleaved-thinking\nX-Team: web"
    known = secrets.values({"ANTHROPIC_CUSTOM_HEADERS": said})
    for word in ("application/json", "our-gateway", "interleaved-thinking", "web"):
        assert secrets.redacted(word, known) == word


def test_redacting_takes_the_longest_first() -> None:
    """A key that another one begins with leaves nothing of the longer one behind."""
    known = secrets.values({"A_KEY": "canary-key", "B_KEY": "canary-key-and-more"})
    assert secrets.redacted("x canary-key-and-more y canary-key z", known) == "x [redacted] y [redacted] z"
