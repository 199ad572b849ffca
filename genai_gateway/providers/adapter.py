"""The port that every provider's adapter keeps. An adapter does no input or output."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from genai_gateway.conversation import (
    Answer,
    ChatRequest,
    EmbeddingAnswer,
    EmbeddingRequest,
    Extra,
    Json,
)
from genai_gateway.errors import CannotTranslate
from genai_gateway.events import Event

# Fields that only make things cheaper or are for bookkeeping: where a schema has no word for one
# it is left out, and the answer's header ``x-tondo-ignored`` says so. All others are refused.
HINTS = frozenset(
    {
        "cache_control",
        "include",
        "metadata",
        "prompt_cache_key",
        "prompt_cache_retention",
        "reasoning",
        "safety_identifier",
        "service_tier",
        "store",
        "truncation",
        "user",
        "verbosity",
    }
)


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request to a model's server; ``ignored`` names the hints it has no word for."""

    path: str
    body: Json
    headers: dict[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()


class StreamReader(Protocol):
    """Reads one streamed answer."""

    def feed(self, event: bytes, data: bytes) -> Iterable[Event]:
        """The events in one server-sent event. Raises UpstreamFailed for an error inside it."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the answer is whole; a stream that ends before is a failure."""
        ...


class Adapter(Protocol):
    """One provider schema."""

    schema: str

    def headers(self, secret: str) -> dict[str, str]:
        """The headers that prove who asks."""
        ...

    def chat(self, request: ChatRequest, model: str) -> Call:
        """The call for a turn. Raises CannotTranslate."""
        ...

    def answer(self, body: Json, request: ChatRequest) -> Answer:
        """A whole answer. Raises UpstreamFailed for an empty one."""
        ...

    def reader(self, request: ChatRequest) -> StreamReader:
        """A reader for a streamed answer to a request."""
        ...

    def embed(self, request: EmbeddingRequest, model: str) -> Call:
        """The call for embeddings. Raises CannotTranslate."""
        ...

    def embedding(self, body: Json) -> EmbeddingAnswer:
        """The embeddings in an answer."""
        ...


@runtime_checkable
class CountingAdapter(Protocol):
    """A schema in which tokens can be counted before they are sent."""

    def count(self, request: ChatRequest, model: str) -> Call:
        """The call that counts the tokens of a turn. Raises CannotTranslate."""
        ...


class Refusals:
    """Collects what an adapter leaves out; refuses what would change the meaning."""

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._ignored: dict[str, None] = {}

    @property
    def ignored(self) -> tuple[str, ...]:
        """The hints that were left out."""
        return tuple(self._ignored)

    def extra(self, extra: Extra, own: bool) -> Extra:
        """The extra fields to send on: all if the request is of the adapter's own schema."""
        if own or not extra:
            return extra
        for name in extra:
            if name not in HINTS:
                raise self.no_word(name)
            self._ignored[name] = None
        return {}

    def hint(self, name: str, present: object) -> None:
        """Notes a hint that is left out."""
        if present:
            self._ignored[name] = None

    def needs(self, name: str, present: object) -> None:
        """Refuses a field that the schema has no word for. Raises CannotTranslate."""
        if present:
            raise self.no_word(name)

    def no_word(self, name: str) -> CannotTranslate:
        """The error for a field that the schema has no word for."""
        return CannotTranslate(
            f"{name} cannot be said to a model that speaks the {self._schema} schema",
            f"Leave {name} out, or ask a model whose targets all speak the schema you use.",
            name,
        )
