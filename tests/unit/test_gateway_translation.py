"""Words of one schema in another: the same meaning, or refused by name."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai_gateway.conversation import (
    Answer,
    ChatRequest,
    Choice,
    Json,
    Reasoning,
    Text,
    ToolCall,
    Usage,
)
from genai_gateway.errors import CannotTranslate, UpstreamFailed
from genai_gateway.events import Event, fold, unfold
from genai_gateway.providers.anthropic import AnthropicAdapter
from genai_gateway.providers.gemini import GeminiAdapter
from genai_gateway.providers.openai import OpenAIAdapter
from genai_gateway.providers.responses import ResponsesAdapter
from genai_gateway.sse import EventParser
from genai_gateway.surfaces.chat import ChatSurface
from genai_gateway.surfaces.messages import MessagesSurface
from genai_gateway.surfaces.responses import ResponsesSurface

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"x": 1}}}
FULL: Json = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        {"role": "user", "content": "and?", "name": "jo"},
    ],
    "tools": [TOOL],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
    "max_completion_tokens": 9,
    "temperature": 0.5,
    "top_p": 0.9,
    "stop": ["x"],
    "seed": 3,
    "n": 2,
    "user": "u",
    "metadata": {"k": "v"},
    "reasoning_effort": "low",
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
    },
    "logit_bias": {"5": 1},
    "presence_penalty": 0.1,
    "brand_new_field": {"deep": [1, None]},
}
MESSAGES: Json = {
    "model": "m",
    "max_tokens": 9,
    "system": [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": "a"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": "sunny", "is_error": True},
                {"type": "text", "text": "and?"},
            ],
        },
    ],
    "tools": [{"name": "f", "description": "d", "input_schema": {"x": 1}}],
    "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    "stop_sequences": ["x"],
    "top_k": 5,
    "thinking": {"type": "enabled", "budget_tokens": 2000},
    "metadata": {"user_id": "u"},
    "brand_new_field": [1],
}


def test_chat_to_the_openai_schema_is_what_it_was() -> None:
    """Every field, also one nobody knows, reaches a server of the same schema."""
    call = OpenAIAdapter().chat(ChatSurface().read(FULL), "m")
    assert call.body == FULL
    assert call.ignored == ()


def test_messages_to_the_anthropic_schema_are_what_they_were() -> None:
    """The same for Anthropic's schema."""
    call = AnthropicAdapter().chat(MessagesSurface().read(MESSAGES), "m")
    assert call.body == MESSAGES
    assert call.ignored == ()


def test_chat_to_the_anthropic_schema() -> None:
    """The same meaning in the other schema's words."""
    body = {k: v for k, v in FULL.items() if k not in ("n", "logit_bias", "presence_penalty")}
    del body["brand_new_field"], body["messages"][4]["name"]
    call = AnthropicAdapter().chat(ChatSurface().read(body), "m")
    assert call.body["system"] == "be brief"
    assert call.body["max_tokens"] == 9
    assert call.body["messages"][1]["content"][0] == {
        "type": "tool_use",
        "id": "c1",
        "name": "f",
        "input": {"a": 1},
    }
    last = call.body["messages"][2]
    assert [block["type"] for block in last["content"]] == ["tool_result", "text"]
    choice = {"type": "tool", "name": "f", "disable_parallel_tool_use": True}
    assert call.body["tool_choice"] == choice
    assert call.body["output_config"]["format"]["schema"] == {"type": "object"}
    assert call.body["output_config"]["effort"] == "low"
    assert set(call.ignored) == {"seed", "metadata"}


@pytest.mark.parametrize("adapter", [AnthropicAdapter(), GeminiAdapter()])
@pytest.mark.parametrize("field", ["logit_bias", "presence_penalty", "brand_new_field"])
def test_what_another_schema_cannot_say_is_refused_by_name(adapter: Any, field: str) -> None:
    """A field that would change the answer is never dropped silently."""
    body = {"model": "m", "messages": FULL["messages"][:1], field: FULL[field]}
    body["messages"] = [{"role": "user", "content": "x"}]
    with pytest.raises(CannotTranslate) as refused:
        adapter.chat(ChatSurface().read(body), "m")
    assert refused.value.field == field


