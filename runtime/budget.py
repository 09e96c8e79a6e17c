"""Money and tokens: reserved before a call, settled after it, so that their sum never passes the budget.

Knows no prices, no models and no clock. Amounts of money are Decimal: sums of floats drift, and a budget that is passed by a
rounding error is passed. The order of calls does not matter: what is settled plus what is reserved is checked at each
reservation, in one synchronous step, and a settlement is never more than its reservation unless the caller reserved too little.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

import attrs
import msgspec
import trio

from .errors import BudgetSpent

__all__ = ["Allowance", "Balance", "Budget", "Reservation", "Usage"]

Money = Decimal | float | int
_ZERO: Final = Decimal(0)


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens of one call, or of several added up. What came from the cache is not in `input_tokens`."""

    input_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, name) + getattr(other, name) for name in self.__struct_fields__))

    @property
    def prompt_tokens(self) -> int:
        """All that was read: new, written to the cache, and read from it."""
        return self.limited_input_tokens + self.cache_read_tokens

    @property
    def limited_input_tokens(self) -> int:
        """What counts against the input tokens a minute: all but what was read from the cache."""
        return self.input_tokens + self.cache_write_5m_tokens + self.cache_write_1h_tokens

    @property
    def tokens(self) -> int:
        """All tokens; what a budget of tokens counts."""
        return self.prompt_tokens + self.output_tokens

    @classmethod
    def from_sdk(cls, usage: Any) -> Usage:
        """The usage of an SDK's `Message` or `BetaMessage`, or of a streamed event, whose absent fields count as 0.

        Cache writes without a breakdown are 5-minute ones, the server's default. Compactions on the server are billed but not
        in the top-level numbers, so they are added.
        """
        got = cls._of(usage)
        for one in getattr(usage, "iterations", None) or ():
            if getattr(one, "type", "") == "compaction":
                got += cls._of(one)
        return got

    @classmethod
    def _of(cls, usage: Any) -> Usage:
        written = getattr(usage, "cache_creation_input_tokens", None) or 0
        parts = getattr(usage, "cache_creation", None)
        hour = (getattr(parts, "ephemeral_1h_input_tokens", None) or 0) if parts is not None else 0
        five = (getattr(parts, "ephemeral_5m_input_tokens", None) or 0) if parts is not None else 0
        return cls(
            input_tokens=getattr(usage, "input_tokens", None) or 0,
            cache_write_5m_tokens=max(five, written - hour),
            cache_write_1h_tokens=hour,
            cache_read_tokens=getattr(usage, "cache_read_input_tokens", None) or 0,
            output_tokens=getattr(usage, "output_tokens", None) or 0,
        )


def _money(usd: Money) -> Decimal:
    """As a person wrote it: 0.1 is a tenth, not the binary fraction beside it."""
    amount = usd if isinstance(usd, Decimal) else Decimal(repr(usd))
    if not amount.is_finite() or amount < 0:
        raise ValueError(f"{usd} is not an amount of US dollars from 0 up")
    return amount


def _count(tokens: int) -> int:
    if not math.isfinite(tokens) or tokens < 0:
        raise ValueError(f"{tokens} is not a number of tokens from 0 up")
    return math.ceil(tokens)


@attrs.frozen
class Allowance:
    """The most that may be spent; None is no limit. `usd` is US dollars."""

    usd: Decimal | None = attrs.field(default=None, converter=attrs.converters.optional(_money))
    tokens: int | None = attrs.field(default=None, converter=attrs.converters.optional(_count))


class Balance(msgspec.Struct, frozen=True, gc=False):
    """What is settled, and what is reserved by calls that have not come back. `usd` is US dollars."""

    usd: Decimal = _ZERO
    tokens: int = 0
    reserved_usd: Decimal = _ZERO
    reserved_tokens: int = 0


class Reservation:
    """A part of the budget held for one call. Settle it with what the call cost, or release it when nothing was bought.

    The first of the two counts, a second one raises RuntimeError. As a context manager it releases what was not settled; a
    call that broke off after the server had begun to work should rather be settled with what it may have cost.
    """

    __slots__ = ("_budget", "open", "task", "tokens", "usd")

    def __init__(self, budget: Budget, task: str, usd: Decimal, tokens: int) -> None:
        self._budget = budget
        self.task = task
        self.usd = usd
        self.tokens = tokens
        self.open = True

    def settle(self, usd: Money, tokens: int) -> None:
        """The call cost `usd` US dollars and `tokens` tokens; what was reserved too much comes back.

        More than was reserved is taken as it is, since it is spent: the next reservation is refused the sooner.
        """
        self._budget._settle(self, _money(usd), _count(tokens))

    def release(self) -> None:
        """Nothing was bought."""
        self._budget._settle(self, _ZERO, 0)

    def __enter__(self) -> Reservation:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.open:
            self.release()


