"""The gateway: a table of routes, and the stack of layers every exchange passes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from genai_gateway.clock import Clock
from genai_gateway.conversation import ChatRequest, Json, Usage
from genai_gateway.dispatch import Dispatch
from genai_gateway.errors import Forbidden, NotFound
from genai_gateway.exchange import Exchange, Handler, Reply
from genai_gateway.guardrails.layer import Guarded
from genai_gateway.keys import Caller
from genai_gateway.money.layer import Metered
from genai_gateway.routing import Route
from genai_gateway.surfaces.embeddings import embedding_data, read_embedding
from genai_gateway.surfaces.messages import MessagesSurface
from genai_gateway.surfaces.registry import Endpoint
from genai_gateway.tokens import estimated_tokens

Headers = list[tuple[bytes, bytes]]
_CREATED_S = 1_700_000_000


class Gateway:
    """Answers exchanges. ``handler`` is the whole stack; ``dispatch`` its innermost layer."""

    def __init__(
        self,
        routes: Mapping[str, Route],
        handler: Handler,
        dispatch: Dispatch,
        clock: Clock,
        guarded: Guarded,
        metered: Metered,
        close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._routes = routes
        self._handler = handler
        self._dispatch = dispatch
        self._clock = clock
        self._guarded = guarded
        self._metered = metered
        self._close = close

    def open(
        self,
        caller: Caller,
        request_id: str,
        endpoint: Endpoint,
        request: ChatRequest,
        headers: Mapping[str, str],
    ) -> Exchange:
        """A new exchange. Raises NotFound or Forbidden for its model."""
        route = self._route(caller, request.model)
        now = self._clock.now()
        return Exchange(request_id, endpoint.name, caller, route, request, now, headers)

    async def answer(self, exchange: Exchange) -> Reply:
        """Sends an exchange through the stack."""
        return await self._handler(exchange)

    async def embed(self, caller: Caller, request_id: str, data: Json) -> tuple[Json, Headers]:
        """The body of embeddings, and headers that say who made them."""
        request = read_embedding(data)
        route = self._route(caller, request.model)
        reservation = await self._metered.reserve_embedding(request_id, caller, route, request)
        target, usage = None, Usage()
        try:
            hidden, _ = self._guarded.embedding(route.policy, request)
            target, answer = await self._dispatch.embed(route, hidden)
            usage = answer.usage if answer.usage.total else Usage(estimated_tokens(request))
        finally:
            self._metered.settle_embedding(reservation, target, usage)
        return embedding_data(answer, request), [(b"x-tondo-model", target.name.encode())]

    async def count(self, caller: Caller, data: Json) -> Json:
        """How many tokens a request has; about how many, if its provider does not count."""
        request = MessagesSurface().read_count(data)
        route = self._route(caller, request.model)
        hidden = self._guarded.hidden(route.policy, request)
        return {"input_tokens": await self._dispatch.count(route, hidden)}

    def models(self, caller: Caller, endpoint: Endpoint, headers: Mapping[str, str]) -> Json:
        """The models that a key may use, or one of them. Raises NotFound."""
        anthropic = "anthropic-version" in headers
        show = _anthropic_model if anthropic else _openai_model
        if endpoint.model:
            return show(self._route(caller, endpoint.model).name)
        shown = [show(name) for name in sorted(self._routes) if caller.may_use(name)]
        if not anthropic:
            return {"object": "list", "data": shown}
        ends = {"first_id": shown[0]["id"], "last_id": shown[-1]["id"]} if shown else {}
        return {"data": shown, "has_more": False, "first_id": None, "last_id": None, **ends}

    async def close(self) -> None:
        """Closes what the gateway holds open."""
        if self._close is not None:
            await self._close()

    def _route(self, caller: Caller, model: str) -> Route:
        route = self._routes.get(model)
        if route is None:
            names = sorted(name for name in self._routes if caller.may_use(name))
            raise NotFound(
                f"there is no model {model[:100]!r}", f"There are: {', '.join(names) or 'none'}."
            )
        if not caller.may_use(model):
            raise Forbidden(
                f"the key {caller.key} may not use the model {model}",
                f"It may use {', '.join(caller.models)}.",
            )
        return route


def _openai_model(name: str) -> Json:
    return {"id": name, "object": "model", "created": _CREATED_S, "owned_by": "tondo"}


def _anthropic_model(name: str) -> Json:
    created = "2023-11-14T22:13:20Z"
    return {"id": name, "type": "model", "display_name": name, "created_at": created}
