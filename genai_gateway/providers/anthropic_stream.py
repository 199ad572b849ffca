"""Anthropic's schema: reads streamed answers."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from genai_gateway.anthropic_words import STOP_OF, usage_of
from genai_gateway.conversation import ANTHROPIC, Json, Usage
from genai_gateway.events import (
    Event,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolDelta,
    ToolStarted,
    Unknown,
    UsageReported,
)
from genai_gateway.providers.failures import failure_in

_KNOWN = ("text", "tool_use", "thinking")


class AnthropicReader:
    """Reads one streamed message; it is complete when its stop reason is here."""

    def __init__(self) -> None:
        self._usage = Usage()
        self._tools: dict[int, int] = {}
        self._unknown: set[int] = set()
        self._complete = False

    @property
    def complete(self) -> bool:
        """Whether the stop reason has come."""
        return self._complete

    def feed(self, event: bytes, data: bytes) -> Iterator[Event]:
        """The events in one server-sent event. Raises UpstreamFailed for an error inside it."""
        body = orjson.loads(data)
        kind = body["type"]
        if kind == "content_block_delta":
            yield from self._delta(body)
        elif kind == "content_block_start":
            yield from self._block(body)
        elif kind == "content_block_stop" and body["index"] in self._unknown:
            yield Unknown(ANTHROPIC, body)
        elif kind == "message_start":
            yield self._start(body["message"])
        elif kind == "message_delta":
            yield from self._end(body)
        elif kind == "error":
            raise failure_in(body)

    def _start(self, message: Json) -> Started:
        self._usage = usage_of(message.get("usage") or {})
        return Started(message["id"], message["model"], 0, self._usage)

    def _block(self, body: Json) -> Iterator[Event]:
        block, index = body["content_block"], body["index"]
        if block["type"] == "tool_use":
            number = self._tools[index] = len(self._tools)
            yield ToolStarted(number, block["id"], block["name"])
            if block.get("input"):
                yield ToolDelta(number, orjson.dumps(block["input"]).decode())
        elif block["type"] not in _KNOWN:
            self._unknown.add(index)
            yield Unknown(ANTHROPIC, body)
        elif block.get("text"):
            yield TextDelta(block["text"])

    def _delta(self, body: Json) -> Iterator[Event]:
        delta, index = body["delta"], body["index"]
        kind = delta["type"]
        if index in self._unknown:
            yield Unknown(ANTHROPIC, body)
        elif kind == "text_delta":
            yield TextDelta(delta["text"])
        elif kind == "input_json_delta":
            if delta["partial_json"]:
                yield ToolDelta(self._tools[index], delta["partial_json"])
        elif kind == "thinking_delta":
            yield ReasoningDelta(delta["thinking"])
        elif kind == "signature_delta":
            yield ReasoningDelta("", 0, delta["signature"])

    def _end(self, body: Json) -> Iterator[Event]:
        delta = body["delta"]
        if delta.get("stop_reason") and not self._complete:
            self._complete = True
            stop = STOP_OF.get(delta["stop_reason"], "stop")
            yield Finished(stop, 0, delta.get("stop_sequence") or "")
        if body.get("usage"):
            self._usage = usage_of(body["usage"], self._usage)
            yield UsageReported(self._usage)
