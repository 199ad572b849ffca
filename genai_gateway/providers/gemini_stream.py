"""Google's Gemini schema: reads streamed answers."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from genai_gateway.conversation import Json, StopReason, Usage
from genai_gateway.events import (
    Event,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolDelta,
    ToolStarted,
    UsageReported,
)
from genai_gateway.providers.failures import failure_in

_FILTERED = ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY")


def stop_of(reason: object) -> StopReason:
    """Why a choice ended."""
    if reason == "MAX_TOKENS":
        return "length"
    return "filter" if reason in _FILTERED else "stop"


def usage_of(data: Json) -> Usage:
    """Usage of an answer; thoughts count as output."""
    thoughts = int(data.get("thoughtsTokenCount") or 0)
    return Usage(
        input=int(data.get("promptTokenCount") or 0),
        output=int(data.get("candidatesTokenCount") or 0) + thoughts,
        cached=int(data.get("cachedContentTokenCount") or 0),
        reasoning=thoughts,
    )


class GeminiReader:
    """Reads one streamed answer; it is complete when every choice has a finish reason."""

    def __init__(self, choices: int = 1) -> None:
        self._wanted = choices
        self._finished: set[int] = set()
        self._started = False
        self._tools: dict[int, int] = {}

    @property
    def complete(self) -> bool:
        """Whether every choice that was asked for is finished."""
        return len(self._finished) >= self._wanted

    def feed(self, event: bytes, data: bytes) -> Iterator[Event]:
        """The events in one server-sent event. Raises UpstreamFailed for an error inside it."""
        body = orjson.loads(data)
        if body.get("error"):
            raise failure_in(body)
        if not self._started:
            self._started = True
            yield Started(str(body.get("responseId") or ""), str(body.get("modelVersion") or ""), 0)
        if (body.get("promptFeedback") or {}).get("blockReason"):
            self._finished = set(range(self._wanted))
            yield Finished("filter")
        for candidate in body.get("candidates") or ():
            yield from self._candidate(candidate)
        if body.get("usageMetadata"):
            yield UsageReported(usage_of(body["usageMetadata"]))

    def _candidate(self, candidate: Json) -> Iterator[Event]:
        number: int = candidate.get("index") or 0
        for part in (candidate.get("content") or {}).get("parts") or ():
            if "functionCall" in part:
                yield from self._call(part["functionCall"], number)
            elif part.get("text"):
                text = part["text"]
                thought = part.get("thought")
                yield ReasoningDelta(text, number) if thought else TextDelta(text, number)
        reason = candidate.get("finishReason")
        if reason and number not in self._finished:
            self._finished.add(number)
            stop = stop_of(reason)
            yield Finished("tools" if stop == "stop" and self._tools.get(number) else stop, number)

    def _call(self, call: Json, number: int) -> Iterator[Event]:
        index = self._tools[number] = self._tools.get(number, 0) + 1
        yield ToolStarted(index - 1, call.get("id") or f"call_{index - 1}", call["name"], number)
        yield ToolDelta(index - 1, orjson.dumps(call.get("args") or {}).decode(), number)
