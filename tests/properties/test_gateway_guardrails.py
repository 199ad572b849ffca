"""Guardrails hold whatever the chunk boundaries are, and wherever in a request a value stands."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from genai_gateway.conversation import Answer, ChatRequest, Choice, Text, Usage
from genai_gateway.events import (
    Event,
    Finished,
    Started,
    TextDelta,
    ToolDelta,
    ToolStarted,
    fold,
)
from genai_gateway.exchange import Exchange, Reply
from genai_gateway.guardrails.detector import find_in
from genai_gateway.guardrails.layer import Guarded
from genai_gateway.guardrails.personal import personal_detector
from genai_gateway.guardrails.phrases import PhraseDetector
from genai_gateway.guardrails.placeholders import Restorer, Vault
from genai_gateway.guardrails.policy import Policy, Step
from genai_gateway.guardrails.scanning import Scanner, Unescaper
from genai_gateway.guardrails.secrets import secrets_detector
from genai_gateway.keys import Caller
from genai_gateway.routing import Route, Target
from genai_gateway.surfaces.chat import ChatSurface
from genai_gateway.surfaces.messages import MessagesSurface
from genai_gateway.surfaces.responses import ResponsesSurface

SECRETS = (
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_" + "a1B2" * 9,
    "sk-proj-" + "Zx9_" * 8,
    "xoxb-123456789012-abcdef",
    "postgres://user:hunter2@db/x",
)
PERSONAL = (
    "jane.doe+work@example.co.uk",
    "4111 1111 1111 1111",
    "4111111111111111",
    "DE89 3704 0044 0532 0130 00",
    "GB82WEST12345698765432",
    "536-90-4399",
    "+49 30 901820",
    "(212) 555-0198",
    "192.168.17.4",
)
_HALVES = ["sk-", "@", "AKIA", "41", "1 ", "-", "ANONYMIZED_", "EMAIL", "_0", "forbidden ", "DE89"]
_OTHERS = ["hello ", "the ", "\n", "你好", "。", "\u200b", "é", "x", ".", '"', "\\", " ", "()"]
NOISE = st.sampled_from([*_HALVES, *_OTHERS, "for", "bidden", " word"])
WORDS = st.lists(st.one_of(NOISE, st.sampled_from(SECRETS + PERSONAL)), max_size=14)
PHRASES = ("forbidden word", "坏词")


def cut(text: str, places: Sequence[int]) -> list[str]:
    """The text in pieces, cut at these places."""
    ends = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    return [text[a:b] for a, b in pairwise(ends)]


def scanned(pieces: Sequence[str]) -> str:
    """What a stream of pieces is after every output detector."""
    detectors = (personal_detector(), secrets_detector(), PhraseDetector(PHRASES))
    text = Scanner(detectors, lambda finding, _: f"<{finding.kind}>")
    return "".join(map(text.feed, pieces)) + text.end()


@given(WORDS, st.lists(st.integers(0, 400), max_size=12))
def test_scanning_does_not_depend_on_chunks(words: list[str], places: list[int]) -> None:
    """Any splitting of any text gives the same text after the detectors."""
    text = "".join(words)
    assert scanned(cut(text, places)) == scanned([text])
    assert scanned(list(text)) == scanned([text])


@given(st.sampled_from(SECRETS + PERSONAL), st.lists(st.integers(0, 400), max_size=12))
def test_no_secret_passes_a_stream(secret: str, places: list[int]) -> None:
    """A secret between ordinary words never reaches the client, in no piece and in no sum."""
    shown = scanned(cut(f"well, here: {secret} and so on", places))
    assert secret not in shown
    assert shown.startswith("well, here: ")
    assert "hunter2" not in shown
    assert "<" in shown
    assert shown.endswith(" and so on")


@given(st.lists(st.sampled_from(PERSONAL), min_size=1, max_size=5), WORDS, st.data())
def test_restoring_does_not_depend_on_chunks(
    values: list[str], words: list[str], data: st.DataObject
) -> None:
    """Placeholders come back as their values however the stream is cut, and nothing else does."""
    vault = Vault.apart_from("".join(words))
    names = [vault.hide("EMAIL", value) for value in values]
    tokens = data.draw(st.lists(st.sampled_from([*names, *words, "ANONYMIZED", "_1", "7"])))
    text = "".join(tokens)
    pieces = cut(text, data.draw(st.lists(st.integers(0, 300), max_size=12)))
    restorer = Restorer(vault)
    streamed = "".join(map(restorer.feed, pieces)) + restorer.end()
    assert streamed == vault.restore(text)


@given(st.sampled_from(PERSONAL), st.integers(1, 8))
def test_the_hold_is_no_longer_than_a_placeholder(value: str, size: int) -> None:
    """What is held back never grows beyond the longest placeholder."""
    vault = Vault()
    name = vault.hide("EMAIL", value)
    text = f"so I write to {name} at once, {name[:-3]} and ANONYMIZED things " * 3
    restorer, fed, shown = Restorer(vault), 0, 0
    for n in range(0, len(text), size):
        fed += len(text[n : n + size])
        shown += len(restorer.feed(text[n : n + size]).replace(value, name))
        assert fed - shown <= vault.longest


@given(st.text(max_size=30), st.lists(st.integers(0, 400), max_size=12))
def test_unescaping_keeps_the_meaning(text: str, places: list[int]) -> None:
    """JSON text means the same after its escapes are taken off, however it is cut."""
    raw = "".join(
        f"\\u{ord(c):04x}" if n % 2 and ord(c) < 0x10000 and not 0xD800 <= ord(c) < 0xE000 else c
        for n, c in enumerate(orjson.dumps(text).decode()[1:-1])
        if c not in '\\"'
    )
    if "\\" in orjson.dumps(text).decode()[1:-1]:
        raw = orjson.dumps(text).decode()[1:-1]
    json = f'{{"a": "{raw}"}}'
    plainer = Unescaper()
    again = "".join(map(plainer.feed, cut(json, places))) + plainer.end()
    assert orjson.loads(again) == orjson.loads(json)
    assert not any(f"\\u{ord(c):04x}" in again for c in "abcxyz@0189")


PII = Policy("pii", 1, (Step("pii", "replace", ("input",)),), unread="refuse")


class Upstream:
    """A model that repeats the whole request: in its words, and in the arguments of a tool."""

    def __init__(self, seed: int) -> None:
        self.seen = ""
        self._chance = random.Random(seed)

    async def __call__(self, exchange: Exchange) -> Reply:
        """Everything that was asked, as the answer."""
        request = exchange.request
        self.seen = orjson.dumps(request, default=dict).decode()
        words = " ; ".join(_strings(orjson.loads(self.seen)))
        if not request.stream:
            return Answer("1", "m", 1, (Choice((Text(words),)),), Usage(1, 1))
        return self._stream(words)

    async def _stream(self, words: str) -> AsyncIterator[Event]:
        yield Started("1", "m", 1)
        for piece in self._pieces(words):
            yield TextDelta(piece)
        yield ToolStarted(0, "c", "f")
        for piece in self._pieces(orjson.dumps({"said": words}).decode()):
            yield ToolDelta(0, piece)
        yield Finished("tools")

    def _pieces(self, text: str) -> list[str]:
        pieces, n = [], 0
        while n < len(text):
            size = self._chance.randint(1, 9)
            pieces.append(text[n : n + size])
            n += size
        return pieces


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return [value] if isinstance(value, str) else []


def chat_request(value: str) -> ChatRequest:
    """A value in every place of the chat surface where words may stand."""
    tool = {"name": "f", "description": f"d {value}"}
    tool["parameters"] = {"type": "object", "properties": {"x": {"description": value}}}  # type: ignore[assignment]
    call = {"id": "c", "type": "function"}
    call["function"] = {
        "name": "f",
        "arguments": orjson.dumps({"to": value, value: [value]}).decode(),
    }  # type: ignore[assignment]
    body = {
        "model": "m",
        "messages": [
            {"role": "system", "content": f"s {value}"},
            {"role": "developer", "content": [{"type": "text", "text": value}]},
            {"role": "user", "content": f"u {value}", "name": value},
            {"role": "assistant", "content": f"a {value}", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": f"r {value}"},
            {"role": "assistant", "refusal": value, "reasoning_content": value},
            {
                "role": "user",
                "content": [{"type": "text", "text": value, "odd": {"deep": [value]}}],
            },
        ],
        "tools": [{"type": "function", "function": tool}, {"type": "odd", "words": value}],
        "stop": [value],
        "user": value,
        "metadata": {"who": value},
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "description": value, "schema": {"title": value}},
        },
        "prediction": {"content": value},
    }
    return ChatSurface().read(body)


def messages_request(value: str) -> ChatRequest:
    """The same for the Messages surface."""
    use = {"type": "tool_use", "id": "t", "name": "f", "input": {"to": value}}
    result = {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": [{"type": "text", "text": value}],
    }
    thought = {"type": "thinking", "thinking": value, "signature": "x"}
    body = {
        "model": "m",
        "max_tokens": 5,
        "system": [{"type": "text", "text": value, "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": value},
            {"role": "assistant", "content": [thought, {"type": "text", "text": value}, use]},
            {"role": "user", "content": [result, {"type": "text", "text": value}]},
        ],
        "tools": [{"name": "f", "description": value, "input_schema": {"title": value}}],
        "metadata": {"user_id": value, "else": value},
        "stop_sequences": [value],
    }
    return MessagesSurface().read(body)


def responses_request(value: str) -> ChatRequest:
    """The same for the Responses surface."""
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": f'{{"a":"{value}"}}'}
    body = {
        "model": "m",
        "instructions": value,
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": value}]},
            {"role": "assistant", "content": [{"type": "output_text", "text": value}]},
            call,
            {"type": "function_call_output", "call_id": "c", "output": value},
        ],
        "tools": [{"type": "function", "name": "f", "description": value, "parameters": {}}],
        "metadata": {"a": value},
        "user": value,
        "safety_identifier": value,
    }
    return ResponsesSurface().read(body)


def through(request: ChatRequest, policy: Policy, inner: Any) -> Any:
    """The reply of a guarded model, its stream folded into an answer."""
    from dataclasses import replace

    route = Route("m", (Target("p", "m"),), policy=policy.name)
    exchange = Exchange("1", "chat", Caller("k", "p"), route, replace(request), 0)

    async def run() -> Answer:
        reply = await Guarded(inner, {policy.name: policy})(exchange)
        if isinstance(reply, Answer):
            return reply
        return fold([event async for event in reply])

    return asyncio.run(run())


@given(
    st.sampled_from(PERSONAL),
    st.sampled_from([chat_request, messages_request, responses_request]),
    st.booleans(),
    st.integers(0, 1000),
)
def test_values_never_reach_the_model_and_all_come_back(
    value: str, build: Any, stream: bool, seed: int
) -> None:
    """A value in every place of a request: none at the upstream, every one back at the client."""
    from dataclasses import replace

    request = replace(build(value), stream=stream)
    upstream = Upstream(seed)
    answer = through(request, PII, upstream)
    assert value not in upstream.seen
    assert not find_in((personal_detector(),), upstream.seen)
    said = "".join(part.text for part in answer.choices[0].parts if isinstance(part, Text))
    assert "ANONYMIZED" not in said
    assert said.count(value) >= 5
    if stream:
        call = answer.choices[0].parts[-1]
        assert orjson.loads(call.arguments)["said"].count(value) >= 5


@given(st.sampled_from(SECRETS), st.integers(0, 1000), st.booleans())
def test_a_refusing_step_shows_the_same_text_for_every_stream(
    secret: str, seed: int, tools: bool
) -> None:
    """Where a stream is stopped, the client has seen the words before the secret and no other."""
    policy = Policy("p", 1, (Step("secrets", "refuse", ("output",)),))
    chance = random.Random(seed)
    text = f"the key of the door is {secret} indeed"

    async def inner(_: Exchange) -> Reply:
        return stream()

    async def stream() -> AsyncIterator[Event]:
        yield Started("1", "m", 1)
        if tools:
            yield ToolStarted(0, "c", "f")
        n = 0
        while n < len(text):
            size = chance.randint(1, 9)
            yield ToolDelta(0, text[n : n + size]) if tools else TextDelta(text[n : n + size])
            n += size
        yield Finished("stop")

    route = Route("m", (Target("p", "m"),), policy="p")
    request = ChatSurface().read({"model": "m", "messages": [{"role": "user", "content": "x"}]})
    exchange = Exchange("1", "chat", Caller("k", "p"), route, request, 0)
    shown: list[str] = []

    async def run() -> str:
        try:
            async for event in await Guarded(inner, {"p": policy})(exchange):  # type: ignore[union-attr]
                if isinstance(event, TextDelta):
                    shown.append(event.text)
                if isinstance(event, ToolDelta):
                    shown.append(event.arguments)
        except Exception as error:
            return type(error).__name__
        return "nothing"

    assert asyncio.run(run()) == "Blocked"
    # Of an address with a password in it, the scheme is no secret.
    scheme = "postgres://" if "://" in secret else ""
    assert "".join(shown) == f"the key of the door is {scheme}"
