"""Who may ask over TCP: the bearer token, and browsers that opened a one-time link. Knows secrets and times; no HTTP.

A link is good once, for five minutes; what it gives is a session, good for a day or until the daemon ends. Both are random and are
compared in constant time.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from typing import Final

import attrs

LINK_S: Final = 300.0
SESSION_S: Final = 86_400.0
_MOST: Final = 100


@attrs.define
class Links:
    """`token` is the bearer token; `clock` gives seconds."""

    token: str = attrs.field(repr=False)
    clock: Callable[[], float]
    _codes: dict[str, float] = attrs.field(factory=dict, repr=False)  # {code: good until}
    _sessions: dict[str, float] = attrs.field(factory=dict, repr=False)  # {session: good until}

    def is_token(self, given: str) -> bool:
        """Whether this is the bearer token."""
        return hmac.compare_digest(given.encode(), self.token.encode())

    def make(self) -> str:
        """A new code for a one-time link; the oldest go when there are too many."""
        code = secrets.token_urlsafe(32)
        self._codes[code] = self.clock() + LINK_S
        _trim(self._codes, self.clock())
        return code

    def is_good(self, code: str) -> bool:
        """Whether a code could be redeemed now; it is not used up by that."""
        return self._codes.get(code, 0.0) > self.clock()

    def redeem(self, code: str) -> str | None:
        """A new session for a code, which is used up by it; None when it is not good (any more)."""
        good_until = self._codes.pop(code, 0.0)
        if good_until <= self.clock():
            return None
        session = secrets.token_urlsafe(32)
        self._sessions[session] = self.clock() + SESSION_S
        _trim(self._sessions, self.clock())
        return session

    def is_session(self, given: str) -> bool:
        """Whether this is a live session."""
        now = self.clock()
        return any(
            until > now and hmac.compare_digest(given.encode(), one.encode()) for one, until in self._sessions.items()
        )


def _trim(kept: dict[str, float], now: float) -> None:
    for name in [name for name, until in kept.items() if until <= now]:
        del kept[name]
    while len(kept) > _MOST:
        del kept[next(iter(kept))]
