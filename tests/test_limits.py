"""The gate in virtual time, and what a failed call means."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import trio
from aiolimiter import AsyncLimiter

from runtime.errors import QuotaSpent
from runtime.limits import BURST, Bucket, Gate, Limits, Verdict, judge


def headers(**values: float) -> dict[str, str]:
    """`requests_limit=50` as the server's header."""
    return {f"anthropic-ratelimit-{name.replace('_', '-')}": str(value) for name, value in values.items()}


RATE = judge(429, {"retry-after": "60"}, "rate_limit_error", "This request would exceed your rate limit", attempt=1)


# ---- buckets


def test_the_private_names_of_aiolimiter_that_the_bucket_leans_on() -> None:
    """aiolimiter still keeps its clock, level and rate where the bucket looks for them; else pin another version."""
    assert {"_event_loop", "_level", "_rate_per_sec"} <= set(AsyncLimiter.__slots__)
    limiter = AsyncLimiter(30, 60)
    assert limiter._level == 0.0
    assert limiter._rate_per_sec == 0.5
    bucket = Bucket(30)
    assert bucket._loop is bucket._event_loop


async def test_a_bucket_lets_its_rate_through(autojump_clock: trio.testing.MockClock) -> None:
    """Thirty acquisitions at ten a minute take two minutes: ten at once, then one every six seconds."""
    bucket, times = Bucket(10), []
    start = trio.current_time()
    for _ in range(30):
        await bucket.acquire()
        times.append(trio.current_time() - start)
    assert times == pytest.approx([0.0] * 10 + [6.0 * n for n in range(1, 21)], abs=0.01)


async def test_a_bucket_serves_in_line(autojump_clock: trio.testing.MockClock) -> None:
    """A large amount is not overtaken by small ones that came after it."""
    bucket, order = Bucket(10), []

    async def take(amount: float) -> None:
        await bucket.acquire(amount)
        order.append(amount)

    await bucket.acquire(10)
    async with trio.open_nursery() as nursery:
        for amount in (9, 1, 2, 3):
            nursery.start_soon(take, amount)
            await trio.testing.wait_all_tasks_blocked()
    assert order == [9, 1, 2, 3]


async def test_an_amount_above_the_bucket_leaves_a_debt(autojump_clock: trio.testing.MockClock) -> None:
    """Two and a half minutes' worth goes when the bucket is empty; the next one waits until it is paid for."""
    bucket = Bucket(10)
    start = trio.current_time()
    await bucket.acquire(25)
    assert trio.current_time() == start
    await bucket.acquire(10)
    assert trio.current_time() - start == pytest.approx(150, abs=0.01)


# ---- the gate


async def _calls(gate: Gate, count: int, *, input_tokens: int = 0, length_s: float = 0.0) -> list[float]:
    """Make calls at the same time; when each was let through, seconds from now."""
    start, times = trio.current_time(), []

    async def one() -> None:
        async with gate.call(input_tokens=input_tokens, output_tokens=0) as call:
            times.append(trio.current_time() - start)
            await trio.sleep(length_s)
            call.answered({}, input_tokens=input_tokens, output_tokens=0)

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(one)
            await trio.testing.wait_all_tasks_blocked()
    return times


async def test_unknown_limits_bind_nothing_but_concurrency(autojump_clock: trio.testing.MockClock) -> None:
    """Before the first answer only the number of calls at once is bounded."""
    gate = Gate(Limits(concurrency=4))
    assert await _calls(gate, 12, input_tokens=10**9, length_s=5.0) == [0.0] * 4 + [5.0] * 4 + [10.0] * 4


@pytest.mark.parametrize("size_s", [1, 60, 61, 3600])
async def test_a_retry_after_is_waited_for_in_full_by_all(size_s: int, autojump_clock: trio.testing.MockClock) -> None:
    """Whatever its size, nobody calls before a retry-after is over."""
    gate = Gate()
    async with gate.call(input_tokens=0, output_tokens=0) as call:
        verdict = call.refused(judge(429, {"retry-after": str(size_s)}, "rate_limit_error", "slow down", attempt=1))
    assert (verdict.kind, verdict.wait_s, verdict.final) == ("rate", size_s, False)
    assert min(await _calls(gate, 3)) == pytest.approx(size_s)
    assert gate.statistics().waited_s["hold"] == pytest.approx(size_s)


