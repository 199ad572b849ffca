"""Anthropic's Messages surface: writes answers and streams."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from genai_gateway.anthropic_words import REASON_OF, usage_data
from genai_gateway.conversation import (
    ANTHROPIC,
    Answer,
    Json,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    Usage,
)
from genai_gateway.errors import GatewayError
from genai_gateway.events import (
    Event,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolDelta,
    ToolStarted,
    Unknown,
    UsageReported,
)
from genai_gateway.problems import anthropic_problem
from genai_gateway.sse import named_event


def message_answer(answer: Answer) -> Json:
    """A message of the assistant; further choices than the first have no place in it."""
    choice = answer.choices[0]
    return {
        **(answer.extra if answer.schema == ANTHROPIC else {}),
        "id": answer.id,
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": [block for part in choice.parts for block in _blocks(part)],
        "stop_reason": REASON_OF[choice.stop],
        "stop_sequence": choice.stop_sequence or None,
        "usage": usage_data(answer.usage or Usage()),
    }


def _blocks(part: Part) -> Iterator[Json]:
    if isinstance(part, Text):
        yield {**part.extra, "type": "text", "text": part.text}
    elif isinstance(part, Refusal):
        yield {"type": "text", "text": part.text}
    elif isinstance(part, Reasoning):
        yield {"type": "thinking", "thinking": part.text, "signature": part.signature}
    elif isinstance(part, ToolCall):
        arguments = tool_input(part.arguments)
        yield {**part.extra, "type": "tool_use", "id": part.id, "name": part.name} | arguments
    elif isinstance(part, Opaque) and part.schema == ANTHROPIC:
        yield part.data


def tool_input(arguments: str) -> Json:
    """The arguments as an object; text that is none is kept whole under one name."""
    try:
        data = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        data = None
    return {"input": data if isinstance(data, dict) else {"arguments": arguments}}


class MessagesWriter:
    """Writes one streamed message.

    A block of words ends when another block begins; blocks of tools stay open until the choice is
    finished, since servers may write the arguments of several tools side by side.
    """

    def __init__(self) -> None:
        self._usage = Usage()
        self._next = 0
        self._words: tuple[str, int] | None = None
        self._tools: dict[int, int] = {}
        self._unknown: dict[object, int] = {}
        self._finished = Finished("stop")

    def event(self, event: Event) -> bytes:
        """The events of the surface for an event."""
        if isinstance(event, TextDelta):
            return self._say("text", "text_delta", event.text)
        if isinstance(event, ToolDelta):
            delta = {"type": "input_json_delta", "partial_json": event.arguments}
            return _delta(self._tools[event.index], delta)
        if isinstance(event, Started):
            return self._start(event)
        return self._rare(event)

    def end(self) -> bytes:
        """The stop reason, the usage, and the mark of the end."""
        finished = self._finished
        delta = {
            "type": "message_delta",
            "delta": {
                "stop_reason": REASON_OF[finished.stop],
                "stop_sequence": finished.stop_sequence or None,
            },
            "usage": usage_data(self._usage),
        }
        return self._close_all() + _event(delta) + _event({"type": "message_stop"})

    def problem(self, error: GatewayError, request_id: str) -> bytes:
        """An error event: the official clients raise it."""
        return named_event("error", orjson.dumps(anthropic_problem(error, request_id)))

    def _rare(self, event: Event) -> bytes:
        if isinstance(event, RefusalDelta):
            return self._say("text", "text_delta", event.text)
        if isinstance(event, ReasoningDelta):
            return self._think(event)
        if isinstance(event, ToolStarted):
            return self._start_tool(event)
        if isinstance(event, UsageReported):
            self._usage = event.usage
        elif isinstance(event, Finished):
            self._finished = event
            return self._close_all()
        elif isinstance(event, Unknown) and event.schema == ANTHROPIC:
            return self._pass(event.data)
        return b""

    def _start(self, event: Started) -> bytes:
        self._usage = event.usage or self._usage
        message: Json = {
            "id": event.id,
            "type": "message",
            "role": "assistant",
            "model": event.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_data(self._usage),
        }
        return _event({"type": "message_start", "message": message})

    def _say(self, kind: str, delta: str, text: str) -> bytes:
        begun, index = self._open_words(kind)
        if not text:
            return begun
        name = "thinking" if kind == "thinking" else "text"
        return begun + _delta(index, {"type": delta, name: text})

    def _think(self, event: ReasoningDelta) -> bytes:
        said = self._say("thinking", "thinking_delta", event.text)
        if not event.signature:
            return said
        _, index = self._open_words("thinking")
        return said + _delta(index, {"type": "signature_delta", "signature": event.signature})

    def _open_words(self, kind: str) -> tuple[bytes, int]:
        """The block of words that is open, or a new one with the bytes that open it."""
        if self._words is not None and self._words[0] == kind:
            return b"", self._words[1]
        closed = self._close_words()
        block: Json = {"type": "text", "text": ""}
        if kind == "thinking":
            block = {"type": "thinking", "thinking": "", "signature": ""}
        opened, index = self._open(block)
        self._words = kind, index
        return closed + opened, index

    def _start_tool(self, event: ToolStarted) -> bytes:
        closed = self._close_words()
        block = {**event.extra, "type": "tool_use", "id": event.id, "name": event.name, "input": {}}
        opened, self._tools[event.index] = self._open(block)
        return closed + opened

    def _pass(self, data: Json) -> bytes:
        """A block of which only this schema knows: passed on under its number here."""
        if data["type"] == "content_block_start":
            closed = self._close_words()
            opened, self._unknown[data["index"]] = self._open(data["content_block"])
            return closed + opened
        return _event({**data, "index": self._unknown[data["index"]]})

    def _open(self, block: Json) -> tuple[bytes, int]:
        index = self._next
        self._next += 1
        event = {"type": "content_block_start", "index": index, "content_block": block}
        return _event(event), index

    def _close_words(self) -> bytes:
        if self._words is None:
            return b""
        index, self._words = self._words[1], None
        return _event({"type": "content_block_stop", "index": index})

    def _close_all(self) -> bytes:
        closed = self._close_words()
        for index in self._tools.values():
            closed += _event({"type": "content_block_stop", "index": index})
        self._tools = {}
        return closed


def _delta(index: int, delta: Json) -> bytes:
    return _event({"type": "content_block_delta", "index": index, "delta": delta})


def _event(data: Json) -> bytes:
    return named_event(str(data["type"]), orjson.dumps(data))
