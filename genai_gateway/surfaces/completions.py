"""The OpenAI completions surface of old: one prompt, one text."""

from __future__ import annotations

import orjson

from genai_gateway.conversation import (
    OPENAI_COMPLETIONS,
    Answer,
    ChatRequest,
    Choice,
    Json,
    Message,
    Text,
)
from genai_gateway.errors import BadRequest, GatewayError
from genai_gateway.events import Event, Finished, Started, TextDelta, UsageReported
from genai_gateway.openai_words import FINISH_OF, usage_data
from genai_gateway.problems import openai_problem
from genai_gateway.reading import Fields
from genai_gateway.sse import data_event
from genai_gateway.surfaces.chat import read_stop


class CompletionsSurface:
    """``POST /v1/completions``: the prompt becomes the one message of a conversation."""

    schema = OPENAI_COMPLETIONS

    def read(self, body: Json) -> ChatRequest:
        """The request in the internal representation. Raises BadRequest."""
        fields = Fields(body)
        options = Fields(fields.mapping("stream_options", {}), "stream_options")
        request = ChatRequest(
            schema=OPENAI_COMPLETIONS,
            model=fields.text("model"),
            messages=(Message("user", (Text(_prompt(fields)),)),),
            max_tokens=fields.integer("max_tokens", least=1),
            temperature=fields.number("temperature"),
            top_p=fields.number("top_p", most=1.0),
            stop=read_stop(fields),
            seed=fields.integer("seed"),
            choices=fields.integer("n", least=1) or 1,
            stream=bool(fields.flag("stream")),
            stream_usage=bool(options.flag("include_usage")),
            user=fields.text("user", ""),
        )
        for name in (*fields.rest(), *options.rest()):
            raise BadRequest(
                f"{name} is not a field of completions here",
                "Leave it out, or use chat completions.",
                name,
            )
        return request

    def answer(self, answer: Answer, request: ChatRequest) -> Json:
        """The body of a whole answer."""
        choices = [_choice(n, _text(c), FINISH_OF[c.stop]) for n, c in enumerate(answer.choices)]
        data = {**_head(answer.id, answer.created_s, answer.model), "choices": choices}
        if answer.usage is not None:
            data["usage"] = usage_data(answer.usage)
        return data

    def writer(self, request: ChatRequest) -> CompletionsWriter:
        """A writer for the streamed answer to a request."""
        return CompletionsWriter(request.stream_usage)

    def problem(self, error: GatewayError, request_id: str) -> Json:
        """The body of an error."""
        return openai_problem(error, request_id)


class CompletionsWriter:
    """Writes one streamed completion."""

    def __init__(self, with_usage: bool) -> None:
        self._with_usage = with_usage
        self._head: Json = {}
        self._usage: Json | None = None

    def event(self, event: Event) -> bytes:
        """The chunk for an event."""
        if isinstance(event, TextDelta):
            return self._chunk(_choice(event.choice, event.text, None))
        if isinstance(event, Finished):
            return self._chunk(_choice(event.choice, "", FINISH_OF[event.stop]))
        if isinstance(event, Started):
            self._head = _head(event.id, event.created_s, event.model)
        elif isinstance(event, UsageReported):
            self._usage = usage_data(event.usage)
        return b""

    def end(self) -> bytes:
        """The usage, if it was asked for, and the mark of the end."""
        last = b""
        if self._with_usage and self._usage is not None:
            last = data_event(orjson.dumps({**self._head, "choices": [], "usage": self._usage}))
        return last + b"data: [DONE]\n\n"

    def problem(self, error: GatewayError, request_id: str) -> bytes:
        """An error in the place of a chunk."""
        return data_event(orjson.dumps(openai_problem(error, request_id)))

    def _chunk(self, choice: Json) -> bytes:
        return data_event(orjson.dumps({**self._head, "choices": [choice]}))


def _prompt(fields: Fields) -> str:
    prompt = fields.any("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, list):
        raise BadRequest(
            "prompt must be one text here, not token numbers or several texts",
            "Send one request a prompt.",
            "prompt",
        )
    raise fields.missing("prompt") if prompt is None else fields.wrong("prompt", "text", prompt)


def _head(id_: str, created_s: int, model: str) -> Json:
    return {"id": id_, "object": "text_completion", "created": created_s, "model": model}


def _choice(index: int, text: str, finish: str | None) -> Json:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}


def _text(choice: Choice) -> str:
    return "".join(part.text for part in choice.parts if isinstance(part, Text))
