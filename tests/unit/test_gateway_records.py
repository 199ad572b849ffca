"""What is written down: one record an exchange, true about what was scanned, and in a chain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from genai_gateway.conversation import Json
from genai_gateway.keys import Caller, Limits
from genai_gateway.records.audit import AuditFile, read_audit, verify_audit
from genai_gateway.records.metrics import (
    COST,
    FINDINGS,
    FIRST_TOKEN,
    REQUESTS,
    TOKENS,
    BufferedMeters,
    MemoryMeters,
    MetricsRecorder,
)
from genai_gateway.records.record import Record
from genai_gateway.testing import (
    KEY,
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

PAID = {"server": {"input_usd_per_million": 10, "output_usd_per_million": 30}}


class Kept:
    """Keeps records."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def record(self, record: Record) -> None:
        """Keeps one."""
        self.records.append(record)


def recorded(
    body: Json, *, limits: Limits | None = None, leave_after: int | None = None, **config: Any
) -> Record:
    """The record of one request."""

    async def answer(received: Received, wire: Wire) -> None:
        if received.json().get("stream"):
            await wire.stream(chat_chunks(["Hel", "lo", " you"]), pause_s=0.05)
        else:
            await wire.whole(chat_completion())

    kept = Kept()
    callers = {KEY: Caller("k", "p", "u", limits=limits or Limits())}

    async def work() -> None:
        async with model_server(answer) as server:
            given = one_server(server.url, **config.pop("route", {})) | {"prices": PAID} | config
            app = open_test_gateway(given, callers=callers, recorders=[kept])
            await ask(app, "/v1/chat/completions", body, leave_after=leave_after)

    run(work())
    (record,) = kept.records
    return record


def test_a_whole_answer() -> None:
    """Who asked whom, tokens, cost; without a policy nothing claims to be scanned."""
    record = recorded(chat())
    assert (record.outcome, record.served) == ("answered", "server/upstream-model")
    assert (record.project, record.key, record.user) == ("p", "k", "u")
    assert (record.usage.input, record.usage.output) == (7, 3)
    assert record.cost_nano_usd == 7 * 10_000 + 3 * 30_000
    assert record.scanned is None


def test_a_stream() -> None:
    """A stream's record has its first token before its end, and its usage."""
    record = recorded(chat(stream=True))
    assert record.at < record.first_token < record.finished
    assert (record.usage.output, record.events) == (3, 3)


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_a_client_that_leaves_is_still_charged(parts: int) -> None:
    """What was seen of a stream is booked, whenever the client goes."""
    record = recorded(chat("x" * 400, stream=True), leave_after=parts)
    assert record.outcome == "left"
    assert record.usage.input >= 100
    assert record.cost_nano_usd > 0


def test_what_was_refused_says_why_but_not_what() -> None:
    """A blocked request is on record with the kinds that were found, never with the words."""
    policy = {"steps": [{"step": "secrets", "action": "refuse"}]}
    record = recorded(
        chat("my key AKIAIOSFODNN7EXAMPLE"), route={"policy": "p"}, policies={"p": policy}
    )
    assert record.outcome == "refused"
    assert record.cost_nano_usd == 0
    assert record.scanned is not None
    assert record.scanned["found"] == {"input/secrets/AWS_KEY/refuse": 1}
    assert b"AKIA" not in orjson.dumps(record.data())


def test_what_was_not_read_is_said() -> None:
    """A picture that passes is counted as not read."""
    policy = {"steps": [{"step": "pii"}], "unread": "pass"}
    url = {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}
    body = {"model": "m", "messages": [{"role": "user", "content": [url]}]}
    record = recorded(body, route={"policy": "p"}, policies={"p": policy})
    assert record.scanned is not None
    assert record.scanned["unread"] == {"image": 1}


def test_limits_are_on_record() -> None:
    """A budget that cannot hold the request refuses it before anybody is asked."""
    record = recorded(chat(), limits=Limits(usd_per_month=0.000001))
    assert (record.outcome, record.attempts) == ("limited", 0)


def test_an_unknown_price_is_refused_where_there_is_a_budget() -> None:
    """Without a price no budget can hold; a route may allow it by name."""
    limits = Limits(usd_per_month=5)
    assert recorded(chat(), limits=limits, prices={}).error == "BadRequest"
    allowed = recorded(chat(), limits=limits, prices={}, route={"allow_unpriced": True})
    assert allowed.outcome == "answered"


def test_the_bound_of_the_answer_is_sent_where_there_is_a_budget() -> None:
    """What was reserved for is also the most that the model may write."""
    seen: list[Any] = []

    async def answer(received: Received, wire: Wire) -> None:
        seen.append(received.json().get("max_completion_tokens"))
        await wire.whole(chat_completion())

    async def work() -> None:
        async with model_server(answer) as server:
            config = one_server(server.url, max_output_tokens=77) | {"prices": PAID}
            rich = {KEY: Caller("k", "p", limits=Limits(usd_per_month=1))}
            await ask(open_test_gateway(config, callers=rich), "/v1/chat/completions", chat())
            await ask(open_test_gateway(config), "/v1/chat/completions", chat())

    run(work())
    assert seen == [77, None]


def _records(count: int) -> list[Record]:
    record = recorded(chat())
    return [record] * count


def test_the_audit_is_a_chain(tmp_path: Path) -> None:
    """A whole file verifies; a changed, removed, inserted or reordered record does not."""
    path = tmp_path / "audit.jsonl"
    audit = AuditFile(path)
    for record in _records(5):
        audit.record(record)
    audit.close()
    assert verify_audit(path).whole
    assert verify_audit(path).records == 5
    lines = path.read_bytes().splitlines(keepends=True)
    changed = lines[2].replace(b'"answered"', b'"refused"')
    for damaged in (
        [*lines[:2], changed, *lines[3:]],
        [*lines[:2], *lines[3:]],
        [lines[1], lines[0], *lines[2:]],
        [*lines[:3], lines[1], *lines[3:]],
        [*lines[:2], b"garbage\n", *lines[2:]],
    ):
        path.write_bytes(b"".join(damaged))
        assert not verify_audit(path).whole


def test_the_audit_goes_on_after_a_crash(tmp_path: Path) -> None:
    """Half a line at the end is cut off, and the chain goes on from the last whole record."""
    path = tmp_path / "audit.jsonl"
    for _ in range(2):
        audit = AuditFile(path)
        for record in _records(2):
            audit.record(record)
        audit.close()
        with path.open("ab") as file:
            file.write(b'{"hash":"12')
    AuditFile(path).close()
    assert verify_audit(path).whole
    assert len(list(read_audit(path))) == 4


def test_metrics_follow_records() -> None:
    """Requests, tokens, money and findings are counted; buffered ones arrive when flushed."""
    policy = {"steps": [{"step": "pii", "action": "replace"}]}
    record = recorded(chat("a@b.example"), route={"policy": "p"}, policies={"p": policy})
    meters = MemoryMeters()
    buffered = BufferedMeters(meters)
    recorder = MetricsRecorder(buffered)
    for _ in range(3):
        recorder.record(record)
    assert meters.total(REQUESTS) == 0
    buffered.flush()
    buffered.flush()
    assert meters.total(REQUESTS, outcome="answered", project="p") == 3
    assert meters.total(TOKENS, kind="input") == 21
    assert meters.total(COST) == 3 * record.cost_nano_usd
    assert meters.total(FINDINGS, kind="EMAIL", action="replace") == 3
    assert len(meters.values[FIRST_TOKEN]) == 3
