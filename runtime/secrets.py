"""Keeping keys where they belong: what is secret in the environment, and out of sight of child processes.

A child with a scrubbed environment can still read its parent's from `/proc/<pid>/environ`, which shows the memory that the kernel
filled when the program was started, and all else from `/proc/<pid>/mem`. `hide` blanks the secrets in the first, also for root,
and shuts both to the same user's other programs; `os.environ` keeps its own copies. Linux only: elsewhere there are no such files. For
our own program; a library does not touch its host's memory.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

_NAMES: Final = re.compile(
    r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|AUTH(?!OR(?!I))|_HEADERS$", re.IGNORECASE
)  # an author is nobody's secret, an authorization is
_HEADERS: Final = re.compile(r"_HEADERS$", re.IGNORECASE)
_HEADER: Final = re.compile(r"\s*([\w-]+)\s*[:=]\s*(.*?)\s*")
_SAID_OPENLY: Final = re.compile(
    r"accept.*|content-.*|cache-control|user-agent|host|origin|referer|anthropic-(beta|version)|traceparent",
    re.IGNORECASE,
)  # headers whose values stand in any program's source
_SCHEME: Final = re.compile(r"(?:bearer|basic|token|apikey)(?:\s|%20)+(.+)", re.IGNORECASE)
_SHORTEST: Final = 8  # characters: what is shorter is no key, and would be found everywhere
_SET_DUMPABLE: Final = 4  # prctl(2)
_ENV_START, _ENV_END = 49, 50  # fields of /proc/self/stat, counted from 0; proc(5) has them as 50 and 51


def values(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The values of the environment that look like secrets by their names, longest first; of several headers in one variable each,
    and what comes after `Bearer`."""
    found = os.environ if environment is None else environment
    secret = {part for name, value in found.items() if _NAMES.search(name) for part in _parts(name, value)}
    likely = (part for part in secret if len(part) >= _SHORTEST and not os.path.exists(part))
    return tuple(sorted(likely, key=len, reverse=True))


def _parts(name: str, value: str) -> Iterator[str]:
    """A value, and what of it may be seen alone."""
    whole = [value]
    if _HEADERS.search(name):  # a line each as the SDK takes them, or separated by commas as OpenTelemetry's are
        rows = [*value.splitlines(), *value.split(",")]
        headers = [found.groups() for row in rows if (found := _HEADER.fullmatch(row))]
        whole += [held for header, held in headers if not _SAID_OPENLY.fullmatch(header)]
    for one in whole:
        yield one
        if found := _SCHEME.fullmatch(one):
            yield found[1]


def redacted(text: str, secret: tuple[str, ...]) -> str:
    """The text without those values."""
    for value in secret:
        text = text.replace(value, "[redacted]")
    return text


def redacted_tail(said: bytes | bytearray, limit: int, secret: tuple[str, ...]) -> bytes:
    """About the last `limit` bytes without those values, the cut never inside one. Of what is longer, `said` has to begin at least
    the longest value's length before the cut."""
    known = [value.encode("utf-8", "surrogateescape") for value in secret]
    cut = before = max(0, len(said) - limit)
    while True:
        for value in known:
            at = said.find(value, max(0, cut - len(value) + 1), cut + len(value) - 1)
            cut = at + len(value) if at >= 0 else cut
        if cut == before:
            break
        before = cut
    kept = bytes(said[cut:])
    for value in known:
        kept = kept.replace(value, b"[redacted]")
    return kept


def hide() -> int:
    """Blank the secrets in what `/proc/self/environ` shows; how many there were. No other program of the user's may look into our
    memory from then on, nor attach to us; what we start is as it always was. Does nothing but on Linux."""
    if sys.platform == "linux":
        # Another's right to look, not our own, nor that of what we execute; where it is refused, the blanks are there all the same.
        ctypes.CDLL(None).prctl(_SET_DUMPABLE, 0, 0, 0, 0)
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    start, end = int(fields[_ENV_START - 2]), int(fields[_ENV_END - 2])  # the two before ")" are the pid and the name
    if not 0 < start < end:
        return 0
    block = (ctypes.c_char * (end - start)).from_address(start)
    hidden = 0
    at = 0
    for entry in block.raw.split(b"\0"):
        name, mark, value = entry.partition(b"=")
        if mark and value and _NAMES.search(name.decode("utf-8", "replace")):
            ctypes.memset(start + at + len(name) + 1, 0, len(value))
            hidden += 1
        at += len(entry) + 1
    return hidden
