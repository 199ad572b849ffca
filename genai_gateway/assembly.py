"""The gateway put together: the one place where the order of its layers stands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from genai_gateway.addresses import checked_base_url
from genai_gateway.backend import Backend, RemoteBackend
from genai_gateway.caching.cache import MemoryCache
from genai_gateway.caching.layer import Cached
from genai_gateway.clock import Clock, SystemClock
from genai_gateway.config import GatewayConfig, ProviderConfig
from genai_gateway.connection import HttpUpstream
from genai_gateway.credentials import open_secret
from genai_gateway.dispatch import Dispatch
from genai_gateway.echo import EchoBackend
from genai_gateway.gateway import Gateway
from genai_gateway.guardrails.layer import Guarded
from genai_gateway.http import GatewayApp
from genai_gateway.keys import Doorkeeper
from genai_gateway.money.allowance import Allowance
from genai_gateway.money.layer import Metered
from genai_gateway.money.ledger import Ledger
from genai_gateway.price_data import PublishedPrices
from genai_gateway.prices import FirstKnown, FixedPrices, PriceTable
from genai_gateway.providers.adapter import Adapter
from genai_gateway.providers.anthropic import AnthropicAdapter
from genai_gateway.providers.gemini import GeminiAdapter
from genai_gateway.providers.openai import OpenAIAdapter
from genai_gateway.providers.responses import ResponsesAdapter
from genai_gateway.records.layer import Recorded, Recorder


@dataclass(frozen=True, slots=True)
class Parts:
    """What the gateway is handed: who it is, who may ask, where money and records go."""

    replica: str
    doorkeeper: Doorkeeper
    ledger: Ledger
    recorders: Sequence[Recorder] = ()
    clock: Clock = field(default_factory=SystemClock)
    every_second: Sequence[Callable[[], None]] = ()


def open_gateway(config: GatewayConfig, parts: Parts) -> GatewayApp:
    """A gateway that is ready to serve. Raises ConfigurationError."""
    clock = parts.clock
    upstreams = {private: HttpUpstream(private) for private in (False, True)}
    backends = {p.name: _backend(p, upstreams[p.private], clock) for p in config.providers}
    allowance = Allowance(parts.ledger, parts.replica, clock)
    dispatch = Dispatch(backends, clock)
    guarded = Guarded(Cached(dispatch, MemoryCache(clock), clock), config.policies)
    metered = Metered(guarded, allowance, prices_of(config), config.projects)
    handler = Recorded(metered, parts.recorders, clock)
    reporting = _Reporting(allowance, parts)

    async def close() -> None:
        await reporting.stop()
        for upstream in upstreams.values():
            await upstream.close()

    gateway = Gateway(config.routes, handler, dispatch, clock, guarded, metered, close)
    return GatewayApp(gateway, parts.doorkeeper, config.max_body_bytes, reporting.start)


def prices_of(config: GatewayConfig) -> PriceTable:
    """The operator's prices first, then the published ones. Our own echo is free."""
    urls = {p.name: p.base_url for p in config.providers if p.base_url and not p.private}
    return FirstKnown(FixedPrices(config.prices), PublishedPrices(urls))


class _Reporting:
    """What goes on while the gateway serves: reports to the ledger, and work of every second."""

    def __init__(self, allowance: Allowance, parts: Parts) -> None:
        self._allowance = allowance
        self._parts = parts
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Starts, once; there must be a running loop."""
        if not self._tasks:
            work = (self._allowance.run(), self._every_second())
            self._tasks = [asyncio.create_task(each) for each in work]

    async def stop(self) -> None:
        """Stops, and gives back what is left of the blocks."""
        if not self._tasks:
            return
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._allowance.give_back()
        self._work()

    async def _every_second(self) -> None:
        while self._parts.every_second:
            await self._parts.clock.wait(1.0)
            self._work()

    def _work(self) -> None:
        for work in self._parts.every_second:
            work()


def _backend(config: ProviderConfig, upstream: HttpUpstream, clock: Clock) -> Backend:
    if config.schema == "echo":
        return EchoBackend(clock, config.delay_s)
    if config.schema == "minilm":
        from genai_gateway.minilm import MiniLmBackend

        return MiniLmBackend()
    base_url = checked_base_url(config.base_url, config.private)
    secret = open_secret(config.secret)
    return RemoteBackend(_adapter(config), upstream, base_url, clock, secret, config.headers)


def _adapter(config: ProviderConfig) -> Adapter:
    if config.schema == "anthropic":
        return AnthropicAdapter()
    if config.schema == "openai-responses":
        return ResponsesAdapter()
    if config.schema == "gemini":
        return GeminiAdapter()
    return OpenAIAdapter(config.max_tokens_field, config.key_header)
