"""What goes wrong with a call: error answers with the real service's words, broken connections, broken streams, broken replies.

A `Fault` says which calls are hit by what; `CATALOGUE` has one of everything by name. Knows nothing of sockets: the server performs these values.
The words of the two kinds of 429 and of a spent account are those that users of the real service report.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from types import MappingProxyType
from typing import Any

import attrs
from messages_model import Reply, Request, ToolUse

TYPES = MappingProxyType(
    {
        400: "invalid_request_error",
        401: "authentication_error",
        402: "billing_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        500: "api_error",
        504: "timeout_error",
        529: "overloaded_error",
    }
)


@attrs.frozen
class Answer:
    """An error answer instead of a message.

    `message` may contain `{regain}`, the day and time at which access comes back (`resets_in_s` from now).
    `retry_after_s`: the header's seconds, None for none; `as_date`: as an HTTP date instead.
    `page`: an HTML body in the place of the API's JSON, as a proxy in front of it sends.
    `plan`: the headers of a subscription's window that is used up, which end `resets_in_s` from now.
    """

    status: int
    message: str = ""
    type: str = ""
    error_code: str | None = None
    retry_after_s: float | None = None
    as_date: bool = False
    resets_in_s: float = 3600.0
    page: bool = False
    plan: bool = False
    headers: Mapping[str, str] = attrs.field(factory=dict)

    def body(self, request_id: str, now: float) -> Any:
        """The JSON body, or the HTML text."""
        if self.page:
            return f"<html><head><title>{self.status}</title></head><body><h1>{self.status} {self.message}</h1></body></html>"
        regain = datetime.fromtimestamp(now + self.resets_in_s, UTC).strftime("%Y-%m-%d at %H:%M UTC")
        error: dict[str, Any] = {
            "type": self.type or TYPES.get(self.status, "api_error"),
            "message": self.message.replace("{regain}", regain),
        }
        if self.error_code:
            error["details"] = {"error_code": self.error_code}
        return {"type": "error", "error": error, "request_id": request_id}

    def extra_headers(self, now: float) -> list[tuple[str, str]]:
        """Headers besides the usual ones."""
        found = list(self.headers.items())
        if self.retry_after_s is not None:
            date = format_datetime(datetime.fromtimestamp(math.ceil(now + self.retry_after_s), UTC), usegmt=True)
            found.append(("retry-after", date if self.as_date else f"{self.retry_after_s:g}"))
        if self.plan:
            found += [
                ("anthropic-ratelimit-unified-status", "rejected"),
                ("anthropic-ratelimit-unified-representative-claim", "five_hour"),
                ("anthropic-ratelimit-unified-reset", str(math.ceil(now + self.resets_in_s))),
                ("anthropic-ratelimit-unified-5h-status", "rejected"),
                ("anthropic-ratelimit-unified-5h-reset", str(math.ceil(now + self.resets_in_s))),
            ]
        return found


@attrs.frozen
class Reset:
    """The connection is reset: before the headers (`at` None), or when `at` stream events were sent. A plain answer breaks in its body."""

    at: int | None = None


@attrs.frozen
class Cut:
    """The stream ends in good order, but after `at` events, without the rest of the message."""

    at: int


@attrs.frozen
class StreamError:
    """An `error` event after 200 and `at` events; the stream then ends. A call that does not stream gets the status instead."""

    at: int
    type: str = "overloaded_error"
    message: str = "Overloaded"

    @property
    def status(self) -> int:
        """The status that goes with the error's type."""
        return next(status for status, name in TYPES.items() if name == self.type)


@attrs.frozen
class Silence:
    """Nothing for `seconds` before event `at`, and then on as if nothing had been. The connection stays open."""

    seconds: float
    at: int = 0


@attrs.frozen
class Rewrite:
    """The model says something else. `change` gives the other reply, or None for a reply that it cannot be done to: then it waits for the next."""

    change: Callable[[Reply], Reply | None]


What = Answer | Reset | Cut | StreamError | Silence | Rewrite
When = int | Container[int] | Callable[[Request], bool]


@attrs.define
class Fault:
    """Which calls are hit by what.

    `when`: the call's number (POST /v1/messages are counted from 1), several numbers, or a question about the request.
    `times`: how many calls at most; None for every one that fits. `used`: how many it was so far.
    """

    when: When
    what: What
    times: int | None = None
    used: int = attrs.field(init=False, default=0)

    def hits(self, request: Request) -> bool:
        """Whether this call is one of those."""
        if self.times is not None and self.used >= self.times:
            return False
        if isinstance(self.when, int):
            return request.number == self.when
        return self.when(request) if callable(self.when) else request.number in self.when


def _first_call(change: Callable[[ToolUse], list[ToolUse]]) -> Rewrite:
    """Another first tool call."""

    def rewrite(reply: Reply) -> Reply | None:
        at = next((at for at, block in enumerate(reply.blocks) if isinstance(block, ToolUse)), None)
        if at is None:
            return None
        call = reply.blocks[at]
        assert isinstance(call, ToolUse)
        return attrs.evolve(reply, blocks=(*reply.blocks[:at], *change(call), *reply.blocks[at + 1 :]))

    return Rewrite(rewrite)


def _other_type(value: object) -> object:
    return 7 if isinstance(value, str) else "seven" if isinstance(value, int | float) else None


