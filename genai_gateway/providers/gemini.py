"""Google's Gemini schema: writes requests and reads whole answers."""

from __future__ import annotations

from itertools import groupby

import orjson

from genai_gateway.conversation import (
    GEMINI,
    NOTHING,
    Answer,
    ChatRequest,
    Choice,
    EmbeddingAnswer,
    EmbeddingRequest,
    Json,
    Media,
    Message,
    Part,
    Reasoning,
    Refusal,
    StopReason,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
)
from genai_gateway.errors import CannotTranslate, UpstreamFailed
from genai_gateway.providers.adapter import Call, Refusals
from genai_gateway.providers.failures import failure_in
from genai_gateway.providers.gemini_stream import GeminiReader, stop_of, usage_of

_MODES = {"auto": "AUTO", "any": "ANY", "none": "NONE", "one": "ANY"}


class GeminiAdapter:
    """``generateContent`` and embeddings of Gemini."""

    schema = GEMINI

    def headers(self, secret: str) -> dict[str, str]:
        """The headers that prove who asks."""
        return {"x-goog-api-key": secret} if secret else {}

    def chat(self, request: ChatRequest, model: str) -> Call:
        """The call for a turn. Raises CannotTranslate."""
        refusals = Refusals("Gemini")
        refusals.extra(request.extra, own=False)
        refusals.hint("user", request.user)
        refusals.hint("metadata", bool(request.metadata))
        refusals.needs("parallel_tool_calls", request.parallel_tools is False)
        refusals.needs("reasoning effort", request.effort)
        rest = list(request.messages)
        system: list[Part] = []
        while rest and rest[0].role in ("system", "developer"):
            system += rest.pop(0).parts
        later = any(message.role in ("system", "developer") for message in rest)
        refusals.needs("a system message after the beginning", later)
        writer = _Writer(refusals, request)
        body: Json = {"contents": writer.contents(rest)}
        if system:
            body["systemInstruction"] = {"parts": writer.parts(tuple(system))}
        body |= _tools(request, refusals)
        settings = _settings(request)
        if settings:
            body["generationConfig"] = settings
        verb = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
        return Call(f"/v1beta/models/{model}:{verb}", body, ignored=refusals.ignored)

    def answer(self, body: Json, request: ChatRequest) -> Answer:
        """A whole answer. Raises UpstreamFailed for an empty one."""
        if body.get("error"):
            raise failure_in(body)
        choices = tuple(_choice(data) for data in body.get("candidates") or ())
        if not choices and (body.get("promptFeedback") or {}).get("blockReason"):
            choices = (Choice((), "filter"),)
        if not choices or (choices[0].stop == "stop" and not choices[0].parts):
            raise UpstreamFailed("the upstream's answer is empty")
        usage = usage_of(body.get("usageMetadata") or {})
        id_, model = str(body.get("responseId") or ""), str(body.get("modelVersion") or "")
        return Answer(id_, model, 0, choices, usage, GEMINI)

    def reader(self, request: ChatRequest) -> GeminiReader:
        """A reader for a streamed answer to a request."""
        return GeminiReader(request.choices)

    def embed(self, request: EmbeddingRequest, model: str) -> Call:
        """The call for embeddings. Raises CannotTranslate for token numbers."""
        refusals = Refusals("Gemini")
        refusals.extra(request.extra, own=False)
        refusals.needs("token numbers", any(not isinstance(i, str) for i in request.inputs))
        one: Json = {"model": f"models/{model}"}
        if request.dimensions is not None:
            one["outputDimensionality"] = request.dimensions
        asked = [{**one, "content": {"parts": [{"text": text}]}} for text in request.inputs]
        return Call(f"/v1beta/models/{model}:batchEmbedContents", {"requests": asked})

    def embedding(self, body: Json) -> EmbeddingAnswer:
        """The embeddings in an answer; this schema does not say how many tokens they took."""
        return EmbeddingAnswer("", tuple(row["values"] for row in body["embeddings"]), Usage())


