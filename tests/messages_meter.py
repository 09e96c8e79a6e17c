"""What a call counts: tokens, the prompt cache, rate limits as token buckets, and the price. Knows nothing of HTTP; time is an argument."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import attrs
from messages_model import blocks_of, canonical, tokens_of

MINUTE_S = 60.0
LOOKBACK = 20  # blocks before a breakpoint in which an earlier entry is looked for, as the real cache does
TTL_S = {"5m": 300.0, "1h": 3600.0}


@attrs.frozen
class Usage:
    """What one call used, in tokens. The parts of the input do not overlap."""

    input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    output_tokens: int = 0
    created_1h: int = 0  # the part of what was written that lives an hour

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(ours + theirs for ours, theirs in zip(attrs.astuple(self), attrs.astuple(other), strict=True)))

    @property
    def counted_input(self) -> int:
        """Input that counts against the limit: cache reads do not."""
        return self.input_tokens + self.cache_creation_input_tokens

    def wire(self) -> dict[str, Any]:
        """As it stands in an answer."""
        return {
            "input_tokens": self.input_tokens,
            "cache_creation_input_tokens": self.cache_creation_input_tokens,
            "cache_read_input_tokens": self.cache_read_input_tokens,
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.cache_creation_input_tokens - self.created_1h,
                "ephemeral_1h_input_tokens": self.created_1h,
            },
            "output_tokens": self.output_tokens,
            "service_tier": "standard",
        }


@attrs.frozen
class Price:
    """What a token costs, relative to a fresh input token."""

    input: float = 1.0
    write: float = 1.25
    write_1h: float = 2.0
    read: float = 0.1
    output: float = 5.0


def cost(usage: Usage, price: Price | None = None) -> float:
    """The cost of a call in fresh input tokens; with a price in dollars a token, in dollars."""
    price = price or Price()
    written = usage.cache_creation_input_tokens
    return (
        usage.input_tokens * price.input
        + (written - usage.created_1h) * price.write
        + usage.created_1h * price.write_1h
        + usage.cache_read_input_tokens * price.read
        + usage.output_tokens * price.output
    )


@attrs.frozen
class Part:
    """One block of a prompt. `mark` is its cache breakpoint's ttl, if it is one; `chain` the hash of everything up to its end."""

    tokens: int
    mark: str | None
    chain: bytes


def parts_of(body: Mapping[str, Any]) -> list[Part]:
    """A prompt as a list of blocks in the order in which it is cached: tools, system, messages."""
    chain = hashlib.sha256(str(body.get("model")).encode()).digest()
    parts = []
    for block, separator in _blocks(body):
        bare = canonical({key: value for key, value in block.items() if key != "cache_control"})
        chain = hashlib.sha256(chain + separator.encode() + bare.encode()).digest()
        text = block.get("text") if block.get("type") == "text" else None
        control = block.get("cache_control")
        mark = str(control.get("ttl") or "5m") if isinstance(control, dict) else None
        parts.append(Part(tokens_of(text if isinstance(text, str) else bare), mark, chain))
    if parts and isinstance(body.get("cache_control"), dict):  # the automatic breakpoint, at the end
        parts[-1] = attrs.evolve(parts[-1], mark=parts[-1].mark or str(body["cache_control"].get("ttl") or "5m"))
    return parts


