"""OpenAI's Responses schema: reads streamed answers."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from genai_gateway.conversation import OPENAI_RESPONSES, Json, StopReason, Usage
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
from genai_gateway.providers.failures import failure_in

_KNOWN_ITEMS = ("message", "function_call", "reasoning")


def usage_of(data: Json) -> Usage:
    """Usage of a response."""
    read, written = data.get("input_tokens_details") or {}, data.get("output_tokens_details") or {}
    return Usage(
        input=int(data.get("input_tokens") or 0),
        output=int(data.get("output_tokens") or 0),
        cached=int(read.get("cached_tokens") or 0),
        reasoning=int(written.get("reasoning_tokens") or 0),
    )


def stop_of(response: Json) -> StopReason:
    """Why a response ended, tools left aside."""
    reason = (response.get("incomplete_details") or {}).get("reason")
    if reason == "content_filter":
        return "filter"
    return "length" if reason or response.get("status") == "incomplete" else "stop"


class ResponsesReader:
    """Reads one streamed response; it is complete when it says so."""

    def __init__(self) -> None:
        self._tools: dict[int, int] = {}
        self._complete = False

    @property
    def complete(self) -> bool:
        """Whether the response is over."""
        return self._complete

    def feed(self, event: bytes, data: bytes) -> Iterator[Event]:
        """The events in one server-sent event. Raises UpstreamFailed for an error inside it."""
        body = orjson.loads(data)
        kind = body["type"]
        if kind == "response.output_text.delta":
            yield TextDelta(body["delta"])
        elif kind == "response.function_call_arguments.delta":
            yield ToolDelta(self._tools[body["output_index"]], body["delta"])
        elif kind == "response.created":
            response = body["response"]
            created = int(response.get("created_at") or 0)
            yield Started(str(response["id"]), str(response["model"]), created)
        elif kind in ("error", "response.failed"):
            raise failure_in(_error_of(body))
        else:
            yield from self._rare(kind, body)

    def _rare(self, kind: str, body: Json) -> Iterator[Event]:
        if kind == "response.output_item.added":
            yield from self._item(body)
        elif kind == "response.refusal.delta":
            yield RefusalDelta(body["delta"])
        elif kind == "response.reasoning_summary_text.delta":
            yield ReasoningDelta(body["delta"])
        elif kind in ("response.completed", "response.incomplete"):
            yield from self._end(body["response"])

    def _item(self, body: Json) -> Iterator[Event]:
        item = body["item"]
        if item["type"] == "function_call":
            number = self._tools[body["output_index"]] = len(self._tools)
            yield ToolStarted(number, item["call_id"], item["name"])
            if item.get("arguments"):
                yield ToolDelta(number, item["arguments"])
        elif item["type"] not in _KNOWN_ITEMS:
            yield Unknown(OPENAI_RESPONSES, body)

    def _end(self, response: Json) -> Iterator[Event]:
        self._complete = True
        stop = stop_of(response)
        yield Finished("tools" if stop == "stop" and self._tools else stop)
        if response.get("usage"):
            yield UsageReported(usage_of(response["usage"]))


def _error_of(body: Json) -> Json:
    """The body with its error where others have it."""
    told = body.get("error") or (body.get("response") or {}).get("error") or body
    return {"error": {**told, "type": told.get("code") or told.get("type")}}
