"""Working with Claude: one conversation an attempt, through the SDK, on trio.

What the SDK's loop does not do is here: an answer is durable before its tools run, every call goes through the gate and the budget, a
stream that goes silent is noticed, a conversation goes on from its last turn after a crash or a pause, and "done" is judged by the
workspace and the checks. The SDK's `tool_runner` makes each request and reads its stream, one turn at a time (its own loop would
swallow what our tools raise, and cannot begin in the middle of a turn); `tools.Desk` does the calls. Knows no git, no scheduling.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from decimal import Decimal
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, cast, get_args

import attrs
import msgspec
import trio

from runtime import secrets
from runtime.budget import Reservation, Usage
from runtime.conversation import Conversation, State
from runtime.core.events import Answered, Spent, Told
from runtime.core.task import Handler, Specialist
from runtime.errors import (
    BadInput,
    BudgetSpent,
    ChecksRed,
    EmptyChange,
    GiveUp,
    MalformedCall,
    NoCredentials,
    Paused,
    QuotaSpent,
    Refused,
    ServiceRefused,
    ServiceUnavailable,
    Stalled,
    TooManyTurns,
    Truncated,
)
from runtime.limits import Call, Gate, Resource, Verdict, add_up, judge
from runtime.prices import Price, Prices, load_prices
from runtime.workspace import Brief, Workspace

from .prompt import Prefix, Prefixes, opening, prefixes, system
from .tools import Desk, MalformedInput, ToolError, definitions, offered, told_of

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

STALL_S: Final = 90.0
"""Silence on a stream, seconds. The service sends pings while a model thinks, some tens of seconds apart."""

_NOTICED_S: Final = 0.5  # how much earlier than `stall_s` a silence may be noticed
STALLS_ALLOWED: Final = 2  # of one turn: the call is cancelled and the turn asked again; then the attempt fails
MALFORMED_ALLOWED: Final = 3  # answers in a row whose calls no tool can take, or that do not parse
MODEL_FAMILY: Final = "sonnet"
_CHARS_A_TOKEN: Final = 4.0  # for the rate gate, until answers teach better
_CAUTION: Final = 0.75  # of the characters a token has, where tokens may have been bought that nobody tells of
_HIDDEN_TOKENS: Final = (
    2_000  # of a prompt that the service adds for tools, and of the answer that came before: for the budget's sake
)
# Tokens an answer may have when the budget has no room for the specialist's max_tokens
_SHORTER: Final = (8_192, 2_048)
_CONNECT_S: Final = 30.0
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_AROUND: Final = 32  # characters of a message around its content, of an answer around a block's
_SUMMARY_LIMIT: Final = 2_000
_RED: Final = "The task is not done: a check is red. Mend it."
_NUDGE: Final = "Nothing has changed. Make the change now, or call nothing_to_do with the reason if none is needed."


def default_model() -> str:
    """What a specialist without a model works with: the newest of the middle family in the installed SDK's list."""
    return newest_model(MODEL_FAMILY)


def newest_model(family: str) -> str:
    """The newest model of a family (`opus`, `sonnet`, `haiku`, ...) in the installed SDK's list; the family's name if it has none."""
    from anthropic.types import ModelParam

    names = [name for part in get_args(ModelParam) for name in get_args(part) if isinstance(name, str)]
    known = [name for name in names if re.fullmatch(rf"claude-{family}-\d+(-\d)?", name)]
    return max(known, key=lambda name: [int(number) for number in re.findall(r"\d+", name)], default=family)


def credentials_problem() -> str | None:
    """Why Claude cannot be asked from this environment, or None."""
    import httpx2
    from anthropic import AnthropicError, AsyncAnthropic

    try:
        # Nothing is sent: without certificates, which take longer to load than all the rest, it is only a look at the environment.
        return _lacking(AsyncAnthropic(max_retries=0, http_client=httpx2.AsyncClient(verify=False)))
    except AnthropicError as error:
        return str(error)


