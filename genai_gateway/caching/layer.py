"""The cache as a layer, behind the guardrails: it sees and keeps placeholders, never the values."""

from __future__ import annotations

from collections.abc import AsyncIterator

from genai_gateway.caching.cache import AnswerCache, CacheKey
from genai_gateway.clock import SECOND, Clock
from genai_gateway.conversation import Answer
from genai_gateway.events import Event, Fold, Unknown, unfold
from genai_gateway.exchange import Exchange, Handler, Reply


class Cached:
    """Answers from the cache where the route has one and the client allows it.

    ``Cache-Control`` of the request counts: ``no-cache`` asks the model, ``no-store`` keeps
    nothing, ``max-age`` bounds the age of an answer.
    """

    def __init__(self, inner: Handler, cache: AnswerCache, clock: Clock) -> None:
        self._inner = inner
        self._cache = cache
        self._clock = clock

    async def __call__(self, exchange: Exchange) -> Reply:
        """The cached reply, or the model's, which is then kept."""
        ttl_s = exchange.route.cache_s
        if not ttl_s:
            return await self._inner(exchange)
        wishes = _wishes(exchange.headers.get("cache-control", ""))
        key = CacheKey.of(exchange)
        if "no-cache" not in wishes and "no-store" not in wishes:
            known = self._cache.get(key, self._oldest(wishes))
            if known is not None:
                exchange.cache = "hit"
                return _replayed(known) if exchange.request.stream else known
        exchange.cache = "miss"
        reply = await self._inner(exchange)
        if "no-store" in wishes:
            return reply
        if isinstance(reply, Answer):
            self._keep(key, reply, ttl_s)
            return reply
        return self._kept(reply, key, ttl_s)

    def _oldest(self, wishes: dict[str, str]) -> int:
        seconds = wishes.get("max-age", "")
        return self._clock.now() - int(seconds) * SECOND if seconds.isdecimal() else 0

    def _keep(self, key: CacheKey, answer: Answer, ttl_s: int) -> None:
        if all(choice.stop != "filter" for choice in answer.choices):
            self._cache.put(key, answer, ttl_s)

    async def _kept(
        self, events: AsyncIterator[Event], key: CacheKey, ttl_s: int
    ) -> AsyncIterator[Event]:
        fold, whole = Fold(), True
        try:
            async for event in events:
                whole = whole and not isinstance(event, Unknown)
                fold.add(event)
                yield event
            if whole and fold.finished:
                self._keep(key, fold.answer(), ttl_s)
        finally:
            await events.aclose()  # type: ignore[attr-defined]


async def _replayed(answer: Answer) -> AsyncIterator[Event]:
    for event in unfold(answer):
        yield event


def _wishes(header: str) -> dict[str, str]:
    """The directives of a ``Cache-Control`` header."""
    pairs = (part.strip().partition("=") for part in header.lower().split(",") if part.strip())
    return {name: value.strip('"') for name, _, value in pairs}
