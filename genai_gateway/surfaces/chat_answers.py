"""The OpenAI chat completions surface: writes answers and streams."""

from __future__ import annotations

from typing import Any

import orjson

from genai_gateway.conversation import (
    OPENAI_CHAT,
    Answer,
    Choice,
    Json,
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
from genai_gateway.openai_words import FINISH_OF, usage_data
from genai_gateway.problems import openai_problem
from genai_gateway.sse import data_event

_END = b"]}\n\n"


def answer_data(answer: Answer) -> Json:
    """A chat completion. Fields of the answer's own provider stay if it speaks this schema."""
    same = answer.schema == OPENAI_CHAT
    data: Json = {
        "id": answer.id,
        "object": "chat.completion",
        "created": answer.created_s,
        "model": answer.model,
        "choices": [_choice(n, choice, same) for n, choice in enumerate(answer.choices)],
    }
    if answer.usage is not None:
        data["usage"] = usage_data(answer.usage)
    return {**(answer.extra if same else {}), **data}


def _choice(index: int, choice: Choice, same: bool) -> Json:
    extra = choice.extra if same else {}
    return {
        **extra.get("choice", {}),
        "index": index,
        "message": {**extra.get("message", {}), **message_data(choice.parts)},
        "finish_reason": FINISH_OF[choice.stop],
    }


def message_data(parts: tuple[Part, ...]) -> Json:
    """What the model said, as an assistant's message."""
    text = "".join(part.text for part in parts if isinstance(part, Text))
    calls = [_tool_call(part) for part in parts if isinstance(part, ToolCall)]
    refusal = "".join(part.text for part in parts if isinstance(part, Refusal))
    thought = "".join(part.text for part in parts if isinstance(part, Reasoning))
    spoken = any(isinstance(part, Text) for part in parts)
    data: Json = {
        "role": "assistant",
        "content": text if spoken else None,
        "refusal": refusal or None,
    }
    if thought:
        data["reasoning_content"] = thought
    if calls:
        data["tool_calls"] = calls
    return data


def _tool_call(call: ToolCall) -> Json:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


class ChatWriter:
    """Writes one streamed chat completion."""

    def __init__(self, with_usage: bool) -> None:
        self._with_usage = with_usage
        self._head: Json = {}
        self._prefix = b""
        self._usage: Usage | None = None
        self._greeted: set[int] = set()

    def event(self, event: Event) -> bytes:
        """The chunk for an event."""
        if isinstance(event, TextDelta) and not event.extra and event.choice in self._greeted:
            # One of these a token: the frame is written once, the words are put between.
            return b'%s{"index":%d,"delta":{"content":%s},"finish_reason":null}%s' % (
                self._prefix,
                event.choice,
                orjson.dumps(event.text),
                _END,
            )
        if isinstance(event, Started):
            return self._start(event)
        if isinstance(event, UsageReported):
            self._usage = event.usage
            return b""
        return self._chunk(event)

    def end(self) -> bytes:
        """The usage, if it was asked for, and the mark of the end."""
        usage = b""
        if self._with_usage and self._usage is not None:
            data = {**self._head, "choices": [], "usage": usage_data(self._usage)}
            usage = data_event(orjson.dumps(data))
        return usage + b"data: [DONE]\n\n"

    def problem(self, error: GatewayError, request_id: str) -> bytes:
        """An error in the place of a chunk: the official clients raise it."""
        return data_event(orjson.dumps(openai_problem(error, request_id)))

    def _start(self, event: Started) -> bytes:
        self._head = {
            "id": event.id,
            "object": "chat.completion.chunk",
            "created": event.created_s,
            "model": event.model,
        }
        self._prefix = b"data: " + orjson.dumps(self._head)[:-1] + b',"choices":['
        return b""

    def _chunk(self, event: Event) -> bytes:
        index, delta, finish = _delta(event)
        first: Json = {}
        if index not in self._greeted:
            self._greeted.add(index)
            first = {"role": "assistant", "content": ""}
        extra = event.extra if isinstance(event, TextDelta) else {}
        choice = {**extra, "index": index, "delta": {**first, **delta}, "finish_reason": finish}
        return self._prefix + orjson.dumps(choice) + _END


def _delta(event: Event) -> tuple[int, Json, str | None]:
    """Choice, delta and finish reason of an event."""
    index: int = getattr(event, "choice", 0)
    if isinstance(event, Finished):
        return index, {}, FINISH_OF[event.stop]
    return index, _delta_data(event), None


def _delta_data(event: Event) -> dict[str, Any]:
    if isinstance(event, TextDelta):
        return {"content": event.text}
    if isinstance(event, ReasoningDelta):
        return {"reasoning_content": event.text}
    if isinstance(event, RefusalDelta):
        return {"refusal": event.text}
    if isinstance(event, ToolStarted):
        function = {"name": event.name, "arguments": ""}
        call = {"index": event.index, "id": event.id, "type": "function", "function": function}
        return {"tool_calls": [call]}
    if isinstance(event, ToolDelta):
        function = {"arguments": event.arguments}
        return {"tool_calls": [{"index": event.index, "function": function}]}
    if isinstance(event, Unknown) and event.schema == OPENAI_CHAT:
        return event.data
    return {}