def _inside_call(reply: Reply) -> Reply | None:
    """Stopped in the middle of the last tool call's input."""
    if not reply.blocks or not isinstance(reply.blocks[-1], ToolUse):
        return None
    call = reply.blocks[-1]
    half = attrs.evolve(call, json=call.wire[: max(1, len(call.wire) * 2 // 3)])
    return attrs.evolve(reply, blocks=(*reply.blocks[:-1], half), stop_reason="max_tokens")


UNKNOWN_TOOL = "launch_rockets"
malformed_input = _first_call(lambda call: [attrs.evolve(call, json='{"path": ,}')])
unfinished_input = _first_call(lambda call: [attrs.evolve(call, json=call.wire[:-1])])
unknown_tool = _first_call(lambda call: [attrs.evolve(call, name=UNKNOWN_TOOL)])
duplicate_id = _first_call(lambda call: [attrs.evolve(call, id="toolu_twice"), attrs.evolve(call, id="toolu_twice")])
wrong_types = _first_call(
    lambda call: [attrs.evolve(call, input={name: _other_type(value) for name, value in call.input.items()})]
)
empty_content = Rewrite(lambda reply: Reply((), "end_turn"))
max_tokens_inside_call = Rewrite(_inside_call)
max_tokens = Rewrite(lambda reply: attrs.evolve(reply, stop_reason="max_tokens"))
refusal = Rewrite(lambda reply: Reply((), "refusal"))


def rate_limited(retry_after_s: float | None, *, as_date: bool = False) -> Answer:
    """The 429 of a rate: waiting a while is enough."""
    words = "This request would exceed your organization's rate limit of 30,000 input tokens per minute. Please try again later."
    return Answer(429, words, retry_after_s=retry_after_s, as_date=as_date)


def spend_limit(resets_in_s: float = 3600.0) -> Answer:
    """The 429 of money: the account's monthly threshold is reached. It has no retry-after; the words say when access comes back."""
    words = (
        "You have reached your API usage limits: your organization has crossed its monthly API usage threshold, set based on your organization's "
        "API tier. You will regain access on {regain}."
    )
    return Answer(429, words, error_code="enforced_spend_limit_reached", resets_in_s=resets_in_s)


def usage_limit(resets_in_s: float = 3600.0) -> Answer:
    """The 400 of money: the limit that the account's owner set himself."""
    return Answer(
        400,
        "You have reached your specified API usage limits. You will regain access on {regain}.",
        resets_in_s=resets_in_s,
    )


def plan_limit(resets_in_s: float = 3600.0) -> Answer:
    """The 429 of a subscription whose window is used up: the time is in the `unified` headers and in retry-after."""
    words = "This request would exceed your account's rate limit. Please try again later."
    return Answer(429, words, retry_after_s=resets_in_s, plan=True, resets_in_s=resets_in_s)


# {name: what}; one of everything, for tests that go through all. Names begin with the status where there is one.
CATALOGUE: Mapping[str, What] = MappingProxyType(
    {
        "429-retry-0": rate_limited(0),
        "429-retry-past": rate_limited(-90, as_date=True),
        "429-retry-1": rate_limited(1),
        "429-retry-60": rate_limited(60),
        "429-retry-61": rate_limited(61),
        "429-retry-3600": rate_limited(3600),
        "429-retry-date": rate_limited(90, as_date=True),
        "429-retry-none": rate_limited(None),
        "429-ramp": Answer(
            429,
            "This request would exceed your organization's maximum usage increase rate.",
            error_code="ramp_limit_exceeded",
            retry_after_s=30,
        ),
        "429-spend-limit": spend_limit(),
        "429-contract-spend-limit": Answer(
            429,
            "Your organization has reached the spend limit of its contract.",
            error_code="contract_spend_limit_reached",
        ),
        "429-plan-limit": plan_limit(),
        "400-usage-limit": usage_limit(),
        "400-workspace-usage-limit": Answer(
            400, "You have reached your specified workspace API usage limits. You will regain access on {regain}."
        ),
        "400-credit": Answer(
            400,
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.",
        ),
        "402-billing": Answer(
            402, "There is a problem with your billing.", error_code="linked_organization_spend_limit_reached"
        ),
        "400": Answer(400, "messages: at least one message is required"),
        "401": Answer(401, "invalid x-api-key"),
        "403": Answer(403, "Your API key does not have permission to use the specified resource."),
        "404": Answer(404, "model: claude-none"),
        "413": Answer(413, "Request exceeds the maximum size"),
        "500": Answer(500, "Internal server error"),
        "502-html": Answer(502, "Bad Gateway", page=True),
        "503": Answer(503, "upstream connect error or disconnect/reset before headers", page=True),
        "504": Answer(504, "Request timed out"),
        "529": Answer(529, "Overloaded"),
        "reset-before-headers": Reset(),
        "reset-at-0": Reset(0),
        "reset-at-3": Reset(3),
        "cut-at-3": Cut(3),
        "error-event-overloaded": StreamError(3),
        "error-event-api": StreamError(3, "api_error", "Internal server error"),
        "error-event-first": StreamError(0),
        "silence-300-at-0": Silence(300.0),
        "silence-300-at-3": Silence(300.0, 3),
        "malformed-input": malformed_input,
        "unfinished-input": unfinished_input,
        "unknown-tool": unknown_tool,
        "duplicate-id": duplicate_id,
        "wrong-types": wrong_types,
        "empty-content": empty_content,
        "max-tokens-inside-call": max_tokens_inside_call,
        "max-tokens": max_tokens,
        "refusal": refusal,
    }
)


def label(what: What) -> str:
    """The name in the catalogue, or what it is."""
    return next((name for name, value in CATALOGUE.items() if value == what), repr(what))