def test_messages_to_the_openai_schema() -> None:
    """Thinking and cache marks are left out and said so; results of tools stand alone."""
    body = {k: v for k, v in MESSAGES.items() if k not in ("top_k", "brand_new_field")}
    call = OpenAIAdapter().chat(MessagesSurface().read(body), "m")
    roles = [message["role"] for message in call.body["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "user"]
    assert call.body["messages"][3]["content"] == "Error: sunny"
    assert call.body["parallel_tool_calls"] is False
    assert call.body["tool_choice"] == "required"
    assert set(call.ignored) == {"thinking", "cache_control", "reasoning"}


def test_responses_to_the_openai_schema() -> None:
    """Items become messages, and what is told apart in items becomes one turn."""
    body = {
        "model": "m",
        "instructions": "be brief",
        "input": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": [{"type": "output_text", "text": "hm"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "sunny"},
        ],
        "max_output_tokens": 9,
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}},
    }
    call = OpenAIAdapter().chat(ResponsesSurface().read(body), "m")
    roles = [message["role"] for message in call.body["messages"]]
    assert roles == ["system", "user", "assistant", "tool"]
    assert call.body["messages"][2]["content"] == "hm"
    assert call.body["messages"][2]["tool_calls"][0]["id"] == "c"
    assert call.body["max_completion_tokens"] == 9


def test_chat_to_gemini() -> None:
    """Contents, tools and settings in Gemini's words."""
    wanted = ("model", "messages", "tools", "tool_choice", "max_completion_tokens", "stop", "seed")
    body = {k: FULL[k] for k in (*wanted, "response_format")}
    body["messages"] = [{k: v for k, v in m.items() if k != "name"} for m in FULL["messages"]]
    call = GeminiAdapter().chat(ChatSurface().read(body), "g")
    assert call.path == "/v1beta/models/g:generateContent"
    assert call.body["systemInstruction"] == {"parts": [{"text": "be brief"}]}
    assert [c["role"] for c in call.body["contents"]] == ["user", "model", "user"]
    result = {"functionResponse": {"name": "f", "response": {"result": "sunny"}}}
    assert call.body["contents"][2]["parts"][0] == result
    assert call.body["toolConfig"]["functionCallingConfig"]["allowedFunctionNames"] == ["f"]
    assert call.body["generationConfig"]["responseJsonSchema"] == {"type": "object"}


def gemini(parts: list[Json], finish: str | None = "STOP") -> Json:
    """One piece of a Gemini answer."""
    candidate: Json = {"content": {"role": "model", "parts": parts}}
    if finish:
        candidate["finishReason"] = finish
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 2, "thoughtsTokenCount": 1}
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "responseId": "r",
        "modelVersion": "g-2",
    }


def test_gemini_answers() -> None:
    """Words, thoughts, calls and usage, whole and streamed alike."""
    request = ChatSurface().read({"model": "m", "messages": [{"role": "user", "content": "x"}]})
    call = {"functionCall": {"name": "f", "args": {"a": 1}}}
    parts = [{"text": "hm", "thought": True}, {"text": "Hello"}, call]
    whole = GeminiAdapter().answer(gemini(parts), request)
    reader = GeminiAdapter().reader(request)
    pieces = [
        gemini(parts[:1], None),
        gemini([{"text": "Hel"}], None),
        gemini([{"text": "lo"}], None),
    ]
    pieces.append(gemini(parts[2:]))
    events: list[Event] = [e for piece in pieces for e in reader.feed(b"", orjson.dumps(piece))]
    streamed = fold(events)
    assert reader.complete
    for answer in (whole, streamed):
        assert answer.choices[0].stop == "tools"
        assert Text("Hello") in answer.choices[0].parts
        assert any(isinstance(part, ToolCall) for part in answer.choices[0].parts)
        assert answer.usage is not None
        assert (answer.usage.input, answer.usage.output, answer.usage.reasoning) == (5, 3, 1)
    with pytest.raises(UpstreamFailed):
        GeminiAdapter().answer({"candidates": []}, request)
    blocked = GeminiAdapter().answer({"promptFeedback": {"blockReason": "SAFETY"}}, request)
    assert blocked.choices[0].stop == "filter"


