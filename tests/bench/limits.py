"""How much of a rate limit the gate uses, and how often it trips it: `python tests/bench/limits.py [--hours N] [--seed N]`.

Twenty instances, one virtual hour (after two minutes that use up the buckets' first fill), each of the three limits binding in
turn. The server is a model of its own, written from the API's documentation and not from the gate: buckets that fill
continuously, a request refused when it does not fit, output counted as it is produced, `remaining` shown in thousands.
Calls vary in size (lognormal) and length (2 to 60 s); what the gate is told of them is off by up to 30 % either way.
Nothing here asserts; it prints a table. tests/test_limits.py holds the same server to a few minutes.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio
import trio.testing

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from runtime.limits import Gate, Limits, Verdict, judge

INSTANCES = 20
WARM_UP_S = 120.0
EPOCH_S = 1_800_000_000.0  # Unix time of the virtual clock's zero
PLENTY = {"requests": 10_000.0, "input-tokens": 100_000_000.0, "output-tokens": 10_000_000.0}


class Refused(Exception):
    """The server's 429."""

    def __init__(self, headers: Mapping[str, str], message: str) -> None:
        super().__init__(message)
        self.headers = headers


class Server:
    """Continuous-refill token buckets that hold a minute's `limits`, and behind each one that the headers do not tell of and that
    holds `short_s` seconds of it: "60 requests per minute may be enforced as 1 request per second".

    With `reserves_output` the whole `max_tokens` must fit at the start, as the API once did; else output counts as it comes.
    """

    def __init__(self, limits: Mapping[str, float], *, short_s: float = 60.0, reserves_output: bool = False) -> None:
        self.limits = dict(limits)
        self.short_s = short_s
        self.reserves_output = reserves_output
        self.left = dict(limits)
        self.left_short = {name: limit / 60 * short_s for name, limit in limits.items()}
        self.seen_s = trio.current_time()
        self.refusals = 0
        self.accepted = 0
        self.used: Counter[str] = Counter()

    def refill(self) -> None:
        now = trio.current_time()
        for name, limit in self.limits.items():
            more = (now - self.seen_s) * limit / 60
            self.left[name] = min(limit, self.left[name] + more)
            self.left_short[name] = min(limit / 60 * self.short_s, self.left_short[name] + more)
        self.seen_s = now

    def take(self, name: str, amount: float) -> None:
        self.refill()
        self.left[name] -= amount
        self.left_short[name] -= amount
        self.used[name] += amount

    def headers(self) -> dict[str, str]:
        found = {}
        now = trio.current_time()
        for name, limit in self.limits.items():
            left = max(0.0, self.left[name])
            missing_s = (limit - left) / (limit / 60)
            shown = math.floor(left) if name == "requests" else round(left, -3)
            stem = f"anthropic-ratelimit-{name}-"
            reset = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(EPOCH_S + now + missing_s))
            found |= {stem + "limit": f"{limit:.0f}", stem + "remaining": f"{shown:.0f}", stem + "reset": reset}
        return found

    def open(self, input_tokens: int, output_tokens: int, max_tokens: int) -> dict[str, str]:
        """Accept a request, or refuse it with the seconds until it would fit."""
        self.refill()
        needs = {"requests": 1.0, "input-tokens": float(input_tokens), "output-tokens": 1.0}
        if self.reserves_output:
            needs["output-tokens"] = float(max_tokens)
        left = {name: min(self.left[name], self.left_short[name]) for name in needs}
        waits = {name: (need - left[name]) / (self.limits[name] / 60) for name, need in needs.items()}
        worst = max(waits, key=lambda name: waits[name])
        if waits[worst] > 1e-6:
            self.refusals += 1
            headers = {**self.headers(), "retry-after": f"{math.ceil(waits[worst])}"}
            raise Refused(
                headers, f"This request would exceed your organization's rate limit of {self.limits[worst]} {worst}"
            )
        self.accepted += 1
        self.take("requests", 1)
        self.take("input-tokens", input_tokens)
        if self.reserves_output:
            self.take("output-tokens", max_tokens)
        return self.headers()

    async def answer(self, output_tokens: int, max_tokens: int, length_s: float) -> None:
        """Produce the output over `length_s` seconds."""
        steps = max(1, round(length_s))
        for _ in range(steps):
            await trio.sleep(length_s / steps)
            if not self.reserves_output:
                self.take("output-tokens", output_tokens / steps)
        if self.reserves_output:
            self.take("output-tokens", output_tokens - max_tokens)


@attrs.frozen
class Scenario:
    """What the server allows, and what is unusual about it."""

    name: str
    binding: str
    limit: float
    short_s: float = 60.0
    reserves_output: bool = False
    told: bool = False  # the user has configured the limit; else it is learned
    stranger: float = 0.0  # share of the limit that another program on the account uses, in bursts
    asked: bool = True  # a figure that the issue asks for
    gated: bool = True


SCENARIOS = (
    Scenario("requests", "requests", 20),
    Scenario("input tokens", "input-tokens", 200_000),
    Scenario("output tokens", "output-tokens", 30_000),
    Scenario(
        "output tokens, max_tokens counted at the start", "output-tokens", 40_000, reserves_output=True, asked=False
    ),
    Scenario("input tokens, 1.2 times the limit asked for", "input-tokens", 320_000, asked=False),
    Scenario("input tokens, the limit configured", "input-tokens", 200_000, told=True, asked=False),
    Scenario("requests, the server allows 10 s at once", "requests", 20, short_s=10, asked=False),
    Scenario("input tokens, the server allows 15 s at once", "input-tokens", 250_000, short_s=15, asked=False),
    Scenario("input tokens, another program takes 30 %", "input-tokens", 200_000, stranger=0.3, asked=False),
    Scenario("requests, no gate: each waits its retry-after", "requests", 20, asked=False, gated=False),
    Scenario("input tokens, no gate: each waits its retry-after", "input-tokens", 200_000, asked=False, gated=False),
)


