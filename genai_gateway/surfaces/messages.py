"""Anthropic's Messages surface: reads requests."""

from __future__ import annotations

from typing import Any

import orjson

from genai_gateway.conversation import (
    ANTHROPIC,
    NOTHING,
    Answer,
    ChatRequest,
    Json,
    Media,
    Message,
    Opaque,
    OutputFormat,
    Part,
    Reasoning,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from genai_gateway.errors import BadRequest, GatewayError
from genai_gateway.problems import anthropic_problem
from genai_gateway.reading import Fields
from genai_gateway.surfaces.messages_answers import MessagesWriter, message_answer

_MODES = {"auto": "auto", "any": "any", "none": "none", "tool": "one"}
_EFFORTS = ("low", "medium", "high")


class MessagesSurface:
    """``POST /v1/messages``, and the requests of ``/v1/messages/count_tokens``."""

    schema = ANTHROPIC

    def read(self, body: Json) -> ChatRequest:
        """The request in the internal representation. Raises BadRequest."""
        return self._read(Fields(body), count=False)

    def read_count(self, body: Json) -> ChatRequest:
        """A request to count tokens: the same, without a bound for the answer."""
        return self._read(Fields(body), count=True)

    def _read(self, fields: Fields, count: bool) -> ChatRequest:
        model = fields.text("model")
        system = _blocks(fields, "system")
        messages = tuple(
            _message(Fields(data, f"messages[{n}]"))
            for n, data in enumerate(fields.items("messages"))
        )
        if not messages:
            raise BadRequest("messages is empty", "Send at least one message.", "messages")
        max_tokens = fields.integer("max_tokens", least=1)
        if max_tokens is None and not count:
            raise fields.missing("max_tokens")
        choice, parallel = _tool_choice(fields)
        metadata = fields.mapping("metadata", {})
        output, effort, odd = _output(fields)
        budget, odd_thinking = _thinking(fields)
        return ChatRequest(
            schema=ANTHROPIC,
            model=model,
            messages=(Message("system", tuple(system)), *messages) if system else messages,
            tools=tuple(_tools(fields)),
            tool_choice=choice,
            parallel_tools=parallel,
            max_tokens=max_tokens,
            temperature=fields.number("temperature", most=1.0),
            top_p=fields.number("top_p", most=1.0),
            top_k=fields.integer("top_k", least=0),
            stop=_stop(fields),
            output=output,
            effort=effort,
            thinking_budget=budget,
            stream=bool(fields.flag("stream")),
            stream_usage=True,
            user=str(metadata.get("user_id") or ""),
            extra=fields.rest() | odd | odd_thinking | _odd_metadata(metadata),
        )

    def answer(self, answer: Answer, request: ChatRequest) -> Json:
        """The body of a whole answer."""
        return message_answer(answer)

    def writer(self, request: ChatRequest) -> MessagesWriter:
        """A writer for the streamed answer to a request."""
        return MessagesWriter()

    def problem(self, error: GatewayError, request_id: str) -> Json:
        """The body of an error."""
        return anthropic_problem(error, request_id)


def refuse_removed(body: Json) -> None:
    """Raises BadRequest for a field that the version 2026-10-21 of the schema no longer has."""
    for name in ("temperature", "top_p", "top_k"):
        if body.get(name) is not None:
            raise BadRequest(
                f"{name} was removed with anthropic-version 2026-10-21",
                f"Leave {name} out, or send anthropic-version: 2023-06-01.",
                name,
            )


def _message(fields: Fields) -> Message:
    role = fields.text("role")
    if role not in ("user", "assistant"):
        raise fields.wrong("role", "user or assistant", role)
    parts = tuple(_blocks(fields, "content"))
    return Message(role, parts, fields.rest() or NOTHING)  # type: ignore[arg-type]


def _blocks(fields: Fields, name: str) -> list[Part]:
    content = fields.any(name)
    if content is None:
        return []
    if isinstance(content, str):
        return [Text(content)]
    if not isinstance(content, list):
        raise fields.wrong(name, "a string or a list of blocks", content)
    place = fields.place(name)
    return [_block(Fields(data, f"{place}[{n}]"), data) for n, data in enumerate(content)]


def _block(fields: Fields, data: Json) -> Part:
    kind = fields.text("type")
    if kind == "text":
        return Text(fields.text("text"), fields.rest() or NOTHING)
    if kind in ("image", "document"):
        return _media(kind, fields, data)
    if kind == "tool_use":
        arguments = orjson.dumps(fields.mapping("input")).decode()
        id_, name = fields.text("id"), fields.text("name")
        return ToolCall(id_, name, arguments, fields.rest() or NOTHING)
    if kind == "tool_result":
        call, parts = fields.text("tool_use_id"), tuple(_blocks(fields, "content"))
        return ToolResult(call, parts, bool(fields.flag("is_error")), fields.rest() or NOTHING)
    if kind == "thinking":
        return Reasoning(fields.text("thinking"), fields.text("signature", ""))
    return Opaque(ANTHROPIC, data)


def _media(kind: Any, fields: Fields, data: Json) -> Part:
    source = Fields(fields.mapping("source"), fields.place("source"))
    origin = source.text("type")
    extra = fields.rest() or NOTHING
    if origin == "base64":
        media_type, base64 = source.text("media_type"), source.text("data")
        return Media(kind, media_type=media_type, data=base64, extra=extra)
    if origin == "url":
        return Media(kind, url=source.text("url"), extra=extra)
    return Opaque(ANTHROPIC, data)


def _tools(fields: Fields) -> list[Tool | Opaque]:
    tools = fields.items("tools", [])
    return [_tool(Fields(data, f"tools[{n}]"), data) for n, data in enumerate(tools)]


def _tool(fields: Fields, data: Json) -> Tool | Opaque:
    if fields.text("type", "custom") != "custom":
        return Opaque(ANTHROPIC, data)
    return Tool(
        fields.text("name"),
        fields.text("description", ""),
        fields.mapping("input_schema"),
        fields.flag("strict"),
        fields.rest() or NOTHING,
    )


def _tool_choice(fields: Fields) -> tuple[ToolChoice | None, bool | None]:
    """The choice, and whether tools may be called side by side."""
    data = fields.mapping("tool_choice", {})
    if not data:
        return None, None
    choice = Fields(data, "tool_choice")
    kind = choice.text("type")
    if kind not in _MODES:
        raise choice.wrong("type", "auto, any, tool or none", kind)
    serial = choice.flag("disable_parallel_tool_use")
    name = choice.text("name") if kind == "tool" else ""
    return ToolChoice(_MODES[kind], name), None if serial is None else not serial  # type: ignore[arg-type]


def _output(fields: Fields) -> tuple[OutputFormat | None, str | None, Json]:
    """The form of the answer, the effort, and what only this schema has a word for."""
    config = Fields(fields.mapping("output_config", {}), "output_config")
    form = config.mapping("format", {}) or fields.mapping("output_format", {})
    effort = config.any("effort")
    odd = config.rest()
    if effort is not None and effort not in _EFFORTS:
        odd["effort"] = effort
        effort = None
    output = None
    if form:
        if form.get("type") != "json_schema":
            raise Fields(form, "output_config.format").wrong(
                "type", "json_schema", form.get("type")
            )
        output = OutputFormat(
            "schema", schema=Fields(form, "format").mapping("schema"), strict=True
        )
    return output, effort, {"output_config": odd} if odd else {}


def _thinking(fields: Fields) -> tuple[int | None, Json]:
    data = fields.mapping("thinking", {})
    if data.get("type") == "enabled":
        thinking = Fields(data, "thinking")
        return thinking.integer("budget_tokens", least=1), {}
    return None, {"thinking": data} if data else {}


def _stop(fields: Fields) -> tuple[str, ...]:
    words = fields.items("stop_sequences", [])
    if not all(isinstance(word, str) for word in words):
        raise fields.wrong("stop_sequences", "a list of strings", words)
    return tuple(words)


def _odd_metadata(metadata: Json) -> Json:
    rest = {name: value for name, value in metadata.items() if name != "user_id"}
    return {"metadata": rest} if rest else {}
