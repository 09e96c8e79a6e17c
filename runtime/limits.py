"""Rates and concurrency: one gate that all calls of a runtime to the model go through, and what a failed call means.

Knows the server's headers, statuses and words, and trio's clock; no SDK, no prompts, no budget. What a server enforces are
token buckets that fill continuously (https://platform.claude.com/docs/en/api/rate-limits), so the gate keeps the same three, with
some room in each that it never uses: rates are used in full, but a bucket that is a little emptier than we believe refuses nothing.

    async with gate.call(input_tokens=9_000, output_tokens=1_500) as call:      # waits for its turn
        try:
            ...                                                                 # the stream opens
            call.began(response.headers)                                        # as soon as there are headers
            ...
        except SomeError as error:
            verdict = call.refused(judge(status, headers, body_type, message, attempt=attempt))
        else:
            call.answered(response.headers, input_tokens=8_423, output_tokens=933)

After `refused` a `rate` needs no sleep: the gate itself holds the next `call`. For the others sleep `verdict.wait_s`, outside
the `async with`; when `verdict.final`, do not try again.
"""

from __future__ import annotations

import asyncio
import email.utils
import math
import random
import re
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, Literal, cast

import attrs
import trio
from aiolimiter import AsyncLimiter

from .errors import QuotaSpent

__all__ = ["Bucket", "Call", "Gate", "GateStatistics", "Limits", "ModelStatistics", "Reading", "Verdict", "judge"]

Kind = Literal["rate", "quota", "overload", "server", "connection", "fatal"]
Resource = Literal["requests", "input_tokens", "output_tokens"]
RESOURCES: Final[tuple[Resource, ...]] = ("requests", "input_tokens", "output_tokens")

BURST: Final = 0.8  # of a minute's limit may be used at once; the rest is room for what we cannot know
LEAST_BURST: Final = 0.02
SHRINK_BURST: Final = (
    0.7  # what a rate 429 leaves of it: the server may allow less at once, or others take their part in gulps
)
GROW_BURST: Final = 0.0002  # what each success adds, so that looking for more costs few refusals
FIRST_CONCURRENCY: Final = 10
SHRINK: Final = 0.7  # what a rate 429 leaves of the concurrency
FIRST_BACKOFF_S: Final = 1.0
MOST_BACKOFF_S: Final = 60.0
LEAST_TOLD_S: Final = 0.1  # a `retry-after` of less, or a date that is over, says nothing of when
MOST_TRIES: Final = 10  # of one call: what fails so often fails for a reason of its own
TRIES_OF_TOO_LARGE: Final = 3  # of a call that asks for more than a whole minute's limit
LEAST_CLOSED_S: Final = 60.0  # after a spent quota: the times that are told are rounded to minutes, and clocks differ
RETRY_RESERVE: Final = 100.0  # retries that may be made before any success, and saved up at most
RETRY_RATIO: Final = 0.2  # retries that each success adds


@attrs.frozen
class Limits:
    """What the user allows: `*_per_min` caps what the server allows, None is learned from the first answer's headers.

    Until a limit is known only `concurrency`, calls at once, binds.
    """

    requests_per_min: float | None = None
    input_tokens_per_min: float | None = None
    output_tokens_per_min: float | None = None
    concurrency: int = attrs.field(default=50, validator=attrs.validators.ge(1))

    def __attrs_post_init__(self) -> None:
        for resource in RESOURCES:
            limit = self.of(resource)
            if limit is not None and not limit > 0:
                raise ValueError(f"{resource}_per_min: {limit} is not above 0")

    def of(self, resource: Resource) -> float | None:
        """The limit of one resource."""
        return cast("float | None", getattr(self, f"{resource}_per_min"))


@attrs.frozen
class Reading:
    """What the headers of one answer say of one limit. `reset_s` is when it is full again, Unix time."""

    resource: Resource
    limit: float
    remaining: float | None = None
    reset_s: float | None = None


@attrs.frozen
class Verdict:
    """What a failed call means.

    `rate`, `overload`, `server` and `connection` may pass: try again after `wait_s` seconds, which is the server's word when
    `told`, else (or when that is no time to speak of) a backoff. `quota` pauses the run until `until_s` (Unix time, None: not
    known). `fatal` will not pass. `final`: no further try. `message` has the server's words, `attempt` is the try that failed.
    """

    kind: Kind
    message: str
    wait_s: float | None = None
    until_s: float | None = None
    told: bool = False
    final: bool = False
    readings: tuple[Reading, ...] = ()
    attempt: int = 1