def _blocks(body: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Each block with what sets it apart from an equal block elsewhere."""
    for tool in body.get("tools") or []:
        yield tool, "tool"
    for block in blocks_of(body.get("system") or ""):
        yield block, "system"
    # A change of these leaves the tools and the system prompt cached, and makes the messages new.
    settings = canonical([body.get("tool_choice"), body.get("thinking")])
    for message in body.get("messages") or []:
        for block in blocks_of(message.get("content")):
            yield block, str(message.get("role")) + settings


def input_tokens(body: Mapping[str, Any]) -> int:
    """All input tokens of a request, cached or not."""
    return max(1, sum(part.tokens for part in parts_of(body)))


@attrs.define
class PromptCache:
    """Prompt prefixes that were written and when they end. An entry can be read once `write` was called for it, never before."""

    minimum: int = 1024  # tokens; a shorter prefix is not cached
    # {hash of the prefix: (end, ttl)}
    _entries: dict[bytes, tuple[float, float]] = attrs.field(init=False, factory=dict)

    def look_up(self, body: Mapping[str, Any], now: float) -> tuple[Usage, dict[bytes, float]]:
        """What of a request is read, written and neither, and what is to be written: {prefix: ttl in seconds}. Output is 0."""
        parts = parts_of(body)
        sums = [0]  # [tokens before part i]
        for part in parts:
            sums.append(sums[-1] + part.tokens)
        marks = [at for at, part in enumerate(parts) if part.mark and sums[at + 1] >= self.minimum]
        read = self._longest(parts, marks, now)
        if read >= 0:
            _, ttl = self._entries[parts[read].chain]
            self._entries[parts[read].chain] = now + ttl, ttl  # reading keeps it alive
        old = sums[read + 1]
        end = max([old, *(sums[at + 1] for at in marks)])
        end_1h = max([old, *(sums[at + 1] for at in marks if parts[at].mark == "1h")])  # those come first in a request
        written = {parts[at].chain: TTL_S[parts[at].mark or "5m"] for at in marks}
        return Usage(max(sums[-1], 1) - end, end - old, old, 0, end_1h - old), written

    def _longest(self, parts: list[Part], marks: list[int], now: float) -> int:
        """The last part of the longest prefix that can be read; -1 for none."""
        for mark in reversed(marks):
            for at in range(mark, max(-1, mark - LOOKBACK), -1):
                if self._entries.get(parts[at].chain, (0.0, 0.0))[0] > now:
                    return at
        return -1

    def write(self, entries: Mapping[bytes, float], now: float) -> None:
        """The answer has begun: what it wrote can be read from now on."""
        if len(self._entries) > 10_000:
            self._entries = {prefix: entry for prefix, entry in self._entries.items() if entry[0] > now}
        self._entries |= {prefix: (now + ttl, ttl) for prefix, ttl in entries.items()}


@attrs.define
class Bucket:
    """A token bucket: holds a minute's worth, refills all the time. Output may take it below zero, as it is taken while it is produced."""

    limit: float  # a minute
    level: float = attrs.field(init=False)
    at: float | None = None

    def __attrs_post_init__(self) -> None:
        self.level = self.limit

    def refill(self, now: float) -> None:
        """Bring the level up to date."""
        if self.at is not None:
            self.level = min(self.limit, self.level + max(0.0, now - self.at) * self.limit / MINUTE_S)
        self.at = now

    def wait(self, amount: float) -> float:
        """Seconds until `amount` is there; for more than the bucket holds, until it is full."""
        return max(0.0, (min(amount, self.limit) - self.level) * MINUTE_S / self.limit)

    def full_at(self, now: float) -> float:
        """When the bucket is full again if nothing is taken."""
        return now + self.wait(self.limit)


@attrs.define
class Limits:
    """An account's limits a minute; None is no limit. `concurrent` is calls at once.

    `rounding`: `remaining` of tokens is rounded to the nearest so many in the headers, as the real service does.
    """

    requests: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    concurrent: int | None = None
    rounding: int = 1000
    running: int = attrs.field(init=False, default=0)
    _buckets: dict[str, Bucket] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        limits = {"requests": self.requests, "input-tokens": self.input_tokens, "output-tokens": self.output_tokens}
        self._buckets = {name: Bucket(limit) for name, limit in limits.items() if limit is not None}

    def admit(self, counted_input: int, now: float) -> tuple[str, float] | None:
        """Take a request and its input, or say which limit refuses it and for how many seconds. A refusal takes nothing."""
        if self.concurrent is not None and self.running >= self.concurrent:
            return "concurrent", 1.0
        wanted = {"requests": 1.0, "input-tokens": float(counted_input), "output-tokens": 1.0}
        for name, bucket in self._buckets.items():
            bucket.refill(now)
            if bucket.level < wanted[name] - 1e-6:  # rounding of a wait that was just long enough
                return name, bucket.wait(wanted[name])
        for name, bucket in self._buckets.items():
            bucket.level -= wanted[name] if name != "output-tokens" else 0.0
        return None

    def produced(self, tokens: int, now: float) -> None:
        """Output that was just produced."""
        if bucket := self._buckets.get("output-tokens"):
            bucket.refill(now)
            bucket.level -= tokens

    def headers(self, now: float) -> list[tuple[str, str]]:
        """The `anthropic-ratelimit-*` headers; `tokens` repeats the most restricting of the two kinds of tokens."""
        found = []
        shown = {name: bucket for name, bucket in self._buckets.items() if name != "requests"}
        both = dict(self._buckets)
        if shown:
            both["tokens"] = min(shown.values(), key=lambda bucket: bucket.level / bucket.limit)
        for name, bucket in both.items():
            bucket.refill(now)
            step = 1 if name == "requests" else self.rounding
            remaining = max(0, math.floor(bucket.level) if step == 1 else round(bucket.level / step) * step)
            found += [
                (f"anthropic-ratelimit-{name}-limit", f"{bucket.limit:.0f}"),
                (f"anthropic-ratelimit-{name}-remaining", str(remaining)),
                (f"anthropic-ratelimit-{name}-reset", rfc3339(bucket.full_at(now))),
            ]
        return found

    def words(self, name: str, model: str) -> str:
        """The real service's words for a refusal."""
        more = "contact sales to discuss your options for a rate limit increase"
        if name == "concurrent":
            return f"Number of concurrent connections has exceeded your rate limit. Please try again later or {more}."
        limit = f"{self._buckets[name].limit:,.0f} {name.replace('-', ' ')}"
        return (
            f"This request would exceed your organization's rate limit of {limit} per minute (org: loopback, model: {model}). You can see the "
            f"response headers for current usage. Please reduce the prompt length or the maximum tokens requested, or try again later or {more}."
        )


def rfc3339(at: float) -> str:
    """A time in seconds since 1970 as RFC 3339 in UTC, whole seconds, rounded up."""
    return datetime.fromtimestamp(math.ceil(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
