"""Keys stay where they belong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime import secrets

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(not os.path.exists("/proc/self/environ"), reason="there is no /proc here to hide anything in")
def test_what_is_hidden_is_gone_from_proc_and_still_there_for_us() -> None:
    """After `hide` a child finds no key in its parent's /proc entry, and the parent still has it."""
    program = (
        "import ctypes, os, subprocess; from runtime import secrets; secrets.hide(); "
        "ctypes.CDLL(None).prctl(4, 1, 0, 0, 0); "  # open to anybody again, to see what is there
        "seen = subprocess.run(['cat', f'/proc/{os.getpid()}/environ'], capture_output=True).stdout; "
        "print(b'canary-value' in seen, b'HARMLESS=yes' in seen, os.environ['ANTHROPIC_API_KEY'])"
    )
    environment = {**os.environ, "ANTHROPIC_API_KEY": "canary-value", "HARMLESS": "yes"}
    told = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False", "True", "canary-value"]


LOOK = """
import ctypes, os, pathlib, subprocess, sys, trio
from runtime import checks, secrets
held = ctypes.create_string_buffer(b"canary-in-memory")
try:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
except OSError as error:
    sys.exit(f"no other user: {error}")
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # as any program is that its user has started
def looked():
    me, at = os.getpid(), ctypes.addressof(held)
    words = ["dd", f"if=/proc/{me}/mem", "bs=1", "count=16", f"skip={at}", "status=none"]
    memory = trio.run(checks.run_command, words, pathlib.Path("/"), 60)[1]
    environment = trio.run(checks.run_command, ["cat", f"/proc/{me}/environ"], pathlib.Path("/"), 60)[1]
    return b"canary-in-memory" in memory, b"HARMLESS=yes" in environment
def own():
    return len(os.listdir("/proc/self/fd")), subprocess.run(["ls", "/proc/self/fd"], capture_output=True, check=True).stdout
before, mine = looked(), own()
secrets.hide()
print(*before, *looked(), own() == mine)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can become a user that may not look at everything"
)
def test_a_check_cannot_look_into_our_memory() -> None:
    """After `hide` a command that we run as the same user reads neither our memory nor our environment, which it could before (the memory
    where no Yama is in the way); what we start finds its own, and nothing of ours that is open."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HARMLESS": "yes"}
    told = subprocess.run([sys.executable, "-c", LOOK], env=environment, capture_output=True, text=True, check=False)
    if told.stderr.startswith("no other user"):
        pytest.skip(told.stderr)
    yama = Path("/proc/sys/kernel/yama/ptrace_scope")
    open_before = str(not yama.exists() or yama.read_text().strip() == "0")
    assert told.stdout.split() == [open_before, "True", "False", "False", "True"], told.stderr


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