@attrs.frozen
class ModelStatistics:
    """How the limits of one model stand: those in force (absent = not known yet, nothing binds), and the server's last words."""

    limits_per_min: Mapping[Resource, float]
    readings: Mapping[Resource, Reading]
    in_flight: int
    concurrency: int


@attrs.frozen
class GateStatistics:
    """How the gate stands; `models` has the limits of each model that was called.

    `waited_s` is how long calls stood before the gate, by what the first of them waited for: `requests`, `input_tokens`,
    `output_tokens`, `concurrency` or `hold` (a `retry-after`). Seconds of the clock, not summed over the calls of a model.
    """

    waiting: int
    in_flight: int
    concurrency: int
    waited_s: Mapping[str, float]
    answered: int
    refused: Mapping[Kind, int]
    retries_left: int
    models: Mapping[str, ModelStatistics]

    @property
    def rate_wait_s(self) -> float:
        """Seconds in which a rate, not our own concurrency, held calls back."""
        return sum(waited for cause, waited in self.waited_s.items() if cause != "concurrency")


def add_up(sum_: dict[Resource, float], used: Mapping[Resource, float]) -> None:
    """Take in what one answer used: one request, and so many tokens."""
    sum_["requests"] = sum_.get("requests", 0.0) + 1.0
    for resource, amount in used.items():
        sum_[resource] = sum_.get(resource, 0.0) + amount


class _TrioTime:
    """As much of an event loop as aiolimiter asks for."""

    def time(self) -> float:
        return trio.current_time()

    def is_closed(self) -> bool:
        return False


class Bucket(AsyncLimiter):
    """A leaky bucket under trio: `limit_per_min` a minute, of which the part `burst` at once; first come, first served.

    aiolimiter asks asyncio for its clock and wakes the smallest waiter first. Here the clock is trio's and waiters stand in line.
    That leans on three private names (`_event_loop`, `_level`, `_rate_per_sec`); a test pins them. An amount above what fits at
    all goes when the bucket is empty and leaves it in debt, which is what the server's own bucket then is.
    """

    def __init__(self, limit_per_min: float, burst: float = 1.0) -> None:
        super().__init__(limit_per_min * burst, 60.0 * burst)
        self._event_loop = cast("asyncio.AbstractEventLoop", _TrioTime())
        self._line = trio.StrictFIFOLock()
        self.limit_per_min = limit_per_min
        self.burst = burst

    @property
    def level(self) -> float:
        """What was taken and has not leaked yet."""
        self.has_capacity(0)  # leaks
        return self._level

    @level.setter
    def level(self, amount: float) -> None:
        self.has_capacity(0)
        self._level = max(0.0, amount)

    def wait_s(self, amount: float) -> float:
        """Seconds until `amount` fits, if nobody else takes any; 0 when it fits now."""
        over = self.level + min(amount, self.max_rate) - self.max_rate
        # A part of the bucket that small is rounding, and a shorter sleep than a clock can tell would spin for ever.
        return 0.0 if over <= 1e-9 * self.max_rate else max(over / self._rate_per_sec, 1e-3)

    async def acquire(self, amount: float = 1) -> None:
        """Wait in line until `amount` fits, and take it."""
        async with self._line:
            while True:
                wait_s = self.wait_s(amount)
                if wait_s <= 0:
                    break
                await trio.sleep(wait_s)
            self.level += amount

    def resize(self, limit_per_min: float, burst: float) -> None:
        """A new limit; what was taken stays taken."""
        level = self.level
        self.limit_per_min = limit_per_min
        self.burst = burst
        self.max_rate = limit_per_min * burst
        self.time_period = 60.0 * burst
        self._rate_per_sec = limit_per_min / 60.0
        self._level = level


