"""One request on its way through the gateway, and the shape of every layer it passes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from genai_gateway.conversation import Answer, ChatRequest, Usage
from genai_gateway.events import Event
from genai_gateway.guardrails.placeholders import Vault
from genai_gateway.guardrails.steps import Report
from genai_gateway.keys import Caller
from genai_gateway.routing import Route, Target


@dataclass(slots=True)
class Exchange:
    """A request with what the layers found out about it; times are UTC microseconds."""

    id: str
    surface: str
    caller: Caller
    route: Route
    request: ChatRequest
    started: int
    headers: Mapping[str, str] = field(default_factory=dict)
    served: Target | None = None
    attempts: int = 0
    ignored: tuple[str, ...] = ()
    usage: Usage | None = None
    cost_nano_usd: int = 0
    excess_nano_usd: int = 0
    cache: str = ""
    first_token: int = 0
    finished: int = 0
    report: Report | None = None
    vault: Vault | None = None


Reply = Answer | AsyncIterator[Event]
Handler = Callable[[Exchange], Awaitable[Reply]]


class Layer(Protocol):
    """A step of the stack: it may look at the request, at the reply, and at what went wrong.

    A reply is an ``Answer``, or, if the request asked for a stream, the stream's events; whoever
    takes a stream closes it (``aclose``), and so everything behind it.
    """

    async def __call__(self, exchange: Exchange) -> Reply:
        """Answers the exchange."""
        ...