async def test_a_spent_quota_stops_all_who_wait(autojump_clock: trio.testing.MockClock) -> None:
    """One answer that says the quota is spent ends the waiting of every call, with the server's words and the time it returns."""
    gate = Gate(Limits(concurrency=1))
    words = "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."
    stopped: list[QuotaSpent] = []

    async def wait() -> None:
        try:
            async with gate.call(input_tokens=0, output_tokens=0):
                raise AssertionError("let through")
        except QuotaSpent as error:
            stopped.append(error)

    async with trio.open_nursery() as nursery, gate.call(input_tokens=0, output_tokens=0) as call:
        for _ in range(3):
            nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        call.refused(judge(400, {}, "invalid_request_error", words, attempt=1))
    assert [(str(error), error.until_s) for error in stopped] == [(words, 1796083200.0)] * 3
    gate.reopen()
    assert await _calls(gate, 1) == [0.0]


async def test_what_was_reserved_too_much_is_given_back(autojump_clock: trio.testing.MockClock) -> None:
    """A call that cost a tenth of its estimate leaves the rest to the next one at once."""
    gate = Gate(Limits(input_tokens_per_min=1000))
    for _ in range(3):
        async with gate.call(input_tokens=700, output_tokens=0) as call:
            call.answered({}, input_tokens=30, output_tokens=0)
    assert gate.statistics().rate_wait_s == 0


async def test_limits_are_learned_and_change(autojump_clock: trio.testing.MockClock) -> None:
    """The first answer's headers set the limits; later ones raise and lower them."""
    gate = Gate()
    for limit in (50, 1000, 5):
        async with gate.call(input_tokens=100, output_tokens=10) as call:
            call.answered(
                headers(requests_limit=limit, input_tokens_limit=limit * 1000), input_tokens=100, output_tokens=10
            )
        assert gate.statistics().limits_per_min == {"requests": limit, "input_tokens": limit * 1000}


async def test_the_server_is_believed_when_others_use_the_account(autojump_clock: trio.testing.MockClock) -> None:
    """Remaining lower than we believe: the next call waits for the refill."""
    gate = Gate()
    async with gate.call(input_tokens=100, output_tokens=10) as call:
        call.answered(headers(requests_limit=60, requests_remaining=0), input_tokens=100, output_tokens=10)
    (at,) = await _calls(gate, 1)
    assert at == pytest.approx(60 * (1 - BURST) + 1, abs=0.1)  # full at 60; a call fits when 48 - 1 are used


async def test_concurrency_shrinks_on_a_rate_and_grows_again(autojump_clock: trio.testing.MockClock) -> None:
    """Refusals of one burst halve it once, never below one; successes bring it back."""
    gate = Gate(Limits(concurrency=8))
    assert gate.statistics().concurrency == 8

    async def refused() -> None:
        async with gate.call(input_tokens=0, output_tokens=0) as call:
            await trio.sleep(1)
            call.refused(RATE)

    for expected in (4, 2, 1, 1):
        async with trio.open_nursery() as nursery:
            for _ in range(gate.statistics().concurrency):
                nursery.start_soon(refused)
        assert gate.statistics().concurrency == expected
    await _calls(gate, 100, length_s=1.0)
    assert gate.statistics().concurrency == 8


async def test_the_budget_of_retries_makes_a_verdict_final(autojump_clock: trio.testing.MockClock) -> None:
    """In an outage retries end when what successes have earned is used up; a success earns new ones."""
    gate = Gate()
    outage = judge(529, {}, "overloaded_error", "Overloaded", attempt=1)

    async def fail() -> Verdict:
        async with gate.call(input_tokens=0, output_tokens=0) as call:
            return call.refused(outage)

    verdicts = [await fail() for _ in range(101)]
    assert [verdict.final for verdict in verdicts] == [False] * 100 + [True]
    assert all(verdict.wait_s is not None and 0.5 <= verdict.wait_s <= 1.0 for verdict in verdicts[:100])
    assert len({verdict.wait_s for verdict in verdicts[:100]}) > 90
    await _calls(gate, 5)
    assert not (await fail()).final