@attrs.define(eq=False)
class Call:
    """One call, let through in the block of its `async with`. Say how it ended with `answered` or `refused`; else it counts as used in
    full."""

    _lane: _Lane
    reserved: dict[Resource, float]
    sent_s: float = 0.0
    has_begun: bool = False
    ended: bool = False

    async def __aenter__(self) -> Call:
        try:
            await self._lane.enter(self)
        except BaseException:
            self._lane.leave(self)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._lane.leave(self)

    def began(self, headers: Mapping[str, str], *, input_tokens: int | None = None) -> None:
        """The answer's headers are here: learn from them now, when they are fresh; a second time they are old, and not looked at.

        `input_tokens` are the uncached ones with the cache writes, as soon as the stream's first event has told them.
        """
        if self.ended:
            return
        if input_tokens is not None:
            self._lane.correct(self, "input_tokens", input_tokens)
        if not self.has_begun:
            self.has_begun = True
            self._lane.gate._proved(self)
            self._lane.learn(read(headers), self)

    def answered(self, headers: Mapping[str, str], *, input_tokens: int, output_tokens: int) -> None:
        """The call succeeded. `input_tokens` are the uncached ones with the cache writes; cache reads do not count.

        The headers are believed as of now, unless `began` had them: then they are old.
        """
        readings = () if self.has_begun else read(headers)
        self._lane.answered(self, readings, {"input_tokens": input_tokens, "output_tokens": output_tokens})

    def refused(self, verdict: Verdict, *, input_tokens: int | None = None, output_tokens: int = 0) -> Verdict:
        """The call failed. The verdict with its wait jittered, and `final` when the budget of retries is spent.

        `input_tokens` and `output_tokens` are what a stream that broke off had used up. Without `input_tokens` it is none before
        `began`, and what was reserved after it.
        """
        return self._lane.refused(self, verdict, input_tokens, output_tokens)


