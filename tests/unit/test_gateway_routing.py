"""Routes: order by priority and weight, capabilities, cool-downs, hedging, safe addresses."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from genai_gateway.addresses import checked_base_url, may_connect
from genai_gateway.clock import ManualClock
from genai_gateway.config import read_config
from genai_gateway.conversation import EmbeddingRequest, Json, Usage
from genai_gateway.credentials import Secret, open_secret
from genai_gateway.errors import CannotTranslate, ConfigurationError
from genai_gateway.hedging import first_of
from genai_gateway.price_data import PublishedPrices
from genai_gateway.prices import FixedPrices, Price
from genai_gateway.routing import Health, Route, Target, capable, order
from genai_gateway.surfaces.chat import ChatSurface
from genai_gateway.testing import Got, ask, chat, one_server, open_test_gateway, run
from genai_gateway.tokens import most_tokens

HELLO = ChatSurface().read(chat())


def test_weights_are_kept_and_priorities_come_first() -> None:
    """Targets of one priority are drawn by weight; one of weight 0 is the last of them."""
    targets = [
        Target("a", "m", weight=3),
        Target("b", "m", weight=1),
        Target("c", "m", weight=0),
        Target("d", "m", weight=9, priority=1),
    ]
    health, chance = Health(ManualClock()), random.Random(1)
    drawn = [order(targets, health, chance) for _ in range(4_000)]
    first = Counter(targets[0].provider for targets in drawn)
    assert 0.72 < first["a"] / 4_000 < 0.78
    assert all([t.provider for t in each][2:] == ["c", "d"] for each in drawn)


def test_three_failures_let_a_target_rest_longer_each_time() -> None:
    """A target that fails is asked last for a while; a success forgets all; rest never shrinks."""
    clock = ManualClock()
    health, target = Health(clock), Target("a", "m")
    rests = []
    for _ in range(3):
        for _ in range(3):
            health.bad(target)
        rests.append((health.rests_until(target) - clock.now()) / 1e6)
        clock.advance(rests[-1])
    assert rests == [5.0, 10.0, 20.0]
    health.bad(target, 60)
    until = health.rests_until(target)
    for _ in range(3):
        health.bad(target, 1)
    assert health.rests_until(target) >= until
    health.good(target)
    assert health.rests_until(target) == 0


def test_targets_that_cannot_are_not_asked() -> None:
    """Pictures, tools and long texts go to targets that can take them, or are refused."""
    picture = {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}
    seen = ChatSurface().read({"model": "m", "messages": [{"role": "user", "content": [picture]}]})
    blind = Target("a", "m", lacks=frozenset({"images"}))
    short = Target("b", "m", context_tokens=10)
    able = Target("c", "m")
    assert capable(Route("r", (blind, able)), seen) == (able,)
    assert capable(Route("r", (blind,)), HELLO) == (blind,)
    with pytest.raises(CannotTranslate, match="images"):
        capable(Route("r", (blind,)), seen)
    long = ChatSurface().read(chat("x" * 4_000))
    assert capable(Route("r", (short, able)), long) == (able,)
    with pytest.raises(CannotTranslate, match="tokens"):
        capable(Route("r", (short,)), long)


def test_hedging_takes_the_first_and_drops_the_other() -> None:
    """A slow call gets a rival; the winner's result counts, the loser is cancelled."""
    log: list[str] = []

    async def call(name: str, seconds: float, fail: bool = False) -> str:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            log.append(f"{name} cancelled")
            raise
        if fail:
            raise ValueError(name)
        return name

    async def drop(name: str) -> None:
        log.append(f"{name} dropped")

    async def work() -> list[Any]:
        return [
            await first_of(lambda: call("a", 5), lambda: call("b", 0), 0.01, drop),
            await first_of(lambda: call("c", 0), lambda: call("d", 0), 0.5, drop),
            await first_of(lambda: call("e", 0.05, True), lambda: call("f", 0.1), 0.01, drop),
        ]

    assert asyncio.run(work()) == ["b", "c", "f"]
    assert log == ["a cancelled"]

    async def both() -> str:
        return await first_of(
            lambda: call("g", 0.02, True), lambda: call("h", 0.02, True), 0.01, drop
        )

    with pytest.raises(ValueError, match="g"):
        asyncio.run(both())


