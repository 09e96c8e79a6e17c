"""Conversations that the server holds: a request says `thread: continue` and sends only its new messages. The SDK's tool runner works so by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
from messages_rules import Invalid

BETA = "message-threads-2026-08-12"
MOST = 1000  # conversations that are held; older ones are forgotten, which a client has to be ready for
CREATE_ONLY = ("system", "tools")  # a `continue` takes them from the thread


def _without_marks(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message without its cache breakpoints: they were for the turn that sent it."""
    content = message["content"]
    if isinstance(content, list):
        content = [{key: value for key, value in block.items() if key != "cache_control"} for block in content]
    return {**message, "content": content}


@attrs.define
class Threads:
    """What the server holds, by the id of the answer that it is to be continued from."""

    _held: dict[str, dict[str, Any]] = attrs.field(init=False, factory=dict)  # {answer's id: body with all messages}
    _continued: set[str] = attrs.field(init=False, factory=set)
    _in_flight: set[str] = attrs.field(init=False, factory=set)

    def whole(self, body: dict[str, Any], betas: Sequence[str]) -> dict[str, Any]:
        """The request with its whole conversation and without `thread`. Raises Invalid as the API does."""
        if body.get("thread") is None:
            return {name: value for name, value in body.items() if name != "thread"}
        if BETA not in betas:
            raise Invalid("thread: Extra inputs are not permitted")
        thread = body["thread"]
        rest = {name: value for name, value in body.items() if name != "thread"}
        if "cache_control" in body:
            words = "`thread` cannot be combined with `cache_control`"
            raise Invalid(words, code="thread_unsupported_request")
        if not isinstance(thread, dict) or thread.get("type") not in ("create", "continue"):
            raise Invalid("thread.type: Input should be 'create' or 'continue'")
        if thread["type"] == "create":
            return rest
        name = str(thread.get("previous_message_id"))
        if name in self._continued:
            raise Invalid(f"thread: {name} has already been continued", code="thread_already_continued")
        if name in self._in_flight:
            raise Invalid(f"thread: {name} is being continued", code="thread_continue_in_flight")
        if name not in self._held:
            raise Invalid(f"thread: no state was found for {name}", 404, code="thread_not_found")
        held = self._held[name]
        differing = [field for field in CREATE_ONLY if field in rest and rest[field] != held.get(field)]
        differing += [field for field in ("model", "output_config") if rest.get(field) != held.get(field)]
        if differing:
            raise Invalid(f"thread: differing field(s): {', '.join(differing)}", code="thread_fingerprint_mismatch")
        kept = {field: held[field] for field in CREATE_ONLY if field in held}
        return kept | rest | {"messages": held["messages"] + rest.get("messages", [])}

    @contextmanager
    def turn(self, body: Mapping[str, Any]) -> Iterator[None]:
        """While a request is answered: nobody else may continue from the same answer."""
        thread = body.get("thread")
        name = str(thread.get("previous_message_id")) if isinstance(thread, dict) else ""
        if not isinstance(thread, dict) or thread.get("type") != "continue":
            yield
            return
        self._in_flight.add(name)
        try:
            yield
        finally:
            self._in_flight.discard(name)

    def keep(self, sent: Mapping[str, Any], whole: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """The turn is complete: hold it under the answer's id. `sent` is the request as it came, `whole` with its whole conversation."""
        thread = sent.get("thread")
        if not isinstance(thread, dict):
            return
        if thread["type"] == "continue":
            self._continued.add(thread["previous_message_id"])
            self._held.pop(thread["previous_message_id"], None)
        messages = [_without_marks(message) for message in whole["messages"]]
        said = {"role": "assistant", "content": answer["content"]}
        while len(self._held) >= MOST:
            del self._held[next(iter(self._held))]
        self._held[answer["id"]] = {**whole, "messages": [*messages, said] if answer["content"] else messages}
