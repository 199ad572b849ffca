"""Every place of a request or an answer where words may stand, visited once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any, Protocol

import orjson

from genai_gateway.conversation import (
    Answer,
    ChatRequest,
    Choice,
    EmbeddingRequest,
    Extra,
    Media,
    Message,
    Opaque,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)

JsonChange = Callable[[str], str]


class Visitor(Protocol):
    """What is done at each place. ``place`` names it for errors and for the audit."""

    def text(self, text: str, place: str) -> str:
        """The text that takes the place of this one."""
        ...

    def name(self, text: str, place: str) -> None:
        """A name that must stay as it is. Raises Blocked if it may not."""
        ...

    def seam(self, before: str, after: str, place: str) -> None:
        """Two texts that the model reads as one. Raises Blocked if together they may not pass."""
        ...

    def unread(self, what: str, place: str) -> None:
        """Something that has no words the gateway can read. Raises Blocked if it may not pass."""
        ...


def visit_request(request: ChatRequest, visitor: Visitor) -> ChatRequest:
    """The request with the visitor's texts."""
    visitor.name(request.model, "model")
    return replace(
        request,
        messages=tuple(
            _message(message, f"messages[{n}]", visitor)
            for n, message in enumerate(request.messages)
        ),
        tools=tuple(_tool(tool, f"tools[{n}]", visitor) for n, tool in enumerate(request.tools)),
        output=_output(request.output, visitor),
        stop=tuple(visitor.text(word, "stop") for word in request.stop),
        user=visitor.text(request.user, "user") if request.user else "",
        metadata=_extra(request.metadata, "metadata", visitor),
        extra=_extra(request.extra, "request", visitor),
    )


def visit_embedding(request: EmbeddingRequest, visitor: Visitor) -> EmbeddingRequest:
    """The same for a request for embeddings; numbers of tokens cannot be read."""
    inputs: list[str | list[int]] = []
    for n, given in enumerate(request.inputs):
        if isinstance(given, str):
            inputs.append(visitor.text(given, f"input[{n}]"))
        else:
            visitor.unread("token numbers", f"input[{n}]")
            inputs.append(given)
    user = visitor.text(request.user, "user") if request.user else ""
    extra = _extra(request.extra, "request", visitor)
    return replace(request, inputs=tuple(inputs), user=user, extra=extra)


def visit_answer(answer: Answer, visitor: Visitor) -> Answer:
    """The answer with the visitor's texts."""
    choices = tuple(
        Choice(
            _parts(choice.parts, f"choices[{n}]", visitor),
            choice.stop,
            choice.stop_sequence,
            _extra(choice.extra, f"choices[{n}]", visitor),
        )
        for n, choice in enumerate(answer.choices)
    )
    return replace(answer, choices=choices, extra=_extra(answer.extra, "answer", visitor))


def walk_json(value: Any, change: JsonChange) -> Any:
    """JSON with every string, key and number changed; a number stays one if its digits stay."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key): walk_json(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [walk_json(item, change) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        digits = str(value)
        changed = change(digits)
        return value if changed == digits else changed
    return value


def change_json_text(text: str, change: JsonChange) -> str:
    """JSON text with every string in it changed; text that is no JSON is changed as it stands.

    Where nothing changes the text stays as it was written.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return change(text)
    changed = walk_json(value, change)
    return text if changed == value else orjson.dumps(changed).decode()


def _message(message: Message, place: str, visitor: Visitor) -> Message:
    parts = _parts(message.parts, place, visitor)
    return Message(message.role, parts, _extra(message.extra, place, visitor))


def _parts(parts: tuple[Part, ...], place: str, visitor: Visitor) -> tuple[Part, ...]:
    changed = tuple(_part(part, place, visitor) for part in parts)
    for before, after in pairwise(changed):
        if isinstance(before, Text) and isinstance(after, Text):
            visitor.seam(before.text, after.text, place)
    return changed


def _part(part: Part, place: str, visitor: Visitor) -> Part:
    if isinstance(part, Text):
        extra = _extra(part.extra, place, visitor)
        return Text(visitor.text(part.text, f"{place}.text"), extra)
    if isinstance(part, ToolCall):
        visitor.name(part.name, f"{place}.tool.name")
        visitor.name(part.id, f"{place}.tool.id")
        change = _at(visitor, f"{place}.tool.arguments")
        extra = _extra(part.extra, place, visitor)
        return replace(part, arguments=change_json_text(part.arguments, change), extra=extra)
    if isinstance(part, ToolResult):
        visitor.name(part.call_id, f"{place}.tool.id")
        parts = _parts(part.parts, f"{place}.result", visitor)
        return replace(part, parts=parts, extra=_extra(part.extra, place, visitor))
    if isinstance(part, Reasoning):
        return replace(part, text=visitor.text(part.text, f"{place}.reasoning"))
    if isinstance(part, Refusal):
        return Refusal(visitor.text(part.text, f"{place}.refusal"))
    return _unread(part, place, visitor)


def _unread(part: Media | Opaque, place: str, visitor: Visitor) -> Part:
    if isinstance(part, Media):
        visitor.unread(part.kind, place)
        visitor.name(part.url, f"{place}.url")
        return replace(part, extra=_extra(part.extra, place, visitor))
    visitor.unread(str(part.data.get("type", "part")), place)
    return replace(part, data=walk_json(part.data, _at(visitor, place)))


def _tool(tool: Tool | Opaque, place: str, visitor: Visitor) -> Tool | Opaque:
    change = _at(visitor, place)
    if isinstance(tool, Opaque):
        return replace(tool, data=walk_json(tool.data, change))
    visitor.name(tool.name, f"{place}.name")
    return replace(
        tool,
        description=change(tool.description),
        parameters=_extra(tool.parameters, place, visitor),
        extra=_extra(tool.extra, place, visitor),
    )


def _output(output: OutputFormat | None, visitor: Visitor) -> OutputFormat | None:
    if output is None:
        return None
    schema = _extra(output.schema, "response_format", visitor)
    description = visitor.text(output.description, "response_format")
    return replace(output, schema=schema, description=description)


def _extra(extra: Extra, place: str, visitor: Visitor) -> Extra:
    return walk_json(dict(extra), _at(visitor, f"{place}.extra")) if extra else extra


def _at(visitor: Visitor, place: str) -> JsonChange:
    return lambda text: visitor.text(text, place)