def _lacking(client: AsyncAnthropic) -> str | None:
    if client.api_key or client.auth_token or getattr(client, "credentials", None):
        return None
    return "there is no key: set ANTHROPIC_API_KEY (or ANTHROPIC_AUTH_TOKEN) in your environment"


@attrs.define
class Claude:
    """All conversations of a runtime: one client, one gate, one price list. An async context; the client is made when it is first
    needed, from the environment (`ANTHROPIC_API_KEY`, `ANTHROPIC_BASE_URL`, ...), with retries left to us.

    `model` and `stall_s`, how long a stream may be silent (seconds), are for specialists that name none.
    """

    gate: Gate = attrs.field(factory=Gate)
    model: str = ""  # empty: `default_model`, found out when it is needed, as the SDK takes a second to import
    stall_s: float = STALL_S
    client: AsyncAnthropic | None = None
    prefixes: Prefixes = attrs.field(factory=Prefixes)
    # What no prompt and no journal gets to see
    secret: tuple[str, ...] = attrs.field(factory=secrets.values, repr=False)
    chars_a_token: float = _CHARS_A_TOKEN
    output_tokens: float = 1000.0  # an answer's, on the mean: learned
    used: dict[str, dict[Resource, float]] = attrs.field(factory=dict)  # {model: what our calls took of each limit}
    _prices: Prices | None = None
    _own_client: bool = False

    async def __aenter__(self) -> Claude:
        self.gate.reopen()  # a run begins or goes on: what an earlier one was told of a quota may be over, or paid for
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.client is not None and self._own_client:
            with trio.CancelScope(shield=True):
                await self.client.close()

    def connect(self) -> AsyncAnthropic:
        """The client. Raises NoCredentials."""
        if self.client is None:
            from anthropic import AnthropicError, AsyncAnthropic, Timeout

            try:
                # No limit on the whole call: stalls are seen on the stream. Retries are ours: the SDK's do not wait long enough.
                client = AsyncAnthropic(max_retries=0, timeout=Timeout(None, connect=_CONNECT_S))
            except AnthropicError as error:
                raise NoCredentials(f"working with Claude: {error}") from None
            problem = _lacking(client)
            if problem is not None:
                raise NoCredentials(f"working with Claude: {problem}")
            self.client = client
            self._own_client = True
        return self.client

    @property
    def prices(self) -> Prices:
        """Loaded when first needed. Raises BadInput for a user's file that is not sound."""
        if self._prices is None:
            self._prices = load_prices()
        return self._prices

    def handler(self, specialist: Specialist) -> Handler:
        """The handler of a specialist's tasks that name no other way."""

        claude = self if specialist.stall_s is None else cast("Claude", _Patient(self, specialist.stall_s))

        async def work(brief: Brief, workspace: Workspace | None) -> Any:
            assert brief.conversation is not None, "a handler with `talks` is given a conversation"
            return await _Session(claude, specialist, brief, workspace, brief.conversation).run()

        work.on_trio = True  # type: ignore[attr-defined]  # for `runtime.aio`: it is written for the runtime's own loop
        work.talks = True  # type: ignore[attr-defined]  # for the engine: it wants a conversation
        return work

    def least_s(self) -> float:
        """The least time in which our own answers could have been had, whoever else calls through the gate. Seconds."""
        return self.gate.least_s(self.used)

    def learn(self, model: str, characters: int, usage: Usage) -> None:
        """Take in how many tokens a prompt came to, and an answer."""
        tokens = {"input_tokens": usage.limited_input_tokens, "output_tokens": usage.output_tokens}
        add_up(self.used.setdefault(model, {}), cast("dict[Resource, float]", tokens))
        if usage.prompt_tokens > 200:
            self.chars_a_token += 0.2 * (min(8.0, max(2.0, characters / usage.prompt_tokens)) - self.chars_a_token)
        self.output_tokens += 0.2 * (usage.output_tokens - self.output_tokens)


class _Patient:
    """A runtime's `Claude` as one specialist has it: with a `stall_s` of its own, all else is the one's that they share."""

    def __init__(self, claude: Claude, stall_s: float) -> None:
        self._claude, self.stall_s = claude, stall_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._claude, name)


