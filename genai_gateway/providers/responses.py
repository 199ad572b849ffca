"""OpenAI's Responses schema: writes requests and reads answers. Nothing is stored upstream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from genai_gateway.conversation import (
    OPENAI_RESPONSES,
    Answer,
    ChatRequest,
    Choice,
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
from genai_gateway.errors import UpstreamFailed
from genai_gateway.openai_words import data_url
from genai_gateway.providers.adapter import Call, Refusals
from genai_gateway.providers.failures import failure_in
from genai_gateway.providers.openai import OpenAIAdapter
from genai_gateway.providers.responses_stream import ResponsesReader, stop_of, usage_of

_MODES = {"auto": "auto", "none": "none", "any": "required"}


class ResponsesAdapter:
    """``POST /responses``; embeddings are those of the OpenAI schema."""

    schema = OPENAI_RESPONSES

    def __init__(self) -> None:
        self._plain = OpenAIAdapter()

    def headers(self, secret: str) -> dict[str, str]:
        """The headers that prove who asks."""
        return self._plain.headers(secret)

    def chat(self, request: ChatRequest, model: str) -> Call:
        """The call for a turn. Raises CannotTranslate."""
        refusals = Refusals("OpenAI Responses")
        own = request.schema == OPENAI_RESPONSES
        refusals.needs("top_k", request.top_k is not None)
        refusals.needs("stop", request.stop)
        refusals.needs("n", request.choices > 1)
        refusals.hint("seed", request.seed is not None)
        refusals.hint("thinking", request.thinking_budget)
        extra = dict(refusals.extra(request.extra, own))
        form, reasoning = extra.pop("text", {}), extra.pop("reasoning", {})
        if request.output is not None:
            form = {**form, "format": _output(request.output)}
        if request.effort is not None:
            reasoning = {**reasoning, "effort": request.effort}
        settings: Json = {
            "max_output_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "parallel_tool_calls": request.parallel_tools,
            "tools": [_tool(tool, own, refusals) for tool in request.tools] or None,
            "tool_choice": _tool_choice(request.tool_choice),
            "text": form or None,
            "reasoning": reasoning or None,
            "user": request.user or None,
            "metadata": dict(request.metadata) or None,
            "stream": request.stream or None,
        }
        items = [item for m in request.messages for item in _items(m, own, refusals)]
        kept = {name: value for name, value in settings.items() if value is not None}
        body = {"store": False, **extra, "model": model, "input": items, **kept}
        return Call("/responses", body, ignored=refusals.ignored)

    def answer(self, body: Json, request: ChatRequest) -> Answer:
        """A whole answer. Raises UpstreamFailed for an error inside it, and for an empty one."""
        if body.get("error") or body.get("status") == "failed":
            raise failure_in(body)
        parts = tuple(part for item in body["output"] for part in _read_item(item))
        stop = stop_of(body)
        if stop == "stop" and any(isinstance(part, ToolCall) for part in parts):
            stop = "tools"
        if not parts and stop == "stop":
            raise UpstreamFailed("the upstream's answer is empty")
        usage = usage_of(body["usage"]) if body.get("usage") else None
        created, choices = int(body.get("created_at") or 0), (Choice(parts, stop),)
        return Answer(body["id"], body["model"], created, choices, usage, OPENAI_RESPONSES)

    def reader(self, request: ChatRequest) -> ResponsesReader:
        """A reader for a streamed answer to a request."""
        return ResponsesReader()

    def embed(self, request: EmbeddingRequest, model: str) -> Call:
        """The call for embeddings."""
        return self._plain.embed(request, model)

    def embedding(self, body: Json) -> EmbeddingAnswer:
        """The embeddings in an answer."""
        return self._plain.embedding(body)


def _items(message: Message, own: bool, refusals: Refusals) -> Iterator[Json]:
    """The items of a message: its words together, thoughts, calls and results alone."""
    extra = refusals.extra(message.extra, own)
    words: list[Json] = []
    for part in message.parts:
        item = _item(part, refusals)
        if item is not None:
            if words:
                yield {**extra, "role": message.role, "content": words}
                words = []
            yield item
        elif not isinstance(part, Reasoning):
            words.append(_content(part, message.role, own, refusals))
    if words:
        yield {**extra, "role": message.role, "content": words}


def _item(part: Part, refusals: Refusals) -> Json | None:
    """A part that is an item of its own; None for one that stands in a message, or is left out."""
    if isinstance(part, ToolCall):
        call = {"call_id": part.id, "name": part.name, "arguments": part.arguments}
        return {"type": "function_call", **call}
    if isinstance(part, ToolResult):
        if any(not isinstance(inner, Text) for inner in part.parts):
            raise refusals.no_word("a result of a tool that is not text")
        text = "".join(inner.text for inner in part.parts if isinstance(inner, Text))
        output = f"Error: {text}" if part.failed else text
        return {"type": "function_call_output", "call_id": part.call_id, "output": output}
    if isinstance(part, Reasoning):
        refusals.hint("reasoning", part.text)
        return None
    if isinstance(part, Opaque) and not str(part.data.get("type")).startswith("input_"):
        if part.schema != OPENAI_RESPONSES:
            raise refusals.no_word(str(part.data.get("type")))
        return part.data
    return None


def _content(part: Part, role: str, own: bool, refusals: Refusals) -> Json:
    if isinstance(part, Text):
        refusals.extra(part.extra, own)
        return {"type": "output_text" if role == "assistant" else "input_text", "text": part.text}
    if isinstance(part, Refusal):
        return {"type": "refusal", "refusal": part.text}
    if isinstance(part, Media) and part.kind == "image":
        return {"type": "input_image", "image_url": data_url(part), **part.extra}
    if isinstance(part, Media) and part.kind == "document" and part.data:
        name = str(part.extra.get("filename") or "document.pdf")
        return {"type": "input_file", "filename": name, "file_data": data_url(part)}
    if isinstance(part, Opaque) and part.schema == OPENAI_RESPONSES:
        return part.data
    kind = part.kind if isinstance(part, Media) else type(part).__name__
    raise refusals.no_word(kind)


def _tool(tool: Tool | Opaque, own: bool, refusals: Refusals) -> Json:
    if isinstance(tool, Opaque):
        if tool.schema != OPENAI_RESPONSES:
            raise refusals.no_word(f"the tool {tool.data.get('type')}")
        return tool.data
    data: Json = {**refusals.extra(tool.extra, own), "type": "function", "name": tool.name}
    if tool.description:
        data["description"] = tool.description
    # Without a word about it this schema is strict, all others are not.
    return {**data, "parameters": dict(tool.parameters), "strict": bool(tool.strict)}


def _tool_choice(choice: ToolChoice | None) -> Any:
    if choice is None:
        return None
    if choice.mode == "one":
        return {"type": "function", "name": choice.name}
    return _MODES[choice.mode]


def _output(output: OutputFormat) -> Json:
    if output.kind == "json":
        return {"type": "json_object"}
    form: Json = {"type": "json_schema", "name": output.name, "schema": dict(output.schema)}
    if output.strict is not None:
        form["strict"] = output.strict
    return form


def _read_item(item: Json) -> Iterator[Part]:
    kind = item["type"]
    if kind == "function_call":
        yield ToolCall(item["call_id"], item["name"], item["arguments"])
    elif kind == "message":
        for part in item["content"]:
            if part["type"] == "refusal":
                yield Refusal(part["refusal"])
            else:
                yield Text(part["text"])
    elif kind == "reasoning" and not item.get("encrypted_content"):
        text = "".join(part.get("text", "") for part in item.get("summary") or ())
        if text:
            yield Reasoning(text)
    else:
        yield Opaque(OPENAI_RESPONSES, item)
