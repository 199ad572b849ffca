"""The port that every chat surface keeps."""

from __future__ import annotations

from typing import Protocol

from genai_gateway.conversation import Answer, ChatRequest, Json
from genai_gateway.errors import GatewayError
from genai_gateway.events import Event


class StreamWriter(Protocol):
    """Writes one streamed answer as server-sent events."""

    def event(self, event: Event) -> bytes:
        """The bytes that tell the client about an event; none if it needs to hear nothing."""
        ...

    def end(self) -> bytes:
        """The bytes after a complete answer."""
        ...

    def problem(self, error: GatewayError, request_id: str) -> bytes:
        """The bytes that say that the answer broke off; nothing follows them."""
        ...


class Surface(Protocol):
    """One schema for clients: it reads requests, and writes answers, streams and errors."""

    schema: str

    def read(self, body: Json) -> ChatRequest:
        """The request in the internal representation. Raises BadRequest."""
        ...

    def answer(self, answer: Answer, request: ChatRequest) -> Json:
        """The body of a whole answer."""
        ...

    def writer(self, request: ChatRequest) -> StreamWriter:
        """A writer for the streamed answer to a request."""
        ...

    def problem(self, error: GatewayError, request_id: str) -> Json:
        """The body of an error."""
        ...