class Gate:
    """ONE for all instances of a runtime. First come, first served: the first in line waits for what it needs, then the next.

    So a large call cannot starve, and instances that make one call at a time get equal turns. The server keeps its limits for
    each model apart, so there is a line for each; `limits` holds for each of them, but for `concurrency`, which is the sum. For
    one trio thread; all of it is virtual time under a MockClock. `seed` is for the jitter of backoffs.

    A spent quota closes it until the time that was told, a minute at least, or until `reopen`. Then one call is let through, and the
    others once its answer begins: that a quota is still spent is found out by one.
    """

    def __init__(self, limits: Limits | None = None, *, seed: int = 0) -> None:
        self.limits = limits if limits is not None else Limits()
        self._random = random.Random(seed)
        self._changed: trio.Event | None = None  # of those who wait for something to change; None: nobody does
        self._lanes: dict[str, _Lane] = {}  # {model: its line}
        self._closed: Verdict | None = None  # why nothing is let through, when a quota is spent
        self._closed_until_s = 0.0  # of the clock that all waiting goes by, not Unix time
        self._reopened_s = -math.inf
        self._doubtful = False  # it is open again, and nobody has been answered since
        self._probe: Call | None = None  # the call that finds out
        self._retries = RETRY_RESERVE
        self._answers = 0
        self._refusals: Counter[Kind] = Counter()

    def call(self, *, input_tokens: float, output_tokens: float, model: str = "") -> Call:
        """Wait for a turn and hold it. The amounts are estimates: input tokens that will not be read from the cache, and output.

        `model` is whose limits they count against. Raises QuotaSpent when the quota is spent, also for calls that wait.
        """
        lane = self._lanes.get(model)
        if lane is None:
            lane = self._lanes[model] = _Lane(self)
        return Call(lane, {"requests": 1.0, "input_tokens": float(input_tokens), "output_tokens": float(output_tokens)})

    def statistics(self) -> GateStatistics:
        """A frozen picture."""
        waited_s: dict[str, float] = {}
        for lane in self._lanes.values():
            for cause, seconds in lane.waited_s.items():
                waited_s[cause] = waited_s.get(cause, 0.0) + seconds
        at_once = sum(int(lane.allowed) for lane in self._lanes.values()) or FIRST_CONCURRENCY
        return GateStatistics(
            waiting=sum(lane.waiting for lane in self._lanes.values()),
            in_flight=self._in_flight(),
            concurrency=min(self.limits.concurrency, at_once),
            waited_s=MappingProxyType(waited_s),
            answered=self._answers,
            refused=MappingProxyType(dict(self._refusals)),
            retries_left=int(self._retries),
            models=MappingProxyType({model: lane.statistics() for model, lane in self._lanes.items()}),
        )

    def least_s(self, used: Mapping[str, Mapping[Resource, float]] | None = None) -> float:
        """The least time in which the answers so far could have been had, for the rates that are known: what was used of each, but for
        a bucket that was full at the beginning, at the rate it fills with. Seconds. `used` is a part of them, {model: {resource:
        amount}}, for one of several runs."""
        parts = {model: lane.used for model, lane in self._lanes.items()} if used is None else used
        return max(
            (self._lanes[model].least_s(part) for model, part in parts.items() if model in self._lanes), default=0.0
        )

    def reopen(self) -> None:
        """Ask again whether a quota is spent, whatever was told: for a run that begins or goes on in a process that outlives the one
        that was paused. Who is in a call, or waits for a turn, keeps it."""
        if self._closed is not None:
            self._closed = None
            self._doubtful = True
            self._reopened_s = trio.current_time()

    def _spent(self) -> Verdict | None:
        """Why nothing is let through now, or None."""
        if self._closed is not None and trio.current_time() >= self._closed_until_s:
            self.reopen()
        return self._closed

    def _close(self, call: Call, verdict: Verdict) -> None:
        if call.sent_s < self._reopened_s:  # what was sent before tells nothing of now
            return
        left_s = verdict.until_s - time.time() if verdict.until_s is not None else verdict.wait_s or 0.0
        self._closed, self._closed_until_s = verdict, trio.current_time() + max(LEAST_CLOSED_S, left_s)
        self._doubtful = False

    def _proved(self, call: Call) -> None:
        """The call is being answered."""
        if self._probe is call:
            self._doubtful = False
            self._freed(call)

    def _freed(self, call: Call) -> None:
        if self._probe is call:
            self._probe = None
        self._tell()

    def _in_flight(self) -> int:
        return sum(len(lane.in_flight) for lane in self._lanes.values())

    def _tell(self) -> None:
        """Something changed: the first in each line looks again."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def wait(self, at_most_s: float) -> None:
        """Until something changes."""
        if self._changed is None:
            self._changed = trio.Event()
        with trio.move_on_after(at_most_s):
            await self._changed.wait()

    def _succeeded(self) -> None:
        self._answers += 1
        self._retries = min(RETRY_RESERVE, self._retries + RETRY_RATIO)

    def _may_retry(self) -> bool:
        if self._retries < 1.0:
            return False
        self._retries -= 1.0
        return True


class _Lane:
    """One model's line before the gate, its three buckets and its concurrency."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.line = trio.StrictFIFOLock()
        self.waiting = 0
        self.in_flight: set[Call] = set()
        self.buckets: dict[Resource, Bucket] = {}  # absent = not known yet
        for resource in RESOURCES:
            limit = gate.limits.of(resource)
            if limit is not None:
                self.buckets[resource] = Bucket(limit, BURST)
        self.readings: dict[Resource, Reading] = {}
        self.allowed = float(min(FIRST_CONCURRENCY, gate.limits.concurrency))
        self.full_s = -math.inf  # when as many calls as are allowed were last under way
        self.shrunk_s: float | None = None  # when a rate 429 last shrank the concurrency
        self.hold_until_s = 0.0
        self.waited_s: dict[str, float] = {}  # {what was waited for: seconds}
        self.used: dict[Resource, float] = {}  # how much of each all answers took

    def statistics(self) -> ModelStatistics:
        return ModelStatistics(
            limits_per_min=MappingProxyType({name: bucket.limit_per_min for name, bucket in self.buckets.items()}),
            readings=MappingProxyType(dict(self.readings)),
            in_flight=len(self.in_flight),
            concurrency=int(self.allowed),
        )

    async def enter(self, call: Call) -> None:
        if not self.line.locked() and self.gate._spent() is None and self._obstacle(call)[1] <= 0:
            self._take(call)
            return
        self.waiting += 1
        try:
            async with self.line:
                await self._turn(call)
        finally:
            self.waiting -= 1

    def leave(self, call: Call) -> None:
        self.in_flight.discard(call)
        self.gate._freed(call)

    async def _turn(self, call: Call) -> None:
        """For the first in line: wait until nothing stands in the way, then take what the call needs, in one step."""
        while True:
            spent = self.gate._spent()
            if spent is not None:
                raise QuotaSpent(spent.message, spent.until_s)
            cause, wait_s = self._obstacle(call)
            if wait_s <= 0:
                break
            since = trio.current_time()
            await self.gate.wait(wait_s)
            self.waited_s[cause] = self.waited_s.get(cause, 0.0) + trio.current_time() - since
        self._take(call)

    def _take(self, call: Call) -> None:
        for resource, bucket in self.buckets.items():
            bucket.level += call.reserved[resource]
        call.sent_s = trio.current_time()
        self.in_flight.add(call)
        if self.gate._doubtful:
            self.gate._probe = call
        self._note_full()

    def _note_full(self) -> None:
        if len(self.in_flight) >= int(self.allowed):
            self.full_s = trio.current_time()

    def _obstacle(self, call: Call) -> tuple[str, float]:
        """What the call waits for longest, and for how many seconds at most from now."""
        gate = self.gate
        full = len(self.in_flight) >= int(self.allowed) or gate._in_flight() >= gate.limits.concurrency
        if full or gate._probe is not None:
            return "concurrency", float("inf")
        waits = {"hold": self.hold_until_s - trio.current_time()}
        waits.update((resource, bucket.wait_s(call.reserved[resource])) for resource, bucket in self.buckets.items())
        return max(waits.items(), key=lambda item: item[1])

    def correct(self, call: Call, resource: Resource, used: float) -> None:
        if resource in self.buckets:
            self.buckets[resource].level += used - call.reserved[resource]
        call.reserved[resource] = float(used)

    def _end(self, call: Call) -> None:
        if call.ended:
            raise RuntimeError("this call was answered or refused before")
        call.ended = True
        self._note_full()
        self.in_flight.discard(call)
        self.gate._tell()

    def least_s(self, used: Mapping[Resource, float]) -> float:
        rates = ((used.get(name, 0.0), bucket.limit_per_min) for name, bucket in self.buckets.items())
        return max(((amount / limit - 1.0) * 60.0 for amount, limit in rates if limit > 0), default=0.0)

    def answered(self, call: Call, readings: tuple[Reading, ...], used: Mapping[Resource, float]) -> None:
        self._end(call)
        self.gate._proved(call)
        add_up(self.used, used)
        for resource, amount in used.items():
            self.correct(call, resource, amount)
        self.learn(readings, call)
        for bucket in self.buckets.values():
            if bucket.burst < BURST:
                bucket.resize(bucket.limit_per_min, min(BURST, bucket.burst + GROW_BURST))
        self.gate._succeeded()
        # As TCP does: each answer to a call in whose time there was no room for another, since no more are ever tried otherwise. In
        # whose time, and not at whose end: of ten that end together, the first has made room when the second is looked at.
        if self.full_s >= call.sent_s:
            self._allow(self.allowed + (1.0 if self.shrunk_s is None else 1.0 / self.allowed))

    def refused(self, call: Call, verdict: Verdict, input_tokens: int | None, output_tokens: int) -> Verdict:
        at_once, asked = len(self.in_flight), dict(call.reserved)
        self._end(call)
        self.gate._refusals[verdict.kind] += 1
        # A request that was refused still was one: whether the server counts it is not said.
        if input_tokens is not None or not call.has_begun:
            self.correct(call, "input_tokens", input_tokens or 0)
        self.correct(call, "output_tokens", output_tokens)
        self.learn(verdict.readings, call)
        if verdict.kind == "quota":
            self.gate._close(call, verdict)
            return verdict
        if verdict.wait_s is None or verdict.final:
            return verdict
        if verdict.kind == "rate" and verdict.attempt >= TRIES_OF_TOO_LARGE and (over := self._too_large(asked)):
            return attrs.evolve(verdict, kind="fatal", final=True, message=f"{verdict.message} ({over})")
        if not verdict.told:
            verdict = attrs.evolve(verdict, wait_s=verdict.wait_s * self.gate._random.uniform(0.5, 1.0))
        now_s = trio.current_time()
        if verdict.kind == "rate":
            self.hold_until_s = max(self.hold_until_s, now_s + (verdict.wait_s or 0.0))
            if self.shrunk_s is None or call.sent_s > self.shrunk_s:  # what was sent before knew nothing of it
                self.shrunk_s = now_s
                self._allow(min(self.allowed, float(at_once)) * SHRINK)
                self._shrink_bursts(verdict.readings, asked)
            return verdict
        return verdict if self.gate._may_retry() else attrs.evolve(verdict, final=True)

    def _shrink_bursts(self, readings: tuple[Reading, ...], asked: Mapping[Resource, float]) -> None:
        """Use less at once of what the headers say is used up, or of everything when they say that all would have fitted."""
        empty = {one.resource for one in readings if one.remaining is not None and one.remaining < asked[one.resource]}
        for resource, bucket in self.buckets.items():
            if resource in empty or not empty:
                bucket.resize(bucket.limit_per_min, max(LEAST_BURST, bucket.burst * SHRINK_BURST))

    def _allow(self, at_once: float) -> None:
        self.allowed = max(1.0, min(float(self.gate.limits.concurrency), at_once))

    def _too_large(self, asked: Mapping[Resource, float]) -> str:
        """Why a prompt of this size may never pass, or nothing. Output is no reason: it is counted as it comes."""
        bucket, tokens = self.buckets.get("input_tokens"), asked["input_tokens"]
        if bucket is None or tokens <= bucket.limit_per_min:
            return ""
        return f"about {tokens:.0f} input tokens in one call; the limit is {bucket.limit_per_min:.0f} a minute"

    def learn(self, readings: tuple[Reading, ...], own: Call) -> None:
        """Believe the headers, as far as they cannot be explained by calls whose use the server or we cannot know yet."""
        for reading in readings:
            resource = reading.resource
            self.readings[resource] = reading
            cap = self.gate.limits.of(resource)
            limit = reading.limit if cap is None else min(cap, reading.limit)
            others = [call for call in self.in_flight if call is not own]
            bucket = self.buckets.get(resource)
            if bucket is None:
                bucket = self.buckets[resource] = Bucket(limit, BURST)
                bucket.level = sum(call.reserved[resource] for call in (*others, own))
            elif bucket.limit_per_min != limit:
                bucket.resize(limit, bucket.burst)
            if reading.remaining is None:
                continue
            rounding = 0.02 * limit + (1.0 if resource == "requests" else 500.0)  # tokens are told in thousands
            open_calls = [call for call in others if not call.has_begun or resource == "output_tokens"]
            if resource == "output_tokens" and not own.ended:
                open_calls.append(own)
            unseen = sum(call.reserved[resource] for call in open_calls)  # the server may not have counted it yet
            unsure = 0.0 if resource == "requests" else 0.5 * sum(call.reserved[resource] for call in (*others, own))
            used = limit - reading.remaining
            if used > bucket.level + unsure + rounding:
                bucket.level = used
            elif limit == reading.limit and used + unseen + rounding < bucket.level:
                bucket.level = used + unseen + rounding
        self.gate._tell()


