"""A loopback server that speaks Anthropic's Messages API over real sockets: JSON and SSE, tools, usage, limits, faults, and a ledger of all calls.

For tests and benches of whatever talks to that API. In a test:

    async with serve(Scripted(["Hello."])) as api:
        client = anthropic.AsyncAnthropic(base_url=api.url, api_key="any", max_retries=0)

and as a process, which prints its address (`ANTHROPIC_BASE_URL`) and writes its ledger as JSON lines:

    python tests/messages_api.py --port 0 --model worker --ledger calls.jsonl

What it knows: HTTP by h11, the order of the stream's events, and when to perform which fault. What a model says is in `messages_model`, what can go
wrong in `messages_faults`, what is counted in `messages_meter`, which requests are refused in `messages_rules`, the record of it all in `messages_ledger`.

Time is trio's, so under a `MockClock` limits, cache and silences pass in virtual time. The `date` header is that clock's: `retry-after` dates and the
`reset` headers are to be read against it. Give such a clock an `autojump_threshold` of some hundredths of a second: data in a socket is not work that trio
can see.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from email.utils import formatdate
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO

import attrs
import h11
import trio
from messages_faults import CATALOGUE, Answer, Cut, Fault, Reset, Rewrite, Silence, StreamError, label
from messages_ledger import Call, Ledger
from messages_meter import Limits, PromptCache, input_tokens
from messages_model import Model, Reply, Request, Scripted, Text, Thinking, ToolUse, ask, block_tokens
from messages_rules import Invalid, check
from messages_threads import Threads
from messages_worker import Obedient, Worker

BIGGEST = 32 * 1024 * 1024  # bytes of a request's body
MODELS: Mapping[str, tuple[int, int]] = MappingProxyType(  # {id: (context window, most output tokens)}
    {
        "claude-fable-5-2": (1_000_000, 128_000),
        "claude-mythos-5-2": (1_000_000, 128_000),
        "claude-opus-5-5": (1_000_000, 128_000),
        "claude-sonnet-5-5": (1_000_000, 128_000),
        "claude-haiku-5-5": (200_000, 64_000),
        "claude-fable-5-1": (1_000_000, 128_000),
        "claude-mythos-5-1": (1_000_000, 128_000),
        "claude-fable-5": (1_000_000, 128_000),
        "claude-mythos-5": (1_000_000, 128_000),
        "claude-opus-5": (1_000_000, 128_000),
        "claude-sonnet-5": (1_000_000, 128_000),
        "claude-opus-4-8": (1_000_000, 128_000),
        "claude-opus-4-7": (1_000_000, 128_000),
        "claude-opus-4-6": (1_000_000, 128_000),
        "claude-sonnet-4-6": (1_000_000, 128_000),
        "claude-haiku-4-5": (200_000, 64_000),
        "claude-haiku-4-5-20251001": (200_000, 64_000),
        "claude-opus-4-5": (200_000, 64_000),
        "claude-opus-4-5-20251101": (200_000, 64_000),
    }
)


@attrs.frozen
class Event:
    """One stream event and the output tokens that exist once it is sent."""

    name: str
    data: dict[str, Any]
    tokens: int = 0

    def wire(self) -> bytes:
        """As server-sent event."""
        return f"event: {self.name}\ndata: {json.dumps(self.data)}\n\n".encode()


def _pieces(text: str, count: int) -> list[str]:
    size = max(1, -(-len(text) // max(1, count)))
    return [text[at : at + size] for at in range(0, len(text), size)]


def _deltas(block: Text | Thinking | ToolUse, pieces: int) -> list[dict[str, Any]]:
    if isinstance(block, Text):
        return [{"type": "text_delta", "text": piece} for piece in _pieces(block.text, pieces)]
    if isinstance(block, Thinking):
        thoughts = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(block.thinking, pieces)]
        return [*thoughts, {"type": "signature_delta", "signature": block.signature}]
    return [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *_pieces(block.wire, pieces)]]


def _stop(reply: Reply) -> dict[str, Any]:
    details = {"type": "refusal", "category": None, "explanation": None} if reply.stops_for == "refusal" else None
    return {"stop_reason": reply.stops_for, "stop_sequence": None, "stop_details": details}


def _content(block: Text | Thinking | ToolUse, number: int, request: Request, *, empty: bool = False) -> dict[str, Any]:
    """A block as it stands in an answer; `empty` as it begins in a stream."""
    if isinstance(block, Text):
        return {"type": "text", "text": "" if empty else block.text}
    if isinstance(block, Thinking):
        return {
            "type": "thinking",
            "thinking": "" if empty else block.thinking,
            "signature": "" if empty else block.signature,
        }
    given: Any = {}
    if not empty:
        try:
            given = json.loads(block.wire)
        except ValueError:
            given = {}  # the service parses what the model wrote, and has nothing to show for broken JSON
    return {
        "type": "tool_use",
        "id": block.id or f"toolu_{request.digest[:20]}{number:02d}",
        "name": block.name,
        "input": given,
    }


def stream_events(reply: Reply, request: Request, start: Mapping[str, Any]) -> list[Event]:
    """The events of a streamed answer. `start` is the message with which it begins: no content, no stop reason, the input's usage."""
    events = [Event("message_start", {"type": "message_start", "message": dict(start)})]
    done = 0
    for number, block in enumerate(reply.blocks):
        opened = {
            "type": "content_block_start",
            "index": number,
            "content_block": _content(block, number, request, empty=True),
        }
        events.append(Event("content_block_start", opened, done))
        if number == 0:
            events.append(Event("ping", {"type": "ping"}, done))
        deltas = _deltas(block, reply.pieces)
        size = block_tokens(block)
        for at, delta in enumerate(deltas, 1):
            so_far = min(reply.tokens, done + size * at // len(deltas))
            events.append(
                Event("content_block_delta", {"type": "content_block_delta", "index": number, "delta": delta}, so_far)
            )
        done = min(reply.tokens, done + size)
        events.append(Event("content_block_stop", {"type": "content_block_stop", "index": number}, done))
    usage = {name: start["usage"][name] for name in start["usage"] if name.endswith("input_tokens")} | {
        "output_tokens": reply.tokens
    }
    events.append(
        Event("message_delta", {"type": "message_delta", "delta": _stop(reply), "usage": usage}, reply.tokens)
    )
    events.append(Event("message_stop", {"type": "message_stop"}, reply.tokens))
    return events


def count_events(reply: Reply) -> int:
    """How many events an answer streams: the places at which it can break."""
    return len(stream_events(reply, Request(0, {}), {"usage": {}}))


@attrs.define
class Api:
    """A running server.

    `url` is the base address. `faults` may be added to at any time. `limits` and `cache` are the account's. `key`: the one key that is
    accepted, None for any. `models`: {id: (context window, most output tokens)}. `mistakes`: what the test's model raised; `serve` raises the first.
    """

    model: Model
    clock: Callable[[], float]
    limits: Limits
    cache: PromptCache
    faults: list[Fault]
    ledger: Ledger
    models: Mapping[str, tuple[int, int]]
    key: str | None
    nursery: trio.Nursery
    port: int = 0
    threads: Threads = attrs.field(init=False, factory=Threads)
    mistakes: list[Exception] = attrs.field(init=False, factory=list)
    _listener: trio.SocketListener | None = attrs.field(init=False, default=None)
    _refusing: bool = attrs.field(init=False, default=False)
    _idle: set[trio.SocketStream] = attrs.field(init=False, factory=set)  # connections that wait for a request
    _answering: dict[trio.SocketStream, Call] = attrs.field(init=False, factory=dict)  # the others
    _count: int = attrs.field(init=False, default=0)  # POST /v1/messages so far
    _came: int = attrs.field(init=False, default=0)  # all requests so far

    @property
    def url(self) -> str:
        """What goes into ANTHROPIC_BASE_URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def calls(self) -> list[Call]:
        """The ledger's entries for POST /v1/messages, in the order in which they came."""
        return [call for call in self.ledger.calls if call.number]

    async def listen(self) -> None:
        """Accept connections, on the port it had before if there was one."""
        (self._listener,) = await trio.open_tcp_listeners(self.port, host="127.0.0.1", backlog=1024)
        self.port = self._listener.socket.getsockname()[1]
        self.nursery.start_soon(self._accept, self._listener)

    async def _accept(self, listener: trio.SocketListener) -> None:
        async with listener:
            with suppress(trio.ClosedResourceError):  # closed by `refusing`
                while True:
                    self.nursery.start_soon(self._connection, await listener.accept())

    @asynccontextmanager
    async def refusing(self) -> AsyncIterator[None]:
        """Connections are refused in here, and those that wait for a request are closed. What is being answered goes on."""
        assert self._listener is not None
        await trio.aclose_forcefully(self._listener)
        self._refusing = True
        for stream in self._idle:
            stream.socket.close()
        while any(call.ended_s is not None for call in self._answering.values()):
            await trio.lowlevel.checkpoint()  # the client may have its answer before we are through with it
        yield
        self._refusing = False
        await self.listen()

    async def _connection(self, stream: trio.SocketStream) -> None:
        """One connection, request after request."""
        http = h11.Connection(h11.SERVER)
        try:
            while True:
                self._idle.add(stream)
                asked = await self._receive(http, stream)
                self._idle.discard(stream)
                if asked is None or await self._serve(_Exchange(http, stream), *asked) or self._refusing:
                    break
                if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                    break
                self._answering.pop(stream)
                http.start_next_cycle()
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            pass  # reset while it was idle, by them or by `refusing`, or not HTTP: there is nobody to tell
        finally:
            stream.socket.close()
            self._idle.discard(stream)
            self._answering.pop(stream, None)

    async def _receive(self, http: h11.Connection, stream: trio.SocketStream) -> tuple[h11.Request, bytes] | None:
        """The next request with its body; None at the connection's end."""
        head, body = None, bytearray()
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                if http.they_are_waiting_for_100_continue:
                    await stream.send_all(http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
                http.receive_data(await stream.receive_some(65536))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return head, bytes(body)
            else:
                return None

    async def _serve(self, exchange: _Exchange, head: h11.Request, body: bytes) -> bool:
        """One request. True when the connection is over: reset, or left by the client, with a note in the ledger."""
        call = self._answering[exchange.stream] = self._enter(head, body)
        try:
            async with trio.open_nursery() as watch:
                watch.start_soon(exchange.watch, watch.cancel_scope)
                with suppress(trio.BrokenResourceError):  # they left: `watch` sees it too
                    await self._answer(exchange, call, head, len(body))
                watch.cancel_scope.cancel()
        finally:
            if call.ended_s is None:
                self._end(call, f"client left at event {call.events}" if exchange.over else "server closed")
        return exchange.over

    def _end(self, call: Call, outcome: str) -> None:
        """The call is over. Noted before the last bytes go out, so that a client that has its answer finds it in the ledger."""
        call.outcome, call.ended_s = outcome, self.clock()
        self.ledger.end(call)

    def _enter(self, head: h11.Request, body: bytes) -> Call:
        """The ledger's entry for what just came."""
        headers = {name.decode().lower(): value.decode("latin-1") for name, value in head.headers}
        path = head.target.decode("latin-1").partition("?")[0]
        self._came += 1
        method = head.method.decode()
        if (method, path) == ("POST", "/v1/messages"):
            self._count += 1
            number = self._count
        else:
            number = 0
        given = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        call = Call(number, self.clock(), f"req_loopback{self._came:08d}", method, path, bool(given))
        try:
            call.body = json.loads(body) if body else None
        except ValueError:
            call.body = body.decode("utf-8", "replace")
        if isinstance(call.body, dict):
            call.model = str(call.body.get("model", ""))
            call.stream = call.body.get("stream") is True
        self.ledger.calls.append(call)
        return call

    async def _answer(self, exchange: _Exchange, call: Call, head: h11.Request, size: int) -> None:
        headers = {name.decode().lower(): value.decode("latin-1") for name, value in head.headers}
        try:
            self._check_head(headers, size)
            if call.number:
                betas = tuple(name.strip() for name in headers.get("anthropic-beta", "").split(",") if name.strip())
                body = self.threads.whole(call.body, betas) if isinstance(call.body, dict) else {}
                request = Request(call.number, body, betas)
                call.digest = request.digest
                with self.threads.turn(call.body if isinstance(call.body, dict) else {}):
                    await self._message(exchange, call, request)
            else:
                await self._send_json(exchange, call, 200, self._other(call, head.target.decode("latin-1")))
        except Invalid as error:
            call.message = str(error)
            await self._refuse(exchange, call, Answer(error.status, str(error), error_code=error.code))

    def _check_head(self, headers: Mapping[str, str], size: int) -> None:
        given = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        if not given:
            raise Invalid("x-api-key header is required", 401)
        if self.key is not None and given != self.key:
            raise Invalid("invalid x-api-key", 401)
        if "anthropic-version" not in headers:
            raise Invalid("anthropic-version: header is required")
        if size > BIGGEST:
            raise Invalid("Request exceeds the maximum size", 413)

    def _other(self, call: Call, target: str) -> Any:
        """The answers to everything but messages."""
        if (call.method, call.path) == ("POST", "/v1/messages/count_tokens"):
            check(call.body, self.models, counting=True)
            return {"input_tokens": input_tokens(call.body)}
        if (call.method, call.path) == ("GET", "/v1/models"):
            return self._page(dict(part.partition("=")[::2] for part in target.partition("?")[2].split("&")))
        name = call.path.removeprefix("/v1/models/")
        if call.method == "GET" and name in self.models:
            return self._info(name)
        if call.method == "GET" and name != call.path:
            raise Invalid(f"model: {name}", 404)
        raise Invalid("Not found", 404)

    def _page(self, query: Mapping[str, str]) -> dict[str, Any]:
        names = list(self.models)
        if query.get("after_id") in names:
            names = names[names.index(query["after_id"]) + 1 :]
        shown = names[: int(query.get("limit", "20"))]
        return {
            "data": [self._info(name) for name in shown],
            "first_id": shown[0] if shown else None,
            "last_id": shown[-1] if shown else None,
            "has_more": len(names) > len(shown),
        }

    def _info(self, name: str) -> dict[str, Any]:
        window, most = self.models[name]
        return {
            "type": "model",
            "id": name,
            "display_name": name.replace("-", " ").title(),
            "created_at": "2026-01-01T00:00:00Z",
            "lifecycle": "active",
            "max_input_tokens": window,
            "max_tokens": most,
        }

    async def _message(self, exchange: _Exchange, call: Call, request: Request) -> None:
        what = None
        for fault in self.faults:
            if not isinstance(fault.what, Rewrite) and fault.hits(request):
                what = fault.what
                fault.used += 1
                call.fault = label(fault.what)
                break
        if isinstance(what, Answer):
            await self._refuse(exchange, call, what)
            return
        if what == Reset():
            self._end(call, "reset before headers")
            await exchange.reset()
            return
        check(request.body if isinstance(call.body, dict) else call.body, self.models)
        usage, entries = self.cache.look_up(request.body, self.clock())
        if refused := self.limits.admit(usage.counted_input, self.clock()):
            name, wait_s = refused
            words = self.limits.words(name, request.model)
            await self._refuse(exchange, call, Answer(429, words, retry_after_s=max(1, math.ceil(wait_s))))
            return
        self.limits.running += 1
        try:
            reply = await self._reply(call, request)
            await trio.sleep(reply.first_s)
            if isinstance(what, Silence) and not (call.stream and what.at):
                await trio.sleep(what.seconds)
            if isinstance(what, StreamError) and not call.stream:
                await self._refuse(exchange, call, Answer(what.status, what.message))
                return
            call.usage = usage
            self.cache.write(entries, self.clock())
            message: dict[str, Any] = {
                "id": f"msg_{request.digest[:16]}{call.number:08d}",
                "type": "message",
                "role": "assistant",
                "model": request.model,
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "stop_details": None,
                "usage": usage.wire() | {"output_tokens": 1},
            }
            await (self._stream if call.stream else self._whole)(exchange, call, request, reply, what, message)
        finally:
            self.limits.running -= 1

    async def _reply(self, call: Call, request: Request) -> Reply:
        """What the model says, after the faults that change it and the request's own limit."""
        try:
            reply = await ask(self.model, request)
        except Exception as error:
            self.mistakes.append(error)
            raise Invalid(f"the test's model: {error}") from error
        for fault in self.faults:
            if (
                isinstance(fault.what, Rewrite)
                and fault.hits(request)
                and (changed := fault.what.change(reply)) is not None
            ):
                fault.used += 1
                call.fault, call.spoilt = label(fault.what), True
                reply = changed
                break
        return reply.cut(request.body["max_tokens"]) if reply.tokens > request.body["max_tokens"] else reply

    async def _whole(
        self, exchange: _Exchange, call: Call, request: Request, reply: Reply, what: object, message: dict[str, Any]
    ) -> None:
        """The answer as one JSON document."""
        await trio.sleep(reply.pace_s * (count_events(reply) - 1))
        self._produce(call, reply.tokens)
        message["content"] = [_content(block, number, request) for number, block in enumerate(reply.blocks)]
        message |= _stop(reply)
        message["usage"]["output_tokens"] = reply.tokens
        broken = isinstance(what, Reset | Cut)
        if not broken:
            self.threads.keep(call.body, request.body, message)
        await self._send_json(exchange, call, 200, message, break_off=broken)
        if broken:
            self._end(call, "reset in the body")
            await exchange.reset()

    async def _stream(
        self, exchange: _Exchange, call: Call, request: Request, reply: Reply, what: object, message: dict[str, Any]
    ) -> None:
        """The answer as server-sent events."""
        events = stream_events(reply, request, message)
        end = what.at if isinstance(what, Reset | Cut | StreamError) and what.at is not None else len(events)
        call.status = 200
        await exchange.head(
            200,
            [*self._headers(call), ("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache")],
        )
        for at, event in enumerate(events[:end]):
            if at:
                await self._pause(exchange, reply)
            if isinstance(what, Silence) and at == what.at > 0:
                await trio.sleep(what.seconds)
            await exchange.data(event.wire())
            call.events += 1
            self._produce(call, event.tokens)
        if isinstance(what, Reset):
            self._end(call, f"reset at event {call.events}")
            await exchange.reset()
            return
        if isinstance(what, StreamError):
            error = {
                "type": "error",
                "error": {"type": what.type, "message": what.message},
                "request_id": call.request_id,
            }
            await exchange.data(Event("error", error).wire())
            self._end(call, f"error event at {call.events}")
        elif isinstance(what, Cut):
            self._end(call, f"cut at event {call.events}")
        else:
            content = [_content(block, number, request) for number, block in enumerate(reply.blocks)]
            self.threads.keep(call.body, request.body, message | {"content": content})
            self._end(call, "done")
        await exchange.end()

    async def _pause(self, exchange: _Exchange, reply: Reply) -> None:
        """The time between two events, with pings in it."""
        left_s = reply.pace_s
        while reply.ping_s is not None and left_s > reply.ping_s:
            await trio.sleep(reply.ping_s)
            await exchange.data(Event("ping", {"type": "ping"}).wire())
            left_s -= reply.ping_s
        await trio.sleep(left_s)

    def _produce(self, call: Call, tokens: int) -> None:
        """The answer has `tokens` output tokens by now."""
        assert call.usage is not None
        self.limits.produced(tokens - call.usage.output_tokens, self.clock())
        call.usage = attrs.evolve(call.usage, output_tokens=tokens)

    def _headers(self, call: Call) -> list[tuple[str, str]]:
        return [
            ("date", formatdate(self.clock(), usegmt=True)),
            ("request-id", call.request_id),
            ("anthropic-organization-id", "loopback"),
            *(self.limits.headers(self.clock()) if call.number else []),
        ]

    async def _refuse(self, exchange: _Exchange, call: Call, answer: Answer) -> None:
        """An error answer."""
        now = self.clock()
        body = answer.body(call.request_id, now)
        call.message = answer.message
        await self._send_json(exchange, call, answer.status, body, answer.extra_headers(now))

    async def _send_json(
        self,
        exchange: _Exchange,
        call: Call,
        status: int,
        body: Any,
        more: Sequence[tuple[str, str]] = (),
        *,
        break_off: bool = False,
    ) -> None:
        page = isinstance(body, str)
        data = body.encode() if page else json.dumps(body, ensure_ascii=False).encode()
        kind = ("content-type", "text/html" if page else "application/json")
        call.status = status
        own = {name for name, _ in more}
        usual = [(name, value) for name, value in self._headers(call) if name not in own]
        await exchange.head(status, [*usual, *more, kind, ("content-length", str(len(data)))])
        if break_off:
            await exchange.data(data[: len(data) // 2])
            return
        self._end(call, "done" if status < 400 else "refused")
        await exchange.data(data)
        await exchange.end()


@attrs.define
class _Exchange:
    """One request's way back to the client."""

    http: h11.Connection
    stream: trio.SocketStream
    over: bool = False  # the connection was reset, by us or by them

    async def watch(self, scope: trio.CancelScope) -> None:
        """Notice that the client has left while its answer is made: then everything for it ends."""
        while True:
            try:
                data = await self.stream.receive_some(65536)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                self.over = True
                scope.cancel()
                return
            self.http.receive_data(data)

    async def head(self, status: int, headers: list[tuple[str, str]]) -> None:
        """Status and headers."""
        await self._send(h11.Response(status_code=status, headers=headers))

    async def data(self, data: bytes) -> None:
        """A part of the body."""
        await self._send(h11.Data(data=data))

    async def end(self) -> None:
        """The body is complete."""
        await self._send(h11.EndOfMessage())

    async def _send(self, event: h11.Event) -> None:
        data = self.http.send(event)
        if data:
            await self.stream.send_all(data)

    async def reset(self) -> None:
        """A reset in the place of an orderly end."""
        self.over = True
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.aclose_forcefully(self.stream)


def trio_clock() -> Callable[[], float]:
    """Seconds since 1970 that pass as trio's time does, virtual or not."""
    offset = time.time() - trio.current_time()
    return lambda: offset + trio.current_time()


@asynccontextmanager
async def serve(
    model: Model,
    *,
    faults: Iterable[Fault] = (),
    limits: Limits | None = None,
    cache: PromptCache | None = None,
    models: Mapping[str, tuple[int, int]] = MODELS,
    key: str | None = None,
    clock: Callable[[], float] | None = None,
    ledger_file: TextIO | None = None,
    bodies: bool = True,
    port: int = 0,
) -> AsyncIterator[Api]:
    """A server for as long as the block lasts.

    Raises, at the end, what the model raised while it was asked (a script that ended, say): that is a mistake of the test, not a fault of the service.
    """
    failure: Exception | None = None  # of the block; raised outside of the nursery, which would wrap it
    async with trio.open_nursery() as nursery:
        api = Api(
            model=model,
            clock=clock or trio_clock(),
            limits=limits or Limits(),
            cache=cache or PromptCache(),
            faults=list(faults),
            ledger=Ledger(ledger_file, bodies),
            models=models,
            key=key,
            nursery=nursery,
            port=port,
        )
        await api.listen()
        try:
            yield api
        except Exception as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if api.mistakes:
        raise api.mistakes[0]


def model_of(name: str) -> Model:
    """A model by its name on the command line: "worker", "obedient", or the path of a script in JSON (see `Scripted`)."""
    if name == "worker":
        return Worker()
    if name == "obedient":
        return Obedient()
    try:
        return Scripted(json.loads(Path(name).read_text()))
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{name!r} is neither a model nor a script: {error}") from error


def fault_of(text: str) -> Fault:
    """A fault on the command line: CALL=NAME with the call's number or `*`, and a name in the catalogue."""
    call, _, name = text.partition("=")
    if not (call == "*" or call.isdecimal()) or name not in CATALOGUE:
        raise argparse.ArgumentTypeError(f"{text!r} is not CALL=NAME with a number or * and a name that --help lists")
    return Fault((lambda _: True) if call == "*" else int(call), CATALOGUE[name])


def main(arguments: Sequence[str] | None = None) -> None:
    """The server as a process: prints its address, and serves until it is told to stop."""
    parser = argparse.ArgumentParser(description="A loopback server that speaks Anthropic's Messages API.")
    parser.add_argument("--port", type=int, default=0, help="0 for a free one (default)")
    parser.add_argument(
        "--model", type=model_of, default=Worker(), help="worker (default), obedient, or a script's path"
    )
    parser.add_argument("--pieces", type=int, default=3, metavar="N", help="in how many a worker's blocks are streamed")
    parser.add_argument(
        "--first-s", type=float, default=0.0, metavar="S", help="seconds before a worker's answer begins"
    )
    parser.add_argument("--ledger", metavar="FILE", type=Path, help="append each call as a JSON line")
    parser.add_argument("--key", help="the one API key to accept (default: any)")
    parser.add_argument(
        "--fault", metavar="CALL=NAME", type=fault_of, action="append", default=[], help=", ".join(CATALOGUE)
    )
    for name in ("requests", "input-tokens", "output-tokens"):
        parser.add_argument(f"--{name}", type=float, metavar="N", help="the limit a minute (default: none)")
    trio.run(_run, parser.parse_args(arguments))


async def _run(options: argparse.Namespace) -> None:
    limits = Limits(options.requests, options.input_tokens, options.output_tokens)
    model = options.model
    if isinstance(model, Worker):
        model = attrs.evolve(model, first_s=options.first_s, pieces=options.pieces)
    with (
        open(options.ledger, "a") if options.ledger else nullcontext() as file,
        trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as told,
    ):
        async with serve(
            model, faults=options.fault, limits=limits, key=options.key, ledger_file=file, port=options.port
        ) as api:
            print(api.url, flush=True)
            async for _ in told:
                break


if __name__ == "__main__":
    main()
