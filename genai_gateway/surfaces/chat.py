"""The OpenAI chat completions surface: reads requests."""

from __future__ import annotations

from typing import Any

from genai_gateway.conversation import (
    NOTHING,
    OPENAI_CHAT,
    Answer,
    ChatRequest,
    Json,
    Media,
    Message,
    Opaque,
    OutputFormat,
    Part,
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
from genai_gateway.surfaces.chat_answers import ChatWriter, answer_data

_MODES = {"auto": "auto", "none": "none", "required": "any"}


class ChatSurface:
    """``POST /v1/chat/completions``."""

    schema = OPENAI_CHAT

    def read(self, body: Json) -> ChatRequest:
        """The request in the internal representation. Raises BadRequest."""
        fields = Fields(body)
        model = fields.text("model")
        messages = tuple(
            _message(Fields(data, f"messages[{n}]"))
            for n, data in enumerate(fields.items("messages"))
        )
        if not messages:
            raise BadRequest("messages is empty", "Send at least one message.", "messages")
        options = Fields(fields.mapping("stream_options", {}), "stream_options")
        choice, odd_choice = _tool_choice(fields.any("tool_choice"))
        output, odd_output = _output(fields)
        return ChatRequest(
            schema=OPENAI_CHAT,
            model=model,
            messages=messages,
            tools=tuple(_tools(fields)),
            tool_choice=choice,
            parallel_tools=fields.flag("parallel_tool_calls"),
            max_tokens=_max_tokens(fields),
            temperature=fields.number("temperature"),
            top_p=fields.number("top_p", most=1.0),
            stop=read_stop(fields),
            seed=fields.integer("seed"),
            choices=fields.integer("n", least=1) or 1,
            output=output,
            effort=fields.optional_text("reasoning_effort"),
            stream=bool(fields.flag("stream")),
            stream_usage=bool(options.flag("include_usage")),
            user=fields.text("user", ""),
            metadata=fields.mapping("metadata", {}),
            extra=fields.rest() | odd_choice | odd_output | _odd_options(options),
        )

    def answer(self, answer: Answer, request: ChatRequest) -> Json:
        """The body of a whole answer."""
        return answer_data(answer)

    def writer(self, request: ChatRequest) -> ChatWriter:
        """A writer for the streamed answer to a request."""
        return ChatWriter(request.stream_usage)

    def problem(self, error: GatewayError, request_id: str) -> Json:
        """The body of an error."""
        return openai_problem(error, request_id)


def _message(fields: Fields) -> Message:
    role = fields.text("role")
    if role == "tool":
        call = fields.text("tool_call_id")
        parts: tuple[Part, ...] = (ToolResult(call, tuple(_content(fields))),)
    elif role == "assistant":
        parts = (*_content(fields), *_refusal(fields), *_tool_calls(fields))
    elif role in ("system", "developer", "user"):
        parts = tuple(_content(fields))
    else:
        raise fields.wrong("role", "system, developer, user, assistant or tool", role)
    return Message(role, parts, fields.rest() or NOTHING)  # type: ignore[arg-type]


def _content(fields: Fields) -> list[Part]:
    content = fields.any("content")
    if content is None:
        return []
    if isinstance(content, str):
        return [Text(content)]
    if not isinstance(content, list):
        raise fields.wrong("content", "a string or a list of parts", content)
    place = fields.place("content")
    return [_part(Fields(data, f"{place}[{n}]"), data) for n, data in enumerate(content)]


def _part(fields: Fields, data: Json) -> Part:
    kind = fields.text("type")
    if kind == "text":
        return Text(fields.text("text"), fields.rest() or NOTHING)
    if kind == "refusal":
        return Refusal(fields.text("refusal"))
    if kind == "image_url":
        return _image(Fields(fields.mapping("image_url"), fields.place("image_url")))
    if kind == "input_audio":
        audio = Fields(fields.mapping("input_audio"), fields.place("input_audio"))
        return Media("audio", media_type=f"audio/{audio.text('format')}", data=audio.text("data"))
    return Opaque(OPENAI_CHAT, data)


def _image(fields: Fields) -> Media:
    url = fields.text("url")
    extra = fields.rest() or NOTHING
    split = split_data_url(url)
    if split is None:
        return Media("image", url=url, extra=extra)
    return Media("image", media_type=split[0], data=split[1], extra=extra)


def _refusal(fields: Fields) -> list[Part]:
    text = fields.optional_text("refusal")
    return [Refusal(text)] if text else []


def _tool_calls(fields: Fields) -> list[Part]:
    place = fields.place("tool_calls")
    calls = fields.items("tool_calls", [])
    return [_tool_call(Fields(data, f"{place}[{n}]"), data) for n, data in enumerate(calls)]


def _tool_call(fields: Fields, data: Json) -> Part:
    if fields.text("type", "function") != "function":
        return Opaque(OPENAI_CHAT, data)
    function = Fields(fields.mapping("function"), fields.place("function"))
    return ToolCall(
        fields.text("id"),
        function.text("name"),
        function.text("arguments"),
        fields.rest() or NOTHING,
    )


def _tools(fields: Fields) -> list[Tool | Opaque]:
    tools = fields.items("tools", [])
    return [_tool(Fields(data, f"tools[{n}]"), data) for n, data in enumerate(tools)]


def _tool(fields: Fields, data: Json) -> Tool | Opaque:
    if fields.text("type") != "function":
        return Opaque(OPENAI_CHAT, data)
    function = Fields(fields.mapping("function"), fields.place("function"))
    return Tool(
        function.text("name"),
        function.text("description", ""),
        function.mapping("parameters", {}),
        function.flag("strict"),
        function.rest() or NOTHING,
    )


def _tool_choice(value: Any) -> tuple[ToolChoice | None, Json]:
    """The choice, or what is there as a field that only this schema has a word for."""
    if value is None:
        return None, {}
    if isinstance(value, str) and value in _MODES:
        return ToolChoice(_MODES[value]), {}  # type: ignore[arg-type]
    if isinstance(value, dict) and value.get("type") == "function":
        function = Fields(value.get("function"), "tool_choice.function")
        return ToolChoice("one", function.text("name")), {}
    if isinstance(value, dict):
        return None, {"tool_choice": value}
    raise Fields({}).wrong("tool_choice", "auto, none, required or an object", value)


def _output(fields: Fields) -> tuple[OutputFormat | None, Json]:
    data = fields.mapping("response_format", {})
    kind = data.get("type", "text")
    if kind == "text":
        return None, {}
    if kind == "json_object":
        return OutputFormat("json"), {}
    if kind != "json_schema":
        return None, {"response_format": data}
    form = Fields(data.get("json_schema"), "response_format.json_schema")
    return (
        OutputFormat(
            "schema",
            form.text("name"),
            form.mapping("schema", {}),
            form.flag("strict"),
            form.text("description", ""),
        ),
        {},
    )


def _max_tokens(fields: Fields) -> int | None:
    old = fields.integer("max_tokens", least=1)
    new = fields.integer("max_completion_tokens", least=1)
    if old is not None and new is not None:
        raise BadRequest(
            "max_tokens and max_completion_tokens are both given",
            "Send max_completion_tokens alone.",
            "max_tokens",
        )
    return new if old is None else old


def read_stop(fields: Fields) -> tuple[str, ...]:
    """The field ``stop``: a string or a list of them. Raises BadRequest."""
    value = fields.any("stop")
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return tuple(value)
    raise fields.wrong("stop", "a string or a list of strings", value)


def _odd_options(options: Fields) -> Json:
    rest = options.rest()
    return {"stream_options": rest} if rest else {}