def read(headers: Mapping[str, str]) -> tuple[Reading, ...]:
    """The limits in an answer's headers; those that are absent or no numbers are left out."""
    found = {str(name).lower(): str(value) for name, value in headers.items()}
    readings = []
    for resource in RESOURCES:
        stem = f"anthropic-ratelimit-{resource.replace('_', '-')}-"
        limit = _number(found.get(stem + "limit"))
        if limit is None or limit <= 0:
            continue
        reset_s = _iso_time(found.get(stem + "reset", ""))
        readings.append(Reading(resource, limit, _number(found.get(stem + "remaining")), reset_s))
    return tuple(readings)


_BODY_KINDS: Final[Mapping[str, int]] = {  # an error event in a stream has status 200: its type says what it is
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_QUOTA_CODES: Final = frozenset(
    {
        "enforced_spend_limit_reached",
        "contract_spend_limit_reached",
        "linked_organization_spend_limit_reached",
        "linked_organization_billing_unavailable",
    }
)
_QUOTA_WORDS: Final = re.compile(
    r"credit balance is too low|insufficient (credit|fund|quota)|quota|regain access|hit your limit|extra usage"
    r"|(usage|spend|spending|session|5-hour|daily|weekly|monthly) (limit|cap)|(daily|monthly) rate limit",
    re.IGNORECASE,
)
_QUOTA_REQUEST_WORDS: Final = re.compile(  # stricter: what refuses a request may quote it
    r"^your credit balance is too low|^you have reached your (specified )?(workspace )?API usage limits|^you've hit your [\w ]*limit",
    re.IGNORECASE,
)
_AGAIN: Final = frozenset({408, 409, 425})  # the request itself was sound; the SDK tries these again too


def judge(
    status: int | None,
    headers: Mapping[str, str],
    body_type: str,
    message: str,
    *,
    attempt: int,
    error_code: str = "",
    now_s: float | None = None,
) -> Verdict:
    """What a failed call means. Pure, but for a clock that is read when an HTTP date comes without a `date` header and `now_s`.

    `status` None is a connection that failed, or broke off. `body_type` is the error's type and `message` its words, both empty
    when there is no body; `error_code` is `error.details.error_code`. `attempt` counts the tries of this call, from 1. `now_s` is
    Unix time. A wait that is not `told` is the longest of the backoff; `Call.refused` draws from it.
    """
    found = {str(name).lower(): str(value) for name, value in headers.items()}
    if status is None or status < 400:
        status = _BODY_KINDS.get(body_type)
    words = message or body_type or (f"HTTP status {status}" if status else "the connection failed")
    readings = read(found)
    told_s = _retry_after(found, now_s)
    if status is not None and _is_quota(status, found, body_type, message, error_code):
        return Verdict("quota", words, told_s, _quota_end(found, message), told_s is not None, True, readings, attempt)
    backoff_s = min(MOST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(attempt - 1, 30))
    kind: Kind
    if status is None:
        kind = "connection"
    elif status == 429:
        kind = "rate"
    elif status == 529:
        kind = "overload"
    elif status >= 500 or status in _AGAIN:
        kind = "server"
    else:
        return Verdict("fatal", words, final=True, readings=readings, attempt=attempt)
    told = told_s is not None and told_s >= LEAST_TOLD_S
    final = kind != "rate" and (attempt >= MOST_TRIES or found.get("x-should-retry") == "false")
    return Verdict(kind, words, told_s if told else backoff_s, None, told, final, readings, attempt)


def _is_quota(status: int, headers: Mapping[str, str], body_type: str, message: str, error_code: str) -> bool:
    if error_code in _QUOTA_CODES or body_type == "billing_error" or status == 402:
        return True
    if status == 429 and headers.get("anthropic-ratelimit-unified-status") == "rejected":
        return True  # a subscription's window; a rate's refusal has no such header
    words = {400: _QUOTA_REQUEST_WORDS, 403: _QUOTA_REQUEST_WORDS, 429: _QUOTA_WORDS}.get(status)
    return words is not None and words.search(message.strip()) is not None


def _quota_end(headers: Mapping[str, str], message: str) -> float | None:
    """When a quota comes back, Unix time, where header or words say it."""
    reset = headers.get("anthropic-ratelimit-unified-reset", "")
    if (seconds := _number(reset)) is not None:
        return seconds
    if (moment := _iso_time(reset)) is not None:
        return moment
    if stamp := re.search(r"\|(\d{9,11})\b", message):  # "Claude AI usage limit reached|1760000400"
        return float(stamp[1])
    # "... on 2026-12-01 at 00:00 UTC"
    if day := re.search(r"(\d{4})-(\d\d)-(\d\d)(?:\s+at\s+|T|\s+)(\d\d):(\d\d)", message):
        return _iso_time(f"{day[1]}-{day[2]}-{day[3]}T{day[4]}:{day[5]}")
    return None


def _retry_after(headers: Mapping[str, str], now_s: float | None) -> float | None:
    """Seconds to wait by `retry-after-ms` or `retry-after`, which has seconds or a date; None when neither says."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000.0
    said = headers.get("retry-after")
    seconds = _number(said)
    if seconds is not None or not said:
        return seconds
    until_s = _http_date(said)
    if until_s is None:
        return None
    date_s = _http_date(headers.get("date", ""))  # the server's own clock, so that ours may be wrong
    start_s = date_s if date_s is not None else now_s if now_s is not None else time.time()
    return max(0.0, until_s - start_s)


def _http_date(text: str) -> float | None:
    parts = email.utils.parsedate_tz(text)
    return None if parts is None else float(email.utils.mktime_tz(parts))


def _iso_time(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _number(text: str | None) -> float | None:
    """A finite number from 0 up, or None."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
