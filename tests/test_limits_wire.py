"""The gate and the verdicts against the SDK and a server over real sockets: what headers and errors look like when they arrive."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
import trio
import trio.testing
from messages_api import serve
from messages_faults import CATALOGUE, Fault
from messages_meter import Limits as ServerLimits
from messages_model import Scripted

from runtime.budget import Usage
from runtime.limits import Gate, Verdict, judge

KINDS = {
    "429-retry-0": ("rate", None),
    "429-retry-past": ("rate", None),
    "429-retry-1": ("rate", 1),
    "429-retry-60": ("rate", 60),
    "429-retry-61": ("rate", 61),
    "429-retry-3600": ("rate", 3600),
    "429-retry-date": ("rate", 90),
    "429-retry-none": ("rate", None),
    "429-ramp": ("rate", 30),
    "429-spend-limit": ("quota", None),
    "429-contract-spend-limit": ("quota", None),
    "429-plan-limit": ("quota", None),
    "400-usage-limit": ("quota", None),
    "400-workspace-usage-limit": ("quota", None),
    "400-credit": ("quota", None),
    "402-billing": ("quota", None),
    "400": ("fatal", None),
    "401": ("fatal", None),
    "403": ("fatal", None),
    "404": ("fatal", None),
    "413": ("fatal", None),
    "500": ("server", None),
    "502-html": ("server", None),
    "503": ("server", None),
    "504": ("server", None),
    "529": ("overload", None),
    "error-event-first": ("overload", None),
    "error-event-overloaded": ("overload", None),
    "error-event-api": ("server", None),
    "reset-before-headers": ("connection", None),
}
WITH_AN_END = {"429-spend-limit", "429-plan-limit", "400-usage-limit", "400-workspace-usage-limit"}


def _verdict(error: anthropic.APIError) -> Verdict:
    if not isinstance(error, anthropic.APIStatusError):
        return judge(None, {}, "", str(error), attempt=1)
    body: Any = error.body if isinstance(error.body, dict) else {}
    inner = body.get("error") or {}
    words = str(inner.get("message") or error.message)
    code = error.error_code or ""
    return judge(error.status_code, error.response.headers, inner.get("type") or "", words, attempt=1, error_code=code)


async def _ask(client: anthropic.AsyncAnthropic, gate: Gate) -> Usage:
    async with gate.call(input_tokens=20, output_tokens=5) as call:
        async with client.messages.stream(
            model="claude-opus-5-5", max_tokens=100, messages=[{"role": "user", "content": "Hello."}]
        ) as stream:
            call.began(stream.response.headers)
            usage = Usage.from_sdk((await stream.get_final_message()).usage)
        call.answered(
            stream.response.headers, input_tokens=usage.limited_input_tokens, output_tokens=usage.output_tokens
        )
        return usage


@pytest.mark.parametrize("name", KINDS)
async def test_each_refusal_as_it_arrives(name: str) -> None:
    """Status, headers and body as the SDK hands them on: the right kind, the server's wait in full, its words, and when a quota is back."""
    kind, wait_s = KINDS[name]
    async with (
        serve(Scripted(["Hi."]), faults=[Fault(1, CATALOGUE[name])]) as api,
        anthropic.AsyncAnthropic(base_url=api.url, api_key="any", max_retries=0) as client,
    ):
        with pytest.raises(anthropic.APIError) as caught:
            await _ask(client, Gate())
    verdict = _verdict(caught.value)
    assert verdict.kind == kind
    if wait_s is not None:
        assert verdict.told
        assert verdict.wait_s == pytest.approx(wait_s, abs=1)
    else:
        assert not verdict.told or kind == "quota"
    assert (verdict.until_s is not None) == (name in WITH_AN_END)
    assert verdict.message


async def test_a_limit_is_learned_from_the_wire_and_kept(socket_clock: trio.testing.MockClock) -> None:
    """Forty calls of ten instances, twenty allowed a minute: the limit is learned on the way, and none is refused."""
    gate = Gate()

    async def instance(client: anthropic.AsyncAnthropic) -> None:
        for _ in range(4):
            await _ask(client, gate)

    async with (
        serve(Scripted(["Hi."]), limits=ServerLimits(requests=20)) as api,
        anthropic.AsyncAnthropic(base_url=api.url, api_key="any", max_retries=0, timeout=600) as client,
    ):
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(instance, client)
        assert [call.status for call in api.calls] == [200] * 40
    assert gate.statistics().models[""].limits_per_min == {"requests": 20}
    assert 60 <= trio.current_time() <= 80  # twenty-four more than the sixteen that may go at once: three seconds each
