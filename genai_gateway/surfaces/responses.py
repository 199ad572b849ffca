"""The OpenAI Responses surface: reads requests.

The gateway keeps no conversations: what refers to a stored one is refused by name.
"""

from __future__ import annotations

from typing import Any

import orjson

from genai_gateway.conversation import (
    NOTHING,
    OPENAI_RESPONSES,
    Answer,
    ChatRequest,
    Json,
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
    ToolChoice,
    ToolResult,
)
from genai_gateway.errors import BadRequest, GatewayError
from genai_gateway.openai_words import split_data_url
from genai_gateway.problems import openai_problem
from genai_gateway.reading import Fields
from genai_gateway.surfaces.responses_answers import response_data
from genai_gateway.surfaces.responses_stream import ResponsesWriter

_MODES = {"auto": "auto", "none": "none", "required": "any"}
_STATEFUL = ("background", "conversation", "previous_response_id", "prompt")


class ResponsesSurface:
    """``POST /v1/responses``."""

    schema = OPENAI_RESPONSES

    def read(self, body: Json) -> ChatRequest:
        """The request in the internal representation. Raises BadRequest."""
        fields = Fields(body)
        model = fields.text("model")
        _refuse_stateful(fields)
        instructions = fields.optional_text("instructions")
        messages = _input(fields)
        if instructions:
            messages.insert(0, Message("system", (Text(instructions),)))
        form = Fields(fields.mapping("text", {}), "text")
        reasoning = Fields(fields.mapping("reasoning", {}), "reasoning")
        choice, odd_choice = _tool_choice(fields.any("tool_choice"))
        effort, output = reasoning.optional_text("effort"), _output(form)
        odd = {"text": form.rest(), "reasoning": reasoning.rest()}
        return ChatRequest(
            schema=OPENAI_RESPONSES,
            model=model,
            messages=tuple(messages),
            tools=tuple(_tools(fields)),
            tool_choice=choice,
            parallel_tools=fields.flag("parallel_tool_calls"),
            max_tokens=fields.integer("max_output_tokens", least=1),
            temperature=fields.number("temperature"),
            top_p=fields.number("top_p", most=1.0),
            output=output,
            effort=effort,
            stream=bool(fields.flag("stream")),
            stream_usage=True,
            user=fields.text("user", ""),
            metadata=fields.mapping("metadata", {}),
            extra=fields.rest() | odd_choice | {k: v for k, v in odd.items() if v},
        )

    def answer(self, answer: Answer, request: ChatRequest) -> Json:
        """The body of a whole answer."""
        return response_data(answer, request)

    def writer(self, request: ChatRequest) -> ResponsesWriter:
        """A writer for the streamed answer to a request."""
        return ResponsesWriter(request)

    def problem(self, error: GatewayError, request_id: str) -> Json:
        """The body of an error."""
        return openai_problem(error, request_id)


def _refuse_stateful(fields: Fields) -> None:
    for name in _STATEFUL:
        if fields.any(name):
            raise BadRequest(
                f"{name} needs a stored conversation, and the gateway stores none",
                "Send the whole conversation in input.",
                name,
            )


def _input(fields: Fields) -> list[Message]:
    given = fields.any("input")
    if isinstance(given, str):
        return [Message("user", (Text(given),))]
    if not isinstance(given, list) or not given:
        raise (
            fields.missing("input") if not given else fields.wrong("input", "text or items", given)
        )
    messages: list[Message] = []
    for n, data in enumerate(given):
        message = _item(Fields(data, f"input[{n}]"), data)
        last = messages[-1] if messages else None
        # What the assistant said, thought and called stands in items of its own; it is one turn.
        if last is not None and last.role == message.role == "assistant" and not last.extra:
            messages[-1] = Message("assistant", last.parts + message.parts, message.extra)
        else:
            messages.append(message)
    return messages


