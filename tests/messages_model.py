"""What a model says: the request it sees, the reply it gives, and a scripted model. Knows nothing of HTTP, limits or faults.

A model is a callable `(request: Request) -> Reply`, async or not. It keeps no state of its own: where it stands is read from the request, so that a
repeated call (a retry, a resumed run) gets the same answer.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import attrs


def canonical(value: object) -> str:
    """JSON with sorted keys: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def tokens_of(text: str) -> int:
    """The one token count of this server: a token for every four characters begun."""
    return -(-len(text) // 4)


def blocks_of(content: object) -> list[dict[str, Any]]:
    """A message's content as a list of blocks, also where it came as a string."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []


@attrs.frozen
class Text:
    """A text block."""

    text: str


@attrs.frozen
class Thinking:
    """A thinking block. The signature is sent as it is."""

    thinking: str
    signature: str = "c2lnbmVk"


@attrs.frozen
class ToolUse:
    """A tool call.

    `id`: None for one derived from the request, so that a retry of the same body gets the same id.
    `json`: the input's text as it goes over the wire, when it shall not be that of `input` (malformed, cut short).
    """

    name: str
    input: Mapping[str, Any] = attrs.field(factory=dict)
    id: str | None = None
    json: str | None = None

    @property
    def wire(self) -> str:
        """The input as it is streamed."""
        return json.dumps(dict(self.input)) if self.json is None else self.json


Block = Text | Thinking | ToolUse


def _listed(blocks: Sequence[Block] | str) -> tuple[Block, ...]:
    return (Text(blocks),) if isinstance(blocks, str) else tuple(blocks)


@attrs.frozen
class Reply:
    """One answer of a model.

    `blocks`: the content; a plain string is one text block.
    `stop_reason`: None for "tool_use" when there is a tool call, else "end_turn".
    `first_s`: seconds before the first event; `pace_s`: seconds before each one after it.
    `ping_s`: seconds between the pings that are sent while nothing else is; None for none.
    `pieces`: in how many deltas a block is streamed.
    `output_tokens`: None to count the blocks; a number where only the bill matters.
    """

    blocks: tuple[Block, ...] = attrs.field(default=(), converter=_listed)
    stop_reason: str | None = None
    first_s: float = 0.0
    pace_s: float = 0.0
    ping_s: float | None = None
    pieces: int = 3
    output_tokens: int | None = None

    @property
    def stops_for(self) -> str:
        """The stop reason that is sent."""
        calls = any(isinstance(block, ToolUse) for block in self.blocks)
        return self.stop_reason or ("tool_use" if calls else "end_turn")

    @property
    def tokens(self) -> int:
        """Output tokens of the whole answer; never 0, as with the real service."""
        return (
            max(1, sum(block_tokens(block) for block in self.blocks))
            if self.output_tokens is None
            else self.output_tokens
        )

    def cut(self, tokens: int) -> Reply:
        """The same answer stopped after `tokens` output tokens, inside a tool call if it falls there."""
        left, kept = tokens, []
        for block in self.blocks:
            if left <= 0:
                break
            size = block_tokens(block)
            kept.append(block if size <= left else _cut_block(block, left * 4))
            left -= size
        return attrs.evolve(self, blocks=tuple(kept), stop_reason="max_tokens", output_tokens=tokens)


def block_tokens(block: Block) -> int:
    """Output tokens of one block."""
    if isinstance(block, Text):
        return tokens_of(block.text)
    if isinstance(block, Thinking):
        return tokens_of(block.thinking)
    return tokens_of(block.name + block.wire)


def _cut_block(block: Block, chars: int) -> Block:
    if isinstance(block, Text):
        return attrs.evolve(block, text=block.text[:chars])
    if isinstance(block, Thinking):
        return attrs.evolve(block, thinking=block.thinking[:chars])
    return attrs.evolve(block, json=block.wire[: max(0, chars - len(block.name))])


@attrs.frozen
class Request:
    """One POST /v1/messages as a model sees it. `number` counts those calls from 1; `betas` are the names in `anthropic-beta`."""

    number: int
    body: dict[str, Any]
    betas: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        """The model that was asked for."""
        return str(self.body.get("model", ""))

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation."""
        messages = self.body.get("messages")
        return [message for message in messages if isinstance(message, dict)] if isinstance(messages, list) else []

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The tools that were offered."""
        return [tool for tool in self.body.get("tools") or [] if isinstance(tool, dict)]

    @property
    def system(self) -> str:
        """The system prompt's text."""
        return "\n".join(str(block.get("text", "")) for block in blocks_of(self.body.get("system") or ""))

    @property
    def conversation(self) -> str:
        """The text of the first user message: what tells one conversation from another."""
        first = next((message for message in self.messages if message.get("role") == "user"), {})
        return _text_of(first)

    @property
    def turn(self) -> int:
        """How many answers the conversation already holds."""
        return sum(message.get("role") == "assistant" for message in self.messages)

    def said(self) -> Iterator[str]:
        """The text blocks of the user messages, oldest first; no tool results."""
        for message in self.messages:
            if message.get("role") == "user":
                yield _text_of(message)

    def results(self) -> Iterator[tuple[str, bool]]:
        """The tool results, oldest first: their text and whether they are errors."""
        for message in self.messages:
            for block in blocks_of(message.get("content")):
                if block.get("type") == "tool_result":
                    yield result_text(block), bool(block.get("is_error"))

    def calls(self) -> Iterator[dict[str, Any]]:
        """The tool_use blocks of the answers so far, oldest first."""
        for message in self.messages:
            if message.get("role") == "assistant":
                yield from (block for block in blocks_of(message.get("content")) if block.get("type") == "tool_use")

    @cached_property
    def digest(self) -> str:
        """A hash of the body: equal for a repeated call, streamed or not."""
        asked = {name: value for name, value in self.body.items() if name != "stream"}
        return hashlib.sha256(canonical(asked).encode()).hexdigest()


def result_text(block: Mapping[str, Any]) -> str:
    """The text of a tool_result block."""
    return "\n".join(str(part.get("text", "")) for part in blocks_of(block.get("content") or ""))


def _text_of(message: Mapping[str, Any]) -> str:
    blocks = blocks_of(message.get("content") or "")
    return "\n".join(str(block.get("text", "")) for block in blocks if block.get("type") == "text")


Model = Callable[[Request], Reply | Awaitable[Reply]]


class ModelMistake(Exception):
    """The test's model cannot answer: its script has ended, or it does not fit what it is asked."""


async def ask(model: Model, request: Request) -> Reply:
    """What the model answers."""
    reply = model(request)
    return await reply if inspect.isawaitable(reply) else reply


@attrs.frozen
class Scripted:
    """Says what a script says, one reply for each turn.

    `script`: a list of replies for every conversation, or {text: replies}, where the conversation is the one whose first user message contains the
    text. A reply that is a string is one text block. The turn is counted in the request, so a repeated call gets its reply again. Asking for more
    than the script holds is a mistake of the test.
    """

    script: Mapping[str, Sequence[Reply | str]] | Sequence[Reply | str]

    def __call__(self, request: Request) -> Reply:
        replies = self._replies(request)
        if request.turn >= len(replies):
            raise ModelMistake(f"the script has {len(replies)} replies, turn {request.turn + 1} was asked for")
        reply = replies[request.turn]
        return Reply(reply) if isinstance(reply, str) else reply

    def _replies(self, request: Request) -> Sequence[Reply | str]:
        if not isinstance(self.script, Mapping):
            return self.script
        found = [text for text in self.script if text in request.conversation]
        if len(found) != 1:
            raise ModelMistake(f"{len(found)} scripts fit the conversation that begins {request.conversation[:80]!r}")
        return self.script[found[0]]
