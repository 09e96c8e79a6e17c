"""The loopback Messages API keeps its word to the real SDK: answers, streams, faults, limits, cache, ledger."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, get_args

import anthropic
import attrs
import httpx2
import pytest
import trio
from anthropic.types import Model as SdkModel
from messages_api import MODELS, count_events, serve
from messages_faults import (
    CATALOGUE,
    UNKNOWN_TOOL,
    Answer,
    Cut,
    Fault,
    Reset,
    Rewrite,
    Silence,
    StreamError,
    plan_limit,
    usage_limit,
)
from messages_ledger import bought_twice, read_ledger, total, total_cost
from messages_meter import Limits, PromptCache, Usage, cost
from messages_model import ModelMistake, Reply, Request, Scripted, Text, Thinking, ToolUse

MODEL = "claude-opus-5-5"
HELLO: Any = {"model": MODEL, "max_tokens": 1000, "messages": [{"role": "user", "content": "hi"}]}
WRITE: Any = {
    "name": "write",
    "input_schema": {"type": "object", "properties": {"path": {"type": "string"}, "content": {"type": "string"}}},
}
CALL: Any = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "write", "input": {}}]}
RESULT: Any = {"type": "tool_result", "tool_use_id": "t1", "content": "ok"}
USER: Any = {"role": "user", "content": "hi"}
MARK: Any = {"type": "ephemeral"}
CALLING = Reply([Text("I write."), ToolUse("write", {"path": "a.py", "content": "x = 1", "size": 5})])


@asynccontextmanager
async def client_of(api: Any, **options: Any) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """The SDK as a user has it, except that its own retries are off."""
    async with anthropic.AsyncAnthropic(base_url=api.url, api_key="sk-canary", max_retries=0, **options) as client:
        yield client


async def create(client: anthropic.AsyncAnthropic, stream: bool, **body: Any) -> Any:
    """A message, streamed or not."""
    if not stream:
        return await client.messages.create(**HELLO | body)
    async with client.messages.stream(**HELLO | body) as events:
        return await events.get_final_message()


both = pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])


@both
async def test_every_kind_of_block_arrives(stream: bool) -> None:
    """Text, thinking and tool calls come to the SDK as the model said them, streamed in pieces or whole, with their usage."""
    reply = Reply(
        [
            Thinking("first I think", "c2ln"),
            Text("naïve → text"),
            ToolUse("write", {"path": "ü.py", "n": [1, {"a": None}]}),
        ],
        pieces=4,
    )
    async with serve(Scripted([reply])) as api, client_of(api) as client:
        message = await create(client, stream, tools=[WRITE])
        thinking, text, call = message.content
        assert (thinking.thinking, thinking.signature) == ("first I think", "c2ln")
        assert text.text == "naïve → text"
        assert (call.name, call.input) == ("write", {"path": "ü.py", "n": [1, {"a": None}]})
        assert message.stop_reason == "tool_use"
        assert message.usage.output_tokens == reply.tokens
        (entry,) = api.calls
        assert (entry.outcome, entry.key, entry.model, entry.stream) == ("done", True, MODEL, stream)
        assert entry.usage == Usage(message.usage.input_tokens, 0, 0, reply.tokens)
        assert entry.body["messages"] == HELLO["messages"]


async def test_the_stream_has_the_order_of_the_real_one() -> None:
    """message_start, blocks with their deltas, a ping, message_delta with stop reason and usage, message_stop."""
    async with serve(Scripted([attrs.evolve(CALLING, pieces=2)])) as api, client_of(api) as client:
        events = [event async for event in await client.messages.create(**HELLO, stream=True, tools=[WRITE])]
        raw = await client.messages.with_raw_response.create(**HELLO, stream=True, tools=[WRITE])
        names = re.findall(r"^event: (.+)$", (await raw.http_response.aread()).decode(), re.M)
    block = ["content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"]
    call = ["content_block_start", "content_block_delta", *block[1:]]  # the input begins with an empty piece
    assert [event.type for event in events] == ["message_start", *block, *call, "message_delta", "message_stop"]
    assert names == ["message_start", "content_block_start", "ping", *block[1:], *call, "message_delta", "message_stop"]
    assert len(names) == count_events(attrs.evolve(CALLING, pieces=2))
    pieces = [
        event.delta.partial_json
        for event in events
        if getattr(getattr(event, "delta", None), "type", "") == "input_json_delta"
    ]
    assert len(pieces) == 3
    assert "".join(pieces) == '{"path": "a.py", "content": "x = 1", "size": 5}'
    assert events[0].message.usage.output_tokens == 1


async def test_the_tool_runner_works_through_it() -> None:
    """The SDK's own tool loop runs a scripted conversation: call, result, end."""
    seen = []

    @anthropic.beta_async_tool
    async def write(path: str, content: str) -> str:
        """Write a file."""
        seen.append((path, content))
        return "written"

    replies = [
        Reply([ToolUse("write", {"path": "a", "content": "1"}), ToolUse("write", {"path": "b", "content": "2"})]),
        "Done.",
    ]
    async with serve(Scripted(replies)) as api, client_of(api) as client:
        runner = client.beta.messages.tool_runner(**HELLO, tools=[write], stream=True)
        async for stream in runner:
            message = await stream.get_final_message()
        assert message.content[0].text == "Done."
        assert seen == [("a", "1"), ("b", "2")]
        # The runner leaves the conversation with the server and sends what is new
        (results,) = api.calls[1].body["messages"]
        assert [block["content"] for block in results["content"]] == ["written", "written"]
        assert api.calls[1].usage is not None
        assert api.calls[0].usage is not None
        assert api.calls[1].usage.input_tokens > api.calls[0].usage.input_tokens + len(replies)


