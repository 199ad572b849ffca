"""The limits as a layer: reserve before the model is asked, settle whatever comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

from genai_gateway.conversation import Answer, ChatRequest, EmbeddingRequest, Usage
from genai_gateway.errors import BadRequest
from genai_gateway.events import (
    Event,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolDelta,
    UsageReported,
)
from genai_gateway.exchange import Exchange, Handler, Reply
from genai_gateway.keys import Caller, Limits, ProjectLimits
from genai_gateway.money.allowance import Allowance, Reservation
from genai_gateway.money.ledger import Meter, Unit
from genai_gateway.prices import USD, Price, PriceTable
from genai_gateway.routing import Route, Target
from genai_gateway.tokens import estimated_tokens, most_tokens, text_of

_NO_LIMITS = ProjectLimits()
_BYTES_PER_TOKEN = 4


class Metered:
    """Holds every exchange to the limits of its key, its project and its user."""

    def __init__(
        self,
        inner: Handler,
        allowance: Allowance,
        prices: PriceTable,
        projects: Mapping[str, ProjectLimits],
    ) -> None:
        self._inner = inner
        self._allowance = allowance
        self._prices = prices
        self._projects = projects
        self._meters: dict[Caller, tuple[Meter, ...]] = {}

    async def __call__(self, exchange: Exchange) -> Reply:
        """The reply, paid for. Raises Limited, OutOfBudget, BadRequest for an unknown price."""
        request = exchange.request
        meters = self._meters_of(exchange.caller)
        if meters and request.max_tokens is None:
            bound = exchange.route.max_output_tokens
            request = exchange.request = replace(request, max_tokens=bound)
        needs = self._needs(exchange.route, meters, request)
        reservation = await self._allowance.reserve(exchange.id, needs)
        bill = _Bill(self, exchange, reservation)
        try:
            reply = await self._inner(exchange)
        except asyncio.CancelledError:
            # The client left while the model was asked: it may have answered in full.
            bill.settle_at_most()
            raise
        except BaseException:
            bill.settle(Usage())
            raise
        if isinstance(reply, Answer):
            bill.settle(_believed(reply.usage, request, _length(reply)))
            return reply
        return _billed(reply, bill)

    async def reserve_embedding(
        self, request_id: str, caller: Caller, route: Route, request: EmbeddingRequest
    ) -> Reservation:
        """Sets aside what embeddings may cost."""
        needs = self._needs(route, self._meters_of(caller), request)
        return await self._allowance.reserve(request_id, needs)

    def settle_embedding(
        self, reservation: Reservation, target: Target | None, usage: Usage
    ) -> int:
        """Books what embeddings cost, and returns it in nano-dollars."""
        cost = self.cost(target, usage)
        self._allowance.settle(reservation, _spent(cost, usage))
        return cost

    def cost(self, target: Target | None, usage: Usage) -> int:
        """What a turn cost, in nano-dollars; 0 if nobody was asked or the price is not known."""
        if target is None:
            return 0
        price = self._prices.price(target.provider, target.model)
        return price.of(usage) if price is not None else 0

    def book(self, reservation: Reservation, cost: int, usage: Usage) -> int:
        """Settles a reservation; returns what was spent beyond it."""
        return self._allowance.settle(reservation, _spent(cost, usage))

    def _meters_of(self, caller: Caller) -> tuple[Meter, ...]:
        meters = self._meters.get(caller)
        if meters is None:
            project = self._projects.get(caller.project, _NO_LIMITS)
            found = [*_meters(f"key {caller.key}", caller.limits)]
            found += _meters(f"project {caller.project}", project)
            if caller.user and project.user_usd_per_month:
                limit = round(project.user_usd_per_month * USD)
                found.append(Meter(f"user {caller.project}/{caller.user}", "usd", limit))
            meters = self._meters[caller] = tuple(found)
        return meters

    def _needs(
        self, route: Route, meters: tuple[Meter, ...], request: ChatRequest | EmbeddingRequest
    ) -> dict[Meter, int]:
        if not meters:
            return {}
        most_in = most_tokens(request)
        most_out = 0
        if isinstance(request, ChatRequest):
            most_out = (request.max_tokens or 0) * request.choices
        amounts: dict[Unit, int] = {"requests": 1, "tokens": most_in + most_out, "usd": 0}
        if any(meter.unit == "usd" for meter in meters):
            amounts["usd"] = max(
                price.most(most_in, most_out) for price in self._known_prices(route)
            )
        return {meter: amounts[meter.unit] for meter in meters}

    def _known_prices(self, route: Route) -> list[Price]:
        """The prices of all targets, any of which may answer. Raises BadRequest."""
        known: list[Price] = []
        for target in route.targets:
            price = self._prices.price(target.provider, target.model)
            if price is None and not route.allow_unpriced:
                raise BadRequest(
                    f"{target.name} has no known price, so that no budget can hold it",
                    "The operator can set prices, or allow_unpriced for the model.",
                    "model",
                )
            known.append(price or Price())
        return known


class _Bill:
    """What one exchange will be charged."""

    def __init__(self, metered: Metered, exchange: Exchange, reservation: Reservation) -> None:
        self._metered = metered
        self._reservation = reservation
        self.exchange = exchange

    def settle(self, usage: Usage) -> None:
        """Books a usage; a cached answer costs nothing."""
        exchange = self.exchange
        if exchange.cache == "hit":
            usage = Usage()
        exchange.usage = usage
        exchange.cost_nano_usd = self._metered.cost(exchange.served, usage)
        exchange.excess_nano_usd = self._metered.book(
            self._reservation, exchange.cost_nano_usd, usage
        )

    def settle_at_most(self) -> None:
        """Books all that was set aside, if anybody was asked at all."""
        request = self.exchange.request
        if not self.exchange.attempts:
            self.settle(Usage())
            return
        self.exchange.served = self.exchange.served or self.exchange.route.targets[0]
        self.settle(Usage(most_tokens(request), request.max_tokens or 0))


async def _billed(events: AsyncIterator[Event], bill: _Bill) -> AsyncIterator[Event]:
    """The stream; whatever ends it, what was seen of it is booked."""
    usage: Usage | None = None
    shown = 0
    try:
        async for event in events:
            if isinstance(event, (TextDelta, ReasoningDelta, RefusalDelta)):
                shown += len(event.text)
            elif isinstance(event, ToolDelta):
                shown += len(event.arguments)
            elif isinstance(event, (UsageReported, Started)):
                usage = event.usage
            yield event
    finally:
        bill.settle(_believed(usage, bill.exchange.request, shown))
        await events.aclose()  # type: ignore[attr-defined]


def _believed(usage: Usage | None, request: ChatRequest, shown: int) -> Usage:
    """The usage that was reported; where it is missing, or cannot be, an estimate."""
    least = -(-shown // _BYTES_PER_TOKEN) if shown else 0
    if usage is None or not usage.total:
        return Usage(estimated_tokens(request), least)
    # A stream that broke off says what it was to read, not yet what it wrote.
    return usage if usage.output > 1 or least <= 1 else replace(usage, output=least)


def _length(answer: Answer) -> int:
    return sum(len(text_of(part)) for choice in answer.choices for part in choice.parts)


def _meters(account: str, limits: Limits) -> list[Meter]:
    amounts: tuple[tuple[Unit, int], ...] = (
        ("usd", round(limits.usd_per_month * USD)),
        ("requests", limits.requests_per_minute),
        ("tokens", limits.tokens_per_minute),
    )
    return [Meter(account, unit, limit) for unit, limit in amounts if limit]


def _spent(cost: int, usage: Usage) -> dict[Unit, int]:
    return {"usd": cost, "requests": 1, "tokens": usage.total}
