"""Who answers: the port to one provider, and the provider behind HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol, TypeVar, runtime_checkable

import orjson

from genai_gateway.clock import SECOND, Clock
from genai_gateway.conversation import (
    Answer,
    ChatRequest,
    EmbeddingAnswer,
    EmbeddingRequest,
    Json,
)
from genai_gateway.credentials import Secret
from genai_gateway.errors import UpstreamFailed
from genai_gateway.events import Event
from genai_gateway.providers.adapter import Adapter, Call, CountingAdapter
from genai_gateway.providers.failures import failure_in, failure_of
from genai_gateway.sse import EventParser
from genai_gateway.upstream import Response, Upstream

_Parsed = TypeVar("_Parsed")
# What reading an answer of another shape than promised runs into.
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError)


class Turn(Protocol):
    """One request written for one provider, ready to be sent."""

    ignored: tuple[str, ...]

    async def answer(self) -> Answer:
        """The whole answer. Raises UpstreamFailed."""
        ...

    def events(self) -> AsyncIterator[Event]:
        """The answer as it comes. Raises UpstreamFailed, also for a stream without its end."""
        ...


class Backend(Protocol):
    """One provider."""

    def turn(self, request: ChatRequest, model: str) -> Turn:
        """The request in the provider's words. Raises CannotTranslate; sends nothing."""
        ...

    async def embed(self, request: EmbeddingRequest, model: str) -> EmbeddingAnswer:
        """Embeddings. Raises CannotTranslate, UpstreamFailed."""
        ...


@runtime_checkable
class Counting(Protocol):
    """A backend that can have its provider count tokens."""

    async def count(self, request: ChatRequest, model: str) -> int | None:
        """The tokens of a request as the provider counts them; None if it does not."""
        ...


class RemoteBackend:
    """A provider behind HTTP: an adapter for its words, an upstream for its bytes."""

    def __init__(
        self,
        adapter: Adapter,
        upstream: Upstream,
        base_url: str,
        clock: Clock,
        secret: Secret | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._adapter = adapter
        self._upstream = upstream
        self._base_url = base_url
        self._clock = clock
        self._secret = secret or Secret()
        self._headers = {
            **adapter.headers(self._secret.value),
            **(headers or {}),
            "content-type": "application/json",
        }

    def turn(self, request: ChatRequest, model: str) -> RemoteTurn:
        """The request in the provider's words. Raises CannotTranslate."""
        return RemoteTurn(self, self._adapter, request, self._adapter.chat(request, model))

    async def embed(self, request: EmbeddingRequest, model: str) -> EmbeddingAnswer:
        """Embeddings. Raises CannotTranslate, UpstreamFailed."""
        body = await self.json(self._adapter.embed(request, model))
        answer = _parsed(lambda: self._adapter.embedding(body))
        if len(answer.vectors) != len(request.inputs):
            raise UpstreamFailed(
                f"{len(request.inputs)} inputs were sent, {len(answer.vectors)} vectors came back"
            )
        return answer

    async def count(self, request: ChatRequest, model: str) -> int | None:
        """The tokens of a request as the provider counts them; None if it does not."""
        if not isinstance(self._adapter, CountingAdapter):
            return None
        body = await self.json(self._adapter.count(request, model))
        return _parsed(lambda: int(body["input_tokens"]))

    async def json(self, call: Call) -> Json:
        """Sends a call and reads the JSON object in its answer. Raises UpstreamFailed."""
        response = await self._post(call)
        try:
            body = await response.read()
        finally:
            response.close()
        return _object(body)

    async def open(self, call: Call) -> Response:
        """Sends a call and waits for the head of its stream. Raises UpstreamFailed."""
        response = await self._post(call)
        kind = response.headers.get("content-type", "")
        if kind.startswith("text/event-stream"):
            return response
        try:
            raise await self._not_a_stream(response, kind)
        finally:
            response.close()

    async def _post(self, call: Call) -> Response:
        url = self._base_url + call.path
        headers = {**self._headers, **call.headers}
        response = await self._upstream.post(url, headers, orjson.dumps(call.body))
        if response.status == 200:
            return response
        try:
            raise await self._failure(response)
        finally:
            response.close()

    async def _failure(self, response: Response) -> UpstreamFailed:
        try:
            body = _object(await response.read())
        except UpstreamFailed:
            body = {}
        now = datetime.fromtimestamp(self._clock.now() / SECOND, UTC)
        return self._hidden(failure_of(response.status, response.headers, body, now))

    async def _not_a_stream(self, response: Response, kind: str) -> UpstreamFailed:
        body = await response.read()
        if kind.startswith("application/json"):
            data = _object(body)
            if data.get("error"):
                return self._hidden(failure_in(data))
        return UpstreamFailed(
            f"the upstream was asked for a stream, and sent {kind or 'something else'}"
        )

    def _hidden(self, failure: UpstreamFailed) -> UpstreamFailed:
        what, *rest = failure.args
        return UpstreamFailed(self._secret.hide(what), *rest)


class RemoteTurn:
    """One request to a provider behind HTTP."""

    def __init__(
        self, backend: RemoteBackend, adapter: Adapter, request: ChatRequest, call: Call
    ) -> None:
        self._backend = backend
        self._adapter = adapter
        self._request = request
        self._call = call
        self.ignored = call.ignored

    async def answer(self) -> Answer:
        """The whole answer. Raises UpstreamFailed."""
        body = await self._backend.json(self._call)
        return _parsed(lambda: self._adapter.answer(body, self._request))

    async def events(self) -> AsyncIterator[Event]:
        """The answer as it comes. Raises UpstreamFailed, also for a stream without its end."""
        response = await self._backend.open(self._call)
        reader, parser = self._adapter.reader(self._request), EventParser()
        try:
            async for chunk in response.chunks():
                for name, data in parser.feed(chunk):
                    try:
                        events = list(reader.feed(name, data))
                    except _MALFORMED as error:
                        raise _malformed(error) from None
                    for event in events:
                        yield event
            if not reader.complete:
                raise UpstreamFailed("the upstream's stream ended before the answer was complete")
        finally:
            response.close()


def _object(body: bytes) -> Json:
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        data = None
    if not isinstance(data, dict):
        raise UpstreamFailed("the upstream's answer is not a JSON object")
    return data


def _parsed(read: Callable[[], _Parsed]) -> _Parsed:
    try:
        return read()
    except _MALFORMED as error:
        raise _malformed(error) from None


def _malformed(error: Exception) -> UpstreamFailed:
    return UpstreamFailed(f"the upstream's answer is not of its schema ({type(error).__name__})")
