"""The HTTP shell: a raw ASGI object under ``/llm``, from bytes to an exchange and back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import orjson

from genai_gateway.conversation import Answer, Json
from genai_gateway.errors import BadRequest, GatewayError, TooLarge
from genai_gateway.exchange import Exchange
from genai_gateway.gateway import Gateway
from genai_gateway.keys import Doorkeeper
from genai_gateway.problems import error_headers, status_of
from genai_gateway.reading import parse_object
from genai_gateway.surfaces.registry import Endpoint, endpoint_of
from genai_gateway.surfaces.surface import Surface

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

PREFIX = "/llm"
MAX_BODY_BYTES = 8 * 1024 * 1024
_JSON = (b"content-type", b"application/json")
_STREAM = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
_KEPT = frozenset({"cache-control"})

_log = logging.getLogger("tondo.llm")


@dataclass(slots=True)
class Request:
    """One HTTP request: its headers (lower case, only the last of each), id and endpoint."""

    scope: Scope
    receive: Receive
    send: Send
    headers: dict[str, str]
    id: str
    endpoint: Endpoint | None = None
    begun: bool = False

    def problem_surface(self) -> Surface:
        """The surface in whose shape errors are told."""
        from genai_gateway.surfaces.registry import surface_for_errors

        return surface_for_errors(self.endpoint, self.headers)


class GatewayApp:
    """Routes, authenticates, bounds, reads and writes; everything else is the gateway's."""

    def __init__(
        self,
        gateway: Gateway,
        doorkeeper: Doorkeeper,
        max_body_bytes: int = MAX_BODY_BYTES,
        begin: Callable[[], None] | None = None,
    ) -> None:
        self._gateway = gateway
        self._doorkeeper = doorkeeper
        self._max_body_bytes = max_body_bytes
        self._begin = begin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one ASGI connection: a request, or the lifespan protocol."""
        if self._begin is not None:
            self._begin()
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def close(self) -> None:
        """Ends what runs behind the requests, and closes connections."""
        await self._gateway.close()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        request_id = headers.get("x-request-id", "")[:128] or f"req_{uuid4().hex}"
        request = Request(scope, receive, send, headers, request_id)
        try:
            await self._answer(request)
        except Exception as error:
            await self._refuse(request, _told(error, request))

    async def _answer(self, request: Request) -> None:
        scope = request.scope
        endpoint = request.endpoint = endpoint_of(scope["method"], _path(scope))
        if endpoint.kind == "health":
            return await _whole(request, 200, b'{"status":"ok"}', [])
        caller = self._doorkeeper.admit(
            request.headers.get("authorization", ""), request.headers.get("x-api-key", "")
        )
        caller.may(endpoint.scope)
        if endpoint.kind == "models":
            body = self._gateway.models(caller, endpoint, request.headers)
            return await _whole(request, 200, orjson.dumps(body), [])
        data = parse_object(await self._body(request.receive))
        endpoint.check(request.headers, data)
        watcher = asyncio.create_task(_cancel_when_gone(request.receive, asyncio.current_task()))
        try:
            if endpoint.kind == "chat":
                await self._chat(request, endpoint, caller, data)
            else:
                await self._plain(request, endpoint, caller, data)
        except asyncio.CancelledError:
            if not (watcher.done() and not watcher.cancelled()):
                raise
            # The client is gone: the layers have closed what they held, nobody wants an answer.
            _uncancel()
        finally:
            watcher.cancel()

    async def _plain(self, request: Request, endpoint: Endpoint, caller: Any, data: Json) -> None:
        """Embeddings and counting: one body in, one body out."""
        if endpoint.kind == "embeddings":
            body, extra = await self._gateway.embed(caller, request.id, data)
        else:
            body, extra = await self._gateway.count(caller, data), []
        await _whole(request, 200, orjson.dumps(body), extra)

    async def _chat(self, request: Request, endpoint: Endpoint, caller: Any, data: Json) -> None:
        surface = endpoint.surface
        wanted = {k: v for k, v in request.headers.items() if k in _KEPT}
        exchange = self._gateway.open(caller, request.id, endpoint, surface.read(data), wanted)
        reply = await self._gateway.answer(exchange)
        if isinstance(reply, Answer):
            body = orjson.dumps(surface.answer(reply, exchange.request))
            await _whole(request, 200, body, _about(exchange))
        else:
            await self._stream(request, surface, exchange, reply)

    async def _stream(
        self, request: Request, surface: Surface, exchange: Exchange, events: AsyncIterator[Any]
    ) -> None:
        writer, send = surface.writer(exchange.request), request.send
        # The first event is taken before anything else is waited for: from here on every layer has
        # begun, and settles what it holds when the stream is closed.
        first = await anext(events)
        request.begun = True
        try:
            await _start(request, 200, [*_STREAM, *_about(exchange)])
            data = writer.event(first)
            if data:
                await send({"type": "http.response.body", "body": data, "more_body": True})
            async for event in events:
                data = writer.event(event)
                if data:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
            last = writer.end()
        except Exception as error:
            last = writer.problem(_told(error, request), request.id)
        finally:
            await events.aclose()  # type: ignore[attr-defined]
        await send({"type": "http.response.body", "body": last})

    async def _refuse(self, request: Request, error: GatewayError) -> None:
        if request.begun:
            return
        body = orjson.dumps(request.problem_surface().problem(error, request.id))
        await _whole(request, status_of(error), body, error_headers(error))

    async def _body(self, receive: Receive) -> bytes:
        message = await receive()
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False) and len(body) <= self._max_body_bytes:
            return body
        return await self._rest(receive, body, message)

    async def _rest(self, receive: Receive, body: bytes, message: Message) -> bytes:
        parts, size = [body], len(body)
        while message.get("more_body", False):
            message = await receive()
            part: bytes = message.get("body", b"")
            size += len(part)
            # Past the bound the rest is read and dropped: an answer follows a whole request.
            if size <= self._max_body_bytes:
                parts.append(part)
        if message["type"] == "http.disconnect":
            raise BadRequest("the request broke off")
        if size > self._max_body_bytes:
            raise TooLarge(
                f"the body has {size:,} bytes, more than {self._max_body_bytes:,}",
                "Send less at a time, or pictures by URL.",
            )
        return b"".join(parts)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self.close()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path[len(PREFIX) :] if path.startswith(f"{PREFIX}/") else path


def _told(error: Exception, request: Request) -> GatewayError:
    """The error that the client is told; what nobody foresaw is told without its details."""
    if isinstance(error, GatewayError):
        return error
    _log.error("request failed", exc_info=error, extra={"request_id": request.id})
    return GatewayError("the gateway failed", f"Tell its operator the id {request.id}.")


def _about(exchange: Exchange) -> Headers:
    """Headers that say who answered, and what was left out."""
    about: list[tuple[bytes, str]] = []
    if exchange.served is not None:
        about.append((b"x-tondo-model", exchange.served.name))
        about.append((b"x-tondo-attempts", str(exchange.attempts)))
    if exchange.ignored:
        about.append((b"x-tondo-ignored", ", ".join(exchange.ignored)))
    if exchange.cache:
        about.append((b"x-tondo-cache", exchange.cache))
    return [(name, value.encode("latin-1", "replace")) for name, value in about]


async def _whole(request: Request, status: int, body: bytes, headers: Headers) -> None:
    request.begun = True
    await _start(request, status, [_JSON, (b"content-length", b"%d" % len(body)), *headers])
    await request.send({"type": "http.response.body", "body": body})


async def _start(request: Request, status: int, headers: Headers) -> None:
    id_ = request.id.encode("latin-1", "replace")
    named = [(b"x-request-id", id_), (b"request-id", id_), *headers]
    await request.send({"type": "http.response.start", "status": status, "headers": named})


async def _cancel_when_gone(receive: Receive, task: asyncio.Task[Any] | None) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    if task is not None:
        task.cancel()


def _uncancel() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