class _Writer:
    """Writes messages; it knows the names of the tools that results belong to."""

    def __init__(self, refusals: Refusals, request: ChatRequest) -> None:
        self._refusals = refusals
        self._names = {p.id: p.name for p in request.parts() if isinstance(p, ToolCall)}

    def contents(self, messages: list[Message]) -> list[Json]:
        """The turns; messages of one side in a row become one."""
        written: list[Json] = []
        for role, group in groupby(messages, lambda m: _role(m)):
            turns = list(group)
            for message in turns:
                self._refusals.extra(message.extra, own=False)
            parts = tuple(part for message in turns for part in message.parts)
            written.append({"role": role, "parts": self.parts(parts)})
        return written

    def parts(self, parts: tuple[Part, ...]) -> list[Json]:
        """The parts of a turn."""
        return [data for part in parts if (data := self._part(part)) is not None]

    def _part(self, part: Part) -> Json | None:
        if isinstance(part, Text):
            self._refusals.extra(part.extra, own=False)
            return {"text": part.text}
        if isinstance(part, Refusal):
            return {"text": part.text}
        if isinstance(part, Reasoning):
            self._refusals.hint("reasoning", part.text)
            return None
        if isinstance(part, ToolCall):
            return {"functionCall": {"name": part.name, "args": _arguments(part)}}
        if isinstance(part, ToolResult):
            return self._result(part)
        if isinstance(part, Media):
            return self._media(part)
        raise self._refusals.no_word(str(part.data.get("type")))

    def _result(self, result: ToolResult) -> Json:
        name = self._names.get(result.call_id)
        if name is None:
            raise CannotTranslate(
                f"the result of the call {result.call_id} stands without that call",
                "Send the whole conversation.",
            )
        if any(not isinstance(part, Text) for part in result.parts):
            raise self._refusals.no_word("a result of a tool that is not text")
        text = "".join(part.text for part in result.parts if isinstance(part, Text))
        response = {"error": text} if result.failed else {"result": text}
        return {"functionResponse": {"name": name, "response": response}}

    def _media(self, media: Media) -> Json:
        if not media.data:
            raise self._refusals.no_word(f"{media.kind} by URL")
        self._refusals.hint("detail", media.extra.get("detail"))
        return {"inlineData": {"mimeType": media.media_type, "data": media.data}}


def _role(message: Message) -> str:
    return "model" if message.role == "assistant" else "user"


def _arguments(call: ToolCall) -> Json:
    try:
        data = orjson.loads(call.arguments or "{}")
    except orjson.JSONDecodeError:
        data = None
    if not isinstance(data, dict):
        raise CannotTranslate(f"the arguments of the call {call.id} are not a JSON object")
    return data


def _tools(request: ChatRequest, refusals: Refusals) -> Json:
    if not request.tools:
        return {}
    declared: list[Json] = []
    for tool in request.tools:
        if not isinstance(tool, Tool):
            raise refusals.no_word(f"the tool {tool.data.get('type')}")
        refusals.extra(tool.extra, own=False)
        one: Json = {"name": tool.name, "description": tool.description}
        if tool.parameters:
            one["parametersJsonSchema"] = dict(tool.parameters)
        declared.append(one)
    body: Json = {"tools": [{"functionDeclarations": declared}]}
    choice = request.tool_choice
    if choice is not None:
        config: Json = {"mode": _MODES[choice.mode]}
        if choice.mode == "one":
            config["allowedFunctionNames"] = [choice.name]
        body["toolConfig"] = {"functionCallingConfig": config}
    return body


def _settings(request: ChatRequest) -> Json:
    output, budget = request.output, request.thinking_budget
    settings: Json = {
        "maxOutputTokens": request.max_tokens,
        "temperature": request.temperature,
        "topP": request.top_p,
        "topK": request.top_k,
        "seed": request.seed,
        "stopSequences": list(request.stop) or None,
        "candidateCount": request.choices if request.choices > 1 else None,
        "responseMimeType": "application/json" if output else None,
        "responseJsonSchema": dict(output.schema) if output and output.kind == "schema" else None,
        "thinkingConfig": {"thinkingBudget": budget} if budget is not None else None,
    }
    return {name: value for name, value in settings.items() if value is not None}


def _choice(data: Json) -> Choice:
    parts: list[Part] = []
    for part in (data.get("content") or {}).get("parts") or ():
        if "functionCall" in part:
            call = part["functionCall"]
            arguments = orjson.dumps(call.get("args") or {}).decode()
            parts.append(ToolCall(call.get("id") or f"call_{len(parts)}", call["name"], arguments))
        elif part.get("text"):
            parts.append(Reasoning(part["text"]) if part.get("thought") else Text(part["text"]))
    stop: StopReason = stop_of(data.get("finishReason"))
    if any(isinstance(part, ToolCall) for part in parts) and stop == "stop":
        stop = "tools"
    return Choice(tuple(parts), stop, extra=NOTHING)