@attrs.frozen
class Figures:
    """What one run shows: parts of one."""

    used: float
    refused: float
    least_share: float
    calls: int
    real_s: float


class NoCall:
    """A call that went straight to the server."""

    wait_s = 0.0

    def began(self, headers: Mapping[str, str]) -> None:
        pass

    def answered(self, headers: Mapping[str, str], *, input_tokens: int, output_tokens: int) -> None:
        pass

    def refused(self, verdict: Verdict) -> None:
        self.wait_s = verdict.wait_s or 0.0


class NoGate:
    """What a loop around the SDK does: call at once; when refused, wait as told, and try again."""

    @asynccontextmanager
    async def call(self, *, input_tokens: float, output_tokens: float) -> AsyncIterator[NoCall]:
        call = NoCall()
        yield call
        await trio.sleep(call.wait_s)


async def _instance(number: int, gate: Gate | NoGate, server: Server, seed: int, taken: list[Counter[str]]) -> None:
    dice = random.Random(seed * 1000 + number)
    while True:
        input_tokens = round(min(60_000, dice.lognormvariate(math.log(8_000), 0.7)))
        output_tokens = round(min(8_000, dice.lognormvariate(math.log(1_200), 0.7)))
        length_s = dice.uniform(2, 60)
        max_tokens = round(output_tokens * dice.uniform(1, 3))
        off = dice.uniform(0.7, 1.3), dice.uniform(0.7, 1.3)
        attempt = 0
        while True:
            attempt += 1
            guess = max_tokens if server.reserves_output else output_tokens * off[1]
            async with gate.call(input_tokens=input_tokens * off[0], output_tokens=guess) as call:
                await trio.sleep(dice.uniform(0.05, 0.3))  # to the server
                try:
                    headers = server.open(input_tokens, output_tokens, max_tokens)
                except Refused as refusal:
                    call.refused(judge(429, refusal.headers, "rate_limit_error", str(refusal), attempt=attempt))
                    continue
                call.began(headers)
                await server.answer(output_tokens, max_tokens, length_s)
                call.answered(headers, input_tokens=input_tokens, output_tokens=output_tokens)
                taken[number].update({"requests": 1, "input-tokens": input_tokens, "output-tokens": output_tokens})
                break
        await trio.sleep(dice.uniform(0.1, 2))  # its tools run


async def _stranger(server: Server, name: str, share: float, seed: int) -> None:
    dice = random.Random(seed)
    while True:
        wait_s = dice.uniform(5, 40)
        await trio.sleep(wait_s)
        server.refill()
        amount = server.limits[name] / 60 * share * wait_s
        if server.left[name] >= amount:
            server.take(name, amount)


async def measure(scenario: Scenario, hours: float, seed: int) -> Figures:
    """One run in virtual time."""
    server = Server(
        {**PLENTY, scenario.binding: scenario.limit}, short_s=scenario.short_s, reserves_output=scenario.reserves_output
    )
    told = {f"{scenario.binding.replace('-', '_')}_per_min": scenario.limit} if scenario.told else {}
    gate = Gate(Limits(**told), seed=seed)
    taken: list[Counter[str]] = [Counter() for _ in range(INSTANCES)]
    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for number in range(INSTANCES):
            nursery.start_soon(_instance, number, gate if scenario.gated else NoGate(), server, seed, taken)
        if scenario.stranger:
            nursery.start_soon(_stranger, server, scenario.binding, scenario.stranger, seed)
        await trio.sleep(WARM_UP_S)
        used, refused, accepted = Counter(server.used), server.refusals, server.accepted
        for one in taken:
            one.clear()
        await trio.sleep(3600 * hours)
        nursery.cancel_scope.cancel()
    used = server.used - used
    refused, accepted = server.refusals - refused, server.accepted - accepted
    shares = [one[scenario.binding] for one in taken]
    return Figures(
        used=used[scenario.binding] / (scenario.limit * 60 * hours),
        refused=refused / max(1, refused + accepted),
        least_share=min(shares) / (sum(shares) / INSTANCES),
        calls=accepted,
        real_s=time.perf_counter() - began,
    )


def main() -> None:
    words = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    words.add_argument("--hours", type=float, default=1.0, help="virtual hours to measure (default 1)")
    words.add_argument("--seed", type=int, default=1)
    given = words.parse_args()
    print(f"{'what binds':<50} {'of the limit':>12} {'429':>8} {'least share':>12} {'calls':>6} {'took':>6}")
    for scenario in SCENARIOS:
        clock = trio.testing.MockClock(autojump_threshold=0)
        found = trio.run(measure, scenario, given.hours, given.seed, clock=clock)
        mark = "" if scenario.asked else "  (not asked for)"
        print(
            f"{scenario.name:<50} {found.used:>11.1%} {found.refused:>8.2%} {found.least_share:>12.2f} {found.calls:>6}"
            f" {found.real_s:>5.1f}s{mark}",
            flush=True,
        )
    print("targets: >= 95 % of the limit, <= 0.5 % answers 429, no instance under 0.50 of its fair share")


if __name__ == "__main__":
    main()