def _item(fields: Fields, data: Json) -> Message:
    kind = fields.text("type", "message")
    if kind == "message":
        return _message(fields)
    if kind == "function_call":
        call = ToolCall(fields.text("call_id"), fields.text("name"), fields.text("arguments"))
        return Message("assistant", (call,))
    if kind == "function_call_output":
        call_id = fields.text("call_id")
        return Message("tool", (ToolResult(call_id, tuple(_content(fields, "output"))),))
    if kind == "reasoning":
        return Message("assistant", (_reasoning(data),))
    return Message("assistant", (Opaque(OPENAI_RESPONSES, data),))


def _message(fields: Fields) -> Message:
    role = fields.text("role")
    if role not in ("system", "developer", "user", "assistant"):
        raise fields.wrong("role", "system, developer, user or assistant", role)
    parts = tuple(_content(fields, "content"))
    fields.any("id"), fields.any("status")
    return Message(role, parts, fields.rest() or NOTHING)  # type: ignore[arg-type]


def _content(fields: Fields, name: str) -> list[Part]:
    content = fields.any(name)
    if isinstance(content, str):
        return [Text(content)]
    if not isinstance(content, list):
        raise fields.wrong(name, "a string or a list of parts", content)
    place = fields.place(name)
    return [_part(Fields(data, f"{place}[{n}]"), data) for n, data in enumerate(content)]


def _part(fields: Fields, data: Json) -> Part:
    kind = fields.text("type")
    if kind in ("input_text", "output_text", "text"):
        return Text(fields.text("text"))
    if kind == "refusal":
        return Refusal(fields.text("refusal"))
    if kind == "input_image" and isinstance(data.get("image_url"), str):
        return _medium("image", data["image_url"], {"detail": data.get("detail")})
    if kind == "input_file" and isinstance(data.get("file_data"), str):
        return _medium("document", data["file_data"], {"filename": data.get("filename")})
    return Opaque(OPENAI_RESPONSES, data)


def _medium(kind: Any, url: str, extra: Json) -> Media:
    kept = {name: value for name, value in extra.items() if value is not None} or NOTHING
    split = split_data_url(url)
    if split is None:
        return Media(kind, url=url, extra=kept)
    return Media(kind, media_type=split[0], data=split[1], extra=kept)


def _reasoning(data: Json) -> Part:
    """A thought that the gateway wrote itself (see ``responses_answers``), or one of OpenAI's."""
    sealed = data.get("encrypted_content")
    if isinstance(sealed, str) and sealed.startswith("{"):
        try:
            kept = orjson.loads(sealed)
            return Reasoning(str(kept["text"]), str(kept["signature"]))
        except (orjson.JSONDecodeError, KeyError):
            pass
    return Opaque(OPENAI_RESPONSES, data)


def _tools(fields: Fields) -> list[Tool | Opaque]:
    tools = fields.items("tools", [])
    return [_tool(Fields(data, f"tools[{n}]"), data) for n, data in enumerate(tools)]


def _tool(fields: Fields, data: Json) -> Tool | Opaque:
    if fields.text("type") != "function":
        return Opaque(OPENAI_RESPONSES, data)
    return Tool(
        fields.text("name"),
        fields.text("description", ""),
        fields.mapping("parameters", {}),
        fields.flag("strict"),
        fields.rest() or NOTHING,
    )


def _tool_choice(value: Any) -> tuple[ToolChoice | None, Json]:
    if value is None:
        return None, {}
    if isinstance(value, str) and value in _MODES:
        return ToolChoice(_MODES[value]), {}  # type: ignore[arg-type]
    if isinstance(value, dict) and value.get("type") == "function":
        return ToolChoice("one", Fields(value, "tool_choice").text("name")), {}
    if isinstance(value, dict):
        return None, {"tool_choice": value}
    raise Fields({}).wrong("tool_choice", "auto, none, required or an object", value)


def _output(form: Fields) -> OutputFormat | None:
    data = Fields(form.mapping("format", {"type": "text"}), "text.format")
    kind = data.text("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return OutputFormat("json")
    if kind == "json_schema":
        name, schema, strict = data.text("name"), data.mapping("schema"), data.flag("strict")
        return OutputFormat("schema", name, schema, strict, data.text("description", ""))
    raise data.wrong("type", "text, json_object or json_schema", kind)
