"""What a call costs: a dated data file beside this module, and a user's own file over it.

Knows names of models and arithmetic in Decimal; no budgets and no network. The file says where each price comes from.
"""

from __future__ import annotations

import datetime
import os
import re
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal

import attrs

from .budget import Usage
from .core.events import Spent
from .errors import BadInput

__all__ = ["LongPrompt", "Price", "Prices", "load_prices", "price_of", "user_prices_file"]

_MILLION: Final = Decimal(1_000_000)
_SIZE_LIMIT_BYTES: Final = 1024 * 1024
_AMOUNTS: Final = ("input_usd", "output_usd")
_FACTORS: Final = ("cache_write_5m_x", "cache_write_1h_x", "cache_read_x")
_SNAPSHOT: Final = re.compile(r"(-\d{8}|-latest)?(-v\d+(:\d+)?)?(@\w+)?(\[\w+\])?")
"""What may follow a model's name and still be that model: a date, a provider's revision, a size of context; never a version."""


@attrs.frozen
class LongPrompt:
    """Prices of every token of a call whose prompt has more than `above_tokens` tokens; US dollars per million tokens."""

    above_tokens: int
    input_usd: Decimal
    output_usd: Decimal


@attrs.frozen
class Price:
    """A model's prices: `*_usd` in US dollars per million tokens, `*_x` as multiples of the input price."""

    model: str
    input_usd: Decimal
    output_usd: Decimal
    cache_write_5m_x: Decimal
    cache_write_1h_x: Decimal
    cache_read_x: Decimal
    long_prompt: LongPrompt | None = None
    source: str = ""

    def cost_usd(self, usage: Usage) -> Decimal:
        """What one call cost, US dollars. Price calls one by one: a long prompt has its own price, a sum of calls has none."""
        read, written = self._rates(usage.prompt_tokens)
        weighted = (
            usage.input_tokens
            + usage.cache_write_5m_tokens * self.cache_write_5m_x
            + usage.cache_write_1h_tokens * self.cache_write_1h_x
            + usage.cache_read_tokens * self.cache_read_x
        )
        return (weighted * read + usage.output_tokens * written) / _MILLION

    def bill(self, usage: Usage) -> Spent:
        """What one call bought, as it is kept in the journal."""
        written = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
        return Spent(
            usage.input_tokens,
            written,
            usage.cache_read_tokens,
            usage.output_tokens,
            float(self.cost_usd(usage)),
            float(self.saved_usd(usage)),
        )

    def saved_usd(self, usage: Usage) -> Decimal:
        """What the cache reads of one call saved against reading the same tokens anew, US dollars; writes are not set off."""
        return usage.cache_read_tokens * (1 - self.cache_read_x) * self._rates(usage.prompt_tokens)[0] / _MILLION

    def worst_usd(self, input_tokens: int, max_tokens: int, *, ttl: Literal["5m", "1h"] = "1h") -> Decimal:
        """The most a call can cost, for a reservation: all of its prompt written to the cache, all of `max_tokens` answered.

        `input_tokens` is the most the prompt can have. `ttl` says the longest cache lifetime that the call asks for.
        """
        read, written = self._rates(input_tokens)
        dearest = max(
            Decimal(1), self.cache_read_x, self.cache_write_5m_x, *([self.cache_write_1h_x] if ttl == "1h" else [])
        )
        return (input_tokens * dearest * read + max_tokens * written) / _MILLION

    def _rates(self, prompt_tokens: int) -> tuple[Decimal, Decimal]:
        if self.long_prompt is not None and prompt_tokens > self.long_prompt.above_tokens:
            return self.long_prompt.input_usd, self.long_prompt.output_usd
        return self.input_usd, self.output_usd


@attrs.frozen
class Prices:
    """All known prices. `as_of` is the date of the file that ships with Journeyman, `files` where they came from."""

    as_of: datetime.date
    models: Mapping[str, Price]
    files: tuple[str, ...]

    def get(self, model: str) -> Price | None:
        """The price of the longest name that `model` begins with and that is the same version, or None."""
        names = [name for name in self.models if model.startswith(name) and _SNAPSHOT.fullmatch(model[len(name) :])]
        return self.models[max(names, key=len)] if names else None

    def of(self, model: str) -> Price:
        """As `get`. Raises BadInput that says how to add the model when its price is not known."""
        found = self.get(model)
        if found is None:
            raise BadInput(
                f"{model}: its price is not known (prices as of {self.as_of}), and a budget of money cannot be kept without it; "
                f'add [models."{model}"] with {", ".join((*_AMOUNTS, *_FACTORS))} to {user_prices_file()}, '
                f"or give the budget in tokens"
            )
        return found