def test_responses_speak_to_responses() -> None:
    """What the Responses surface writes, the Responses provider reads: whole and streamed."""
    call = ToolCall("c", "f", '{"a":1}')
    parts = (Reasoning("hm"), Text("Hello"), call)
    answer = Answer("r", "m", 5, (Choice(parts, "tools"),), Usage(5, 3, 1, 0, 2))
    surface, adapter = ResponsesSurface(), ResponsesAdapter()
    request = surface.read({"model": "m", "input": "x", "stream": True})
    whole = adapter.answer(surface.answer(answer, request), request)
    writer, reader = surface.writer(request), adapter.reader(request)
    raw = b"".join(writer.event(event) for event in unfold(answer)) + writer.end()
    streamed = fold(e for n, d in EventParser().feed(raw) for e in reader.feed(n, d))
    assert reader.complete
    for again in (whole, streamed):
        assert again.choices[0].parts == parts
        assert (again.choices[0].stop, again.usage, again.id) == ("tools", answer.usage, "r")
    broken = writer.problem(UpstreamFailed("gone"), "1")
    with pytest.raises(UpstreamFailed, match="gone"):
        list(reader.feed(*next(EventParser().feed(broken))))


def test_chat_to_responses() -> None:
    """Messages become items, settings keep their meaning, and nothing is stored."""
    wanted = ("model", "messages", "tools", "tool_choice", "max_completion_tokens", "user")
    body = {k: FULL[k] for k in (*wanted, "response_format", "reasoning_effort")}
    body["messages"] = [{k: v for k, v in m.items() if k != "name"} for m in FULL["messages"]]
    call = ResponsesAdapter().chat(ChatSurface().read(body), "m")
    kinds = [item.get("type", item.get("role")) for item in call.body["input"]]
    assert kinds == ["system", "user", "function_call", "function_call_output", "user"]
    assert call.body["store"] is False
    assert call.body["max_output_tokens"] == 9
    assert call.body["text"]["format"]["name"] == "n"
    assert call.body["reasoning"] == {"effort": "low"}
    assert call.body["tool_choice"] == {"type": "function", "name": "f"}
    with pytest.raises(CannotTranslate):
        ResponsesAdapter().chat(ChatSurface().read(FULL), "m")


@given(st.binary(max_size=60), st.lists(st.integers(0, 80), max_size=10))
def test_events_do_not_depend_on_chunks(noise: bytes, places: list[int]) -> None:
    """A stream of bytes gives the same events however it is cut, with any line ends."""
    raw = b"event: a\r\ndata: 1\r\n\r\n" + noise + b"\n\ndata: x\ndata: y\n\n: ping\n\ndata: z\n\n"
    ends = sorted({place % len(raw) for place in places} | {0, len(raw)})
    parser = EventParser()
    cut = [e for a, b in pairwise(ends) for e in parser.feed(raw[a:b])]
    assert cut == list(EventParser().feed(raw))


def test_an_answer_survives_being_a_stream() -> None:
    """Folding what was unfolded gives the same words, calls and usage."""
    body = {
        "id": "1",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "message": {"content": "hi", "tool_calls": [CALL], "reasoning_content": "hm"},
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }
    request: ChatRequest = ChatSurface().read(FULL)
    answer = OpenAIAdapter().answer(body, request)
    again = fold(unfold(answer))
    assert again.choices[0].parts == answer.choices[0].parts
    assert (again.usage, again.id, again.choices[0].stop) == (answer.usage, "1", "tools")
