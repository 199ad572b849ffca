"""The innermost layer: asks the targets of a route until one answers, within its time-outs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from genai_gateway.backend import Backend, Counting
from genai_gateway.clock import SECOND, Clock
from genai_gateway.conversation import Answer, ChatRequest, EmbeddingAnswer, EmbeddingRequest
from genai_gateway.errors import (
    CannotTranslate,
    GatewayError,
    UpstreamFailed,
    UpstreamTimedOut,
)
from genai_gateway.events import CONTENT, Event, Finished, Started
from genai_gateway.exchange import Exchange, Reply
from genai_gateway.hedging import first_of
from genai_gateway.routing import Health, Route, Target, capable, order
from genai_gateway.tokens import estimated_tokens

# The request itself is wrong for this upstream: asking another way will not mend it.
_REQUEST_IS_WRONG = frozenset({400, 413, 422})

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Served:
    """What a target gave: an answer, or a stream of which the first token is here."""

    target: Target
    ignored: tuple[str, ...]
    reply: Reply


class Dispatch:
    """Answers exchanges from the targets of their routes.

    A stream is handed on when its first token is here; up to then a failure is met by the next
    target, after it by an error in the stream.
    """

    def __init__(
        self,
        backends: Mapping[str, Backend],
        clock: Clock,
        chance: random.Random | None = None,
    ) -> None:
        self._backends = backends
        self._clock = clock
        self._chance = chance or random.Random()
        self._health = Health(clock)

    async def __call__(self, exchange: Exchange) -> Reply:
        """The reply of the first target that gives one. Raises UpstreamFailed, CannotTranslate."""
        route = exchange.route
        targets = capable(route, exchange.request)
        limit = _Deadline(route.timeouts.total_s)

        async def attempt(target: Target, share_s: float) -> _Served:
            exchange.attempts += 1
            return await self._attempt(exchange, target, limit, share_s)

        hedged = self._hedged(route, attempt)
        served = await self._try(route, targets, hedged, limit)
        exchange.served, exchange.ignored = served.target, served.ignored
        return served.reply

    async def embed(
        self, route: Route, request: EmbeddingRequest
    ) -> tuple[Target, EmbeddingAnswer]:
        """Embeddings, and who made them. Raises UpstreamFailed, CannotTranslate."""
        limit = _Deadline(route.timeouts.total_s)

        async def attempt(target: Target, share_s: float) -> tuple[Target, EmbeddingAnswer]:
            backend = self._backends[target.provider]
            work = backend.embed(request, target.model)
            return target, await limit.within(work, share_s, "for the embeddings")

        return await self._try(route, route.targets, attempt, limit)

    async def count(self, route: Route, request: ChatRequest) -> int:
        """The tokens of a request: as the first target's provider counts them, else estimated."""
        target = route.targets[0]
        backend, limit = self._backends[target.provider], _Deadline(route.timeouts.first_token_s)
        counted = None
        if isinstance(backend, Counting):
            work = backend.count(request, target.model)
            counted = await limit.within(work, limit.left_s, "for a count")
        return estimated_tokens(request) if counted is None else counted

    async def _try(
        self,
        route: Route,
        targets: tuple[Target, ...],
        attempt: Callable[[Target, float], Awaitable[_T]],
        limit: _Deadline,
    ) -> _T:
        tries = _Tries(self._clock, route, limit)
        for round_ in range(route.retries.rounds):
            ordered = order(targets, self._health, self._chance)
            for n, target in enumerate(ordered):
                if not tries.may(target):
                    continue
                try:
                    result = await attempt(target, tries.share_s(ordered[n:]))
                except CannotTranslate as refusal:
                    tries.refused(target, refusal)
                except UpstreamFailed as failure:
                    self._note(target, failure)
                    tries.failed(target, failure, round_)
                else:
                    self._health.good(target)
                    return result
            if not await tries.wait_for_next_round(targets):
                break
        raise tries.verdict()

    def _note(self, target: Target, failure: UpstreamFailed) -> None:
        if failure.upstream_status not in _REQUEST_IS_WRONG:
            self._health.bad(target, failure.retry_after_s)

    def _hedged(
        self, route: Route, attempt: Callable[[Target, float], Awaitable[_Served]]
    ) -> Callable[[Target, float], Awaitable[_Served]]:
        """Asks another target too if the first one is slow, and takes whoever is first."""
        if route.hedge_after_s <= 0 or len(route.targets) < 2:
            return attempt

        def second(target: Target) -> Target:
            others = [other for other in route.targets if other != target]
            return order(others, self._health, self._chance)[0]

        return lambda target, share_s: first_of(
            lambda: attempt(target, share_s),
            lambda: attempt(second(target), share_s),
            route.hedge_after_s,
            _drop,
        )

    async def _attempt(
        self, exchange: Exchange, target: Target, limit: _Deadline, share_s: float
    ) -> _Served:
        turn = self._backends[target.provider].turn(exchange.request, target.model)
        timeouts = exchange.route.timeouts
        if not exchange.request.stream:
            answer = await limit.within(turn.answer(), share_s, "for the whole answer")
            return _Served(target, turn.ignored, _named(answer, target, exchange, self._clock))
        events = turn.events()
        try:
            head = await limit.within(_head(events), timeouts.first_token_s, "for its first token")
        except BaseException:
            await _close(events)
            raise
        head[0] = _named_start(head[0], target, exchange, self._clock)
        return _Served(
            target, turn.ignored, _Relayed(head, events, timeouts.between_tokens_s, limit)
        )


