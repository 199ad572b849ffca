"""The cache: never across projects, values or wishes; streams replay as streams."""

from __future__ import annotations

from typing import Any

import pytest

from genai_gateway.clock import ManualClock
from genai_gateway.conversation import Json
from genai_gateway.keys import Caller
from genai_gateway.testing import (
    KEY,
    Got,
    Received,
    Wire,
    ask,
    chat,
    chat_chunks,
    chat_completion,
    model_server,
    one_server,
    open_test_gateway,
    run,
)

POLICY: Json = {"steps": [{"step": "pii"}]}
CALLERS = {KEY: Caller("a", "one"), "two": Caller("b", "two"), "same": Caller("c", "one")}


def asked(requests: list[tuple[Json, dict[str, str]]], **route: Any) -> tuple[list[Got], int]:
    """What a sequence of requests got, and how often the model was asked."""

    async def answer(received: Received, wire: Wire) -> None:
        body = received.json()
        words = f"{len(server.requests)}: {body['messages'][-1]['content']}"
        if body.get("stream"):
            await wire.stream(chat_chunks([words[:4], words[4:]]))
        else:
            await wire.whole(chat_completion(words))

    async def work() -> tuple[list[Got], int]:
        nonlocal server
        async with model_server(answer) as server:
            config = one_server(server.url, cache_s=60, **route)
            config["policies"] = {"pii": POLICY}
            app = open_test_gateway(config, callers=CALLERS)
            got = [
                await ask(app, "/v1/chat/completions", body, headers=headers)
                for body, headers in requests
            ]
            return got, len(server.requests)

    server: Any = None
    return run(work())


def said(got: Got) -> str:
    """The words of a whole answer."""
    text: str = got.json()["choices"][0]["message"]["content"]
    return text


def test_the_same_question_is_asked_once() -> None:
    """The second answer is the first one, and says that it comes from the cache."""
    got, count = asked([(chat("x"), {}), (chat("x"), {})])
    assert count == 1
    assert said(got[0]) == said(got[1])
    assert [g.headers["x-tondo-cache"] for g in got] == ["miss", "hit"]


def test_projects_never_share() -> None:
    """Another project's key gets an answer of its own; another key of the same project does not."""
    other = {"authorization": "Bearer two"}
    same = {"authorization": "Bearer same"}
    got, count = asked([(chat("x"), {}), (chat("x"), other), (chat("x"), same)])
    assert count == 2
    assert said(got[0]) != said(got[1])
    assert said(got[0]) == said(got[2])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("the balance of user 42", "the balance of user 43"),
        ("this is allowed", "this is not allowed"),
        ("flights to Paris", "flights to London"),
        ("mail jane@example.com", "mail john@example.com"),
        ("call +49 30 901820", "call +49 30 901821"),
    ],
)
@pytest.mark.parametrize("policy", ["", "pii"])
def test_small_differences_are_differences(one: str, other: str, policy: str) -> None:
    """A number, a name, a negation or a hidden value more is another question."""
    got, count = asked([(chat(one), {}), (chat(other), {})], policy=policy)
    assert count == 2
    assert one in said(got[0])
    assert other in said(got[1])


@pytest.mark.parametrize("change", [{"temperature": 0.5}, {"max_tokens": 7}, {"seed": 1}])
def test_settings_are_part_of_the_question(change: Json) -> None:
    """What could change the answer makes another entry."""
    assert asked([(chat("x"), {}), (chat("x", **change), {})])[1] == 2


def test_streams_replay_as_streams() -> None:
    """An answer kept from a stream comes back as one, and to a client that wants it whole."""
    stream = chat("x", stream=True, stream_options={"include_usage": True})
    got, count = asked([(stream, {}), (stream, {}), (chat("x"), {})])
    assert count == 1
    words = [
        "".join(
            c["delta"].get("content", "")
            for _, data in g.events()
            if isinstance(data, dict)
            for c in data["choices"]
        )
        for g in got[:2]
    ]
    assert words[0] == words[1] == said(got[2])
    assert got[1].body.endswith(b"data: [DONE]\n\n")
    assert b'"prompt_tokens":7' in got[1].body


def test_cache_control_is_honoured() -> None:
    """``no-cache`` asks anew and keeps the answer, ``no-store`` neither reads nor keeps."""
    plain: dict[str, str] = {}
    anew, nothing = {"cache-control": "no-cache"}, {"cache-control": "no-store"}
    got, count = asked(
        [(chat("x"), plain), (chat("x"), anew), (chat("x"), plain), (chat("y"), nothing),
         (chat("y"), plain), (chat("x"), {"cache-control": "max-age=0"})]
    )  # fmt: skip
    assert said(got[2]) == said(got[1]) != said(got[0])
    assert count == 5


def test_entries_expire_and_make_room() -> None:
    """An answer lives as long as its route says; a full cache forgets what was not used."""
    from genai_gateway.caching.cache import CacheKey, MemoryCache
    from genai_gateway.conversation import Answer, Choice, Text

    clock = ManualClock()
    cache = MemoryCache(clock, most_bytes=4_000)
    answer = Answer("1", "m", 1, (Choice((Text("x" * 300),)),))
    keys = [CacheKey("p", str(n)) for n in range(20)]
    for key in keys:
        cache.put(key, answer, 60)
        cache.get(keys[0], 0)
    assert cache.get(keys[0], 0) == answer
    assert cache.get(keys[5], 0) is None
    assert cache._bytes <= 4_000
    cache.put(CacheKey("p", "big"), Answer("1", "m", 1, (Choice((Text("x" * 3_000),)),)), 60)
    assert cache.get(CacheKey("p", "big"), 0) is None
    clock.advance(61)
    assert cache.get(keys[0], 0) is None
