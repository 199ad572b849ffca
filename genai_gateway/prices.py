"""What a turn costs: prices in nano-dollars a token, from the configuration or ``genai-prices``.

Money is whole nano-dollars (10⁻⁹ USD): sums are exact, and the cheapest token is still above 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from genai_gateway.conversation import Usage
from genai_gateway.reading import Fields

USD = 1_000_000_000
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """Nano-dollars for a token of each kind, and for a request. Reasoning counts as output.

    ``above`` holds other prices for turns with more input tokens than a number, rising.
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    cache_written: int = 0
    request: int = 0
    free: bool = False
    above: tuple[tuple[int, Price], ...] = ()

    def of(self, usage: Usage) -> int:
        """What a turn costs."""
        for start, price in reversed(self.above):
            if usage.input > start:
                return price.of(usage)
        fresh = usage.input - usage.cached - usage.cache_written
        return (
            max(fresh, 0) * self.input
            + usage.cached * self.cached
            + usage.cache_written * self.cache_written
            + usage.output * self.output
            + self.request
        )

    def most(self, input_tokens: int, output_tokens: int) -> int:
        """What a turn of at most so many tokens can cost."""
        dearest = max(self.input, self.cached, self.cache_written)
        here = input_tokens * dearest + output_tokens * self.output + self.request
        higher = (p.most(input_tokens, output_tokens) for n, p in self.above if input_tokens > n)
        return max([here, *higher])


FREE = Price(free=True)


class PriceTable(Protocol):
    """Knows prices."""

    version: str

    def price(self, provider: str, model: str) -> Price | None:
        """The price of a provider's model; None if it is not known."""
        ...


class FixedPrices:
    """Prices that the operator wrote down, by ``provider/model`` or by ``provider``."""

    version = "configuration"

    def __init__(self, prices: Mapping[str, Price]) -> None:
        self._prices = prices

    def price(self, provider: str, model: str) -> Price | None:
        """The price of a provider's model; None if it is not known."""
        return self._prices.get(f"{provider}/{model}") or self._prices.get(provider)


class FirstKnown:
    """The first table that knows a price says it."""

    def __init__(self, *tables: PriceTable) -> None:
        self._tables = tables
        self._found: dict[tuple[str, str], Price | None] = {}
        self.version = ", ".join(table.version for table in tables)

    def price(self, provider: str, model: str) -> Price | None:
        """The price of a provider's model; None if no table knows it."""
        key = provider, model
        if key not in self._found:
            prices = (table.price(provider, model) for table in self._tables)
            self._found[key] = next((price for price in prices if price is not None), None)
        return self._found[key]


def read_price(fields: Fields) -> Price:
    """A price from configuration, in US dollars a million tokens. Raises BadRequest."""
    if fields.flag("free"):
        return FREE
    numbers = {
        name: fields.number(f"{name}_usd_per_million")
        for name in ("input", "output", "cached", "cache_written")
    }
    given = {name: nano(value) for name, value in numbers.items() if value is not None}
    for name in ("input", "output"):
        if name not in given:
            raise fields.missing(f"{name}_usd_per_million")
    request = fields.number("usd_per_request") or 0.0
    for rest in fields.rest():
        raise fields.wrong(rest, "left out, for it is not a setting of prices", "there")
    return price_of(given, round(request * USD))


def price_of(given: Mapping[str, int], request: int = 0) -> Price:
    """A price from nano-dollars by kind of token; caching costs what input does if not said."""
    fresh = given["input"]
    cached, written = given.get("cached", fresh), given.get("cache_written", fresh)
    return Price(fresh, given["output"], cached, written, request)


def nano(usd_per_million: float) -> int:
    """Nano-dollars a token, rounded up."""
    return -(-round(usd_per_million * USD) // _MILLION)