THREAD: Any = HELLO | {"betas": ["message-threads-2026-08-12"]}


async def test_a_conversation_that_the_server_holds() -> None:
    """A continued thread is answered as the whole conversation would be; each answer is continued once; what is unknown or differs is refused."""
    async with serve(Scripted(["one", "two", "three"])) as api, client_of(api) as client:
        first = await client.beta.messages.create(**THREAD, system="Be brief.", thread={"type": "create"})
        on: Any = {"type": "continue", "previous_message_id": first.id}
        second = await client.beta.messages.create(**THREAD | {"messages": [USER]}, thread=on)
        assert second.content[0].text == "two"  # type: ignore[union-attr]
        messages = [*HELLO["messages"], {"role": "assistant", "content": [_text("one")]}, USER]
        whole = await client.messages.create(**HELLO | {"messages": messages}, system="Be brief.")
        assert whole.usage.input_tokens == second.usage.input_tokens
        assert api.calls[1].digest == api.calls[2].digest
        after: Any = {"type": "continue", "previous_message_id": second.id}
        for change, expected in [
            ({"thread": on}, anthropic.types.ThreadAlreadyContinuedError),
            ({"thread": on | {"previous_message_id": "msg_none"}}, anthropic.types.ThreadNotFoundError),
            ({"thread": after, "system": "Be long."}, anthropic.types.ThreadFingerprintMismatchError),
            ({"thread": after, "cache_control": MARK}, anthropic.types.ThreadUnsupportedRequestError),
            ({"thread": after, "betas": []}, anthropic.BadRequestError),
        ]:
            with pytest.raises(expected):
                await client.beta.messages.create(**THREAD | change)


async def test_a_thread_that_the_server_lost() -> None:
    """The runner starts again with the whole conversation when a turn breaks or the server has forgotten it: nothing is said twice."""
    write = anthropic.beta_async_tool(_write)
    replies = [Reply([ToolUse("_write", {"path": "a"})]), Reply([ToolUse("_write", {"path": "b"})]), "Done."]
    async with serve(Scripted(replies)) as api, client_of(api) as client:
        runner = client.beta.messages.tool_runner(**HELLO, tools=[write])
        async for _ in runner:
            api.threads = type(api.threads)()
        assert [call.outcome for call in api.calls] == ["done", "refused", "done", "refused", "done"]
        assert (await runner.until_done()).content[0].text == "Done."  # type: ignore[union-attr]


async def _write(path: str) -> str:
    """Write a file."""
    return f"wrote {path}"


async def test_a_script_for_each_conversation() -> None:
    """A conversation is known by its first user message; a repeated call gets its reply again."""
    async with serve(Scripted({"apples": ["red"], "plums": ["blue"]})) as api, client_of(api) as client:
        for word, answer in [("plums", "blue"), ("apples", "red"), ("plums", "blue")]:
            message = await create(client, False, messages=[{"role": "user", "content": f"What of {word}?"}])
            assert message.content[0].text == answer
        assert len(bought_twice(api.calls)) == 1


async def test_a_script_that_is_too_short_fails_the_test() -> None:
    """Asking for more than the script holds is a 400 for the client, and raised again when the server ends, so that it cannot be overlooked."""

    async def conversation() -> None:
        async with serve(Scripted(["one"])) as api, client_of(api) as client:
            again = [USER, {"role": "assistant", "content": "one"}, USER]
            with pytest.raises(anthropic.BadRequestError, match="script has 1 replies"):
                await create(client, False, messages=again)

    with pytest.raises(ModelMistake, match="1 replies, turn 2"):
        await conversation()


