"""Prices: the shipped file, a user's own over it, and arithmetic."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import get_args

import pytest
from anthropic.types import model_param
from hypothesis import given
from hypothesis import strategies as st

import runtime.prices
from runtime.budget import Usage
from runtime.errors import BadInput
from runtime.prices import load_prices, price_of

WITHOUT_PRICE = {"claude-mythos-5-2"}  # no source was found; prices.toml says so


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user's own prices would be."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    path = tmp_path / "config" / "journeyman" / "prices.toml"
    path.parent.mkdir(parents=True)
    return path


def test_the_models_that_the_sdk_names_have_a_price() -> None:
    """Whatever the installed SDK suggests can be run under a budget, but for those whose price nobody has published."""
    known = load_prices()
    names = get_args(get_args(model_param.ModelParam)[0])
    assert len(names) > 10
    assert {name for name in names if known.get(name) is None} == WITHOUT_PRICE


def test_each_shipped_price_has_a_date_and_a_source() -> None:
    """The file is dated, and every model says where its price comes from."""
    known = load_prices()
    assert known.as_of.year >= 2026
    assert all("http" in price.source or "[page]" in price.source for price in known.models.values())


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("claude-opus-4-5-20251101", "claude-opus-4-5"),
        ("claude-opus-4-8[1m]", "claude-opus-4-8"),
        ("claude-haiku-4-5@20251001", "claude-haiku-4-5"),
        ("claude-opus-5", "claude-opus-5"),
        ("claude-opus-5-5", "claude-opus-5-5"),
        ("claude-opus-5-6", None),
        ("claude-opus-55", None),
        ("claude-sonnet-4", None),
        ("claude-sonnet-5-5-turbo", None),
        ("", None),
    ],
)
def test_a_name_stands_for_its_dated_forms_only(model: str, found: str | None) -> None:
    """The longest name wins, and another version is another model: it is never priced as its neighbour."""
    price = load_prices().get(model)
    assert (price.model if price else None) == found


def test_a_call_costs_what_the_page_says() -> None:
    """Each kind of token at its own rate: the products on the pricing page."""
    million = 1_000_000
    opus = price_of("claude-opus-5-5")
    costs = [opus.cost_usd(Usage(*(million if place == kind else 0 for place in range(5)))) for kind in range(5)]
    assert costs == [4, 5, 8, Decimal("0.20"), 20]
    fable = price_of("claude-fable-5-2")
    assert fable.cost_usd(Usage(cache_read_tokens=million)) == Decimal("0.20")
    assert fable.saved_usd(Usage(cache_read_tokens=million)) == Decimal("7.80")
    bill = opus.bill(Usage(1000, 2000, 3000, 4000, 500))
    assert (bill.input, bill.cache_write, bill.cache_read, bill.output) == (1000, 5000, 4000, 500)
    assert (bill.usd, bill.saved_usd) == (0.004 + 0.010 + 0.024 + 0.0008 + 0.010, 0.0152)


def test_a_long_prompt_has_its_own_price() -> None:
    """Above the threshold every token of the call costs more, the answer's too; cache reads count towards the length."""
    haiku = price_of("claude-haiku-5-5")
    assert haiku.cost_usd(Usage(100_000, 0, 0, 0, 1_000_000)) == Decimal("0.51")
    assert haiku.cost_usd(Usage(100_000, 0, 0, 1, 1_000_000)) == Decimal("2.55") + Decimal("0.00000005")
    assert haiku.worst_usd(100_001, 0) == 100_001 * Decimal("0.0000010")


@given(
    st.sampled_from(sorted(runtime.prices.load_prices(Path(runtime.prices.__file__).with_name("prices.toml")).models)),
    st.lists(st.integers(0, 200_000), min_size=5, max_size=5),
    st.integers(0, 1000),
)
def test_the_worst_case_is_never_passed(model: str, parts: list[int], spare: int) -> None:
    """Whatever of a prompt is new, written to the cache or read from it: no call costs more than was reserved."""
    price = load_prices(Path(runtime.prices.__file__).with_name("prices.toml")).models[model]
    usage = Usage(*parts)
    assert price.cost_usd(usage) <= price.worst_usd(usage.prompt_tokens + spare, usage.output_tokens)
    assert price.saved_usd(usage) >= 0


def test_an_unknown_model_says_how_to_add_it(own: Path) -> None:
    """The error names the model, the file and the fields; with them in that file the model has a price."""
    with pytest.raises(BadInput) as caught:
        price_of("house-model-1")
    (problem,) = caught.value.problems
    assert str(own) in problem
    fields = ("input_usd", "output_usd", "cache_write_5m_x", "cache_write_1h_x", "cache_read_x")
    assert all(field in problem for field in ('[models."house-model-1"]', *fields))
    own.write_text('[models."house-model-1"]\n' + "".join(f"{field} = 2\n" for field in fields))
    assert price_of("house-model-1").cost_usd(Usage(output_tokens=1_000_000)) == 2


def test_a_users_price_replaces_the_shipped_one(own: Path) -> None:
    """Only the models named there; the others stay."""
    own.write_text(
        "[models.claude-opus-5]\ninput_usd = 0.1\noutput_usd = 0.2\ncache_write_5m_x = 1\ncache_write_1h_x = 1\ncache_read_x = 0.5\n"
    )
    assert price_of("claude-opus-5").input_usd == Decimal("0.1")
    assert price_of("claude-opus-5-5").input_usd == 4
    own.write_text(own.read_text().replace("claude-opus-5", "claude-opus-5-20260724"))
    assert [price_of(model).input_usd for model in ("claude-opus-5-20260724", "claude-opus-5")] == [Decimal("0.1"), 5]
    assert str(own) in load_prices().files


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models = 3", "models: it must be a table"),
        ("as_of = 'today'", "as_of: it must be a date"),
        ("currency = 'EUR'", "currency: no such field"),
        ("[models.x]\ninput = 3", "models.x.input: no such field"),
        ("[models.x]\noutput_usd = 1", "models.x.input_usd: it must be a number from 0 up (US dollars per million tokens); it is missing"),
        ("[models.x]\ninput_usd = -1", "models.x.input_usd"),
        ("[models.x]\ninput_usd = nan", "models.x.input_usd"),
        ("[models.x]\ninput_usd = '3'", "models.x.input_usd"),
        ("[models.x]\ncache_read_x = true", "models.x.cache_read_x"),
        ("[models]\nx = 3", "models.x: it must be a table"),
        ("[models.x.long_prompt]\nabove_tokens = 1.5", "models.x.long_prompt.above_tokens: it must be a whole number"),
        ("[models.x\n", "it cannot be read as TOML"),
    ],
)  # fmt: skip
def test_a_bad_file_is_named_with_its_field(text: str, said: str, own: Path) -> None:
    """Every mistake names the file and the field."""
    own.write_text(text)
    with pytest.raises(BadInput) as caught:
        load_prices()
    assert all(problem.startswith(f"{own}: ") for problem in caught.value.problems)
    assert any(said in problem for problem in caught.value.problems)


def test_the_prices_are_in_the_package() -> None:
    """The data file lies beside the module, where the wheel takes everything, and is exact: no price is a binary fraction."""
    path = Path(runtime.prices.__file__).with_name("prices.toml")
    table = tomllib.loads(path.read_text("utf-8"), parse_float=Decimal)
    assert {type(row["input_usd"]) for row in table["models"].values()} == {Decimal}