@dataclass(slots=True)
class _Tries:
    """What was tried, what came of it, and who may be asked again when."""

    clock: Clock
    route: Route
    limit: _Deadline
    not_before: dict[str, int] = field(default_factory=dict)
    never: set[str] = field(default_factory=set)
    count: int = 0
    last: GatewayError | None = None

    def may(self, target: Target) -> bool:
        """Whether the target may be asked now."""
        if target.name in self.never or self.limit.left_s <= 0:
            return False
        return self.not_before.get(target.name, 0) <= self.clock.now()

    def share_s(self, targets: list[Target]) -> float:
        """How long the first of these may take over a whole answer, so that the others, which may
        have to stand in for it, have as long. A whole answer gives no sign of life before.
        """
        return self.limit.left_s / max(1, sum(self.may(target) for target in targets))

    def refused(self, target: Target, refusal: CannotTranslate) -> None:
        """The target's schema has no word for the request: it will not be asked again."""
        self.never.add(target.name)
        self.last = self.last or refusal

    def failed(self, target: Target, failure: UpstreamFailed, round_: int) -> None:
        """The target failed. Raises the failure at once if the request itself is to blame."""
        self.count += 1
        self.last = failure
        if failure.upstream_status in _REQUEST_IS_WRONG and not failure.retryable:
            raise failure
        if not failure.retryable:
            self.never.add(target.name)
        wait_s = max(failure.retry_after_s, self.route.retries.backoff_s * 2**round_)
        self.not_before[target.name] = self.clock.now() + round(wait_s * SECOND)

    async def wait_for_next_round(self, targets: tuple[Target, ...]) -> bool:
        """Waits until some target may be asked again; False if that is too long, or never."""
        ready = [self.not_before.get(t.name, 0) for t in targets if t.name not in self.never]
        if not ready:
            return False
        wait_s = max(0.0, (min(ready) - self.clock.now()) / SECOND)
        if wait_s > min(self.route.retries.longest_wait_s, self.limit.left_s):
            return False
        await self.clock.wait(wait_s)
        return True

    def verdict(self) -> GatewayError:
        """The error of a request that nobody answered: the last one, and how often it was tried."""
        last = self.last
        if last is None:
            return UpstreamFailed(f"no target of {self.route.name} could be asked in time")
        if isinstance(last, UpstreamFailed) and self.count > 1:
            what, *rest = last.args
            return type(last)(f"{what} (after {self.count} tries)", *rest)
        return last


class _Deadline:
    """The end of an exchange, and work that must be done within it."""

    def __init__(self, total_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + total_s
        self._total_s = total_s

    @property
    def left_s(self) -> float:
        """Seconds until the end."""
        return self._end - self._loop.time()

    async def within(self, work: Awaitable[_T], seconds: float, what: str) -> _T:
        """The work's result. Raises UpstreamTimedOut if it takes longer, or the end is reached."""
        left_s = self.left_s
        try:
            async with asyncio.timeout(min(seconds, left_s)):
                return await work
        except TimeoutError:
            raise self._late(seconds, left_s, what) from None

    def _late(self, seconds: float, left_s: float, what: str) -> UpstreamTimedOut:
        # A share that was measured a moment ago is all there is, not less.
        if left_s <= seconds + 0.01:
            return UpstreamTimedOut(
                f"the upstream was not done after {self._total_s:g} s in total",
                "",
                0,
                retryable=False,
            )
        return UpstreamTimedOut(f"the upstream let the gateway wait {seconds:g} s {what}")


async def _head(events: AsyncIterator[Event]) -> list[Event]:
    """The events up to the first token. Raises UpstreamFailed for a stream without any."""
    head: list[Event] = []
    async for event in events:
        head.append(event)
        if isinstance(event, CONTENT):
            return head
        if isinstance(event, Finished) and event.stop != "stop":
            return head
    raise UpstreamFailed("the upstream's answer is empty")


class _Relayed:
    """A stream whose first token is here: what came so far, then the rest within its time-outs.

    Not a generator: closing one that nobody began to read would not close what is behind it.
    """

    def __init__(
        self, head: list[Event], events: AsyncIterator[Event], between_s: float, limit: _Deadline
    ) -> None:
        self._head = head[::-1]
        self._events = events
        self._between_s = between_s
        self._limit = limit

    def __aiter__(self) -> _Relayed:
        return self

    async def __anext__(self) -> Event:
        if self._head:
            return self._head.pop()
        rest = anext(self._events)
        return await self._limit.within(rest, self._between_s, "for its next token")

    async def aclose(self) -> None:
        """Hangs up."""
        await _close(self._events)


def _named(answer: Answer, target: Target, exchange: Exchange, clock: Clock) -> Answer:
    """The answer with an id, a model and a time, where the provider gave none."""
    if answer.id and answer.model and answer.created_s:
        return answer
    return replace(
        answer,
        id=answer.id or exchange.id,
        model=answer.model or target.model,
        created_s=answer.created_s or clock.now() // SECOND,
    )


def _named_start(event: Event, target: Target, exchange: Exchange, clock: Clock) -> Event:
    """The same for a stream, whose first event says it."""
    if not isinstance(event, Started):
        return event
    return replace(
        event,
        id=event.id or exchange.id,
        model=event.model or target.model,
        created_s=event.created_s or clock.now() // SECOND,
    )


async def _drop(served: _Served) -> None:
    if not isinstance(served.reply, Answer):
        await _close(served.reply)


async def _close(events: AsyncIterator[Event]) -> None:
    close = getattr(events, "aclose", None)
    if close is not None:
        await close()
