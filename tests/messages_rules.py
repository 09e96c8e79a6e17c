"""Which requests the Messages API refuses, and with what words. Knows a request's body and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from messages_meter import input_tokens
from messages_model import blocks_of

FIELDS = frozenset(
    [
        "model",
        "messages",
        "max_tokens",
        "system",
        "tools",
        "tool_choice",
        "stream",
        "stop_sequences",
        "temperature",
        "top_p",
        "top_k",
        "metadata",
        "thinking",
        "service_tier",
        "cache_control",
        "output_config",
        "output_format",
        "context_management",
        "container",
        "mcp_servers",
        "inference_geo",
        "speed",
        "diagnostics",
        "compaction",
        "fallbacks",
        "fallback_credit_token",
        "billing_policy",
        "betas",
    ]
)
NOT_WHEN_COUNTING = frozenset({"max_tokens", "stream", "metadata", "stop_sequences", "temperature", "top_p", "top_k"})
USER_BLOCKS = frozenset({"text", "image", "document", "tool_result", "search_result", "tool_addition", "tool_removal"})
ASSISTANT_BLOCKS = frozenset(
    {"text", "thinking", "redacted_thinking", "tool_use", "server_tool_use", "compaction", "fallback"}
)
BREAKPOINTS = 4


class Invalid(Exception):
    """The request is refused with `status`; the text is the API's message, `code` the `error_code` in its details."""

    def __init__(self, message: str, status: int = 400, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def _need(right: bool, message: str) -> None:
    if not right:
        raise Invalid(message)


def check(body: object, models: Mapping[str, tuple[int, int]], *, counting: bool = False) -> None:
    """Raise Invalid for a request that the API refuses. `models` is {id: (context window, most output tokens)}; `counting` for count_tokens."""
    if not isinstance(body, dict):
        raise Invalid("The request body is not valid JSON: it must be an object")
    for name in ("model", "messages", *(() if counting else ("max_tokens",))):
        _need(name in body, f"{name}: Field required")
    for name in body:
        _need(
            name in FIELDS and not (counting and name in NOT_WHEN_COUNTING), f"{name}: Extra inputs are not permitted"
        )
    _need(isinstance(body["model"], str), "model: Input should be a valid string")
    if body["model"] not in models:
        raise Invalid(f"model: {body['model']}", 404)
    window, most = models[body["model"]]
    if not counting:
        _check_max_tokens(body, most)
    _check_tools(body)
    _check_system(body.get("system"))
    _check_messages(body["messages"])
    _check_breakpoints(body)
    tokens = input_tokens(body)
    _need(tokens <= window, f"prompt is too long: {tokens} tokens > {window} maximum")


def _check_max_tokens(body: Mapping[str, Any], most: int) -> None:
    wanted = body["max_tokens"]
    _need(isinstance(wanted, int) and not isinstance(wanted, bool), "max_tokens: Input should be a valid integer")
    _need(wanted >= 1, "max_tokens: Input should be greater than or equal to 1")
    _need(
        wanted <= most,
        f"max_tokens: {wanted} > {most}, which is the maximum allowed number of output tokens for {body['model']}",
    )
    _need(isinstance(body.get("stream", False), bool), "stream: Input should be a valid boolean")


def _check_tools(body: Mapping[str, Any]) -> None:
    tools = body.get("tools", [])
    _need(isinstance(tools, list), "tools: Input should be a valid list")
    names = []
    for at, tool in enumerate(tools):
        _need(isinstance(tool, dict), f"tools.{at}: Input should be a valid dictionary")
        _need(isinstance(tool.get("name"), str), f"tools.{at}.custom.name: Field required")
        _need(
            re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", tool["name"]) is not None,
            f"tools.{at}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'",
        )
        names.append(tool["name"])
        if tool.get("type", "custom") == "custom":
            schema = tool.get("input_schema")
            _need(isinstance(schema, dict), f"tools.{at}.custom.input_schema: Field required")
            _need(schema.get("type") == "object", f"tools.{at}.custom.input_schema.type: Input should be 'object'")
    _need(len(set(names)) == len(names), "tools: Tool names must be unique.")
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        _need(
            choice.get("type") == "none" or bool(tools), "tool_choice: tools must be provided when tool_choice is set"
        )
        if choice.get("type") == "tool":
            _need(choice.get("name") in names, f"Tool '{choice.get('name')}' not found in provided tools")


def _check_system(system: object) -> None:
    _need(system is None or isinstance(system, str | list), "system: Input should be a valid list")
    for at, block in enumerate(blocks_of(system) if isinstance(system, list) else []):
        _need(block.get("type") == "text", f"system.{at}.type: Input should be 'text'")
        _need(bool(block.get("text")), "system: text content blocks must be non-empty")


def _check_messages(messages: object) -> None:
    if not isinstance(messages, list):
        raise Invalid("messages: Input should be a valid list")
    _need(bool(messages), "messages: at least one message is required")
    seen: set[str] = set()  # ids of all tool calls
    open_calls: list[str] = []  # ids of the calls in the message before
    for at, message in enumerate(messages):
        where = f"messages.{at}"
        _need(isinstance(message, dict), f"{where}: Input should be a valid dictionary")
        role = message.get("role")
        _need(role in ("user", "assistant"), f"{where}.role: Input should be 'user' or 'assistant'")
        _need("content" in message, f"{where}.content: Field required")
        _need(isinstance(message["content"], str | list), f"{where}.content: Input should be a valid list")
        blocks = blocks_of(message["content"])
        _need(at > 0 or role == "user", 'messages: first message must use the "user" role')
        _need(
            bool(blocks) and message["content"] != "",
            f"{where}: all messages must have non-empty content except for the optional final assistant message",
        )
        for number, block in enumerate(blocks):
            _check_block(block, f"{where}.content.{number}", role)
        if open_calls:
            _check_answered(blocks if role == "user" else [], open_calls, at - 1)
        _check_results(blocks, open_calls, where)
        open_calls = [str(block.get("id")) for block in blocks if block.get("type") == "tool_use"]
        for number, block in enumerate(blocks):
            if block.get("type") == "tool_use":
                _need(block["id"] not in seen, f"{where}.content.{number}: `tool_use` ids must be unique")
                seen.add(block["id"])
    _need(not open_calls, _unanswered(len(messages) - 1, open_calls))
    _need(
        messages[-1]["role"] == "user",
        "This model does not support assistant message prefill. The conversation must end with a user message.",
    )


def _check_block(block: Mapping[str, Any], where: str, role: object) -> None:
    kind = block.get("type")
    allowed = USER_BLOCKS if role == "user" else ASSISTANT_BLOCKS
    _need(
        kind in allowed,
        f"{where}: Input tag '{kind}' found using 'type' does not match any of the expected tags for role {role}",
    )
    if kind == "text":
        _need(isinstance(block.get("text"), str), f"{where}.text.text: Field required")
        _need(bool(block["text"]), "messages: text content blocks must be non-empty")
    elif kind == "tool_use":
        for field in ("id", "name", "input"):
            _need(field in block, f"{where}.tool_use.{field}: Field required")
        _need(isinstance(block["input"], dict), f"{where}.tool_use.input: Input should be a valid dictionary")
        _need(
            re.fullmatch(r"[a-zA-Z0-9_-]+", str(block["id"])) is not None,
            f"{where}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'",
        )
    elif kind == "tool_result":
        _need(isinstance(block.get("tool_use_id"), str), f"{where}.tool_result.tool_use_id: Field required")
    elif kind == "thinking":
        _need(
            isinstance(block.get("signature"), str) and bool(block["signature"]),
            f"{where}.thinking.signature: Field required",
        )


def _unanswered(at: int, ids: Sequence[str]) -> str:
    return (
        f"messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after: {', '.join(ids)}. "
        "Each `tool_use` block must have a corresponding `tool_result` block in the next message."
    )


def _check_answered(blocks: Sequence[Mapping[str, Any]], calls: Sequence[str], at: int) -> None:
    """Every call of the message before has its result here, ahead of anything else."""
    ahead = set()
    for block in blocks:
        if block.get("type") != "tool_result":
            break
        ahead.add(block["tool_use_id"])
    missing = [call for call in calls if call not in ahead]
    _need(not missing, _unanswered(at, missing))


def _check_results(blocks: Sequence[Mapping[str, Any]], calls: Sequence[str], where: str) -> None:
    """Every result here answers one call of the message before."""
    answered: set[str] = set()
    for number, block in enumerate(blocks):
        if block.get("type") != "tool_result":
            continue
        name = block["tool_use_id"]
        _need(
            name in calls,
            f"{where}.content.{number}: unexpected `tool_use_id` found in `tool_result` blocks: {name}. Each `tool_result` block must have a "
            "corresponding `tool_use` block in the previous message.",
        )
        _need(
            name not in answered,
            f"{where}.content.{number}: each tool_use must have a single result. Found multiple `tool_result` blocks with id: {name}",
        )
        answered.add(name)


def _check_breakpoints(body: Mapping[str, Any]) -> None:
    blocks = [*(body.get("tools") or []), *blocks_of(body.get("system") or "")]
    for message in body["messages"]:
        blocks += blocks_of(message.get("content"))
    marks = [block["cache_control"] for block in blocks if block.get("cache_control") is not None]
    if body.get("cache_control") is not None:
        marks.append(body["cache_control"])
    _need(
        len(marks) <= BREAKPOINTS,
        f"A maximum of {BREAKPOINTS} blocks with cache_control may be provided. Found {len(marks)}.",
    )
    lives = []
    for mark in marks:
        _need(
            isinstance(mark, dict) and mark.get("type") == "ephemeral",
            "cache_control.type: Input should be 'ephemeral'",
        )
        lives.append(mark.get("ttl") or "5m")
        _need(lives[-1] in ("5m", "1h"), "cache_control.ephemeral.ttl: Input should be '5m' or '1h'")
    _need(
        lives == sorted(lives),  # "1h" before "5m"
        "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block.",
    )