def user_prices_file() -> Path:
    """Where a user's own prices are looked for."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "journeyman" / "prices.toml"


def load_prices(own: Path | None = None) -> Prices:
    """The shipped prices with those of the file `own` over them (default: `user_prices_file()`, if it exists).

    Raises BadInput with every mistake of the file, each with its file, model and field.
    """
    shipped = Path(__file__).with_name("prices.toml")
    as_of, models = _read(shipped)
    files: tuple[str, ...] = (str(shipped),)
    path = own if own is not None else user_prices_file()
    if own is not None or path.is_file():
        models = {**models, **_read(path)[1]}
        files += (str(path),)
    return Prices(as_of or datetime.date.min, models, files)


def price_of(model: str) -> Price:
    """The price of a model, from the files; raises BadInput when it, or a file, is not known or not sound."""
    return load_prices().of(model)


def _read(path: Path) -> tuple[datetime.date | None, dict[str, Price]]:
    try:
        with path.open("rb") as file:
            raw = file.read(_SIZE_LIMIT_BYTES + 1)
        if len(raw) > _SIZE_LIMIT_BYTES:
            raise BadInput(f"{path}: it has more than {_SIZE_LIMIT_BYTES // 2**20} MiB; a list of prices is smaller")
        table = tomllib.loads(raw.decode("utf-8-sig"), parse_float=Decimal)
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: it cannot be read as TOML: {error}") from error
    problems: list[str] = []
    as_of = table.get("as_of")
    if as_of is not None and (not isinstance(as_of, datetime.date) or isinstance(as_of, datetime.datetime)):
        problems.append(f"{path}: as_of: it must be a date such as 2026-11-21, not {as_of!r}")
    for name in table.keys() - {"as_of", "models"}:
        problems.append(f"{path}: {name}: no such field; there are as_of and models")
    rows = table.get("models", {})
    if not isinstance(rows, dict):
        problems.append(f"{path}: models: it must be a table of tables, such as [models.claude-opus-5]")
        rows = {}
    models = {name: _price(path, name, row, problems) for name, row in rows.items()}
    if problems:
        raise BadInput(sorted(problems))
    return as_of, {name: price for name, price in models.items() if price is not None}


def _price(path: Path, name: str, row: Any, problems: list[str]) -> Price | None:
    place = f"{path}: models.{name}"
    if not isinstance(row, dict):
        problems.append(f"{place}: it must be a table, not {row!r}")
        return None
    before = len(problems)
    for field in row.keys() - {*_AMOUNTS, *_FACTORS, "source", "long_prompt"}:
        problems.append(
            f"{place}.{field}: no such field; there are {', '.join((*_AMOUNTS, *_FACTORS))}, source, long_prompt"
        )
    numbers = {field: _number(place, row, field, problems) for field in (*_AMOUNTS, *_FACTORS)}
    source = row.get("source", "")
    if not isinstance(source, str):
        problems.append(f"{place}.source: it must be text, not {source!r}")
    long_prompt = _long_prompt(f"{place}.long_prompt", row["long_prompt"], problems) if "long_prompt" in row else None
    if len(problems) > before:
        return None
    return Price(name, **numbers, long_prompt=long_prompt, source=source)


def _long_prompt(place: str, row: Any, problems: list[str]) -> LongPrompt | None:
    if not isinstance(row, dict):
        problems.append(f"{place}: it must be a table, not {row!r}")
        return None
    before = len(problems)
    for field in row.keys() - {*_AMOUNTS, "above_tokens"}:
        problems.append(f"{place}.{field}: no such field; there are above_tokens, {', '.join(_AMOUNTS)}")
    above = row.get("above_tokens")
    if not isinstance(above, int) or isinstance(above, bool) or above <= 0:
        problems.append(f"{place}.above_tokens: it must be a whole number of tokens above 0, not {above!r}")
    numbers = {field: _number(place, row, field, problems) for field in _AMOUNTS}
    return LongPrompt(above, **numbers) if len(problems) == before and isinstance(above, int) else None


def _number(place: str, row: Mapping[str, Any], field: str, problems: list[str]) -> Decimal:
    value = row.get(field)
    if isinstance(value, int | Decimal) and not isinstance(value, bool) and Decimal(value).is_finite() and value >= 0:
        return Decimal(value)
    unit = "a multiple of the input price" if field in _FACTORS else "US dollars per million tokens"
    said = "it is missing" if field not in row else f"{value} is not one"
    problems.append(f"{place}.{field}: it must be a number from 0 up ({unit}); {said}")
    return Decimal(0)
