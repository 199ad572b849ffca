"""The OpenAI Responses surface: writes streams."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import orjson

from genai_gateway.conversation import ChatRequest, Json, Refusal, StopReason, Text, Usage
from genai_gateway.errors import GatewayError
from genai_gateway.events import (
    Event,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolDelta,
    ToolStarted,
    UsageReported,
)
from genai_gateway.problems import openai_problem
from genai_gateway.sse import named_event
from genai_gateway.surfaces.responses_answers import (
    call_item,
    content_part,
    ending,
    message_item,
    reasoning_item,
    response_head,
)

_DELTA = {
    "text": "response.output_text.delta",
    "refusal": "response.refusal.delta",
    "tool": "response.function_call_arguments.delta",
    "thought": "response.reasoning_summary_text.delta",
}


@dataclass(slots=True)
class _Item:
    """An output item that is being written; ``kind`` is text, refusal, tool or thought."""

    kind: str
    index: int
    id: str
    call_id: str = ""
    name: str = ""
    signature: str = ""
    words: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.words)

    def data(self, status: str = "completed") -> Json:
        """The item as it stands."""
        if self.kind == "tool":
            return call_item(self.id, self.call_id, self.name, self.text, status)
        if self.kind == "thought":
            return reasoning_item(self.id, self.text, self.signature)
        return message_item(self.id, [self.part()] if status == "completed" else [], status)

    def part(self) -> Json:
        """The content part of a message, or the summary part of a thought."""
        if self.kind == "thought":
            return {"type": "summary_text", "text": self.text}
        return content_part(Refusal(self.text) if self.kind == "refusal" else Text(self.text))


class ResponsesWriter:
    """Writes one streamed response.

    An item of words ends when another begins; calls stay open until the answer is finished, since
    servers may write the arguments of several side by side.
    """

    def __init__(self, request: ChatRequest) -> None:
        self._request = request
        self._head: Json = {}
        self._number = 0
        self._items: list[_Item] = []
        self._words: _Item | None = None
        self._calls: dict[int, _Item] = {}
        self._done: dict[int, Json] = {}
        self._usage: Usage | None = None
        self._stop: StopReason = "stop"

    def event(self, event: Event) -> bytes:
        """The events of the surface for an event."""
        if isinstance(event, TextDelta):
            return b"".join(self._say("text", event.text))
        if isinstance(event, ToolDelta):
            return self._more(self._calls[event.index], event.arguments)
        return b"".join(self._rare(event))

    def end(self) -> bytes:
        """The whole response once more, with its usage."""
        closed = b"".join(self._close_all())
        output = [self._done[n] for n in sorted(self._done)]
        final = {**self._head, **ending(self._stop, output, self._usage)}
        name = f"response.{final['status']}"
        return closed + self._event(name, {"response": final})

    def problem(self, error: GatewayError, request_id: str) -> bytes:
        """An error event: the official clients raise it."""
        told = openai_problem(error, request_id)["error"]
        data = {"code": told["code"], "message": told["message"], "param": told["param"]}
        return self._event("error", {**data, "error": told})

    def _rare(self, event: Event) -> Iterator[bytes]:
        if isinstance(event, Started):
            yield from self._start(event)
        elif isinstance(event, RefusalDelta):
            yield from self._say("refusal", event.text)
        elif isinstance(event, ReasoningDelta):
            yield from self._say("thought", event.text)
            if event.signature and self._words is not None:
                self._words.signature += event.signature
        elif isinstance(event, ToolStarted):
            yield from self._close_words()
            call = self._calls[event.index] = self._new("tool")
            call.call_id, call.name = event.id, event.name
            yield self._added(call)
        elif isinstance(event, UsageReported):
            self._usage = event.usage
        elif isinstance(event, Finished):
            self._stop = event.stop
            yield from self._close_all()

    def _start(self, event: Started) -> Iterator[bytes]:
        head = response_head(event.id, event.model, event.created_s, self._request)
        self._head = head
        yield self._event("response.created", {"response": head})
        yield self._event("response.in_progress", {"response": head})

    def _say(self, kind: str, text: str) -> Iterator[bytes]:
        if self._words is None or self._words.kind != kind:
            yield from self._close_words()
            self._words = self._new(kind)
            yield self._added(self._words)
            yield self._part("added", self._words)
        if text:
            yield self._more(self._words, text)

    def _new(self, kind: str) -> _Item:
        prefix = {"tool": "fc", "thought": "rs"}.get(kind, "msg")
        index = len(self._items)
        item = _Item(kind, index, f"{prefix}_{self._head.get('id', '')}_{index}")
        self._items.append(item)
        return item

    def _added(self, item: _Item) -> bytes:
        data = {"output_index": item.index, "item": item.data("in_progress")}
        return self._event("response.output_item.added", data)

    def _more(self, item: _Item, text: str) -> bytes:
        item.words.append(text)
        data: Json = {"item_id": item.id, "output_index": item.index, "delta": text}
        if item.kind == "thought":
            data["summary_index"] = 0
        elif item.kind != "tool":
            data["content_index"] = 0
        if item.kind == "text":
            data["logprobs"] = []
        return self._event(_DELTA[item.kind], data)

    def _part(self, what: str, item: _Item) -> bytes:
        place = {"item_id": item.id, "output_index": item.index, "part": item.part()}
        if item.kind == "thought":
            return self._event(
                f"response.reasoning_summary_part.{what}", {**place, "summary_index": 0}
            )
        return self._event(f"response.content_part.{what}", {**place, "content_index": 0})

    def _close_words(self) -> Iterator[bytes]:
        item, self._words = self._words, None
        if item is None:
            return
        place: Json = {"item_id": item.id, "output_index": item.index}
        if item.kind == "thought":
            place["summary_index"] = 0
            name = "response.reasoning_summary_text.done"
        else:
            place["content_index"] = 0
            name = f"response.{'output_text' if item.kind == 'text' else 'refusal'}.done"
        said = {"refusal": item.text} if item.kind == "refusal" else {"text": item.text}
        logprobs: Json = {"logprobs": []} if item.kind == "text" else {}
        yield self._event(name, {**place, **said, **logprobs})
        yield self._part("done", item)
        yield self._finish(item)

    def _close_all(self) -> Iterator[bytes]:
        yield from self._close_words()
        for call in self._calls.values():
            place = {"item_id": call.id, "output_index": call.index}
            done = {**place, "name": call.name, "arguments": call.text}
            yield self._event("response.function_call_arguments.done", done)
            yield self._finish(call)
        self._calls = {}

    def _finish(self, item: _Item) -> bytes:
        self._done[item.index] = item.data()
        data = {"output_index": item.index, "item": self._done[item.index]}
        return self._event("response.output_item.done", data)

    def _event(self, name: str, data: Json) -> bytes:
        whole = {"type": name, "sequence_number": self._number, **data}
        self._number += 1
        return named_event(name, orjson.dumps(whole))
