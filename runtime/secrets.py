"""Keeping keys where they belong: what is secret in the environment, and out of sight of child processes.

A child with a scrubbed environment can still read its parent's from `/proc/<pid>/environ`, which shows the memory that the kernel
filled when the program was started. `hide` blanks the secrets there; `os.environ` keeps its own copies. Linux only: elsewhere
there is no such file. For our own program; a library does not touch its host's memory.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_NAMES: Final = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|AUTH|_HEADERS$", re.IGNORECASE)
_SHORTEST: Final = 8  # characters: what is shorter is no key, and would be found everywhere
_ENV_START, _ENV_END = 49, 50  # fields of /proc/self/stat, counted from 0; proc(5) has them as 50 and 51


def values(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The values of the environment that look like secrets by their names, longest first."""
    found = os.environ if environment is None else environment
    secret = {value for name, value in found.items() if _NAMES.search(name) and len(value) >= _SHORTEST}
    return tuple(sorted((value for value in secret if not Path(value).exists()), key=len, reverse=True))


def redacted(text: str, secret: tuple[str, ...]) -> str:
    """The text without those values."""
    for value in secret:
        text = text.replace(value, "[redacted]")
    return text


def hide() -> int:
    """Blank the secrets in what `/proc/self/environ` shows; how many there were. Does nothing where there is no /proc."""
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
