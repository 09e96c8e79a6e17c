"""Keeps a process small that runs for months: when garbage is looked for, and what is given back to the system.

Knows nothing of runs. It changes settings of the whole process, so it is for the daemon alone and never for a library's user.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import Any, Final

# Python's own (700, 10, 10) looks for cycles hundreds of times a second while clients ask.
_COLLECT: Final = (20_000, 20, 20)
_LET_GO_EACH: Final = 16  # runs that have ended
_ARENA_MAX: Final = -8  # `M_ARENA_MAX` of glibc's malloc.h
_HEAPS: Final = 4  # with two, whoever streams events waits for those who compress: a p99 of 113 ms and not of 43


def share_heaps() -> None:
    """Before there are threads: they share a few heaps. glibc would make each its own, up to eight a core, and every one of them keeps
    a few megabytes that nothing else can use."""
    _glibc("mallopt")(_ARENA_MAX, _HEAPS)


def prepare() -> None:
    """Once all is loaded: what stands now stays, so no collection has to look at it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT)


def run_ended(number: int) -> None:
    """Every so many runs let go of what they were. Their parts know each other, so only a collection finds them, and by itself it
    would come by after thousands of runs; what threads have freed stays in their heaps until asked for."""
    if number % _LET_GO_EACH == 0:
        gc.collect()
        _trim(0)  # of all heaps


def _glibc(name: str) -> Callable[..., Any]:
    """A function of glibc's; one that does nothing where there is none, as on macOS and with musl."""
    function: Callable[..., Any] = getattr(ctypes.CDLL(None), name, lambda *given: None)
    return function


_trim: Final = _glibc("malloc_trim")
