"""The gate in virtual time, and what a failed call means."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest
import trio
import trio.testing
from aiolimiter import AsyncLimiter
from bench.limits import PLENTY, Scenario, Server, measure
from hypothesis import given, settings
from hypothesis import strategies as st

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


async def test_a_retry_after_of_nothing_is_no_leave_to_ask_without_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A server that refuses every call with `retry-after: 0` is asked about as often as one that says nothing: each try of a call waits
    longer, up to a minute, and holds the others with it. Ten instances ask a dozen times in ten seconds; none of it is final."""
    gate, times = Gate(), []

    async def instance() -> None:
        attempt = 0
        while True:
            attempt += 1
            async with gate.call(input_tokens=0, output_tokens=0) as call:
                times.append(trio.current_time())
                assert len(times) <= 300
                verdict = call.refused(
                    judge(429, {"retry-after": "0"}, "rate_limit_error", "slow down", attempt=attempt)
                )
            assert (verdict.kind, verdict.final) == ("rate", False)

    with trio.move_on_after(3600):
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(instance)
    assert sum(time < 10 for time in times) <= 20
    assert len(times) >= 60


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


async def _asked(gate: Gate, verdict: Verdict | None = None, model: str = "") -> str:
    """One call, answered or refused with a verdict; what came of it."""
    try:
        async with gate.call(input_tokens=0, output_tokens=0, model=model) as call:
            await trio.sleep(1)
            if verdict is not None:
                return call.refused(verdict).kind
            call.began({})
            await trio.sleep(10)
            call.answered({}, input_tokens=0, output_tokens=0)
            return "answered"
    except QuotaSpent:
        return "not let through"


def _quota(ends_in_s: float | None) -> Verdict:
    """A spent quota that comes back so many seconds from now by the clock on the wall, or nobody knows when."""
    heads = {"anthropic-ratelimit-unified-status": "rejected"}
    if ends_in_s is not None:
        heads["anthropic-ratelimit-unified-reset"] = str(time.time() + ends_in_s)
    return judge(429, heads, "rate_limit_error", "spent", attempt=1)


@pytest.mark.parametrize(("told_s", "closed_s"), [(3600.0, 3600.0), (None, 60.0), (-30.0, 60.0)])
async def test_a_gate_opens_again_when_the_quota_is_back(
    told_s: float | None, closed_s: float, autojump_clock: trio.testing.MockClock
) -> None:
    """Nothing is let through until the time that was told, or for a minute when none was, or one that is over; then it is asked again,
    with nobody's help."""
    gate = Gate()
    assert await _asked(gate, _quota(told_s)) == "quota"
    closed_at = trio.current_time()
    await trio.sleep(closed_s - 5)
    assert await _asked(gate) == "not let through"
    await trio.sleep_until(closed_at + closed_s + 1)
    assert await _asked(gate) == "answered"


