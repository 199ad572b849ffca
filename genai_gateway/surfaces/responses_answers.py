"""The OpenAI Responses surface: writes whole answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from genai_gateway.conversation import (
    OPENAI_RESPONSES,
    Answer,
    ChatRequest,
    Choice,
    Json,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    StopReason,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    Usage,
)

_MODES = {"auto": "auto", "none": "none", "any": "required"}
_INCOMPLETE: dict[StopReason, str] = {"length": "max_output_tokens", "filter": "content_filter"}


def response_data(answer: Answer, request: ChatRequest) -> Json:
    """A response with its output items; further choices than the first have no place in it."""
    choice = answer.choices[0]
    head = response_head(answer.id, answer.model, answer.created_s, request)
    return {**head, **ending(choice.stop, output_items(choice, answer.id), answer.usage)}


def response_head(id_: str, model: str, created_s: int, request: ChatRequest) -> Json:
    """A response before anything was said: what was asked, with a status of in progress."""
    return {
        "id": id_,
        "object": "response",
        "created_at": created_s,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": request.max_tokens,
        "metadata": dict(request.metadata),
        "model": model,
        "output": [],
        "parallel_tool_calls": request.parallel_tools is not False,
        "previous_response_id": None,
        "reasoning": {"effort": request.effort, "summary": None},
        "store": False,
        "temperature": request.temperature,
        "text": {"format": _format(request)},
        "tool_choice": _tool_choice(request.tool_choice),
        "tools": [_tool(tool) for tool in request.tools],
        "top_p": request.top_p,
        "truncation": "disabled",
        "usage": None,
    }


def ending(stop: StopReason, output: Sequence[Json], usage: Usage | None) -> Json:
    """The fields that change when a response is done."""
    reason = _INCOMPLETE.get(stop)
    return {
        "status": "incomplete" if reason else "completed",
        "incomplete_details": {"reason": reason} if reason else None,
        "output": list(output),
        "usage": usage_data(usage) if usage is not None else None,
    }


def usage_data(usage: Usage) -> Json:
    """Usage as responses say it."""
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total,
    }


def output_items(choice: Choice, id_: str) -> list[Json]:
    """What the model said as output items: thoughts, one message, calls."""
    items: list[Json] = []
    for part in choice.parts:
        n = len(items)
        if isinstance(part, (Text, Refusal)):
            content = content_part(part)
            if items and items[-1]["type"] == "message":
                items[-1]["content"].append(content)
            else:
                items.append(message_item(f"msg_{id_}_{n}", [content]))
        elif isinstance(part, ToolCall):
            items.append(call_item(f"fc_{id_}_{n}", part.id, part.name, part.arguments))
        elif isinstance(part, Reasoning):
            items.append(reasoning_item(f"rs_{id_}_{n}", part.text, part.signature))
        elif isinstance(part, Opaque) and part.schema == OPENAI_RESPONSES:
            items.append(part.data)
    return items


def content_part(part: Part) -> Json:
    """Words or a refusal as a part of a message."""
    if isinstance(part, Refusal):
        return {"type": "refusal", "refusal": part.text}
    text = part.text if isinstance(part, Text) else ""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def message_item(id_: str, content: list[Json], status: str = "completed") -> Json:
    """A message as an output item."""
    return {
        "id": id_,
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": content,
    }


def call_item(id_: str, call_id: str, name: str, arguments: str, status: str = "completed") -> Json:
    """A call of a function as an output item."""
    return {
        "id": id_,
        "type": "function_call",
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
        "status": status,
    }


def reasoning_item(id_: str, text: str, signature: str) -> Json:
    """A thought as an output item; its seal travels in ``encrypted_content`` and comes back."""
    item: Json = {
        "id": id_,
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": text}] if text else [],
    }
    if signature:
        sealed = orjson.dumps({"text": text, "signature": signature}).decode()
        item["encrypted_content"] = sealed
    return item


def _format(request: ChatRequest) -> Json:
    output = request.output
    if output is None:
        return {"type": "text"}
    if output.kind == "json":
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "name": output.name,
        "schema": dict(output.schema),
        "strict": output.strict,
    }


def _tool_choice(choice: ToolChoice | None) -> Any:
    if choice is None:
        return "auto"
    if choice.mode == "one":
        return {"type": "function", "name": choice.name}
    return _MODES[choice.mode]


def _tool(tool: Tool | Opaque) -> Json:
    if isinstance(tool, Opaque):
        return tool.data
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description or None,
        "parameters": dict(tool.parameters),
        "strict": tool.strict,
    }