class _AnswerBroke(Exception):
    """An answer that was begun and cannot be used; the turn may be asked again."""


@attrs.define
class _Session:
    """One attempt's conversation."""

    claude: Claude
    specialist: Specialist
    brief: Brief
    workspace: Workspace | None
    talk: Conversation
    messages: list[dict[str, Any]] = attrs.field(factory=list)
    turn: int = 0
    rounds: int = 0  # times that red checks went back
    nudged: bool = False
    cut_short: bool = False  # the last answer had a lower limit than it should, for the budget's sake
    malformed: int = 0  # answers in a row with malformed calls only
    desk: Desk | None = None
    tools: tuple[dict[str, Any], ...] = ()
    blocks: list[dict[str, Any]] = attrs.field(factory=list)
    prefixes: tuple[Prefix, ...] = ()
    turn_price: tuple[Price | None] | None = None  # looked up once
    characters: int = 0  # of the prompt, as JSON
    _calls: dict[str, Mapping[str, Any]] = attrs.field(factory=dict)  # of the last kept answer, by id
    ids: set[str] = attrs.field(factory=set)  # of all calls so far
    cached_characters: int = 0  # of the prompt's beginning that the service has in its cache by now
    counted_tokens: int = 0  # what the service counted that beginning as

    async def run(self) -> Any:
        """Talk until it is done; gives the task's value. Raises what `runtime.errors` has for models."""
        if self.workspace is not None:
            names = offered(self.specialist.tools)
            self.desk = Desk(self.brief, self.workspace, self.talk, names, secret=self.claude.secret)
            self.tools = definitions(names)
        self.blocks = self._clean(system(self.specialist, self.talk, self.workspace, self.claude.secret))
        self.prefixes = prefixes(self.model, self.tools, self.blocks)
        self.characters = _length(self.tools) + _length(self.blocks)
        content, stop = self._recall()
        while True:
            if content is None:
                if self.turn >= self.specialist.max_turns:
                    raise TooManyTurns(f"{self.turn} turns, and no end; the limit is the specialist's max_turns")
                self.turn += 1
                self.brief.progress(f"turn {self.turn}")
                content, stop = await self._ask()
            done, follow = await self._follow(content, stop)
            if done is not None:
                return done
            self._say("assistant", content)
            if follow:
                self.talk.told(self.turn, follow, self._state())
                self._say("user", follow)
            content = None

    def _say(self, role: str, content: list[dict[str, Any]]) -> None:
        if content:  # the service takes no message without content, not even its own
            self.messages.append({"role": role, "content": content})
            self.characters += _length(content) + _AROUND

    @property
    def model(self) -> str:
        if not self.specialist.model and not self.claude.model:
            self.claude.model = default_model()
        return self.specialist.model or self.claude.model

    def _recall(self) -> tuple[list[dict[str, Any]] | None, str]:
        """Be where the kept turns end: with an answer whose tools have not run, or ready to ask."""
        turns = self._kept()
        if not turns:
            self._say("user", self._clean(opening(self.brief, self.talk, self.claude.secret)))
            return None, ""
        assert isinstance(turns[0], Answered)
        self._say("user", list(turns[0].opening))
        for one in turns:
            self._relive(one)
        last = turns[-1]
        self.turn = last.turn
        if self.desk is not None and last.state is not None:
            self.desk.touched = len(last.state.changes)
        if isinstance(last, Answered):
            if last.content:  # `run` says it, when its tools have run
                self.messages.pop()
                self.characters -= _length(last.content) + _AROUND
            return list(last.content), last.stop
        return None, ""

    def _kept(self) -> list[Answered | Told]:
        """The kept turns, without answers that were cut short for the budget's sake: their turns were asked again, or will be."""
        kept: list[Answered | Told] = []
        for one in self.talk.turns:
            if kept and isinstance(kept[-1], Answered) and isinstance(one, Answered) and kept[-1].turn == one.turn:
                kept.pop()
            kept.append(one)
        last = kept[-1] if kept else None
        if isinstance(last, Answered) and last.stop == "max_tokens" and last.spent.output < self.specialist.max_tokens:
            kept.pop()
        return kept if kept and isinstance(kept[0], Answered) and kept[0].opening else []

    def _relive(self, one: Answered | Told) -> None:
        """Say a kept turn again, and be what it made of us."""
        self._say("assistant" if isinstance(one, Answered) else "user", list(one.content))
        if isinstance(one, Answered):
            self.ids |= {block["id"] for block in one.content if block.get("type") == "tool_use"}
            self._calls = {block["id"]: block for block in one.content if block.get("type") == "tool_use"}
            return
        for block in one.content:
            if block.get("type") == "tool_result":
                call = self._calls.get(block["tool_use_id"])
                if call is not None and self.desk is not None and not block.get("is_error"):
                    self.desk.recall(call["name"], call["input"], str(block["content"]))
            else:
                self.nudged = self.nudged or block.get("text") == _NUDGE
                self.rounds += str(block.get("text")).startswith(_RED)

    def _state(self) -> State:
        return self.workspace.state(self._may_tell) if self.workspace is not None else (None, {})

    def _may_tell(self, data: bytes) -> bool:
        """Whether a file may be written into the journal: one that has a key in it stays among the repository's own."""
        return not any(value.encode() in data for value in self.claude.secret)

    # --- what an answer leads to -------------------------------------------------------------------------------

    async def _follow(self, content: list[dict[str, Any]], stop: str) -> tuple[Any, list[dict[str, Any]]]:
        """(the task's value when it is done, else None; what the model is told next)."""
        if stop == "refusal":
            raise Refused(f"the model refused: {self.redacted(_text(content))[:500] or 'without a word'}")
        if stop in ("max_tokens", "model_context_window_exceeded"):
            if self.cut_short:
                raise BudgetSpent(
                    f"the budget left room for a short answer only, and turn {self.turn} needed a longer one"
                )
            raise Truncated(f"the answer ended at its limit ({stop}) in turn {self.turn}")
        if stop == "pause_turn":
            return None, []
        calls = [block for block in content if block.get("type") == "tool_use"]
        if calls:
            return None, await self._perform(calls)
        return await self._judge(content)

    async def _perform(self, calls: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        malformed = 0
        results = []
        for call in calls:
            result: dict[str, Any] = {"type": "tool_result", "tool_use_id": call["id"]}
            try:
                result["content"] = self.redacted(await self._call(call))
            except ToolError as error:
                malformed += isinstance(error, MalformedInput)
                result |= {"content": self.redacted(str(error)), "is_error": True}
            results.append(result)
        self.malformed = self.malformed + 1 if malformed == len(calls) else 0
        if self.malformed >= MALFORMED_ALLOWED:
            words = f"{self.malformed} answers in a row had malformed calls only, the last: {results[-1]['content']}"
            raise MalformedCall(words)
        return results

    async def _call(self, call: Mapping[str, Any]) -> str:
        if self.desk is None:
            raise MalformedInput("there are no tools here")
        return await self.desk.call(call["name"], call["input"])

    def _clean(self, blocks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Blocks of text without secrets, whatever files, goals and results have in them."""
        return [{**block, "text": self.redacted(block["text"])} for block in blocks]

    def redacted(self, text: str) -> str:
        """A text without secrets, whoever said it: the service, or a gateway before it, may say the key it was given."""
        return secrets.redacted(text, self.claude.secret)

    def sayable(self, value: Any) -> Any:
        """What a model said, as it can be kept and said again: without secrets, and without halves of characters, which JSON can carry
        and UTF-8 cannot. Thoughts, which are signed, stay as they are."""
        if isinstance(value, str):
            return self.redacted(_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", value))
        if isinstance(value, dict):
            if value.get("type") in ("thinking", "redacted_thinking"):
                return value
            return {self.sayable(name): self.sayable(one) for name, one in value.items()}
        return [self.sayable(one) for one in value] if isinstance(value, list) else value

    async def _judge(self, content: list[dict[str, Any]]) -> tuple[Any, list[dict[str, Any]]]:
        """Whether it is done, now that the model has ended its turn. Its word is no evidence."""
        said = self.redacted(_text(content))[:_SUMMARY_LIMIT]
        if self.desk is None or self.workspace is None:
            return {"text": _text(content)}, []
        changed = bool(self.workspace.changeset().changes)
        if not changed and self.desk.nothing:
            return {"nothing_to_do": self.desk.nothing}, []
        if not changed:
            if self.nudged:
                raise EmptyChange(f"the model ended its turn with nothing changed: {said or 'without a word'}")
            self.nudged = True
            return None, [{"type": "text", "text": _NUDGE}]
        red = await self._red()
        if red:
            self.rounds += 1
            if self.rounds > self.brief.task.fix_rounds:
                names = ", ".join(name for name, _ in red)
                raise ChecksRed(f"still red: {names}", {"red": dict(red)})
            words = "\n\n".join(text for _, text in red)
            return None, [{"type": "text", "text": f"{_RED}\n\n{words}"}]
        wishes = {"handed_over": self.desk.wishes} if self.desk.wishes else {}
        return {"summary": said, "turns": self.turn, **wishes}, []

    async def _red(self) -> list[tuple[str, str]]:
        commands = self.brief.task.check
        if not commands:
            return []
        assert self.workspace is not None
        self.brief.progress("runs its checks")
        found = await self.talk.check(self.workspace, commands)
        red = [one for one in found if not one.ok]
        said = [(one.command, told_of(one.command, one.ok, one.exit, one.output, self.claude.secret)) for one in red]
        return [(name, self.redacted(text)) for name, text in said]

    # --- asking for an answer ----------------------------------------------------------------------------------

    async def _ask(self) -> tuple[list[dict[str, Any]], str]:
        """One answer, journaled. Waits for the rate, for the budget and for whoever warms the cache; asks again what may pass."""
        tries = stalls = broken = 0
        while True:
            tries += 1
            ahead = await self.claude.prefixes.wait(self.prefixes)
            try:
                return await self._try(tries)
            except _Stall:
                stalls += 1
                if stalls > STALLS_ALLOWED:
                    raise Stalled(f"the stream was silent for {self.claude.stall_s:g} s, {stalls} times") from None
                self.brief.progress(f"turn {self.turn}: the stream was silent, asking again")
            except _AnswerBroke as error:
                broken += 1
                if broken >= MALFORMED_ALLOWED:
                    raise MalformedCall(f"{broken} answers could not be read, the last: {error}") from None
            except _Failed as error:
                await self._after(error.verdict, error.kind)
            finally:
                self.claude.prefixes.gave_up(ahead)  # without effect once it has begun

    async def _after(self, verdict: Verdict, kind: str) -> None:
        """Wait for what may pass, raise what will not. `kind` is the answer's status and its error's type."""
        words = f"{kind}: {verdict.message}" if kind and verdict.kind != "quota" else verdict.message
        if verdict.kind == "fatal":
            raise ServiceRefused(words)
        if verdict.kind == "quota":
            raise QuotaSpent(words, verdict.until_s)
        if verdict.final:
            raise ServiceUnavailable(words)
        if verdict.kind != "rate" and verdict.wait_s:
            self.brief.progress(f"turn {self.turn}: {words[:80]}; again in {verdict.wait_s:.0f} s")
            await trio.sleep(verdict.wait_s)

    async def _try(self, attempt: int) -> tuple[list[dict[str, Any]], str]:
        if self.turn_price is None:
            self.turn_price = (self._price(),)
        characters, (price,) = self.characters, self.turn_price
        reservation, limit = await self._reserve(characters, price)
        with reservation:
            warm = [one.characters for one in self.prefixes if self.claude.prefixes.is_warm(one)]
            cached = max(self.cached_characters, *warm, 0)
            fresh = max(1.0, (characters - cached) / self.claude.chars_a_token)
            async with self.claude.gate.call(
                input_tokens=fresh, output_tokens=self.claude.output_tokens, model=self.model
            ) as call:
                one = _Request(self, call, reservation, price, attempt, self._estimate(characters))
                await self.talk.reserve(one.at_most(limit)[0])
                content, stop, model, usage = await one.send(limit)
            spent = one.settle(usage)
        self._tell_apart(content)
        self.claude.learn(self.model, characters, usage)
        self.cached_characters = characters
        self.counted_tokens = usage.prompt_tokens
        try:
            state = self._state()
        except Exception as error:
            self.talk.charged(spent, f"the workspace it belongs to could not be kept: {error}")
            raise
        opening_content = self.messages[0]["content"] if self.turn == 1 else []
        await self.talk.answered(
            self.turn, content, stop=stop, model=model, spent=spent, state=state, opening=opening_content
        )
        return content, stop

    def _estimate(self, characters: int) -> int:
        """Tokens of a prompt, rather more than less: what was counted of it, and of the rest what the service's counts have taught."""
        fresh = (characters - self.cached_characters) / (_CAUTION * self.claude.chars_a_token)
        return self.counted_tokens + math.ceil(fresh) + _HIDDEN_TOKENS

    async def _reserve(self, characters: int, price: Price | None) -> tuple[Reservation, int]:
        """(the reservation, the most tokens the answer may have): near the budget's end a shorter answer is better than none. Raises
        BudgetSpent."""
        # A token is a byte at least. What the last answer counted need not be guessed at again.
        worst_input = self.counted_tokens + (characters - self.cached_characters) + _HIDDEN_TOKENS
        most = self.specialist.max_tokens
        limits = [most, *(limit for limit in _SHORTER if limit < most)]
        for limit in limits:
            worst = price.worst_usd(worst_input, limit, ttl="5m") if price is not None else Decimal(0)
            try:
                found = await self.talk.budget.reserve_when_free(self.brief.task.id, worst, worst_input + limit)
            except BudgetSpent as error:
                spent = error
                continue
            self.cut_short = limit < most
            return found, limit
        raise spent

    def _tell_apart(self, content: Sequence[dict[str, Any]]) -> None:
        """Give a call another id when an earlier one had it: the service takes no conversation in which an id is there twice."""
        for block in content:
            if block.get("type") == "tool_use":
                name, number = block["id"], 1
                while block["id"] in self.ids:
                    number += 1
                    block["id"] = f"{name}_{number}"
                self.ids.add(block["id"])

    def _price(self) -> Price | None:
        """Raises GiveUp when a budget of money is set and the model's price is not known, or the user's prices are not sound."""
        try:
            prices = self.claude.prices
            return prices.of(self.model) if self.talk.budget.limited else prices.get(self.model)
        except BadInput as error:
            raise GiveUp(str(error)) from None


class _Stall(Exception):
    """The stream went silent."""


class _Failed(Exception):
    """A call failed; the verdict says what that means."""

    def __init__(self, verdict: Verdict, kind: str = "") -> None:
        super().__init__(verdict.message)
        self.verdict = verdict
        self.kind = kind  # as "401 authentication_error"; empty for a connection that failed


@attrs.define
class _Request:
    """One request and its stream; whatever happens to it, its money is counted once."""

    session: _Session
    call: Call
    reservation: Reservation
    price: Price | None
    attempt: int
    prompt: int  # its tokens, and a quarter more where they are estimated
    usage: Usage = attrs.field(factory=Usage)
    received: int = 0  # characters of the answer so far
    begun: bool = False
    opened: bool = False  # the service has said that it answers
    ended: bool = False  # all of the answer is here, whatever becomes of the stream's last bytes

    def at_most(self, output: int) -> tuple[Spent, Decimal]:
        """What it can have cost with an answer of so many tokens: (as it is kept, US dollars)."""
        usd = self.price.worst_usd(self.prompt, output, ttl="5m") if self.price is not None else Decimal(0)
        return Spent(input=self.prompt, output=output, usd=float(usd)), usd

    async def send(self, max_tokens: int) -> tuple[list[dict[str, Any]], str, str, Usage]:
        """(content, stop reason, model, usage). Raises _Stall, _Failed, _AnswerBroke."""
        import anthropic
        import httpx2

        session = self.session
        # What varies between two calls is only the messages, and of them only the end: all before is read from the cache.
        asked: dict[str, Any] = {
            "model": session.model,
            "max_tokens": max_tokens,
            "system": session.blocks,
            "messages": session.messages,
            "tools": session.tools,
            "stream": True,
            "max_iterations": 1,
            "thread": False,  # each request has the whole history: the service keeps nothing that a resume would need
            "cache_control": {"type": "ephemeral"},
        }
        if session.specialist.effort:
            asked["output_config"] = {"effort": session.specialist.effort}
        try:
            client = session.claude.connect()
        except NoCredentials as error:
            raise Paused(str(error)) from None  # nothing is wrong with the task: with a key, `resume` goes on
        runner = client.beta.messages.tool_runner(**asked)
        try:
            message, headers = await self._read(runner)
        except _Stall:
            self._lost("the stream went silent")
            self.call.refused(judge(None, {}, "", "the stream went silent", attempt=self.attempt))
            raise
        except anthropic.APIStatusError as error:
            self._lost(f"the stream ended in an error: {error.message}", taken=self.opened)
            raise _Failed(*self._verdict(error)) from None
        except (anthropic.APIError, httpx2.TransportError, httpx2.StreamError) as error:
            words = session.redacted(f"{type(error).__name__}: {error}")
            never = isinstance(
                error.__cause__ or error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout
            )
            self._lost(words, taken=not never)
            raise _Failed(self.call.refused(judge(None, {}, "", words, attempt=self.attempt), **self._used())) from None
        except (ValueError, RuntimeError, TypeError, AttributeError, IndexError, KeyError, AssertionError) as error:
            # What the SDK raises for events that make no sense, tool input that is no JSON among them.
            if not self.begun:
                raise
            self._lost(f"the answer cannot be read: {error}")
            self.call.answered({}, **self._used())
            raise _AnswerBroke(session.redacted(str(error))[:500]) from None
        except trio.Cancelled:
            self._lost("it was cancelled")
            raise
        finally:
            with trio.CancelScope(shield=True):
                await runner.close()
        usage = Usage.from_sdk(message.usage)
        self.call.answered(headers, input_tokens=usage.limited_input_tokens, output_tokens=usage.output_tokens)
        content = [session.sayable(_block(block)) for block in message.content]
        content = [block for block in content if not _is_blank(block)]
        # One of a few words in each of thousands of answers, of which the history keeps them all.
        return content, sys.intern(message.stop_reason or ""), sys.intern(message.model), usage

    async def _read(self, runner: Any) -> tuple[Any, Mapping[str, str]]:
        import anthropic
        import httpx2

        stall_s = self.session.claude.stall_s
        with trio.move_on_after(stall_s) as silence:
            stream = await anext(runner)
            self.opened = True
            headers = stream.response.headers
            self.call.began(headers)

            now_s = trio.lowlevel.current_clock().current_time  # for every few bytes: as short a way as there is

            def heard() -> None:
                deadline = now_s() + stall_s
                if deadline - silence.deadline > _NOTICED_S:  # moving it each time would cost more than reading them
                    silence.deadline = deadline

            stream.response.stream = _watched()(stream.response.stream, heard)  # the SDK keeps pings to itself
            try:
                async for event in stream:
                    self._take(event)
            except (anthropic.APIError, httpx2.TransportError, httpx2.StreamError):
                if not self.ended:
                    raise
            message = stream.current_message_snapshot if self.begun else None
            if message is None or message.stop_reason is None:
                raise _cut_off()
            return message, headers
        if self.ended:
            return stream.current_message_snapshot, headers
        raise _Stall

    def _take(self, event: Any) -> None:
        kind = event.type
        if kind == "content_block_delta":
            self.received += _written(event.delta)
        elif kind == "content_block_start":
            self.received += _AROUND  # a call's name and id are written too
        elif kind == "message_start":
            self.begun = True
            self.usage = Usage.from_sdk(event.message.usage)
            self.call.began({}, input_tokens=self.usage.limited_input_tokens)
            self.session.claude.prefixes.began(self.session.prefixes)
        elif kind == "message_delta":
            self.ended = event.delta.stop_reason is not None
            self.usage = _with_output(self.usage, max(self.usage.output_tokens, event.usage.output_tokens))

    def _verdict(self, error: Any) -> tuple[Verdict, str]:
        """What an error of the service means, and how it is called."""
        inner = _table(_table(error.body).get("error"))
        details = _table(inner.get("details"))
        status = error.status_code if not self.begun else None
        kind = str(inner.get("type") or "")
        verdict = judge(
            status,
            error.response.headers,
            kind,
            self.session.redacted(str(inner.get("message") or error.message or "")),
            attempt=self.attempt,
            error_code=str(details.get("error_code") or ""),
        )
        return self.call.refused(verdict, **self._used()), self.session.redacted(f"{status or ''} {kind}".strip())

    def _used(self) -> dict[str, int]:
        return {"input_tokens": self.usage.limited_input_tokens, "output_tokens": self._output()} if self.begun else {}

    def _output(self) -> int:
        return max(self.usage.output_tokens, math.ceil(self.received / 2))

    def settle(self, usage: Usage) -> Spent:
        """Count what it cost."""
        usd = self.price.cost_usd(usage) if self.price is not None else Decimal(0)
        saved = self.price.saved_usd(usage) if self.price is not None else Decimal(0)
        self.reservation.settle(usd, usage.tokens)
        written = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
        return Spent(
            usage.input_tokens, written, usage.cache_read_tokens, usage.output_tokens, float(usd), float(saved)
        )

    def _lost(self, why: str, *, taken: bool = True) -> None:
        """Count what a broken answer cost: all of the prompt, and what came of the answer. Of one that broke off before it began the
        prompt may have been read: it is counted at its most, unless the service refused the request or never took it."""
        session = self.session
        if not self.reservation.open:
            return
        if self.begun:
            session.talk.charged(self.settle(_with_output(self.usage, self._output())), session.redacted(why))
        elif taken:
            spent, usd = self.at_most(0)
            self.reservation.settle(usd, spent.tokens)
            session.talk.charged(spent, f"{session.redacted(why)}; before it began, so counted at most")
        else:
            session.talk.refused()


def _with_output(usage: Usage, output_tokens: int) -> Usage:
    """The usage with another number of output tokens."""
    return msgspec.structs.replace(usage, output_tokens=output_tokens)


def _cut_off() -> Exception:
    import httpx2

    return httpx2.RemoteProtocolError("the stream ended before the answer did")


def _written(delta: Any) -> int:
    """Characters of a piece of an answer."""
    kind = delta.type
    if kind == "input_json_delta":
        return len(delta.partial_json)
    if kind == "text_delta":
        return len(delta.text)
    return len(delta.thinking) if kind == "thinking_delta" else 0


@cache
def _watched() -> Any:
    """The class of an answer's body that tells whenever some of it comes; made late, since it needs the SDK's HTTP library."""
    import httpx2

    class Watched(httpx2.AsyncByteStream):
        def __init__(self, stream: Any, heard: Callable[[], None]) -> None:
            self._stream, self._heard = stream, heard
            self._parts = aiter(stream)

        def __aiter__(self) -> AsyncIterator[bytes]:
            return self

        async def __anext__(self) -> bytes:
            part: bytes = await anext(self._parts)
            self._heard()
            return part

        async def aclose(self) -> None:
            await self._stream.aclose()

    return Watched


def _is_blank(block: Mapping[str, Any]) -> bool:
    """A text that the service gives and would not take back."""
    return block.get("type") == "text" and not str(block.get("text", "")).strip()


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _block(block: Any) -> dict[str, Any]:
    """A block of an answer as it is sent back and kept."""
    found: dict[str, Any] = block.to_dict()
    found.pop("parsed_output", None)
    return {name: value for name, value in found.items() if value is not None}


def _text(content: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(str(block.get("text", "")) for block in content if block.get("type") == "text").strip()


def _length(value: Any) -> int:
    return len(msgspec.json.encode(value))