class Budget:
    """The budget of a run, with a part of it for each task: `usd` US dollars and `tokens` tokens; None is no limit.

    `task_usd` and `task_tokens` hold for every task, `per_task` for the tasks it names instead. For one trio thread.
    """

    def __init__(
        self,
        usd: Money | None = None,
        tokens: int | None = None,
        *,
        task_usd: Money | None = None,
        task_tokens: int | None = None,
        per_task: Mapping[str, Allowance] | None = None,
    ) -> None:
        self.run = Allowance(usd, tokens)
        self._each = Allowance(task_usd, task_tokens)
        self._own = dict(per_task or {})  # {task id: what it may spend}; absent = _each
        self._total = Balance()
        self._by_task: dict[str, Balance] = {}  # absent = nothing spent or reserved yet
        self._line = trio.StrictFIFOLock()
        self._changed: trio.Event | None = None  # of the first in line; None: nobody waits

    def limit(self, usd: Money | None, tokens: int | None) -> None:
        """Take another budget for the run; what is spent and reserved stays counted."""
        self.run = Allowance(usd, tokens)
        self._tell()

    def allow(self, task: str, usd: Money | None, tokens: int | None) -> None:
        """Give one task a part of its own; with neither it has none."""
        if usd is not None or tokens is not None:
            self._own[task] = Allowance(usd, tokens)
        elif self._own:
            self._own.pop(task, None)
        self._tell()

    def binds(self, task: str) -> bool:
        """Whether there is any limit for a task's calls."""
        allowances = (self.run, self._own.get(task, self._each))
        return any(one.usd is not None or one.tokens is not None for one in allowances)

    @property
    def limited(self) -> bool:
        """Whether there is any limit of money, so that prices must be known."""
        allowances = (self.run, self._each, *self._own.values())
        return any(one.usd is not None for one in allowances)

    @property
    def spent(self) -> Balance:
        """What the whole run has spent and reserved."""
        return self._total

    @property
    def spent_by_task(self) -> Mapping[str, Balance]:
        """The same for each task that ever reserved anything."""
        return MappingProxyType(self._by_task)

    def reserve(self, task: str, usd: Money, tokens: int) -> Reservation:
        """Hold the most a call can cost. Raises BudgetSpent, and holds nothing, when that could pass the run's or task's budget."""
        asked = Balance(reserved_usd=_money(usd), reserved_tokens=_count(tokens))
        own = self._by_task.get(task, Balance())
        _check("", self.run, self._total, asked)
        _check(task, self._own.get(task, self._each), own, asked)
        self._add(task, asked)
        return Reservation(self, task, asked.reserved_usd, asked.reserved_tokens)

    async def reserve_when_free(self, task: str, usd: Money, tokens: int) -> Reservation:
        """As `reserve`, but while it would fit if what others have reserved came back, wait for that; first come, first served.

        Reservations are worst cases, several times what calls cost in the end: without the wait, many calls at once would end
        a run with most of its budget unspent. Whoever holds a reservation must not wait for another.
        """
        if not self._line.locked():
            try:
                return self.reserve(task, usd, tokens)
            except BudgetSpent as error:
                if not error.waits:
                    raise
        async with self._line:
            while True:
                try:
                    return self.reserve(task, usd, tokens)
                except BudgetSpent as error:
                    if not error.waits:
                        raise
                self._changed = changed = trio.Event()
                await changed.wait()

    def restore(self, task: str, usd: Money, tokens: int) -> None:
        """Count what an earlier process of the same run spent; never refused, since it is spent."""
        self._add(task, Balance(usd=_money(usd), tokens=_count(tokens)))

    def _settle(self, reservation: Reservation, usd: Decimal, tokens: int) -> None:
        if not reservation.open:
            raise RuntimeError(f"the reservation of task {reservation.task!r} was settled or released before")
        reservation.open = False
        self._add(reservation.task, Balance(usd, tokens, -reservation.usd, -reservation.tokens))
        self._tell()

    def _tell(self) -> None:
        """Something changed: the first who waits looks again."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def _add(self, task: str, more: Balance) -> None:
        self._total = _sum(self._total, more)
        self._by_task[task] = _sum(self._by_task.get(task, Balance()), more)


def _sum(one: Balance, other: Balance) -> Balance:
    return Balance(
        one.usd + other.usd,
        one.tokens + other.tokens,
        # Nothing reserved is one object, not one for each task that ever ran
        one.reserved_usd + other.reserved_usd or _ZERO,
        one.reserved_tokens + other.reserved_tokens,
    )


def _check(task: str, allowance: Allowance, now: Balance, asked: Balance) -> None:
    whose = f"task {task!r}" if task else "the run"
    for unit, budget, spent, reserved, more in (
        ("usd", allowance.usd, now.usd, now.reserved_usd, asked.reserved_usd),
        ("tokens", allowance.tokens, now.tokens, now.reserved_tokens, asked.reserved_tokens),
    ):
        if budget is None or spent + reserved + more <= budget:
            continue
        budget_words, spent_words, reserved_words, more_words = (
            f"${amount:.4f}" if unit == "usd" else f"{amount} tokens" for amount in (budget, spent, reserved, more)
        )
        raise BudgetSpent(
            f"the budget of {whose} is {budget_words}: {spent_words} spent and {reserved_words} reserved by calls under way, and "
            f"the next call could take {more_words}; resume with a larger one to go on: "
            + (f"--edit '{task}.budget_{unit}=MORE'" if task else f"--budget-{unit} MORE"),
            task=task,
            unit=unit,
            budget=budget,
            spent=spent,
            reserved=reserved,
            asked=more,
        )
