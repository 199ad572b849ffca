"""Anthropic's schema: writes requests and reads whole answers."""

from __future__ import annotations

from itertools import groupby

import orjson

from genai_gateway.anthropic_words import STOP_OF, VERSION, usage_of
from genai_gateway.conversation import (
    ANTHROPIC,
    NOTHING,
    Answer,
    ChatRequest,
    Choice,
    EmbeddingAnswer,
    EmbeddingRequest,
    Json,
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from genai_gateway.errors import CannotTranslate, UpstreamFailed
from genai_gateway.providers.adapter import Call, Refusals
from genai_gateway.providers.anthropic_stream import AnthropicReader
from genai_gateway.providers.failures import failure_in

_MODES = {"auto": "auto", "any": "any", "none": "none", "one": "tool"}
_EFFORTS = ("low", "medium", "high")
_TOP = {"id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"}


class AnthropicAdapter:
    """Messages of Anthropic; ``max_tokens`` is the bound where a request has none."""

    schema = ANTHROPIC

    def __init__(self, max_tokens: int = 4096) -> None:
        self._max_tokens = max_tokens

    def headers(self, secret: str) -> dict[str, str]:
        """The headers that prove who asks."""
        return {"anthropic-version": VERSION, **({"x-api-key": secret} if secret else {})}

    def chat(self, request: ChatRequest, model: str) -> Call:
        """The call for a turn. Raises CannotTranslate."""
        refusals = Refusals("Anthropic")
        body = self._body(request, model, refusals)
        body["max_tokens"] = request.max_tokens or self._max_tokens
        if request.stream:
            body["stream"] = True
        return Call("/v1/messages", body, ignored=refusals.ignored)

    def count(self, request: ChatRequest, model: str) -> Call:
        """The call that counts the tokens of a turn. Raises CannotTranslate."""
        refusals = Refusals("Anthropic")
        body = self._body(request, model, refusals)
        kept = ("model", "messages", "system", "tools", "tool_choice", "thinking")
        return Call(
            "/v1/messages/count_tokens", {name: body[name] for name in kept if name in body}
        )

    def answer(self, body: Json, request: ChatRequest) -> Answer:
        """A whole answer. Raises UpstreamFailed for an empty one."""
        if body.get("type") == "error":
            raise failure_in(body)
        parts = tuple(_read_block(block) for block in body["content"])
        stop = STOP_OF.get(body.get("stop_reason") or "end_turn", "stop")
        if not parts and stop == "stop":
            raise UpstreamFailed("the upstream's answer is empty")
        return Answer(
            id=body["id"],
            model=body["model"],
            created_s=0,
            choices=(Choice(parts, stop, body.get("stop_sequence") or ""),),
            usage=usage_of(body.get("usage") or {}),
            schema=ANTHROPIC,
            extra={name: value for name, value in body.items() if name not in _TOP},
        )

    def reader(self, request: ChatRequest) -> AnthropicReader:
        """A reader for a streamed answer to a request."""
        return AnthropicReader()

    def embed(self, request: EmbeddingRequest, model: str) -> Call:
        """Raises CannotTranslate: there are no embeddings in this schema."""
        raise CannotTranslate("the Anthropic schema has no embeddings", "Ask another model.")

    def embedding(self, body: Json) -> EmbeddingAnswer:
        """Never called: there are no embeddings in this schema."""
        raise CannotTranslate("the Anthropic schema has no embeddings")

    def _body(self, request: ChatRequest, model: str, refusals: Refusals) -> Json:
        own = request.schema == ANTHROPIC
        refusals.needs("n", request.choices > 1)
        refusals.hint("seed", request.seed is not None)
        refusals.hint("metadata", bool(request.metadata))
        system, messages = _split(request.messages, refusals)
        extra = dict(refusals.extra(request.extra, own))
        odd_config = extra.pop("output_config", {})
        settings: Json = {
            "system": _system(system, own, refusals),
            "temperature": _temperature(request, refusals),
            "top_p": request.top_p,
            "top_k": request.top_k,
            "stop_sequences": list(request.stop) or None,
            "tools": [_tool(tool, own, refusals) for tool in request.tools] or None,
            "tool_choice": _tool_choice(request),
            "thinking": _thinking(request),
            "output_config": _output_config(request, odd_config, refusals) or None,
            "metadata": {**extra.pop("metadata", {}), **_user(request)} or None,
        }
        kept = {name: value for name, value in settings.items() if value is not None}
        return {**extra, "model": model, "messages": _messages(messages, own, refusals), **kept}


def _split(
    messages: tuple[Message, ...], refusals: Refusals
) -> tuple[list[Message], list[Message]]:
    """The system messages at the beginning, and the rest."""
    rest = list(messages)
    system: list[Message] = []
    while rest and rest[0].role in ("system", "developer"):
        system.append(rest.pop(0))
    refusals.needs(
        "a system message after the beginning",
        any(message.role in ("system", "developer") for message in rest),
    )
    return system, rest


def _system(messages: list[Message], own: bool, refusals: Refusals) -> str | list[Json] | None:
    for message in messages:
        refusals.extra(message.extra, own)
    parts = [part for message in messages for part in message.parts]
    if not parts:
        return None
    return _content(tuple(parts), own, refusals)


def _messages(messages: list[Message], own: bool, refusals: Refusals) -> list[Json]:
    """Messages of one side in a row become one; results of tools stand first in it."""
    written: list[Json] = []
    for role, group in groupby(messages, lambda m: "user" if m.role == "tool" else m.role):
        turns = list(group)
        extra = refusals.extra(turns[0].extra, own) if len(turns) == 1 else NOTHING
        if len(turns) > 1:
            for message in turns:
                refusals.hint("name", refusals.extra(message.extra, own))
        parts = tuple(part for message in turns for part in message.parts)
        ordered = tuple(sorted(parts, key=lambda part: not isinstance(part, ToolResult)))
        content = _content(ordered if role == "user" else parts, own, refusals)
        written.append({**extra, "role": role, "content": content})
    return written


def _content(parts: tuple[Part, ...], own: bool, refusals: Refusals) -> str | list[Json]:
    """The parts; one plain text is a string."""
    written = [block for part in parts if (block := _block(part, own, refusals)) is not None]
    if len(written) == 1 and written[0].keys() == {"type", "text"}:
        text: str = written[0]["text"]
        return text
    return written


def _block(part: Part, own: bool, refusals: Refusals) -> Json | None:
    if isinstance(part, Text):
        extra = refusals.extra(part.extra, own)
        # An empty block of text is refused by the API, and says nothing.
        return {**extra, "type": "text", "text": part.text} if part.text else None
    if isinstance(part, Refusal):
        return {"type": "text", "text": part.text}
    if isinstance(part, ToolCall):
        extra = refusals.extra(part.extra, own)
        return {
            **extra,
            "type": "tool_use",
            "id": part.id,
            "name": part.name,
            "input": _input(part),
        }
    if isinstance(part, ToolResult):
        return _tool_result(part, own, refusals)
    if isinstance(part, Media):
        return _media(part, own, refusals)
    return _rare_block(part, refusals)


def _rare_block(part: Reasoning | Opaque, refusals: Refusals) -> Json | None:
    if isinstance(part, Reasoning):
        refusals.hint("reasoning", not part.signature)
        thinking = {"type": "thinking", "thinking": part.text, "signature": part.signature}
        return thinking if part.signature else None
    if part.schema != ANTHROPIC:
        raise refusals.no_word(str(part.data.get("type")))
    return part.data


def _input(call: ToolCall) -> Json:
    try:
        data = orjson.loads(call.arguments or "{}")
    except orjson.JSONDecodeError:
        data = None
    if not isinstance(data, dict):
        raise CannotTranslate(
            f"the arguments of the call {call.id} are not a JSON object",
            "Anthropic's schema takes nothing else.",
        )
    return data


def _tool_result(result: ToolResult, own: bool, refusals: Refusals) -> Json:
    block: Json = {
        **refusals.extra(result.extra, own),
        "type": "tool_result",
        "tool_use_id": result.call_id,
    }
    if result.parts:
        block["content"] = _content(result.parts, own, refusals)
    if result.failed:
        block["is_error"] = True
    return block


def _media(media: Media, own: bool, refusals: Refusals) -> Json:
    if media.kind == "audio":
        raise refusals.no_word("input_audio")
    extra = dict(media.extra)
    if not own:
        refusals.hint("detail", extra.pop("detail", None))
        refusals.hint("filename", extra.pop("filename", None))
        refusals.extra(extra, own)
    source: Json = {"type": "url", "url": media.url}
    if media.data:
        source = {"type": "base64", "media_type": media.media_type, "data": media.data}
    return {**extra, "type": media.kind, "source": source}


def _tool(tool: Tool | Opaque, own: bool, refusals: Refusals) -> Json:
    if isinstance(tool, Opaque):
        if tool.schema != ANTHROPIC:
            raise refusals.no_word(f"the tool {tool.data.get('type')}")
        return tool.data
    data: Json = {**refusals.extra(tool.extra, own), "name": tool.name}
    if tool.description:
        data["description"] = tool.description
    data["input_schema"] = dict(tool.parameters) or {"type": "object"}
    if tool.strict:
        data["strict"] = True
    return data


def _tool_choice(request: ChatRequest) -> Json | None:
    choice, parallel = request.tool_choice, request.parallel_tools
    if choice is None and (parallel is None or not request.tools):
        return None
    data: Json = {"type": _MODES[choice.mode if choice else "auto"]}
    if choice is not None and choice.mode == "one":
        data["name"] = choice.name
    if parallel is not None and data["type"] != "none":
        data["disable_parallel_tool_use"] = not parallel
    return data


def _thinking(request: ChatRequest) -> Json | None:
    if request.thinking_budget is None:
        return None
    return {"type": "enabled", "budget_tokens": request.thinking_budget}


def _output_config(request: ChatRequest, odd: Json, refusals: Refusals) -> Json:
    config: Json = dict(odd)
    if request.effort is not None:
        refusals.needs(f"reasoning effort {request.effort}", request.effort not in _EFFORTS)
        config["effort"] = request.effort
    if request.output is not None:
        refusals.needs("response_format json_object", request.output.kind == "json")
        config["format"] = {"type": "json_schema", "schema": dict(request.output.schema)}
    return config


def _temperature(request: ChatRequest, refusals: Refusals) -> float | None:
    refusals.needs("a temperature above 1", (request.temperature or 0) > 1)
    return request.temperature


def _user(request: ChatRequest) -> Json:
    return {"user_id": request.user} if request.user else {}


def _read_block(block: Json) -> Part:
    kind = block["type"]
    if kind == "text":
        extra = {k: v for k, v in block.items() if k not in ("type", "text") and v is not None}
        return Text(block["text"], extra or NOTHING)
    if kind == "tool_use":
        return ToolCall(block["id"], block["name"], orjson.dumps(block["input"]).decode())
    if kind == "thinking":
        return Reasoning(block["thinking"], block.get("signature") or "")
    return Opaque(ANTHROPIC, block)
