"""How long a request is, before anybody has counted: an estimate and an upper bound."""

from __future__ import annotations

import orjson

from genai_gateway.conversation import (
    ChatRequest,
    EmbeddingRequest,
    Media,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    Tool,
    ToolCall,
)

# A tokenizer of bytes never makes more tokens than there are bytes; a message adds a few marks.
_MARKS_PER_MESSAGE = 16
_MARKS_PER_TOOL = 64
# The dearest picture of the providers' published formulas, with room to spare.
TOKENS_PER_MEDIUM = 6_000
_BYTES_PER_TOKEN = 4


def text_of(part: Part) -> str:
    """The words of a part, empty for media."""
    if isinstance(part, (Text, Reasoning, Refusal)):
        return part.text
    if isinstance(part, ToolCall):
        return part.name + part.arguments
    if isinstance(part, Opaque):
        return orjson.dumps(part.data).decode()
    return ""


def most_tokens(request: ChatRequest | EmbeddingRequest) -> int:
    """A bound that the input's tokens cannot pass: bytes, marks, and a fixed sum a medium."""
    if isinstance(request, EmbeddingRequest):
        return sum(len(i.encode()) + 2 if isinstance(i, str) else len(i) for i in request.inputs)
    return (
        sum(_most(part) for part in request.parts())
        + _MARKS_PER_MESSAGE * (len(request.messages) + 1)
        + sum(_tool_bytes(tool) for tool in request.tools)
        + (len(orjson.dumps(dict(request.output.schema))) if request.output else 0)
        + (len(orjson.dumps(dict(request.extra))) if request.extra else 0)
    )


def estimated_tokens(request: ChatRequest | EmbeddingRequest) -> int:
    """About how many tokens the input has, at four bytes a token."""
    if isinstance(request, EmbeddingRequest):
        return -(-most_tokens(request) // _BYTES_PER_TOKEN)
    text = sum(len(text_of(part).encode()) for part in request.parts())
    tools = sum(_tool_bytes(tool) - _MARKS_PER_TOOL for tool in request.tools)
    return -(-(text + tools) // _BYTES_PER_TOKEN) + 4 * len(request.messages)


def _most(part: Part) -> int:
    if isinstance(part, Media):
        return TOKENS_PER_MEDIUM + len(part.url)
    return len(text_of(part).encode()) + _MARKS_PER_MESSAGE


def _tool_bytes(tool: Tool | Opaque) -> int:
    if isinstance(tool, Opaque):
        return len(orjson.dumps(tool.data)) + _MARKS_PER_TOOL
    schema = len(orjson.dumps(dict(tool.parameters))) if tool.parameters else 0
    return len(tool.name) + len(tool.description.encode()) + schema + _MARKS_PER_TOOL