EXPECTED: dict[str, type[Exception]] = {
    "429-ramp": anthropic.RampLimitExceededError,
    "429-spend-limit": anthropic.EnforcedSpendLimitReachedError,
    "429-contract-spend-limit": anthropic.ContractSpendLimitReachedError,
    "429": anthropic.RateLimitError,
    "400": anthropic.BadRequestError,
    "401": anthropic.AuthenticationError,
    "402": anthropic.PaymentRequiredError,
    "403": anthropic.PermissionDeniedError,
    "404": anthropic.NotFoundError,
    "413": anthropic.ContentTooLargeError,
    "500": anthropic.InternalServerError,
    "502": anthropic.InternalServerError,
    "503": anthropic.ServiceUnavailableError,
    "504": anthropic.GatewayTimeoutError,
    "529": anthropic.OverloadedError,
}
ANSWERS = {name: what for name, what in CATALOGUE.items() if isinstance(what, Answer)}


@both
@pytest.mark.parametrize("name", ANSWERS)
async def test_an_error_answer_is_the_exception_that_the_sdk_has_for_it(name: str, stream: bool) -> None:
    """Each error answer arrives as the SDK's class for it, with type, words and request id; the next call is served."""
    what = ANSWERS[name]
    expected = EXPECTED.get(name) or EXPECTED[name[:3]]
    async with serve(Scripted(["Hello."]), faults=[Fault(1, what)]) as api, client_of(api) as client:
        with pytest.raises(anthropic.APIStatusError) as caught:
            await create(client, stream)
        error = caught.value
        assert isinstance(error, expected)
        assert error.status_code == what.status
        assert error.request_id == api.calls[0].request_id
        assert error.error_code == what.error_code
        assert (error.type is None) == what.page
        assert ("retry-after" in error.response.headers) == (what.retry_after_s is not None)
        assert (await create(client, stream)).content[0].text == "Hello."
        assert [(call.status, call.outcome, call.fault) for call in api.calls] == [
            (what.status, "refused", name),
            (200, "done", None),
        ]
        assert api.calls[0].usage is None


async def test_when_access_comes_back_is_told_in_words_and_headers() -> None:
    """The kinds of a spent account say when it ends, by the server's clock: in the words, in retry-after, in the window's reset."""
    now = datetime(2026, 4, 1, 12, 0, 30, tzinfo=UTC).timestamp()
    faults = [Fault(1, usage_limit(7200)), Fault(2, plan_limit(3600)), Fault(3, CATALOGUE["429-retry-date"])]
    async with serve(Scripted(["Hello."]), faults=faults, clock=lambda: now) as api, client_of(api) as client:
        caught = []
        for _ in faults:
            with pytest.raises(anthropic.APIStatusError) as error:
                await create(client, False)
            caught.append(error.value)
        own, plan, date = caught
        assert (
            own.api_message
            == "You have reached your specified API usage limits. You will regain access on 2026-04-01 at 14:00 UTC."
        )
        assert plan.response.headers["anthropic-ratelimit-unified-reset"] == str(int(now) + 3600)
        assert plan.response.headers["retry-after"] == "3600"
        until = parsedate_to_datetime(date.response.headers["retry-after"])
        assert (until - parsedate_to_datetime(date.response.headers["date"])).total_seconds() == 90


async def _read(client: anthropic.AsyncAnthropic, events: list[Any]) -> None:
    async for event in await client.messages.create(**HELLO, stream=True):
        events.append(event)


@pytest.mark.parametrize("at", [None, *range(count_events(CALLING))])
async def test_a_connection_is_reset_before_the_headers_and_at_each_event(at: int | None) -> None:
    """The client reads exactly the events before the reset, and then has a connection error, never an end; the ledger knows the place."""
    async with serve(Scripted([CALLING]), faults=[Fault(1, Reset(at))]) as api, client_of(api) as client:
        events: list[Any] = []
        with pytest.raises((anthropic.APIConnectionError, httpx2.ReadError)):
            await _read(client, events)
        assert len(events) == (at or 0) - ((at or 0) > 2)  # the SDK hides the ping
        assert api.calls[0].outcome == ("reset before headers" if at is None else f"reset at event {at}")
        assert (api.calls[0].usage is None) == (at is None)
        assert (await create(client, True)).stop_reason == "tool_use"
        spent = [call.usage.output_tokens if call.usage else 0 for call in api.calls]
        assert spent[0] <= spent[1] == CALLING.tokens


