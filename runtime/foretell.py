"""What a plan will cost, before anything is spent: rough, and said to be.

Knows plans, sizes of files and prices. A conversation is taken to have `TURNS` turns; each reads what the ones before it read from
the cache; the files are read once, and half as much again is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from specialists.claude import default_model
from specialists.prompt import INSTRUCTIONS, INSTRUCTIONS_LIMIT, RULES

from . import claims
from .budget import Usage
from .core.task import Plan, Specialist, Task
from .execution import for_claude
from .git import Repository
from .prices import load_prices

TURNS: Final = 6
_CHARS_A_TOKEN: Final = 4
_SAID_A_TURN: Final = 250  # tokens an answer has besides what it writes
_TOOLS: Final = 1_200  # tokens of the tools' definitions
_SPREAD: Final = 3.0  # what a task really takes is within this factor, both ways, for most of them


@attrs.frozen
class Cost:
    """`usd` US dollars for `tasks` tasks; `tokens` all of them, `unpriced` the models whose price is not known."""

    usd: float
    tokens: int
    tasks: int
    unpriced: tuple[str, ...] = ()

    def __str__(self) -> str:
        unknown = f"; without {', '.join(self.unpriced)}, whose price is not known" if self.unpriced else ""
        one = "task" if self.tasks == 1 else "tasks"
        return (
            f"{self.tasks} {one} for Claude, about {self.usd:.2f} USD ({self.usd / _SPREAD:.2f} to {self.usd * _SPREAD:.2f}), "
            f"{self.tokens:,} tokens{unknown}"
        )


def cost(
    plan: Plan, specialists: Sequence[Specialist], repository: Repository, budget_usd: float | None = None
) -> Cost | None:
    """What the tasks for Claude will cost; None when there are none. Raises BadInput for a price file that is not sound, and where
    there is a budget of money (`budget_usd`, or in the plan) for a model whose price is not known."""
    tasks = for_claude(plan, specialists)
    if not tasks:
        return None
    prices = load_prices()
    named = {one.name: one for one in specialists}
    files = repository.files(repository.tree_of(repository.resolve(plan.base)))
    shared = len(RULES) + len(plan.contracts)
    shared += sum(
        min(repository.blob_size(files[name][1]), INSTRUCTIONS_LIMIT) for name in INSTRUCTIONS if name in files
    )
    # (model, specialist) whose prompt is in the cache; "" for what all specialists share
    warm: set[tuple[str, str]] = set()
    usd, tokens, unpriced = 0.0, 0, []
    for task in tasks:
        one = named[task.specialist]
        model = one.model or default_model()
        common = shared // _CHARS_A_TOKEN + _TOOLS
        prefix = common + len(one.prompt) // _CHARS_A_TOKEN
        cached = prefix if (model, one.name) in warm else common if (model, "") in warm else 0
        sizes = [repository.blob_size(files[path][1]) for path in claims.expand(task.writes, files) if path in files]
        limited = any(one is not None for one in (budget_usd, plan.budget_usd, task.budget_usd))
        price = prices.of(model) if limited else prices.get(model)
        if price is None:
            unpriced.append(model)
        for usage in _turns(prefix, sum(sizes) // _CHARS_A_TOKEN + _length(task), cached):
            tokens += usage.tokens
            usd += float(price.cost_usd(usage)) if price is not None else 0.0
        warm |= {(model, one.name), (model, "")}
    return Cost(usd, tokens, len(tasks), tuple(dict.fromkeys(unpriced)))


def _length(task: Task) -> int:
    return len(task.goal) // _CHARS_A_TOKEN + 200


def _turns(prefix: int, own: int, cached: int) -> Iterator[Usage]:
    """The calls of one conversation, one by one: a long prompt has a price of its own, which a sum would not tell. `cached` tokens of
    the prefix are in the cache before."""
    written = (own // 2 + TURNS * _SAID_A_TURN) // TURNS
    seen = 0  # tokens behind the prefix that earlier turns have put into the cache
    for turn in range(TURNS):
        more = (own if turn == 1 else 0) + written
        there = cached if turn == 0 else prefix
        yield Usage(0, more + prefix - there, 0, seen + there, written)
        seen += more