@pytest.mark.parametrize("spent", [True, False])
async def test_one_call_finds_out_whether_a_quota_is_still_spent(
    spent: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """Two runs at one gate, of two models, when it is opened again: one call is made. Refused, it ends the waiting of all others; answered,
    it lets them go at its first byte, at the same time and first come, first served."""
    gate = Gate()
    await _asked(gate, _quota(3600))
    gate.reopen()
    ended: list[tuple[str, float]] = []
    start = trio.current_time()

    async def one(model: str) -> None:
        ended.append((await _asked(gate, _quota(3600) if spent else None, model), trio.current_time() - start))

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(one, ("opus", "haiku")[number % 2])
            await trio.testing.wait_all_tasks_blocked()
    if spent:
        assert sorted(ended) == [("not let through", 1.0)] * 7 + [("quota", 1.0)]
        assert gate.statistics().refused == {"quota": 2}
    else:
        assert ended == [("answered", 11.0)] + [("answered", 12.0)] * 7
    assert (gate.statistics().in_flight, gate.statistics().waiting) == (0, 0)


async def test_a_call_that_was_to_find_out_and_is_given_up_leaves_it_to_the_next(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Cancelled, or refused for another reason, it tells nothing of the quota: the next in line asks."""
    gate = Gate()
    await _asked(gate, _quota(3600))
    gate.reopen()
    ended: list[str] = []

    async def one(verdict: Verdict | None) -> None:
        ended.append(await _asked(gate, verdict))

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0.5):
            async with trio.open_nursery() as given_up:
                given_up.start_soon(_asked, gate)
                await trio.testing.wait_all_tasks_blocked()
                for verdict in (judge(529, {}, "", "Overloaded", attempt=1), _quota(3600), None):
                    nursery.start_soon(one, verdict)
                    await trio.testing.wait_all_tasks_blocked()
    assert ended == ["overload", "quota", "not let through"]


async def test_what_was_asked_before_the_gate_was_opened_closes_it_no_more(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A call that was under way when the quota was found spent, and is refused when a run has begun to ask again, is old news."""
    gate = Gate()
    async with gate.call(input_tokens=0, output_tokens=0) as late:
        await _asked(gate, _quota(3600))
        gate.reopen()
        late.refused(_quota(3600))
    assert await _asked(gate) == "answered"


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
        assert gate.statistics().models[""].limits_per_min == {"requests": limit, "input_tokens": limit * 1000}


async def test_the_server_is_believed_when_others_use_the_account(autojump_clock: trio.testing.MockClock) -> None:
    """Remaining lower than we believe: the next call waits for the refill."""
    gate = Gate()
    async with gate.call(input_tokens=100, output_tokens=10) as call:
        call.answered(headers(requests_limit=60, requests_remaining=0), input_tokens=100, output_tokens=10)
    (at,) = await _calls(gate, 1)
    assert at == pytest.approx(60 * (1 - BURST) + 1, abs=0.1)  # full at 60; a call fits when 48 - 1 are used


async def test_concurrency_shrinks_on_a_rate_and_grows_again(autojump_clock: trio.testing.MockClock) -> None:
    """Refusals of one burst cut it once, by three tenths, never below one; successes bring it back."""
    gate = Gate(Limits(concurrency=8))
    assert gate.statistics().concurrency == 8

    async def refused() -> None:
        async with gate.call(input_tokens=0, output_tokens=0) as call:
            await trio.sleep(1)
            call.refused(RATE)

    for expected in (5, 3, 2, 1, 1):
        async with trio.open_nursery() as nursery:
            for _ in range(gate.statistics().concurrency):
                nursery.start_soon(refused)
        assert gate.statistics().concurrency == expected
    await _calls(gate, 100, length_s=1.0)
    assert gate.statistics().concurrency == 8


async def test_concurrency_does_not_grow_unused(autojump_clock: trio.testing.MockClock) -> None:
    """Calls made one after another say nothing about how many the server would take at once."""
    gate = Gate()
    before = gate.statistics().concurrency
    for _ in range(30):
        await _calls(gate, 1)
    assert gate.statistics().concurrency == before


async def test_concurrency_doubles_while_nothing_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    """Calls that begin and end together, as those of one fan-out do, make room for twice as many each time, up to what is allowed."""
    gate = Gate(Limits(concurrency=50))
    ends = sorted(await _calls(gate, 200, length_s=1.0))
    assert [ends.count(second) for second in range(6)] == [10, 20, 40, 50, 50, 30]


async def test_less_is_used_at_once_after_a_refusal(autojump_clock: trio.testing.MockClock) -> None:
    """A rate that the server holds over a shorter time than a minute is found: after a refusal calls come less in a burst, at the same rate."""
    gate, bursts = Gate(Limits(requests_per_min=100)), []
    for _ in range(3):
        await trio.sleep(60)  # all is refilled
        bursts.append((await _calls(gate, 100)).count(0.0))
        await trio.sleep(60)
        async with gate.call(input_tokens=0, output_tokens=0) as call:
            call.refused(judge(429, {"retry-after": "1"}, "rate_limit_error", "slow down", attempt=1))
    assert bursts == pytest.approx([80, 56, 39], abs=2)
    await trio.sleep(60)
    times = await _calls(gate, 100)
    assert times[-1] - times[50] == pytest.approx(49 * 0.6, abs=1)


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


async def test_what_failed_before_it_began_costs_no_tokens(autojump_clock: trio.testing.MockClock) -> None:
    """A refused call gives its tokens back; one that broke off after its headers keeps its input, and what came of the output."""
    gate = Gate(Limits(input_tokens_per_min=1000, output_tokens_per_min=1000))
    outage = judge(529, {}, "overloaded_error", "Overloaded", attempt=1)
    for _ in range(3):
        async with gate.call(input_tokens=700, output_tokens=700) as call:
            call.refused(outage)
    assert gate.statistics().rate_wait_s == 0
    async with gate.call(input_tokens=700, output_tokens=700) as call:
        call.began({})
        call.refused(outage, output_tokens=100)
    start = trio.current_time()
    async with gate.call(input_tokens=100, output_tokens=700) as call:  # 700 + 100 of 800: both fit
        assert trio.current_time() == start
    async with gate.call(input_tokens=100, output_tokens=0):
        assert trio.current_time() - start == pytest.approx(6)  # a hundred tokens of a thousand a minute


async def test_a_cancelled_wait_leaves_nothing_behind(autojump_clock: trio.testing.MockClock) -> None:
    """Whoever gives up waiting frees its place in line; whoever is cancelled in a call frees its slot, and counts as spent."""
    gate = Gate(Limits(concurrency=1, requests_per_min=60))
    async with gate.call(input_tokens=0, output_tokens=0):
        with trio.move_on_after(5) as scope:
            await _calls(gate, 3)
        assert scope.cancelled_caught
        assert gate.statistics().waiting == 0
    with trio.move_on_after(5):
        await _calls(gate, 1, length_s=100)
    assert (gate.statistics().in_flight, gate.statistics().waiting) == (0, 0)
    assert await _calls(gate, 2) == [0.0, 0.0]


async def test_a_large_call_is_not_starved_by_small_ones(autojump_clock: trio.testing.MockClock) -> None:
    """First come, first served: small calls that come later wait behind a large one, though they would fit."""
    gate, order = Gate(Limits(input_tokens_per_min=1000)), []

    async def one(tokens: int) -> None:
        async with gate.call(input_tokens=tokens, output_tokens=0) as call:
            order.append(tokens)
            call.answered({}, input_tokens=tokens, output_tokens=0)

    async with trio.open_nursery() as nursery:
        for tokens in (700, 800, 10, 10):
            nursery.start_soon(one, tokens)
            await trio.testing.wait_all_tasks_blocked()
    assert order == [700, 800, 10, 10]


async def test_a_call_beyond_a_minutes_limit_goes_and_is_paid_for(autojump_clock: trio.testing.MockClock) -> None:
    """A prompt of more than fits at all is sent when the bucket is empty; who comes next waits until it is paid for."""
    gate = Gate(Limits(input_tokens_per_min=1000))
    times = await _calls(gate, 2, input_tokens=3000)
    assert times == pytest.approx([0, 180], abs=0.1)


async def test_a_prompt_that_can_never_pass_is_fatal(autojump_clock: trio.testing.MockClock) -> None:
    """Refused for the third time, and larger than a minute's limit: the words of the server, and why waiting is of no use."""
    gate = Gate(Limits(input_tokens_per_min=1000))
    for attempt, kind in ((1, "rate"), (2, "rate"), (3, "fatal")):
        async with gate.call(input_tokens=2000, output_tokens=9) as call:
            verdict = call.refused(judge(429, {"retry-after": "9"}, "rate_limit_error", "too fast", attempt=attempt))
        assert (verdict.kind, verdict.final) == (kind, kind == "fatal")
    assert verdict.message == "too fast (about 2000 input tokens in one call; the limit is 1000 a minute)"


async def test_the_users_limit_caps_the_servers(autojump_clock: trio.testing.MockClock) -> None:
    """A limit that the user set stays, whatever more the server offers; a lower one of the server's wins."""
    gate = Gate(Limits(requests_per_min=10))
    for server, expected in ((1000, 10), (4, 4), (1000, 10)):
        async with gate.call(input_tokens=0, output_tokens=0) as call:
            call.answered(headers(requests_limit=server, requests_remaining=server), input_tokens=0, output_tokens=0)
        assert gate.statistics().models[""].limits_per_min == {"requests": expected}
    times = await _calls(gate, 20)
    assert times[-1] > 60


async def test_models_have_limits_of_their_own(autojump_clock: trio.testing.MockClock) -> None:
    """As the server keeps them: one model's retry-after, and its limits, hold no call of another; the cap on calls is common."""
    gate = Gate(Limits(concurrency=2))
    async with gate.call(input_tokens=0, output_tokens=0, model="opus") as call:
        call.refused(RATE)
    async with gate.call(input_tokens=0, output_tokens=0, model="haiku") as call:
        assert trio.current_time() == 0
        call.answered(headers(requests_limit=50), input_tokens=0, output_tokens=0)
    models = gate.statistics().models
    assert (dict(models["haiku"].limits_per_min), dict(models["opus"].limits_per_min)) == ({"requests": 50}, {})
    most = 0

    async def one(model: str) -> None:
        nonlocal most
        async with gate.call(input_tokens=0, output_tokens=0, model=model):
            most = max(most, gate.statistics().in_flight)
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(one, ("opus", "haiku", "sonnet")[number % 3])
    assert most == 2


async def test_headers_are_believed_when_they_are_fresh(autojump_clock: trio.testing.MockClock) -> None:
    """What `began` was told counts then; the same headers at the end of a long answer are old, and no reason to wait."""
    gate = Gate()
    old = headers(requests_limit=60, requests_remaining=0)
    async with gate.call(input_tokens=0, output_tokens=0) as call:
        call.began(old)
        await trio.sleep(60)
        call.began(old, input_tokens=0)
        call.answered(old, input_tokens=0, output_tokens=0)
    assert await _calls(gate, 1) == [0.0]


async def test_the_prompts_true_size_counts_as_soon_as_it_is_told(autojump_clock: trio.testing.MockClock) -> None:
    """The stream's first event has it: an estimate that was too high frees the rest for the next call while this one still runs."""
    gate = Gate(Limits(input_tokens_per_min=1000))
    async with gate.call(input_tokens=800, output_tokens=0) as call:
        call.began({})
        call.began({}, input_tokens=100)
        assert await _calls(gate, 1, input_tokens=700) == [0.0]
        call.answered({}, input_tokens=100, output_tokens=0)
    assert gate.statistics().rate_wait_s == 0


async def test_the_server_is_believed_when_there_is_more(autojump_clock: trio.testing.MockClock) -> None:
    """Counted too much, as a cancelled call is: the next answer's headers put it right."""
    gate = Gate(Limits(input_tokens_per_min=100_000))
    async with gate.call(input_tokens=79_000, output_tokens=0):
        pass  # it never reached the server
    async with gate.call(input_tokens=500, output_tokens=0) as call:
        call.answered(
            headers(input_tokens_limit=100_000, input_tokens_remaining=99_000), input_tokens=500, output_tokens=0
        )
    assert await _calls(gate, 1, input_tokens=70_000) == [0.0]


@pytest.mark.parametrize(
    ("binding", "limit"), [("requests", 20), ("input-tokens", 200_000), ("output-tokens", 30_000)]
)  # fmt: skip
def test_each_limit_is_used_and_not_tripped(binding: str, limit: float) -> None:
    """Half an hour of twenty instances against a model of the server: over 95 % of what binds, under 0.5 % refused, fair."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    figures = trio.run(measure, Scenario(binding, binding, limit), 0.5, 7, clock=clock)
    assert figures.used >= 0.95
    assert figures.refused <= 0.005
    assert figures.least_share >= 0.5


def test_a_server_that_allows_less_at_once_is_not_tripped_for_long() -> None:
    """A server that holds only ten seconds of a minute's limit refuses few calls, and most of the limit is used all the same."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    figures = trio.run(measure, Scenario("short", "requests", 20, short_s=10), 1.0, 7, clock=clock)
    assert figures.used >= 0.9
    assert figures.refused <= 0.01


@given(
    limit=st.integers(1_000, 100_000),
    sizes=st.lists(st.floats(0.001, 1.5), min_size=1, max_size=40),
    gaps=st.lists(st.floats(0, 30), min_size=40, max_size=40),
)
@settings(deadline=None, max_examples=40)
def test_a_server_that_counts_as_we_do_never_refuses(limit: int, sizes: list[float], gaps: list[float]) -> None:
    """Whatever the sizes (parts of a minute's limit) and the times: when estimates are right and nothing else uses the account, no 429."""

    async def main() -> None:
        server = Server({**PLENTY, "input-tokens": float(limit)})
        gate = Gate(Limits(input_tokens_per_min=limit))

        async def one(tokens: int) -> None:
            async with gate.call(input_tokens=tokens, output_tokens=0) as call:
                if tokens <= limit:
                    call.began(server.open(tokens, 0, 0))
                else:
                    server.take("input-tokens", tokens)
                call.answered({}, input_tokens=tokens, output_tokens=0)

        async with trio.open_nursery() as nursery:
            for size, gap in zip(sizes, gaps, strict=False):
                nursery.start_soon(one, round(size * limit))
                await trio.sleep(gap)
        assert server.refusals == 0

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


# ---- what a failed call means

DATE = {"date": "Sat, 21 Nov 2026 08:00:00 GMT"}
TABLE: list[tuple[int | None, Mapping[str, str], str, str, str, float | None]] = [
    (429, {"retry-after": "1"}, "rate_limit_error", "This request would exceed your organization's rate limit of 50 requests per minute", "rate", 1),
    (429, {"retry-after": "3600"}, "rate_limit_error", "This request would exceed your account's rate limit. Please try again later.", "rate", 3600),
    (429, {"retry-after": "Sat, 21 Nov 2026 08:02:03 GMT", **DATE}, "rate_limit_error", "Number of request tokens has exceeded your per-minute rate limit", "rate", 123),
    (429, {}, "rate_limit_error", "This request would exceed your organization's maximum usage increase rate for input tokens per minute.", "rate", 1),
    (429, {"retry-after-ms": "250"}, "rate_limit_error", "slow down", "rate", 0.25),
    (429, {"retry-after-ms": "100"}, "rate_limit_error", "slow down", "rate", 0.1),
    (429, {"retry-after": "0"}, "rate_limit_error", "slow down", "rate", 1),
    (429, {"retry-after-ms": "7"}, "rate_limit_error", "slow down", "rate", 1),
    (429, {"retry-after": "-30"}, "rate_limit_error", "slow down", "rate", 1),
    (429, {"retry-after": "Sat, 21 Nov 2026 07:00:00 GMT", **DATE}, "rate_limit_error", "slow down", "rate", 1),
    (529, {"retry-after": "0"}, "overloaded_error", "Overloaded", "overload", 1),
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


def test_a_date_is_set_against_the_servers_clock() -> None:
    """The wait until an HTTP date is counted from the answer's own date, else from now; a date that has passed says nothing."""
    heads = {"retry-after": "Sat, 21 Nov 2026 08:02:03 GMT"}
    moment = 1795248000.0  # 08:00:00
    assert judge(429, heads, "", "", attempt=1, now_s=moment).wait_s == 123
    assert judge(429, {**heads, **DATE}, "", "", attempt=1, now_s=0).wait_s == 123
    over = judge(429, heads, "", "", attempt=3, now_s=moment + 1000)
    assert (over.wait_s, over.told) == (4, False)
    assert judge(429, {"Retry-After": "5"}, "", "", attempt=1).wait_s == 5


def test_backoff_grows_and_ends() -> None:
    """It doubles up to a minute; the tenth failure of the same call is its last; so is one that the server says not to retry."""
    waits = [judge(500, {}, "api_error", "", attempt=attempt).wait_s for attempt in range(1, 9)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert not judge(500, {}, "", "", attempt=9).final
    assert judge(500, {}, "", "", attempt=10).final
    assert judge(503, {"x-should-retry": "false"}, "", "", attempt=1).final
    assert not judge(429, {}, "", "", attempt=1000).final


@pytest.mark.parametrize("code", ["enforced_spend_limit_reached", "contract_spend_limit_reached"])
def test_a_spend_limit_is_told_by_its_code(code: str) -> None:
    """The tier's monthly cap comes as a 429 with a code and any words; it is no rate."""
    assert judge(429, {}, "rate_limit_error", "Forbidden for now", attempt=1, error_code=code).kind == "quota"
    assert judge(429, {}, "rate_limit_error", "slow", attempt=1, error_code="ramp_limit_exceeded").kind == "rate"


@pytest.mark.parametrize("wrong", [{"requests_per_min": 0}, {"output_tokens_per_min": -1}, {"concurrency": 0}])
def test_limits_are_above_nothing(wrong: dict[str, int]) -> None:
    """A limit of zero would wait for ever: it is refused where it is made."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Limits(**wrong)


async def test_the_least_time_is_what_the_rate_allowed(autojump_clock: trio.testing.MockClock) -> None:
    """What the answers took of a rate, beyond the one full bucket there was at the beginning, took at least that long; and never longer
    than it really took. Of several runs behind one gate each has its own part."""
    gate = Gate(Limits(requests_per_min=60, concurrency=100))
    began = trio.current_time()
    for _ in range(150):
        async with gate.call(input_tokens=1, output_tokens=1) as call:
            call.answered({}, input_tokens=1, output_tokens=1)
    assert gate.least_s() == pytest.approx(90.0)
    assert gate.least_s() <= trio.current_time() - began
    assert gate.least_s({"": {"requests": 90.0}}) == pytest.approx(30.0)
    assert gate.least_s({}) == gate.least_s({"never called": {"requests": 90.0}}) == 0.0


@pytest.mark.parametrize(
    ("words", "until_s", "told"),
    [
        (
            "Your credit is used up.",
            1_800_000_000.0,
            "Your credit is used up; it comes back on 2027-01-15 at 08:00 UTC",
        ),
        ("Spent until 2027-01-15 at 08:00 UTC.", 1_800_000_000.0, "Spent until 2027-01-15 at 08:00 UTC."),
        ("Your credit is used up.", None, "Your credit is used up."),
        ("Your credit is used up.", 1e15, "Your credit is used up."),
    ],
)
def test_a_spent_quota_says_when_it_comes_back(words: str, until_s: float | None, told: str) -> None:
    """The day and the time, where the service told it and did not put it into its words; a time that cannot be is left out."""
    assert str(QuotaSpent(words, until_s)) == told
