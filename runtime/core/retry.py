"""When a failed attempt is tried again: exponential backoff with jitter, without a source of randomness.

The jitter comes from a checksum of the task's id and attempt, so that a replayed run waits as long as it did the first
time while a crowd of tasks that failed together does not come back together ("full jitter" in the sense of
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/, here over the upper half).
"""

from __future__ import annotations

from zlib import crc32

from .events import FailureKind

RETRIED: frozenset[FailureKind] = frozenset({"transient", "timeout", "conflict"})
"""The kinds of failure that may pass. A changeset outside its claims, or a `GiveUp`, will not."""


def delay_s(task: str, attempt: int, *, first_s: float, cap_s: float, least_s: float | None = None) -> float:
    """Seconds to wait after `attempt` (1, 2, ...) failed: between half of `first_s * 2**(attempt-1)` and all of it.

    Never less than `least_s`, whatever the cap: a server that said when to come back is believed.
    """
    if first_s <= 0:
        return least_s or 0.0
    ceiling = min(cap_s, first_s * 2.0 ** min(attempt - 1, 60))
    spread = crc32(f"{task}\0{attempt}".encode()) / 0xFFFFFFFF
    wait = ceiling * (0.5 + 0.5 * spread)
    return wait if least_s is None else max(wait, least_s)
