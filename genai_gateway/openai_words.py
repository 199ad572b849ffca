"""The words of OpenAI's chat schema that its surface and its providers share."""

from __future__ import annotations

from genai_gateway.conversation import Json, Media, StopReason, Usage

FINISH_OF: dict[StopReason, str] = {
    "stop": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "tools": "tool_calls",
    "filter": "content_filter",
    "pause": "stop",
}
STOP_OF: dict[str, StopReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tools",
    "function_call": "tools",
    "content_filter": "filter",
}


def usage_data(usage: Usage) -> Json:
    """Usage as chat completions say it."""
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.total,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def usage_of(data: Json) -> Usage:
    """Usage from a chat completion."""
    prompt = data.get("prompt_tokens_details") or {}
    completion = data.get("completion_tokens_details") or {}
    return Usage(
        input=int(data.get("prompt_tokens") or 0),
        output=int(data.get("completion_tokens") or 0),
        cached=int(prompt.get("cached_tokens") or 0),
        reasoning=int(completion.get("reasoning_tokens") or 0),
    )


def data_url(media: Media) -> str:
    """The URL of a medium, or its data as one."""
    return media.url or f"data:{media.media_type};base64,{media.data}"


def split_data_url(url: str) -> tuple[str, str] | None:
    """Media type and base64 of a data URL; None if it is another URL or not base64."""
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        return None
    return head[len("data:") : -len(";base64")], data
