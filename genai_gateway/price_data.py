"""Prices from the ``genai-prices`` package: a dated table of what providers publish."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from genai_prices.data_snapshot import get_snapshot

from genai_gateway.prices import Price, nano, price_of

_FIELDS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached": "cache_read_mtok",
    "cache_written": "cache_write_mtok",
}


class PublishedPrices:
    """Prices of providers that are known by the address they are reached at.

    A server of one's own that calls its model like somebody else's has no published price.
    """

    def __init__(self, base_urls: Mapping[str, str]) -> None:
        self._base_urls = base_urls
        self.version = f"genai-prices {version('genai-prices')}"

    def price(self, provider: str, model: str) -> Price | None:
        """The price of a provider's model; None if it is not known."""
        url = self._base_urls.get(provider)
        if not url:
            return None
        try:
            _, found = get_snapshot().find_provider_model(model, None, None, url)
        except LookupError:
            return None
        return _price(found.get_prices(datetime.now(UTC)))


def _price(prices: Any) -> Price | None:
    """The price as the gateway counts it; None if input or output have none."""
    given = {name: getattr(prices, field, None) for name, field in _FIELDS.items()}
    if given["input"] is None or given["output"] is None:
        return None
    starts = sorted({tier.start for value in given.values() for tier in _tiers(value)})
    above = tuple((start, _at(given, start + 1, prices)) for start in starts)
    base = _at(given, 0, prices)
    return Price(
        base.input, base.output, base.cached, base.cache_written, base.request, above=above
    )


def _at(given: Mapping[str, Any], tokens: int, prices: Any) -> Price:
    numbers = {
        name: nano(_value(value, tokens)) for name, value in given.items() if value is not None
    }
    a_thousand = float(getattr(prices, "requests_kcount", None) or 0.0)
    return price_of(numbers, round(a_thousand * 1_000_000))


def _tiers(value: Any) -> list[Any]:
    return list(getattr(value, "tiers", ()))


def _value(value: Any, tokens: int) -> float:
    amount = getattr(value, "base", value)
    for tier in _tiers(value):
        if tokens > tier.start:
            amount = tier.price
    return float(amount)