@pytest.mark.parametrize(
    ("address", "public", "private"),
    [
        ("8.8.8.8", True, True),
        ("10.0.0.1", False, True),
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("169.254.169.254", False, False),
        ("fe80::1", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("::ffff:10.0.0.1", False, True),
        ("0.0.0.0", False, False),
        ("100.64.0.1", False, True),
        ("224.0.0.1", False, False),
    ],
)
def test_addresses(address: str, public: bool, private: bool) -> None:
    """Private networks only where the operator says so, metadata services never."""
    assert may_connect(address, private=False) is public
    assert may_connect(address, private=True) is private


@pytest.mark.parametrize(
    "url",
    ["ftp://x.example", "http://", "http://u:p@x.example", "http://x.example/?a=1",
     "http://localhost:80", "http://10.0.0.1", "http://169.254.169.254/latest"],
)  # fmt: skip
def test_unsafe_base_urls_are_refused(url: str) -> None:
    """Other schemes, credentials in the address, private addresses."""
    with pytest.raises(ConfigurationError):
        checked_base_url(url, private=False)


def test_a_name_of_a_private_address_is_not_connected_to() -> None:
    """A public-looking name that resolves to this machine is refused when it is connected to."""

    async def work() -> Got:
        config = one_server("http://localhost.localdomain:9")
        config["providers"]["server"]["private"] = False
        config["models"]["m"]["retries"] = {"rounds": 1}
        return await ask(open_test_gateway(config), "/v1/chat/completions", chat())

    assert run(work()).status == 502


def test_secrets_are_references(tmp_path: Path) -> None:
    """From a file or the environment; never written out, never shown."""
    (tmp_path / "s").write_text(" s3cret \n")
    secret = open_secret(f"file:{tmp_path / 's'}")
    assert secret.value == "s3cret"
    assert "s3cret" not in repr(secret)
    assert secret.hide("key s3cret is wrong") == "key [secret] is wrong"
    assert open_secret("env:X", {"X": "y"}) == Secret("y")
    for reference in ("sk-plain", "env:", "env:MISSING", "file:/no/such"):
        with pytest.raises(ConfigurationError) as error:
            open_secret(reference, {})
        assert "sk-plain" not in str(error.value)


def test_the_default_configuration_is_right(tmp_path: Path) -> None:
    """The file that an installation starts from can be read."""
    root = Path(__file__).resolve().parents[2]
    config = read_config(yaml.safe_load((root / "configs/llm.yaml").read_text()))
    assert list(config.routes) == ["echo"]


@pytest.mark.parametrize(
    "change",
    [
        {"unknown": 1},
        {"providers": {"s": {"schema": "smoke"}}},
        {"providers": {"s": {"schema": "openai"}}},
        {"models": {"m": {"targets": []}}},
        {"models": {"m": {"targets": [{"provider": "gone", "model": "x"}]}}},
        {"models": {"m": {"targets": [{"provider": "e", "model": "x"}], "policy": "gone"}}},
        {"models": {"m": {"targets": [{"provider": "e", "model": "x", "lacks": ["wit"]}]}}},
        {"policies": {"p": {"steps": [{"step": "magic"}]}}},
        {"policies": {"p": {"steps": [{"step": "pii", "action": "eat"}]}}},
        {"policies": {"p": {"steps": [{"step": "pii", "kinds": ["soul"]}]}}},
        {"policies": {"p": {"steps": [{"step": "phrases"}]}}},
        {"prices": {"e": {"input_usd_per_million": 1}}},
        {"projects": {"p": {"usd_per_month": -1}}},
    ],
)
def test_wrong_configuration_is_refused(change: Json) -> None:
    """What is misspelt or missing is found when the configuration is read."""
    base: Json = {"providers": {"e": {"schema": "echo"}}}
    with pytest.raises(ConfigurationError):
        read_config({**base, **change})


def test_prices() -> None:
    """Cached tokens, dearer long turns, published prices by address, and none for a look-alike."""
    price = Price(10, 30, 1, 12, above=((1_000, Price(20, 60, 2, 24)),))
    assert price.of(Usage(100, 10, cached=40, cache_written=10)) == 50 * 10 + 40 + 120 + 300
    assert price.of(Usage(2_000, 10)) == 2_000 * 20 + 600
    assert price.most(2_000, 10) >= price.of(Usage(2_000, 10, cache_written=2_000))
    table = PublishedPrices({"o": "https://api.openai.com/v1", "mine": "http://10.0.0.1/v1"})
    known = table.price("o", "gpt-4o-mini")
    assert known is not None
    assert (known.input, known.output, known.cached) == (150, 600, 75)
    assert table.price("mine", "gpt-4o-mini") is None
    assert table.price("o", "no-such-model-at-all") is None
    assert FixedPrices({"o/x": price}).price("o", "x") == price


def test_the_bound_of_tokens_is_one() -> None:
    """No text has more tokens than the bound, whatever its letters."""
    for text in ("hello", "你好" * 50, "\u200b" * 30, "a b" * 100):
        request = replace(HELLO, messages=ChatSurface().read(chat(text)).messages)
        assert most_tokens(request) >= len(text.encode())
        assert most_tokens(EmbeddingRequest("m", (text,))) >= len(text.encode())