async def test_a_plain_answer_is_reset_in_its_body() -> None:
    """A call that does not stream loses its connection in the middle of the JSON."""
    async with serve(Scripted([CALLING]), faults=[Fault(1, Reset(0))]) as api, client_of(api) as client:
        with pytest.raises(anthropic.APIConnectionError):
            await create(client, False)
        assert api.calls[0].outcome == "reset in the body"


async def test_a_stream_that_ends_early_in_good_order() -> None:
    """The stream just stops: the SDK gives a message without a stop reason, which a caller has to notice."""
    async with serve(Scripted([CALLING]), faults=[Fault(1, Cut(3))]) as api, client_of(api) as client:
        assert (await create(client, True)).stop_reason is None
        assert api.calls[0].outcome == "cut at event 3"


@pytest.mark.parametrize("at", range(count_events(CALLING)))
async def test_an_error_event_after_200(at: int) -> None:
    """The SDK raises for an `error` event wherever it comes; the status is 200, the kind is in its type."""
    async with serve(Scripted([CALLING]), faults=[Fault(1, StreamError(at))]) as api, client_of(api) as client:
        with pytest.raises(anthropic.APIStatusError) as caught:
            await create(client, True)
        assert (caught.value.status_code, caught.value.type) == (200, "overloaded_error")
        assert api.calls[0].outcome == f"error event at {at}"


@pytest.mark.parametrize("at", [0, 3])
async def test_silence_passes_in_virtual_time(at: int, socket_clock: trio.testing.MockClock) -> None:
    """Five minutes without an event take no time under a MockClock: a patient client gets its answer, another one its timeout."""
    async with serve(Scripted([CALLING]), faults=[Fault(lambda _: True, Silence(300, at))]) as api:
        async with client_of(api, timeout=400) as client:
            begun = trio.current_time()
            assert (await create(client, True)).stop_reason == "tool_use"
            assert 300 <= trio.current_time() - begun < 310
        async with client_of(api, timeout=60) as client:
            begun = trio.current_time()
            with pytest.raises((anthropic.APITimeoutError, httpx2.ReadTimeout)):
                await create(client, True)
            assert 60 <= trio.current_time() - begun < 70
    assert api.calls[1].outcome == f"client left at event {at}"


async def test_refused_connections() -> None:
    """While it refuses, nothing connects, not even through a pooled connection; afterwards the same address serves again."""
    async with serve(Scripted(["Hello."])) as api, client_of(api) as client:
        await create(client, False)
        async with api.refusing():
            with pytest.raises(anthropic.APIConnectionError) as caught:
                await create(client, False)
        assert (await create(client, False)).content[0].text == "Hello."
        assert "all attempts to connect" in str(caught.value.__cause__)
        assert len(api.calls) == 2


BAD_REPLIES: dict[str, Callable[[Any], bool]] = {
    "unfinished-input": lambda message: message.stop_reason == "tool_use",
    "unknown-tool": lambda message: message.content[1].name == UNKNOWN_TOOL,
    "duplicate-id": lambda message: message.content[1].id == message.content[2].id,
    "wrong-types": lambda message: message.content[1].input == {"path": 7, "content": 7, "size": "seven"},
    "empty-content": lambda message: (message.content, message.stop_reason) == ([], "end_turn"),
    "max-tokens-inside-call": lambda message: (
        message.stop_reason == "max_tokens" and message.content[-1].input != CALLING.blocks[1].input
    ),  # type: ignore[union-attr]
    "max-tokens": lambda message: message.stop_reason == "max_tokens",
    "refusal": lambda message: message.stop_reason == "refusal",
}


@pytest.mark.parametrize("name", [name for name, what in CATALOGUE.items() if isinstance(what, Rewrite)])
async def test_a_model_that_says_something_broken(name: str) -> None:
    """Each broken reply arrives as such. Malformed JSON is read raw here: the SDK's own accumulation raises over it in the middle of the stream."""
    async with serve(Scripted([CALLING]), faults=[Fault(1, CATALOGUE[name])]) as api, client_of(api) as client:
        if name == "malformed-input":
            events: list[Any] = []
            await _read(client, events)
            pieces = [
                event.delta.partial_json for event in events if hasattr(getattr(event, "delta", None), "partial_json")
            ]
            with pytest.raises(ValueError, match="Expecting"):
                json.loads("".join(pieces))
        else:
            assert BAD_REPLIES[name](await create(client, True))
        assert api.calls[0].fault == name


async def test_a_broken_call_waits_for_a_reply_with_a_call() -> None:
    """A fault that needs a tool call is not used up by a reply without one."""
    faults = [Fault(lambda _: True, CATALOGUE["unknown-tool"], times=1)]
    async with serve(Scripted({"a": ["no call"], "b": [CALLING]}), faults=faults) as api, client_of(api) as client:
        await create(client, False, messages=[{"role": "user", "content": "a"}])
        for name in (UNKNOWN_TOOL, "write"):
            message = await create(client, False, messages=[{"role": "user", "content": "b"}])
            assert message.content[1].name == name
        assert [call.fault for call in api.calls] == [None, "unknown-tool", None]


