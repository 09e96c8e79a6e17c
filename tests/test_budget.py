"""Money and tokens: the sum never passes the budget."""

from __future__ import annotations

from decimal import Decimal

import anthropic.types
import anthropic.types.beta
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runtime.budget import Allowance, Budget, Reservation, Usage
from runtime.errors import BudgetSpent, Paused

TASKS = ("a", "b", "c")
cents = st.integers(0, 400).map(lambda count: count / 100)  # floats that are no binary fractions
counts = st.integers(0, 400)


class Interleavings(RuleBasedStateMachine):
    """Calls of three tasks reserve, settle and release in any order, against a ledger kept by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = Budget(10, 1000, task_usd=6, task_tokens=900, per_task={"c": Allowance(1, 100)})
        self.open: list[Reservation] = []
        self.refusals: list[tuple[BudgetSpent, str]] = []
        self.bought = {task: (Decimal(0), 0) for task in TASKS}

    @rule(task=st.sampled_from(TASKS), usd=cents, tokens=counts)
    def reserve(self, task: str, usd: float, tokens: int) -> None:
        before = (self.budget.spent, dict(self.budget.spent_by_task))
        try:
            self.open.append(self.budget.reserve(task, usd, tokens))
        except BudgetSpent as error:
            self.refusals.append((error, task))
            assert (self.budget.spent, dict(self.budget.spent_by_task)) == before

    @precondition(lambda self: self.open)
    @rule(data=st.data(), share=st.integers(0, 100))
    def settle(self, data: st.DataObject, share: int) -> None:
        held = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        usd, tokens = held.usd * share / 100, held.tokens * share // 100
        held.settle(usd, tokens)
        self.bought[held.task] = (self.bought[held.task][0] + usd, self.bought[held.task][1] + tokens)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.open.pop(data.draw(st.integers(0, len(self.open) - 1))).release()

    @invariant()
    def refused_for_a_reason(self) -> None:
        for error, task in self.refusals:
            assert error.spent + error.reserved + error.asked > error.budget
            assert error.task in ("", task)
            assert error.hold == bool(error.task)
        self.refusals.clear()

    @invariant()
    def never_passed(self) -> None:
        whole = self.budget.spent
        assert whole.usd + whole.reserved_usd <= 10
        assert whole.tokens + whole.reserved_tokens <= 1000
        for task, most_usd, most_tokens in (("a", 6, 900), ("b", 6, 900), ("c", 1, 100)):
            if task in self.budget.spent_by_task:
                own = self.budget.spent_by_task[task]
                assert own.usd + own.reserved_usd <= most_usd
                assert own.tokens + own.reserved_tokens <= most_tokens
                assert (own.usd, own.tokens) == self.bought[task]
                assert own.reserved_usd == sum(one.usd for one in self.open if one.task == task)
        assert whole.usd == sum(usd for usd, _ in self.bought.values())
        assert whole.reserved_tokens == sum(one.tokens for one in self.open)


Interleavings.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestTheSumNeverPassesTheBudget = Interleavings.TestCase


@given(st.lists(cents, max_size=60))
def test_sums_are_exact(amounts: list[float]) -> None:
    """A thousand cents are ten dollars, to the last digit."""
    budget = Budget()
    for amount in amounts:
        budget.reserve("a", amount, 0).settle(amount, 0)
    assert budget.spent.usd * 100 == sum(round(amount * 100) for amount in amounts)


def test_a_budget_can_be_used_to_the_last_cent() -> None:
    """Ten times ten cents fit in a dollar; one more token or cent does not."""
    budget = Budget(1.0, 100)
    for _ in range(10):
        budget.reserve("a", 0.1, 10).settle(0.1, 10)
    with pytest.raises(BudgetSpent, match=r"the budget of the run is \$1.0000: \$1.0000 spent"):
        budget.reserve("a", 0.0001, 0)
    with pytest.raises(BudgetSpent, match="100 tokens spent"):
        budget.reserve("a", 0, 1)
    assert issubclass(BudgetSpent, Paused)
    assert BudgetSpent.exit_code == 5


def test_a_task_has_its_own_budget() -> None:
    """A task that has used its own up holds only itself; a task that is named may have more than the others."""
    budget = Budget(task_usd=1, per_task={"big": Allowance(5)})
    budget.reserve("big", 5, 0)
    budget.reserve("small", 1, 0)
    with pytest.raises(BudgetSpent, match="the budget of task 'small'") as caught:
        budget.reserve("small", 0.01, 0)
    assert (caught.value.hold, caught.value.task, caught.value.unit) == (True, "small", "usd")
    budget.reserve("other", 1, 0)


def test_what_an_earlier_process_spent_counts() -> None:
    """A resumed run goes on from what it had spent, even when that is more than its budget."""
    budget = Budget(1)
    budget.restore("a", 0.75, 1000)
    budget.reserve("a", 0.25, 0).release()
    budget.restore("b", 0.5, 0)
    with pytest.raises(BudgetSpent):
        budget.reserve("a", 0, 0)
    assert (budget.spent.usd, budget.spent_by_task["a"].tokens) == (Decimal("1.25"), 1000)


def test_a_reservation_ends_once() -> None:
    """Settled twice would count twice: it is an error, and left open it comes back whole."""
    budget = Budget(1)
    held = budget.reserve("a", 1, 0)
    held.settle(0.5, 10)
    with pytest.raises(RuntimeError, match="before"):
        held.release()
    with budget.reserve("a", 0.5, 0):
        pass
    assert (budget.spent.usd, budget.spent.reserved_usd) == (Decimal("0.5"), 0)


def test_more_than_was_reserved_is_not_hidden() -> None:
    """What a call cost beyond its reservation is spent all the same, and stops the next."""
    budget = Budget(1)
    budget.reserve("a", 0.5, 0).settle(1.5, 0)
    assert budget.spent.usd == Decimal("1.5")
    with pytest.raises(BudgetSpent):
        budget.reserve("a", 0, 0)


@pytest.mark.parametrize("amount", [-0.01, float("nan"), float("inf")])
def test_amounts_are_amounts(amount: float) -> None:
    """No negative or endless amount of money is taken, as budget, reservation or settlement."""
    with pytest.raises(ValueError, match="US dollars"):
        Budget(amount)
    with pytest.raises(ValueError, match="US dollars"):
        Budget().reserve("a", amount, 0)


async def test_waiting_for_what_others_hold(autojump_clock: trio.testing.MockClock) -> None:
    """Worst cases held by others do not end a run: calls wait, and twenty of 10 cents are made with a dollar that holds two at once."""
    budget = Budget(1.0)
    most = 0

    async def one() -> None:
        nonlocal most
        held = await budget.reserve_when_free("a", 0.4, 0)
        most = max(most, round(budget.spent.reserved_usd / Decimal("0.4")))
        await trio.sleep(1)
        held.settle(0.02, 0)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(one)
    assert (budget.spent.usd, most) == (Decimal("0.40"), 2)


async def test_waiting_ends_when_it_is_of_no_use(autojump_clock: trio.testing.MockClock) -> None:
    """A call that what is spent leaves no room for is refused at once; one that waits is refused when it comes to that."""
    budget = Budget(1.0)
    held = budget.reserve("a", 0.8, 0)
    with pytest.raises(BudgetSpent):
        await budget.reserve_when_free("a", 1.01, 0)

    async def settle() -> None:
        await trio.sleep(5)
        held.settle(0.7, 0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(settle)
        with pytest.raises(BudgetSpent):
            await budget.reserve_when_free("a", 0.5, 0)
    assert trio.current_time() == 5


async def test_a_larger_budget_is_seen_by_those_who_wait(autojump_clock: trio.testing.MockClock) -> None:
    """A budget that is raised for the run, or for the task, lets a waiting call go on at once."""
    budget = Budget(1.0)
    budget.allow("a", 0.9, None)
    held = budget.reserve("a", 0.9, 0)

    async def raise_them() -> None:
        await trio.sleep(1)
        budget.limit(5, None)
        await trio.sleep(1)
        budget.allow("a", 5, None)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(raise_them)
        (await budget.reserve_when_free("a", 0.5, 0)).release()
    assert trio.current_time() == 2
    held.release()
    assert budget.spent.reserved_usd == 0


# ---- usage


def test_usage_from_the_sdk() -> None:
    """Cache writes are told apart by lifetime; a write without a breakdown is a 5-minute one; absent fields are 0."""
    plain = anthropic.types.Usage(input_tokens=3, output_tokens=5)
    assert Usage.from_sdk(plain) == Usage(input_tokens=3, output_tokens=5)
    cached = anthropic.types.Usage(
        input_tokens=3, output_tokens=5, cache_creation_input_tokens=100, cache_read_input_tokens=1000
    )
    assert Usage.from_sdk(cached) == Usage(3, 100, 0, 1000, 5)
    parted = cached.model_copy(
        update={
            "cache_creation": anthropic.types.CacheCreation(ephemeral_1h_input_tokens=60, ephemeral_5m_input_tokens=40)
        }
    )
    usage = Usage.from_sdk(parted)
    assert usage == Usage(3, 40, 60, 1000, 5)
    assert (usage.prompt_tokens, usage.limited_input_tokens, usage.tokens) == (1103, 103, 1108)
    assert usage + Usage(output_tokens=1) == Usage(3, 40, 60, 1000, 6)
    delta = anthropic.types.MessageDeltaUsage(output_tokens=7)
    assert Usage.from_sdk(delta) == Usage(output_tokens=7)


def test_a_compaction_on_the_server_is_counted() -> None:
    """Its tokens are billed but are not in the top-level numbers of the answer."""
    usage = anthropic.types.beta.BetaUsage.model_validate(
        {
            "input_tokens": 10,
            "output_tokens": 20,
            "iterations": [
                {"type": "compaction", "input_tokens": 1000, "output_tokens": 50, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 500},
                {"type": "message", "input_tokens": 10, "output_tokens": 20, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0},
            ],
        }
    )  # fmt: skip
    assert Usage.from_sdk(usage) == Usage(1010, 0, 0, 500, 70)
