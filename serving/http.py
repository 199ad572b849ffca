"""The HTTP shell: a raw ASGI object, and the lane that brings requests straight to it.

Serve mounts the application behind its own request path (a task, a request context and two metric
samples a request, about half of the CPU time of a prediction here). ``FastLane`` is an ASGI
middleware that Serve puts in front of that path in every replica; once a replica has opened the
lane, predictions bypass it. Health checks and drain stay Serve's, so a draining replica still
leaves HAProxy's rotation before it ends.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from secrets import token_hex
from time import perf_counter_ns
from typing import Any
from urllib.parse import unquote

import orjson

from features.errors import TondoError
from serving.access import KeyCheck
from serving.errors import NotFound, Overloaded, TooLarge, Unauthorized
from serving.predictor import Metrics, Predictor
from serving.problem import PROBLEM_JSON, problem_of
from serving.requests import parse_json

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY = 16 * 1024 * 1024
MAX_IN_FLIGHT = 512
_JSON = b"application/json"
_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY

_PROCESS = token_hex(10)
_COUNT = itertools.count()

_log = logging.getLogger("tondo.serving")


class PredictionApp:
    """Routes, authenticates, bounds and answers; everything else is the predictor's."""

    def __init__(self, predictor: Predictor, keys: KeyCheck, metrics: Metrics) -> None:
        self._predictor = predictor
        self._keys = keys
        self._metrics = metrics
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one ASGI connection: a request, or the lifespan protocol."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter_ns()
        request_id = ""
        self._in_flight += 1
        route = "other"
        try:
            authorization, request_id = _headers(scope)
            route = self._admit(scope, authorization)
            body = await _body(receive)
            status, kind, answer = self._answer(route, scope, body, request_id)
        except Exception as error:
            status, kind, answer = _failed(error, scope, request_id)
        finally:
            self._in_flight -= 1
        await _send(send, status, kind, answer, request_id)
        self._metrics.answered(route, status, (perf_counter_ns() - started) / 1_000)

    def _admit(self, scope: Scope, authorization: bytes) -> str:
        route = _route(scope["method"], scope["path"])
        if route == "health":
            return route
        if not self._keys.allows(authorization):
            raise Unauthorized(
                "no known key came with the request",
                "send Authorization: Bearer <key>; `tondo keys create` makes one",
            )
        if self._in_flight > MAX_IN_FLIGHT:
            raise Overloaded(f"{MAX_IN_FLIGHT} requests are in flight here", "try again shortly")
        return route

    def _answer(
        self, route: str, scope: Scope, body: bytes, request_id: str
    ) -> tuple[int, bytes, bytes]:
        if route == "predict":
            name = scope["path"][len("/v1/models/") : -len("/predict")]
            given = parse_json(body)
            answer: object = self._predictor.predict(
                unquote(name), given, request_id, explain=_explain(scope)
            )
        elif route == "features":
            name = scope["path"][len("/v1/features/") :]
            answer = self._predictor.features(
                unquote(name), parse_json(body), request_id, explain=_explain(scope)
            )
        elif route == "models":
            answer = {"models": self._predictor.models()}
        else:
            answer = {"status": "ok"}
        return 200, _JSON, orjson.dumps(answer, option=_OPTIONS)


class FastLane:
    """An ASGI middleware: requests take this process's lane if it is open, else Serve's path."""

    handler: App | None = None

    def __init__(self, app: App) -> None:
        self._app = app

    @classmethod
    def open(cls, handler: App) -> None:
        """From now on this process answers its requests with ``handler`` directly."""
        cls.handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on Serve's own paths (``/-/…``) and, while the lane is shut, everything."""
        handler = FastLane.handler
        if handler is None or scope["type"] != "http" or scope["path"].startswith("/-/"):
            await self._app(scope, receive, send)
        else:
            await handler(scope, receive, send)


def ingress_middlewares() -> list[object]:
    """What ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`` names: put before Serve's own path."""
    from starlette.middleware import Middleware

    return [Middleware(FastLane)]


def _route(method: str, path: str) -> str:
    if method == "POST":
        if path.startswith("/v1/models/") and path.endswith("/predict"):
            return "predict"
        if path.startswith("/v1/features/"):
            return "features"
    elif method == "GET":
        if path == "/v1/models":
            return "models"
        if path == "/healthz":
            return "health"
    raise NotFound(
        f"{method} {path} is not a route",
        "POST /v1/models/{model}/predict, POST /v1/features/{service}, GET /v1/models, /healthz",
    )


def _headers(scope: Scope) -> tuple[bytes, str]:
    authorization = b""
    request_id = b""
    for name, value in scope["headers"]:
        if name == b"authorization":
            authorization = value
        elif name == b"x-request-id":
            request_id = value
    return authorization, request_id[:128].decode("latin-1") or _new_id()


def _new_id() -> str:
    """32 hex digits, as no other process has them: random ones, then a count.

    Random digits for every request would be a system call for every request.
    """
    return f"{_PROCESS}{next(_COUNT):012x}"


def _explain(scope: Scope) -> bool:
    query = scope["query_string"]
    return bool(query) and b"explain=1" in query.split(b"&")


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return _bounded(body)
    return await _rest(receive, [body])


async def _rest(receive: Receive, parts: list[bytes]) -> bytes:
    size, more = len(parts[0]), True
    while more:
        message = await receive()
        part: bytes = message.get("body", b"")
        size += len(part)
        more = message.get("more_body", False)
        # Past the bound the rest is read and dropped: an answer may only follow a whole request.
        if size <= MAX_BODY:
            parts.append(part)
    if size > MAX_BODY:
        raise _too_large(size)
    return b"".join(parts)


def _bounded(body: bytes) -> bytes:
    if len(body) > MAX_BODY:
        raise _too_large(len(body))
    return body


def _too_large(size: int) -> TooLarge:
    return TooLarge(
        f"the body has {size:,} bytes, more than {MAX_BODY:,}", "send fewer rows at a time"
    )


def _failed(error: Exception, scope: Scope, request_id: str) -> tuple[int, bytes, bytes]:
    status, body = problem_of(error, request_id)
    if not isinstance(error, TondoError):
        _log.error(
            "request failed",
            exc_info=error,
            extra={"request_id": request_id, "path": scope["path"], "status": status},
        )
    return status, PROBLEM_JSON, body


async def _send(send: Send, status: int, kind: bytes, body: bytes, request_id: str) -> None:
    headers = [
        (b"content-type", kind),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode("latin-1")),
    ]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    elif status == 503:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