# ---- what a failed call means

DATE = {"date": "Sat, 21 Nov 2026 08:00:00 GMT"}
TABLE: list[tuple[int | None, Mapping[str, str], str, str, str, float | None]] = [
    (429, {"retry-after": "1"}, "rate_limit_error", "This request would exceed your organization's rate limit of 50 requests per minute", "rate", 1),
    (429, {"retry-after": "3600"}, "rate_limit_error", "This request would exceed your account's rate limit. Please try again later.", "rate", 3600),
    (429, {"retry-after": "Sat, 21 Nov 2026 08:02:03 GMT", **DATE}, "rate_limit_error", "Number of request tokens has exceeded your per-minute rate limit", "rate", 123),
    (429, {}, "rate_limit_error", "This request would exceed your organization's maximum usage increase rate for input tokens per minute.", "rate", 1),
    (429, {"retry-after-ms": "250"}, "rate_limit_error", "slow down", "rate", 0.25),
    (429, {"retry-after": "soon"}, "rate_limit_error", "slow down", "rate", 1),
    (200, {}, "overloaded_error", "Overloaded", "overload", 1),
    (529, {"retry-after": "7"}, "overloaded_error", "Overloaded", "overload", 7),
    (500, {}, "api_error", "Internal server error", "server", 1),
    (502, {}, "", "", "server", 1),
    (503, {}, "", "", "server", 1),
    (504, {}, "timeout_error", "", "server", 1),
    (408, {}, "", "", "server", 1),
    (None, {}, "", "Connection error.", "connection", 1),
    (400, {}, "invalid_request_error", "max_tokens: must be greater than or equal to 1", "fatal", None),
    (400, {}, "invalid_request_error", "tools.0.name: 'raise_spend_limit quota' does not match", "fatal", None),
    (401, {}, "authentication_error", "invalid x-api-key", "fatal", None),
    (403, {}, "permission_error", "Your API key does not have permission to use the specified resource", "fatal", None),
    (404, {}, "not_found_error", "model: claude-nix", "fatal", None),
    (413, {}, "request_too_large", "Request exceeds the maximum size", "fatal", None),
    (400, {}, "invalid_request_error", "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.", "quota", None),
    (400, {}, "invalid_request_error", "You have reached your specified workspace API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.", "quota", None),
    (402, {}, "billing_error", "Payment required", "quota", None),
    (429, {"anthropic-ratelimit-unified-status": "rejected", "anthropic-ratelimit-unified-reset": "1796083200", "retry-after": "900"}, "rate_limit_error", "This request would exceed your account's rate limit. Please try again later.", "quota", 900),
    (429, {}, "rate_limit_error", "Claude AI usage limit reached|1796083200", "quota", None),
    (429, {}, "rate_limit_error", "Extra usage is required for long context requests.", "quota", None),
    (429, {}, "rate_limit_error", "Number of request tokens has exceeded your daily rate limit", "quota", None),
]  # fmt: skip


@pytest.mark.parametrize(("status", "heads", "body_type", "message", "kind", "wait_s"), TABLE)
def test_what_a_failed_call_means(
    status: int | None, heads: Mapping[str, str], body_type: str, message: str, kind: str, wait_s: float | None
) -> None:
    """Each kind of refusal as the server words it: waited out, backed off, a pause of the run, or fatal at once."""
    verdict = judge(status, heads, body_type, message, attempt=1)
    assert (verdict.kind, verdict.wait_s) == (kind, wait_s)
    assert verdict.final == (kind in ("fatal", "quota"))
    assert not message or verdict.message == message


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({}, "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."),
        ({}, "Claude AI usage limit reached|1796083200"),
        ({"anthropic-ratelimit-unified-status": "rejected", "anthropic-ratelimit-unified-reset": "1796083200"}, "no"),
        (
            {
                "anthropic-ratelimit-unified-status": "rejected",
                "anthropic-ratelimit-unified-reset": "2026-12-01T00:00:00Z",
            },
            "no",
        ),
    ],
)
def test_when_a_quota_returns(heads: Mapping[str, str], message: str) -> None:
    """The time a quota is back is taken from the header or from the words."""
    assert judge(429, heads, "rate_limit_error", message, attempt=1).until_s == 1796083200.0
