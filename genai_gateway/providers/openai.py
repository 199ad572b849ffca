"""The OpenAI schema, which most model servers speak: writes chat and embedding requests."""

from __future__ import annotations

from genai_gateway.conversation import (
    OPENAI_CHAT,
    OPENAI_COMPLETIONS,
    Answer,
    ChatRequest,
    EmbeddingAnswer,
    EmbeddingRequest,
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
from genai_gateway.openai_words import data_url, usage_of
from genai_gateway.providers.adapter import Call, Refusals
from genai_gateway.providers.openai_answers import OpenAIReader, chat_answer

_MODES = {"auto": "auto", "none": "none", "any": "required"}


class OpenAIAdapter:
    """Chat completions and embeddings of OpenAI, Azure, vLLM, Ollama, Ray Serve LLM and others.

    ``max_tokens_field`` is what the server calls the bound of the answer; ``key_header`` the
    header of the secret (Azure's is ``api-key``).
    """

    schema = OPENAI_CHAT

    def __init__(
        self, max_tokens_field: str = "max_completion_tokens", key_header: str = "authorization"
    ) -> None:
        self._max_tokens_field = max_tokens_field
        self._key_header = key_header

    def headers(self, secret: str) -> dict[str, str]:
        """The headers that prove who asks."""
        if not secret:
            return {}
        bearer = self._key_header == "authorization"
        return {self._key_header: f"Bearer {secret}" if bearer else secret}

    def chat(self, request: ChatRequest, model: str) -> Call:
        """The call for a turn. Raises CannotTranslate."""
        refusals = Refusals("OpenAI chat")
        own = request.schema in (OPENAI_CHAT, OPENAI_COMPLETIONS)
        if not own:
            refusals.needs("top_k", request.top_k is not None)
            refusals.hint("thinking", request.thinking_budget)
        body: Json = {
            **refusals.extra(request.extra, own),
            "model": model,
            "messages": [
                data for message in request.messages for data in _messages(message, own, refusals)
            ],
            **self._settings(request),
            **_tool_settings(request, refusals),
        }
        if request.stream:
            options = request.extra.get("stream_options", {}) if own else {}
            body["stream"] = True
            body["stream_options"] = {**options, "include_usage": True}
        return Call("/chat/completions", body, ignored=refusals.ignored)

    def answer(self, body: Json, request: ChatRequest) -> Answer:
        """A whole answer. Raises UpstreamFailed for an empty one."""
        return chat_answer(body)

    def reader(self, request: ChatRequest) -> OpenAIReader:
        """A reader for a streamed answer to a request."""
        return OpenAIReader(request.choices)

    def embed(self, request: EmbeddingRequest, model: str) -> Call:
        """The call for embeddings."""
        body: Json = {**request.extra, "model": model, "input": list(request.inputs)}
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        if request.base64:
            body["encoding_format"] = "base64"
        if request.user:
            body["user"] = request.user
        return Call("/embeddings", body)

    def embedding(self, body: Json) -> EmbeddingAnswer:
        """The embeddings in an answer, in the order of the inputs."""
        rows = sorted(body["data"], key=lambda row: row["index"])
        vectors = tuple(row["embedding"] for row in rows)
        return EmbeddingAnswer(body.get("model", ""), vectors, usage_of(body.get("usage") or {}))

    def _settings(self, request: ChatRequest) -> Json:
        """The plain settings that the request has."""
        settings: Json = {
            self._max_tokens_field: request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "top_k": request.top_k,
            "seed": request.seed,
            "stop": list(request.stop) or None,
            "n": request.choices if request.choices > 1 else None,
            "reasoning_effort": request.effort,
            "response_format": _output(request.output),
            "user": request.user or None,
            "metadata": dict(request.metadata) or None,
        }
        return {name: value for name, value in settings.items() if value is not None}


def _messages(message: Message, own: bool, refusals: Refusals) -> list[Json]:
    """A message; results of tools become messages of their own, before the rest."""
    results = [
        _tool_message(part, own, refusals) for part in message.parts if isinstance(part, ToolResult)
    ]
    rest = tuple(part for part in message.parts if not isinstance(part, ToolResult))
    extra = refusals.extra(message.extra, own)
    if results:
        results[-1] |= extra
        return [*results, *([_message(message.role, rest, own, refusals)] if rest else [])]
    return [{**extra, **_message(message.role, rest, own, refusals)}]


def _tool_message(result: ToolResult, own: bool, refusals: Refusals) -> Json:
    refusals.extra(result.extra, own)
    content = _content(result.parts, own, refusals)
    if result.failed and isinstance(content, str):
        content = f"Error: {content}"
    return {"role": "tool", "tool_call_id": result.call_id, "content": content}


def _message(role: str, parts: tuple[Part, ...], own: bool, refusals: Refusals) -> Json:
    if role != "assistant":
        return {"role": role, "content": _content(parts, own, refusals)}
    refusals.hint("reasoning", any(isinstance(part, Reasoning) for part in parts))
    calls = [part for part in parts if isinstance(part, ToolCall)]
    refusal = "".join(part.text for part in parts if isinstance(part, Refusal))
    said = tuple(p for p in parts if not isinstance(p, (ToolCall, Refusal, Reasoning)))
    custom = [p.data for p in said if isinstance(p, Opaque) and p.data.get("type") == "custom"]
    said = tuple(p for p in said if not (isinstance(p, Opaque) and p.data in custom))
    message: Json = {
        "role": "assistant",
        "content": _content(said, own, refusals) if said else None,
    }
    if refusal:
        message["refusal"] = refusal
    if calls or custom:
        message["tool_calls"] = [*(_tool_call(c, own, refusals) for c in calls), *custom]
    return message


def _tool_call(call: ToolCall, own: bool, refusals: Refusals) -> Json:
    return {
        **refusals.extra(call.extra, own),
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _content(parts: tuple[Part, ...], own: bool, refusals: Refusals) -> str | list[Json]:
    """The parts; one plain text is a string."""
    written = [_part(part, own, refusals) for part in parts]
    if not written:
        return ""
    if len(written) == 1 and written[0].keys() == {"type", "text"}:
        text: str = written[0]["text"]
        return text
    return written


def _part(part: Part, own: bool, refusals: Refusals) -> Json:
    if isinstance(part, Text):
        return {**refusals.extra(part.extra, own), "type": "text", "text": part.text}
    if isinstance(part, Refusal):
        return {"type": "refusal", "refusal": part.text}
    if isinstance(part, Media):
        return _media(part, own, refusals)
    if isinstance(part, Opaque) and part.schema == OPENAI_CHAT:
        return part.data
    kind = part.data.get("type", "part") if isinstance(part, Opaque) else type(part).__name__
    raise refusals.no_word(str(kind))


def _media(media: Media, own: bool, refusals: Refusals) -> Json:
    extra = refusals.extra(media.extra, own)
    if media.kind == "image":
        return {"type": "image_url", "image_url": {**extra, "url": data_url(media)}}
    if media.kind == "audio" and media.data:
        form = media.media_type.removeprefix("audio/")
        return {"type": "input_audio", "input_audio": {"data": media.data, "format": form}}
    if media.kind == "document" and media.data:
        name = str(media.extra.get("filename") or "document.pdf")
        return {"type": "file", "file": {"filename": name, "file_data": data_url(media)}}
    raise refusals.no_word(f"a {media.kind} by URL")


def _tool_settings(request: ChatRequest, refusals: Refusals) -> Json:
    settings: Json = {}
    if request.tools:
        own = request.schema == OPENAI_CHAT
        settings["tools"] = [_tool(tool, own, refusals) for tool in request.tools]
    if request.tool_choice is not None:
        settings["tool_choice"] = _tool_choice(request.tool_choice)
    if request.parallel_tools is not None:
        settings["parallel_tool_calls"] = request.parallel_tools
    return settings


def _tool(tool: Tool | Opaque, own: bool, refusals: Refusals) -> Json:
    if isinstance(tool, Opaque):
        if tool.schema != OPENAI_CHAT:
            raise refusals.no_word(f"the tool {tool.data.get('type')}")
        return tool.data
    function: Json = {**refusals.extra(tool.extra, own), "name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters:
        function["parameters"] = tool.parameters
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _tool_choice(choice: ToolChoice) -> str | Json:
    if choice.mode == "one":
        return {"type": "function", "function": {"name": choice.name}}
    return _MODES[choice.mode]


def _output(output: OutputFormat | None) -> Json | None:
    if output is None:
        return None
    if output.kind == "json":
        return {"type": "json_object"}
    form: Json = {"name": output.name, "schema": output.schema}
    if output.strict is not None:
        form["strict"] = output.strict
    if output.description:
        form["description"] = output.description
    return {"type": "json_schema", "json_schema": form}
