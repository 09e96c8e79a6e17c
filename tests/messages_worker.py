"""Models that do what they are told: `Worker` edits files as its task's goal says, `Obedient` follows orders wherever it reads them.

Orders end a line of plain text; only `LATER` is a line of its own. What stands between `<<` and `>>` may span lines:

    REPLACE path <<old text>> <<new text>>
    WRITE path <<content>>
    READ path
    TOOL name {"any": "input"}
    SAY <<words for the last answer>>
    LATER                                   what follows is done after the next user message (a red check, say)

Tools are called whatever they are named among the usual names, with the fields that their schema has. Where a model stands is read from the calls in
the conversation, compared by name and input: a step that was broken on its way is done again, one that is there is not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import attrs
from messages_model import ModelMistake, Reply, Request, ToolUse, canonical

NAMES = MappingProxyType(  # {what to do: names of tools that do it}
    {
        "read": ("read", "read_file", "view"),
        "edit": ("edit", "edit_file", "str_replace", "replace"),
        "write": ("write", "write_file", "create", "create_file"),
    }
)
FIELDS = MappingProxyType(  # {what is meant: names of fields that mean it}
    {
        "path": ("path", "file_path", "file", "filename"),
        "old": ("old", "old_string", "old_str", "old_text"),
        "new": ("new", "new_string", "new_str", "new_text"),
        "content": ("content", "file_text", "text", "contents"),
    }
)
MARKS = re.compile(
    r"(?<!\S)REPLACE[ ](?P<replace>\S+)[ ]<<(?P<old>.*?)>>\s+<<(?P<new>.*?)>>[ \t]*$"
    r"|(?<!\S)WRITE[ ](?P<write>\S+)[ ]<<(?P<content>.*?)>>[ \t]*$"
    r"|(?<!\S)READ[ ](?P<read>\S+)[ \t]*$"
    r"|(?<!\S)SAY[ ]<<(?P<say>.*?)>>[ \t]*$"
    r"|^[ \t]*(?P<later>LATER)[ \t]*$"
    r"|\bTOOL[ ](?P<tool>[\w-]+)[ ](?=\{)",  # anywhere in a line: in a comment, behind a line number
    re.MULTILINE | re.DOTALL,
)


@attrs.frozen
class Order:
    """One thing to do: "read", "edit", "write", the name of any tool, "say" or "later". `input` in our own words (path, old, new, content)."""

    what: str
    input: Mapping[str, Any] = attrs.field(factory=dict)


def orders_in(text: str) -> Iterator[Order]:
    """The orders in a text, in their order."""
    at = 0
    while found := MARKS.search(text, at):
        at = found.end()
        if found["replace"]:
            yield Order("edit", {"path": found["replace"], "old": found["old"], "new": found["new"]})
        elif found["write"]:
            yield Order("write", {"path": found["write"], "content": found["content"]})
        elif found["read"]:
            yield Order("read", {"path": found["read"]})
        elif found["say"] is not None:
            yield Order("say", {"words": found["say"]})
        elif found["later"]:
            yield Order("later")
        else:
            try:
                given, at = json.JSONDecoder().raw_decode(text, at)
            except ValueError:
                continue  # it only looked like an order
            yield Order(found["tool"], given)


def _offered(what: str, tools: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The tool that does it: of that very name, or of one that means the same."""
    by_name = {tool["name"]: tool for tool in tools}
    alike = next((names for names in NAMES.values() if what in names), (what,))
    return next((by_name[name] for name in (what, *alike) if name in by_name), None)


def call(order: Order, tools: Sequence[Mapping[str, Any]]) -> ToolUse:
    """The tool call for an order. A tool that is not offered is called all the same, as a misled model would."""
    tool = _offered(order.what, tools)
    if tool is None:
        return ToolUse(order.what, order.input)
    fields = tool.get("input_schema", {}).get("properties", {})
    return ToolUse(tool["name"], {_field(name, fields): value for name, value in order.input.items()})


