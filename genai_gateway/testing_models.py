"""Model servers of two schemas for tests: they call tools, fill schemas and count pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from genai_gateway.conversation import Json
from genai_gateway.testing import (
    Got,
    Received,
    Wire,
    chat_chunks,
    chat_completion,
    message_events,
    one_server,
)

FILLED = {"city": "Paris", "degrees": 21}
FAST: Json = {
    "timeouts": {"first_token_s": 0.4, "between_tokens_s": 0.4, "total_s": 3},
    "retries": {"rounds": 2, "backoff_s": 0.01},
}


async def speak_openai(received: Received, wire: Wire) -> None:
    """Answers chat completions and embeddings as a server of the OpenAI schema does."""
    body = received.json()
    if received.path == "/embeddings":
        await wire.whole(_embeddings(body))
    elif body.get("tool_choice") not in (None, "auto", "none"):
        await _openai_tool(body, wire)
    else:
        text = _answer_text(body, body.get("response_format"), "image_url")
        if body.get("stream"):
            await wire.stream(chat_chunks(_pieces(text)))
        else:
            await wire.whole(chat_completion(text))


async def speak_anthropic(received: Received, wire: Wire) -> None:
    """Answers messages as a server of the Anthropic schema does."""
    body = received.json()
    if received.path == "/v1/messages/count_tokens":
        await wire.whole({"input_tokens": 42})
    elif body.get("tool_choice", {}).get("type") in ("any", "tool"):
        await _anthropic_tool(body, wire)
    else:
        text = _answer_text(body, body.get("output_config"), "image")
        if body.get("stream"):
            await wire.stream(message_events(_pieces(text)))
        else:
            await wire.whole(_message([{"type": "text", "text": text}], "end_turn"))


async def _openai_tool(body: Json, wire: Wire) -> None:
    name, arguments = body["tools"][0]["function"]["name"], orjson.dumps(FILLED).decode()
    function = {"name": name, "arguments": arguments}
    call: Json = {"id": "call_1", "type": "function", "function": function}
    if not body.get("stream"):
        message = {"content": None, "tool_calls": [call]}
        await wire.whole(chat_completion("", message=message, finish="tool_calls"))
        return
    deltas: list[Json] = [{"index": 0, **call, "function": {"name": name, "arguments": ""}}]
    deltas += [{"index": 0, "function": {"arguments": piece}} for piece in _cut(arguments)]
    head, *_, finish, usage, done = chat_chunks([], finish="tool_calls")
    await wire.stream([head, *(_tool_chunk(delta) for delta in deltas), finish, usage, done])


def _tool_chunk(delta: Json) -> bytes:
    choice = {"index": 0, "delta": {"tool_calls": [delta]}, "finish_reason": None}
    body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]}
    return b"data: " + orjson.dumps(body) + b"\n\n"


async def _anthropic_tool(body: Json, wire: Wire) -> None:
    name = body["tools"][0]["name"]
    block: Json = {"type": "tool_use", "id": "toolu_1", "name": name, "input": FILLED}
    if not body.get("stream"):
        await wire.whole(_message([block], "tool_use"))
        return
    start, _, ping, stop, delta, end = message_events([], stop="tool_use")
    begin = {"type": "content_block_start", "index": 0, "content_block": {**block, "input": {}}}
    pieces = [
        {"type": "input_json_delta", "partial_json": piece}
        for piece in _cut(orjson.dumps(FILLED).decode())
    ]
    deltas = [{"type": "content_block_delta", "index": 0, "delta": piece} for piece in pieces]
    await wire.stream([start, ping, *map(_named, [begin, *deltas]), stop, delta, end])


def _named(body: Json) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (body["type"].encode(), orjson.dumps(body))


def _message(content: list[Json], stop: str) -> Json:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "served-claude",
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": 7, "output_tokens": 3},
    }


def _answer_text(body: Json, form: Any, image: str) -> str:
    if form:
        return orjson.dumps(FILLED).decode()
    pictures = orjson.dumps(body["messages"]).count(f'"type":"{image}"'.encode())
    if pictures:
        return f"I see {pictures} picture"
    return f"You said: {_words(body['messages'][-1]['content'])}"


def _words(content: Any) -> str:
    if isinstance(content, str):
        return content
    inner = [part.get("text") or _words(part.get("content") or "") for part in content]
    return " ".join(word for word in inner if word)


def _pieces(text: str) -> Sequence[str]:
    words = text.split(" ")
    return [words[0], *(f" {word}" for word in words[1:])]


def _cut(text: str) -> list[str]:
    return [text[n : n + 5] for n in range(0, len(text), 5)]


def _embeddings(body: Json) -> Json:
    inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
    rows = [
        {"object": "embedding", "index": n, "embedding": [float(n), 0.5, -1.0]}
        for n, _ in enumerate(inputs)
    ]
    usage = {"prompt_tokens": 3 * len(inputs), "total_tokens": 3 * len(inputs)}
    return {"object": "list", "data": rows, "model": "served-embedder", "usage": usage}


async def say_hello(received: Received, wire: Wire) -> None:
    """Answers every chat completion with one word, in two pieces if streamed."""
    if received.json().get("stream"):
        await wire.stream(chat_chunks(["Hel", "lo"]))
    else:
        await wire.whole(chat_completion("Hello"))


def two_servers(bad: str, good: str) -> dict[str, Any]:
    """A model whose first target fails and whose second one answers."""
    config = one_server(bad, **FAST)
    config["providers"]["good"] = {"schema": "openai", "base_url": good, "private": True}
    target = {"provider": "good", "model": "good-model", "priority": 1}
    config["models"]["m"]["targets"].append(target)
    return config


def words_of(got: Got) -> str:
    """The words in a stream of the chat surface."""
    return "".join(
        choice["delta"].get("content") or ""
        for _, data in got.events()
        if isinstance(data, dict)
        for choice in data.get("choices", [])
    )