@both
async def test_a_reply_longer_than_max_tokens_is_cut(stream: bool) -> None:
    """The request's own max_tokens stops the model, inside a tool call if it falls there, and is what is billed."""
    async with serve(Scripted([CALLING])) as api, client_of(api) as client:
        message = await create(client, stream, max_tokens=6)
        assert message.stop_reason == "max_tokens"
        assert message.usage.output_tokens == 6
        assert message.content[1].input != CALLING.blocks[1].input  # type: ignore[union-attr]


def _said(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def _text(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **more}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model": "claude-none"}, "model: claude-none"),
    ({"max_tokens": 0}, "greater than or equal to 1"),
    ({"max_tokens": 128_001}, "128001 > 128000, which is the maximum"),
    ({"temprature": 1}, "temprature: Extra inputs are not permitted"),
    ({"messages": []}, "at least one message is required"),
    ({"messages": [{"role": "assistant", "content": "hi"}, USER]}, 'first message must use the "user" role'),
    ({"messages": [USER, {"role": "assistant", "content": "I"}]}, "must end with a user message"),
    ({"messages": [_said(_text(""))]}, "text content blocks must be non-empty"),
    ({"messages": [_said()]}, "all messages must have non-empty content"),
    ({"messages": [_said({"type": "video"})]}, "Input tag 'video'"),
    ({"messages": [_said(RESULT)]}, "messages.0.content.0: unexpected `tool_use_id` found in `tool_result` blocks: t1"),
    (
        {"messages": [USER, CALL, USER]},
        "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: t1",
    ),
    ({"messages": [USER, CALL]}, "`tool_use` ids were found without"),
    ({"messages": [USER, CALL, _said(_text("first"), RESULT)]}, "`tool_use` ids were found without"),
    ({"messages": [USER, CALL, _said(RESULT, RESULT)]}, "each tool_use must have a single result"),
    (
        {"messages": [USER, CALL, _said(RESULT), CALL, _said(RESULT)]},
        "messages.3.content.0: `tool_use` ids must be unique",
    ),
    ({"tools": [WRITE, WRITE]}, "Tool names must be unique"),
    ({"tools": [WRITE | {"name": "a b"}]}, "String should match pattern"),
    ({"tools": [{"name": "a"}]}, "tools.0.custom.input_schema: Field required"),
    ({"tools": [WRITE], "tool_choice": {"type": "tool", "name": "nope"}}, "Tool 'nope' not found"),
    (
        {"system": [_text(str(n), cache_control=MARK) for n in range(4)], "tools": [WRITE | {"cache_control": MARK}]},
        "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    ),
    (
        {"system": [_text("a", cache_control=MARK), _text("b", cache_control=MARK | {"ttl": "1h"})]},
        "must not come after",
    ),
    (
        {"messages": [{"role": "user", "content": "x" * 4_000_004}]},
        "prompt is too long: 1000001 tokens > 1000000 maximum",
    ),
]


@pytest.mark.parametrize(("change", "words"), WRONG, ids=lambda value: value[:40] if isinstance(value, str) else "")
async def test_a_request_that_the_real_api_refuses(change: dict[str, Any], words: str) -> None:
    """400 with the API's own words (404 for a model that is not there), and no model is asked."""
    async with serve(Scripted(["Hello."])) as api, client_of(api) as client:
        expected = anthropic.NotFoundError if change.get("model") else anthropic.BadRequestError
        with pytest.raises(expected) as caught:
            await client.messages.create(**HELLO, extra_body=change)
        assert words in str(caught.value.api_message)
        assert api.calls[0].usage is None


async def test_a_request_without_key_version_or_max_tokens() -> None:
    """What the SDK always sends is asked for too; a body that is no JSON is refused; a wrong key is told from none."""
    async with serve(Scripted(["Hello."]), key="right") as api, httpx2.AsyncClient(base_url=api.url) as http:
        good = {"x-api-key": "right", "anthropic-version": "2023-06-01"}
        for headers, body, status, words in [
            ({}, HELLO, 401, "x-api-key header is required"),
            (good | {"x-api-key": "wrong"}, HELLO, 401, "invalid x-api-key"),
            ({"authorization": "Bearer right"}, HELLO, 400, "anthropic-version"),
            (good, {"model": MODEL, "messages": [USER]}, 400, "max_tokens: Field required"),
            (good, [], 400, "must be an object"),
        ]:
            answer = await http.post("/v1/messages", headers=headers, json=body)
            assert answer.status_code == status
            assert words in answer.json()["error"]["message"]
            assert answer.json()["type"] == "error"
        assert (await http.post("/v1/messages", headers=good, content=b"{")).status_code == 400
        assert (await http.post("/v1/messages?beta=true", headers=good, json=HELLO)).status_code == 200
        assert [call.key for call in api.calls] == [False, True, True, True, True, True, True]
        assert "right" not in "".join(call.line() for call in api.ledger.calls)


async def test_models_and_counting() -> None:
    """The list of models is that of the SDK, page by page; a token count is that of the bill."""
    async with serve(Scripted(["Hello."])) as api, client_of(api) as client:
        assert [model.id async for model in client.models.list(limit=5)] == list(MODELS)
        assert (await client.models.retrieve(MODEL)).max_input_tokens == MODELS[MODEL][0]
        with pytest.raises(anthropic.NotFoundError):
            await client.models.retrieve("claude-none")
        body = {name: value for name, value in HELLO.items() if name != "max_tokens"}
        count = await client.messages.count_tokens(**body, tools=[WRITE], system="You write.")
        message = await create(client, False, tools=[WRITE], system="You write.")
        assert count.input_tokens == message.usage.input_tokens
    old = {name for name in get_args(get_args(SdkModel)[0]) if "preview" in name or "sonnet-4-5" in name}
    assert set(MODELS) == set(get_args(get_args(SdkModel)[0])) - old


def _cached(text: str = "shared", task: str = "a task", **more: Any) -> dict[str, Any]:
    """A request whose system prompt of 2,000 tokens is a prefix to be cached."""
    return {
        "system": [_text(text.ljust(8000, "."), cache_control=MARK)],
        "messages": [{"role": "user", "content": task}],
        **more,
    }


async def test_a_cached_prefix_is_written_once_and_then_read(socket_clock: trio.testing.MockClock) -> None:
    """First written, then read for as long as it is used every five minutes, then written again; another prefix or model is not it."""
    async with serve(Scripted(["Hello."])) as api, client_of(api) as client:
        for wait_s, body, expected in [
            (0, _cached(), (2, 2000, 0)),
            (1, _cached(task="another"), (2, 0, 2000)),
            (290, _cached(), (2, 0, 2000)),
            (290, _cached(), (2, 0, 2000)),
            (301, _cached(), (2, 2000, 0)),
            (0, _cached("other"), (2, 2000, 0)),
            (0, _cached(model="claude-sonnet-5-5"), (2, 2000, 0)),
            (0, _cached(tools=[WRITE]), (2, 2000 + 30, 0)),
        ]:
            await trio.sleep(wait_s)
            usage = (await create(client, True, **body)).usage
            assert (usage.input_tokens, usage.cache_creation_input_tokens, usage.cache_read_input_tokens) == expected
        used = total(api.calls)
        assert used == Usage(16, 10030, 6000, 16)
        assert total_cost(api.calls) == cost(used) == 16 + 10030 * 1.25 + 6000 * 0.1 + 16 * 5


async def test_a_prefix_can_be_read_once_the_answer_that_wrote_it_begins(socket_clock: trio.testing.MockClock) -> None:
    """A fan-out that starts at once pays for the prefix each time; one that waits for the first event reads it."""
    async with serve(Scripted([Reply("Hello.", first_s=5, pace_s=1)])) as api, client_of(api) as client:
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(lambda number=number: create(client, True, **_cached(task=str(number))))
        assert [call.usage and call.usage.cache_read_input_tokens for call in api.calls] == [0, 0, 0]
        async with trio.open_nursery() as nursery, client.messages.stream(**HELLO | _cached("new", "first")) as stream:
            async for event in stream:
                if event.type == "message_start":
                    nursery.start_soon(lambda: create(client, True, **_cached("new", "second")))
        assert [call.usage and call.usage.cache_read_input_tokens for call in api.calls[3:]] == [0, 2000]


async def test_a_conversation_that_grows_reads_what_it_wrote() -> None:
    """With a breakpoint that moves to the end, each turn reads the turns before and writes its own; a short prefix is never cached."""
    text = "word " * 400  # 500 tokens

    def turns(count: int) -> list[dict[str, Any]]:
        messages = []
        for number in range(count):
            messages += [_said(_text(text)), {"role": "assistant", "content": f"answer {number}"}]
        return [*messages, _said(_text(text, cache_control=MARK))]

    async with (
        serve(Scripted([f"answer {number}" for number in range(5)]), cache=PromptCache(minimum=1000)) as api,
        client_of(api) as client,
    ):
        for count in range(5):
            await create(client, False, messages=turns(count))
        used = [call.usage for call in api.calls if call.usage]
        assert [usage.cache_read_input_tokens for usage in used] == [0, 0, 1002, 1504, 2006]
        assert [usage.input_tokens for usage in used] == [500, 0, 0, 0, 0]


async def test_an_hour_costs_more() -> None:
    """A breakpoint with a ttl of an hour is written at twice the price and told apart in the usage."""
    body = _cached()
    body["system"][0]["cache_control"] = {"type": "ephemeral", "ttl": "1h"}
    async with serve(Scripted(["Hello."])) as api, client_of(api) as client:
        usage = (await create(client, False, **body)).usage
        assert (usage.cache_creation.ephemeral_1h_input_tokens, usage.cache_creation.ephemeral_5m_input_tokens) == (
            2000,
            0,
        )
        assert api.calls[0].cost() == 2 + 2000 * 2.0 + 2 * 5


async def _until_refused(client: anthropic.AsyncAnthropic, **body: Any) -> tuple[int, anthropic.RateLimitError]:
    served = 0
    while True:
        try:
            await create(client, False, **body)
        except anthropic.RateLimitError as error:
            return served, error
        served += 1


@pytest.mark.parametrize(
    ("limits", "served", "then", "words"),
    [
        (Limits(requests=30), 30, 2, "30 requests per minute"),
        (Limits(input_tokens=6000), 3, 20, "6,000 input tokens per minute"),
        (Limits(output_tokens=1200), 2, 10, "1,200 output tokens per minute"),
    ],
    ids=["requests", "input", "output"],
)
async def test_each_limit_refuses_and_says_when_to_come_back(
    limits: Limits, served: int, then: int, words: str, socket_clock: trio.testing.MockClock
) -> None:
    """A bucket holds a minute's worth; the refusal names the limit and the wait, which is enough and not much more than enough."""
    async with (
        serve(Scripted([Reply("Hello.", output_tokens=700)]), limits=limits) as api,
        client_of(api, timeout=600) as client,
    ):
        text = {"messages": [{"role": "user", "content": "x" * 8000}]}  # 2,000 tokens
        count, error = await _until_refused(client, **text)
        assert count == served
        assert words in str(error.api_message)
        assert abs(int(error.response.headers["retry-after"]) - then) <= 1
        await trio.sleep(int(error.response.headers["retry-after"]) - 2)
        with pytest.raises(anthropic.RateLimitError):
            await create(client, False, **text)
        await trio.sleep(2)
        await create(client, False, **text)
        assert [call.usage for call in api.calls if call.status == 429] == [None, None]


async def test_the_headers_tell_what_is_left(socket_clock: trio.testing.MockClock) -> None:
    """Limit, remaining and reset of each kind come with every answer; the reset is when the bucket is full again; cache reads take nothing."""
    limits = Limits(requests=60, input_tokens=60_000, output_tokens=6000, rounding=1)
    async with serve(Scripted([Reply("Hello.", output_tokens=600)]), limits=limits) as api, client_of(api) as client:
        seen = []
        for _ in range(2):
            raw = await client.messages.with_raw_response.create(**HELLO | _cached())
            seen.append(
                {name: value for name, value in raw.headers.items() if name.startswith("anthropic-ratelimit")}
                | {"date": raw.headers["date"]}
            )
        first, second = seen
        assert len(first) == 13
        assert first["anthropic-ratelimit-requests-limit"] == "60"
        assert first["anthropic-ratelimit-requests-remaining"] == "59"
        assert int(first["anthropic-ratelimit-input-tokens-remaining"]) == 60_000 - 2002
        assert int(second["anthropic-ratelimit-input-tokens-remaining"]) >= 60_000 - 2002 - 2
        assert (
            first["anthropic-ratelimit-output-tokens-remaining"]
            == first["anthropic-ratelimit-tokens-remaining"]
            == "5400"
        )
        reset = datetime.fromisoformat(first["anthropic-ratelimit-output-tokens-reset"])
        assert 6 <= (reset - parsedate_to_datetime(first["date"])).total_seconds() <= 8


async def test_limits_hold_over_ten_virtual_minutes(socket_clock: trio.testing.MockClock) -> None:
    """Whatever the client does, ten minutes let through ten minutes' worth and at most the first minute's bucket, no more and no less."""
    async with serve(Scripted(["Hello."]), limits=Limits(requests=5)) as api, client_of(api, timeout=7200) as client:
        with trio.move_on_after(600):
            while True:
                try:
                    await create(client, False)
                except anthropic.RateLimitError as error:
                    await trio.sleep(float(error.response.headers["retry-after"]))
        assert 5 * 10 <= sum(call.status == 200 for call in api.calls) <= 5 * 11


async def test_calls_at_once_can_be_limited() -> None:
    """A call over the concurrent limit is a 429 of its own words."""
    arrived = trio.Event()

    async def model(request: Request) -> Reply:
        arrived.set()
        await trio.sleep_forever()
        raise AssertionError

    async with (
        serve(model, limits=Limits(concurrent=1)) as api,
        client_of(api) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(create, client, True)
        await arrived.wait()
        with pytest.raises(anthropic.RateLimitError, match="concurrent connections"):
            await create(client, True)
        nursery.cancel_scope.cancel()


async def test_a_client_that_leaves_is_noticed() -> None:
    """The ledger says after which event it left, and what was produced by then is what it costs."""
    async with serve(Scripted([Reply("Hello. " * 100, pieces=50, pace_s=0.001)])) as api, client_of(api) as client:
        async with client.messages.stream(**HELLO) as stream, aclosing(aiter(stream)) as events:
            async for event in events:
                if event.type == "content_block_delta":
                    break
        with trio.fail_after(5):
            while api.calls[0].ended_s is None:
                await trio.lowlevel.checkpoint()
        events = int(re.fullmatch(r"client left at event (\d+)", api.calls[0].outcome)[1])  # type: ignore[index]
        assert 4 <= events < 50
        assert api.calls[0].usage is not None
        assert 0 < api.calls[0].usage.output_tokens < 175


async def test_two_hundred_conversations_at_once() -> None:
    """200 conversations of two turns each run side by side: each waits only for its own answers."""
    replies = [Reply([ToolUse("write", {"path": "a"})], first_s=0.2), "Done."]
    done = []

    async def conversation(client: anthropic.AsyncAnthropic, number: int) -> None:
        messages: list[Any] = [{"role": "user", "content": f"task {number}"}]
        message = await create(client, True, messages=messages, tools=[WRITE])
        answer = message.model_dump(include={"content": {"__all__": {"type", "id", "name", "input"}}}, mode="json")[
            "content"
        ]
        messages += [
            {"role": "assistant", "content": answer},
            _said({"type": "tool_result", "tool_use_id": message.content[0].id, "content": "ok"}),
        ]
        done.append((await create(client, True, messages=messages, tools=[WRITE])).content[0].text)

    async with serve(Scripted(replies)) as api, client_of(api) as client:
        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(conversation, client, number)
        assert done == ["Done."] * 200
        starts = sorted(call.at_s for call in api.calls)[:200]
        assert len(api.calls) == 400
        assert max(starts) < min(call.ended_s for call in api.calls if call.ended_s) + 5
        assert not bought_twice(api.calls)


async def test_a_failure_in_the_block_comes_out_as_it_is() -> None:
    """What a test raises inside the block is not wrapped by the server's nursery."""
    with pytest.raises(LookupError, match="mine"):
        async with serve(Scripted(["Hello."])):
            raise LookupError("mine")


def test_the_process_prints_its_address_and_keeps_its_ledger(tmp_path: Path) -> None:
    """As a process it serves a client that is killed in the middle, and its file has every call, the broken one too."""
    here = Path(__file__).parent
    script = tmp_path / "script.json"
    script.write_text('{"hi": ["Hello."]}')
    ledger = tmp_path / "calls.jsonl"
    words = [
        sys.executable,
        str(here / "messages_api.py"),
        "--port",
        "0",
        "--model",
        str(script),
        "--ledger",
        str(ledger),
        "--fault",
        "2=529",
        "--fault",
        "3=silence-300-at-3",
        "--requests",
        "10",
    ]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
        code = (
            "import anthropic, os, signal\n"
            f"client = anthropic.Anthropic(max_retries=0)\nbody = {HELLO!r}\n"
            "print(client.messages.create(**body).content[0].text)\n"
            "try:\n    client.messages.create(**body)\nexcept anthropic.OverloadedError: print('overloaded')\n"
            "for event in client.messages.create(**body, stream=True):\n"
            "    if event.type == 'content_block_start': os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        env = os.environ | {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "sk-canary"}
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True, timeout=60, check=False
        )
        assert done.returncode == -signal.SIGKILL
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0
        server.stdout and server.stdout.close()
    calls = read_ledger(ledger)
    assert [call.outcome for call in calls] == ["done", "refused", "client left at event 3"]
    assert [call.status for call in calls] == [200, 529, 200]
    assert "sk-canary" not in ledger.read_text()
    assert calls[0].usage == Usage(1, 0, 0, 2)
