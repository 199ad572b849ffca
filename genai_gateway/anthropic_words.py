"""The words of Anthropic's schema that its surface and its provider share."""

from __future__ import annotations

from genai_gateway.conversation import Json, StopReason, Usage

REASON_OF: dict[StopReason, str] = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens",
    "tools": "tool_use",
    "filter": "refusal",
    "pause": "pause_turn",
}
STOP_OF: dict[str, StopReason] = {reason: stop for stop, reason in REASON_OF.items()} | {
    "model_context_window_exceeded": "length"
}
# What is sent upstream: the version that still has every field the gateway can say.
VERSION = "2023-06-01"


def usage_data(usage: Usage) -> Json:
    """Usage as Messages say it: input without what was cached."""
    return {
        "input_tokens": usage.input - usage.cached - usage.cache_written,
        "cache_creation_input_tokens": usage.cache_written,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.output,
    }


def usage_of(data: Json, before: Usage | None = None) -> Usage:
    """Usage from a message; a later report of a stream may leave out what ``before`` said."""
    known = usage_data(before) if before is not None else {}
    merged = {**known, **{name: value for name, value in data.items() if value is not None}}
    cached = int(merged.get("cache_read_input_tokens") or 0)
    written = int(merged.get("cache_creation_input_tokens") or 0)
    return Usage(
        input=int(merged.get("input_tokens") or 0) + cached + written,
        output=int(merged.get("output_tokens") or 0),
        cached=cached,
        cache_written=written,
    )
