"""A provider that needs no server: it repeats what it was told, and says plainly that it does."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import orjson

from genai_gateway.clock import SECOND, Clock
from genai_gateway.conversation import (
    Answer,
    ChatRequest,
    Choice,
    EmbeddingAnswer,
    EmbeddingRequest,
    Part,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
)
from genai_gateway.errors import CannotTranslate
from genai_gateway.events import Event, ToolDelta, unfold
from genai_gateway.events import TextDelta as Words
from genai_gateway.tokens import estimated_tokens, text_of

PREFACE = "This is the echo model; it understands nothing. You said: "


class EchoBackend:
    """Answers a turn with its last message; calls a tool only where the request demands one.

    The same request gets the same answer. Embeddings are refused: an echo has no meaning in it.
    """

    def __init__(self, clock: Clock, delay_s: float = 0.0) -> None:
        self._clock = clock
        self._delay_s = delay_s

    def turn(self, request: ChatRequest, model: str) -> EchoTurn:
        """The request, ready to be repeated."""
        return EchoTurn(request, model, self._clock, self._delay_s)

    async def embed(self, request: EmbeddingRequest, model: str) -> EmbeddingAnswer:
        """Raises CannotTranslate."""
        raise CannotTranslate(
            "the echo model makes no embeddings", "Ask a model that does.", "model"
        )


class EchoTurn:
    """One request to the echo; ``delay_s`` is how long it takes over each word."""

    ignored: tuple[str, ...] = ()

    def __init__(self, request: ChatRequest, model: str, clock: Clock, delay_s: float) -> None:
        self._request = request
        self._model = model
        self._clock = clock
        self._delay_s = delay_s

    async def answer(self) -> Answer:
        """The whole echo."""
        return self._answer()

    async def events(self) -> AsyncIterator[Event]:
        """The echo, word by word."""
        for event in unfold(self._answer()):
            for piece in _pieces(event):
                if self._delay_s:
                    await self._clock.wait(self._delay_s)
                yield piece

    def _answer(self) -> Answer:
        request = self._request
        part, tools = _part(request)
        text = part.text if isinstance(part, Text) else ""
        words = text.split(" ")
        bound = request.max_tokens
        cut = bound is not None and len(words) > bound
        if cut:
            part = Text(" ".join(words[:bound]))
        usage = Usage(estimated_tokens(request), min(len(words), bound or len(words)))
        choice = Choice((part,), "tools" if tools else "length" if cut else "stop")
        return Answer(
            _id(request),
            self._model,
            self._clock.now() // SECOND,
            (choice,) * request.choices,
            usage,
        )


def _part(request: ChatRequest) -> tuple[Part, bool]:
    """The part that is the answer, and whether it calls a tool."""
    tool = _demanded(request)
    said = _last_words(request)
    if tool is not None:
        arguments = orjson.dumps({"echo": said}).decode()
        return ToolCall(f"call_{_digest(said)}", tool.name, arguments), True
    if request.output is not None:
        return Text(orjson.dumps({"echo": said}).decode()), False
    return Text(PREFACE + said), False


def _demanded(request: ChatRequest) -> Tool | None:
    choice = request.tool_choice
    if choice is None or choice.mode not in ("any", "one"):
        return None
    tools = [tool for tool in request.tools if isinstance(tool, Tool)]
    named = [tool for tool in tools if choice.mode == "any" or tool.name == choice.name]
    return named[0] if named else None


def _last_words(request: ChatRequest) -> str:
    parts = request.messages[-1].parts
    inner = [p for part in parts for p in (part.parts if isinstance(part, ToolResult) else (part,))]
    return " ".join(text_of(part) for part in inner if text_of(part))


def _pieces(event: Event) -> list[Event]:
    if isinstance(event, Words):
        words = event.text.split(" ")
        spaced = [words[0], *(f" {word}" for word in words[1:])]
        return [Words(word, event.choice) for word in spaced]
    if isinstance(event, ToolDelta):
        text = event.arguments
        cuts = range(0, len(text), 8)
        return [ToolDelta(event.index, text[n : n + 8], event.choice) for n in cuts]
    return [event]


def _id(request: ChatRequest) -> str:
    return f"echo-{_digest(_last_words(request))}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
