"""The OpenAI schema: reads chat completions, whole and streamed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from genai_gateway.conversation import (
    NOTHING,
    OPENAI_CHAT,
    Answer,
    Choice,
    Json,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
)
from genai_gateway.errors import UpstreamFailed
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
from genai_gateway.openai_words import STOP_OF, usage_of
from genai_gateway.providers.failures import failure_in

_TOP = {"id", "object", "created", "model", "choices", "usage"}
_CHOICE = {"index", "message", "finish_reason"}
_MESSAGE = {"role", "content", "refusal", "tool_calls", "reasoning_content", "reasoning"}
_DELTA = _MESSAGE | {"function_call"}


def chat_answer(body: Json) -> Answer:
    """A whole answer. Raises UpstreamFailed for an error inside it, and for an empty one."""
    if body.get("error"):
        raise failure_in(body)
    choices = tuple(_choice(data) for data in body.get("choices") or ())
    if not choices or (choices[0].stop == "stop" and not any(c.parts for c in choices)):
        raise UpstreamFailed("the upstream's answer is empty")
    usage = body.get("usage")
    return Answer(
        id=str(body.get("id") or ""),
        model=str(body.get("model") or ""),
        created_s=int(body.get("created") or 0),
        choices=choices,
        usage=usage_of(usage) if usage else None,
        schema=OPENAI_CHAT,
        extra=_without(body, _TOP),
    )


def _choice(data: Json) -> Choice:
    message = data["message"]
    extra = {"choice": _without(data, _CHOICE), "message": _without(message, _MESSAGE)}
    stop = STOP_OF.get(data.get("finish_reason") or "stop", "stop")
    return Choice(tuple(_parts(message)), stop, extra=extra)


def _parts(message: Json) -> Iterator[Part]:
    thought = message.get("reasoning_content") or message.get("reasoning")
    if thought and isinstance(thought, str):
        yield Reasoning(thought)
    if message.get("content"):
        yield Text(message["content"])
    if message.get("refusal"):
        yield Refusal(message["refusal"])
    for call in message.get("tool_calls") or ():
        yield _tool_call(call)


def _tool_call(call: Json) -> Part:
    if "function" not in call:
        return Opaque(OPENAI_CHAT, call)
    function = call["function"]
    return ToolCall(call["id"], function["name"], function.get("arguments") or "")


def _without(data: Json, names: set[str]) -> Json:
    return {name: value for name, value in data.items() if name not in names}


class OpenAIReader:
    """Reads one streamed chat completion; it is complete when every choice has a finish reason."""

    def __init__(self, choices: int = 1) -> None:
        self._wanted = choices
        self._finished: set[int] = set()
        self._started = False
        self._tools: set[tuple[int, int]] = set()

    @property
    def complete(self) -> bool:
        """Whether every choice that was asked for is finished."""
        return len(self._finished) >= self._wanted

    def feed(self, event: bytes, data: bytes) -> Iterator[Event]:
        """The events in one chunk. Raises UpstreamFailed for an error inside it."""
        if data == b"[DONE]":
            return
        chunk = orjson.loads(data)
        if chunk.get("error"):
            raise failure_in(chunk)
        if not self._started:
            self._started = True
            yield _started(chunk)
        for choice in chunk.get("choices") or ():
            yield from self._choice(choice)
        if chunk.get("usage"):
            yield UsageReported(usage_of(chunk["usage"]))

    def _choice(self, choice: Json) -> Iterator[Event]:
        number: int = choice.get("index") or 0
        delta = choice.get("delta") or {}
        text = delta.get("content")
        if text:
            logprobs = choice.get("logprobs")
            yield TextDelta(text, number, {"logprobs": logprobs} if logprobs else NOTHING)
        if len(delta) > (1 if text else 0):
            yield from self._rare(delta, number)
        reason = choice.get("finish_reason")
        if reason and number not in self._finished:
            self._finished.add(number)
            yield Finished(STOP_OF.get(reason, "stop"), number)

    def _rare(self, delta: Json, number: int) -> Iterator[Event]:
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if thought and isinstance(thought, str):
            yield ReasoningDelta(thought, number)
        if delta.get("refusal"):
            yield RefusalDelta(delta["refusal"], number)
        for call in delta.get("tool_calls") or ():
            yield from self._tool(call, number)
        unknown = {k: v for k, v in delta.items() if k not in _DELTA and v is not None}
        if unknown:
            yield Unknown(OPENAI_CHAT, unknown, number)

    def _tool(self, call: Json, number: int) -> Iterator[Event]:
        index: int = call.get("index") or 0
        function: dict[str, Any] = call.get("function") or {}
        if (number, index) not in self._tools:
            self._tools.add((number, index))
            yield ToolStarted(index, call.get("id") or f"call_{index}", function["name"], number)
        if function.get("arguments"):
            yield ToolDelta(index, function["arguments"], number)


def _started(chunk: Json) -> Started:
    created = int(chunk.get("created") or 0)
    return Started(str(chunk.get("id") or ""), str(chunk.get("model") or ""), created)