def _field(name: str, fields: Iterable[str]) -> str:
    alike = next((names for names in FIELDS.values() if name in names), (name,))
    return next((field for field in (name, *alike) if field in fields), name)


def _to_do(wanted: Iterable[ToolUse], request: Request) -> list[ToolUse]:
    """The calls that are not in the conversation yet; a call that is wanted twice has to be there twice."""
    there = [canonical([block["name"], block["input"]]) for block in request.calls()]
    left = []
    for use in wanted:
        key = canonical([use.name, dict(use.input)])
        if key in there:
            there.remove(key)
        else:
            left.append(use)
    return left


def _last_words(did: Sequence[ToolUse], said: Iterable[str], request: Request) -> str:
    """The answer after the last call."""
    done = [f"{use.name} {use.input.get('path') or use.input.get('file_path') or ''}".strip() for use in did]
    errors = [f"An error: {text}" for text, is_error in request.results() if is_error]
    return "\n".join([*said, f"Done: {', '.join(done) or 'nothing was to do'}.", *errors])


@attrs.frozen
class Worker:
    """Does the orders in the user's messages, then ends with a text. Reads a file before it edits it, if there is a tool for that.

    `at_once`: how many calls an answer has. `first_s`, `pace_s`, `pieces`: as in a Reply.
    """

    at_once: int = 1
    first_s: float = 0.0
    pace_s: float = 0.0
    pieces: int = 3

    def __call__(self, request: Request) -> Reply:
        texts = [text for text in request.said() if text.strip()]
        rounds = _rounds(order for text in texts for order in orders_in(text))
        open_now = [order for orders in rounds[: len(texts)] for order in orders]
        wanted = [use for order in open_now if order.what != "say" for use in self._steps(order, request.tools)]
        left = _to_do(wanted, request)
        if left:
            return self._reply(tuple(left[: self.at_once]))
        said = [str(order.input["words"]) for order in open_now if order.what == "say"]
        return self._reply(_last_words(wanted, said, request))

    def _reply(self, blocks: tuple[ToolUse, ...] | str) -> Reply:
        return Reply(blocks, first_s=self.first_s, pace_s=self.pace_s, pieces=self.pieces)

    def _steps(self, order: Order, tools: Sequence[Mapping[str, Any]]) -> Iterator[ToolUse]:
        if order.what in NAMES and _offered(order.what, tools) is None:
            raise ModelMistake(f"no tool to {order.what} with among {[tool.get('name') for tool in tools]}")
        if order.what == "edit" and _offered("read", tools) is not None:
            yield call(Order("read", {"path": order.input["path"]}), tools)
        yield call(order, tools)


def _rounds(orders: Iterable[Order]) -> list[list[Order]]:
    """What is done before each LATER."""
    found: list[list[Order]] = [[]]
    for order in orders:
        if order.what == "later":
            found.append([])
        else:
            found[-1].append(order)
    return found


@attrs.frozen
class Obedient:
    """Follows every order it reads, in the user's messages and in what tools answer, each once, and then ends with a text.

    It calls tools that are not offered, too: what stops it has to be on the other side. `at_once`: how many calls an answer has at most.
    """

    at_once: int = 8

    def __call__(self, request: Request) -> Reply:
        texts = [*request.said(), *(text for text, _ in request.results())]
        orders = [order for text in texts for order in orders_in(text) if order.what != "later"]
        wanted = {canonical([use.name, dict(use.input)]): use for use in self._calls(orders, request.tools)}
        left = _to_do(wanted.values(), request)
        if left:
            return Reply(tuple(left[: self.at_once]))
        said = dict.fromkeys(str(order.input["words"]) for order in orders if order.what == "say")
        return Reply(_last_words(list(wanted.values()), said, request))

    def _calls(self, orders: Iterable[Order], tools: Sequence[Mapping[str, Any]]) -> Iterator[ToolUse]:
        for order in orders:
            if order.what != "say":
                yield call(order, tools)
